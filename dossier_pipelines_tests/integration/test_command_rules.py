"""`dossier-pipelines rules replay`: what rules gave up is tried again, and what had succeeded is not done twice."""

from __future__ import annotations

import subprocess
import uuid
from typing import Any, Final

import pytest

from dossier_pipelines.automation_rules.answering import AnsweringPolicy
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.processes import call
from dossier_pipelines_tests.records import rows
from dossier_pipelines_tests.rules import TELL_ADMINS, House, answer, told

ONCE: Final = AnsweringPolicy(attempts=1)
# Nobody is a judge yet; the administrators are told at once.
TELL_JUDGES: Final[list[dict[str, Any]]] = [
    {"action": "notify", "role": "judge", "title": "x", "message": "y"},
    *TELL_ADMINS,
]


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


@pytest.fixture
def given_up(database: Database, house: House) -> list[uuid.UUID]:
    """Three rules, each of which gave up one execution; the last one is of another tenant."""
    other = House(database, "other")
    made = [house.rule(actions=TELL_JUDGES), house.rule(actions=TELL_JUDGES), other.rule(actions=TELL_JUDGES)]
    house.event()
    other.event()
    answer(database, policy=ONCE)
    assert statuses(database) == dict.fromkeys(made, "dead")
    return made


def statuses(database: Database) -> dict[uuid.UUID, str]:
    return {
        row.rule_id: row.status for row in rows(database, "SELECT rule_id, status FROM automation_rules.executions")
    }


def replay(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return call("rules", "replay", *options, settings={"DOSSIER_DATABASE_URL": url})


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (["--all"], [0, 1, 2]),
        (["--tenant", "default"], [0, 1]),
        (["--id", "{1}"], [1]),
        (["--tenant", "other", "--id", "{0}"], []),
    ],
    ids=str,
)
def test_what_is_named_is_due_anew_and_nothing_else(
    database: Database, new_database_url: str, given_up: list[uuid.UUID], options: list[str], chosen: list[int]
) -> None:
    done = replay(new_database_url, *(option.format(*given_up) for option in options))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Executions that are due anew: {len(chosen)}.\n"
    due = {rule for rule, status in statuses(database).items() if status == "pending"}
    assert due == {given_up[number] for number in chosen}


def test_what_was_mended_succeeds_and_what_had_succeeded_is_not_done_again(
    database: Database, new_database_url: str, house: House, given_up: list[uuid.UUID]
) -> None:
    before = told(database)
    judge = house.user("judge")
    replay(new_database_url, "--tenant", "default")
    assert answer(database, policy=ONCE)["succeeded"] == 2
    assert statuses(database) == dict(zip(given_up, ["success", "success", "dead"], strict=True))
    assert sorted(user for user, *_ in told(database)) == sorted([*(user for user, *_ in before), judge, judge])


def test_what_a_rule_gave_up_that_is_disabled_stays_given_up(
    database: Database, new_database_url: str, house: House, given_up: list[uuid.UUID]
) -> None:
    house.change(given_up[0], enabled=False)
    assert replay(new_database_url, "--all").stderr == (
        "Executions that are due anew: 2.\nStill given up: 1, the rule is disabled or removed.\n"
    )
    assert statuses(database)[given_up[0]] == "dead"


def test_a_tenant_that_is_none_is_refused_and_nothing_is_replayed(
    database: Database, new_database_url: str, given_up: list[uuid.UUID]
) -> None:
    done = replay(new_database_url, "--tenant", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no tenant 'nobody'. Name one of platform.tenants" in done.stderr
    assert set(statuses(database).values()) == {"dead"}


def test_without_a_choice_it_is_bad_usage(new_database_url: str) -> None:
    done = replay(new_database_url)
    assert done.returncode == 2
    assert "--tenant or --id, or say --all" in " ".join(done.stderr.replace("│", " ").split())


def test_an_id_that_is_none_is_said_in_one_line(new_database_url: str) -> None:
    done = replay(new_database_url, "--id", "the first one")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "dossier-pipelines: --id is 'the first one', which is no UUID. Ids are in the column rule_id of "
        "automation_rules.executions.\n"
    )
