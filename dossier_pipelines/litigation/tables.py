"""The tables of the litigation desk: source-owned records and what is found in them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from dossier_pipelines.ingestion.tables import raw_table
from dossier_pipelines.shared.tables import METADATA, MOMENT, PRIORITIES, one_of, tenant_column

TASK_STATUSES: Final = ("pending", "in_progress", "completed", "cancelled")
OPEN: Final = "status IN ('pending', 'in_progress')"
HEARING_STATUSES: Final = ("scheduled", "completed", "adjourned", "cancelled")
# Ten years: beyond it a moment that so many hours are added to may be none.
HOURS_OF_SERVICE: Final = "hours > 0 AND hours <= 87600"
METRICS: Final = (
    "case_count",
    "task_completion_rate",
    "sla_compliance_rate",
    "hearing_attendance_rate",
    "document_count",
    "overdue_tasks",
)

TENANTS: Final = raw_table(
    "tenants",
    "The parties that the desk works for, each apart from the others",
    sa.Column("name", sa.Text, nullable=False, comment="Name"),
    sa.Column("timezone", sa.Text, nullable=False, comment="IANA time zone in which its days begin and its jobs run"),
    sa.Column("settings", pg.JSONB, comment="What the tenant sets for itself"),
)

COURTS: Final = raw_table(
    "courts",
    "Courts and tribunals",
    sa.Column("name", sa.Text, nullable=False, comment="Name"),
    sa.Column("city", sa.Text, comment="City"),
)

CASES: Final = raw_table(
    "cases",
    "Cases before courts, and on their way there",
    sa.Column("case_number", sa.Text, nullable=False, comment="Number under which people know it"),
    sa.Column("title", sa.Text, comment="What it is about"),
    sa.Column("status", sa.Text, comment="As the source calls it"),
    sa.Column("owner_id", pg.UUID, comment="The user who answers for it"),
    sa.Column("assigned_to", pg.UUID, comment="The advocate"),
    sa.Column("court_id", pg.UUID, comment="The court"),
    sa.Column("created_at", MOMENT, nullable=False, comment="When it was opened"),
    sa.Column("closed_at", MOMENT, comment="When it was closed; null while it is active"),
)

TASKS: Final = raw_table(
    "tasks",
    "What has to be done in a case, by when",
    sa.Column("case_id", pg.UUID, nullable=False, comment="The case"),
    sa.Column("title", sa.Text, nullable=False, comment="What has to be done"),
    sa.Column("status", sa.Text, nullable=False, comment="pending, in_progress, completed or cancelled"),
    sa.Column("priority", sa.Text, nullable=False, server_default="medium", comment="low, medium, high or critical"),
    sa.Column("assigned_to", pg.UUID, comment="The user who does it"),
    sa.Column("created_at", MOMENT, nullable=False, comment="When it was set"),
    sa.Column("due_date", MOMENT, comment="When it is due; null: never"),
    sa.Column("completed_at", MOMENT, comment="When it was done"),
    one_of("status", TASK_STATUSES),
    one_of("priority", PRIORITIES),
)
# What the check of due dates, the alerts of the next 24 hours and the check of ages look through: open tasks.
sa.Index("tasks_open_due_idx", TASKS.c.tenant_id, TASKS.c.due_date, postgresql_where=sa.text(OPEN))
sa.Index(
    "tasks_open_created_idx", TASKS.c.tenant_id, TASKS.c.priority, TASKS.c.created_at, postgresql_where=sa.text(OPEN)
)

HEARINGS: Final = raw_table(
    "hearings",
    "Hearings of cases",
    sa.Column("case_id", pg.UUID, nullable=False, comment="The case"),
    sa.Column("court_id", pg.UUID, comment="The court, where it is not that of the case"),
    sa.Column("hearing_date", MOMENT, nullable=False, comment="When it begins"),
    sa.Column("status", sa.Text, nullable=False, comment="scheduled, completed, adjourned or cancelled"),
    sa.Column("attended", sa.Boolean, comment="Whether somebody was there for the tenant; null: not known"),
    sa.Column("notes", sa.Text, comment="Notes"),
    one_of("status", HEARING_STATUSES),
)
# What the reminders and the alerts look through: hearings to come.
sa.Index(
    "hearings_scheduled_idx",
    HEARINGS.c.tenant_id,
    HEARINGS.c.hearing_date,
    postgresql_where=sa.text("status = 'scheduled'"),
)

CASE_DOCUMENTS: Final = raw_table(
    "case_documents",
    "Documents of a case",
    sa.Column("case_id", pg.UUID, nullable=False, comment="The case"),
    sa.Column("uploaded_at", MOMENT, nullable=False, comment="When it was uploaded"),
)

SLA_POLICIES: Final = raw_table(
    "sla_policies",
    "Within how many hours a tenant wants tasks of a priority done",
    sa.Column("priority", sa.Text, nullable=False, comment="low, medium, high or critical"),
    sa.Column("hours", sa.Numeric, nullable=False, comment="Hours from when the task was set"),
    one_of("priority", PRIORITIES),
    sa.CheckConstraint(HOURS_OF_SERVICE, name="hours"),
    # A load may swap the priorities of two policies, or bring one before it removes the other.
    sa.UniqueConstraint("tenant_id", "priority", deferrable=True, initially="DEFERRED"),
)

# Append-only and without a key, as platform.stale_marks.
TASK_MARKS: Final = sa.Table(
    "task_marks",
    METADATA,
    tenant_column(),
    sa.Column("task_id", pg.UUID, comment="A task that came, changed or is gone; null: all of the tenant"),
    sa.Column(
        "came",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="Whether it came and was not known before",
    ),
    schema="litigation",
    comment="Tasks that the next check of service levels has to look at, whatever the time",
)

TASK_CHECKS: Final = sa.Table(
    "task_checks",
    METADATA,
    tenant_column(),
    sa.Column("checked_since", MOMENT, nullable=False, comment="As of which moment they were judged first"),
    sa.Column("checked_until", MOMENT, nullable=False, comment="As of which moment all tasks are judged"),
    sa.Column("grace", sa.Interval, comment="By how much a due date must have passed then; null: not noted yet"),
    sa.PrimaryKeyConstraint("tenant_id"),
    schema="litigation",
    comment="How far the check of service levels has come; what is due later is found by its date",
)

TASK_FLAGS: Final = sa.Table(
    "task_flags",
    METADATA,
    tenant_column(),
    sa.Column("task_id", pg.UUID, nullable=False, comment="The task"),
    sa.Column("overdue_since", MOMENT, comment="The due date that passed, while it is not done; null: not overdue"),
    sa.Column("sla_missed_at", MOMENT, comment="When the hours of its priority were over, while it is not done"),
    sa.Column("flagged_at", MOMENT, nullable=False, comment="As of which moment this was found"),
    sa.PrimaryKeyConstraint("tenant_id", "task_id"),
    sa.CheckConstraint("overdue_since IS NOT NULL OR sla_missed_at IS NOT NULL", name="flagged"),
    schema="litigation",
    comment="The tasks that are overdue or miss their service level now",
)

TASK_HISTORY: Final = sa.Table(
    "task_history",
    METADATA,
    tenant_column(),
    sa.Column("task_id", pg.UUID, nullable=False, comment="The task"),
    sa.Column("ordinal", sa.Integer, nullable=False, comment="In the order of learning"),
    sa.Column("status", sa.Text, nullable=False, comment="The status that it got"),
    sa.Column("valid_from", MOMENT, nullable=False, comment="From when on it holds"),
    sa.PrimaryKeyConstraint("tenant_id", "task_id", "ordinal"),
    one_of("status", TASK_STATUSES),
    schema="litigation",
    comment="Every change of a task's status, kept by triggers",
)

DAILY_METRICS: Final = sa.Table(
    "daily_metrics",
    METADATA,
    tenant_column(),
    sa.Column("metric", sa.Text, nullable=False, comment="case_count, task_completion_rate, ..."),
    sa.Column("day", sa.Date, nullable=False, comment="The day, in the tenant's time zone, as of whose end it is"),
    sa.Column("value", sa.Double, comment="A number, or a rate from 0 to 1; null: nothing under the rate"),
    sa.PrimaryKeyConstraint("tenant_id", "day", "metric"),
    one_of("metric", METRICS),
    schema="litigation",
    comment="The metrics of every tenant and day",
)
METRIC_MARKS: Final = sa.Table(
    "metric_marks",
    METADATA,
    tenant_column(),
    sa.Column("since", MOMENT, comment="From when on its records say something else; null: always"),
    sa.Column(
        "marked_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was marked"
    ),
    sa.Column(
        "taken", sa.Boolean, nullable=False, server_default=sa.text("false"), comment="A restating has begun with it"
    ),
    schema="litigation",
    comment="Tenants whose daily metrics a change of their records has overtaken; taken away by a restating",
)

METRIC_REACH: Final = sa.Table(
    "metric_reach",
    METADATA,
    tenant_column(),
    sa.Column("newest_day", sa.Date, nullable=False, comment="The newest day that has, or gets, its metrics"),
    sa.Column(
        "grace",
        sa.Interval,
        nullable=False,
        comment="By how much a due date must have passed for a task to be overdue on its days",
    ),
    sa.PrimaryKeyConstraint("tenant_id"),
    schema="litigation",
    comment="Up to which day metrics go, told before they are taken: what is written then leaves marks",
)

ANOMALIES: Final = sa.Table(
    "anomalies",
    METADATA,
    tenant_column(),
    sa.Column("metric", sa.Text, nullable=False, comment="The metric"),
    sa.Column("day", sa.Date, nullable=False, comment="The day"),
    sa.Column("detector", sa.Text, nullable=False, comment="percent_off_mean_7d (the original rule) or weekday_robust"),
    sa.Column("value", sa.Double, nullable=False, comment="What it was"),
    sa.Column("expected", sa.Double, nullable=False, comment="What the detector expected"),
    sa.Column("low", sa.Double, nullable=False, comment="The least that it would have taken for usual"),
    sa.Column("high", sa.Double, nullable=False, comment="The most"),
    sa.Column("deviation", sa.Double, nullable=False, comment="Value less expected"),
    sa.Column("records", pg.JSONB, comment="What happened on the day: [{record, ids, count}]; robust detector only"),
    sa.PrimaryKeyConstraint("tenant_id", "metric", "day", "detector"),
    schema="litigation",
    comment="Days on which a metric was not as it usually is",
)
