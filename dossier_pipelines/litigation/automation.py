"""What runs, and when. Hours are each tenant's own: a schedule ticks, the database says who is due."""

from datetime import date, datetime, timedelta

import dagster as dg

from dossier_pipelines.litigation import locks
from dossier_pipelines.litigation.assets import DAILY_METRICS_KEY, LATE_TASKS_KEY, ONLY_MISSING, RAW_ASSETS
from dossier_pipelines.litigation.metrics import missing_ranges
from dossier_pipelines.litigation.ops import (
    check_sla_and_overdue_job,
    check_upcoming_deadlines_job,
    preview_analytics_snapshot_job,
    restate_metrics_job,
    send_hearing_reminders_job,
)
from dossier_pipelines.litigation.reminders import DEADLINES, REMINDERS, MorningJob, due_in_the_morning
from dossier_pipelines.litigation.service_levels import PACKAGE
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.job_lease import JobLock
from dossier_pipelines.shared.runs import busy_reason
from dossier_pipelines.shared.scheduling import (
    ScheduledJob,
    loading_schedule,
    schedule_status,
    schedule_under_lock,
    sensor_status,
    when_quiet,
)

EVERY_QUARTER = "*/15 * * * *"
# Somewhere it is 23:59: time zones differ by quarters of an hour.
BEFORE_EVERY_QUARTER = "14,29,44,59 * * * *"
SENSOR_INTERVAL_SECONDS = 10

load_litigation_job = dg.define_asset_job(
    "load_litigation_job",
    selection=dg.AssetSelection.assets(*(asset.key for asset in RAW_ASSETS), LATE_TASKS_KEY),
    description="Load the litigation desk's source.",
)

analytics_snapshot_job = dg.define_asset_job(
    "analytics_snapshot_job",
    selection=dg.AssetSelection.assets(DAILY_METRICS_KEY),
    description="Take the metrics of a day, or of a range of days in one run, and judge what is unusual.",
    tags=locks.METRICS.tags,
)

JOBS: list[ScheduledJob] = [
    load_litigation_job,
    check_sla_and_overdue_job,
    send_hearing_reminders_job,
    check_upcoming_deadlines_job,
    analytics_snapshot_job,
    preview_analytics_snapshot_job,
    restate_metrics_job,
]


def _morning_schedule(
    name: str, *, job: dg.JobDefinition, morning: MorningJob, lock: JobLock, description: str, settings: Settings
) -> dg.ScheduleDefinition:
    """Return a schedule that starts the job when it is due for a tenant, and no run of it is under way."""

    @dg.schedule(
        name=name,
        cron_schedule=EVERY_QUARTER,
        execution_timezone=settings.timezone,
        job=job,
        description=description,
        default_status=schedule_status(settings),
    )
    def decide(
        context: dg.ScheduleEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        reason = busy_reason(context.instance, lock)
        if reason:
            return dg.SkipReason(reason)
        with database.transaction() as connection:
            due = due_in_the_morning(connection, morning, now=context.scheduled_execution_time)
        if not due:
            return dg.SkipReason(f"It is {morning.hour:02}:00 for no tenant that has not had it since.")
        return dg.RunRequest()

    return decide


def _days_request(first: date, last: date, moment: datetime) -> dg.RunRequest:
    """Return the request for one run of the days, of the tenants that lack any."""
    # A day ends several times, in one time zone after the other.
    run_key = f"{first} to {last} at {moment.isoformat()}"
    if first == last:
        return dg.RunRequest(partition_key=first.isoformat(), run_key=run_key, tags=ONLY_MISSING)
    days = {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
    return dg.RunRequest(run_key=run_key, tags={**ONLY_MISSING, **days})


def _metrics_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that takes each day that has come to its end somewhere, and days that were missed."""

    @dg.schedule(
        name="analytics_snapshot",
        cron_schedule=BEFORE_EVERY_QUARTER,
        execution_timezone=settings.timezone,
        job=analytics_snapshot_job,
        description="At 23:59 of each tenant: keep the day's metrics, and judge what is unusual.",
        default_status=schedule_status(settings),
    )
    def analytics_snapshot(
        context: dg.ScheduleEvaluationContext, database: dg.ResourceParam[Database]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        reason = busy_reason(context.instance, locks.METRICS)
        if reason:
            return dg.SkipReason(reason)
        moment = context.scheduled_execution_time
        missing = missing_ranges(database, since=settings.history_start, now=moment)
        if not missing:
            return dg.SkipReason("Every day that has come to its end has its metrics.")
        return [_days_request(first, last, moment) for first, last in missing]

    return analytics_snapshot


def _loading_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the schedule that loads the desk's source, if the settings name one."""
    if settings.litigation_source is None:
        return []
    return [
        loading_schedule(
            "load_litigation_records",
            job=load_litigation_job,
            description="Load the desk's source (DOSSIER_LITIGATION_SOURCE), and check what it gave.",
            settings=settings,
        )
    ]


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the desk's schedules."""
    return [
        *_loading_schedules(settings),
        schedule_under_lock(
            "check_sla_and_overdue",
            cron=EVERY_QUARTER,
            job=check_sla_and_overdue_job,
            lock=locks.CHECK_TASKS,
            description="Find tasks that became overdue or missed their service level.",
            settings=settings,
        ),
        _morning_schedule(
            "send_hearing_reminders",
            job=send_hearing_reminders_job,
            morning=REMINDERS,
            lock=locks.REMIND,
            description="At 08:00 of each tenant: remind people of the hearings of today and tomorrow.",
            settings=settings,
        ),
        _morning_schedule(
            "check_upcoming_deadlines",
            job=check_upcoming_deadlines_job,
            morning=DEADLINES,
            lock=locks.ALERT,
            description="At 09:00 of each tenant: tell people what is due in the next 24 hours.",
            settings=settings,
        ),
        _metrics_schedule(settings),
    ]


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensor that takes late records into past days."""

    @dg.sensor(
        name="late_litigation_records",
        job=restate_metrics_job,
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Restates daily metrics soon after a record of their days arrived or changed.",
    )
    def late_litigation_records(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        waiting = database.run(PACKAGE, "waiting_metric_marks")[0]
        if not waiting.marks:
            return dg.SkipReason("No record arrived late.")
        return when_quiet(context.instance, waiting, locks.METRICS, what="late changes", patience=timedelta(hours=1))

    return [late_litigation_records]
