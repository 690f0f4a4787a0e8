"""Folders of files: what is read, what is set aside with which reason, what a load changes and what it never does."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_pipelines.dossiers.entities import ENGAGEMENTS, ENTITIES
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.load import load_entity
from dossier_pipelines.ingestion.mapping import EntityMapping, SourceMapping
from dossier_pipelines.ingestion.sources import files
from dossier_pipelines.ingestion.sources.files import CsvRows, FolderSource, blocks_of_lines
from dossier_pipelines.ingestion.sources.source import Rows
from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.database import Database, database_url
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import RejectedShareError, SourceError
from dossier_pipelines_tests.records import (
    COMMITMENTS_CSV,
    DOSSIERS_CSV,
    ENGAGEMENTS_CSV,
    MINIMAL,
    contents,
    json_lines,
    keys,
    load,
    outcomes,
    reasons,
    rows,
    scalar,
    working_tables,
    write_files,
)

NAMESPACE = uuid.UUID("7f1d2c7e-3c1b-5d0c-9a5e-6a1f0b9d4e21")
NOISE = random.Random(0).randbytes(9_000)
TWO_DOSSIERS = DOSSIERS_CSV + "d1,Sweden,,,,,,\nd2,Norway,,,,,,\n"
USERS_CSV = "id,name,timezone\n"
DOCUMENTS_CSV = "id,dossier_id,type\n"


def engagement(key: str, *, dossier: str = "d1", description: str = "", at: str = "2025-01-10T09:00:00Z") -> str:
    return f"{key},{dossier},meeting,{description},{at},\n"


def commitment(
    key: str, *, dossier: str = "d1", status: str = "pending", due: str = "2025-03-01", priority: str = ""
) -> str:
    return f"{key},{dossier},Send figures,{status},{due},u1,{priority},2025-01-10,,,\n"


def described(database: Database) -> list[str]:
    """Return the descriptions of the engagements, in the order of their keys."""
    return [row.description for row in rows(database, "SELECT description FROM raw.engagements ORDER BY source_key")]


# What a file may look like


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"])
def test_every_kind_of_file_gives_the_same_rows(database: Database, folder: Path, suffix: str) -> None:
    for name, content in MINIMAL.items():
        data = (content if ".csv" in suffix else json_lines(content)).encode("utf-8")
        data = gzip.compress(data) if suffix.endswith(".gz") else data
        write_files(folder, {name.replace(".csv", suffix): data})
    load(database, folder)
    found = rows(
        database,
        "SELECT e.source_key, e.occurred_at = '2025-01-10T09:00Z' AS at, c.due_date = '2025-03-01' AS due, c.priority, "
        "d.name, c.completed_at, e.extra FROM raw.engagements AS e JOIN raw.commitments AS c USING (dossier_id) "
        "JOIN raw.dossiers AS d ON d.id = dossier_id",
    )
    assert found == [("e1", True, True, "high", "Sweden", None, None)]


def test_a_folder_is_loaded_and_a_rerun_touches_nothing(database: Database, folder: Path) -> None:
    write_files(folder, MINIMAL)
    first = load(database, folder)["engagements"]
    assert first is not None
    assert (first.rows_read, first.inserted, first.rejected) == (1, 1, 0)
    before = contents(database)
    again = load(database, folder)["engagements"]
    assert again is not None
    assert (again.unchanged, again.inserted, again.updated, again.removed) == (1, 0, 0, 0)
    assert contents(database) == before
    assert working_tables(database) == []


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL))
    before = contents(database)
    windows = {name: "\ufeff" + text.replace("\n", "\r\n") for name, text in MINIMAL.items()}
    load(database, write_files(folder, windows))
    assert contents(database) == before


def test_quotes_commas_and_line_breaks_within_a_field_belong_to_the_value(database: Database, folder: Path) -> None:
    written = [
        'say "hi", twice',
        "two\nlines",
        "two\r\nlines",
        "a\rb",
        "back\\slash",
        "\\.",
        "'; DROP TABLE x; --",
        "é漢\u2028",
    ]
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(
        [f"e{number}", "d1", "", text, "2025-01-10", ""] for number, text in enumerate(written)
    )
    load(database, write_files(folder, MINIMAL | {"engagements.csv": ENGAGEMENTS_CSV + out.getvalue()}))
    assert described(database) == written


TEXT = st.text(st.sampled_from('",\r\n \\.ab\té漢\x0b\x85\u2028'), max_size=8)


@given(st.lists(st.tuples(TEXT, TEXT)), st.integers(1, 64))
@settings(max_examples=100, deadline=None)
def test_postgres_reads_what_the_csv_module_reads(server_url: str, table: list[tuple[str, str]], size: int) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([("a", "b"), *table])
    engine = sa.create_engine(database_url(server_url))
    with patch.object(files, "BLOCK_BYTES", size), engine.connect() as connection:
        source = CsvRows("x.csv", blocks_of_lines("x.csv", io.BytesIO(out.getvalue().encode("utf-8"))))
        connection.execute(sa.text("CREATE TEMPORARY TABLE x (n bigint GENERATED ALWAYS AS IDENTITY, a text, b text)"))
        driver = connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor, cursor.copy("COPY x (a, b) FROM STDIN (FORMAT csv)") as copy:
            for block in source.blocks():
                copy.write(block)
        found = connection.execute(sa.text("SELECT coalesce(a, ''), coalesce(b, '') FROM x ORDER BY n")).all()
    engine.dispose()
    assert [tuple(row) for row in found] == table


def test_a_field_of_a_megabyte_is_loaded_whole(database: Database, folder: Path) -> None:
    long = "x" * (1 << 20)
    quoted = f'"{long}, and ""more"""'
    text = (
        ENGAGEMENTS_CSV + engagement("e1", description=long) + engagement("e2", description=quoted) + engagement("e3")
    )
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert described(database) == [long, f'{long}, and "more"', None]


def test_a_line_break_within_quotes_may_lie_on_a_block_boundary(database: Database, folder: Path) -> None:
    lines = [ENGAGEMENTS_CSV]
    filler = engagement("e0", description="x" * 1000)
    while sum(map(len, lines)) < files.BLOCK_BYTES - 500:
        lines.append(filler.replace("e0", f"e{len(lines):05}"))
    long = "start\n" + "y" * 1000 + "\nend"
    text = "".join(lines) + engagement("x1", description=f'"{long}"') + engagement("x2", description="after")
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert reasons(database, "engagements") == {}
    assert len(keys(database, "engagements")) == len(lines) + 1
    assert described(database)[-2:] == [long, "after"]


def test_a_row_in_another_encoding_is_set_aside_and_the_others_go_on(database: Database, folder: Path) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1", description="é") + engagement("e2", description="ok")
    content = text.replace("é", "\ue000").encode("utf-8").replace("\ue000".encode(), b"\xe9")
    load(database, write_files(folder, MINIMAL | {"engagements.csv": content}))
    assert keys(database, "engagements") == ["e2"]
    assert reasons(database, "engagements") == {
        2: "description is not in UTF-8 (byte 0xE9); save the file as UTF-8",
    }
    assert scalar(database, "SELECT raw_row ->> 'line' FROM ingestion.rejected_rows").startswith("e1,d1,meeting,\\xe9")


def test_a_row_with_a_nul_byte_is_set_aside_and_the_others_go_on(database: Database, folder: Path) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1") + engagement("e2", description="a\0b") + engagement("e3")
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert keys(database, "engagements") == ["e1", "e3"]
    assert reasons(database, "engagements") == {3: "description holds a NUL byte"}


def test_json_lines_that_are_none_are_set_aside_with_their_line_number(database: Database, folder: Path) -> None:
    good = json_lines(ENGAGEMENTS_CSV + engagement("e1") + engagement("e2"))
    bad = '\n{"id": "e3", \n["e4"]\n"e5"\n{"id": "e6\\u0000"}\n'
    files_ = {name: text for name, text in MINIMAL.items() if name != "engagements.csv"}
    write_files(folder, files_ | {"engagements.jsonl": good + bad + json_lines(ENGAGEMENTS_CSV + engagement("e7"))})
    load(database, folder, DOSSIER_MAX_REJECTED_SHARE="0.6")
    assert keys(database, "engagements") == ["e1", "e2", "e7"]
    why = "the line is no JSON object, or holds a NUL character"
    assert {row: reason.partition(";")[0] for row, reason in reasons(database, "engagements").items()} == dict.fromkeys(
        range(4, 8), why
    )


def test_an_unclosed_quote_costs_its_own_line_only(database: Database, folder: Path) -> None:
    text = (
        ENGAGEMENTS_CSV + engagement("e1", description='"never closed') + "".join(map(engagement, ["e2", "e3", "e4"]))
    )
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert keys(database, "engagements") == ["e2", "e3", "e4"]
    assert reasons(database, "engagements") == {2: "the row cannot be split into columns: unexpected end of data"}


def test_a_row_with_a_wrong_number_of_columns_is_set_aside(database: Database, folder: Path) -> None:
    text = (
        ENGAGEMENTS_CSV + engagement("e1") + "e2,d1,meeting\n" + engagement("e3", description="a,b") + engagement("e4")
    )
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert keys(database, "engagements") == ["e1", "e4"]
    assert reasons(database, "engagements") == {
        3: "the row has 3 columns, the header has 6",
        4: "the row has 7 columns, the header has 6",
    }


def test_blank_lines_are_no_rows(database: Database, folder: Path) -> None:
    text = ENGAGEMENTS_CSV + "\n" + engagement("e1") + "  \r\n\n" + engagement("e2") + "\n"
    result = load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))["engagements"]
    assert result is not None
    assert (result.rows_read, result.inserted, result.rejected) == (2, 2, 0)


def test_unknown_columns_are_kept_in_extra(database: Database, folder: Path) -> None:
    commitments = [json_lines(MINIMAL["commitments.csv"]).replace("{", '{"tags": ["a", 1], "note": null, ', 1)]
    write_files(
        folder,
        {
            "dossiers.csv": "flag,id,name,rank\nse,d1,Sweden,1\n,d2,Norway,\n",
            "engagements.csv": MINIMAL["engagements.csv"],
            "commitments.jsonl": "".join(commitments),
        },
    )
    load(database, folder)
    assert rows(database, "SELECT source_key, extra FROM raw.dossiers ORDER BY 1") == [
        ("d1", {"flag": "se", "rank": "1"}),
        ("d2", None),
    ]
    assert scalar(database, "SELECT extra FROM raw.commitments") == {"tags": ["a", 1], "note": None}


def test_missing_optional_columns_are_null(database: Database, folder: Path) -> None:
    write_files(
        folder,
        {
            "dossiers.csv": "name,id\nSweden,d1\n",
            "engagements.csv": "id,occurred_at,dossier_id\ne1,2025-01-10,d1\n",
            "commitments.csv": "status,id,dossier_id,due_date\npending,c1,d1,\n",
        },
    )
    load(database, folder)
    assert rows(database, "SELECT type, region, owner_id, created_at, extra FROM raw.dossiers") == [(None,) * 5]
    assert rows(database, "SELECT status, due_date, priority, owner_id FROM raw.commitments") == [
        ("pending", None, None, None)
    ]


# What a file must not look like


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("engagements.csv", "", "engagements.csv is empty: not even a header"),
        ("engagements.csv", ENGAGEMENTS_CSV, "engagements.csv holds no rows"),
        ("engagements.jsonl", "", "engagements.jsonl holds no rows"),
        ("engagements.jsonl", " \n\n", "engagements.jsonl holds no rows"),
        (
            "engagements.csv",
            "id,dossier,occurred_at\ne1,d1,2025-01-10\n",
            "engagements.csv: the column 'dossier_id' is missing; there are id, dossier, occurred_at.",
        ),
        (
            "engagements.jsonl",
            '{"id": "e1", "dossier_id": "d1", "at": "2025-01-10"}\n',
            "engagements.jsonl: no record has the field 'occurred_at'.",
        ),
        ("engagements.csv", "id;dossier_id\ne1;d1\n", "separated by semicolons"),
        ("engagements.csv", ENGAGEMENTS_CSV.encode("utf-16"), "engagements.csv is in UTF-16"),
        ("engagements.csv", "id,dossier_id,id\ne1,d1,e1\n", "the header names the column 'id' twice"),
        ("engagements.csv.gz", b"id,dossier_id\n", "engagements.csv.gz: reading failed: Not a gzipped file"),
        ("engagements.csv.gz", gzip.compress(NOISE, mtime=0)[:4000], "engagements.csv.gz: reading failed"),
        ("engagements.csv.gz", gzip.compress(b"id", mtime=0)[:10] + b"\xff" * 20, "engagements.csv.gz: reading failed"),
        (
            "engagements.txt",
            "",
            "there is no engagements.csv (or .jsonl, also with .gz) for engagements; it holds commitments.csv, "
            "dossiers.csv, engagements.txt.",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_loaded(
    database: Database, folder: Path, name: str, content: str | bytes, message: str
) -> None:
    others = {name: text for name, text in MINIMAL.items() if name != "engagements.csv"}
    with pytest.raises(SourceError) as refused:
        load(database, write_files(folder, others | {name: content}))
    assert message in str(refused.value)
    assert keys(database, "dossiers") == ["d1"]
    assert keys(database, "engagements") == keys(database, "commitments") == []
    assert working_tables(database) == []


@pytest.mark.parametrize(("name", "content"), [("engagements.csv", ENGAGEMENTS_CSV), ("engagements.jsonl", "")])
def test_a_file_without_rows_is_accepted_when_that_is_said(
    database: Database, folder: Path, name: str, content: str
) -> None:
    others = {name: text for name, text in MINIMAL.items() if name != "engagements.csv"}
    load(database, write_files(folder, others | {name: content}), DOSSIER_ALLOW_EMPTY="true")
    assert keys(database, "commitments") == ["c1"]


def test_an_optional_file_may_be_missing_or_without_rows(database: Database, folder: Path) -> None:
    result = load(database, write_files(folder, MINIMAL | {"users.csv": USERS_CSV}))
    assert result["documents"] is None
    assert result["users"] is not None
    assert result["users"].rows_read == 0


def test_a_missing_folder_or_two_files_for_one_entity_are_refused(database: Database, folder: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere does not exist"):
        load(database, folder / "nowhere")
    write_files(folder, MINIMAL | {"engagements.jsonl": json_lines(MINIMAL["engagements.csv"])})
    with pytest.raises(SourceError, match=r"both engagements\.csv and engagements\.jsonl could be engagements"):
        load(database, folder)
    with pytest.raises(SourceError, match="is a file; name the folder that holds it"):
        load(database, folder / "engagements.csv")


class DisturbedFolder(FolderSource):
    """A folder that somebody works in while it is read: after each block."""

    def __init__(self, folder: Path, disturb: Callable[[], object]) -> None:
        super().__init__(folder)
        self.disturb = disturb

    @contextmanager
    def open(self, entity: Entity, mapping: EntityMapping) -> Iterator[Rows | None]:
        with super().open(entity, mapping) as opened:
            assert opened is not None
            undisturbed = opened.blocks

            def disturbed() -> Iterator[bytes]:
                for block in undisturbed():
                    yield block
                    self.disturb()

            opened.blocks = disturbed  # type: ignore[method-assign]
            yield opened


@pytest.mark.parametrize(
    ("disturb", "message"),
    [
        (lambda path: path.unlink(), "engagements.csv disappeared while it was read"),
        (lambda path: os.truncate(path, 100), "engagements.csv changed while it was read"),
        (lambda path: path.with_name("new").replace(path), "engagements.csv changed while it was read"),
        (lambda path: path.write_text(ENGAGEMENTS_CSV + engagement("e9")), "engagements.csv changed while it was read"),
    ],
    ids=["removed", "cut", "replaced", "rewritten"],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_changes_while_it_is_read_changes_nothing(
    database: Database, folder: Path, disturb: Callable[[Path], object], message: str, compressed: bool
) -> None:
    load(database, write_files(folder, MINIMAL))
    before = contents(database)
    path = folder / ("engagements.csv.gz" if compressed else "engagements.csv")
    (folder / "engagements.csv").unlink()
    text = (ENGAGEMENTS_CSV + "".join(engagement(f"e{number}") for number in range(10_000))).encode("utf-8")
    path.write_bytes(gzip.compress(text) if compressed else text)
    (folder / "new").write_bytes(path.read_bytes())
    with pytest.raises(SourceError, match=message.replace(".csv", r"\.csv(\.gz)?")):
        load_entity(
            database,
            ENGAGEMENTS,
            DisturbedFolder(folder, lambda: disturb(path)),
            SourceMapping(),
            settings=read_settings({}),
        )
    assert contents(database) == before
    assert working_tables(database) == []


# What a row must keep


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            commitment("bad", status="lost"),
            "status 'lost' is not one of pending, in_progress, completed, cancelled, overdue",
        ),
        (commitment("bad", status=""), "status is missing"),
        (commitment("bad", priority="urgent"), "priority 'urgent' is not one of low, medium, high, critical"),
        (commitment("bad", due="2025-02-31"), "due_date '2025-02-31' is no date; write it like 2020-04-29"),
        (commitment("bad", due="31/12/2025"), "due_date '31/12/2025' is no date; write it like 2020-04-29"),
        (commitment("bad", due="tomorrow"), "due_date 'tomorrow' is no date; write it like 2020-04-29"),
        (commitment("bad", due="infinity"), "due_date 'infinity' is no date; write it like 2020-04-29"),
        (commitment("bad", due="2025-01-09"), "due_date 2025-01-09 is before the day of created_at, 2025-01-10"),
        (commitment("bad", due="1799-01-01"), "due_date '1799-01-01' is outside the years 1900 to 2199; due_date"),
        (commitment("bad", dossier="d9"), "dossier_id 'd9' refers to no record of dossiers"),
        (commitment("bad", dossier=""), "dossier_id is missing"),
        (commitment(""), "id is missing"),
        (commitment("", status="lost"), "id is missing; status 'lost' is not one of"),
        (commitment("bad", status='it\'s; ""x""'), "status 'it''s; \"\"x\"\"' is not one of"),
    ],
)
def test_a_bad_commitment_is_set_aside_with_its_reason_and_row(
    database: Database, folder: Path, bad: str, reason: str
) -> None:
    text = COMMITMENTS_CSV + commitment("c1") + bad + commitment("c2")
    result = load(database, write_files(folder, MINIMAL | {"commitments.csv": text}))["commitments"]
    assert result is not None
    assert (result.inserted, result.rejected) == (2, 1)
    assert keys(database, "commitments") == ["c1", "c2"]
    found = reasons(database, "commitments")
    assert list(found) == [3]
    assert found[3].startswith(reason)
    raw = scalar(database, "SELECT raw_row FROM ingestion.rejected_rows")
    assert list(raw) != []
    assert raw["description"] == "Send figures"
    assert raw["completed_at"] is None


@pytest.mark.parametrize(
    "at",
    [
        *["now", "today", "infinity", "-infinity", "epoch", "0000-01-01", "99999-01-01", "44-03-15 BC"],
        *["2025-02-31T10:00", "2025-01-10 25:00", "2025-01-10 10:00+99", "2025-01-10 10:00 Nowhere/City"],
        *["2025-1-1", "20250110", "1736499600"],
    ],
)
def test_an_impossible_moment_is_set_aside_in_words(database: Database, folder: Path, at: str) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1") + engagement("bad", at=at) + engagement("e2")
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert keys(database, "engagements") == ["e1", "e2"]
    assert reasons(database, "engagements") == {
        3: f"occurred_at '{at}' is no date and time; write it like 2020-04-29T12:00:00+03:00"
    }


@pytest.mark.parametrize("at", ["1899-12-31T10:00Z", "2200-01-02", "0044-03-15 bc"])
def test_a_moment_far_away_is_set_aside_in_words(database: Database, folder: Path, at: str) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1") + engagement("bad", at=at)
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    assert reasons(database, "engagements") == {3: f"occurred_at '{at}' is outside the years 1900 to 2199"}


@pytest.mark.parametrize(
    ("at", "in_utc"),
    [
        ("2025-01-10", "2025-01-09 21:00"),
        ("2025-01-10 09:00", "2025-01-10 06:00"),
        ("2025-01-10T09:00:00", "2025-01-10 06:00"),
        ("2025-01-10T09:00:00Z", "2025-01-10 09:00"),
        ("2025-01-10T09:00:00.5+05:30", "2025-01-10 03:30"),
        ("2150-01-01T00:00Z", "2150-01-01 00:00"),
    ],
)
def test_a_moment_without_an_offset_is_local_and_the_future_is_kept(
    database: Database, folder: Path, at: str, in_utc: str
) -> None:
    load(database, write_files(folder, MINIMAL | {"engagements.csv": ENGAGEMENTS_CSV + engagement("e1", at=at)}))
    found = "SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM raw.engagements"
    assert scalar(database, found) == in_utc


def test_a_user_with_an_unknown_time_zone_is_set_aside(database: Database, folder: Path) -> None:
    text = USERS_CSV + "u1,Ann,Europe/Stockholm\nu2,Ben,Mars/Olympus\nu3,Eve,\n"
    load(database, write_files(folder, MINIMAL | {"users.csv": text}))
    assert keys(database, "users") == ["u1", "u3"]
    assert reasons(database, "users") == {3: "timezone 'Mars/Olympus' is no IANA time zone"}


def test_reasons_are_reported_without_the_values(database: Database, folder: Path) -> None:
    bad = [commitment("x1", status="Ann; Lee's"), commitment("x2", status="Ben\\"), commitment("x3", dossier="d8; d9")]
    text = COMMITMENTS_CSV + "".join(bad) + "".join(commitment(f"c{number}") for number in range(4)) + "short,row\n"
    result = load(database, write_files(folder, MINIMAL | {"commitments.csv": text}))["commitments"]
    assert result is not None
    assert result.reasons == {
        "status is not one of pending, in_progress, completed, cancelled, overdue": 2,
        "dossier_id refers to no record of dossiers": 1,
        "malformed row": 1,
    }


# Keys


def test_a_key_that_is_no_uuid_becomes_the_documented_one(database: Database, folder: Path) -> None:
    own = uuid.UUID("9B2C1D0E-1111-4222-8333-444455556666")
    strange = ["7", "e 1", "é漢", "a|b", "x" * 500]
    text = ENGAGEMENTS_CSV + "".join(map(engagement, [*strange, str(own).upper()]))
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    found = {row.source_key: row for row in rows(database, "SELECT source_key, id, dossier_id FROM raw.engagements")}
    assert set(found) == {*strange, None}
    for key in strange:
        assert found[key].id == uuid.uuid3(NAMESPACE, f"engagements:{key}")
        assert found[key].dossier_id == uuid.uuid3(NAMESPACE, "dossiers:d1")
    assert found[None].id == own


def test_keys_of_both_kinds_keep_their_ids_whatever_else_is_in_the_file(database: Database, folder: Path) -> None:
    own = "9b2c1d0e-1111-4222-8333-444455556666"
    dossiers = DOSSIERS_CSV + f"{own},Sweden,,,,,,\n"
    clean = ENGAGEMENTS_CSV + engagement("9b2c1d0e-1111-4222-8333-444455556667", dossier=own)
    write_files(folder, MINIMAL | {"dossiers.csv": dossiers, "engagements.csv": clean})
    load(database, folder, DOSSIER_MAX_REJECTED_SHARE="1")
    before = contents(database)["engagements"]
    write_files(
        folder, {"engagements.csv": clean + engagement("e1", dossier=own) + engagement("e2", dossier=own, at="x")}
    )
    result = load(database, folder, DOSSIER_MAX_REJECTED_SHARE="1")["engagements"]
    assert result is not None
    assert (result.unchanged, result.inserted, result.rejected) == (1, 1, 1)
    assert set(before) < set(contents(database)["engagements"])


def test_of_two_rows_with_one_id_the_first_is_kept_on_every_run(database: Database, folder: Path) -> None:
    text = (
        ENGAGEMENTS_CSV + engagement("e1", description="first") + engagement("e2") + engagement("e1", description="2nd")
    )
    write_files(folder, MINIMAL | {"engagements.csv": text + engagement("e1", description="first")})
    load(database, folder)
    before = contents(database)
    assert described(database) == ["first", None]
    duplicates = {4: "id is the same as in row 2", 5: "id is the same as in row 2"}
    assert reasons(database, "engagements") == duplicates
    again = load(database, folder)["engagements"]
    assert again is not None
    assert (again.unchanged, again.updated, again.rejected) == (2, 0, 2)
    assert contents(database) == before
    assert reasons(database, "engagements") == duplicates


def test_a_bad_row_does_not_take_the_place_of_a_good_one_with_its_id(database: Database, folder: Path) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1", at="never") + engagement("e1", description="good") + engagement("e2")
    for _ in range(2):
        load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
        assert described(database) == ["good", None]
        assert list(reasons(database, "engagements")) == [2]


def test_a_duplicate_beside_changed_rows_is_found_too(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL))
    text = ENGAGEMENTS_CSV + engagement("e1", description="changed") + engagement("e1", description="again")
    result = load(database, write_files(folder, {"engagements.csv": text}))["engagements"]
    assert result is not None
    assert (result.updated, result.inserted, result.rejected) == (1, 0, 1)
    assert described(database) == ["changed"]


# What changes, and what never does


def test_only_changed_rows_are_written(database: Database, folder: Path) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1", description="one") + engagement("e2", description="two")
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    before = dict(rows(database, "SELECT source_key, xmin::text FROM raw.engagements"))
    text = text.replace("two", "2") + engagement("e3", description="three")
    result = load(database, write_files(folder, {"engagements.csv": text}))["engagements"]
    assert result is not None
    assert (result.unchanged, result.updated, result.inserted, result.removed) == (1, 1, 1, 0)
    after = dict(rows(database, "SELECT source_key, xmin::text FROM raw.engagements"))
    assert after["e1"] == before["e1"]
    assert after["e2"] != before["e2"]
    assert described(database) == ["one", "2", "three"]


def test_a_row_that_is_gone_from_the_source_stays(database: Database, folder: Path) -> None:
    text = ENGAGEMENTS_CSV + engagement("e1") + engagement("e2")
    load(database, write_files(folder, MINIMAL | {"engagements.csv": text}))
    load(database, write_files(folder, {"engagements.csv": ENGAGEMENTS_CSV + engagement("e2")}))
    assert keys(database, "engagements") == ["e1", "e2"]


def test_a_tombstone_removes_its_row_and_nothing_else(database: Database, folder: Path) -> None:
    header = "id,dossier_id,occurred_at,deleted\n"
    alive = [f"e{number},d1,2025-01-10,{word}\n" for number, word in enumerate(["", "false", "0", "no", "N", "F"])]
    load(database, write_files(folder, MINIMAL | {"engagements.csv": header + "".join(alive) + "x,d1,2025-01-10,\n"}))
    assert len(keys(database, "engagements")) == 7
    gone = "x,,,2025-02-01T10:00:00Z\nunknown,d1,2025-01-10,true\n"
    result = load(database, write_files(folder, {"engagements.csv": header + "".join(alive) + gone}))["engagements"]
    assert result is not None
    assert (result.removed, result.unchanged, result.inserted, result.rejected) == (1, 6, 0, 0)
    assert keys(database, "engagements") == [f"e{number}" for number in range(6)]
    load(database, write_files(folder, {"engagements.csv": header + "x,d1,2025-01-10,\n"}))
    assert "x" in keys(database, "engagements")


def test_a_full_refresh_removes_what_vanished_up_to_the_ceiling(database: Database, folder: Path) -> None:
    every = [engagement(f"e{number}") for number in range(10)]
    load(database, write_files(folder, MINIMAL | {"engagements.csv": ENGAGEMENTS_CSV + "".join(every)}))
    bad_is_there = engagement("e2", at="never")
    write_files(folder, {"engagements.csv": ENGAGEMENTS_CSV + bad_is_there + "".join(every[3:])})
    result = load(database, folder, DOSSIER_FULL_REFRESH="true")["engagements"]
    assert result is not None
    assert (result.removed, result.rejected) == (2, 1)
    assert keys(database, "engagements") == [f"e{number}" for number in range(2, 10)]
    before = contents(database)
    write_files(folder, {"engagements.csv": ENGAGEMENTS_CSV + "".join(every[5:]) + engagement("new")})
    with pytest.raises(RejectedShareError, match=r"3 of 8 loaded records are gone.*20%.*DOSSIER_MAX_REMOVED_SHARE"):
        load(database, folder, DOSSIER_FULL_REFRESH="true")
    assert contents(database) == before
    assert outcomes(database, "engagements") == ["merged", "merged", "refused"]
    load(database, folder, DOSSIER_FULL_REFRESH="true", DOSSIER_MAX_REMOVED_SHARE="0.5")
    assert keys(database, "engagements") == [*(f"e{number}" for number in range(5, 10)), "new"]


def test_a_full_refresh_removes_nothing_while_a_row_has_no_readable_id(database: Database, folder: Path) -> None:
    every = [engagement(f"e{number}") for number in range(10)]
    load(database, write_files(folder, MINIMAL | {"engagements.csv": ENGAGEMENTS_CSV + "".join(every)}))
    before = contents(database)
    for unreadable in ("e0,d1,meeting\n", engagement("")):
        write_files(folder, {"engagements.csv": ENGAGEMENTS_CSV + unreadable + "".join(every[1:])})
        result = load(database, folder, DOSSIER_FULL_REFRESH="true")["engagements"]
        assert result is not None
        assert (result.removed, result.rejected) == (0, 1)
        assert contents(database) == before


def test_a_source_that_suddenly_holds_nothing_deletes_nothing(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL))
    before = contents(database)
    write_files(folder, {"engagements.csv": ENGAGEMENTS_CSV})
    for full in ("false", "true"):
        with pytest.raises(SourceError, match=r"suddenly holds no rows, where 1 are loaded. Nothing was removed"):
            load(database, folder, DOSSIER_FULL_REFRESH=full)
    with pytest.raises(RejectedShareError, match="1 of 1 loaded records are gone"):
        load(database, folder, DOSSIER_FULL_REFRESH="true", DOSSIER_ALLOW_EMPTY="true")
    load(database, folder, DOSSIER_ALLOW_EMPTY="true")
    assert contents(database) == before
    assert outcomes(database, "engagements") == ["merged", "refused", "merged"]


def test_too_many_bad_rows_merge_nothing_and_can_be_read_afterwards(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL))
    before = contents(database)
    text = ENGAGEMENTS_CSV + engagement("e1", description="new") + engagement("e2", at="x") + engagement("e3", at="y")
    write_files(folder, {"engagements.csv": text})
    with pytest.raises(
        RejectedShareError, match=r"2 of 3 rows are bad, more than the share of 50% .* is no date"
    ) as refused:
        load(database, folder)
    assert "'x'" not in str(refused.value)
    assert contents(database) == before
    assert list(reasons(database, "engagements")) == [3, 4]
    assert outcomes(database, "engagements") == ["merged", "refused"]
    assert rows(
        database,
        "SELECT rows_read, inserted, updated, unchanged, rejected, run_id FROM ingestion.loads "
        "WHERE outcome = 'refused'",
    ) == [(3, 0, 0, 0, 2, "test")]
    result = load(database, folder, DOSSIER_MAX_REJECTED_SHARE="0.7")["engagements"]
    assert result is not None
    assert (result.updated, result.rejected) == (1, 2)


def test_a_corrected_file_empties_its_rejected_rows(database: Database, folder: Path) -> None:
    bad = {
        "engagements.csv": MINIMAL["engagements.csv"] + engagement("e2", at="x"),
        "commitments.csv": MINIMAL["commitments.csv"] + commitment("c2", status="x"),
    }
    load(database, write_files(folder, MINIMAL | bad))
    assert list(reasons(database, "engagements")) == list(reasons(database, "commitments")) == [3]
    load(database, write_files(folder, {"engagements.csv": MINIMAL["engagements.csv"] + engagement("e2")}))
    assert reasons(database, "engagements") == {}
    assert list(reasons(database, "commitments")) == [3]
    assert keys(database, "engagements") == ["e1", "e2"]


def test_a_deleted_dossier_takes_everything_of_its_own_with_it(database: Database, folder: Path) -> None:
    write_files(
        folder,
        {
            "dossiers.csv": TWO_DOSSIERS,
            "engagements.csv": ENGAGEMENTS_CSV + engagement("e1") + engagement("e2", dossier="d2"),
            "commitments.csv": COMMITMENTS_CSV + commitment("c1") + commitment("c2", dossier="d2"),
            "documents.csv": DOCUMENTS_CSV + "f1,d1,pdf\nf2,d2,pdf\n",
        },
    )
    load(database, folder)
    as_of = parse_moment("2025-02-01", timezone=zone("UTC", setting="x"), argument="x")
    refresh_health(database, read_health_config(None), now=as_of)
    derived = ("dossiers.engagement_stats", "dossiers.commitment_stats", "dossiers.health_scores")
    assert [scalar(database, f"SELECT count(*) FROM {table}") for table in derived] == [2, 2, 2]

    write_files(folder, {"dossiers.csv": "id,name,deleted\nd1,Sweden,yes\nd2,Norway,\n"})
    result = load(database, folder)
    for name in ("engagements", "commitments", "documents"):
        loaded = result[name]
        assert loaded is not None
        assert (loaded.rejected, loaded.inserted) == (1, 0)
        assert reasons(database, name) == {2: "dossier_id 'd1' refers to no record of dossiers"}
    assert {name: keys(database, name) for name in ENTITIES} == {
        "users": [], "dossiers": ["d2"], "engagements": ["e2"], "commitments": ["c2"], "documents": ["f2"],
    }  # fmt: skip
    remaining = uuid.uuid3(NAMESPACE, "dossiers:d2")
    assert [rows(database, f"SELECT dossier_id FROM {table}") for table in derived] == [[(remaining,)]] * 3


def test_a_commitment_marked_overdue_stays_so_until_its_source_row_changes(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL))
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE raw.commitments SET status = 'overdue'"))
    result = load(database, folder)["commitments"]
    assert result is not None
    assert result.unchanged == 1
    assert scalar(database, "SELECT status FROM raw.commitments") == "overdue"
    write_files(folder, {"commitments.csv": MINIMAL["commitments.csv"].replace("2025-03-01", "2099-03-01")})
    load(database, folder)
    assert rows(database, "SELECT status, due_date::text FROM raw.commitments") == [("pending", "2099-03-01")]


def test_two_tenants_keep_the_same_keys_apart(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL), DOSSIER_TENANT="one")
    load(database, folder, DOSSIER_TENANT="two")
    write_files(folder, {"engagements.csv": ENGAGEMENTS_CSV + engagement("e2")})
    load(database, folder, DOSSIER_TENANT="two", DOSSIER_FULL_REFRESH="true", DOSSIER_MAX_REMOVED_SHARE="1")
    assert rows(database, "SELECT tenant_id, source_key FROM raw.engagements ORDER BY 1") == [
        ("one", "e1"),
        ("two", "e2"),
    ]
