"""The small desk that the faults happen to: its records, its state, and the way back to how it was before."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import DAY, DEFAULTS, Records
from dossier_pipelines_tests.processes import wait_until
from dossier_pipelines_tests.records import rows, scalar

# Long past: digests of its day are due.
CLOCK: Final = datetime(2025, 6, 15, 12, tzinfo=UTC)

# What a run leaves, without ids, moments, claims and attempts. An open digest and an alert have random keys.
STATE: Final = {
    "commitments": "SELECT id, status FROM raw.commitments",
    "events": """SELECT type, entity_id, payload, occurred_at, regexp_replace(dedupe_key, '^health.*', 'health')
        FROM platform.events""",
    "unplanned": "SELECT tenant_id FROM notifications.unplanned",
    "notifications": """SELECT user_id, kind, urgency, title, message, metadata,
        CASE WHEN kind NOT IN ('digest', 'health_score_dropped') THEN dedupe_key END
        FROM notifications.notifications""",
    "deliveries": """SELECT n.user_id, n.kind, n.title, d.channel, d.status, d.last_error, d.day, d.digest_id IS NULL
        FROM notifications.deliveries AS d
        JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id""",
    "daily_counts": "SELECT user_id, sum(counted), count(digest_id) FROM notifications.daily_counts GROUP BY 1",
    "alerts": "SELECT dossier_id, kind, raised_at, cleared_at FROM dossiers.relationship_alerts",
    "scores": """SELECT dossier_id, overall_score, previous_score, band, engagement_frequency, commitment_fulfillment,
        recency, insufficient_reason, factors FROM dossiers.health_scores""",
    "engagement_stats": """SELECT dossier_id, total_engagements_365d, recent_engagements_90d, latest_engagement_date,
        engagement_frequency_score FROM dossiers.engagement_stats""",
    "commitment_stats": """SELECT dossier_id, total_commitments, active_commitments, overdue_commitments,
        fulfilled_commitments, upcoming_commitments, fulfillment_rate FROM dossiers.commitment_stats""",
    "stale_marks": "SELECT dossier_id, entity FROM platform.stale_marks",
    "held_leases": "SELECT job FROM platform.job_leases WHERE holder IS NOT NULL",
}
# What a run writes.
WRITTEN: Final = (
    "raw.commitments",
    "platform.events",
    "platform.stale_marks",
    "platform.audit_log",
    "notifications.notifications",
    "notifications.unplanned",
    "notifications.deliveries",
    "notifications.daily_counts",
    "dossiers.relationship_alerts",
    "dossiers.health_scores",
    "dossiers.health_refreshes",
    "dossiers.engagement_stats",
    "dossiers.commitment_stats",
)

_RECORD: Final = """
INSERT INTO notifications.notifications (
    tenant_id, user_id, kind, urgency, title, message, metadata, dedupe_key, created_at
)
SELECT :tenant_id, u.id, 'test', 1 + n % 4, format('Number %s', n), 'Something happened', '{}',
    format('test:%s:%s', u.id, n), CAST(:clock AS timestamptz) - (n / :many / :each_day + 1) * interval '1 day'
FROM generate_series(:first, :first + :number - 1) AS n
JOIN raw.users AS u ON u.id = (CAST(:people AS uuid[]))[1 + n % :many]
"""


class Desk(Records):
    """Three people, three dossiers that were well a month ago, and two late commitments in each."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, clock_at=CLOCK - 30 * DAY)
        self.people = [self._insert("users", name=f"Person {n}", email=f"person{n}@{n}.example") for n in range(3)]
        self.commitments: list[uuid.UUID] = []
        self.dossiers: list[uuid.UUID] = []
        for number, person in enumerate(self.people):
            dossier = self.dossier(f"Dossier {number}", owner_id=person)
            self.dossiers.append(dossier)
            self.engagements(dossier, *[CLOCK - (31 + 7 * n) * DAY for n in range(42)])
            self.commitment(dossier, "completed", due_date=date(2025, 5, 1), completed_at=CLOCK - 50 * DAY)
            self.late(dossier, self.people[number - 1], 2)
        refresh_health(database, DEFAULTS, now=CLOCK)
        self.set_clock(CLOCK)

    def late(self, dossier: uuid.UUID, owner: uuid.UUID, number: int) -> None:
        """Add commitments that are late."""
        for n in range(number):
            due = CLOCK.date() - (n + 1) * DAY
            self.commitments.append(self.commitment(dossier, due_date=due, owner_id=owner, description=f"Promise {n}"))

    def notifications(self, number: int, *, each_day: int = 2, people: int = 3, first: int = 0) -> None:
        """Record notifications, in turn for each person, so many to each on each day; nobody has planned them."""
        with self.database.transaction() as connection:
            self.record(connection, number, each_day=each_day, people=people, first=first)

    def record(self, connection: Connection, number: int, *, each_day: int, people: int = 3, first: int = 0) -> None:
        """Do the work of `notifications` in a transaction of the caller's."""
        parameters = {
            "tenant_id": self.tenant_id,
            "first": first,
            "number": number,
            "people": self.people[:people],
            "many": people,
            "clock": CLOCK,
            "each_day": each_day,
        }
        connection.execute(sa.text(_RECORD), parameters)


def state(database: Database) -> dict[str, list[str]]:
    """Return what can be compared between runs."""
    return {name: sorted(str(tuple(row)) for row in rows(database, query)) for name, query in STATE.items()}


class Before:
    """How the desk was: kept aside, and brought back as often as one likes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._run("CREATE SCHEMA before", *(f"CREATE TABLE before.{_flat(t)} AS TABLE {t}" for t in WRITTEN))

    def bring_back(self) -> None:
        """Bring it back, when whoever was killed is gone from the server."""
        await_gone(self.database)
        self._run(
            "SET LOCAL session_replication_role = replica",
            *(f"DELETE FROM {table}" for table in WRITTEN),
            *(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE before.{_flat(table)}" for table in WRITTEN),
        )

    def _run(self, *statements: str) -> None:
        with self.database.transaction() as connection:
            for text in statements:
                connection.execute(sa.text(text))


def _flat(table: str) -> str:
    return table.replace(".", "_")


def await_gone(database: Database) -> None:
    """Wait until the server has noticed that the processes of others ended."""
    database.engine.dispose()
    query = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = :kind"
    wait_until(lambda: scalar(database, query, kind="client backend"), "only this process is connected")


def expire_claims(database: Database) -> None:
    """Let the time pass after which claims of the dead end; also that of failed attempts."""
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "UPDATE notifications.deliveries SET next_attempt_at = clock_timestamp() "
                "WHERE status IN ('sending', 'failed')"
            )
        )


def pending(database: Database) -> int:
    """Return how many messages have not gone out."""
    query = "SELECT count(*) FROM notifications.deliveries WHERE status <> 'sent'"
    return int(scalar(database, query))


def unfinished(database: Database) -> int:
    """Return how many messages have neither gone out nor been given up."""
    return int(scalar(database, "SELECT count(*) FROM notifications.deliveries WHERE status NOT IN ('sent', 'dead')"))


def column(database: Database, sql: str, **parameters: Any) -> list[Any]:
    """Return the first column of a query."""
    return [row[0] for row in rows(database, sql, **parameters)]
