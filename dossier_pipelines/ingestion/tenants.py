"""Whose records a source of one tenant holds: the tenant is known before its first row."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy.exc import DBAPIError

from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.failures import UserError, describe_database_error

PACKAGE: Final = "dossier_pipelines.ingestion"


def register_tenant(database: Database, *, tenant_id: str, timezone: str, clock_at: datetime | None) -> None:
    """Make the tenant known, with its time zone, and the moment at which its records end if they do.

    Raises UserError when the database does not take it.
    """
    parameters = {"tenant_id": tenant_id, "timezone": timezone, "clock_at": clock_at}
    try:
        with database.transaction() as connection:
            execute(connection, PACKAGE, "register_tenant", parameters)
    except DBAPIError as error:
        raise UserError(describe_database_error(error, place=f"Registering the tenant {tenant_id}")) from None
