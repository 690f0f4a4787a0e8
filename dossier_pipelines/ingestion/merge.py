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


def repeats_statement(entity: Entity, tables: WorkingTables, *, removing: bool) -> str:
    """Set aside each good row that repeats ``entity.unique`` of a record that will be there, too.

    What is loaded and unchanged comes first, then the order of the source. A row that is set aside leaves its own
    record as it was loaded, which another row may repeat: it is run until it sets none aside.
    """
    columns = ", ".join(entity.unique)
    whose = entity.tenant_of("checked")
    values = ", ".join(f"CASE WHEN checked.unchanged THEN own.{name} ELSE checked.{name} END" for name in entity.unique)
    own_tenant = "good.tenant_id = loaded.tenant_id AND " if entity.tenant else ""
    stays = f"\n            AND NOT ({_vanished(entity, tables)})" if removing else ""
    return f"""
UPDATE {tables.checked} AS checked
SET problem = CASE WHEN repeated.first_n IS NULL THEN '{columns}: the same as in a record that is loaded'
    ELSE format('{columns}: the same as in row %s', repeated.first_n + :row_offset) END
FROM (
    SELECT n, first_value(n) OVER w AS first_n
    FROM (
        SELECT checked.n, checked.unchanged, {whose}, {values}
        FROM {tables.checked} AS checked
        LEFT JOIN LATERAL (
            SELECT loaded.* FROM {entity.target} AS loaded
            WHERE checked.unchanged AND loaded.tenant_id = {whose} AND loaded.id = checked.id LIMIT 1
        ) AS own ON true
        WHERE checked.problem IS NULL AND NOT checked.removed
        UNION ALL
        SELECT CAST(NULL AS bigint), true, loaded.tenant_id, {", ".join(f"loaded.{name}" for name in entity.unique)}
        FROM {entity.target} AS loaded
        WHERE {_of_its_tenants(entity, tables)} AND NOT EXISTS (
            SELECT FROM {tables.checked} AS good WHERE {own_tenant}good.id = loaded.id AND good.problem IS NULL
        ){stays}
    ) AS present (n, unchanged, tenant_id, {columns})
    WINDOW w AS (PARTITION BY tenant_id, {columns} ORDER BY unchanged DESC, n NULLS FIRST)
) AS repeated
WHERE checked.n = repeated.n AND repeated.first_n IS DISTINCT FROM repeated.n"""


def unidentified_statement(tables: WorkingTables) -> str:
    """Ask whether some row has no id that could be read."""
    return f"SELECT EXISTS (SELECT FROM {tables.checked} WHERE id IS NULL)"


def _of_its_tenants(entity: Entity, tables: WorkingTables) -> str:
    """Return the SQL condition that a loaded record is of a tenant that the source speaks of."""
    if entity.tenant:
        return f"loaded.tenant_id IN (SELECT tenant_id FROM {tables.checked})"
    return "loaded.tenant_id = :tenant_id"


def _owned(entity: Entity, tables: WorkingTables) -> str:
    """Return the SQL condition that the source can miss a loaded record: what none gave, a rule created."""
    return f"loaded.source_hash IS NOT NULL AND {_of_its_tenants(entity, tables)}"


def vanished_count_statement(entity: Entity, tables: WorkingTables) -> str:
    """Count the loaded records of each tenant, and of them those that the source no longer has."""
    return f"""
SELECT loaded.tenant_id, count(*) AS loaded, count(*) FILTER (WHERE NOT {_seen(entity, tables)}) AS vanished
FROM {entity.target} AS loaded
WHERE {_owned(entity, tables)}
GROUP BY loaded.tenant_id"""


def vanished_statement(entity: Entity, tables: WorkingTables) -> str:
    """Remove the records that the source no longer has. A bad row still counts as being there."""
    return f"""
DELETE FROM {entity.target} AS loaded WHERE {_vanished(entity, tables)}"""


def _vanished(entity: Entity, tables: WorkingTables) -> str:
    """Return the SQL condition that a loaded record is removed, since the source no longer has it."""
    removed = f"{_owned(entity, tables)} AND NOT {_seen(entity, tables)}"
    return f"{removed} AND loaded.tenant_id <> ALL (CAST(:kept AS text[]))" if entity.tenant else removed


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
