"""The channels that the settings configure: mail, to a server or the mailbox folder; a webhook and WhatsApp."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Final

from dossier_pipelines.notifications.delivery import Lane, Pace
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import SettingError

# A mail server counts connections; an HTTP receiver takes more.
MAIL_CONNECTIONS: Final = 8
WEBHOOK_CONNECTIONS: Final = 32
# The Cloud API takes 80 messages a second from a number, and takes a fifth of a second for one.
WHATSAPP_CONNECTIONS: Final = 16


def configured_lanes(settings: Settings, pace: Pace) -> dict[str, Lane]:
    """Return channel name to lane; raise SettingError for a setting that cannot work."""
    require_sender(settings.mail_from)
    lanes: dict[str, Lane] = {}
    if settings.smtp is None:
        from dossier_pipelines.notifications.channels.mailbox import FOLDER, Mailbox

        mailbox = Mailbox(
            settings.data_directory.resolve() / FOLDER, sender=settings.mail_from, app_url=settings.app_url
        )
        lanes["email"] = Lane(channel=mailbox, concurrency=MAIL_CONNECTIONS, limit=settings.mails_per_run)
    else:
        from dossier_pipelines.notifications.channels.email import Email

        email = Email(settings.smtp, sender=settings.mail_from, timeout=pace.deadline, app_url=settings.app_url)
        lanes["email"] = Lane(channel=email, concurrency=MAIL_CONNECTIONS, limit=settings.mails_per_run)
    if settings.webhook_url and settings.webhook_secret:
        from dossier_pipelines.notifications.channels.webhook import Webhook

        webhook = Webhook(
            settings.webhook_url, settings.webhook_secret, timeout=pace.deadline, connections=WEBHOOK_CONNECTIONS
        )
        lanes["webhook"] = Lane(channel=webhook, concurrency=WEBHOOK_CONNECTIONS, limit=settings.webhooks_per_run)
    if settings.whatsapp is not None:
        from dossier_pipelines.notifications.channels.whatsapp import WhatsApp

        whatsapp = WhatsApp(
            settings.whatsapp, timeout=pace.deadline, connections=WHATSAPP_CONNECTIONS, app_url=settings.app_url
        )
        lanes["whatsapp"] = Lane(
            channel=whatsapp,
            concurrency=WHATSAPP_CONNECTIONS,
            limit=settings.whatsapps_per_run,
            mail_stands_in=True,
        )
    return lanes


def require_sender(sender: str) -> None:
    """Raise SettingError unless mails can be sent from ``sender``: otherwise each would be given up for it."""
    from dossier_pipelines.notifications.rendering import mail_address

    name, address = parseaddr(sender)
    try:
        mail_address(address, name=name)
    except ValueError as error:
        raise SettingError(
            f"DOSSIER_MAIL_FROM is {sender!r}; write an address, or a name and an address in angle brackets, such as "
            f"{Settings.mail_from}. A name with a comma goes in quotation marks."
        ) from error
