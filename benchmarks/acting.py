"""Acting: detecting what is late, recording what people are told, delivering it beside a bare loop that does the same.

The receiver is a process of its own on loopback; it answers at once, so that the figures are those of the sender.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import sqlalchemy as sa

from benchmarks.refreshing import explaining, joined, vacuum
from dossier_pipelines.dossiers.overdue import OverdueScope, detect_in_transaction
from dossier_pipelines.notifications.recording import DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.database import Database, execute

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
POLICY: Final = DeliveryPolicy(channels=("in_app", "webhook"))

# Answers 200 to whatever it is posted, as fast as one process can.
PEER: Final = """
import asyncio
class Peer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.data[:end].lower()
            size = int(head.split(b"content-length:")[1].split(b"\\r\\n")[0])
            if len(self.data) < end + 4 + size:
                return
            self.data = self.data[end + 4 + size:]
            self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
async def main():
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

# Takes whatever is mailed, as fast as one process can.
MAIL_PEER: Final = """
import asyncio
class Peer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data, self.mail = transport, b"", False
        transport.write(b"220 peer\\r\\n")
    def data_received(self, data):
        self.data += data
        while True:
            ends = b"\\r\\n.\\r\\n" if self.mail else b"\\r\\n"
            end = self.data.find(ends)
            if end < 0:
                return
            line, self.data = self.data[:end], self.data[end + len(ends):]
            starts = not self.mail and line[:4].upper() == b"DATA"
            self.mail = starts
            self.transport.write(b"354 go\\r\\n" if starts else b"250 ok\\r\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

# A process of its own, so that the memory is that of a delivery and nothing else: of it and of those that it starts.
DELIVER: Final = """
import json, resource, time
from dossier_pipelines.notifications.workers import deliver_together
from dossier_pipelines.shared.database import create_database
from dossier_pipelines.shared.environment import read_settings
settings = read_settings()
database = create_database(settings.database_url)
began = time.perf_counter()
result = deliver_together(database, settings)
seconds = time.perf_counter() - began
used = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"seconds": seconds, "sent": result.count("sent"), "memory_mb": used / 1024}))
"""

# The same messages by the same channel from a list in memory: what sending alone costs.
BARE: Final = """
import asyncio, json, os, sys, time
from datetime import UTC, datetime
from dossier_pipelines.notifications.channels.channel import OutgoingMessage, Sent
from dossier_pipelines.notifications.configured import configured_lanes
from dossier_pipelines.notifications.delivery import Pace
from dossier_pipelines.shared.environment import read_settings
count = int(sys.argv[1])
async def main():
    lane = configured_lanes(read_settings(), Pace())[os.environ["CHANNEL"]]
    messages = iter([OutgoingMessage(tenant_id="bench", notification_id=str(n), user_id="u", kind="commitment_overdue",
        urgency=3, title=f"Commitment overdue: item {n}", message=f"item {n} is overdue", metadata={"n": n},
        created_at=datetime.now(UTC), key=f"bench:{n}", attempt=1, address="bench@example.org") for n in range(count)])
    sent = []
    async def sender():
        for message in messages:
            async with asyncio.timeout(20):
                sent.append(isinstance(await lane.channel.send(message), Sent))
    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(lane.concurrency)))
    print(json.dumps({"seconds": time.perf_counter() - began, "sent": sum(sent)}))
    await lane.channel.close()
asyncio.run(main())
"""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A channel, its receiver, and the settings that lead there."""

    channel: str
    receiver: str

    @contextmanager
    def settings(self) -> Iterator[dict[str, str]]:
        """Run the receiver and yield the settings."""
        process = subprocess.Popen([sys.executable, "-c", self.receiver], stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout is None:
                raise RuntimeError("the receiver says nothing")
            port = int(process.stdout.readline())
            yield {
                "CHANNEL": self.channel,
                "DOSSIER_WEBHOOK_URL": f"http://127.0.0.1:{port}/",
                "DOSSIER_WEBHOOK_SECRET": SECRET,
                "DOSSIER_SMTP_HOST": "127.0.0.1",
                "DOSSIER_SMTP_PORT": str(port),
                "DOSSIER_SMTP_ENCRYPTION": "none",
            }
        finally:
            process.kill()
            process.wait()


WEBHOOK: Final = Way(channel="webhook", receiver=PEER)
MAIL: Final = Way(channel="email", receiver=MAIL_PEER)


def record(database: Database, count: int, *, people: int, label: str, channel: str | None = None) -> float:
    """Record and plan ``count`` notifications of ``people`` in one transaction; return the seconds."""
    policy = DeliveryPolicy(channels=("in_app", channel)) if channel else DeliveryPolicy()
    began = time.perf_counter()
    with database.transaction() as connection:
        connection.execute(
            sa.text("""
            INSERT INTO notifications.notifications (
                tenant_id, user_id, address, kind, urgency, title, message, metadata, dedupe_key, created_at)
            SELECT 'bench', md5(:label || n % :people)::uuid, 'bench@example.org', 'commitment_overdue', 1 + n % 4,
                'Commitment overdue: item ' || n, 'item ' || n || ' is overdue', jsonb_build_object('n', n),
                :label || n, clock_timestamp()
            FROM generate_series(1, :count) AS n"""),
            {"count": count, "people": people, "label": label},
        )
        planned = plan_deliveries(connection, policy)
    seconds = time.perf_counter() - began
    if planned.planned != count:
        raise RuntimeError(f"{planned} of {count} were planned")
    return seconds


def _child(program: str, *arguments: str, **environ: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def detection(database: Database, *, late: int, of: int) -> float:
    """Return the seconds of detecting ``late`` of ``of`` commitments, marking, recording and planning; rolled back."""
    tenant = f"late_{late}"
    with database.transaction() as connection:
        for statement in (
            "INSERT INTO platform.tenants VALUES (:tenant, 'Asia/Riyadh', '2025-11-01')",
            """INSERT INTO raw.dossiers (tenant_id, id, name, owner_id)
            SELECT :tenant, md5('d' || n)::uuid, 'Counterpart ' || n, md5('u' || n % 100)::uuid
            FROM generate_series(1, greatest(100, :of / 10)) AS n""",
            """INSERT INTO raw.commitments (
                tenant_id, id, dossier_id, description, status, due_date, owner_id, priority)
            SELECT :tenant, md5(:tenant || 'c' || n)::uuid, md5('d' || 1 + n % greatest(100, :of / 10))::uuid,
                'Deliver item ' || n, CASE WHEN n % 2 = 0 OR n <= :late THEN 'pending' ELSE 'completed' END,
                CASE WHEN n <= :late THEN date '2025-10-01' ELSE date '2026-03-01' END + n % 20,
                md5('u' || n % 90)::uuid, 'high' FROM generate_series(1, :of) AS n""",
        ):
            names = {
                name: value
                for name, value in {"tenant": tenant, "of": of, "late": late}.items()
                if f":{name}" in statement
            }
            connection.execute(sa.text(statement), names)
    vacuum(database)
    measured = []
    for _ in range(5):
        with database.engine.connect() as connection, connection.begin() as transaction:
            began = time.perf_counter()
            result = detect_in_transaction(
                connection, OverdueScope(tenant_id=tenant), now=datetime.now(UTC), run_id="bench", policy=POLICY
            )
            measured.append(time.perf_counter() - began)
            transaction.rollback()
        if result["overdueCount"] != late:
            raise RuntimeError(f"{result['overdueCount']} of {late} were found")
    return sorted(measured)[2]


def sent_before(database: Database, count: int) -> None:
    """Fill the outbox with ``count`` messages that were sent long ago."""
    with database.transaction() as connection:
        connection.execute(
            sa.text("""
            INSERT INTO notifications.deliveries (
                tenant_id, notification_id, channel, status, attempts, next_attempt_at, dedupe_key, sent_at, day)
            SELECT 'bench', md5('old' || n)::uuid, 'webhook', 'sent', 1, clock_timestamp() - interval '9 days',
                'old' || n, clock_timestamp() - interval '9 days', '2026-01-01'
            FROM generate_series(1, :count) AS n"""),
            {"count": count},
        )
    vacuum(database)


def acting_plans(database: Database) -> str:
    """Return the plans of the statements of detection, delivery and the sensors, as they ran, rolled back."""
    with explaining(database) as said, database.engine.connect() as connection, connection.begin() as transaction:
        detect_in_transaction(
            connection, OverdueScope(tenant_id="late_10000"), now=datetime.now(UTC), run_id="bench", policy=POLICY
        )
        execute(connection, "dossier_pipelines.notifications", "anything_due", {"channels": ["email", "webhook"]})
        execute(
            connection,
            "dossier_pipelines.notifications",
            "claim_deliveries",
            {"channel": "webhook", "floor": "-infinity", "batch": 128, "worker": str(uuid4()), "claim_seconds": 60},
        )
        transaction.rollback()
    return joined(said)


def measure_acting(database: Database, url: str, *, messages: int = 30_000) -> dict[str, Any]:
    """Return every figure of detection, recording and delivery."""
    figures: dict[str, Any] = {
        "detect_50_of_5000_s": detection(database, late=50, of=5_000),
        "detect_10000_of_1000000_s": detection(database, late=10_000, of=1_000_000),
        "record_100000_s": record(database, 100_000, people=20_000, label="many:"),
    }
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE notifications.deliveries SET status = 'sent' WHERE status = 'queued'"))
    vacuum(database)

    def rate(way: Way, settings: dict[str, str], label: str) -> dict[str, Any]:
        record(database, messages, people=messages, label=label, channel=way.channel)
        done = _child(DELIVER, DOSSIER_DATABASE_URL=url, **settings)
        if done["sent"] != messages:
            raise RuntimeError(f"{done['sent']} of {messages} were sent")
        return {**done, "per_s": messages / done["seconds"]}

    for way in (WEBHOOK, MAIL):
        with way.settings() as settings:
            bare, delivered = [], []
            # In turn, so that a change of the machine's speed meets both.
            for turn in range(3):
                bare.append(messages / _child(BARE, str(messages), **settings)["seconds"])
                delivered.append(rate(way, settings, f"{way.channel} {turn}:"))
            figures |= {
                f"bare_{way.channel}_per_s": sorted(bare)[1],
                f"deliver_{way.channel}_per_s": sorted(done["per_s"] for done in delivered)[1],
                f"deliver_{way.channel}_memory_mb": max(done["memory_mb"] for done in delivered),
            }
        figures[f"{way.channel}_of_bare"] = (
            figures[f"deliver_{way.channel}_per_s"] / figures[f"bare_{way.channel}_per_s"]
        )
    with WEBHOOK.settings() as settings:
        sent_before(database, 1_000_000)
        figures["deliver_after_1000000_per_s"] = rate(WEBHOOK, settings, "after:")["per_s"]
        with database.engine.connect() as holder, holder.begin():
            holder.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            holder.execute(sa.text("SELECT count(*) FROM platform.tenants"))
            figures["deliver_under_old_snapshot_per_s"] = rate(WEBHOOK, settings, "held:")["per_s"]
    return figures
