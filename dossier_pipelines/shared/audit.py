"""The audit log: what each run did. A job writes its results in the transaction of its work.

How the run ended, also when it was killed, is added by the operations room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dossier_pipelines.shared.database import execute
from dossier_pipelines.shared.tables import ALL_TENANTS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.shared"


def record_results(connection: Connection, *, run_id: str, job: str, results: Mapping[str, Any]) -> None:
    """Add ``results`` to what the run has written down."""
    execute(
        connection,
        PACKAGE,
        "record_results",
        {"tenant_id": ALL_TENANTS, "run_id": run_id, "job": job, "results": json.dumps(dict(results))},
    )


def read_results(connection: Connection, *, run_id: str) -> dict[str, Any]:
    """Return what the run has written down; empty when it has nothing."""
    row = execute(connection, PACKAGE, "read_results", {"tenant_id": ALL_TENANTS, "run_id": run_id}).one_or_none()
    return dict(row.results or {}) if row is not None else {}


def took_effect(connection: Connection, *, run_id: str, attempted: Mapping[str, Any]) -> bool:
    """Return whether an attempt whose commit got no answer took effect: its results are written down.

    ``attempted``: what it found, empty before the first attempt. Then there is nothing left to find.
    """
    if not attempted:
        return False
    recorded = read_results(connection, run_id=run_id)
    return recorded | dict(attempted) == recorded
