"""The errors that a user can meet, and what the database's own errors mean to them.

A message says what happened, where, and what to do. Anything that is not one of these is a defect and keeps
its traceback.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError


class UserError(Exception):
    """An expected failure: the message alone tells the user what to do."""


class SettingError(UserError):
    """A setting (environment variable or configuration file) has an impossible value."""


class DatabaseUnavailableError(UserError):
    """The database cannot be reached, refuses us, or refuses to write."""


class SourceError(UserError):
    """A source cannot be read, or does not hold what it must."""


class MappingError(UserError):
    """A mapping file does not fit the entities or the source."""


class LeaseHeldError(UserError):
    """Another run does this job right now."""


class LeaseLostError(UserError):
    """The lease ran out, and with it the right to write."""


class RejectedShareError(UserError):
    """More rows than allowed are bad; nothing was merged."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html
ADVICE_BY_SQLSTATE: Final[dict[str, str]] = {
    "25006": "The database is read-only (a standby, or default_transaction_read_only). Name the primary server.",
    "28000": "The server refused this user. Check the user name in DOSSIER_DATABASE_URL and pg_hba.conf.",
    "28P01": "The server refused the password. Check the credentials in DOSSIER_DATABASE_URL.",
    "3D000": "That database does not exist on the server. Create it, or correct DOSSIER_DATABASE_URL.",
    "42501": "The database user lacks a privilege. The README's section on production lists what it needs.",
    "53100": "The server's disk is full. Free space and run again; what was not committed is rolled back.",
    "53300": "The server has no connection left. Raise max_connections or stop other clients.",
    "53400": "A limit set on the server was reached (for example temp_file_limit). Raise it and run again.",
    "55P03": "Another run holds the lock on these tables. Wait for it to end and run again.",
    "57P01": "The server was shut down while we worked. Start it and run again; nothing is half-written.",
    "57P03": "The server is starting up or shutting down. Run again in a moment.",
}

# libpq gives no SQLSTATE for a connection that the server refused, only the words.
REFUSALS: Final = {
    r'database ".*" does not exist': "3D000",
    r'role ".*" does not exist|no pg_hba\.conf entry|(Peer|Ident) authentication failed': "28000",
    r"password authentication failed|no password supplied": "28P01",
    r"permission denied for database": "42501",
    r"too many clients|remaining connection slots": "53300",
    r"the database system is (starting up|shutting down|not yet accepting connections)": "57P03",
}


# Serialization, deadlock, lock and statement timeouts; shutdown, crash, start-up; too many connections.
TRANSIENT: Final = frozenset({"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300"})


def is_transient(error: Exception) -> bool:
    """Whether the same work may succeed when it is tried again: the database was busy, or away for a moment."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    if not isinstance(error, DBAPIError):
        return False
    code = sqlstate(error)
    if code is None:
        return isinstance(error, OperationalError | InterfaceError)
    return code in TRANSIENT or code.startswith("08")


def sqlstate(error: DBAPIError) -> str | None:
    """Return the server's error code, also where libpq keeps it to itself; None when the server did not answer."""
    given: str | None = getattr(error.orig, "sqlstate", None)
    if given is not None:
        return given
    said = str(error.orig)
    return next((code for pattern, code in REFUSALS.items() if re.search(pattern, said)), None)


def describe_database_error(error: DBAPIError, *, place: str) -> str:
    """Return one line: what the server said, where, and what to do about it.

    The statement and its parameters are left out: parameters can hold personal data.
    """
    from sqlalchemy.exc import InterfaceError, OperationalError

    original = error.orig
    code = sqlstate(error)
    said = str(original).strip().splitlines()[0] if original else "no message"
    advice = ADVICE_BY_SQLSTATE.get(code or "")
    if code is None and "FATAL:" in said:
        advice = "The server refused us. Check the user and the database in DOSSIER_DATABASE_URL."
    elif code is None and isinstance(error, OperationalError | InterfaceError):
        advice = "The server cannot be reached. Check that it runs and that DOSSIER_DATABASE_URL names it."
    return f"{place}: the database said: {said}{f' (SQLSTATE {code})' if code else ''}. {advice or ''}".strip()
