"""Both detectors: what they may read, what they may say, what they cry at and what they bear in silence."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.detecting import DETECTORS, FAMILIES, best_recall, found, series
from dossier_pipelines.litigation.anomalies import (
    DAYS_PER_ALARM,
    HISTORY_DAYS,
    LEAST_COUNT,
    LEAST_RATE,
    LEAST_SHARE_OF_STOCK,
    LIMIT,
    MEAN_DAYS,
    WINDOW,
    Detector,
    Floats,
    Kind,
    PercentOffMean,
    Verdicts,
    WeekdayRobust,
    judge,
)

# A warning of numpy's in the log of every run would be read by nobody.
pytestmark = pytest.mark.filterwarnings("error")

PERCENT = PercentOffMean()
COUNTS = WeekdayRobust("count")
RATES = WeekdayRobust("rate")
DETECTOR_OF_KIND: list[tuple[Detector, Kind]] = [(PERCENT, "count"), (COUNTS, "count"), (RATES, "rate")]
each_detector = pytest.mark.parametrize(("detector", "kind"), DETECTOR_OF_KIND, ids=["percent", "count", "rate"])
reproducible = settings(derandomize=True, deadline=None, max_examples=60)

LONGER = HISTORY_DAYS + 90
DAYS = np.arange(LONGER)
WORKDAY = DAYS % 7 < 5
SATURDAY = 5
WEEK_OF_WORK = np.where(WORKDAY, 100.0, 20.0)


@st.composite
def metrics(draw: st.DrawFn, kind: Kind, days: int = LONGER) -> Floats:
    """A metric as one may be: flat, weekly or carried over, noisy or not, with glitches and nulls."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    height = draw(st.sampled_from([0.0, 0.3, 6.0, 100.0, 1e6]))
    week = np.array(draw(st.lists(st.sampled_from([0.0, 0.2, 1.0, 2.0]), min_size=7, max_size=7)))
    flow = random.poisson(height * week[np.arange(days) % 7]).astype(float)
    glitches = random.random(days) < draw(st.sampled_from([0.0, 0.02]))
    flow[glitches] *= draw(st.sampled_from([0.0, 2.0, 50.0]))
    values = draw(
        st.sampled_from([flow, np.cumsum(flow), np.abs(np.cumsum(flow - flow.mean()).round()), np.full(days, height)])
    )
    if kind == "rate":
        values = values / max(values.max(), 1.0)
    values[random.random(days) < draw(st.sampled_from([0.0, 0.05, 0.6]))] = np.nan
    return values


def assert_same(found: Verdicts, expected: Verdicts) -> None:
    for name in ("expected", "low", "high", "deviation", "anomalous", "judged"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def noise(rate: Floats, seed: int = 0) -> Floats:
    """Poisson counts of each day's rate."""
    return np.random.default_rng(seed).poisson(rate).astype(float)


def with_value(values: Floats, day: int, value: float) -> Floats:
    changed = values.copy()
    changed[day] = value
    return changed


# What a verdict may depend on


@each_detector
@given(data=st.data())
@reproducible
def test_a_slice_has_the_verdicts_of_the_whole(detector: Detector, kind: Kind, data: st.DataObject) -> None:
    values = data.draw(metrics(kind))
    first = data.draw(st.integers(0, len(values)))
    end = data.draw(st.integers(first, len(values)))
    assert_same(judge(detector, values, first, end), detector.detect(values)[first:end])


@each_detector
def test_a_day_alone_has_the_verdict_of_the_whole(detector: Detector, kind: Kind) -> None:
    # Noise that forgets nothing: with one day of history less, some verdict of these would be another.
    values = np.cumsum(np.random.default_rng(3).standard_t(2, LONGER).round())
    values = values - values.min()
    if kind == "rate":
        values = values / values.max()
    whole = detector.detect(values)
    for day in range(HISTORY_DAYS, LONGER):
        assert_same(judge(detector, values, day, day + 1), whole[day : day + 1])


def test_the_earliest_day_of_history_can_change_a_verdict() -> None:
    day, weeks = HISTORY_DAYS, 26
    # Three leaps in the half-year: the least of them is the record, and the first day of all is in its forecast.
    leaps = sum(np.where(day - 7 * ago <= DAYS, leap, 0) for ago, leap in [(weeks, 2_000), (14, 5_000), (7, 5_000)])
    values = 5_000 + np.cumsum(noise(WEEK_OF_WORK)) + leaps
    ranges = {judge(COUNTS, changed, day, day + 1).high[0] for changed in (values, with_value(values, 0, 4_000.0))}
    assert len(ranges) == 2


@each_detector
@given(data=st.data())
@reproducible
def test_nothing_later_changes_a_verdict(detector: Detector, kind: Kind, data: st.DataObject) -> None:
    values, other = data.draw(metrics(kind)), data.draw(metrics(kind))
    day = data.draw(st.integers(0, len(values)))
    assert_same(
        detector.detect(np.concatenate([values[:day], other[day:]]))[:day],
        detector.detect(values)[:day],
    )


@each_detector
@given(data=st.data())
@reproducible
def test_a_days_own_value_has_no_part_in_its_range(detector: Detector, kind: Kind, data: st.DataObject) -> None:
    values = data.draw(metrics(kind))
    day = data.draw(st.integers(0, len(values) - 1))
    # Not 0, of which the original rule says nothing after nothing.
    changed = with_value(values, day, data.draw(st.floats(0.01, 1)))
    ours, theirs = judge(detector, values, day, day + 1), judge(detector, changed, day, day + 1)
    if ours.judged[0]:
        assert theirs.judged[0]
        assert (ours.expected[0], ours.low[0], ours.high[0]) == (theirs.expected[0], theirs.low[0], theirs.high[0])


# What a verdict says


@each_detector
@given(data=st.data())
@reproducible
def test_verdicts_are_whole_or_not_given(detector: Detector, kind: Kind, data: st.DataObject) -> None:
    values = data.draw(metrics(kind))
    found = detector.detect(values)
    for numbers in (found.expected, found.low, found.high, found.deviation):
        np.testing.assert_array_equal(np.isnan(numbers), ~found.judged)
    assert not found.judged[np.isnan(values)].any()
    assert not found.anomalous[~found.judged].any()
    judged = found[found.judged]  # type: ignore[index]
    assert (judged.low <= judged.expected).all()
    assert (judged.expected <= judged.high).all()
    np.testing.assert_array_equal(judged.deviation, values[found.judged] - judged.expected)


@pytest.mark.parametrize("kind", ["count", "rate"])
@given(data=st.data())
@reproducible
def test_an_anomaly_lies_outside_of_a_range_of_possible_values(kind: Kind, data: st.DataObject) -> None:
    values = data.draw(metrics(kind))
    found = WeekdayRobust(kind).detect(values)
    outside = (values < found.low) | (values > found.high)
    np.testing.assert_array_equal(found.anomalous, outside)
    assert (found.low[found.judged] >= 0).all()
    assert kind == "count" or (found.high[found.judged] <= 1).all()


@each_detector
def test_a_series_of_no_days_has_no_verdicts(detector: Detector, kind: Kind) -> None:
    assert detector.detect(np.array([])).judged.shape == (0,)


@each_detector
@pytest.mark.parametrize("values", [[1.0, np.inf], [[1.0], [2.0]]], ids=["infinite", "two series"])
def test_what_is_no_series_is_refused(detector: Detector, kind: Kind, values: list[object]) -> None:
    with pytest.raises(ValueError, match=r"finite|one dimension"):
        detector.detect(np.array(values))


@pytest.mark.parametrize(("detector", "value"), [(COUNTS, -1.0), (RATES, -0.1), (RATES, 1.1)])
def test_what_the_metric_cannot_be_is_refused(detector: Detector, value: float) -> None:
    with pytest.raises(ValueError, match=f"is between 0 and .* {value}"):
        detector.detect(np.array([0.5, np.nan, value]))


@pytest.mark.parametrize(("first", "end"), [(-1, 2), (2, 1), (0, 4)])
def test_days_that_are_not_there_are_not_judged(first: int, end: int) -> None:
    with pytest.raises(ValueError, match="not among 3 values"):
        judge(PERCENT, np.ones(3), first, end)


# The original rule


@given(st.lists(st.one_of(st.integers(0, 60), st.none()), min_size=8, max_size=40))
@settings(derandomize=True, deadline=None)
def test_the_original_rule_is_exact(values: list[int | None]) -> None:
    found = PERCENT.detect(np.array([np.nan if value is None else value for value in values], dtype=float))
    for day, value in enumerate(values):
        before = [earlier for earlier in values[max(0, day - 7) : day] if earlier is not None]
        judged = len(before) == 7 and value is not None and (sum(before) > 0 or value > 0)
        assert found.judged[day] == judged
        if judged:
            mean = Fraction(sum(before), 7)
            assert found.anomalous[day] == (abs(value - mean) > Fraction(3, 10) * mean)
            assert found.expected[day] == pytest.approx(float(mean))
            assert (found.low[day], found.high[day]) == pytest.approx((float(mean) * 0.7, float(mean) * 1.3))


@pytest.mark.parametrize("mean", [0.1, 0.3, 0.7, 1.0, 1.1, 3.0, 70.0])
def test_thirty_percent_exactly_is_not_more(mean: float) -> None:
    for share, anomalous in [(0.7, False), (1.3, False), (0.699, True), (1.301, True)]:
        assert judge(PERCENT, np.array([mean] * 7 + [mean * share]), 7, 8).anomalous[0] == anomalous


def test_after_seven_days_of_nothing_anything_is_an_anomaly_and_nothing_has_no_verdict() -> None:
    something, nothing = (judge(PERCENT, np.array([0.0] * 7 + [value]), 7, 8) for value in (1.0, 0.0))
    assert (something.judged[0], something.anomalous[0], something.deviation[0]) == (True, True, 1.0)
    assert not nothing.judged[0]


def test_the_original_rule_cries_on_weekends_where_the_robust_one_is_silent() -> None:
    values = noise(WEEK_OF_WORK)
    assert PERCENT.detect(values).anomalous[WINDOW:][~WORKDAY[WINDOW:]].all()
    assert COUNTS.detect(values).anomalous[WINDOW:].mean() < 1 / DAYS_PER_ALARM


# When there is a verdict


def test_four_days_of_the_weekday_are_enough_and_three_are_not() -> None:
    np.testing.assert_array_equal(np.nonzero(COUNTS.detect(WEEK_OF_WORK[:60]).judged)[0], np.arange(28, 60))
    assert not COUNTS.detect(with_value(WEEK_OF_WORK, 0, np.nan)[:29]).judged[28]


@pytest.mark.parametrize("detector", [COUNTS, RATES])
def test_a_weekday_that_is_never_known_has_no_verdict_and_takes_none_from_others(detector: Detector) -> None:
    values = np.where(DAYS % 7 == SATURDAY, np.nan, 0.5 if detector is RATES else 100.0)
    judged = detector.detect(values).judged[WINDOW:]
    np.testing.assert_array_equal(judged, (DAYS % 7 != SATURDAY)[WINDOW:])
    assert judge(detector, with_value(values, 300, 0.0), 300, 301).anomalous[0]


def test_what_was_null_is_judged_when_it_is_known() -> None:
    values = noise(WEEK_OF_WORK)
    values[150:160] = np.nan
    found = COUNTS.detect(values)
    assert found.judged[160:].all()
    assert judge(COUNTS, with_value(values, 160, 300.0), 160, 161).anomalous[0]


# What is borne in silence


@given(st.integers(0, 10**9))
@reproducible
def test_a_constant_is_silent(value: int) -> None:
    assert not COUNTS.detect(np.full(LONGER, float(value))).anomalous.any()
    assert not RATES.detect(np.full(LONGER, value / 10**9)).anomalous.any()


@given(st.floats(0.1, 0.9), st.lists(st.floats(-1e-4, 1e-4), min_size=29, max_size=100))
@reproducible
def test_a_rate_that_moves_by_a_ten_thousandth_a_day_is_silent(start: float, steps: list[float]) -> None:
    assert not RATES.detect(start + np.cumsum(steps)).anomalous.any()


@given(st.floats(0.992, 1.008), st.integers(200, 10_000))
@reproducible
def test_a_steady_trend_is_silent(daily: float, height: int) -> None:
    assert not COUNTS.detect(np.round(height * daily**DAYS)).anomalous.any()


@given(st.lists(st.integers(0, 300), min_size=7, max_size=7), st.integers(0, 10**6))
@reproducible
def test_a_total_that_grows_by_its_week_is_silent(week: list[int], start: int) -> None:
    assert not COUNTS.detect(start + np.cumsum(np.resize(week, LONGER)).astype(float)).anomalous.any()


@pytest.mark.parametrize(("kind", "least"), [("count", LEAST_COUNT), ("rate", LEAST_RATE)])
@given(data=st.data())
@reproducible
def test_a_small_change_is_no_anomaly(kind: Kind, least: float, data: st.DataObject) -> None:
    found = WeekdayRobust(kind).detect(data.draw(metrics(kind)))
    small = np.abs(found.deviation) <= np.fmax(least, LEAST_SHARE_OF_STOCK * found.expected) - 1e-9
    assert not found.anomalous[small].any()


@given(st.integers(0, 2**32))
@reproducible
def test_a_stock_that_comes_in_packages_is_silent_at_one_like_the_last(seed: int) -> None:
    random = np.random.default_rng(seed)
    packages = np.where(DAYS % 30 == 17, 40 - np.arange(LONGER) // 30 + random.integers(0, 2, LONGER), 0)
    found = COUNTS.detect(300.0 + np.cumsum(packages))
    # Half a year without a larger one, whatever the days between them were like.
    assert not found.anomalous[100:].any()
    more = np.cumsum(with_value(packages.astype(float), 317, 400.0)) + 300.0
    assert judge(COUNTS, more, 317, 318).anomalous[0]


def test_a_rate_of_few_hearings_cries_no_more_often_than_allowed() -> None:
    days = 2_000
    alarms = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = RATES.detect(random.binomial(5, 0.7, days) / 5)
        alarms.append(found.anomalous[HISTORY_DAYS:].mean())
    assert np.mean(alarms) <= 1 / DAYS_PER_ALARM


# What is found


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("weekend", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("daily", [0.995, 1.0, 1.005])
def test_a_halved_and_a_doubled_day_are_found(factor: float, weekend: float, daily: float) -> None:
    values = noise(np.where(WORKDAY, 1.0, weekend) * 400 * daily**DAYS)
    found = COUNTS.detect(values)
    # A day's own value has no part in its range: each is tried as if it alone were changed.
    caught = (factor * values < found.low) | (factor * values > found.high)
    assert caught[WINDOW:][WORKDAY[WINDOW:]].mean() > 0.97


def test_a_busy_weekend_is_found_though_less_than_a_weekday() -> None:
    found = judge(COUNTS, with_value(noise(WEEK_OF_WORK), 306, 70.0), 306, 307)
    assert found.anomalous[0]
    assert found.expected[0] == pytest.approx(20, abs=6)
    assert found.deviation[0] == 70.0 - found.expected[0]


@pytest.mark.parametrize(("detector", "usual", "other"), [(COUNTS, 40.0, 30.0), (RATES, 0.85, 0.80)])
def test_a_move_of_what_never_moved_is_found(detector: Detector, usual: float, other: float) -> None:
    values = with_value(np.full(LONGER, usual), 300, other)
    assert np.nonzero(detector.detect(values).anomalous)[0].tolist() == [300]


def test_a_rate_may_move_by_two_points_and_not_by_more() -> None:
    for move, anomalous in [(LEAST_RATE - 0.001, False), (LEAST_RATE + 0.001, True)]:
        assert judge(RATES, with_value(np.full(LONGER, 0.5), 300, 0.5 + move), 300, 301).anomalous[0] == anomalous


def test_a_leap_of_a_total_is_found_once_whether_it_stays_or_goes() -> None:
    total = 5_000 + np.cumsum(noise(WEEK_OF_WORK))
    silent = COUNTS.detect(total).anomalous
    assert not silent[300:310].any()
    stays, goes = total + np.where(DAYS >= 300, 1_000, 0), total + np.where(DAYS == 300, 1_000, 0)
    for values in (stays, goes):
        assert np.nonzero(COUNTS.detect(values).anomalous[300:310])[0].tolist() == [0]


@pytest.mark.parametrize("factor", [1 / 3, 3.0])
def test_a_new_level_is_the_norm_after_four_days(factor: float) -> None:
    alarms = [
        COUNTS.detect(noise(np.where(DAYS < 252, 1.0, factor) * WEEK_OF_WORK, seed)).anomalous for seed in range(20)
    ]
    shares = np.mean(alarms, axis=0)
    assert (shares[252:256] > 0.9).all()
    assert shares[256:266].mean() < 0.05


FACTORS = st.sampled_from([0.0, 0.5, 3.0, 100.0])


@given(
    st.dictionaries(st.integers(1, 12).map(lambda weeks: 7 * weeks), FACTORS, max_size=3),
    st.dictionaries(st.integers(1, WINDOW).filter(lambda days: days % 7), FACTORS, max_size=3),
    st.integers(0, 6),
)
@reproducible
def test_earlier_anomalies_neither_hide_one_nor_make_one(
    of_weekday: dict[int, float], of_others: dict[int, float], weekday: int
) -> None:
    day = 294 + weekday
    values = noise(np.full(LONGER, 400.0), seed=1)
    for ago, factor in (of_weekday | of_others).items():
        values[day - ago] *= factor
    # The range of the day, whatever its own value.
    found = judge(COUNTS, values, day, day + 1)
    assert found.low[0] < 400 < found.high[0]
    assert found.low[0] > 200
    assert found.high[0] < 800


# The figures


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_one_false_alarm_in_sixty_days_and_most_halved_and_doubled_days_are_found(family: str) -> None:
    rate = FAMILIES[family]
    figures = found(COUNTS, rate, seeds=60)
    assert figures["false_alarms_a_day"] <= 1 / DAYS_PER_ALARM
    # Of six things a day no detector finds as many; this one finds over half of what is possible.
    assert figures["recall"] >= min(0.75, 0.55 * best_recall(rate.mean()))


def test_errors_have_the_scale_that_is_said_of_them() -> None:
    scores = []
    for values in series(np.full(600, 10_000.0), 30):
        found = COUNTS.detect(values)
        low, high, expected, value = (
            np.sqrt(numbers + 3 / 8)[WINDOW:] for numbers in (found.low, found.high, found.expected, values)
        )
        scores.append((value - expected) / ((high - low) / (2 * LIMIT)))
    assert 1.4826 * np.median(np.abs(scores)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("rate", "allowed"), [(6.0, 1 / 60), (100.0, 1 / 60), (100.0, 0.2)], ids=["few", "many", "often"]
)
def test_no_range_around_the_truth_is_better_than_the_best_possible(rate: float, allowed: float) -> None:
    counts = next(series(np.full(100_000, rate), 1))
    best = best_recall(rate, allowed)
    for share in np.linspace(0, 1, 21):
        low, high = np.quantile(counts, [allowed * share, 1 - allowed * (1 - share)])
        recall = np.mean([((factor * counts < low) | (factor * counts > high)).mean() for factor in (0.5, 2.0)])
        assert recall <= best + 0.01


def test_the_detectors_have_the_names_under_which_verdicts_are_stored() -> None:
    assert [detector.name for detector in DETECTORS] == ["percent_off_mean_7d", "weekday_robust"]
    assert MEAN_DAYS == 7
