"""Relationships in trouble: a score that falls below good, or a silence, is told once to the dossier's owner."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.refresh import ALERTS, refresh_health, refresh_in_transaction
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import DAY, DEFAULTS, HOUR, MICROSECOND, MINUTE, Key, Records, reference_health
from dossier_pipelines_tests.records import rows, scalar

CLOCK = datetime(2025, 6, 15, 12, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANN = uuid.UUID(int=0xA)
# With one of two commitments kept and contact yesterday: 20 + 30 + 0.6 for each engagement of a year.
ENGAGEMENTS = {None: 2, 58: 13, 59: 15, 60: 16, 61: 18, 62: 20, 64: 23, 65: 25, 70: 33}


class Relationship:
    """A dossier whose score is set by its number of engagements; each refresh is a minute after the one before."""

    def __init__(self, records: Records, *, owner: uuid.UUID | None = ANN, name: str = "Sweden") -> None:
        self.records = records
        self.database = records.database
        self.dossier = records.dossier(name, owner_id=owner, created_at=CLOCK - 900 * DAY)
        records.commitment(self.dossier, "completed")
        records.commitment(self.dossier)
        self.clock = CLOCK

    def become(self, score: int | None) -> None:
        """Log or remove engagements so that the next refresh finds ``score``."""
        with self.database.transaction() as connection:
            connection.execute(
                sa.text(
                    "WITH wanted AS (SELECT n, CAST(md5(concat(CAST(:dossier AS text), n)) AS uuid) AS id "
                    "FROM generate_series(1, :number) AS n), "
                    "gone AS (DELETE FROM raw.engagements AS e WHERE e.dossier_id = CAST(:dossier AS uuid) "
                    "AND e.id NOT IN (SELECT w.id FROM wanted AS w)) "
                    "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                    "SELECT 'default', w.id, CAST(:dossier AS uuid), :at FROM wanted AS w ON CONFLICT DO NOTHING"
                ),
                {"dossier": str(self.dossier), "number": ENGAGEMENTS[score], "at": CLOCK - DAY},
            )

    def refresh(self, *, clock: datetime | None = None, full: bool = False) -> int:
        """Refresh, and return how many notifications that recorded."""
        self.clock = clock or self.clock + MINUTE
        self.records.set_clock(self.clock)
        return refresh_health(self.database, DEFAULTS, now=NOW, full=full, run_id="run 7").notifications

    def go(self, *scores: int | None) -> list[int]:
        """Take these scores one after the other, and return how many notifications each recorded."""
        told = []
        for score in scores:
            self.become(score)
            told.append(self.refresh())
            assert scalar(self.database, "SELECT overall_score FROM dossiers.health_scores") == score
        return told


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


@pytest.fixture
def relationship(records: Records) -> Relationship:
    return Relationship(records)


def notifications(database: Database, kind: str) -> list[sa.Row[Any]]:
    return rows(
        database, "SELECT * FROM notifications.notifications WHERE kind = :kind ORDER BY metadata::text", kind=kind
    )


def alerts(database: Database) -> list[tuple[str, datetime, datetime | None]]:
    found = rows(database, "SELECT kind, raised_at, cleared_at FROM dossiers.relationship_alerts ORDER BY raised_at")
    return [(row.kind, row.raised_at, row.cleared_at) for row in found]


# --- a score that drops -----------------------------------------------------------------------------------------


def test_a_fall_below_sixty_is_told_to_the_owner_with_what_caused_it(relationship: Relationship) -> None:
    assert relationship.go(62, 58) == [0, 1]
    [row] = notifications(relationship.database, "health_score_dropped")
    assert row.title == "Relationship health score dropped for Sweden"
    assert row.message == (
        "Health score is now 58 (was 62). Contributing factors: 7 engagements were removed or moved."
    )
    assert row.metadata == {
        "dossier_id": str(relationship.dossier),
        "new_score": 58,
        "previous_score": 62,
        "factors": ["7 engagements were removed or moved"],
    }
    assert (row.tenant_id, row.user_id, row.created_at, row.run_id) == ("default", ANN, NOW, "run 7")


def test_every_cause_of_a_fall_is_named(relationship: Relationship) -> None:
    relationship.go(62)
    late = relationship.records.commitment(relationship.dossier, due_date=date(2025, 6, 1))
    relationship.become(60)
    assert relationship.refresh() == 1
    [row] = notifications(relationship.database, "health_score_dropped")
    assert row.metadata["factors"] == [
        "1 commitment became overdue",
        "1 commitment was added",
        "4 engagements were removed or moved",
    ]
    assert row.message.endswith(f"Contributing factors: {', '.join(row.metadata['factors'])}.")
    assert str(late) not in row.message


def test_a_fall_is_an_event_with_the_figures(relationship: Relationship) -> None:
    relationship.go(62, 58)
    [event] = rows(relationship.database, "SELECT * FROM platform.events")
    [told] = notifications(relationship.database, "health_score_dropped")
    assert (event.type, event.entity_type, event.entity_id) == ("health_score_dropped", "dossier", relationship.dossier)
    assert (event.payload, event.occurred_at, event.run_id) == (told.metadata, relationship.clock, "run 7")
    assert told.event_id == event.id


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ((60, 59), [0, 1]),
        ((62, 60), [0, 0]),
        ((59, 58), [0, 0]),
        # Around the line it is told once, until it was well above it.
        ((62, 58, 61, 58), [0, 1, 0, 0]),
        ((62, 58, 64, 58), [0, 1, 0, 0]),
        ((62, 58, 65, 58), [0, 1, 0, 1]),
        ((62, 58, 61, 65, 60, 59, 62, 58), [0, 1, 0, 0, 0, 1, 0, 0]),
        # What has no score did not fall, and did not recover.
        ((58,), [0]),
        ((None, 58), [0, 0]),
        ((62, None), [0, 0]),
        ((62, None, 58), [0, 0, 0]),
        ((62, 58, None, 62, 58), [0, 1, 0, 0, 0]),
        ((62, 58, None, 70, 58), [0, 1, 0, 0, 1]),
    ],
    ids=str,
)
def test_each_fall_is_told_once(relationship: Relationship, course: Sequence[int | None], told: list[int]) -> None:
    assert relationship.go(*course) == told
    assert len(notifications(relationship.database, "health_score_dropped")) == sum(told)


def test_an_alert_lasts_from_the_fall_to_the_recovery(relationship: Relationship) -> None:
    relationship.go(62, 58, 61, 65)
    assert alerts(relationship.database) == [("health_drop", CLOCK + 2 * MINUTE, CLOCK + 4 * MINUTE)]


def test_refreshes_that_find_the_same_score_say_nothing_more(relationship: Relationship) -> None:
    relationship.go(62, 58)
    # At the same moment, an hour later, and all over again.
    assert relationship.refresh(clock=relationship.clock, full=True) == 0
    assert relationship.refresh(clock=relationship.clock + 2 * HOUR) == 0
    assert relationship.refresh(full=True) == 0
    assert len(notifications(relationship.database, "health_score_dropped")) == 1


def test_a_full_refresh_finds_a_fall_too(relationship: Relationship) -> None:
    relationship.go(62)
    relationship.become(58)
    assert relationship.refresh(full=True) == 1


def test_a_look_back_tells_of_no_fall(relationship: Relationship) -> None:
    relationship.go(62)
    # A year ago none of the engagements had been.
    relationship.records.engagements(relationship.dossier, *[CLOCK - 500 * DAY] * 3)
    relationship.records.commitment(relationship.dossier, due_date=date(2020, 1, 1), created_at=CLOCK - 800 * DAY)
    assert relationship.refresh(clock=CLOCK - 460 * DAY) == 0
    assert scalar(relationship.database, "SELECT overall_score FROM dossiers.health_scores") < ALERTS["good"]
    assert notifications(relationship.database, "health_score_dropped") == []


def test_without_an_owner_a_fall_is_recorded_and_told_to_nobody(records: Records) -> None:
    relationship = Relationship(records, owner=None)
    assert relationship.go(62, 58) == [0, 0]
    assert scalar(records.database, "SELECT count(*) FROM platform.events") == 1
    assert notifications(records.database, "health_score_dropped") == []


def test_what_is_taken_back_is_told_by_the_next_refresh(relationship: Relationship) -> None:
    relationship.go(62)
    relationship.become(58)
    with relationship.database.engine.connect() as connection:
        assert refresh_in_transaction(connection, DEFAULTS, now=NOW, as_of=CLOCK + 2 * MINUTE).notifications == 1
        connection.rollback()
    assert alerts(relationship.database) == []
    assert relationship.refresh() == 1


# --- silence ----------------------------------------------------------------------------------------------------


@pytest.fixture
def silent(records: Records) -> Relationship:
    """A relationship whose last engagement was 100 days ago, refreshed."""
    relationship = Relationship(records)
    records.engagement(relationship.dossier, CLOCK - 100 * DAY)
    assert relationship.refresh(clock=CLOCK) == 0
    return relationship


def test_a_silence_of_180_days_is_told_once(silent: Relationship) -> None:
    since = CLOCK - 100 * DAY
    assert silent.refresh(clock=since + 180 * DAY - MICROSECOND) == 0
    assert silent.refresh(clock=since + 180 * DAY + HOUR) == 1
    for days in (181, 200, 400):
        assert silent.refresh(clock=since + days * DAY) == 0
    [row] = notifications(silent.database, "relationship_at_risk")
    assert row.title == "Relationship at risk: Sweden"
    assert row.message == "No engagement with Sweden for 180 days. Recommended: plan a contact."
    assert row.metadata["dossier_id"] == str(silent.dossier)
    assert datetime.fromisoformat(row.metadata["latest_engagement_date"]) == since
    assert (row.user_id, row.created_at) == (ANN, NOW)


def test_a_silence_is_found_by_a_full_refresh_too(silent: Relationship) -> None:
    assert silent.refresh(clock=CLOCK + 80 * DAY, full=True) == 1
    assert silent.refresh(full=True) == 0


def test_after_contact_another_silence_is_told_again(silent: Relationship) -> None:
    assert silent.refresh(clock=CLOCK + 80 * DAY) == 1
    silent.records.engagement(silent.dossier, CLOCK + 90 * DAY)
    assert silent.refresh(clock=CLOCK + 91 * DAY) == 0
    assert alerts(silent.database) == [("silence", CLOCK + 80 * DAY, CLOCK + 91 * DAY)]
    assert silent.refresh(clock=CLOCK + 270 * DAY) == 1
    assert len(notifications(silent.database, "relationship_at_risk")) == 2


def test_a_contact_that_was_entered_by_mistake_does_not_make_it_another_silence(silent: Relationship) -> None:
    silent.refresh(clock=CLOCK + 80 * DAY)
    mistaken = silent.records.engagement(silent.dossier, CLOCK + 81 * DAY)
    assert silent.refresh(clock=CLOCK + 82 * DAY) == 0
    silent.records.remove("engagements", mistaken)
    assert silent.refresh(clock=CLOCK + 83 * DAY) == 0
    assert len(notifications(silent.database, "relationship_at_risk")) == 1


def test_a_dossier_without_any_engagement_falls_silent_after_it_was_opened(records: Records) -> None:
    relationship = Relationship(records)
    opened = CLOCK - 900 * DAY
    assert relationship.refresh(clock=opened + 179 * DAY) == 0
    assert relationship.refresh(clock=opened + 180 * DAY) == 1
    [row] = notifications(records.database, "relationship_at_risk")
    assert row.message == "No engagement with Sweden since the dossier was opened. Recommended: plan a contact."
    assert row.metadata["latest_engagement_date"] is None


def test_an_engagement_that_lies_ahead_ends_no_silence(silent: Relationship) -> None:
    silent.records.engagement(silent.dossier, CLOCK + 100 * DAY)
    assert silent.refresh(clock=CLOCK + 80 * DAY) == 1
    assert silent.refresh(clock=CLOCK + 100 * DAY) == 0
    assert alerts(silent.database)[0][2] == CLOCK + 100 * DAY


# --- dossiers that go -------------------------------------------------------------------------------------------


def test_deleting_a_dossier_removes_its_alerts_and_no_others(records: Records) -> None:
    going, staying = Relationship(records), Relationship(records, name="Norway")
    going.refresh(clock=CLOCK)
    assert {row.dossier_id for row in rows(records.database, "SELECT * FROM dossiers.relationship_alerts")} == {
        going.dossier,
        staying.dossier,
    }
    records.remove("dossiers", going.dossier)
    left = rows(records.database, "SELECT dossier_id FROM dossiers.relationship_alerts")
    assert [row.dossier_id for row in left] == [staying.dossier]


def test_truncating_the_dossiers_removes_every_alert(silent: Relationship) -> None:
    silent.refresh(clock=CLOCK + 80 * DAY)
    with silent.database.transaction() as connection:
        connection.exec_driver_sql("TRUNCATE raw.dossiers")
    assert alerts(silent.database) == []


# --- any course at all ------------------------------------------------------------------------------------------

COURSES = 60
STEPS = 40


@dataclass
class Machine:
    """What must be told of one dossier, decided refresh by refresh in plain Python."""

    opened: datetime
    score: int | None = None
    as_of: datetime | None = None
    drop: datetime | None = None
    silence: datetime | None = None
    silences_told: set[datetime | None] = field(default_factory=set)
    told: list[tuple[str, datetime]] = field(default_factory=list)

    def refreshed(self, as_of: datetime, score: int | None, latest: datetime | None) -> None:
        """Take what one refresh found."""
        silent = as_of >= (latest or self.opened) + timedelta(days=180)
        if self.drop and as_of >= self.drop and score is not None and score >= 65:
            self.drop = None
        if self.silence and as_of >= self.silence and not silent:
            self.silence = None
        looked_back = self.as_of is not None and as_of < self.as_of
        fell = self.score is not None and score is not None and self.score >= 60 > score
        if fell and not looked_back and self.drop is None:
            self.drop = as_of
            self.told.append(("health_score_dropped", as_of))
        if silent and self.silence is None:
            self.silence = as_of
            if latest not in self.silences_told:
                self.silences_told.add(latest)
                self.told.append(("relationship_at_risk", as_of))
        self.score, self.as_of = score, as_of


def log(records: Records, dossier: uuid.UUID, at: datetime, number: int) -> list[uuid.UUID]:
    """Log several engagements in one statement."""
    with records.database.transaction() as connection:
        found = connection.exec_driver_sql(
            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
            "SELECT 'default', gen_random_uuid(), %s, %s FROM generate_series(1, %s) RETURNING id",
            (dossier, at, number),
        )
        return list(found.scalars())


@pytest.mark.parametrize("seed", range(3))
def test_of_any_course_exactly_what_a_plain_state_machine_says_is_told(
    database: Database, records: Records, seed: int
) -> None:
    random = Random(seed)
    clock = CLOCK
    machines: dict[uuid.UUID, Machine] = {}
    engagements: dict[uuid.UUID, list[uuid.UUID]] = {}
    for _ in range(COURSES):
        opened = CLOCK - random.randrange(300) * DAY
        dossier = records.dossier(owner_id=random.choice((ANN, None)), created_at=opened)
        machines[dossier], engagements[dossier] = Machine(opened), []
        # From 50 to 70 points with much contact, so that every step moves many over the line.
        records.commitment(dossier, "completed")
        records.commitment(dossier)
        engagements[dossier] += log(records, dossier, clock - random.randrange(200) * DAY, random.randrange(40))
    for _ in range(STEPS):
        clock += random.choice((MINUTE, HOUR, DAY, 10 * DAY, 40 * DAY, 100 * DAY, -25 * HOUR)) + MICROSECOND
        for dossier in random.sample(list(machines), COURSES // 3):
            mine = engagements[dossier]
            if random.random() < 0.6:
                mine += log(records, dossier, clock - random.randrange(20) * DAY, random.randrange(1, 15))
            else:
                gone = [mine.pop(random.randrange(len(mine))) for _ in range(min(len(mine), random.randrange(1, 15)))]
                records.remove("engagements", *gone)
        records.set_clock(clock)
        # Everything is looked at, so that the machines are told of every refresh.
        refresh_health(database, DEFAULTS, now=NOW, full=random.random() < 0.3)
        computed = rows(database, "SELECT dossier_id FROM dossiers.health_scores WHERE as_of = :at", at=clock)
        expected = reference_health(database)
        for row in computed:
            health = expected[Key("default", row.dossier_id)]
            machines[row.dossier_id].refreshed(clock, health.overall_score, health.latest_engagement_date)
    found = rows(database, "SELECT entity_id, type, occurred_at FROM platform.events")
    must_be = sorted((dossier, *one) for dossier, machine in machines.items() for one in machine.told)
    assert sorted((row.entity_id, row.type, row.occurred_at) for row in found) == must_be
    owned = {row.id for row in rows(database, "SELECT id FROM raw.dossiers WHERE owner_id IS NOT NULL")}
    recipients = rows(database, "SELECT metadata FROM notifications.notifications WHERE kind <> 'digest'")
    assert len(recipients) == sum(dossier in owned for dossier, *_ in must_be)
    # The course was worth the name.
    kinds = [kind for _, kind, _ in must_be]
    assert min(kinds.count("health_score_dropped"), kinds.count("relationship_at_risk")) > COURSES // 4
