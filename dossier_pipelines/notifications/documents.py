"""What the structured kinds of notifications say: their metadata, checked, in the order and the words of their reader.

A desk gives facts only, in ``metadata``: ids, titles, moments with an offset. `Deadlines` and `HearingReminder` are
what the templates of these kinds show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from dossier_pipelines.shared.clock import FIRST_YEAR, LAST_YEAR

if TYPE_CHECKING:
    from dossier_pipelines.notifications.channels.channel import OutgoingMessage
    from dossier_pipelines.notifications.languages import Language

# What could begin another line, and what could reorder the text around it.
BREAKS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
REORDERS: Final = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
UNNAMED: Final = "-"
HIGH: Final = frozenset({"high", "critical"})


class UnwritableMessageError(Exception):
    """A notification holds what no message can be made of. Says where, and never what: that may be personal."""


def one_line(text: str) -> str:
    """Return ``text`` in one line that keeps to itself."""
    return BREAKS.sub(" ", REORDERS.sub("", text)).strip()


def _in_range(moment: datetime) -> datetime:
    # Beyond of these there is no local time in every zone.
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError("the year is out of range")
    return moment


Line = Annotated[str, AfterValidator(lambda text: one_line(text) or UNNAMED)]
OptionalLine = Annotated[str | None, AfterValidator(lambda text: (text and one_line(text)) or None)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]


class DeadlineFacts(BaseModel):
    """One thing that is due."""

    type: Literal["task", "hearing"]
    id: UUID
    title: Line
    due_at: Moment
    priority: Literal["low", "medium", "high", "critical"] | None = None
    case_number: OptionalLine = None
    court: OptionalLine = None
    city: OptionalLine = None

    @property
    def is_high(self) -> bool:
        """Whether it comes first. A hearing does, unless its priority says otherwise."""
        return self.type == "hearing" if self.priority is None else self.priority in HIGH


class DeadlinesFacts(BaseModel):
    """The metadata of a notification of the kind deadlines."""

    items: Annotated[list[DeadlineFacts], Field(min_length=1)]


class HearingFacts(BaseModel):
    """The metadata of a notification of the kind hearing_reminder."""

    hearing_id: UUID
    case_id: UUID
    case_number: Line
    case_title: OptionalLine = None
    court: OptionalLine = None
    city: OptionalLine = None
    hearing_at: Moment


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """One line of a message of deadlines."""

    is_hearing: bool
    title: str
    when: str
    place: str | None
    case_number: str | None
    reschedule: str | None
    complete: str | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """The deadlines of one priority, the next one first."""

    priority: Literal["high", "normal"]
    deadlines: tuple[Deadline, ...]


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """What is due for one person, in one message."""

    sections: tuple[Section, ...]
    view_all: str | None


@dataclass(frozen=True, kw_only=True)
class HearingReminder:
    """One hearing, for one person."""

    case_number: str
    court: str
    """Also when it is not known: in words."""
    rows: tuple[tuple[str, str], ...]
    """What there is to know, each by the name of its label."""
    steps: tuple[str, ...]
    link: str | None


Facts = TypeVar("Facts", bound=BaseModel)


def _checked(model: type[Facts], metadata: Mapping[str, Any]) -> Facts:
    try:
        return model.model_validate(metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("metadata", *first["loc"]))
        raise UnwritableMessageError(f"{where} is wrong ({first['type']})") from None


def place(language: Language, court: str | None, city: str | None) -> str | None:
    """Return where something is: court and city, as far as they are known."""
    if court and city:
        return language.texts["place.both"].format(court=court, city=city)
    return court or city


def deadlines(message: OutgoingMessage, language: Language, app_url: str | None) -> Deadlines:
    """Return what is due, high priority first, by the reader's clock; days are told as of the notification's own."""
    facts = _checked(DeadlinesFacts, message.metadata)
    zone = ZoneInfo(message.timezone)
    now = message.created_at.astimezone(zone)

    def line(item: DeadlineFacts) -> Deadline:
        record = f"{app_url}/{item.type}s/{item.id}" if app_url else None
        return Deadline(
            is_hearing=item.type == "hearing",
            title=item.title,
            when=language.when(item.due_at.astimezone(zone), now=now),
            place=place(language, item.court, item.city),
            # Many a title names it.
            case_number=None if item.case_number and item.case_number in item.title else item.case_number,
            reschedule=record and f"{record}/reschedule",
            complete=record and f"{record}/complete",
        )

    ordered = sorted(facts.items, key=lambda item: (item.due_at, item.title))
    high = tuple(line(item) for item in ordered if item.is_high)
    normal = tuple(line(item) for item in ordered if not item.is_high)
    sections = (Section(priority="high", deadlines=high), Section(priority="normal", deadlines=normal))
    return Deadlines(
        sections=tuple(section for section in sections if section.deadlines),
        view_all=app_url and f"{app_url}/deadlines",
    )


def hearing_reminder(message: OutgoingMessage, language: Language, app_url: str | None) -> HearingReminder:
    """Return one hearing, by the reader's clock."""
    facts = _checked(HearingFacts, message.metadata)
    at = facts.hearing_at.astimezone(ZoneInfo(message.timezone))
    court = facts.court or language.texts["hearing_reminder.no_court"]
    rows = (
        ("number", facts.case_number),
        ("title", facts.case_title),
        ("date", language.date(at)),
        ("time", language.clock_in_zone(at)),
        ("court", court),
        ("city", facts.city),
    )
    return HearingReminder(
        case_number=facts.case_number,
        court=court,
        rows=tuple((name, value) for name, value in rows if value),
        steps=language.steps,
        link=f"{app_url}/hearings/{facts.hearing_id}" if app_url else None,
    )


DOCUMENTS: Final[Mapping[str, Callable[[OutgoingMessage, Language, str | None], Deadlines | HearingReminder]]] = {
    "deadlines": deadlines,
    "hearing_reminder": hearing_reminder,
}
