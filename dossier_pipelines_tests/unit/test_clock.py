"""Moments: what a person writes names one moment, or is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.failures import SettingError, UserError

RIYADH = ZoneInfo("Asia/Riyadh")
BRUSSELS = ZoneInfo("Europe/Brussels")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-04-29", utc(2020, 4, 28, 21)),
        ("20200429", utc(2020, 4, 28, 21)),
        ("2020-04-29T12:30", utc(2020, 4, 29, 9, 30)),
        ("2020-04-29 12:30:15", utc(2020, 4, 29, 9, 30, 15)),
        ("2020-04-29T12:30:15.5", utc(2020, 4, 29, 9, 30, 15, 500_000)),
        ("2020-04-29T12:00:00+03:00", utc(2020, 4, 29, 9)),
        ("2020-04-29T12:00:00-05:30", utc(2020, 4, 29, 17, 30)),
        ("2020-04-29T09:00:00Z", utc(2020, 4, 29, 9)),
        ("  2020-04-29T09:00:00Z\n", utc(2020, 4, 29, 9)),
        ("2020-02-29", utc(2020, 2, 28, 21)),
    ],
)
def test_iso_8601_names_a_moment_and_without_an_offset_it_is_local_time(text: str, moment: datetime) -> None:
    parsed = parse_moment(text, timezone=RIYADH, argument="--as-of")
    assert parsed == moment
    assert parsed.tzinfo is not None


def test_local_time_follows_the_season() -> None:
    for text, offset in (("2024-01-15", "+0100"), ("2024-07-15", "+0200")):
        assert f"{parse_moment(text, timezone=BRUSSELS, argument='--as-of'):%z}" == offset


@pytest.mark.parametrize(
    "text", ["", "yesterday", "29.04.2020", "2020-4-29", "2020-02-30", "2021-02-29", "2020-04-29T25:00", "1588118400"]
)
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_moment(text, timezone=RIYADH, argument="--as-of")
    assert str(caught.value).startswith(f"--as-of is {text!r}, which is no ISO 8601 date or time.")
    assert "2020-04-29T12:00:00+03:00" in str(caught.value)


@pytest.mark.parametrize("text", ["0001-01-01", "0204-04-29", "9999-12-31T23:59:59Z"])
def test_a_moment_that_no_record_can_have_is_taken_for_a_slip(text: str) -> None:
    with pytest.raises(UserError, match="between 1900 and 2199"):
        parse_moment(text, timezone=RIYADH, argument="--as-of")


def test_a_zone_is_found_by_its_iana_name() -> None:
    assert zone("Asia/Riyadh", setting="DOSSIER_TIMEZONE") == RIYADH


@pytest.mark.parametrize(
    "name", ["", "Riyadh", "Mars/Phobos", "Asia", "../etc/passwd", "/etc/localtime", "+03:00", "x" * 999]
)
def test_what_is_no_zone_is_refused_by_the_name_of_the_setting(name: str) -> None:
    with pytest.raises(SettingError) as caught:
        zone(name, setting="DOSSIER_TIMEZONE")
    assert str(caught.value).startswith(f"DOSSIER_TIMEZONE is {name!r}, which is no IANA time zone.")
