"""The registry of the dossiers desk, and nothing else."""

import dagster as dg

from dossier_pipelines.dossiers import assets, automation, checks, snapshot_assets
from dossier_pipelines.shared.environment import Settings


def build_dossiers_defs(settings: Settings) -> dg.Definitions:
    """Return what the desk adds to the house; resources come from the root."""
    return dg.Definitions(
        assets=[
            *assets.RAW_ASSETS,
            assets.refresh_health_assets,
            assets.dossier_overview,
            assets.health_by_group,
            *snapshot_assets.build_snapshot_assets(settings),
        ],
        asset_checks=checks.CHECKS,
        jobs=automation.JOBS,
        schedules=automation.build_schedules(settings),
        sensors=automation.build_sensors(settings),
    )
