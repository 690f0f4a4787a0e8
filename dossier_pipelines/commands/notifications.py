"""`dossier-pipelines notifications ...`: replay."""

from __future__ import annotations

import sys

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.notifications.replaying import parse_notification_id, replay_dead
from dossier_pipelines.shared.deployment import running
from dossier_pipelines.shared.environment import Settings


def replay_deliveries(
    settings: Settings, *, notification_id: str | None, kind: str | None, channel: str | None
) -> None:
    """Queue the dead deliveries that fit every named thing anew; the next delivery takes them."""
    identity = parse_notification_id(notification_id, argument="--id") if notification_id else None
    with running(settings) as deployment:
        bring_up_to_date(deployment)
        replayed = replay_dead(deployment.database, notification_id=identity, kind=kind, channel=channel)
    print(f"{replayed} deliveries are queued anew.", file=sys.stderr)
