"""The room's tables as assets: where an analyst finds what people were told, and how far it got."""

import dagster as dg

from dossier_pipelines.notifications import tables
from dossier_pipelines.shared import owners
from dossier_pipelines.shared.asset_metadata import table_spec

GROUP = "notifications"

ASSETS = [
    table_spec(
        tables.NOTIFICATIONS,
        group=GROUP,
        owner=owners.PLATFORM,
        description="What each person was told, once per thing. The view notifications.inbox shows it as an inbox; "
        "notifications.delivery_explained says why somebody did, or did not, get a message.",
    ),
    table_spec(
        tables.DELIVERIES,
        group=GROUP,
        owner=owners.PLATFORM,
        description="The outbox: one row per notification and channel, with its attempts and why the last one failed. "
        "Dead ones are replayed with replay_dead_notifications_job.",
    ),
]
DELIVERIES_KEY = dg.AssetKey(["notifications", "deliveries"])
