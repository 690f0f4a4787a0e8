"""The desk's effects that are not tables: overdue detection, step by step. What it does is in overdue.py and sql/."""

import time
from typing import Any

import dagster as dg

from dossier_pipelines.dossiers import locks
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.overdue import JOB, OverdueScope, detect_overdue
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.notifications.recording import delivery_policy
from dossier_pipelines.shared.audit import read_results, record_results
from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.identifiers import parse_uuid
from dossier_pipelines.shared.runs import readable_failures, run_moment


class OverdueConfig(dg.Config):
    """What to look at. The defaults are the scheduled case: every tenant, as of its own clock, for real."""

    dry_run: bool = False
    dossier_id: str | None = None
    tenant_id: str | None = None
    as_of: str | None = None


@dg.op(
    description="Mark commitments that are late, record an event for each, and notify its owner and the dossier's: one "
    "transaction. With dry_run: list them, change nothing, send nothing.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def mark_overdue_commitments(
    context: dg.OpExecutionContext, config: OverdueConfig, database: dg.ResourceParam[Database]
) -> None:
    """Detect under the lease of the job."""
    began = time.monotonic()
    with readable_failures("Detecting overdue commitments"):
        settings = read_settings()
        timezone = zone(settings.timezone, setting="DOSSIER_TIMEZONE")
        scope = OverdueScope(
            as_of=parse_moment(config.as_of, timezone=timezone, argument="as_of") if config.as_of else None,
            tenant_id=config.tenant_id,
            dossier_id=parse_uuid(config.dossier_id, argument="dossier_id") if config.dossier_id else None,
            dry_run=config.dry_run,
        )
        with locks.OVERDUE.lease(database, holder=context.run.run_id) as lease:
            results = detect_overdue(
                database,
                scope,
                now=run_moment(context.instance, context.run.run_id),
                run_id=context.run.run_id,
                policy=delivery_policy(settings),
                lease=lease,
            )
    context.log.info(
        "%d overdue in %d dossiers, %d notifications, in %d ms%s",
        results["overdueCount"],
        results["affectedDossiers"],
        results["notificationsSent"],
        (time.monotonic() - began) * 1000,
        " (dry run)" if config.dry_run else "",
    )


@dg.op(
    description="Refresh the scores of the dossiers whose commitments were marked, and report the whole run.",
    ins={"marked": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def refresh_affected_scores(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
    """Refresh what the marks made stale, under the lease of the refresh."""
    run_id = context.run.run_id
    with readable_failures("Refreshing the affected scores"):
        settings = read_settings()
        with database.transaction() as connection:
            results = read_results(connection, run_id=run_id)
            if not results and context.run.parent_run_id:
                # A run that died after marking is taken up from here under another id.
                results = read_results(connection, run_id=context.run.parent_run_id)
        recalculated = 0
        # Also when nothing was found: a run that died before may have marked what no refresh has seen yet.
        if not results.get("dryRun"):
            with locks.REFRESH.lease(database, holder=run_id, patience_seconds=locks.PATIENCE_SECONDS) as lease:
                recalculated = refresh_health(
                    database,
                    read_health_config(settings.health_config),
                    now=run_moment(context.instance, run_id),
                    run_id=run_id,
                    policy=delivery_policy(settings),
                    lease=lease,
                ).refreshed
        record = context.instance.get_run_record_by_id(run_id)
        started = record.start_time if record is not None else None
        final: dict[str, Any] = {
            **results,
            "healthScoresRecalculated": recalculated,
            "executionTimeMs": round((time.time() - started) * 1000) if started else None,
        }
        with database.transaction() as connection:
            record_results(connection, run_id=run_id, job=JOB, results=final)
    context.add_output_metadata(
        {
            "overdueCount": final.get("overdueCount", 0),
            "affectedDossiers": final.get("affectedDossiers", 0),
            "notificationsSent": final.get("notificationsSent", 0),
            "healthScoresRecalculated": recalculated,
            "executionTimeMs": final["executionTimeMs"] or 0,
            "dryRun": bool(final.get("dryRun")),
            "result": dg.MetadataValue.json(final),
        }
    )


@dg.job(
    description="Every night: find commitments that are late, mark them, tell their owners, refresh the scores.",
    tags=locks.OVERDUE.tags,
)
def detect_overdue_commitments_job() -> None:
    """Detect, then refresh."""
    refresh_affected_scores(mark_overdue_commitments())
