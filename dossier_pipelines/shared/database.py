"""The one way to the project's PostgreSQL: an engine, transactions, statements from files.

Assets, checks and ops receive a `Database`; the resource that makes it is wiring only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from dossier_pipelines.shared.failures import (
    DatabaseUnavailableError,
    describe_database_error,
    is_transient,
    sqlstate,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, CursorResult, Engine

T = TypeVar("T")

OLDEST_VERSION: Final = 16
OWN_DRIVER: Final = "postgresql+psycopg"
# dagster-postgres speaks psycopg2 only (dagster-io/dagster#33958).
DAGSTER_DRIVER: Final = "postgresql+psycopg2"
DAGSTER_DATABASE: Final = "dagster"
# A dead host is noticed in about a minute, one that never answers in ten seconds. A URL may say otherwise.
PATIENCE: Final = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# Where libpq's programs look for what a URL says.
LIBPQ_VARIABLES: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "channel_binding": "PGCHANNELBINDING",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}


def database_url(url: str, *, driver: str = OWN_DRIVER, database: str | None = None) -> URL:
    """Return ``url`` with our driver, and another database of the same server if named."""
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        parsed = None
    # The error itself is not shown: it quotes a piece of the URL, and that may be one of the password.
    if parsed is None or "@" in (parsed.host or ""):
        raise DatabaseUnavailableError(
            "DOSSIER_DATABASE_URL cannot be read. Write it like postgresql://user:password@host:5432/dossier, and an @ "
            "in the password as %40."
        )
    # Some hosts call it postgres://.
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseUnavailableError(
            f"DOSSIER_DATABASE_URL names {parsed.get_backend_name()}; this project needs PostgreSQL "
            f"{OLDEST_VERSION} or newer."
        )
    parsed = parsed.set(drivername=driver)
    return parsed if database is None else parsed.set(database=database)


def libpq_environment(url: URL) -> dict[str, str]:
    """Return the variables with which psql, pg_dump and pg_restore reach ``url``: no command line holds a password."""
    values = {
        **{LIBPQ_VARIABLES[name]: value for name, value in url.query.items() if name in LIBPQ_VARIABLES},
        "PGHOST": url.host or url.query.get("host"),
        "PGPORT": str(url.port) if url.port else url.query.get("port"),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    return {name: value for name, value in values.items() if isinstance(value, str) and value}


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

    def in_transaction(self, work: Callable[[Connection], T], *, patience_seconds: float = 60.0) -> T:
        """Return what ``work`` makes of a transaction, tried again after a failure that another try may mend.

        A connection can be lost while it commits: ``work`` may have taken effect and is done once more, so that it must
        be written to find its own effect.
        """
        import stamina

        for attempt in stamina.retry_context(
            on=is_transient, attempts=None, timeout=patience_seconds, wait_initial=0.05, wait_max=2.0
        ):
            with attempt, self.transaction() as connection:
                return work(connection)
        raise AssertionError("a retried block returns or raises")

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


def create_working_table(
    connection: Connection, package: str, name: str, *, analyzed: str, parameters: Mapping[str, Any]
) -> None:
    """Keep what the statement file ``name`` of ``package`` selects, as the temporary table ``name``, till the commit.

    ``analyzed`` are the columns that later statements join by: the planner knows nothing of a temporary table that
    nobody has analyzed. Of ``parameters`` the statement takes those that it names.
    """
    selected = statement(package, name).text
    connection.execute(sa.text(f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {selected}"), dict(parameters))
    connection.exec_driver_sql(f"ANALYZE {name} ({analyzed})")


def create_database(url: str) -> Database:
    """Return a `Database` for ``url``; no connection is made yet.

    Sessions run in UTC, so that an interval of days is always a multiple of 24 hours.
    """
    parsed = database_url(url)
    own_options = parsed.query.get("options", "")
    engine = sa.create_engine(
        parsed,
        pool_pre_ping=True,
        pool_size=2,
        connect_args={
            "application_name": "dossier-pipelines",
            **_patience(parsed),
            "options": f"{own_options} -c timezone=UTC -c jit=off".strip(),
        },
    )
    return Database(engine)


def _patience(url: URL) -> dict[str, int]:
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


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
    own = sa.create_engine(url, connect_args=_patience(url))
    try:
        with own.connect():
            return
    except DBAPIError as error:
        refused = DatabaseUnavailableError(describe_database_error(error, place="Connecting to PostgreSQL"))
        # A server that speaks another language than English is not understood; it is asked to create the database.
        if sqlstate(error) not in {"3D000", None} or "FATAL" not in str(error.orig):
            raise refused from error
    finally:
        own.dispose()
    maintenance = sa.create_engine(
        url.set(database="postgres"), isolation_level="AUTOCOMMIT", connect_args=_patience(url)
    )
    try:
        with maintenance.connect() as connection:
            quoted = connection.dialect.identifier_preparer.quote_identifier(name)
            try:
                connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
            except DBAPIError as error:
                # 42P04 and 23505: a second process of ours made it in the same moment.
                if sqlstate(error) not in {"42P04", "23505"}:
                    raise DatabaseUnavailableError(
                        describe_database_error(error, place=f"Creating the database {name!r}, which does not exist")
                    ) from error
    except DBAPIError as error:
        # What it would take to create the database is not what the user asked for.
        raise refused from error
    finally:
        maintenance.dispose()
