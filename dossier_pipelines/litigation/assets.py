"""The desk's assets: each one call and its counts. What they compute is in metrics.py, sql/ and ingestion."""

import time
from collections.abc import Mapping
from datetime import date, timedelta

import dagster as dg
import sqlalchemy as sa

from dossier_pipelines.ingestion.assets import raw_asset
from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.load import LoadResult
from dossier_pipelines.litigation import lineage, locks, tables
from dossier_pipelines.litigation.entities import ENTITIES, TENANTS
from dossier_pipelines.litigation.metrics import MetricChunk, take_metrics, tenants_missing
from dossier_pipelines.litigation.service_levels import PACKAGE
from dossier_pipelines.litigation.source import litigation_source
from dossier_pipelines.notifications.recording import delivery_policy
from dossier_pipelines.shared import owners
from dossier_pipelines.shared.asset_metadata import column_lineage, table_metadata
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.partitions import daily_partitions
from dossier_pipelines.shared.result_document import result_document
from dossier_pipelines.shared.runs import readable_failures, run_moment

GROUP = "litigation"
DAILY_METRICS_KEY = dg.AssetKey(["litigation", "daily_metrics"])
ANOMALIES_KEY = dg.AssetKey(["litigation", "anomalies"])
LATE_TASKS_KEY = dg.AssetKey(["litigation", "late_tasks"])
# The tags of a run for those tenants only that lack a day of it. Days end in one time zone after the other, and for the
# most tenants a scheduled run has nothing to do.
ONLY_MISSING = {"dossier/tenants": "missing"}
# Dagster gives it to a run that it launches itself in place of one that died, and takes it from one repeated by hand.
RETRY_NUMBER_TAG = "dagster/retry_number"
RAW_DESCRIPTIONS = {
    "tenants": "The parties that the litigation desk works for, each apart from the others, with its time zone.",
    "users": "The people of the desk's tenants, as the source has them; they lie in raw.users with everybody else.",
    "courts": "The courts and tribunals of each tenant, as the source has them.",
    "cases": "The cases of each tenant, who answers for them and who conducts them, as the source has them.",
    "tasks": "What has to be done in each case, by when and by whom, as the source has it.",
    "hearings": "The hearings of each case, and whether somebody was there, as the source has them.",
    "documents": "The documents uploaded to each case, as the source has them.",
    "automation_rules": "What a tenant wants done when something happens: event, condition, actions. As the source has "
    "it; a rule that could not work is refused, naming the place.",
    "sla_policies": "Within how many hours a tenant wants tasks of a priority done, as the source has it.",
}
# People lie in one table, whichever desk they belong to; the view shows those of this one.
KEYS = {entity.name: dg.AssetKey(["raw", entity.table.name]) for entity in ENTITIES.values()} | {
    "users": dg.AssetKey(["litigation", "users"])
}


def _load(database: Database, entity: Entity, run: dg.DagsterRun) -> LoadResult | None:
    source = litigation_source(read_settings())
    if source is None:
        return None
    result = source.configured.load(database, entity, known=ENTITIES, run_id=run.run_id)
    if entity is TENANTS:
        database.run(PACKAGE, "set_clocks", {"local_clock": source.local_clock})
    return result


def _deps(entity: Entity) -> list[dg.AssetKey]:
    if entity is TENANTS:
        return []
    return [KEYS[TENANTS.name], *([KEYS[entity.parent.name]] if entity.parent else [])]


RAW_ASSETS = [
    raw_asset(
        entity,
        key=KEYS[entity.name],
        deps=_deps(entity),
        group=GROUP,
        description=RAW_DESCRIPTIONS[entity.name],
        load=_load,
    )
    for entity in ENTITIES.values()
]


def _written_in_passing(
    table: sa.Table,
    deps: list[dg.AssetKey],
    columns: Mapping[str, list[tuple[str, str]]],
    *,
    owner: str,
    description: str,
) -> dg.AssetSpec:
    """Return the asset of a table that triggers and jobs write: shown and described, never materialized by hand."""
    return dg.AssetSpec(
        key=[str(table.schema), table.name],
        deps=deps,
        group_name=GROUP,
        kinds={"postgres", "table"},
        owners=[owner],
        description=description,
        metadata={**table_metadata(table), "dagster/column_lineage": column_lineage(columns)},
    )


WRITTEN_IN_PASSING = [
    _written_in_passing(
        tables.TASK_HISTORY,
        [KEYS["tasks"]],
        lineage.TASK_HISTORY,
        owner=owners.PLATFORM,
        description="Every status that a task had, from when on. Kept by triggers: never materialized by hand.",
    ),
    _written_in_passing(
        tables.TASK_FLAGS,
        [KEYS["tasks"], KEYS["sla_policies"]],
        lineage.TASK_FLAGS,
        owner=owners.ANALYTICS,
        description="The tasks that are overdue or miss their service level now; written by the check that runs every "
        "15 minutes. litigation.late_tasks shows them with their cases.",
    ),
    _written_in_passing(
        tables.ANOMALIES,
        [DAILY_METRICS_KEY],
        lineage.ANOMALIES,
        owner=owners.ANALYTICS,
        description="Days on which a metric was not as it usually is: by the original's rule (30 % off the mean of 7 "
        "days, which cries on every Monday) and by one that knows weekdays, trends and small numbers. With what was "
        "expected, the range, and the records that changed. Written with the metrics.",
    ),
]


def log_chunk(context: dg.OpExecutionContext | dg.AssetExecutionContext, chunk: MetricChunk) -> None:
    """Log what a chunk did: the progress of a long run."""
    context.log.info(
        "%s to %s: %d tenants, %d rows written, %d unusual (%d by the original's rule)",
        chunk.first_day,
        chunk.last_day,
        chunk.tenants,
        chunk.written,
        chunk.robust,
        chunk.original,
    )


def is_for_those_missing(run: dg.DagsterRun) -> bool:
    """Return whether a run is for the tenants that lack its days: one of the schedule, or Dagster's retry of one.

    One that is repeated by hand keeps the schedule's tag, and is for all.
    """
    by_hand = run.parent_run_id is not None and RETRY_NUMBER_TAG not in run.tags
    return run.tags.items() >= ONLY_MISSING.items() and not by_hand


def newest_anomalies(database: Database) -> Mapping[str, dg.MarkdownMetadataValue]:
    """Return the newest unusual days as a table for the UI."""
    rows = database.run(PACKAGE, "newest_anomalies", {"most": 20})
    lines = ["| day | tenant | metric | value | expected | usual |", "|---|---|---|---:|---:|---|"] + [
        f"| {row.day} | {row.tenant_id} | {row.metric} | {row.value:.4g} | {row.expected:.4g} "
        f"| {row.low:.4g} to {row.high:.4g} |"
        for row in rows
    ]
    return {"newest_anomalies": dg.MetadataValue.md("\n".join(lines))}


def build_metric_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the desk's assets of history; their days begin where the settings say."""

    @dg.asset(
        key=DAILY_METRICS_KEY,
        deps=[
            *(KEYS[name] for name in ("tenants", "cases", "tasks", "hearings", "documents", "sla_policies")),
            dg.AssetKey(["litigation", "task_history"]),
        ],
        partitions_def=daily_partitions(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds={"postgres", "sql"},
        owners=[owners.ANALYTICS],
        metadata={
            **table_metadata(tables.DAILY_METRICS),
            "dagster/column_lineage": column_lineage(lineage.DAILY_METRICS),
        },
        description="Six numbers a tenant and day, as of the end of the day in the tenant's own zone: active cases, "
        "shares of tasks done and in time, of hearings attended, documents, overdue tasks. Any range of past days can "
        "be taken anew; what did not change stays. Unusual days go to litigation/anomalies.",
        code_version="1",
    )
    def daily_metrics(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        """Take the metrics of the run's days, whether one or thousands."""
        began = time.monotonic()
        keys = context.partition_key_range
        with readable_failures("Taking daily metrics"):
            current = read_settings()
            now = run_moment(context.instance, context.run.run_id)
            first_day, last_day = date.fromisoformat(keys.start), date.fromisoformat(keys.end)
            with locks.METRICS.lease(
                database, holder=context.run.run_id, patience_seconds=locks.METRICS_PATIENCE_SECONDS
            ) as lease:
                tenants = None
                if is_for_those_missing(context.run):
                    tenants = tenants_missing(database, first_day=first_day, last_day=last_day, now=now)
                result = take_metrics(
                    database,
                    first_day=first_day,
                    last_day=last_day,
                    now=now,
                    run_id=context.run.run_id,
                    tenants=tenants,
                    grace=timedelta(minutes=current.overdue_grace_minutes),
                    policy=delivery_policy(current),
                    lease=lease,
                    report=lambda chunk: log_chunk(context, chunk),
                )
            newest = newest_anomalies(database)
        context.log_event(
            dg.AssetMaterialization(
                asset_key=ANOMALIES_KEY,
                metadata={**newest, "unusual": result.robust, "unusual_by_the_original_rule": result.original},
            )
        )
        document = result_document(
            "analytics-snapshot", result.figures(), executed_at=now, seconds=time.monotonic() - began
        )
        # Of the run, not of a day: stored once, however many days it took.
        context.log_event(
            dg.AssetObservation(asset_key=DAILY_METRICS_KEY, metadata={"result": dg.MetadataValue.json(document)})
        )
        # The same for every day of the range, and stored with each: a few figures, no more.
        return dg.MaterializeResult(metadata={"days": result.days, "rows_written": result.written})

    return [daily_metrics]


def late_by_tenant(database: Database) -> dict[str, int | dg.MarkdownMetadataValue]:
    """Return what is late now, by tenant, as a table for the UI."""
    rows = database.run(PACKAGE, "late_by_tenant")
    lines = ["| tenant | name | overdue | service level missed | longest, days |", "|---|---|---:|---:|---:|"] + [
        f"| {row.tenant_id} | {row.name} | {row.overdue} | {row.violating} | {row.longest or ''} |" for row in rows
    ]
    return {
        "overdue": sum(row.overdue for row in rows),
        "violating": sum(row.violating for row in rows),
        "by_tenant": dg.MetadataValue.md("\n".join(lines)),
    }


@dg.asset(
    key=LATE_TASKS_KEY,
    deps=[dg.AssetKey(["litigation", "task_flags"]), KEYS["tasks"], KEYS["cases"]],
    group_name=GROUP,
    kinds={"postgres", "view"},
    owners=[owners.ANALYTICS],
    metadata={"dagster/table_name": "litigation.late_tasks"},
    description="What is late now, by tenant. A view: always current; its metadata is the picture of the newest "
    "check of service levels.",
    code_version="1",
)
def late_tasks(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Count what is late by tenant."""
    with readable_failures("Reading litigation.late_tasks"):
        return dg.MaterializeResult(metadata=late_by_tenant(database))
