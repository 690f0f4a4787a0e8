"""Daily snapshots: every dossier as of the end of every day, for any range of days, in one pass over the records.

The days are stored as spans (`dossiers.snapshot_spans`), one row per dossier and run of days of a year that are alike;
`dossiers.daily_snapshots` shows the days. What is stored depends on the records alone: computed again, by whatever
ranges, it stays as it is, to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import HealthConfig
from dossier_pipelines.dossiers.refresh import PACKAGE, WORK_MEM
from dossier_pipelines.shared.database import Database, create_working_table, execute
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.job_lease import Lease

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

ONE_DAY: Final = timedelta(days=1)
FEWEST_KEPT_DAYS: Final = 31
# What one transaction takes: each reads all commitments once, and holds what it writes until it commits.
MOST_DOSSIER_YEARS: Final = 2_500
CHUNKS_AT_ONCE: Final = 2
# The working tables of a chunk in the order in which they build on each other, each with the columns by which the next
# ones find its rows: how many there are, the planner must know.
WORKING_TABLES: Final = {
    "snapshot_wanted": "tenant_id, dossier_id",
    "snapshot_scope": "ordinal, tenant_id, dossier_id, first_day, last_day",
    "snapshot_events": "ordinal, day, happened",
    "snapshot_steps": "ordinal, day",
    "snapshot_factors": "ordinal, day",
    "snapshot_new": "tenant_id, dossier_id, year, first_day",
    "snapshot_touched": "tenant_id, dossier_id, year, first_day",
    "snapshot_merged": "tenant_id, dossier_id, year, first_day",
}


@dataclass(frozen=True, kw_only=True)
class SnapshotChunk:
    """What one transaction did."""

    first_day: date
    last_day: date
    dossiers: int
    written: int
    """Rows of dossiers.snapshot_spans that were written or removed; 0: all was there."""


@dataclass(frozen=True, kw_only=True)
class SnapshotResult:
    """What was done for a range of days."""

    days: int
    written: int
    skipped: int
    """Chunks that an earlier run of the same backfill had done."""


def take_snapshots(
    database: Database,
    config: HealthConfig,
    *,
    first_day: date,
    last_day: date,
    now: datetime,
    tenant_id: str | None = None,
    backfill_id: str | None = None,
    lease: Lease | None = None,
    report: Callable[[SnapshotChunk], None] = lambda _: None,
) -> SnapshotResult:
    """Take the snapshots of every day from ``first_day`` to ``last_day``, one year or several in a transaction.

    ``now`` is the clock of tenants that have none of their own; a tenant gets no day that its clock has not reached.
    ``report`` hears of each chunk. With ``backfill_id``, chunks that are done are not done again, so that a range that
    was interrupted goes on. Raises UserError for a range that ends before it starts, that no tenant's clock has reached
    to its end, or that begins before the first record; LeaseLostError when ``lease`` is lost.
    """
    require_range(database, first_day=first_day, last_day=last_day, now=now, tenant_id=tenant_id)
    dossiers = database.run(PACKAGE, "count_dossiers", {"tenant_id": tenant_id})[0].dossiers
    database.in_transaction(
        partial(_prepare, config=config, first_day=first_day, last_day=last_day, tenant_id=tenant_id)
    )
    database.in_transaction(partial(_announce, last_day=last_day, now=now, tenant_id=tenant_id))

    def work(days: tuple[date, date]) -> SnapshotChunk | None:
        return database.in_transaction(
            partial(
                _chunk,
                config=config,
                first_day=days[0],
                last_day=days[1],
                now=now,
                tenant_id=tenant_id,
                backfill_id=backfill_id,
                lease=lease,
            )
        )

    written = skipped = 0
    chunks = _years(first_day, last_day, at_once=MOST_DOSSIER_YEARS // max(1, dossiers))
    # Years have nothing in common, so that the database may work at two of them; what comes out is told in order.
    with ThreadPoolExecutor(CHUNKS_AT_ONCE) as pool:
        for chunk in pool.map(work, chunks):
            if chunk is None:
                skipped += 1
                continue
            written += chunk.written
            report(chunk)
    return SnapshotResult(days=(last_day - first_day).days + 1, written=written, skipped=skipped)


def require_range(
    database: Database, *, first_day: date, last_day: date, now: datetime, tenant_id: str | None = None
) -> None:
    """Raise UserError unless there can be snapshots of the range."""
    if last_day < first_day:
        raise UserError(
            f"The range ends on {last_day}, before it starts, on {first_day}. Name the earlier day first. "
            "Nothing was written."
        )
    reached = database.run(PACKAGE, "snapshot_reach", {"now": now, "tenant_id": tenant_id, "first_day": first_day})[0]
    if reached.newest is None and tenant_id is not None:
        raise UserError(f"There is no tenant {tenant_id!r}. Name one of platform.tenants; nothing was written.")
    if reached.newest is None:
        raise UserError(
            "There is no tenant yet, and so no record. Load a source (dossier-pipelines run); nothing was written."
        )
    if last_day > reached.newest:
        raise UserError(
            f"{last_day} is in the future: the tenants' clocks have come to {reached.newest}. Name a range that ends "
            "there or earlier. Nothing was written."
        )
    if not reached.any_record:
        oldest = database.run(PACKAGE, "oldest_record", {"tenant_id": tenant_id})[0].day
        what = (
            f"the first record is of {oldest}; start there" if oldest else "there is no record at all; load some first"
        )
        raise UserError(f"{first_day} lies before the first record: {what}. Nothing was written.")


def restate_snapshots(
    database: Database,
    config: HealthConfig,
    *,
    now: datetime,
    lease: Lease | None = None,
    report: Callable[[SnapshotChunk], None] = lambda _: None,
) -> SnapshotResult:
    """Take the snapshots anew that later records have overtaken: of the marked dossiers, from the marked moments on.

    Only days of which there is a snapshot, newest year first, each year in a transaction; the marks are deleted at the
    end. A tenant that moved west loses the day that has not come there yet. A restating that dies leaves its marks, and
    is done again.
    """

    def take(connection: Connection) -> list[dict[str, Any]]:
        if lease is not None:
            lease.require(connection)
        execute(connection, PACKAGE, "take_snapshot_marks")
        return [dict(row._mapping) for row in execute(connection, PACKAGE, "taken_snapshot_marks")]

    marks = database.in_transaction(take)
    days = database.run(PACKAGE, "snapshot_ranges", {"marks": json.dumps(marks)})
    written = 0
    ranges = [(row.tenant_id, first, last) for row in days for first, last in _years(row.first_day, row.last_day)]
    if ranges:
        first_day, last_day = min(first for _, first, _ in ranges), max(last for _, _, last in ranges)
        database.in_transaction(partial(_prepare, config=config, first_day=first_day, last_day=last_day))
    for tenant_id, first, last in sorted(ranges, key=lambda found: found[1], reverse=True):
        chunk = database.in_transaction(
            partial(
                _chunk,
                config=config,
                first_day=first,
                last_day=last,
                now=now,
                tenant_id=tenant_id,
                lease=lease,
                wanted=[mark for mark in marks if mark["tenant_id"] == tenant_id],
            )
        )
        if chunk is not None:
            written += chunk.written
            report(chunk)

    def settle(connection: Connection) -> None:
        if lease is not None:
            lease.require(connection)
        execute(connection, PACKAGE, "forget_days_to_come", {"now": now})
        execute(connection, PACKAGE, "settle_snapshot_marks")

    database.in_transaction(settle)
    return SnapshotResult(days=sum((last - first).days + 1 for _, first, last in ranges), written=written, skipped=0)


def _years(first_day: date, last_day: date, *, at_once: int = 1) -> Iterator[tuple[date, date]]:
    """Cut a range where years begin, ``at_once`` of them to a piece, and at least one."""
    while first_day <= last_day:
        end = min(last_day, date(first_day.year + max(1, at_once) - 1, 12, 31))
        yield first_day, end
        first_day = end + ONE_DAY


def _chunk(
    connection: Connection,
    *,
    config: HealthConfig,
    first_day: date,
    last_day: date,
    now: datetime,
    tenant_id: str | None = None,
    backfill_id: str | None = None,
    lease: Lease | None = None,
    wanted: list[dict[str, Any]] | None = None,
) -> SnapshotChunk | None:
    """Take the snapshots of a chunk, of all dossiers or of those that are ``wanted``; None when it is done already."""
    if lease is not None:
        lease.require(connection)
    days = {"first_day": first_day, "last_day": last_day}
    if (
        backfill_id
        and execute(connection, PACKAGE, "snapshot_chunk_done", {**days, "backfill_id": backfill_id}).first()
    ):
        return None
    connection.execute(
        sa.text("SELECT set_config('work_mem', :memory, true), set_config('search_path', 'pg_temp, dossiers', true)"),
        {"memory": WORK_MEM},
    )
    parameters = {
        **days,
        "now": now,
        "tenant_id": tenant_id,
        "version": config.version,
        "wanted": json.dumps(wanted or []),
        "few": wanted is not None,
        "settings_types": sorted(config.by_type),
    }
    for table, columns in WORKING_TABLES.items():
        create_working_table(connection, PACKAGE, table, analyzed=columns, parameters=parameters)
    dossiers = connection.execute(sa.text("SELECT count(*) FROM snapshot_scope")).scalar_one()
    written = execute(connection, PACKAGE, "remove_snapshots").rowcount
    written += execute(connection, PACKAGE, "write_snapshots").rowcount
    if wanted is None:
        execute(connection, PACKAGE, "write_snapshot_days", {**days, "now": now, "tenant_id": tenant_id})
    if backfill_id:
        execute(connection, PACKAGE, "record_snapshot_chunk", {**days, "backfill_id": backfill_id, "written": written})
    # The caller's transaction may go on, and take others.
    connection.exec_driver_sql(f"DROP TABLE {', '.join(WORKING_TABLES)}")
    return SnapshotChunk(first_day=first_day, last_day=last_day, dossiers=dossiers, written=written)


def _prepare(
    connection: Connection, *, config: HealthConfig, first_day: date, last_day: date, tenant_id: str | None = None
) -> None:
    """Make what chunks share: the settings that they name, the partitions that they write to."""
    execute(
        connection,
        PACKAGE,
        "register_settings",
        {"version": config.version, "settings": json.dumps(config.rows()), "tenant_id": tenant_id},
    )
    _make_partitions(connection, first_day.year - 1, last_day.year + 1)


def _announce(connection: Connection, *, last_day: date, now: datetime, tenant_id: str | None) -> None:
    """Tell the triggers how far the snapshots will reach, before any record is read.

    A load that began before this could commit after the records were read, and leave no mark: its end is waited for.
    What begins after it leaves marks. Only the first time that a day is taken: whoever writes waits behind the lock.
    """
    days = {"last_day": last_day, "now": now, "tenant_id": tenant_id}
    if execute(connection, PACKAGE, "snapshots_to_announce", days).first():
        connection.exec_driver_sql("LOCK TABLE raw.dossiers, raw.engagements, raw.commitments IN SHARE MODE")
        execute(connection, PACKAGE, "announce_snapshots", days)


def _make_partitions(connection: Connection, first_year: int, last_year: int) -> None:
    """Make the partitions that are missing, one a year: a reader of one dossier's course looks into each."""
    there = {row.name for row in execute(connection, PACKAGE, "snapshot_partitions")}
    for year in range(first_year, last_year + 1):
        name = f"snapshot_spans_{year}"
        if name not in there:
            connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS dossiers.{name} PARTITION OF dossiers.snapshot_spans "
                f"FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')"
            )


def forget_chunks(database: Database, backfill_id: str) -> None:
    """Forget the progress of a backfill that has come to its end: run again, it takes everything anew."""
    database.run(PACKAGE, "forget_snapshot_chunks", {"backfill_id": backfill_id})


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What retention removed, or would."""

    days: int
    rows: int
    bytes: int
    """Estimated from the average size of a row, its index entries included."""


def remove_old_snapshots(
    database: Database, *, keep_days: int, now: datetime, dry_run: bool = False, lease: Lease | None = None
) -> Removed:
    """Remove the snapshots of whole months that lie more than ``keep_days`` back, by each tenant's clock.

    The partitions that this leaves empty are dropped. Raises UserError for fewer than 31 days: a slip of the pen would
    remove what no source has any more.
    """
    if keep_days < FEWEST_KEPT_DAYS:
        raise UserError(f"{keep_days} days of snapshots are too few to keep; name at least {FEWEST_KEPT_DAYS}.")

    def remove(connection: Connection) -> Removed:
        if lease is not None:
            lease.require(connection)
        found = execute(connection, PACKAGE, "snapshots_beyond", {"keep_days": keep_days, "now": now}).all()
        for row in () if dry_run else found:
            for name in ("remove_old_spans", "cut_old_spans", "remove_old_days"):
                execute(connection, PACKAGE, name, {"tenant_id": row.tenant_id, "before": row.before})
        if found and not dry_run:
            _drop_empty_partitions(connection)
        return Removed(
            days=sum(row.days for row in found),
            rows=sum(row.spans for row in found),
            bytes=sum(row.bytes for row in found),
        )

    return database.in_transaction(remove)


def _drop_empty_partitions(connection: Connection) -> None:
    """Drop the partitions of years before the oldest span."""
    oldest = connection.execute(sa.text("SELECT min(year) FROM dossiers.snapshot_spans")).scalar_one()
    for row in execute(connection, PACKAGE, "snapshot_partitions").all():
        if oldest is None or row.name < f"snapshot_spans_{oldest.year}":
            connection.exec_driver_sql(f"DROP TABLE dossiers.{row.name}")
