"""Replay: dead deliveries get their attempts back, when what killed them is mended."""

from __future__ import annotations

from dossier_pipelines.notifications.recording import PACKAGE
from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.identifiers import parse_uuid


def parse_notification_id(text: str, *, argument: str) -> str:
    """Return the id of a notification in its usual form; raise UserError naming ``argument``."""
    return parse_uuid(text, argument=argument, column="notification_id of notifications.delivery_explained")


def replay_dead(
    database: Database,
    *,
    tenant_id: str | None = None,
    notification_id: str | None = None,
    kind: str | None = None,
    channel: str | None = None,
) -> int:
    """Queue the dead deliveries that fit every named thing anew, under their old keys; return how many."""
    chosen = {"tenant_id": tenant_id, "notification_id": notification_id, "kind": kind, "channel": channel}
    return database.in_transaction(lambda connection: execute(connection, PACKAGE, "replay_dead", chosen).rowcount)
