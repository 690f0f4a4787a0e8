"""Dagster on our PostgreSQL: its storage works with the driver that it needs, and dead runs are found."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage

from dossier_pipelines.shared.database import database_url
from dossier_pipelines.shared.deployment import dagster_url
from dossier_pipelines.shared.run_launcher import LocalRunLauncher
from dossier_pipelines.shared.runs import run_moment
from dossier_pipelines_tests.processes import CHECKOUT, environment, wait_until

# A run that lasts until it is killed, in a process of its own.
ENDLESS = """
import sys
import dagster as dg

@dg.op
def wait():
    print("runs", flush=True)
    sys.stdin.readline()

@dg.job
def endless():
    wait()

with dg.DagsterInstance.get() as instance:
    endless.execute_in_process(instance=instance)
"""


@dg.asset
def figure() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"answer": 42, "name": "Ünïcode 100% 'quoted'"})


@dg.asset_check(asset=figure)
def is_right() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"why": "because"})


@pytest.fixture
def storage_url(empty_database_url: str) -> str:
    """The URL of an empty database, as Dagster must have it."""
    return database_url(empty_database_url, driver="postgresql+psycopg2").render_as_string(hide_password=False)


@pytest.fixture
def home(tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME with the project's own dagster.yaml, on an empty database."""
    shutil.copyfile(CHECKOUT / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_PG_URL", storage_url)
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_the_configuration_makes_the_instance_that_it_describes(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_storage, PostgresRunStorage)
    assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
    assert isinstance(instance.schedule_storage, PostgresScheduleStorage)
    assert isinstance(instance.run_launcher, LocalRunLauncher)
    assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
    assert instance.run_monitoring_enabled
    assert instance.run_retries_enabled
    assert not instance.telemetry_enabled
    # The dialog of a first visit would cover the page.
    assert not instance.nux_enabled
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    assert limits.max_concurrent_runs == 3
    assert {limit["key"] for limit in limits.tag_concurrency_limits} == {"lock", "dagster/backfill"}


def test_every_setting_in_the_configuration_is_one_that_dagster_knows(home: Path) -> None:
    text = (home / "dagster.yaml").read_text(encoding="utf-8")
    (home / "dagster.yaml").write_text(text + "\nno_such_setting: 1\n", encoding="utf-8")
    with pytest.raises(dg.DagsterInvalidConfigError, match="no_such_setting"):
        dg.DagsterInstance.get()


def test_a_run_is_recorded_and_read_by_the_next_process(instance: dg.DagsterInstance) -> None:
    result = dg.materialize([figure, is_right], instance=instance, tags={"who": "a test"})
    assert result.success
    program = f"""
import dagster as dg
with dg.DagsterInstance.get() as instance:
    run = instance.get_run_by_id({result.run_id!r})
    event = instance.get_latest_materialization_event(dg.AssetKey("figure"))
    print(run.status.value, run.tags["who"], len(instance.all_logs(run.run_id)) > 5)
    print({{name: value.value for name, value in event.asset_materialization.metadata.items()}})
"""
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said.splitlines() == [
        "SUCCESS a test True",
        "{'answer': 42, 'name': \"Ünïcode 100% 'quoted'\"}",
    ]


def test_the_clock_of_a_run_is_the_moment_when_it_began(instance: dg.DagsterInstance) -> None:
    before = datetime.now(UTC)
    result = dg.materialize([figure], instance=instance)
    moment = run_moment(instance, result.run_id)
    assert moment.tzinfo is not None
    assert before <= moment <= datetime.now(UTC)


def test_the_storage_is_on_the_same_server_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dagster_url("postgresql://u:p@host:5433/dossier") == "postgresql+psycopg2://u:p@host:5433/dagster"
    assert dagster_url("postgresql://u:p@host/test_1?sslmode=require") == (
        "postgresql+psycopg2://u:p@host/test_1_dagster?sslmode=require"
    )
    monkeypatch.setenv("DAGSTER_PG_URL", "postgresql+psycopg2://other/dagster")
    assert dagster_url("postgresql://u:p@host/dossier") == "postgresql+psycopg2://other/dagster"


# Runs that die


class Endless:
    """A run in a process of its own."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS],
            env=environment({name: os.environ[name] for name in ("DAGSTER_HOME", "DAGSTER_PG_URL")}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "runs\n"
        self.run_id = instance.get_runs()[0].run_id

    def health(self) -> WorkerStatus:
        return self.instance.run_launcher.check_run_worker_health(self.run()).status

    def run(self) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        return run

    def monitor(self) -> None:
        """Do what the daemon does every few seconds."""
        context = cast(Any, SimpleNamespace(instance=self.instance, create_request_context=lambda: None))
        assert [error for error in execute_run_monitoring_iteration(context, logging.getLogger("test")) if error] == []


@pytest.fixture
def endless(instance: dg.DagsterInstance) -> Iterator[Endless]:
    run = Endless(instance)
    yield run
    run.process.kill()
    run.process.communicate()


def test_a_run_whose_process_lives_is_left_alone(endless: Endless) -> None:
    assert endless.instance.run_launcher.supports_check_run_worker_health
    assert endless.health() is WorkerStatus.RUNNING
    endless.monitor()
    assert endless.run().status is DagsterRunStatus.STARTED
    endless.process.communicate("go on\n")
    assert endless.run().status is DagsterRunStatus.SUCCESS


def test_a_run_whose_process_was_killed_is_marked_as_failed(endless: Endless) -> None:
    endless.process.kill()
    # Before anybody has reaped it, as under an init that never does.
    wait_until(lambda: endless.health() is WorkerStatus.FAILED, "the launcher sees that the process is dead")
    assert endless.run().status is DagsterRunStatus.STARTED
    endless.process.wait()
    assert endless.health() is WorkerStatus.FAILED
    endless.monitor()
    assert endless.run().status is DagsterRunStatus.FAILURE


@dg.job
def nothing() -> None:
    """Do nothing."""


def test_a_process_id_that_another_program_has_by_now_is_no_run(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(nothing)
    stranger = subprocess.Popen(["/bin/sleep", "600"])
    try:
        started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, "nothing", pid=stranger.pid)
        instance.report_dagster_event(started, run.run_id)
        assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    finally:
        stranger.kill()
        stranger.wait()


def test_a_run_that_has_not_started_has_no_health_yet(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(nothing)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.UNKNOWN
