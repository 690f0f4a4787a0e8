"""Launching: jobs as a deployment's schedules start them. A tick, the queue, a process of the run's own, its end.

Dagster's storage is PostgreSQL, and its daemon a process of its own, with the settings that the project ships.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg

from benchmarks.litigating import NOW, fill_as_the_original
from dossier_pipelines.definitions import build_defs

if TYPE_CHECKING:
    from dossier_pipelines.shared.database import Database

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PROGRAMS: Final = Path(sys.executable).parent
SCHEDULES: Final = {
    "check_sla_and_overdue_job": "check_sla_and_overdue",
    "send_hearing_reminders_job": "send_hearing_reminders",
    "analytics_snapshot_job": "analytics_snapshot",
    "check_upcoming_deadlines_job": "check_upcoming_deadlines",
    "automation_health_check_job": "check_automation_health",
}
# Brings the code server up before anything is measured.
WARM_UP: Final = "restate_metrics_job"
PATIENCE_SECONDS: Final = 300.0


@contextmanager
def deployment(url: str, dagster_url: str, home: Path) -> Iterator[dg.DagsterInstance]:
    """Yield the instance of a deployment in ``home`` whose daemon runs, with every schedule off."""
    home.mkdir(parents=True)
    shutil.copy(CHECKOUT / "dagster.yaml", home)
    settings = {
        "DOSSIER_DATABASE_URL": url,
        "DAGSTER_PG_URL": dagster_url,
        "DAGSTER_HOME": str(home),
        "ENABLE_SCHEDULED_JOBS": "false",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    with (home / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [PROGRAMS / "dagster-daemon", "run", "-w", "workspace.yaml"],
            cwd=CHECKOUT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        daemon.terminate()
        daemon.wait()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def tick(database: Database, instance: dg.DagsterInstance, schedule: str, at: datetime) -> dg.RunRequest:
    """Return what the schedule asks for at that moment; RuntimeError when it skips."""
    repository = build_defs({"database": database}).get_repository_def()
    with dg.build_schedule_context(
        instance=instance, repository_def=repository, scheduled_execution_time=at, resources={"database": database}
    ) as context:
        decided = repository.get_schedule_def(schedule).evaluate_tick(context)
    if not decided.run_requests:
        raise RuntimeError(f"{schedule} skipped: {decided.skip_message}")
    return decided.run_requests[-1]


def launch(instance: dg.DagsterInstance, job: str, request: dg.RunRequest | None = None) -> tuple[float, float]:
    """Return the seconds from queueing the run to its end, and those of the run itself."""
    tags = dict(request.tags) if request else {}
    if request and request.partition_key:
        tags["dagster/partition"] = request.partition_key
    since = datetime.now(UTC)
    done = subprocess.run(
        [PROGRAMS / "dagster", "job", "launch", "-w", "workspace.yaml", "-j", job, "--tags", json.dumps(tags)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        record = instance.get_run_records(dg.RunsFilter(job_name=job, created_after=since), limit=1)[0]
        if record.dagster_run.is_finished:
            if not record.dagster_run.is_success or record.end_time is None or record.start_time is None:
                raise RuntimeError(f"{job} ended as {record.dagster_run.status}")
            return record.end_time - record.create_timestamp.timestamp(), record.end_time - record.start_time
        time.sleep(0.1)
    raise RuntimeError(f"{job} did not end")


def measure_launching(database: Database, url: str, dagster_url: str, home: Path) -> dict[str, float]:
    """Return, of each job of the litigation desk, the seconds from its tick to its end, and of the run alone."""
    fill_as_the_original(database)
    figures: dict[str, float] = {}
    with deployment(url, dagster_url, home) as instance:
        launch(instance, WARM_UP)
        for job, schedule in SCHEDULES.items():
            began = time.perf_counter()
            request = tick(database, instance, schedule, NOW)
            ticking = time.perf_counter() - began
            queued, alone = launch(instance, job, request)
            figures[f"tick_to_end_{job}_s"] = ticking + queued
            figures[f"run_alone_{job}_s"] = alone
    return figures
