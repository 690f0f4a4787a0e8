"""The declared schema: one MetaData for all desks, and the tables that no desk owns.

Each room declares its own tables beside its code. A test compares what the migrations build with what is
declared here, column by column.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

METADATA: Final = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

MOMENT: Final = sa.TIMESTAMP(timezone=True)


PRIORITIES: Final = ("low", "medium", "high", "critical")


def one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    """Return the constraint that ``column`` holds one of ``values``, or null."""
    quoted = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({quoted})", name=column)


def tenant_column() -> sa.Column[str]:
    """Return the column that leads every key. Collation C compares bytes, which keeps index probes cheap."""
    return sa.Column("tenant_id", sa.Text(collation="C"), nullable=False, comment="Whose row this is")


TENANTS: Final = sa.Table(
    "tenants",
    METADATA,
    tenant_column(),
    sa.Column("timezone", sa.Text, nullable=False, comment="IANA time zone that decides what 'today' is"),
    sa.Column(
        "clock_at",
        MOMENT,
        comment="The moment at which this tenant's records end; null means the present",
    ),
    sa.PrimaryKeyConstraint("tenant_id"),
    schema="platform",
    comment="Who the data belongs to, and in which time zone and at which moment they live",
)

ANALYSTS: Final = sa.Table(
    "analysts",
    METADATA,
    sa.Column("role_name", sa.Text, nullable=False, comment="The database role that logs in"),
    sa.Column("tenant_id", sa.Text(collation="C"), nullable=False, comment="Whose rows it sees; * for everybody's"),
    sa.PrimaryKeyConstraint("role_name", "tenant_id"),
    schema="platform",
    comment="Which database role may see which tenant's rows",
)

# Append-only and without a key on purpose: writers never wait for each other here, and a reader deletes exactly
# the marks that it can see (architecture, decision 3).
STALE_MARKS: Final = sa.Table(
    "stale_marks",
    METADATA,
    tenant_column(),
    sa.Column("consumer", sa.Text, nullable=False, comment="Who has to recompute"),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="What has to be recomputed"),
    sa.Column("entity", sa.Text, nullable=False, comment="Which records changed: engagements, commitments, ..."),
    sa.Column("record_ids", pg.ARRAY(pg.UUID), nullable=False, comment="The changed records, at most 20 of them"),
    sa.Column(
        "marked_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was marked"
    ),
    schema="platform",
    comment="What changed and has not been recomputed yet",
)

ALL_TENANTS: Final = "*"

EVENTS: Final = sa.Table(
    "events",
    METADATA,
    tenant_column(),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("type", sa.Text, nullable=False, comment="commitment_overdue, health_score_dropped, ..."),
    sa.Column("entity_type", sa.Text, nullable=False, comment="What it happened to: commitment, dossier, ..."),
    sa.Column("entity_id", pg.UUID, nullable=False, comment="Which one"),
    sa.Column("payload", pg.JSONB, nullable=False, comment="What was so at that moment"),
    sa.Column("occurred_at", MOMENT, nullable=False, comment="As of which moment it happened"),
    sa.Column(
        "recorded_at",
        MOMENT,
        nullable=False,
        server_default=sa.text("clock_timestamp()"),
        comment="When it was written",
    ),
    sa.Column("run_id", sa.Text, comment="The Dagster run"),
    sa.Column("dedupe_key", sa.Text, nullable=False, comment="The same happening is recorded once under it"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "dedupe_key"),
    schema="platform",
    comment="What happened, append-only, written in the transaction of the change that it reports",
)
sa.Index("events_type_occurred_idx", EVENTS.c.tenant_id, EVENTS.c.type, EVENTS.c.occurred_at)

JOB_LEASES: Final = sa.Table(
    "job_leases",
    METADATA,
    sa.Column(
        "tenant_id", sa.Text(collation="C"), nullable=False, comment="Whose job; * for one that works for all tenants"
    ),
    sa.Column("job", sa.Text, nullable=False, comment="What is never done twice at once"),
    sa.Column("holder", sa.Text, comment="The run that holds it; null while it is free"),
    sa.Column(
        "fencing_number", sa.BigInteger, nullable=False, comment="One more for each holder; older ones are refused"
    ),
    sa.Column("acquired_at", MOMENT, comment="Since when"),
    sa.Column("expires_at", MOMENT, comment="Until when, unless it is renewed"),
    sa.Column("ended_at", MOMENT, comment="When the last holder let go, or was found dead"),
    sa.Column("ended_because", sa.Text, comment="released, expired or abandoned"),
    sa.PrimaryKeyConstraint("tenant_id", "job"),
    schema="platform",
    comment="Who does which job right now",
)

AUDIT_LOG: Final = sa.Table(
    "audit_log",
    METADATA,
    sa.Column(
        "tenant_id", sa.Text(collation="C"), nullable=False, comment="Whose; * for a job that works for all tenants"
    ),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("action_type", sa.Text, nullable=False, comment="background_job_execution, ..."),
    sa.Column("entity_type", sa.Text, nullable=False, comment="What it was done to"),
    sa.Column("run_id", sa.Text, comment="The Dagster run"),
    sa.Column(
        "details",
        pg.JSONB,
        nullable=False,
        comment="Of a job: job_name, status, results, execution_time_ms, started_at, error",
    ),
    sa.Column(
        "recorded_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was noted"
    ),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    schema="platform",
    comment="What was done, by which run, and how it ended",
)
sa.Index(
    "audit_log_run_idx",
    AUDIT_LOG.c.tenant_id,
    AUDIT_LOG.c.run_id,
    unique=True,
    postgresql_where=sa.text("action_type = 'background_job_execution'"),
)
sa.Index("audit_log_job_idx", AUDIT_LOG.c.tenant_id, sa.text("(details ->> 'job_name')"), AUDIT_LOG.c.recorded_at)

JOB_ALERTS: Final = sa.Table(
    "job_alerts",
    METADATA,
    sa.Column("tenant_id", sa.Text(collation="C"), nullable=False, comment="* for a job that works for all tenants"),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("job", sa.Text, nullable=False, comment="Which job"),
    sa.Column("condition", sa.Text, nullable=False, comment="failing, missed, slow, slower or unreliable"),
    sa.Column("said", sa.Text, nullable=False, comment="In words"),
    sa.Column(
        "raised_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was noticed"
    ),
    sa.Column("cleared_at", MOMENT, comment="When it was over; null while it lasts"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    schema="platform",
    comment="Troubles of jobs: each is told once until it clears",
)
sa.Index(
    "job_alerts_open_idx",
    JOB_ALERTS.c.tenant_id,
    JOB_ALERTS.c.job,
    JOB_ALERTS.c.condition,
    unique=True,
    postgresql_where=sa.text("cleared_at IS NULL"),
)

DAILY_JOBS: Final = sa.Table(
    "daily_jobs",
    METADATA,
    tenant_column(),
    sa.Column("job", sa.Text, nullable=False, comment="Which job"),
    sa.Column("day", sa.Date, nullable=False, comment="The tenant's own day"),
    sa.Column("run_id", sa.Text, nullable=False, comment="The Dagster run"),
    sa.Column("done_at", MOMENT, nullable=False, comment="When it was done"),
    sa.Column("reaches_to", MOMENT, comment="When the next is due, to which it looks ahead; null: not noted yet"),
    sa.PrimaryKeyConstraint("tenant_id", "job", "day"),
    schema="platform",
    comment="Which daily job is done for which day of each tenant",
)
