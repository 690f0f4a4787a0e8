"""Schedules and sensors on a real instance with real runs: when they start something, when not, and why."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from dossier_pipelines.definitions import build_defs
from dossier_pipelines.dossiers import locks
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.notifications.ops import DELIVER
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.job_lease import JobLock
from dossier_pipelines.shared.scheduling import LONGEST_WAIT_SECONDS, QUIET_SECONDS
from dossier_pipelines_tests.histories import DAY, DEFAULTS, HOUR, Records

CLOCK = datetime(2025, 6, 15, 12, tzinfo=UTC)
TICK = datetime(2025, 6, 14, 23, tzinfo=UTC)
ACTIVE = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]
ENDED = ["SUCCESS", "FAILURE", "CANCELED"]
# Schedule to its job and lock.
SCHEDULES = {
    "refresh_health_scores": ("refresh_health_scores_job", locks.REFRESH),
    "detect_overdue_commitments": ("detect_overdue_commitments_job", locks.OVERDUE),
    "recompute_health_scores_nightly": ("recompute_health_scores_job", locks.REFRESH),
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture
def instance(storage: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance that knows of no run."""
    for run in storage.get_runs():
        storage.delete_run(run.run_id)
    return storage


@functools.cache
def default_repository() -> dg.RepositoryDefinition:
    """The definitions as they are without a setting."""
    return build_defs().get_repository_def()


def job(name: str) -> dg.JobDefinition:
    return default_repository().get_job(name)


def a_run(instance: dg.DagsterInstance, job_name: str, status: str) -> str:
    """Write down a run of a job, with the tags that its launcher gives it."""
    definition = job(job_name)
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("dossier_pipelines"), "__repository__")
    run = instance.create_run_for_job(
        definition,
        status=dg.DagsterRunStatus(status),
        tags=definition.tags,
        remote_job_origin=RemoteJobOrigin(origin, job_name),
    )
    return run.run_id


def a_run_under(instance: dg.DagsterInstance, lock: JobLock, status: str) -> str:
    return a_run(instance, next(job for job, its in SCHEDULES.values() if its == lock), status)


def tick(
    instance: dg.DagsterInstance, name: str, repository: dg.RepositoryDefinition | None = None, **resources: Any
) -> tuple[int, str | None]:
    """Evaluate a schedule or a sensor: how many runs it asks for, and why none."""
    repository = repository or default_repository()
    if repository.has_schedule_def(name):
        with dg.build_schedule_context(
            instance=instance, repository_def=repository, scheduled_execution_time=TICK
        ) as schedule_context:
            data: Any = repository.get_schedule_def(name).evaluate_tick(schedule_context)
    else:
        with dg.build_sensor_context(
            instance=instance, repository_def=repository, resources=resources
        ) as sensor_context:
            data = repository.get_sensor_def(name).evaluate_tick(sensor_context)
    return len(data.run_requests or []), data.skip_message


# --- schedules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_asks_for_one_run(instance: dg.DagsterInstance, name: str) -> None:
    assert tick(instance, name) == (1, None)


@pytest.mark.parametrize("status", ACTIVE)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_skips_while_a_run_under_its_lock_is_queued_or_in_progress(
    instance: dg.DagsterInstance, name: str, status: str
) -> None:
    job_name, lock = SCHEDULES[name]
    run_id = a_run(instance, job_name, status)
    assert tick(instance, name) == (0, f"{lock.name} is locked: run {run_id} is {status.lower()}.")


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_that_ended_stops_no_schedule(instance: dg.DagsterInstance, name: str, status: str) -> None:
    a_run(instance, SCHEDULES[name][0], status)
    assert tick(instance, name) == (1, None)


LOADS = {
    "load_records": ("DOSSIER_SOURCE", "load_and_refresh_job"),
    "load_litigation_records": ("DOSSIER_LITIGATION_SOURCE", "load_litigation_job"),
}


@pytest.mark.parametrize("name", LOADS)
def test_a_source_of_ones_own_is_loaded_every_hour_unless_its_load_is_under_way(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    setting, job_name = LOADS[name]
    assert not default_repository().has_schedule_def(name)
    monkeypatch.setenv(setting, "exports")
    repository = build_defs().get_repository_def()
    assert repository.get_schedule_def(name).cron_schedule == "5 */1 * * *"
    # It queues behind a refresh.
    a_run_under(instance, locks.REFRESH, "STARTED")
    assert tick(instance, name, repository) == (1, None)
    run_id = a_run(instance, job_name, "QUEUED")
    assert tick(instance, name, repository) == (0, f"Run {run_id} of {job_name} is queued.")


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [("20", "5-59/20 * * * *"), ("5", "*/5 * * * *"), ("2", "1-59/2 * * * *"), ("180", "5 */3 * * *")],
)
def test_how_often_a_source_is_loaded_is_a_setting(monkeypatch: pytest.MonkeyPatch, minutes: str, cron: str) -> None:
    monkeypatch.setenv("DOSSIER_SOURCE", "exports")
    monkeypatch.setenv("DOSSIER_LOAD_INTERVAL_MINUTES", minutes)
    assert build_defs().get_repository_def().get_schedule_def("load_records").cron_schedule == cron


@pytest.mark.parametrize("other", ["load_and_refresh_job", "refresh_health_scores_job", "recompute_health_scores_job"])
def test_every_job_that_writes_scores_is_waited_for(instance: dg.DagsterInstance, other: str) -> None:
    run_id = a_run(instance, other, "STARTED")
    reason = f"refresh_health_scores is locked: run {run_id} is started."
    assert tick(instance, "refresh_health_scores") == (0, reason)
    assert tick(instance, "recompute_health_scores_nightly") == (0, reason)
    assert tick(instance, "detect_overdue_commitments") == (1, None)


def test_a_run_without_the_lock_is_waited_for_by_nobody(instance: dg.DagsterInstance) -> None:
    instance.create_run_for_job(job("replay_dead_notifications_job"), status=dg.DagsterRunStatus.STARTED)
    assert [tick(instance, name) for name in SCHEDULES] == [(1, None)] * 3


# --- settings ---------------------------------------------------------------------------------------------------


def schedules() -> dict[str, tuple[str, str | None]]:
    found = build_defs().get_repository_def().schedule_defs
    return {one.name: (str(one.cron_schedule), one.execution_timezone) for one in found}


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [
        ("1", "*/1 * * * *"),
        ("5", "*/5 * * * *"),
        ("30", "*/30 * * * *"),
        ("60", "0 */1 * * *"),
        ("240", "0 */4 * * *"),
        ("720", "0 */12 * * *"),
    ],
)
def test_the_interval_of_the_refresh_is_a_setting(monkeypatch: pytest.MonkeyPatch, minutes: str, cron: str) -> None:
    monkeypatch.setenv("HEALTH_REFRESH_INTERVAL_MINUTES", minutes)
    assert schedules()["refresh_health_scores"] == (cron, "Asia/Riyadh")


@pytest.mark.parametrize(
    ("hour", "detection", "recomputation"), [("0", "0 0 * * *", "0 1 * * *"), ("23", "0 23 * * *", "0 0 * * *")]
)
def test_the_hour_of_the_overdue_detection_is_a_setting_and_the_nightly_job_follows_it(
    monkeypatch: pytest.MonkeyPatch, hour: str, detection: str, recomputation: str
) -> None:
    monkeypatch.setenv("OVERDUE_CHECK_HOUR", hour)
    found = schedules()
    assert found["detect_overdue_commitments"][0] == detection
    assert found["recompute_health_scores_nightly"][0] == recomputation


def test_the_zone_of_every_schedule_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOSSIER_TIMEZONE", "Europe/Brussels")
    assert {zone for _, zone in schedules().values()} == {"Europe/Brussels"}


def started(defs: dg.Definitions) -> dict[str, bool]:
    """Name of each schedule and sensor to whether it starts by itself."""
    repository = defs.get_repository_def()
    return {
        **{one.name: one.default_status is dg.DefaultScheduleStatus.RUNNING for one in repository.schedule_defs},
        **{one.name: one.default_status is dg.DefaultSensorStatus.RUNNING for one in repository.sensor_defs},
    }


@pytest.mark.parametrize(("value", "running"), [("false", False), ("true", True), ("", True)])
def test_scheduled_jobs_can_all_be_turned_off_together(
    monkeypatch: pytest.MonkeyPatch, value: str, running: bool
) -> None:
    monkeypatch.setenv("ENABLE_SCHEDULED_JOBS", value)
    found = started(build_defs())
    assert len(found) == 16
    assert set(found.values()) == {running}


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("load_and_refresh_job", {"lock": "refresh_health_scores"}),
        ("refresh_health_scores_job", {"lock": "refresh_health_scores", "dagster/max_runtime": "900"}),
        ("recompute_health_scores_job", {"lock": "refresh_health_scores", "dagster/max_runtime": "900"}),
        ("detect_overdue_commitments_job", {"lock": "detect_overdue_commitments", "dagster/max_runtime": "3600"}),
        ("deliver_notifications_job", {"lock": "deliver_notifications", "dagster/max_runtime": "3600"}),
        ("replay_dead_notifications_job", {}),
        ("replay_dead_executions_job", {}),
    ],
)
def test_a_job_says_which_lock_it_takes_and_after_how_long_it_counts_as_stuck(name: str, tags: dict[str, str]) -> None:
    found = job(name).tags
    assert {key: found[key] for key in ("lock", "dagster/max_runtime") if key in found} == tags


# --- changed records --------------------------------------------------------------------------------------------


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


def let_marks_wait(database: Database, *seconds: float) -> None:
    """Let each mark, in any order, have waited for so long; negative means that it comes later."""
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "UPDATE platform.stale_marks AS m SET marked_at = clock_timestamp() - w.seconds * interval '1 second' "
                "FROM (SELECT s.ctid AS row, row_number() OVER () AS n FROM platform.stale_marks AS s) AS k "
                "JOIN unnest(CAST(:seconds AS double precision[])) WITH ORDINALITY AS w (seconds, n) USING (n) "
                "WHERE m.ctid = k.row"
            ),
            {"seconds": [float(one) for one in seconds]},
        )


def test_as_long_as_nothing_changes_nothing_is_started(
    instance: dg.DagsterInstance, database: Database, records: Records
) -> None:
    idle = (0, "No record changed since the last refresh.")
    assert tick(instance, "changed_records", database=database) == idle
    records.dossier()
    refresh_health(database, DEFAULTS, now=CLOCK)
    assert tick(instance, "changed_records", database=database) == idle


def test_changes_are_collected_until_it_is_quiet(
    instance: dg.DagsterInstance, database: Database, records: Records
) -> None:
    records.dossier()
    records.dossier()
    # Another one came just now, or will have when this is read.
    let_marks_wait(database, QUIET_SECONDS + 5, -60)
    assert tick(instance, "changed_records", database=database) == (0, "2 changes so far; waiting until it is quiet.")
    let_marks_wait(database, QUIET_SECONDS + 5, QUIET_SECONDS)
    assert tick(instance, "changed_records", database=database) == (1, None)


def test_where_it_is_never_quiet_no_change_waits_longer_than_promised(
    instance: dg.DagsterInstance, database: Database, records: Records
) -> None:
    records.dossier()
    records.dossier()
    let_marks_wait(database, LONGEST_WAIT_SECONDS, -60)
    assert tick(instance, "changed_records", database=database) == (1, None)


def test_a_thousand_changes_are_one_run(instance: dg.DagsterInstance, database: Database, records: Records) -> None:
    dossier = records.dossier()
    for _ in range(10):
        with database.transaction() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                    "SELECT 'default', gen_random_uuid(), :dossier, :at FROM generate_series(1, 100)"
                ),
                {"dossier": dossier, "at": CLOCK - DAY},
            )
    let_marks_wait(database, *[QUIET_SECONDS] * 11)
    assert tick(instance, "changed_records", database=database) == (1, None)
    # They are taken by that one, and by no second one.
    run_id = a_run(instance, "refresh_health_scores_job", "QUEUED")
    reason = f"refresh_health_scores is locked: run {run_id} is queued."
    assert tick(instance, "changed_records", database=database) == (0, reason)
    assert refresh_health(database, DEFAULTS, now=CLOCK).refreshed == 1
    assert tick(instance, "changed_records", database=database)[0] == 0


def test_records_of_a_tenant_that_nobody_registered_start_no_refresh_that_could_not_take_them(
    instance: dg.DagsterInstance, database: Database, records: Records
) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO raw.dossiers (tenant_id, id, name) VALUES ('stranger', gen_random_uuid(), 'Atlantis')"
        )
    let_marks_wait(database, HOUR.total_seconds())
    refresh_health(database, DEFAULTS, now=CLOCK)
    assert tick(instance, "changed_records", database=database) == (0, "No record changed since the last refresh.")


@pytest.mark.parametrize("status", ACTIVE)
def test_changes_wait_for_a_refresh_that_is_under_way(
    instance: dg.DagsterInstance, database: Database, records: Records, status: str
) -> None:
    records.dossier()
    let_marks_wait(database, HOUR.total_seconds())
    run_id = a_run_under(instance, locks.REFRESH, status)
    reason = f"refresh_health_scores is locked: run {run_id} is {status.lower()}."
    assert tick(instance, "changed_records", database=database) == (0, reason)


def test_after_a_failed_refresh_changes_wait_for_the_schedule(
    instance: dg.DagsterInstance, database: Database, records: Records
) -> None:
    records.dossier()
    let_marks_wait(database, LONGEST_WAIT_SECONDS)
    run_id = a_run(instance, "refresh_health_scores_job", "FAILURE")
    started_runs, reason = tick(instance, "changed_records", database=database)
    assert started_runs == 0
    assert f"Run {run_id} failed at " in str(reason)
    a_run(instance, "refresh_health_scores_job", "SUCCESS")
    assert tick(instance, "changed_records", database=database) == (1, None)


def test_changed_records_start_the_refresh(instance: dg.DagsterInstance) -> None:
    sensor = build_defs().resolve_sensor_def("changed_records")
    assert [target.job_name for target in sensor.targets] == ["refresh_health_scores_job"]


# --- due notifications ------------------------------------------------------------------------------------------

NOTHING_DUE = (0, "Nothing is due.")


def notify(
    database: Database, *, planned: bool = True, channel: str = "email", status: str = "queued", wait: str = "0 s"
) -> uuid.UUID:
    """Record a notification and its delivery, due after ``wait``."""
    identity = uuid.uuid4()
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO notifications.notifications (tenant_id, id, user_id, kind, urgency, title, message, "
                "metadata, dedupe_key, created_at) VALUES ('default', :id, :id, 'test', 3, 'A', 'B', '{}', "
                "CAST(:id AS text), clock_timestamp())"
            ),
            {"id": identity},
        )
        if planned:
            connection.execute(sa.text("DELETE FROM notifications.unplanned"))
            connection.execute(
                sa.text(
                    "INSERT INTO notifications.deliveries (tenant_id, notification_id, channel, status, "
                    "next_attempt_at, dedupe_key, day) VALUES ('default', :id, :channel, :status, "
                    "clock_timestamp() + CAST(:wait AS interval), CAST(:id AS text), '2025-06-15')"
                ),
                {"id": identity, "channel": channel, "status": status, "wait": wait},
            )
    return identity


def test_an_empty_outbox_starts_nothing(instance: dg.DagsterInstance, database: Database) -> None:
    assert tick(instance, "due_notifications", database=database) == NOTHING_DUE


@pytest.mark.parametrize("status", ["queued", "failed", "sending"])
def test_what_is_due_starts_a_delivery(instance: dg.DagsterInstance, database: Database, status: str) -> None:
    # One that is still "sending" at its time belongs to a worker that died.
    notify(database, status=status)
    assert tick(instance, "due_notifications", database=database) == (1, None)


def test_what_somebody_recorded_without_planning_it_starts_a_delivery(
    instance: dg.DagsterInstance, database: Database
) -> None:
    notify(database, planned=False)
    assert tick(instance, "due_notifications", database=database) == (1, None)


@pytest.mark.parametrize(
    "delivery",
    [
        {"wait": "1 hour"},
        {"wait": "1 hour", "status": "failed"},
        {"wait": "1 hour", "status": "sending"},
        {"status": "sent"},
        {"status": "dead"},
        {"status": "sent", "channel": "in_app"},
        # Nobody configured it, so that nobody could send it.
        {"channel": "webhook"},
        {"channel": "whatsapp"},
    ],
    ids=str,
)
def test_what_is_not_due_starts_nothing(
    instance: dg.DagsterInstance, database: Database, delivery: dict[str, str]
) -> None:
    notify(database, **delivery)  # type: ignore[arg-type]
    assert tick(instance, "due_notifications", database=database) == NOTHING_DUE


@pytest.mark.parametrize(
    ("channel", "environ"),
    [
        (
            "webhook",
            {
                "DOSSIER_WEBHOOK_URL": "https://hooks.example.org/dossier",
                "DOSSIER_WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
            },
        ),
        (
            "whatsapp",
            {
                "DOSSIER_WHATSAPP_PHONE_NUMBER_ID": "1065",
                "DOSSIER_WHATSAPP_TOKEN": "EAAtoken",
                "DOSSIER_WHATSAPP_TEMPLATES": "hearing_reminder=hearing_v1",
            },
        ),
    ],
)
def test_a_channel_that_is_configured_is_looked_at(
    instance: dg.DagsterInstance,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    channel: str,
    environ: dict[str, str],
) -> None:
    notify(database, channel=channel)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    configured = build_defs().get_repository_def()
    assert tick(instance, "due_notifications", configured, database=database) == (1, None)


def test_a_delivery_that_is_under_way_is_enough(instance: dg.DagsterInstance, database: Database) -> None:
    notify(database)
    run_id = a_run(instance, "deliver_notifications_job", "STARTED")
    reason = f"{DELIVER.name} is locked: run {run_id} is started."
    assert tick(instance, "due_notifications", database=database) == (0, reason)
