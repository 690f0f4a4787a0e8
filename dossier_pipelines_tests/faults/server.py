"""A server of one's own to restart, and the moment in a job at which something happens to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.engine import Connection

from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres, binary


@contextmanager
def once_before(database: Database, fragment: str, action: Callable[[], object]) -> Iterator[None]:
    """Call ``action`` once, right before the first statement that contains ``fragment``."""
    waiting = [action]

    def call(_connection: Connection, _cursor: object, text: str, *_: object) -> None:
        if fragment in text and waiting:
            waiting.pop()()

    event.listen(database.engine, "before_cursor_execute", call)
    yield
    event.remove(database.engine, "before_cursor_execute", call)
    assert not waiting, f"no statement contained {fragment!r}"


def restart(server: EmbeddedPostgres) -> None:
    """Restart without a shutdown: every connection is cut, and the server recovers from its log."""
    account = {"user": "pgserver"} if os.geteuid() == 0 else {}
    subprocess.run(
        [binary("pg_ctl"), "restart", "-w", "-m", "immediate", "-D", server.cluster, "-l", server.log_file],
        check=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **account,
    )
