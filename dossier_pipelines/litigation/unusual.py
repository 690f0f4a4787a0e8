"""What is unusual in the stored metrics: each series given to both detectors, and what they find as rows to store.

Only runs may import this: it brings numpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dossier_pipelines.litigation.anomalies import HISTORY_DAYS, PercentOffMean, WeekdayRobust, judge

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dossier_pipelines.litigation.anomalies import Detector

HISTORY: Final = timedelta(days=HISTORY_DAYS)
"""How long before the first judged day the values have to begin."""
DETECTORS: Final[dict[str, tuple[Detector, ...]]] = {
    "count": (PercentOffMean(), WeekdayRobust("count")),
    "rate": (PercentOffMean(), WeekdayRobust("rate")),
}


def unusual_days(series: Iterable[sa.Row[Any]], *, from_day: date, since: date) -> list[dict[str, Any]]:
    """Return a row for each detector and day from ``since`` on that it finds unusual.

    ``series`` are rows of sql/metric_series.sql whose offsets count from ``from_day``; a day without a value, and one
    whose value is null, is no day to judge.
    """
    found = []
    for row in series:
        values = np.full(row.offsets[-1] + 1, np.nan)
        values[row.offsets] = [np.nan if value is None else value for value in row.values]
        first = min((since - from_day).days, len(values))
        for detector in DETECTORS["rate" if row.metric.endswith("_rate") else "count"]:
            verdicts = judge(detector, values, first, len(values))
            found += [
                {
                    "tenant_id": row.tenant_id,
                    "metric": row.metric,
                    "day": (from_day + timedelta(days=int(first + place))).isoformat(),
                    "detector": detector.name,
                    "value": float(values[first + place]),
                    "expected": float(verdicts.expected[place]),
                    "low": float(verdicts.low[place]),
                    "high": float(verdicts.high[place]),
                    "deviation": float(verdicts.deviation[place]),
                }
                for place in np.flatnonzero(verdicts.anomalous)
            ]
    return found
