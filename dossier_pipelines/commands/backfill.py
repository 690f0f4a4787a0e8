"""`dossier-pipelines backfill`: the daily snapshots of a range, in one run that the Dagster UI shows as any other."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from datetime import UTC, date, datetime

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.commands.run import failure_message
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.snapshots import require_range
from dossier_pipelines.shared.deployment import Deployment, prepare_dagster, running
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError


def parse_day(text: str, *, argument: str) -> date:
    """Return the day that ``text`` names; raise UserError when it names none."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(f"{argument} is {text!r}, which is no day. Write it like 2019-12-31.") from error


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
        run_id, written = _execute(deployment, first_day=first_day, last_day=last_day, verbose=verbose)
    document = {
        "run_id": run_id,
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


def _execute(deployment: Deployment, *, first_day: date, last_day: date, verbose: bool) -> tuple[str, int]:
    import dagster as dg

    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    from dossier_pipelines.definitions import build_defs
    from dossier_pipelines.dossiers.locks import SNAPSHOTS
    from dossier_pipelines.dossiers.snapshot_assets import SNAPSHOTS_KEY
    from dossier_pipelines.shared.resources import DatabaseResource

    # The server runs already; a run of its own need not find it again.
    os.environ["DOSSIER_DATABASE_URL"] = deployment.url
    defs = build_defs(resources={"database": DatabaseResource()})
    if not verbose:
        logging.getLogger("alembic").setLevel(logging.WARNING)
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def("daily_snapshots_job").execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "INFO" if verbose else "CRITICAL"}}}},
            tags={
                "dossier/launched_by": "command line",
                "dagster/asset_partition_range_start": first_day.isoformat(),
                "dagster/asset_partition_range_end": last_day.isoformat(),
                **SNAPSHOTS.tags,
            },
        )
    if not result.success:
        raise UserError(failure_message(result))
    events = result.asset_materializations_for_node("dossiers__daily_snapshots")
    written = next(event.metadata["rows_written"].value for event in events if event.asset_key == SNAPSHOTS_KEY)
    return result.run_id, int(str(written))
