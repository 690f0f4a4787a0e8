"""Incremental equals full: whatever happens to the records and however time goes, nothing is missed."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, Final

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import HealthConfig
from dossier_pipelines.dossiers.refresh import RefreshResult, refresh_health
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import (
    DAY,
    DEFAULTS,
    HOUR,
    MICROSECOND,
    MINUTE,
    OTHERWISE,
    STATEMENTS,
    VARIED,
    Health,
    History,
    Key,
    Operation,
    Records,
    differences,
    reference_health,
    stored_health,
)
from dossier_pipelines_tests.records import rows, scalar

HISTORIES: Final = int(os.environ.get("DOSSIER_TEST_HISTORIES", "1000"))
SEED: Final = os.environ.get("DOSSIER_TEST_SEED", "1")
# So many live side by side in one database, each a tenant with a clock of its own.
TOGETHER: Final = 250
REFRESHES: Final = 10
MOST_CHANGES_BETWEEN: Final = 4


@pytest.mark.parametrize("first", range(0, HISTORIES, TOGETHER))
def test_after_every_refresh_of_a_random_history_all_values_are_those_of_the_formula(
    database: Database, first: int
) -> None:
    histories = [History(number, SEED) for number in range(first, min(first + TOGETHER, HISTORIES))]
    random = Random(f"{SEED}/{first}")
    config, other = VARIED, OTHERWISE
    done: Counter[str] = Counter()
    refreshed = 0
    _open(database, histories)
    before: dict[Key, Health] = {}
    for _ in range(REFRESHES):
        for _ in range(MOST_CHANGES_BETWEEN):
            active = [history for history in histories if history.random.random() < 0.6]
            done += _execute(database, [history.next_operation() for history in active])
            if random.random() < 0.02:
                _truncate(database, random, histories)
        _execute(database, [history.pass_time() for history in histories])
        if random.random() < 0.1:
            config, other = other, config
        now = max(history.clock for history in histories)
        result = refresh_health(database, config, now=now)
        refreshed += result.refreshed
        stored = stored_health(database)
        _require_none(differences(stored, reference_health(database, config)), histories)
        _require_none(_unexplained(database, before, stored), histories)
        assert refresh_health(database, config, now=now).refreshed == 0
        before = stored
    result = refresh_health(database, config, now=now, full=True)
    drifted = rows(database, "SELECT tenant_id, drifted_dossiers FROM dossiers.health_refreshes WHERE drifted > 0")
    assert (result.drifted, result.changed, drifted) == (0, 0, [])
    assert stored_health(database) == stored
    assert result.refreshed == len(stored)
    print(f"{len(histories)} histories: {sum(done.values())} statements, {refreshed} dossiers refreshed; {dict(done)}")


def _open(database: Database, histories: list[History]) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO platform.tenants (tenant_id, timezone, clock_at) VALUES (:tenant_id, :timezone, :clock_at)"
            ),
            [{"tenant_id": one.tenant_id, "timezone": one.zone, "clock_at": one.clock} for one in histories],
        )


def _execute(database: Database, operations: list[Operation]) -> Counter[str]:
    """Run one statement per history; those of one kind go to the server together."""
    by_name = defaultdict(list)
    for operation in operations:
        by_name[operation.name].append(operation.parameters)
    with database.transaction() as connection:
        for name, parameters in by_name.items():
            connection.execute(sa.text(STATEMENTS[name]), parameters)
    return Counter({name: len(parameters) for name, parameters in by_name.items()})


def _truncate(database: Database, random: Random, histories: list[History]) -> None:
    tables = random.choice((("engagements",), ("commitments",), ("dossiers", "engagements", "commitments")))
    with database.transaction() as connection:
        connection.execute(sa.text(f"TRUNCATE raw.{tables[0]}"))
    for history in histories:
        history.forget_all(*tables)


def _unexplained(database: Database, before: dict[Key, Health], after: dict[Key, Health]) -> dict[Key, str]:
    """Return the dossiers whose score or components moved without any factor that says why."""
    silent = {
        Key(row.tenant_id, row.dossier_id)
        for row in rows(database, "SELECT tenant_id, dossier_id FROM dossiers.health_scores WHERE factors = '[]'")
    }
    return {
        key: f"was {before[key]}, is {after[key]}, without a factor"
        for key in before.keys() & silent
        if _shown(before[key]) != _shown(after[key])
    }


def _shown(health: Health) -> tuple[object, ...]:
    return (
        health.engagement_frequency_score,
        health.fulfillment_rate,
        health.recency,
        health.overall_score,
        health.band,
        health.overdue_commitments,
    )


def _require_none(found: dict[Key, object], histories: list[History]) -> None:
    """Fail with the whole history of the first tenant concerned."""
    if found:
        key = min(found)
        log = next(history.log for history in histories if history.tenant_id == key.tenant_id)
        pytest.fail(f"{len(found)} dossiers; first {key}: {found[key]}\n" + "\n".join(log))


# --- single promises --------------------------------------------------------------------------------------------

CLOCK: Final = datetime(2025, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


def refresh(database: Database, *, full: bool = False, config: HealthConfig = DEFAULTS) -> RefreshResult:
    return refresh_health(database, config, now=CLOCK, full=full)


def require_right(database: Database) -> None:
    assert differences(stored_health(database), reference_health(database)) == {}


def test_without_any_change_there_is_nothing_to_do(database: Database, records: Records) -> None:
    records.engagement(records.dossier(), CLOCK - DAY)
    assert refresh(database).refreshed == 1
    assert refresh(database) == RefreshResult(
        refreshed=0, changed=0, drifted=0, engagement_stats_written=0, commitment_stats_written=0
    )


def test_only_the_dossiers_that_changed_are_computed(database: Database, records: Records) -> None:
    dossiers = [records.dossier() for _ in range(10)]
    assert refresh(database).refreshed == 10
    records.engagement(dossiers[3], CLOCK - DAY)
    records.commitment(dossiers[7])
    result = refresh(database)
    assert (result.refreshed, result.changed) == (2, 2)
    assert (result.engagement_stats_written, result.commitment_stats_written) == (1, 1)
    require_right(database)


def test_many_changes_to_one_dossier_cost_one_calculation(database: Database, records: Records) -> None:
    dossier = records.dossier()
    for number in range(5):
        records.engagement(dossier, CLOCK - number * DAY)
        records.change("commitments", records.commitment(dossier), status="completed")
    assert refresh(database).refreshed == 1
    require_right(database)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("dossiers", {"name": "Norway", "region": "North", "bloc": "None", "classification": "secret"}),
        ("engagements", {"description": "Told anew", "type": "visit", "created_at": CLOCK}),
        ("commitments", {"description": "Told anew", "priority": "low", "updated_at": CLOCK}),
        ("documents", {"type": "report"}),
    ],
)
def test_a_change_that_no_statistic_depends_on_costs_nothing(
    database: Database, records: Records, table: str, values: dict[str, Any]
) -> None:
    dossier = records.dossier()
    written = {
        "dossiers": dossier,
        "engagements": records.engagement(dossier, CLOCK - DAY),
        "commitments": records.commitment(dossier),
        "documents": records.document(dossier),
    }
    refresh(database)
    records.change(table, written[table], **values)
    assert refresh(database).refreshed == 0
    require_right(database)


@pytest.mark.parametrize(
    "change",
    [
        lambda records, one, other, engagement, _: records.change("engagements", engagement, dossier_id=other),
        lambda records, one, other, _, commitment: records.change("commitments", commitment, dossier_id=other),
    ],
    ids=["engagement", "commitment"],
)
def test_a_record_that_moves_changes_both_dossiers(
    database: Database, records: Records, change: Callable[..., None]
) -> None:
    one, other = records.dossier(), records.dossier()
    engagement, commitment = records.engagement(one, CLOCK - DAY), records.commitment(one)
    refresh(database)
    change(records, one, other, engagement, commitment)
    result = refresh(database)
    assert (result.refreshed, result.changed) == (2, 2)
    require_right(database)


def test_a_dossier_that_gets_another_type_is_scored_by_its_settings(database: Database, records: Records) -> None:
    dossier = records.dossier(type="country")
    records.engagement(dossier, CLOCK - DAY)
    refresh(database, config=VARIED)
    records.change("dossiers", dossier, type="organization")
    assert refresh(database, config=VARIED).changed == 1
    assert differences(stored_health(database), reference_health(database, VARIED)) == {}


def test_a_dossier_that_gets_another_id_leaves_nothing_under_the_old_one(database: Database, records: Records) -> None:
    old = records.dossier()
    refresh(database)
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE raw.dossiers SET id = gen_random_uuid()"))
    refresh(database)
    found = stored_health(database)
    assert len(found) == 1
    assert Key("default", old) not in found
    require_right(database)


def test_another_time_zone_of_the_tenant_is_another_today(database: Database, records: Records) -> None:
    records.set_clock(datetime(2025, 6, 15, 22, tzinfo=UTC))
    records.commitment(records.dossier(), due_date=date(2025, 6, 15))
    refresh(database)
    assert scalar(database, "SELECT overdue_commitments FROM dossiers.commitment_stats") == 1
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE platform.tenants SET timezone = 'Europe/London'"))
    assert refresh(database).changed == 1
    assert scalar(database, "SELECT overdue_commitments FROM dossiers.commitment_stats") == 0


@pytest.mark.parametrize("table", ["engagements", "commitments"])
def test_emptying_a_table_makes_every_dossier_stale(database: Database, records: Records, table: str) -> None:
    for _ in range(3):
        dossier = records.dossier()
        records.engagement(dossier, CLOCK - DAY)
        records.commitment(dossier)
    refresh(database)
    with database.transaction() as connection:
        connection.execute(sa.text(f"TRUNCATE raw.{table}"))
    assert refresh(database).changed == 3
    require_right(database)


def test_deleting_dossiers_removes_everything_derived_from_them_at_once(database: Database, records: Records) -> None:
    going, staying = [records.dossier() for _ in range(3)], records.dossier()
    for dossier in (*going, staying):
        records.engagement(dossier, CLOCK - DAY)
        records.commitment(dossier)
        records.document(dossier)
    refresh(database)
    records.remove("dossiers", *going)
    for table in (
        "raw.engagements",
        "raw.commitments",
        "raw.documents",
        "dossiers.engagement_stats",
        "dossiers.commitment_stats",
        "dossiers.health_scores",
    ):
        assert [row.dossier_id for row in rows(database, f"SELECT dossier_id FROM {table}")] == [staying], table
    refresh(database)
    require_right(database)


def test_emptying_the_dossiers_removes_everything_derived_from_them(database: Database, records: Records) -> None:
    dossier = records.dossier()
    records.engagement(dossier, CLOCK - DAY)
    records.document(dossier)
    refresh(database)
    with database.transaction() as connection:
        connection.execute(sa.text("TRUNCATE raw.dossiers"))
    assert stored_health(database) == {}
    assert scalar(database, "SELECT count(*) FROM raw.engagements") == 0
    assert scalar(database, "SELECT count(*) FROM raw.documents") == 0
    assert refresh(database).refreshed == 0


def test_what_was_written_past_the_triggers_is_found_by_a_full_refresh_and_called_drift(
    database: Database, records: Records
) -> None:
    dossier, gone = records.dossier(), records.dossier()
    refresh(database)
    with database.transaction() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            sa.text(
                "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                "VALUES ('default', gen_random_uuid(), :dossier, :at)"
            ),
            {"dossier": dossier, "at": CLOCK - DAY},
        )
        connection.execute(sa.text("DELETE FROM raw.dossiers WHERE id = :gone"), {"gone": gone})
    assert refresh(database).refreshed == 0
    result = refresh(database, full=True)
    assert (result.refreshed, result.drifted) == (1, 1)
    assert scalar(database, "SELECT drifted_dossiers FROM dossiers.health_refreshes WHERE drifted > 0") == [dossier]
    require_right(database)


# Each record, the moment at which time alone changes a statistic of it, and that statistic before and after.
BOUNDARIES: Final[dict[str, tuple[str, dict[str, Any], str, tuple[object, object]]]] = {
    "an engagement begins": ("engagement", {"occurred_at": CLOCK}, "total_engagements_365d", (0, 1)),
    "an engagement leaves the 90 days": (
        "engagement",
        {"occurred_at": CLOCK - 90 * DAY - MICROSECOND},
        "recent_engagements_90d",
        (1, 0),
    ),
    "an engagement leaves the 365 days": (
        "engagement",
        {"occurred_at": CLOCK - 365 * DAY - MICROSECOND},
        "total_engagements_365d",
        (1, 0),
    ),
    "30 whole days are over": ("engagement", {"occurred_at": CLOCK - 31 * DAY}, "recency", (100, 70)),
    "90 whole days are over": ("engagement", {"occurred_at": CLOCK - 91 * DAY}, "recency", (70, 40)),
    "180 whole days are over": ("engagement", {"occurred_at": CLOCK - 181 * DAY}, "recency", (40, 10)),
    "a commitment begins": ("commitment", {"created_at": CLOCK}, "total_commitments", (0, 1)),
    "a commitment is completed": (
        "commitment",
        {"status": "completed", "completed_at": CLOCK},
        "fulfilled_commitments",
        (0, 1),
    ),
    "a commitment is cancelled": (
        "commitment",
        {"status": "cancelled", "cancelled_at": CLOCK},
        "total_commitments",
        (1, 0),
    ),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_time_alone_changes_a_statistic_at_the_exact_moment(
    database: Database, records: Records, boundary: str
) -> None:
    kind, values, column, (before, after) = BOUNDARIES[boundary]
    records.set_clock(CLOCK - 10 * MINUTE)
    getattr(records, kind)(records.dossier(), **values)
    refresh(database)
    records.set_clock(CLOCK - MICROSECOND)
    assert refresh(database).refreshed == 0
    assert [getattr(health, column) for health in stored_health(database).values()] == [before]
    records.set_clock(CLOCK)
    assert refresh(database).refreshed == 1
    assert [getattr(health, column) for health in stored_health(database).values()] == [after]
    require_right(database)


@pytest.mark.parametrize(
    ("zone", "first_moment", "new_day"),
    [
        ("Asia/Riyadh", "2025-06-15T21:00:00Z", date(2025, 6, 16)),
        ("America/New_York", "2025-03-10T04:00:00Z", date(2025, 3, 10)),
        # Midnight does not exist: clocks go from 24:00 to 1:00.
        ("Africa/Cairo", "2025-04-24T22:00:00Z", date(2025, 4, 25)),
        # Midnight comes twice: clocks go back from 1:00 to 0:00.
        ("America/Havana", "2025-11-02T04:00:00Z", date(2025, 11, 2)),
        # Clocks go from 23:00 to midnight, and in autumn from midnight back to 23:00.
        ("America/Nuuk", "2025-03-30T01:00:00Z", date(2025, 3, 30)),
        ("America/Nuuk", "2025-10-26T02:00:00Z", date(2025, 10, 26)),
        ("Asia/Riyadh", "2024-02-28T21:00:00Z", date(2024, 2, 29)),
    ],
)
def test_a_due_date_passes_at_the_first_moment_of_the_next_day(
    database: Database, zone: str, first_moment: str, new_day: date
) -> None:
    moment = datetime.fromisoformat(first_moment)
    records = Records(database, timezone=zone, clock_at=moment - 30 * MINUTE)
    records.commitment(records.dossier(), due_date=new_day - DAY)
    records.commitment(records.dossier(), due_date=new_day + 30 * DAY)
    refresh(database)
    for clock, refreshed, overdue, upcoming in ((moment - MICROSECOND, 0, 0, 1), (moment, 2, 1, 1)):
        records.set_clock(clock)
        assert refresh(database).refreshed == refreshed
        found = list(stored_health(database).values())
        assert sum(health.overdue_commitments for health in found) == overdue
        assert sum(health.upcoming_commitments for health in found) == upcoming
    require_right(database)


def test_a_score_is_computed_anew_when_it_is_60_minutes_old(database: Database, records: Records) -> None:
    records.dossier()
    refresh(database)
    records.set_clock(CLOCK + HOUR - MICROSECOND)
    assert refresh(database).refreshed == 0
    records.set_clock(CLOCK + HOUR)
    result = refresh(database)
    assert (result.refreshed, result.changed) == (1, 0)
    assert scalar(database, "SELECT as_of FROM dossiers.health_scores") == CLOCK + HOUR


def test_a_running_clock_is_the_moment_of_the_run(database: Database, records: Records) -> None:
    records.set_clock(None)
    records.dossier()
    refresh_health(database, DEFAULTS, now=CLOCK + timedelta(days=3))
    assert scalar(database, "SELECT as_of FROM dossiers.health_scores") == CLOCK + timedelta(days=3)


def test_an_earlier_moment_computes_every_score_anew(database: Database, records: Records) -> None:
    dossiers = [records.dossier() for _ in range(2)]
    records.engagement(dossiers[0], CLOCK - MINUTE)
    refresh(database)
    records.set_clock(CLOCK - 2 * MINUTE)
    result = refresh(database)
    assert (result.refreshed, result.changed) == (2, 1)
    require_right(database)


def test_other_settings_compute_every_score_anew_and_the_same_settings_none(
    database: Database, records: Records
) -> None:
    for kind in ("country", "forum"):
        records.engagement(records.dossier(type=kind), CLOCK - DAY)
    refresh(database)
    for config in (VARIED, OTHERWISE, DEFAULTS):
        assert refresh(database, config=config).refreshed == 2
        assert refresh(database, config=config).refreshed == 0
        assert differences(stored_health(database), reference_health(database, config)) == {}


def test_each_refresh_leaves_a_record_of_what_it_did(database: Database, records: Records) -> None:
    dossier = records.dossier()
    refresh_health(database, DEFAULTS, now=CLOCK, run_id="first")
    records.engagement(dossier, CLOCK - DAY)
    refresh_health(database, DEFAULTS, now=CLOCK, run_id="second")
    refresh_health(database, DEFAULTS, now=CLOCK, full=True, run_id="third")
    found = rows(database, "SELECT run_id, mode, refreshed, changed, drifted, as_of FROM dossiers.health_refreshes")
    assert [tuple(row) for row in sorted(found, key=lambda row: row.run_id)] == [
        ("first", "incremental", 1, 1, 0, CLOCK),
        ("second", "incremental", 1, 1, 0, CLOCK),
        ("third", "full", 1, 0, 0, CLOCK),
    ]
