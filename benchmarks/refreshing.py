"""Refreshing: full, after 1% changed, one dossier; beside one hand-written statement and the original's way."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from benchmarks.records import CLOCK, driver_connection
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.refresh import RefreshResult, refresh_health
from dossier_pipelines.shared.database import Database

AS_OF: Final = datetime.fromisoformat(CLOCK)

# What somebody would write by hand for the default settings: one aggregate over each table, one upsert.
HAND_WRITTEN: Final = """
INSERT INTO bench.health AS h
SELECT d.tenant_id, d.id, coalesce(e.in_year, 0), coalesce(e.in_quarter, 0), e.latest,
    least(100, 2 * coalesce(e.in_year, 0)),
    coalesce(c.total, 0), coalesce(c.active, 0), coalesce(c.overdue, 0), coalesce(c.fulfilled, 0),
    coalesce(c.upcoming, 0), coalesce(round(100.0 * c.fulfilled / nullif(c.total, 0)), 100),
    CASE WHEN e.in_year >= 3 AND c.total >= 1 THEN round(0.30 * least(100, 2 * e.in_year)
        + 0.40 * round(100.0 * c.fulfilled / c.total)
        + 0.30 * CASE WHEN e.latest > :as_of - interval '31 days' THEN 100 WHEN e.latest > :as_of - interval '91 days'
            THEN 70 WHEN e.latest > :as_of - interval '181 days' THEN 40 ELSE 10 END) END,
    now()
FROM raw.dossiers AS d
LEFT JOIN (
    SELECT tenant_id, dossier_id,
        count(*) FILTER (WHERE occurred_at >= :as_of - interval '365 days') AS in_year,
        count(*) FILTER (WHERE occurred_at >= :as_of - interval '90 days') AS in_quarter,
        max(occurred_at) AS latest
    FROM raw.engagements WHERE occurred_at <= :as_of GROUP BY tenant_id, dossier_id
) AS e ON e.tenant_id = d.tenant_id AND e.dossier_id = d.id
LEFT JOIN (
    SELECT tenant_id, dossier_id,
        count(*) FILTER (WHERE status <> 'cancelled') AS total,
        count(*) FILTER (WHERE status IN ('pending', 'in_progress')) AS active,
        count(*) FILTER (WHERE status NOT IN ('completed', 'cancelled') AND due_date < CAST(:as_of AS date)) AS overdue,
        count(*) FILTER (WHERE status = 'completed') AS fulfilled,
        count(*) FILTER (WHERE status NOT IN ('completed', 'cancelled')
            AND due_date BETWEEN CAST(:as_of AS date) AND CAST(:as_of AS date) + 30) AS upcoming
    FROM raw.commitments WHERE created_at <= :as_of GROUP BY tenant_id, dossier_id
) AS c ON c.tenant_id = d.tenant_id AND c.dossier_id = d.id
ON CONFLICT (tenant_id, dossier_id) DO UPDATE SET in_year = excluded.in_year, in_quarter = excluded.in_quarter,
    latest = excluded.latest, frequency = excluded.frequency, total = excluded.total, active = excluded.active,
    overdue = excluded.overdue, fulfilled = excluded.fulfilled, upcoming = excluded.upcoming, rate = excluded.rate,
    overall = excluded.overall, calculated_at = excluded.calculated_at
"""
HAND_WRITTEN_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS bench;
DROP TABLE IF EXISTS bench.health;
CREATE TABLE bench.health (tenant_id text COLLATE "C", dossier_id uuid, in_year int, in_quarter int, latest timestamptz,
    frequency numeric, total int, active int, overdue int, fulfilled int, upcoming int, rate int, overall int,
    calculated_at timestamptz, PRIMARY KEY (tenant_id, dossier_id))
"""

# The original: two materialized views, then one calculation per dossier in a loop.
ORIGINAL_VIEWS: Final = f"""
CREATE SCHEMA IF NOT EXISTS bench;
CREATE MATERIALIZED VIEW bench.dossier_engagement_stats AS
SELECT dossier_id, count(*) FILTER (WHERE occurred_at >= timestamptz '{CLOCK}' - interval '365 days') AS in_year,
    count(*) FILTER (WHERE occurred_at >= timestamptz '{CLOCK}' - interval '90 days') AS in_quarter,
    max(occurred_at) AS latest
FROM raw.engagements WHERE occurred_at <= timestamptz '{CLOCK}' GROUP BY dossier_id;
CREATE UNIQUE INDEX ON bench.dossier_engagement_stats (dossier_id);
CREATE MATERIALIZED VIEW bench.dossier_commitment_stats AS
SELECT dossier_id, count(*) FILTER (WHERE status <> 'cancelled') AS total,
    count(*) FILTER (WHERE status = 'completed') AS fulfilled,
    count(*) FILTER (WHERE status NOT IN ('completed', 'cancelled') AND due_date < date '{CLOCK[:10]}') AS overdue
FROM raw.commitments GROUP BY dossier_id;
CREATE UNIQUE INDEX ON bench.dossier_commitment_stats (dossier_id);
CREATE TABLE bench.original_scores (dossier_id uuid PRIMARY KEY, overall int, calculated_at timestamptz)
"""
ORIGINAL_SCORE: Final = f"""
INSERT INTO bench.original_scores
SELECT %(id)s, round(0.30 * least(100, 2 * e.in_year) + 0.40 * round(100.0 * c.fulfilled / nullif(c.total, 0))
    + 0.30 * CASE WHEN e.latest > timestamptz '{CLOCK}' - interval '31 days' THEN 100
        WHEN e.latest > timestamptz '{CLOCK}' - interval '91 days' THEN 70
        WHEN e.latest > timestamptz '{CLOCK}' - interval '181 days' THEN 40 ELSE 10 END), now()
FROM (SELECT 1) AS one
LEFT JOIN bench.dossier_engagement_stats AS e ON e.dossier_id = %(id)s
LEFT JOIN bench.dossier_commitment_stats AS c ON c.dossier_id = %(id)s
ON CONFLICT (dossier_id) DO UPDATE SET overall = excluded.overall, calculated_at = excluded.calculated_at
"""
TOUCH: Final = """
INSERT INTO raw.engagements (tenant_id, id, dossier_id, type, occurred_at)
SELECT tenant_id, gen_random_uuid(), id, 'meeting', CAST(:as_of AS timestamptz) - interval '1 hour'
FROM (SELECT tenant_id, id FROM raw.dossiers ORDER BY random() LIMIT :dossiers) AS chosen
"""


def seconds_of(work: Callable[[], object], *, times: int) -> float:
    """Return the median seconds of ``work``."""
    measured = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        measured.append(time.perf_counter() - began)
    return statistics.median(measured)


def refresh(database: Database, *, full: bool = False) -> RefreshResult:
    """Refresh as of the clock."""
    return refresh_health(database, read_health_config(), now=datetime.now(UTC), as_of=AS_OF, full=full)


def full_refreshes(database: Database, *, times: int) -> float:
    """Return the median seconds of a full refresh an hour after the last one, so that every row is written anew."""
    hours = itertools.count(1)

    def refresh_an_hour_later() -> None:
        as_of = AS_OF + next(hours) * timedelta(minutes=61)
        result = refresh_health(database, read_health_config(), now=datetime.now(UTC), as_of=as_of, full=True)
        if result.drifted:
            raise RuntimeError(f"{result.drifted} dossiers drifted")

    seconds = seconds_of(refresh_an_hour_later, times=times)
    refresh(database)
    return seconds


def vacuum(database: Database) -> None:
    """Do at once what autovacuum does in its own time, so that every measurement starts alike."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM (ANALYZE)"))
        connection.execute(sa.text("CHECKPOINT"))


def after_touching(database: Database, dossiers: int, *, times: int) -> float:
    """Return the median seconds of an incremental refresh after ``dossiers`` of them got an engagement each."""
    measured = []
    for _ in range(times):
        with database.engine.begin() as connection:
            connection.execute(sa.text(TOUCH), {"as_of": AS_OF, "dossiers": dossiers})
        began = time.perf_counter()
        result = refresh(database)
        measured.append(time.perf_counter() - began)
        if result.refreshed != dossiers:
            raise RuntimeError(f"{result.refreshed} dossiers were refreshed, {dossiers} had changed")
    return statistics.median(measured)


def hand_written(database: Database, *, times: int) -> float:
    """Return the median seconds of the hand-written statement, its rows there already."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(HAND_WRITTEN_TABLE)

    def upsert() -> None:
        with database.engine.begin() as connection:
            connection.execute(sa.text("SELECT set_config('work_mem', '128MB', true)"))
            connection.execute(sa.text(HAND_WRITTEN), {"as_of": AS_OF})

    upsert()
    vacuum(database)
    return seconds_of(upsert, times=times)


def original_way(database: Database) -> tuple[float, float]:
    """Return the seconds of refreshing the two views concurrently, and of one calculation per dossier."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(ORIGINAL_VIEWS)
        ids = list(connection.execute(sa.text("SELECT id FROM raw.dossiers")).scalars())
    views = 0.0
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for view in ("dossier_engagement_stats", "dossier_commitment_stats"):
            began = time.perf_counter()
            connection.execute(sa.text(f"REFRESH MATERIALIZED VIEW CONCURRENTLY bench.{view}"))
            views += time.perf_counter() - began
        driver = driver_connection(connection)
        began = time.perf_counter()
        for identity in ids:
            driver.execute(ORIGINAL_SCORE, {"id": identity})
        loop = time.perf_counter() - began
    return views, loop


@contextmanager
def explaining(database: Database) -> Iterator[list[str]]:
    """Yield a list that each statement run meanwhile is added to, with its plan as it ran."""
    said: list[str] = []

    def explain(
        connection: Connection, _cursor: object, sql: str, parameters: object, _context: object, _many: bool
    ) -> None:
        if not sql.lstrip().startswith(
            (
                *("INSERT", "WITH", "UPDATE", "DELETE", "SELECT EXISTS"),
                *("CREATE TEMPORARY TABLE refreshed", "CREATE TEMPORARY TABLE snapshot_"),
            )
        ):
            return
        with driver_connection(connection).cursor() as cursor:
            cursor.execute("SAVEPOINT explaining")
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", parameters)
            plan = "\n".join(row[0] for row in cursor.fetchall())
            cursor.execute("ROLLBACK TO SAVEPOINT explaining")
        said.append(f"{sql.strip()}\n\n{plan}")

    event.listen(database.engine, "before_cursor_execute", explain)
    try:
        yield said
    finally:
        event.remove(database.engine, "before_cursor_execute", explain)


def joined(plans: list[str]) -> str:
    """Return plans as one text."""
    return f"\n\n{'-' * 100}\n\n".join(plans)


def plans(database: Database, *, dossiers: int) -> str:
    """Return the plans of every statement of an incremental refresh, as it ran, and roll it back."""
    from dossier_pipelines.dossiers.refresh import refresh_in_transaction

    with database.engine.begin() as connection:
        connection.execute(sa.text(TOUCH), {"as_of": AS_OF, "dossiers": dossiers})
    with (
        explaining(database) as said,
        database.engine.connect() as connection,
        connection.begin() as transaction,
    ):
        refresh_in_transaction(connection, read_health_config(), now=datetime.now(UTC), as_of=AS_OF)
        transaction.rollback()
    refresh(database)
    return joined(said)
