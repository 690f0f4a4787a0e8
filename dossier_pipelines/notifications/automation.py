"""The sensor that starts a delivery when something is due: an idle outbox costs no run."""

import dagster as dg

from dossier_pipelines.notifications.ops import DELIVER, deliver_notifications_job, replay_dead_notifications_job
from dossier_pipelines.notifications.recording import PACKAGE, delivery_policy
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.runs import busy_reason
from dossier_pipelines.shared.scheduling import sensor_status

JOBS = [deliver_notifications_job, replay_dead_notifications_job]
SENSOR_INTERVAL_SECONDS = 10


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the room's sensor."""
    outgoing = [channel for channel in delivery_policy(settings).there if channel != "in_app"]

    @dg.sensor(
        name="due_notifications",
        job=deliver_notifications_job,
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status(settings),
        description="Starts a delivery when a notification is due.",
    )
    def due_notifications(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.RunRequest | dg.SkipReason:
        if not database.run(PACKAGE, "anything_due", {"channels": outgoing})[0].due:
            return dg.SkipReason("Nothing is due.")
        reason = busy_reason(context.instance, DELIVER)
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return [due_notifications]
