"""Planning: the first of a person's own day come one by one, the rest in one digest; nothing is lost, whoever races."""

from __future__ import annotations

import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dossier_pipelines.notifications.recording import PACKAGE, DeliveryPolicy, Planned, plan_deliveries
from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines_tests.outbox import (
    NOON,
    POLICY,
    Answer,
    Receiver,
    delivery,
    digests,
    person,
    plan,
    receiver,
    record,
    tell,
    tenant,
)
from dossier_pipelines_tests.records import rows, scalar

NUMBER = POLICY.daily_number
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
PLANNERS = 8
# Far longer than all planners together take, who queue on a row; whoever waits for an open transaction waits for ever.
IMPATIENT = "SET LOCAL lock_timeout = '60s'"
WAITS_FOR_A_LOCK = (
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def await_waiting(database: Database, future: Future[Any]) -> None:
    """Ask the server again and again until somebody waits for a lock; whoever should has not ended before."""
    while not scalar(database, WAITS_FOR_A_LOCK):
        assert not future.done(), future.exception()


def individually(database: Database, channel: str = "email") -> set[str]:
    """The ids of what is told one by one."""
    found = rows(
        database,
        "SELECT n.id FROM notifications.deliveries AS d "
        "JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id "
        "WHERE n.kind <> 'digest' AND d.channel = :channel",
        channel=channel,
    )
    return {str(row.id) for row in found}


def in_digests(database: Database) -> dict[str, str]:
    """Notification id to the digest that carries it."""
    found = rows(
        database, "SELECT notification_id AS id, digest_id FROM notifications.deliveries WHERE digest_id IS NOT NULL"
    )
    return {str(row.id): str(row.digest_id) for row in found}


def everything(database: Database) -> dict[str, list[str]]:
    """Every row of the room, with the transaction that wrote it: equal means untouched."""
    return {
        table: [
            row.text
            for row in rows(
                database, f"SELECT xmin::text || t::text AS text FROM notifications.{table} AS t ORDER BY 1"
            )
        ]
        for table in ("notifications", "deliveries", "daily_counts")
    }


def record_day(
    database: Database, user_id: str, urgencies: Sequence[int], *, at: datetime = NOON, **notification: Any
) -> list[str]:
    """Record one notification a minute and plan them together; return their ids."""
    with database.transaction() as connection:
        recorded = [
            record(connection, user_id, urgency=urgency, at=at + position * MINUTE, **notification)
            for position, urgency in enumerate(urgencies)
        ]
        plan_deliveries(connection, POLICY)
    return recorded


# --- one by one, or in a digest ---------------------------------------------------------------------------------


def test_a_day_that_is_not_full_is_told_one_by_one(database: Database) -> None:
    recorded = record_day(database, person(database), [2] * NUMBER)
    assert individually(database) == individually(database, "webhook") == set(recorded)
    assert in_digests(database) == {}
    assert digests(database) == {}


def test_the_most_urgent_of_a_day_are_told_one_by_one_and_the_rest_in_one_digest(database: Database) -> None:
    urgencies = [4, 1, 3, 2] * 5
    recorded = record_day(database, person(database), urgencies)
    ranked = [
        identity
        for _, _, identity in sorted((u, i, name) for i, (u, name) in enumerate(zip(urgencies, recorded, strict=True)))
    ]
    assert individually(database) == set(ranked[:NUMBER])
    (digest,) = digests(database)
    assert in_digests(database) == dict.fromkeys(ranked[NUMBER:], digest)


def test_what_comes_when_the_day_is_full_joins_the_digest_however_urgent(database: Database) -> None:
    user = person(database)
    record_day(database, user, [4] * (NUMBER + 1))
    late = tell(database, user, urgency=1)
    (digest,) = digests(database)
    assert in_digests(database)[late] == digest
    assert late not in individually(database)
    assert scalar(database, "SELECT counted FROM notifications.daily_counts") == NUMBER + 2


def test_a_digest_is_due_by_every_channel_when_its_day_ends_and_the_others_at_once(database: Database) -> None:
    recorded = record_day(database, person(database), [2] * (NUMBER + 1))
    (digest,) = digests(database)
    for channel in ("email", "webhook"):
        assert delivery(database, digest, channel).next_attempt_at == datetime(2025, 6, 12, tzinfo=UTC)
        assert delivery(database, recorded[3], channel).next_attempt_at == NOON + 3 * MINUTE
        assert delivery(database, recorded[3], channel).status == "queued"


def test_everything_is_in_the_inbox_at_once_and_a_digest_is_not(database: Database) -> None:
    recorded = record_day(database, person(database), [2] * (NUMBER + 5))
    found = rows(database, "SELECT * FROM notifications.deliveries WHERE channel = 'in_app'")
    assert {str(row.notification_id) for row in found} == set(recorded)
    assert {(row.status, row.attempts, row.sent_at is not None) for row in found} == {("sent", 0, True)}
    assert scalar(database, "SELECT count(*) FROM notifications.inbox") == NUMBER + 5


def test_nobody_without_a_mail_address_gets_a_mail(database: Database) -> None:
    nameless, stranger = person(database, address=None), str(uuid.uuid4())
    for user in (nameless, stranger):
        record_day(database, user, [2] * (NUMBER + 1))
    assert individually(database) == set()
    assert len(individually(database, "webhook")) == 2 * NUMBER
    channels = rows(
        database,
        "SELECT DISTINCT d.channel FROM notifications.deliveries AS d JOIN notifications.notifications AS n "
        "ON n.id = d.notification_id WHERE n.kind = 'digest'",
    )
    assert [row.channel for row in channels] == ["webhook"]


def test_somebody_who_is_no_user_is_mailed_where_the_notification_says(database: Database) -> None:
    recorded = record_day(database, str(uuid.uuid4()), [2] * (NUMBER + 1), address="operator@dossier.example")
    assert individually(database) == set(recorded[:NUMBER])
    (digest,) = digests(database).values()
    assert digest.address == "operator@dossier.example"


def test_a_digest_is_mailed_when_any_of_its_notifications_has_an_address(database: Database) -> None:
    user = str(uuid.uuid4())
    with database.transaction() as connection:
        for _ in range(NUMBER + 1):
            record(connection, user, urgency=1)
        record(connection, user, urgency=4, address="operator@dossier.example")
        plan_deliveries(connection, POLICY)
    ((digest, row),) = digests(database).items()
    assert row.address == "operator@dossier.example"
    assert delivery(database, digest, "email").status == "queued"


def test_a_second_plan_changes_nothing(database: Database) -> None:
    record_day(database, person(database), [1, 2, 3] * 6)
    before = everything(database)
    assert plan(database) == Planned(planned=0, in_digests=0, deliveries=0)
    assert everything(database) == before


def test_one_that_is_marked_again_is_neither_planned_again_nor_in_the_way_of_others(database: Database) -> None:
    [old] = record_day(database, person(database), [1])
    before = rows(database, "SELECT * FROM notifications.deliveries ORDER BY channel")
    user = person(database)
    with database.transaction() as connection:
        new = record(connection, user)
        connection.exec_driver_sql(
            "INSERT INTO notifications.unplanned (tenant_id, notification_id) "
            "SELECT n.tenant_id, n.id FROM notifications.notifications AS n CROSS JOIN generate_series(1, 2)"
        )
    assert plan(database).planned == 1
    assert rows(
        database, f"SELECT * FROM notifications.deliveries WHERE notification_id = '{old}' ORDER BY channel"
    ) == (before)
    assert individually(database) == {old, new}
    assert scalar(database, "SELECT count(*) FROM notifications.unplanned") == 0


def test_one_that_is_marked_again_while_it_is_being_planned_is_planned_once(database: Database) -> None:
    user = person(database)
    with database.transaction() as connection:
        told = record(connection, user)
    again = (
        "INSERT INTO notifications.unplanned (tenant_id, notification_id) SELECT tenant_id, id "
        "FROM notifications.notifications"
    )
    with ThreadPoolExecutor() as pool, database.engine.connect() as first, first.begin() as planning:
        assert plan_deliveries(first, POLICY).planned == 1
        with database.transaction() as connection:
            connection.exec_driver_sql(again)
        second = pool.submit(plan, database)
        await_waiting(database, second)
        planning.commit()
        assert second.result().planned == 0
    assert individually(database) == {told}


def test_a_plan_says_how_much_it_planned(database: Database) -> None:
    user = person(database)
    with database.transaction() as connection:
        for _ in range(NUMBER + 3):
            record(connection, user)
        planned = plan_deliveries(connection, POLICY)
    # Two channels each, and two for the digest; the inbox is no delivery to be made.
    assert planned == Planned(planned=NUMBER + 3, in_digests=3, deliveries=2 * NUMBER + 2)


def test_a_plan_that_is_rolled_back_leaves_the_day_as_it_was(database: Database) -> None:
    user = person(database)
    with database.engine.connect() as connection:
        for _ in range(NUMBER):
            record(connection, user)
        plan_deliveries(connection, POLICY)
        connection.rollback()
    assert everything(database) == {"notifications": [], "deliveries": [], "daily_counts": []}
    recorded = record_day(database, user, [2] * NUMBER)
    assert individually(database) == set(recorded)


def test_days_people_and_tenants_do_not_count_for_each_other(database: Database) -> None:
    one, other = person(database), person(database)
    person(database, tenant_id="ministry-2", identity=one)
    with database.transaction() as connection:
        for _ in range(NUMBER):
            record(connection, one)
            record(connection, other)
            record(connection, one, at=NOON + DAY)
            record(connection, one, tenant_id="ministry-2")
        plan_deliveries(connection, POLICY)
    assert len(individually(database)) == 4 * NUMBER
    assert digests(database) == {}


def test_what_was_written_without_planning_is_planned_by_the_next_delivery(database: Database) -> None:
    user = person(database)
    with database.transaction() as connection:
        recorded = [record(connection, user, urgency=2) for _ in range(NUMBER + 1)]
    assert rows(database, "SELECT FROM notifications.deliveries") == []
    assert database.run(PACKAGE, "anything_due", {"channels": ["webhook"]})[0].due
    with receiver() as server:
        server.deliver(database)
        told = {post.document["data"]["notification_id"] for post in server.posts}
        (digest,) = [post for post in server.posts if post.document["type"] == "digest"]
    assert len(told & set(recorded)) == NUMBER
    assert set(digest.titles) == set(recorded) - told
    assert not database.run(PACKAGE, "anything_due", {"channels": ["webhook"]})[0].due


def test_a_lower_daily_number_holds_from_the_next_plan_on(database: Database) -> None:
    user = person(database)
    record_day(database, user, [2] * 3)
    late = tell(database, user, policy=DeliveryPolicy(channels=POLICY.channels, daily_number=2))
    assert set(in_digests(database)) == {late}
    # And a higher one as well: what is promised to a digest stays there.
    early = tell(database, user)
    assert set(in_digests(database)) == {late}
    assert early in individually(database)


# --- as plain Python says ---------------------------------------------------------------------------------------

Batch = list[tuple[int, int, int]]
PEOPLE = 3


def reference(batches: Sequence[Sequence[tuple[int, int, datetime, uuid.UUID]]], number: int) -> set[uuid.UUID]:
    """The ids that exceed a person's day: in each batch, the most urgent first, then the oldest."""
    counted: Counter[tuple[int, date]] = Counter()
    exceeding = set()
    for batch in batches:
        for who, _, at, identity in sorted(batch, key=lambda n: (n[1], n[2], n[3])):
            counted[who, at.date()] += 1
            if counted[who, at.date()] > number:
                exceeding.add(identity)
    return exceeding


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, PEOPLE - 1), st.integers(1, 4), st.integers(0, 2)), max_size=9),
        min_size=1,
        max_size=5,
    ),
    number=st.integers(1, 5),
)
def test_any_sequence_of_plans_parts_what_is_told_as_plain_python_says(
    database: Database, batches: list[Batch], number: int
) -> None:
    people = [person(database) for _ in range(PEOPLE)]
    policy = DeliveryPolicy(channels=POLICY.channels, daily_number=number)
    recorded = []
    for batch in batches:
        # Some fall into the next day.
        with database.transaction() as connection:
            written = []
            for who, urgency, hours in batch:
                at = NOON + hours * timedelta(hours=11)
                written.append((who, urgency, at, uuid.UUID(record(connection, people[who], urgency=urgency, at=at))))
            planned = plan_deliveries(connection, policy)
        recorded.append(written)
        assert planned.planned == len(batch)
    exceeding = {str(identity) for identity in reference(recorded, number)}
    everyone = {str(identity): (who, at.date()) for batch in recorded for who, _, at, identity in batch}
    carried = {identity: digest for identity, digest in in_digests(database).items() if identity in everyone}
    assert set(carried) == exceeding
    assert individually(database) & set(everyone) == set(everyone) - exceeding
    # One digest for each person's day.
    by_day = defaultdict(set)
    for identity, digest in carried.items():
        by_day[everyone[identity]].add(digest)
    assert all(len(found) == 1 for found in by_day.values())


# --- whose day it is --------------------------------------------------------------------------------------------


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("timezone", "recorded", "day", "ends"),
    [
        ("Asia/Riyadh", "2025-06-10 20:59:59.999999", "2025-06-10", "2025-06-10 21:00"),
        ("Asia/Riyadh", "2025-06-10 21:00", "2025-06-11", "2025-06-11 21:00"),
        ("Pacific/Auckland", "2025-06-10 12:00", "2025-06-11", "2025-06-11 12:00"),
        ("Asia/Kathmandu", "2025-06-10 18:15", "2025-06-11", "2025-06-11 18:15"),
        ("Pacific/Kiritimati", "2025-06-10 10:00", "2025-06-11", "2025-06-11 10:00"),
        # Into daylight saving: a day of 23 hours, before and after the switch.
        ("Europe/Brussels", "2025-03-29 23:30", "2025-03-30", "2025-03-30 22:00"),
        ("Europe/Brussels", "2025-03-30 12:00", "2025-03-30", "2025-03-30 22:00"),
        ("Europe/Brussels", "2025-03-29 12:00", "2025-03-29", "2025-03-29 23:00"),
        ("America/New_York", "2025-03-09 06:30", "2025-03-09", "2025-03-10 04:00"),
        ("Pacific/Auckland", "2025-09-27 12:30", "2025-09-28", "2025-09-28 11:00"),
        # And out of it: 25 hours, in either of the hours that are told twice.
        ("Europe/Brussels", "2025-10-25 22:30", "2025-10-26", "2025-10-26 23:00"),
        ("Europe/Brussels", "2025-10-26 00:30", "2025-10-26", "2025-10-26 23:00"),
        ("Europe/Brussels", "2025-10-26 01:30", "2025-10-26", "2025-10-26 23:00"),
        ("America/New_York", "2025-11-02 05:30", "2025-11-02", "2025-11-03 05:00"),
        ("America/New_York", "2025-11-02 06:30", "2025-11-02", "2025-11-03 05:00"),
        # Where midnight itself does not exist, the day ends when it would have been.
        ("Africa/Cairo", "2025-04-24 12:00", "2025-04-24", "2025-04-24 22:00"),
        ("UTC", "2024-02-28 23:59", "2024-02-28", "2024-02-29 00:00"),
        ("UTC", "2024-02-29 00:00", "2024-02-29", "2024-03-01 00:00"),
        ("Asia/Riyadh", "2024-02-28 21:30", "2024-02-29", "2024-02-29 21:00"),
        ("UTC", "2025-02-28 12:00", "2025-02-28", "2025-03-01 00:00"),
        ("UTC", "2025-12-31 23:59:59.999999", "2025-12-31", "2026-01-01 00:00"),
        ("Asia/Riyadh", "2025-12-31 21:00", "2026-01-01", "2026-01-01 21:00"),
        ("America/New_York", "2026-01-01 04:59", "2025-12-31", "2026-01-01 05:00"),
    ],
)
def test_a_day_begins_and_ends_at_the_persons_own_midnight(
    database: Database, timezone: str, recorded: str, day: str, ends: str
) -> None:
    tenant(database, "Asia/Tokyo")
    user = person(database, timezone=timezone)
    with database.transaction() as connection:
        for _ in range(NUMBER + 1):
            record(connection, user, at=moment(recorded))
        plan_deliveries(connection, POLICY)
    ((digest, row),) = digests(database).items()
    assert row.day == date.fromisoformat(day)
    assert delivery(database, digest).next_attempt_at == moment(ends)


def test_at_the_same_moment_two_people_have_different_days(database: Database) -> None:
    riyadh, auckland = (person(database, timezone=zone) for zone in ("Asia/Riyadh", "Pacific/Auckland"))
    evening, later = moment("2025-06-10 11:00"), moment("2025-06-10 13:00")
    with database.transaction() as connection:
        for user in (riyadh, auckland):
            for at in [evening] * NUMBER + [later] * NUMBER:
                record(connection, user, at=at)
        plan_deliveries(connection, POLICY)
    days = rows(database, "SELECT user_id, day, counted FROM notifications.daily_counts ORDER BY day")
    assert {(str(row.user_id), str(row.day), row.counted) for row in days} == {
        (riyadh, "2025-06-10", 2 * NUMBER),
        (auckland, "2025-06-10", NUMBER),
        (auckland, "2025-06-11", NUMBER),
    }
    assert [str(row.user_id) for row in digests(database).values()] == [riyadh]


UNKNOWN_ZONES = ("Nowhere/Land", "Riyadh", "", " ", "Asia/Riyadh ", "../../etc/passwd", "x" * 300)


@pytest.mark.parametrize(
    ("tenants", "day"), [("Asia/Tokyo", "2025-06-11"), ("America/New_York", "2025-06-10"), ("no zone", "2025-06-10")]
)
def test_for_a_zone_that_nobody_knows_the_tenants_stands_in_or_else_utc(
    database: Database, tenants: str, day: str
) -> None:
    tenant(database, tenants)
    lost, other = [person(database, timezone=zone) for zone in UNKNOWN_ZONES], person(database, timezone="Asia/Riyadh")
    at = moment("2025-06-10 22:00")
    with database.transaction() as connection:
        for user in (*lost, other):
            record(connection, user, at=at)
        assert plan_deliveries(connection, POLICY).planned == len(lost) + 1
    found = rows(
        database,
        "SELECT n.user_id, d.day FROM notifications.notifications AS n "
        "JOIN notifications.deliveries AS d ON d.notification_id = n.id WHERE d.channel = 'in_app'",
    )
    assert {str(row.user_id): str(row.day) for row in found} == {**dict.fromkeys(lost, day), other: "2025-06-11"}


def test_without_a_tenant_a_day_is_one_of_utc(database: Database) -> None:
    identity = tell(database, str(uuid.uuid4()), tenant_id="nobody", at=moment("2025-06-10 23:59"))
    (row,) = rows(database, "SELECT notification_id AS id, day FROM notifications.deliveries WHERE channel = 'in_app'")
    assert (str(row.id), str(row.day)) == (identity, "2025-06-10")


# --- a digest is closed when it is sent -------------------------------------------------------------------------


def sent_digests(server: Receiver) -> list[list[str]]:
    return [post.titles for post in server.posts if post.document["type"] == "digest"]


def test_a_digest_lists_everything_that_exceeded_the_day_most_urgent_first(database: Database) -> None:
    user = person(database)
    record_day(database, user, [1] * NUMBER)
    early = record_day(database, user, [3, 1, 4, 2])
    late = record_day(database, user, [2, 1], at=NOON + 10 * MINUTE)
    with receiver() as server:
        server.deliver(database)
        assert sent_digests(server) == [[early[1], late[1], early[3], late[0], early[0], early[2]]]


def test_a_digest_is_not_sent_before_its_day_ends(database: Database) -> None:
    user = person(database)
    with database.transaction() as connection:
        for _ in range(NUMBER + 1):
            record(connection, user, at=datetime.now(UTC) + 2 * DAY)
        plan_deliveries(connection, POLICY)
    with receiver() as server:
        server.deliver(database)
        assert server.posts == []
    assert not database.run(PACKAGE, "anything_due", {"channels": ["webhook"]})[0].due


def test_what_is_recorded_after_a_digest_was_sent_opens_another(database: Database) -> None:
    user = person(database)
    recorded = record_day(database, user, [2] * (NUMBER + 1))
    with receiver() as server:
        server.deliver(database)
        late = [tell(database, user, at=NOON + minutes * MINUTE) for minutes in (20, 30)]
        server.deliver(database)
        assert sent_digests(server) == [[recorded[-1]], late]
    assert len(digests(database)) == 2


@pytest.mark.parametrize("taken_back", [False, True])
def test_sending_a_digest_waits_for_whoever_adds_to_it(database: Database, taken_back: bool) -> None:
    user = person(database)
    recorded = record_day(database, user, [2] * (NUMBER + 1))
    with receiver() as server, ThreadPoolExecutor(1) as threads, database.engine.connect() as adding:
        late = record(adding, user, at=NOON + 20 * MINUTE)
        plan_deliveries(adding, POLICY)
        delivering = threads.submit(server.deliver, database)
        await_waiting(database, delivering)
        if taken_back:
            adding.rollback()
        else:
            adding.commit()
        delivering.result()
        assert sent_digests(server) == [[recorded[-1]] if taken_back else [recorded[-1], late]]


def test_what_is_added_while_a_digest_is_being_sent_is_in_the_next(database: Database) -> None:
    user = person(database)
    recorded = record_day(database, user, [2] * (NUMBER + 1))
    with database.transaction() as connection:
        connection.execute(
            sa.text("DELETE FROM notifications.deliveries WHERE notification_id <> :digest AND channel <> 'in_app'"),
            {"digest": next(iter(digests(database)))},
        )
    added: list[str] = []
    with receiver() as server:
        server.answers = [Answer(503, wait=lambda: added.append(tell(database, user)))]
        server.deliver(database)
        # The first attempt failed; the second carries the same.
        with database.transaction() as connection:
            connection.execute(sa.text("UPDATE notifications.deliveries SET next_attempt_at = clock_timestamp()"))
        server.deliver(database)
        first, *others = sent_digests(server)
        assert first == [recorded[-1]]
        assert sorted(others) == sorted([[recorded[-1]], added])


# --- planners that race -----------------------------------------------------------------------------------------


def race(database: Database, work: Sequence[Any]) -> None:
    """Do all of ``work`` at once, each in a thread that starts when all are there."""
    together = threading.Barrier(len(work))

    def start(task: Any) -> Any:
        together.wait()
        return task()

    with ThreadPoolExecutor(len(work)) as threads:
        started: list[Future[Any]] = [threads.submit(start, task) for task in work]
        for future in started:
            future.result()


class Planner:
    """Records and plans for the same few people again and again, each time in one transaction."""

    def __init__(self, database: Database, people: Sequence[str], *, seed: int) -> None:
        self.database = database
        self.people = people
        self.random = Random(seed)
        self.recorded: dict[str, tuple[str, date]] = {}

    def __call__(self) -> None:
        for _ in range(8):
            with self.database.transaction() as connection:
                connection.execute(sa.text(IMPATIENT))
                written = {}
                for _ in range(self.random.randint(1, 6)):
                    user, at = self.random.choice(self.people), NOON + self.random.randint(0, 1) * DAY
                    identity = record(connection, user, urgency=self.random.randint(1, 4), at=at)
                    written[identity] = (user, at.date())
                plan_deliveries(connection, POLICY)
                if self.random.random() < 0.1:
                    connection.rollback()
                    continue
            self.recorded |= written


def require_daily_number_kept(database: Database, recorded: dict[str, tuple[str, date]]) -> None:
    """Each notification is told by itself or in exactly one digest, and no day exceeds its number."""
    alone, carried = individually(database), in_digests(database)
    assert alone | set(carried) == set(recorded)
    assert alone & set(carried) == set()
    totals = Counter(recorded.values())
    assert Counter(recorded[identity] for identity in alone) == {
        day: min(NUMBER, total) for day, total in totals.items()
    }
    found = digests(database)
    for identity, digest in carried.items():
        assert (str(found[digest].user_id), found[digest].day) == recorded[identity]
        assert delivery(database, digest, "email").dedupe_key.startswith(f"digest:{recorded[identity][0]}:")
    counts = rows(database, "SELECT user_id, day, counted FROM notifications.daily_counts")
    assert {(str(row.user_id), row.day): row.counted for row in counts} == totals


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planners_that_race_never_exceed_the_daily_number_and_lose_nothing(database: Database, seed: int) -> None:
    people = [person(database) for _ in range(3)]
    planners = [Planner(database, people, seed=100 * seed + number) for number in range(PLANNERS)]
    race(database, planners)
    recorded = {identity: day for planner in planners for identity, day in planner.recorded.items()}
    require_daily_number_kept(database, recorded)
    # Nobody closed a digest, so each day has one at most.
    assert len(digests(database)) == sum(total > NUMBER for total in Counter(recorded.values()).values())


@pytest.mark.parametrize("seed", [4, 5])
def test_planners_that_race_with_a_delivery_lose_nothing_either(database: Database, seed: int) -> None:
    people = [person(database) for _ in range(3)]
    planners = [Planner(database, people, seed=100 * seed + number) for number in range(PLANNERS - 2)]
    planning = threading.Event()
    with receiver() as server:

        def deliver() -> None:
            while not planning.is_set():
                server.deliver(database)

        with ThreadPoolExecutor(1) as threads:
            delivering = threads.submit(deliver)
            try:
                race(database, planners)
            finally:
                planning.set()
            delivering.result()
        server.deliver(database)
        recorded = {identity: day for planner in planners for identity, day in planner.recorded.items()}
        require_daily_number_kept(database, recorded)
        told = Counter(title for titles in sent_digests(server) for title in titles)
        told.update(post.document["data"]["title"] for post in server.posts if post.document["type"] != "digest")
        assert told == Counter(recorded.keys())


def test_closing_digests_and_adding_to_them_in_one_order_cannot_deadlock(database: Database) -> None:
    lowest, *others = sorted(str(uuid.uuid4()) for _ in range(12))
    for user in (*others, lowest):
        person(database, identity=user)
        record_day(database, user, [2] * (NUMBER + 1))
    chosen = {"tenant_id": "default", "digests": list(digests(database))}

    def close() -> None:
        with database.transaction() as connection:
            connection.execute(sa.text(IMPATIENT))
            execute(connection, PACKAGE, "close_digests", chosen)

    with database.engine.connect() as adding, ThreadPoolExecutor(1) as threads:
        adding.execute(sa.text(IMPATIENT))
        record(adding, lowest)
        plan_deliveries(adding, POLICY)
        closing = threads.submit(close)
        # It waits for the first of all, and holds none of the others.
        await_waiting(database, closing)
        for user in others:
            record(adding, user)
            plan_deliveries(adding, POLICY)
        adding.commit()
        closing.result()
    assert scalar(database, "SELECT count(*) FROM notifications.daily_counts WHERE digest_id IS NOT NULL") == 0
