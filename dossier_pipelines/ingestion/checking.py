"""The SQL that turns staged text into typed rows and says what is wrong with each.

All in sets; Python only writes the statements. Names of target columns come from declared tables; everything that a
source or a mapping says is a bound parameter.
"""

from __future__ import annotations

import json
from typing import Any, Final

from dossier_pipelines.ingestion.entity import Column, Entity, Kind
from dossier_pipelines.ingestion.mapping import EntityMapping
from dossier_pipelines.ingestion.staged import Bound, StagedColumns
from dossier_pipelines.ingestion.working_tables import WorkingTables
from dossier_pipelines.shared.tables import ALL_TENANTS

EARLIEST: Final = "1900-01-01"
LATEST: Final = "2199-12-31"
# Quoted, so that it is a constant of type bigint when the planner decides whether the level may run in parallel: a
# plain 0 is still to be cast then, and every level would be read by one process.
FENCE: Final = "OFFSET '0'"
BLANKS: Final = "E' \\t\\r\\n'"
# A date, or a date and a time, without an offset.
LOCAL_TIME: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]+[0-9]{2}\\:[0-9]{2}(\\:[0-9]{2}([.][0-9]+)?)?)?$"

SQL_TYPES: Final[dict[Kind, str]] = {
    Kind.KEY: "uuid",
    Kind.REFERENCE: "uuid",
    Kind.TEXT: "text",
    Kind.CHOICE: "text",
    Kind.DATE: "date",
    Kind.MOMENT: "timestamptz",
    Kind.TIMEZONE: "text",
    Kind.NUMBER: "numeric",
    Kind.BOOLEAN: "boolean",
    Kind.JSON: "jsonb",
    Kind.JSON_PATH: "text",
}


def _text_of(column: str, kind: Kind, mapping: EntityMapping, staged: StagedColumns, bound: Bound) -> str:
    """Return the SQL of the text that the source gives for our column; blank is null."""
    if column in mapping.constants:
        return f"NULLIF({bound.bind(mapping.constants[column], 'text')}, '')"
    found = [staged.text(name, bound) for name in mapping.source_columns(column)]
    parts = [f"NULLIF(btrim({sql}, {BLANKS}), '')" for sql in found if sql is not None]
    if not parts:
        return "CAST(NULL AS text)"
    if len(parts) == 1:
        text = parts[0]
    elif kind in {Kind.KEY, Kind.REFERENCE}:
        # The separator is escaped, so that ('a|b', 'c') and ('a', 'b|c') stay two keys.
        escaped = [f"replace(replace({part}, '\\', '\\\\'), '|', '\\|')" for part in parts]
        text = " || '|' || ".join(escaped)
    else:
        text = f"NULLIF(concat_ws(' ', {', '.join(parts)}), '')"
    if column in mapping.values:
        translations = bound.bind(json.dumps(mapping.values[column]), "jsonb")
        text = f"NULLIF(coalesce({translations} ->> ({text}), {text}), '')"
    return text


def _typed(column: Column, entity: Entity, bound: Bound, *, trusting: bool) -> str:
    """Return the SQL of the value; null where the text is no such value, or an error when ``trusting``."""
    text = f"x_{column.name}"
    match column.kind:
        case Kind.KEY | Kind.REFERENCE:
            if trusting:
                return f"CAST({text} AS uuid)"
            owner = bound.bind(column.references or entity.name, "text")
            return (
                f"CASE WHEN {text} IS NULL THEN NULL WHEN pg_input_is_valid({text}, 'uuid') "
                f"THEN CAST({text} AS uuid) ELSE ingestion.stable_uuid({owner}, {text}) END"
            )
        case Kind.CHOICE:
            return (
                f"CASE WHEN lower({text}) = ANY ({bound.bind(list(column.choices), 'text[]')}) THEN lower({text}) END"
            )
        case Kind.DATE | Kind.MOMENT:
            # The pattern keeps out now, today, infinity and five-digit years, which PostgreSQL would take.
            sql_type = SQL_TYPES[column.kind]
            valid = "" if trusting else f"AND pg_input_is_valid({text}, '{sql_type}') "
            value = f"CAST({text} AS {sql_type})"
            if column.kind is Kind.MOMENT and entity.tenant:
                # Each tenant has its own local time; that of the session is that of the configured tenant.
                local = f"CAST({text} AS timestamp) AT TIME ZONE coalesce(owner.timezone, 'UTC')"
                value = f"CASE WHEN {text} ~ '{LOCAL_TIME}' THEN {local} ELSE {value} END"
            return f"CASE WHEN {text} LIKE '____-__-__%' AND {text} NOT LIKE '%BC' {valid}THEN {value} END"
        case Kind.TIMEZONE:
            return f"CASE WHEN {text} = ANY (CAST(:timezones AS text[])) THEN {text} END"
        case Kind.NUMBER:
            # Neither NaN nor Infinity is a quantity.
            return (
                f"CASE WHEN {text} ~ '[0-9]' AND pg_input_is_valid({text}, 'numeric') THEN CAST({text} AS numeric) END"
            )
        case Kind.BOOLEAN | Kind.JSON:
            sql_type = SQL_TYPES[column.kind]
            return f"CASE WHEN pg_input_is_valid({text}, '{sql_type}') THEN CAST({text} AS {sql_type}) END"
        case Kind.JSON_PATH:
            return f"CASE WHEN pg_input_is_valid({text}, 'jsonpath') THEN {text} END"
        case Kind.TEXT:
            return text


def _problems(column: Column, bound: Bound) -> list[tuple[str, str]]:
    """Return (condition, reason) pairs over the typed row, as SQL."""
    name, text = column.name, f"x_{column.name}"
    shown = f"quote_literal(left({text}, 80))"
    pairs: list[tuple[str, str]] = []
    if column.value_required:
        pairs.append((f"{text} IS NULL", f"'{name} is missing'"))
    unreadable = f"{text} IS NOT NULL AND {name} IS NULL"
    match column.kind:
        case Kind.CHOICE:
            choices = bound.bind(", ".join(column.choices), "text")
            pairs.append((unreadable, f"format('{name} %s is not one of %s', {shown}, {choices})"))
        case Kind.DATE:
            pairs.append((unreadable, f"format('{name} %s is no date; write it like 2020-04-29', {shown})"))
        case Kind.MOMENT:
            pairs.append(
                (
                    unreadable,
                    f"format('{name} %s is no date and time; write it like 2020-04-29T12:00:00+03:00', {shown})",
                )
            )
        case Kind.TIMEZONE:
            pairs.append((unreadable, f"format('{name} %s is no IANA time zone', {shown})"))
        case Kind.NUMBER:
            pairs.append((unreadable, f"format('{name} %s is no number', {shown})"))
        case Kind.BOOLEAN:
            pairs.append((unreadable, f"format('{name} %s is neither true nor false', {shown})"))
        case Kind.JSON | Kind.JSON_PATH:
            language, sql_type = ("JSON", "jsonb") if column.kind is Kind.JSON else ("SQL/JSON path", "jsonpath")
            said = f"(SELECT concat_ws(', ', i.message, i.detail) FROM pg_input_error_info({text}, '{sql_type}') AS i)"
            # What the server says repeats parts of the value, and is quoted as one, which keeps it out of the counts.
            pairs.append((unreadable, f"format('{name} %s is no {language}: %s', {shown}, quote_literal({said}))"))
        case _:
            pass
    if column.kind in {Kind.DATE, Kind.MOMENT}:
        sql_type = SQL_TYPES[column.kind]
        pairs.append(
            (
                f"{name} NOT BETWEEN {sql_type} '{EARLIEST}' AND {sql_type} '{LATEST}'",
                f"format('{name} %s is outside the years 1900 to 2199', {shown})",
            )
        )
    if column.must_exist:
        pairs.append(
            (
                f"{text} IS NOT NULL AND parent_id IS NULL",
                f"format('{name} %s refers to no record of {column.references}', {shown})",
            )
        )
    return pairs


def check_statement(
    entity: Entity, mapping: EntityMapping, staged: StagedColumns, tables: WorkingTables, *, trusting: bool
) -> tuple[str, dict[str, Any]]:
    """Return the statement that types and checks what is staged, and its parameters.

    Grain: one row of the checked table per staged row that is not malformed or blank, in the order in which the
    merge writes them. A row whose id and content are already loaded is only recognised (by its hash), not parsed
    again. FENCE keeps the planner from flattening a level and computing its expressions once per use.

    ``trusting``: take every id for a UUID and every date for one, and fail on the first that is none. A clean
    source, which most are, is parsed once instead of twice (asking whether a text is valid parses it, too).
    """
    bound = Bound()
    known = {name for column in entity.names for name in mapping.source_columns(column)}
    known |= set(mapping.source_columns("deleted"))
    if entity.tenant:
        known |= set(mapping.source_columns(entity.tenant))
    texts = ", ".join(
        f"{_text_of(column.name, column.kind, mapping, staged, bound)} AS x_{column.name}" for column in entity.columns
    )
    deleted = _text_of("deleted", Kind.TEXT, mapping, staged, bound)
    removed = f"coalesce(lower({deleted}) NOT IN ('false', 'f', 'no', 'n', '0'), false)"
    key, *others = entity.columns
    values = ",\n        ".join(
        f"CASE WHEN loaded.id IS NULL AND NOT removed THEN {value} END AS {name}"
        for name, value in ((column.name, _typed(column, entity, bound, trusting=trusting)) for column in others)
    )
    problems = [pair for column in entity.columns for pair in _problems(column, bound)]
    problems += [(f"({rule.broken})", rule.reason) for rule in entity.rules]
    whose, owner, tenant_id = "", "", ""
    if entity.tenant:
        whose = f"{_text_of(entity.tenant, Kind.TEXT, mapping, staged, bound)} AS x_tenant, "
        tenant_id = "tenant_id, "
        problems.insert(0, ("x_tenant IS NULL", f"'{entity.tenant} is missing'"))
        if entity.founds_tenants:
            everybody = f"'{entity.tenant} ''{ALL_TENANTS}'' stands for all tenants'"
            problems.insert(1, (f"x_tenant = '{ALL_TENANTS}'", everybody))
        else:
            unknown = f"format('{entity.tenant} %s is no known tenant', quote_literal(left(x_tenant, 80)))"
            problems.insert(1, ("x_tenant IS NOT NULL AND tenant_id IS NULL", unknown))
    if staged.header is None:
        problems.insert(0, ("is_no_object", "'the line is no JSON object, or holds a NUL character'"))
    broken = " OR ".join(f"coalesce({condition}, false)" for condition, _ in problems)
    reasons = ", ".join(f"CASE WHEN {condition} THEN {reason} END" for condition, reason in problems)
    hashed = ", ".join(f"x_{column.name}" for column in entity.columns)
    if entity.founds_tenants:
        owner = "CROSS JOIN LATERAL (SELECT keyed.x_tenant AS tenant_id, 'UTC' AS timezone) AS owner"
    elif entity.tenant:
        owner = "LEFT JOIN platform.tenants AS owner ON owner.tenant_id = keyed.x_tenant"
    parent = ""
    parent_id = "CAST(NULL AS uuid)"
    if entity.parent is not None:
        reference = next(column.name for column in entity.columns if column.must_exist)
        parent = (
            f"LEFT JOIN {entity.parent.target} AS parent "
            f"ON parent.tenant_id = {entity.tenant_of('typed')} AND parent.id = typed.{reference}"
        )
        parent_id = "parent.id"
    names = ", ".join(entity.names)
    is_document = staged.header is None
    source_key = "CAST(NULL AS text)" if trusting else "CASE WHEN NOT pg_input_is_valid(x_id, 'uuid') THEN x_id END"
    stage = tables.stage
    if is_document:
        stage = (
            f"(SELECT stage.*, {staged.document()} AS document FROM {tables.stage} AS stage "
            f"WHERE btrim(c1, {BLANKS}) <> '' {FENCE})"
        )
    sql = f"""
CREATE UNLOGGED TABLE {tables.checked} AS
SELECT n, {tenant_id}source_hash, unchanged, removed, source_key,
    CASE WHEN unchanged THEN NULL
        WHEN removed THEN CASE WHEN x_id IS NULL THEN 'id is missing' END
        WHEN {broken} THEN concat_ws('; ', {reasons}) END AS problem,
    extra, {names}
FROM (
    SELECT typed.*, {parent_id} AS parent_id
    FROM (
        SELECT keyed.*, {"owner.tenant_id, " if entity.tenant else ""}
            loaded.id IS NOT NULL AND NOT removed AS unchanged, {source_key} AS source_key,
        {values}
        FROM (
            SELECT named.*, hash_record_extended(ROW({hashed}, extra), 0) AS source_hash,
                {_typed(key, entity, bound, trusting=trusting)} AS id
            FROM (
                SELECT n, {whose}{texts}, {removed} AS removed, {staged.extra(known, bound)} AS extra,
                    {"jsonb_typeof(document) IS DISTINCT FROM 'object'" if is_document else "false"} AS is_no_object
                FROM {stage} AS stage
                WHERE n <> ALL (CAST(:malformed AS bigint[]))
                {FENCE}
            ) AS named
            {FENCE}
        ) AS keyed
        {owner}
        LEFT JOIN {entity.target} AS loaded
            ON loaded.tenant_id = {entity.tenant_of("owner")} AND loaded.id = keyed.id
            AND loaded.source_hash = keyed.source_hash
        {FENCE}
    ) AS typed
    {parent}
) AS judged
ORDER BY {", ".join(entity.order)}"""
    return sql, bound.parameters


def duplicates_statement(entity: Entity, tables: WorkingTables) -> str:
    """Of several rows of a tenant with one id the first counts; the others are set aside."""
    key = "tenant_id, id" if entity.tenant else "id"
    same = "checked.tenant_id = duplicate.tenant_id AND " if entity.tenant else ""
    return f"""
UPDATE {tables.checked} AS checked SET problem = format('id is the same as in row %s', duplicate.first_n + :row_offset)
FROM (
    SELECT {key}, min(n) AS first_n FROM {tables.checked} WHERE problem IS NULL GROUP BY {key} HAVING count(*) > 1
) AS duplicate
WHERE {same}checked.id = duplicate.id AND checked.n > duplicate.first_n AND checked.problem IS NULL"""


def refused_tenants_statement(tables: WorkingTables) -> str:
    """Set aside all rows of the tenants of which too many are bad; nobody else's are held up by them."""
    return f"""
UPDATE {tables.checked} AS checked
SET problem = format('not merged, since %s of its tenant''s %s rows are bad', tenant.bad, tenant.rows)
FROM (
    SELECT tenant_id, count(*) AS rows, count(*) FILTER (WHERE problem IS NOT NULL) AS bad FROM {tables.checked}
    GROUP BY tenant_id
) AS tenant
WHERE tenant.bad > :ceiling * tenant.rows AND checked.tenant_id = tenant.tenant_id AND checked.problem IS NULL"""


def refused_statement(tables: WorkingTables) -> str:
    """Name the tenants of which too many rows are bad."""
    return f"""
SELECT tenant_id FROM {tables.checked} WHERE tenant_id IS NOT NULL
GROUP BY tenant_id HAVING count(problem) > :ceiling * count(*)"""


def reasons_statement(tables: WorkingTables) -> str:
    """Count the reasons without the values in them: a value can be personal, what is wrong with a column is not."""
    return f"""
SELECT regexp_replace(problem, ':? ?E?''([^'']|'''')*''', '', 'g') AS reason, count(*) AS n FROM {tables.checked}
WHERE problem IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1 LIMIT 10"""
