"""The key logic of the original's five jobs as it was written: read a tenant's records, go through them one by one.

On our tables and the same data, over one connection, so that only the way of working differs. Source of the logic: the
document in which the original was described ("Key Logic" of each job).
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HOURS: Final = {"critical": 24, "high": 48, "medium": 120, "low": 240}
TABLES: Final = (
    "CREATE SCHEMA original; "
    "CREATE TABLE original.written (kind text, id uuid, said jsonb, at timestamptz DEFAULT clock_timestamp())"
)


def _rows(connection: Connection, sql: str, **values: object) -> list[sa.Row[Any]]:
    return list(connection.execute(sa.text(sql), values))


def _write(connection: Connection, kind: str, record: object, **said: object) -> None:
    connection.execute(
        sa.text("INSERT INTO original.written (kind, id, said) VALUES (:kind, :id, CAST(:said AS jsonb))"),
        {"kind": kind, "id": record, "said": json.dumps(said, default=str)},
    )


def check_sla_and_overdue(connection: Connection, tenant_id: str, now: datetime) -> None:
    """Look at every open task; an event and an audit row for each that is late."""
    for task in _rows(
        connection, "SELECT * FROM raw.tasks WHERE tenant_id = :of AND status <> 'completed'", of=tenant_id
    ):
        if task.due_date < now - timedelta(minutes=15):
            _write(connection, "flag", task.id)
            _write(connection, "task_overdue", task.id, case_id=task.case_id, days_overdue=(now - task.due_date).days)
            _write(connection, "audit", task.id)
        if task.created_at + timedelta(hours=HOURS[task.priority]) <= now:
            _write(connection, "sla_violation", task.id, sla_threshold=HOURS[task.priority])
            _write(connection, "audit", task.id)


def _party(connection: Connection, tenant_id: str, case_id: object) -> sa.Row[Any]:
    return _rows(connection, "SELECT * FROM raw.cases WHERE tenant_id = :of AND id = :id", of=tenant_id, id=case_id)[0]


def send_hearing_reminders(connection: Connection, tenant_id: str, now: datetime) -> None:
    """Look at every hearing of today and tomorrow; a message to the owner and one to the advocate."""
    for hearing in _rows(
        connection,
        "SELECT * FROM raw.hearings WHERE tenant_id = :of AND status = 'scheduled' "
        "AND hearing_date BETWEEN :now AND :end",
        of=tenant_id,
        now=now,
        end=now + timedelta(days=2),
    ):
        case = _party(connection, tenant_id, hearing.case_id)
        for person in {case.owner_id, case.assigned_to} - {None}:
            user = _rows(
                connection, "SELECT * FROM raw.users WHERE tenant_id = :of AND id = :id", of=tenant_id, id=person
            )
            _write(connection, "hearing_reminder", person, case=case.case_number, mail=bool(user))
        _write(connection, "audit", hearing.id)


def check_upcoming_deadlines(connection: Connection, tenant_id: str, now: datetime) -> None:
    """Look at every task and hearing of the next 24 hours; group them by person; a message each."""
    due: dict[object, list[object]] = defaultdict(list)
    window = {"of": tenant_id, "now": now, "end": now + timedelta(hours=24)}
    for task in _rows(
        connection,
        "SELECT * FROM raw.tasks WHERE tenant_id = :of AND status IN ('pending', 'in_progress') "
        "AND due_date BETWEEN :now AND :end",
        **window,
    ):
        case = _party(connection, tenant_id, task.case_id)
        due[task.assigned_to or case.owner_id].append(task.id)
        _write(connection, "deadline_approaching", task.id)
    for hearing in _rows(
        connection,
        "SELECT * FROM raw.hearings WHERE tenant_id = :of AND status = 'scheduled' "
        "AND hearing_date BETWEEN :now AND :end",
        **window,
    ):
        case = _party(connection, tenant_id, hearing.case_id)
        for person in (case.owner_id, case.assigned_to):
            due[person].append(hearing.id)
        _write(connection, "deadline_approaching", hearing.id)
    for person, items in due.items():
        _write(connection, "deadlines", person, items=items)


def analytics_snapshot(connection: Connection, tenant_id: str, now: datetime) -> None:
    """Read all records of the tenant and count; compare with the seven days before."""
    tasks = _rows(connection, "SELECT * FROM raw.tasks WHERE tenant_id = :of", of=tenant_id)
    hearings = _rows(connection, "SELECT * FROM raw.hearings WHERE tenant_id = :of", of=tenant_id)
    cases = _rows(connection, "SELECT * FROM raw.cases WHERE tenant_id = :of AND closed_at IS NULL", of=tenant_id)
    documents = _rows(connection, "SELECT * FROM raw.case_documents WHERE tenant_id = :of", of=tenant_id)
    done = [task for task in tasks if task.status == "completed"]
    in_time = [t for t in done if t.completed_at <= t.created_at + timedelta(hours=HOURS[t.priority])]
    held = [hearing for hearing in hearings if hearing.status == "completed"]
    metrics = {
        "case_count": len(cases),
        "task_completion_rate": len(done) / max(1, len(tasks)),
        "sla_compliance_rate": len(in_time) / max(1, len(tasks)),
        "hearing_attendance_rate": sum(bool(h.attended) for h in held) / max(1, len(held)),
        "document_count": len(documents),
        "overdue_tasks": sum(t.status != "completed" and t.due_date < now for t in tasks),
    }
    for metric, value in metrics.items():
        before = _rows(
            connection,
            "SELECT avg(value) AS mean FROM (SELECT value FROM litigation.daily_metrics WHERE tenant_id = :of "
            "AND metric = :metric ORDER BY day DESC LIMIT 7) AS x",
            of=tenant_id,
            metric=metric,
        )[0].mean
        unusual = before is not None and abs(value - before) > 0.3 * abs(before)
        _write(connection, "snapshot", None, metric=metric, value=value, anomaly_detected=unusual)


def automation_health_check(connection: Connection, tenant_id: str, now: datetime) -> None:
    """Read the log of 24 hours and count by rule."""
    counts: dict[object, list[bool]] = defaultdict(list)
    for log in _rows(
        connection,
        "SELECT * FROM automation_rules.automation_logs WHERE tenant_id = :of AND executed_at > :since",
        of=tenant_id,
        since=now - timedelta(hours=24),
    ):
        counts[log.rule_id].append(log.status == "success")
    for rule_id, ended in counts.items():
        if sum(ended) / len(ended) < 0.8:
            _write(connection, "degraded", rule_id)


JOBS: Final = {
    "check_sla_and_overdue_job": check_sla_and_overdue,
    "send_hearing_reminders_job": send_hearing_reminders,
    "analytics_snapshot_job": analytics_snapshot,
    "check_upcoming_deadlines_job": check_upcoming_deadlines,
    "automation_health_check_job": automation_health_check,
}
