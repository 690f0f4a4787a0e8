"""The embedded server: it starts whatever was left behind, keeps what was committed, and ends with its last user."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres, binary
from dossier_pipelines.shared.failures import DatabaseUnavailableError
from dossier_pipelines_tests.processes import (
    CHECKOUT,
    HOLD,
    alive,
    another_user,
    environment,
    family,
    heed_interrupts,
    server_folder,
    wait_until,
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder where a server may live."""
    with server_folder() as folder:
        yield folder


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose server, if a test left one, is stopped afterwards."""
    path = tmp_path / "data"
    yield path
    EmbeddedPostgres(path).stop()


def connect(server: EmbeddedPostgres) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(server.url("postgres"), autocommit=True)


def answers(server: EmbeddedPostgres) -> bool:
    try:
        connect(server).close()
    except psycopg.OperationalError:
        return False
    return True


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server.cluster / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])


def server_processes(server: EmbeddedPostgres) -> list[psutil.Process]:
    return family(postmaster(server))


def is_locked(file: Path) -> bool:
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def used(directory: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory)
    server.start()
    try:
        yield server
    finally:
        server.release()


def as_server_account() -> dict[str, str]:
    """How to start a program as the account that the server runs as."""
    return {"user": "pgserver"} if os.geteuid() == 0 else {}


# Starting, sharing, stopping


def test_an_empty_directory_becomes_a_server_and_keeps_its_data_until_the_next_start(directory: Path) -> None:
    with used(directory) as server, connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert not answers(server)
    with used(directory) as server, connect(server) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_the_server_listens_on_no_port(directory: Path) -> None:
    with used(directory) as server, connect(server) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert not [c for p in server_processes(server) for c in p.net_connections("tcp")]


def test_users_in_one_process_share_the_server_and_the_last_stops_it(directory: Path) -> None:
    with used(directory) as first:
        with used(directory) as second:
            assert postmaster(first) == postmaster(second)
        assert answers(first)
    assert not answers(first)


def test_starting_twice_and_releasing_twice_is_harmless(directory: Path) -> None:
    with used(directory) as server:
        server.start()
        assert answers(server)
    server.release()
    assert not answers(server)


def test_processes_share_the_server_and_the_last_stops_it(directory: Path) -> None:
    with another_user(directory) as server:
        with used(directory):
            pass
        assert answers(server)
    assert not answers(server)


def test_processes_that_start_at_once_end_up_on_one_server(directory: Path) -> None:
    servers = [EmbeddedPostgres(directory) for _ in range(4)]
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(EmbeddedPostgres.start, servers))
    assert {postmaster(server) for server in servers} == {postmaster(servers[0])}
    for server in servers:
        assert answers(servers[0])
        server.release()
    assert not answers(servers[0])


def test_a_killed_user_leaves_no_lock_and_the_next_one_stops_the_server(directory: Path) -> None:
    with another_user(directory, killed=True) as server:
        pass
    assert answers(server)
    with used(directory):
        assert answers(server)
    assert not answers(server)


def test_a_server_that_shall_stay_stays_after_its_last_user_until_it_is_stopped(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    server.release(keep_running=True)
    with used(directory):
        pass
    assert answers(server)
    assert server.stop()
    assert not answers(server)
    with used(directory):
        pass
    assert not answers(server)


def test_stopping_what_does_not_run_is_harmless(directory: Path) -> None:
    assert not EmbeddedPostgres(directory).stop()
    assert not directory.exists()
    with used(directory):
        pass
    assert not EmbeddedPostgres(directory).stop()


def test_two_directories_have_two_servers(tmp_path: Path) -> None:
    with used(tmp_path / "one") as one, used(tmp_path / "two") as two:
        assert postmaster(one) != postmaster(two)
        with connect(one) as connection:
            connection.execute("CREATE TABLE only_here ()")
        with connect(two) as connection:
            assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


# Crashes


def test_what_was_committed_survives_kill_9_of_the_whole_server_in_the_middle_of_writes(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    committed: list[int] = []

    def write() -> None:
        with contextlib.suppress(psycopg.OperationalError), connect(server) as connection:
            for number in range(1_000_000):
                connection.execute("INSERT INTO written VALUES (%s)", [number])
                committed.append(number)

    with connect(server) as connection:
        connection.execute("CREATE TABLE written (number int)")
    unfinished = psycopg.connect(server.url("postgres"))
    unfinished.execute("INSERT INTO written VALUES (-1)")
    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(committed) > 200, "200 rows are committed")
    processes = server_processes(server)
    for process in processes:
        process.kill()
    writer.join()
    unfinished.close()
    psutil.wait_procs(processes)

    with used(directory), connect(server) as connection:
        kept = [row[0] for row in connection.execute("SELECT number FROM written ORDER BY number")]
    # The last statement may have been committed without our hearing of it.
    assert kept[: len(committed)] == committed
    assert len(kept) - len(committed) in {0, 1}
    server.release()


def test_a_start_waits_for_the_children_of_a_killed_postmaster(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        # A process that does not notice that its parent is gone, as one that computes does not.
        [child] = [p for p in server_processes(server) if "checkpointer" in " ".join(p.cmdline())]
        child.suspend()
        first = psutil.Process(postmaster(server))
        first.kill()
    wait_until(lambda: not alive([first]), "the postmaster is gone")
    with ThreadPoolExecutor(1) as pool:
        again = EmbeddedPostgres(directory)
        starting = pool.submit(again.start)
        wait_until(lambda: starting.running() and is_locked(directory / "starting.lock"), "the other one starts")
        assert not starting.done()
        child.kill()
        starting.result()
    with connect(again) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    again.release()
    server.release()


def test_a_start_waits_for_a_server_that_still_recovers(directory: Path, tmp_path: Path) -> None:
    with used(directory) as server:
        pass
    # An archive that answers only when the test says so holds recovery where a long log would.
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    with (server.cluster / "postgresql.auto.conf").open("a", encoding="utf-8") as handle:
        handle.write(f'restore_command = \'touch "{asked}"; while [ ! -e "{answered}" ]; do sleep 0.1; done; false\'\n')
    (server.cluster / "recovery.signal").touch()
    # The server writes into it, and may be another account.
    tmp_path.chmod(0o777)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(EmbeddedPostgres(directory).start)
        wait_until(asked.exists, "recovery asked for a file of the log")
        assert not first.done()
        answered.touch()
        first.result()
    assert answers(server)
    EmbeddedPostgres(directory).stop()


def test_a_process_id_that_another_program_has_by_now_does_not_keep_the_server_from_starting(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    first = postmaster(server)
    processes = server_processes(server)
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)
    stranger = subprocess.Popen(["/bin/sleep", "600"], **as_server_account())
    try:
        for file in (server.cluster / "postmaster.pid", server.socket_directory / ".s.PGSQL.5432.lock"):
            file.write_text(
                file.read_text(encoding="ascii").replace(str(first), str(stranger.pid), 1), encoding="ascii"
            )
        assert not server.stop()
        with used(directory):
            assert answers(server)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    server.release()


def test_a_server_that_somebody_started_by_hand_is_joined(directory: Path) -> None:
    with used(directory) as server:
        pass
    by_hand = [str(binary("pg_ctl")), "start", "-w", "-D", str(server.cluster), "-l", str(server.log_file)]
    subprocess.run(by_hand, check=True, stdout=subprocess.DEVNULL, cwd="/", **as_server_account())
    started = postmaster(server)
    with used(directory):
        assert postmaster(server) == started
    assert not answers(server)


def test_an_interrupted_set_up_is_done_again(directory: Path) -> None:
    half = directory / "postgres.making"
    (half / "base").mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n", encoding="ascii")
    (directory / "postgres").mkdir()
    with used(directory) as server:
        assert answers(server)
    assert not half.exists()


# Where it lives


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a folder, with 'quotes' and \"more\"", id="quotes"),
        pytest.param("back\\slash $HOME `id` 100%", id="shell"),
        pytest.param("dossié 文件", id="unicode"),
        pytest.param("it's a very long name " * 10, id="far too long for a socket"),
    ],
)
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    with used(directory) as server:
        assert answers(server)
    assert not answers(server)
    assert (directory / "postgres" / "PG_VERSION").exists()
    # Nothing is left where the data is not.
    assert server.socket_directory.parent == directory or not server.socket_directory.exists()


def test_a_path_too_long_for_a_socket_is_found_by_processes_with_another_tmpdir(tmp_path: Path) -> None:
    directory = tmp_path / ("long " * 30)
    other = {**environment(), "TMPDIR": str(tmp_path)}
    with used(directory):
        program = "import sys; from pathlib import Path; from dossier_pipelines.shared.embedded_postgres import *;"
        program += "print(EmbeddedPostgres(Path(sys.argv[1])).url())"
        said = subprocess.check_output([sys.executable, "-c", program, str(directory)], env=other, text=True)
    assert said.strip() == EmbeddedPostgres(directory).url()


def test_nobody_else_can_enter_the_socket_directory(tmp_path: Path) -> None:
    for directory in (tmp_path / "short", tmp_path / ("long " * 30)):
        sockets = EmbeddedPostgres(directory).socket_directory
        sockets.mkdir(parents=True, exist_ok=True)
        sockets.chmod(0o777)
        with used(directory):
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lets another account run the server")
def test_as_root_the_server_runs_as_another_account_and_only_a_way_through_is_opened_for_it() -> None:
    with tempfile.TemporaryDirectory() as private:
        directory = Path(private) / "data"
        assert stat.S_IMODE(Path(private).stat().st_mode) == 0o700
        with used(directory) as server:
            assert 0 not in psutil.Process(postmaster(server)).uids()
            assert answers(server)
        assert stat.S_IMODE(Path(private).stat().st_mode) == 0o711


AS_NOBODY = """
import os, sys
from pathlib import Path
import psutil, psycopg
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres, binary
binary("psql")  # the wheel is imported while its folder can be read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
pid = int((server.cluster / "postmaster.pid").read_text().split()[0])
assert psutil.Process(pid).uids().real == os.geteuid() != 0
with psycopg.connect(server.url("postgres")) as connection:
    print(connection.execute("SELECT 'it works'").fetchone()[0])
server.release()
"""


def test_without_root_the_server_runs_as_the_user() -> None:
    # Not under tmp_path: pytest keeps that to the user who runs the tests.
    with tempfile.TemporaryDirectory() as own:
        if os.geteuid() == 0:
            os.chown(own, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"{own}/data"],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
    assert (done.stdout, done.returncode) == ("it works\n", 0), done.stderr


# What it says when it cannot


def refusal(directory: Path) -> str:
    with pytest.raises(DatabaseUnavailableError) as caught:
        EmbeddedPostgres(directory).start()
    return str(caught.value)


def test_a_start_that_fails_shows_the_end_of_the_log(directory: Path) -> None:
    with used(directory) as server:
        pass
    with (server.cluster / "postgresql.conf").open("a", encoding="utf-8") as handle:
        handle.write("max_connections = many\n")
    said = refusal(directory)
    assert 'invalid value for parameter "max_connections": "many"' in said
    assert str(directory) in said


def test_a_folder_of_somebody_elses_in_the_place_of_the_database_is_left_alone(directory: Path) -> None:
    theirs = directory / "postgres" / "letters.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("not ours", encoding="utf-8")
    said = refusal(directory)
    assert str(theirs.parent) in said
    assert "--data-dir" in said
    assert theirs.read_text(encoding="utf-8") == "not ours"


def test_a_data_directory_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory in (file, file / "data"):
        said = refusal(directory)
        assert str(directory) in said
        assert "--data-dir" in said


def test_a_damaged_database_directory_is_refused_by_name(directory: Path) -> None:
    with used(directory) as server:
        pass
    (server.cluster / "postgresql.conf").unlink()
    assert "postgresql.conf" in refusal(directory)


def test_no_program_of_the_server_heeds_the_libpq_settings_of_the_user(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGSERVICE": "nowhere", "PGHOST": "nowhere", "PGDATA": "/nowhere", "PGPORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with used(directory) as server:
        monkeypatch.undo()
        assert answers(server)
        with used(directory):
            pass
        assert answers(server)


def test_an_interrupt_while_the_server_starts_leaves_none_behind(directory: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Starting PostgreSQL")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert not answers(EmbeddedPostgres(directory))
    assert not (directory / "postgres" / "postmaster.pid").exists()
    with used(directory) as server:
        assert answers(server)


def test_a_directory_that_is_gone_is_made_anew(directory: Path) -> None:
    with used(directory):
        pass
    shutil.rmtree(directory)
    with used(directory) as server:
        assert answers(server)
