"""The way to a server: any real one that is new enough; whatever is wrong with it is said, and never the password."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from dossier_pipelines.shared import database as database_module
from dossier_pipelines.shared.database import (
    Database,
    create_database,
    database_url,
    libpq_environment,
    require_supported,
    statement,
)
from dossier_pipelines.shared.deployment import running
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres, binary
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import DatabaseUnavailableError
from dossier_pipelines_tests.processes import free_port, server_folder

PASSWORD = "gehe!m"
IN_URL = "gehe%21m"
OLD_SERVER = Path("/usr/lib/postgresql/15/bin")


def open_and_check(url: str) -> None:
    """What every command does first."""
    with running(read_settings({"DOSSIER_DATABASE_URL": url})):
        pass


def refusal(action: Callable[[], object]) -> str:
    """The message, after a look for the password in all that --verbose would show."""
    with pytest.raises(DatabaseUnavailableError) as caught:
        action()
    error: BaseException | None = caught.value
    while error is not None:
        assert "gehe" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return str(caught.value)


@dataclass
class Server:
    """A server on a TCP port that asks for passwords, as a production server does."""

    port: int
    superuser_url: str

    def url(self, user: str, database: str, *, password: str = IN_URL) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: sql.SQL | sql.Composed | str, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.superuser_url, dbname=database, autocommit=True) as connection:
            for text in statements:
                cursor = connection.execute(text)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def databases(self) -> set[object]:
        return {row[0] for row in self.run("SELECT datname FROM pg_database")}


def as_server_account() -> dict[str, str]:
    return {"user": "pgserver"} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def server_directory() -> Iterator[Path]:
    with server_folder() as folder:
        yield folder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder where a server may live."""
    with server_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def server(server_directory: Path) -> Iterator[Server]:
    embedded = EmbeddedPostgres(server_directory / "data")
    embedded.start()
    embedded.release()
    (embedded.cluster / "pg_hba.conf").write_text(
        "local all postgres trust\nhost all worker,owner,maker 127.0.0.1/32 scram-sha-256\n", encoding="ascii"
    )
    port = free_port()
    control = [str(binary("pg_ctl")), "-w", "-D", str(embedded.cluster)]
    options = f"-c port={port} -c listen_addresses=127.0.0.1"
    subprocess.run(
        [*control, "start", "-l", str(embedded.log_file), "-o", options],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        **as_server_account(),
    )
    started = Server(port, f"host='{embedded.socket_directory}' port={port} user=postgres")
    started.run(
        *(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), PASSWORD)
            for name in ("worker", "owner", "maker")
        ),
        "ALTER ROLE maker CREATEDB",
        "CREATE DATABASE owned OWNER owner",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        # On many production servers only administrators may enter this one.
        "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
        "GRANT CONNECT ON DATABASE postgres TO maker",
    )
    yield started
    subprocess.run([*control, "stop", "-m", "fast"], check=True, stdout=subprocess.DEVNULL, **as_server_account())


# What is written in DOSSIER_DATABASE_URL


@pytest.mark.parametrize(
    "url",
    [
        "geheim",
        "host=localhost password=geheim",
        "postgresql://worker:geheim@localhost:port/dossier",
        "postgresql://worker:x@geheim@localhost:5432/dossier",
        "postgresql://worker:geheim@[::1/dossier",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_with_an_example(url: str) -> None:
    said = refusal(lambda: open_and_check(url))
    assert "DOSSIER_DATABASE_URL" in said
    assert "postgresql://user:password@host:5432/dossier" in said


def test_a_url_of_another_database_system_is_refused_by_its_name() -> None:
    said = refusal(lambda: open_and_check("mysql://worker:geheim@localhost/dossier"))
    assert said == "DOSSIER_DATABASE_URL names mysql; this project needs PostgreSQL 16 or newer."


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_the_driver_is_ours_whatever_the_url_names(server: Server, scheme: str) -> None:
    url = server.url("owner", "owned").replace("postgresql", scheme)
    open_and_check(url)
    assert create_database(url).engine.dialect.driver == "psycopg"


# Servers that cannot be used


def test_a_server_older_than_supported_is_refused(new_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "OLDEST_VERSION", 99)
    said = refusal(lambda: open_and_check(new_database_url))
    assert "needs 99 or newer" in said
    assert "Upgrade it, or unset DOSSIER_DATABASE_URL" in said


@pytest.mark.skipif(not OLD_SERVER.exists(), reason="PostgreSQL 15 is not installed here")
def test_postgresql_15_is_refused(tmp_path: Path) -> None:
    # Socket and data where the server's account can go.
    tmp_path.chmod(0o777)
    making = EmbeddedPostgres(tmp_path / "any")
    making.start()
    making.release()
    data = tmp_path / "old"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(data, "pgserver")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **as_server_account()}
    subprocess.run([OLD_SERVER / "initdb", "-D", data, "-U", "postgres", "--auth=trust"], **quiet)
    control = [str(OLD_SERVER / "pg_ctl"), "-w", "-D", str(data), "-l", str(data / "log")]
    port = free_port()
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    subprocess.run([*control, "start", "-o", options], **quiet)
    try:
        said = refusal(lambda: open_and_check(f"postgresql://postgres@127.0.0.1:{port}/dossier"))
        assert said.startswith("The server is PostgreSQL 15; this project needs 16 or newer")
    finally:
        subprocess.run([*control, "stop", "-m", "fast"], **quiet)


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    port = free_port()
    said = refusal(lambda: open_and_check(f"postgresql://worker:geheim@127.0.0.1:{port}/dossier"))
    assert str(port) in said
    assert "The server cannot be reached. Check that it runs and that DOSSIER_DATABASE_URL names it." in said
    assert "\n" not in said


def test_a_host_that_does_not_exist_is_named() -> None:
    said = refusal(lambda: open_and_check("postgresql://worker:geheim@nowhere.invalid/dossier"))
    assert "nowhere.invalid" in said
    assert "cannot be reached" in said


def test_a_host_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = refusal(lambda: open_and_check(f"postgresql://worker:geheim@127.0.0.1:{port}/dossier?connect_timeout=2"))
    assert "cannot be reached" in said


# Servers that refuse us


def test_a_wrong_password_is_called_that(server: Server) -> None:
    said = refusal(lambda: open_and_check(server.url("worker", "owned", password="gehext")))
    assert "The server refused the password. Check the credentials in DOSSIER_DATABASE_URL." in said
    assert "cannot be reached" not in said


def test_a_user_whom_the_server_does_not_know_is_called_that(server: Server) -> None:
    said = refusal(lambda: open_and_check(server.url("stranger", "owned")))
    assert "The server refused this user." in said


def test_a_database_that_refuses_the_user_is_called_that(server: Server) -> None:
    said = refusal(lambda: open_and_check(server.url("worker", "closed")))
    assert "lacks a privilege" in said


# The database on the server


def test_a_missing_database_is_created(server: Server) -> None:
    for name in ("made", "Odd-näme: 100% \"quoted\" 'x'"):
        url = database_url(server.url("maker", "x"), database=name).render_as_string(hide_password=False)
        open_and_check(url)
        assert name in server.databases()
        open_and_check(url)


def test_two_processes_that_create_the_database_at_once_both_get_it(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_and_check, [server.url("maker", "made_at_once")] * 4))
    assert "made_at_once" in server.databases()


def test_a_user_without_a_right_to_the_maintenance_database_uses_a_database_of_its_own(server: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(server.url("owner", "postgres"))
    open_and_check(server.url("owner", "owned"))


def test_a_missing_database_that_the_user_may_not_create_is_named(server: Server) -> None:
    said = refusal(lambda: open_and_check(server.url("owner", "missing")))
    assert 'database "missing" does not exist' in said
    assert "Create it, or correct DOSSIER_DATABASE_URL." in said
    server.run("GRANT CONNECT ON DATABASE postgres TO worker")
    said = refusal(lambda: open_and_check(server.url("worker", "missing")))
    assert "Creating the database 'missing', which does not exist" in said
    assert "permission denied to create database" in said


class GermanServer(socketserver.BaseRequestHandler):
    """Refuses every connection, in words that nobody here knows."""

    def handle(self) -> None:
        fields = ("SFATAL", "VFATAL", "CXX000", "MDie Datenbank »dossier« gibt es nicht")
        body = b"".join(field.encode() + b"\0" for field in fields) + b"\0"
        while asked := self.request.recv(4096):
            # A request for encryption (GSS or TLS) has 8 bytes, and N says no.
            if len(asked) > 8:
                self.request.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)
                return
            self.request.sendall(b"N")


def test_a_refusal_in_another_language_is_passed_on_as_a_refusal() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), GermanServer) as german:
        threading.Thread(target=german.serve_forever, daemon=True).start()
        port = german.server_address[1]
        said = refusal(lambda: open_and_check(f"postgresql://worker:geheim@127.0.0.1:{port}/dossier"))
        german.shutdown()
    assert "Die Datenbank »dossier« gibt es nicht" in said
    assert "The server refused us. Check the user and the database in DOSSIER_DATABASE_URL." in said


# Sessions


def test_a_session_computes_in_utc_whatever_the_server_and_the_url_say(server: Server) -> None:
    server.run("ALTER DATABASE owned SET timezone = 'Asia/Riyadh'", "ALTER ROLE owner SET timezone = 'Asia/Tokyo'")
    url = server.url("owner", "owned") + "?options=-c%20timezone%3DEurope%2FParis%20-c%20statement_timeout%3D12345"
    database = create_database(url)
    with database.transaction() as connection:
        assert connection.execute(sa.text("SHOW timezone")).scalar() == "UTC"
        # What else the URL asks for is kept.
        assert connection.execute(sa.text("SHOW statement_timeout")).scalar() == "12345ms"
    database.engine.dispose()


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def fail_half_way() -> None:
        with database.transaction() as connection:
            connection.execute(sa.text("INSERT INTO platform.tenants VALUES ('t', 'UTC')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.transaction() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM platform.tenants")).scalar() == 0


def test_a_server_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    embedded = EmbeddedPostgres(tmp_path / "data")
    embedded.start()
    database = create_database(embedded.url("postgres"))
    require_supported(database)
    embedded.release()
    embedded.start()
    require_supported(database)
    database.engine.dispose()
    embedded.release()


def test_a_statement_file_takes_its_binds_from_code_and_not_from_prose() -> None:
    text = statement("dossier_pipelines.commands", "run_result")
    assert set(text.compile().params) == {"tenant_id", "run_id", "as_of"}


def test_psql_is_pointed_at_the_server_of_a_url_by_its_environment(server: Server) -> None:
    url = database_url(server.url("owner", "owned") + "?sslmode=disable&application_name=ours")
    variables = libpq_environment(url)
    assert variables["PGSSLMODE"] == "disable"
    said = subprocess.run(
        [binary("psql"), "-XAtc", "SELECT current_user, current_database(), inet_server_port()"],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == f"owner|owned|{server.port}"
