"""Daily jobs: each tenant's own morning, once a day, wherever it lives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dossier_pipelines.shared.daily_jobs import TenantDay, record_done, tenants_due
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.records import rows

ZONES = {"riyadh": "Asia/Riyadh", "kolkata": "Asia/Kolkata", "new-york": "America/New_York"}
# 07:00 of 10 March 2025 there; in New York the clocks went forward the day before.
SEVEN = {
    "kolkata": datetime(2025, 3, 10, 1, 30, tzinfo=UTC),
    "riyadh": datetime(2025, 3, 10, 4, tzinfo=UTC),
    "new-york": datetime(2025, 3, 10, 11, tzinfo=UTC),
}
DAY = date(2025, 3, 10)
SECOND = timedelta(seconds=1)


def tenant(database: Database, tenant_id: str, timezone: str, clock_at: datetime | None = None) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text("INSERT INTO platform.tenants (tenant_id, timezone, clock_at) VALUES (:tenant_id, :zone, :clock)"),
            {"tenant_id": tenant_id, "zone": timezone, "clock": clock_at},
        )


def due(
    database: Database,
    now: datetime,
    *,
    job: str = "check",
    hour: int = 7,
    among: Sequence[str] = (*ZONES, "asleep", "awake"),
) -> dict[str, date]:
    return {one.tenant_id: one.day for one in found(database, now, job=job, hour=hour, among=among)}


def found(
    database: Database,
    now: datetime,
    *,
    job: str = "check",
    hour: int = 7,
    among: Sequence[str] = (*ZONES, "asleep", "awake"),
) -> list[TenantDay]:
    with database.transaction() as connection:
        return tenants_due(connection, job, among=among, hour=hour, now=now)


def done(database: Database, tenant_id: str, day: date, *, run_id: str = "a run") -> None:
    """The job of the day is done at seven."""
    begins = SEVEN.get(tenant_id, SEVEN["riyadh"]) + (day - DAY)
    one = TenantDay(tenant_id=tenant_id, day=day, begins=begins, ends=begins + timedelta(days=1))
    with database.transaction() as connection:
        record_done(connection, "check", [one], run_id=run_id, now=begins)


def do(database: Database, now: datetime) -> list[TenantDay]:
    """Do what is due in Riyadh, whatever its zone."""
    what = found(database, now, among=["riyadh"])
    with database.transaction() as connection:
        record_done(connection, "check", what, run_id="a run", now=now)
    return what


def move(database: Database, timezone: str) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE platform.tenants SET timezone = :zone WHERE tenant_id = 'riyadh'"), {"zone": timezone}
        )


@pytest.fixture
def world(database: Database) -> Database:
    for tenant_id, zone in ZONES.items():
        tenant(database, tenant_id, zone)
    return database


@pytest.mark.parametrize("tenant_id", ZONES)
def test_a_tenant_is_due_from_seven_of_its_own_morning_on_and_at_first_until_its_day_ends(
    world: Database, tenant_id: str
) -> None:
    seven = SEVEN[tenant_id]
    assert due(world, seven - SECOND).get(tenant_id) is None
    assert due(world, seven)[tenant_id] == DAY
    assert due(world, seven + timedelta(hours=17) - SECOND)[tenant_id] == DAY
    assert due(world, seven + timedelta(hours=17)).get(tenant_id) is None


def test_the_morning_comes_to_one_after_the_other(world: Database) -> None:
    done(world, "new-york", DAY - timedelta(days=1))
    assert [due(world, SEVEN[tenant_id]) for tenant_id in ("kolkata", "riyadh", "new-york")] == [
        {"kolkata": DAY},
        {"kolkata": DAY, "riyadh": DAY},
        {"kolkata": DAY, "riyadh": DAY, "new-york": DAY},
    ]


def test_what_is_done_for_a_day_is_not_due_again_until_the_next(world: Database) -> None:
    done(world, "riyadh", DAY)
    assert "riyadh" not in due(world, SEVEN["riyadh"] + timedelta(hours=5))
    assert due(world, SEVEN["riyadh"] + timedelta(days=1))["riyadh"] == DAY + timedelta(days=1)
    # Another job's day is its own.
    assert due(world, SEVEN["riyadh"], job="another")["riyadh"] == DAY


def test_only_those_are_due_whom_the_job_is_for(world: Database) -> None:
    assert due(world, SEVEN["new-york"], among=["riyadh", "elsewhere"]) == {"riyadh": DAY}
    assert due(world, SEVEN["new-york"], among=[]) == {}


def test_the_first_run_that_says_so_stays(world: Database) -> None:
    done(world, "riyadh", DAY, run_id="one")
    done(world, "riyadh", DAY, run_id="two")
    assert [row.run_id for row in rows(world, "SELECT run_id FROM platform.daily_jobs")] == ["one"]


@pytest.mark.parametrize("tenant_id", ZONES)
def test_a_day_that_was_missed_is_due_after_midnight_until_the_next_one_is(world: Database, tenant_id: str) -> None:
    done(world, tenant_id, DAY - timedelta(days=1))
    seven = SEVEN[tenant_id]
    night = seven + timedelta(hours=17, minutes=30)
    [one] = found(world, night, among=[tenant_id])
    # Nothing is left of its own day.
    assert one == TenantDay(tenant_id=tenant_id, day=DAY, begins=night, ends=seven + timedelta(days=1), reached=seven)
    [one] = found(world, seven + timedelta(days=1), among=[tenant_id])
    assert (one.day, one.begins) == (DAY + timedelta(days=1), seven + timedelta(days=1))
    done(world, tenant_id, DAY)
    assert tenant_id not in due(world, night)
    assert due(world, seven + timedelta(days=1))[tenant_id] == DAY + timedelta(days=1)


def test_a_tenant_that_never_had_the_job_missed_no_day(world: Database) -> None:
    assert "riyadh" not in due(world, SEVEN["riyadh"] - SECOND)
    done(world, "riyadh", DAY - timedelta(days=5))
    assert due(world, SEVEN["riyadh"] - SECOND)["riyadh"] == DAY - timedelta(days=1)
    # Of another job it knows nothing.
    assert "riyadh" not in due(world, SEVEN["riyadh"] - SECOND, job="another")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Asia/Riyadh", "America/New_York"),
        ("America/New_York", "Asia/Riyadh"),
        ("Pacific/Kiritimati", "Pacific/Honolulu"),
        ("Pacific/Honolulu", "Pacific/Kiritimati"),
    ],
)
@pytest.mark.parametrize("moved_after", range(0, 48, 5))
def test_whatever_its_zone_becomes_each_time_reaches_to_the_next_and_none_is_left_out(
    world: Database, before: str, after: str, moved_after: int
) -> None:
    move(world, before)
    now, told = SEVEN["riyadh"] - timedelta(days=1), None
    for hours in range(24 * 6):
        if hours == 24 + moved_after:
            move(world, after)
        for one in do(world, now):
            begins = max(one.begins, one.reached or one.begins)
            assert begins < one.ends
            assert told is None or begins == told
            told = one.ends
        assert told is None or told > now
        now += timedelta(hours=1)
    local = told.astimezone(ZoneInfo(after)) if told else None
    assert local is not None
    assert local.hour == 7


def test_days_that_were_done_before_it_was_noted_to_where_are_done(world: Database) -> None:
    done(world, "riyadh", DAY)
    with world.transaction() as connection:
        connection.exec_driver_sql("UPDATE platform.daily_jobs SET reaches_to = NULL")
    assert "riyadh" not in due(world, SEVEN["riyadh"] + timedelta(hours=5))
    [one] = found(world, SEVEN["riyadh"] + timedelta(days=1), among=["riyadh"])
    assert (one.day, one.reached) == (DAY + timedelta(days=1), None)


def test_a_tenant_whose_records_end_at_a_moment_lives_at_that_moment(database: Database) -> None:
    tenant(database, "asleep", "Asia/Riyadh", SEVEN["riyadh"] - SECOND)
    tenant(database, "awake", "Asia/Riyadh", SEVEN["riyadh"])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert due(database, now) == {"awake": DAY}
    done(database, "awake", DAY)
    assert due(database, now + timedelta(days=5)) == {}


@pytest.mark.parametrize(
    ("hour", "now", "is_due"),
    [
        # At two the clocks in New York go forward to three.
        (2, datetime(2025, 3, 9, 6, 59, 59, tzinfo=UTC), False),
        (2, datetime(2025, 3, 9, 7, tzinfo=UTC), True),
        # At two they go back to one: one comes twice.
        (1, datetime(2025, 11, 2, 5, 59, 59, tzinfo=UTC), False),
        (1, datetime(2025, 11, 2, 6, tzinfo=UTC), True),
    ],
)
def test_where_clocks_are_changed_at_the_time_the_job_is_due_when_they_go_on(
    world: Database, hour: int, now: datetime, is_due: bool
) -> None:
    assert ("new-york" in due(world, now, hour=hour)) is is_due


def test_nobody_is_done_for_nothing(world: Database) -> None:
    with world.transaction() as connection:
        record_done(connection, "check", [], run_id="a run", now=SEVEN["riyadh"])
    assert rows(world, "SELECT * FROM platform.daily_jobs") == []
