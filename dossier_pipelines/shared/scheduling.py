"""When jobs run: schedules that skip while their job is busy, sensors that wait until changes have stopped coming.

Everything here decides; nothing is written. The lease inside a run is the hard guarantee.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.job_lease import JobLock
from dossier_pipelines.shared.runs import busy_reason, failure_reason, running_reason

# Changes are collected until it has been quiet for a moment, but none waits longer than the second figure: a thousand
# changes to one dossier cost one calculation, and each is in the score within the two minutes that are promised.
QUIET_SECONDS = 3.0
LONGEST_WAIT_SECONDS = 20.0

ScheduledJob = dg.JobDefinition | UnresolvedAssetJobDefinition


def schedule_status(settings: Settings) -> dg.DefaultScheduleStatus:
    """Return whether schedules are on in a deployment that nobody has touched."""
    return dg.DefaultScheduleStatus.RUNNING if settings.scheduled_jobs else dg.DefaultScheduleStatus.STOPPED


def sensor_status(settings: Settings) -> dg.DefaultSensorStatus:
    """Return whether sensors are on in a deployment that nobody has touched."""
    return dg.DefaultSensorStatus.RUNNING if settings.scheduled_jobs else dg.DefaultSensorStatus.STOPPED


def schedule_under_lock(
    name: str,
    *,
    cron: str,
    job: ScheduledJob,
    lock: JobLock,
    description: str,
    settings: Settings,
) -> dg.ScheduleDefinition:
    """Return a schedule that skips while a run under its lock is queued or in progress."""

    def decide(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        reason = busy_reason(context.instance, lock)
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return dg.ScheduleDefinition(
        name=name,
        cron_schedule=cron,
        execution_timezone=settings.timezone,
        job=job,
        description=description,
        execution_fn=decide,
        default_status=schedule_status(settings),
    )


def interval_cron(minutes: int, *, offset: int = 0) -> str:
    """Return the cron schedule of every so many minutes, a divisor of the hour or whole hours, ``offset`` past it."""
    if minutes >= 60:
        return f"{offset} */{minutes // 60} * * *"
    return f"{offset % minutes}-59/{minutes} * * * *" if offset % minutes else f"*/{minutes} * * * *"


def loading_schedule(name: str, *, job: ScheduledJob, description: str, settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that loads a source of the user's, unless its load is still under way.

    It skips for no other job: a load that shares a lock with a refresh queues behind it instead of giving up. Their
    ticks would else meet, and one of them go without.
    """

    def decide(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        reason = running_reason(context.instance, job.name)
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return dg.ScheduleDefinition(
        name=name,
        # Five minutes past what runs every quarter of an hour.
        cron_schedule=interval_cron(settings.load_interval_minutes, offset=5),
        execution_timezone=settings.timezone,
        job=job,
        description=description,
        execution_fn=decide,
        default_status=schedule_status(settings),
    )


def when_quiet(
    instance: dg.DagsterInstance, waiting: sa.Row[Any], lock: JobLock, *, what: str, patience: timedelta
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run once no more changes come, unless one is under way, or failed within ``patience``."""
    if waiting.newest_seconds < QUIET_SECONDS and waiting.oldest_seconds < LONGEST_WAIT_SECONDS:
        return dg.SkipReason(f"{waiting.marks} {what} so far; waiting until it is quiet.")
    # What fails for a reason would fail again every few seconds.
    reason = busy_reason(instance, lock) or failure_reason(instance, lock, within=patience, now=datetime.now(UTC))
    return dg.SkipReason(reason) if reason else dg.RunRequest()
