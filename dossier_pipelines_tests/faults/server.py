"""A server of one's own to restart, the moment in a job at which something happens to it, and answers that are lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, ExceptionContext

from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres, binary
from dossier_pipelines.shared.failures import sqlstate


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


@contextmanager
def errors_of(database: Database) -> Iterator[list[str | None]]:
    """Yield the SQLSTATEs of all that goes wrong meanwhile."""
    seen: list[str | None] = []

    def note(context: ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, sa.exc.DBAPIError):
            seen.append(sqlstate(context.sqlalchemy_exception))

    event.listen(database.engine, "handle_error", note)
    yield seen
    event.remove(database.engine, "handle_error", note)


def lose_the_answer_once(database: Database, *, after: str) -> None:
    """Cut the connection right after the commit of the first transaction that ran a statement with ``after``."""
    dialect = database.engine.dialect
    commit = dialect.do_commit
    state = {"armed": False, "lost": False}

    def watch(_connection: Connection, _cursor: object, text: str, *_: object) -> None:
        state["armed"] = state["armed"] or after in text

    def commit_and_lose(connection: sa.PoolProxiedConnection) -> None:
        commit(connection)
        if state["armed"] and not state["lost"]:
            state["lost"] = True
            connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")

    event.listen(database.engine, "before_cursor_execute", watch)
    dialect.do_commit = commit_and_lose  # type: ignore[method-assign]
