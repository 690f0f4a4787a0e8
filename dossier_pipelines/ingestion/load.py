"""One load: the rows of an entity from a source into its raw table, in one transaction, bad rows set aside.

The rows stream through this process in bounded memory; what they mean is decided by the statements of checking.py,
what becomes of them by those of merge.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast
from zoneinfo import available_timezones

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from dossier_pipelines.ingestion import checking, merge
from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.mapping import EntityMapping, SourceMapping
from dossier_pipelines.ingestion.removals import Removals, judge_removals
from dossier_pipelines.ingestion.sources.source import Rows, Source
from dossier_pipelines.ingestion.staged import Bound
from dossier_pipelines.ingestion.working_tables import WorkingTables, working_tables
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import (
    RejectedShareError,
    SourceError,
    UserError,
    describe_database_error,
)
from dossier_pipelines.shared.tables import ALL_TENANTS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Sorting and hashing a bulk load in memory is worth more than the default while one load runs at a time.
WORK_MEM: Final = "256MB"
LOCK_TIMEOUT: Final = "60s"
# After a load of this many rows the planner's figures and the visibility map are made anew at once: the refresh
# that follows would otherwise plan and read as if the table were as before.
BULK_ROWS: Final = 10_000
# Of a source of many tenants: when hardly a row is good, it is the source that is wrong.
ALMOST_ALL: Final = 0.999


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What one load did, in rows."""

    entity: str
    source: str
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: int = 0
    reasons: Mapping[str, int]
    """The most frequent reasons for rejection, without the values: at most 10."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Tenants of whose records too many are gone from the source at once: how many, which were not removed."""

    def as_metadata(self) -> dict[str, int]:
        """Return the counts under the names that the Dagster UI plots."""
        return {
            "rows_read": self.rows_read,
            "inserted": self.inserted,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "rejected": self.rejected,
        }


def load_entity(
    database: Database,
    entity: Entity,
    source: Source,
    mapping: SourceMapping,
    *,
    settings: Settings,
    run_id: str | None = None,
    noticed_at: datetime | None = None,
) -> LoadResult | None:
    """Load ``entity`` and return what was done; None when the source does not have this optional entity.

    ``noticed_at`` is from when on a change counts that the source does not date; without it, the tenant's clock.
    Raises SourceError, MappingError or RejectedShareError with nothing merged. Either everything of the entity
    is merged or nothing: the merge is one transaction, after the whole source has been read.
    """
    entity_mapping = mapping.of(entity)
    with source.open(entity, entity_mapping) as rows:
        if rows is None:
            return None
        try:
            with database.engine.connect() as connection, working_tables(connection) as tables:
                result = _Load(
                    connection,
                    entity,
                    entity_mapping,
                    rows,
                    tables,
                    settings=settings,
                    run_id=run_id,
                    noticed_at=noticed_at,
                ).run()
            if result.inserted + result.updated >= BULK_ROWS:
                _refresh_planner_figures(database, entity)
        except DBAPIError as error:
            # The cause is cut: it holds values of rows, and Dagster would keep them in its log.
            raise UserError(describe_database_error(error, place=f"Loading {entity.name} from {rows.label}")) from None
        return result


def _refresh_planner_figures(database: Database, entity: Entity) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"VACUUM (ANALYZE) {entity.target}"))


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """The rows of a source by what becomes of them."""

    read: int
    rejected: int
    unchanged: int
    tombstones: int


class _Load:
    """The state of one load, on one connection."""

    def __init__(
        self,
        connection: Connection,
        entity: Entity,
        mapping: EntityMapping,
        rows: Rows,
        tables: WorkingTables,
        *,
        settings: Settings,
        run_id: str | None,
        noticed_at: datetime | None,
    ) -> None:
        self.connection = connection
        self.entity = entity
        self.mapping = mapping
        self.rows = rows
        self.tables = tables
        self.settings = settings
        self.run_id = run_id
        self.noticed_at = noticed_at
        self.started_at: datetime = self._scalar("SELECT clock_timestamp()")
        self.common: dict[str, Any] = {
            "tenant_id": settings.tenant_id,
            # Counts of all tenants of a source, and lines that name none, are nobody's.
            "whose": ALL_TENANTS if entity.tenant else settings.tenant_id,
            "timezone": settings.timezone,
            "timezones": sorted(available_timezones()),
            "entity": entity.recorded_as,
            "source": rows.label,
            "row_offset": rows.row_offset,
            "ceiling": settings.max_rejected_share,
        }

    def run(self) -> LoadResult:
        self._require_columns()
        self._stage()
        with self.connection.begin():
            self._settle_session()
            self._check()
            removals = judge_removals(self._execute, self.entity, self.rows, self.tables, self.settings)
            counts, updated = self._count()
            # Duplicates among new rows only are found by the primary key, for nothing; else they are looked for.
            judged = self.entity.tenant and counts.rejected
            if judged or self.entity.unique or counts.unchanged or counts.tombstones or updated:
                counts, updated = self._set_duplicates_aside(removals)
            refusal = self._refusal(counts, removals)
            inserted = removed = 0
            if refusal is None:
                try:
                    with self.connection.begin_nested():
                        inserted, removed = self._merge(updated, removals)
                except IntegrityError:
                    counts, updated = self._set_duplicates_aside(removals)
                    refusal = self._refusal(counts, removals)
                    if refusal is None:
                        inserted, removed = self._merge(updated, removals)
            result = LoadResult(
                entity=self.entity.name,
                source=self.rows.label,
                rows_read=counts.read,
                inserted=inserted,
                updated=updated if refusal is None else 0,
                unchanged=counts.unchanged if refusal is None else 0,
                removed=removed,
                rejected=counts.rejected,
                reasons=self._reasons() if counts.rejected else {},
                kept=removals.kept if refusal is None else {},
            )
            self._record(result, outcome="merged" if refusal is None else "refused")
        if refusal is not None:
            raise RejectedShareError(refusal + self._most_frequent(result))
        return result

    def _scalar(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        with self.connection.begin():
            return self.connection.execute(sa.text(sql), dict(parameters or {})).scalar_one()

    def _execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        clause = sa.text(sql)
        wanted = clause.compile().params
        given = {**self.common, **(parameters or {})}
        return self.connection.execute(clause, {name: given[name] for name in wanted})

    def _settle_session(self) -> None:
        # A source's local time is the tenant's; pg_advisory_xact_lock keeps two loads of one entity apart.
        for name, value in (
            ("timezone", self.settings.timezone),
            ("work_mem", WORK_MEM),
            ("lock_timeout", LOCK_TIMEOUT),
            # The planner takes a cast for as cheap as an addition, and so sees no gain in checking with two processes.
            ("parallel_tuple_cost", "0.01"),
            ("platform.noticed_at", self.noticed_at.isoformat() if self.noticed_at else ""),
        ):
            self.connection.execute(sa.text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
        self.connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
            {"key": f"load:{self.common['whose']}:{self.entity.recorded_as}"},
        )
        if self.entity.parent is not None:
            # No dossier may go while the rows that refer to it come.
            self.connection.execute(sa.text(f"LOCK TABLE {self.entity.parent.target} IN SHARE MODE"))

    def _require_columns(self) -> None:
        header = self.rows.staged.header
        if header is None:
            return
        if self.entity.tenant and not set(self.mapping.source_columns(self.entity.tenant)) <= set(header):
            raise SourceError(
                f"{self.rows.label}: the column {self.entity.tenant!r}, which tells whose a row is, is missing; there "
                f"are {', '.join(header)}. Add it, or name another in a mapping file."
            )
        for column in self.entity.columns:
            wanted = self.mapping.source_columns(column.name)
            missing = [name for name in wanted if name not in header]
            mapped = column.name in self.mapping.columns
            if missing and (column.column_required or mapped):
                raise SourceError(
                    f"{self.rows.label}: the column {missing[0]!r}"
                    f"{f' (for {column.name})' if mapped else ''} is missing; there are {', '.join(header)}. "
                    "Add it, or name another in a mapping file."
                )

    def _stage(self) -> None:
        with self.connection.begin():
            self.connection.execute(sa.text(self.tables.stage_ddl(self.rows.staged.width)))
        columns = ", ".join(f"c{index}" for index in range(1, self.rows.staged.width + 1))
        with self.connection.begin():
            driver = cast("psycopg.Connection", self.connection.connection.driver_connection)
            sql = f"COPY {self.tables.stage} ({columns}) FROM STDIN (FORMAT csv)"
            try:
                with driver.cursor() as cursor, cursor.copy(sql) as copy:
                    for block in self.rows.blocks():
                        copy.write(block)
            except psycopg.Error as error:
                # SQLAlchemy, which would have wrapped it, has no COPY.
                raise DBAPIError(sql, None, error) from None
            self.connection.execute(sa.text(f"ANALYZE {self.tables.stage}"))

    def _check(self) -> None:
        try:
            with self.connection.begin_nested():
                self._check_rows(trusting=True)
        except DataError:
            self._check_rows(trusting=False)
        self.connection.execute(sa.text(f"ANALYZE {self.tables.checked} (id, problem, unchanged, removed)"))
        if self.rows.staged.header is None:
            self._require_json_columns()

    def _check_rows(self, *, trusting: bool) -> None:
        sql, parameters = checking.check_statement(
            self.entity, self.mapping, self.rows.staged, self.tables, trusting=trusting
        )
        self._execute(sql, {**parameters, "malformed": [row.position for row in self.rows.malformed]})

    def _count(self) -> tuple[_Counts, int]:
        row = self._execute(merge.counts_statement(self.tables)).one()
        malformed = len(self.rows.malformed)
        counts = _Counts(
            read=row.checked + malformed,
            rejected=row.rejected + malformed,
            unchanged=row.unchanged,
            tombstones=row.tombstones,
        )
        return counts, self._execute(merge.updates_statement(self.entity, self.tables)).scalar_one()

    def _set_duplicates_aside(self, removals: Removals) -> tuple[_Counts, int]:
        self._execute(checking.duplicates_statement(self.entity, self.tables))
        if self.entity.unique:
            statement = merge.repeats_statement(self.entity, self.tables, removing=removals.wanted)
            while self._execute(statement, {"kept": list(removals.kept)}).rowcount:
                pass
        if self.entity.tenant:
            self._execute(checking.refused_tenants_statement(self.tables))
        return self._count()

    def _require_json_columns(self) -> None:
        """A column that no JSON record fills is missing, not empty everywhere."""
        for name in self.entity.required:
            if name in self.mapping.constants:
                continue
            filled = self._execute(
                f"SELECT EXISTS (SELECT FROM {self.tables.checked} WHERE {name} IS NOT NULL OR unchanged OR removed), "
                f"EXISTS (SELECT FROM {self.tables.checked})"
            ).one()
            column = next(column for column in self.entity.columns if column.name == name)
            if filled[1] and not filled[0] and column.value_required and not self._given(name):
                wanted = ", ".join(self.mapping.source_columns(name))
                raise SourceError(
                    f"{self.rows.label}: no record has the field {wanted!r}. Add it, or name another in a mapping file."
                )

    def _given(self, name: str) -> bool:
        bound = Bound()
        texts = [self.rows.staged.text(source, bound) for source in self.mapping.source_columns(name)]
        given = " OR ".join(f"({text}) IS NOT NULL" for text in texts if text)
        document = f"SELECT {self.rows.staged.document()} AS document FROM {self.tables.stage}"
        sql = f"SELECT EXISTS (SELECT FROM ({document}) AS s WHERE {given})"
        return bool(self._execute(sql, bound.parameters).scalar_one())

    def _require_rows(self, read: int) -> None:
        if read or self.settings.allow_empty:
            return
        whose = "" if self.entity.tenant else " WHERE tenant_id = :tenant_id"
        loaded = self._execute(f"SELECT count(*) FROM {self.entity.target}{whose}").scalar_one()
        if loaded:
            raise SourceError(
                f"{self.rows.label} suddenly holds no rows, where {loaded} are loaded. Nothing was removed. "
                "If it is meant, set DOSSIER_ALLOW_EMPTY=true."
            )
        if not self.entity.optional:
            raise SourceError(f"{self.rows.label} holds no rows. If it is meant, set DOSSIER_ALLOW_EMPTY=true.")

    def _refusal(self, counts: _Counts, removals: Removals) -> str | None:
        """Return why nothing may be merged, or None."""
        self._require_rows(counts.read)
        allowed = self.settings.max_rejected_share
        # Where the rows are of many tenants, each is refused alone.
        ceiling = max(allowed, ALMOST_ALL) if self.entity.tenant else allowed
        if counts.read and counts.rejected / counts.read > ceiling:
            if self.entity.tenant:
                too_many = (
                    "of all tenants together: the source itself seems wrong. DOSSIER_MAX_REJECTED_SHARE=1 allows it"
                )
            else:
                too_many = f"more than the share of {allowed:.0%} that DOSSIER_MAX_REJECTED_SHARE allows"
            return (
                f"{self.rows.label}: {counts.rejected} of {counts.read} rows are bad, {too_many}. Nothing was merged; "
                "ingestion.rejected_rows holds each with its reason."
            )
        return removals.refusal

    def _merge(self, updated: int, removals: Removals) -> tuple[int, int]:
        """Return how many rows were inserted and removed."""
        written = self._execute(merge.merge_statement(self.entity, self.tables, updating=updated > 0)).rowcount
        removed = self._execute(merge.tombstones_statement(self.entity, self.tables)).rowcount
        if removals.wanted:
            kept = list(removals.kept)
            if self.entity.tenant:
                # Of a tenant whose rows are not merged nothing is removed either.
                kept += self._execute(checking.refused_statement(self.tables)).scalars()
            removed += self._execute(merge.vanished_statement(self.entity, self.tables), {"kept": kept}).rowcount
        return written - updated, removed

    def _reasons(self) -> dict[str, int]:
        reasons = {row.reason: row.n for row in self._execute(checking.reasons_statement(self.tables))}
        if self.rows.malformed:
            reasons["malformed row"] = len(self.rows.malformed)
        return reasons

    @staticmethod
    def _most_frequent(result: LoadResult) -> str:
        if not result.reasons:
            return ""
        reason, count = next(iter(result.reasons.items()))
        return f" The most frequent: {reason} ({count})."

    def _record(self, result: LoadResult, *, outcome: str) -> None:
        load_id = self._execute(
            "INSERT INTO ingestion.loads (tenant_id, entity, source, started_at, outcome, rows_read, inserted, "
            "updated, unchanged, removed, rejected, run_id) "
            "VALUES (:whose, :entity, :source, :started_at, :outcome, "
            ":rows_read, :inserted, :updated, :unchanged, :removed, :rejected, :run_id) RETURNING load_id",
            {**result.as_metadata(), "started_at": self.started_at, "outcome": outcome, "run_id": self.run_id},
        ).scalar_one()
        whose = "" if self.entity.tenant else "tenant_id = :tenant_id AND "
        self._execute(f"DELETE FROM ingestion.rejected_rows WHERE {whose}entity = :entity AND source = :source")
        if result.rejected:
            sql, parameters = merge.rejects_statement(self.entity, self.rows.staged, self.tables)
            self._execute(sql, {**parameters, "load_id": load_id})
        if self.rows.malformed:
            self._execute(
                merge.MALFORMED,
                {
                    "malformed": [row.position for row in self.rows.malformed],
                    "reasons": [row.reason for row in self.rows.malformed],
                    "lines": [row.line for row in self.rows.malformed],
                    "load_id": load_id,
                },
            )
