"""Leases seen from outside: shown to analysts, freed when their run is gone, their runs ended when they ran out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dossier_pipelines.shared.database import Database, execute

if TYPE_CHECKING:
    from dagster import DagsterInstance

PACKAGE: Final = "dossier_pipelines.operations"


@dataclass(frozen=True, kw_only=True)
class LeaseWatch:
    """The leases as they stand, and what was done about them."""

    rows: list[Any]
    cleared: list[str]
    """Jobs whose lock was freed."""
    ended: list[str]
    """Runs that were ended because their lease ran out."""


def watch_leases(database: Database, instance: DagsterInstance) -> LeaseWatch:
    """Free the leases whose run is finished or whose time is over; end a run that lost its lease that way."""
    cleared: list[str] = []
    ended: list[str] = []
    for lease in database.run(PACKAGE, "leases"):
        if lease.holder is None:
            continue
        run = instance.get_run_by_id(lease.holder)
        finished = run is not None and run.is_finished
        if not (finished or lease.expired):
            continue
        because = "abandoned" if finished else "expired"
        if not _clear(database, lease, because=because):
            continue
        cleared.append(lease.job)
        if run is not None and not finished:
            _end(instance, run.run_id, job=lease.job)
            ended.append(run.run_id)
    return LeaseWatch(rows=database.run(PACKAGE, "leases"), cleared=cleared, ended=ended)


def _clear(database: Database, lease: Any, *, because: str) -> bool:  # noqa: ANN401
    key = {"tenant_id": lease.tenant_id, "job": lease.job, "fencing_number": lease.fencing_number, "because": because}
    return database.in_transaction(lambda connection: execute(connection, PACKAGE, "clear_lease", key).rowcount) == 1


def _end(instance: DagsterInstance, run_id: str, *, job: str) -> None:
    """Stop a run's process if it can be reached, and mark the run as failed in any case."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    instance.report_engine_event(f"The lease of {job} ran out without a sign of life; the run is ended.", run)
    instance.run_launcher.terminate(run_id)
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, f"The lease of {job} ran out without a sign of life.")
