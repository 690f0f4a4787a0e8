"""How a promise about a table is checked: a statement finds what breaks it. Only ids are shown, nothing of people."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.runs import readable_failures


def violations(
    database: Database,
    package: str,
    name: str,
    parameters: Mapping[str, Any] | None,
    *,
    promise: str,
    remedy: str,
    warn: bool = False,
) -> dg.AssetCheckResult:
    """Run a statement that returns (violations, examples) and judge it."""
    with readable_failures(f"Checking: {promise}"):
        found = database.run(package, name, parameters)[0]
    count = int(found.violations)
    passed = count == 0
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
        description=promise if passed else f"Broken for {count}: {promise} {remedy}",
        metadata={
            "violations": count,
            "examples": dg.MetadataValue.json([str(example) for example in found.examples or []]),
        },
    )
