"""Mails as .eml files in a folder: what happens without a mail server. Any mail program opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dossier_pipelines.notifications.channels.channel import OutgoingMessage, Refused, Sent, TryAgain, Verdict
from dossier_pipelines.notifications.documents import UnwritableMessageError
from dossier_pipelines.notifications.rendering import mail

FOLDER: Final = "mailbox"


class Mailbox:
    """A channel that writes each mail to a file of its own, named by its key: a repetition writes the same file."""

    def __init__(self, folder: Path, *, sender: str, app_url: str | None = None) -> None:
        self.folder = folder
        self.sender = sender
        self.app_url = app_url

    async def send(self, message: OutgoingMessage) -> Verdict:
        """Write the file, all of it or none."""
        try:
            built = mail(message, sender=self.sender, app_url=self.app_url)
        except ValueError as error:
            return Refused(reason=f"the mail address cannot be used: {type(error).__name__}")
        except UnwritableMessageError as error:
            return Refused(reason=f"no mail can be made of this notification: {error}")
        name = built.message_id.strip("<>").partition("@")[0]
        unfinished = self.folder / f".{name}.unfinished"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.write_bytes(built.content)
            unfinished.replace(self.folder / f"{name}.eml")
        except OSError as error:
            return TryAgain(reason=f"the mailbox folder cannot be written: {error.strerror}")
        return Sent(provider_id=f"{name}.eml")

    async def close(self) -> None:
        """Nothing is open."""
