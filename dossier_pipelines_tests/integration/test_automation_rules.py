"""Rules answer events: those whose condition holds, once each, and one rule's trouble stays its own."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, ProgrammingError

from dossier_pipelines.automation_rules import answering
from dossier_pipelines.automation_rules.actions import PACKAGE, ActionHandlers, StatementFile
from dossier_pipelines.automation_rules.answering import AnsweringPolicy
from dossier_pipelines.automation_rules.entities import AUTOMATION_RULES
from dossier_pipelines.automation_rules.locks import ANSWER
from dossier_pipelines.definitions import build_defs
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared import database as database_module
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import LeaseLostError
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.records import reasons, rows, scalar
from dossier_pipelines_tests.rules import DELIVERY, NOW, TELL_ADMINS, House, answer, logs, make_due, statuses, told

TASK: dict[str, Any] = {"action": "create_task", "title": "See {task_id}", "priority": "high", "due_in_hours": 24}
FIELD: dict[str, Any] = {"action": "set_field", "field": "priority", "value": "critical"}


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


def open_cases(database: Database) -> int:
    return int(scalar(database, "SELECT count(*) FROM automation_rules.executions"))


# --- what is saved ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("$.days_overdue >", "no SQL/JSON path: syntax error at end of jsonpath input"),
        ("$.a === 1 ", 'syntax error at or near "=" of jsonpath input'),
        ('$.name like_regex "("', "parentheses () not balanced"),
        ("$.a > $limit", "names a variable; write $.key for what the event says"),
        ('$.a == "$" && $"limit" > 2', "names a variable"),
    ],
)
def test_a_broken_condition_is_refused_when_it_is_saved_and_the_place_is_named(
    house: House, condition: str, said: str
) -> None:
    with pytest.raises((IntegrityError, ProgrammingError), match="This rule is refused: condition") as refusal:
        house.rule(condition)
    assert said in str(refusal.value.orig)
    assert scalar(house.database, "SELECT count(*) FROM raw.automation_rules") == 0


@pytest.mark.parametrize(
    "condition", [None, '$.a == "$"', '$."$" == "\\"$\\"x"', "strict $.a > 1", "$.a.b[*] ? (@ > 1)"]
)
def test_a_condition_of_any_form_is_saved(house: House, condition: str | None) -> None:
    house.rule(condition)


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ({"action": "notify"}, "actions is no list"),
        ([], "actions is empty"),
        ([FIELD] * 21, "actions has more than 20 entries"),
        (["notify"], "action 1 is no object"),
        ([{"title": "x"}], "action 1 does nothing: it must be notify, webhook, create_task or set_field"),
        ([FIELD, {"action": "mail"}], "action 2 does 'mail': it must be notify, webhook, create_task or set_field"),
        ([{"action": "notify", "title": "x", "message": "y"}], "action 1 must name either user_id or role"),
        ([{**TELL_ADMINS[0], "user_id": "u1"}], "action 1 must name either user_id or role"),
        ([{"action": "notify", "role": "admin"}], "action 1 lacks message, lacks title"),
        ([{**TELL_ADMINS[0], "mesage": "y"}], "action 1 has a field 'mesage' that it does not know"),
        ([{**TELL_ADMINS[0], "title": " "}], "action 1 title must be text"),
        ([{**TELL_ADMINS[0], "urgency": 5}], "action 1 urgency must be a number from 1 to 4"),
        ([{**TASK, "priority": "urgent"}], "action 1 priority must be low, medium, high or critical"),
        ([{**TASK, "due_in_hours": -1}], "action 1 due_in_hours must be a number from 0 to 87600"),
        ([{**TASK, "due_in_hours": "1"}], "action 1 due_in_hours must be a number from 0 to 87600"),
        ([{**FIELD, "field": "a; DROP"}], "action 1 field must be the name of a field"),
        ([{**FIELD, "value": {}}], "action 1 value must be a text, a number, true, false or null"),
        ([{"action": "set_field", "field": "a"}], "action 1 lacks value"),
        ([{"action": "webhook", "title": 1}, TASK, {**TASK, "title": None}], "action 1 title must be text; action 3"),
    ],
    ids=str,
)
def test_actions_that_could_not_be_carried_out_are_refused_and_named(house: House, actions: object, said: str) -> None:
    with pytest.raises(IntegrityError) as refusal:
        house.rule(actions=actions)
    assert f"This rule is refused: {said}" in str(refusal.value.orig)


@pytest.mark.parametrize(
    "actions",
    [
        [{**TELL_ADMINS[0], "urgency": 1}],
        [{"action": "notify", "user_id": "{owner}", "title": "x", "message": "y"}],
        [{"action": "webhook"}],
        [{"action": "webhook", "title": "x", "message": "y"}, {**TASK, "assigned_to": "u1", "due_in_hours": 0.5}],
        [{**FIELD, "value": None}, {**FIELD, "value": 0}, {**FIELD, "value": False}],
    ],
    ids=str,
)
def test_actions_of_every_kind_are_saved(house: House, actions: object) -> None:
    house.rule(actions=actions)


def test_rules_are_loaded_from_a_source_and_bad_ones_set_aside_with_the_reason(
    database: Database, folder: Path
) -> None:
    good = json.dumps(TELL_ADMINS)
    lines = [
        {
            "id": "r1",
            "name": "Late",
            "trigger_event": "task_overdue",
            "condition": "$.days_overdue > 3",
            "actions": good,
        },
        {"id": "r2", "name": "Off", "trigger_event": "task_overdue", "actions": good, "enabled": "no"},
        {"id": "r3", "name": "Broken", "trigger_event": "task_overdue", "condition": "$.days >", "actions": good},
        {"id": "r4", "name": "Variable", "trigger_event": "task_overdue", "condition": "$.days > $x", "actions": good},
        {"id": "r5", "name": "Nothing", "trigger_event": "task_overdue", "actions": '[{"action": "mail"}]'},
        {"id": "r6", "name": "No JSON", "trigger_event": "task_overdue", "actions": "notify"},
    ]
    (folder / "automation_rules.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    settings = read_settings({"DOSSIER_SOURCE": str(folder), "DOSSIER_MAX_REJECTED_SHARE": "1"})

    def load() -> tuple[int, int, int]:
        result = configured_source(settings).load(
            database, AUTOMATION_RULES, known={"automation_rules": AUTOMATION_RULES}
        )
        assert result is not None
        return result.inserted, result.updated, result.rejected

    assert load() == (2, 0, 4)
    said = reasons(database, "automation_rules")
    assert "syntax error at end of jsonpath input" in said[3]
    assert said[4] == "condition '$.days > $x' names a variable; write $.key for what the event says"
    assert said[5] == "action 1 does 'mail': it must be notify, webhook, create_task or set_field"
    assert "is no JSON" in said[6]
    # An unchanged one is not touched: it goes on answering.
    before = rows(database, "SELECT * FROM raw.automation_rules ORDER BY id")
    assert load() == (0, 0, 4)
    assert rows(database, "SELECT * FROM raw.automation_rules ORDER BY id") == before
    assert [(row.name, row.enabled) for row in before] in (
        [("Late", None), ("Off", False)],
        [("Off", False), ("Late", None)],
    )


# --- what answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "payload", "holds"),
    [
        (None, {}, True),
        # A predicate.
        ("$.days_overdue > 3", {"days_overdue": 4}, True),
        ("$.days_overdue > 3", {"days_overdue": 3}, False),
        ('$.priority == "high" && $.days_overdue >= 1', {"priority": "high", "days_overdue": 1}, True),
        ('$.name like_regex "^GST" flag "i"', {"name": "gst appeal"}, True),
        # What cannot be compared is unknown, and what is not there is not greater.
        ("$.days_overdue > 3", {"days_overdue": "many"}, False),
        ("$.days_overdue > 3", {}, False),
        ("strict $.days_overdue > 3", {}, False),
        ("!($.days_overdue > 3)", {"days_overdue": "many"}, False),
        ("exists($.days_overdue)", {"days_overdue": None}, True),
        # A filter.
        ("$.items[*] ? (@.amount > 100)", {"items": [{"amount": 5}, {"amount": 101}]}, True),
        ("$.items[*] ? (@.amount > 100)", {"items": [{"amount": 5}]}, False),
        ("$ ? (@.days_overdue > 3)", {"days_overdue": 4}, True),
        # A value.
        ("$.urgent", {"urgent": True}, True),
        ("$.urgent", {"urgent": False}, False),
        ("$.urgent", {"urgent": None}, False),
        ("$.urgent", {"urgent": 0}, True),
        ("$.urgent", {}, False),
        ("$.flags[*]", {"flags": [False, None]}, False),
        ("$.flags[*]", {"flags": [False, True]}, True),
        # With a time zone, and in any case without an error.
        ('$.due.datetime() < "2025-06-01T00:00:00+03:00".datetime()', {"due": "2025-05-31T20:59:59+00:00"}, True),
        ('$.due.datetime() < "2025-06-01T00:00:00+03:00".datetime()', {"due": "2025-05-31"}, True),
        ("$.due.datetime() < $.due.datetime()", {"due": "soon"}, False),
        ("$.n / $.zero > 1", {"n": 1, "zero": 0}, False),
        ("$.a.b.c == 1", [1, 2], False),
        ("$[*] == 2", [1, 2], True),
    ],
    ids=str,
)
def test_a_condition_holds_when_its_path_gives_something_true(
    database: Database, house: House, condition: str | None, payload: object, holds: bool
) -> None:
    house.rule(condition)
    house.event(payload)
    result = answer(database)
    assert (result["eventsMatched"], result["executionsMatched"]) == (1, int(holds))
    assert statuses(database) == ({"success": 1} if holds else {})


def test_a_rule_answers_events_of_its_tenant_and_type_only(database: Database, house: House) -> None:
    mine = house.rule()
    stranger = House(database, "stranger")
    stranger.rule(event="sla_violation")
    disabled = house.rule(enabled=False)
    implicit = house.rule(enabled=None)
    house.event()
    house.event(event="sla_violation")
    stranger.event()
    stranger.event(event="sla_violation")
    assert answer(database)["succeeded"] == 3
    found = rows(database, "SELECT tenant_id, rule_id FROM automation_rules.executions")
    assert {row.rule_id for row in found if row.tenant_id == "default"} == {mine, implicit}
    assert disabled not in {row.rule_id for row in found}
    # Nobody listens to the others: they leave no mark.
    assert answer(database)["eventsMatched"] == 0


def test_what_was_recorded_before_a_rule_was_there_is_not_answered(database: Database, house: House) -> None:
    house.event()
    first = house.rule(name="First")
    house.event()
    # Nobody has matched anything yet, and a second rule comes.
    second = house.rule(name="Second")
    house.event()
    answer(database)
    found = rows(database, "SELECT rule_id, count(*) AS n FROM automation_rules.executions GROUP BY 1")
    assert {row.rule_id: row.n for row in found} == {first: 2, second: 1}


@pytest.mark.parametrize(
    ("change", "answers"),
    [
        ({"name": "Another", "actions": json.dumps([{"action": "webhook"}])}, 2),
        ({"condition": "$.days_overdue > 0"}, 1),
        ({"trigger_event": "task_overdue"}, 2),
    ],
    ids=str,
)
def test_a_rule_that_gets_another_condition_does_not_answer_what_was_before(
    database: Database, house: House, change: dict[str, str], answers: int
) -> None:
    rule = house.rule()
    house.event()
    house.change(rule, **change)
    house.event()
    assert answer(database)["executionsMatched"] == answers


def test_a_rule_that_is_enabled_again_does_not_answer_what_was_while_it_slept(database: Database, house: House) -> None:
    rule = house.rule()
    house.rule(name="Another that listens")
    house.change(rule, enabled=False)
    house.event()
    house.change(rule, enabled=True)
    house.event()
    answer(database)
    assert scalar(database, "SELECT count(*) FROM automation_rules.executions WHERE rule_id = :rule", rule=rule) == 1


def test_a_condition_that_cannot_be_judged_fails_its_own_rule_and_no_other(database: Database, house: House) -> None:
    # Its template is wrong, which only shows when there is something to read by it.
    house.rule('$.due.datetime("HH24:MI:SSYYYY?") < $.due.datetime("YYYY")', name="Broken")
    house.rule(name="Fine")
    house.event({"due": "10:10:102020?"})
    result = answer(database)
    assert (result["conditionsBroken"], result["succeeded"]) == (1, 1)
    broken, fine = logs(database)
    assert (broken["status"], fine["status"]) == ("failed", "success")
    assert broken["error_message"].startswith("the condition cannot be judged: ")


# --- what is done -----------------------------------------------------------------------------------------------


def test_the_people_that_a_rule_names_are_told_what_the_event_says(database: Database, house: House) -> None:
    other = house.user("admin")
    lawyer = house.user("lawyer")
    rule = house.rule(
        actions=[
            {**TELL_ADMINS[0], "urgency": 1},
            {
                "action": "notify",
                "user_id": "{assigned_to}",
                "title": "Yours: {case.title}",
                "message": "{nothing}{gone}",
            },
        ]
    )
    house.event({"task_id": "{days_overdue}", "days_overdue": 4, "assigned_to": str(lawyer), "nothing": None})
    assert answer(database)["succeeded"] == 1
    assert told(database) == [
        *((user, "Task {days_overdue}", "It is 4 days late.") for user in sorted([house.admin, other])),
        (lawyer, "Yours: {case.title}", "{gone}"),
    ]
    found = rows(database, "SELECT * FROM notifications.notifications WHERE user_id = :user", user=house.admin)
    [row] = found
    assert (row.kind, row.urgency, row.created_at) == ("automation_rule", 1, NOW)
    assert row.metadata["rule_id"] == str(rule)
    assert row.event_id == scalar(database, "SELECT id FROM platform.events")
    assert scalar(database, "SELECT count(*) FROM notifications.unplanned") == 0


def test_a_user_is_also_named_by_the_id_that_the_source_gives(database: Database, house: House) -> None:
    house.run("INSERT INTO raw.users (tenant_id, id) VALUES ('default', ingestion.stable_uuid('users', 'u7'))")
    house.rule(actions=[{"action": "notify", "user_id": "u7", "title": "x", "message": "y"}])
    house.event()
    assert answer(database)["succeeded"] == 1


def test_a_webhook_is_a_notification_that_takes_the_webhook_only(database: Database, house: House) -> None:
    house.rule(actions=[{"action": "webhook", "message": "Task {task_id}"}], name="Tell the world")
    house.event(number=30)
    assert answer(database)["succeeded"] == 30
    found = rows(
        database, "SELECT DISTINCT title, message, channels, metadata -> 'payload' FROM notifications.notifications"
    )
    assert [tuple(row) for row in found] == [
        (
            "Tell the world: task_overdue",
            "Task t1",
            ["webhook"],
            {"task_id": "t1", "days_overdue": 4, "priority": "high"},
        )
    ]
    # None waits in a digest.
    assert scalar(database, "SELECT count(*) FROM notifications.deliveries WHERE channel = 'webhook'") == 30


def test_where_no_webhook_is_configured_the_action_fails_and_says_so(database: Database, house: House) -> None:
    house.rule(actions=[{"action": "webhook"}])
    house.event()
    assert answer(database, delivery=answering.DEFAULT_POLICY)["failed"] == 1
    assert logs(database)[0]["error_message"] == (
        "action 1 (webhook): no webhook is configured: set DOSSIER_WEBHOOK_URL"
    )


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"action": "notify", "role": "judge", "title": "x", "message": "y"}, "no user has the role 'judge'"),
        (
            {"action": "notify", "user_id": str(uuid.UUID(int=7)), "title": "x", "message": "y"},
            f"the user {uuid.UUID(int=7)} is not known",
        ),
        (TASK, "no desk carries out create_task"),
        (FIELD, "no desk carries out set_field"),
    ],
    ids=str,
)
def test_an_action_that_fails_is_logged_with_its_reason_and_the_rules_others_are_done(
    database: Database, house: House, action: dict[str, Any], said: str
) -> None:
    house.rule(actions=[action, *TELL_ADMINS])
    house.rule(name="B")
    house.event()
    result = answer(database, run_id="run 7")
    assert (result["succeeded"], result["failed"]) == (1, 1)
    failed, fine = logs(database)
    name = action["action"]
    assert failed["actions_executed"] == [
        {"n": 1, "action": name, "status": "failed", "error": said},
        {"n": 2, "action": "notify", "status": "success"},
    ]
    assert failed["error_message"] == f"action 1 ({name}): {said}"
    assert (failed["rule_name"], failed["trigger_event"], failed["status"]) == ("A rule", "task_overdue", "failed")
    assert (failed["executed_at"], failed["run_id"], failed["attempts"]) == (NOW, "run 7", 1)
    assert (fine["status"], fine["error_message"]) == ("success", None)
    assert len(told(database)) == 2


def test_what_failed_is_tried_again_later_and_later_and_then_given_up(database: Database, house: House) -> None:
    house.rule(actions=[{"action": "notify", "role": "judge", "title": "x", "message": "y"}, *TELL_ADMINS])
    house.event()
    waits = []
    for attempt in range(1, 4):
        answer(database, policy=AnsweringPolicy(attempts=3))
        # What is not due is left alone.
        assert answer(database, policy=AnsweringPolicy(attempts=3))["failed"] == 0
        [row] = rows(
            database,
            "SELECT *, extract(epoch FROM next_attempt_at - clock_timestamp()) AS wait "
            "FROM automation_rules.executions",
        )
        waits.append(float(row.wait))
        assert (row.attempts, row.status) == (attempt, "dead" if attempt == 3 else "failed")
        make_due(database)
    assert [wait == pytest.approx(60 * 2**n, abs=20) for n, wait in enumerate(waits)] == [True] * 3
    assert row.last_error == "action 1 (notify): no user has the role 'judge'"
    assert answer(database)["givenUp"] == 0
    assert [len(entry["actions_executed"]) for entry in logs(database)] in ([2, 1, 1], [1, 2, 1], [1, 1, 2])
    # What had succeeded was not done again.
    assert len(told(database)) == 1


def test_what_is_mended_meanwhile_succeeds_at_the_next_attempt(database: Database, house: House) -> None:
    house.rule(actions=[{"action": "notify", "role": "judge", "title": "x", "message": "y"}])
    house.event()
    answer(database)
    judge = house.user("judge")
    make_due(database)
    assert answer(database)["succeeded"] == 1
    assert [user for user, *_ in told(database)] == [judge]
    [row] = rows(database, "SELECT status, last_error, cardinality(done) FROM automation_rules.executions")
    assert tuple(row) == ("success", None, 1)


@pytest.mark.parametrize("how", ["disabled", "removed"])
def test_what_a_rule_was_about_to_do_is_given_up_when_it_goes(database: Database, house: House, how: str) -> None:
    rule = house.rule(actions=[TASK])
    house.event()
    answer(database)
    if how == "disabled":
        house.change(rule, enabled=False)
    else:
        house.run("DELETE FROM raw.automation_rules")
    make_due(database)
    assert answer(database)["executionsAbandoned"] == 1
    [row] = rows(database, "SELECT status, last_error FROM automation_rules.executions")
    assert tuple(row) == ("dead", "the rule was disabled or removed before it could answer")


def test_an_execution_whose_event_is_gone_is_given_up_at_once(database: Database, house: House) -> None:
    house.rule(actions=[TASK])
    house.event()
    answer(database)
    house.run("DELETE FROM platform.events")
    make_due(database)
    assert answer(database)["givenUp"] == 1
    assert scalar(database, "SELECT last_error FROM automation_rules.executions") == "the event is gone"


# --- what desks carry out ---------------------------------------------------------------------------------------

HANDLERS = ActionHandlers(
    {"create_task": StatementFile("desk", "create_task"), "set_field": StatementFile("desk", "set_field")}
)
CREATE_TASK = """
WITH made AS (
    INSERT INTO public.tasks (tenant_id, key, title, due, depth)
    SELECT h.tenant_id, h.key, h.arguments ->> 'title',
        CAST(:now AS timestamptz) + CAST(h.arguments -> 'due_in_hours' AS numeric) * interval '1 hour', h.depth + 1
    FROM actions_handed AS h
    WHERE h.payload ->> 'task_id' <> 'unknown'
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, key, title, depth
),
happened AS (
    INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, dedupe_key)
    SELECT m.tenant_id, 'task_created', 'task', gen_random_uuid(), jsonb_build_object('task_id', m.title),
        CAST(:now AS timestamptz), 'task_created:' || m.key
    FROM made AS m
)
INSERT INTO actions_handled (tenant_id, rule_id, event_id, n, error)
SELECT h.tenant_id, h.rule_id, h.event_id, h.n,
    CASE WHEN h.payload ->> 'task_id' = 'unknown' THEN 'the task is not loaded' END
FROM actions_handed AS h
WHERE h.payload ->> 'task_id' <> 'unanswered'
"""
# Raises an error for whatever is not a number.
SET_FIELD = """
WITH changed AS (
    INSERT INTO public.fields
    SELECT h.tenant_id, h.key, CAST(h.arguments ->> 'value' AS integer) FROM actions_handed AS h
)
INSERT INTO actions_handled SELECT h.tenant_id, h.rule_id, h.event_id, h.n FROM actions_handed AS h
"""


@pytest.fixture
def desk(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """A desk that creates tasks and sets fields, by statements of its own."""
    house.run(
        "CREATE TABLE public.tasks (tenant_id text, key text PRIMARY KEY, title text, due timestamptz, depth int)"
    )
    house.run("CREATE TABLE public.fields (tenant_id text, key text PRIMARY KEY, value integer)")
    shipped = database_module.statement
    given = {"create_task": CREATE_TASK, "set_field": SET_FIELD}

    def statement(package: str, name: str) -> sa.TextClause:
        return sa.text(given[name]) if package == "desk" else shipped(package, name)

    monkeypatch.setattr(database_module, "statement", statement)
    monkeypatch.setattr(answering, "statement", statement)
    return house


def test_a_desk_carries_out_what_it_gives_a_statement_for(database: Database, desk: House) -> None:
    desk.rule(actions=[TASK])
    desk.event()
    assert answer(database, HANDLERS)["succeeded"] == 1
    [task] = rows(database, "SELECT title, due, depth FROM public.tasks")
    assert tuple(task) == ("See t1", NOW + timedelta(hours=24), 1)


def test_what_a_desk_refuses_or_does_not_answer_has_failed(database: Database, desk: House) -> None:
    desk.rule(actions=[TASK])
    for task_id in ("unknown", "unanswered", "t1"):
        desk.event({"task_id": task_id})
    result = answer(database, HANDLERS)
    assert (result["succeeded"], result["failed"]) == (1, 2)
    assert {entry["error_message"] for entry in logs(database)} == {
        None,
        "action 1 (create_task): the task is not loaded",
        "action 1 (create_task): the desk that carries it out gave no answer",
    }


def test_a_statement_that_raises_an_error_for_one_rule_fails_that_rule_only(database: Database, desk: House) -> None:
    other = House(database, "other")
    desk.rule(actions=[{**FIELD, "value": "seven"}, *TELL_ADMINS], name="Broken")
    desk.rule(actions=[{**FIELD, "value": "7"}], name="Fine")
    other.rule(actions=[{**FIELD, "value": "8"}], name="Theirs")
    desk.event()
    other.event()
    result = answer(database, HANDLERS)
    assert (result["succeeded"], result["failed"]) == (2, 1)
    assert sorted(row.value for row in rows(database, "SELECT value FROM public.fields")) == [7, 8]
    broken, *_ = logs(database)
    # The value is not repeated: it may be personal.
    assert broken["error_message"] == (
        "action 1 (set_field): Carrying it out: the database said: invalid input syntax for type integer "
        "(SQLSTATE 22P02)."
    )
    assert [entry["status"] for entry in broken["actions_executed"]] == ["failed", "success"]
    assert len(told(database)) == 1


def test_rules_that_answer_each_other_come_to_an_end(database: Database, desk: House) -> None:
    desk.rule(actions=[TASK], event="task_created", name="A task for every task")
    desk.event(event="task_created")
    made = []
    while (result := answer(database, HANDLERS))["eventsMatched"]:
        made.append((result["executionsMatched"], result["eventsTooDeep"]))
    assert made == [(1, 0)] * 6 + [(0, 1)]
    assert [row.depth for row in rows(database, "SELECT depth FROM automation_rules.executions ORDER BY 1")] == list(
        range(6)
    )
    # Whoever makes an event later of what a rule made says so.
    desk.event({"task_id": "t1", "automation_depth": 6}, event="task_created")
    assert answer(database, HANDLERS)["eventsTooDeep"] == 1
    for depth in ("7", -1e300, 2.5, 1e300, None):
        desk.event({"task_id": "unknown", "automation_depth": depth}, event="task_created")
    assert answer(database, HANDLERS)["eventsTooDeep"] == 1


# --- once -------------------------------------------------------------------------------------------------------


def state(database: Database) -> dict[str, list[str]]:
    """What a run leaves, without ids of its own and moments of the clock."""
    queries = {
        "executions": "SELECT rule_id, event_id, status, attempts, done, last_error FROM automation_rules.executions",
        "logs": """SELECT rule_id, event_id, status, actions_executed, error_message, executed_at
            FROM automation_rules.automation_logs""",
        "told": "SELECT user_id, title, message, dedupe_key, channels FROM notifications.notifications",
        "deliveries": "SELECT notification_id IS NULL, channel, status FROM notifications.deliveries",
        "marks": "SELECT event_id FROM automation_rules.unmatched",
        "unplanned": "SELECT notification_id FROM notifications.unplanned",
    }
    return {name: sorted(str(tuple(row)) for row in rows(database, query)) for name, query in queries.items()}


def test_a_second_run_finds_nothing_and_writes_nothing(database: Database, house: House) -> None:
    house.rule()
    house.event(number=5)
    answer(database)
    before = state(database)
    result = answer(database)
    assert {name: value for name, value in result.items() if value} == {}
    assert state(database) == before
    # The same mark again, whoever wrote it.
    house.run("INSERT INTO automation_rules.unmatched SELECT tenant_id, id, 0 FROM platform.events")
    assert answer(database)["executionsMatched"] == 0
    assert state(database) == before


def test_a_dry_run_says_what_a_run_would_do_and_leaves_everything_as_it_was(database: Database, house: House) -> None:
    house.rule(actions=[*TELL_ADMINS, {"action": "webhook"}])
    house.rule("$.days_overdue > 100")
    house.rule(actions=[TASK])
    house.event(number=3)
    before = state(database)
    dry = answer(database, dry_run=True, run_id="dry")
    assert state(database) == before
    wet = answer(database)
    assert (dry["succeeded"], dry["failed"], dry["notificationsPlanned"]) == (3, 3, 6)
    for document in (dry, wet):
        document.pop("dryRun")
        document.pop("executionsWaiting", None)
    assert dry == wet


def test_workers_at_once_without_a_lease_do_everything_once(
    database: Database, house: House, new_database_url: str
) -> None:
    for number in range(3):
        house.rule(name=f"Rule {number}")
    house.event(number=200)

    def one(_: int) -> int:
        own = create_database(new_database_url)
        done = answer(own, policy=AnsweringPolicy(executions_per_run=50))
        own.engine.dispose()
        return int(done["succeeded"])

    while True:
        with ThreadPoolExecutor(4) as pool:
            if not sum(pool.map(one, range(4))):
                break
    assert statuses(database) == {"success": 600}
    assert scalar(database, "SELECT count(*) FROM automation_rules.automation_logs") == 600
    assert scalar(database, "SELECT max(attempts) FROM automation_rules.executions") == 1
    assert len(told(database)) == 600


def test_a_run_that_lost_its_lease_writes_nothing(database: Database, house: House) -> None:
    house.rule()
    house.event()
    before = state(database)
    with job_lease(database, ANSWER.name, holder="one", seconds=900) as lease:
        house.run("UPDATE platform.job_leases SET expires_at = clock_timestamp()")
        with job_lease(database, ANSWER.name, holder="other", seconds=900):
            for dry_run in (True, False):
                with pytest.raises(LeaseLostError):
                    answer(database, lease=lease, dry_run=dry_run)
    assert state(database) == before


def test_a_commit_whose_answer_was_lost_is_counted_once(
    database: Database, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.rule()
    house.event(number=3)
    once = answering._Run.once
    lost: list[int] = []

    def commit_and_lose(run: Any, connection: sa.Connection, *, step: answering.Step) -> Any:
        counts = once(run, connection, step=step)
        if len(lost) < 2 and counts["steps"] not in lost:
            lost.append(counts["steps"])
            connection.commit()
            raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))
        return counts

    monkeypatch.setattr(answering._Run, "once", commit_and_lose)
    result = answer(database)
    assert lost == [1, 2]
    assert (result["eventsMatched"], result["executionsMatched"], result["succeeded"]) == (3, 3, 3)


# --- many -------------------------------------------------------------------------------------------------------


def test_a_rule_that_matches_everything_does_its_share_and_holds_up_nobody(database: Database, house: House) -> None:
    other = House(database, "zz-other")
    house.rule(name="Everything")
    theirs = other.rule()
    house.event(number=250)
    other.event()
    policy = AnsweringPolicy(executions_per_run=100)
    first = answer(database, policy=policy)
    assert (first["executionsMatched"], first["succeeded"], first["executionsWaiting"]) == (251, 101, 150)
    done = rows(
        database,
        "SELECT rule_id FROM automation_rules.executions WHERE status = 'success' AND rule_id = :id",
        id=theirs,
    )
    assert len(done) == 1
    assert [answer(database, policy=policy)["executionsWaiting"] for _ in range(2)] == [50, 0]
    assert statuses(database) == {"success": 251}


def test_more_rules_than_are_done_at_once_are_all_done(
    database: Database, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "RULES_AT_ONCE", 2)
    for number in range(5):
        house.rule(name=f"Rule {number}")
    House(database, "other").rule()
    house.event(number=2)
    assert answer(database)["succeeded"] == 10


def test_a_hundred_thousand_events_at_once_are_matched_by_one_statement(database: Database, house: House) -> None:
    house.rule("$.days_overdue > 3", name="Everything")
    house.rule("$.days_overdue > 5", name="Nothing")
    house.event(number=100_000)
    result = answer(database)
    assert (result["eventsMatched"], result["executionsMatched"]) == (100_000, 100_000)
    assert (result["succeeded"], result["executionsWaiting"]) == (1000, 99_000)
    assert answer(database)["succeeded"] == 1000


# --- the job ----------------------------------------------------------------------------------------------------


def run_job(database: Database, **config: Any) -> dg.ExecuteInProcessResult:
    job = build_defs({"database": database}).resolve_job_def("answer_events_job")
    run_config = {"ops": {"answer_due_events": {"config": config}}} if config else None
    return job.execute_in_process(instance=dg.DagsterInstance.ephemeral(), raise_on_error=False, run_config=run_config)


def output_metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_OUTPUT]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_the_job_answers_and_shows_the_document(database: Database, house: House) -> None:
    house.rule()
    house.event()
    assert output_metadata(run_job(database, dry_run=True))["dryRun"] is True
    assert statuses(database) == {}
    result = run_job(database)
    shown = output_metadata(result)
    document = shown.pop("result")
    assert (document["success"], document["job"], document["results"]) == (True, "answer_events", shown)
    assert datetime.fromisoformat(document["executedAt"]).tzinfo == UTC
    assert document["executionTime"].endswith("s")
    assert shown["succeeded"] == 1
    recorded = scalar(
        database, "SELECT details -> 'results' FROM platform.audit_log WHERE run_id = :id", id=result.run_id
    )
    assert shown.items() <= recorded.items()


def test_a_second_run_at_the_same_time_does_nothing(database: Database, house: House) -> None:
    house.rule()
    house.event()
    with job_lease(database, ANSWER.name, holder="the other run", seconds=900):
        assert not run_job(database).success
    assert statuses(database) == {}


def test_a_kind_that_no_rule_can_have_is_no_kind_to_carry_out() -> None:
    with pytest.raises(ValueError, match="mail: no rule has such an action"):
        ActionHandlers({"mail": StatementFile(PACKAGE, "notify")})
    assert DELIVERY.channels[-1] == "webhook"
