"""WhatsApp, by the Cloud API: whoever writes first sends an approved template, with values for its parameters.

A template is approved in WhatsApp Manager for a language, `en` and `ar`, under the name that DOSSIER_WHATSAPP_TEMPLATES
gives to its kind. What the parameters of its body are says `rendering.template_values`. With DOSSIER_APP_URL it has one
URL button, whose address is that URL and ``/{{1}}``; without, it has none.

The API says by a code what is wrong, and the tables below say what that means to us. The codes are those of
developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes, of which the copies that its
partners publish were read in November 2026 (docs.360dialog.com, developers.kaleyra.io); one that is in no table is
judged by the status of the answer. Known limit: a message is sent when the API has taken it. What happens to it
afterwards (read, or not delivered: 131026, 131049 and 131050 often come so late) the API posts to a webhook of ours
that there is not yet.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import phonenumbers

from dossier_pipelines.notifications.channels.channel import (
    FallBack,
    OutgoingMessage,
    Refused,
    Sent,
    TryAgain,
    Verdict,
)
from dossier_pipelines.notifications.channels.http import client_session, identity_of, read_a_little, retry_after
from dossier_pipelines.notifications.documents import UnwritableMessageError
from dossier_pipelines.notifications.rendering import template_values

if TYPE_CHECKING:
    from dossier_pipelines.shared.environment import WhatsAppSettings

# Busy or broken: the same message may be taken later.
LATER: Final = {
    1: "an unknown error",
    2: "the service is down",
    4: "too many calls of this application",
    80007: "too many messages of this account",
    130429: "too many messages at once",
    131000: "an unknown error",
    131016: "the service is down",
    131048: "too many messages of this number were reported as spam",
    131056: "too many messages to this person at once",
    131057: "the account is being maintained",
    133004: "the service is down",
}
# An operator can mend it, and until then every message would die.
OURS_TO_MEND: Final = {
    0: "the access token is not valid: set DOSSIER_WHATSAPP_TOKEN anew",
    3: "the access token lacks a permission: set DOSSIER_WHATSAPP_TOKEN anew",
    10: "the access token lacks a permission: set DOSSIER_WHATSAPP_TOKEN anew",
    33: "there is no such number: set DOSSIER_WHATSAPP_PHONE_NUMBER_ID anew",
    190: "the access token has expired: set DOSSIER_WHATSAPP_TOKEN anew",
    **dict.fromkeys(range(200, 300), "the access token lacks a permission: set DOSSIER_WHATSAPP_TOKEN anew"),
    368: "the account is blocked for a breach of policy: see WhatsApp Manager",
    131005: "the access token lacks a permission: set DOSSIER_WHATSAPP_TOKEN anew",
    131031: "the account is locked: see WhatsApp Manager",
    131037: "the number has no approved display name: see WhatsApp Manager",
    131042: "the account cannot be charged: see its payment method in WhatsApp Manager",
    131045: "the number is not registered rightly: see WhatsApp Manager",
    133010: "the number is not registered: see WhatsApp Manager",
}
# Not to this person, or not for now: a mail reaches them.
BY_MAIL: Final = {
    130472: "the person is part of an experiment of WhatsApp",
    130497: "messages to the person's country are restricted",
    131021: "the person's number is the one that sends",
    131026: "the person cannot be reached by WhatsApp",
    131030: "the person's number is not among those that the account may try",
    131047: "the person has not written within a day, and the message is no template",
    131049: "WhatsApp chose not to deliver it",
    131050: "the person takes no such messages from us",
    132015: "the template is paused for its quality: see WhatsApp Manager",
    132016: "the template is disabled for its quality: see WhatsApp Manager",
}
# The request is wrong, and will be so again.
WRONG: Final = {
    100: "a parameter is not valid",
    131008: "a parameter is missing",
    131009: "the value of a parameter is not valid",
    131051: "the type of the message is not supported",
    132000: "the template has another number of parameters",
    132001: "there is no such template in this language, or it is not approved",
    132005: "the text is too long with its parameters",
    132007: "the text breaks a policy",
    132012: "a parameter is not as the template has it",
    135000: "the request is wrong",
}


class WhatsApp:
    """A channel to the Cloud API, from one business number."""

    def __init__(
        self, settings: WhatsAppSettings, *, timeout: float, connections: int, app_url: str | None = None
    ) -> None:
        self.url = f"{settings.url}/{settings.phone_number_id}/messages"
        self.app_url = app_url
        self._templates = dict(settings.templates)
        self._headers = {"authorization": f"Bearer {settings.token}", "content-type": "application/json"}
        self._timeout = timeout
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: OutgoingMessage) -> Verdict:
        """Post one template message."""
        template = self._templates.get(message.kind)
        if template is None:
            return FallBack(reason="DOSSIER_WHATSAPP_TEMPLATES names no template for this kind of notification")
        recipient = international_number(message.phone or "")
        if recipient is None:
            return FallBack(reason="the telephone number is no valid one with its country: write +966...")
        try:
            body = json.dumps(self._request(message, template=template, recipient=recipient), ensure_ascii=False)
        except UnwritableMessageError as error:
            return Refused(reason=f"no WhatsApp message can be made of this notification: {error}")
        if self._session is None:
            self._session = client_session(timeout=self._timeout, connections=self._connections)
        try:
            async with self._session.post(
                self.url, data=body.encode(), headers=self._headers, allow_redirects=False
            ) as answer:
                return _verdict(answer, await read_a_little(answer), now=datetime.now(UTC))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return TryAgain(reason=f"WhatsApp did not answer properly: {type(error).__name__}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _request(self, message: OutgoingMessage, *, template: str, recipient: str) -> dict[str, Any]:
        values = template_values(message, app_url=self.app_url)
        components: list[dict[str, Any]] = [{"type": "body", "parameters": [_text(value) for value in values.body]}]
        if values.button is not None:
            components.append({"type": "button", "sub_type": "url", "index": "0", "parameters": [_text(values.button)]})
        return {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": recipient,
            "type": "template",
            "template": {"name": template, "language": {"code": values.language}, "components": components},
            # The API has no idempotency key; what it tells of a message carries this, the same for every attempt.
            "biz_opaque_callback_data": identity_of(message),
        }


def _text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def international_number(text: str) -> str | None:
    """Return a telephone number as E.164 has it, or None. One without its country could be somebody else's."""
    written = text.strip()
    if written.startswith("00"):
        written = f"+{written[2:]}"
    try:
        number = phonenumbers.parse(written)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _verdict(answer: aiohttp.ClientResponse, body: bytes, *, now: datetime) -> Verdict:
    document = _document(body)
    if 200 <= answer.status < 300:
        match document:
            case {"messages": [{"id": str() as identity}, *_]}:
                return Sent(provider_id=identity)
        # Not the API: a proxy that asks for a login answers like this.
        return TryAgain(reason=f"WhatsApp answered {answer.status} without naming the message")
    error = document.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    seconds = retry_after(answer.headers.get("retry-after"), now=now)
    # Its own words are left out: they may quote a number, or the token.
    match code:
        case int() if code in OURS_TO_MEND:
            return TryAgain(reason=f"WhatsApp said {code}: {OURS_TO_MEND[code]}", seconds=seconds)
        case int() if code in BY_MAIL:
            return FallBack(reason=f"WhatsApp said {code}: {BY_MAIL[code]}")
        case int() if code in WRONG:
            return Refused(reason=f"WhatsApp said {code}: {WRONG[code]}")
        case int() if code in LATER:
            return TryAgain(reason=f"WhatsApp said {code}: {LATER[code]}", seconds=seconds)
    said = f"WhatsApp answered {answer.status}" + (f" and said {code}" if isinstance(code, int) else "")
    match answer.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return TryAgain(reason=f"{said}: set DOSSIER_WHATSAPP_TOKEN anew", seconds=seconds)
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_MANY_REQUESTS:
            return TryAgain(reason=said, seconds=seconds)
    if answer.status >= 500 or (isinstance(error, dict) and error.get("is_transient") is True):
        return TryAgain(reason=said, seconds=seconds)
    return Refused(reason=said)
