"""The declared schema: one MetaData for all desks, and the tables that no desk owns.

Each room declares its own tables beside its code. A test compares what the migrations build with what is
declared here, column by column.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

METADATA: Final = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

MOMENT: Final = sa.TIMESTAMP(timezone=True)


def tenant_column() -> sa.Column[str]:
    """Return the column that leads every key. Collation C compares bytes, which keeps index probes cheap."""
    return sa.Column("tenant_id", sa.Text(collation="C"), nullable=False, comment="Whose row this is")


TENANTS: Final = sa.Table(
    "tenants",
    METADATA,
    tenant_column(),
    sa.Column("timezone", sa.Text, nullable=False, comment="IANA time zone that decides what 'today' is"),
    sa.Column(
        "clock_at",
        MOMENT,
        comment="The moment at which this tenant's records end; null means the present",
    ),
    sa.PrimaryKeyConstraint("tenant_id"),
    schema="platform",
    comment="Who the data belongs to, and in which time zone and at which moment they live",
)

# Append-only and without a key on purpose: writers never wait for each other here, and a reader deletes exactly
# the marks that it can see (architecture, decision 3).
STALE_MARKS: Final = sa.Table(
    "stale_marks",
    METADATA,
    tenant_column(),
    sa.Column("consumer", sa.Text, nullable=False, comment="Who has to recompute"),
    sa.Column("dossier_id", pg.UUID, nullable=False, comment="What has to be recomputed"),
    sa.Column("entity", sa.Text, nullable=False, comment="Which records changed: engagements, commitments, ..."),
    sa.Column("record_ids", pg.ARRAY(pg.UUID), nullable=False, comment="The changed records, at most 20 of them"),
    sa.Column(
        "marked_at", MOMENT, nullable=False, server_default=sa.text("clock_timestamp()"), comment="When it was marked"
    ),
    schema="platform",
    comment="What changed and has not been recomputed yet",
)
