"""The registry of the notifications room, and nothing else."""

import dagster as dg

from dossier_pipelines.notifications import assets, automation
from dossier_pipelines.shared.environment import Settings


def build_notifications_defs(settings: Settings) -> dg.Definitions:
    """Return what the room adds to the house; resources come from the root."""
    return dg.Definitions(assets=assets.ASSETS, jobs=automation.JOBS, sensors=automation.build_sensors(settings))
