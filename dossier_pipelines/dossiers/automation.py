"""Jobs, schedules and sensors of the desk: what runs together, and when.

Everything here decides; nothing is written. A tick that finds its job running skips and says which run it waits for;
the lease inside the run is the hard guarantee. Settings are read where definitions are built, each with its default.
"""

from datetime import timedelta

import dagster as dg

from dossier_pipelines.dossiers import locks
from dossier_pipelines.dossiers.assets import RefreshConfig
from dossier_pipelines.dossiers.ops import detect_overdue_commitments_job
from dossier_pipelines.dossiers.refresh import PACKAGE
from dossier_pipelines.dossiers.snapshot_assets import HISTORY_KEY, SNAPSHOTS_KEY, TRENDS_KEY
from dossier_pipelines.dossiers.snapshot_ops import remove_old_snapshots_job, restate_snapshots_job
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.partitions import day_of
from dossier_pipelines.shared.scheduling import (
    ScheduledJob,
    interval_cron,
    loading_schedule,
    schedule_status,
    schedule_under_lock,
    sensor_status,
    when_quiet,
)

SENSOR_INTERVAL_SECONDS = 10

HEALTH = dg.AssetSelection.assets(
    ["dossiers", "engagement_stats"], ["dossiers", "commitment_stats"], ["dossiers", "health_scores"]
)
REPORTS = dg.AssetSelection.assets(["dossiers", "dossier_overview"], ["dossiers", "health_by_group"])

HISTORY = dg.AssetSelection.assets(HISTORY_KEY, SNAPSHOTS_KEY, TRENDS_KEY)

load_and_refresh_job = dg.define_asset_job(
    "load_and_refresh_job",
    # Days are taken by themselves: they have partitions.
    selection=dg.AssetSelection.groups("dossiers") - HISTORY,
    description="Load the configured source, refresh every stale score, check all of it.",
    # Without the lock's time: a first load may take longer than any refresh.
    tags={"lock": locks.REFRESH.name},
)

refresh_health_scores_job = dg.define_asset_job(
    "refresh_health_scores_job",
    selection=HEALTH | REPORTS,
    description="Refresh the statistics and scores that are stale, without loading anything.",
    tags=locks.REFRESH.tags,
)

recompute_health_scores_job = dg.define_asset_job(
    "recompute_health_scores_job",
    selection=HEALTH | REPORTS,
    config=dg.RunConfig(ops={"refresh_health": RefreshConfig(full=True)}),
    description="Recompute every score from the records, and compare with what the incremental refreshes had left.",
    tags=locks.REFRESH.tags,
)

daily_snapshots_job = dg.define_asset_job(
    "daily_snapshots_job",
    selection=dg.AssetSelection.assets(SNAPSHOTS_KEY),
    description="Take the snapshot of a day, or of a range of days in one run.",
    tags=locks.SNAPSHOTS.tags,
)

JOBS: list[ScheduledJob] = [
    load_and_refresh_job,
    refresh_health_scores_job,
    recompute_health_scores_job,
    detect_overdue_commitments_job,
    daily_snapshots_job,
    restate_snapshots_job,
    remove_old_snapshots_job,
]


def _snapshot_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that takes the day that ends; its run waits for a busy one, so that no day is left out."""

    @dg.schedule(
        name="take_daily_snapshots",
        cron_schedule="59 23 * * *",
        execution_timezone=settings.timezone,
        job=daily_snapshots_job,
        description="At the end of every day: keep what every dossier looked like.",
        default_status=schedule_status(settings),
    )
    def take_daily_snapshots(
        context: dg.ScheduleEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        moment = context.scheduled_execution_time
        reached = database.run(
            PACKAGE, "snapshot_reach", {"now": moment, "tenant_id": None, "first_day": moment.date()}
        )[0].newest
        if reached is None or reached < moment.date():
            return dg.SkipReason(
                f"No tenant's clock has come to {day_of(moment)}: they stand at {reached or 'nothing'}."
            )
        return dg.RunRequest(partition_key=day_of(moment), run_key=day_of(moment))

    return take_daily_snapshots


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the desk's schedules at the times that the settings name."""
    return [
        *_loading_schedules(settings),
        _snapshot_schedule(settings),
        *_retention_schedules(settings),
        schedule_under_lock(
            "refresh_health_scores",
            cron=interval_cron(settings.refresh_interval_minutes),
            job=refresh_health_scores_job,
            lock=locks.REFRESH,
            description="Refresh every score that a change or the time made stale.",
            settings=settings,
        ),
        schedule_under_lock(
            "detect_overdue_commitments",
            cron=f"0 {settings.overdue_check_hour} * * *",
            job=detect_overdue_commitments_job,
            lock=locks.OVERDUE,
            description="Mark the commitments that became late, and tell their owners.",
            settings=settings,
        ),
        # An hour after the daily overdue detection, when nobody works.
        schedule_under_lock(
            "recompute_health_scores_nightly",
            cron=f"0 {(settings.overdue_check_hour + 1) % 24} * * *",
            job=recompute_health_scores_job,
            lock=locks.REFRESH,
            description="Every night: recompute every score and check the incremental result against it.",
            settings=settings,
        ),
    ]


def _loading_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the schedule that loads the source, if the settings name one."""
    if settings.source is None:
        return []
    return [
        loading_schedule(
            "load_records",
            job=load_and_refresh_job,
            description="Load the source (DOSSIER_SOURCE), refresh what it changed, check all of it.",
            settings=settings,
        )
    ]


def _retention_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the schedule that removes old snapshots, if the settings say what is old."""
    if not settings.history_days:
        return []
    return [
        schedule_under_lock(
            "remove_old_snapshots",
            cron="30 4 2 * *",
            job=remove_old_snapshots_job,
            lock=locks.SNAPSHOTS,
            description="Every month: remove the snapshots that are older than DOSSIER_HISTORY_DAYS.",
            settings=settings,
        )
    ]


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensors that take changes into the scores, and into past days, without waiting for a schedule."""

    @dg.sensor(
        name="changed_records",
        job=refresh_health_scores_job,
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Refreshes scores soon after a commitment or an engagement changed, many changes in one run.",
    )
    def changed_records(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        waiting = database.run(PACKAGE, "waiting_marks")[0]
        if not waiting.marks:
            return dg.SkipReason("No record changed since the last refresh.")
        patience = timedelta(minutes=settings.refresh_interval_minutes)
        return when_quiet(context.instance, waiting, locks.REFRESH, what="changes", patience=patience)

    @dg.sensor(
        name="late_records",
        job=restate_snapshots_job,
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Restates daily snapshots soon after a record of their days arrived or changed.",
    )
    def late_records(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        waiting = database.run(PACKAGE, "waiting_snapshot_marks")[0]
        if not waiting.marks:
            return dg.SkipReason("No record arrived late.")
        return when_quiet(context.instance, waiting, locks.SNAPSHOTS, what="late changes", patience=timedelta(hours=1))

    return [changed_records, late_records]
