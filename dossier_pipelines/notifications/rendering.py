"""Messages as people read them: subject, text and HTML from template files, and mail as the standards want it.

Templates are sandboxed, and everything that comes from data is escaped in HTML and cannot open a header line.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from email.errors import MessageError
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
# What begins an encoded word (RFC 2047). The standard library decodes it in a value that it is given, and writes a line
# end that was hidden so as a line end.
ENCODED: Final = "=?"
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
    line = CONTROL.sub(" ", subject).replace(ENCODED, "= ?").strip()
    return Rendered(
        subject=line if len(line) <= LONGEST_SUBJECT else f"{line[: LONGEST_SUBJECT - 1]}…", text=text, html=html
    )


def message_id(key: str, domain: str) -> str:
    """Return the Message-ID of everything that goes out under ``key``."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def mail_address(spec: str, *, name: str = "") -> Address:
    """Return ``spec`` as an address of a header; raise ValueError for what is none."""
    if any(CONTROL.search(text) or ENCODED in text for text in (spec, name)):
        raise ValueError("a control character in a mail address")
    try:
        return Address(display_name=name, addr_spec=spec)
    # The parser of the standard library fails in these ways, too: "", "@b", "a@[".
    except (MessageError, LookupError, AttributeError) as error:
        raise ValueError("no mail address") from error


def mail(message: OutgoingMessage, *, sender: str) -> EmailMessage:
    """Return ``message`` as a mail from ``sender`` with a text and an HTML part.

    The date is that of the notification, and the boundary that of the content, so that every attempt sends the same
    bytes.
    """
    rendered = render(message)
    name, address = parseaddr(sender)
    built = EmailMessage(policy=SMTP)
    built["From"] = mail_address(address, name=name)
    built["To"] = mail_address(message.address or "")
    built["Subject"] = rendered.subject
    built["Date"] = format_datetime(message.created_at)
    built["Message-ID"] = message_id(f"{message.tenant_id}:{message.key}", address.rpartition("@")[2])
    built["Auto-Submitted"] = "auto-generated"
    built.set_content(rendered.text)
    built.add_alternative(rendered.html, subtype="html")
    # Of all of the content, so that no part of it can hold it.
    built.set_boundary(hashlib.sha256(f"{rendered.text}{rendered.html}".encode()).hexdigest())
    return built
