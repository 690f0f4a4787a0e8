"""The registry of the operations room, and nothing else."""

import dagster as dg

from dossier_pipelines.operations import assets, automation
from dossier_pipelines.shared.environment import Settings


def build_operations_defs(settings: Settings) -> dg.Definitions:
    """Return what the room adds to the house; resources come from the root."""
    return dg.Definitions(assets=assets.ASSETS, sensors=automation.build_sensors(settings))
