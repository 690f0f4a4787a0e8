"""Small sources for tests: files with a few rows, and what is read back from the database."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import sqlalchemy as sa

from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.ingestion.load import LoadResult
from dossier_pipelines.shared.database import Database, database_url
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines_tests.conftest import execute_on_server

DOSSIERS_CSV = "id,name,type,region,bloc,classification,owner_id,created_at\n"
ENGAGEMENTS_CSV = "id,dossier_id,type,description,occurred_at,created_at\n"
COMMITMENTS_CSV = (
    "id,dossier_id,description,status,due_date,owner_id,priority,created_at,updated_at,completed_at,cancelled_at\n"
)

MINIMAL = {
    "dossiers.csv": DOSSIERS_CSV + "d1,Sweden,country,Northern Europe,EU,public,u1,2020-01-01\n",
    "engagements.csv": ENGAGEMENTS_CSV + "e1,d1,meeting,First contact,2025-01-10T09:00:00Z,\n",
    "commitments.csv": COMMITMENTS_CSV + "c1,d1,Send figures,pending,2025-03-01,u1,high,2025-01-10,,,\n",
}


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write ``files`` into ``folder`` and return it."""
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return folder


def load(database: Database, source: str | Path, **environ: str) -> dict[str, LoadResult | None]:
    """Load every entity of ``source`` as a run does, with settings such as DOSSIER_MAPPING."""
    configured = configured_source(read_settings({"DOSSIER_SOURCE": str(source), **environ}))
    return {name: configured.load(database, entity, known=ENTITIES, run_id="test") for name, entity in ENTITIES.items()}


def rows(database: Database, sql: str, **parameters: Any) -> list[sa.Row[Any]]:
    """Return the rows of a query."""
    with database.engine.connect() as connection:
        return list(connection.execute(sa.text(sql), parameters))


def scalar(database: Database, sql: str, **parameters: Any) -> Any:
    """Return the single value of a query."""
    return rows(database, sql, **parameters)[0][0]


def waits_for_a_table(database: Database) -> bool:
    """Whether a transaction of this database waits for a lock on a table; other tests share the server."""
    return bool(
        scalar(
            database,
            "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
            "WHERE d.datname = current_database() AND l.relation IS NOT NULL AND NOT l.granted",
        )
    )


def reasons(database: Database, entity: str) -> dict[int, str]:
    """Return row number to reason of what was set aside."""
    return {
        row.row_number: row.reason
        for row in rows(
            database,
            "SELECT row_number, reason FROM ingestion.rejected_rows WHERE entity = :entity ORDER BY row_number",
            entity=entity,
        )
    }


def json_lines(csv_text: str) -> str:
    """Return the same rows as JSON lines; a blank value is left out."""
    return "".join(
        json.dumps({name: value for name, value in row.items() if value}, ensure_ascii=False) + "\n"
        for row in csv.DictReader(io.StringIO(csv_text, newline=""))
    )


def keys(database: Database, entity: str) -> list[str]:
    """Return the source's ids of what is loaded."""
    found = rows(database, f"SELECT coalesce(source_key, id::text) AS key FROM raw.{entity} ORDER BY 1")
    return [row.key for row in found]


def contents(database: Database) -> dict[str, list[str]]:
    """Return every loaded row, with the transaction that wrote it: equal means untouched."""
    return {
        name: [
            row.text for row in rows(database, f"SELECT xmin::text || t::text AS text FROM raw.{name} AS t ORDER BY 1")
        ]
        for name in ENTITIES
    }


def outcomes(database: Database, entity: str) -> list[str]:
    """Return how the loads of an entity ended, oldest first."""
    found = rows(database, "SELECT outcome FROM ingestion.loads WHERE entity = :entity ORDER BY load_id", entity=entity)
    return [row.outcome for row in found]


def working_tables(database: Database) -> list[str]:
    """Return what loads have left of the tables that they work in."""
    found = rows(
        database, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(stage|checked)_' ORDER BY 1"
    )
    return [row.relname for row in found]


Tables = Mapping[str, Sequence[Mapping[str, str]]]
SOURCE_KINDS = ("csv", "jsonl", "sqlite", "postgresql", "rest")
_NUMBERS = itertools.count(1)


class RestHandler(BaseHTTPRequestHandler):
    """One request to a `RestServer`."""

    protocol_version = "HTTP/1.1"
    server: RestServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        self.server.asked.append((unquote(parts.path), query, dict(self.headers)))
        if self.server.troubles:
            self.server.troubles.pop(0)(self)
            return
        if self.server.api_key is not None and self.headers.get("apikey") != self.server.api_key:
            self.answer(401, {"message": "Invalid API key"})
            return
        table = self.server.tables.get(unquote(parts.path).removeprefix("/rest/v1/"))
        if table is None:
            self.answer(404, {"message": "relation does not exist"})
            return
        order = [name.removesuffix(".asc") for name in query["order"].split(",")]
        ordered = sorted(table, key=lambda row: [str(row.get(name, "")) for name in order])
        offset = int(query["offset"])
        self.answer(200, ordered[offset : offset + min(int(query["limit"]), self.server.largest_page)])

    def answer(
        self, status: int, body: object, headers: Mapping[str, str] | None = None, *, broken_off: bool = False
    ) -> None:
        """Answer with JSON, or with text as it is; ``broken_off`` hangs up half-way."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode("utf-8")
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if broken_off else data)
        self.close_connection = broken_off

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


class RestServer(ThreadingHTTPServer):
    """A small PostgREST on loopback: limit, offset, order and an API key.

    ``troubles`` answer the next requests in place of the table, one each; ``asked`` are the requests so far.
    """

    daemon_threads = True

    def __init__(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], *, api_key: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), RestHandler)
        self.tables = tables
        self.api_key = api_key
        self.largest_page = 1_000_000
        self.troubles: list[Callable[[RestHandler], None]] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_port}/rest/v1/"

    def __enter__(self) -> RestServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()


@contextmanager
def foreign_database(server_url: str, script: str = "") -> Iterator[str]:
    """Yield the URL of another application's database on the same server."""
    name = f"foreign_{os.getpid()}_{next(_NUMBERS)}"
    execute_on_server(server_url, f'CREATE DATABASE "{name}"')
    url = database_url(server_url, database=name)
    try:
        run_script(url.render_as_string(hide_password=False), script)
        yield url.set(drivername="postgresql").render_as_string(hide_password=False)
    finally:
        execute_on_server(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def run_script(url: str, script: str) -> None:
    """Run the statements of ``script``, which hold no semicolon but at their ends."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for part in script.split(";"):
            if part.strip():
                connection.exec_driver_sql(part)
    engine.dispose()


def _fill(url: str, tables: Tables) -> None:
    engine = sa.create_engine(url)
    metadata = sa.MetaData()
    with engine.begin() as connection:
        for name, records in tables.items():
            columns = dict.fromkeys(column for record in records for column in record)
            table = sa.Table(name, metadata, *(sa.Column(column, sa.Text) for column in columns))
            table.create(connection)
            connection.execute(table.insert(), [dict.fromkeys(columns) | dict(record) for record in records])
    engine.dispose()


@contextmanager
def published(kind: str, tables: Tables, *, folder: Path, server_url: str) -> Iterator[str]:
    """Yield what DOSSIER_SOURCE says for the same tables in each kind of source."""
    match kind:
        case "csv" | "jsonl":
            for name, records in tables.items():
                out = io.StringIO()
                writer = csv.DictWriter(out, dict.fromkeys(column for record in records for column in record))
                writer.writeheader()
                writer.writerows(records)
                text = out.getvalue() if kind == "csv" else json_lines(out.getvalue())
                write_files(folder, {f"{name}.{kind}": text})
            yield str(folder)
        case "sqlite":
            url = f"sqlite:///{folder / 'app.db'}"
            _fill(url, tables)
            yield url
        case "postgresql":
            with foreign_database(server_url) as url:
                _fill(url.replace("postgresql://", "postgresql+psycopg://", 1), tables)
                yield url
        case _:
            nulls = {
                name: [{column: value or None for column, value in record.items()} for record in records]
                for name, records in tables.items()
            }
            with RestServer(nulls) as server:
                yield server.url
