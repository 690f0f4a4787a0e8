"""People, notifications and receivers for tests of the notifications room.

What is written goes into the database as a desk or psql writes it; mails and posts go over loopback to real servers,
which remember what they took and answer as they are told.
"""

from __future__ import annotations

import email
import json
import socket
import socketserver
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default as email_policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from sqlalchemy.engine import Connection

from dossier_pipelines.notifications.channels.channel import OutgoingMessage
from dossier_pipelines.notifications.channels.webhook import Webhook
from dossier_pipelines.notifications.delivery import DeliveryResult, Lane, Pace, RetryPolicy, deliver_due
from dossier_pipelines.notifications.recording import DeliveryPolicy, Planned, plan_deliveries
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.records import rows

# Long past: whatever counts in this day is due, its digest too.
NOON: Final = datetime(2025, 6, 11, 12, tzinfo=UTC)
POLICY: Final = DeliveryPolicy(channels=("in_app", "email", "webhook"), daily_number=10)
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SENDER: Final = "Dossier Pipelines <desk@dossier.example>"


# What the structured kinds carry.
RECORD: Final = "0d5f7f0e-4b5c-4c52-9f0e-6a3f6f0d8a11"
HEARING: Final = {
    "hearing_id": RECORD,
    "case_id": "6a3f6f0d-4b5c-4c52-9f0e-0d5f7f0e8a11",
    "case_number": "2024-0123",
    "case_title": "GST Appeal of Noor Trading",
    "court": "GSTAT",
    "city": "Ahmedabad",
    "hearing_at": "2025-06-12T10:30:00+03:00",
}
DEADLINES: Final = {
    "items": [
        {
            **{"type": "task", "id": RECORD, "title": "Prepare hearing documents", "priority": "medium"},
            **{"due_at": "2025-06-12T14:00:00+03:00", "case_number": "456", "court": None, "city": None},
        },
        {
            **{"type": "hearing", "id": RECORD, "title": "GST Appeal", "priority": None},
            **{"due_at": "2025-06-12T10:30:00+03:00", "case_number": "2024-0123"},
            **{"court": "GSTAT", "city": "Ahmedabad"},
        },
        {
            **{"type": "task", "id": RECORD, "title": "Submit Reply to ASMT-10 Notice", "priority": "critical"},
            **{"due_at": "2025-06-11T17:00:00+03:00", "case_number": None, "court": None, "city": None},
        },
    ]
}


# --- what is written --------------------------------------------------------------------------------------------


def tenant(database: Database, timezone: str = "UTC", *, tenant_id: str = "default") -> None:
    """Write a tenant, or its other time zone."""
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO platform.tenants (tenant_id, timezone) VALUES (:tenant_id, :timezone) "
                "ON CONFLICT (tenant_id) DO UPDATE SET timezone = excluded.timezone"
            ),
            {"tenant_id": tenant_id, "timezone": timezone},
        )


def person(
    database: Database,
    *,
    address: str | None = "person@dossier.example",
    timezone: str | None = None,
    tenant_id: str = "default",
    identity: str | None = None,
    phone: str | None = None,
    whatsapp: bool | None = None,
    locale: str | None = None,
) -> str:
    """Write a user and return the id."""
    identity = identity or str(uuid.uuid4())
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO raw.users (tenant_id, id, name, email, timezone, phone, whatsapp, locale) "
                "VALUES (:tenant_id, :id, 'A person', :email, :timezone, :phone, :whatsapp, :locale)"
            ),
            {
                "tenant_id": tenant_id,
                "id": identity,
                "email": address,
                "timezone": timezone,
                "phone": phone,
                "whatsapp": whatsapp,
                "locale": locale,
            },
        )
    return identity


def record(
    connection: Connection,
    user_id: str,
    *,
    urgency: int = 2,
    at: datetime = NOON,
    title: str | None = None,
    message: str = "It was due.",
    kind: str = "task_overdue",
    address: str | None = None,
    tenant_id: str = "default",
    metadata: Mapping[str, Any] | None = None,
    channels: Sequence[str | None] | None = None,
) -> str:
    """Write a notification, planned by nobody, and return its id. Its title is its id unless named."""
    identity = str(uuid.uuid4())
    connection.execute(
        sa.text(
            "INSERT INTO notifications.notifications (tenant_id, id, user_id, address, kind, urgency, title, message, "
            "metadata, dedupe_key, created_at, channels) VALUES (:tenant_id, :id, :user_id, :address, :kind, :urgency, "
            ":title, :message, CAST(:metadata AS jsonb), :key, :at, CAST(:channels AS text[]))"
        ),
        {
            "tenant_id": tenant_id,
            "id": identity,
            "user_id": user_id,
            "address": address,
            "kind": kind,
            "urgency": urgency,
            "title": title or identity,
            "message": message,
            "metadata": json.dumps(metadata or {}),
            "key": f"{kind}:{identity}",
            "at": at,
            "channels": None if channels is None else list(channels),
        },
    )
    return identity


def tell(database: Database, user_id: str, *, policy: DeliveryPolicy = POLICY, **notification: Any) -> str:
    """Record one notification and plan it in the same transaction, as a desk does; return its id."""
    with database.transaction() as connection:
        identity = record(connection, user_id, **notification)
        plan_deliveries(connection, policy)
    return identity


def plan(database: Database, policy: DeliveryPolicy = POLICY) -> Planned:
    """Plan what is not planned, in a transaction of its own."""
    with database.transaction() as connection:
        return plan_deliveries(connection, policy)


def make_due(database: Database) -> None:
    """Let every wait be over: of what is to be tried again, and of claims."""
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "UPDATE notifications.deliveries SET next_attempt_at = clock_timestamp() "
                "WHERE status IN ('queued', 'sending', 'failed')"
            )
        )


# --- what is there ----------------------------------------------------------------------------------------------


def delivery(database: Database, identity: str, channel: str = "webhook") -> sa.Row[Any]:
    """Return one delivery."""
    (found,) = rows(
        database,
        "SELECT * FROM notifications.deliveries WHERE notification_id = :id AND channel = :channel",
        id=identity,
        channel=channel,
    )
    return found


def explained(database: Database, identity: str, channel: str) -> str:
    """Return why somebody did, or did not, get a message."""
    (found,) = rows(
        database,
        "SELECT explanation FROM notifications.delivery_explained WHERE notification_id = :id AND channel = :channel",
        id=identity,
        channel=channel,
    )
    return str(found.explanation)


def digests(database: Database) -> dict[str, sa.Row[Any]]:
    """Return every digest by its id."""
    found = rows(
        database,
        "SELECT *, CAST(metadata ->> 'day' AS date) AS day FROM notifications.notifications WHERE kind = 'digest'",
    )
    return {str(row.id): row for row in found}


# --- an HTTP receiver -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Post:
    """One request that a receiver took."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    client: tuple[str, int]

    @property
    def document(self) -> dict[str, Any]:
        """What the body says."""
        return dict(json.loads(self.body))

    @property
    def titles(self) -> list[str]:
        """The titles of what a digest carries."""
        return [item["title"] for item in self.document["data"]["items"]]


@dataclass(frozen=True)
class Answer:
    """What a receiver answers; ``wait`` is awaited before."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    wait: Callable[[], object] | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.posts.append(
                Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body, self.client_address)
            )
            answer = self.server.answers.pop(0) if self.server.answers else self.server.otherwise
        if answer.wait is not None:
            answer.wait()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


class Receiver(ThreadingHTTPServer):
    """An HTTP server on loopback: ``answers`` are given one by one, then ``otherwise``; ``posts`` came in."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.posts: list[Post] = []
        self.answers: list[Answer] = []
        self.otherwise = Answer()

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self.server_port}/hooks"

    def channel(self, *, timeout: float = 30.0, connections: int = 8) -> Webhook:
        """Return a channel to here."""
        return Webhook(self.url, SECRET, timeout=timeout, connections=connections)

    def lanes(self, *, concurrency: int = 8, limit: int | None = None) -> dict[str, Lane]:
        """Return the one lane that leads here."""
        return {"webhook": Lane(channel=self.channel(connections=concurrency), concurrency=concurrency, limit=limit)}

    def deliver(
        self,
        database: Database,
        *,
        concurrency: int = 8,
        limit: int | None = None,
        policy: DeliveryPolicy = POLICY,
        retries: RetryPolicy | None = None,
        pace: Pace | None = None,
    ) -> DeliveryResult:
        """Deliver what is due to here."""
        lanes = self.lanes(concurrency=concurrency, limit=limit)
        return deliver_due(database, lanes, policy, retries=retries, pace=pace)

    def handle_error(self, *arguments: object) -> None:
        """A client that hangs up is what some tests want."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


# --- mail servers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    """One mail that a server took."""

    sender: str
    recipients: Sequence[str]
    content: bytes
    client: tuple[str, int]
    encrypted: bool
    login: object

    @property
    def message(self) -> EmailMessage:
        """The mail as a mail program reads it."""
        parsed = email.message_from_bytes(self.content, policy=email_policy)
        assert isinstance(parsed, EmailMessage)
        return parsed


class Mails:
    """What a mail server does with mails: it refuses some recipients, and keeps the rest."""

    def __init__(self) -> None:
        self.taken: list[Mail] = []
        self.refused: dict[str, str] = {}
        self.lost = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.taken.append(
            Mail(
                sender=str(envelope.mail_from),
                recipients=list(envelope.rcpt_tos),
                content=bytes(envelope.original_content or b""),
                client=session.peer,
                encrypted=server.transport.get_extra_info("ssl_object") is not None,
                login=session.auth_data,
            )
        )
        return f"250 2.0.0 queued as {len(self.taken)}"


class _Session(SMTP):
    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.event_handler.lost += 1


class MailServer(Controller):
    """An SMTP server on loopback, in a thread of its own."""

    def __init__(self, **options: Any) -> None:
        self.mails = Mails()
        self.socket = socket.create_server(("127.0.0.1", 0))
        super().__init__(self.mails, hostname="127.0.0.1", port=self.socket.getsockname()[1], **options)

    def factory(self) -> SMTP:
        return _Session(self.handler, **self.SMTP_kwargs)

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self.socket, ssl=self.ssl_context)


@contextmanager
def mail_server(**options: Any) -> Iterator[MailServer]:
    """Run a mail server."""
    server = MailServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop(no_assert=True)


class Logins:
    """The one login that a mail server knows."""

    def __init__(self, username: str, password: str) -> None:
        self.expected = LoginPassword(username.encode(), password.encode())

    def __call__(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        return AuthResult(success=given == self.expected, handled=False, auth_data=given.login)


class _Script(socketserver.StreamRequestHandler):
    server: ScriptedMailServer

    def handle(self) -> None:
        self.say("connect", b"220 here")
        while line := self.rfile.readline():
            verb = line.split(b" ")[0].strip().decode().upper()
            self.server.heard.append(verb)
            if verb == "DATA":
                if not self.say("DATA", b"354 go on").startswith(b"354"):
                    continue
                while (self.rfile.readline() or b".\r\n") != b".\r\n":
                    pass
                self.say("end", b"250 taken")
            else:
                self.say(verb, b"250 fine")

    def say(self, step: str, otherwise: bytes) -> bytes:
        reply = self.server.replies.get(step, otherwise)
        if reply:
            self.wfile.write(reply + b"\r\n")
        return reply


class ScriptedMailServer(socketserver.ThreadingTCPServer):
    """A mail server that says, byte for byte, what ``replies`` name for a step: connect, EHLO, ..., DATA, end.

    Empty means that it says nothing and waits.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, replies: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Script)
        self.replies = replies
        self.heard: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, *arguments: object) -> None:
        """A client that hangs up is what some tests want."""


@contextmanager
def scripted_mail_server(**replies: bytes) -> Iterator[ScriptedMailServer]:
    """Run a scripted mail server."""
    with ScriptedMailServer(replies) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def server_context(authority: Any, name: str = "127.0.0.1") -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate by ``authority``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def outgoing(**fields: Any) -> OutgoingMessage:
    """Return a message on its way."""
    given: dict[str, Any] = {
        "tenant_id": "default",
        "notification_id": "0d5f7f0e-4b5c-4c52-9f0e-6a3f6f0d8a11",
        "user_id": "6f0d8a11-4b5c-4c52-9f0e-0d5f7f0e6a3f",
        "kind": "task_overdue",
        "urgency": 2,
        "title": "A task is overdue",
        "message": "It was due yesterday.",
        "metadata": {"days": 1},
        "created_at": NOON,
        "key": "task_overdue:1:email",
        "attempt": 1,
        "address": "person@dossier.example",
    }
    return OutgoingMessage(**(given | fields))
