"""What people read: whatever data holds, it opens no header line and no tag, and arrives as it was written."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as email_policy
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dossier_pipelines.notifications.channels.channel import DigestItem, OutgoingMessage
from dossier_pipelines.notifications.rendering import LONGEST_SUBJECT, mail, mail_address, render
from dossier_pipelines_tests.outbox import NOON, SENDER, outgoing

HEADERS = ["Content-Type", "MIME-Version", "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
# What PostgreSQL can hold: everything but NUL and surrogates. What is dangerous somewhere comes more often.
DANGEROUS = (
    *["\r\nBcc: all@dossier.example", "\n\n<script>alert(1)</script>", "\r", "\n", "\t", ".\r\n", "\n.\n", "--"],
    *["</title><script>", '"><img src=x onerror=1>', "<!--", "&lt;", "{{ 7 * 7 }}", "{% for x in y %}", "{#"],
    *["\x1b[31m", "\x85", "\u2028", "\u2029", "\x0b\x1c", "\u202e", "é" * 90, "x" * 1100, "مرحبا", "😀"],
    *["=?utf-8?q?=0AX:_y?=", "=?utf-8?b?DQpYOiB5?=", "=?", "?=", "👩\u200d👩\u200d👧"],
)
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(DANGEROUS), st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"))
    ),
    max_size=6,
).map("".join)


def parsed(message: OutgoingMessage) -> EmailMessage:
    """The mail as a mail program reads it."""
    found = message_from_bytes(mail(message, sender=SENDER).content, policy=email_policy)
    assert isinstance(found, EmailMessage)
    return found


def digest(items: list[tuple[str, str]]) -> OutgoingMessage:
    return outgoing(
        kind="digest",
        metadata={"day": "2025-06-11"},
        items=tuple(DigestItem(title=t, message=m, urgency=1, created_at=NOON) for t, m in items),
    )


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[Any, ...]]] = []
        self.others: list[str] = []
        self.said = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attributes)))

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


def lines(text: str) -> str:
    """A text as mail carries it: every kind of line end is one."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


HARMLESS = Page(render(outgoing()).html).tags
HARMLESS_DIGEST = Page(render(digest([("a", "b")])).html).tags


# --- nothing from data opens anything ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(title=TEXTS, message=TEXTS)
@example(title="a\r\nBcc: all@dossier.example", message="\r\n\r\n--boundary")
@example(title="x" * 5000, message="y" * 5000)
@example(title="é" * 500, message="")
@example(title="", message="")
@example(title="😀" * 300, message="\r")
def test_no_text_opens_a_header_line(title: str, message: str) -> None:
    sent = mail(outgoing(title=title, message=message), sender=SENDER).content
    head, _, _ = sent.partition(b"\r\n\r\n")
    # Continuations begin with a blank; nothing else ends a line.
    starts = [line.split(b":")[0].decode() for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    assert starts == HEADERS
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r" not in head.replace(b"\r\n", b"")
    found = message_from_bytes(sent, policy=email_policy)
    assert list(found.keys()) == HEADERS
    assert found["to"].addresses[0].addr_spec == "person@dossier.example"
    assert [part.get_content_type() for part in found.iter_parts()] == ["text/plain", "text/html"]


@settings(deadline=None, max_examples=200)
@given(title=TEXTS, message=TEXTS)
@example(title="<script>alert(1)</script>", message="</p><img src=x onerror=alert(1)>")
def test_no_text_opens_a_tag(title: str, message: str) -> None:
    page = Page(render(outgoing(title=title, message=message)).html)
    assert page.tags == HARMLESS
    assert page.others == []
    assert lines(title) in lines(page.said)
    assert lines(message) in lines(page.said)


@settings(deadline=None, max_examples=100)
@given(items=st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_no_text_opens_a_tag_in_a_digest(items: list[tuple[str, str]]) -> None:
    page = Page(render(digest(items)).html)
    entry = HARMLESS_DIGEST[HARMLESS_DIGEST.index(("li", ())) :]
    assert page.tags == HARMLESS_DIGEST[: -len(entry)] + entry * len(items)
    assert page.others == []
    for text in (text for item in items for text in item):
        assert lines(text) in lines(page.said)


@settings(deadline=None, max_examples=200)
@given(title=TEXTS, message=TEXTS)
def test_texts_arrive_as_they_were_written(title: str, message: str) -> None:
    rendered = render(outgoing(title=title, message=message))
    assert title in rendered.text
    assert message in rendered.text
    found = parsed(outgoing(title=title, message=message))
    text = found.get_body(("plain",))
    assert text is not None
    assert text["content-type"].params["charset"] == (
        "us-ascii" if text["content-transfer-encoding"] == "7bit" else "utf-8"
    )
    # Mail has one kind of line end only.
    assert re.sub(r"[\r\n]+", "\n", text.get_content()).strip() == re.sub(r"[\r\n]+", "\n", rendered.text).strip()


def test_what_looks_like_a_template_is_text() -> None:
    rendered = render(outgoing(title="{{ 7 * 7 }}", message="{% raw %}{{ message.address }}{# #}"))
    assert rendered.subject == "{{ 7 * 7 }}"
    assert "{% raw %}{{ message.address }}{# #}" in rendered.text
    assert "{{ 7 * 7 }}" in rendered.html
    assert "person@" not in rendered.text


# --- subjects ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(title=TEXTS)
@example(title="x" * LONGEST_SUBJECT)
@example(title="x" * (LONGEST_SUBJECT + 1))
def test_a_subject_is_one_line_of_at_most_200_characters(title: str) -> None:
    subject = render(outgoing(title=title)).subject
    assert len(subject) <= LONGEST_SUBJECT == 200
    assert len(subject.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", subject)


def test_a_subject_that_is_cut_shows_it() -> None:
    assert render(outgoing(title="x" * 200)).subject == "x" * 200
    assert render(outgoing(title="x" * 201)).subject == "x" * 199 + "…"


@pytest.mark.parametrize("title", ["Größe", "مهمة متأخرة", "期限切れ", "😀 👩\u200d👩\u200d👧", "a, b; <c@d>"])
def test_a_subject_in_any_script_is_read_as_it_was_written(title: str) -> None:
    assert parsed(outgoing(title=title))["subject"] == title


@pytest.mark.parametrize(
    "hidden", ["=?utf-8?q?=0D=0ABcc:_all@dossier.example?=", "=?utf-8?b?CkJjYzogYWxsQGRvc3NpZXIuZXhhbXBsZQ==?="]
)
def test_no_line_end_is_hidden_in_an_encoded_word(hidden: str) -> None:
    sent = parsed(outgoing(title=f"It is due {hidden}"))
    assert list(sent.keys()) == HEADERS
    assert sent["subject"] == f"It is due {hidden.replace('=?', '= ?')}"


# --- mails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x" * 1_000_000, "é\n" * 110_000, "مرحبا " * 90_000, "😀" * 250_000, "<&" * 500_000])
def test_a_text_of_a_megabyte_is_a_mail_all_the_same(text: str) -> None:
    sent = mail(outgoing(title=text, message=text), sender=SENDER)
    # RFC 5321, section 4.5.3.1.6.
    assert max(len(line) for line in sent.content.split(b"\r\n")) <= 998
    body = message_from_bytes(sent.content, policy=email_policy).get_body(("plain",))
    assert text.strip() in lines(body.get_content())


def test_every_attempt_sends_the_same_bytes_and_other_content_another_boundary() -> None:
    first, second = (mail(outgoing(attempt=attempt), sender=SENDER).content for attempt in (1, 2))
    assert first == second
    assert parsed(outgoing()).get_boundary() != parsed(outgoing(message="another")).get_boundary()


def test_the_date_is_that_of_the_notification_wherever_it_was_written() -> None:
    at = datetime(2025, 6, 11, 15, tzinfo=timezone(timedelta(hours=3)))
    assert parsed(outgoing(created_at=at))["date"].datetime == NOON == at


def test_a_long_domain_leaves_the_message_id_whole() -> None:
    domain = f"{'notifications.' * 8}dossier.example"
    found = mail(outgoing(), sender=f"Desk <desk@{domain}>").content
    assert re.search(rb"^Message-ID:\s+<[0-9a-f]{40}@" + domain.encode() + rb">\r$", found, re.MULTILINE)


@settings(deadline=None, max_examples=300)
@given(st.one_of(TEXTS, st.text('a@.[]<>"\\(),;: \r\né', max_size=12)))
@example("")
@example("a@[")
@example("a@=?utf-8?q?=0AX:_y?=")
def test_an_address_is_one_or_a_value_error(text: str) -> None:
    try:
        address = mail_address(text)
    except ValueError:
        return
    assert address.addr_spec
    sent = message_from_bytes(mail(outgoing(address=text), sender=SENDER).content, policy=email_policy)
    assert list(sent.keys()) == HEADERS
    assert len(sent["to"].addresses) == 1


# --- digests ----------------------------------------------------------------------------------------------------


def test_a_digest_of_one_says_so_in_the_singular() -> None:
    rendered = render(digest([("A task is overdue", "It was due yesterday.")]))
    assert rendered.subject == "1 more notification of 2025-06-11"
    assert "A task is overdue" in rendered.text
    assert Page(rendered.html).tags.count(("li", ())) == 1


def test_a_digest_of_many_lists_all_of_them_in_the_order_given() -> None:
    items = [(f"Title {number}.", f"Message {number}.") for number in range(500)]
    rendered = render(digest(items))
    assert rendered.subject == "500 more notifications of 2025-06-11"
    expected = [text for item in items for text in item]
    for body in (rendered.text, Page(rendered.html).said):
        assert re.findall(r"(?:Title|Message) \d+\.", body) == expected


def test_no_line_of_a_mail_runs_into_the_next() -> None:
    assert render(outgoing(title="T", message="M")).text.split("\n")[:3] == ["T", "", "M"]
    text = render(digest([("T1", "M1"), ("T2", "M2")])).text
    assert [line for line in text.split("\n") if line][1:] == ["- T1", "  M1", "- T2", "  M2"]
