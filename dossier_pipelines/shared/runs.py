"""What a Dagster run gives to an asset: its moment, and failures that an analyst can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg
from sqlalchemy.exc import DBAPIError

from dossier_pipelines.shared.failures import UserError, describe_database_error
from dossier_pipelines.shared.job_lease import JobLock

if TYPE_CHECKING:
    from dagster import DagsterInstance


def run_moment(instance: DagsterInstance, run_id: str) -> datetime:
    """Return when the run began: the clock of everything that it computes."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise UserError(f"Run {run_id} is not in Dagster's storage, so that it has no moment to compute for.")
    if record.start_time is not None:
        return datetime.fromtimestamp(record.start_time, UTC)
    return record.create_timestamp.astimezone(UTC)


# A run in one of these states has its job's lock, or is about to take it.
ACTIVE: Final = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def busy_reason(instance: DagsterInstance, lock: JobLock) -> str | None:
    """Return why a run under ``lock`` must not start now, in words; None when it may.

    By tag, not by job: whatever is launched from an asset's page runs under another job name.
    """
    active = instance.get_runs(dg.RunsFilter(tags={"lock": lock.name}, statuses=list(ACTIVE)), limit=1)
    if not active:
        return None
    return f"{lock.name} is locked: run {active[0].run_id} is {active[0].status.value.lower()}."


def running_reason(instance: DagsterInstance, job: str) -> str | None:
    """Return why another run of ``job`` must not start now, in words; None when it may."""
    active = instance.get_runs(dg.RunsFilter(job_name=job, statuses=list(ACTIVE)), limit=1)
    return f"Run {active[0].run_id} of {job} is {active[0].status.value.lower()}." if active else None


def failure_reason(instance: DagsterInstance, lock: JobLock, *, within: timedelta, now: datetime) -> str | None:
    """Return why a run under ``lock`` is not worth another try yet: the latest one failed ``within`` that time."""
    latest = instance.get_run_records(dg.RunsFilter(tags={"lock": lock.name}), limit=1)
    if not latest or latest[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    ended = datetime.fromtimestamp(latest[0].end_time or latest[0].update_timestamp.timestamp(), UTC)
    if now - ended >= within:
        return None
    return (
        f"Run {latest[0].dagster_run.run_id} failed at {ended:%H:%M:%S %Z}; it is tried again at "
        f"{ended + within:%H:%M:%S %Z}, or by a schedule before."
    )


@contextmanager
def readable_failures(place: str) -> Iterator[None]:
    """Turn an expected error into a Dagster failure that says what happened, without a retry."""
    try:
        yield
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except DBAPIError as error:
        # Worth another try: the server may be back. The cause is cut: it holds the statement's parameters.
        raise dg.Failure(description=describe_database_error(error, place=place)) from None
