"""One check per promise that assets.py makes. Each says what is wrong, how often, and for which records.

A failed blocking check keeps what comes after from being published. Only ids are shown, no names or texts of
people.
"""

import dagster as dg

from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.refresh import PACKAGE
from dossier_pipelines.ingestion.checks import rejected_share_check
from dossier_pipelines.shared.checks import violations
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.runs import readable_failures, run_moment

FRESH_MINUTES = 60
FRESH_SHARE = 0.95
SCORES = dg.AssetKey(["dossiers", "health_scores"])


def _references_check(entity: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(["raw", entity]),
        name="references",
        blocking=True,
        description=f"Every record of {entity} belongs to a dossier that exists.",
    )
    def references(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        return violations(
            database,
            PACKAGE,
            f"orphaned_{entity}",
            None,
            promise=f"Every record of {entity} belongs to a dossier that exists.",
            remedy=f"Load the dossiers, or delete the records of raw.{entity} with these ids.",
        )

    return references


def _recognised_once_check(entity: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(["raw", entity]),
        name="uniqueness",
        description=f"No two records of {entity} have the same key in the source under two ids.",
    )
    def uniqueness(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        return violations(
            database,
            PACKAGE,
            f"repeated_{entity}",
            None,
            promise=f"No two records of {entity} look the same.",
            remedy="They would count twice. Remove one at the source.",
            warn=True,
        )

    return uniqueness


RAW_CHECKS = [
    *(rejected_share_check(dg.AssetKey(["raw", name]), entity) for name, entity in ENTITIES.items()),
    *(_references_check(name) for name, entity in ENTITIES.items() if entity.parent is not None),
    *(_recognised_once_check(entity) for entity in ("dossiers", "commitments")),
]


@dg.asset_check(
    asset=dg.AssetKey(["raw", "engagements"]),
    name="not_in_the_future",
    description="No engagement is dated after the present. Such a one counts in nothing until its day comes.",
)
def not_in_the_future(
    context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
) -> dg.AssetCheckResult:
    """Warn of engagements after the tenant's clock."""
    return violations(
        database,
        PACKAGE,
        "future_engagements",
        {"now": run_moment(context.instance, context.run.run_id)},
        promise="No engagement is dated after the present.",
        remedy="They count in nothing until their day comes; correct the date if it is a mistake.",
        warn=True,
    )


@dg.asset_check(
    asset=SCORES,
    blocking=True,
    description="Every score and component lies between 0 and 100, every count is 0 or more.",
)
def ranges(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Refuse values that cannot be."""
    return violations(
        database,
        PACKAGE,
        "scores_out_of_range",
        None,
        promise="Every score and component lies between 0 and 100, every count is 0 or more.",
        remedy="Run recompute_health_scores_job; if it stays, this is a defect to report.",
    )


@dg.asset_check(
    asset=SCORES,
    blocking=True,
    description="Every score is the weighted sum of its components by the settings it names, and its band fits it.",
)
def formula_consistency(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Refuse scores that their own components and settings do not give."""
    return violations(
        database,
        PACKAGE,
        "scores_off_formula",
        None,
        promise="Every score is the weighted sum of its components, and its band fits it.",
        remedy="Run recompute_health_scores_job; if it stays, this is a defect to report.",
    )


@dg.asset_check(
    asset=SCORES,
    name="uniqueness",
    blocking=True,
    description="Every dossier has exactly one score and one row of each statistic, and nothing else has one.",
)
def one_row_per_dossier(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Refuse missing and left-over rows."""
    return violations(
        database,
        PACKAGE,
        "scores_without_dossier",
        None,
        promise="Every dossier has exactly one score and one row of each statistic.",
        remedy="Run recompute_health_scores_job.",
    )


@dg.asset_check(
    asset=SCORES,
    description=f"At least {FRESH_SHARE:.0%} of the scores are younger than {FRESH_MINUTES} minutes.",
)
def freshness(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Show the share of fresh scores among the dossiers with enough data."""
    with readable_failures("Reading the age of the scores"):
        found = database.run(
            PACKAGE,
            "score_freshness",
            {"now": run_moment(context.instance, context.run.run_id), "minutes": FRESH_MINUTES},
        )[0]
    share = found.fresh / found.scored if found.scored else 1.0
    return dg.AssetCheckResult(
        passed=share >= FRESH_SHARE,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{found.fresh} of {found.scored} scores are younger than {FRESH_MINUTES} minutes."
        + ("" if share >= FRESH_SHARE else " Run refresh_health_scores_job, and see why it did not run by itself."),
        metadata={"fresh_share": share, "scored": found.scored, "oldest_minutes": found.oldest_minutes or 0},
    )


@dg.asset_check(
    asset=SCORES,
    description="The newest full recomputation found every score as the incremental refreshes had left it.",
)
def drift(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Compare incremental with full."""
    return violations(
        database,
        PACKAGE,
        "drifted_scores",
        None,
        promise="The newest full recomputation found every score as the incremental refreshes had left it.",
        remedy="The scores are right now; a change was missed before. This is a defect to report, with these ids.",
    )


@dg.asset_check(asset=SCORES, description="Every score was computed with the settings in force.")
def settings_in_force(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Warn of scores of another configuration."""
    with readable_failures("Reading the health settings"):
        version = read_health_config(read_settings().health_config).version
    return violations(
        database,
        PACKAGE,
        "scores_of_other_settings",
        {"version": version},
        promise="Every score was computed with the settings in force.",
        remedy="Run refresh_health_scores_job.",
        warn=True,
    )


SCORE_CHECKS = [ranges, formula_consistency, one_row_per_dossier, freshness, drift, settings_in_force]
CHECKS = [*RAW_CHECKS, not_in_the_future, *SCORE_CHECKS]
