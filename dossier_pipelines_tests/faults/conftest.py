"""What every fault happens to: a desk with a database of its own, and receivers that write down what they take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina

from dossier_pipelines.migrations.runner import migrate
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines_tests.conftest import execute_on_server
from dossier_pipelines_tests.faults.desk import Desk
from dossier_pipelines_tests.faults.history import History
from dossier_pipelines_tests.faults.peers import Peers
from dossier_pipelines_tests.processes import server_folder


@pytest.fixture(autouse=True)
def quiet_retries() -> Iterator[None]:
    """Retries by the hundred are not reported one by one."""
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def peers() -> Iterator[Peers]:
    """A mail server and an HTTP server."""
    with Peers() as listening:
        yield listening


@pytest.fixture
def desk(database: Database) -> Desk:
    """A small desk with late commitments."""
    return Desk(database)


@pytest.fixture
def history(database: Database, peers: Peers) -> History:
    """What happened to messages."""
    return History(database, peers)


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    with server_folder() as folder:
        server = EmbeddedPostgres(folder / "data")
        server.start()
        yield server
        server.release()


@pytest.fixture
def own_database(own_server: EmbeddedPostgres) -> Iterator[Database]:
    """A migrated database on that server."""
    execute_on_server(own_server.url("postgres"), "DROP DATABASE IF EXISTS own WITH (FORCE)")
    execute_on_server(own_server.url("postgres"), "CREATE DATABASE own")
    database = create_database(own_server.url("own"))
    migrate(database)
    yield database
    database.engine.dispose()
