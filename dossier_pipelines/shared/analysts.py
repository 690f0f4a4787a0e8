"""Database roles that only read, and only the rows of their tenants.

What a role sees is decided by row security (schema/row_security.sql); this module gives it the right to read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.tables import ALL_TENANTS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.shared"


def grant_reading(database: Database, role: str, tenants: Sequence[str]) -> int:
    """Let ``role`` read the rows of ``tenants``, or of all with ``*``; return how many tables and views it reads.

    Replaces what it was granted before, so that it is run again after a migration. Raises UserError for a role or a
    tenant that does not exist, and for a role that row security would not hold back.
    """

    def grant(connection: Connection) -> int:
        found = execute(connection, PACKAGE, "role_of", {"role": role}).one_or_none()
        quote = connection.dialect.identifier_preparer.quote_identifier
        if found is None:
            raise UserError(
                f"There is no database role {role!r}. Create it first: CREATE ROLE {quote(role)} LOGIN PASSWORD '...'. "
                "Nothing was granted."
            )
        if found.unbound:
            raise UserError(
                f"The role {role!r} is a superuser, bypasses row security or owns the tables: it sees every row. "
                "Name a role of its own; nothing was granted."
            )
        unknown = [row.tenant_id for row in execute(connection, PACKAGE, "unknown_tenants", {"tenants": list(tenants)})]
        if unknown:
            raise UserError(
                f"There is no tenant {unknown[0]!r}. Name tenants of platform.tenants; nothing was granted."
            )
        readable = execute(connection, PACKAGE, "readable_relations").all()
        for schema in sorted({row.schema for row in readable}):
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)}")
        names = ", ".join(f"{quote(row.schema)}.{quote(row.name)}" for row in readable)
        connection.exec_driver_sql(f"GRANT SELECT ON {names} TO {quote(role)}")
        execute(connection, PACKAGE, "set_visible_tenants", {"role": role, "tenants": list(tenants)})
        return len(readable)

    return database.in_transaction(grant)


def tenants_named(names: Sequence[str], *, everybody: bool) -> list[str]:
    """Return the tenants that a command names; raise UserError unless it names some, or everybody, and not both."""
    if bool(names) == everybody:
        raise UserError("Name the tenants, each with --tenant, or all of them with --all-tenants.")
    return [ALL_TENANTS] if everybody else list(names)
