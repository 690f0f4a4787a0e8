"""A POST to one address, signed by the Standard Webhooks convention (standardwebhooks.com), with an idempotency key.

2xx is taken. 408, 429 and 5xx may succeed later, Retry-After is obeyed; any other answer will not change.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
from standardwebhooks import Webhook as Signer

from dossier_pipelines.notifications.channels.channel import OutgoingMessage, Refused, Sent, TryAgain, Verdict
from dossier_pipelines.notifications.channels.http import client_session, identity_of, read_a_little, retry_after
from dossier_pipelines.shared.failures import SettingError


class Webhook:
    """A channel to one HTTP receiver."""

    def __init__(self, url: str, secret: str, *, timeout: float, connections: int) -> None:
        self.url = url
        self._signer = Signer(_key(secret))
        self._timeout = timeout
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: OutgoingMessage) -> Verdict:
        """Post one notification."""
        body = json.dumps(payload(message), ensure_ascii=False, separators=(",", ":"))
        identity = identity_of(message)
        stamp = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "idempotency-key": identity,
            "webhook-id": identity,
            "webhook-timestamp": str(int(stamp.timestamp())),
            "webhook-signature": self._signer.sign(msg_id=identity, timestamp=stamp, data=body),
        }
        if self._session is None:
            self._session = client_session(timeout=self._timeout, connections=self._connections)
        try:
            async with self._session.post(
                self.url, data=body.encode(), headers=headers, allow_redirects=False
            ) as answer:
                await read_a_little(answer)
                return _verdict(answer, now=stamp)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return TryAgain(reason=f"the receiver did not answer properly: {type(error).__name__}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(f"{secret.removeprefix('whsec_')}==")
    except ValueError:
        key = b""
    if not key:
        raise SettingError(
            "DOSSIER_WEBHOOK_SECRET cannot be read. Write it as Standard Webhooks do: whsec_ and base64."
        )
    return key


def payload(message: OutgoingMessage) -> dict[str, Any]:
    """Return the document that a receiver gets: type, timestamp, data."""
    return {
        "type": message.kind,
        "timestamp": message.created_at.astimezone(UTC).isoformat(),
        "data": {
            "tenant_id": message.tenant_id,
            "notification_id": message.notification_id,
            "user_id": message.user_id,
            "urgency": message.urgency,
            "title": message.title,
            "message": message.message,
            "metadata": message.metadata,
            "items": [
                {"title": item.title, "message": item.message, "urgency": item.urgency} for item in message.items
            ],
        },
    }


def _verdict(answer: aiohttp.ClientResponse, *, now: datetime) -> Verdict:
    if 200 <= answer.status < 300:
        return Sent(provider_id=answer.headers.get("x-request-id"))
    said = f"the receiver answered {answer.status}"
    if answer.status in {408, 429} or answer.status >= 500:
        return TryAgain(reason=said, seconds=retry_after(answer.headers.get("retry-after"), now=now))
    return Refused(reason=said)
