"""Litigation: its jobs at the scales that the desk promises, beside a plain way that looks at one record after another.

Every figure is of this machine and this run. Database time is what passes between sending a statement and having its
answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
import sqlalchemy as sa

from benchmarks import original
from benchmarks.refreshing import explaining, joined
from dossier_pipelines.definitions import build_defs
from dossier_pipelines.litigation.entities import ENTITIES
from dossier_pipelines.litigation.metrics import MetricChunk, take_metrics
from dossier_pipelines.litigation.reminders import DEADLINES, REMINDERS, tell_in_the_morning
from dossier_pipelines.litigation.restating import restate_metrics
from dossier_pipelines.litigation.service_levels import TaskScope, check_tasks
from dossier_pipelines.litigation.source import litigation_source
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings

NOW: Final = datetime(2025, 6, 10, 9, tzinfo=UTC)
FIRST: Final = date(2002, 1, 1)
LAST: Final = date(2020, 4, 29)
TASKS: Final = 10_000
TENANTS: Final = 1_000
CHANGED_OF: Final = 100

MAKE_TENANTS: Final = """
INSERT INTO raw.tenants (tenant_id, id, name, timezone)
SELECT concat('t', n), CAST(md5(concat('tenant', n)) AS uuid), concat('Tenant ', n),
    (ARRAY['Asia/Riyadh', 'Asia/Kolkata', 'America/New_York'])[1 + n % 3]
FROM generate_series(1, CAST(:tenants AS integer)) AS n"""
MAKE_CASES: Final = """
INSERT INTO raw.cases (tenant_id, id, case_number, owner_id, assigned_to, created_at)
SELECT concat('t', n), CAST(md5(concat('case', c)) AS uuid), concat('C ', c), CAST(md5(concat('u', c)) AS uuid),
    CAST(md5(concat('v', c)) AS uuid), CAST(:now AS timestamptz) - interval '400 days'
FROM generate_series(1, CAST(:tenants AS integer)) AS n CROSS JOIN generate_series(1, CAST(:cases AS integer)) AS c"""
# A fifth is open, a tenth of these past due.
MAKE_TASKS: Final = """
INSERT INTO raw.tasks (tenant_id, id, case_id, title, status, priority, created_at, due_date, completed_at)
SELECT concat('t', n), CAST(md5(concat('task', k)) AS uuid), CAST(md5(concat('case', 1 + k % 100)) AS uuid),
    concat('Task ', k), CASE WHEN k % 5 = 0 THEN 'pending' ELSE 'completed' END,
    (ARRAY['low', 'medium', 'high', 'critical'])[1 + k % 4], m.made, m.made + interval '12 days',
    CASE WHEN k % 5 > 0 THEN m.made + interval '3 days' END
FROM generate_series(1, CAST(:tenants AS integer)) AS n CROSS JOIN generate_series(1, CAST(:tasks AS integer)) AS k
CROSS JOIN LATERAL (
    SELECT CAST(:now AS timestamptz) - (k % 13) * interval '1 day' - (k % 97) * interval '7 minutes' AS made
) AS m"""

# A document a tenant that nobody knew of, of the years that the sample has.
MAKE_LATE_DOCUMENTS: Final = """
INSERT INTO raw.case_documents (tenant_id, id, case_id, uploaded_at)
SELECT c.tenant_id, CAST(md5(concat('late', c.tenant_id)) AS uuid), c.id,
    timestamptz '2003-06-01T12:00Z' + row_number() OVER (ORDER BY c.tenant_id) * interval '200 days'
FROM (SELECT DISTINCT ON (tenant_id) tenant_id, id FROM raw.cases ORDER BY tenant_id, created_at) AS c"""


def run(database: Database, sql: str, **values: object) -> None:
    with database.transaction() as connection:
        # Nobody waits for what the triggers would note of the records that were always there.
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.execute(sa.text(sql), {name: value for name, value in values.items() if f":{name}" in sql})


def fill(database: Database, *, tenants: int, tasks: int) -> None:
    values = {"tenants": tenants, "tasks": tasks, "cases": 100, "now": NOW}
    for sql in (MAKE_TENANTS, MAKE_CASES, MAKE_TASKS):
        run(database, sql, **values)
    run(
        database,
        "INSERT INTO platform.tenants (tenant_id, timezone) SELECT tenant_id, timezone FROM raw.tenants "
        "ON CONFLICT DO NOTHING",
    )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) raw.tenants, raw.cases, raw.tasks, platform.tenants")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def database_time(database: Database) -> Iterator[list[float]]:
    """Yield a list that gets the seconds of each statement as it is answered."""
    taken: list[float] = []
    began = 0.0

    def before(*_: object) -> None:
        nonlocal began
        began = time.perf_counter()

    def after(*_: object) -> None:
        taken.append(time.perf_counter() - began)

    sa.event.listen(database.engine, "before_cursor_execute", before)
    sa.event.listen(database.engine, "after_cursor_execute", after)
    try:
        yield taken
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", before)
        sa.event.remove(database.engine, "after_cursor_execute", after)


def check(database: Database, at: datetime = NOW) -> float:
    return seconds(lambda: check_tasks(database, TaskScope(), now=at, run_id="bench"))


def the_originals_way(database: Database, job: str, tenant_id: str) -> float:
    """Return the seconds of the key logic of the original, one record after another."""
    run(database, "DROP SCHEMA IF EXISTS original CASCADE")
    run(database, original.TABLES)

    def work() -> None:
        with database.transaction() as connection:
            original.JOBS[job](connection, tenant_id, NOW)

    return seconds(work)


def fill_as_the_original(database: Database) -> None:
    """Make what the original names: a tenant of 10,000 tasks, some 200 of them late, 50 hearings, 2,000 executions."""
    fill(database, tenants=1, tasks=TASKS)
    run(
        database,
        "INSERT INTO raw.hearings (tenant_id, id, case_id, hearing_date, status) "
        "SELECT 't1', gen_random_uuid(), CAST(md5(concat('case', k)) AS uuid), "
        "CAST(:now AS timestamptz) + interval '4 hours', 'scheduled' FROM generate_series(1, 50) AS k",
        now=NOW,
    )
    run(
        database,
        "INSERT INTO raw.automation_rules (tenant_id, id, name, trigger_event, actions) "
        "SELECT 't1', CAST(md5(concat('rule', k)) AS uuid), concat('Rule ', k), 'task_overdue', "
        '\'[{"action": "webhook"}]\' FROM generate_series(1, 20) AS k',
    )
    run(
        database,
        "INSERT INTO automation_rules.automation_logs (tenant_id, rule_id, rule_name, trigger_event, event_id, status, "
        "actions_executed, executed_at) SELECT 't1', CAST(md5(concat('rule', 1 + k % 20)) AS uuid), 'A rule', "
        "'task_overdue', gen_random_uuid(), CASE WHEN k % 3 = 0 THEN 'failed' ELSE 'success' END, '[]', "
        "CAST(:now AS timestamptz) - interval '1 hour' FROM generate_series(1, 2000) AS k",
        now=NOW,
    )
    run(database, "UPDATE platform.tenants SET clock_at = :now", now=NOW)


def measure_runs(database: Database) -> dict[str, float]:
    """Return, of each job at the volume that the original names, the seconds of a run and of the original's way."""
    fill_as_the_original(database)
    defs = build_defs({"database": database})
    figures: dict[str, float] = {}
    for job in original.JOBS:
        figures[f"plain_{job}_s"] = the_originals_way(database, job, "t1")
        tags = {"dagster/partition": "2025-06-09"} if job == "analytics_snapshot_job" else {}
        with dg.DagsterInstance.ephemeral() as instance:
            began = time.perf_counter()
            result = defs.resolve_job_def(job).execute_in_process(
                instance=instance, tags=tags, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            )
            figures[f"run_{job}_s"] = time.perf_counter() - began
            if not result.success:
                raise RuntimeError(f"{job} failed")
    return figures


def measure_checks(database: Database) -> dict[str, float]:
    """Return the figures of the check of service levels."""
    fill(database, tenants=1, tasks=TASKS)
    figures = {"plain_check_s": the_originals_way(database, "check_sla_and_overdue_job", "t1")}
    # The first check judges all of what is due by now; the next ones what changed.
    figures["first_check_s"] = check(database)
    at = NOW
    times = []
    for _ in range(5):
        at += timedelta(minutes=15)
        with database.transaction() as connection:
            connection.execute(
                sa.text(
                    "UPDATE raw.tasks SET due_date = due_date - interval '1 hour' "
                    "WHERE right(CAST(id AS text), 1) = '7'"
                )
            )
        times.append(check(database, at))
    figures["check_s"] = sorted(times)[2]
    run(
        database,
        "TRUNCATE raw.tenants, raw.cases, raw.tasks, litigation.task_flags, "
        "litigation.task_marks, litigation.task_checks, platform.events, platform.audit_log",
    )
    return figures


def measure_many(database: Database) -> dict[str, float]:
    """Return the figures of a check of ten million tasks, of which one in a hundred changed."""
    fill(database, tenants=TENANTS, tasks=TASKS)
    figures = {"first_check_of_many_s": check(database)}
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "UPDATE raw.tasks AS t SET due_date = t.due_date - interval '1 hour', priority = 'high' "
                "WHERE t.id IN (SELECT CAST(md5(concat('task', k)) AS uuid) FROM generate_series(1, :tasks, :of) AS k)"
            ),
            {"tasks": TASKS, "of": CHANGED_OF},
        )
    figures["check_of_many_s"] = check(database, NOW + timedelta(minutes=15))
    figures["idle_check_of_many_s"] = check(database, NOW + timedelta(minutes=15))
    run(
        database,
        "TRUNCATE raw.tenants, raw.cases, raw.tasks, litigation.task_flags, litigation.task_marks, "
        "litigation.task_checks, platform.events, platform.audit_log",
    )
    return figures


def measure_mornings(database: Database) -> dict[str, float]:
    """Return the figures of reminders and alerts: 10,000 reminders recorded, planned for mail."""
    fill(database, tenants=10, tasks=100)
    run(
        database,
        "INSERT INTO raw.hearings (tenant_id, id, case_id, hearing_date, status) "
        "SELECT concat('t', n), CAST(md5(concat('h', k)) AS uuid), CAST(md5(concat('case', 1 + k % 100)) AS uuid), "
        "CAST(:now AS timestamptz) + interval '3 hours', 'scheduled' "
        "FROM generate_series(1, 10) AS n CROSS JOIN generate_series(1, 750) AS k",
        now=NOW,
    )
    run(
        database,
        "INSERT INTO raw.users (tenant_id, id, email) SELECT DISTINCT c.tenant_id, u.id, 'somebody@example.org' "
        "FROM raw.cases AS c CROSS JOIN LATERAL (VALUES (c.owner_id), (c.assigned_to)) AS u (id)",
    )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) raw.hearings, raw.users")
    figures: dict[str, float] = {}
    noon = NOW + timedelta(hours=6)
    for name, job in (("remind", REMINDERS), ("alert", DEADLINES)):
        began = time.perf_counter()
        found = tell_in_the_morning(database, job, now=noon if job is DEADLINES else NOW, run_id="bench")
        figures[f"{name}_s"] = time.perf_counter() - began
        figures[f"{name}_messages"] = found.get("remindersSent", found.get("alertsSent", 0))
    return figures


def measure_history(database: Database) -> dict[str, float]:
    """Return the figures of the sample's daily metrics."""
    source = litigation_source(read_settings({}))
    assert source is not None
    began = time.perf_counter()
    for entity in ENTITIES.values():
        source.configured.load(database, entity, known=ENTITIES)
        database.run("dossier_pipelines.litigation", "set_clocks", {"local_clock": source.local_clock})
    figures = {"sample_load_s": time.perf_counter() - began}

    def take(first: date, last: date) -> float:
        return seconds(lambda: take_metrics(database, first_day=first, last_day=last, now=NOW, run_id="bench"))

    with database_time(database) as statements:
        figures["history_s"] = take(FIRST, LAST)
    figures["history_database_s"] = sum(statements)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) litigation.daily_metrics, litigation.anomalies")
        figures["values"] = connection.exec_driver_sql("SELECT count(*) FROM litigation.daily_metrics").scalar_one()
    figures["history_again_s"] = take(FIRST, LAST)
    figures["metrics_of_a_day_s"] = sorted(take(date(2019, 6, day), date(2019, 6, day)) for day in range(1, 6))[2]
    with database_time(database) as statements:
        figures["metrics_of_the_newest_day_s"] = take(LAST, LAST)
    figures["metrics_of_the_newest_day_database_s"] = sum(statements)
    with database.transaction() as connection:
        connection.execute(sa.text(MAKE_LATE_DOCUMENTS))
    chunks: list[MetricChunk] = []
    figures["restate_s"] = seconds(lambda: restate_metrics(database, now=NOW, run_id="bench", report=chunks.append))
    figures["restate_transactions"] = len(chunks)
    figures["restated_values"] = sum(chunk.written for chunk in chunks)
    return figures


def measure_litigating(history: Database, load: Database, many: Database, runs: Database) -> dict[str, float]:
    """Return every figure of the desk, each part in a database of its own."""
    figures = measure_history(history)
    figures |= measure_checks(load)
    figures |= measure_mornings(load)
    figures |= measure_runs(runs)
    figures |= measure_many(many)
    figures["plain_of_check"] = figures["plain_check_s"] / figures["first_check_s"]
    return figures


def litigating_plans(database: Database) -> str:
    """Return the plans of the statements of a check and of a day's metrics, as they ran on the sample."""
    with explaining(database) as said:
        check(database)
        take_metrics(database, first_day=LAST, last_day=LAST, now=NOW, run_id="bench")
    return joined(said)
