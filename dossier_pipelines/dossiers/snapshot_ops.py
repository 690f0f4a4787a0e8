"""What happens to history besides its partitions: restating days that late records overtook, removing old ones."""

import dagster as dg

from dossier_pipelines.dossiers import locks
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.snapshot_assets import TRENDS_KEY, picture_metadata, told
from dossier_pipelines.dossiers.snapshots import remove_old_snapshots, restate_snapshots
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.runs import readable_failures, run_moment


@dg.op(
    description="Take the snapshots anew of dossiers whose records arrived or changed after the days were taken.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def restate_overtaken_snapshots(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
    """Restate what is marked, under the lease of the snapshots."""
    with readable_failures("Restating daily snapshots"):
        with locks.SNAPSHOTS.lease(
            database, holder=context.run.run_id, patience_seconds=locks.SNAPSHOT_PATIENCE_SECONDS
        ) as lease:
            result = restate_snapshots(
                database,
                read_health_config(read_settings().health_config),
                now=run_moment(context.instance, context.run.run_id),
                lease=lease,
                report=lambda chunk: told(context, chunk),
            )
        pictures = picture_metadata(database)
    context.log_event(dg.AssetMaterialization(asset_key=TRENDS_KEY, metadata=pictures))
    context.add_output_metadata({"days": result.days, "rows_written": result.written})


@dg.job(
    description="Restate the daily snapshots that late records have overtaken. A sensor starts it.",
    tags=locks.SNAPSHOTS.tags,
)
def restate_snapshots_job() -> None:
    """Restate."""
    restate_overtaken_snapshots()


class RetentionConfig(dg.Config):
    """How many days to keep; without it DOSSIER_HISTORY_DAYS. At least 31."""

    keep_days: int | None = None
    dry_run: bool = False


@dg.op(
    description="Remove the daily snapshots of months further back than the configured days, and say how much.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def remove_snapshots_beyond_retention(
    context: dg.OpExecutionContext, config: RetentionConfig, database: dg.ResourceParam[Database]
) -> None:
    """Remove, or with dry_run only count."""
    with readable_failures("Removing old snapshots"):
        days = config.keep_days or read_settings().history_days
        if not days:
            raise UserError(
                "Nothing says how many days of snapshots to keep: set keep_days here, or DOSSIER_HISTORY_DAYS."
            )
        with locks.SNAPSHOTS.lease(
            database, holder=context.run.run_id, patience_seconds=locks.SNAPSHOT_PATIENCE_SECONDS
        ) as lease:
            removed = remove_old_snapshots(
                database,
                keep_days=days,
                now=run_moment(context.instance, context.run.run_id),
                dry_run=config.dry_run,
                lease=lease,
            )
    context.log.info(
        "%s: %d days, %d rows, %d bytes",
        "would be removed" if config.dry_run else "removed",
        removed.days,
        removed.rows,
        removed.bytes,
    )
    context.add_output_metadata(
        {"days": removed.days, "rows": removed.rows, "bytes": removed.bytes, "dry_run": config.dry_run}
    )


@dg.job(
    description="Remove the daily snapshots of months further back than DOSSIER_HISTORY_DAYS.",
    tags=locks.SNAPSHOTS.tags,
)
def remove_old_snapshots_job() -> None:
    """Remove."""
    remove_snapshots_beyond_retention()
