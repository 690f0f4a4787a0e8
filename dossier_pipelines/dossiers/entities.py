"""What the dossiers desk reads from a source: five entities and the promises that their rows keep.

Source: the entity table of the dossiers specification. The order of ENTITIES is the order of loading, since a
row refers to rows loaded before it.
"""

from __future__ import annotations

from typing import Final

from dossier_pipelines.dossiers import tables
from dossier_pipelines.ingestion.entity import Column, Entity, Kind, Rule

KEY: Final = Column(name="id", kind=Kind.KEY, column_required=True, value_required=True)
IN_DOSSIER: Final = Column(
    name="dossier_id",
    kind=Kind.REFERENCE,
    references="dossiers",
    must_exist=True,
    column_required=True,
    value_required=True,
)
OWNED: Final = Column(name="owner_id", kind=Kind.REFERENCE, references="users")
CREATED: Final = Column(name="created_at", kind=Kind.MOMENT)

USERS: Final = Entity(
    name="users",
    table=tables.USERS,
    optional=True,
    order=("id",),
    columns=(
        KEY,
        Column(name="name"),
        Column(name="email"),
        Column(name="phone"),
        Column(name="role"),
        Column(name="locale"),
        Column(name="timezone", kind=Kind.TIMEZONE),
        Column(name="whatsapp", kind=Kind.BOOLEAN),
    ),
)

DOSSIERS: Final = Entity(
    name="dossiers",
    table=tables.DOSSIERS,
    order=("id",),
    columns=(
        KEY,
        Column(name="name", column_required=True, value_required=True),
        Column(name="type"),
        Column(name="region"),
        Column(name="bloc"),
        Column(name="classification"),
        OWNED,
        CREATED,
    ),
)

ENGAGEMENTS: Final = Entity(
    name="engagements",
    table=tables.ENGAGEMENTS,
    parent=DOSSIERS,
    order=("dossier_id", "occurred_at"),
    columns=(
        KEY,
        IN_DOSSIER,
        Column(name="type"),
        Column(name="description"),
        Column(name="occurred_at", kind=Kind.MOMENT, column_required=True, value_required=True),
        CREATED,
    ),
)

COMMITMENTS: Final = Entity(
    name="commitments",
    table=tables.COMMITMENTS,
    parent=DOSSIERS,
    order=("dossier_id", "due_date"),
    # A source knows nothing of our mark: while it calls the commitment open and due on the same day, the mark stays.
    kept={
        "status": "CASE WHEN loaded.status = 'overdue' AND excluded.status IN ('pending', 'in_progress') "
        "AND excluded.due_date IS NOT DISTINCT FROM loaded.due_date THEN loaded.status ELSE excluded.status END"
    },
    columns=(
        KEY,
        IN_DOSSIER,
        Column(name="description"),
        Column(name="status", kind=Kind.CHOICE, choices=tables.STATUSES, column_required=True, value_required=True),
        Column(name="due_date", kind=Kind.DATE, column_required=True),
        OWNED,
        Column(name="external_contact"),
        Column(name="priority", kind=Kind.CHOICE, choices=tables.PRIORITIES),
        CREATED,
        Column(name="updated_at", kind=Kind.MOMENT),
        Column(name="completed_at", kind=Kind.MOMENT),
        Column(name="cancelled_at", kind=Kind.MOMENT),
    ),
    rules=(
        Rule(
            broken="due_date < CAST(created_at AT TIME ZONE :timezone AS date)",
            reason="format('due_date %s is before the day of created_at, %s', due_date, "
            "CAST(created_at AT TIME ZONE :timezone AS date))",
        ),
    ),
)

DOCUMENTS: Final = Entity(
    name="documents",
    table=tables.DOCUMENTS,
    optional=True,
    parent=DOSSIERS,
    order=("dossier_id",),
    columns=(KEY, IN_DOSSIER, Column(name="type"), CREATED),
)

ENTITIES: Final[dict[str, Entity]] = {
    entity.name: entity for entity in (USERS, DOSSIERS, ENGAGEMENTS, COMMITMENTS, DOCUMENTS)
}
