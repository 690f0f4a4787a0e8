"""The sensors that watch the deployment: locks, and how runs end. Neither starts a run."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg

from dossier_pipelines.notifications.recording import delivery_policy
from dossier_pipelines.operations.assets import LEASES_KEY
from dossier_pipelines.operations.leases import watch_leases
from dossier_pipelines.operations.run_watch import ENDED, PACKAGE, WatchedJob, judge_jobs, record_ends
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.scheduling import sensor_status

SENSOR_INTERVAL_SECONDS = 15
AT_ONCE = 1000
# Two deployments' clocks differ, and a run may be written down a moment after it ended; audit rows are written once.
OVERLAP = timedelta(seconds=60)


def watched_jobs(settings: Settings, *, clocks_run: bool) -> dict[str, WatchedJob]:
    """Return what is expected of each job: a run within three intervals, or within a day and two hours.

    Where all tenants' clocks stand still no day ends or begins, and nothing of a day is missed.
    """
    day = 26 * 60.0
    daily = {
        "daily_snapshots_job": WatchedJob(minutes=day),
        "send_hearing_reminders_job": WatchedJob(minutes=day, failures=3, seconds=15),
        "check_upcoming_deadlines_job": WatchedJob(minutes=day, failures=3, seconds=8),
        "analytics_snapshot_job": WatchedJob(minutes=day, failures=3, seconds=30),
        "automation_health_check_job": WatchedJob(minutes=day, failures=3, seconds=5),
    }
    return {
        **(daily if clocks_run else {}),
        "refresh_health_scores_job": WatchedJob(minutes=3.0 * settings.refresh_interval_minutes),
        "detect_overdue_commitments_job": WatchedJob(minutes=day),
        "recompute_health_scores_job": WatchedJob(minutes=day),
        "check_sla_and_overdue_job": WatchedJob(minutes=24 * 60.0, failures=3, seconds=5),
    }


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the room's sensors."""

    @dg.sensor(
        name="job_locks",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Shows who holds the lock of each job, frees the locks of dead runs, ends runs that lost theirs.",
    )
    def job_locks(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.SensorResult | dg.SkipReason:
        watch = watch_leases(database, context.instance)
        lines = [
            f"| {row.job} | {row.holder or 'free'} | {row.acquired_at or ''} | {row.expires_at if row.holder else ''} "
            f"| {row.ended_because or ''} |"
            for row in watch.rows
        ]
        shown = "\n".join(["| job | held by run | since | until | last ended |", "|---|---|---|---|---|", *lines])
        said = "; ".join(
            [f"freed {job}" for job in watch.cleared] + [f"ended run {run_id}" for run_id in watch.ended]
        ) or ", ".join(f"{row.job}: held by run {row.holder}" for row in watch.rows if row.holder)
        if context.cursor == shown:
            return dg.SkipReason(said or "No lock is held.")
        return dg.SensorResult(
            cursor=shown,
            skip_reason=said or "No lock is held.",
            asset_events=[
                dg.AssetMaterialization(
                    asset_key=LEASES_KEY,
                    metadata={
                        "locks": dg.MetadataValue.md(shown),
                        "held": sum(row.holder is not None for row in watch.rows),
                        "freed": len(watch.cleared),
                        "runs_ended": len(watch.ended),
                    },
                )
            ],
        )

    @dg.sensor(
        name="ended_runs",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Writes the audit row of every run that ended, and alerts operations when a job is in trouble.",
    )
    def ended_runs(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        cursor: dict[str, str] = json.loads(context.cursor) if context.cursor else {"since": now.isoformat()}
        seen = datetime.fromisoformat(cursor["seen"]) if "seen" in cursor else None
        records = context.instance.get_run_records(
            filters=dg.RunsFilter(statuses=list(ENDED), updated_after=seen - OVERLAP if seen else None),
            limit=AT_ONCE,
            order_by="update_timestamp",
            ascending=True,
        )
        if records:
            record_ends(database, context.instance, records)
            cursor["seen"] = records[-1].update_timestamp.replace(tzinfo=UTC).isoformat()
        raised = judge_jobs(
            database,
            watched_jobs(settings, clocks_run=database.run(PACKAGE, "clocks_run")[0].run),
            settings.operations_recipients,
            delivery_policy(settings),
            since=datetime.fromisoformat(cursor["since"]),
            now=now,
        )
        return dg.SensorResult(
            cursor=json.dumps(cursor),
            skip_reason="; ".join(raised) or f"{len(records)} runs looked at; no new trouble.",
        )

    return [job_locks, ended_runs]
