"""Any SQL database, by SQLAlchemy URL: one table or view per entity, read in one streamed SELECT."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import sqlalchemy as sa
from psycopg.types.string import TextLoader
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.mapping import EntityMapping
from dossier_pipelines.ingestion.sources.source import Rows, Source
from dossier_pipelines.ingestion.staged import StagedColumns
from dossier_pipelines.shared.failures import SourceError

if TYPE_CHECKING:
    import psycopg

ROWS_AT_ONCE: Final = 5_000
POSTGRESQL: Final = "postgresql+psycopg"


class SqlSource(Source):
    """A database of the institution's own."""

    def __init__(self, url: str, *, timezone: str) -> None:
        """Prepare to read from ``url``; raise SourceError when no driver can be found for it.

        ``timezone``: where a moment of the source falls on a day.
        """
        self._timezone = timezone
        parsed = _parse(url)
        shown = {name: value for name, value in parsed.query.items() if name in {"host", "port"}}
        self.description = parsed.set(query=shown).render_as_string(hide_password=True)
        try:
            # SQLite would make an empty database of a mistyped name.
            if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).is_file():
                raise SourceError(f"The SQLite database {parsed.database} does not exist.")
            self._engine: Engine = sa.create_engine(parsed)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise SourceError(
                f"{self.description} cannot be read: {error}. Write the URL like "
                "postgresql://user:password@host/database, and install the database's Python driver if it is another "
                "kind."
            ) from error

    @contextmanager
    def open(self, entity: Entity, mapping: EntityMapping) -> Iterator[Rows | None]:
        """Open the entity's table; raise SourceError naming the tables when there is no such one."""
        schema, _, name = (mapping.source or entity.name).rpartition(".")
        try:
            with self._engine.connect().execution_options(stream_results=True) as connection:
                if self._engine.url.drivername == POSTGRESQL:
                    self._settle_postgresql(connection)
                columns = self._columns(connection, name, schema or None)
                if columns is None and entity.optional and mapping.source is None:
                    yield None
                elif columns is None:
                    raise SourceError(self._missing(connection, entity, name, schema or None))
                else:
                    yield TableRows(
                        connection,
                        name,
                        schema or None,
                        columns,
                        key=mapping.source_columns("id"),
                        description=self.description,
                    )
        except SQLAlchemyError as error:
            raise _unreadable(name, self.description, error) from error
        finally:
            self._engine.dispose()

    def _settle_postgresql(self, connection: Connection) -> None:
        for name, value in (("DateStyle", "ISO"), ("TimeZone", self._timezone)):
            connection.execute(sa.text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
        # Python's dates end at the year 9999 and know no infinity; as text, such a row is set aside like any other.
        driver = cast("psycopg.Connection", connection.connection.driver_connection)
        for kind in ("date", "timestamp", "timestamptz"):
            driver.adapters.register_loader(kind, TextLoader)

    def _columns(self, connection: Connection, name: str, schema: str | None) -> tuple[str, ...] | None:
        try:
            return tuple(column["name"] for column in sa.inspect(connection).get_columns(name, schema=schema))
        except sa.exc.NoSuchTableError:
            return None

    def _missing(self, connection: Connection, entity: Entity, name: str, schema: str | None) -> str:
        inspector = sa.inspect(connection)
        there = sorted([*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)])
        return (
            f"{self.description}: there is no table or view {name!r} for {entity.name}; there are "
            f"{', '.join(there[:20]) or 'none'}. Name the right one in a mapping file."
        )


class TableRows(Rows):
    """The rows of one table or view, in the order of its key, so that a re-run sees the same order."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        schema: str | None,
        columns: tuple[str, ...],
        *,
        key: Sequence[str],
        description: str,
    ) -> None:
        """Prepare the SELECT; names are quoted by SQLAlchemy."""
        super().__init__()
        self.label = f"{schema}.{name}" if schema else name
        self.staged = StagedColumns(header=columns)
        table = sa.table(name, *(sa.column(column) for column in columns), schema=schema)
        order = [table.c[column] for column in key if column in columns]
        self._rows = connection.execution_options(yield_per=ROWS_AT_ONCE)
        self._select = sa.select(table).order_by(*order)
        self._description = description

    def blocks(self) -> Iterator[bytes]:
        """Yield the rows as text; values become text as a CSV export would have them."""
        try:
            yield from self._read()
        except SQLAlchemyError as error:
            raise _unreadable(self.label, self._description, error) from error

    def _read(self) -> Iterator[bytes]:
        for part in self._rows.execute(self._select).partitions(ROWS_AT_ONCE):
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
            for row in part:
                self.count += 1
                texts = [_as_text(value) for value in row]
                if any("\0" in text for text in texts):
                    self.set_aside("a value holds a NUL byte", ",".join(texts))
                    texts = [""] * len(texts)
                writer.writerow(texts)
            yield out.getvalue().encode("utf-8", "replace")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    # Neither the error nor the URL is shown: a piece of a password may stand where a host or a port should.
    if parsed is None or "@" in (parsed.host or ""):
        raise SourceError(
            "The source URL cannot be read. Write it like postgresql://user:password@host/database, and an @ in the "
            "password as %40."
        )
    return parsed.set(drivername=POSTGRESQL) if parsed.drivername in {"postgresql", "postgres"} else parsed


def _unreadable(name: str, description: str, error: SQLAlchemyError) -> SourceError:
    """Return what the source's database said, without the statement."""
    said = error.orig if isinstance(error, DBAPIError) else error
    first_line = next(iter(str(said).strip().splitlines()), "nothing")
    return SourceError(
        f"Reading {name} of {description} failed: {first_line}. Nothing of it was loaded; check DOSSIER_SOURCE and run "
        "again."
    )


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
        case bytes() | memoryview():
            return bytes(value).hex()
        case _:
            return str(value)
