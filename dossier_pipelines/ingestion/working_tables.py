"""The two tables that a load works in, and that nothing of them stays, whatever ends the load."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

LEFTOVERS: Final = """
SELECT DISTINCT right(c.relname, 16) AS token
FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace
WHERE s.nspname = 'ingestion' AND c.relkind = 'r' AND c.relname ~ '^(stage|checked)_[0-9a-f]{16}$'"""


@dataclass(frozen=True)
class WorkingTables:
    """The two tables of one load: rows as they came, and the same typed and checked.

    Unlogged rather than temporary, because PostgreSQL reads temporary tables in one process only: checking and
    sorting a bulk load uses every core.
    """

    token: str

    @property
    def stage(self) -> str:
        """The rows as text, numbered in the source's order."""
        return f"ingestion.stage_{self.token}"

    @property
    def checked(self) -> str:
        """The typed rows, each with what is wrong with it."""
        return f"ingestion.checked_{self.token}"

    def stage_ddl(self, width: int) -> str:
        """Return the statement that makes the staging table."""
        columns = ", ".join(f"c{index} text" for index in range(1, width + 1))
        return f"CREATE UNLOGGED TABLE {self.stage} (n bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000), {columns})"

    def drop(self, connection: Connection) -> None:
        """Drop both, if they are there."""
        with connection.begin():
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {self.stage}, {self.checked}"))


@contextmanager
def working_tables(connection: Connection) -> Iterator[WorkingTables]:
    """Yield names that nobody else uses; afterwards the tables are gone.

    The session holds a lock on its names. Names without a lock belong to a load that was killed: they go first.
    """
    with connection.begin():
        tokens = list(connection.execute(sa.text(LEFTOVERS)).scalars())
    for token in tokens:
        if _lock(connection, token):
            WorkingTables(token).drop(connection)
            _unlock(connection, token)
    tables = WorkingTables(secrets.token_hex(8))
    _lock(connection, tables.token)
    try:
        yield tables
    finally:
        # Where the connection is lost the next load cleans up.
        with suppress(DBAPIError):
            tables.drop(connection)
            _unlock(connection, tables.token)


def _lock(connection: Connection, token: str) -> bool:
    with connection.begin():
        return bool(
            connection.execute(
                sa.text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))"), {"key": f"load tables {token}"}
            ).scalar_one()
        )


def _unlock(connection: Connection, token: str) -> None:
    with connection.begin():
        connection.execute(
            sa.text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), {"key": f"load tables {token}"}
        )
