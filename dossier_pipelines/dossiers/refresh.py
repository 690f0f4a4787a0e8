"""Bring statistics and scores up to date: what is stale, or everything, as of a moment.

One transaction writes all three tables, so that nobody ever sees a score without the statistics behind it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import HealthConfig
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.database import Database, execute, statement
from dossier_pipelines.shared.job_lease import Lease

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.dossiers"
# Sorts and hashes of a full refresh stay in memory at a million engagements.
WORK_MEM: Final = "128MB"
# From so many dossiers on, several processes share the work.
MANY: Final = 5_000
# From so many on, the planner must know how many: it takes an unknown table for a large one, and reads all records.
SOME: Final = 10
# A drop is a fall below the band "good"; it is over five points above, so that a score that wavers does not nag.
ALERTS: Final = {"good": 60, "recovered": 65, "silent_days": 180}


@dataclass(frozen=True, kw_only=True)
class RefreshResult:
    """What a refresh did, in dossiers."""

    refreshed: int
    changed: int
    drifted: int
    """Dossiers that nothing had marked as stale, and whose values differed all the same: a defect."""
    engagement_stats_written: int
    commitment_stats_written: int
    notifications: int = 0
    """Recorded for owners whose relationship dropped or fell silent."""


def refresh_health(
    database: Database,
    config: HealthConfig,
    *,
    now: datetime,
    as_of: datetime | None = None,
    tenant_id: str | None = None,
    full: bool = False,
    run_id: str | None = None,
    policy: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
) -> RefreshResult:
    """Recompute the stale dossiers, or all with ``full``, and return the counts.

    ``as_of`` is the moment to compute for; without it, each tenant's own clock, and ``now`` where it has none.
    ``tenant_id`` limits the refresh to one tenant. ``policy`` says how owners are told of drops and silences; with
    ``lease``, LeaseLostError is raised and nothing written unless it is still held.
    """
    return database.in_transaction(
        lambda connection: refresh_in_transaction(
            connection,
            config,
            now=now,
            as_of=as_of,
            tenant_id=tenant_id,
            full=full,
            run_id=run_id,
            policy=policy,
            lease=lease,
        )
    )


def refresh_in_transaction(
    connection: Connection,
    config: HealthConfig,
    *,
    now: datetime,
    as_of: datetime | None = None,
    tenant_id: str | None = None,
    full: bool = False,
    run_id: str | None = None,
    policy: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
) -> RefreshResult:
    """Do the work of `refresh_health` in a transaction of the caller's."""
    if lease is not None:
        lease.require(connection)
    # The planner takes an aggregate for so cheap that handing its groups over would cost more than a second process
    # gains; here it halves a full refresh. Working tables are found by their names alone, wherever they are. And two
    # refreshes at once could write the older result over the newer one.
    connection.execute(
        sa.text(
            "SELECT set_config('work_mem', :memory, true), set_config('parallel_tuple_cost', '0.01', true), "
            "set_config('search_path', 'pg_temp, dossiers', true), "
            "pg_advisory_xact_lock(hashtextextended('dossiers.health', 0))"
        ),
        {"memory": WORK_MEM},
    )
    connection.exec_driver_sql(statement(PACKAGE, "refresh_keys").text)
    version = config.version
    execute(
        connection,
        PACKAGE,
        "register_settings",
        {"version": version, "settings": json.dumps(config.rows()), "tenant_id": tenant_id},
    )
    stale = execute(
        connection,
        PACKAGE,
        "stale_dossiers",
        {
            "as_of": as_of,
            "now": now,
            "tenant_id": tenant_id,
            "version": version,
            "full": full,
            "settings_types": sorted(config.by_type),
        },
    ).one()
    if not stale.dossiers and not full:
        connection.exec_driver_sql("DROP TABLE refresh_keys")
        return RefreshResult(refreshed=0, changed=0, drifted=0, engagement_stats_written=0, commitment_stats_written=0)
    many = stale.dossiers >= MANY
    if many:
        _share_keys(connection)
    if stale.dossiers >= SOME:
        connection.exec_driver_sql("ANALYZE refresh_keys (ordinal, tenant_id, dossier_id)")
    computed = statement(PACKAGE, "health_as_of").text
    kind = "UNLOGGED TABLE dossiers.refreshed" if many else "TEMPORARY TABLE refreshed ON COMMIT DROP"
    connection.execute(sa.text(f"CREATE {kind} AS {computed}"), {"version": version})
    if stale.dossiers >= SOME:
        connection.exec_driver_sql("ANALYZE refreshed (tenant_id, dossier_id)")
    tenants = execute(
        connection, PACKAGE, "write_health_scores", {"version": version, "full": full, "run_id": run_id}
    ).all()
    engagement_stats = execute(connection, PACKAGE, "write_engagement_stats")
    commitment_stats = execute(connection, PACKAGE, "write_commitment_stats")
    if full or stale.gone:
        execute(connection, PACKAGE, "remove_vanished", {"full": full, "tenant_id": tenant_id})
    told = execute(connection, PACKAGE, "raise_relationship_alerts", {**ALERTS, "run_id": run_id, "now": now})
    if told.rowcount:
        plan_deliveries(connection, policy, run_id=run_id)
    # The caller's transaction may go on, and refresh again.
    connection.exec_driver_sql("DROP TABLE refresh_keys, refreshed")
    return RefreshResult(
        refreshed=sum(row.refreshed for row in tenants),
        changed=sum(row.changed for row in tenants),
        drifted=sum(row.drifted for row in tenants),
        engagement_stats_written=engagement_stats.rowcount,
        commitment_stats_written=commitment_stats.rowcount,
        notifications=told.rowcount,
    )


def _share_keys(connection: Connection) -> None:
    """Move the keys to a table that several processes can read: a temporary one is read by its own session only.

    It is made and dropped in the transaction, so that nobody else ever sees it.
    """
    connection.exec_driver_sql("CREATE UNLOGGED TABLE dossiers.refresh_keys AS TABLE pg_temp.refresh_keys")
    connection.exec_driver_sql("DROP TABLE pg_temp.refresh_keys")
