"""Rules of the litigation desk: an event of it is answered once, and what a rule does is as if a person had done it."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dossier_pipelines.automation_rules.answering import DEFAULT_ANSWERING, answer_events
from dossier_pipelines.automation_rules.automation_health import HealthScope, check_health
from dossier_pipelines.automation_rules.replaying import Replay, replay_dead
from dossier_pipelines.ingestion.configured import ConfiguredSource
from dossier_pipelines.litigation.entities import ENTITIES
from dossier_pipelines.litigation.rule_actions import HANDLERS
from dossier_pipelines.litigation.service_levels import TaskScope, check_tasks
from dossier_pipelines.litigation.source import litigation_source
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.records import rows, scalar, write_files


def rule(desk: Desk, *actions: dict[str, Any], event: str = "task_overdue", condition: str | None = None) -> None:
    with desk.database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO raw.automation_rules (tenant_id, id, name, trigger_event, condition, actions) "
                "VALUES (:tenant_id, :id, 'A rule', :event, :condition, CAST(:actions AS jsonb))"
            ),
            {
                "tenant_id": desk.tenant_id,
                "id": uuid.uuid4(),
                "event": event,
                "condition": condition,
                "actions": json.dumps(actions),
            },
        )


def check(database: Database, now: Any = NOON, **scope: Any) -> dict[str, Any]:
    return check_tasks(database, TaskScope(**scope), now=now, run_id=str(uuid.uuid4()))


def answer(database: Database, now: Any = NOON) -> dict[str, Any]:
    return answer_events(database, HANDLERS, now=now, run_id=str(uuid.uuid4()))


def failures(database: Database) -> list[str]:
    return [
        row.error_message
        for row in rows(
            database,
            "SELECT error_message FROM automation_rules.automation_logs WHERE status = 'failed' ORDER BY executed_at",
        )
    ]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_a_check_says_how_many_rules_its_events_trigger(database: Database, desk: Desk) -> None:
    rule(
        desk,
        {"action": "notify", "role": "owner", "title": "Late", "message": "{task_id}"},
        condition='$.priority == "high"',
    )
    desk.user(role="owner")
    case = desk.case()
    desk.task(case, due_date=NOON - DAY, priority="high")
    desk.task(case, due_date=NOON - DAY)
    assert check(database, dry_run=True)["rulesTriggered"] == 1
    assert scalar(database, "SELECT count(*) FROM automation_rules.executions") == 0
    assert check(database)["rulesTriggered"] == 1
    assert answer(database)["succeeded"] == 1
    assert check(database)["rulesTriggered"] == 0
    assert answer(database)["succeeded"] == 0
    assert scalar(database, "SELECT count(*) FROM notifications.notifications WHERE kind = 'automation_rule'") == 1


def test_a_rule_creates_a_task_once_in_the_case_of_the_event(database: Database, desk: Desk) -> None:
    clerk = desk.user()
    rule(
        desk,
        {
            "action": "create_task",
            "title": "Ask for more time ({task_id})",
            "priority": "critical",
            "assigned_to": str(clerk),
            "due_in_hours": 48,
        },
    )
    case = desk.case()
    late = desk.task(case, due_date=NOON - DAY)
    check(database)
    answer(database)
    answer(database)
    [made] = rows(database, "SELECT * FROM raw.tasks WHERE id <> :late", late=late)
    assert made.title == f"Ask for more time ({late})"
    assert (made.case_id, made.priority, made.assigned_to, made.status) == (case, "critical", clerk, "pending")
    assert (made.created_at, made.due_date) == (NOON, NOON + 48 * HOUR)
    # It is a task as any other: it can be late, and is judged by the next check.
    found = check(database, NOON + 4 * DAY)
    assert found["overdueTasks"] == 1


def test_a_rule_that_leads_to_itself_comes_to_an_end(database: Database, desk: Desk) -> None:
    rule(desk, {"action": "create_task", "title": "Again", "priority": "low", "due_in_hours": 1})
    desk.task(desk.case(), due_date=NOON - DAY)
    now = NOON
    for _ in range(10):
        check(database, now)
        answer(database, now)
        now += DAY
    chain = DEFAULT_ANSWERING.most_depth + 1
    assert scalar(database, "SELECT count(*) FROM raw.tasks") == 1 + chain
    assert scalar(database, "SELECT max(CAST(extra ->> 'automation_depth' AS integer)) FROM raw.tasks") == chain


def test_a_rule_sets_a_field_of_the_task(database: Database, desk: Desk) -> None:
    advocate = desk.user()
    rule(desk, {"action": "set_field", "field": "priority", "value": "critical"})
    rule(desk, {"action": "set_field", "field": "assigned_to", "value": str(advocate)})
    late = desk.task(desk.case(), due_date=NOON - DAY)
    check(database)
    answer(database)
    [task] = rows(database, "SELECT * FROM raw.tasks WHERE id = :id", id=late)
    assert (task.priority, task.assigned_to, task.status) == ("critical", advocate, "pending")
    assert failures(database) == []
    rule(desk, {"action": "set_field", "field": "status", "value": "completed"}, event="sla_violation")
    check(database, NOON + 30 * DAY)
    answer(database, NOON + 30 * DAY)
    [task] = rows(database, "SELECT * FROM raw.tasks WHERE id = :id", id=late)
    assert (task.status, task.completed_at) == ("completed", NOON + 30 * DAY)
    check(database, NOON + 30 * DAY)
    assert scalar(database, "SELECT count(*) FROM litigation.task_flags") == 0


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"action": "set_field", "field": "title", "value": "x"}, "only priority, status and assigned_to"),
        ({"action": "set_field", "field": "priority", "value": "utmost"}, "the priority is none of low"),
        ({"action": "set_field", "field": "status", "value": "lost"}, "the status is none of pending"),
        ({"action": "set_field", "field": "assigned_to", "value": str(uuid.UUID(int=99))}, "not among the users"),
        (
            {
                "action": "create_task",
                "title": "x",
                "priority": "low",
                "assigned_to": str(uuid.UUID(int=99)),
                "due_in_hours": 1,
            },
            "not among the users",
        ),
    ],
)
def test_what_cannot_be_done_is_logged_with_its_reason_and_stops_no_other_rule(
    database: Database, desk: Desk, action: dict[str, Any], said: str
) -> None:
    rule(desk, action)
    rule(desk, {"action": "set_field", "field": "priority", "value": "high"})
    late = desk.task(desk.case(), due_date=NOON - DAY)
    check(database)
    found = answer(database)
    assert (found["succeeded"], found["failed"]) == (1, 1)
    assert len(failures(database)) == 1
    assert said in failures(database)[0]
    assert scalar(database, "SELECT priority FROM raw.tasks WHERE id = :id", id=late) == "high"


def test_a_rule_reaches_no_other_tenants_records(database: Database) -> None:
    one, two = Desk(database, "one"), Desk(database, "two")
    # The same ids in both.
    for desk in (one, two):
        desk.task(desk.case(), due_date=NOON - DAY)
    rule(one, {"action": "set_field", "field": "priority", "value": "critical"})
    check(database)
    answer(database)
    found = {row.tenant_id: row.priority for row in rows(database, "SELECT tenant_id, priority FROM raw.tasks")}
    assert found == {"one": "critical", "two": "medium"}


NOTIFY = '"[{""action"": ""notify"", ""role"": ""x"", ""title"": ""t"", ""message"": ""m""}]"'
RULES = f"""tenant_id,id,name,trigger_event,condition,actions,enabled
one,1,Good,task_overdue,$.priority == "high",{NOTIFY},true
one,2,Broken,task_overdue,$.priority ==,{NOTIFY},true
one,3,Unknown,task_overdue,,"[{{""action"": ""dance""}}]",true
two,4,Good,task_overdue,,{NOTIFY},true
two,5,Good,task_overdue,,{NOTIFY},true
one,6,Good,task_overdue,,{NOTIFY},true
"""


def test_a_rule_that_could_not_work_is_refused_when_it_is_saved_naming_the_place(
    database: Database, tmp_path: Path
) -> None:
    folder = write_files(
        tmp_path, {"tenants.csv": "id,name,timezone\none,One,UTC\ntwo,Two,UTC\n", "automation_rules.csv": RULES}
    )
    source = litigation_source(read_settings({"DOSSIER_LITIGATION_SOURCE": str(folder)}))
    assert source is not None
    configured: ConfiguredSource = source.configured
    for name in ("tenants", "automation_rules"):
        configured.load(database, ENTITIES[name], known=ENTITIES)
    refused = {
        row.row_number: row.reason
        for row in rows(database, "SELECT * FROM ingestion.rejected_rows ORDER BY row_number")
    }
    assert set(refused) == {3, 4}
    assert "is no SQL/JSON path: 'syntax error at end of jsonpath input'" in refused[3]
    assert "dance" in refused[4]
    assert scalar(database, "SELECT count(*) FROM raw.automation_rules") == 4


def test_a_task_that_a_rule_created_is_not_missed_by_its_source(database: Database, tmp_path: Path) -> None:
    folder = write_files(
        tmp_path,
        {
            "tenants.csv": "id,name,timezone\none,One,UTC\n",
            "cases.csv": "tenant_id,id,case_number,created_at\none,c,C,2025-01-01\n",
            "tasks.csv": "tenant_id,id,case_id,title,status,priority,created_at,due_date\n"
            "one,t,c,Reply,pending,low,2025-06-10T00:00:00Z,2025-06-10T01:00:00Z\n",
            "automation_rules.csv": "tenant_id,id,name,trigger_event,condition,actions\n"
            'one,1,Good,task_overdue,,"[{""action"": ""create_task"", ""title"": ""t"", ""priority"": ""low"", '
            '""due_in_hours"": 1}]"\n',
        },
    )

    def load() -> None:
        source = litigation_source(
            read_settings({"DOSSIER_LITIGATION_SOURCE": str(folder), "DOSSIER_FULL_REFRESH": "true"})
        )
        assert source is not None
        for entity in ENTITIES.values():
            source.configured.load(database, entity, known=ENTITIES)

    load()
    check(database, NOON)
    answer(database, NOON + timedelta(minutes=1))
    assert scalar(database, "SELECT count(*) FROM raw.tasks") == 2
    load()
    assert scalar(database, "SELECT count(*) FROM raw.tasks") == 2


# --- tenants that are removed -----------------------------------------------------------------------------------


def remove(desk: Desk) -> None:
    with desk.database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM raw.tenants WHERE tenant_id = :of"), {"of": desk.tenant_id})


def judge(database: Database, now: Any, **scope: Any) -> dict[str, Any]:
    return check_health(database, HealthScope(**scope), now=now, run_id=str(uuid.uuid4()))


def open_alerts(database: Database) -> set[tuple[str, str]]:
    found = rows(database, "SELECT tenant_id, condition FROM automation_rules.health_alerts WHERE cleared_at IS NULL")
    return {(row.tenant_id, row.condition) for row in found}


def sleeping(database: Database) -> None:
    """Let every rule have been as it is for a long time."""
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE raw.automation_rules SET active_since = '2025-01-01'")


def test_nothing_is_told_of_the_rules_of_a_tenant_that_is_removed_until_it_is_back(database: Database) -> None:
    gone, stays = Desk(database, "gone"), Desk(database, "stays")
    for desk in (gone, stays):
        desk.user(role="admin")
        rule(desk, {"action": "notify", "role": "admin", "title": "x", "message": "y"})
    sleeping(database)
    remove(gone)
    assert [one["tenant_id"] for one in judge(database, NOON)["byTenant"]] == ["stays"]
    assert [one["tenant_id"] for one in judge(database, NOON, everybody=True)["byTenant"]] == ["stays"]
    assert open_alerts(database) == {("stays", "inactive")}
    assert scalar(database, "SELECT count(*) FROM notifications.notifications WHERE tenant_id = 'gone'") == 0
    # It is back, with the rules that it had; nobody could have seen them run before.
    Desk(database, "gone")
    now = scalar(database, "SELECT clock_timestamp()")
    assert judge(database, now + HOUR, tenant_id="gone")["inactive_rules"] == 0
    assert judge(database, now + 2 * DAY + HOUR, tenant_id="gone")["inactive_rules"] == 1


def test_the_rules_of_a_tenant_that_another_desk_still_has_go_on(database: Database) -> None:
    desk = Desk(database, "shared")
    rule(desk, {"action": "notify", "role": "admin", "title": "x", "message": "y"})
    with database.transaction() as connection:
        # As the desk of one tenant does with each load.
        connection.exec_driver_sql(
            "INSERT INTO ingestion.loads (tenant_id, entity, source, started_at, outcome, rows_read, inserted, "
            "updated, unchanged, removed, rejected) "
            "VALUES ('shared', 'dossiers', 'a source', now(), 'merged', 1, 1, 0, 0, 0, 0)"
        )
    remove(desk)
    assert [one["tenant_id"] for one in judge(database, NOON, everybody=True)["byTenant"]] == ["shared"]


def test_the_alerts_of_a_tenant_that_is_removed_are_over(database: Database) -> None:
    desk = Desk(database, "gone")
    rule(desk, {"action": "create_task", "title": "x", "priority": "low", "due_in_hours": 1})
    sleeping(database)
    desk.task(desk.case(), due_date=NOON - DAY)
    check(database)
    desk.remove("cases", scalar(database, "SELECT id FROM raw.cases"))
    assert answer(database)["failed"] == 1
    judge(database, NOON + HOUR)
    judge(database, NOON + 3 * DAY, tenant_id="gone")
    assert open_alerts(database) == {("gone", name) for name in ("degraded", "inactive", "overall")}
    remove(desk)
    assert open_alerts(database) == set()


def test_nothing_is_carried_out_for_a_tenant_that_is_removed_until_it_is_back(database: Database) -> None:
    gone, stays = Desk(database, "gone"), Desk(database, "stays")
    for desk in (gone, stays):
        desk.user(role="admin")
        rule(desk, {"action": "notify", "role": "admin", "title": "x", "message": "y"})
        desk.task(desk.case(), due_date=NOON - DAY)
    # An execution waits, and an event that came after it is not matched yet.
    check(database)
    gone.task(scalar(database, "SELECT id FROM raw.cases WHERE tenant_id = 'gone'"), due_date=NOON - DAY)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, dedupe_key) "
            "SELECT tenant_id, type, entity_type, entity_id, payload, occurred_at, 'another' FROM platform.events "
            "WHERE tenant_id = 'gone'"
        )
    remove(gone)
    result = answer(database)
    assert (result["executionsAbandoned"], result["succeeded"], result["executionsWaiting"]) == (1, 1, 0)
    assert rows(database, "SELECT DISTINCT tenant_id FROM notifications.notifications") == [("stays",)]
    [given_up] = rows(database, "SELECT status, last_error FROM automation_rules.executions WHERE tenant_id = 'gone'")
    assert tuple(given_up) == ("dead", "the tenant was removed before the rule could answer")
    assert replay_dead(database) == Replay(due=0, left={"the tenant is removed": 1})
    # What happens meanwhile is not answered, then or later.
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, dedupe_key) "
            "SELECT tenant_id, type, entity_type, entity_id, payload, occurred_at, 'meanwhile' FROM platform.events "
            "WHERE dedupe_key = 'another'"
        )
    back = Desk(database, "gone")
    assert answer(database)["eventsMatched"] == 0
    back.change(
        "tasks", scalar(database, "SELECT min(id::text)::uuid FROM raw.tasks WHERE tenant_id = 'gone'"), title="Z"
    )
    check(database)
    assert answer(database)["succeeded"] >= 1
    assert replay_dead(database) == Replay(due=1, left={})
