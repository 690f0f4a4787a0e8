"""What is handed to COPY is what Python's csv module reads, wherever a block of the file happens to end."""

from __future__ import annotations

import csv
import io
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_pipelines.ingestion.sources import files
from dossier_pipelines.ingestion.sources.files import CsvRows, JsonLines, blocks_of_lines
from dossier_pipelines.shared.failures import SourceError

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TRICKY_TEXT = st.text(st.sampled_from('",\r\n \\.ab\t\ufeffé漢'), max_size=12)
PLAIN_TEXT = st.text(st.sampled_from(" \\.;'ab\té漢"), max_size=12)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])
BLOCK_SIZES = st.integers(min_value=1, max_value=64)


def tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    """Rows of one width, two columns or more."""
    return st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(values, min_size=width, max_size=width)))


def csv_text(table: list[list[str]], *, line_end: str, quoting: int) -> str:
    """Write as a CSV export does; the last line end may be missing, which costs nothing."""
    lines = []
    for row in table:
        out = io.StringIO()
        csv.writer(out, quoting=quoting).writerow(row)
        lines.append(out.getvalue().removesuffix("\r\n"))
    return line_end.join(lines)


def read(body: str | bytes, *, block_bytes: int = files.BLOCK_BYTES) -> tuple[CsvRows, list[bytes]]:
    """Read a file with the header of as many columns as ``body`` has, in blocks of ``block_bytes``."""
    content = body if isinstance(body, bytes) else body.encode("utf-8")
    with patch.object(files, "BLOCK_BYTES", block_bytes):
        rows = CsvRows("x.csv", blocks_of_lines("x.csv", io.BytesIO(content)))
        return rows, list(rows.blocks())


def values(blocks: list[bytes]) -> list[list[str]]:
    """Return what a CSV reader sees in the blocks."""
    return list(csv.reader(io.StringIO(b"".join(blocks).decode("utf-8"), newline=""), strict=True))


@given(tables(ANY_TEXT | TRICKY_TEXT), LINE_ENDS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), BLOCK_SIZES)
@settings(max_examples=400, deadline=None)
def test_values_are_those_that_the_csv_module_reads(
    table: list[list[str]], line_end: str, quoting: int, block_bytes: int
) -> None:
    width = len(table[0]) if table else 2
    text = csv_text([list("abcd"[:width]), *table], line_end=line_end, quoting=quoting)
    rows, blocks = read(text, block_bytes=block_bytes)
    expected = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert expected == table
    assert values(blocks) == expected
    assert rows.count == len(expected)
    assert rows.malformed == []


@given(tables(PLAIN_TEXT), LINE_ENDS, BLOCK_SIZES)
@settings(max_examples=200, deadline=None)
def test_plain_values_pass_untouched(table: list[list[str]], line_end: str, block_bytes: int) -> None:
    width = len(table[0]) if table else 2
    text = csv_text([list("abcd"[:width]), *table], line_end=line_end, quoting=csv.QUOTE_MINIMAL)
    rows, blocks = read(text, block_bytes=block_bytes)
    assert values(blocks) == table
    assert b"".join(blocks).decode("utf-8") == "".join(f"{','.join(row)}\n" for row in table)
    assert rows.count == len(table)


@given(st.lists(st.lists(PLAIN_TEXT, min_size=3, max_size=3)), st.integers(0, 40), BLOCK_SIZES)
@settings(max_examples=200, deadline=None)
def test_a_broken_row_costs_itself_only(table: list[list[str]], position: int, block_bytes: int) -> None:
    position = min(position, len(table))
    lines = [",".join(row) for row in table]
    lines.insert(position, 'x,"never closed,y')
    rows, blocks = read("\n".join(["a,b,c", *lines]), block_bytes=block_bytes)
    kept = values(blocks)
    assert kept.pop(position) == ["", "", ""]
    assert kept == table
    assert [(row.position, row.line) for row in rows.malformed] == [(position + 1, 'x,"never closed,y')]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_row_and_stays_within_quotes(line_end: str) -> None:
    text = line_end.join(["a,b", "1,2", '3,"4' + line_end + '5"', "6,7", ""])
    rows, blocks = read(text)
    assert values(blocks) == [["1", "2"], ["3", f"4{line_end}5"], ["6", "7"]]
    assert rows.malformed == []


def test_a_single_column_keeps_empty_quoted_values_and_drops_blank_lines() -> None:
    rows, blocks = read('a\n1\n""\n\n2\n')
    assert values(blocks) == [["1"], [""], ["2"]]
    assert rows.count == 3


def test_a_record_across_the_real_block_boundary_is_one_record() -> None:
    lines = [f"{number},filler" for number in range(200_000)]
    lines.insert(100_000, '"x","first line\n' + "y" * files.BLOCK_BYTES + '\nlast ""line"""')
    rows, blocks = read("\n".join(["a,b", *lines]))
    found = values(blocks)
    assert rows.count == len(found) == 200_001
    assert found[100_000][1] == "first line\n" + "y" * files.BLOCK_BYTES + '\nlast "line"'
    assert found[100_001] == ["100000", "filler"]
    assert max(map(len, blocks)) < 4 * files.BLOCK_BYTES


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2,3", "the row has 3 columns, the header has 2"),
        (b"1", "the row has 1 columns, the header has 2"),
        (b'1,"2"x', "the row cannot be split into columns: ',' expected after '\"'"),
        (b"1,caf\xe9", "b is not in UTF-8 (byte 0xE9); save the file as UTF-8"),
        (b"1,\0", "b holds a NUL byte"),
        (b"\\.", "the row has 1 columns, the header has 2"),
    ],
)
def test_a_row_that_cannot_be_read_is_set_aside_with_the_reason(line: bytes, reason: str) -> None:
    rows, blocks = read(b"a,b\n1,2\n" + line + b"\n3,4\n")
    assert values(blocks) == [["1", "2"], ["", ""], ["3", "4"]]
    assert [(row.position, row.reason) for row in rows.malformed] == [(2, reason)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.csv is empty: not even a header"),
        (b"\xef\xbb\xbf\n \n", "x.csv is empty: not even a header"),
        ("id,name\n".encode("utf-16"), "x.csv is in UTF-16"),
        ("id,name\n".encode("utf-16-le"), "x.csv is in UTF-16"),
        ("id,name\n".encode("utf-16-be"), "x.csv is in UTF-16"),
        (b"id;name\n1;Sweden\n", "separated by semicolons"),
        (b"id\tname\n1\tSweden\n", "separated by semicolons or tabs"),
        (b"id,name,id\n", "the header names the column 'id' twice"),
        (b"id,,name\n", "column 2 of the header has no name"),
        (b'id,"name\n1,Sweden\n', "the header cannot be split into columns"),
    ],
)
def test_a_header_that_is_none_is_refused_in_words(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(content)


def test_a_file_full_of_bad_rows_is_given_up_before_memory_is() -> None:
    with pytest.raises(SourceError, match=r"more than 10000 rows cannot be read; the first: row 2: the row has 1"):
        read("a,b\n" + "1\n" * 10_001)


def test_a_line_without_end_is_refused_before_memory_is_full() -> None:
    with pytest.raises(SourceError, match="longer than 16 MiB"):
        read(b"a,b\n1," + b"x" * (18 << 20))


def test_json_lines_keep_their_line_numbers_across_blank_and_bad_lines() -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": "\xe9"}\n{"a": "x\0"}\n{"a": "say ""hi"""}'
    rows = JsonLines("x.jsonl", blocks_of_lines("x.jsonl", io.BytesIO(content)))
    found = [row[0] for row in values(list(rows.blocks()))]
    assert found == ['{"a": 1}\r', "\r", "", "", '{"a": "say ""hi"""}']
    assert [(row.position, row.reason) for row in rows.malformed] == [
        (3, "the line is not in UTF-8 (byte 0xE9); save the file as UTF-8"),
        (4, "the line holds a NUL byte"),
    ]
