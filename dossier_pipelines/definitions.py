"""The front door: every desk's registry, and the resources they share."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dossier_pipelines.dossiers.definitions import build_dossiers_defs
from dossier_pipelines.shared.resources import DatabaseResource


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return fresh definitions; ``resources`` replaces shared ones by key, as tests and programs need.

    Runs are short, so they execute in one process: a process per step costs more than the steps.
    """
    shared: dict[str, Any] = {"database": DatabaseResource()}
    return dg.Definitions.merge(
        build_dossiers_defs(),
        dg.Definitions(resources={**shared, **(resources or {})}, executor=dg.in_process_executor),
    )


defs = build_defs()
