"""Replay and rules that are mended: what still answers is done once, what does not stays given up and says why."""

from __future__ import annotations

import json
from typing import Any, Final

import dagster as dg
import pytest
import sqlalchemy as sa

from dossier_pipelines.automation_rules.actions import PACKAGE
from dossier_pipelines.automation_rules.answering import FIRST_KEY, AnsweringPolicy
from dossier_pipelines.automation_rules.replaying import Replay, replay_dead
from dossier_pipelines.definitions import build_defs
from dossier_pipelines.shared.database import Database, statement
from dossier_pipelines_tests.records import rows, scalar
from dossier_pipelines_tests.rules import TELL_ADMINS, House, answer, make_due, statuses, told

ONCE: Final = AnsweringPolicy(attempts=1)
# Its template is wrong, which only shows when there is something to read by it.
BROKEN: Final = '$.due.datetime("HH24:MI:SSYYYY?") < $.due.datetime("YYYY")'
PAYLOAD: Final = {"due": "10:10:102020?", "days_overdue": 4}
NOBODY: Final[dict[str, Any]] = {"action": "notify", "role": "judge", "title": "x", "message": "y"}


def tell(title: str) -> dict[str, Any]:
    return {"action": "notify", "role": "admin", "title": title, "message": "y"}


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


def titles(database: Database) -> list[str]:
    return [title for _, title, _ in told(database)]


def error(database: Database) -> str:
    return str(scalar(database, "SELECT last_error FROM automation_rules.executions"))


# --- conditions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("$.days_overdue > 3", None),
        (None, None),
        ("$.days_overdue > 4", "the condition does not hold"),
        (BROKEN, "the condition cannot be judged"),
    ],
)
def test_an_event_whose_condition_could_not_be_judged_is_judged_anew(
    database: Database, house: House, condition: str | None, left: str | None
) -> None:
    rule = house.rule(BROKEN)
    house.event(PAYLOAD)
    answer(database)
    house.change(rule, condition=condition)
    replayed = replay_dead(database)
    assert replayed == (Replay(due=0, left={left: 1}) if left else Replay(due=1, left={}))
    assert answer(database)["succeeded"] == (0 if left else 1)
    assert len(told(database)) == (0 if left else 1)
    assert statuses(database) == {"dead" if left else "success": 1}
    if left:
        assert error(database).startswith(left)


def test_a_reason_that_may_quote_an_event_is_kept_and_not_shown(database: Database, house: House) -> None:
    house.rule(BROKEN)
    house.event(PAYLOAD)
    answer(database)
    replayed = replay_dead(database)
    assert list(replayed.left) == ["the condition cannot be judged"]
    assert error(database).startswith("the condition cannot be judged: ")


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("UPDATE raw.automation_rules SET condition = '$.days_overdue > 5'", "the condition does not hold"),
        ("UPDATE raw.automation_rules SET trigger_event = 'another'", "the rule answers another event now"),
        ("UPDATE raw.automation_rules SET enabled = false", "the rule is disabled or removed"),
        ("DELETE FROM raw.automation_rules", "the rule is disabled or removed"),
        ("DELETE FROM platform.events", "the event is gone"),
    ],
)
def test_what_a_rule_gave_up_that_no_longer_answers_it_stays_given_up_and_says_why(
    database: Database, house: House, change: str, left: str
) -> None:
    house.rule(actions=[NOBODY])
    house.event(PAYLOAD)
    answer(database, policy=ONCE)
    house.user("judge")
    house.run(change)
    assert replay_dead(database) == Replay(due=0, left={left: 1})
    assert error(database) == left
    assert answer(database)["succeeded"] == 0


# --- actions ----------------------------------------------------------------------------------------------------


def again(database: Database, how: str) -> None:
    """Let what failed be tried again, by itself or when it is asked for."""
    if how == "retry":
        make_due(database)
    else:
        assert replay_dead(database).due == 1
    assert answer(database)["succeeded"] == 1


@pytest.mark.parametrize("how", ["retry", "replay"])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([NOBODY, tell("a")], [tell("a")], ["a"]),
        ([NOBODY, tell("a")], [tell("b"), tell("a")], ["a", "b"]),
        ([tell("a"), NOBODY], [tell("b"), tell("c")], ["a", "b", "c"]),
        ([tell("a"), tell("b"), NOBODY], [tell("b"), tell("a")], ["a", "b"]),
        # Of equal actions each is done, and those that were are not done again.
        ([tell("a"), tell("a"), NOBODY], [tell("a")], ["a", "a"]),
        ([tell("a"), NOBODY], [tell("a"), tell("a")], ["a", "a"]),
    ],
    ids=["removed", "replaced", "done one replaced", "moved", "one of equal ones removed", "an equal one added"],
)
def test_of_a_rule_that_was_mended_what_was_done_is_not_done_again_and_the_rest_is(
    database: Database,
    house: House,
    how: str,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    expected: list[str],
) -> None:
    rule = house.rule(actions=before)
    house.event()
    answer(database, policy=ONCE if how == "replay" else AnsweringPolicy())
    # As a source may write it: the order of the keys says nothing.
    house.change(rule, actions=json.dumps([dict(sorted(action.items(), reverse=True)) for action in after]))
    again(database, how)
    assert titles(database) == expected


# --- many -------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_are_replayed_by_one_statement_that_probes_for_each(
    database: Database, house: House
) -> None:
    rule = house.rule(actions=TELL_ADMINS)
    house.rule("$.days_overdue > 5", name="Another")
    house.event(number=100_000)
    # As after a load, when the planner knows of no row.
    house.run(
        "WITH taken AS (DELETE FROM automation_rules.unmatched RETURNING tenant_id, event_id) "
        "INSERT INTO automation_rules.executions (tenant_id, rule_id, event_id, depth, status) "
        "SELECT t.tenant_id, :rule, t.event_id, 0, 'dead' FROM taken AS t",
        rule=rule,
    )
    with database.transaction() as connection:
        given = {"tenant_id": None, "rule_id": None}
        sql = statement(PACKAGE, "replay_dead").text
        explained = connection.execute(sa.text(f"EXPLAIN {sql}"), given).scalars().all()
    plan = "\n".join(explained)
    assert plan.count("Seq Scan") == plan.count("Seq Scan on executions") == 1
    assert "Index Scan using events_pkey" in plan
    assert replay_dead(database) == Replay(due=100_000, left={})
    assert statuses(database) == {"pending": 100_000}
    # The planner knows of one rule with all that is open; the others look for their own and read nothing else.
    with database.transaction() as connection:
        connection.exec_driver_sql("ANALYZE automation_rules.executions")
        given = {"after_tenant": FIRST_KEY[0], "after_rule": FIRST_KEY[1], "rules": 100}
        due = statement(PACKAGE, "due_rules").text
        explained = connection.execute(sa.text(f"EXPLAIN {due}"), given).scalars().all()
        given = {"tenants": ["default"], "rules": [rule], "share": 1000}
        connection.exec_driver_sql(statement(PACKAGE, "executing").text)
        take = statement(PACKAGE, "take_executions").text
        explained += connection.execute(sa.text(f"EXPLAIN {take}"), given).scalars().all()
    plan = "\n".join(explained)
    assert plan.count("using executions_due_idx") == 2
    assert "executions_next_idx" not in plan


# --- the job ----------------------------------------------------------------------------------------------------


def run_job(database: Database, **config: Any) -> dg.ExecuteInProcessResult:
    job = build_defs({"database": database}).resolve_job_def("replay_dead_executions_job")
    return job.execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
        run_config={"ops": {"replay_dead_executions": {"config": config}}},
    )


@pytest.mark.parametrize(
    ("chosen", "due", "left"),
    [
        ({"everything": True}, 1, {"the rule is disabled or removed": 1}),
        ({"tenant_id": "other"}, 0, {"the rule is disabled or removed": 1}),
        ({"tenant_id": "default"}, 1, {}),
        ({"rule_id": "{0}"}, 1, {}),
    ],
    ids=str,
)
def test_the_job_replays_what_is_named_and_shows_what_stays(
    database: Database, house: House, chosen: dict[str, Any], due: int, left: dict[str, int]
) -> None:
    other = House(database, "other")
    mine, theirs = house.rule(actions=[NOBODY]), other.rule(actions=[NOBODY])
    house.event()
    other.event()
    answer(database, policy=ONCE)
    other.change(theirs, enabled=False)
    result = run_job(
        database, **{name: value if value is True else value.format(mine) for name, value in chosen.items()}
    )
    [event] = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_OUTPUT]
    shown = {name: value.value for name, value in event.step_output_data.metadata.items()}
    assert shown == {"replayed": due, "left": sum(left.values()), "reasons": left}
    assert rows(database, "SELECT rule_id FROM automation_rules.executions WHERE status = 'pending'") == [(mine,)] * due


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "Name what to replay: tenant_id or rule_id, or set everything to true."),
        ({"tenant_id": "nobody"}, "There is no tenant 'nobody'."),
        ({"rule_id": "mine"}, "rule_id is 'mine', which is no UUID."),
    ],
)
def test_the_job_refuses_a_wrong_choice_in_words(database: Database, config: dict[str, Any], said: str) -> None:
    [event] = [event for event in run_job(database, **config).all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    assert said in str(event.step_failure_data.user_failure_data.description)
