"""What the channels that post have in common: sessions, the identity of a message, and the wait that is asked for."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from dossier_pipelines.notifications.channels.channel import OutgoingMessage

LONGEST_WAIT_SECONDS: Final = 24 * 3600.0
LONGEST_BODY: Final = 65_536
BODY_SECONDS: Final = 2.0


def client_session(*, timeout: float, connections: int) -> aiohttp.ClientSession:
    """Return a session of at most so many connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=timeout),
        # Nobody's cookies belong into the next message.
        cookie_jar=aiohttp.DummyCookieJar(),
        # A few bytes can unpack to gigabytes.
        auto_decompress=False,
    )


def identity_of(message: OutgoingMessage) -> str:
    """Return what every attempt of a message is called by."""
    return f"msg_{hashlib.sha256(f'{message.tenant_id}:{message.key}'.encode()).hexdigest()[:40]}"


async def read_a_little(answer: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of the answer's body, and all of a small one, so that the connection serves again.

    A body may never end.
    """
    parts: list[bytes] = []
    with suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            left = LONGEST_BODY
            while left > 0 and not answer.content.at_eof():
                parts.append(await answer.content.read(left))
                left -= len(parts[-1])
    return b"".join(parts)


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, a number or a date (RFC 9110, 10.2.3); at most a day."""
    if not value:
        return None
    number = value.strip()
    if number.isascii() and number.isdecimal():
        return min(float(number), LONGEST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_WAIT_SECONDS)
