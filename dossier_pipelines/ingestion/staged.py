"""What is staged: the columns of a source as SQL, and the parameters that such SQL binds.

Names of staged columns are ours (c1, c2, ...); everything that a source or a mapping says is a bound parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Bound:
    """SQL fragments under construction, and the parameters that they bind."""

    parameters: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: object, sql_type: str) -> str:
        """Return the SQL of a new bound parameter."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"CAST(:{name} AS {sql_type})"


@dataclass(frozen=True, kw_only=True)
class StagedColumns:
    """Where the columns of a source lie in the staging table.

    ``header`` names c1, c2, ... of a tabular source; None means one JSON document in c1.
    """

    header: tuple[str, ...] | None

    @property
    def width(self) -> int:
        """Number of text columns in the staging table."""
        return 1 if self.header is None else len(self.header)

    def text(self, name: str, bound: Bound) -> str | None:
        """Return the SQL of the source column's text, or None when a tabular source lacks it."""
        if self.header is None:
            top = f"document ->> {bound.bind(name, 'text')}"
            if "." not in name:
                return f"({top})"
            return f"coalesce({top}, document #>> string_to_array({bound.bind(name, 'text')}, '.'))"
        return f"c{self.header.index(name) + 1}" if name in self.header else None

    def document(self) -> str:
        """Return the SQL of the whole row, before it is split into columns."""
        if self.header is None:
            return "CASE WHEN pg_input_is_valid(c1, 'jsonb') THEN CAST(c1 AS jsonb) END"
        return "CAST(NULL AS jsonb)"

    def raw_row(self, bound: Bound) -> str:
        """Return the SQL of the row as the source gave it, as JSON."""
        if self.header is None:
            return "CASE WHEN pg_input_is_valid(c1, 'jsonb') THEN CAST(c1 AS jsonb) ELSE to_jsonb(c1) END"
        values = ", ".join(f"NULLIF(c{index}, '')" for index in range(1, self.width + 1))
        return f"jsonb_object({bound.bind(list(self.header), 'text[]')}, ARRAY[{values}])"

    def extra(self, known: set[str], bound: Bound) -> str:
        """Return the SQL of the columns that have no place of their own, as JSON; null when there are none."""
        if self.header is None:
            return (
                f"CASE WHEN jsonb_typeof(document) = 'object' "
                f"THEN NULLIF(document - {bound.bind(sorted(known), 'text[]')}, CAST('{{}}' AS jsonb)) END"
            )
        unknown = [(index, name) for index, name in enumerate(self.header, 1) if name not in known]
        if not unknown:
            return "CAST(NULL AS jsonb)"
        names = bound.bind([name for _, name in unknown], "text[]")
        values = ", ".join(f"NULLIF(c{index}, '')" for index, _ in unknown)
        return f"NULLIF(jsonb_strip_nulls(jsonb_object({names}, ARRAY[{values}])), CAST('{{}}' AS jsonb))"
