"""Mail by SMTP, with TLS and login as the settings say; a few connections, each used again.

Replies decide: 4xx may succeed later, 5xx will not (RFC 5321, section 4.2.1).
"""

from __future__ import annotations

import ssl
from typing import Final

import aiosmtplib

from dossier_pipelines.notifications.channels.channel import OutgoingMessage, Refused, Sent, TryAgain, Verdict
from dossier_pipelines.notifications.documents import UnwritableMessageError
from dossier_pipelines.notifications.rendering import mail
from dossier_pipelines.shared.environment import SmtpSettings

# Codes that speak of our login or of the server as a whole: an operator can mend them, and every message would die.
OURS_TO_MEND: Final = frozenset({421, 454, 530, 534, 535, 538})
TOO_LARGE: Final = 552


class Email:
    """A channel to one SMTP server."""

    def __init__(self, settings: SmtpSettings, *, sender: str, timeout: float, app_url: str | None = None) -> None:
        self.settings = settings
        self.sender = sender
        self.app_url = app_url
        self.timeout = timeout
        self._idle: list[aiosmtplib.SMTP] = []
        self._trusted: ssl.SSLContext | None = None

    async def send(self, message: OutgoingMessage) -> Verdict:
        """Hand one mail to the server."""
        try:
            built = mail(message, sender=self.sender, app_url=self.app_url)
        except ValueError as error:
            return Refused(reason=f"the mail address cannot be used: {type(error).__name__}")
        except UnwritableMessageError as error:
            return Refused(reason=f"no mail can be made of this notification: {error}")
        connection: aiosmtplib.SMTP | None = None
        reusable = False
        try:
            connection = await self._connection()
            refused, reply = await connection.sendmail(built.sender, [built.recipient], built.content)
            reusable = True
        except aiosmtplib.SMTPRecipientsRefused as error:
            reusable = True
            return _verdict(error.recipients[0].code, "the server refused the recipient")
        except aiosmtplib.SMTPResponseException as error:
            if connection is None or isinstance(error, aiosmtplib.SMTPHeloError):
                return TryAgain(reason=f"the mail server refused us (SMTP {error.code})")
            if isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code != TOO_LARGE:
                return TryAgain(reason=f"the mail server refused the sender (SMTP {error.code})")
            return _verdict(error.code, "the server refused the mail")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            # The library's own errors name the step, their cause the reason: an untrusted certificate, a closed port.
            return TryAgain(reason=f"the mail server cannot be used: {type(error.__cause__ or error).__name__}")
        finally:
            if connection is not None and reusable and connection.is_connected:
                self._idle.append(connection)
            elif connection is not None:
                connection.close()
        if refused:
            return _verdict(next(iter(refused.values())).code, "the server refused the recipient")
        return Sent(provider_id=reply or None)

    async def close(self) -> None:
        """Drop the connections; what a goodbye could still lose is sent already."""
        while self._idle:
            self._idle.pop().close()

    def _context(self) -> ssl.SSLContext | None:
        # Reading the system's certificates takes as long as many mails.
        if self._trusted is None and self.settings.encryption != "none":
            self._trusted = ssl.create_default_context(cafile=self.settings.ca_file)
        return self._trusted

    async def _connection(self) -> aiosmtplib.SMTP:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected:
                return connection
        connection = aiosmtplib.SMTP(
            hostname=self.settings.host,
            port=self.settings.port,
            use_tls=self.settings.encryption == "implicit",
            start_tls=self.settings.encryption == "starttls",
            username=self.settings.username,
            password=self.settings.password,
            tls_context=self._context(),
            timeout=self.timeout,
        )
        try:
            await connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection


def _verdict(code: int, reason: str) -> Verdict:
    # The server's own words are left out: they quote addresses.
    said = f"{reason} (SMTP {code})"
    return Refused(reason=said) if 500 <= code < 600 and code not in OURS_TO_MEND else TryAgain(reason=said)
