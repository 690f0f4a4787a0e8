"""Receivers on loopback: a mail server and an HTTP server that write down what they take, and make trouble if told.

They live in threads of the test's process, so that what they took outlives every sender that is killed. Trouble is
told per recipient: a mail address, or the user id in a webhook's document.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope, Session

DRIP_SECONDS: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the two receivers listen."""

    smtp_port: int
    http_port: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A message that a receiver took."""

    channel: str
    recipient: str
    key: str
    content: bytes


@dataclass(frozen=True)
class Exchange:
    """One message on a connection that trouble has its way with."""

    transport: asyncio.Transport
    gone: Callable[[], Awaitable[object]]
    """Returns when the sender has hung up."""

    def write(self, data: bytes) -> None:
        """Say something."""
        self.transport.write(data)

    def reset(self) -> None:
        """Break the connection off, in the rudest way that TCP has."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def drip(self, data: bytes) -> None:
        """Say ``data`` and go on for ever, a byte at a time."""
        self.write(data)
        while not self.transport.is_closing():
            self.write(b"x")
            await asyncio.sleep(DRIP_SECONDS)


# A trouble answers in place of the receiver; for SMTP it may return the reply.
Trouble = Callable[[Exchange], Awaitable[str | None]]


async def hang(exchange: Exchange) -> None:
    """Say nothing, ever."""
    await exchange.gone()


async def reset(exchange: Exchange) -> None:
    """Break the connection off."""
    exchange.reset()


async def garbage(exchange: Exchange) -> None:
    """Say what no protocol knows."""
    exchange.write(b"\x00\xff\xfe no protocol at all\r\n\r\n")
    exchange.transport.close()


def drip(data: bytes) -> Trouble:
    """Begin with ``data`` and never end."""

    async def trouble(exchange: Exchange) -> None:
        await exchange.drip(data)

    return trouble


def answer(status: int, **headers: str) -> Trouble:
    """Answer an HTTP request with a status and headers, ``retry_after="7"``."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def trouble(exchange: Exchange) -> None:
        exchange.write(f"HTTP/1.1 {status} Trouble\r\n{lines}content-length: 0\r\n\r\n".encode())

    return trouble


def reply(line: str) -> Trouble:
    """Reply to a mail with a line such as ``451 later``."""

    async def trouble(_exchange: Exchange) -> str:
        return line

    return trouble


def until(event: threading.Event, *, then: str) -> Trouble:
    """Hang until ``event`` is set, and reply ``then``."""

    async def trouble(_exchange: Exchange) -> str:
        await asyncio.get_running_loop().run_in_executor(None, event.wait)
        return then

    return trouble


@dataclass
class Peers:
    """Both receivers.

    ``troubles`` holds what awaits each recipient's next messages, one each; ``lasting`` what awaits all of them.
    """

    troubles: dict[str, list[Trouble]] = field(default_factory=dict)
    lasting: dict[str, Trouble] = field(default_factory=dict)
    taken: list[Receipt] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The recipient of every message that came, taken or not."""

    def __enter__(self) -> Peers:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peers", daemon=True)
        self._thread.start()
        self._smtp, self._http = self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def addresses(self) -> Addresses:
        """Where they listen."""
        smtp, http = (server.sockets[0].getsockname()[1] for server in (self._smtp, self._http))
        return Addresses(smtp_port=smtp, http_port=http)

    def recover(self) -> None:
        """End all trouble."""
        self.troubles.clear()
        self.lasting.clear()

    def forget(self) -> None:
        """Begin a new record."""
        self.taken.clear()
        self.asked.clear()

    def count(self, channel: str) -> int:
        """Return how many messages a receiver took."""
        return sum(receipt.channel == channel for receipt in self.taken)

    def trouble_of(self, recipient: str) -> Trouble | None:
        """Take the trouble that awaits a message to ``recipient``."""
        self.asked.append(recipient)
        waiting = self.troubles.get(recipient)
        return waiting.pop(0) if waiting else self.lasting.get(recipient)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> tuple[asyncio.Server, asyncio.Server]:
        smtp = await self._loop.create_server(
            lambda: SMTP(_Mailman(self), loop=self._loop, hostname="localhost", ident="peer"), "127.0.0.1", 0
        )
        http = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return smtp, http

    async def _end(self) -> None:
        self._smtp.close()
        self._http.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            while not writer.is_closing():
                await self._exchange(reader, writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = email.message_from_bytes((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[2])
        body = await reader.readexactly(int(head["content-length"]))
        recipient = json.loads(body)["data"]["user_id"]
        trouble = self.trouble_of(recipient)
        if trouble is not None:
            await trouble(Exchange(writer.transport, lambda: reader.read(1)))
            return
        assert head["idempotency-key"] == head["webhook-id"]
        self.taken.append(Receipt(channel="webhook", recipient=recipient, key=head["idempotency-key"], content=body))
        writer.write(b"HTTP/1.1 204 Taken\r\n\r\n")
        await writer.drain()


class _Mailman:
    """What the mail server does with what it is handed."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        (recipient,) = envelope.rcpt_tos
        trouble = self.peers.trouble_of(recipient)
        if trouble is not None:
            assert server.transport is not None
            said = await trouble(Exchange(server.transport, asyncio.Event().wait))
            if said is None:
                # What was to be said was said.
                await asyncio.Event().wait()
            if said is not None and not said.startswith("250"):
                return said
        content = envelope.original_content
        assert content is not None
        key = email.message_from_bytes(content)["Message-ID"]
        self.peers.taken.append(Receipt(channel="email", recipient=recipient, key=key, content=content))
        return "250 taken"
