"""How days are partitions: the tenant is a column, so that a day is one partition, whoever it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dossier_pipelines.shared.environment import Settings

if TYPE_CHECKING:
    from datetime import datetime


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Return the days from DOSSIER_HISTORY_START to today: the day that ends tonight has its partition already."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.history_start.isoformat(), timezone=settings.timezone, end_offset=1
    )


def day_of(moment: datetime) -> str:
    """Return the partition of the day on which a schedule's ``moment`` falls; it comes in the schedule's own zone."""
    return moment.strftime("%Y-%m-%d")
