"""SQL databases: SQLite files and another application's PostgreSQL, read as they are."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from dossier_pipelines.ingestion.sources import sql
from dossier_pipelines.ingestion.sources.sql import SqlSource
from dossier_pipelines.shared.database import Database, database_url
from dossier_pipelines.shared.failures import SourceError
from dossier_pipelines_tests.conftest import execute_on_server
from dossier_pipelines_tests.processes import CHECKOUT, free_port
from dossier_pipelines_tests.records import (
    contents,
    foreign_database,
    keys,
    load,
    reasons,
    rows,
    run_script,
    scalar,
    working_tables,
)

EXAMPLE = CHECKOUT / "examples" / "mapping"

NATIVE = """
CREATE SCHEMA "Partner Desk";
CREATE TYPE "Partner Desk".stage AS ENUM ('Open', 'Done');
CREATE TABLE "Partner Desk"."Files" (
    "File Id" integer PRIMARY KEY, "Title" varchar(40), "Level" numeric(4, 2), "Since" timestamp, "Gone" boolean,
    "Tags" jsonb, "Places" text[], "Seen" timestamptz[], "Parents" uuid[], "Logo" bytea, "Span" daterange,
    "Pause" interval
);
CREATE TABLE "Partner Desk".promise (
    no bigint PRIMARY KEY, file_id integer, stage "Partner Desk".stage, due timestamptz, made date, urgent boolean
);
CREATE VIEW "Partner Desk".meeting AS
    SELECT 1 AS id, 1 AS file_id, timestamptz '2025-01-10 09:00Z' AS held;
INSERT INTO "Partner Desk"."Files" VALUES
    (1, 'Sweden, "North"', 1.50, '2020-01-01 10:00', false, '{"a": [1, null]}', '{x,"y z"}', '{2025-01-10 09:00Z}',
     '{9b2c1d0e-1111-4222-8333-444455556666}', '\\x00ff', '[2025-01-01,2025-02-01)', '1 day 2 hours'),
    (2, 'Atlantis', null, 'infinity', true, null, null, null, null, null, null, null);
INSERT INTO "Partner Desk".promise VALUES
    (1, 1, 'Open', '2025-02-28 21:30Z', '2025-01-10', true),
    (2, 1, 'Done', '2025-03-01 21:30+03', 'infinity', false),
    (3, 1, 'Done', 'infinity', '-infinity', false),
    (4, 1, 'Done', '2025-03-03', '0044-03-15 BC', null)
"""
NATIVE_MAPPING = """
dossiers:
  source: Partner Desk.Files
  columns: {id: File Id, name: Title, region: Level, created_at: Since, deleted: Gone}
engagements:
  source: Partner Desk.meeting
  columns: {dossier_id: file_id, occurred_at: held}
commitments:
  source: Partner Desk.promise
  columns: {id: 'no', dossier_id: file_id, status: stage, due_date: due, created_at: made, priority: urgent}
  values: {status: {Open: pending, Done: completed}, priority: {'true': high, 'false': low}}
"""
OURS = """
CREATE TABLE dossiers (id text, name text);
CREATE TABLE engagements (id text, dossier_id text, occurred_at text);
CREATE TABLE commitments (id text, dossier_id text, status text, due_date text);
INSERT INTO dossiers VALUES ('d1', 'Sweden');
INSERT INTO engagements VALUES ('e1', 'd1', '2025-01-10');
INSERT INTO commitments VALUES ('c1', 'd1', 'pending', '2025-03-01')
"""


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The URL of an SQLite database with tables of our names."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    run_script(url, OURS)
    return url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_worked_example_loads_as_its_readme_says(
    database: Database, tmp_path: Path, server_url: str, kind: str
) -> None:
    script = (EXAMPLE / "crm.sql").read_text(encoding="utf-8")
    code = re.sub("--.*", "", script)
    with foreign_database(server_url, code if kind == "postgresql" else "") as postgresql:
        if kind == "sqlite":
            with sqlite3.connect(tmp_path / "crm.db") as connection:
                connection.executescript(script)
        source = postgresql if kind == "postgresql" else f"sqlite:///{tmp_path / 'crm.db'}"
        result = load(database, source, DOSSIER_MAPPING=str(EXAMPLE / "crm_mapping.toml"))
    assert {name: done and (done.inserted, done.rejected) for name, done in result.items()} == {
        "users": (2, 0),
        "dossiers": (3, 0),
        "engagements": (5, 0),
        "commitments": (3, 1),
        "documents": None,
    }
    assert keys(database, "dossiers") == ["KE|1", "SE|1", "SE|2"]
    assert list(reasons(database, "commitments").values()) == [
        "status 'H' is not one of pending, in_progress, completed, cancelled, overdue"
    ]
    assert rows(
        database,
        "SELECT d.name, d.type, d.classification, d.extra, u.name, u.locale FROM raw.dossiers AS d "
        "JOIN raw.users AS u ON u.id = d.owner_id WHERE d.source_key = 'SE|1'",
    ) == [
        (
            "Ministry of Foreign Affairs", "country", "public", {"website": "https://example.org"}, "Ann Lee", "en"
        )
    ]  # fmt: skip
    assert rows(
        database,
        "SELECT c.source_key, c.status, c.priority, c.due_date::text, u.source_key "
        "FROM raw.commitments AS c JOIN raw.users AS u ON u.id = c.owner_id ORDER BY 1",
    ) == [
        ("KE|1|1", "in_progress", "high", "2025-12-01", "b.roy"),
        ("SE|1|1", "completed", "high", "2025-02-01", "a.lee"),
        ("SE|1|2", "pending", "medium", "2025-05-01", "a.lee"),
    ]
    local = "to_char(occurred_at AT TIME ZONE 'Asia/Riyadh', 'YYYY-MM-DD HH24:MI')"
    assert scalar(database, f"SELECT {local} FROM raw.engagements WHERE source_key = '101'") == "2025-01-14 10:00"


def test_native_types_of_another_postgresql_are_read_as_they_are(
    database: Database, server_url: str, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text(NATIVE_MAPPING, encoding="utf-8")
    with foreign_database(server_url, NATIVE) as url:
        # A server elsewhere, with other habits.
        name = sa.make_url(url).database
        execute_on_server(server_url, f"ALTER DATABASE \"{name}\" SET datestyle = 'SQL, DMY'")
        execute_on_server(server_url, f"ALTER DATABASE \"{name}\" SET timezone = 'America/New_York'")
        settings = {"DOSSIER_MAPPING": str(mapping), "DOSSIER_MAX_REJECTED_SHARE": "0.8"}
        load(database, url, **settings)
        before = contents(database)
        load(database, url, **settings)
    assert contents(database) == before
    assert rows(database, "SELECT source_key, name, region, created_at = '2020-01-01 10:00+03' FROM raw.dossiers") == [
        ("1", 'Sweden, "North"', "1.50", True)
    ]
    extra = scalar(database, "SELECT extra FROM raw.dossiers")
    assert {name: extra[name] for name in ("Tags", "Places", "Parents", "Logo", "Pause")} == {
        "Tags": '{"a": [1, null]}',
        "Places": '["x", "y z"]',
        "Parents": '["9b2c1d0e-1111-4222-8333-444455556666"]',
        "Logo": "00ff",
        "Pause": "1 day, 2:00:00",
    }
    assert rows(database, "SELECT occurred_at = '2025-01-10 09:00Z' FROM raw.engagements") == [(True,)]
    # A moment falls on the day that it is in the tenant's time zone.
    assert rows(database, "SELECT source_key, status, due_date::text, priority FROM raw.commitments") == [
        ("1", "pending", "2025-03-01", "high")
    ]
    assert reasons(database, "commitments") == {
        2: "created_at 'infinity' is no date and time; write it like 2020-04-29T12:00:00+03:00",
        3: "due_date 'infinity' is no date; write it like 2020-04-29; "
        "created_at '-infinity' is no date and time; write it like 2020-04-29T12:00:00+03:00",
        4: "created_at '0044-03-15 BC' is no date and time; write it like 2020-04-29T12:00:00+03:00",
    }


def test_rows_are_read_in_the_order_of_the_key(
    database: Database, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ROWS_AT_ONCE", 2)
    run_script(sqlite, "DELETE FROM engagements")
    values = ", ".join(f"('e{number}', '{'d1' if number % 2 else 'd9'}', '2025-01-10')" for number in (5, 3, 1, 4, 2))
    run_script(sqlite, f"INSERT INTO engagements VALUES {values}")
    load(database, sqlite)
    assert keys(database, "engagements") == ["e1", "e3", "e5"]
    assert list(reasons(database, "engagements")) == [2, 4]
    assert rows(database, "SELECT DISTINCT source FROM ingestion.rejected_rows") == [("engagements",)]


def test_a_value_with_a_nul_character_costs_its_row_only(database: Database, sqlite: str) -> None:
    run_script(sqlite, "INSERT INTO engagements VALUES ('e0' || char(0), 'd1', '2025-01-10')")
    load(database, sqlite)
    assert keys(database, "engagements") == ["e1"]
    assert reasons(database, "engagements") == {1: "a value holds a NUL byte"}


def test_line_breaks_quotes_and_backslashes_are_loaded_as_they_are(database: Database, sqlite: str) -> None:
    name = 'a\r\nb\rc\n"d", \\. \\N é漢'
    with sqlite3.connect(sa.make_url(sqlite).database or "") as connection:
        connection.execute("UPDATE dossiers SET name = ?", [name])
    load(database, sqlite)
    assert scalar(database, "SELECT name FROM raw.dossiers") == name


def test_a_table_that_is_suddenly_empty_removes_nothing(database: Database, sqlite: str) -> None:
    load(database, sqlite)
    run_script(sqlite, "DELETE FROM engagements")
    with pytest.raises(SourceError, match="engagements suddenly holds no rows, where 1 are loaded"):
        load(database, sqlite)
    assert keys(database, "engagements") == ["e1"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_missing_table_is_named_with_those_that_are_there(
    database: Database, server_url: str, sqlite: str, kind: str
) -> None:
    run_script(sqlite, "DROP TABLE engagements")
    script = OURS.replace("TABLE engagements", "TABLE visits").replace("INTO engagements", "INTO visits")
    with (
        foreign_database(server_url, script + "; CREATE VIEW calls AS SELECT 1 AS id") as postgresql,
        pytest.raises(SourceError) as refused,
    ):
        load(database, sqlite if kind == "sqlite" else postgresql)
    there = "commitments, dossiers" if kind == "sqlite" else "calls, commitments, dossiers, visits"
    assert f"there is no table or view 'engagements' for engagements; there are {there}." in str(refused.value)
    assert keys(database, "dossiers") == ["d1"]


def test_a_missing_schema_or_an_empty_database_is_named_too(
    database: Database, server_url: str, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text('[dossiers]\nsource = "crm.files"\n', encoding="utf-8")
    with foreign_database(server_url) as url:
        for given in ({"DOSSIER_MAPPING": str(mapping)}, {}):
            with pytest.raises(SourceError, match=r"there is no table or view '\w+' for dossiers; there are none"):
                load(database, url, **given)


def test_a_missing_sqlite_file_is_not_made(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "mistyped.db"
    with pytest.raises(SourceError, match=r"The SQLite database .*mistyped\.db does not exist"):
        load(database, f"sqlite:///{path}")
    assert not path.exists()


def test_a_file_that_is_no_database_is_named(database: Database, tmp_path: Path) -> None:
    (tmp_path / "app.db").write_text("id,name\n" * 500)
    with pytest.raises(SourceError, match=r"Reading users of sqlite:///.*app\.db failed: file is not a database"):
        load(database, f"sqlite:///{tmp_path / 'app.db'}")


def test_a_server_that_refuses_or_is_not_there_is_named_without_the_password(
    database: Database, server_url: str
) -> None:
    server = database_url(server_url, driver="postgresql")
    urls = {
        'role "nobody" does not exist': server.set(username="nobody", password="s3cret"),
        'database "nowhere" does not exist': server.set(password="s3cret", database="nowhere"),
        "Connection refused": sa.make_url(f"postgres://me:s3cret@127.0.0.1:{free_port()}/crm"),
        "resolve host": sa.make_url("postgresql://host.invalid/crm?user=me&password=s3cret"),
    }
    for said, url in urls.items():
        with pytest.raises(SourceError) as refused:
            load(database, url.render_as_string(hide_password=False))
        message = str(refused.value)
        assert "s3cret" not in message
        assert said in message
        assert "check DOSSIER_SOURCE" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:s3cret/crm", "The source URL cannot be read"),
        ("postgresql://me:s3cret@x@host/crm", "The source URL cannot be read"),
        ("postgresql://me:s3cret@host:port/crm", "The source URL cannot be read"),
        ("nosql://me:s3cret@host/crm", "nosql://me:***@host/crm cannot be read: Can't load plugin"),
        ("mysql://me:s3cret@host/crm?password=s3cret", "mysql://me:***@host/crm cannot be read: No module named"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_the_password(url: str, message: str) -> None:
    with pytest.raises(SourceError) as refused:
        SqlSource(url, timezone="UTC")
    assert message in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_source_that_breaks_off_is_blamed_and_nothing_is_merged(
    database: Database, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ROWS_AT_ONCE", 10)
    script = (
        OURS
        + "; INSERT INTO engagements SELECT 'x' || n, 'd1', (1 / (500 - n))::text FROM generate_series(1, 1000) AS n"
    )
    lazy = script.replace(
        "INSERT INTO engagements SELECT",
        "ALTER TABLE engagements RENAME TO visits; CREATE VIEW engagements AS SELECT * FROM visits UNION ALL SELECT",
    )
    with foreign_database(server_url, lazy) as url, pytest.raises(SourceError) as failed:
        load(database, url)
    assert "Reading engagements of postgresql+psycopg://" in str(failed.value)
    assert "failed: division by zero" in str(failed.value)
    assert keys(database, "dossiers") == ["d1"]
    assert keys(database, "engagements") == []
    assert working_tables(database) == []
