"""Jobs that are done once a day of each tenant, at a time of the tenant's own clock: 07:00 in Riyadh, 07:00 in Kolkata.

One schedule ticks every quarter of an hour and asks `tenants_due`; the job calls `record_done` in the transaction of
its work. After a downtime the next tick does what is still due, and what is done is not done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from dossier_pipelines.shared.database import execute

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.shared"


@dataclass(frozen=True, kw_only=True)
class TenantDay:
    """A tenant, and the day of its own that a job is due for."""

    tenant_id: str
    day: date


def tenants_due(
    connection: Connection,
    job: str,
    *,
    among: Sequence[str],
    hour: int,
    minute: int = 0,
    now: datetime,
    hours: float | None = None,
) -> list[TenantDay]:
    """Return those tenants of ``among`` whose own ``hour``:``minute`` has passed and for whom ``job`` is not done.

    ``among`` is whom the job is for: platform.tenants keeps those whom no desk has any more.
    ``hours`` is how long a day's job stays due. Without it that is until the tenant's day ends: a job shortly before
    midnight needs it, since the next tick is on the next day. Where the clock is put forward over the time, it has
    passed when the clock goes on; where it comes twice, the job is done once.
    """
    found = execute(
        connection,
        PACKAGE,
        "tenants_due",
        {"job": job, "among": list(among), "hour": hour, "minute": minute, "now": now, "hours": hours},
    )
    return [TenantDay(tenant_id=row.tenant_id, day=row.day) for row in found]


def record_done(connection: Connection, job: str, days: Iterable[TenantDay], *, run_id: str, now: datetime) -> None:
    """Write down that ``job`` is done for ``days``."""
    done = list(days)
    execute(
        connection,
        PACKAGE,
        "record_daily_jobs",
        {
            "job": job,
            "tenants": [one.tenant_id for one in done],
            "days": [one.day for one in done],
            "run_id": run_id,
            "now": now,
        },
    )
