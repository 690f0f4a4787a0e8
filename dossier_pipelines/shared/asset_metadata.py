"""What every asset tells about itself in the UI, taken from the declared tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import sqlalchemy as sa


def table_metadata(table: sa.Table) -> dict[str, Any]:
    """Return the table's name and column schema, with the declared comments as descriptions."""
    columns = [
        dg.TableColumn(
            column.name,
            str(column.type).lower(),
            description=column.comment,
            constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
        )
        for column in table.columns
    ]
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


def column_lineage(deps: Mapping[str, list[tuple[str, str]]]) -> dg.TableColumnLineage:
    """Return lineage from ``{column: [("schema/table", "column"), ...]}``."""
    return dg.TableColumnLineage(
        deps_by_column={
            column: [dg.TableColumnDep(dg.AssetKey(key.split("/")), source) for key, source in sources]
            for column, sources in deps.items()
        }
    )
