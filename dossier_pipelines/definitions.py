"""The front door: every desk's registry, and the resources they share."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dossier_pipelines.automation_rules.definitions import build_automation_rules_defs
from dossier_pipelines.dossiers.definitions import build_dossiers_defs
from dossier_pipelines.litigation.definitions import build_litigation_defs
from dossier_pipelines.litigation.rule_actions import HANDLERS
from dossier_pipelines.notifications.definitions import build_notifications_defs
from dossier_pipelines.operations.definitions import build_operations_defs
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.resources import DatabaseResource


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return fresh definitions; ``resources`` replaces shared ones by key, as tests and programs need.

    Runs are short, so they execute in one process: a process per step costs more than the steps.
    """
    shared: dict[str, Any] = {"database": DatabaseResource()}
    settings = read_settings()
    return dg.Definitions.merge(
        build_dossiers_defs(settings),
        build_litigation_defs(settings),
        build_notifications_defs(settings),
        build_automation_rules_defs(settings, HANDLERS),
        build_operations_defs(settings),
        dg.Definitions(resources={**shared, **(resources or {})}, executor=dg.in_process_executor),
    )


defs = build_defs()
