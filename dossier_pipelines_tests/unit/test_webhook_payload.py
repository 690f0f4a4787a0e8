"""What a receiver is posted, and how long it may ask us to wait."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dossier_pipelines.notifications.channels.channel import DigestItem
from dossier_pipelines.notifications.channels.http import LONGEST_WAIT_SECONDS, retry_after
from dossier_pipelines.notifications.channels.webhook import payload
from dossier_pipelines_tests.outbox import NOON, outgoing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_a_receiver_gets_everything_but_the_persons_address_and_name() -> None:
    sent = payload(outgoing(name="A person", created_at=datetime(2025, 6, 11, 15, tzinfo=timezone(timedelta(hours=3)))))
    assert sent == {
        "type": "task_overdue",
        "timestamp": "2025-06-11T12:00:00+00:00",
        "data": {
            "tenant_id": "default",
            "notification_id": "0d5f7f0e-4b5c-4c52-9f0e-6a3f6f0d8a11",
            "user_id": "6f0d8a11-4b5c-4c52-9f0e-0d5f7f0e6a3f",
            "urgency": 2,
            "title": "A task is overdue",
            "message": "It was due yesterday.",
            "metadata": {"days": 1},
            "items": [],
        },
    }


def test_every_attempt_posts_the_same_document() -> None:
    assert payload(outgoing(attempt=1)) == payload(outgoing(attempt=7))


def test_a_digest_brings_what_it_carries_in_its_order() -> None:
    items = tuple(DigestItem(title=f"{n}", message="m", urgency=n, created_at=NOON) for n in (1, 3, 4))
    assert payload(outgoing(kind="digest", items=items))["data"]["items"] == [
        {"title": "1", "message": "m", "urgency": 1},
        {"title": "3", "message": "m", "urgency": 3},
        {"title": "4", "message": "m", "urgency": 4},
    ]


@given(metadata=st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), JSON, max_size=4), title=st.text())
def test_any_metadata_is_a_json_document(metadata: dict[str, object], title: str) -> None:
    sent = payload(outgoing(metadata=metadata, title=title))
    assert json.loads(json.dumps(sent, ensure_ascii=False)) == sent


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("9" * 400, 86400.0),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("Wed, 11 Jun 2025 12:02:00 GMT", 120.0),
        ("Wed, 11 Jun 2025 14:02:00 +0200", 120.0),
        ("Wed, 11 Jun 2025 12:02:00 -0000", 120.0),
        ("Wed, 11 Jun 2025 11:00:00 GMT", 0.0),
        ("Wed, 11 Jun 2195 12:00:00 GMT", 86400.0),
        ("Wed, 31 Feb 2025 12:00:00 GMT", None),
        ("Wed, 21 Oct 99999999999999 07:28:00 GMT", None),
        ("1 Jan 2025 0:0:9999999999999999999 GMT", None),
    ],
)
def test_a_receiver_may_ask_for_seconds_or_for_a_date_but_for_a_day_at_most(
    value: str | None, seconds: float | None
) -> None:
    assert retry_after(value, now=NOON) == seconds


@given(st.integers(-20 * 365 * 86_400, 70 * 365 * 86_400))
@example(86_400)
@example(-1)
def test_any_date_is_the_wait_until_then(seconds: int) -> None:
    moment = NOON + timedelta(seconds=seconds)
    wait = (moment - NOON).total_seconds()
    asked = retry_after(format_datetime(moment, usegmt=True), now=NOON)
    assert asked == min(max(wait, 0.0), LONGEST_WAIT_SECONDS)


NUMBERS = st.integers(-(10**20), 10**20)


@given(
    st.text()
    | st.builds("{} Jan {} {}:{}:{} {:+05d}".format, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
    | st.builds("1 Jan {} 00:00:00 {:+05d}".format, st.integers(-1, 10_001), st.integers(-9999, 9999))
)
@example("9" * 5000)
def test_nothing_that_a_receiver_says_does_any_harm(value: str) -> None:
    asked = retry_after(value, now=NOON)
    assert asked is None or 0.0 <= asked <= LONGEST_WAIT_SECONDS
