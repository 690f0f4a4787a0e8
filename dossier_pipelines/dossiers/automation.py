"""Jobs and schedules of the desk: what runs together, and when."""

import dagster as dg

from dossier_pipelines.dossiers.assets import RefreshConfig
from dossier_pipelines.shared.environment import DEFAULT_TIMEZONE

HEALTH = dg.AssetSelection.assets(
    ["dossiers", "engagement_stats"], ["dossiers", "commitment_stats"], ["dossiers", "health_scores"]
)
REPORTS = dg.AssetSelection.assets(["dossiers", "dossier_overview"], ["dossiers", "health_by_group"])

load_and_refresh_job = dg.define_asset_job(
    "load_and_refresh_job",
    selection=dg.AssetSelection.groups("dossiers"),
    description="Load the configured source, refresh every stale score, check all of it.",
    tags={"lock": "refresh_health_scores"},
)

refresh_health_scores_job = dg.define_asset_job(
    "refresh_health_scores_job",
    selection=HEALTH | REPORTS,
    description="Refresh the statistics and scores that are stale, without loading anything.",
    tags={"lock": "refresh_health_scores"},
)

recompute_health_scores_job = dg.define_asset_job(
    "recompute_health_scores_job",
    selection=HEALTH | REPORTS,
    config=dg.RunConfig(ops={"refresh_health": RefreshConfig(full=True)}),
    description="Recompute every score from the records, and compare with what the incremental refreshes had left.",
    tags={"lock": "refresh_health_scores"},
)

# An hour after the daily overdue detection, when nobody works.
recompute_health_scores_nightly = dg.ScheduleDefinition(
    name="recompute_health_scores_nightly",
    cron_schedule="0 3 * * *",
    execution_timezone=DEFAULT_TIMEZONE,
    target=recompute_health_scores_job,
    description="Every night at 03:00: recompute every score and check the incremental result against it.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

JOBS = [load_and_refresh_job, refresh_health_scores_job, recompute_health_scores_job]
SCHEDULES = [recompute_health_scores_nightly]
