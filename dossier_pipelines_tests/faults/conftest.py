"""What every fault happens to: a desk with a database of its own, and receivers that write down what they take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina

from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.faults.desk import Desk
from dossier_pipelines_tests.faults.history import History
from dossier_pipelines_tests.faults.peers import Peers


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
