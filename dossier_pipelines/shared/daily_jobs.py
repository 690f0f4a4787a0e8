"""Jobs that are done once a day of each tenant, at a time of the tenant's own clock: 07:00 in Riyadh, 07:00 in Kolkata.

One schedule ticks every quarter of an hour and asks `tenants_due`; the job calls `record_done` in the transaction of
its work. After a downtime the next tick does what is still due, and what is done is not done again. The job of a day
looks ahead to the next one: it stays due until then, over midnight too, and comes again when a change of the tenant's
zone puts the next one off.
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
    begins: datetime
    """Its time of that day; the present, before that time and when that day is over."""
    ends: datetime
    """When the next one is due."""
    reached: datetime | None = None
    """To where the ones before looked ahead; None: not known."""


def tenants_due(connection: Connection, job: str, *, among: Sequence[str], hour: int, now: datetime) -> list[TenantDay]:
    """Return those tenants of ``among`` for whom ``job`` is not done since their own ``hour`` came last.

    ``among`` is whom the job is for: platform.tenants keeps those whom no desk has any more. A tenant that never had
    the job is due on the day itself only. Where the clock is put forward over the hour, it has come when the clock goes
    on; where it comes twice, the job is done once.
    """
    found = execute(connection, PACKAGE, "tenants_due", {"job": job, "among": list(among), "hour": hour, "now": now})
    return [
        TenantDay(tenant_id=row.tenant_id, day=row.day, begins=row.begins, ends=row.ends, reached=row.reached)
        for row in found
    ]


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
            "ends": [one.ends for one in done],
            "run_id": run_id,
            "now": now,
        },
    )
