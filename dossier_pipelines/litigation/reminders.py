"""Hearing reminders and deadline alerts: who is told what in the morning of their tenant.

What is due, who is told and in which words is in sql/remind_hearings.sql and sql/alert_deadlines.sql; its looks are in
the templates of the notifications room. Events, messages and the note that the day is done are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from dossier_pipelines.litigation.service_levels import PACKAGE, desk_tenants
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.audit import record_results, took_effect
from dossier_pipelines.shared.daily_jobs import TenantDay, record_done, tenants_due
from dossier_pipelines.shared.database import Database, execute

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease


@dataclass(frozen=True, kw_only=True)
class MorningJob:
    """A job that each tenant has once a day, at an hour of its own zone."""

    job: str
    """The Dagster job."""
    statement: str
    hour: int
    results: dict[str, str]
    """The names of its results, by the columns of the statement."""


REMINDERS: Final = MorningJob(
    job="send_hearing_reminders_job",
    statement="remind_hearings",
    hour=8,
    results={
        "hearings": "hearings",
        "remindersSent": "notifications",
        "eventsRecorded": "events",
        "hearingsWithoutRecipient": "without_recipient",
        "hearingsWithoutCourt": "without_court",
    },
)
DEADLINES: Final = MorningJob(
    job="check_upcoming_deadlines_job",
    statement="alert_deadlines",
    hour=9,
    results={
        "tasks": "tasks",
        "hearings": "hearings",
        "alertsSent": "notifications",
        "eventsRecorded": "events",
        "itemsWithoutRecipient": "without_recipient",
    },
)


def tell_in_the_morning(
    database: Database,
    job: MorningJob,
    *,
    now: datetime,
    run_id: str,
    tenant_id: str | None = None,
    dry_run: bool = False,
    policy: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Do the job for every tenant that has not had it since its hour came last; return the results.

    With ``tenant_id`` for that tenant, whatever its hour and whether it was done; before its hour the day stays due. A
    dry run counts and keeps nothing. UserError is raised for a tenant that is none, LeaseLostError and nothing written
    unless ``lease`` is held.
    """
    attempted: dict[str, Any] = {}

    def tell(connection: Connection) -> dict[str, Any]:
        if lease is not None:
            lease.require(connection)
        if took_effect(connection, run_id=run_id, attempted=attempted):
            return attempted
        attempted.clear()
        with connection.begin_nested() as work:
            if tenant_id is None:
                due = done = due_in_the_morning(connection, job, now=now)
            else:
                due, done = _today(connection, job, tenant_id, now=now)
            apart = None if done == due else run_id
            results = _tell(connection, job, due, apart=apart, now=now, run_id=run_id, policy=policy)
            if dry_run:
                work.rollback()
            else:
                record_done(connection, job.job, done, run_id=run_id, now=now)
        attempted.update(results, tenants=len(due), dryRun=dry_run)
        record_results(connection, run_id=run_id, job=job.job, results=attempted)
        return attempted

    return database.in_transaction(tell)


def due_in_the_morning(connection: Connection, job: MorningJob, *, now: datetime) -> list[TenantDay]:
    """Return the tenants of the desk that have not had the job since their hour came last."""
    return tenants_due(connection, job.job, among=desk_tenants(connection), hour=job.hour, now=now)


def _today(
    connection: Connection, job: MorningJob, tenant_id: str, *, now: datetime
) -> tuple[list[TenantDay], list[TenantDay]]:
    """Return the tenant's day, and again if it is done with this run: what is told before the hour is not all of it."""
    desk_tenants(connection, tenant_id)
    today = {"tenant_id": tenant_id, "now": now, "hour": job.hour}
    found = execute(connection, PACKAGE, "tenant_today", today).one()
    day = [TenantDay(tenant_id=tenant_id, day=found.today, begins=found.begins, ends=found.ends)]
    return day, day if found.come else []


def _tell(
    connection: Connection,
    job: MorningJob,
    due: Sequence[TenantDay],
    *,
    apart: str | None,
    now: datetime,
    run_id: str,
    policy: DeliveryPolicy,
) -> dict[str, Any]:
    parameters = {
        "tenants": [each.tenant_id for each in due],
        "days": [each.day for each in due],
        "begins": [each.begins for each in due],
        "reached": [each.reached for each in due],
        "ends": [each.ends for each in due],
        # What is told before the hour is no message of the day.
        "apart": apart,
        "now": now,
        "run_id": run_id,
    }
    row = execute(connection, PACKAGE, job.statement, parameters).one()
    if row.notifications:
        plan_deliveries(connection, policy, run_id=run_id)
    return {name: getattr(row, column) for name, column in job.results.items()}
