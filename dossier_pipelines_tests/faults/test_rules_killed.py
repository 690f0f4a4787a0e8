"""Rules whose run is killed at every step there is: the next run leaves what one clean run leaves."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dossier_pipelines.automation_rules.answering import AnsweringPolicy, answer_events
from dossier_pipelines.automation_rules.locks import ANSWER
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.faults.desk import await_gone
from dossier_pipelines_tests.faults.history import say
from dossier_pipelines_tests.faults.steps import Steps, killed_at
from dossier_pipelines_tests.records import rows
from dossier_pipelines_tests.rules import DELIVERY, NOW, TELL_ADMINS, House

pytestmark = pytest.mark.timeout(900)

STATE = {
    "executions": "SELECT rule_id, event_id, status, attempts, done, last_error FROM automation_rules.executions",
    "logs": """SELECT rule_id, event_id, status, actions_executed, error_message
        FROM automation_rules.automation_logs""",
    "told": "SELECT user_id, title, message, dedupe_key FROM notifications.notifications",
    "deliveries": "SELECT dedupe_key, channel, status FROM notifications.deliveries",
    "counts": "SELECT user_id, counted FROM notifications.daily_counts",
    "marks": "SELECT event_id FROM automation_rules.unmatched",
    "unplanned": "SELECT notification_id FROM notifications.unplanned",
    "held": "SELECT job FROM platform.job_leases WHERE holder IS NOT NULL",
}
WRITTEN = (
    "automation_rules.unmatched",
    "automation_rules.executions",
    "automation_rules.automation_logs",
    "notifications.notifications",
    "notifications.unplanned",
    "notifications.deliveries",
    "notifications.daily_counts",
    "platform.audit_log",
)


def run(database: Database, run_id: str) -> None:
    """Answer as the job does."""
    with job_lease(database, ANSWER.name, holder=run_id, seconds=ANSWER.seconds) as lease:
        answer_events(
            database, now=NOW, run_id=run_id, delivery=DELIVERY, lease=lease, policy=AnsweringPolicy(first_seconds=3600)
        )


def run_in_process(url: str, run_id: str, last: int | None = None) -> None:
    """Answer, and end at step ``last``."""
    run(Steps(last).watch(create_database(url)), run_id)


def state(database: Database) -> dict[str, list[str]]:
    return {name: sorted(str(tuple(row)) for row in rows(database, query)) for name, query in STATE.items()}


def execute(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(sa.text(statement))


def test_a_run_killed_at_any_step_is_completed_by_the_next(database: Database, new_database_url: str) -> None:
    house, other = House(database), House(database, "other")
    house.rule(actions=[*TELL_ADMINS, {"action": "webhook"}])
    house.rule("$.days_overdue > 100")
    house.rule(actions=[{"action": "set_field", "field": "a", "value": 1}])
    other.rule()
    house.event(number=3)
    other.event()
    flat = {table: table.replace(".", "_") for table in WRITTEN}
    execute(database, "CREATE SCHEMA before", *(f"CREATE TABLE before.{flat[t]} AS TABLE {t}" for t in WRITTEN))
    run(database, "clean")
    clean = state(database)
    assert (len(clean["executions"]), len(clean["told"]), clean["marks"], clean["held"]) == (7, 7, [], [])
    step = 1
    while True:
        await_gone(database)
        execute(
            database,
            *(f"DELETE FROM {table}" for table in WRITTEN),
            *(f"INSERT INTO {table} TABLE before.{flat[table]}" for table in WRITTEN),
        )
        if not killed_at(step, run_in_process, new_database_url, f"killed at {step}"):
            break
        await_gone(database)
        run(database, f"after {step}")
        assert state(database) == clean, f"killed at step {step}"
        step += 1
    assert step > 60
    say("rules killed at every step", steps=step - 1, kills=step - 1, executions=len(clean["executions"]), lost=0)
