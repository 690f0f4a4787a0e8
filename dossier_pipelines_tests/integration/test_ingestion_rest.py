"""REST APIs, from a real server on loopback: pages, trouble that passes, trouble that stays, and the key's secrecy."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stamina
from stamina.instrumentation import RetryDetails

from dossier_pipelines.dossiers.entities import ENGAGEMENTS, ENTITIES
from dossier_pipelines.ingestion.load import LoadResult, load_entity
from dossier_pipelines.ingestion.mapping import EntityMapping, SourceMapping
from dossier_pipelines.ingestion.sources.rest import RestSource
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import SourceError
from dossier_pipelines_tests.processes import free_port
from dossier_pipelines_tests.records import (
    RestHandler,
    RestServer,
    contents,
    keys,
    load,
    outcomes,
    reasons,
    rows,
    scalar,
    working_tables,
)

TABLES: dict[str, list[dict[str, Any]]] = {
    "dossiers": [{"id": "d1", "name": "Sweden", "tags": None}],
    "engagements": [
        {"id": f"e{number:02}", "dossier_id": "d1", "occurred_at": "2025-01-10T09:00:00+00:00"} for number in range(25)
    ],
    "commitments": [{"id": 1, "dossier_id": "d1", "status": "pending", "due_date": "2025-03-01", "extra_rank": 1.5}],
}
Trouble = Callable[[RestHandler], None]


@pytest.fixture
def server() -> Iterator[RestServer]:
    with RestServer(dict(TABLES)) as running:
        yield running


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The seconds that were waited before each further try."""
    seconds: list[float] = []

    def note(details: RetryDetails) -> None:
        seconds.append(details.wait_for)

    stamina.instrumentation.set_on_retry_hooks([note])
    yield seconds
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def with_dossier(database: Database, server: RestServer) -> Database:
    """A database with the dossier of the engagements."""
    load_one(database, server, "dossiers")
    server.asked.clear()
    return database


def load_one(database: Database, server: RestServer, entity: str = "engagements") -> LoadResult | None:
    source = RestSource(server.url, api_key=None, page_rows=10, longest_wait=0.01)
    return load_entity(database, ENTITIES[entity], source, SourceMapping(), settings=read_settings({}))


def read(server: RestServer) -> list[dict[str, Any]]:
    """Return the engagements that the source gives to COPY."""
    source = RestSource(server.url, api_key=None, page_rows=10, longest_wait=0.01)
    with source.open(ENGAGEMENTS, EntityMapping()) as opened:
        assert opened is not None
        text = b"".join(opened.blocks()).decode("utf-8")
    return [json.loads(line[0]) for line in csv.reader(io.StringIO(text))]


def first_page(handler: RestHandler) -> None:
    handler.answer(200, TABLES["engagements"][:10])


def failing(status: int, body: object = "", **headers: str) -> Trouble:
    return lambda handler: handler.answer(
        status, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )


def broken_off(handler: RestHandler) -> None:
    handler.answer(200, TABLES["engagements"], broken_off=True)


def hung_up(handler: RestHandler) -> None:
    handler.close_connection = True


def half_a_header(handler: RestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 20")
    handler.close_connection = True


# Pages


def test_every_table_is_read_and_a_rerun_changes_nothing(database: Database, server: RestServer) -> None:
    first = load(database, server.url)
    assert first["users"] is None
    assert first["documents"] is None
    assert len(keys(database, "engagements")) == 25
    assert rows(database, "SELECT source_key, status, extra FROM raw.commitments") == [
        ("1", "pending", {"extra_rank": 1.5})
    ]
    before = contents(database)
    load(database, server.url)
    assert contents(database) == before


def test_pages_are_asked_for_in_the_order_of_the_key_until_one_is_empty(
    with_dossier: Database, server: RestServer
) -> None:
    load_one(with_dossier, server)
    assert [(path, query) for path, query, _ in server.asked] == [
        ("/rest/v1/engagements", {"limit": "10", "offset": offset, "order": "id.asc"})
        for offset in ("0", "10", "20", "25")
    ]
    assert len(keys(with_dossier, "engagements")) == 25


def test_a_server_that_caps_the_page_below_ours_is_read_to_its_end(with_dossier: Database, server: RestServer) -> None:
    server.largest_page = 7
    load_one(with_dossier, server)
    assert [query["offset"] for _, query, _ in server.asked] == ["0", "7", "14", "21", "25"]
    assert len(keys(with_dossier, "engagements")) == 25


def test_a_composite_key_orders_the_pages(server: RestServer) -> None:
    source = RestSource(server.url, api_key=None)
    mapping = EntityMapping(source="engagements", columns={"id": ("dossier_id", "id")})
    with source.open(ENGAGEMENTS, mapping) as opened:
        assert opened is not None
        assert sum(block.count(b"\n") for block in opened.blocks()) == 25
    assert {query["order"] for _, query, _ in server.asked} == {"dossier_id.asc,id.asc"}


def test_a_server_that_ignores_the_offset_is_not_read_for_ever(with_dossier: Database, server: RestServer) -> None:
    server.troubles = [first_page, first_page]
    with pytest.raises(SourceError, match="the same page again at offset 10"):
        load_one(with_dossier, server)
    assert keys(with_dossier, "engagements") == []


def test_records_that_are_none_are_set_aside(with_dossier: Database, server: RestServer) -> None:
    odd: list[Any] = [None, "e1", {"id": "e\0"}, {"id": "x", "dossier_id": "d1", "occurred_at": "soon"}]
    server.troubles = [failing(200, [*TABLES["engagements"], *odd]), failing(200, [])]
    load_one(with_dossier, server)
    assert len(keys(with_dossier, "engagements")) == 25
    found = reasons(with_dossier, "engagements")
    assert list(found) == [26, 27, 28, 29]
    assert found[29] == "occurred_at 'soon' is no date and time; write it like 2020-04-29T12:00:00+03:00"
    assert found[26].startswith("the line is no JSON object")


# Trouble that passes


@pytest.mark.parametrize(
    "troubles",
    [
        [failing(429, "slow down", Retry_After="0")] * 3,
        [failing(429, "slow down", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")],
        [failing(500), failing(502, "<html>"), failing(503, Retry_After="0"), failing(504), failing(408)],
        [broken_off, broken_off],
        [hung_up, half_a_header],
    ],
    ids=["429", "429 until a date", "5xx", "broken off", "hung up"],
)
@pytest.mark.parametrize("pages_before", [0, 1])
def test_trouble_that_passes_costs_no_row(server: RestServer, troubles: list[Trouble], pages_before: int) -> None:
    server.troubles = [first_page] * pages_before + troubles
    assert read(server) == TABLES["engagements"]


def test_a_load_goes_on_after_trouble(with_dossier: Database, server: RestServer) -> None:
    server.troubles = [failing(500), first_page, broken_off, failing(429, Retry_After="0")]
    load_one(with_dossier, server)
    assert len(keys(with_dossier, "engagements")) == 25
    assert reasons(with_dossier, "engagements") == {}


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("0", 0.0), ("0.5", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("", None), ("²", None)],
)
def test_the_wait_that_the_server_asks_for_is_kept(
    server: RestServer, waits: list[float], asked: str, waited: float | None
) -> None:
    server.troubles = [failing(429, "slow down", Retry_After=asked)]
    assert len(read(server)) == 25
    assert len(waits) == 1
    assert waits[0] == waited if waited is not None else 0 < waits[0] <= 0.01


@pytest.mark.usefixtures("waits")
def test_a_wait_beyond_reason_is_cut(server: RestServer) -> None:
    class WaitsError(Exception):
        pass

    def stop(details: RetryDetails) -> None:
        raise WaitsError(details.wait_for)

    stamina.instrumentation.set_on_retry_hooks([stop])
    server.troubles = [failing(429, "", Retry_After="86400")]
    with pytest.raises(WaitsError, match=r"^120\.0$"):
        read(server)


# Trouble that stays


@pytest.mark.parametrize(
    ("trouble", "tries", "message"),
    [
        (failing(500), 6, "the server answered 500, in 6 tries. Nothing of it was loaded"),
        (failing(429, Retry_After="0"), 6, "the server answered 429, in 6 tries"),
        (broken_off, 6, "the connection failed (RemoteProtocolError"),
        (failing(401, {"message": "no"}), 1, "the server refused the key (401). Set DOSSIER_SOURCE_API_KEY."),
        (failing(403), 1, "the server refused the key (403)"),
        (failing(404), 1, "there is no engagements for engagements (404)"),
        (failing(400, {"hint": "no column id"}), 1, "the server answered 400. Check the URL and the mapping."),
        (failing(302, "", Location="/login"), 1, "the server answered 302"),
        (failing(200, "<html>", Content_Type="text/html; charset=utf-8"), 1, "sent text/html where JSON was expected"),
        (failing(200, "[{"), 1, "sent application/json where JSON was expected"),
        (failing(200, {"data": []}), 1, "sent a JSON dict, not a list of records"),
        (failing(200, "null"), 1, "sent a JSON NoneType, not a list of records"),
        (failing(200, "this is not gzip", Content_Encoding="gzip"), 1, "the answer cannot be read"),
    ],
)
def test_trouble_that_stays_is_named(server: RestServer, trouble: Trouble, tries: int, message: str) -> None:
    server.troubles = [trouble] * tries
    with pytest.raises(SourceError) as refused:
        read(server)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(server.asked) == tries


@pytest.mark.parametrize(
    ("troubles", "message"),
    [
        ([failing(500)] * 6, "the server answered 500, in 6 tries"),
        ([broken_off] * 6, "the connection failed"),
        ([failing(404)], "engagements: after 10 rows the server no longer has it (404)"),
        ([failing(200, "<html>", Content_Type="text/html")], "sent text/html where JSON was expected"),
    ],
)
def test_trouble_on_a_later_page_merges_nothing_and_a_rerun_works(
    with_dossier: Database, server: RestServer, troubles: list[Trouble], message: str
) -> None:
    server.troubles = [first_page, *troubles]
    with pytest.raises(SourceError) as refused:
        load_one(with_dossier, server)
    assert message in str(refused.value)
    assert keys(with_dossier, "engagements") == []
    assert outcomes(with_dossier, "engagements") == []
    assert working_tables(with_dossier) == []
    load_one(with_dossier, server)
    assert len(keys(with_dossier, "engagements")) == 25


def test_an_empty_table_is_refused(with_dossier: Database, server: RestServer) -> None:
    server.tables = {"engagements": []}
    with pytest.raises(SourceError, match="engagements holds no rows"):
        load_one(with_dossier, server)


def test_a_source_that_is_suddenly_empty_removes_nothing(with_dossier: Database, server: RestServer) -> None:
    load_one(with_dossier, server)
    server.tables = {"engagements": []}
    with pytest.raises(SourceError, match="suddenly holds no rows, where 25 are loaded"):
        load_one(with_dossier, server)
    assert len(keys(with_dossier, "engagements")) == 25


def test_a_server_that_is_not_there_is_named(database: Database) -> None:
    source = RestSource(f"http://me:s3cret@127.0.0.1:{free_port()}/rest/v1", api_key=None, longest_wait=0.01)
    with pytest.raises(
        SourceError, match=r"http://127\.0\.0\.1:\d+/rest/v1 engagements: the connection failed"
    ) as failed:
        load_entity(database, ENGAGEMENTS, source, SourceMapping(), settings=read_settings({}))
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize("url", ["http://", "http://exa mple:80x/", "https:///rest/v1", "http://h/rest?apikey=s3cret"])
def test_a_url_that_is_none_is_refused_without_showing_what_it_holds(url: str) -> None:
    with pytest.raises(SourceError, match=r"Write it like https://host/rest/v1/") as refused:
        RestSource(url, api_key=None)
    assert "s3cret" not in str(refused.value)


# The key


def test_the_key_goes_into_the_headers_and_nowhere_else(
    database: Database, server: RestServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.api_key = "s3cret-key"
    with pytest.raises(SourceError) as refused:
        load(database, server.url, DOSSIER_SOURCE_API_KEY="wr0ng-key")
    assert "(401)" in str(refused.value)
    server.troubles = [failing(429, "", Retry_After="0")]
    load(database, server.url, DOSSIER_SOURCE_API_KEY=" s3cret-key\n")
    headers = server.asked[-1][2]
    assert (headers["apikey"], headers["Authorization"]) == ("s3cret-key", "Bearer s3cret-key")
    assert all("key" not in path and "key" not in str(query) for path, query, _ in server.asked)
    assert all(key not in str(refused.value) + caplog.text for key in ("s3cret", "wr0ng"))
    assert all_text(database).count("s3cret") == all_text(database).count("wr0ng") == 0


@pytest.mark.parametrize("key", ["s3cret\nkey", "s3crét"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(server: RestServer, key: str) -> None:
    with pytest.raises(SourceError, match="DOSSIER_SOURCE_API_KEY holds a character") as refused:
        RestSource(server.url, api_key=key)
    assert "s3cr" not in str(refused.value)


def all_text(database: Database) -> str:
    """Return every row of every table of ours, as text."""
    tables = rows(
        database,
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname IN ('platform', 'ingestion', 'raw', 'dossiers')",
    )
    assert len(tables) > 10
    texts = [scalar(database, f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {row.name} AS t") for row in tables]
    return " ".join(texts)
