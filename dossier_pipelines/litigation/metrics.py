"""Daily metrics of every tenant, for any range of days in one pass over the records, and what is unusual in them.

A day is as of its end in the tenant's zone. What is stored depends on the records, the service levels and the grace of
due dates: taken again it stays as it is, and another of them reaches the days that are taken already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dossier_pipelines.litigation.service_levels import DEFAULT_HOURS, PACKAGE
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.audit import record_results, took_effect
from dossier_pipelines.shared.database import Database, create_working_table, execute, statement
from dossier_pipelines.shared.failures import UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease

ONE_DAY: Final = timedelta(days=1)
JOB: Final = "analytics_snapshot_job"
WORK_MEM: Final = "128MB"
# Each chunk reads all records once, and holds what it writes until it commits.
MOST_TENANT_DAYS: Final = 250_000
# How long days that are taken wait for loads that are open, a bulk load among them, and how long at a time.
LOADS_PATIENCE_SECONDS: Final = 600.0
LOCK_SECONDS: Final = 5
WORKING_TABLES: Final = {"metric_scope": "tenant_id", "metric_events": "tenant_id, day, happened"}


@dataclass(frozen=True, kw_only=True)
class MetricChunk:
    """What one transaction did."""

    first_day: date
    last_day: date
    tenants: int
    written: int
    """Rows of litigation.daily_metrics that were written; 0: all was there."""
    robust: int
    """Days of metrics that the robust detector finds unusual."""
    original: int
    """Those that the original's rule does."""
    told: int = 0
    """Administrators' messages of what is unusual on the newest day."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """How administrators are told of what is unusual."""

    run_id: str
    policy: DeliveryPolicy


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """What was done for a range of days."""

    days: int
    """From the first to the last day that was taken for anybody."""
    tenants: int
    """Those whose metrics were taken, or taken anew."""
    written: int
    robust: int
    original: int
    told: int

    def figures(self, *, dry_run: bool = False) -> dict[str, int | bool]:
        """Return what the audit log and the result document say of it."""
        return {
            "days": self.days,
            "tenants": self.tenants,
            "metricsWritten": self.written,
            "anomaliesDetected": self.robust,
            "anomaliesByOriginalRule": self.original,
            "alertsSent": self.told,
            "dryRun": dry_run,
        }


def take_metrics(
    database: Database,
    *,
    first_day: date,
    last_day: date,
    now: datetime,
    run_id: str,
    tenants: Sequence[str] | None = None,
    grace: timedelta = timedelta(minutes=15),
    policy: DeliveryPolicy = DEFAULT_POLICY,
    dry_run: bool = False,
    lease: Lease | None = None,
    report: Callable[[MetricChunk], None] = lambda _: None,
) -> MetricResult:
    """Take the metrics of every tenant, or of ``tenants``, for every day from ``first_day`` to ``last_day``.

    ``now`` is the clock of tenants that have none of their own; a tenant gets no day before its 23:59.
    ``grace``: by how much a due date must have passed for a task to be overdue; another one than before marks the days
    that are there, to be restated. What is unusual on a tenant's newest day is told to its administrators, once, as
    ``policy`` says. A dry run finds the same in one transaction, and keeps nothing.

    Raises UserError for a range that ends before it starts, that no tenant's clock has reached to its end, or that
    begins before the first record; LeaseLostError when ``lease`` is lost.
    """
    _require_range(database, first_day=first_day, last_day=last_day, now=now, tenants=tenants)
    count = database.run(PACKAGE, "count_tenants", {"tenants": _names(tenants)})[0].tenants
    pieces = list(_pieces(first_day, last_day, max(1, MOST_TENANT_DAYS // max(1, count))))
    announced = {"last_day": last_day, "now": now, "tenants": _names(tenants), "grace": grace}

    def take(connection: Connection, first: date, last: date) -> list[MetricChunk]:
        return [
            take_chunk(
                connection,
                first_day=first,
                last_day=last,
                now=now,
                tenants=tenants,
                lease=lease,
                # What comes after a changed day was judged by it.
                judge_on=last == last_day,
                tell=Telling(run_id=run_id, policy=policy),
            )
        ]

    def try_all(connection: Connection) -> list[MetricChunk]:
        # In one transaction: a day is judged by those before it.
        tried: list[MetricChunk] = []
        with connection.begin_nested() as trial:
            execute(connection, PACKAGE, "announce_metrics", announced)
            for first, last in pieces:
                tried += take(connection, first, last)
                report(tried[-1])
            trial.rollback()
        return tried

    if dry_run:
        return total(run_recorded(database, try_all, run_id=run_id, job=JOB, dry_run=True), tenants=max)
    database.in_transaction(partial(_announce, announced=announced), patience_seconds=LOADS_PATIENCE_SECONDS)
    chunks: list[MetricChunk] = []
    for first, last in pieces:
        work = partial(take, first=first, last=last)
        chunks += run_recorded(database, work, before=chunks, tenants=max, run_id=run_id, job=JOB)
        report(chunks[-1])
    return total(chunks, tenants=max)


def run_recorded(
    database: Database,
    work: Callable[[Connection], list[MetricChunk]],
    *,
    before: Sequence[MetricChunk] = (),
    tenants: Callable[[Iterable[int]], int] = max,
    run_id: str,
    job: str,
    dry_run: bool = False,
) -> list[MetricChunk]:
    """Return what ``work`` made of a transaction, in which the run writes down what it has done with ``before``.

    ``tenants`` as `total` has it.
    """
    made: list[MetricChunk] = []

    def attempt(connection: Connection) -> list[MetricChunk]:
        nonlocal made
        if took_effect(connection, run_id=run_id, attempted=figures() if made else {}):
            return made
        made = work(connection)
        record_results(connection, run_id=run_id, job=job, results=figures())
        return made

    def figures() -> dict[str, int | bool]:
        return total([*before, *made], tenants=tenants).figures(dry_run=dry_run)

    return database.in_transaction(attempt)


def total(chunks: Sequence[MetricChunk], *, tenants: Callable[[Iterable[int]], int]) -> MetricResult:
    """Return what ``chunks`` did; ``tenants`` is max where they are of the same tenants, sum where of others."""
    first_day = min((chunk.first_day for chunk in chunks), default=date.max)
    last_day = max((chunk.last_day for chunk in chunks), default=date.max - ONE_DAY)
    return MetricResult(
        days=(last_day - first_day).days + 1,
        tenants=tenants([0, *(chunk.tenants for chunk in chunks)]),
        written=sum(chunk.written for chunk in chunks),
        robust=sum(chunk.robust for chunk in chunks),
        original=sum(chunk.original for chunk in chunks),
        told=sum(chunk.told for chunk in chunks),
    )


def missing_ranges(database: Database, *, since: date, now: datetime) -> list[tuple[date, date]]:
    """Return the unbroken ranges of days, first and last, of each of which some tenant has to get its metrics yet.

    Days that were missed for whatever time are among them, from ``since`` on; ``now`` as in `take_metrics`.
    """
    ranges: list[tuple[date, date]] = []
    rows = database.run(PACKAGE, "missing_days", {"since": since, "now": now})
    for first, last in sorted((row.first_day, row.last_day) for row in rows):
        if ranges and first <= ranges[-1][1] + ONE_DAY:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], last)
        else:
            ranges.append((first, last))
    return ranges


def tenants_missing(database: Database, *, first_day: date, last_day: date, now: datetime) -> list[str]:
    """Return the tenants that lack a day of the range which has come to its end for them."""
    rows = database.run(PACKAGE, "missing_days", {"since": first_day, "now": now})
    return sorted({row.tenant_id for row in rows if row.first_day <= last_day})


def _require_range(
    database: Database, *, first_day: date, last_day: date, now: datetime, tenants: Sequence[str] | None
) -> None:
    if last_day < first_day:
        raise UserError(
            f"The range ends on {last_day}, before it starts, on {first_day}. Name the earlier day first. "
            "Nothing was written."
        )
    if tenants is not None and not tenants:
        return
    reach = database.run(PACKAGE, "metric_reach", {"now": now, "tenants": _names(tenants)})[0]
    if reach.oldest is None:
        whose = "The litigation desk" if tenants is None else f"The tenant {', '.join(tenants)}"
        raise UserError(f"{whose} has no case yet. Load its source; nothing was written.")
    if last_day > reach.newest:
        raise UserError(
            f"{last_day} has not come to its end: the newest day that has is {reach.newest}. Name a range that ends "
            "there or earlier. Nothing was written."
        )
    if first_day < reach.oldest:
        raise UserError(
            f"{first_day} lies before the first record: the first record is of {reach.oldest}; start there. "
            "Nothing was written."
        )


def _pieces(first_day: date, last_day: date, days: int) -> Iterator[tuple[date, date]]:
    while first_day <= last_day:
        end = min(last_day, first_day + (days - 1) * ONE_DAY)
        yield first_day, end
        first_day = end + ONE_DAY


def _names(tenants: Sequence[str] | None) -> list[str] | None:
    return None if tenants is None else list(tenants)


def _announce(connection: Connection, *, announced: Mapping[str, Any]) -> None:
    """Tell the triggers how far the metrics will reach, and wait for the loads that began before they knew."""
    # Whoever waits here holds up the loads that come after; tried again, it lets them pass.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    if execute(connection, PACKAGE, "announce_metrics", announced).first():
        connection.exec_driver_sql(
            "LOCK TABLE raw.tenants, raw.sla_policies, raw.cases, raw.tasks, raw.hearings, raw.case_documents "
            "IN SHARE MODE"
        )


def take_chunk(
    connection: Connection,
    *,
    first_day: date,
    last_day: date,
    now: datetime,
    tenants: Sequence[str] | None,
    lease: Lease | None,
    judge_on: bool,
    tell: Telling,
    only_taken: bool = False,
) -> MetricChunk:
    """Take and judge the days of a transaction, and tell what is unusual on the newest.

    ``judge_on``: judge the days after them anew, too, whose verdicts rest on them. ``only_taken``: write no day that
    has not been taken before. LeaseLostError when ``lease`` is lost.
    """
    if lease is not None:
        lease.require(connection)
    connection.execute(
        sa.text("SELECT set_config('work_mem', :memory, true), set_config('search_path', 'pg_temp, litigation', true)"),
        {"memory": WORK_MEM},
    )
    parameters: dict[str, Any] = {
        "first_day": first_day,
        "last_day": last_day,
        "now": now,
        "tenants": _names(tenants),
        "hours": json.dumps(DEFAULT_HOURS),
        "only_taken": only_taken,
    }
    for table, columns in WORKING_TABLES.items():
        create_working_table(connection, PACKAGE, table, analyzed=columns, parameters=parameters)
    taken = connection.execute(sa.text("SELECT count(*) FROM metric_scope")).scalar_one()
    written = execute(
        connection,
        PACKAGE,
        "write_daily_metrics",
        {"first_day": first_day, "last_day": last_day, "only_taken": only_taken},
    ).rowcount
    judged = _judge(connection, parameters, judge_on=judge_on)
    connection.exec_driver_sql(f"DROP TABLE {', '.join(WORKING_TABLES)}")
    days = {"first_day": first_day, "last_day": last_day, "now": now, "tenants": _names(tenants)}
    told = execute(connection, PACKAGE, "tell_unusual", {**days, "run_id": tell.run_id}).one().notifications
    if told:
        plan_deliveries(connection, tell.policy, run_id=tell.run_id)
    return MetricChunk(
        first_day=first_day,
        last_day=last_day,
        tenants=taken,
        written=written,
        robust=judged.robust,
        original=judged.original,
        told=told,
    )


def _judge(connection: Connection, parameters: Mapping[str, Any], *, judge_on: bool) -> sa.Row[Any]:
    """Judge the days, and those after them whose verdict rests on them; write what is unusual."""
    # Only runs judge; numpy is nothing for whoever loads the definitions.
    from dossier_pipelines.litigation.unusual import HISTORY, unusual_days

    first_day, last_day = parameters["first_day"], parameters["last_day"]
    scope = {
        "from_day": first_day - HISTORY,
        "to_day": last_day + HISTORY if judge_on else last_day,
        "tenants": parameters["tenants"],
    }
    series = execute(connection, PACKAGE, "metric_series", scope).all()
    found = unusual_days(series, from_day=scope["from_day"], since=first_day)
    later = [
        {name: row[name] for name in ("tenant_id", "metric", "day")}
        for row in found
        if row["detector"] == "weekday_robust" and row["day"] > last_day.isoformat()
    ]
    if later:
        _add_later_events(connection, later, parameters)
    return execute(
        connection, PACKAGE, "write_anomalies", {**scope, "from_day": first_day, "found": json.dumps(found)}
    ).one()


def _add_later_events(
    connection: Connection, later: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> None:
    """Add the events of days after the range whose anomalies have no records yet: verdicts reach further than it."""
    given = {"later": json.dumps(later)}
    create_working_table(connection, PACKAGE, "later_scope", analyzed="tenant_id", parameters=given)
    # The range itself is written by now.
    connection.exec_driver_sql("DROP TABLE metric_scope")
    connection.exec_driver_sql("ALTER TABLE later_scope RENAME TO metric_scope")
    selected = statement(PACKAGE, "metric_events").text
    connection.execute(sa.text(f"INSERT INTO metric_events {selected}"), dict(parameters))
    connection.exec_driver_sql(f"ANALYZE metric_events ({WORKING_TABLES['metric_events']})")
