"""`dossier-pipelines backfill`: the daily snapshots of a range, in one run that the Dagster UI shows as any other."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.commands.execution import execute_job
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.snapshots import require_range
from dossier_pipelines.shared.clock import parse_day
from dossier_pipelines.shared.deployment import prepare_dagster, running
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError


def backfill(settings: Settings, *, first: str, last: str, as_json: bool, verbose: bool) -> None:
    """Take the snapshots of every day from ``first`` to ``last``; raise UserError when that cannot be or fails."""
    began = time.monotonic()
    first_day, last_day = parse_day(first, argument="--from"), parse_day(last, argument="--to")
    # Wrong settings are found before a server is started for them.
    read_health_config(settings.health_config)
    if first_day < settings.history_start:
        raise UserError(
            f"{first_day} lies before the first day of which there can be a snapshot, {settings.history_start}. "
            "Set DOSSIER_HISTORY_START to an earlier day, or start there. Nothing was written."
        )
    with running(settings) as deployment:
        bring_up_to_date(deployment)
        require_range(deployment.database, first_day=first_day, last_day=last_day, now=datetime.now(UTC))
        prepare_dagster(deployment)
        result = execute_job(
            deployment,
            "daily_snapshots_job",
            tags={
                "dagster/asset_partition_range_start": first_day.isoformat(),
                "dagster/asset_partition_range_end": last_day.isoformat(),
            },
            verbose=verbose,
        )
    # The same with each day of the run.
    taken = result.asset_materializations_for_node("dossiers__daily_snapshots")
    written = next(int(str(day.metadata["rows_written"].value)) for day in taken if day.partition)
    document = {
        "run_id": result.run_id,
        "from": first_day.isoformat(),
        "to": last_day.isoformat(),
        "days": (last_day - first_day).days + 1,
        "rows_written": written,
        "seconds": round(time.monotonic() - began, 2),
    }
    print(
        json.dumps(document, indent=2)
        if as_json
        else f"{document['days']:,} days from {first_day} to {last_day}, {written:,} rows written, "
        f"in {document['seconds']} s. See dossiers.daily_snapshots."
    )
