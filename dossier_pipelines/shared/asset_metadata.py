"""What every asset tells about itself in the UI, taken from the declared tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    import sqlalchemy as sa

POSTGRESQL: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


def table_metadata(table: sa.Table) -> dict[str, Any]:
    """Return the table's name and column schema, with the declared comments as descriptions."""
    columns = [
        dg.TableColumn(
            column.name,
            _type_name(column),
            description=column.comment,
            constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
        )
        for column in table.columns
    ]
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


def table_spec(table: sa.Table, *, group: str, owner: str, description: str) -> dg.AssetSpec:
    """Return the asset of a table that jobs write to in passing: to be found and read in the UI, not materialized."""
    return dg.AssetSpec(
        key=[str(table.schema), table.name],
        group_name=group,
        kinds={"postgres", "table"},
        owners=[owner],
        description=description,
        metadata=table_metadata(table),
    )


def _type_name(column: sa.Column[Any]) -> str:
    """Return the type as PostgreSQL writes it; its collation is no business of a reader's."""
    name: str = column.type.compile(dialect=POSTGRESQL)
    return name.partition(" COLLATE ")[0].lower()


def column_lineage(deps: Mapping[str, list[tuple[str, str]]]) -> dg.TableColumnLineage:
    """Return lineage from ``{column: [("schema/table", "column"), ...]}``."""
    return dg.TableColumnLineage(
        deps_by_column={
            column: [dg.TableColumnDep(dg.AssetKey(key.split("/")), source) for key, source in sources]
            for column, sources in deps.items()
        }
    )
