"""Rules, events and people for tests, written straight into the database, and what became of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from dossier_pipelines.automation_rules.actions import NO_DESK, ActionHandlers
from dossier_pipelines.automation_rules.answering import DEFAULT_ANSWERING, AnsweringPolicy, answer_events
from dossier_pipelines.notifications.recording import DeliveryPolicy
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.records import rows

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DELIVERY: Final = DeliveryPolicy(channels=("in_app", "email", "webhook"))
TELL_ADMINS: Final[list[dict[str, Any]]] = [
    {"action": "notify", "role": "admin", "title": "Task {task_id}", "message": "It is {days_overdue} days late."}
]


class House:
    """A tenant with an administrator, whose rules answer events."""

    def __init__(self, database: Database, tenant_id: str = "default", timezone: str = "UTC") -> None:
        self.database = database
        self.tenant_id = tenant_id
        with database.transaction() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO platform.tenants (tenant_id, timezone) VALUES (:tenant_id, :timezone) "
                    "ON CONFLICT DO NOTHING"
                ),
                {"tenant_id": tenant_id, "timezone": timezone},
            )
        self.admin = self.user("admin")

    def user(self, role: str | None = None) -> uuid.UUID:
        """Write a user."""
        identity = uuid.uuid4()
        with self.database.transaction() as connection:
            connection.execute(
                sa.text("INSERT INTO raw.users (tenant_id, id, role) VALUES (:tenant_id, :id, :role)"),
                {"tenant_id": self.tenant_id, "id": identity, "role": role},
            )
        return identity

    def rule(
        self,
        condition: str | None = None,
        actions: object = TELL_ADMINS,
        *,
        event: str = "task_overdue",
        name: str = "A rule",
        enabled: bool | None = True,
        active_since: datetime | None = None,
    ) -> uuid.UUID:
        """Write a rule."""
        identity = uuid.uuid4()
        with self.database.transaction() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO raw.automation_rules "
                    "(tenant_id, id, name, trigger_event, condition, actions, enabled, active_since) "
                    "VALUES (:tenant_id, :id, :name, :event, :condition, CAST(:actions AS jsonb), "
                    ":enabled, coalesce(CAST(:active_since AS timestamptz), clock_timestamp()))"
                ),
                {
                    "tenant_id": self.tenant_id,
                    "id": identity,
                    "name": name,
                    "event": event,
                    "condition": condition,
                    "actions": json.dumps(actions),
                    "enabled": enabled,
                    "active_since": active_since,
                },
            )
        return identity

    def event(
        self, payload: object = None, *, event: str = "task_overdue", key: str | None = None, number: int = 1
    ) -> None:
        """Record events, all in one statement."""
        given = {"task_id": "t1", "days_overdue": 4, "priority": "high"} if payload is None else payload
        with self.database.transaction() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, "
                    "dedupe_key) SELECT :tenant_id, :event, 'task', gen_random_uuid(), CAST(:payload AS jsonb), "
                    "CAST(:now AS timestamptz), concat(CAST(:key AS text), ':', n) "
                    "FROM generate_series(1, :number) AS n"
                ),
                {
                    "tenant_id": self.tenant_id,
                    "event": event,
                    "payload": json.dumps(given),
                    "now": NOW,
                    "key": key or str(uuid.uuid4()),
                    "number": number,
                },
            )

    def change(self, rule: uuid.UUID, **values: object) -> None:
        """Change a rule."""
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        self.run(f"UPDATE raw.automation_rules SET {assignments} WHERE id = :rule", rule=rule, **values)

    def run(self, sql: str, **parameters: object) -> None:
        """Run one statement."""
        with self.database.transaction() as connection:
            connection.execute(sa.text(sql), parameters)


def answer(
    database: Database,
    handlers: ActionHandlers = NO_DESK,
    *,
    run_id: str | None = None,
    policy: AnsweringPolicy = DEFAULT_ANSWERING,
    delivery: DeliveryPolicy = DELIVERY,
    **options: Any,
) -> dict[str, Any]:
    """Answer what waits, in a run of its own."""
    return answer_events(
        database, handlers, now=NOW, run_id=run_id or str(uuid.uuid4()), policy=policy, delivery=delivery, **options
    )


def make_due(database: Database) -> None:
    """Let the waits of failed executions be over."""
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE automation_rules.executions SET next_attempt_at = '2020-01-01' WHERE status = 'failed'")
        )


def statuses(database: Database) -> dict[str, int]:
    """Count the executions by status."""
    found = rows(database, "SELECT status, count(*) AS n FROM automation_rules.executions GROUP BY 1")
    return {row.status: row.n for row in found}


def logs(database: Database) -> list[Mapping[str, Any]]:
    """Return the log, oldest attempt first."""
    found = rows(
        database,
        "SELECT l.*, x.attempts FROM automation_rules.automation_logs AS l "
        "LEFT JOIN automation_rules.executions AS x USING (tenant_id, rule_id, event_id) "
        "ORDER BY l.rule_name, l.event_id, l.executed_at, l.run_id",
    )
    return [row._mapping for row in found]


def told(database: Database) -> list[tuple[uuid.UUID, str, str]]:
    """Return who was told what by rules."""
    found = rows(
        database,
        "SELECT user_id, title, message FROM notifications.notifications WHERE kind = 'automation_rule' ORDER BY 2, 1",
    )
    return [(row.user_id, row.title, row.message) for row in found]
