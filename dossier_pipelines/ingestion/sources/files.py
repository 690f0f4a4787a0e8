"""A folder of CSV or JSON-lines files, plain or gzipped.

Speed comes from looking at blocks, not rows: a block without quotes, odd bytes or a wrong number of separators
is handed to COPY as it is; only a block that needs care goes through Python's csv reader.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from typing import BinaryIO, Final, cast

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.mapping import EntityMapping
from dossier_pipelines.ingestion.sources.source import BLOCK_BYTES, Rows, Source
from dossier_pipelines.ingestion.staged import StagedColumns
from dossier_pipelines.shared.failures import SourceError

SUFFIXES: Final = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
# One record, with its quoted line breaks. An unclosed quote would otherwise take in the rest of the file.
LONGEST_RECORD_BYTES: Final = 16 << 20
UTF8_BOM: Final = b"\xef\xbb\xbf"
UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


class FolderSource(Source):
    """The files of a folder, one per entity, named for the entity or by the mapping."""

    def __init__(self, folder: Path) -> None:
        """Read from ``folder``; raise SourceError when there is no such folder."""
        if not folder.is_dir():
            what = "is a file; name the folder that holds it" if folder.exists() else "does not exist"
            raise SourceError(f"The source folder {folder} {what}.")
        self.folder = folder
        self.description = str(folder)

    @contextmanager
    def open(self, entity: Entity, mapping: EntityMapping) -> Iterator[Rows | None]:
        """Open the entity's file; raise SourceError naming the expected names when a needed one is missing."""
        path = self._find(entity, mapping)
        if path is None:
            yield None
            return
        try:
            with _open_binary(path) as handle:
                blocks = _whole_file(path, handle)
                yield CsvRows(path.name, blocks) if ".csv" in path.suffixes else JsonLines(path.name, blocks)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{path.name}: reading failed: {error}. Nothing of it was loaded.") from error

    def _find(self, entity: Entity, mapping: EntityMapping) -> Path | None:
        wanted = mapping.source or entity.name
        found = [
            self.folder / f"{wanted}{suffix}"
            for suffix in ("", *SUFFIXES)
            if (self.folder / f"{wanted}{suffix}").is_file()
        ]
        if len(found) > 1:
            raise SourceError(
                f"{self.folder}: both {found[0].name} and {found[1].name} could be {entity.name}; keep one."
            )
        if found:
            if not found[0].name.endswith(SUFFIXES):
                raise SourceError(f"{found[0].name}: the name must end in one of {', '.join(SUFFIXES)}.")
            return found[0]
        if entity.optional and mapping.source is None:
            return None
        there = ", ".join(sorted(path.name for path in self.folder.iterdir())[:10]) or "nothing"
        raise SourceError(
            f"{self.folder}: there is no {wanted}.csv (or .jsonl, also with .gz) for {entity.name}; it holds {there}."
        )


def _open_binary(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb", buffering=BLOCK_BYTES)


def _whole_file(path: Path, handle: BinaryIO) -> Iterator[bytes]:
    """Yield blocks of whole lines.

    Raises SourceError at the end, while nothing is merged yet, when the file was replaced, cut or removed meanwhile.
    """
    before = os.fstat(handle.fileno())
    yield from blocks_of_lines(path.name, handle)
    try:
        after = path.stat()
    except FileNotFoundError as error:
        raise SourceError(
            f"{path.name} disappeared while it was read. Nothing of it was loaded; put it back and run again."
        ) from error
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
        raise SourceError(
            f"{path.name} changed while it was read. Nothing of it was loaded; run again when it is complete."
        )


def blocks_of_lines(label: str, handle: BinaryIO) -> Iterator[bytes]:
    """Yield blocks that end at a line's end; the last line gets a line feed."""
    while block := handle.read(BLOCK_BYTES):
        if not block.endswith(b"\n"):
            rest = handle.readline(LONGEST_RECORD_BYTES)
            if len(rest) == LONGEST_RECORD_BYTES and not rest.endswith(b"\n"):
                raise SourceError(f"{label}: a line is longer than 16 MiB. Is it a text file with line feeds?")
            block += rest if rest.endswith(b"\n") else rest + b"\n"
        yield block


def _require_utf8(label: str, first: bytes) -> None:
    if first.startswith(UTF16_BOMS) or b"\0" in first[:4]:
        raise SourceError(f"{label} is in UTF-16. Save it as UTF-8 and run again.")


class CsvRows(Rows):
    """The rows of a CSV file: RFC 4180 with any line end, UTF-8 with or without a byte order mark."""

    row_offset = 1

    def __init__(self, label: str, blocks: Iterator[bytes]) -> None:
        """Read the header; raise SourceError when it cannot be one."""
        super().__init__()
        self.label = label
        self._blocks = blocks
        self._pushed_back: list[bytes] = []
        csv.field_size_limit(LONGEST_RECORD_BYTES)
        self.staged = StagedColumns(header=self._read_header())
        self._separators = len(self.staged.header or ()) - 1
        self._null_row = b'""\n' if self._separators == 0 else b"," * self._separators + b"\n"

    def _read_header(self) -> tuple[str, ...]:
        first = next(self._blocks, b"")
        _require_utf8(self.label, first)
        first = first.removeprefix(UTF8_BOM)
        if not first.strip():
            raise SourceError(f"{self.label} is empty: not even a header. Nothing was loaded from it.")
        lines = iter(first.splitlines(keepends=True))
        pulled: list[bytes] = []

        def text_lines() -> Iterator[str]:
            for line in lines:
                pulled.append(line)
                yield line.decode("utf-8", "replace")

        try:
            header = tuple(name.strip() for name in next(csv.reader(text_lines(), strict=True)))
        except csv.Error as error:
            raise SourceError(f"{self.label}: the header cannot be split into columns: {error}.") from error
        rest = first[sum(map(len, pulled)) :]
        if rest:
            self._pushed_back.append(rest)
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            raise SourceError(
                f"{self.label}: the header {header[0]!r} has no comma; the file seems to be separated by semicolons "
                "or tabs. Save it with commas."
            )
        if "" in header:
            raise SourceError(f"{self.label}: column {header.index('') + 1} of the header has no name.")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise SourceError(f"{self.label}: the header names the column {twice[0]!r} twice.")
        return header

    def _next_block(self) -> bytes | None:
        return self._pushed_back.pop() if self._pushed_back else next(self._blocks, None)

    def blocks(self) -> Iterator[bytes]:
        """Yield the rows; plain blocks pass untouched."""
        while (block := self._next_block()) is not None:
            plain = block.replace(b"\r\n", b"\n") if b"\r" in block else block
            lines = plain.split(b"\n")
            lines.pop()
            if self._is_plain(plain, lines):
                self.count += len(lines)
                yield plain
            else:
                # Line ends are kept: within quotes they belong to the value.
                yield from self._with_care(block.splitlines(keepends=True))

    def _is_plain(self, block: bytes, lines: list[bytes]) -> bool:
        if b'"' in block or b"\0" in block or b"\r" in block or self._separators == 0:
            return False
        if set(map(methodcaller("count", b","), lines)) != {self._separators}:
            return False
        if not block.isascii():
            try:
                block.decode("utf-8")
            except UnicodeDecodeError:
                return False
        return True

    def _with_care(self, lines: list[bytes]) -> Iterator[bytes]:
        """Yield the rows of ``lines`` parsed and written again; what cannot be parsed is set aside."""
        out = io.StringIO()
        # Python 3.11 leaves a carriage return unquoted where a line ends with a line feed, and COPY refuses it.
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        waiting = list(reversed(lines))
        while waiting:
            if not waiting[-1].strip():
                waiting.pop()
                continue
            taken: list[bytes] = []
            self.count += 1
            try:
                fields = next(csv.reader(self._feed(waiting, taken), strict=True))
                problem = self._problem(fields)
            except csv.Error as error:
                problem = f"the row cannot be split into columns: {error}"
                # Only the first line is given up: the lines that an unclosed quote took in are rows again.
                waiting.extend(reversed(taken[1:]))
                del taken[1:]
            if problem is None:
                writer.writerow(fields)
            else:
                self.set_aside(problem, b"".join(taken).rstrip(b"\r\n"))
                out.write(self._null_row.decode())
            if out.tell() >= BLOCK_BYTES:
                yield out.getvalue().encode("utf-8")
                out.seek(0)
                out.truncate()
        yield out.getvalue().encode("utf-8")

    def _feed(self, waiting: list[bytes], taken: list[bytes]) -> Iterator[str]:
        """Yield physical lines for one record, going on into later blocks while a quote is open."""
        size = 0
        while True:
            if not waiting:
                block = self._next_block()
                if block is None:
                    return
                waiting.extend(reversed(block.splitlines(keepends=True)))
                continue
            line = waiting.pop()
            taken.append(line)
            size += len(line)
            if size > LONGEST_RECORD_BYTES:
                raise csv.Error("a quote is opened and not closed within 16 MiB")
            yield line.decode("utf-8", "surrogateescape")

    def _problem(self, fields: list[str]) -> str | None:
        if len(fields) != self._separators + 1:
            return f"the row has {len(fields)} columns, the header has {self._separators + 1}"
        for name, value in zip(self.staged.header or (), fields, strict=True):
            if "\0" in value:
                return f"{name} holds a NUL byte"
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                byte = ord(value[error.start]) & 0xFF
                return f"{name} is not in UTF-8 (byte 0x{byte:02X}); save the file as UTF-8"
        return None


class JsonLines(Rows):
    """The rows of a JSON-lines file: one object a line. PostgreSQL parses them."""

    def __init__(self, label: str, blocks: Iterator[bytes]) -> None:
        """Read the first block; raise SourceError when it is in another encoding."""
        super().__init__()
        self.label = label
        self.staged = StagedColumns(header=None)
        self._blocks = blocks
        self._first = next(blocks, b"")
        _require_utf8(label, self._first)
        self._first = self._first.removeprefix(UTF8_BOM)

    def blocks(self) -> Iterator[bytes]:
        """Yield each line as one quoted CSV column."""
        block: bytes | None = self._first
        while block:
            if self._is_plain(block):
                self.count += block.count(b"\n")
                yield quote_lines(block)
            else:
                yield b"".join(self._with_care(block))
            block = next(self._blocks, None)

    def _is_plain(self, block: bytes) -> bool:
        if b"\0" in block:
            return False
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def _with_care(self, block: bytes) -> Iterator[bytes]:
        for line in block.split(b"\n")[:-1]:
            self.count += 1
            try:
                line.decode("utf-8")
                problem = "the line holds a NUL byte" if b"\0" in line else None
            except UnicodeDecodeError as error:
                problem = f"the line is not in UTF-8 (byte 0x{line[error.start]:02X}); save the file as UTF-8"
            if problem is None:
                yield quote_lines(line + b"\n")
            else:
                self.set_aside(problem, line)
                yield b'""\n'


def quote_lines(block: bytes) -> bytes:
    """Return ``block`` with each line as one quoted CSV field."""
    return b'"' + block[:-1].replace(b'"', b'""').replace(b"\n", b'"\n"') + b'"\n'
