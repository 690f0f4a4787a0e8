"""Receivers in trouble: the deadline holds, others get their messages, and all is sent when the trouble is over."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import sqlalchemy as sa

from dossier_pipelines.notifications.delivery import Pace, RetryPolicy
from dossier_pipelines.notifications.replaying import replay_dead
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.faults import peers as trouble
from dossier_pipelines_tests.faults.desk import Desk, expire_claims, pending, unfinished
from dossier_pipelines_tests.faults.history import History, say
from dossier_pipelines_tests.faults.peers import Peers, Trouble
from dossier_pipelines_tests.faults.work import deliver, deliver_until
from dossier_pipelines_tests.processes import wait_until
from dossier_pipelines_tests.records import rows, scalar

# For those in good health, too: so long that no machine is busy with others for it.
IMPATIENT = Pace(deadline=5.0)
# A day and more away, so that no test can mistake it for what Retry-After asks for, or for now.
RELUCTANT = RetryPolicy(first_seconds=400_000, longest_seconds=400_000)
NO_ANSWER = "no answer within 5 s"
NOT_PROPERLY = "the receiver did not answer properly: "
# The client's own timeout is as long as the deadline, and may be first.
HUNG = (NO_ANSWER, NOT_PROPERLY + "TimeoutError", NOT_PROPERLY + "ServerTimeoutError")
HUNG_MAIL = (NO_ANSWER, "the mail server cannot be used: ")

WEBHOOK_TROUBLES: dict[str, tuple[Trouble, str | tuple[str, ...]]] = {
    "hangs": (trouble.hang, HUNG),
    "drips its status line": (trouble.drip(b"HTTP/1.1 2"), (*HUNG, NOT_PROPERLY)),
    "drips headers": (trouble.drip(b"HTTP/1.1 200 OK\r\nslow: "), HUNG),
    "resets the connection": (trouble.reset, NOT_PROPERLY),
    "says garbage": (trouble.garbage, NOT_PROPERLY),
    "answers 429": (trouble.answer(429), "the receiver answered 429"),
    "answers 500": (trouble.answer(500), "the receiver answered 500"),
    "answers 503": (trouble.answer(503, retry_after="soon"), "the receiver answered 503"),
}
MAIL_TROUBLES: dict[str, tuple[Trouble, str | tuple[str, ...]]] = {
    "hangs": (trouble.hang, HUNG_MAIL),
    "drips its reply": (trouble.drip(b"2"), HUNG_MAIL),
    "resets the connection": (trouble.reset, "the mail server cannot be used: "),
    "says garbage": (trouble.garbage, "the server refused the mail"),
    "says later": (trouble.reply("451 later"), "the server refused the mail (SMTP 451)"),
    "says goodbye": (trouble.reply("421 closing"), "the server refused the mail (SMTP 421)"),
}


def attempts(database: Database, channel: str) -> dict[str, list[sa.Row]]:
    """Return each person's deliveries, by user id."""
    found: dict[str, list[sa.Row]] = {}
    query = """
        SELECT CAST(n.user_id AS text) AS user_id, d.status, d.attempts, d.last_error,
            extract(epoch FROM d.next_attempt_at - clock_timestamp()) AS seconds
        FROM notifications.deliveries AS d
        JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id
        WHERE d.channel = :channel
    """
    for row in rows(database, query, channel=channel):
        found.setdefault(row.user_id, []).append(row)
    return found


def require_only_the_first_is_troubled(
    database: Database, desk: Desk, channel: str, reason: str | tuple[str, ...]
) -> None:
    first, *others = (attempts(database, channel)[str(person)] for person in desk.people)
    assert {(row.status, row.attempts) for row in first} == {("failed", 1)}
    assert [row.last_error for row in first if not row.last_error.startswith(reason)] == []
    assert [row.seconds for row in first if not 100_000 < row.seconds <= 600_000] == []
    assert {row.status for messages in others for row in messages} == {"sent"}


def require_all_goes_out_after_it(database: Database, history: History) -> None:
    history.peers.recover()
    expire_claims(database)
    deliver(database, history.peers.addresses)
    counts = history.check()
    assert counts["repeated"] == 0
    say("a receiver in trouble", **counts)


@pytest.mark.parametrize("kind", WEBHOOK_TROUBLES)
def test_a_webhook_receiver_that_is_in_trouble_with_one_person_gets_the_others_and_later_all(
    database: Database, desk: Desk, history: History, kind: str
) -> None:
    desk.notifications(6)
    how, reason = WEBHOOK_TROUBLES[kind]
    history.peers.lasting[str(desk.people[0])] = how
    deliver(database, history.peers.addresses, pace=IMPATIENT, retries=RELUCTANT, concurrency=4)
    require_only_the_first_is_troubled(database, desk, "webhook", reason)
    require_all_goes_out_after_it(database, history)


@pytest.mark.parametrize("kind", MAIL_TROUBLES)
def test_a_mail_server_that_is_in_trouble_with_one_person_gets_the_others_and_later_all(
    database: Database, desk: Desk, history: History, kind: str
) -> None:
    desk.notifications(6)
    how, reason = MAIL_TROUBLES[kind]
    history.peers.lasting["person0@0.example"] = how
    deliver(database, history.peers.addresses, pace=IMPATIENT, retries=RELUCTANT, concurrency=4)
    require_only_the_first_is_troubled(database, desk, "email", reason)
    require_all_goes_out_after_it(database, history)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(database: Database, desk: Desk, history: History, status: int, as_date: bool) -> None:
    desk.notifications(6)
    hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True) if as_date else "3600"
    history.peers.lasting[str(desk.people[0])] = trouble.answer(status, retry_after=hour)
    deliver(database, history.peers.addresses, retries=RetryPolicy(first_seconds=0.01))
    for row in attempts(database, "webhook")[str(desk.people[0])]:
        assert row.status == "failed"
        assert row.last_error == f"the receiver answered {status}"
        # An hour, less what this test takes.
        assert 3000 < row.seconds <= 3600
    # Not before its time.
    asked = len(history.peers.asked)
    history.peers.recover()
    assert not deliver(database, history.peers.addresses).outcomes
    assert len(history.peers.asked) == asked
    require_all_goes_out_after_it(database, history)


def test_a_receiver_whose_answer_never_ends_has_taken_the_message(
    database: Database, desk: Desk, history: History
) -> None:
    desk.notifications(3)
    history.peers.lasting[str(desk.people[0])] = trouble.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    deliver(database, history.peers.addresses, retries=RELUCTANT)
    assert pending(database) == 0
    assert len(history.peers.asked) == 6


def test_a_mail_that_is_refused_for_now_goes_out_with_the_next_attempt(
    database: Database, desk: Desk, history: History
) -> None:
    desk.notifications(6)
    later = trouble.reply("451 later")
    history.peers.troubles["person0@0.example"] = [later, later]
    deliver_until(
        lambda: not pending(database), database, history.peers.addresses, retries=RetryPolicy(first_seconds=0.0)
    )
    assert {(row.status, row.attempts) for row in attempts(database, "email")[str(desk.people[0])]} <= {
        ("sent", 1),
        ("sent", 2),
        ("sent", 3),
    }
    assert sum(row.attempts for row in attempts(database, "email")[str(desk.people[0])]) == 4
    assert history.check()["repeated"] == 0


@pytest.mark.parametrize("line", ["550 no such mailbox", "552 full", "554 no"])
def test_a_mail_that_is_refused_for_good_is_dead_until_it_is_replayed(
    database: Database, desk: Desk, history: History, line: str
) -> None:
    desk.notifications(6)
    history.peers.lasting["person0@0.example"] = trouble.reply(line)
    deliver(database, history.peers.addresses)
    first = attempts(database, "email")[str(desk.people[0])]
    assert {(row.status, row.attempts, row.last_error) for row in first} == {
        ("dead", 1, f"the server refused the mail (SMTP {line[:3]})")
    }
    expire_claims(database)
    assert not deliver(database, history.peers.addresses).outcomes
    history.peers.recover()
    assert replay_dead(database, channel="webhook") == 0
    assert replay_dead(database, channel="email") == 2
    deliver(database, history.peers.addresses)
    assert history.check()["repeated"] == 0


def test_a_webhook_that_is_refused_for_good_is_dead_until_it_is_replayed(
    database: Database, desk: Desk, history: History
) -> None:
    desk.notifications(6)
    history.peers.lasting[str(desk.people[0])] = trouble.answer(410)
    deliver(database, history.peers.addresses)
    first = attempts(database, "webhook")[str(desk.people[0])]
    assert {(row.status, row.last_error) for row in first} == {("dead", "the receiver answered 410")}
    history.peers.recover()
    assert replay_dead(database) == 2
    deliver(database, history.peers.addresses)
    assert history.check()["repeated"] == 0


def test_a_message_is_given_up_after_its_attempts_and_not_before(
    database: Database, desk: Desk, history: History
) -> None:
    desk.notifications(6)
    history.peers.lasting[str(desk.people[0])] = trouble.answer(500)
    deliver_until(
        lambda: not unfinished(database),
        database,
        history.peers.addresses,
        retries=RetryPolicy(attempts=3, first_seconds=0.0),
    )
    first = attempts(database, "webhook")[str(desk.people[0])]
    assert {(row.status, row.attempts) for row in first} == {("dead", 3)}
    assert history.peers.asked.count(str(desk.people[0])) == 2 * 3


def test_a_mail_server_that_hangs_does_not_hold_up_webhooks(database: Database, desk: Desk, history: History) -> None:
    desk.notifications(60)
    again = threading.Event()
    for number in range(3):
        history.peers.lasting[f"person{number}@{number}.example"] = trouble.until(again, then="250 at last")
    with ThreadPoolExecutor(1) as pool:
        delivering = pool.submit(deliver, database, history.peers.addresses)
        try:
            wait_until(
                lambda: (
                    {row.status for messages in attempts(database, "webhook").values() for row in messages} == {"sent"}
                ),
                "all webhooks are sent",
            )
            mails = [row.status for messages in attempts(database, "email").values() for row in messages]
            assert set(mails) <= {"queued", "sending"}
            assert len(mails) == history.peers.count("webhook") == 60
            assert history.peers.count("email") == 0
        finally:
            again.set()
        delivering.result()
    counts = history.check()
    assert counts["repeated"] == 0
    say("a mail server that hangs", **counts)


def test_a_message_that_could_not_be_tried_in_time_has_lost_no_attempt(
    database: Database, desk: Desk, history: History
) -> None:
    """Behind a receiver that hangs for everybody, a claim can end before its messages have their turn."""
    desk.notifications(6)
    for person in desk.people:
        history.peers.lasting[str(person)] = trouble.hang
    tried = "SELECT count(*) = 6 FROM notifications.deliveries WHERE channel = 'webhook' AND last_error IS NOT NULL"
    deliver_until(
        lambda: scalar(database, tried),
        database,
        history.peers.addresses,
        pace=Pace(deadline=1.0, claim=4.0),
        retries=RetryPolicy(attempts=2, first_seconds=400_000, longest_seconds=400_000),
        concurrency=1,
    )
    made = [row for messages in attempts(database, "webhook").values() for row in messages]
    assert {(row.status, row.attempts) for row in made} == {("failed", 1)}
    # Not more often than was counted; of an attempt that a busy machine was late with, the receiver may know nothing.
    assert 0 < len([recipient for recipient in history.peers.asked if "@" not in recipient]) <= 6
    require_all_goes_out_after_it(database, history)


def test_a_receiver_that_is_not_there_is_waited_for(database: Database, desk: Desk) -> None:
    desk.notifications(6)
    with Peers() as gone:
        addresses = gone.addresses
    deliver(database, addresses, retries=RELUCTANT)
    for channel in ("email", "webhook"):
        found = [row for messages in attempts(database, channel).values() for row in messages]
        assert {(row.status, row.attempts) for row in found} == {("failed", 1)}
    expire_claims(database)
    with Peers() as there:
        deliver(database, there.addresses)
        assert History(database, there).check()["repeated"] == 0
