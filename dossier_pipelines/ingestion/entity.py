"""What an entity is to ingestion: its raw table, the columns that a source gives, and when a row is bad.

Declarations only. A desk declares its entities (dossiers/entities.py); checking.py and merge.py turn them into SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa


class Kind(Enum):
    """How the text of a source becomes a value."""

    KEY = "key"
    """The record's own id: a UUID, or anything else, which becomes a stable UUID."""
    REFERENCE = "reference"
    """Another record's id, by the same rule."""
    TEXT = "text"
    CHOICE = "choice"
    """One of a few lower-case words."""
    DATE = "date"
    MOMENT = "moment"
    """Date and time; without an offset, local time of the tenant."""
    TIMEZONE = "timezone"
    """An IANA time zone."""
    NUMBER = "number"
    """A decimal number."""
    BOOLEAN = "boolean"
    """True or false, in PostgreSQL's spellings: true, t, yes, on, 1 and their opposites."""
    JSON = "json"
    JSON_PATH = "json path"
    """A path of the SQL/JSON path language, kept as its text."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column that a source may give.

    ``column_required``: the source must have the column. ``value_required``: every row must fill it.
    """

    name: str
    kind: Kind = Kind.TEXT
    column_required: bool = False
    value_required: bool = False
    choices: tuple[str, ...] = ()
    references: str | None = None
    """The entity that a REFERENCE names."""
    must_exist: bool = False
    """A row whose reference is not loaded is set aside."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A promise between columns. ``broken`` is SQL over the typed columns; null counts as kept."""

    broken: str
    reason: str
    """SQL text expression that says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Entity:
    """One kind of record: engagements, commitments, ..."""

    name: str
    table: sa.Table
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    """Typed columns by which a bulk merge is ordered: the order in which they are read later."""
    optional: bool = False
    """A source may lack it altogether."""
    parent: Entity | None = None
    """The entity that references with ``must_exist`` point to."""
    rules: tuple[Rule, ...] = field(default=())
    tenant: str | None = None
    """The source's column that says whose each row is; without one all rows are those of the configured tenant."""
    founds_tenants: bool = False
    """Its rows are the tenants themselves: they need not be known before."""
    unique: tuple[str, ...] = ()
    """Required columns of which no two records of a tenant have the same values; of several the first counts."""
    label: str | None = None
    """What loads and rejects call it, where another desk has an entity of the same name."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Columns that an update does not simply take from the source: SQL over the rows ``loaded`` and ``excluded``."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, key first."""
        return tuple(column.name for column in self.columns)

    @property
    def target(self) -> str:
        """The schema-qualified raw table."""
        return f"{self.table.schema}.{self.table.name}"

    def tenant_of(self, alias: str) -> str:
        """Return the SQL of whose the row ``alias`` is: the configured tenant's, or that which the row names."""
        return f"{alias}.tenant_id" if self.tenant else ":tenant_id"

    @property
    def recorded_as(self) -> str:
        """The name under which its loads and rejects are kept."""
        return self.label or self.name

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a source must have."""
        return tuple(column.name for column in self.columns if column.column_required)
