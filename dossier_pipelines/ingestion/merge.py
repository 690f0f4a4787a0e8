"""The SQL that takes checked rows into the raw table: what is new, changed and gone; bad rows are set aside.

All in sets; Python only writes the statements. Names of target columns come from declared tables.
"""

from __future__ import annotations

from typing import Any, Final

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.staged import Bound, StagedColumns
from dossier_pipelines.ingestion.working_tables import WorkingTables
from dossier_pipelines.shared.tables import ALL_TENANTS


def counts_statement(tables: WorkingTables) -> str:
    """Count the checked rows by what becomes of them."""
    return f"""
SELECT count(*) AS checked,
    count(*) FILTER (WHERE problem IS NOT NULL) AS rejected,
    count(*) FILTER (WHERE problem IS NULL AND unchanged) AS unchanged,
    count(*) FILTER (WHERE problem IS NULL AND removed) AS tombstones
FROM {tables.checked}"""


def updates_statement(entity: Entity, tables: WorkingTables) -> str:
    """Count the good rows whose id is loaded already, with other content."""
    return f"""
SELECT count(*) FROM {tables.checked} AS checked
JOIN {entity.target} AS loaded ON loaded.tenant_id = {entity.tenant_of("checked")} AND loaded.id = checked.id
WHERE checked.problem IS NULL AND NOT checked.unchanged AND NOT checked.removed"""


def merge_statement(entity: Entity, tables: WorkingTables, *, updating: bool) -> str:
    """Insert the new rows and update the changed ones; the checked table lies in the order of later reading.

    Where nothing is to be updated, a plain INSERT saves the probe and the second write of ON CONFLICT.
    """
    own = [*entity.names, "source_key", "extra", "source_hash"]
    updates = ", ".join(f"{name} = {entity.kept.get(name, f'excluded.{name}')}" for name in own if name != "id")
    on_conflict = f"\nON CONFLICT (tenant_id, id) DO UPDATE SET {updates}" if updating else ""
    return f"""
INSERT INTO {entity.target} AS loaded (tenant_id, {", ".join(own)})
SELECT {entity.tenant_of("checked")}, {", ".join(own)} FROM {tables.checked} AS checked
WHERE problem IS NULL AND NOT unchanged AND NOT removed{on_conflict}"""


def tombstones_statement(entity: Entity, tables: WorkingTables) -> str:
    """Remove the records that the source marks as deleted."""
    return f"""
DELETE FROM {entity.target} AS loaded USING {tables.checked} AS checked
WHERE checked.removed AND checked.problem IS NULL AND loaded.tenant_id = {entity.tenant_of("checked")}
    AND loaded.id = checked.id"""


def unidentified_statement(tables: WorkingTables) -> str:
    """Ask whether some row has no id that could be read."""
    return f"SELECT EXISTS (SELECT FROM {tables.checked} WHERE id IS NULL)"


def _owned(entity: Entity, tables: WorkingTables) -> str:
    """Return the SQL condition that a loaded record is of a tenant that the source speaks of."""
    # What no source gave, no source can miss: a rule created it.
    given = "loaded.source_hash IS NOT NULL AND "
    if entity.tenant:
        return f"{given}loaded.tenant_id IN (SELECT tenant_id FROM {tables.checked})"
    return f"{given}loaded.tenant_id = :tenant_id"


def vanished_count_statement(entity: Entity, tables: WorkingTables) -> str:
    """Count the loaded records, and of them those that the source no longer has."""
    return f"""
SELECT count(*) AS loaded, count(*) FILTER (WHERE NOT {_seen(entity, tables)}) AS vanished
FROM {entity.target} AS loaded
WHERE {_owned(entity, tables)}"""


def vanished_statement(entity: Entity, tables: WorkingTables) -> str:
    """Remove the records that the source no longer has. A bad row still counts as being there."""
    return f"""
DELETE FROM {entity.target} AS loaded WHERE {_owned(entity, tables)} AND NOT {_seen(entity, tables)}"""


def _seen(entity: Entity, tables: WorkingTables) -> str:
    """Return the SQL condition that a loaded record is in the source; one hash of it answers for all."""
    if entity.tenant:
        return (
            f"(loaded.tenant_id, loaded.id) IN (SELECT tenant_id, id FROM {tables.checked} WHERE tenant_id IS NOT NULL)"
        )
    return f"loaded.id IN (SELECT id FROM {tables.checked} WHERE id IS NOT NULL)"


def rejects_statement(entity: Entity, staged: StagedColumns, tables: WorkingTables) -> tuple[str, dict[str, Any]]:
    """Set the bad rows aside as the source gave them.

    Where rows name their tenant, one that names none that is known is nobody's: any tenant's records may be in it.
    """
    bound = Bound()
    whose = ":tenant_id"
    if entity.founds_tenants:
        known = "SELECT t.tenant_id FROM platform.tenants AS t WHERE t.tenant_id = checked.tenant_id"
        whose = f"coalesce(({known}), '{ALL_TENANTS}')"
    elif entity.tenant:
        whose = f"coalesce(checked.tenant_id, '{ALL_TENANTS}')"
    sql = f"""
INSERT INTO ingestion.rejected_rows (tenant_id, entity, source, row_number, reason, raw_row, load_id)
SELECT {whose}, :entity, :source, checked.n + :row_offset, checked.problem, {staged.raw_row(bound)}, :load_id
FROM {tables.checked} AS checked JOIN {tables.stage} AS stage ON stage.n = checked.n
WHERE checked.problem IS NOT NULL"""
    return sql, bound.parameters


MALFORMED: Final = """
INSERT INTO ingestion.rejected_rows (tenant_id, entity, source, row_number, reason, raw_row, load_id)
SELECT :whose, :entity, :source, row_number + :row_offset, reason, jsonb_build_object('line', line), :load_id
FROM unnest(CAST(:malformed AS bigint[]), CAST(:reasons AS text[]), CAST(:lines AS text[]))
    AS malformed (row_number, reason, line)"""
