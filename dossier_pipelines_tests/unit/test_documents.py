"""Deadlines and hearing reminders: what a person reads of them, in both languages, whatever the data holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default as email_policy
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dossier_pipelines.notifications.channels.channel import OutgoingMessage
from dossier_pipelines.notifications.documents import UnwritableMessageError, one_line
from dossier_pipelines.notifications.rendering import Rendered, mail, render, template_values
from dossier_pipelines_tests.outbox import DEADLINES, HEARING, RECORD, SENDER, outgoing
from dossier_pipelines_tests.unit.test_rendering import HEADERS, TEXTS

APP = "https://desk.example"
MORNING = datetime(2025, 6, 11, 5, 30, tzinfo=UTC)
LOCALES = ("en", "ar-SA")
# What sets apart, and what cannot be seen.
INVISIBLE = re.compile("[\u2066-\u2069]")


def deadlines(*items: Mapping[str, Any], **fields: Any) -> OutgoingMessage:
    """A message of deadlines: the usual ones, or the first of them changed as each of ``items`` says."""
    metadata = {"items": [{**DEADLINES["items"][0], **item} for item in items]} if items else DEADLINES
    given = {"timezone": "Asia/Riyadh", "created_at": MORNING, **fields}
    return outgoing(kind="deadlines", metadata=metadata, **given)


def hearing(*, changed: Mapping[str, Any] | None = None, **fields: Any) -> OutgoingMessage:
    given = {"timezone": "Asia/Riyadh", "created_at": MORNING, **fields}
    return outgoing(kind="hearing_reminder", metadata={**HEARING, **(changed or {})}, **given)


class Page(HTMLParser):
    """The tags, the links and the lines of text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[Any, ...]]] = []
        self.links: list[str] = []
        self.others: list[str] = []
        self.said = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attributes)))
        self.links += [value or "" for name, value in attributes if name == "href"]

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_endtag(self, tag: str) -> None:
        self.said += " " if tag == "td" else ""

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    @property
    def words(self) -> list[str]:
        return INVISIBLE.sub("", self.said).split()


def text_words(rendered: Rendered) -> list[str]:
    return INVISIBLE.sub("", rendered.text).split()


# --- deadlines --------------------------------------------------------------------------------------------------


def test_deadlines_are_one_message_with_high_priority_first_and_the_next_one_first() -> None:
    rendered = render(deadlines())
    assert rendered.subject == "📋 Your Upcoming Deadlines (Next 24 Hours)"
    assert rendered.text.splitlines() == [
        "Your Upcoming Deadlines - Next 24 Hours",
        "",
        "HIGH PRIORITY:",
        "• [Task] Submit Reply to ASMT-10 Notice - Due: Today 5:00 PM",
        "• [Hearing] GST Appeal at GSTAT, Ahmedabad - Tomorrow 10:30 AM (Case 2024-0123)",
        "",
        "NORMAL PRIORITY:",
        "• [Task] Prepare hearing documents - Due: Tomorrow 2:00 PM (Case 456)",
    ]


def test_deadlines_in_arabic_are_read_from_right_to_left_and_keep_latin_numbers_apart() -> None:
    rendered = render(deadlines(locale="ar-SA"))
    assert rendered.subject == "📋 مواعيدكم النهائية القادمة (خلال 24 ساعة)"
    lines = rendered.text.splitlines()
    assert lines[2] == "أولوية عالية:"
    assert lines[3] == "• [مهمة] \u2068Submit Reply to ASMT-10 Notice\u2069 - الاستحقاق: \u2068اليوم 5:00 م\u2069"
    assert lines[4] == (
        "• [جلسة] \u2068GST Appeal\u2069 في \u2068GSTAT، Ahmedabad\u2069 - \u2068غدًا 10:30 ص\u2069 "
        "(القضية \u20682024-0123\u2069)"
    )
    page = Page(rendered.html)
    assert page.tags[0] == ("html", (("lang", "ar"), ("dir", "rtl")))
    assert "<bdi>2024-0123</bdi>" in rendered.html


@pytest.mark.parametrize(
    ("item", "section"),
    [
        ({"type": "task", "priority": "critical"}, "HIGH PRIORITY"),
        ({"type": "task", "priority": "high"}, "HIGH PRIORITY"),
        ({"type": "task", "priority": "medium"}, "NORMAL PRIORITY"),
        ({"type": "task", "priority": "low"}, "NORMAL PRIORITY"),
        ({"type": "task", "priority": None}, "NORMAL PRIORITY"),
        ({"type": "hearing", "priority": None}, "HIGH PRIORITY"),
        ({"type": "hearing", "priority": "high"}, "HIGH PRIORITY"),
        ({"type": "hearing", "priority": "low"}, "NORMAL PRIORITY"),
    ],
)
def test_a_section_that_would_be_empty_is_left_out(item: dict[str, Any], section: str) -> None:
    rendered = render(deadlines(item))
    for said in (rendered.text, rendered.html):
        assert re.findall("HIGH PRIORITY|NORMAL PRIORITY", said) == [section]


def test_today_is_the_readers_own() -> None:
    # Nine in the evening in Riyadh is the next morning in Auckland.
    item = {"due_at": "2025-06-11T21:00:00+03:00"}
    assert "Due: Today 9:00 PM" in render(deadlines(item)).text
    assert "Due: Tomorrow 6:00 AM" in render(deadlines(item, timezone="Pacific/Auckland")).text
    assert "Due: Today 2:00 PM" in render(deadlines(item, timezone="America/New_York")).text


@pytest.mark.parametrize("locale", LOCALES)
def test_links_lead_to_the_application(locale: str) -> None:
    rendered = render(deadlines(locale=locale), app_url=APP)
    records = [f"{APP}/tasks/{RECORD}", f"{APP}/hearings/{RECORD}", f"{APP}/tasks/{RECORD}"]
    expected = [f"{record}/{action}" for record in records for action in ("reschedule", "complete")]
    assert Page(rendered.html).links == [*expected, f"{APP}/deadlines"]
    assert re.findall(r"https://\S+", rendered.text) == [*expected, f"{APP}/deadlines"]


@pytest.mark.parametrize("message", [deadlines(), hearing(), deadlines(locale="ar"), hearing(locale="ar")])
def test_without_an_application_there_are_no_links(message: OutgoingMessage) -> None:
    rendered = render(message)
    assert Page(rendered.html).links == []
    assert "://" not in rendered.text
    assert "None" not in rendered.text + rendered.html


# --- hearing reminders ------------------------------------------------------------------------------------------


def test_a_reminder_names_the_case_the_court_and_the_time_by_the_readers_clock() -> None:
    rendered = render(hearing(), app_url=APP)
    assert rendered.subject == "Hearing Reminder: 2024-0123 - GSTAT"
    lines = rendered.text.splitlines()
    assert lines[4:10] == [
        "Case number: 2024-0123",
        "Case: GST Appeal of Noor Trading",
        "Date: Thursday, June 12, 2025",
        "Time: 10:30 AM (Arabian Standard Time)",
        "Court: GSTAT",
        "City: Ahmedabad",
    ]
    assert lines[11] == "Preparation checklist:"
    assert len([line for line in lines if line.startswith("[ ] ")]) == 6
    assert lines[-1] == f"Open the hearing: {APP}/hearings/{RECORD}"
    elsewhere = render(hearing(timezone="America/New_York")).text
    assert "Time: 3:30 AM (Eastern Daylight Time)" in elsewhere


def test_a_reminder_in_arabic_keeps_the_case_number_apart_in_its_subject() -> None:
    rendered = render(hearing(locale="ar-SA"))
    assert rendered.subject == "تذكير بجلسة: \u20682024-0123\u2069 - \u2068GSTAT\u2069"
    assert "الوقت: \u206810:30 ص (التوقيت العربي الرسمي)\u2069" in rendered.text
    assert Page(rendered.html).tags[0] == ("html", (("lang", "ar"), ("dir", "rtl")))


@pytest.mark.parametrize("court", [None, "", " ", "\n"])
def test_a_court_that_is_not_known_yet_is_said_to_be(court: str | None) -> None:
    rendered = render(hearing(changed={"court": court, "city": None}))
    assert rendered.subject == "Hearing Reminder: 2024-0123 - court not yet known"
    assert "Court: court not yet known" in rendered.text
    assert "City" not in rendered.text
    arabic = render(hearing(changed={"court": court}, locale="ar"))
    assert "لم تُحدَّد المحكمة بعد" in arabic.subject


@pytest.mark.parametrize("title", [None, "", " ", "\n"])
@pytest.mark.parametrize("locale", LOCALES)
def test_a_case_without_a_title_is_known_by_its_number(locale: str, title: str | None) -> None:
    message = hearing(changed={"case_title": title}, locale=locale)
    rendered, whole = render(message, app_url=APP), render(hearing(locale=locale), app_url=APP)
    assert rendered.subject == whole.subject
    assert len(rendered.text.splitlines()) == len(whole.text.splitlines()) - 1
    assert len(Page(rendered.html).tags) < len(Page(whole.html).tags)
    # A template has a place for it, and the API takes nothing empty.
    values, others = template_values(message).body, template_values(hearing(locale=locale)).body
    assert INVISIBLE.sub("", values[1]) == "-"
    assert (values[0], *values[2:]) == (others[0], *others[2:])


# --- both parts say the same, whatever the data holds -----------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("message", [deadlines(), hearing()])
def test_the_text_has_every_word_of_the_html(message: OutgoingMessage, locale: str) -> None:
    changed = {**vars(message), "locale": locale}
    rendered = render(OutgoingMessage(**changed), app_url=APP)
    html = re.sub(r"<title>.*?</title>", "", rendered.html)
    marks = {"-", "•", "·", "☐", "[", "]"}

    def words(found: list[str]) -> set[str]:
        return {word.strip("():") for word in found if not word.startswith("https:")} - marks

    assert words(Page(html).words) == words(text_words(rendered))


@settings(deadline=None, max_examples=150)
@given(title=TEXTS, court=TEXTS, city=TEXTS, number=TEXTS, locale=st.sampled_from(LOCALES))
@example(title="a\nHIGH PRIORITY:\n• [Task] b", court="\r\n", city="x" * 3000, number="", locale="en")
@example(title="\u202eevil\u2069", court="</td></table>", city="{{ 7 * 7 }}", number="{0}", locale="ar-SA")
def test_no_text_of_a_deadline_opens_a_tag_or_a_line(
    title: str, court: str, city: str, number: str, locale: str
) -> None:
    item = {"title": title, "court": court, "city": city, "case_number": number}
    # The number may be in the title, and then it is not repeated; court and city may be blank.
    rendered = render(deadlines({**item, "type": "hearing"}, locale=locale), app_url=APP)
    page = Page(rendered.html)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "body", "table", "tr", "td", "h1", "h2", "p", "div", "span", "strong"),
        *("bdi", "a"),
    }
    assert page.others == []
    assert len(page.links) == 3
    assert all(link.startswith(APP) for link in page.links)
    harmless = render(deadlines({"type": "hearing"}, locale=locale), app_url=APP)
    assert len(rendered.text.splitlines()) == len(harmless.text.splitlines())
    if re.search(r"\w", title):
        assert set(re.findall(r"\w+", title)) <= set(re.findall(r"\w+", rendered.text))


@settings(deadline=None, max_examples=150)
@given(title=TEXTS, court=TEXTS, city=TEXTS, number=TEXTS, locale=st.sampled_from(LOCALES))
@example(title="", court="=?utf-8?q?=0AX:_y?=", city="", number="a\r\nBcc: all@dossier.example", locale="en")
def test_no_text_of_a_reminder_opens_a_header_a_tag_or_a_line(
    title: str, court: str, city: str, number: str, locale: str
) -> None:
    changed = {"case_title": title, "court": court, "city": city, "case_number": number}
    message = hearing(changed=changed, locale=locale)
    found = message_from_bytes(mail(message, sender=SENDER, app_url=APP).content, policy=email_policy)
    assert list(found.keys()) == HEADERS
    assert len(found["subject"].splitlines()) <= 1
    rendered = render(message, app_url=APP)
    # The row of what says nothing is left out.
    left_out = {name: None for name, text in (("case_title", title), ("city", city)) if not one_line(text)}
    page, harmless = Page(rendered.html), render(hearing(changed=left_out, locale=locale), app_url=APP)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Page(harmless.html).tags]
    assert page.links == [f"{APP}/hearings/{RECORD}"]
    assert len(harmless.text.splitlines()) == len(rendered.text.splitlines())


# --- metadata that says nothing ---------------------------------------------------------------------------------

BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("deadlines", {}, "metadata.items is wrong (missing)"),
    ("deadlines", {"items": []}, "metadata.items is wrong (too_short)"),
    ("deadlines", {"items": "s3cret"}, "metadata.items is wrong (list_type)"),
    ("deadlines", {"items": ["s3cret"]}, "metadata.items.0 is wrong (model_type)"),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "due_at": "s3cret"}]}, "metadata.items.0.due_at is wrong ("),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "due_at": "2025-06-11T10:00:00"}]}, "(timezone_aware)"),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "due_at": "9999-12-31T23:00:00Z"}]}, "(value_error)"),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "due_at": "0001-01-01T00:00:00Z"}]}, "(value_error)"),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "id": "../s3cret"}]}, "metadata.items.0.id is wrong ("),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "type": "s3cret"}]}, "metadata.items.0.type is wrong ("),
    ("deadlines", {"items": [{**DEADLINES["items"][0], "priority": "s3cret"}]}, "metadata.items.0.priority is wrong ("),
    ("deadlines", {"items": [DEADLINES["items"][0], {"type": "task"}]}, "metadata.items.1.id is wrong (missing)"),
    ("hearing_reminder", {}, "metadata.hearing_id is wrong (missing)"),
    ("hearing_reminder", {**HEARING, "hearing_at": None}, "metadata.hearing_at is wrong ("),
    ("hearing_reminder", {**HEARING, "court": ["s3cret"]}, "metadata.court is wrong (string_type)"),
    ("digest", {}, "the template of its kind fails (UndefinedError)"),
]


@pytest.mark.parametrize(("kind", "metadata", "reason"), BROKEN)
def test_metadata_that_no_message_can_be_made_of_is_named_and_never_shown(
    kind: str, metadata: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnwritableMessageError) as caught:
        render(outgoing(kind=kind, metadata=metadata))
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(HEARING)), inner, max_size=4),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from(["deadlines", "hearing_reminder"]), name=st.sampled_from(sorted(HEARING)), value=JSON)
def test_any_metadata_is_a_message_or_a_reason(kind: str, name: str, value: object) -> None:
    metadata: dict[str, Any] = {**HEARING, name: value} if kind == "hearing_reminder" else {"items": [value]}
    try:
        rendered = render(outgoing(kind=kind, metadata=json.loads(json.dumps(metadata))))
    except UnwritableMessageError:
        return
    assert rendered.subject


# --- the values of WhatsApp templates ---------------------------------------------------------------------------


def test_a_template_of_a_reminder_gets_the_case_the_place_and_the_time() -> None:
    values = template_values(hearing(), app_url=APP)
    assert values.body == (
        *("2024-0123", "GST Appeal of Noor Trading", "GSTAT, Ahmedabad"),
        *("Thursday, June 12, 2025", "10:30 AM (Arabian Standard Time)"),
    )
    assert (values.language, values.button) == ("en", f"hearings/{RECORD}")
    assert template_values(hearing()).button is None
    arabic = template_values(hearing(locale="ar-SA"))
    assert arabic.language == "ar"
    # Between Arabic letters a number with a hyphen would be read from its end.
    assert arabic.body[0] == "\u20682024-0123\u2069"


def test_a_template_of_any_other_kind_gets_title_and_message() -> None:
    values = template_values(outgoing(title="A task\nis overdue", message=""), app_url=APP)
    assert (values.body, values.button) == (("A task is overdue", "-"), "notifications")


@settings(deadline=None, max_examples=150)
@given(
    texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    kind=st.sampled_from(["hearing_reminder", "task_overdue"]),
    locale=st.sampled_from(LOCALES),
)
@example(texts=("a\n\n\tb" + " " * 9, "", "x" * 5000, "\u2028"), kind="hearing_reminder", locale="ar")
def test_every_value_is_as_the_api_takes_it(texts: tuple[str, str, str, str], kind: str, locale: str) -> None:
    title, court, city, number = texts
    names = {"court": court, "city": city, "case_number": number}
    message = {
        "hearing_reminder": hearing(changed={**names, "case_title": title}, locale=locale),
        "task_overdue": outgoing(title=title, message=court, locale=locale),
    }[kind]
    values = template_values(message, app_url=APP)
    for value in values.body:
        assert value
        assert not re.search(r"[\n\r\t\u2028\u2029]| {5}", value)
    # The API takes 1024 characters in all; the rest is the template's own.
    assert sum(len(value) for value in values.body) <= 800
    assert values.button


def test_a_second_attempt_makes_the_same_bytes_on_another_day() -> None:
    first, second = deadlines(attempt=1), deadlines(attempt=2)
    assert mail(first, sender=SENDER).content == mail(second, sender=SENDER).content
    later = deadlines(created_at=MORNING + timedelta(days=1))
    assert "Due: Yesterday 5:00 PM" in render(later).text
