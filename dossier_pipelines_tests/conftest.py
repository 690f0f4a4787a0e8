"""One real PostgreSQL for the whole session, and a migrated database of its own for every test that asks.

The server is the embedded one in a temporary directory, or the server that DOSSIER_TEST_DATABASE_URL names. The
migrated template is built once per worker and copied per test, so that tests commit as the product does.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dossier_pipelines.migrations.runner import migrate
from dossier_pipelines.shared.database import Database, create_database, create_missing_database, database_url
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres

_NUMBERS = itertools.count(1)
_OWN_DIRECTORIES: list[str] = []
SERVER_DIRECTORY = "TESTS_SERVER_DIRECTORY"


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting of the developer's leaks into a test, and no test reads a .env."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith(("DOSSIER_", "DAGSTER_", "PG")) and name != "DOSSIER_TEST_DATABASE_URL":
            patch.delenv(name)
    yield
    patch.undo()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the server's files when every worker is done."""
    if not hasattr(session.config, "workerinput"):
        for folder in _OWN_DIRECTORIES:
            shutil.rmtree(folder, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Name the server's directory once; workers inherit it.

    Not in pytest's own temporary directory: each session that starts there as root closes it to other accounts, and
    PostgreSQL, which does not run as root, would lose its files in the middle of another session.
    """
    if not hasattr(config, "workerinput") and SERVER_DIRECTORY not in os.environ:
        folder = tempfile.mkdtemp(prefix="dossier-tests-")
        _OWN_DIRECTORIES.append(folder)
        os.environ[SERVER_DIRECTORY] = folder


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a real server; all xdist workers share one embedded server."""
    named = os.environ.get("DOSSIER_TEST_DATABASE_URL")
    if named:
        yield named
        return
    server = EmbeddedPostgres(Path(os.environ[SERVER_DIRECTORY]))
    server.start()
    yield server.url("postgres")
    server.release()


@pytest.fixture(scope="session")
def template(server_url: str, worker_id: str) -> str:
    """The name of a database at the newest version, to be copied."""
    name = f"template_{os.getpid()}_{worker_id}"
    url = database_url(server_url, database=name).render_as_string(hide_password=False)
    create_missing_database(database_url(url))
    database = create_database(url)
    migrate(database)
    database.engine.dispose()
    return name


def execute_on_server(server_url: str, statement: str) -> None:
    """Run one statement outside a transaction on the maintenance database."""
    engine = sa.create_engine(database_url(server_url), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
    finally:
        engine.dispose()


@pytest.fixture
def new_database_url(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database that only this test uses."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    execute_on_server(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield database_url(server_url, driver="postgresql", database=name).render_as_string(hide_password=False)
    execute_on_server(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def database(new_database_url: str) -> Iterator[Database]:
    """What assets receive, on a migrated, empty database that only this test uses."""
    database = create_database(new_database_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """The URL of a database without any schema of ours."""
    name = f"empty_{os.getpid()}_{next(_NUMBERS)}"
    execute_on_server(server_url, f'CREATE DATABASE "{name}"')
    yield database_url(server_url, driver="postgresql", database=name).render_as_string(hide_password=False)
    execute_on_server(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to write source files into."""
    path = tmp_path / "source"
    path.mkdir()
    return path
