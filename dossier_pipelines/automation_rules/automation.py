"""The sensor that has events answered, and the schedule of the daily check. Both decide; neither writes."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dossier_pipelines.automation_rules import locks
from dossier_pipelines.automation_rules.actions import PACKAGE
from dossier_pipelines.automation_rules.automation_health import due_for_health
from dossier_pipelines.automation_rules.ops import automation_health_check_job
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.runs import busy_reason, failure_reason
from dossier_pipelines.shared.scheduling import schedule_status, sensor_status

SENSOR_INTERVAL_SECONDS = 10
# What fails for a reason would fail again every few seconds.
PATIENCE = timedelta(minutes=5)


def build_sensors(settings: Settings, answer_events_job: dg.JobDefinition) -> list[dg.SensorDefinition]:
    """Return the room's sensor."""

    @dg.sensor(
        name="unanswered_events",
        job=answer_events_job,
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Lets the rules answer soon after something happened, and tries again what failed.",
    )
    def unanswered_events(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        if not database.run(PACKAGE, "anything_to_answer")[0].due:
            return dg.SkipReason("No event waits for a rule, and no execution is due.")
        reason = busy_reason(context.instance, locks.ANSWER) or failure_reason(
            context.instance, locks.ANSWER, within=PATIENCE, now=datetime.now(UTC)
        )
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return [unanswered_events]


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the room's schedule: it ticks often, and starts a run when it is morning somewhere."""

    @dg.schedule(
        name="check_automation_health",
        cron_schedule="*/15 * * * *",
        execution_timezone=settings.timezone,
        job=automation_health_check_job,
        description="At 07:00 of each tenant's own day: judge the rules, alert the administrators.",
        default_status=schedule_status(settings),
    )
    def check_automation_health(
        context: dg.ScheduleEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        with database.transaction() as connection:
            due = due_for_health(connection, now=context.scheduled_execution_time)
        if not due:
            return dg.SkipReason("For no tenant it is past 07:00 of a day that was not looked at.")
        reason = busy_reason(context.instance, locks.HEALTH)
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return [check_automation_health]
