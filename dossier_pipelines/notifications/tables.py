"""The tables of the notifications room: what people are told, by which channel, and how far that is."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from dossier_pipelines.shared.tables import METADATA, MOMENT, tenant_column

DELIVERY_STATUSES: Final = ("queued", "sending", "sent", "failed", "dead")
PENDING: Final = "status IN ('queued', 'sending', 'failed')"

NOTIFICATIONS: Final = sa.Table(
    "notifications",
    METADATA,
    tenant_column(),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("user_id", pg.UUID, nullable=False, comment="Who is told"),
    sa.Column("address", sa.Text, comment="Where to mail it, for somebody who is no user"),
    sa.Column("kind", sa.Text, nullable=False, comment="commitment_overdue, ...; digest: what exceeds a day's number"),
    sa.Column("urgency", sa.SmallInteger, nullable=False, comment="1 (most urgent) to 4"),
    sa.Column("title", sa.Text, nullable=False, comment="In one line; the subject of a mail"),
    sa.Column("message", sa.Text, nullable=False, comment="What happened, and what to do"),
    sa.Column("metadata", pg.JSONB, nullable=False, comment="Ids and figures that it is about"),
    sa.Column("event_id", pg.UUID, comment="The event that it tells of"),
    sa.Column("dedupe_key", sa.Text, nullable=False, comment="The same thing is told to a person once under it"),
    sa.Column("run_id", sa.Text, comment="The Dagster run"),
    sa.Column("created_at", MOMENT, nullable=False, comment="When it was recorded"),
    sa.Column("read_at", MOMENT, comment="When the person read it"),
    sa.Column("channels", pg.ARRAY(sa.Text), comment="By which channels; null: those of the policy"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "dedupe_key"),
    sa.CheckConstraint("urgency BETWEEN 1 AND 4", name="urgency"),
    # Python knows no moment before the year 1, nor an infinite one: it would stop whoever delivers it.
    sa.CheckConstraint(
        "created_at BETWEEN timestamptz '1900-01-01 00:00:00+00' AND timestamptz '2200-01-01 00:00:00+00'",
        name="created_at",
    ),
    schema="notifications",
    comment="What each person was told, once per thing: the inbox",
)
sa.Index(
    "notifications_unread_idx",
    NOTIFICATIONS.c.tenant_id,
    NOTIFICATIONS.c.user_id,
    NOTIFICATIONS.c.created_at.desc(),
    postgresql_where=sa.text("read_at IS NULL"),
)

# Marks, as in platform.stale_marks: writing a recorded notification anew to say so would cost as much as recording it.
UNPLANNED: Final = sa.Table(
    "unplanned",
    METADATA,
    tenant_column(),
    sa.Column("notification_id", pg.UUID, nullable=False, comment="A notification"),
    schema="notifications",
    comment="Notifications whose deliveries are not decided yet; append-only, taken by whoever plans",
)

DELIVERIES: Final = sa.Table(
    "deliveries",
    METADATA,
    tenant_column(),
    sa.Column("notification_id", pg.UUID, nullable=False, comment="What is delivered"),
    sa.Column("channel", sa.Text, nullable=False, comment="in_app, email, webhook, ..."),
    sa.Column("status", sa.Text, nullable=False, comment="queued, sending, sent, failed (tried again) or dead"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0"), comment="How often it was tried"),
    sa.Column(
        "next_attempt_at",
        MOMENT,
        nullable=False,
        comment="From when on a worker may take it; while sending, when its worker counts as dead",
    ),
    sa.Column("claimed_by", pg.UUID, comment="The worker that sends it"),
    sa.Column("last_error", sa.Text, comment="Why the last attempt failed"),
    sa.Column("provider_id", sa.Text, comment="What the receiver calls it"),
    sa.Column("dedupe_key", sa.Text, nullable=False, comment="The key that every attempt carries"),
    sa.Column("day", sa.Date, nullable=False, comment="The person's own day that the notification counts in"),
    sa.Column("digest_id", pg.UUID, comment="In the inbox: the digest that carries it further, when the day was full"),
    sa.Column(
        "created_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was planned"
    ),
    sa.Column("sent_at", MOMENT, comment="When the receiver had taken it"),
    sa.PrimaryKeyConstraint("tenant_id", "notification_id", "channel"),
    sa.CheckConstraint(
        "status IN ({})".format(", ".join(f"'{status}'" for status in DELIVERY_STATUSES)), name="status"
    ),
    schema="notifications",
    comment="The outbox: one row per notification and channel",
)
# What waits, however much was sent before.
sa.Index("deliveries_due_idx", DELIVERIES.c.channel, DELIVERIES.c.next_attempt_at, postgresql_where=sa.text(PENDING))
sa.Index(
    "deliveries_dead_idx", DELIVERIES.c.tenant_id, DELIVERIES.c.channel, postgresql_where=sa.text("status = 'dead'")
)

sa.Index(
    "deliveries_digest_idx",
    DELIVERIES.c.tenant_id,
    DELIVERIES.c.digest_id,
    postgresql_where=sa.text("digest_id IS NOT NULL"),
)

DAILY_COUNTS: Final = sa.Table(
    "daily_counts",
    METADATA,
    tenant_column(),
    sa.Column("user_id", pg.UUID, nullable=False, comment="The person"),
    sa.Column("day", sa.Date, nullable=False, comment="The person's own day"),
    sa.Column("counted", sa.Integer, nullable=False, comment="Notifications of that day"),
    sa.Column("digest_id", pg.UUID, comment="The open digest that takes what exceeds the day's number"),
    sa.PrimaryKeyConstraint("tenant_id", "user_id", "day"),
    schema="notifications",
    comment="How much each person was told each day; the row is the lock that makes the daily number exact",
)
