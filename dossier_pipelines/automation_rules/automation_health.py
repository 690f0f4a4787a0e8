"""The health of the rules: how many executions failed, which rules fail too often or are silent, and who hears of it.

Figures, thresholds and words are in sql/judge_rules.sql. Each trouble is told once, until it clears.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from dossier_pipelines.automation_rules.actions import PACKAGE
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.audit import read_results, record_results
from dossier_pipelines.shared.daily_jobs import TenantDay, record_done, tenants_due
from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.tenants import require_tenant

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease

# Under which name a day is written down as done, and what the result document calls the job, as the original did.
JOB: Final = "automation_health_check"
SHOWN_AS: Final = "automation-health-check"
# At this hour of each tenant's own day.
HOUR: Final = 7
# The document is stored with the run and shown in the UI; automation_rules.health_alerts has all that is wrong.
MOST_LISTED: Final = 200


@dataclass(frozen=True, kw_only=True)
class HealthScope:
    """Whose rules to judge: by default those of the tenants whose day it is, or one tenant's, or everybody's.

    ``as_of`` is for a look: alerts come, are told and go as of the present. With it the default is everybody's.
    """

    tenant_id: str | None = None
    everybody: bool = False
    as_of: datetime | None = None
    dry_run: bool = False


def due_for_health(connection: Connection, *, now: datetime) -> list[TenantDay]:
    """Return the tenants for whom the check of the day is due, of those that have rules, or alerts of former ones."""
    among = [row.tenant_id for row in execute(connection, PACKAGE, "tenants")]
    return tenants_due(connection, JOB, among=among, hour=HOUR, now=now)


def check_health(
    database: Database,
    scope: HealthScope,
    *,
    now: datetime,
    run_id: str,
    delivery: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Judge the rules as of ``now``, or as of the moment of ``scope``, and return the figures.

    Raises UserError for a tenant that is none, and for a moment of ``scope`` unless it is a dry run. With ``lease``,
    LeaseLostError is raised and nothing written unless it is held.
    """

    def check(connection: Connection) -> dict[str, Any]:
        if lease is not None:
            lease.require(connection)
        # The commit may have taken effect though its answer was lost; then the tenants are not due any more.
        recorded = read_results(connection, run_id=run_id)
        if recorded:
            return recorded
        results = _check(connection, scope, now=now, run_id=run_id, delivery=delivery)
        record_results(connection, run_id=run_id, job=JOB, results=results)
        return results

    return database.in_transaction(check)


def _check(
    connection: Connection, scope: HealthScope, *, now: datetime, run_id: str, delivery: DeliveryPolicy
) -> dict[str, Any]:
    if scope.as_of is not None and not scope.dry_run:
        raise UserError(
            f"as_of is {scope.as_of.isoformat()}: the rules of another moment can only be looked at, since alerts are "
            "raised, told and cleared as of now. Set dry_run to true, or leave as_of out. Nothing was done."
        )
    if scope.tenant_id is not None:
        require_tenant(connection, scope.tenant_id)
    asked = scope.tenant_id is not None or scope.everybody or scope.as_of is not None
    due = [] if asked else due_for_health(connection, now=now)
    tenants: list[str] | None = [one.tenant_id for one in due]
    if asked:
        tenants = [scope.tenant_id] if scope.tenant_id else None
    found: Sequence[Any] = execute(
        connection,
        PACKAGE,
        "judge_rules",
        {
            "tenants": tenants,
            "as_of": scope.as_of or now,
            "now": now,
            "run_id": run_id,
            "dry_run": scope.dry_run,
        },
    ).all()
    told = found[0].told if found else 0
    if told:
        plan_deliveries(connection, delivery, run_id=run_id)
    if due and not scope.dry_run:
        record_done(connection, JOB, due, run_id=run_id, now=now)
    total = sum(row.total for row in found)
    failed = sum(row.failed for row in found)
    return {
        "tenants": len(found),
        **_figures(total, failed),
        "degraded_rules": sum(len(row.degraded) for row in found),
        "inactive_rules": sum(len(row.inactive) for row in found),
        "alertsRaised": found[0].raised if found else 0,
        "alertsCleared": found[0].cleared if found else 0,
        "notificationsSent": told,
        "dryRun": scope.dry_run,
        "byTenant": [
            {
                "tenant_id": row.tenant_id,
                **_figures(row.total, row.failed),
                "degraded_rules": row.degraded[:MOST_LISTED],
                "inactive_rules": row.inactive[:MOST_LISTED],
            }
            for row in found[:MOST_LISTED]
        ],
    }


def _figures(total: int, failed: int) -> dict[str, int | float | None]:
    """Return the counts and their rate; where nothing ran there is none."""
    return {
        "total_executions": total,
        "successful_executions": total - failed,
        "failed_executions": failed,
        "success_rate": round((total - failed) / total, 4) if total else None,
    }
