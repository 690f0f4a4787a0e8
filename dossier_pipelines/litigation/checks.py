"""One check per promise of the desk. Each says what is wrong, how often, and for which records."""

import json
from datetime import timedelta

import dagster as dg

from dossier_pipelines.ingestion.checks import rejected_share_check
from dossier_pipelines.litigation.assets import DAILY_METRICS_KEY, KEYS, LATE_TASKS_KEY
from dossier_pipelines.litigation.entities import ENTITIES
from dossier_pipelines.litigation.service_levels import DEFAULT_HOURS, PACKAGE
from dossier_pipelines.shared.checks import violations
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.runs import readable_failures


@dg.asset_check(
    asset=LATE_TASKS_KEY,
    name="as_judged_anew",
    description="What is flagged is what judging every task anew would flag, as of the last check.",
)
def flags_as_judged_anew(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Judge all tasks, and compare."""
    return violations(
        database,
        PACKAGE,
        "flags_off",
        {"grace": timedelta(minutes=read_settings().overdue_grace_minutes), "hours": json.dumps(DEFAULT_HOURS)},
        promise="A task is flagged as overdue or as missing its service level if and only if it is open and was so at "
        "the last check.",
        remedy="Run check_sla_and_overdue_job; if that does not mend it, it is a defect: report it.",
    )


@dg.asset_check(
    asset=DAILY_METRICS_KEY,
    name="in_range",
    description="Rates lie from 0 to 1, numbers are not negative.",
)
def metrics_in_range(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Look for impossible values."""
    return violations(
        database,
        PACKAGE,
        "metrics_out_of_range",
        None,
        promise="Rates lie from 0 to 1, and numbers are not negative.",
        remedy="Materialize the days anew; if that does not mend it, it is a defect: report it.",
    )


@dg.asset_check(
    asset=DAILY_METRICS_KEY,
    name="nothing_unusual",
    description="On the newest day of each tenant no metric is unusual, by the detector that knows weekdays.",
)
def nothing_unusual(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Warn of what is unusual on the newest days."""
    with readable_failures("Reading litigation.anomalies"):
        rows = database.run(PACKAGE, "unusual_now")
    lines = [
        f"- {row.day}, {row.tenant_id}: {row.metric} is {row.value:.4g}, where {row.low:.4g} to {row.high:.4g} is usual"
        for row in rows
    ]
    return dg.AssetCheckResult(
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(rows)} metrics are unusual on the newest day of their tenant." if rows else None,
        metadata={"unusual": len(rows), "metrics": dg.MetadataValue.md("\n".join(lines) or "none")},
    )


CHECKS = [
    *(rejected_share_check(KEYS[name], entity) for name, entity in ENTITIES.items()),
    flags_as_judged_anew,
    metrics_in_range,
    nothing_unusual,
]
