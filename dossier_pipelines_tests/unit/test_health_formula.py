"""The health formula: every edge of the rules, with expected values worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dossier_pipelines.dossiers.health_formula import (
    CommitmentRecord,
    EngagementRecord,
    Health,
    HealthSettings,
    health_as_of,
    parse_health_config,
    read_health_config,
    round_half_away,
)

RIYADH = ZoneInfo("Asia/Riyadh")
NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
TODAY = date(2025, 6, 15)
DAYS = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
DEFAULTS = read_health_config().of(None)


def settings_with(**differing: object) -> HealthSettings:
    """The default settings with some of them replaced."""
    return parse_health_config({"defaults": {**DEFAULTS.model_dump(), **differing}}, place="test").of(None)


ONLY_FULFILLMENT = settings_with(weights={"engagement": "0", "commitment": "1", "recency": "0"})


def ago(*ages: timedelta | float, as_of: datetime = NOW) -> list[EngagementRecord]:
    """Engagements of these ages; a number is days."""
    return [
        EngagementRecord(occurred_at=as_of - (age if isinstance(age, timedelta) else timedelta(days=age)))
        for age in ages
    ]


def completed(fulfilled: int, total: int) -> list[CommitmentRecord]:
    """``total`` commitments, of them ``fulfilled`` completed and the others pending."""
    done = CommitmentRecord(status="completed", due_date=TODAY)
    open_ = CommitmentRecord(status="pending", due_date=None)
    return [done] * fulfilled + [open_] * (total - fulfilled)


def health(
    engagements: Iterable[EngagementRecord] = (),
    commitments: Iterable[CommitmentRecord] = (),
    *,
    as_of: datetime = NOW,
    timezone: ZoneInfo = RIYADH,
    settings: HealthSettings = DEFAULTS,
) -> Health:
    return health_as_of(engagements, commitments, as_of=as_of, timezone=timezone, settings=settings)


# --- rounding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "places", "rounded"),
    [
        ("59.5", 0, "60"),
        # Half to even, Python's own way, would give 58, 60 and 0 here.
        ("58.5", 0, "59"),
        ("60.5", 0, "61"),
        ("0.5", 0, "1"),
        ("59.4999", 0, "59"),
        ("-0.5", 0, "-1"),
        ("-2.5", 0, "-3"),
        ("3.125", 2, "3.13"),
        # As a binary float 1.005 is a little less than it says.
        ("1.005", 2, "1.01"),
        ("100", 0, "100"),
    ],
)
def test_halves_round_away_from_zero(value: str, places: int, rounded: str) -> None:
    assert round_half_away(Decimal(value), places) == Decimal(rounded)


@pytest.mark.parametrize(
    ("fulfilled", "score"),
    # 0.25 x 20 + 0.50 x rate + 0.25 x 70 is 22.5 and half the rate.
    [(36, 59), (37, 60), (38, 61), (39, 62), (0, 23), (50, 73)],
)
def test_a_score_of_a_half_rounds_up(fulfilled: int, score: int) -> None:
    settings = settings_with(weights={"engagement": "0.25", "commitment": "0.50", "recency": "0.25"})
    result = health(ago(*[45] * 10), completed(fulfilled, 50), settings=settings)
    assert (result.engagement_frequency_score, result.recency) == (20, 70)
    assert result.fulfillment_rate == 2 * fulfilled
    assert result.overall_score == score


@pytest.mark.parametrize(
    ("fulfilled", "total", "rate"),
    [(1, 8, 13), (3, 8, 38), (5, 8, 63), (1, 200, 1), (1, 201, 0), (1, 3, 33), (2, 3, 67), (0, 7, 0), (7, 7, 100)],
)
def test_the_fulfillment_rate_is_a_whole_percentage(fulfilled: int, total: int, rate: int) -> None:
    assert health(commitments=completed(fulfilled, total)).fulfillment_rate == rate


@pytest.mark.parametrize(
    ("engagements", "target", "frequency"),
    [
        (0, 50, "0"),
        (1, 50, "2"),
        (49, 50, "98"),
        (50, 50, "100"),
        (51, 50, "100"),
        (1, 3, "33.33"),
        (2, 3, "66.67"),
        (1, 32, "3.13"),
        (3, 32, "9.38"),
        (1, 7, "14.29"),
        (1, 10_000, "0.01"),
    ],
)
def test_the_frequency_is_linear_up_to_the_yearly_target(engagements: int, target: int, frequency: str) -> None:
    result = health(ago(*[10] * engagements), settings=settings_with(yearly_target=target))
    assert result.engagement_frequency_score == Decimal(frequency)


def test_the_default_formula_is_30_40_30() -> None:
    # 0.30 x 24 + 0.40 x 75 + 0.30 x 70 = 7.2 + 30 + 21
    result = health(ago(31, *[200] * 11), completed(3, 4))
    assert (result.engagement_frequency_score, result.fulfillment_rate, result.recency) == (24, 75, 70)
    assert (result.overall_score, result.band) == (58, "fair")


# --- bands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "band"),
    [
        (100, "excellent"),
        (80, "excellent"),
        (79, "good"),
        (60, "good"),
        (59, "fair"),
        (40, "fair"),
        (39, "poor"),
        (0, "poor"),
    ],
)
def test_a_band_begins_at_its_lowest_score(score: int, band: str) -> None:
    result = health(ago(1, 2, 3), completed(score, 100), settings=ONLY_FULFILLMENT)
    assert (result.overall_score, result.band) == (score, band)


# --- recency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "points"),
    [
        (timedelta(0), 100),
        (30 * DAYS, 100),
        (31 * DAYS - MICROSECOND, 100),
        (31 * DAYS, 70),
        (90 * DAYS, 70),
        (91 * DAYS - MICROSECOND, 70),
        (91 * DAYS, 40),
        (180 * DAYS, 40),
        (181 * DAYS - MICROSECOND, 40),
        (181 * DAYS, 10),
        (365 * DAYS + MICROSECOND, 10),
        (4000 * DAYS, 10),
    ],
)
def test_recency_goes_by_whole_days_elapsed(age: timedelta, points: int) -> None:
    assert health(ago(age)).recency == points


def test_recency_goes_by_the_newest_engagement() -> None:
    assert health(ago(400, 31, 200)).recency == 70


def test_without_any_engagement_recency_is_the_lowest() -> None:
    result = health()
    assert (result.recency, result.latest_engagement_date) == (10, None)


# --- windows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "in_year", "in_quarter"),
    [
        (timedelta(0), 1, 1),
        (90 * DAYS, 1, 1),
        (90 * DAYS + MICROSECOND, 1, 0),
        (365 * DAYS, 1, 0),
        (365 * DAYS + MICROSECOND, 0, 0),
    ],
)
def test_windows_include_both_ends(age: timedelta, in_year: int, in_quarter: int) -> None:
    result = health(ago(age))
    assert (result.total_engagements_365d, result.recent_engagements_90d) == (in_year, in_quarter)
    assert result.latest_engagement_date == NOW - age


def test_an_engagement_after_the_moment_counts_in_nothing() -> None:
    assert health(ago(-MICROSECOND)) == health()
    with_past = health(ago(100, -MICROSECOND, -300))
    assert with_past == health(ago(100))


def test_a_commitment_made_after_the_moment_counts_in_nothing() -> None:
    later = [
        CommitmentRecord(status=status, due_date=TODAY, created_at=NOW + MICROSECOND)
        for status in ("pending", "overdue", "completed", "cancelled")
    ]
    assert health(commitments=later) == health()
    at_the_moment = CommitmentRecord(status="pending", due_date=TODAY, created_at=NOW)
    assert health(commitments=[at_the_moment]).total_commitments == 1


def test_a_year_is_365_days_of_24_hours_whatever_the_clocks_and_the_calendar_do() -> None:
    # From 29 February 2024 to 28 February 2025 are 365 days; on 28 February it was 366.
    as_of = datetime(2025, 2, 28, 12, tzinfo=UTC)
    leap_day = EngagementRecord(occurred_at=datetime(2024, 2, 29, 12, tzinfo=UTC))
    day_before = EngagementRecord(occurred_at=datetime(2024, 2, 28, 12, tzinfo=UTC))
    assert health([leap_day, day_before], as_of=as_of).total_engagements_365d == 1
    # Clocks in New York went forward on 9 March: 90 days ago it was 11:00 there, not 12:00.
    as_of = datetime(2025, 5, 1, 12, tzinfo=NEW_YORK)
    ninety_days_ago = datetime(2025, 1, 31, 11, tzinfo=NEW_YORK)
    records = [EngagementRecord(occurred_at=ninety_days_ago - shift) for shift in (timedelta(0), MICROSECOND)]
    result = health(records, as_of=as_of, timezone=NEW_YORK)
    assert (result.total_engagements_365d, result.recent_engagements_90d) == (2, 1)


# --- commitments ------------------------------------------------------------------------------------------------


def counts(*commitments: CommitmentRecord, as_of: datetime = NOW, timezone: ZoneInfo = RIYADH) -> tuple[int, ...]:
    """(total, active, overdue, fulfilled, upcoming)."""
    found = health(commitments=commitments, as_of=as_of, timezone=timezone)
    return (
        found.total_commitments,
        found.active_commitments,
        found.overdue_commitments,
        found.fulfilled_commitments,
        found.upcoming_commitments,
    )


@pytest.mark.parametrize(
    ("status", "due_in_days", "expected"),
    [
        ("pending", -1, (1, 1, 1, 0, 0)),
        ("pending", 0, (1, 1, 0, 0, 1)),
        ("pending", 30, (1, 1, 0, 0, 1)),
        ("pending", 31, (1, 1, 0, 0, 0)),
        ("pending", None, (1, 1, 0, 0, 0)),
        ("in_progress", -1, (1, 1, 1, 0, 0)),
        ("in_progress", 30, (1, 1, 0, 0, 1)),
        ("overdue", -1, (1, 0, 1, 0, 0)),
        # Marked overdue, then extended: what is late is decided by the date.
        ("overdue", 0, (1, 0, 0, 0, 1)),
        ("overdue", None, (1, 0, 0, 0, 0)),
        ("completed", -1, (1, 0, 0, 1, 0)),
        ("completed", 0, (1, 0, 0, 1, 0)),
        ("completed", None, (1, 0, 0, 1, 0)),
        ("cancelled", -1, (0, 0, 0, 0, 0)),
        ("cancelled", 0, (0, 0, 0, 0, 0)),
        ("cancelled", None, (0, 0, 0, 0, 0)),
    ],
)
def test_every_status_and_due_date_counts_where_it_belongs(
    status: str, due_in_days: int | None, expected: tuple[int, ...]
) -> None:
    due_date = None if due_in_days is None else TODAY + timedelta(days=due_in_days)
    assert counts(CommitmentRecord(status=status, due_date=due_date)) == expected


def test_a_commitment_that_ended_later_was_open_at_the_moment() -> None:
    due = TODAY - DAYS
    ended = NOW + MICROSECOND
    assert counts(CommitmentRecord(status="completed", due_date=due, completed_at=ended)) == (1, 1, 1, 0, 0)
    assert counts(CommitmentRecord(status="completed", due_date=due, completed_at=NOW)) == (1, 0, 0, 1, 0)
    assert counts(CommitmentRecord(status="cancelled", due_date=due, cancelled_at=ended)) == (1, 1, 1, 0, 0)
    assert counts(CommitmentRecord(status="cancelled", due_date=due, cancelled_at=NOW)) == (0, 0, 0, 0, 0)


def test_completed_late_is_fulfilled_all_the_same() -> None:
    late = CommitmentRecord(status="completed", due_date=TODAY - 300 * DAYS, completed_at=NOW - DAYS)
    assert health(commitments=[late]).fulfillment_rate == 100


def test_fulfillment_is_100_when_nothing_was_promised() -> None:
    assert health().fulfillment_rate == 100
    only_cancelled = [CommitmentRecord(status="cancelled", due_date=TODAY - DAYS)] * 3
    result = health(commitments=only_cancelled)
    assert (result.total_commitments, result.fulfillment_rate) == (0, 100)


# --- today ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "moment", "today"),
    [
        # 23:30 UTC is half past two of the next day in Riyadh.
        ("Asia/Riyadh", "2025-06-15T23:30:00+00:00", "2025-06-16"),
        ("Asia/Riyadh", "2025-06-15T20:59:59.999999+00:00", "2025-06-15"),
        ("Asia/Riyadh", "2025-06-15T21:00:00+00:00", "2025-06-16"),
        ("UTC", "2025-06-15T23:59:59.999999+00:00", "2025-06-15"),
        ("Pacific/Auckland", "2025-06-15T12:00:00+00:00", "2025-06-16"),
        ("America/New_York", "2025-06-15T03:59:59.999999+00:00", "2025-06-14"),
        # The days of 23 and of 25 hours in New York.
        ("America/New_York", "2025-03-09T05:00:00+00:00", "2025-03-09"),
        ("America/New_York", "2025-03-10T03:59:59.999999+00:00", "2025-03-09"),
        ("America/New_York", "2025-03-10T04:00:00+00:00", "2025-03-10"),
        ("America/New_York", "2025-11-02T04:00:00+00:00", "2025-11-02"),
        ("America/New_York", "2025-11-03T04:59:59.999999+00:00", "2025-11-02"),
        ("America/New_York", "2025-11-03T05:00:00+00:00", "2025-11-03"),
        # Cairo skips midnight, Havana has it twice.
        ("Africa/Cairo", "2025-04-24T21:59:59.999999+00:00", "2025-04-24"),
        ("Africa/Cairo", "2025-04-24T22:00:00+00:00", "2025-04-25"),
        ("America/Havana", "2025-11-02T03:59:59.999999+00:00", "2025-11-01"),
        ("America/Havana", "2025-11-02T04:00:00+00:00", "2025-11-02"),
        # 29 February.
        ("Asia/Riyadh", "2024-02-28T21:00:00+00:00", "2024-02-29"),
        ("Asia/Riyadh", "2024-02-29T21:00:00+00:00", "2024-03-01"),
        ("Asia/Riyadh", "2025-02-28T21:00:00+00:00", "2025-03-01"),
    ],
)
def test_today_is_the_date_in_the_tenants_zone(zone: str, moment: str, today: str) -> None:
    def pending(due: date) -> CommitmentRecord:
        return CommitmentRecord(status="pending", due_date=due)

    day = date.fromisoformat(today)
    as_of, timezone = datetime.fromisoformat(moment), ZoneInfo(zone)
    assert counts(pending(day - DAYS), as_of=as_of, timezone=timezone) == (1, 1, 1, 0, 0)
    assert counts(pending(day), as_of=as_of, timezone=timezone) == (1, 1, 0, 0, 1)
    assert counts(pending(day + 30 * DAYS), as_of=as_of, timezone=timezone) == (1, 1, 0, 0, 1)
    assert counts(pending(day + 31 * DAYS), as_of=as_of, timezone=timezone) == (1, 1, 0, 0, 0)


# --- not enough data --------------------------------------------------------------------------------------------


def test_the_reason_for_no_score_is_given_word_for_word() -> None:
    result = health(ago(1, 2))
    assert result.insufficient_reason == "needs 3 engagements in 365 days, found 2; needs 1 commitment, found 0"
    assert (result.overall_score, result.band) == (None, "insufficient_data")


def test_only_what_is_missing_is_named() -> None:
    assert health(ago(1, 2, 400), completed(1, 1)).insufficient_reason == "needs 3 engagements in 365 days, found 2"
    assert health(ago(1, 2, 3)).insufficient_reason == "needs 1 commitment, found 0"
    assert health(ago(1, 2, 3), completed(1, 1)).insufficient_reason is None


def test_a_cancelled_commitment_is_not_enough() -> None:
    cancelled = CommitmentRecord(status="cancelled", due_date=None)
    assert health(ago(1, 2, 3), [cancelled]).insufficient_reason == "needs 1 commitment, found 0"


def test_one_and_many_are_told_apart_in_the_reason() -> None:
    settings = settings_with(min_engagements=1, min_commitments=2)
    assert (
        health(settings=settings).insufficient_reason
        == "needs 1 engagement in 365 days, found 0; needs 2 commitments, found 0"
    )


def test_the_components_are_there_without_a_score() -> None:
    result = health(ago(1, 2), completed(1, 2))
    assert result.overall_score is None
    assert (result.engagement_frequency_score, result.fulfillment_rate, result.recency) == (4, 50, 100)


def test_settings_may_ask_for_nothing() -> None:
    result = health(settings=settings_with(min_engagements=0, min_commitments=0))
    # 0.30 x 0 + 0.40 x 100 + 0.30 x 10
    assert (result.overall_score, result.insufficient_reason) == (43, None)


# --- settings apply ---------------------------------------------------------------------------------------------


def test_every_setting_of_recency_and_bands_is_used() -> None:
    settings = settings_with(
        weights={"engagement": "0", "commitment": "0", "recency": "1"},
        recency_days={"fresh": 7, "recent": 14, "distant": 21},
        recency_points={"fresh": 90, "recent": 50, "distant": 20, "silent": 5},
        bands={"excellent": 90, "good": 50, "fair": 20},
        min_engagements=0,
        min_commitments=0,
    )
    found = {
        age: (result.overall_score, result.band)
        for age, result in ((age, health(ago(age), settings=settings)) for age in (7.9, 8, 14, 15, 21, 22))
    }
    assert found == {
        7.9: (90, "excellent"),
        8: (50, "good"),
        14: (50, "good"),
        15: (20, "fair"),
        21: (20, "fair"),
        22: (5, "poor"),
    }


# --- properties -------------------------------------------------------------------------------------------------

# The same examples every time, however slow the machine is.
reproducible = hypothesis_settings(derandomize=True, deadline=None)
EDGES = [timedelta(days=days) + shift * MICROSECOND for days in (0, 31, 90, 365) for shift in (-1, 0, 1)]
AGES = st.lists(
    st.one_of(
        st.sampled_from(EDGES),
        st.timedeltas(min_value=timedelta(days=-5), max_value=timedelta(days=500)),
    ),
    max_size=60,
)
COMMITMENTS = st.lists(
    st.builds(
        CommitmentRecord,
        status=st.sampled_from(["pending", "in_progress", "completed", "cancelled", "overdue"]),
        due_date=st.none() | st.dates(min_value=TODAY - 40 * DAYS, max_value=TODAY + 40 * DAYS),
        created_at=st.none() | st.sampled_from([NOW - DAYS, NOW, NOW + DAYS]),
        completed_at=st.none() | st.sampled_from([NOW - DAYS, NOW, NOW + DAYS]),
        cancelled_at=st.none() | st.sampled_from([NOW - DAYS, NOW, NOW + DAYS]),
    ),
    max_size=12,
)
ENOUGH = ago(40, 50, 60)


@reproducible
@given(AGES, COMMITMENTS)
def test_values_stay_in_range_and_fit_each_other(ages: list[timedelta], commitments: list[CommitmentRecord]) -> None:
    result = health(ago(*ages), commitments)
    assert 0 <= result.engagement_frequency_score <= 100
    assert 0 <= result.fulfillment_rate <= 100
    assert result.recency in {100, 70, 40, 10}
    assert 0 <= result.recent_engagements_90d <= result.total_engagements_365d <= len(ages)
    open_ = result.total_commitments - result.fulfilled_commitments
    assert 0 <= result.overdue_commitments + result.upcoming_commitments <= open_
    assert 0 <= result.active_commitments <= open_
    assert (result.overall_score is None) == (result.insufficient_reason is not None)
    if result.overall_score is not None:
        lowest = min(result.engagement_frequency_score, result.fulfillment_rate, result.recency)
        highest = max(result.engagement_frequency_score, result.fulfillment_rate, result.recency)
        assert round(lowest) <= result.overall_score <= round(highest)


@reproducible
@given(AGES, COMMITMENTS)
def test_one_more_engagement_never_lowers_a_score(ages: list[timedelta], commitments: list[CommitmentRecord]) -> None:
    pledge = CommitmentRecord(status="pending", due_date=None)
    before = health([*ENOUGH, *ago(*ages)], [pledge, *commitments])
    after = health([*ENOUGH, *ago(*ages, 0)], [pledge, *commitments])
    assert before.overall_score is not None
    assert after.overall_score is not None
    assert after.overall_score >= before.overall_score
    assert after.recency == 100


@reproducible
@given(AGES, COMMITMENTS)
def test_a_kept_promise_never_lowers_a_score(ages: list[timedelta], commitments: list[CommitmentRecord]) -> None:
    open_, kept = (CommitmentRecord(status=status, due_date=TODAY) for status in ("pending", "completed"))
    before = health([*ENOUGH, *ago(*ages)], [open_, *commitments])
    after = health([*ENOUGH, *ago(*ages)], [kept, *commitments])
    assert before.overall_score is not None
    assert after.overall_score is not None
    assert after.overall_score >= before.overall_score
    assert after.total_commitments == before.total_commitments


@reproducible
@given(AGES, COMMITMENTS, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(
    ages: list[timedelta], commitments: list[CommitmentRecord], random: object
) -> None:
    shuffled_ages, shuffled_commitments = list(ages), list(commitments)
    random.shuffle(shuffled_ages)  # type: ignore[attr-defined]
    random.shuffle(shuffled_commitments)  # type: ignore[attr-defined]
    assert health(ago(*shuffled_ages), shuffled_commitments) == health(ago(*ages), commitments)


@reproducible
@given(AGES, COMMITMENTS, st.sampled_from(["UTC", "Asia/Riyadh", "America/New_York", "Pacific/Auckland"]))
def test_a_moment_is_the_same_in_every_offset(
    ages: list[timedelta], commitments: list[CommitmentRecord], zone: str
) -> None:
    elsewhere = NOW.astimezone(ZoneInfo(zone))
    assert health(ago(*ages), commitments, as_of=elsewhere) == health(ago(*ages), commitments)


@reproducible
@given(COMMITMENTS, st.integers(min_value=1, max_value=400))
def test_what_is_overdue_stays_so_until_it_ends(commitments: list[CommitmentRecord], days: int) -> None:
    lasting = [record for record in commitments if record.status not in {"completed", "cancelled"}]
    now = health(commitments=lasting)
    later = health(commitments=lasting, as_of=NOW + timedelta(days=days))
    assert later.overdue_commitments >= now.overdue_commitments
