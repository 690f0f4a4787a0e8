"""What the room reads from a source: rules, refused with the reason when they could not be carried out."""

from __future__ import annotations

from typing import Final

from dossier_pipelines.automation_rules import tables
from dossier_pipelines.ingestion.entity import Column, Entity, Kind, Rule

# Syntax is judged by the kinds of the columns; what else the table refuses is said here, in the same words.
AUTOMATION_RULES: Final = Entity(
    name="automation_rules",
    table=tables.AUTOMATION_RULES,
    optional=True,
    order=("id",),
    columns=(
        Column(name="id", kind=Kind.KEY, column_required=True, value_required=True),
        Column(name="name", column_required=True, value_required=True),
        Column(name="trigger_event", column_required=True, value_required=True),
        Column(name="condition", kind=Kind.JSON_PATH),
        Column(name="actions", kind=Kind.JSON, column_required=True, value_required=True),
        Column(name="enabled", kind=Kind.BOOLEAN),
    ),
    rules=tuple(
        Rule(broken=f"{said} IS NOT NULL", reason=said)
        for said in ("automation_rules.condition_problem(condition)", "automation_rules.actions_problem(actions)")
    ),
)
