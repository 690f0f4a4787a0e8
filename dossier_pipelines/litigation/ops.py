"""The desk's effects: the check of service levels, what people are told in the morning, restating."""

import time
from datetime import timedelta
from typing import Any

import dagster as dg

from dossier_pipelines.litigation import locks
from dossier_pipelines.litigation.assets import (
    ANOMALIES_KEY,
    LATE_TASKS_KEY,
    late_by_tenant,
    log_chunk,
    newest_anomalies,
)
from dossier_pipelines.litigation.metrics import take_metrics
from dossier_pipelines.litigation.reminders import DEADLINES, REMINDERS, MorningJob, tell_in_the_morning
from dossier_pipelines.litigation.restating import restate_metrics
from dossier_pipelines.litigation.service_levels import TaskScope, check_tasks, desk_tenants
from dossier_pipelines.notifications.recording import delivery_policy
from dossier_pipelines.shared.clock import parse_day, parse_moment, zone
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.job_lease import JobLock
from dossier_pipelines.shared.result_document import result_document
from dossier_pipelines.shared.runs import readable_failures, run_moment


class CheckConfig(dg.Config):
    """What to check. The defaults are the scheduled case: every tenant, as of its own clock, for real."""

    dry_run: bool = False
    tenant_id: str | None = None
    as_of: str | None = None


class MorningConfig(dg.Config):
    """Whom to tell. The defaults are the scheduled case: every tenant that has not had it yet, for real."""

    dry_run: bool = False
    tenant_id: str | None = None


def _report(context: dg.OpExecutionContext, job: str, results: dict[str, Any], *, began: float) -> None:
    """Show the results, and the document that the original answered with. ``began``: by the monotonic clock."""
    executed_at = run_moment(context.instance, context.run.run_id)
    document = result_document(job, results, executed_at=executed_at, seconds=time.monotonic() - began)
    context.log.info("%s: %s", job, ", ".join(f"{name} {value}" for name, value in results.items()))
    context.add_output_metadata({**results, "result": dg.MetadataValue.json(document)})


@dg.op(
    description="Flag tasks that are overdue or miss their service level, unflag those that no longer are, and record "
    "an event for each: one transaction. With dry_run: count them, change nothing.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def check_tasks_of_tenants(
    context: dg.OpExecutionContext, config: CheckConfig, database: dg.ResourceParam[Database]
) -> None:
    """Check under the lease of the job."""
    began = time.monotonic()
    with readable_failures("Checking service levels and due dates"):
        settings = read_settings()
        timezone = zone(settings.timezone, setting="DOSSIER_TIMEZONE")
        scope = TaskScope(
            as_of=parse_moment(config.as_of, timezone=timezone, argument="as_of") if config.as_of else None,
            tenant_id=config.tenant_id,
            dry_run=config.dry_run,
        )
        with locks.CHECK_TASKS.lease(database, holder=context.run.run_id) as lease:
            results = check_tasks(
                database,
                scope,
                now=run_moment(context.instance, context.run.run_id),
                run_id=context.run.run_id,
                grace=timedelta(minutes=settings.overdue_grace_minutes),
                lease=lease,
            )
        late = late_by_tenant(database)
    if not config.dry_run:
        context.log_event(dg.AssetMaterialization(asset_key=LATE_TASKS_KEY, metadata=late))
    _report(context, "check-sla-and-overdue", results, began=began)


@dg.job(
    description="Every 15 minutes: find tasks that became overdue or missed their service level, in all tenants.",
    tags=locks.CHECK_TASKS.tags,
)
def check_sla_and_overdue_job() -> None:
    """Check."""
    check_tasks_of_tenants()


def _morning(
    context: dg.OpExecutionContext,
    config: MorningConfig,
    database: Database,
    *,
    job: MorningJob,
    lock: JobLock,
    name: str,
    place: str,
) -> None:
    began = time.monotonic()
    with readable_failures(place), lock.lease(database, holder=context.run.run_id) as lease:
        results = tell_in_the_morning(
            database,
            job,
            now=run_moment(context.instance, context.run.run_id),
            run_id=context.run.run_id,
            tenant_id=config.tenant_id,
            dry_run=config.dry_run,
            policy=delivery_policy(read_settings()),
            lease=lease,
        )
    _report(context, name, results, began=began)


@dg.op(
    description="Remind the owner and the advocate of each hearing of today and tomorrow, in every tenant whose 08:00 "
    "has come: by mail, and by WhatsApp where the person has it. With dry_run: count them, send nothing.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def remind_of_hearings(
    context: dg.OpExecutionContext, config: MorningConfig, database: dg.ResourceParam[Database]
) -> None:
    """Remind under the lease of the job."""
    _morning(
        context,
        config,
        database,
        job=REMINDERS,
        lock=locks.REMIND,
        name="send-hearing-reminders",
        place="Reminding of hearings",
    )


@dg.job(
    description="At 08:00 of each tenant: remind people of the hearings of today and tomorrow, once.",
    tags=locks.REMIND.tags,
)
def send_hearing_reminders_job() -> None:
    """Remind."""
    remind_of_hearings()


@dg.op(
    description="Tell each person in one message what is due in the next 24 hours, in every tenant whose 09:00 has "
    "come. With dry_run: count, send nothing.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def alert_of_deadlines(
    context: dg.OpExecutionContext, config: MorningConfig, database: dg.ResourceParam[Database]
) -> None:
    """Alert under the lease of the job."""
    _morning(
        context,
        config,
        database,
        job=DEADLINES,
        lock=locks.ALERT,
        name="check-upcoming-deadlines",
        place="Alerting of deadlines",
    )


@dg.job(
    description="At 09:00 of each tenant: one message a person with what is due in the next 24 hours.",
    tags=locks.ALERT.tags,
)
def check_upcoming_deadlines_job() -> None:
    """Alert."""
    alert_of_deadlines()


class PreviewConfig(dg.Config):
    """Which days to look at, written like 2020-04-29."""

    first_day: str
    last_day: str
    tenant_id: str | None = None


@dg.op(
    description="Compute the metrics of a range of days and judge them, without keeping anything.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def preview_metrics(
    context: dg.OpExecutionContext, config: PreviewConfig, database: dg.ResourceParam[Database]
) -> None:
    """Take the days in a transaction that is rolled back."""
    began = time.monotonic()
    with readable_failures("Previewing daily metrics"):
        if config.tenant_id:
            with database.transaction() as connection:
                desk_tenants(connection, config.tenant_id)
        result = take_metrics(
            database,
            first_day=parse_day(config.first_day, argument="first_day"),
            last_day=parse_day(config.last_day, argument="last_day"),
            now=run_moment(context.instance, context.run.run_id),
            run_id=context.run.run_id,
            tenants=[config.tenant_id] if config.tenant_id else None,
            grace=timedelta(minutes=read_settings().overdue_grace_minutes),
            dry_run=True,
            report=lambda chunk: log_chunk(context, chunk),
        )
    results = result.figures(dry_run=True)
    _report(context, "analytics-snapshot", results, began=began)


@dg.job(description="A dry run of analytics_snapshot_job for a range of days: it counts, and keeps nothing.")
def preview_analytics_snapshot_job() -> None:
    """Preview."""
    preview_metrics()


@dg.op(
    description="Take the daily metrics anew of tenants whose records arrived or changed after the days were taken.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def restate_overtaken_metrics(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
    """Restate what is marked, under the lease of the metrics."""
    with readable_failures("Restating daily metrics"):
        settings = read_settings()
        with locks.METRICS.lease(
            database, holder=context.run.run_id, patience_seconds=locks.METRICS_PATIENCE_SECONDS
        ) as lease:
            result = restate_metrics(
                database,
                now=run_moment(context.instance, context.run.run_id),
                run_id=context.run.run_id,
                policy=delivery_policy(settings),
                lease=lease,
                report=lambda chunk: log_chunk(context, chunk),
            )
        newest = newest_anomalies(database)
    context.log_event(dg.AssetMaterialization(asset_key=ANOMALIES_KEY, metadata=newest))
    context.add_output_metadata({"days": result.days, "rows_written": result.written, "unusual": result.robust})


@dg.job(
    description="Restate the daily metrics that late records have overtaken. A sensor starts it.",
    tags=locks.METRICS.tags,
)
def restate_metrics_job() -> None:
    """Restate."""
    restate_overtaken_metrics()
