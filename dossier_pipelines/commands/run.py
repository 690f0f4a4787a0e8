"""`dossier-pipelines run`: the main job, once, in this process, with its result as a summary or as JSON.

The JSON document is a contract that other programs call: its names and the exit codes stay.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.deployment import Deployment, prepare_dagster, running
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError

if TYPE_CHECKING:
    import dagster as dg
    from dagster_shared.error import SerializableErrorInfo

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
        document = result_document(deployment.database, tenant_id=source.settings.tenant_id, run_id=run_id)
    document["seconds"] = round(time.monotonic() - began, 2)
    print(json.dumps(document, indent=2) if as_json else summary(document))


def execute(deployment: Deployment, *, tenant_id: str, as_of: str | None, verbose: bool) -> str:
    """Execute load_and_refresh_job; return the run's id."""
    refresh = {"config": {"as_of": as_of, "tenant_id": tenant_id}}
    return execute_job(
        deployment, "load_and_refresh_job", tags={}, verbose=verbose, ops={"refresh_health": refresh}
    ).run_id


def execute_job(
    deployment: Deployment, job: str, *, tags: Mapping[str, str], verbose: bool, ops: Mapping[str, Any] | None = None
) -> dg.ExecuteInProcessResult:
    """Execute a job in this process, recorded in Dagster's storage; raise UserError with its reasons when it fails.

    ``tags`` and ``ops``, the configuration of its ops, are the run's.
    """
    import dagster as dg

    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    from dossier_pipelines.definitions import build_defs
    from dossier_pipelines.shared.resources import DatabaseResource

    # The server runs already; a run of its own need not find it again.
    os.environ["DOSSIER_DATABASE_URL"] = deployment.url
    defs = build_defs(resources={"database": DatabaseResource()})
    if not verbose:
        logging.getLogger("alembic").setLevel(logging.WARNING)
    loggers = {"console": {"config": {"log_level": "INFO" if verbose else "CRITICAL"}}}
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def(job).execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"ops": ops, "loggers": loggers} if ops else {"loggers": loggers},
            tags={"dossier/launched_by": "command line", **tags},
        )
    if not result.success:
        raise UserError(failure_message(result))
    return result


def failure_message(result: dg.ExecuteInProcessResult) -> str:
    """Return why a run failed: the failures' own words, and the checks that broke."""
    reasons: list[str] = []
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.blocking:
            reasons.append(
                f"check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}: {evaluation.description}"
            )
    for event in result.all_events:
        if event.is_run_failure and event.job_failure_data.error is not None:
            reasons.append(_root_cause(event.job_failure_data.error))
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            reasons.append(data.user_failure_data.description)
        elif data.error is not None and not (reasons and "Check" in (data.error.cls_name or "")):
            reasons.append(f"{event.step_key}: {_root_cause(data.error)}")
    return "; ".join(dict.fromkeys(reasons)) or f"run {result.run_id} failed; its log is in the Dagster UI."


def _root_cause(error: SerializableErrorInfo) -> str:
    while error.cause is not None:
        error = error.cause
    # The message begins with the class, its module before it unless it is a built-in one.
    return re.sub(rf"^([\w.]+\.)?{re.escape(error.cls_name or '')}: ", "", error.message.strip())


def result_document(database: Database, *, tenant_id: str, run_id: str) -> dict[str, Any]:
    """Return what `run --json` prints: the tenant's totals as of the moment of this run."""
    row = database.run("dossier_pipelines.commands", "run_result", {"tenant_id": tenant_id, "run_id": run_id})[0]
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
    rejected = document["rejected_rows"]
    lines = [
        f"Tenant {document['tenant']}, as of {document['as_of']}, in {document['seconds']} s:",
        f"  {document['dossiers']:,} dossiers, {document['engagements']:,} engagements, "
        f"{document['commitments']:,} commitments, {document['documents']:,} documents, {document['users']:,} users",
        f"  {document['scored']:,} scored, {document['average_score']} on average ({bands}); "
        f"{document['insufficient_data']:,} without enough data",
        f"  {document['overdue_commitments']:,} commitments overdue",
        f"  {rejected:,} rows set aside" + (": see ingestion.rejected_rows for the reasons" if rejected else ""),
    ]
    return "\n".join(lines)
