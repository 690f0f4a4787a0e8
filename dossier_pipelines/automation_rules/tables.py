"""The tables of the room: rules, what they are about to do, what they did, and the alerts about their health."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from dossier_pipelines.ingestion.tables import raw_table
from dossier_pipelines.shared.tables import METADATA, MOMENT, tenant_column

OPEN: Final = "status IN ('pending', 'failed')"

AUTOMATION_RULES: Final = raw_table(
    "automation_rules",
    "When an event happens and a condition on its payload holds, actions are done",
    sa.Column("name", sa.Text, nullable=False, comment="What people call it"),
    sa.Column("trigger_event", sa.Text, nullable=False, comment="The type of the events that it answers"),
    sa.Column(
        "condition",
        sa.Text,
        comment="SQL/JSON path over the payload: holds when it gives anything besides false and null; null: always",
    ),
    sa.Column("actions", pg.JSONB, nullable=False, comment="What is done: notify, webhook, create_task, set_field"),
    sa.Column("enabled", sa.Boolean, comment="false: it answers nothing; null counts as true"),
    sa.Column(
        "active_since",
        MOMENT,
        nullable=False,
        server_default=sa.text("clock_timestamp()"),
        comment="It answers what is recorded from here on; anew when it is enabled or gets another event or condition",
    ),
)
sa.Index(
    "automation_rules_event_idx",
    AUTOMATION_RULES.c.tenant_id,
    AUTOMATION_RULES.c.trigger_event,
    postgresql_where=sa.text("enabled IS NOT FALSE"),
)

FORMER_TENANTS: Final = sa.Table(
    "former_tenants",
    METADATA,
    tenant_column(),
    sa.Column(
        "removed_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was removed"
    ),
    sa.PrimaryKeyConstraint("tenant_id"),
    schema="automation_rules",
    comment="Tenants that their desk has no more: their rules answer nothing and are not judged",
)

# Append-only marks, as platform.stale_marks: a writer of events never waits here.
UNMATCHED: Final = sa.Table(
    "unmatched",
    METADATA,
    tenant_column(),
    sa.Column("event_id", pg.UUID, nullable=False, comment="An event that some rule listens to"),
    sa.Column("depth", sa.Integer, nullable=False, comment="How many rules, one causing the next, led to it"),
    schema="automation_rules",
    comment="Events that no rule has looked at yet; taken by whoever matches them",
)

EXECUTIONS: Final = sa.Table(
    "executions",
    METADATA,
    tenant_column(),
    sa.Column("rule_id", pg.UUID, nullable=False, comment="The rule that answers"),
    sa.Column("event_id", pg.UUID, nullable=False, comment="The event that it answers"),
    sa.Column("depth", sa.Integer, nullable=False, comment="How many rules, one causing the next, led to the event"),
    sa.Column("status", sa.Text, nullable=False, comment="pending, success, failed (tried again) or dead (given up)"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0"), comment="How often it was tried"),
    sa.Column(
        "next_attempt_at",
        MOMENT,
        nullable=False,
        server_default=sa.text("clock_timestamp()"),
        comment="From when on it is due",
    ),
    sa.Column(
        "done",
        pg.ARRAY(sa.Text),
        nullable=False,
        server_default=sa.text("'{}'"),
        comment="The actions that succeeded and are not done again: the MD5 hash of each, and which of equal ones",
    ),
    sa.Column("last_error", sa.Text, comment="Why the last attempt failed, or why it was given up"),
    sa.Column(
        "matched_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was decided"
    ),
    sa.Column("executed_at", MOMENT, comment="As of which moment it was last tried"),
    sa.Column("run_id", sa.Text, comment="The Dagster run of the last attempt"),
    sa.PrimaryKeyConstraint("tenant_id", "rule_id", "event_id"),
    sa.CheckConstraint("status IN ('pending', 'success', 'failed', 'dead')", name="status"),
    schema="automation_rules",
    comment="One row per event and rule that answers it: done once, whatever is run again",
)
sa.Index(
    "executions_due_idx",
    EXECUTIONS.c.tenant_id,
    EXECUTIONS.c.rule_id,
    EXECUTIONS.c.next_attempt_at,
    postgresql_where=sa.text(OPEN),
)
sa.Index("executions_next_idx", EXECUTIONS.c.next_attempt_at, postgresql_where=sa.text(OPEN))

AUTOMATION_LOGS: Final = sa.Table(
    "automation_logs",
    METADATA,
    tenant_column(),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("rule_id", pg.UUID, nullable=False, comment="The rule"),
    sa.Column("rule_name", sa.Text, nullable=False, comment="What it was called then"),
    sa.Column("trigger_event", sa.Text, nullable=False, comment="The type of the event"),
    sa.Column("event_id", pg.UUID, nullable=False, comment="The event"),
    sa.Column("status", sa.Text, nullable=False, comment="success, or failed: at least one action failed"),
    sa.Column("actions_executed", pg.JSONB, nullable=False, comment="[{n, action, status, error}] of this attempt"),
    sa.Column("error_message", sa.Text, comment="What failed, in words"),
    sa.Column("executed_at", MOMENT, nullable=False, comment="As of which moment it was tried"),
    sa.Column("run_id", sa.Text, comment="The Dagster run"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.CheckConstraint("status IN ('success', 'failed')", name="status"),
    schema="automation_rules",
    comment="Every attempt to answer an event and how it ended, and every webhook of a rule that was given up later",
)
# What health reads of a tenant, and of a rule, by index-only scans.
sa.Index(
    "automation_logs_tenant_idx",
    AUTOMATION_LOGS.c.tenant_id,
    AUTOMATION_LOGS.c.executed_at,
    postgresql_include=["status"],
)
sa.Index(
    "automation_logs_rule_idx",
    AUTOMATION_LOGS.c.tenant_id,
    AUTOMATION_LOGS.c.rule_id,
    AUTOMATION_LOGS.c.executed_at,
    postgresql_include=["status"],
)

HEALTH_ALERTS: Final = sa.Table(
    "health_alerts",
    METADATA,
    tenant_column(),
    sa.Column(
        "id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()"), comment="Names it everywhere"
    ),
    sa.Column("level", sa.Text, nullable=False, comment="CRITICAL, WARNING or INFO"),
    sa.Column("condition", sa.Text, nullable=False, comment="degraded, inactive or overall"),
    sa.Column("rule_id", pg.UUID, comment="The rule; null for overall"),
    sa.Column("said", sa.Text, nullable=False, comment="In words"),
    sa.Column("raised_at", MOMENT, nullable=False, comment="As of which moment it was noticed"),
    sa.Column("cleared_at", MOMENT, comment="As of which moment it was over; null while it lasts"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.CheckConstraint("level IN ('CRITICAL', 'WARNING', 'INFO')", name="level"),
    sa.CheckConstraint("condition IN ('degraded', 'inactive', 'overall')", name="condition"),
    schema="automation_rules",
    comment="Troubles of rules: each is told to the administrators once, until it is over",
)
sa.Index(
    "health_alerts_open_idx",
    HEALTH_ALERTS.c.tenant_id,
    HEALTH_ALERTS.c.condition,
    HEALTH_ALERTS.c.rule_id,
    unique=True,
    postgresql_nulls_not_distinct=True,
    postgresql_where=sa.text("cleared_at IS NULL"),
)
