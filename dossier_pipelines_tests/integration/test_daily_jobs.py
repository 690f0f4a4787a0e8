"""Daily jobs: each tenant's own morning, once a day, wherever it lives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

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
    minute: int = 0,
    hours: float | None = None,
    among: Sequence[str] = (*ZONES, "asleep", "awake"),
) -> dict[str, date]:
    with database.transaction() as connection:
        found = tenants_due(connection, job, among=among, hour=hour, minute=minute, now=now, hours=hours)
    return {one.tenant_id: one.day for one in found}


def done(database: Database, tenant_id: str, day: date, *, job: str = "check", run_id: str = "a run") -> None:
    with database.transaction() as connection:
        record_done(connection, job, [TenantDay(tenant_id=tenant_id, day=day)], run_id=run_id, now=SEVEN["riyadh"])


@pytest.fixture
def world(database: Database) -> Database:
    for tenant_id, zone in ZONES.items():
        tenant(database, tenant_id, zone)
    return database


@pytest.mark.parametrize("tenant_id", ZONES)
def test_a_tenant_is_due_from_seven_of_its_own_morning_on_until_its_day_ends(world: Database, tenant_id: str) -> None:
    seven = SEVEN[tenant_id]
    assert due(world, seven - SECOND).get(tenant_id) is None
    assert due(world, seven)[tenant_id] == DAY
    assert due(world, seven + timedelta(hours=17) - SECOND)[tenant_id] == DAY
    assert due(world, seven + timedelta(hours=17)).get(tenant_id) is None


def test_the_morning_comes_to_one_after_the_other(world: Database) -> None:
    done(world, "new-york", DAY - timedelta(days=1))
    found = [due(world, SEVEN[tenant_id]) for tenant_id in ("kolkata", "riyadh", "new-york")]
    assert found == [
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


def test_a_job_shortly_before_midnight_stays_due_on_the_next_day_for_as_long_as_it_says(world: Database) -> None:
    # Midnight in Riyadh.
    last = datetime(2025, 3, 10, 21, tzinfo=UTC)
    assert "riyadh" not in due(world, last, hour=23, minute=59)
    assert due(world, last, hour=23, minute=59, hours=12)["riyadh"] == DAY
    assert due(world, last + timedelta(hours=11), hour=23, minute=59, hours=12)["riyadh"] == DAY
    assert "riyadh" not in due(world, last + timedelta(hours=12), hour=23, minute=59, hours=12)
    done(world, "riyadh", DAY)
    assert "riyadh" not in due(world, last, hour=23, minute=59, hours=12)


def test_of_two_days_that_are_due_the_later_one_is(world: Database) -> None:
    assert due(world, SEVEN["riyadh"], hours=48)["riyadh"] == DAY
    done(world, "riyadh", DAY)
    assert due(world, SEVEN["riyadh"], hours=48)["riyadh"] == DAY - timedelta(days=1)


def test_a_tenant_whose_records_end_at_a_moment_lives_at_that_moment(database: Database) -> None:
    tenant(database, "asleep", "Asia/Riyadh", SEVEN["riyadh"] - SECOND)
    tenant(database, "awake", "Asia/Riyadh", SEVEN["riyadh"])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert due(database, now) == {"awake": DAY}
    done(database, "awake", DAY)
    assert due(database, now + timedelta(days=5)) == {}


@pytest.mark.parametrize(
    ("now", "is_due"),
    [
        # At two the clocks in New York go forward to three.
        (datetime(2025, 3, 9, 6, 59, 59, tzinfo=UTC), False),
        (datetime(2025, 3, 9, 7, 30, tzinfo=UTC), True),
        # At two they go back to one: half past one comes twice.
        (datetime(2025, 11, 2, 5, 29, tzinfo=UTC), False),
        (datetime(2025, 11, 2, 6, 30, tzinfo=UTC), True),
    ],
)
def test_where_clocks_are_changed_at_the_time_the_job_is_due_when_they_go_on(
    world: Database, now: datetime, is_due: bool
) -> None:
    minute_of = {3: (2, 30), 11: (1, 30)}[now.month]
    assert ("new-york" in due(world, now, hour=minute_of[0], minute=minute_of[1])) is is_due


def test_nobody_is_done_for_nothing(world: Database) -> None:
    with world.transaction() as connection:
        record_done(connection, "check", [], run_id="a run", now=SEVEN["riyadh"])
    assert rows(world, "SELECT * FROM platform.daily_jobs") == []
