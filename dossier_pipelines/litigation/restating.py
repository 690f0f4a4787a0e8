"""Taking days anew that later records have overtaken.

A change of records marks its tenant, from the moment on that it is about; so does another time zone, service level or
grace. Restating takes the marked days anew, in transactions of tenants whose days reach about as far back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from dossier_pipelines.litigation.metrics import (
    MOST_TENANT_DAYS,
    MetricChunk,
    MetricResult,
    Telling,
    run_recorded,
    take_chunk,
    total,
)
from dossier_pipelines.litigation.service_levels import PACKAGE
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy
from dossier_pipelines.shared.database import Database, execute

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease

JOB: Final = "restate_metrics_job"
# Judging reads so many days before those that are judged, and more (HISTORY in unusual.py): fewer cost the same.
LITTLE_DAYS: Final = 250


def restate_metrics(
    database: Database,
    *,
    now: datetime,
    run_id: str,
    policy: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
    report: Callable[[MetricChunk], None] = lambda _: None,
) -> MetricResult:
    """Take the days anew that later records have overtaken: of each marked tenant those that were taken, no others.

    Tenants whose days reach about as far back are taken together, in a transaction that removes their marks: what dies
    leaves the marks of the others, which are done again. A tenant that moved west loses the day that has not come to
    its end there yet. What becomes unusual on a tenant's newest day is told as `take_metrics` does; LeaseLostError as
    there.
    """

    def mark_taken(connection: Connection) -> list[_MarkedDays]:
        if lease is not None:
            lease.require(connection)
        execute(connection, PACKAGE, "take_metric_marks")
        execute(connection, PACKAGE, "forget_metrics_to_come", {"now": now})
        return [_MarkedDays(*row) for row in execute(connection, PACKAGE, "marked_days")]

    def restate(connection: Connection, marked: Sequence[_MarkedDays]) -> list[MetricChunk]:
        names = [one.tenant_id for one in marked]
        chunk = take_chunk(
            connection,
            first_day=min(one.first_day for one in marked),
            last_day=max(one.newest_day for one in marked),
            now=now,
            tenants=names,
            lease=lease,
            judge_on=False,
            only_taken=True,
            tell=Telling(run_id=run_id, policy=policy),
        )
        execute(connection, PACKAGE, "settle_metric_marks", {"tenants": names})
        return [chunk]

    def settle(connection: Connection) -> list[MetricChunk]:
        if lease is not None:
            lease.require(connection)
        # Of tenants that have no day.
        execute(connection, PACKAGE, "settle_metric_marks", {"tenants": None})
        return []

    chunks: list[MetricChunk] = []
    for marked in _together(database.in_transaction(mark_taken)):
        work = partial(restate, marked=marked)
        chunks += run_recorded(database, work, before=chunks, tenants=sum, run_id=run_id, job=JOB)
        report(chunks[-1])
    run_recorded(database, settle, before=chunks, tenants=sum, run_id=run_id, job=JOB)
    return total(chunks, tenants=sum)


@dataclass(frozen=True)
class _MarkedDays:
    """The days of a tenant that are taken anew."""

    tenant_id: str
    first_day: date
    newest_day: date


def _together(marked: Sequence[_MarkedDays]) -> list[list[_MarkedDays]]:
    """Group tenants so that the days of a group are few, or at most twice those of each of its tenants; one chunk."""
    groups: list[list[_MarkedDays]] = []
    shortest, first, last = 0, date.max, date.min
    for one in sorted(marked, key=lambda days: (days.newest_day, days.first_day), reverse=True):
        span = (one.newest_day - one.first_day).days + 1
        if groups:
            together = (max(last, one.newest_day) - min(first, one.first_day)).days + 1
            few = together <= max(2 * min(shortest, span), LITTLE_DAYS)
            if few and together * (len(groups[-1]) + 1) <= MOST_TENANT_DAYS:
                groups[-1].append(one)
                shortest, first, last = min(shortest, span), min(first, one.first_day), max(last, one.newest_day)
                continue
        groups.append([one])
        shortest, first, last = span, one.first_day, one.newest_day
    return groups
