"""Overdue detection: mark what is late, record it, tell its people, all in one transaction.

What is late, who is told and in which words is in sql/detect_overdue.sql. Run again after a crash at any point it
leaves the same state as one clean run: a mark, an event and a notification are each made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dossier_pipelines.dossiers.refresh import PACKAGE
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.audit import record_results, took_effect
from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.tenants import require_past

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease

JOB: Final = "detect_overdue_commitments"
# The document is stored with the run and shown in the UI; platform.events has all of them.
MOST_LISTED: Final = 200


@dataclass(frozen=True, kw_only=True)
class OverdueScope:
    """Which commitments to look at; by default those of all tenants, as of their own clocks."""

    as_of: datetime | None = None
    tenant_id: str | None = None
    dossier_id: str | None = None
    dry_run: bool = False


def detect_overdue(
    database: Database,
    scope: OverdueScope,
    *,
    now: datetime,
    run_id: str,
    policy: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Detect, mark, record and notify; return the result document without the refresh that follows.

    ``now`` is when people are told. Raises UserError for a moment that is later than the clock of a tenant, unless it
    is a dry run. With ``lease``, LeaseLostError is raised and nothing written unless it is held.
    """
    attempted: dict[str, Any] = {}

    def detect(connection: Connection) -> dict[str, Any]:
        if took_effect(connection, run_id=run_id, attempted=attempted):
            return attempted
        attempted.clear()
        attempted.update(detect_in_transaction(connection, scope, now=now, run_id=run_id, policy=policy, lease=lease))
        return attempted

    return database.in_transaction(detect)


def detect_in_transaction(
    connection: Connection,
    scope: OverdueScope,
    *,
    now: datetime,
    run_id: str,
    policy: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Do the work of `detect_overdue` in a transaction of the caller's."""
    if lease is not None:
        lease.require(connection)
    if scope.as_of is not None and not scope.dry_run:
        named = {"tenant_id": scope.tenant_id}
        tenants = [row.tenant_id for row in execute(connection, PACKAGE, "tenants", named)]
        require_past(connection, scope.as_of, tenants=tenants, now=now)
    # The history of the marks names who made them.
    connection.execute(sa.text("SELECT set_config('dossiers.status_cause', 'detection', true)"))
    found = execute(
        connection,
        PACKAGE,
        "detect_overdue",
        {
            "as_of": scope.as_of,
            "now": now,
            "tenant_id": scope.tenant_id,
            "dossier_id": scope.dossier_id,
            "dry_run": scope.dry_run,
            "run_id": run_id,
        },
    ).all()
    connection.execute(sa.text("SELECT set_config('dossiers.status_cause', '', true)"))
    notifications = found[0].notifications if found else 0
    if notifications:
        plan_deliveries(connection, policy, run_id=run_id)
    results = {
        "overdueCount": len(found),
        "affectedDossiers": len({(row.tenant_id, row.dossier_id) for row in found}),
        "notificationsSent": notifications,
        "eventsRecorded": found[0].events if found else 0,
        "healthScoresRecalculated": 0,
        "dryRun": scope.dry_run,
        "commitments": [
            {
                "id": str(row.id),
                "dossierId": str(row.dossier_id),
                "description": row.description,
                "dueDate": row.due_date.isoformat(),
                "ownerId": str(row.owner_id) if row.owner_id else None,
                "previousStatus": row.previous_status,
                "newStatus": row.previous_status if scope.dry_run else "overdue",
            }
            for row in found[:MOST_LISTED]
        ],
    }
    record_results(connection, run_id=run_id, job=JOB, results=results)
    return results
