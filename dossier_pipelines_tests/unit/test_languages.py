"""Languages: every catalog says the same things, and a moment is told by the reader's own clock and customs."""

from __future__ import annotations

import re
import string
import tomllib
from datetime import datetime
from importlib import resources
from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_pipelines.notifications.languages import LANGUAGES, Html, Plain, language

PLURALS = {"zero", "one", "two", "few", "many", "other"}


def catalog(code: str) -> dict[str, object]:
    file = resources.files("dossier_pipelines.notifications") / "templates" / f"catalog.{code}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def keys(code: str) -> set[str]:
    """The keys of a catalog, those of plural forms without their form."""
    return {re.sub(rf"\.({'|'.join(PLURALS)})$", "", key) for key in language(code).texts}


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_catalog_says_the_same_things_with_the_same_values(code: str) -> None:
    english = language("en")
    assert keys(code) == keys("en")
    assert len(language(code).steps) == len(english.steps)
    for key, text in language(code).texts.items():
        if key in english.texts:
            # A plural form may be a word of its own, without the number.
            assert blanks(text) | {"count"} == blanks(english.texts[key]) | {"count"}, key
        assert text == text.strip() != ""


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_plural_has_every_form_of_its_language(code: str) -> None:
    table = catalog(code)["digest"]
    assert isinstance(table, dict)
    assert set(table["subject"]) == {*Locale(code).plural_form.tags, "other"}


def test_every_catalog_that_there_is_is_named() -> None:
    folder = resources.files("dossier_pipelines.notifications") / "templates"
    found = {file.name.split(".")[1] for file in folder.iterdir() if file.name.startswith("catalog.")}
    assert found == set(LANGUAGES)


@pytest.mark.parametrize(
    ("name", "code", "locale"),
    [
        ("en", "en", "en"),
        ("en-GB", "en", "en_GB"),
        ("ar", "ar", "ar"),
        ("ar-SA", "ar", "ar_SA"),
        ("ar_AE.UTF-8", "ar", "ar_AE"),
        (" AR ", "ar", "ar"),
        ("ar-Nowhere-land", "ar", "ar"),
        ("de", "en", "en"),
        ("arn", "en", "en"),
        ("", "en", "en"),
        ("-", "en", "en"),
        ("../../etc/passwd", "en", "en"),
        ("x" * 5000, "en", "en"),
    ],
)
def test_a_locale_names_a_language_and_its_customs_or_english(name: str, code: str, locale: str) -> None:
    found = language(name)
    assert (found.code, str(found.locale)) == (code, locale)


@settings(deadline=None)
@given(st.text())
def test_no_locale_that_somebody_wrote_stops_a_message(name: str) -> None:
    assert language(name).code in LANGUAGES
    assert language(f"ar-{name}").code in LANGUAGES


KOLKATA = ZoneInfo("Asia/Kolkata")
MORNING = datetime(2025, 6, 11, 9, tzinfo=KOLKATA)


@pytest.mark.parametrize(
    ("name", "moment", "words"),
    [
        ("en", "2025-06-11 17:00", "Today 5:00 PM"),
        ("en", "2025-06-12 10:30", "Tomorrow 10:30 AM"),
        ("en", "2025-06-11 00:00", "Today 12:00 AM"),
        ("en", "2025-06-11 12:00", "Today 12:00 PM"),
        ("en", "2025-06-10 23:59", "Yesterday 11:59 PM"),
        ("en", "2025-06-13 09:05", "Fri, Jun 13 9:05 AM"),
        ("en", "2026-01-02 09:05", "Fri, Jan 2, 2026 9:05 AM"),
        ("en-GB", "2025-06-11 17:00", "Today 17:00"),
        ("ar-SA", "2025-06-11 17:00", "اليوم 5:00 م"),
        ("ar", "2025-06-12 10:30", "غدًا 10:30 ص"),
        ("ar", "2025-06-10 10:30", "أمس 10:30 ص"),
    ],
)
def test_a_moment_is_told_in_words_relative_to_the_readers_day(name: str, moment: str, words: str) -> None:
    local = datetime.fromisoformat(moment).replace(tzinfo=KOLKATA)
    assert language(name).when(local, now=MORNING) == words


def test_the_day_after_the_clocks_change_is_tomorrow() -> None:
    brussels = ZoneInfo("Europe/Brussels")
    evening = datetime(2025, 3, 29, 23, 30, tzinfo=brussels)
    assert language("en").when(datetime(2025, 3, 30, 3, 0, tzinfo=brussels), now=evening) == "Tomorrow 3:00 AM"


def test_a_date_has_its_day_of_the_week_and_a_time_the_name_of_its_zone() -> None:
    moment = datetime(2025, 6, 12, 10, 30, tzinfo=ZoneInfo("Asia/Riyadh"))
    english, arabic = language("en"), language("ar-SA")
    assert english.date(moment) == "Thursday, June 12, 2025"
    assert english.clock_in_zone(moment) == "10:30 AM (Arabian Standard Time)"
    assert arabic.date(moment) == "الخميس، 12 يونيو 2025"
    assert arabic.clock_in_zone(moment) == "10:30 ص (التوقيت العربي الرسمي)"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "لا إشعارات أخرى"),
        (1, "إشعار آخر"),
        (2, "إشعاران آخران"),
        (3, "\u20683\u2069 إشعارات أخرى"),
        (11, "\u206811\u2069 إشعارًا آخر"),
        (100, "\u2068100\u2069 إشعار آخر"),
    ],
)
def test_arabic_counts_in_six_forms(number: int, words: str) -> None:
    said = Plain(language("ar")).count("digest.subject", number, day="2025-06-11")
    assert said == f"{words} ليوم \u20682025-06-11\u2069"


def test_a_value_is_set_apart_where_its_direction_could_be_another() -> None:
    english, arabic = Plain(language("en")), Plain(language("ar"))
    assert english.apart("2024-0123") == "2024-0123"
    assert english.apart("قضية 2024-0123") == "\u2068قضية 2024-0123\u2069"
    assert arabic.apart("2024-0123") == "\u20682024-0123\u2069"
    assert Html(language("en")).apart("<b>") == "<bdi>&lt;b&gt;</bdi>"


@given(value=st.text())
def test_a_value_that_looks_like_a_text_with_blanks_is_a_value(value: str) -> None:
    said = Plain(language("en")).say("deadlines.case", number=f"{{number}}{value}{{0.__class__}}")
    assert f"{{number}}{value}{{0.__class__}}" in said
