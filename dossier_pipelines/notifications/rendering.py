"""Messages as people read them: subject, text and HTML from template files, and mail as the standards want it.

Templates are sandboxed, and everything that comes from data is escaped in HTML and cannot open a header line.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import TYPE_CHECKING, Final

from jinja2 import PackageLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from jinja2 import Template

    from dossier_pipelines.notifications.channels.channel import OutgoingMessage

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# A subject beyond this is cut: a description can be a page long.
LONGEST_SUBJECT: Final = 200


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a person reads."""

    subject: str
    text: str
    html: str


@functools.cache
def _templates(name: str) -> tuple[Template, Template, Template]:
    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("dossier_pipelines.notifications"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    subject, text, html = (environment.get_template(f"{name}.{part}.j2") for part in ("subject", "text", "html"))
    return subject, text, html


def render(message: OutgoingMessage) -> Rendered:
    """Return ``message`` as its templates say it: those of a digest, or of one notification."""
    subject, text, html = (
        template.render(message=message) for template in _templates("digest" if message.kind == "digest" else "message")
    )
    line = CONTROL.sub(" ", subject).strip()
    return Rendered(
        subject=line if len(line) <= LONGEST_SUBJECT else f"{line[: LONGEST_SUBJECT - 1]}…", text=text, html=html
    )


def message_id(key: str, domain: str) -> str:
    """Return the Message-ID of everything that goes out under ``key``."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def mail(message: OutgoingMessage, *, sender: str) -> EmailMessage:
    """Return ``message`` as a mail from ``sender`` with a text and an HTML part.

    The date is that of the notification, so that every attempt sends the same bytes.
    """
    rendered = render(message)
    name, address = parseaddr(sender)
    built = EmailMessage(policy=SMTP)
    built["From"] = Address(display_name=name, addr_spec=address)
    built["To"] = Address(addr_spec=message.address or "")
    built["Subject"] = rendered.subject
    built["Date"] = format_datetime(message.created_at)
    built["Message-ID"] = message_id(f"{message.tenant_id}:{message.key}", address.rpartition("@")[2])
    built["Auto-Submitted"] = "auto-generated"
    built.set_content(rendered.text)
    built.add_alternative(rendered.html, subtype="html")
    return built
