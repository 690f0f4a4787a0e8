"""The desk's assets: each one call and its counts. What they compute is in refresh.py, sql/ and ingestion."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dagster as dg

from dossier_pipelines.dossiers import lineage, locks, tables
from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.refresh import PACKAGE, refresh_health
from dossier_pipelines.ingestion.assets import raw_asset
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.load import LoadResult
from dossier_pipelines.notifications.recording import delivery_policy
from dossier_pipelines.shared import owners
from dossier_pipelines.shared.asset_metadata import column_lineage, table_metadata
from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.runs import readable_failures, run_moment

GROUP = "dossiers"
REFRESH = "refresh_health"
RAW_DESCRIPTIONS = {
    "users": "The people who own dossiers and commitments, as the source has them.",
    "dossiers": "The files that the institution keeps on countries, organisations and forums, as the source has them.",
    "engagements": "Every meeting, visit, consultation or other contact with a counterpart, as the source has it.",
    "commitments": "Who promised what by when, as the source has it.",
    "documents": "The documents filed in a dossier, as the source has them.",
}


def _computed_for(run: dg.DagsterRun, settings: Settings) -> datetime | None:
    """Return the moment that a run which loads and refreshes is told to compute for: what it learns, it learns then."""
    found: Any = run.run_config
    for name in ("ops", REFRESH, "config", "as_of"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, str):
        return None
    return parse_moment(found, timezone=zone(settings.timezone, setting="DOSSIER_TIMEZONE"), argument="as_of")


def _load(database: Database, entity: Entity, run: dg.DagsterRun) -> LoadResult | None:
    settings = read_settings()
    return configured_source(settings).load(
        database, entity, known=ENTITIES, run_id=run.run_id, noticed_at=_computed_for(run, settings)
    )


RAW_ASSETS = [
    raw_asset(
        entity,
        key=dg.AssetKey(["raw", entity.name]),
        deps=[dg.AssetKey(["raw", entity.parent.name])] if entity.parent else [],
        group=GROUP,
        description=RAW_DESCRIPTIONS[entity.name],
        load=_load,
    )
    for entity in ENTITIES.values()
]


class RefreshConfig(dg.Config):
    """What to refresh. The defaults are the scheduled case: all tenants, what is stale, as of their own clock."""

    as_of: str | None = None
    full: bool = False
    tenant_id: str | None = None


def _spec(name: str, description: str, deps: list[str], **metadata: object) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=["dossiers", name],
        deps=[dg.AssetKey(dep.split("/")) for dep in deps],
        group_name=GROUP,
        kinds={"postgres", "sql"},
        owners=[owners.ANALYTICS],
        description=description,
        metadata=metadata,
        code_version="1",
    )


@dg.multi_asset(
    name=REFRESH,
    specs=[
        _spec(
            "engagement_stats",
            "How often and how lately there was contact with each counterpart: engagements in 365 and 90 days, the "
            "newest, and the frequency score.",
            ["raw/engagements", "raw/dossiers"],
            **table_metadata(tables.ENGAGEMENT_STATS),
            **{"dagster/column_lineage": column_lineage(lineage.ENGAGEMENT_STATS)},
        ),
        _spec(
            "commitment_stats",
            "What was promised to or by each counterpart: active, overdue, fulfilled and upcoming commitments, and the "
            "fulfillment rate.",
            ["raw/commitments", "raw/dossiers"],
            **table_metadata(tables.COMMITMENT_STATS),
            **{"dagster/column_lineage": column_lineage(lineage.COMMITMENT_STATS)},
        ),
        _spec(
            "health_scores",
            "How healthy each relationship is, 0 to 100: 30% engagement frequency, 40% commitment fulfillment, 30% "
            "recency (by default), with its band, what last moved it, and why there is no score where there is none.",
            ["dossiers/engagement_stats", "dossiers/commitment_stats"],
            **table_metadata(tables.HEALTH_SCORES),
            **{"dagster/column_lineage": column_lineage(lineage.HEALTH_SCORES)},
        ),
    ],
)
def refresh_health_assets(
    context: dg.AssetExecutionContext, config: RefreshConfig, database: dg.ResourceParam[Database]
) -> Iterator[dg.MaterializeResult[None]]:
    """Recompute the stale dossiers, or all of them, in one transaction."""
    with readable_failures("Refreshing health scores"):
        settings = read_settings()
        timezone = zone(settings.timezone, setting="DOSSIER_TIMEZONE")
        as_of = parse_moment(config.as_of, timezone=timezone, argument="as_of") if config.as_of else None
        with locks.REFRESH.lease(database, holder=context.run.run_id, patience_seconds=locks.PATIENCE_SECONDS) as lease:
            result = refresh_health(
                database,
                read_health_config(settings.health_config),
                now=run_moment(context.instance, context.run.run_id),
                as_of=as_of,
                tenant_id=config.tenant_id,
                full=config.full,
                run_id=context.run.run_id,
                policy=delivery_policy(settings),
                lease=lease,
            )
        summary = database.run(PACKAGE, "health_summary", {"tenant_id": config.tenant_id})[0]
    context.log.info("%d dossiers refreshed, %d changed", result.refreshed, result.changed)
    yield dg.MaterializeResult(
        asset_key=["dossiers", "engagement_stats"],
        metadata={"dagster/row_count": summary.dossiers, "rows_written": result.engagement_stats_written},
    )
    yield dg.MaterializeResult(
        asset_key=["dossiers", "commitment_stats"],
        metadata={
            "dagster/row_count": summary.dossiers,
            "rows_written": result.commitment_stats_written,
            "overdue_commitments": summary.overdue_commitments,
        },
    )
    yield dg.MaterializeResult(
        asset_key=["dossiers", "health_scores"],
        metadata={
            "dagster/row_count": summary.dossiers,
            "refreshed": result.refreshed,
            "changed": result.changed,
            "drifted": result.drifted,
            "notifications": result.notifications,
            "scored": summary.scored,
            "insufficient_data": summary.insufficient_data,
            "average_score": float(summary.average_score or 0),
            "excellent": summary.excellent,
            "good": summary.good,
            "fair": summary.fair,
            "poor": summary.poor,
        },
    )


@dg.asset(
    key=["dossiers", "dossier_overview"],
    deps=[dg.AssetKey(["dossiers", "health_scores"]), dg.AssetKey(["raw", "documents"])],
    group_name=GROUP,
    kinds={"postgres", "view"},
    owners=[owners.ANALYTICS],
    metadata={"dagster/table_name": "dossiers.dossier_overview"},
    description="One row per dossier for analysts: statistics, score, band, what last moved it, age of the score and "
    "number of documents. A view: always current. The metadata shows the dossiers that moved most.",
    code_version="1",
)
def dossier_overview(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Publish the view: how many rows it has, and the latest movers."""
    with readable_failures("Reading dossiers.dossier_overview"):
        movers = database.run(PACKAGE, "latest_movers")
        rows = database.run(PACKAGE, "health_summary", {"tenant_id": None})[0].dossiers
    lines = "\n".join(f"| {m.name} | {m.previous_score} | {m.overall_score} | {m.because} |" for m in movers)
    table = f"| dossier | was | is | because |\n|---|---|---|---|\n{lines}" if movers else "No score has moved yet."
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "latest_movers": dg.MetadataValue.md(table)})


@dg.asset(
    key=["dossiers", "health_by_group"],
    deps=[dg.AssetKey(["dossiers", "health_scores"])],
    group_name=GROUP,
    kinds={"postgres", "view"},
    owners=[owners.ANALYTICS],
    metadata={"dagster/table_name": "dossiers.health_by_group"},
    description="Average score and dossiers per band, by region, bloc, classification and type. A view: always "
    "current. The metadata shows it by region and bloc.",
    code_version="1",
)
def health_by_group(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Publish the view as tables that an analyst reads in the UI."""
    from dossier_pipelines.dossiers.group_report import group_tables

    with readable_failures("Reading dossiers.health_by_group"):
        tables_by_grouping = group_tables(database)
    return dg.MaterializeResult(
        metadata={f"by_{grouping}": dg.MetadataValue.md(markdown) for grouping, markdown in tables_by_grouping.items()}
    )
