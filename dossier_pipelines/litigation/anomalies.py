"""Anomalies in daily metrics: the original rule, and a detector that knows the weekday.

Pure code over one series of consecutive days, null as nan. Where series are stored and whom a verdict is shown to
belongs elsewhere. Imports numpy, so only what runs may import this module, not what defines assets.

``PercentOffMean`` is the rule of the original product (litigation specification, "Analytics snapshot"), kept as it was.

``WeekdayRobust`` forecasts every day twice from the twelve weeks before it, and takes the forecast that fits those
better:

level
    For what is counted anew each day. The weekday's median, times a straight line through the weekly levels (the
    median of slopes of Theil 1950 and Sen 1968). Counts are taken by their square roots, in which Poisson noise is the
    same at every height (Anscombe 1948), so that a halved and a doubled day are about as far out. Noise beyond Poisson
    grows with the height of the day, as in the surveillance of infections (Farrington et al. 1996, Noufaily et al.
    2013), and is never less than Poisson.
walk
    For what is carried over from the day before, such as a number of open cases, a total that only grows, a rate over
    all time. The median of the last three days, each led on by the median steps of the weekdays in between.

Centre, slope and scale are medians: three days of the judged weekday and three others, however wrong, neither hide a
halved day nor make an anomaly of a usual one. No verdict enters a later forecast, so nothing has to be replayed.

The noise of counts has a known form; that of steps and of rates has none (decisions that come in monthly packages, a
rate of three hearings). There a day has to stand out in the series' own record too, as in conformal anomaly detection
(Laxhammar and Falkman 2014): of exchangeable days at most about one in sixty does, whatever their distribution. The
price is that three weeks with larger deviations within half a year hide a lesser one.

benchmarks/detecting.py measures both detectors. What none can do: of days of six events, halved or doubled, a fifth is
told from the others at one false alarm in sixty days, even where the true rate is known. What this one does not know:
the day of the month, and holidays. A flow with a peak on each first of the month has an anomaly on each; after a
new level there are a few false alarms more, five weeks on, while the twelve weeks are half of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

Kind = Literal["count", "rate"]
"""A number of things, 0 or more; or a share, 0 to 1. A count may be of one day or carried over: its series tells."""

WEEK: Final = 7
WEEKS: Final = 12
WINDOW: Final = WEEKS * WEEK
LEAST_WEEKS: Final = 4
"""So many days of its weekday have to be known before a day is judged."""
RECORD_WEEKS: Final = 26
DAYS_PER_ALARM: Final = 60

MEAN_DAYS: Final = 7
MEAN_SHARE: Final = 0.30
# 30 % exactly is not more than 30 %, whatever binary fractions make of it.
ROUNDING: Final = 1e-9

LIMIT: Final = 2.7
# The MAD of the normal distribution is 0.6745 of its standard deviation.
MAD_TO_DEVIATION: Final = 1.4826
# Residuals inside the weeks that a forecast was fitted to are smaller than its errors are. With this factor the errors
# of a level over white noise have the scale that is said of them; a unit test holds it to that.
FITTED_TO_FORECAST: Final = 1.2
# The walk has to be clearly better: by chance alone it seldom is, for what is counted anew each day.
CLEARLY_BETTER: Final = 0.7
# A median of the last week so far out comes by chance in one week of a thousand; else the level is a new one.
NEW_LEVEL: Final = 1.5

ANSCOMBE: Final = 3 / 8
POISSON_DEVIATION: Final = 0.5
"""Of the square root of a Poisson count."""
LEAST_LEVEL: Final = 0.1
"""A falling line is not led on below a tenth of the usual level."""
LEAST_COUNT: Final = 3.0
LEAST_RATE: Final = 0.02
RATE_DEVIATION: Final = 0.005
LEAST_SHARE_OF_LEVEL: Final = 0.10
# What is carried over moves little in a day: 2 % of a total are the work of weeks.
LEAST_SHARE_OF_STOCK: Final = 0.02

HISTORY_DAYS: Final = RECORD_WEEKS * WEEK + WINDOW + 1
"""Days before the first judged day on which a verdict can depend: the record, the weeks before it, and a step."""

_EARLIER, _LATER = np.triu_indices(WEEKS, 1)
# In weeks before the judged day: of every day of the window, and of the middle of every week.
_DAYS_AGO: Final = (np.arange(WINDOW, dtype=np.float64).reshape(WEEKS, WEEK) - WINDOW) / WEEK
_WEEKS_AGO: Final = _DAYS_AGO.mean(axis=1)


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a detector says of consecutive days; arrays of one length, numbers nan on days that were not judged."""

    expected: Floats
    """In the unit of the metric, as are ``low``, ``high`` and ``deviation``."""
    low: Floats
    high: Floats
    """A day is anomalous below ``low`` or above ``high``, not on them."""
    deviation: Floats
    """Value less expected: not a share, which nothing expected would leave without a value."""
    anomalous: Bools
    judged: Bools
    """False for a null, and where there are too few earlier days."""

    def __getitem__(self, days: slice) -> Verdicts:
        """Return the verdicts of some of the days."""
        return Verdicts(
            expected=self.expected[days],
            low=self.low[days],
            high=self.high[days],
            deviation=self.deviation[days],
            anomalous=self.anomalous[days],
            judged=self.judged[days],
        )


class Detector(Protocol):
    """Judges each day by itself and the days before it."""

    @property
    def name(self) -> str:
        """Return the name under which verdicts are stored."""
        ...

    def detect(self, values: Floats) -> Verdicts:
        """Return a verdict for each of the consecutive days; nan is null. Raise ValueError for what is no metric."""
        ...


def judge(detector: Detector, values: Floats, first: int, end: int) -> Verdicts:
    """Return the verdicts of the days ``first`` to before ``end``, the same as among those of all days.

    Args:
        detector: Either of the two.
        values: Consecutive days, shape (days,), null as nan. Of those before ``first`` the last HISTORY_DAYS are read;
            fewer are enough only where the series began later.
        first: Place of the first judged day.
        end: Place behind the last judged day.

    Raises:
        ValueError: The places are out of order or beyond the values, or the values are none of a metric.
    """
    if not 0 <= first <= end <= len(values):
        raise ValueError(f"days {first} to before {end} are not among {len(values)} values.")
    begin = max(0, first - HISTORY_DAYS)
    return detector.detect(values[begin:end])[first - begin :]


@dataclass(frozen=True)
class PercentOffMean:
    """The original rule: more than 30 % off the mean of the previous seven days.

    No verdict with fewer than seven known days before, nor for nothing after seven days of nothing. After seven days of
    nothing anything is an anomaly: it is more than any percentage off.
    """

    name: ClassVar[str] = "percent_off_mean_7d"

    def detect(self, values: Floats) -> Verdicts:
        """Return a verdict for each of the days of shape (days,); raise ValueError for infinite numbers."""
        values = _checked(values)
        mean = _before(values, MEAN_DAYS).mean(axis=1)
        allowed = MEAN_SHARE * np.abs(mean)
        beyond = np.abs(values - mean) - allowed > ROUNDING * np.abs(mean)
        return _verdicts(values, mean, mean - allowed, mean + allowed, beyond, (mean != 0) | (values != 0))


@dataclass(frozen=True)
class WeekdayRobust:
    """Knows the weekday, the trend, the noise of small counts and what is carried over; see the module.

    No verdict before four known days of the same weekday within twelve weeks. An anomaly has to be so large as well:
    three things or two points of a rate, and 10 % of what is expected of a day, 2 % of what is carried over. A new
    level is the norm after about four days, a new stock on the next.
    """

    kind: Kind

    name: ClassVar[str] = "weekday_robust"

    def detect(self, values: Floats) -> Verdicts:
        """Return a verdict for each of the days of shape (days,).

        Raises:
            ValueError: Values are infinite or negative, or a rate is above 1.
        """
        values = _checked(values)
        most = np.inf if self.kind == "count" else 1.0
        if np.any((values < 0) | (values > most)):
            raise ValueError(f"a {self.kind} is between 0 and {most}, not {np.nanmin(values)} or {np.nanmax(values)}.")
        # A null is a nan, and so is what follows from it: neither a warning nor a verdict.
        with np.errstate(invalid="ignore", divide="ignore"):
            level = _level(values, self.kind)
            walk = _walk(values, self.kind)
            carried = ~np.isnan(walk.centre) & (walk.spread <= CLEARLY_BETTER * level.spread)
            score = np.where(carried, walk.score(values), level.score(_evened(values, self.kind)))
            limit = np.where(carried | (self.kind == "rate"), np.fmax(LIMIT, _record(score)), LIMIT)
            expected = np.clip(np.where(carried, walk.centre, _metric(level.centre, self.kind)), 0, most)
            low = np.where(carried, walk.low(limit), _metric(level.low(limit), self.kind))
            high = np.where(carried, walk.high(limit), _metric(level.high(limit), self.kind))
            share = np.where(carried, LEAST_SHARE_OF_STOCK, LEAST_SHARE_OF_LEVEL)
            least = np.maximum(LEAST_COUNT if self.kind == "count" else LEAST_RATE, share * expected)
            low = np.clip(np.minimum(low, expected - least), 0, most)
            high = np.clip(np.maximum(high, expected + least), 0, most)
            beyond = (values < low) | (values > high)
        return _verdicts(values, expected, low, high, beyond, np.ones_like(beyond))


@dataclass(frozen=True, kw_only=True)
class _Forecast:
    """Of every day, from the days before; arrays of shape (days,), ``centre`` nan without enough of them."""

    centre: Floats
    other: Floats
    """A second centre: what lies between the two is as expected."""
    scale: Floats
    """Standard deviation of the forecast's error, in the unit of ``centre``."""
    spread: Floats
    """Of the residuals within the window, in the unit of the metric, to choose by."""

    def low(self, limit: Floats) -> Floats:
        """Return the end ``limit`` scales below both centres."""
        return np.minimum(self.centre, self.other) - limit * self.scale

    def high(self, limit: Floats) -> Floats:
        """Return the end ``limit`` scales above both centres."""
        return np.maximum(self.centre, self.other) + limit * self.scale

    def score(self, values: Floats) -> Floats:
        """Return by how many scales values lie beyond the centres."""
        nothing = np.zeros(1)
        return np.maximum(np.maximum(self.low(nothing) - values, values - self.high(nothing)), 0) / self.scale


def _level(values: Floats, kind: Kind) -> _Forecast:
    """Forecast each day as its weekday's median times the line through the weekly levels, in `_evened` values."""
    evened = _evened(values, kind)
    days = _before(evened, WINDOW).reshape(-1, WEEKS, WEEK)
    usual = _of_weekdays(evened)
    # Weekends on which next to nothing happens say little of the other days, neither of their level nor of their noise.
    busy = np.where(usual >= np.fmax.reduce(usual, axis=1)[:, None] / 2, 1.0, np.nan)
    weekly = _median(days * (busy / usual)[:, None, :])
    slope = np.nan_to_num(_median((weekly[:, _LATER] - weekly[:, _EARLIER]) / (_LATER - _EARLIER)))
    today = _median(weekly - slope[:, None] * _WEEKS_AGO)
    # Nothing but zeros has no level to be on: its line is flat.
    today = np.where(np.isnan(today), 1.0, today)
    line = np.maximum(today[:, None, None] + slope[:, None, None] * _DAYS_AGO, LEAST_LEVEL)
    fitted = usual[:, None, :] * line
    residuals = days - fitted
    centre = usual[:, 0] * np.maximum(today, LEAST_LEVEL)

    scale = FITTED_TO_FORECAST * _deviation((residuals * busy[:, None, :]).reshape(-1, WINDOW))
    if kind == "count":
        # Variance in excess of Poisson goes with the height of the day, as a gamma-distributed rate has it.
        height = np.nansum(usual**2 * busy, axis=1) / np.nansum(busy, axis=1)
        excess = np.fmax(scale**2 - POISSON_DEVIATION**2, 0) / height
        scale = np.sqrt(POISSON_DEVIATION**2 + excess * centre**2)
    else:
        scale = np.fmax(scale, RATE_DEVIATION)

    moved = np.abs(_median(residuals[:, -1])) > NEW_LEVEL * scale
    by = _median(days[:, -1] / fitted[:, -1])
    centre = np.where(moved & np.isfinite(by), centre * by, centre)
    return _Forecast(
        centre=np.where(_enough(days), centre, np.nan),
        other=centre,
        scale=scale,
        # The difference of two squares, of which the metric is one.
        spread=_deviation((residuals * (days + fitted) if kind == "count" else residuals).reshape(-1, WINDOW)),
    )


def _walk(values: Floats, kind: Kind) -> _Forecast:
    """Forecast each day from the last three, led on by the weekdays' median steps."""
    steps = np.diff(values, prepend=np.nan)
    step = _of_weekdays(steps)
    way = np.cumsum(step, axis=1)
    led = (np.arange(WEEKS)[:, None] * way[:, None, -1:] + way[:, None, :]).reshape(-1, WINDOW)
    level = _before(values, WINDOW) - led
    middle = _median_of_three(level[:, :-2], level[:, 1:-1], level[:, 2:])
    spread = _deviation(level[:, 3:] - middle[:, :-1])
    least = np.sqrt(np.maximum(np.abs(step[:, 0]), 1)) if kind == "count" else RATE_DEVIATION
    enough = _enough(_before(steps, WINDOW).reshape(-1, WEEKS, WEEK))
    on = led[:, -1] + step[:, 0]
    return _Forecast(
        centre=np.where(enough, middle[:, -1] + on, np.nan),
        # A stock that jumped yesterday is there to stay, or returns to where it was: neither is an anomaly today.
        other=level[:, -1] + on,
        scale=np.fmax(spread, least),
        spread=spread,
    )


def _record(score: Floats) -> Floats:
    """Return the score of each day that only one day in DAYS_PER_ALARM of the half-year before exceeded.

    Counted by the weeks' highest, so that an outage of some days is one exception of the allowed, not all of them.
    Minus infinity where nothing is known.
    """
    highest = np.fmax.reduce(_before(score, WEEK), axis=1)
    weeks = _before(np.append(highest, np.nan)[1:], RECORD_WEEKS * WEEK)[:, WEEK - 1 :: WEEK]
    known = np.count_nonzero(~np.isnan(_before(score, RECORD_WEEKS * WEEK)), axis=1)
    rank = np.maximum((known + 1) // DAYS_PER_ALARM, 1)
    ordered = np.sort(np.where(np.isnan(weeks), -np.inf, weeks), axis=1)
    return np.asarray(np.take_along_axis(ordered, RECORD_WEEKS - rank[:, None], axis=1)[:, 0])


def _checked(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"one series has one dimension, not the shape {values.shape}.")
    if np.any(np.isinf(values)):
        raise ValueError("a metric is finite; null is nan.")
    return values


def _verdicts(values: Floats, expected: Floats, low: Floats, high: Floats, beyond: Bools, meant: Bools) -> Verdicts:
    """Return the verdicts on the days ``meant`` whose value and forecast are known."""
    judged = meant & ~np.isnan(values) & ~np.isnan(expected)
    return Verdicts(
        expected=np.where(judged, expected, np.nan),
        low=np.where(judged, low, np.nan),
        high=np.where(judged, high, np.nan),
        deviation=np.where(judged, values - expected, np.nan),
        anomalous=judged & beyond,
        judged=judged,
    )


def _before(values: Floats, length: int) -> Floats:
    """Return the ``length`` days before each day, shape (days, length), nan before the first; a view."""
    padded = np.concatenate([np.full(length, np.nan), values])
    return np.lib.stride_tricks.sliding_window_view(padded, length)[:-1]


def _evened(values: Floats, kind: Kind) -> Floats:
    """Return values in the unit in which their noise does not depend on their height."""
    return np.sqrt(values + ANSCOMBE) if kind == "count" else values


def _metric(evened: Floats, kind: Kind) -> Floats:
    """Return `_evened` values in the unit of the metric again."""
    return np.maximum(evened, 0) ** 2 - ANSCOMBE if kind == "count" else evened


def _enough(days: Floats) -> Bools:
    """Say of windows of shape (days, WEEKS, WEEK) whether the weekday of the judged day is known well enough."""
    return np.asarray(np.count_nonzero(~np.isnan(days[:, :, 0]), axis=1) >= LEAST_WEEKS)


def _of_weekdays(values: Floats) -> Floats:
    """Return each weekday's median over the window before each day, (days, WEEK); the day's own weekday comes first.

    The windows of seven days in a row share these medians: each is taken once.
    """
    later = np.concatenate([values, np.full(WEEK, np.nan)])
    return np.lib.stride_tricks.sliding_window_view(_median(_before(later, WINDOW)[:, ::WEEK]), WEEK)[:-1]


def _deviation(residuals: Floats) -> Floats:
    """Return the standard deviation along the last axis by the median of absolute values."""
    return MAD_TO_DEVIATION * _median(np.abs(residuals))


def _median(values: Floats) -> Floats:
    """Return the median along the last axis of what is known; nan of nothing. numpy's own takes 7 times as long."""
    ordered = np.sort(values, axis=-1)
    known = np.count_nonzero(~np.isnan(ordered), axis=-1)[..., None]
    low = np.take_along_axis(ordered, np.maximum(known - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(known // 2, values.shape[-1] - 1), axis=-1)
    return np.asarray((low + high)[..., 0] / 2)


def _median_of_three(first: Floats, second: Floats, third: Floats) -> Floats:
    return np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), third))
