"""What `up` and `run` do for the litigation desk: load it, judge its tasks, take the metrics of its last days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from dossier_pipelines.commands.execution import execute_job
from dossier_pipelines.litigation.source import litigation_source
from dossier_pipelines.shared.deployment import Deployment

if TYPE_CHECKING:
    from dossier_pipelines.shared.environment import Settings

PACKAGE: Final = "dossier_pipelines.commands"
# So that an analyst sees what is usual, and what is not; a backfill takes the years before.
FIRST_DAYS: Final = timedelta(days=90)


def bring_in(deployment: Deployment, settings: Settings, *, verbose: bool, only_if_empty: bool) -> str | None:
    """Load the desk's source, and compute what the schedules would within a day; return the id of the run that loaded.

    None when nothing was loaded: there is no source, or records are there already and that is enough.

    Raises UserError with the reasons when a run fails.
    """
    if litigation_source(settings) is None:
        return None
    if only_if_empty and deployment.database.run(PACKAGE, "litigation_result", {"run_id": None})[0].cases:
        return None
    load = execute_job(deployment, "load_litigation_job", tags={}, verbose=verbose)
    execute_job(deployment, "check_sla_and_overdue_job", tags={}, verbose=verbose)
    days = deployment.database.run(PACKAGE, "litigation_days", {"most": FIRST_DAYS})[0]
    if days.first_day is not None:
        execute_job(
            deployment,
            "analytics_snapshot_job",
            tags={
                "dagster/asset_partition_range_start": max(days.first_day, settings.history_start).isoformat(),
                "dagster/asset_partition_range_end": days.last_day.isoformat(),
            },
            verbose=verbose,
        )
    return load.run_id


def litigation_document(deployment: Deployment, *, run_id: str) -> dict[str, Any]:
    """Return the desk's totals of all tenants, and what the run that loaded set aside, for `run --json`."""
    row = deployment.database.run(PACKAGE, "litigation_result", {"run_id": run_id})[0]
    return {
        "tenants": row.tenants,
        "cases": row.cases,
        "tasks": row.tasks,
        "hearings": row.hearings,
        "documents": row.documents,
        "overdue_tasks": row.overdue_tasks,
        "sla_violations": row.sla_violations,
        "anomalies": row.anomalies,
        "rejected_rows": row.rejected_rows,
    }
