"""Service levels and due dates: which tasks are late, found by what changed and by what time brought.

A check judges the tasks that are marked (they came, changed or are gone) and those whose due date or age came to its
limit since the last check; never all of them. Flags, events and audit rows are written in one transaction, so that a
check that dies has done nothing, and one that is repeated does nothing twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dossier_pipelines.automation_rules.answering import match_events
from dossier_pipelines.shared.audit import record_results, took_effect
from dossier_pipelines.shared.database import Database, create_working_table, execute, statement
from dossier_pipelines.shared.tenants import no_such_tenant, require_past

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease

PACKAGE: Final = "dossier_pipelines.litigation"
JOB: Final = "check_sla_and_overdue_job"
# Hours by priority, where a tenant sets none. Source: the litigation specification, "SLA and overdue".
DEFAULT_HOURS: Final = {"critical": 24, "high": 48, "medium": 120, "low": 240}
# A source that was away for a month still tells of what was completed too late meanwhile; what is older is history.
LOOK_BACK: Final = timedelta(days=31)
# The working tables of a check in the order in which they build on each other, each with the columns by which the next
# ones find its rows: how many there are, the planner must know. Each statement sees what was committed before it: what
# leaves a mark is read after the marks were taken, or a change in between is taken with its mark and never seen.
WORKING_TABLES: Final = {
    "task_moments": "tenant_id",
    "taken_marks": "tenant_id, task_id",
    "tenant_hours": "tenant_id",
    "task_keys": "tenant_id, task_id",
    "judged_tasks": "tenant_id, task_id",
}


@dataclass(frozen=True, kw_only=True)
class TaskScope:
    """Which tasks to judge; by default those of all tenants, as of their own clocks."""

    as_of: datetime | None = None
    tenant_id: str | None = None
    dry_run: bool = False


def check_tasks(
    database: Database,
    scope: TaskScope,
    *,
    now: datetime,
    run_id: str,
    grace: timedelta = timedelta(minutes=15),
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Flag what is late, unflag what no longer is, record what happened; return the results.

    ``now`` is the clock of tenants that have none of their own, ``grace`` by how much a due date must have passed. A
    dry run finds the same and keeps nothing. Raises UserError for a tenant that is none, and for a moment that is later
    than the clock of a tenant, unless it is a dry run. With ``lease``, LeaseLostError is raised and nothing written
    unless it is held.
    """
    attempted: dict[str, Any] = {}

    def check(connection: Connection) -> dict[str, Any]:
        if lease is not None:
            lease.require(connection)
        if took_effect(connection, run_id=run_id, attempted=attempted):
            return attempted
        attempted.clear()
        with connection.begin_nested() as work:
            results = _check(connection, scope, now=now, run_id=run_id, grace=grace)
            if scope.dry_run:
                work.rollback()
        record_results(connection, run_id=run_id, job=JOB, results=results)
        attempted.update(results)
        return attempted

    return database.in_transaction(check)


def desk_tenants(connection: Connection, tenant_id: str | None = None) -> list[str]:
    """Return the tenants of the desk, or ``tenant_id`` alone; raise UserError when that is none of them."""
    tenants = [row.tenant_id for row in execute(connection, PACKAGE, "tenants")]
    if tenant_id is None:
        return tenants
    if tenant_id not in tenants:
        raise no_such_tenant(tenant_id, table="raw.tenants")
    return [tenant_id]


def _check(connection: Connection, scope: TaskScope, *, now: datetime, run_id: str, grace: timedelta) -> dict[str, Any]:
    tenants = desk_tenants(connection, scope.tenant_id)
    if scope.as_of is not None and not scope.dry_run:
        require_past(connection, scope.as_of, tenants=tenants, now=now)
    connection.execute(sa.text("SELECT set_config('search_path', 'pg_temp, litigation', true)"))
    parameters: dict[str, Any] = {
        "as_of": scope.as_of,
        "now": now,
        "tenant_id": scope.tenant_id,
        "hours": json.dumps(DEFAULT_HOURS),
        "grace": grace,
        "look_back": LOOK_BACK,
    }
    execute(connection, PACKAGE, "forget_tenants")
    for table, columns in WORKING_TABLES.items():
        if table == "taken_marks":
            connection.exec_driver_sql(statement(PACKAGE, table).text)
            execute(connection, PACKAGE, "take_task_marks")
            connection.exec_driver_sql(f"ANALYZE {table} ({columns})")
        else:
            create_working_table(connection, PACKAGE, table, analyzed=columns, parameters=parameters)
    found = execute(connection, PACKAGE, "flag_tasks", {"run_id": run_id}).one()
    execute(connection, PACKAGE, "note_task_checks", {"grace": grace})
    triggered = match_events(connection, now=now, run_id=run_id).matched if found.overdue or found.violations else 0
    standing = execute(connection, PACKAGE, "overdue_now", {"tenant_id": scope.tenant_id}).one()
    judged = connection.execute(sa.text("SELECT count(*) FROM judged_tasks")).scalar_one()
    connection.exec_driver_sql(f"DROP TABLE {', '.join(WORKING_TABLES)}")
    return {
        "overdueTasks": found.overdue,
        "slaViolations": found.violations,
        "rulesTriggered": triggered,
        "judged": judged,
        "unflagged": found.unflagged,
        "overdueNow": standing.overdue,
        "violatingNow": standing.violating,
        "dryRun": scope.dry_run,
    }
