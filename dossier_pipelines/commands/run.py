"""`dossier-pipelines run`: the main job, once, in this process, with its result as a summary or as JSON.

The JSON document is a contract that other programs call: its names and the exit codes stay.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.commands.execution import execute_job
from dossier_pipelines.commands.litigation import bring_in, litigation_document
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.deployment import Deployment, prepare_dagster, running
from dossier_pipelines.shared.environment import Settings

if TYPE_CHECKING:
    from dossier_pipelines.shared.database import Database


def run_once(settings: Settings, *, as_of: str | None, as_json: bool, verbose: bool) -> None:
    """Load the configured source, refresh as of a moment and print the result; raise UserError when it fails."""
    began = time.monotonic()
    timezone = zone(settings.timezone, setting="DOSSIER_TIMEZONE")
    moment = parse_moment(as_of, timezone=timezone, argument="--as-of").isoformat() if as_of else None
    # Wrong settings are found before a server is started for them.
    read_health_config(settings.health_config)
    source = configured_source(settings)
    with running(settings) as deployment:
        bring_up_to_date(deployment)
        prepare_dagster(deployment)
        run_id = execute(deployment, tenant_id=source.settings.tenant_id, as_of=moment, verbose=verbose)
        document = result_document(
            deployment.database, tenant_id=source.settings.tenant_id, run_id=run_id, as_of=moment
        )
        load = bring_in(deployment, settings, verbose=verbose, only_if_empty=False)
        if load is not None:
            document["litigation"] = litigation_document(deployment, run_id=load)
    document["seconds"] = round(time.monotonic() - began, 2)
    print(json.dumps(document, indent=2) if as_json else summary(document))


def execute(deployment: Deployment, *, tenant_id: str, as_of: str | None, verbose: bool) -> str:
    """Execute load_and_refresh_job; return the run's id."""
    refresh = {"config": {"as_of": as_of, "tenant_id": tenant_id}}
    return execute_job(
        deployment, "load_and_refresh_job", tags={}, verbose=verbose, ops={"refresh_health": refresh}
    ).run_id


def result_document(database: Database, *, tenant_id: str, run_id: str, as_of: str | None = None) -> dict[str, Any]:
    """Return what `run --json` prints: the tenant's totals as of the moment of this run."""
    row = database.run(
        "dossier_pipelines.commands", "run_result", {"tenant_id": tenant_id, "run_id": run_id, "as_of": as_of}
    )[0]
    return {
        "run_id": run_id,
        "tenant": tenant_id,
        "as_of": row.as_of.astimezone(ZoneInfo(row.timezone)).isoformat() if row.as_of else None,
        "dossiers": row.dossiers,
        "engagements": row.engagements,
        "commitments": row.commitments,
        "documents": row.documents,
        "users": row.users,
        "rejected_rows": row.rejected_rows,
        "scored": row.scored,
        "insufficient_data": row.insufficient_data,
        "overdue_commitments": row.overdue_commitments,
        "notifications": row.notifications,
        "average_score": float(row.average_score) if row.average_score is not None else None,
        "bands": {"excellent": row.excellent, "good": row.good, "fair": row.fair, "poor": row.poor},
    }


def summary(document: dict[str, Any]) -> str:
    """Return the result for a person."""
    bands = ", ".join(f"{count} {band}" for band, count in document["bands"].items())
    scored = f"{document['scored']:,} scored, {document['average_score']} on average ({bands})"
    lines = [
        f"Tenant {document['tenant']}, as of {document['as_of']}, in {document['seconds']} s:",
        f"  {document['dossiers']:,} dossiers, {document['engagements']:,} engagements, "
        f"{document['commitments']:,} commitments, {document['documents']:,} documents, {document['users']:,} users",
        f"  {scored if document['scored'] else 'none scored'}; {document['insufficient_data']:,} without enough data",
        f"  {document['overdue_commitments']:,} commitments past due",
        f"  {set_aside(document['rejected_rows'])}",
    ]
    desk = document.get("litigation")
    if desk and desk["cases"]:
        lines.append(
            f"Litigation, {desk['tenants']} tenants: {desk['cases']:,} cases, {desk['tasks']:,} tasks, "
            f"{desk['overdue_tasks']:,} of them overdue, {desk['hearings']:,} hearings; "
            f"{set_aside(desk['rejected_rows'])}"
        )
    return "\n".join(lines)


def set_aside(rejected: int) -> str:
    """Return how many rows were not taken, and where their reasons are."""
    return f"{rejected:,} rows set aside" + (": see ingestion.rejected_rows for the reasons" if rejected else "")
