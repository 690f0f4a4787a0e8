"""What goes wrong around a load: each ends in one clear line, leaves nothing half-written, and a rerun works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.entities import ENGAGEMENTS
from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.load import LoadResult, load_entity
from dossier_pipelines.ingestion.mapping import EntityMapping, SourceMapping
from dossier_pipelines.ingestion.sources.files import FolderSource
from dossier_pipelines.ingestion.sources.source import Rows
from dossier_pipelines.shared.database import DAGSTER_DRIVER, Database, create_database, database_url
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres, binary
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.conftest import execute_on_server
from dossier_pipelines_tests.processes import call, free_port
from dossier_pipelines_tests.records import (
    MINIMAL,
    SOURCE_KINDS,
    RestServer,
    Tables,
    contents,
    keys,
    load,
    outcomes,
    published,
    rows,
    run_script,
    scalar,
    working_tables,
    write_files,
)

CHANGED = MINIMAL | {
    "engagements.csv": MINIMAL["engagements.csv"].replace("First contact", "Changed")
    + "".join(f"x{number},d1,call,,2025-02-01,\n" for number in range(2_000))
}


@pytest.fixture(scope="module")
def dagster_url(server_url: str) -> Iterator[str]:
    """One database for Dagster's own records, for all runs of this module."""
    name = f"dagster_{os.getpid()}"
    execute_on_server(server_url, f'CREATE DATABASE "{name}"')
    yield database_url(server_url, driver=DAGSTER_DRIVER, database=name).render_as_string(hide_password=False)
    execute_on_server(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[EmbeddedPostgres]:
    """A server that asks for passwords, unlike the embedded one: user guard, password r1ght."""
    # Not in pytest's own directory, which another session as root would close to the server's account.
    with tempfile.TemporaryDirectory(prefix="dossier-guarded-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        url = server.url("postgres").replace("postgresql://", "postgresql+psycopg://", 1)
        run_script(url, "CREATE ROLE guard LOGIN PASSWORD 'r1ght'")
        (server.cluster / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        run_script(url, "SELECT pg_reload_conf()")
        yield server
        server.release()


def run_job(url: str, source: str | Path, tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the main job from the command line."""
    return call(
        *["run", "--json", "--as-of", "2025-07-01", "--source", str(source)],
        settings={"DOSSIER_DATABASE_URL": url, "DOSSIER_DATA_DIR": str(tmp_path / "data"), **settings},
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("dossier-pipelines: ")
    assert done.stderr.count("\n") == 1
    for text in said:
        assert text in done.stderr
    assert "s3cret" not in done.stderr


# The database is not there, or refuses


def test_a_server_that_is_down_is_one_line_without_the_password(folder: Path, tmp_path: Path) -> None:
    write_files(folder, MINIMAL)
    by_port = f"postgresql://me:s3cret@127.0.0.1:{free_port()}/dossier"
    assert_one_line(run_job(by_port, folder, tmp_path), "Connection refused", "The server cannot be reached")
    by_socket = f"postgresql://me:s3cret@/dossier?host={tmp_path}"
    assert_one_line(run_job(by_socket, folder, tmp_path), "No such file or directory", "The server cannot be reached")


def test_a_load_without_a_server_says_so(folder: Path) -> None:
    database = create_database(f"postgresql://me:s3cret@127.0.0.1:{free_port()}/dossier")
    with pytest.raises(UserError, match="The server cannot be reached") as failed:
        load(database, write_files(folder, MINIMAL))
    assert "s3cret" not in str(failed.value)


def test_an_unknown_user_is_one_line(folder: Path, tmp_path: Path, new_database_url: str) -> None:
    url = sa.make_url(new_database_url).set(username="nobody", password="s3cret")
    done = run_job(url.render_as_string(hide_password=False), write_files(folder, MINIMAL), tmp_path)
    assert_one_line(done, 'role "nobody" does not exist', "Check the user name in DOSSIER_DATABASE_URL")


def test_a_wrong_password_is_one_line_that_does_not_hold_it(
    folder: Path, tmp_path: Path, database: Database, guarded_server: EmbeddedPostgres
) -> None:
    write_files(folder, MINIMAL)
    url = sa.make_url(guarded_server.url("postgres")).set(username="guard")
    wrong = url.set(password="s3cret").render_as_string(hide_password=False)
    assert_one_line(run_job(wrong, folder, tmp_path), "password authentication failed", "Check the credentials")
    with pytest.raises(UserError, match="password authentication failed") as refused:
        load(database, wrong)
    assert "s3cret" not in str(refused.value)
    right = url.set(password="r1ght").render_as_string(hide_password=False)
    with pytest.raises(UserError, match="there is no table or view 'dossiers'") as found_nothing:
        load(database, right)
    assert "r1ght" not in str(found_nothing.value)


def test_a_read_only_database_is_one_line_and_nothing_is_written(
    folder: Path, tmp_path: Path, database: Database, server_url: str, new_database_url: str, dagster_url: str
) -> None:
    load(database, write_files(folder, MINIMAL))
    before = contents(database)
    name = database.engine.url.database
    execute_on_server(server_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    database.engine.dispose()
    write_files(folder, CHANGED)
    with pytest.raises(UserError, match="The database is read-only"):
        load(database, folder)
    assert_one_line(
        run_job(new_database_url, folder, tmp_path, DAGSTER_PG_URL=dagster_url),
        "The database is read-only (a standby, or default_transaction_read_only). Name the primary server.",
    )
    assert contents(database) == before
    assert outcomes(database, "engagements") == ["merged"]
    execute_on_server(server_url, f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    database.engine.dispose()
    load(database, folder)
    assert len(keys(database, "engagements")) == 2_001


# Something breaks in the middle

DISK_FULL = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'"
# A backend that terminates itself ends at the next interrupt, which is in pg_sleep: nobody waits for its end.
KILLED = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60)"
# The staging table is new with every load, so that its trigger is made with it.
WHERE = {
    "staging": """
        CREATE FUNCTION arm() RETURNS event_trigger LANGUAGE plpgsql AS $$
        DECLARE stage text;
        BEGIN
            FOR stage IN SELECT object_identity FROM pg_event_trigger_ddl_commands()
                WHERE object_type = 'table' AND object_identity LIKE 'ingestion.stage%' LOOP
                EXECUTE format('CREATE TRIGGER trouble BEFORE INSERT ON %s FOR EACH ROW '
                    'WHEN (NEW.n > 1000) EXECUTE FUNCTION trouble()', stage);
            END LOOP;
        END $$
        ;; CREATE EVENT TRIGGER arm ON ddl_command_end EXECUTE FUNCTION arm()
    """,
    "merging": """
        CREATE TRIGGER trouble BEFORE INSERT ON raw.engagements FOR EACH ROW
        WHEN (NEW.source_key = 'x1000') EXECUTE FUNCTION trouble()
    """,
    "recording": "CREATE TRIGGER trouble BEFORE INSERT ON ingestion.loads FOR EACH ROW EXECUTE FUNCTION trouble()",
}


@contextmanager
def trouble(database: Database, body: str, where: str) -> Iterator[None]:
    """Let the server itself fail in the middle of a load of engagements."""
    made = f"CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$"
    with database.transaction() as connection:
        for statement in [made, *WHERE[where].split(";;")]:
            connection.execute(sa.text(statement))
    yield
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP EVENT TRIGGER IF EXISTS arm")
        connection.exec_driver_sql("DROP FUNCTION trouble() CASCADE")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            DISK_FULL,
            r"No space left on device \(SQLSTATE 53100\)\. The server's disk is full\. Free space and run again",
        ),
        # Which of the two depends on whether we were writing or waiting.
        (KILLED, r"terminating connection due to administrator command|the connection is lost"),
    ],
    ids=["disk full", "connection killed"],
)
def test_a_failure_in_the_middle_leaves_nothing_and_a_rerun_works(
    database: Database, folder: Path, body: str, said: str, where: str
) -> None:
    load(database, write_files(folder, MINIMAL))
    before = contents(database)
    write_files(folder, CHANGED)
    with trouble(database, body, where), pytest.raises(UserError) as failed:
        load_engagements(database, FolderSource(folder))
    assert re.match(f"Loading engagements from engagements.csv: the database said: .*({said})", str(failed.value))
    assert "\n" not in str(failed.value)
    assert contents(database) == before
    assert outcomes(database, "engagements") == ["merged"]
    result = load_engagements(database, FolderSource(folder))
    assert result is not None
    assert (result.inserted, result.updated) == (2_000, 1)
    assert working_tables(database) == []


def load_engagements(database: Database, source: FolderSource) -> LoadResult | None:
    return load_entity(database, ENGAGEMENTS, source, SourceMapping(), settings=read_settings({}))


def test_a_disk_that_fills_is_one_line_on_the_command_line(
    database: Database, folder: Path, tmp_path: Path, new_database_url: str, dagster_url: str
) -> None:
    with trouble(database, DISK_FULL, "merging"):
        done = run_job(new_database_url, write_files(folder, CHANGED), tmp_path, DAGSTER_PG_URL=dagster_url)
    assert_one_line(done, "Loading engagements", "The server's disk is full")
    assert keys(database, "engagements") == []


class WaitingFolder(FolderSource):
    """A folder whose file has been read, and whose load then waits for somebody."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.has_read = threading.Event()
        self.goes_on = threading.Event()

    @contextmanager
    def open(self, entity: Entity, mapping: EntityMapping) -> Iterator[Rows | None]:
        with super().open(entity, mapping) as opened:
            assert opened is not None
            all_blocks = opened.blocks

            def blocks() -> Iterator[bytes]:
                yield from all_blocks()
                self.has_read.set()
                assert self.goes_on.wait(60)

            opened.blocks = blocks  # type: ignore[method-assign]
            yield opened


def test_two_loads_at_once_leave_what_one_after_the_other_leaves(database: Database, folder: Path) -> None:
    load(database, write_files(folder, MINIMAL))
    write_files(folder, CHANGED)
    slow = WaitingFolder(folder)
    results: list[LoadResult | None] = []
    thread = threading.Thread(target=lambda: results.append(load_engagements(database, slow)))
    thread.start()
    assert slow.has_read.wait(60)
    quick = load_engagements(database, FolderSource(folder))
    slow.goes_on.set()
    thread.join(60)
    assert quick is not None
    assert (quick.inserted, quick.updated) == (2_000, 1)
    assert results[0] is not None
    assert (results[0].unchanged, results[0].inserted, results[0].updated) == (2_001, 0, 0)
    assert working_tables(database) == []


# The same from everywhere

OURS: Tables = {
    "users": [
        {"id": "u1", "name": "Ann", "timezone": "Europe/Oslo"},
        {"id": "u2", "name": "Ben", "timezone": "Mars/Olympus"},
    ],
    "dossiers": [
        {"id": "d1", "name": "Sweden", "type": "country", "region": "Europe", "created_at": "2020-01-01"},
        {"id": "d2", "name": "Norway, \"North\"", "type": "country", "region": "", "created_at": ""},
        {"id": "d3", "name": "Iceland", "type": "country", "region": "Europe", "created_at": ""},
    ],
    "engagements": [
        {"id": f"e{number}", "dossier_id": f"d{number % 4 + 1}", "occurred_at": f"2025-0{number % 6 + 1}-10 09:00"}
        for number in range(16)
    ],
    "commitments": [
        {"id": "c1", "dossier_id": "d1", "status": "pending", "due_date": "2025-06-30"},
        {"id": "c2", "dossier_id": "d1", "status": "completed", "due_date": "2025-07-01"},
        {"id": "c3", "dossier_id": "d2", "status": "Completed", "due_date": ""},
        {"id": "c4", "dossier_id": "d2", "status": "lost", "due_date": "2025-06-30"},
    ],
    "documents": [{"id": "f1", "dossier_id": "d1", "type": "pdf"}],
}  # fmt: skip


# Sweden: round(0.3 x 8 + 0.4 x 50 + 0.3 x 70) = 43; Norway: round(0.3 x 8 + 0.4 x 100 + 0.3 x 100) = 72.
# Set aside: Ben, the four engagements of a dossier that is not there, and the lost commitment.
EXPECTED = {
    "tenant": "default",
    "as_of": "2025-07-01T00:00:00+03:00",
    "dossiers": 3,
    "engagements": 12,
    "commitments": 3,
    "documents": 1,
    "users": 1,
    "rejected_rows": 6,
    "scored": 2,
    "insufficient_data": 1,
    "overdue_commitments": 1,
    "notifications": 0,
    "average_score": 57.5,
    "bands": {"excellent": 0, "good": 1, "fair": 1, "poor": 0},
}


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_the_command_line_gives_the_same_result_for_every_kind_of_source(
    folder: Path, tmp_path: Path, server_url: str, empty_database_url: str, dagster_url: str, kind: str
) -> None:
    with published(kind, OURS, folder=folder, server_url=server_url) as source:
        done = run_job(empty_database_url, source, tmp_path, DAGSTER_PG_URL=dagster_url)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("run_id")
    assert result.pop("seconds") > 0
    assert result == EXPECTED


def test_the_key_of_an_api_stays_out_of_output_and_databases(
    tmp_path: Path, database: Database, new_database_url: str, dagster_url: str
) -> None:
    with RestServer(OURS, api_key="s3cret-key") as server:
        refused = run_job(
            new_database_url, server.url, tmp_path, DAGSTER_PG_URL=dagster_url, DOSSIER_SOURCE_API_KEY="s3cret-typo"
        )
        done = run_job(
            new_database_url, server.url, tmp_path, DAGSTER_PG_URL=dagster_url, DOSSIER_SOURCE_API_KEY="s3cret-key"
        )
    assert_one_line(refused, "the server refused the key (401). Set DOSSIER_SOURCE_API_KEY.")
    assert done.returncode == 0
    assert scalar(database, "SELECT count(*) FROM raw.dossiers") == 3
    kept = [dump(url) for url in (new_database_url, dagster_url.replace(DAGSTER_DRIVER, "postgresql"))]
    assert "Iceland" in kept[0]
    assert "refused the key" in kept[1]
    for text in (done.stdout, done.stderr, *kept):
        assert "s3cret" not in text
    assert rows(database, "SELECT DISTINCT source FROM ingestion.loads WHERE entity = 'users'") == [("users",)]


def dump(url: str) -> str:
    """Return a whole database as text."""
    done = subprocess.run(
        [str(binary("pg_dump")), "--data-only", "--inserts", url], capture_output=True, text=True, check=True
    )
    return done.stdout
