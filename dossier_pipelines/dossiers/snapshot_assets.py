"""The desk's history: one partition a day, a range of any length in one run, and what it shows as pictures."""

from collections.abc import Mapping
from datetime import date

import dagster as dg

from dossier_pipelines.dossiers import lineage, locks, tables
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.snapshots import SnapshotChunk, forget_chunks, take_snapshots
from dossier_pipelines.shared import owners
from dossier_pipelines.shared.asset_metadata import column_lineage, table_metadata
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.partitions import daily_partitions
from dossier_pipelines.shared.runs import readable_failures, run_moment

GROUP = "dossiers"
SNAPSHOTS_KEY = dg.AssetKey(["dossiers", "daily_snapshots"])
TRENDS_KEY = dg.AssetKey(["dossiers", "health_trend_by_group"])
HISTORY_KEY = dg.AssetKey(["dossiers", "commitment_history"])

commitment_history = dg.AssetSpec(
    key=HISTORY_KEY,
    deps=[dg.AssetKey(["raw", "commitments"])],
    group_name=GROUP,
    kinds={"postgres", "table"},
    owners=[owners.PLATFORM],
    description="Every status that a commitment had, from when on, and whether the source or overdue detection said "
    "so. Kept by triggers: never materialized by hand.",
    metadata={
        **table_metadata(tables.COMMITMENT_HISTORY),
        "dagster/column_lineage": column_lineage(lineage.COMMITMENT_HISTORY),
    },
)


def told(context: dg.OpExecutionContext | dg.AssetExecutionContext, chunk: SnapshotChunk) -> None:
    """Log what a chunk did: the progress of a long run."""
    context.log.info(
        "%s to %s: %d dossiers, %d rows written", chunk.first_day, chunk.last_day, chunk.dossiers, chunk.written
    )


def picture_metadata(database: Database) -> Mapping[str, dg.MarkdownMetadataValue]:
    """Return the trend pictures as they are now."""
    # Only runs draw; whoever loads the definitions need not wait for it.
    from dossier_pipelines.dossiers.trends import trend_pictures

    return {name: dg.MetadataValue.md(markdown) for name, markdown in trend_pictures(database).items()}


def build_snapshot_assets(settings: Settings) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return the desk's assets of history; their days begin where the settings say."""

    @dg.asset(
        key=SNAPSHOTS_KEY,
        deps=[dg.AssetKey(["raw", "engagements"]), dg.AssetKey(["raw", "dossiers"]), HISTORY_KEY],
        partitions_def=daily_partitions(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds={"postgres", "sql"},
        owners=[owners.ANALYTICS],
        metadata={
            **table_metadata(tables.DAILY_SNAPSHOTS),
            "dagster/column_lineage": column_lineage(lineage.DAILY_SNAPSHOTS),
        },
        description="Every dossier as of the end of each day: statistics, components, score, band, and what changed "
        "since the day before. Any past day, or range of days, can be materialized anew; what did not change stays.",
        code_version="1",
    )
    def daily_snapshots(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        """Take the snapshots of the run's days, whether one or thousands."""
        keys = context.partition_key_range
        run_id, backfill_id = context.run.run_id, context.run.root_run_id or context.run.run_id
        with readable_failures("Taking daily snapshots"):
            current = read_settings()
            with locks.SNAPSHOTS.lease(
                database, holder=run_id, patience_seconds=locks.SNAPSHOT_PATIENCE_SECONDS
            ) as lease:
                result = take_snapshots(
                    database,
                    read_health_config(current.health_config),
                    first_day=date.fromisoformat(keys.start),
                    last_day=date.fromisoformat(keys.end),
                    now=run_moment(context.instance, run_id),
                    backfill_id=backfill_id,
                    lease=lease,
                    report=lambda chunk: told(context, chunk),
                )
                forget_chunks(database, backfill_id)
            pictures = picture_metadata(database)
        context.log.info(
            "%d days, %d rows written, %d chunks had been done before", result.days, result.written, result.skipped
        )
        context.log_event(dg.AssetMaterialization(asset_key=TRENDS_KEY, metadata=pictures))
        # The same for every day of the range, and stored with each: a few figures, no more.
        return dg.MaterializeResult(metadata={"days": result.days, "rows_written": result.written})

    @dg.asset(
        key=TRENDS_KEY,
        deps=[SNAPSHOTS_KEY],
        group_name=GROUP,
        kinds={"postgres", "view"},
        owners=[owners.ANALYTICS],
        metadata={"dagster/table_name": "dossiers.health_trend_by_group"},
        description="How the scores went: of all dossiers, of each region, bloc and type, who moved most in the last "
        "year, and how many were in which band. A view: always current. The metadata has it as pictures, drawn by each "
        "run that takes snapshots.",
        code_version="1",
    )
    def health_trend_by_group(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
        """Draw the pictures anew."""
        with readable_failures("Reading dossiers.health_trend_by_group"):
            return dg.MaterializeResult(metadata=picture_metadata(database))

    return [commitment_history, daily_snapshots, health_trend_by_group]
