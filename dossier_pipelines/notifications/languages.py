"""The languages that people are written to in: their texts, their direction, and how they say when something is.

Texts are in templates/catalog.<language>.toml; dates, times and the names of zones are those of CLDR, by way of Babel.
Whoever reads a language without a catalog gets English. Adding one: write its catalog, with every plural form that CLDR
has for it, and name it in LANGUAGES.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime, format_skeleton, get_timezone_name
from markupsafe import Markup, escape

LANGUAGES: Final = ("en", "ar")
# Letters that are written from right to left: Hebrew to Arabic Extended-A, the presentation forms, the later planes.
RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
# First strong isolate and its end (Unicode Standard Annex 9): what lies between does not reorder what is around it.
ISOLATE: Final = "\u2068"
END_OF_ISOLATE: Final = "\u2069"
# CLDR sets times with spaces that some programs show as a box.
UNUSUAL_SPACES: Final = str.maketrans("\u202f\u00a0", "  ")


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language, in the customs of one country."""

    code: str
    locale: Locale
    texts: Mapping[str, str] = field(repr=False)
    steps: tuple[str, ...] = field(repr=False)
    """What one prepares for a hearing."""

    @property
    def direction(self) -> str:
        """Say ltr or rtl."""
        return self.texts["direction"]

    @property
    def start(self) -> str:
        """The side where a line begins: left or right. Mail programs do not know the word start."""
        return "right" if self.direction == "rtl" else "left"

    def clock(self, moment: datetime) -> str:
        """Return a local moment's time of day."""
        pattern = self.locale.time_formats["short"].pattern
        return format_datetime(moment, pattern, locale=self.locale).translate(UNUSUAL_SPACES)

    def clock_in_zone(self, moment: datetime) -> str:
        """Return a local moment's time of day and the name of its zone."""
        zone = get_timezone_name(moment, width="long", locale=self.locale)
        return self.texts["time.in_zone"].format(time=self.clock(moment), zone=zone)

    def date(self, moment: datetime) -> str:
        """Return a local moment's date, with the day of the week."""
        pattern = self.locale.date_formats["full"].pattern
        return format_datetime(moment, pattern, locale=self.locale).translate(UNUSUAL_SPACES)

    def when(self, moment: datetime, *, now: datetime) -> str:
        """Return a local moment in words, as they are used at ``now``: Today 5:00 PM."""
        distance = (moment.date() - now.date()).days
        key = {-1: "day.yesterday", 0: "day.today", 1: "day.tomorrow"}.get(distance, "day.other")
        skeleton = "MMMEd" if moment.year == now.year else "yMMMEd"
        date = format_skeleton(skeleton, moment, locale=self.locale).translate(UNUSUAL_SPACES)
        return self.texts[key].format(date=date, time=self.clock(moment))


@functools.lru_cache(maxsize=512)
def language(name: str) -> Language:
    """Return the language of a locale such as ar, ar-SA or en_GB: English for what is none, or has no catalog."""
    tag = name.strip().replace("-", "_").partition(".")[0]
    code = tag.partition("_")[0].lower()
    if code not in LANGUAGES:
        return language("en")
    try:
        locale = Locale.parse(tag)
    except (UnknownLocaleError, ValueError):
        locale = Locale(code)
    texts, steps = _catalog(code)
    return Language(code=code, locale=locale, texts=texts, steps=steps)


@functools.cache
def _catalog(code: str) -> tuple[Mapping[str, str], tuple[str, ...]]:
    file = resources.files(__package__).joinpath("templates", f"catalog.{code}.toml")
    catalog = tomllib.loads(file.read_text(encoding="utf-8"))
    steps = catalog["hearing_reminder"].pop("steps")
    return dict(_flat(catalog)), tuple(steps)


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


@dataclass(frozen=True)
class Plain:
    """How a text part and a subject speak: values keep their own direction by isolates, where it could be another."""

    language: Language

    def apart(self, value: object) -> str:
        """Return a value that does not reorder the text around it."""
        text = str(value)
        if self.language.direction == "ltr" and not RIGHT_TO_LEFT.search(text):
            return text
        return f"{ISOLATE}{text}{END_OF_ISOLATE}"

    def say(self, key: str, **values: object) -> str:
        """Return a text of the catalog with its values."""
        return self.language.texts[key].format(**{name: self.apart(value) for name, value in values.items()})

    def count(self, key: str, number: int, **values: object) -> str:
        """Return a text of the catalog in the plural form of ``number``."""
        return self.say(f"{key}.{self.language.locale.plural_form(number)}", count=number, **values)


@dataclass(frozen=True)
class Html:
    """How an HTML part speaks: everything is escaped, and every value in an element of its own."""

    language: Language

    def apart(self, value: object) -> Markup:
        """Return a value that does not reorder the text around it."""
        return Markup("<bdi>{}</bdi>").format(value)

    def say(self, key: str, **values: object) -> Markup:
        """Return a text of the catalog with its values."""
        return escape(self.language.texts[key]).format(**{name: self.apart(value) for name, value in values.items()})

    def count(self, key: str, number: int, **values: object) -> Markup:
        """Return a text of the catalog in the plural form of ``number``."""
        return self.say(f"{key}.{self.language.locale.plural_form(number)}", count=number, **values)
