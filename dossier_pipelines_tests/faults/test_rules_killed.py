"""Rules whose run is killed at every step there is, and the check of their health: the next run leaves what one clean
run leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import pytest
import sqlalchemy as sa

from dossier_pipelines.automation_rules.answering import AnsweringPolicy, answer_events
from dossier_pipelines.automation_rules.automation_health import HealthScope, check_health
from dossier_pipelines.automation_rules.locks import ANSWER
from dossier_pipelines.automation_rules.locks import HEALTH as HEALTH_LOCK
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.faults.desk import await_gone
from dossier_pipelines_tests.faults.history import say
from dossier_pipelines_tests.faults.server import errors_of, lose_the_answer_once, once_before, restart
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
# Alerts have random keys.
HEALTH: Final = {
    "alerts": """SELECT tenant_id, level, condition, rule_id, said, raised_at, cleared_at
        FROM automation_rules.health_alerts""",
    "told": "SELECT tenant_id, user_id, urgency, title, message FROM notifications.notifications",
    "deliveries": "SELECT tenant_id, channel, status FROM notifications.deliveries",
    "counts": STATE["counts"],
    "unplanned": STATE["unplanned"],
    "days": "SELECT tenant_id, job, day FROM platform.daily_jobs",
    "held": STATE["held"],
}
WRITTEN_BY_HEALTH: Final = (
    "automation_rules.health_alerts",
    "notifications.notifications",
    "notifications.unplanned",
    "notifications.deliveries",
    "notifications.daily_counts",
    "platform.daily_jobs",
    "platform.audit_log",
)
# In UTC it is 08:00.
MORNING: Final = NOW + timedelta(hours=5)


def run(database: Database, run_id: str) -> None:
    """Answer as the job does."""
    with job_lease(database, ANSWER.name, holder=run_id, seconds=ANSWER.seconds) as lease:
        answer_events(
            database, now=NOW, run_id=run_id, delivery=DELIVERY, lease=lease, policy=AnsweringPolicy(first_seconds=3600)
        )


def run_in_process(url: str, run_id: str, last: int | None = None) -> None:
    """Answer, and end at step ``last``."""
    run(Steps(last).watch(create_database(url)), run_id)


def check(database: Database, run_id: str) -> dict[str, Any]:
    """Judge the health of rules as the job does."""
    with HEALTH_LOCK.lease(database, holder=run_id) as lease:
        return check_health(database, HealthScope(), now=MORNING, run_id=run_id, delivery=DELIVERY, lease=lease)


def check_in_process(url: str, run_id: str, last: int | None = None) -> None:
    """Judge, and end at step ``last``."""
    check(Steps(last).watch(create_database(url)), run_id)


def state(database: Database, queries: Mapping[str, str] = STATE) -> dict[str, list[str]]:
    return {name: sorted(str(tuple(row)) for row in rows(database, query)) for name, query in queries.items()}


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


def sick_rules(database: Database) -> None:
    """Two tenants with troubles to raise, and one that is over."""
    for name in ("default", "other"):
        house = House(database, name)
        house.user("admin")
        failing = house.rule(active_since=NOW - timedelta(days=9))
        house.rule(active_since=NOW - timedelta(days=9))
        house.run(
            "INSERT INTO automation_rules.automation_logs (tenant_id, rule_id, rule_name, trigger_event, event_id, "
            "status, actions_executed, executed_at) SELECT :tenant, :rule, 'A rule', 'task_overdue', "
            "gen_random_uuid(), CASE WHEN n < 3 THEN 'failed' ELSE 'success' END, '[]', :at "
            "FROM generate_series(1, 5) AS n",
            tenant=name,
            rule=failing,
            at=NOW,
        )
        house.run(
            "INSERT INTO automation_rules.health_alerts (tenant_id, level, condition, rule_id, said, raised_at) "
            "VALUES (:tenant, 'CRITICAL', 'degraded', gen_random_uuid(), 'The rule is gone', :at), "
            "(:tenant, 'WARNING', 'inactive', :rule, 'It was silent', :at)",
            tenant=name,
            rule=failing,
            at=NOW - timedelta(days=2),
        )


def forget_health(database: Database) -> None:
    execute(
        database,
        *(f"DELETE FROM {table}" for table in WRITTEN_BY_HEALTH),
        "INSERT INTO automation_rules.health_alerts TABLE before.health_alerts",
    )


def test_a_check_of_health_killed_at_any_step_is_completed_by_the_next(
    database: Database, new_database_url: str
) -> None:
    sick_rules(database)
    execute(
        database, "CREATE SCHEMA before", "CREATE TABLE before.health_alerts AS TABLE automation_rules.health_alerts"
    )
    check(database, "clean")
    clean = state(database, HEALTH)
    # Of each tenant degraded, inactive and overall, and what is over.
    assert (len(clean["alerts"]), len(clean["told"]), len(clean["days"])) == (10, 12, 2)
    assert (clean["unplanned"], clean["held"]) == ([], [])
    step = 1
    while True:
        await_gone(database)
        forget_health(database)
        if not killed_at(step, check_in_process, new_database_url, f"killed at {step}"):
            break
        await_gone(database)
        check(database, f"after {step}")
        assert state(database, HEALTH) == clean, f"killed at step {step}"
        step += 1
    assert step > 20
    say("check of health killed at every step", steps=step - 1, kills=step - 1, alerts=len(clean["alerts"]), lost=0)


@pytest.mark.parametrize("moment", ["INSERT INTO automation_rules.health_alerts", "INSERT INTO platform.daily_jobs"])
def test_a_check_of_health_outlives_a_restart_of_the_server(
    own_server: EmbeddedPostgres, own_database: Database, moment: str
) -> None:
    sick_rules(own_database)
    execute(
        own_database,
        "CREATE SCHEMA before",
        "CREATE TABLE before.health_alerts AS TABLE automation_rules.health_alerts",
    )
    found = check(own_database, "clean")
    clean = state(own_database, HEALTH)
    forget_health(own_database)
    with once_before(own_database, moment, lambda: restart(own_server)):
        assert check(own_database, "restarted") == found
    assert state(own_database, HEALTH) == clean
    say("server restarted during a check of health", restarts=1, lost=0)


def test_a_check_of_health_whose_commit_took_effect_although_its_answer_was_lost_reports_what_it_did(
    database: Database, new_database_url: str
) -> None:
    sick_rules(database)
    worker = create_database(new_database_url)
    lose_the_answer_once(worker, after="INSERT INTO platform.daily_jobs")
    with errors_of(worker) as errors:
        found = check(worker, "lost")
    worker.engine.dispose()
    assert errors, "no answer was lost"
    assert (found["tenants"], found["alertsRaised"], found["notificationsSent"]) == (2, 6, 12)
    assert len(rows(database, "SELECT FROM automation_rules.health_alerts")) == 10
