"""What the litigation desk reads from a source of many tenants, and the promises that the rows keep.

Source: the entity table of the litigation specification. The order of ENTITIES is the order of loading. Every row says
in ``tenant_id`` whose it is; a tenant whose rows are bad beyond the configured share is refused alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dossier_pipelines.automation_rules.entities import AUTOMATION_RULES
from dossier_pipelines.ingestion.entity import Column, Entity, Kind, Rule
from dossier_pipelines.ingestion.users import USERS_COLUMNS, USERS_TABLE
from dossier_pipelines.litigation import tables
from dossier_pipelines.shared.tables import PRIORITIES

TENANT: Final = "tenant_id"
KEY: Final = Column(name="id", kind=Kind.KEY, column_required=True, value_required=True)
IN_CASE: Final = Column(
    name="case_id",
    kind=Kind.REFERENCE,
    references="cases",
    must_exist=True,
    column_required=True,
    value_required=True,
)
ASSIGNED: Final = Column(name="assigned_to", kind=Kind.REFERENCE, references="users")
AT_COURT: Final = Column(name="court_id", kind=Kind.REFERENCE, references="courts")
CREATED: Final = Column(name="created_at", kind=Kind.MOMENT, column_required=True, value_required=True)

TENANTS: Final = Entity(
    name="tenants",
    table=tables.TENANTS,
    tenant="id",
    founds_tenants=True,
    order=("id",),
    columns=(
        KEY,
        Column(name="name", column_required=True, value_required=True),
        # Nobody's 08:00 can be guessed: a tenant without a zone is set aside, and its records with it.
        Column(name="timezone", kind=Kind.TIMEZONE, column_required=True, value_required=True),
        Column(name="settings", kind=Kind.JSON),
    ),
)

USERS: Final = Entity(
    name="users",
    label="litigation users",
    table=USERS_TABLE,
    tenant=TENANT,
    optional=True,
    order=("id",),
    columns=USERS_COLUMNS,
)

COURTS: Final = Entity(
    name="courts",
    table=tables.COURTS,
    tenant=TENANT,
    optional=True,
    order=("id",),
    columns=(KEY, Column(name="name", column_required=True, value_required=True), Column(name="city")),
)

CASES: Final = Entity(
    name="cases",
    table=tables.CASES,
    tenant=TENANT,
    order=("created_at",),
    columns=(
        KEY,
        Column(name="case_number", column_required=True, value_required=True),
        Column(name="title"),
        Column(name="status"),
        Column(name="owner_id", kind=Kind.REFERENCE, references="users"),
        ASSIGNED,
        AT_COURT,
        CREATED,
        Column(name="closed_at", kind=Kind.MOMENT),
    ),
    rules=(
        Rule(
            broken="closed_at < created_at",
            reason="format('closed_at %L is before created_at %L', closed_at, created_at)",
        ),
    ),
)

TASKS: Final = Entity(
    name="tasks",
    table=tables.TASKS,
    tenant=TENANT,
    parent=CASES,
    order=("due_date",),
    columns=(
        KEY,
        IN_CASE,
        Column(name="title", column_required=True, value_required=True),
        Column(
            name="status", kind=Kind.CHOICE, choices=tables.TASK_STATUSES, column_required=True, value_required=True
        ),
        Column(name="priority", kind=Kind.CHOICE, choices=PRIORITIES, column_required=True, value_required=True),
        ASSIGNED,
        CREATED,
        Column(name="due_date", kind=Kind.MOMENT, column_required=True),
        Column(name="completed_at", kind=Kind.MOMENT),
    ),
    rules=(
        Rule(
            broken="completed_at < created_at",
            reason="format('completed_at %L is before created_at %L', completed_at, created_at)",
        ),
    ),
)

HEARINGS: Final = Entity(
    name="hearings",
    table=tables.HEARINGS,
    tenant=TENANT,
    parent=CASES,
    optional=True,
    order=("hearing_date",),
    columns=(
        KEY,
        IN_CASE,
        AT_COURT,
        Column(name="hearing_date", kind=Kind.MOMENT, column_required=True, value_required=True),
        Column(
            name="status", kind=Kind.CHOICE, choices=tables.HEARING_STATUSES, column_required=True, value_required=True
        ),
        Column(name="attended", kind=Kind.BOOLEAN),
        Column(name="notes"),
    ),
)

CASE_DOCUMENTS: Final = Entity(
    name="documents",
    label="litigation documents",
    table=tables.CASE_DOCUMENTS,
    tenant=TENANT,
    parent=CASES,
    optional=True,
    order=("uploaded_at",),
    columns=(
        KEY,
        IN_CASE,
        Column(name="uploaded_at", kind=Kind.MOMENT, column_required=True, value_required=True),
    ),
)

SLA_POLICIES: Final = Entity(
    name="sla_policies",
    table=tables.SLA_POLICIES,
    tenant=TENANT,
    optional=True,
    order=("id",),
    columns=(
        KEY,
        Column(name="priority", kind=Kind.CHOICE, choices=PRIORITIES, column_required=True, value_required=True),
        Column(name="hours", kind=Kind.NUMBER, column_required=True, value_required=True),
    ),
    rules=(
        Rule(
            broken=f"NOT ({tables.HOURS_OF_SERVICE})",
            reason="format('hours %L must be more than 0 and at most 87600, ten years', left(CAST(hours AS text), 80))",
        ),
    ),
    unique=("priority",),
)

ENTITIES: Final[dict[str, Entity]] = {
    entity.name: entity
    for entity in (
        TENANTS,
        USERS,
        COURTS,
        CASES,
        TASKS,
        HEARINGS,
        CASE_DOCUMENTS,
        SLA_POLICIES,
        replace(AUTOMATION_RULES, tenant=TENANT),
    )
}
