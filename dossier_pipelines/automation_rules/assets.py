"""The room's tables as assets: where an analyst finds what rules are about to do, what they did, and what is wrong."""

import dagster as dg

from dossier_pipelines.automation_rules import tables
from dossier_pipelines.shared import owners
from dossier_pipelines.shared.asset_metadata import table_spec

GROUP = "automation_rules"

ASSETS: list[dg.AssetSpec] = [
    table_spec(
        tables.EXECUTIONS,
        group=GROUP,
        owner=owners.PLATFORM,
        description="One row per event and rule that answers it: pending, success, failed and tried again, or dead. "
        "Dead ones are replayed with replay_dead_executions_job.",
    ),
    table_spec(
        tables.AUTOMATION_LOGS,
        group=GROUP,
        owner=owners.PLATFORM,
        description="Every attempt of a rule to answer an event, action by action, and why one failed.",
    ),
    table_spec(
        tables.HEALTH_ALERTS,
        group=GROUP,
        owner=owners.PLATFORM,
        description="Rules that fail too often or are silent, and tenants whose rules fail; open while it lasts.",
    ),
]
