"""The check that every loaded table has: how much of the newest load was set aside."""

import dagster as dg

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.runs import readable_failures

PACKAGE = "dossier_pipelines.ingestion"
# Above this share of rejected rows the check warns; above DOSSIER_MAX_REJECTED_SHARE nothing is merged at all.
REJECTED_SHARE_WARNING = 0.01


def rejected_share_check(key: dg.AssetKey, entity: Entity) -> dg.AssetChecksDefinition:
    """Return the check that few rows of the newest load of ``entity`` were set aside."""

    @dg.asset_check(
        asset=key,
        name="rejected_share",
        description=f"At most {REJECTED_SHARE_WARNING:.0%} of the rows of the newest load were set aside.",
    )
    def rejected_share(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with readable_failures(f"Reading the newest load of {entity.name}"):
            found = database.run(PACKAGE, "rejected_share", {"entity": entity.recorded_as})
        rejected = sum(row.rejected for row in found)
        read = sum(row.rows_read for row in found)
        share = rejected / read if read else 0.0
        reasons = {row.tenant_id: row.reasons for row in found if row.reasons}
        passed = share <= REJECTED_SHARE_WARNING
        return dg.AssetCheckResult(
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{rejected} of {read} rows were set aside."
            + ("" if not rejected else " Look in ingestion.rejected_rows, correct the source and load again."),
            metadata={
                "rejected": rejected,
                "rows_read": read,
                "share": share,
                "reasons": dg.MetadataValue.json(reasons),
            },
        )

    return rejected_share
