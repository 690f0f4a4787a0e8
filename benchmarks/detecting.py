"""Detecting: how often each detector cries for nothing, and how many halved and doubled days it finds.

Five families of daily counts, Poisson around a rate that varies by 14 % (a negative binomial). All seeds are fixed: the
figures, but for the seconds, are the same on every machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dossier_pipelines.litigation.anomalies import DAYS_PER_ALARM, WEEK, Detector, PercentOffMean, WeekdayRobust

Floats = npt.NDArray[np.float64]

SEEDS: Final = 400
WARM_UP: Final = 60
JUDGED: Final = 140
DAYS: Final = np.arange(WARM_UP + JUDGED)
WEEKDAYS: Final = DAYS % WEEK < 5
SHAPE: Final = 50
"""Of the gamma distribution of the rate: its deviation is 1 / sqrt(50), 14 % of its mean."""
FAMILIES: Final[dict[str, Floats]] = {
    "weekday 100, weekend 20": np.where(WEEKDAYS, 100.0, 20.0),
    "weekday 100, weekend 0": np.where(WEEKDAYS, 100.0, 0.0),
    "flat 100": np.full(len(DAYS), 100.0),
    "small counts, 6": np.full(len(DAYS), 6.0),
    "weekday 100, weekend 20, +0.5 % a day": np.where(WEEKDAYS, 100.0, 20.0) * 1.005**DAYS,
}
DETECTORS: Final[tuple[Detector, ...]] = (PercentOffMean(), WeekdayRobust("count"))
HALVED: Final = 0.5
DOUBLED: Final = 2.0
# As long as the sample's history, and as many series: 28 tenants with six metrics.
LONG: Final = 6_694
SERIES: Final = 168


def series(rate: Floats, seeds: int) -> Iterator[Floats]:
    """Yield one series of a family per seed."""
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        yield random.poisson(rate * random.gamma(SHAPE, 1 / SHAPE, len(rate))).astype(np.float64)


def found(detector: Detector, rate: Floats, seeds: int) -> dict[str, float]:
    """Return the false alarms a day, and the shares of weekdays found if halved and if doubled.

    A day's own value has no part in its range, so every weekday is a trial of its own against the range that it has.
    """
    alarms: list[float] = []
    recall: dict[float, list[float]] = {HALVED: [], DOUBLED: []}
    for values in series(rate, seeds):
        verdicts = detector.detect(values)[WARM_UP:]
        alarms.append(float(verdicts.anomalous.mean()))
        for factor, shares in recall.items():
            changed = factor * values[WARM_UP:]
            beyond = (changed < verdicts.low) | (changed > verdicts.high)
            shares.append(float(beyond[WEEKDAYS[WARM_UP:]].mean()))
    halved, doubled = (float(np.mean(shares)) for shares in recall.values())
    return {
        "false_alarms_a_day": float(np.mean(alarms)),
        "recall_halved": halved,
        "recall_doubled": doubled,
        "recall": (halved + doubled) / 2,
    }


def best_recall(rate: float, false_alarms: float = 1 / DAYS_PER_ALARM) -> float:
    """Return the share of halved and doubled days that the best range finds, where the day's distribution is known.

    The most powerful test by a range (Neyman and Pearson): each way of sharing the false alarms between few and many is
    tried, and a count at an end is an alarm with the probability that spends them exactly.
    """
    chance = np.array(
        [
            math.exp(
                math.lgamma(count + SHAPE)
                - math.lgamma(count + 1)
                - math.lgamma(SHAPE)
                + SHAPE * math.log(SHAPE / (SHAPE + rate))
                + count * math.log(rate / (SHAPE + rate))
            )
            for count in range(int(4 * rate + 60))
        ]
    )
    counts = np.arange(len(chance))
    shares = np.linspace(0, 1, 101)
    return max(
        float(
            np.mean(
                [
                    chance @ _alarm(chance, false_alarms * share, factor * counts)
                    + chance @ _alarm(chance[::-1], false_alarms * (1 - share), counts[-1] - factor * counts)
                    for factor in (HALVED, DOUBLED)
                ]
            )
        )
        for share in shares
    )


def _alarm(chance: Floats, allowed: float, values: Floats) -> Floats:
    """Return the probability of an alarm at each of ``values``, where so much of the lower end is ``allowed``."""
    upto = np.cumsum(chance)
    edge = int(np.searchsorted(upto, allowed))
    at_edge = 1 - (upto[edge] - allowed) / chance[edge]
    return np.where(values < edge, 1.0, np.where(values == edge, at_edge, 0.0))


def measure_detecting(seeds: int = SEEDS) -> dict[str, Any]:
    """Return the figures of every family and detector, and the processor time of a long series, the middle of five."""
    families = [
        {
            "family": family,
            "detector": detector.name,
            **found(detector, rate, seeds),
            "best_recall": best_recall(float(rate[WARM_UP:][WEEKDAYS[WARM_UP:]].mean())),
        }
        for family, rate in FAMILIES.items()
        for detector in DETECTORS
    ]
    values = next(series(np.full(LONG, 100.0), 1))
    seconds = {}
    for detector in DETECTORS:
        taken = []
        for _ in range(5):
            began = time.process_time()
            detector.detect(values)
            taken.append(time.process_time() - began)
        seconds[detector.name] = sorted(taken)[2]
    return {"seeds": seeds, "days": JUDGED, "families": families, "long_series_s": seconds}


def detecting_table(figures: dict[str, Any]) -> str:
    """Return the figures of `measure_detecting` as a table in markdown."""
    head = [
        "| family | detector | false alarms a day | recall, halved | recall, doubled | recall, both | best possible |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    rows = [
        f"| {row['family']} | {row['detector']} | {row['false_alarms_a_day']:.4f} | {row['recall_halved']:.2f} "
        f"| {row['recall_doubled']:.2f} | {row['recall']:.2f} | {row['best_recall']:.2f} |"
        for row in figures["families"]
    ]
    seconds = ", ".join(f"{name} {taken * SERIES:.1f} s" for name, taken in figures["long_series_s"].items())
    return "\n".join(
        [
            *head,
            *rows,
            "",
            f"{figures['seeds']} series a family, {figures['days']} judged days each. Best possible: a range around a "
            f"known distribution at one false alarm in {DAYS_PER_ALARM} days. {SERIES} series of {LONG:,} days would "
            f"take: {seconds}.",
        ]
    )


if __name__ == "__main__":
    print(detecting_table(measure_detecting()))
