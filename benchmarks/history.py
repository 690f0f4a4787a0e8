"""History: the sample's days in one pass beside one query a day, and a run of them beside a run that does nothing.

Every figure is of this machine and this run. Database time is the time of the transactions, seen from Python.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from benchmarks.refreshing import explaining, joined, vacuum
from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.refresh import PACKAGE, WORK_MEM
from dossier_pipelines.dossiers.snapshots import restate_snapshots, take_snapshots
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared.database import Database, execute, statement
from dossier_pipelines.shared.environment import read_settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

FIRST: Final = date(2002, 1, 1)
LAST: Final = date(2020, 4, 29)
YEAR: Final = (date(2018, 1, 1), date(2018, 12, 31))
# Days of the loop, spread over the whole time.
SLICE: Final = 30
COLUMNS: Final = (
    "tenant_id, dossier_id, total_engagements_365d, recent_engagements_90d, latest_engagement_date, "
    "engagement_frequency_score, total_commitments, active_commitments, overdue_commitments, fulfilled_commitments, "
    "upcoming_commitments, fulfillment_rate, recency, overall_score, band, insufficient_reason"
)

# A run of the same partitions whose asset does nothing: what Dagster itself takes.
NOTHING: Final = """
import json, sys, tempfile, time, warnings
import dagster as dg
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.partitions import daily_partitions
warnings.simplefilter("ignore")
@dg.asset(partitions_def=daily_partitions(read_settings()), backfill_policy=dg.BackfillPolicy.single_run())
def nothing() -> None: ...
defs = dg.Definitions(assets=[nothing], jobs=[dg.define_asset_job("job", selection="*")],
                      executor=dg.in_process_executor)
with dg.DagsterInstance.get() as instance:
    began = time.perf_counter()
    result = defs.resolve_job_def("job").execute_in_process(instance=instance, tags={
        "dagster/asset_partition_range_start": sys.argv[1], "dagster/asset_partition_range_end": sys.argv[2]},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}})
    print(json.dumps({"seconds": time.perf_counter() - began}))
"""

# The same by the command line.
BACKFILL: Final = """
import json, logging, resource, sys, time, warnings
warnings.simplefilter("ignore")
from datetime import date
import dagster as dg
from dossier_pipelines.definitions import build_defs
defs = build_defs()
with dg.DagsterInstance.get() as instance:
    began = time.perf_counter()
    result = defs.resolve_job_def("daily_snapshots_job").execute_in_process(instance=instance, tags={
        "dagster/asset_partition_range_start": sys.argv[1], "dagster/asset_partition_range_end": sys.argv[2]},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}})
    print(json.dumps({"seconds": time.perf_counter() - began, "success": result.success,
                      "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def load_sample(database: Database) -> None:
    """Load the built-in sample."""
    source = configured_source(read_settings({}))
    for entity in ENTITIES.values():
        source.load(database, entity, known=ENTITIES, run_id="bench")
    vacuum(database)


def take(database: Database, first: date, last: date) -> float:
    """Return the seconds of taking the days from ``first`` to ``last``."""
    began = time.perf_counter()
    take_snapshots(database, read_health_config(), first_day=first, last_day=last, now=datetime.now(UTC))
    return time.perf_counter() - began


def one_query_a_day(database: Database) -> float:
    """Return the seconds a day of the plain way: the statement of a refresh for every day, its rows inserted."""
    config = read_health_config()
    days = [FIRST + timedelta(days=round((LAST - FIRST).days * place / (SLICE - 1))) for place in range(SLICE)]
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS dossiers.plain_days")
        connection.exec_driver_sql(
            f"CREATE TABLE dossiers.plain_days AS SELECT date '2000-01-01' AS day, {COLUMNS} "
            "FROM dossiers.daily_snapshots LIMIT 0"
        )
        connection.exec_driver_sql("ALTER TABLE dossiers.plain_days ADD PRIMARY KEY (tenant_id, dossier_id, day)")
    began = time.perf_counter()
    for day in days:
        with database.transaction() as connection:
            _plain_day(connection, day, config.version)
    return (time.perf_counter() - began) / SLICE


def _plain_day(connection: Connection, day: date, version: str) -> None:
    connection.execute(sa.text("SELECT set_config('work_mem', :memory, true)"), {"memory": WORK_MEM})
    connection.exec_driver_sql(statement(PACKAGE, "refresh_keys").text)
    connection.execute(
        sa.text("""
        INSERT INTO refresh_keys
        SELECT row_number() OVER (), d.tenant_id, d.id, '*', m.as_of, m.as_of + interval '60 minutes',
            m.as_of - 365 * interval '24 hours', m.as_of - 90 * interval '24 hours', :day,
            m.as_of + interval '1 microsecond', true, false, NULL, NULL
        FROM raw.dossiers AS d
        JOIN platform.tenants AS t ON t.tenant_id = d.tenant_id
        CROSS JOIN LATERAL (SELECT platform.day_end(:day, t.timezone) AS as_of) AS m
        WHERE d.created_at <= m.as_of"""),
        {"day": day},
    )
    connection.exec_driver_sql("ANALYZE refresh_keys (ordinal, tenant_id, dossier_id)")
    computed = statement(PACKAGE, "health_as_of").text
    connection.execute(
        sa.text(f"INSERT INTO dossiers.plain_days SELECT :day, {COLUMNS} FROM ({computed}) AS x"),
        {"day": day, "version": version},
    )
    connection.exec_driver_sql("DROP TABLE refresh_keys")


def _size(connection: Connection, table: str) -> float:
    return (
        float(
            connection.execute(
                sa.text(
                    "SELECT coalesce(sum(pg_total_relation_size(i.inhrelid)), 0) + pg_total_relation_size(:name) "
                    "FROM pg_inherits AS i WHERE i.inhparent = CAST(:name AS regclass)"
                ),
                {"name": table},
            ).scalar_one()
        )
        / 2**20
    )


def plain_form(database: Database) -> dict[str, Any]:
    """Return what storing every day as a row of its own would take, measured on two years."""
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS dossiers.plain_form")
        began = time.perf_counter()
        connection.exec_driver_sql(
            "CREATE TABLE dossiers.plain_form (LIKE dossiers.snapshot_spans); "
            "ALTER TABLE dossiers.plain_form ADD PRIMARY KEY (tenant_id, dossier_id, first_day); "
            "INSERT INTO dossiers.plain_form SELECT s.tenant_id, s.dossier_id, s.year, d.day, d.day, "
            "s.total_engagements_365d, s.recent_engagements_90d, s.latest_engagement_date, "
            "s.engagement_frequency_score, "
            "s.total_commitments, s.active_commitments, s.overdue_commitments, s.fulfilled_commitments, "
            "s.upcoming_commitments, s.fulfillment_rate, s.recency, s.overall_score, s.band, s.insufficient_reason, "
            "s.previous_score, s.factors, s.settings_version FROM dossiers.snapshot_spans AS s "
            "JOIN dossiers.snapshot_days AS d ON d.tenant_id = s.tenant_id AND d.year = s.year "
            "AND d.day BETWEEN s.first_day AND s.last_day WHERE s.year BETWEEN '2017-01-01' AND '2018-01-01'"
        )
        seconds = time.perf_counter() - began
        rows = connection.exec_driver_sql("SELECT count(*) FROM dossiers.plain_form").scalar_one()
        days = connection.exec_driver_sql("SELECT count(*) FROM dossiers.daily_snapshots").scalar_one()
        spans = connection.exec_driver_sql("SELECT count(*) FROM dossiers.snapshot_spans").scalar_one()
        share = days / rows
        figures = {
            "dossier_days": days,
            "spans": spans,
            "plain_form_mb": _size(connection, "dossiers.plain_form") * share,
            "plain_form_write_s": seconds * share,
            "spans_mb": _size(connection, "dossiers.snapshot_spans"),
        }
        connection.exec_driver_sql("DROP TABLE dossiers.plain_form")
    return figures


def reading(database: Database) -> dict[str, float]:
    """Return the seconds in the database of reading one dossier's course, and one day; the middle of nine."""
    with database.engine.connect() as connection:
        dossier = connection.exec_driver_sql(
            "SELECT dossier_id FROM dossiers.snapshot_spans GROUP BY dossier_id ORDER BY count(*) DESC, dossier_id "
            "LIMIT 1"
        ).scalar_one()

        def seconds(condition: str, value: object) -> float:
            query = sa.text(
                f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM dossiers.daily_snapshots WHERE {condition} = :value"
            )
            found = []
            for _ in range(9):
                plan = connection.execute(query, {"value": value}).scalar_one()[0]
                found.append((plan["Planning Time"] + plan["Execution Time"]) / 1000)
            return sorted(found)[4]

        return {
            "course_s": seconds("tenant_id = 'sample' AND dossier_id", dossier),
            "day_read_s": seconds("day", date(2019, 5, 5)),
        }


def _child(program: str, *arguments: str, environ: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def runs(url: str, dagster_url: str, home: Path, first: date, last: date) -> dict[str, float]:
    """Return the seconds of a run of the range, and of one of an asset that does nothing."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(
        "storage:\n  postgres:\n    postgres_url:\n      env: DAGSTER_PG_URL\ntelemetry:\n  enabled: false\n",
        encoding="utf-8",
    )
    environ = {
        "DOSSIER_DATABASE_URL": url,
        "DAGSTER_PG_URL": dagster_url,
        "DAGSTER_HOME": str(home),
        "DAGSTER_EVENT_BATCH_SIZE": "500",
    }
    days = (first.isoformat(), last.isoformat())
    nothing = _child(NOTHING, *days, environ=environ)["seconds"]
    ours = _child(BACKFILL, *days, environ=environ)
    return {"nothing_s": nothing, "run_s": ours["seconds"], "memory_mb": ours["memory_mb"]}


def measure_history(database: Database, url: str, dagster_url: str, home: Path) -> dict[str, Any]:
    """Return every figure of history."""
    load_sample(database)
    figures: dict[str, Any] = {"days": (LAST - FIRST).days + 1}
    figures["whole_s"] = take(database, FIRST, LAST)
    vacuum(database)
    figures["whole_again_s"] = take(database, FIRST, LAST)
    figures["loop_day_s"] = one_query_a_day(database)
    figures["loop_of_whole"] = figures["loop_day_s"] * figures["days"] / figures["whole_s"]
    figures["year_s"] = sorted(take(database, *YEAR) for _ in range(3))[1]
    figures["single_day_s"] = sorted(take(database, date(2018, 6, day), date(2018, 6, day)) for day in range(1, 10))[4]
    figures |= plain_form(database) | reading(database)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
            "SELECT tenant_id, gen_random_uuid(), id, '2019-06-01' FROM raw.dossiers ORDER BY id LIMIT 1"
        )
    began = time.perf_counter()
    restate_snapshots(database, read_health_config(), now=datetime.now(UTC))
    figures["restate_one_s"] = time.perf_counter() - began
    year = runs(url, dagster_url, home, *YEAR)
    figures |= {f"year_{name}": value for name, value in year.items()}
    with database.transaction() as connection:
        connection.exec_driver_sql("TRUNCATE dossiers.snapshot_spans, dossiers.snapshot_days")
    whole = runs(url, dagster_url, home, FIRST, LAST)
    figures |= {f"whole_{name}": value for name, value in whole.items()}
    figures["run_allowed_s"] = figures["whole_s"] + 1.3 * figures["whole_nothing_s"]
    figures["own_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def history_plans(database: Database) -> str:
    """Return the plans of the statements of one day's snapshot and of the sensor, as they ran."""
    with explaining(database) as said:
        take(database, date(2019, 6, 5), date(2019, 6, 5))
        with database.transaction() as connection:
            execute(connection, PACKAGE, "waiting_snapshot_marks")
            execute(connection, PACKAGE, "movers_of_a_year", {"most": 12})
            execute(connection, PACKAGE, "trend_by_group")
    return joined(said)
