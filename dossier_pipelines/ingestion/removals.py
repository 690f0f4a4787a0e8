"""What becomes of the records that a source no longer has: removed, or kept where too many are gone at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dossier_pipelines.ingestion import merge
from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.sources.source import Rows
from dossier_pipelines.ingestion.working_tables import WorkingTables
from dossier_pipelines.shared.environment import Settings


@dataclass(frozen=True, kw_only=True)
class Removals:
    """What one load does about the records that are gone from its source."""

    wanted: bool = False
    """Whether they are removed at all."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Tenants of which too many are gone, and how many: theirs are not removed."""
    refusal: str | None = None
    """Why the load must change nothing, where its only tenant is such a one."""


def judge_removals(
    execute: Callable[[str], sa.CursorResult[Any]],
    entity: Entity,
    rows: Rows,
    tables: WorkingTables,
    settings: Settings,
) -> Removals:
    """Decide what happens to the records that ``rows`` no longer has; ``execute`` runs a statement of the load.

    Any record may be the one behind a row whose id cannot be read; then none counts as vanished.
    """
    if not settings.full_refresh or rows.malformed or execute(merge.unidentified_statement(tables)).scalar_one():
        return Removals()
    ceiling = settings.max_removed_share
    vanished = execute(merge.vanished_count_statement(entity, tables))
    excessive = [found for found in vanished if found.vanished / found.loaded > ceiling]
    refusal = None
    if excessive and not entity.tenant:
        [found] = excessive
        refusal = (
            f"{rows.label}: {found.vanished} of {found.loaded} loaded records are gone from the source, more than the "
            f"share of {ceiling:.0%} that DOSSIER_MAX_REMOVED_SHARE allows. Nothing was changed."
        )
    return Removals(wanted=True, kept={found.tenant_id: found.vanished for found in excessive}, refusal=refusal)
