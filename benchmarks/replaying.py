"""Replaying: the sample told again, day by day, to a desk that knows nothing of what comes later.

After each day the desk computes what is stale, as it would have then, and every dossier is compared with the snapshot
of that day, which one backfill took from all records at once. It proves both: that a past day is computed as it was
known, and that nothing stale is overlooked in eighteen years of days.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.history import COLUMNS, FIRST, LAST, load_sample, take
from benchmarks.refreshing import vacuum
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.refresh import refresh_in_transaction
from dossier_pipelines.shared.database import Database

TOLD: Final = ("dossiers", "engagements", "commitments")
# What comes on a day, and in which order: moments later than :before, up to :moment.
NEWS: Final = (
    "INSERT INTO raw.dossiers SELECT * FROM told.dossiers AS n "
    "WHERE n.created_at > :before AND n.created_at <= :moment",
    "INSERT INTO raw.engagements SELECT * FROM told.engagements AS n "
    "WHERE n.occurred_at > :before AND n.occurred_at <= :moment",
    "INSERT INTO raw.commitments SELECT * FROM told.commitments AS n "
    "WHERE n.created_at > :before AND n.created_at <= :moment",
    "UPDATE raw.commitments AS c SET status = 'completed', completed_at = n.completed_at FROM told.endings AS n "
    "WHERE n.completed_at > :before AND n.completed_at <= :moment AND c.tenant_id = n.tenant_id AND c.id = n.id",
    "UPDATE raw.commitments AS c SET status = 'cancelled', cancelled_at = n.cancelled_at FROM told.endings AS n "
    "WHERE n.cancelled_at > :before AND n.cancelled_at <= :moment AND c.tenant_id = n.tenant_id AND c.id = n.id",
)
# As the desk has it, and as the backfill took it; only dossiers that exist by then are in either.
IS: Final = (
    f"SELECT {COLUMNS} FROM dossiers.health_scores JOIN dossiers.engagement_stats USING (tenant_id, dossier_id) "
    "JOIN dossiers.commitment_stats USING (tenant_id, dossier_id)"
)
TAKEN: Final = f"SELECT {COLUMNS} FROM told.days WHERE day = :day"


def replay(database: Database, say: Callable[[str], None]) -> dict[str, Any]:
    """Return how many days and rows were compared, and how many rows differ."""
    load_sample(database)
    take(database, FIRST, LAST)
    say(f"{(LAST - FIRST).days + 1:,} days taken at once; telling them again")
    with database.transaction() as connection:
        _keep(connection)
    vacuum(database)
    config = read_health_config()
    figures = {"days": 0, "rows_compared": 0, "rows_that_differ": 0}
    before = datetime(1, 1, 1, tzinfo=UTC)
    day = FIRST
    while day <= LAST:
        with database.transaction() as connection:
            moment = connection.execute(
                sa.text("SELECT platform.day_end(:day, timezone) FROM platform.tenants"), {"day": day}
            ).scalar_one()
            for news in NEWS:
                connection.execute(sa.text(news), {"before": before, "moment": moment})
            refresh_in_transaction(connection, config, now=moment, as_of=moment)
            compared = connection.execute(
                sa.text(
                    f"WITH desk AS ({IS}), taken AS ({TAKEN}) SELECT (SELECT count(*) FROM taken) AS rows, "
                    "(SELECT count(*) FROM (TABLE desk EXCEPT ALL TABLE taken) AS x) "
                    "+ (SELECT count(*) FROM (TABLE taken EXCEPT ALL TABLE desk) AS x) AS wrong"
                ),
                {"day": day},
            ).one()
        figures["days"] += 1
        figures["rows_compared"] += compared.rows
        figures["rows_that_differ"] += compared.wrong
        if compared.wrong:
            say(f"{day}: {compared.wrong} rows differ")
        if day.month == day.day == 1:
            say(f"{day}: {figures}")
            vacuum(database)
        before, day = moment, day + timedelta(days=1)
    return figures


def _keep(connection: sa.Connection) -> None:
    """Keep the records and the snapshots elsewhere, and make the desk forget them."""
    connection.exec_driver_sql("CREATE SCHEMA told")
    for table in TOLD:
        connection.exec_driver_sql(f"CREATE TABLE told.{table} AS TABLE raw.{table}")
    connection.exec_driver_sql("CREATE TABLE told.endings AS TABLE raw.commitments")
    # What ends later is open until then.
    connection.exec_driver_sql(
        "UPDATE told.commitments SET status = 'pending', completed_at = NULL, cancelled_at = NULL, status_since = NULL "
        "WHERE greatest(completed_at, cancelled_at) > created_at"
    )
    connection.exec_driver_sql("CREATE TABLE told.days AS TABLE dossiers.daily_snapshots")
    connection.exec_driver_sql("CREATE INDEX ON told.days (day)")
    for table, moment in (("engagements", "occurred_at"), ("commitments", "created_at")):
        connection.exec_driver_sql(f"CREATE INDEX ON told.{table} ({moment})")
    for moment in ("completed_at", "cancelled_at"):
        connection.exec_driver_sql(f"CREATE INDEX ON told.endings ({moment})")
    connection.exec_driver_sql("TRUNCATE raw.dossiers, dossiers.snapshot_reach")
