"""`dossier-pipelines up`: database, sample, code server, daemon and UI, until Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import sqlalchemy as sa

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.commands.litigation import bring_in
from dossier_pipelines.commands.run import execute, result_document, summary
from dossier_pipelines.dossiers.health_formula import read_health_config
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared.deployment import Deployment, prepare_dagster, project_file, running
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError

HOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Dagster gives each of its processes a minute; nobody waits so long for Ctrl-C.
STOP_SECONDS = 20
# What is left when Dagster has ended is given so long to end in order. A code server that is asked while it is ending
# already may never end (seen with Dagster 1.13).
REST_SECONDS = 10


def serve(settings: Settings, *, port: int) -> None:
    """Serve the UI on 127.0.0.1 with schedules and sensors, until SIGINT or SIGTERM.

    A tenant without records is loaded from the configured source first, the sample by default.
    """
    read_health_config(settings.health_config)
    _require_free(port)
    with running(settings) as deployment:
        bring_up_to_date(deployment)
        prepare_dagster(deployment)
        source = configured_source(settings)
        if _is_empty(deployment, source.settings.tenant_id):
            print("Loading the source and computing the scores", file=sys.stderr, flush=True)
            run_id = execute(deployment, tenant_id=source.settings.tenant_id, as_of=None, verbose=False)
            document = result_document(deployment.database, tenant_id=source.settings.tenant_id, run_id=run_id)
            print(summary({**document, "seconds": "-"}).replace(", in - s", ""), file=sys.stderr, flush=True)
        elif settings.source is not None:
            print(
                f"Tenant {source.settings.tenant_id} holds records already; load_records loads the source again every "
                f"{settings.load_interval_minutes} minutes.",
                file=sys.stderr,
            )
        bring_in(deployment, settings, verbose=False, only_if_empty=True)
        deployment.database.engine.dispose()
        print(f"Starting Dagster; the UI will be on http://{HOST}:{port}. Ctrl-C stops everything.", file=sys.stderr)
        _run_dagster(port)


def _is_empty(deployment: Deployment, tenant_id: str) -> bool:
    with deployment.database.engine.connect() as connection:
        return not connection.execute(
            sa.text("SELECT EXISTS (SELECT FROM raw.dossiers WHERE tenant_id = :tenant_id)"), {"tenant_id": tenant_id}
        ).scalar_one()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"Port {port} is in use, perhaps by another `make up`. Stop that, or name another with --port "
                "(make up PORT=3001)."
            ) from error


def _prepare_child() -> None:
    """Ask Linux to end this process when its parent is killed, so that kill -9 leaves no orphan on the port.

    A shell starts what it puts into the background with Ctrl-C ignored; Dagster then ignores every request to stop.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _adopt_orphans() -> None:
    """Ask Linux to make what Dagster leaves behind our children: init may be a program that never reaps them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _run_dagster(port: int) -> None:
    _adopt_orphans()
    program = Path(sys.executable).with_name("dagster")
    command = [
        str(program) if program.exists() else shutil.which("dagster") or "dagster",
        *("dev", "-w", str(project_file("workspace.yaml")), "-h", HOST, "-p", str(port)),
    ]
    # In a process group of its own: Ctrl-C reaches us alone, and we stop it once, in order.
    child = subprocess.Popen(command, env=os.environ, start_new_session=True, preexec_fn=_prepare_child)
    asked_to_stop = False

    def pass_on(number: int, _frame: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        if child.poll() is None:
            child.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            signal.alarm(STOP_SECONDS)

    def kill_group(_number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    handlers = {signal.SIGINT: pass_on, signal.SIGTERM: pass_on, signal.SIGALRM: kill_group}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        code = child.wait()
    finally:
        signal.alarm(0)
        end_rest(child.pid)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if not asked_to_stop:
        raise UserError(f"Dagster ended by itself with code {code}; its last lines above say why.")


def end_rest(group: int) -> None:
    """End what a leader left in its process group: in order, or else after `REST_SECONDS`.

    Code servers stay for the runs that are at work, and these end in order only while they reach the database: without
    it they try for minutes. So it is stopped after them.
    """
    deadline = time.monotonic() + REST_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            _reap(group)
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    _reap(group)


def _reap(group: int) -> None:
    """Take note of our children in a process group that have ended: until then they count as its members."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG) != (0, 0):
            pass
