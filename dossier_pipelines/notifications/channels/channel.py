"""What a channel is: it takes an outgoing message and returns a verdict. Mail, WhatsApp and webhook are some.

A channel never raises for what a receiver does: a refusal, a timeout and garbage are verdicts. The time that an
attempt may take is the caller's affair (`delivery.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class DigestItem:
    """One notification in a digest."""

    title: str
    message: str
    urgency: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """One notification on its way to one person by one channel."""

    tenant_id: str
    notification_id: str
    user_id: str
    kind: str
    urgency: int
    title: str
    message: str
    metadata: dict[str, Any]
    created_at: datetime
    key: str
    """The same for every attempt, so that a receiver can tell a repetition."""
    attempt: int
    address: str | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    locale: str = "en"
    """The person's language, such as ar or ar-SA."""
    timezone: str = "UTC"
    """The person's IANA time zone, or else the tenant's."""
    items: tuple[DigestItem, ...] = ()
    """What a digest carries, most urgent first."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The receiver has taken it."""

    provider_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class TryAgain:
    """Another attempt may help, not before ``seconds`` if the receiver said so."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """No further attempt will help."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class FallBack:
    """No further attempt will help on this channel; the person is to get a mail in its place."""

    reason: str


Verdict = Sent | TryAgain | Refused | FallBack


class Channel(Protocol):
    """A way out."""

    async def send(self, message: OutgoingMessage) -> Verdict:
        """Make one attempt; may be cancelled at any moment."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
