"""Real processes for tests: the command line, conditions to wait for, what is left of a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAM = Path(sys.executable).with_name("dossier-pipelines")
# Far above what anything takes here: it bounds a test that hangs, and measures nothing.
PATIENCE_SECONDS = 120.0

# What another process does with the server of argv[1]: it holds it until it is told to go, or killed.
HOLD = """
import sys
from pathlib import Path
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
try:
    server.start()
    print("holds", flush=True)
    sys.stdin.readline()
finally:
    server.release()
"""


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Return the first true answer of ``condition``; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"This never came true: {what}."
        time.sleep(0.05)


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without any setting of ours, plus ``settings``."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DOSSIER_", "DAGSTER_", "PG"))}
    return {**inherited, **(settings or {})}


def start(
    *arguments: str, log: Path, settings: Mapping[str, str] | None = None, in_background: bool = False
) -> subprocess.Popen[bytes]:
    """Start `dossier-pipelines` as a terminal does, in a process group of its own; what it says goes to ``log``.

    ``in_background``: as a script does with ``&``, where the shell has it ignore Ctrl-C.
    """
    with log.open("ab") as said:
        return subprocess.Popen(
            [str(PROGRAM), *arguments],
            cwd=CHECKOUT,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=ignore_interrupts if in_background else heed_interrupts,
        )


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from here on, and in all that is started from here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def heed_interrupts() -> None:
    """Heed Ctrl-C, whatever the tests were started with."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def call(
    *arguments: str, folder: Path = CHECKOUT, settings: Mapping[str, str] | None = None, answer: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `dossier-pipelines` to its end; ``answer`` is what a person types."""
    return subprocess.run(
        [str(PROGRAM), *arguments],
        cwd=folder,
        env=environment(settings),
        input=answer,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on ``port``."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started, directly or not."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; one that only waits to be reaped does not."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def server_folder() -> Iterator[Path]:
    """Make a folder for a server, and remove it.

    Not pytest's own temporary directory: each session that starts there as root closes it to other accounts, and
    PostgreSQL, which does not run as root, would lose its files.
    """
    with tempfile.TemporaryDirectory(prefix="dossier-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def another_user(
    directory: Path, settings: Mapping[str, str] | None = None, *, killed: bool = False
) -> Iterator[EmbeddedPostgres]:
    """Let another process hold the embedded server of ``directory``; at the end it lets go, or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        cwd=CHECKOUT,
        env=environment(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield EmbeddedPostgres(directory)
    finally:
        if killed:
            process.kill()
        process.communicate("go\n")
