"""The tables of ingestion: what was loaded, what was set aside, and the form of the tables that are loaded."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from dossier_pipelines.shared.tables import METADATA, MOMENT, tenant_column


def raw_table(name: str, comment: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    """Return a source-owned table: its key, what the source gives, and what tells an unchanged row."""
    return sa.Table(
        name,
        METADATA,
        tenant_column(),
        sa.Column("id", pg.UUID, nullable=False, comment="The source's id, or a stable UUID made from it"),
        *columns,
        sa.Column("source_key", sa.Text, comment="The source's own id where it is no UUID"),
        sa.Column("extra", pg.JSONB, comment="The source's columns that have no place of their own"),
        sa.Column("source_hash", sa.BigInteger, comment="Hash of the source row, to tell an unchanged one"),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
        schema="raw",
        comment=comment,
    )


LOADS: Final = sa.Table(
    "loads",
    METADATA,
    sa.Column(
        "tenant_id",
        sa.Text(collation="C"),
        nullable=False,
        comment="Whose row this is; * for the load of a source of many tenants",
    ),
    sa.Column("load_id", sa.BigInteger, sa.Identity(always=True), nullable=False),
    sa.Column("entity", sa.Text, nullable=False, comment="engagements, commitments, ..."),
    sa.Column("source", sa.Text, nullable=False, comment="The source, without credentials"),
    sa.Column("started_at", MOMENT, nullable=False),
    sa.Column("finished_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()")),
    sa.Column("outcome", sa.Text, nullable=False, comment="merged, or refused (nothing was changed)"),
    sa.Column("rows_read", sa.BigInteger, nullable=False),
    sa.Column("inserted", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    sa.Column("unchanged", sa.BigInteger, nullable=False),
    sa.Column("removed", sa.BigInteger, nullable=False),
    sa.Column("rejected", sa.BigInteger, nullable=False),
    sa.Column("run_id", sa.Text, comment="The Dagster run"),
    sa.PrimaryKeyConstraint("tenant_id", "load_id"),
    sa.CheckConstraint("outcome IN ('merged', 'refused')", name="outcome"),
    schema="ingestion",
    comment="One row per entity and load",
)
sa.Index("loads_tenant_id_entity_load_id_idx", LOADS.c.tenant_id, LOADS.c.entity, LOADS.c.load_id)

REJECTED_ROWS: Final = sa.Table(
    "rejected_rows",
    METADATA,
    sa.Column(
        "tenant_id",
        sa.Text(collation="C"),
        nullable=False,
        comment="Whose row this is; * for one that names no known tenant, which only who sees all tenants reads",
    ),
    sa.Column("entity", sa.Text, nullable=False, comment="engagements, commitments, ..."),
    sa.Column("source", sa.Text, nullable=False, comment="The file, table or path, without credentials"),
    sa.Column("row_number", sa.BigInteger, nullable=False, comment="Row in the source; in a file the header is row 1"),
    sa.Column("reason", sa.Text, nullable=False, comment="What is wrong, in words"),
    sa.Column("raw_row", pg.JSONB, nullable=False, comment="The row as the source gave it"),
    sa.Column("load_id", sa.BigInteger, nullable=False, comment="The load that set it aside"),
    sa.PrimaryKeyConstraint("tenant_id", "entity", "source", "row_number"),
    schema="ingestion",
    comment="Rows set aside by the newest load of each source; a corrected source empties its part",
)
