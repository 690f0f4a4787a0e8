"""The tables of the dossiers desk: source-owned records and what is computed from them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from dossier_pipelines.shared.tables import METADATA, MOMENT, tenant_column

STATUSES: Final = ("pending", "in_progress", "completed", "cancelled", "overdue")
PRIORITIES: Final = ("low", "medium", "high", "critical")
BANDS: Final = ("excellent", "good", "fair", "poor")
INSUFFICIENT_DATA: Final = "insufficient_data"


def _raw_table(name: str, comment: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        tenant_column(),
        sa.Column("id", pg.UUID, nullable=False, comment="The source's id, or a stable UUID made from it"),
        *columns,
        sa.Column("source_key", sa.Text, comment="The source's own id where it is no UUID"),
        sa.Column("extra", pg.JSONB, comment="The source's columns that have no place of their own"),
        sa.Column("source_hash", sa.BigInteger, comment="Hash of the source row, to tell an unchanged one"),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
        schema="raw",
        comment=comment,
    )


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    quoted = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({quoted})", name=column)


DOSSIERS: Final = _raw_table(
    "dossiers",
    "The files that an institution keeps on its counterparts",
    sa.Column("name", sa.Text, nullable=False, comment="The counterpart"),
    sa.Column("type", sa.Text, comment="country, organization, forum, ..."),
    sa.Column("region", sa.Text, comment="Region of the counterpart"),
    sa.Column("bloc", sa.Text, comment="Bloc or group that it belongs to"),
    sa.Column("classification", sa.Text, comment="Who may read the dossier"),
    sa.Column("owner_id", pg.UUID, comment="The user who keeps the dossier"),
    sa.Column("created_at", MOMENT, comment="When the dossier was opened"),
)

ENGAGEMENTS: Final = _raw_table(
    "engagements",
    "Meetings, visits, consultations and other contacts with a counterpart",
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier it belongs to"),
    sa.Column("type", sa.Text, comment="meeting, visit, consultation, ..."),
    sa.Column("description", sa.Text, comment="What it was about"),
    sa.Column("occurred_at", MOMENT, nullable=False, comment="When it took place"),
    sa.Column("created_at", MOMENT, comment="When it was recorded"),
)
# Everything that engagement stats read, in one index: they are computed by index-only scans.
sa.Index(
    "engagements_dossier_occurred_idx",
    ENGAGEMENTS.c.tenant_id,
    ENGAGEMENTS.c.dossier_id,
    ENGAGEMENTS.c.occurred_at,
)

COMMITMENTS: Final = _raw_table(
    "commitments",
    "Who promised what by when",
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier it belongs to"),
    sa.Column("description", sa.Text, comment="What was promised"),
    sa.Column("status", sa.Text, nullable=False, comment="pending, in_progress, completed, cancelled or overdue"),
    sa.Column("due_date", sa.Date, comment="The day by whose end it is due; null when unknown"),
    sa.Column("owner_id", pg.UUID, comment="The internal user who answers for it"),
    sa.Column("external_contact", sa.Text, comment="Or the contact outside"),
    sa.Column("priority", sa.Text, comment="low, medium, high or critical"),
    sa.Column("created_at", MOMENT, comment="When it was made"),
    sa.Column("updated_at", MOMENT, comment="When the source last changed it"),
    sa.Column("completed_at", MOMENT, comment="When it was completed"),
    sa.Column("cancelled_at", MOMENT, comment="When it was cancelled"),
    sa.Column("status_since", MOMENT, comment="Since when the status holds, kept by a trigger; null: always"),
    _one_of("status", STATUSES),
    _one_of("priority", PRIORITIES),
)
sa.Index("commitments_dossier_idx", COMMITMENTS.c.tenant_id, COMMITMENTS.c.dossier_id)
# What overdue detection looks through: open commitments by the day they are due.
sa.Index(
    "commitments_open_due_idx",
    COMMITMENTS.c.tenant_id,
    COMMITMENTS.c.due_date,
    postgresql_where=sa.text("status IN ('pending', 'in_progress')"),
)

COMMITMENT_HISTORY: Final = sa.Table(
    "commitment_history",
    METADATA,
    tenant_column(),
    sa.Column("commitment_id", pg.UUID, nullable=False, comment="The commitment"),
    sa.Column(
        "ordinal", sa.Integer, nullable=False, comment="In the order of learning; a later entry outdoes an earlier one"
    ),
    sa.Column("status", sa.Text, nullable=False, comment="The status that it got"),
    sa.Column("valid_from", MOMENT, comment="From when on it holds; null: always"),
    sa.Column("cause", sa.Text, nullable=False, comment="source, or detection: the overdue detection marked it"),
    sa.PrimaryKeyConstraint("tenant_id", "commitment_id", "ordinal"),
    _one_of("status", STATUSES),
    _one_of("cause", ("source", "detection")),
    schema="dossiers",
    comment="Every change of a commitment's status, kept by triggers",
)

DOCUMENTS: Final = _raw_table(
    "documents",
    "Documents filed in a dossier",
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier it belongs to"),
    sa.Column("type", sa.Text, comment="Kind of document"),
    sa.Column("created_at", MOMENT, comment="When it was filed"),
)
sa.Index("documents_dossier_idx", DOCUMENTS.c.tenant_id, DOCUMENTS.c.dossier_id)

USERS: Final = _raw_table(
    "users",
    "The people who own dossiers and commitments",
    sa.Column("name", sa.Text, comment="Name"),
    sa.Column("email", sa.Text, comment="Mail address"),
    sa.Column("phone", sa.Text, comment="Telephone"),
    sa.Column("role", sa.Text, comment="Role"),
    sa.Column("locale", sa.Text, comment="Language for messages"),
    sa.Column("timezone", sa.Text, comment="IANA time zone of the person"),
    sa.Column("whatsapp", sa.Boolean, comment="Whether the person wants messages by WhatsApp, at phone; null: no"),
)

ENGAGEMENT_STATS: Final = sa.Table(
    "engagement_stats",
    METADATA,
    tenant_column(),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier"),
    sa.Column("total_engagements_365d", sa.Integer, nullable=False, comment="Engagements in the last 365 days"),
    sa.Column("recent_engagements_90d", sa.Integer, nullable=False, comment="Engagements in the last 90 days"),
    sa.Column("latest_engagement_date", MOMENT, comment="Newest engagement; null if none"),
    sa.Column(
        "engagement_frequency_score",
        sa.Numeric(5, 2),
        nullable=False,
        comment="0-100: least(100, 100 x total_engagements_365d / yearly target); with the target of 50, 2 x total",
    ),
    sa.PrimaryKeyConstraint("tenant_id", "dossier_id"),
    schema="dossiers",
    comment="Per dossier: how often and how lately there was contact",
)

COMMITMENT_STATS: Final = sa.Table(
    "commitment_stats",
    METADATA,
    tenant_column(),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier"),
    sa.Column("total_commitments", sa.Integer, nullable=False, comment="Commitments that are not cancelled"),
    sa.Column("active_commitments", sa.Integer, nullable=False, comment="Pending or in progress"),
    sa.Column(
        "overdue_commitments", sa.Integer, nullable=False, comment="Due before today, not completed, not cancelled"
    ),
    sa.Column("fulfilled_commitments", sa.Integer, nullable=False, comment="Completed, late or not"),
    sa.Column(
        "upcoming_commitments",
        sa.Integer,
        nullable=False,
        comment="Due from today to today + 30 days, not completed, not cancelled",
    ),
    sa.Column(
        "fulfillment_rate",
        sa.Integer,
        nullable=False,
        comment="0-100: round(100 x fulfilled / total); 100 when total is 0",
    ),
    sa.PrimaryKeyConstraint("tenant_id", "dossier_id"),
    schema="dossiers",
    comment="Per dossier: what was promised, kept and missed",
)

HEALTH_SCORES: Final = sa.Table(
    "health_scores",
    METADATA,
    tenant_column(),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier"),
    sa.Column("engagement_frequency", sa.Numeric(5, 2), nullable=False, comment="0-100, from engagement_stats"),
    sa.Column("commitment_fulfillment", sa.Integer, nullable=False, comment="0-100, from commitment_stats"),
    sa.Column("recency", sa.Integer, nullable=False, comment="100, 70, 40 or 10 by days since the latest engagement"),
    sa.Column("overall_score", sa.Integer, comment="0-100: weighted sum, rounded; null without enough data"),
    sa.Column("band", sa.Text, nullable=False, comment="excellent, good, fair, poor or insufficient_data"),
    sa.Column("insufficient_reason", sa.Text, comment="What is missing for a score"),
    sa.Column("previous_score", sa.Integer, comment="The score before the last change"),
    sa.Column("changed_at", MOMENT, comment="As of which moment the score or its components last changed"),
    sa.Column("factors", pg.JSONB, nullable=False, comment="What changed it then: [{factor, count, text, records}]"),
    sa.Column("settings_version", sa.Text, nullable=False, comment="The weights and thresholds it was computed with"),
    sa.Column("as_of", MOMENT, nullable=False, comment="The moment it was computed for"),
    sa.Column(
        "stale_at",
        MOMENT,
        nullable=False,
        comment="From when on it is stale: 60 minutes after as_of, or when time alone changes a statistic of it",
    ),
    sa.Column("calculated_at", MOMENT, nullable=False, comment="When it was computed"),
    sa.PrimaryKeyConstraint("tenant_id", "dossier_id"),
    sa.CheckConstraint("overall_score BETWEEN 0 AND 100", name="overall_score"),
    _one_of("band", (*BANDS, INSUFFICIENT_DATA)),
    schema="dossiers",
    comment="Per dossier: the health of the relationship, its components and what last moved it",
)
# The index range that a refresh looks for stale scores in.
sa.Index("health_scores_stale_idx", HEALTH_SCORES.c.tenant_id, HEALTH_SCORES.c.stale_at)

HEALTH_SETTINGS: Final = sa.Table(
    "health_settings",
    METADATA,
    tenant_column(),
    sa.Column("version", sa.Text, nullable=False, comment="Hash of the whole configuration"),
    sa.Column("dossier_type", sa.Text, nullable=False, comment="The type it is for; * for every other"),
    sa.Column("weight_engagement", sa.Numeric(6, 4), nullable=False),
    sa.Column("weight_commitment", sa.Numeric(6, 4), nullable=False),
    sa.Column("weight_recency", sa.Numeric(6, 4), nullable=False),
    sa.Column("yearly_target", sa.Integer, nullable=False, comment="Engagements a year that count as 100"),
    sa.Column("min_engagements", sa.Integer, nullable=False, comment="Fewer in 365 days: no score"),
    sa.Column("min_commitments", sa.Integer, nullable=False, comment="Fewer: no score"),
    sa.Column("fresh_days", sa.Integer, nullable=False),
    sa.Column("recent_days", sa.Integer, nullable=False),
    sa.Column("distant_days", sa.Integer, nullable=False),
    sa.Column("fresh_points", sa.Integer, nullable=False),
    sa.Column("recent_points", sa.Integer, nullable=False),
    sa.Column("distant_points", sa.Integer, nullable=False),
    sa.Column("silent_points", sa.Integer, nullable=False),
    sa.Column("excellent_from", sa.Integer, nullable=False),
    sa.Column("good_from", sa.Integer, nullable=False),
    sa.Column("fair_from", sa.Integer, nullable=False),
    sa.Column("first_used_at", MOMENT, nullable=False, server_default=sa.text("now()")),
    sa.PrimaryKeyConstraint("tenant_id", "version", "dossier_type"),
    schema="dossiers",
    comment="Every configuration that a score was computed with",
)

HEALTH_REFRESHES: Final = sa.Table(
    "health_refreshes",
    METADATA,
    tenant_column(),
    sa.Column("refresh_id", sa.BigInteger, sa.Identity(always=True), nullable=False),
    sa.Column("mode", sa.Text, nullable=False, comment="incremental, or full: every dossier recomputed"),
    sa.Column("as_of", MOMENT, nullable=False, comment="The moment it was computed for"),
    sa.Column("settings_version", sa.Text, nullable=False, comment="The weights and thresholds used"),
    sa.Column("refreshed", sa.Integer, nullable=False, comment="Dossiers recomputed"),
    sa.Column("changed", sa.Integer, nullable=False, comment="Of these, those whose score or components changed"),
    sa.Column("drifted", sa.Integer, nullable=False, comment="Dossiers that nothing marked as stale, and yet differed"),
    sa.Column("drifted_dossiers", pg.ARRAY(pg.UUID), nullable=False, comment="At most 20 of them"),
    sa.Column("finished_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()")),
    sa.Column("run_id", sa.Text, comment="The Dagster run"),
    sa.PrimaryKeyConstraint("tenant_id", "refresh_id"),
    sa.CheckConstraint("mode IN ('incremental', 'full')", name="mode"),
    schema="dossiers",
    comment="One row per tenant and refresh",
)

RELATIONSHIP_ALERTS: Final = sa.Table(
    "relationship_alerts",
    METADATA,
    tenant_column(),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier"),
    sa.Column("kind", sa.Text, nullable=False, comment="health_drop or silence"),
    sa.Column("raised_at", MOMENT, nullable=False, comment="As of which moment it was noticed"),
    sa.Column("cleared_at", MOMENT, comment="As of which moment it was over; null while it lasts"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    _one_of("kind", ("health_drop", "silence")),
    schema="dossiers",
    comment="Troubles of relationships: each is told once, until it is over",
)
sa.Index(
    "relationship_alerts_open_idx",
    RELATIONSHIP_ALERTS.c.tenant_id,
    RELATIONSHIP_ALERTS.c.dossier_id,
    RELATIONSHIP_ALERTS.c.kind,
    unique=True,
    postgresql_where=sa.text("cleared_at IS NULL"),
)

SNAPSHOT_DAYS: Final = sa.Table(
    "snapshot_days",
    METADATA,
    tenant_column(),
    sa.Column("day", sa.Date, nullable=False, comment="The day, as of whose end the snapshot is"),
    sa.Column("year", sa.Date, nullable=False, comment="The first day of its year"),
    sa.PrimaryKeyConstraint("tenant_id", "day"),
    schema="dossiers",
    comment="The days of which there is a snapshot",
)
sa.Index("snapshot_days_year_idx", SNAPSHOT_DAYS.c.tenant_id, SNAPSHOT_DAYS.c.year, SNAPSHOT_DAYS.c.day)

SNAPSHOT_REACH: Final = sa.Table(
    "snapshot_reach",
    METADATA,
    tenant_column(),
    sa.Column("newest_day", sa.Date, nullable=False, comment="The newest day that has, or gets, a snapshot"),
    sa.PrimaryKeyConstraint("tenant_id"),
    schema="dossiers",
    comment="Up to which day snapshots go, told before they are taken: what is written then leaves marks",
)

SNAPSHOT_SPANS: Final = sa.Table(
    "snapshot_spans",
    METADATA,
    tenant_column(),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier"),
    sa.Column("year", sa.Date, nullable=False, comment="The first day of the year that the days are in"),
    sa.Column("first_day", sa.Date, nullable=False, comment="The first of the days that are alike"),
    sa.Column("last_day", sa.Date, nullable=False, comment="The last of them"),
    sa.Column("total_engagements_365d", sa.Integer, nullable=False, comment="Engagements in the last 365 days"),
    sa.Column("recent_engagements_90d", sa.Integer, nullable=False, comment="Engagements in the last 90 days"),
    sa.Column("latest_engagement_date", MOMENT, comment="Newest engagement; null if none"),
    sa.Column("engagement_frequency_score", sa.Numeric(5, 2), nullable=False, comment="0-100"),
    sa.Column("total_commitments", sa.Integer, nullable=False, comment="Commitments that are not cancelled"),
    sa.Column("active_commitments", sa.Integer, nullable=False, comment="Pending or in progress"),
    sa.Column("overdue_commitments", sa.Integer, nullable=False, comment="Due before the day, and open"),
    sa.Column("fulfilled_commitments", sa.Integer, nullable=False, comment="Completed, late or not"),
    sa.Column("upcoming_commitments", sa.Integer, nullable=False, comment="Open, due from the day to 30 days later"),
    sa.Column("fulfillment_rate", sa.Integer, nullable=False, comment="0-100"),
    sa.Column("recency", sa.Integer, nullable=False, comment="100, 70, 40 or 10 by days since the latest engagement"),
    sa.Column("overall_score", sa.Integer, comment="0-100; null without enough data"),
    sa.Column("band", sa.Text, nullable=False, comment="excellent, good, fair, poor or insufficient_data"),
    sa.Column("insufficient_reason", sa.Text, comment="What is missing for a score"),
    sa.Column("previous_score", sa.Integer, comment="The score of the day before the first; null if there was none"),
    sa.Column(
        "factors", pg.JSONB, nullable=False, comment="What happened on the first day: [{factor, count, text, records}]"
    ),
    sa.Column("settings_version", sa.Text, nullable=False, comment="The weights and thresholds it was computed with"),
    sa.PrimaryKeyConstraint("tenant_id", "dossier_id", "year", "first_day"),
    sa.CheckConstraint(
        "first_day <= last_day AND year <= first_day AND last_day < year + interval '1 year'", name="days"
    ),
    schema="dossiers",
    comment="How daily snapshots are stored: one row per dossier and run of days of a year that are alike; "
    "dossiers.daily_snapshots shows the days",
    postgresql_partition_by="RANGE (year)",
)
sa.Index("snapshot_spans_year_idx", SNAPSHOT_SPANS.c.tenant_id, SNAPSHOT_SPANS.c.year)

# The view that shows the days of the spans; declared for its columns, and built by schema/views.sql.
DAILY_SNAPSHOTS: Final = sa.Table(
    "daily_snapshots",
    sa.MetaData(),
    tenant_column(),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="The dossier"),
    sa.Column("day", sa.Date, nullable=False, comment="The day, in the tenant's zone, as of whose end it is"),
    *(
        sa.Column(column.name, column.type, nullable=column.nullable, comment=column.comment)
        for column in SNAPSHOT_SPANS.columns
        if column.name
        not in {
            "tenant_id",
            "dossier_id",
            "year",
            "first_day",
            "last_day",
            "previous_score",
            "factors",
            "settings_version",
        }
    ),
    sa.Column("previous_score", sa.Integer, comment="The score of the day before; null if there was none"),
    sa.Column("score_change", sa.Integer, comment="How much it moved since the day before"),
    sa.Column("factors", pg.JSONB, nullable=False, comment="What happened: [{factor, count, text, records}]"),
    sa.Column("settings_version", sa.Text, nullable=False, comment=SNAPSHOT_SPANS.c.settings_version.comment),
    schema="dossiers",
)

SNAPSHOT_MARKS: Final = sa.Table(
    "snapshot_marks",
    METADATA,
    tenant_column(),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="Whose snapshots have to be restated"),
    sa.Column("since", MOMENT, comment="From which moment on; null: all of them"),
    sa.Column(
        "marked_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was marked"
    ),
    sa.Column(
        "taken", sa.Boolean, nullable=False, server_default=sa.text("false"), comment="A restating has begun with it"
    ),
    schema="dossiers",
    comment="Records that arrived or changed after the snapshots of their days were taken",
)

SNAPSHOT_CHUNKS: Final = sa.Table(
    "snapshot_chunks",
    METADATA,
    sa.Column("backfill_id", sa.Text, nullable=False, comment="The first run of the backfill"),
    sa.Column("first_day", sa.Date, nullable=False, comment="The chunk's first day"),
    sa.Column("last_day", sa.Date, nullable=False, comment="The chunk's last day"),
    sa.Column("written", sa.Integer, nullable=False, comment="Rows that were written or removed"),
    sa.Column(
        "committed_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was done"
    ),
    sa.PrimaryKeyConstraint("backfill_id", "first_day", "last_day"),
    schema="dossiers",
    comment="What a backfill has done, so that one that died goes on where it stopped",
)
