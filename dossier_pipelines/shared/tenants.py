"""Whom a job that is started by hand may be for, and as of when.

A wrong name would look like a tenant without any trouble, and a moment to come would use up what is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from dossier_pipelines.shared.database import execute
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.tables import ALL_TENANTS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.shared"


def no_such_tenant(tenant_id: str, *, table: str) -> UserError:
    """Return the refusal of a tenant that is none; ``table`` is where an operator finds the names."""
    return UserError(f"There is no tenant {tenant_id!r}. Name one of {table}; nothing was done.")


def require_tenant(connection: Connection, tenant_id: str) -> None:
    """Raise UserError for a tenant that is nobody's."""
    unknown = execute(connection, PACKAGE, "unknown_tenants", {"tenants": [tenant_id]}).one_or_none()
    if unknown is not None or tenant_id == ALL_TENANTS:
        raise no_such_tenant(tenant_id, table="platform.tenants")


def require_past(connection: Connection, as_of: datetime, *, tenants: Sequence[str], now: datetime) -> None:
    """Raise UserError when ``as_of`` is later than the clock of one of ``tenants``: its own one, or else ``now``."""
    behind = execute(
        connection, PACKAGE, "clocks_behind", {"as_of": as_of, "tenants": list(tenants), "now": now}
    ).one_or_none()
    if behind is not None:
        raise UserError(
            f"as_of is {as_of.isoformat()}, and the clock of tenant {behind.tenant_id!r} shows "
            f"{behind.present.isoformat()}. What is found for a moment to come would be told now and not when it "
            "happens: name an earlier as_of, leave it out, or set dry_run to true. Nothing was done."
        )
