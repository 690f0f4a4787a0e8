"""What analysts query: one row per dossier with everything, and the health of groups."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.group_report import MOST_ROWS, group_tables, markdown_table
from dossier_pipelines.dossiers.refresh import refresh_health, refresh_in_transaction
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import DAY, DEFAULTS, MINUTE, Records
from dossier_pipelines_tests.records import rows, scalar

CLOCK = datetime(2025, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


def overview(database: Database, dossier: uuid.UUID) -> dict[str, Any]:
    found = rows(database, "SELECT * FROM dossiers.dossier_overview WHERE dossier_id = :id", id=dossier)
    assert len(found) == 1
    return dict(found[0]._mapping)


def healthy(records: Records, *, fulfilled: int, **values: Any) -> uuid.UUID:
    """A dossier whose score is 0.30 x 6 + 0.40 x 10 x fulfilled + 0.30 x 100 = 31.8 + 4 x fulfilled."""
    dossier = records.dossier(**values)
    records.engagements(dossier, CLOCK - DAY, CLOCK - 2 * DAY, CLOCK - 3 * DAY)
    for number in range(10):
        records.commitment(dossier, "completed" if number < fulfilled else "pending")
    return dossier


# --- dossier_overview -------------------------------------------------------------------------------------------


def test_the_overview_tells_everything_of_a_dossier_in_one_row(database: Database, records: Records) -> None:
    owner = uuid.uuid4()
    dossier = records.dossier(
        "Sweden",
        type="country",
        region="Northern Europe",
        bloc="EU",
        classification="public",
        owner_id=owner,
        source_key="SE",
    )
    records.engagements(dossier, CLOCK - DAY, CLOCK - 100 * DAY, CLOCK - 200 * DAY)
    for status, due in (
        ("completed", date(2025, 1, 1)),
        ("pending", date(2025, 6, 1)),
        ("in_progress", date(2025, 7, 1)),
        ("cancelled", date(2025, 6, 1)),
    ):
        records.commitment(dossier, status, due_date=due)
    for _ in range(3):
        records.document(dossier)
    records.document(records.dossier("Norway"))
    refresh_health(database, DEFAULTS, now=CLOCK)
    before = overview(database, dossier)
    # 0.30 x 6 + 0.40 x 33 + 0.30 x 100
    assert before["overall_score"] == 45
    records.engagement(dossier, CLOCK)
    refresh_health(database, DEFAULTS, now=CLOCK)
    row = overview(database, dossier)
    calculated_at = row.pop("calculated_at")
    assert calculated_at > before["calculated_at"]
    factors = row.pop("factors")
    assert [one["text"] for one in factors] == ["1 engagement was added"]
    assert row == {
        "tenant_id": "default",
        "dossier_id": dossier,
        "source_key": "SE",
        "name": "Sweden",
        "type": "country",
        "region": "Northern Europe",
        "bloc": "EU",
        "classification": "public",
        "owner_id": owner,
        "total_engagements_365d": 4,
        "recent_engagements_90d": 2,
        "latest_engagement_date": CLOCK,
        "engagement_frequency_score": Decimal(8),
        "total_commitments": 3,
        "active_commitments": 2,
        "overdue_commitments": 1,
        "fulfilled_commitments": 1,
        "upcoming_commitments": 1,
        "fulfillment_rate": 33,
        "recency": 100,
        "overall_score": 46,
        "band": "fair",
        "insufficient_reason": None,
        "previous_score": 45,
        "score_change": 1,
        "changed_at": CLOCK,
        "as_of": CLOCK,
        "settings_version": DEFAULTS.version,
        "score_age_minutes": 0,
        "document_count": 3,
    }


def test_a_dossier_without_a_score_yet_is_in_the_overview(database: Database, records: Records) -> None:
    dossier = records.dossier()
    records.document(dossier)
    row = overview(database, dossier)
    assert (row["overall_score"], row["band"], row["score_age_minutes"], row["document_count"]) == (None, None, None, 1)


def test_the_overview_says_why_there_is_no_score(database: Database, records: Records) -> None:
    dossier = records.dossier()
    refresh_health(database, DEFAULTS, now=CLOCK)
    row = overview(database, dossier)
    assert (row["overall_score"], row["band"]) == (None, "insufficient_data")
    assert row["insufficient_reason"] == "needs 3 engagements in 365 days, found 0; needs 1 commitment, found 0"
    assert row["document_count"] == 0


def test_the_same_id_in_two_tenants_is_two_dossiers(database: Database, records: Records) -> None:
    other = Records(database, tenant_id="other", clock_at=CLOCK)
    assert records.dossier("Here") == other.dossier("There")
    records.document(uuid.UUID(int=1))
    found = rows(database, "SELECT name, document_count FROM dossiers.dossier_overview ORDER BY name")
    assert [tuple(row) for row in found] == [("Here", 1), ("There", 0)]


def test_where_the_clock_stands_still_a_score_ages_by_it(database: Database, records: Records) -> None:
    dossier = records.dossier()
    refresh_health(database, DEFAULTS, now=CLOCK)
    assert overview(database, dossier)["score_age_minutes"] == 0
    records.set_clock(CLOCK + 90 * MINUTE + MINUTE / 2)
    assert overview(database, dossier)["score_age_minutes"] == 90


def test_where_the_clock_runs_a_score_ages_since_it_was_calculated(database: Database, records: Records) -> None:
    records.set_clock(None)
    dossier = records.dossier()
    # A score of a past moment is no old score.
    refresh_health(database, DEFAULTS, now=CLOCK, as_of=CLOCK - 100 * DAY)
    with database.transaction() as connection:
        aged = "UPDATE dossiers.health_scores SET calculated_at = now() - interval '42 minutes 30 seconds'"
        connection.execute(sa.text(aged))
        age = connection.execute(sa.text("SELECT score_age_minutes FROM dossiers.dossier_overview")).scalar_one()
    assert age == 42
    assert overview(database, dossier)["score_age_minutes"] >= 42


def test_a_score_of_the_same_transaction_is_not_of_the_future(database: Database, records: Records) -> None:
    records.set_clock(None)
    records.dossier()
    with database.transaction() as connection:
        refresh_in_transaction(connection, DEFAULTS, now=CLOCK)
        age = connection.execute(sa.text("SELECT score_age_minutes FROM dossiers.dossier_overview")).scalar_one()
    assert age == 0


def test_a_look_up_by_id_reads_by_keys_alone(database: Database, records: Records) -> None:
    dossiers = [records.dossier() for _ in range(3)]
    refresh_health(database, DEFAULTS, now=CLOCK)
    with database.transaction() as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plan = connection.execute(
            sa.text(
                "EXPLAIN SELECT overall_score, document_count FROM dossiers.dossier_overview "
                "WHERE tenant_id = 'default' AND dossier_id = ANY (:ids)"
            ),
            {"ids": dossiers[:2]},
        ).scalars()
        assert "Seq Scan" not in "\n".join(plan)


# --- health_by_group --------------------------------------------------------------------------------------------


def groups(database: Database, grouping: str, tenant_id: str = "default") -> dict[str, tuple[Any, ...]]:
    """Value to (dossiers, average score, excellent, good, fair, poor, insufficient data)."""
    found = rows(
        database,
        "SELECT value, dossiers, average_score, excellent, good, fair, poor, insufficient_data "
        "FROM dossiers.health_by_group WHERE tenant_id = :tenant_id AND grouping = :grouping",
        tenant_id=tenant_id,
        grouping=grouping,
    )
    by_value = {row.value: tuple(row)[1:] for row in found}
    assert len(by_value) == len(found), "one row per value"
    return by_value


def test_groups_have_their_average_and_their_bands(database: Database, records: Records) -> None:
    for fulfilled, region in ((10, "North"), (9, "North"), (7, "North"), (2, "South"), (0, "South")):
        healthy(records, fulfilled=fulfilled, region=region, type="country", bloc="EU", classification="public")
    records.dossier(region="South", type="forum")
    refresh_health(database, DEFAULTS, now=CLOCK)
    # 72, 68, 60; 40, 32 and one without enough data.
    assert groups(database, "region") == {
        "North": (3, Decimal("66.67"), 0, 3, 0, 0, 0),
        "South": (3, Decimal("36.00"), 0, 0, 1, 1, 1),
    }
    assert groups(database, "type") == {
        "country": (5, Decimal("54.40"), 0, 3, 1, 1, 0),
        "forum": (1, None, 0, 0, 0, 0, 1),
    }
    assert groups(database, "bloc") == {
        "EU": (5, Decimal("54.40"), 0, 3, 1, 1, 0),
        "not given": (1, None, 0, 0, 0, 0, 1),
    }
    assert set(groups(database, "classification")) == {"public", "not given"}


def test_what_is_not_given_is_one_group(database: Database, records: Records) -> None:
    records.dossier()
    records.dossier(region="not given")
    refresh_health(database, DEFAULTS, now=CLOCK)
    assert groups(database, "region") == {"not given": (2, None, 0, 0, 0, 0, 2)}


def test_every_grouping_counts_every_dossier_scored_or_not(database: Database, records: Records) -> None:
    for number in range(4):
        records.dossier(region=f"Region {number % 2}")
    for grouping in ("region", "bloc", "classification", "type"):
        assert sum(values[0] for values in groups(database, grouping).values()) == 4


def test_tenants_are_apart(database: Database, records: Records) -> None:
    other = Records(database, tenant_id="other", clock_at=CLOCK)
    healthy(records, fulfilled=10, region="North")
    healthy(other, fulfilled=0, region="North")
    refresh_health(database, DEFAULTS, now=CLOCK)
    assert groups(database, "region")["North"][1] == Decimal("72.00")
    assert groups(database, "region", "other")["North"][1] == Decimal("32.00")


# --- the same as tables for the UI ------------------------------------------------------------------------------


def test_the_report_adds_tenants_up_by_their_scored_dossiers(database: Database, records: Records) -> None:
    other = Records(database, tenant_id="other", clock_at=CLOCK)
    for _ in range(3):
        healthy(records, fulfilled=10, region="North")
    healthy(other, fulfilled=0, region="North")
    other.dossier(region="South | East")
    refresh_health(database, DEFAULTS, now=CLOCK)
    tables = group_tables(database)
    assert set(tables) == {"region", "bloc", "type"}
    assert tables["region"].splitlines() == [
        "| |average score|dossiers|excellent|good|fair|poor|insufficient data|",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| North |62|4|0|3|0|1|0|",
        "| South / East ||1|0|0|0|0|1|",
    ]


def frame(**columns: list[Any]) -> pd.DataFrame:
    length = len(columns["value"])
    bands = ("excellent", "good", "fair", "poor", "insufficient_data")
    return pd.DataFrame({"average_score": [None] * length, **dict.fromkeys(bands, [0] * length), **columns})


def test_the_report_writes_large_numbers_out() -> None:
    table = markdown_table(
        frame(value=["North"], dossiers=[12_345_678], good=[1_000_000], poor=[2], average_score=[Decimal("66.67")])
    )
    assert table.splitlines()[-1] == "| North |66.67|12345678|0|1000000|0|2|0|"


def test_the_report_shows_the_healthiest_groups_first_and_not_too_many() -> None:
    many = MOST_ROWS + 10
    table = markdown_table(
        frame(
            value=[f"Region {number}" for number in range(many)],
            dossiers=[1] * many,
            good=[1] * many,
            average_score=list(range(many)),
        )
    )
    shown = table.splitlines()[2:]
    assert len(shown) == MOST_ROWS
    assert shown[0].startswith(f"| Region {many - 1} |{many - 1}|")


def test_the_report_of_nothing_is_a_header(database: Database) -> None:
    assert all(len(table.splitlines()) == 2 for table in group_tables(database).values())
    assert scalar(database, "SELECT count(*) FROM dossiers.health_by_group") == 0
