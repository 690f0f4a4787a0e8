"""The room's effects: sending what is due, and queueing anew what was given up."""

import dagster as dg

from dossier_pipelines.notifications.assets import DELIVERIES_KEY
from dossier_pipelines.notifications.replaying import parse_notification_id, replay_dead
from dossier_pipelines.notifications.workers import deliver_together
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.job_lease import JobLock
from dossier_pipelines.shared.runs import readable_failures

# Several workers may share the outbox; one deployment starts one at a time.
DELIVER = JobLock(name="deliver_notifications", seconds=3600)


@dg.op(
    description="Send every notification that is due, by every channel, one attempt each.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "python"},
)
def deliver_due_notifications(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
    """Deliver until nothing is due."""
    with readable_failures("Delivering notifications"):
        result = deliver_together(database, read_settings(), run_id=context.run.run_id)
    metadata: dict[str, int | float] = {
        **{f"{channel}_{status}": count for (channel, status), count in sorted(result.outcomes.items())},
        "sent": result.count("sent"),
        "failed": result.count("failed"),
        "dead": result.count("dead"),
        "seconds": round(result.seconds, 3),
    }
    context.log.info(
        "%d sent, %d to be tried again, %d given up", metadata["sent"], metadata["failed"], metadata["dead"]
    )
    context.log_event(dg.AssetMaterialization(asset_key=DELIVERIES_KEY, metadata=metadata))
    context.add_output_metadata(metadata)


@dg.job(description="Send what is due. Started by a sensor when there is something.", tags=DELIVER.tags)
def deliver_notifications_job() -> None:
    """Deliver."""
    deliver_due_notifications()


class ReplayConfig(dg.Config):
    """Which dead deliveries to queue anew: one notification's, or all of a kind or channel. At least one is named."""

    notification_id: str | None = None
    kind: str | None = None
    channel: str | None = None
    everything: bool = False


@dg.op(
    description="Queue dead deliveries anew, when what killed them is mended.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def replay_dead_deliveries(
    context: dg.OpExecutionContext, config: ReplayConfig, database: dg.ResourceParam[Database]
) -> None:
    """Replay what the configuration names."""
    with readable_failures("Replaying dead deliveries"):
        if not (config.notification_id or config.kind or config.channel or config.everything):
            raise UserError("Name what to replay: notification_id, kind or channel, or set everything to true.")
        identity = config.notification_id
        replayed = replay_dead(
            database,
            notification_id=parse_notification_id(identity, argument="notification_id") if identity else None,
            kind=config.kind,
            channel=config.channel,
        )
    context.log.info("%d deliveries are queued anew", replayed)
    context.add_output_metadata({"replayed": replayed})


@dg.job(description="Queue dead deliveries anew: one notification's, or all of a kind or channel.")
def replay_dead_notifications_job() -> None:
    """Replay."""
    replay_dead_deliveries()
