"""The registry of the litigation desk, and nothing else."""

import dagster as dg

from dossier_pipelines.litigation import assets, automation, checks
from dossier_pipelines.shared.environment import Settings


def build_litigation_defs(settings: Settings) -> dg.Definitions:
    """Return what the desk adds to the house; resources come from the root."""
    return dg.Definitions(
        assets=[
            *assets.RAW_ASSETS,
            *assets.WRITTEN_IN_PASSING,
            *assets.build_metric_assets(settings),
            assets.late_tasks,
        ],
        asset_checks=checks.CHECKS,
        jobs=automation.JOBS,
        schedules=automation.build_schedules(settings),
        sensors=automation.build_sensors(settings),
    )
