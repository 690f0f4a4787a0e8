"""Moments and time zones: the only place that turns what a person wrote into a moment.

Nothing here reads the clock: the moment of a calculation is an argument (architecture, decision 5).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dossier_pipelines.shared.failures import SettingError, UserError

# Outside of these a year is a slip of the pen, and what is computed from it leaves the range of a date.
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2199


def zone(name: str, *, setting: str) -> ZoneInfo:
    """Return the IANA time zone ``name``; raise SettingError naming ``setting`` when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingError(
            f"{setting} is {name!r}, which is no IANA time zone. Use a name such as Asia/Riyadh or Europe/Brussels."
        ) from error


def parse_moment(text: str, *, timezone: ZoneInfo, argument: str) -> datetime:
    """Return the moment that ``text`` names, always with an offset.

    ISO 8601. Without an offset it is local time in ``timezone``; a date alone is the midnight that starts it.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(
            f"{argument} is {text!r}, which is no ISO 8601 date or time. "
            "Write it like 2020-04-29, 2020-04-29T12:00:00+03:00 or 2020-04-29T09:00:00Z."
        ) from error
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise UserError(f"{argument} is {text!r}; the year must lie between {FIRST_YEAR} and {LAST_YEAR}.")
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone)


def parse_day(text: str, *, argument: str) -> date:
    """Return the day that ``text`` names; raise UserError when it names none."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(f"{argument} is {text!r}, which is no day. Write it like 2019-12-31.") from error
