"""The one way to the project's PostgreSQL: an engine, transactions, statements from files.

Assets, checks and ops receive a `Database`; the resource that makes it is wiring only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from dossier_pipelines.shared.failures import DatabaseUnavailableError, describe_database_error

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, CursorResult, Engine

OLDEST_VERSION: Final = 16
OWN_DRIVER: Final = "postgresql+psycopg"
# dagster-postgres speaks psycopg2 only (dagster-io/dagster#33958).
DAGSTER_DRIVER: Final = "postgresql+psycopg2"
DAGSTER_DATABASE: Final = "dagster"


def database_url(url: str, *, driver: str = OWN_DRIVER, database: str | None = None) -> URL:
    """Return ``url`` with our driver, and another database of the same server if named."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise DatabaseUnavailableError(
            "DOSSIER_DATABASE_URL cannot be read. Write it like postgresql://user:password@host:5432/dossier."
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise DatabaseUnavailableError(
            f"DOSSIER_DATABASE_URL names {parsed.get_backend_name()}; this project needs PostgreSQL "
            f"{OLDEST_VERSION} or newer."
        )
    parsed = parsed.set(drivername=driver)
    return parsed if database is None else parsed.set(database=database)


@functools.cache
def statement(package: str, name: str) -> sa.TextClause:
    """Return the SQL file ``name``.sql of ``package``, its comments cut so that no bind is seen in prose."""
    text = resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return sa.text(code)


@dataclass(frozen=True)
class Database:
    """What assets receive: transactions on one PostgreSQL server."""

    engine: Engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection; commit at the end, roll back on an exception."""
        with self.engine.begin() as connection:
            yield connection

    def run(self, package: str, name: str, parameters: Mapping[str, Any] | None = None) -> list[sa.Row[Any]]:
        """Run one statement file in a transaction of its own and return its rows, if any."""
        with self.transaction() as connection:
            result = execute(connection, package, name, parameters)
            return list(result) if result.returns_rows else []


def execute(
    connection: Connection, package: str, name: str, parameters: Mapping[str, Any] | None = None
) -> CursorResult[Any]:
    """Run the statement file ``name`` of ``package`` with parameters bound by name."""
    return connection.execute(statement(package, name), dict(parameters or {}))


def create_database(url: str) -> Database:
    """Return a `Database` for ``url``; no connection is made yet.

    Sessions run in UTC, so that an interval of days is always a multiple of 24 hours.
    """
    engine = sa.create_engine(
        database_url(url),
        pool_pre_ping=True,
        pool_size=2,
        connect_args={
            "application_name": "dossier-pipelines",
            "options": "-c timezone=UTC -c jit=off",
            "connect_timeout": 10,
            # A dead host is noticed in about a minute.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        },
    )
    return Database(engine)


def require_supported(database: Database) -> None:
    """Raise DatabaseUnavailableError unless the server answers and is new enough."""
    try:
        with database.engine.connect() as connection:
            number = connection.execute(sa.text("SELECT current_setting('server_version_num')::int")).scalar_one()
    except DBAPIError as error:
        raise DatabaseUnavailableError(describe_database_error(error, place="Connecting to PostgreSQL")) from error
    if number // 10000 < OLDEST_VERSION:
        raise DatabaseUnavailableError(
            f"The server is PostgreSQL {number // 10000}; this project needs {OLDEST_VERSION} or newer "
            "(it validates rows with pg_input_is_valid). Upgrade it, or unset DOSSIER_DATABASE_URL to use the "
            "embedded one."
        )


def create_missing_database(url: URL) -> None:
    """Create the database that ``url`` names when its server does not have it yet.

    A production user may reach its own database only, so that one is tried first.
    """
    name = url.database or ""
    own = sa.create_engine(url)
    try:
        with own.connect():
            return
    except DBAPIError as error:
        if "does not exist" not in str(error.orig):
            raise DatabaseUnavailableError(describe_database_error(error, place="Connecting to PostgreSQL")) from error
    finally:
        own.dispose()
    maintenance = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        with maintenance.connect() as connection:
            found = connection.execute(
                sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}
            ).scalar()
            if not found:
                quoted = connection.dialect.identifier_preparer.quote_identifier(name)
                try:
                    connection.execute(sa.text(f"CREATE DATABASE {quoted}"))
                except DBAPIError as error:
                    # 42P04 and 23505: a second process of ours made it in the same moment.
                    if getattr(error.orig, "sqlstate", None) not in {"42P04", "23505"}:
                        raise
    except DBAPIError as error:
        raise DatabaseUnavailableError(
            describe_database_error(error, place=f"Looking for the database {name!r}")
        ) from error
    finally:
        maintenance.dispose()
