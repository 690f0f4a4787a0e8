"""How runs ended, also those that were killed, and what that says about their jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from dossier_pipelines.notifications.recording import DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.database import Database, execute

if TYPE_CHECKING:
    from dagster import DagsterInstance, RunRecord

PACKAGE: Final = "dossier_pipelines.operations"
ENDED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
LONGEST_ERROR: Final = 500


def record_ends(database: Database, instance: DagsterInstance, records: Sequence[RunRecord]) -> None:
    """Write the audit rows of runs that ended; one that is there already stays."""
    ends = [_end(instance, record) for record in records]
    database.in_transaction(lambda connection: execute(connection, PACKAGE, "record_ends", {"ends": json.dumps(ends)}))


def _end(instance: DagsterInstance, record: RunRecord) -> dict[str, Any]:
    run = record.dagster_run
    ended = record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()
    return {
        "run_id": run.run_id,
        "job": run.job_name,
        "status": run.status.value,
        "milliseconds": round((ended - record.start_time) * 1000) if record.start_time else None,
        "started_at": datetime.fromtimestamp(record.start_time, UTC).isoformat() if record.start_time else None,
        "error": _error(instance, run.run_id) if run.status is dg.DagsterRunStatus.FAILURE else None,
        "ended_at": datetime.fromtimestamp(ended, UTC).isoformat(),
    }


def _error(instance: DagsterInstance, run_id: str) -> str | None:
    """Return the failure in its own words: what a step said, or else what Dagster says of the run."""
    steps = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    for entry in steps:
        event = entry.dagster_event
        data = event.step_failure_data if event is not None else None
        if data is not None and data.user_failure_data is not None and data.user_failure_data.description:
            return data.user_failure_data.description[:LONGEST_ERROR]
    runs = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    said = [entry.dagster_event.message for entry in runs if entry.dagster_event and entry.dagster_event.message]
    return said[-1][:LONGEST_ERROR] if said else None


@dataclass(frozen=True, kw_only=True)
class WatchedJob:
    """What is expected of a job. Source of the factors: the litigation specification, "Monitoring"."""

    minutes: float
    """How long it may go without a run that ended."""
    failures: int = 2
    """So many in a row are an alarm."""
    seconds: float | None = None
    """How long a run is expected to take; over 1.5 times that is a warning, over twice an alarm."""


def judge_jobs(
    database: Database,
    watched: Mapping[str, WatchedJob],
    recipients: Sequence[str],
    policy: DeliveryPolicy,
    *,
    since: datetime,
    now: datetime,
) -> list[str]:
    """Raise and clear the alerts of jobs; return the new ones in words.

    Before ``since`` nobody was watching.
    """

    def judge(connection: Any) -> list[str]:  # noqa: ANN401
        raised = execute(
            connection,
            PACKAGE,
            "judge_jobs",
            {
                "jobs": list(watched),
                "minutes": [job.minutes for job in watched.values()],
                "failures": [job.failures for job in watched.values()],
                "seconds": [job.seconds for job in watched.values()],
                "recipients": list(recipients),
                "since": since,
                "now": now,
            },
        ).all()
        if raised:
            plan_deliveries(connection, policy)
        return [row.said for row in raised]

    return database.in_transaction(judge)
