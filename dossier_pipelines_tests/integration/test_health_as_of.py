"""The SQL computes what the formula says: for every dossier, zone, type and moment, the past included."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import (
    DAY,
    DEFAULTS,
    MICROSECOND,
    OTHERWISE,
    STATEMENTS,
    STATUSES,
    STEPS_IN_DAYS,
    TYPES,
    VARIED,
    ZONES,
    Records,
    configuration,
    differences,
    reference_health,
    stored_health,
)
from dossier_pipelines_tests.records import rows, scalar

# The days of 25 and 23 hours, the leap day, midnight twice, an ordinary noon, and long before most records.
MOMENTS = (
    datetime(2025, 11, 2, 4, 30, tzinfo=UTC),
    datetime(2025, 3, 9, 6, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 2, 29, 20, 59, 59, tzinfo=UTC),
    datetime(2025, 4, 24, 22, 0, tzinfo=UTC),
    datetime(2025, 6, 15, 12, 0, tzinfo=UTC),
    datetime(2023, 1, 1, tzinfo=UTC),
)


def fill(database: Database, random: Random, *, dossiers: int) -> None:
    """Write dossiers of every zone and type, their records on and around every boundary of every moment."""
    with database.transaction() as connection:
        for zone in ZONES:
            tenant_id = zone.replace("/", "-").lower()
            connection.execute(
                sa.text("INSERT INTO platform.tenants (tenant_id, timezone) VALUES (:tenant_id, :zone)"),
                {"tenant_id": tenant_id, "zone": zone},
            )
            ids = [uuid.UUID(int=random.getrandbits(128)) for _ in range(dossiers)]
            types = [random.choice(TYPES) for _ in ids]
            parameters = {"tenant_id": tenant_id, "ids": ids, "types": types}
            connection.execute(sa.text(STATEMENTS["add_dossiers"]), parameters)
            engaged = [one for one in ids for _ in range(random.choice((0, 1, 2, 3, 4, 8, 60)))]
            connection.execute(
                sa.text(STATEMENTS["write_engagements"]),
                {
                    "tenant_id": tenant_id,
                    "ids": [uuid.UUID(int=random.getrandbits(128)) for _ in engaged],
                    "dossier_ids": engaged,
                    "moments": [around(random) for _ in engaged],
                },
            )
            promised = [one for one in ids for _ in range(random.choice((0, 1, 1, 2, 3, 8)))]
            connection.execute(
                sa.text(STATEMENTS["write_commitments"]),
                {
                    "tenant_id": tenant_id,
                    "ids": [uuid.UUID(int=random.getrandbits(128)) for _ in promised],
                    "dossier_ids": promised,
                    "statuses": [random.choice(STATUSES) for _ in promised],
                    "due": [due(random) for _ in promised],
                    "created": [random.choice((None, around(random))) for _ in promised],
                    "completed": [random.choice((None, around(random))) for _ in promised],
                    "cancelled": [random.choice((None, around(random))) for _ in promised],
                },
            )


def around(random: Random) -> datetime:
    """A moment on, just before or just after a boundary, or anywhere in two years."""
    moment = random.choice(MOMENTS)
    if random.random() < 0.3:
        return moment - timedelta(seconds=random.randrange(-30 * 86_400, 730 * 86_400))
    return moment - random.choice((0, *STEPS_IN_DAYS)) * DAY + random.choice((-1, 0, 0, 1)) * MICROSECOND


def due(random: Random) -> date | None:
    """A due date within two days of the edges of overdue and upcoming."""
    if random.random() < 0.1:
        return None
    return random.choice(MOMENTS).date() + random.choice((-40, -2, -1, 0, 1, 2, 29, 30, 31, 32, 90)) * DAY


@pytest.mark.parametrize("seed", range(3))
def test_the_database_computes_what_the_formula_says(database: Database, seed: int) -> None:
    random = Random(seed)
    fill(database, random, dossiers=20)
    for config in (VARIED, OTHERWISE, DEFAULTS):
        for moment in random.sample(MOMENTS, len(MOMENTS)):
            result = refresh_health(database, config, now=datetime.now(UTC), as_of=moment, full=True)
            assert result.refreshed == 20 * len(ZONES)
            assert result.drifted == 0
            assert differences(stored_health(database), reference_health(database, config, as_of=moment)) == {}


def test_the_same_moment_in_another_offset_is_the_same(database: Database) -> None:
    fill(database, Random(4), dossiers=10)
    moment = MOMENTS[0]
    refresh_health(database, VARIED, now=moment, as_of=moment, full=True)
    before = stored_health(database)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=45)))
    result = refresh_health(database, VARIED, now=moment, as_of=elsewhere, full=True)
    assert result.changed == 0
    assert stored_health(database) == before


def test_every_tenant_lives_by_its_own_clock_and_zone(database: Database) -> None:
    # The same commitment, due on the 15th, at the same moment: it is still the 15th in New York only.
    moment = datetime(2025, 6, 16, 2, 0, tzinfo=UTC)
    for tenant_id, zone, clock_at in (
        ("riyadh", "Asia/Riyadh", None),
        ("new-york", "America/New_York", None),
        ("yesterday", "Asia/Riyadh", moment - timedelta(hours=12)),
    ):
        records = Records(database, tenant_id=tenant_id, timezone=zone, clock_at=clock_at)
        records.commitment(records.dossier(), due_date=date(2025, 6, 15))
    refresh_health(database, DEFAULTS, now=moment)
    found = rows(
        database,
        "SELECT tenant_id, overdue_commitments, as_of FROM dossiers.commitment_stats "
        "JOIN dossiers.health_scores USING (tenant_id, dossier_id) ORDER BY tenant_id",
    )
    assert [tuple(row) for row in found] == [
        ("new-york", 0, moment),
        ("riyadh", 1, moment),
        ("yesterday", 0, moment - timedelta(hours=12)),
    ]


def test_a_refresh_of_one_tenant_leaves_the_others_alone(database: Database) -> None:
    moment = MOMENTS[4]
    one, other = (Records(database, tenant_id=name, clock_at=moment) for name in ("one", "other"))
    one.dossier()
    other.dossier()
    assert refresh_health(database, DEFAULTS, now=moment, tenant_id="one").refreshed == 1
    assert [key.tenant_id for key in stored_health(database)] == ["one"]
    assert scalar(database, "SELECT string_agg(tenant_id, ' ') FROM platform.stale_marks") == "other"
    assert refresh_health(database, DEFAULTS, now=moment).refreshed == 1


def test_a_half_rounds_up_in_the_database_too(database: Database) -> None:
    halves = {
        "weights": {"engagement": "0.25", "commitment": "0.50", "recency": "0.25"},
        "min_engagements": 0,
    }
    config = configuration(country=halves)
    moment = MOMENTS[4]
    records = Records(database, clock_at=moment)
    dossier = records.dossier(type="country")
    records.engagements(dossier, *[moment - 45 * DAY] * 10)
    for number in range(50):
        records.commitment(dossier, "completed" if number < 36 else "pending")
    refresh_health(database, config, now=moment)
    # 0.25 x 20 + 0.50 x 72 + 0.25 x 70 = 58.5; half to even would be 58.
    assert scalar(database, "SELECT overall_score FROM dossiers.health_scores") == 59


def test_a_score_names_the_settings_that_it_was_computed_with(database: Database) -> None:
    records = Records(database, clock_at=MOMENTS[4])
    records.dossier(type="forum")
    refresh_health(database, VARIED, now=MOMENTS[4])
    assert scalar(database, "SELECT settings_version FROM dossiers.health_scores") == VARIED.version
    kept = rows(database, "SELECT * FROM dossiers.health_settings WHERE version = :version", version=VARIED.version)
    assert {row.dossier_type: row.yearly_target for row in kept} == {"*": 50, "forum": 7, "organization": 50}


def test_every_settings_row_fits_the_table_as_it_was_written(database: Database) -> None:
    extreme = configuration(
        most={
            "weights": {"engagement": "0.0001", "commitment": "0.9998", "recency": "0.0001"},
            "yearly_target": 10_000,
            "min_engagements": 10_000,
            "min_commitments": 10_000,
            "recency_days": {"fresh": 36_498, "recent": 36_499, "distant": 36_500},
            "recency_points": {"fresh": 100, "recent": 100, "distant": 100, "silent": 100},
            "bands": {"excellent": 100, "good": 99, "fair": 98},
        },
        least={
            "weights": {"engagement": "1", "commitment": "0", "recency": "0"},
            "yearly_target": 1,
            "min_engagements": 0,
            "min_commitments": 0,
            "recency_days": {"fresh": 0, "recent": 1, "distant": 2},
            "recency_points": {"fresh": 0, "recent": 0, "distant": 0, "silent": 0},
            "bands": {"excellent": 2, "good": 1, "fair": 0},
        },
    )
    moment = MOMENTS[4]
    records = Records(database, clock_at=moment)
    for name in ("most", "least"):
        records.engagements(records.dossier(type=name), moment, moment - DAY, moment - 2 * DAY)
    refresh_health(database, extreme, now=moment)
    assert differences(stored_health(database), reference_health(database, extreme)) == {}
    for row in extreme.rows():
        stored = rows(
            database,
            "SELECT * FROM dossiers.health_settings WHERE version = :version AND dossier_type = :type",
            version=extreme.version,
            type=row["dossier_type"],
        )[0]._mapping
        assert {name: str(stored[name]) for name in row} == {name: str(value) for name, value in row.items()}
