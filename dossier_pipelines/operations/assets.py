"""The room's tables as assets: locks, events, audit and alarms, where an analyst looks for them."""

import dagster as dg

from dossier_pipelines.shared import owners, tables
from dossier_pipelines.shared.asset_metadata import table_spec

GROUP = "operations"
LEASES_KEY = dg.AssetKey(["platform", "job_leases"])

ASSETS = [
    table_spec(
        tables.JOB_LEASES,
        group=GROUP,
        owner=owners.PLATFORM,
        description="The lock of each job: held by which run, since when, until when; the metadata shows it.",
    ),
    table_spec(
        tables.EVENTS,
        group=GROUP,
        owner=owners.PLATFORM,
        description="What happened: commitments that became late, scores that dropped, relationships at risk.",
    ),
    table_spec(
        tables.AUDIT_LOG,
        group=GROUP,
        owner=owners.PLATFORM,
        description="Every run of every job: what it did, how long it took, how it ended; also when it was killed.",
    ),
    table_spec(
        tables.JOB_ALERTS,
        group=GROUP,
        owner=owners.PLATFORM,
        description="Jobs that failed twice in a row or did not run when they should; open while it lasts.",
    ),
]
