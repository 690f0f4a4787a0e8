"""The checker: what the receivers took, held against what the outbox says that they should have.

Nothing lost: every delivery is 'sent' and its receiver took it, for the right person. Nothing repeated, but for what
was in flight when a worker was killed: that at most once for each kill, under the same key and with the same content.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from dossier_pipelines.notifications.rendering import message_id
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.faults.peers import Peers
from dossier_pipelines_tests.records import rows

DOMAIN = "desk.example"

_OUTBOX = """
SELECT d.channel, d.tenant_id, d.dedupe_key, d.status, n.user_id, coalesce(n.address, u.email) AS address
FROM notifications.deliveries AS d
JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id
LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
WHERE d.channel <> 'in_app'
"""


@dataclass(frozen=True)
class Message:
    """A message as its receiver knows it."""

    channel: str
    recipient: str
    key: str


def outbox(database: Database) -> dict[Message, str]:
    """Return every message that must go out, and its status."""
    found = {}
    for row in rows(database, _OUTBOX):
        key = f"{row.tenant_id}:{row.dedupe_key}"
        if row.channel == "email":
            message = Message("email", row.address, message_id(key, DOMAIN))
        else:
            digest = hashlib.sha256(key.encode()).hexdigest()[:40]
            message = Message("webhook", str(row.user_id), f"msg_{digest}")
        assert message not in found, "two messages have one key"
        found[message] = row.status
    return found


@dataclass
class History:
    """The deaths of workers, and what came of it all."""

    database: Database
    peers: Peers
    kills: int = 0
    in_flight: Counter[Message] = field(default_factory=Counter)

    def died(self) -> None:
        """Note what a worker that was just killed had in hand."""
        self.kills += 1
        self.in_flight.update(message for message, status in outbox(self.database).items() if status == "sending")

    def check(self) -> dict[str, int]:
        """Require that nothing is lost and nothing repeated without need; return the counts."""
        expected = outbox(self.database)
        contents: dict[Message, list[bytes]] = defaultdict(list)
        for receipt in self.peers.taken:
            contents[Message(receipt.channel, receipt.recipient, receipt.key)].append(receipt.content)
        lost = expected.keys() - contents.keys()
        repeats = {message: len(copies) - 1 for message, copies in contents.items() if len(copies) > 1}
        assert Counter(expected.values()).keys() == {"sent"}
        assert not lost
        assert not contents.keys() - expected.keys(), "nobody was to be told this"
        assert {m: n for m, n in repeats.items() if n > self.in_flight[m]} == {}, "it was not in flight at a kill"
        assert [message for message, copies in contents.items() if len(set(copies)) > 1] == [], "a repeat differs"
        return {"sent": len(contents), "repeated": sum(repeats.values()), "lost": len(lost)}


def say(suite: str, **counts: int) -> None:
    """Print the summary line of a suite."""
    print(f"{suite}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
