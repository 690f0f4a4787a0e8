"""The asset of a raw table: each one load and its counts. A desk says which entity, and from which source."""

from collections.abc import Callable
from typing import Final

import dagster as dg

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.load import LoadResult
from dossier_pipelines.shared import owners
from dossier_pipelines.shared.asset_metadata import table_metadata
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.runs import readable_failures

# What a materialization tells of single tenants is stored with it.
MOST_LISTED: Final = 100

Load = Callable[[Database, Entity, dg.DagsterRun], LoadResult | None]


def raw_asset(
    entity: Entity, *, key: dg.AssetKey, deps: list[dg.AssetKey], group: str, description: str, load: Load
) -> dg.AssetsDefinition:
    """Return the asset that loads ``entity``; ``load`` returns None when the source does not have it.

    ``key`` is that of the table, or of a view that shows the rows of one desk.
    """
    own = key.path == [entity.table.schema, entity.table.name]

    @dg.asset(
        key=key,
        deps=deps,
        group_name=group,
        kinds={"postgres", "sql" if own else "view"},
        owners=[owners.PLATFORM],
        description=f"{description} Unusable rows are set aside, with the reason in words, in ingestion.rejected_rows.",
        metadata=table_metadata(entity.table) if own else {"dagster/table_name": ".".join(key.path)},
        code_version="1",
    )
    def load_records(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        with readable_failures(f"Loading {entity.name}"):
            result = load(database, entity, context.run)
        if result is None:
            context.log.info("The source has no %s; what is loaded stays.", entity.name)
            return dg.MaterializeResult(metadata={"source_has_it": False, "rows_read": 0})
        listed = dict(sorted(result.kept.items())[:MOST_LISTED])
        if listed:
            context.log.warning(
                "Of %s tenants a larger share of the %s is gone from the source than DOSSIER_MAX_REMOVED_SHARE allows, "
                "and theirs were not removed: %s.",
                len(result.kept),
                entity.name,
                ", ".join(f"{tenant_id} ({gone})" for tenant_id, gone in listed.items()),
            )
        return dg.MaterializeResult(
            metadata={
                **result.as_metadata(),
                "source": result.source,
                "dagster/row_count": result.rows_read - result.rejected,
                "rejected_because": dg.MetadataValue.json(dict(result.reasons)),
                **({"not_removed": dg.MetadataValue.json(listed)} if listed else {}),
            }
        )

    return load_records
