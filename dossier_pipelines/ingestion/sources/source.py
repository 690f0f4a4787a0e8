"""What a source is: something that gives the rows of an entity as a stream of CSV blocks for COPY."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.mapping import EntityMapping
from dossier_pipelines.ingestion.staged import StagedColumns
from dossier_pipelines.shared.failures import SourceError

BLOCK_BYTES: Final = 1 << 20
# Beyond this a file is not the kind of file that it was taken for, and memory would not be bounded.
MOST_MALFORMED: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class MalformedRow:
    """A row that cannot even be split into columns. ``position`` counts from 1 in the stream."""

    position: int
    reason: str
    line: str


class Rows(ABC):
    """The rows of one entity, read once."""

    staged: StagedColumns
    label: str
    """The file, table or path, for messages and rejected_rows; without credentials."""
    row_offset: int = 0
    """What to add to a position to name the row as a person would: 1 for a file with a header."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.count = 0
        self.malformed: list[MalformedRow] = []

    @abstractmethod
    def blocks(self) -> Iterator[bytes]:
        """Yield blocks of whole CSV rows, at most a few MiB each; a malformed row is a row of nulls."""

    def set_aside(self, reason: str, line: bytes | str) -> None:
        """Note that the row at the present position is malformed."""
        if len(self.malformed) >= MOST_MALFORMED:
            raise SourceError(
                f"{self.label}: more than {MOST_MALFORMED} rows cannot be read; the first: row "
                f"{self.malformed[0].position + self.row_offset}: {self.malformed[0].reason}. "
                "Check the file's encoding (UTF-8) and its separator (comma)."
            )
        text = line if isinstance(line, str) else line.decode("utf-8", "backslashreplace")
        text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
        self.malformed.append(MalformedRow(position=self.count, reason=reason, line=text[:2000]))


class Source(ABC):
    """A place that rows come from."""

    description: str
    """For people: what was read, without credentials."""

    @abstractmethod
    def open(self, entity: Entity, mapping: EntityMapping) -> AbstractContextManager[Rows | None]:
        """Open the rows of ``entity``; None when the source does not have this optional entity."""
