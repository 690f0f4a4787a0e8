"""Delivery: take what is due from the outbox, make one attempt each, write down how it ended.

Any number of workers share the outbox. Each channel is a lane of its own, with its own connections and its own pace,
so that a receiver that hangs holds up nobody else's messages. A worker that dies leaves its claims to expire; what it
was sending is sent again under the same key: delivered at least once, recorded exactly once.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dossier_pipelines.notifications.channels.channel import (
    Channel,
    DigestItem,
    FallBack,
    OutgoingMessage,
    Refused,
    Sent,
    TryAgain,
    Verdict,
)
from dossier_pipelines.notifications.recording import PACKAGE, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.database import Database, execute

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

EVERYTHING: Final = "-infinity"
LONGEST_PROVIDER_ID: Final = 200
# A lane that is through with a claim sooner than this takes twice as much the next time.
QUICK_SECONDS: Final = 1.0
# How long an outcome waits for others. A worker that is killed meanwhile leaves so many more messages to be repeated.
GATHER_SECONDS: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again: exponentially later, with jitter, until ``attempts`` were made."""

    attempts: int = 8
    first_seconds: float = 30.0
    longest_seconds: float = 3600.0

    def seconds(self, attempt: int) -> float:
        """Return how long to wait after ``attempt`` (1, 2, ...) failed: half to one and a half of the doubled time."""
        return min(self.longest_seconds, self.first_seconds * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One channel and how it is used."""

    channel: Channel
    concurrency: int
    limit: int | None = None
    """At most so many in one run; the rest goes out with a later one."""
    mail_stands_in: bool = False
    """What is given up here after its last attempt goes by mail, if it does not anyway."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The times of delivery, in seconds."""

    deadline: float = 20.0
    """What one attempt may take in all."""
    claim: float = 90.0
    """After so long a silent worker counts as dead. Longer than a claimed message can wait and be tried."""

    def __post_init__(self) -> None:
        """Refuse times with which no message would ever be tried."""
        if self.claim <= self.deadline:
            raise ValueError(f"a claim of {self.claim:g} s ends before an attempt of {self.deadline:g} s does")


@dataclass(kw_only=True)
class DeliveryResult:
    """How the attempts of one delivery ended, by channel and status."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    def count(self, status: str) -> int:
        """Return the attempts that ended as ``status``."""
        return sum(count for (_, ended), count in self.outcomes.items() if ended == status)


def deliver_due(
    database: Database,
    lanes: Mapping[str, Lane],
    policy: DeliveryPolicy,
    *,
    retries: RetryPolicy | None = None,
    pace: Pace | None = None,
    run_id: str | None = None,
) -> DeliveryResult:
    """Plan what is not planned yet, then deliver everything that is due; return when nothing is."""
    began = time.monotonic()
    database.in_transaction(lambda connection: plan_deliveries(connection, policy, run_id=run_id))
    result = DeliveryResult()
    asyncio.run(_deliver(database, lanes, retries or RetryPolicy(), pace or Pace(), result))
    result.seconds = time.monotonic() - began
    return result


async def _deliver(
    database: Database, lanes: Mapping[str, Lane], retries: RetryPolicy, pace: Pace, result: DeliveryResult
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for name, lane in lanes.items():
                group.create_task(_Worker(database, name, lane, retries, pace, result).run())
    finally:
        for lane in lanes.values():
            await lane.channel.close()


@dataclass(frozen=True, kw_only=True)
class _Claim:
    at: float
    messages: list[OutgoingMessage]
    newest: object


class _Worker:
    """One lane's run: a producer that claims, senders, and a recorder, joined by bounded queues."""

    def __init__(
        self, database: Database, name: str, lane: Lane, retries: RetryPolicy, pace: Pace, result: DeliveryResult
    ) -> None:
        self.database = database
        self.name = name
        self.lane = lane
        self.retries = retries
        self.pace = pace
        self.result = result
        self.identity = str(uuid.uuid4())
        self.left = lane.limit
        # A message that waited longer could still be on its way, or not be written down yet, when its claim ends.
        left = pace.claim - pace.deadline
        self.untried_seconds = left - min(pace.deadline, left / 2)
        self.waiting: asyncio.Queue[tuple[OutgoingMessage, float] | None] = asyncio.Queue(lane.concurrency)
        self.ended: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(lane.concurrency * 32)

    async def run(self) -> None:
        """Deliver until nothing is due that this lane has not tried."""
        while True:
            untried = self.result.outcomes[self.name, "queued"]
            await self._deliver_what_is_due()
            if self.result.outcomes[self.name, "queued"] == untried:
                return

    async def _deliver_what_is_due(self) -> None:
        async with asyncio.TaskGroup() as group:
            recorder = group.create_task(self._record())
            senders = [group.create_task(self._send()) for _ in range(self.lane.concurrency)]
            await self._claim(group)
            for _ in senders:
                await self.waiting.put(None)
            await asyncio.wait(senders)
            await self.ended.put(None)
            await asyncio.wait([recorder])

    async def _claim(self, group: asyncio.TaskGroup) -> None:
        floor: object = EVERYTHING
        least = batch = self.lane.concurrency * 2
        began = 0.0
        claims = 0
        ahead: asyncio.Task[_Claim] | None = None
        while self.left is None or self.left > 0:
            claim = await (ahead or self._claimed(floor, batch))
            ahead = None
            if not claim.messages:
                if floor == EVERYTHING:
                    return
                # Whatever came late lies before the floor.
                floor = EVERYTHING
                continue
            floor = claim.newest
            self.left = None if self.left is None else self.left - len(claim.messages)
            # What a quick receiver takes at once a slow one would let wait until its claim ends. The first two claims
            # tell nothing: they are waiting and on their way.
            claims += 1
            quick = claims > 2 and claim.at - began < min(QUICK_SECONDS, self.untried_seconds / 8)
            began = claim.at
            batch = min(batch * 2, self.lane.concurrency * 16) if quick else least
            if quick and self.left != 0:
                # The senders have work while the next claim is on its way.
                ahead = group.create_task(self._claimed(floor, batch))
            await self._hand_over(claim)

    async def _hand_over(self, claim: _Claim) -> None:
        """Let the senders have a claim's messages; what they do not take in time goes back as it came."""
        for message in claim.messages:
            try:
                # Those that wait behind a message on its way have one more attempt's time.
                left = claim.at + self.untried_seconds - self.pace.deadline - time.monotonic()
                async with asyncio.timeout(max(0.0, left)):
                    await self.waiting.put((message, claim.at))
            except TimeoutError:
                await self.ended.put(self._outcome(message, None))

    async def _claimed(self, floor: object, batch: int) -> _Claim:
        at = time.monotonic()
        messages, newest = await asyncio.to_thread(
            self._claim_batch, floor, batch if self.left is None else min(batch, self.left)
        )
        return _Claim(at=at, messages=messages, newest=newest)

    def _claim_batch(self, floor: object, batch: int) -> tuple[list[OutgoingMessage], object]:
        def claim(connection: Connection) -> list[sa.Row[Any]]:
            return list(
                execute(
                    connection,
                    PACKAGE,
                    "claim_deliveries",
                    {
                        "channel": self.name,
                        "floor": floor,
                        "batch": batch,
                        "worker": self.identity,
                        "claim_seconds": self.pace.claim,
                    },
                )
            )

        rows = self.database.in_transaction(claim)
        items = self._digest_items([row for row in rows if row.kind == "digest"])
        return [self._message(row, items) for row in rows], rows[-1].due_at if rows else floor

    def _digest_items(self, digests: list[sa.Row[Any]]) -> dict[str, list[DigestItem]]:
        """Close digests and return what they carry."""
        found: dict[str, list[DigestItem]] = {}
        for tenant_id in sorted({row.tenant_id for row in digests}):
            chosen = {
                "tenant_id": tenant_id,
                "digests": [str(row.notification_id) for row in digests if row.tenant_id == tenant_id],
            }
            for item in self.database.in_transaction(
                functools.partial(_close_and_read, channel=self.name, chosen=chosen)
            ):
                found.setdefault(str(item.digest_id), []).append(
                    DigestItem(title=item.title, message=item.message, urgency=item.urgency, created_at=item.created_at)
                )
        return found

    def _message(self, row: sa.Row[Any], items: Mapping[str, list[DigestItem]]) -> OutgoingMessage:
        identity = str(row.notification_id)
        message = OutgoingMessage(
            tenant_id=row.tenant_id,
            notification_id=identity,
            user_id=str(row.user_id),
            kind=row.kind,
            urgency=row.urgency,
            title=row.title,
            message=row.message,
            metadata=row.metadata,
            created_at=row.created_at,
            key=row.dedupe_key,
            attempt=row.attempts,
            address=row.address,
            name=row.name,
            phone=row.phone,
            locale=row.locale or "en",
            timezone=known_zone(row.timezone, row.tenant_timezone),
        )
        if row.kind != "digest":
            return message
        carried = tuple(items.get(identity, ()))
        return replace(message, items=carried)

    async def _send(self) -> None:
        while (taken := await self.waiting.get()) is not None:
            message, claimed = taken
            verdict: Verdict | None
            if time.monotonic() - claimed > self.untried_seconds:
                # Another worker may take it any moment: it goes back as it came.
                verdict = None
            else:
                verdict = await self._attempt(message)
            await self.ended.put(self._outcome(message, verdict))

    async def _attempt(self, message: OutgoingMessage) -> Verdict:
        try:
            async with asyncio.timeout(self.pace.deadline):
                return await self.lane.channel.send(message)
        except TimeoutError:
            return TryAgain(reason=f"no answer within {self.pace.deadline:g} s")
        # A defect of a channel shows with one message; the others go out, and this one is found among the dead.
        except Exception as error:  # noqa: BLE001
            return TryAgain(reason=f"the channel failed by a defect: {type(error).__name__}")

    def _outcome(self, message: OutgoingMessage, verdict: Verdict | None) -> dict[str, Any]:
        outcome: dict[str, Any] = {
            "tenant_id": message.tenant_id,
            "notification_id": message.notification_id,
            "channel": self.name,
            "attempt": message.attempt,
        }
        match verdict:
            case None:
                outcome |= {"status": "queued"}
            case Sent():
                outcome |= {"status": "sent", "provider_id": _storable(verdict.provider_id)}
            case Refused():
                outcome |= {"status": "dead", "error": verdict.reason}
            case FallBack():
                outcome |= {"status": "dead", "error": verdict.reason, "falls_back": True}
            case TryAgain() if message.attempt >= self.retries.attempts:
                outcome |= {"status": "dead", "error": verdict.reason, "falls_back": self.lane.mail_stands_in}
            case TryAgain():
                # A receiver that asks for no wait at all would have every attempt within a second.
                seconds = max(self.retries.seconds(message.attempt), verdict.seconds or 0.0)
                outcome |= {"status": "failed", "error": verdict.reason, "seconds": seconds}
        return outcome

    async def _record(self) -> None:
        while True:
            outcomes = [await self.ended.get()]
            # Those that end in the meantime share a transaction.
            await asyncio.sleep(GATHER_SECONDS)
            while not self.ended.empty():
                outcomes.append(self.ended.get_nowait())
            made = [outcome for outcome in outcomes if outcome is not None]
            if made:
                await asyncio.to_thread(self._write, made)
                self.result.outcomes.update((self.name, outcome["status"]) for outcome in made)
            if None in outcomes:
                return

    def _write(self, outcomes: list[dict[str, Any]]) -> None:
        written = {"outcomes": json.dumps(outcomes)}

        def write(connection: Connection) -> None:
            execute(connection, PACKAGE, "record_outcomes", {**written, "worker": self.identity})
            if any(outcome.get("falls_back") for outcome in outcomes):
                execute(connection, PACKAGE, "fall_back_to_mail", written)

        self.database.in_transaction(write)


def _storable(text: str | None) -> str | None:
    """Return a receiver's words as PostgreSQL can hold them: they may be no UTF-8, and without end."""
    return text and text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")[:LONGEST_PROVIDER_ID]


@functools.lru_cache
def known_zone(*names: str | None) -> str:
    """Return the first of ``names`` that is a time zone, or UTC: somebody may have written any word with psql."""
    for name in names:
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):
            if name:
                return ZoneInfo(name).key
    return "UTC"


def _close_and_read(connection: Connection, *, channel: str, chosen: Mapping[str, object]) -> list[sa.Row[Any]]:
    execute(connection, PACKAGE, "close_digests", chosen)
    return list(execute(connection, PACKAGE, "digest_items", {**chosen, "channel": channel}))
