"""Delivery: who takes what from the outbox, what becomes of an attempt, and what an analyst reads about it."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dossier_pipelines.notifications.channels.email import Email
from dossier_pipelines.notifications.channels.mailbox import Mailbox
from dossier_pipelines.notifications.delivery import Lane, Pace, RetryPolicy, deliver_due
from dossier_pipelines.notifications.recording import PACKAGE, DeliveryPolicy, plan_deliveries
from dossier_pipelines.notifications.replaying import replay_dead
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import SmtpSettings
from dossier_pipelines_tests.outbox import (
    NOON,
    POLICY,
    SENDER,
    Answer,
    Receiver,
    delivery,
    digests,
    explained,
    mail_server,
    make_due,
    person,
    receiver,
    record,
    scripted_mail_server,
    tell,
)
from dossier_pipelines_tests.processes import wait_until
from dossier_pipelines_tests.records import rows, scalar

MINUTE = timedelta(minutes=1)
QUICK = RetryPolicy(attempts=3)
DOWN = Answer(503)
MAIL_ONLY = DeliveryPolicy(channels=("in_app", "email"))


def database_now(database: Database) -> datetime:
    now = scalar(database, "SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def tell_several(database: Database, count: int, **notification: object) -> list[str]:
    """Tell ``count`` people one thing each, a minute apart, and return the ids, oldest first."""
    with database.transaction() as connection:
        told = [
            record(connection, str(uuid.uuid4()), at=NOON + number * MINUTE, **notification) for number in range(count)
        ]
        plan_deliveries(connection, POLICY)
    return told


def received(server: Receiver) -> list[str]:
    return [post.document["data"]["notification_id"] for post in server.posts]


def attempt(database: Database, server: Receiver, answer: Answer, *, retries: RetryPolicy = QUICK) -> None:
    """Let everything be due, and make one attempt that ends as ``answer`` says."""
    make_due(database)
    server.otherwise = answer
    server.deliver(database, retries=retries)


# --- who takes what ---------------------------------------------------------------------------------------------


def test_two_workers_share_the_outbox_without_overlap(database: Database) -> None:
    told = tell_several(database, 40)
    with receiver() as server:
        both = threading.Event()

        def wait_for_the_other() -> None:
            with server.lock:
                if len({post.client for post in server.posts}) == 2:
                    both.set()
            assert both.wait(60)

        server.otherwise = Answer(wait=wait_for_the_other)
        # One connection each, and each is held until the other one is here.
        with ThreadPoolExecutor(2) as threads:
            working = [threads.submit(server.deliver, database, concurrency=1) for _ in range(2)]
            sent = [worker.result().count("sent") for worker in working]
        assert sorted(received(server)) == sorted(told)
    assert sum(sent) == 40
    assert all(sent)
    found = rows(
        database, "SELECT status, attempts, claimed_by FROM notifications.deliveries WHERE channel = 'webhook'"
    )
    assert {(row.status, row.attempts, row.claimed_by) for row in found} == {("sent", 1, None)}


def test_an_expired_claim_is_taken_by_another_worker_and_the_late_result_of_the_first_is_refused(
    database: Database,
) -> None:
    (told,) = tell_several(database, 1)
    release = threading.Event()
    with receiver() as server, ThreadPoolExecutor(1) as threads:
        server.answers = [
            Answer(410, wait=lambda: release.wait(60)),
            Answer(200, {"x-request-id": "from the second"}),
        ]
        late = threads.submit(server.deliver, database)
        try:
            wait_until(lambda: server.posts, "the first worker sends")
            server.deliver(database)
            assert len(server.posts) == 1
            # Its worker is silent for too long.
            make_due(database)
            assert server.deliver(database).count("sent") == 1
        finally:
            release.set()
        late.result()
        assert received(server) == [told, told]
        assert len({post.headers["idempotency-key"] for post in server.posts}) == 1
    row = delivery(database, told)
    assert (row.status, row.attempts, row.provider_id, row.last_error) == ("sent", 2, "from the second", None)


def test_a_worker_names_itself_while_it_sends(database: Database) -> None:
    (told,) = tell_several(database, 1)
    seen = []
    with receiver() as server:
        server.answers = [Answer(wait=lambda: seen.append((delivery(database, told), database_now(database))))]
        server.deliver(database, pace=Pace(claim=500.0))
    ((row, now),) = seen
    assert (row.status, row.attempts) == ("sending", 1)
    assert row.claimed_by is not None
    assert timedelta(0) < row.next_attempt_at - now <= timedelta(seconds=500)


def test_a_run_sends_no_more_than_its_limit_and_leaves_the_rest_queued(database: Database) -> None:
    told = tell_several(database, 7)
    with receiver() as server:
        # The oldest first.
        for sent in (told[:3], told[3:6], told[6:]):
            server.posts.clear()
            server.deliver(database, limit=3)
            assert sorted(received(server)) == sorted(sent)
            waiting = told[told.index(sent[-1]) + 1 :]
            assert [delivery(database, identity).status for identity in waiting] == ["queued"] * len(waiting)
            assert {delivery(database, identity).attempts for identity in waiting} <= {0}


def test_a_message_that_waited_too_long_behind_others_goes_back_without_having_cost_an_attempt(
    database: Database,
) -> None:
    tell_several(database, 4)
    with receiver() as server:
        # Longer than what a claim leaves beyond the time of one attempt.
        server.answers = [Answer(wait=lambda: threading.Event().wait(0.6))]
        result = server.deliver(database, concurrency=1, pace=Pace(deadline=20, claim=20.4), retries=QUICK)
        assert len(server.posts) == 4
    assert result.count("sent") == 4
    assert result.count("queued") >= 1
    found = rows(database, "SELECT status, attempts FROM notifications.deliveries WHERE channel = 'webhook'")
    assert Counter((row.status, row.attempts) for row in found) == {("sent", 1): 4}


def test_what_is_not_due_yet_is_left_alone(database: Database) -> None:
    tell(database, str(uuid.uuid4()), at=datetime.now(UTC) + timedelta(days=1))
    with receiver() as server:
        assert server.deliver(database).outcomes == {}
        assert server.posts == []


def test_a_receiver_that_never_answers_is_tried_again(database: Database) -> None:
    (told,) = tell_several(database, 1)
    release = threading.Event()
    with receiver() as server:
        server.otherwise = Answer(wait=lambda: release.wait(60))
        try:
            server.deliver(database, pace=Pace(deadline=0.3, claim=60))
        finally:
            release.set()
    assert delivery(database, told).status == "failed"
    assert delivery(database, told).last_error.startswith(("no answer", "the receiver did not answer"))


# --- when it is tried again -------------------------------------------------------------------------------------


def test_each_wait_is_twice_the_last_within_the_bounds_of_its_jitter(database: Database) -> None:
    (told,) = tell_several(database, 1)
    retries = RetryPolicy(attempts=6, first_seconds=100, longest_seconds=700)
    with receiver() as server:
        for number, seconds in enumerate((100, 200, 400, 700, 700), start=1):
            make_due(database)
            server.otherwise = DOWN
            before = database_now(database)
            server.deliver(database, retries=retries)
            after = database_now(database)
            row = delivery(database, told)
            assert (row.status, row.attempts, row.last_error) == ("failed", number, "the receiver answered 503")
            assert before + timedelta(seconds=0.5 * seconds) <= row.next_attempt_at
            assert row.next_attempt_at <= after + timedelta(seconds=1.5 * seconds)
    assert len(server.posts) == 5


def test_waits_are_spread_over_their_bounds() -> None:
    waits = [RetryPolicy().seconds(3) for _ in range(300)]
    assert all(60 <= wait <= 180 for wait in waits)
    assert max(waits) - min(waits) > 60
    assert all(RetryPolicy().seconds(1000) <= 1.5 * 3600 for _ in range(100))


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_is_not_asked_again_before_it_said(database: Database, status: int) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        before = database_now(database)
        attempt(database, server, Answer(status, {"retry-after": "7200"}))
        after = database_now(database)
    assert before + timedelta(seconds=7200) <= delivery(database, told).next_attempt_at
    assert delivery(database, told).next_attempt_at <= after + timedelta(seconds=7200)


def test_a_receiver_that_asks_for_no_wait_does_not_use_up_every_attempt_at_once(database: Database) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        attempt(database, server, Answer(503, {"retry-after": "0"}))
        assert len(server.posts) == 1
    assert (delivery(database, told).status, delivery(database, told).attempts) == ("failed", 1)


def test_after_the_last_attempt_it_is_dead_with_its_reason(database: Database) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        for answer in (Answer(503), Answer(429), Answer(500)):
            attempt(database, server, answer)
        assert (delivery(database, told).status, delivery(database, told).attempts) == ("dead", 3)
        assert delivery(database, told).last_error == "the receiver answered 500"
        # And that is the end of it.
        make_due(database)
        server.deliver(database)
        assert len(server.posts) == 3


def test_an_answer_that_will_not_change_is_the_end_at_once(database: Database) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        attempt(database, server, Answer(400))
    row = delivery(database, told)
    assert (row.status, row.attempts, row.last_error) == ("dead", 1, "the receiver answered 400")


def test_every_attempt_of_a_message_carries_the_same_key_and_no_two_messages_share_one(database: Database) -> None:
    told = tell_several(database, 3)
    with receiver() as server:
        attempt(database, server, DOWN)
        attempt(database, server, Answer())
        keys = {(post.document["data"]["notification_id"], post.headers["idempotency-key"]) for post in server.posts}
        assert len(server.posts) == 6
    assert len(keys) == 3
    assert {identity for identity, _ in keys} == set(told)


def test_an_outcome_says_when_and_under_which_name_it_was_taken(database: Database) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        attempt(database, server, DOWN)
        assert delivery(database, told).sent_at is None
        before = database_now(database)
        attempt(database, server, Answer(200, {"x-request-id": "req-17"}))
    row = delivery(database, told)
    assert (row.status, row.attempts, row.last_error, row.provider_id) == ("sent", 2, None, "req-17")
    assert before <= row.sent_at <= database_now(database)


def test_a_delivery_says_how_its_attempts_ended(database: Database) -> None:
    tell_several(database, 3)
    with receiver() as server:
        server.answers = [Answer(204), Answer(503), Answer(410)]
        result = server.deliver(database, concurrency=1)
    assert result.outcomes == {("webhook", "sent"): 1, ("webhook", "failed"): 1, ("webhook", "dead"): 1}
    assert [result.count(status) for status in ("sent", "failed", "dead")] == [1, 1, 1]


@pytest.mark.parametrize("name", ["re\xe7u", "x" * 5000])
def test_whatever_a_receiver_calls_a_message_is_written_down(database: Database, name: str) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        attempt(database, server, Answer(200, {"x-request-id": name}))
    assert delivery(database, told).status == "sent"
    assert len(delivery(database, told).provider_id) <= 200


def test_a_mail_server_that_speaks_no_utf8_stops_nobody(database: Database) -> None:
    told = tell(database, person(database), policy=MAIL_ONLY)
    with scripted_mail_server(end=b"250 re\xe7u \x00 merci") as server:
        mail = Email(SmtpSettings(host="127.0.0.1", port=server.port, encryption="none"), sender=SENDER, timeout=30)
        deliver_due(database, {"email": Lane(channel=mail, concurrency=1)}, MAIL_ONLY)
    assert delivery(database, told, "email").status == "sent"
    assert delivery(database, told, "email").provider_id.startswith("re")


NO_ADDRESSES = [
    *["", " ", "@", "a", "a@", "@b.example", "a b@c.example", "<a@b.example>", "a@[", "(", ",", '"', "a@b;c"],
    *["a@b.example\r\nBcc: all@b.example", "a@b.example, c@d.example", "g\u00fcnther@b.example", "a@b\x85c.example"],
]


def test_an_address_that_is_none_is_given_up_and_stops_no_other(database: Database) -> None:
    bad = [tell(database, person(database, address=address), policy=MAIL_ONLY) for address in NO_ADDRESSES]
    good = [tell(database, person(database, address=f"p{n}@dossier.example"), policy=MAIL_ONLY) for n in range(3)]
    with mail_server() as server:
        mail = Email(SmtpSettings(host="127.0.0.1", port=server.port, encryption="none"), sender=SENDER, timeout=30)
        result = deliver_due(database, {"email": Lane(channel=mail, concurrency=4)}, MAIL_ONLY)
        assert sorted(mail.recipients[0] for mail in server.mails.taken) == [f"p{n}@dossier.example" for n in range(3)]
        assert all(len(mail.recipients) == 1 for mail in server.mails.taken)
    assert result.outcomes == {("email", "dead"): len(bad), ("email", "sent"): 3}
    assert {delivery(database, identity, "email").status for identity in good} == {"sent"}
    for identity in bad:
        row = delivery(database, identity, "email")
        assert (row.status, row.attempts) == ("dead", 1)
        assert row.last_error.startswith("the mail address cannot be used")


# --- replay -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dead(database: Database) -> dict[str, str]:
    """Dead deliveries: of two kinds by webhook, and one by mail; kind to notification id."""
    kinds = ("task_overdue", "commitment_overdue", "hearing_reminder")
    told = {kind: tell(database, person(database), kind=kind) for kind in kinds}
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "UPDATE notifications.deliveries AS d SET status = 'dead', attempts = 8, last_error = 'it was down' "
                "FROM notifications.notifications AS n WHERE n.id = d.notification_id "
                "AND d.channel = CASE n.kind WHEN 'hearing_reminder' THEN 'email' ELSE 'webhook' END"
            )
        )
        connection.execute(sa.text("DELETE FROM notifications.deliveries WHERE status = 'queued'"))
    return told


def queued(database: Database) -> set[str]:
    found = rows(
        database,
        "SELECT n.kind FROM notifications.deliveries AS d JOIN notifications.notifications AS n "
        "ON n.id = d.notification_id WHERE d.status = 'queued'",
    )
    return {row.kind for row in found}


@pytest.mark.parametrize(
    ("chosen", "replayed"),
    [
        ({"kind": "commitment_overdue"}, {"commitment_overdue"}),
        ({"channel": "webhook"}, {"task_overdue", "commitment_overdue"}),
        ({"channel": "email"}, {"hearing_reminder"}),
        ({"channel": "email", "kind": "task_overdue"}, set()),
        ({"tenant_id": "default"}, {"task_overdue", "commitment_overdue", "hearing_reminder"}),
        ({"tenant_id": "another"}, set()),
        ({}, {"task_overdue", "commitment_overdue", "hearing_reminder"}),
    ],
)
def test_what_is_named_is_queued_anew_and_nothing_else(
    database: Database, dead: dict[str, str], chosen: dict[str, str], replayed: set[str]
) -> None:
    assert replay_dead(database, **chosen) == len(replayed)
    assert queued(database) == replayed


def test_one_notification_is_replayed_by_its_id(database: Database, dead: dict[str, str]) -> None:
    assert replay_dead(database, notification_id=dead["task_overdue"]) == 1
    assert queued(database) == {"task_overdue"}
    # A second time there is nothing to do.
    assert replay_dead(database, notification_id=dead["task_overdue"]) == 0


def test_a_replayed_message_has_all_its_attempts_again_and_its_old_key(database: Database) -> None:
    (told,) = tell_several(database, 1)
    with receiver() as server:
        for _ in range(3):
            attempt(database, server, DOWN)
        key = delivery(database, told).dedupe_key
        assert replay_dead(database, kind="task_overdue") == 1
        row = delivery(database, told)
        assert (row.status, row.attempts, row.dedupe_key) == ("queued", 0, key)
        for _ in range(2):
            attempt(database, server, DOWN)
        assert delivery(database, told).status == "failed"
        attempt(database, server, Answer())
        assert delivery(database, told).status == "sent"
        assert len(server.posts) == 6
        assert len({post.headers["idempotency-key"] for post in server.posts}) == 1


def test_what_is_not_dead_is_not_replayed(database: Database) -> None:
    told = tell_several(database, 2)
    with receiver() as server:
        server.answers = [Answer(), DOWN]
        server.deliver(database, concurrency=1)
    assert replay_dead(database) == 0
    assert [delivery(database, identity).status for identity in told] == ["sent", "failed"]


# --- what an analyst reads --------------------------------------------------------------------------------------


def test_it_is_explained_that_a_message_waits_and_until_when(database: Database) -> None:
    told = tell(database, person(database))
    assert explained(database, told, "email") == "waits until 2025-06-11 12:00:00+00"
    assert explained(database, told, "in_app").startswith("sent at 20")


def test_it_is_explained_that_nobody_has_decided_yet(database: Database) -> None:
    with database.transaction() as connection:
        told = record(connection, person(database))
    assert explained(database, told, "webhook") == "recorded; its deliveries are not decided yet"


def test_it_is_explained_that_a_message_is_being_sent_failed_and_was_taken(database: Database) -> None:
    (told,) = tell_several(database, 1)
    seen = []
    with receiver() as server:
        attempt(database, server, Answer(503, wait=lambda: seen.append(explained(database, told, "webhook"))))
        assert seen == ["is being sent, attempt 1"]
        failed = explained(database, told, "webhook")
        assert failed.startswith("attempt 1 failed (the receiver answered 503); the next is at 20")
        attempt(database, server, Answer())
    assert explained(database, told, "webhook").startswith("sent at 20")


def test_it_is_explained_why_a_message_was_given_up(database: Database) -> None:
    refused, unlucky = tell_several(database, 2)
    with receiver() as server:
        server.answers = [Answer(404)]
        server.otherwise = DOWN
        server.deliver(database, concurrency=1, retries=QUICK)
        for _ in range(2):
            attempt(database, server, DOWN)
    assert explained(database, refused, "webhook") == (
        "given up after 1 attempt: the receiver answered 404. Replay it when the cause is gone"
    )
    assert explained(database, unlucky, "webhook") == (
        "given up after 3 attempts: the receiver answered 503. Replay it when the cause is gone"
    )


def test_it_is_explained_that_a_message_is_in_the_days_digest_and_how_far_that_is(database: Database) -> None:
    user = person(database)
    for number in range(POLICY.daily_number):
        tell(database, user, at=NOON + number * MINUTE)
    told = tell(database, user)
    because = "in the digest of 2025-06-11, because the day's number was reached: "
    assert explained(database, told, "webhook") == f"{because}waits until 2025-06-12 00:00:00+00"
    assert explained(database, told, "in_app").startswith("sent at ")
    with receiver() as server:
        server.otherwise = Answer(410)
        server.deliver(database)
    assert explained(database, told, "webhook") == (
        f"{because}given up after 1 attempt: the receiver answered 410. Replay it when the cause is gone"
    )
    # A digest is no message of its own.
    assert (
        rows(
            database,
            "SELECT FROM notifications.delivery_explained WHERE notification_id = :id",
            id=next(iter(digests(database))),
        )
        == []
    )


def test_it_is_explained_that_somebody_has_no_address_or_is_no_user(database: Database) -> None:
    nameless, stranger = tell(database, person(database, address=None)), tell(database, str(uuid.uuid4()))
    assert explained(database, nameless, "email") == "no mail: the person has no mail address"
    assert explained(database, stranger, "email") == "no mail: the person is not among the users"
    assert explained(database, stranger, "webhook").startswith("waits until")


def test_it_is_explained_that_a_channel_was_not_configured(database: Database) -> None:
    told = tell(database, person(database), policy=MAIL_ONLY)
    assert explained(database, told, "webhook") == (
        "not by this channel: it was not configured when the message was recorded"
    )


def test_every_notification_is_explained_once_for_each_channel(database: Database) -> None:
    tell_several(database, 3)
    found = rows(
        database, "SELECT channel, count(*), count(explanation) AS e FROM notifications.delivery_explained GROUP BY 1"
    )
    assert {(row.channel, row.count, row.e) for row in found} == {("in_app", 3, 3), ("email", 3, 3), ("webhook", 3, 3)}


# --- the inbox --------------------------------------------------------------------------------------------------

UNREAD = (
    "SELECT id FROM notifications.inbox WHERE tenant_id = 'default' AND user_id = :user AND NOT read "
    "ORDER BY created_at DESC"
)


def unread(database: Database, user: str) -> list[str]:
    return [str(row.id) for row in rows(database, UNREAD, user=user)]


def test_an_inbox_shows_what_is_unread_newest_first_and_nobody_elses(database: Database) -> None:
    user, other = person(database), person(database)
    told = [tell(database, user, at=NOON + number * MINUTE) for number in (2, 0, 1)]
    tell(database, other)
    assert unread(database, user) == [told[0], told[2], told[1]]


def test_one_message_or_all_are_marked_read_in_the_inbox_itself(database: Database) -> None:
    user, other = person(database), person(database)
    told = [tell(database, user, at=NOON + number * MINUTE) for number in range(3)]
    others = tell(database, other)
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE notifications.inbox SET read_at = now() WHERE id = :id AND read_at IS NULL"),
            {"id": told[1]},
        )
    assert unread(database, user) == [told[2], told[0]]
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE notifications.inbox SET read_at = now() WHERE user_id = :user AND read_at IS NULL"),
            {"user": user},
        )
    assert unread(database, user) == []
    assert unread(database, other) == [others]
    assert scalar(database, "SELECT count(*) FROM notifications.inbox WHERE read AND read_at IS NOT NULL") == 3


def test_what_was_read_before_it_was_sent_is_sent_all_the_same(database: Database) -> None:
    (told,) = tell_several(database, 1)
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE notifications.inbox SET read_at = now()"))
    with receiver() as server:
        server.deliver(database)
        assert received(server) == [told]


# --- lanes ------------------------------------------------------------------------------------------------------


def test_a_notification_leaves_by_every_channel_that_there_is(database: Database, tmp_path: Path) -> None:
    told = tell(database, person(database))
    with receiver() as server:
        mailbox = Lane(channel=Mailbox(tmp_path / "mailbox", sender=SENDER), concurrency=2)
        result = deliver_due(database, {**server.lanes(), "email": mailbox}, POLICY)
        assert received(server) == [told]
    assert result.outcomes == {("email", "sent"): 1, ("webhook", "sent"): 1}
    assert delivery(database, told, "email").provider_id == next((tmp_path / "mailbox").glob("*.eml")).name
    assert not database.run(PACKAGE, "anything_due", {"channels": ["email", "webhook"]})[0].due
