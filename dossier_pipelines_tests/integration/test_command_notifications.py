"""`dossier-pipelines notifications replay`: what was given up is queued anew, by the command line's contract."""

from __future__ import annotations

import subprocess
import uuid
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.processes import call
from dossier_pipelines_tests.records import rows


class Delivery(NamedTuple):
    """One that was given up."""

    notification: uuid.UUID
    kind: str
    channel: str


@pytest.fixture
def dead(database: Database) -> list[Delivery]:
    """Two notifications of different kinds, each dead by mail and by webhook; and one of each kind that was sent."""
    found = []
    for kind in ("commitment_overdue", "relationship_at_risk"):
        for status in ("dead", "sent"):
            identity = uuid.uuid4()
            with database.transaction() as connection:
                connection.execute(
                    sa.text(
                        "INSERT INTO notifications.notifications (tenant_id, id, user_id, kind, urgency, title, "
                        "message, metadata, dedupe_key, created_at) VALUES ('default', :id, :id, :kind, 3, "
                        "'A', 'B', '{}', CAST(:id AS text), '2025-06-15')"
                    ),
                    {"id": identity, "kind": kind},
                )
                for channel in ("email", "webhook"):
                    connection.execute(
                        sa.text(
                            "INSERT INTO notifications.deliveries (tenant_id, notification_id, channel, status, "
                            "attempts, next_attempt_at, last_error, dedupe_key, day) VALUES ('default', :id, :channel, "
                            ":status, 5, '2025-06-15', 'refused', concat(CAST(:id AS text), CAST(:channel AS text)), "
                            "'2025-06-15')"
                        ),
                        {"id": identity, "channel": channel, "status": status},
                    )
                    if status == "dead":
                        found.append(Delivery(identity, kind, channel))
    return found


def replay(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return call("notifications", "replay", *options, settings={"DOSSIER_DATABASE_URL": url})


def queued(database: Database) -> set[Delivery]:
    found = rows(
        database,
        "SELECT d.notification_id, n.kind, d.channel, d.attempts FROM notifications.deliveries AS d "
        "JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id "
        "WHERE d.status = 'queued'",
    )
    # With all of its attempts given back.
    assert {row.attempts for row in found} <= {0}
    return {Delivery(row.notification_id, row.kind, row.channel) for row in found}


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (["--all"], [0, 1, 2, 3]),
        (["--kind", "commitment_overdue"], [0, 1]),
        (["--channel", "webhook"], [1, 3]),
        (["--kind", "relationship_at_risk", "--channel", "email"], [2]),
        (["--kind", "no such kind"], []),
    ],
    ids=str,
)
def test_what_is_named_is_queued_anew_and_nothing_else(
    database: Database, new_database_url: str, dead: list[Delivery], options: list[str], chosen: list[int]
) -> None:
    done = replay(new_database_url, *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{len(chosen)} deliveries are queued anew.\n"
    assert queued(database) == {dead[number] for number in chosen}


def test_one_notification_is_named_by_its_id(database: Database, new_database_url: str, dead: list[Delivery]) -> None:
    done = replay(new_database_url, "--id", str(dead[0].notification).upper())
    assert done.stderr == "2 deliveries are queued anew.\n"
    assert queued(database) == set(dead[:2])


def test_a_second_replay_finds_nothing(database: Database, new_database_url: str, dead: list[Delivery]) -> None:
    replay(new_database_url, "--all")
    assert replay(new_database_url, "--all").stderr == "0 deliveries are queued anew.\n"
    assert queued(database) == set(dead)


def test_without_a_choice_it_is_bad_usage_and_nothing_is_queued(
    database: Database, new_database_url: str, dead: list[Delivery]
) -> None:
    done = replay(new_database_url)
    assert done.returncode == 2
    assert "--id, --kind or --channel, or say --all" in " ".join(done.stderr.replace("│", " ").split())
    assert queued(database) == set()


def test_a_channel_that_there_is_not_is_bad_usage(new_database_url: str) -> None:
    done = replay(new_database_url, "--channel", "pigeon")
    assert done.returncode == 2
    assert "name email, whatsapp or webhook" in " ".join(done.stderr.replace("│", " ").split())


def test_an_id_that_is_none_is_said_in_one_line(new_database_url: str) -> None:
    done = replay(new_database_url, "--id", "the last one")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "dossier-pipelines: --id is 'the last one', which is no UUID. Ids are in the column notification_id of "
        "notifications.delivery_explained.\n"
    )


def test_a_database_of_an_older_version_is_brought_up_to_date_first(empty_database_url: str) -> None:
    done = replay(empty_database_url, "--all")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "0 deliveries are queued anew."
    assert "Traceback" not in done.stderr
