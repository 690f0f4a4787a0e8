"""A job of the litigation desk that is killed at any step: the next run leaves what one clean run leaves."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import pytest
import sqlalchemy as sa

from dossier_pipelines.litigation import locks, metrics, restating
from dossier_pipelines.litigation.metrics import MetricChunk, MetricResult, take_metrics
from dossier_pipelines.litigation.reminders import DEADLINES, REMINDERS, MorningJob, tell_in_the_morning
from dossier_pipelines.litigation.restating import restate_metrics
from dossier_pipelines.litigation.service_levels import TaskScope, check_tasks
from dossier_pipelines.shared.audit import read_results
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines.shared.job_lease import JobLock
from dossier_pipelines_tests.faults.desk import await_gone
from dossier_pipelines_tests.faults.history import say
from dossier_pipelines_tests.faults.server import errors_of, lose_the_answer_once, once_before, restart
from dossier_pipelines_tests.faults.steps import Steps, killed_at
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.records import rows, scalar

pytestmark = pytest.mark.timeout(900)

# Longer than what a detector has to know before it judges.
DAYS: Final = (date(2025, 4, 20), date(2025, 6, 9))
UNUSUAL_DAY: Final = date(2025, 6, 5)
# What a job leaves behind, whichever run did it, and how often it was tried.
STATE: Final = {
    "flags": "SELECT task_id, overdue_since, sla_missed_at FROM litigation.task_flags",
    "marks": "SELECT task_id, came FROM litigation.task_marks",
    "checks": "SELECT tenant_id, checked_since, checked_until, grace FROM litigation.task_checks",
    "events": "SELECT tenant_id, type, entity_id, payload, dedupe_key FROM platform.events",
    "audit": "SELECT tenant_id, action_type, details FROM platform.audit_log WHERE tenant_id <> '*'",
    "told": "SELECT tenant_id, user_id, title, metadata, dedupe_key FROM notifications.notifications",
    "deliveries": "SELECT tenant_id, channel, status, dedupe_key FROM notifications.deliveries",
    "counts": "SELECT tenant_id, user_id, day, counted FROM notifications.daily_counts",
    "unplanned": "SELECT notification_id FROM notifications.unplanned",
    "days": "SELECT tenant_id, job, day, reaches_to FROM platform.daily_jobs",
    "metrics": "SELECT tenant_id, metric, day, value FROM litigation.daily_metrics",
    "unusual": "SELECT tenant_id, metric, day, detector, value, records FROM litigation.anomalies",
    "late": "SELECT tenant_id, since FROM litigation.metric_marks",
    "held": "SELECT job FROM platform.job_leases WHERE holder IS NOT NULL",
}
WRITTEN: Final = (
    "litigation.task_flags",
    "litigation.task_checks",
    "litigation.task_marks",
    "litigation.metric_reach",
    "litigation.metric_marks",
    "litigation.daily_metrics",
    "litigation.anomalies",
    "platform.daily_jobs",
    "platform.events",
    "platform.audit_log",
    "notifications.notifications",
    "notifications.unplanned",
    "notifications.deliveries",
    "notifications.daily_counts",
)


def under(
    database: Database, lock: JobLock, work: Callable[..., object], *arguments: object, **options: object
) -> object:
    with lock.lease(database, holder="a run") as lease:
        return work(database, *arguments, now=NOON, run_id="a run", lease=lease, **options)


def check(database: Database) -> object:
    return under(database, locks.CHECK_TASKS, check_tasks, TaskScope())


def morning(database: Database, job: MorningJob, lock: JobLock) -> object:
    return under(database, lock, tell_in_the_morning, job)


def remind(database: Database) -> object:
    return morning(database, REMINDERS, locks.REMIND)


def alert(database: Database) -> object:
    return morning(database, DEADLINES, locks.ALERT)


def take(database: Database) -> object:
    return under(database, locks.METRICS, take_metrics, first_day=DAYS[0], last_day=DAYS[1])


def restate(database: Database) -> None:
    """Restate in a transaction for each tenant."""
    with pytest.MonkeyPatch.context() as patch, locks.METRICS.lease(database, holder="a run") as lease:
        patch.setattr(restating, "MOST_TENANT_DAYS", 20)
        restate_metrics(database, now=NOON, run_id="a run", lease=lease)


JOBS: Final = {"check": check, "remind": remind, "alert": alert, "take": take}


def in_process(url: str, name: str, last: int | None = None) -> None:
    """Do a job, and end at step ``last``."""
    (JOBS | {"restate": restate})[name](Steps(last).watch(create_database(url)))


def state(database: Database) -> dict[str, list[str]]:
    return {name: sorted(str(tuple(row)) for row in rows(database, query)) for name, query in STATE.items()}


def forget(database: Database) -> None:
    """Be as before the job: its marks are there again, and nothing else of it."""
    with database.transaction() as connection:
        connection.execute(sa.text(f"TRUNCATE {', '.join(WRITTEN)}"))
        connection.execute(
            sa.text(
                "INSERT INTO litigation.task_marks (tenant_id, task_id, came) SELECT tenant_id, id, true FROM raw.tasks"
            )
        )


def make_desks(database: Database) -> list[Desk]:
    """Two tenants with something late, something due, something to come, and a past."""
    desks = [Desk(database, name, clock_at=NOON) for name in ("one", "two")]
    for desk in desks:
        people = [desk.user(), desk.user()]
        case = desk.case(owner_id=people[0], assigned_to=people[1], court_id=desk.court(), created_at=NOON - 60 * DAY)
        for number in range(4):
            made = NOON - (30 - number) * DAY
            desk.task(case, created_at=made, due_date=made + 20 * DAY, assigned_to=people[number % 2])
            desk.task(case, due_date=NOON + (2 + number) * HOUR, assigned_to=people[number % 2])
            desk.hearing(case, NOON + (3 + number) * HOUR)
            desk.hearing(case, NOON - (3 + number) * DAY, status="completed", attended=number > 1)
        for number in range(1, 58):
            desk.document(case, NOON - number * DAY)
        for _ in range(20):
            desk.document(case, datetime.combine(UNUSUAL_DAY, time(9), UTC))
    return desks


def require_explained(found: dict[str, list[str]]) -> None:
    """Raise unless the metrics have an anomaly of each tenant with the records that made it."""
    explained = [row for row in found["unusual"] if "documents_uploaded" in row and repr(UNUSUAL_DAY) in row]
    assert len(explained) == 2, found["unusual"]


@pytest.fixture
def desks(database: Database) -> list[Desk]:
    return make_desks(database)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_killed_at_any_step_is_completed_by_the_next_run(
    database: Database, desks: list[Desk], new_database_url: str, name: str
) -> None:
    job = JOBS[name]
    job(database)
    clean = state(database)
    assert clean["held"] == []
    if name == "take":
        require_explained(clean)
    assert sum(len(found) for kind, found in clean.items() if kind != "marks") > 20
    step = 1
    forget(database)
    while killed_at(step, in_process, new_database_url, name):
        await_gone(database)
        job(database)
        assert state(database) == clean, f"killed at step {step}"
        step += 1
        forget(database)
    assert step > 30
    say(f"{name} killed at every step", kills=step - 1, steps=step - 1, lost=0)


def test_a_restating_killed_at_any_step_is_completed_by_the_next_run(
    database: Database, desks: list[Desk], new_database_url: str
) -> None:
    def late() -> list[uuid.UUID]:
        cases = rows(database, "SELECT id FROM raw.cases ORDER BY tenant_id")
        return [desk.document(case.id, NOON - 8 * DAY) for desk, case in zip(desks, cases, strict=True)]

    take(database)
    before = {name: state(database)[name] for name in ("metrics", "unusual")}
    documents = late()
    step, after = 1, None
    while killed_at(step, in_process, new_database_url, "restate"):
        await_gone(database)
        restate(database)
        found = state(database)
        assert found["late"] == [], f"killed at step {step}"
        after = after or found["metrics"]
        assert before["metrics"] != after == found["metrics"], f"killed at step {step}"
        for desk, document in zip(desks, documents, strict=True):
            desk.remove("case_documents", document)
        restate(database)
        assert {name: state(database)[name] for name in before} == before
        documents = late()
        step += 1
    assert step > 30
    say("restating killed at every step", kills=step - 1, steps=step - 1, lost=0)


def test_the_metrics_of_days_do_not_depend_on_the_order_in_which_they_are_taken(
    database: Database, desks: list[Desk]
) -> None:
    take(database)
    clean = {name: state(database)[name] for name in ("metrics", "unusual")}
    require_explained(clean)
    forget(database)
    day = DAYS[1]
    while day >= DAYS[0]:
        under(database, locks.METRICS, take_metrics, first_day=day, last_day=day)
        day -= timedelta(days=1)
    assert {name: state(database)[name] for name in clean} == clean


def test_metrics_that_are_taken_twice_at_once_are_those_of_one_taking(database: Database, desks: list[Desk]) -> None:
    take(database)
    clean = state(database)
    forget(database)
    # Without a lease, which lets one in after the other.
    with ThreadPoolExecutor(4) as pool:
        each = list(pool.map(lambda number: take_days(database, f"run {number}"), range(4)))
    assert state(database) == clean
    assert [result.robust for result in each] == [each[0].robust] * 4


def take_days(
    database: Database, run_id: str, report: Callable[[MetricChunk], object] = lambda _: None
) -> MetricResult:
    return take_metrics(database, first_day=DAYS[0], last_day=DAYS[1], now=NOON, run_id=run_id, report=report)


@pytest.mark.parametrize("transaction", [1, 2, 3])
def test_a_taking_whose_commit_took_effect_although_its_answer_was_lost_reports_what_it_did(
    database: Database, desks: list[Desk], new_database_url: str, monkeypatch: pytest.MonkeyPatch, transaction: int
) -> None:
    # Twenty days a transaction.
    monkeypatch.setattr(metrics, "MOST_TENANT_DAYS", 40)
    chunks: list[MetricChunk] = []
    clean = take_days(database, "clean", chunks.append)
    assert len(chunks) == 3
    forget(database)
    worker = create_database(new_database_url)
    found: list[MetricChunk] = []

    def report(chunk: MetricChunk | None) -> None:
        found.extend([chunk] if chunk else [])
        if len(found) == transaction - 1:
            lose_the_answer_once(worker, after="INSERT INTO litigation.daily_metrics")

    with errors_of(worker) as errors:
        report(None)
        result = take_days(worker, "lost", report)
    assert errors, "no answer was lost"
    assert (result, found) == (clean, chunks)
    with database.transaction() as connection:
        assert read_results(connection, run_id="lost") == clean.figures()
    worker.engine.dispose()


def test_a_restating_whose_commit_took_effect_although_its_answer_was_lost_reports_what_it_did(
    database: Database, desks: list[Desk], new_database_url: str
) -> None:
    take(database)
    for _ in range(30):
        desks[0].document(scalar(database, "SELECT id FROM raw.cases LIMIT 1"), NOON - DAY)
    worker = create_database(new_database_url)
    lose_the_answer_once(worker, after="DELETE FROM litigation.metric_marks")
    with errors_of(worker) as errors:
        result = restate_metrics(worker, now=NOON, run_id="lost")
    assert errors, "no answer was lost"
    assert result.written == 1
    with database.transaction() as connection:
        assert read_results(connection, run_id="lost") == result.figures()
    worker.engine.dispose()


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("check", "CREATE TEMPORARY TABLE judged_tasks"),
        ("check", "INSERT INTO litigation.task_checks"),
        ("remind", "INSERT INTO notifications.notifications"),
        ("alert", "INSERT INTO platform.daily_jobs"),
        ("take", "INSERT INTO litigation.daily_metrics"),
        ("take", "INSERT INTO litigation.anomalies"),
    ],
)
def test_a_job_outlives_a_restart_of_the_server(
    own_server: EmbeddedPostgres, own_database: Database, name: str, moment: str
) -> None:
    make_desks(own_database)
    JOBS[name](own_database)
    clean = state(own_database)
    forget(own_database)
    with once_before(own_database, moment, lambda: restart(own_server)):
        JOBS[name](own_database)
    assert state(own_database) == clean
    say(f"server restarted during {name}", restarts=1, lost=0)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("check", "INSERT INTO litigation.task_checks"),
        ("remind", "INSERT INTO platform.daily_jobs"),
        ("alert", "INSERT INTO platform.daily_jobs"),
    ],
)
def test_a_job_whose_commit_took_effect_although_its_answer_was_lost_reports_what_it_did(
    database: Database, desks: list[Desk], new_database_url: str, name: str, after: str
) -> None:
    found = JOBS[name](database)
    clean = state(database)
    forget(database)
    worker = create_database(new_database_url)
    lose_the_answer_once(worker, after=after)
    with errors_of(worker) as errors:
        assert JOBS[name](worker) == found
    worker.engine.dispose()
    assert errors, "no answer was lost"
    assert state(database) == clean
    with database.transaction() as connection:
        assert read_results(connection, run_id="a run") == found
