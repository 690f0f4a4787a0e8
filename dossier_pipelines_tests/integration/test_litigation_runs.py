"""The litigation desk as runs: results in the form of the original, ticks at each tenant's hour, partitions, leases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dossier_pipelines.definitions import build_defs
from dossier_pipelines.litigation import locks
from dossier_pipelines.litigation.assets import ONLY_MISSING, is_for_those_missing
from dossier_pipelines.operations.run_watch import record_ends
from dossier_pipelines.shared.audit import record_results
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.records import rows, scalar
from dossier_pipelines_tests.rules import House

QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MINUTE = timedelta(minutes=1)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def desk(database: Database) -> Desk:
    """A tenant whose clock stands still at noon, with something for every job."""
    desk = Desk(database, clock_at=NOON)
    user = desk.user()
    case = desk.case(owner_id=user, created_at=NOON - 40 * DAY, court_id=desk.court())
    desk.task(case, due_date=NOON - DAY, created_at=NOON - 30 * DAY, assigned_to=user)
    desk.task(case, due_date=NOON + 3 * HOUR, priority="high", assigned_to=user)
    desk.hearing(case, NOON + 5 * HOUR)
    desk.document(case, NOON - 3 * DAY)
    return desk


def execute(
    database: Database, instance: dg.DagsterInstance, job: str, config: dict[str, Any] | None = None, **options: Any
) -> dg.ExecuteInProcessResult:
    definition = build_defs({"database": database}).resolve_job_def(job)
    [op] = [node.name for node in definition.nodes_in_topological_order][:1]
    run_config = {**QUIET, "ops": {op: {"config": config}}} if config else QUIET
    return definition.execute_in_process(instance=instance, raise_on_error=False, run_config=run_config, **options)


def range_tags(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the run shows of its result, once, in the form of the original."""
    found = [event.step_output_data.metadata for event in result.all_events if event.is_successful_output]
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION:
            found.append(event.asset_observation_data.asset_observation.metadata)
    [document] = [metadata["result"].value for metadata in found if "result" in metadata]
    assert isinstance(document, dict)
    return document


JOBS = {
    "check_sla_and_overdue_job": (
        "check-sla-and-overdue",
        {"overdueTasks": 1, "slaViolations": 1},
    ),
    "send_hearing_reminders_job": ("send-hearing-reminders", {"hearings": 1, "remindersSent": 1}),
    "check_upcoming_deadlines_job": ("check-upcoming-deadlines", {"tasks": 1, "hearings": 1, "alertsSent": 1}),
    "analytics_snapshot_job": (
        "analytics-snapshot",
        {"days": 5, "tenants": 1, "metricsWritten": 30, "anomaliesDetected": 0, "alertsSent": 0},
    ),
    "automation_health_check_job": ("automation-health-check", {"tenants": 1, "inactive_rules": 1}),
}
# A job whose days are partitions has another one for its dry runs.
DRY_RUNS = {
    "analytics_snapshot_job": ("preview_analytics_snapshot_job", {"first_day": "2025-06-05", "last_day": "2025-06-09"})
}


@pytest.mark.parametrize("job", JOBS)
def test_a_run_answers_and_is_audited_in_the_form_of_the_original(
    database: Database, instance: dg.DagsterInstance, desk: Desk, job: str
) -> None:
    name, expected = JOBS[job]
    House(database, "one").rule(active_since=NOON - 40 * DAY)
    dry = execute(database, instance, *DRY_RUNS.get(job, (job, {"dry_run": True})))
    assert shown(dry)["results"] | expected == shown(dry)["results"]
    assert rows(database, "SELECT FROM platform.events") == []
    result = execute(database, instance, job, tags=range_tags("2025-06-05", "2025-06-09") if job in DRY_RUNS else None)
    document = shown(result)
    assert (document["success"], document["job"]) == (True, name)
    assert document["results"] | expected == document["results"]
    assert document["results"]["dryRun"] is False
    assert re.fullmatch(r"\d+\.\ds", document["executionTime"])
    record_ends(database, instance, instance.get_run_records())
    audited = rows(database, "SELECT * FROM litigation.job_results WHERE run_id = :id", id=result.run_id)
    assert [(row.job_name, row.document["success"], row.document["job"]) for row in audited] == [(job, True, name)]
    assert audited[0].document["results"] == document["results"]
    # Both say when the run began.
    began = datetime.fromisoformat(document["executedAt"])
    assert began.timestamp() == pytest.approx(instance.get_run_record_by_id(result.run_id).start_time, abs=1e-5)
    assert datetime.fromisoformat(audited[0].document["executedAt"]) == began < audited[0].recorded_at
    # A preview is none of the five jobs.
    assert scalar(database, "SELECT count(*) FROM litigation.job_results") == (1 if job in DRY_RUNS else 2)


def test_tenants_of_one_name_are_shown_apart(database: Database, instance: dg.DagsterInstance, desk: Desk) -> None:
    namesake = Desk(database, "two", clock_at=NOON)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE raw.tenants SET name = 'One'")
    case = namesake.case()
    for _ in range(2):
        namesake.task(case, due_date=NOON - 2 * DAY)
    result = execute(database, instance, "check_sla_and_overdue_job")
    [late] = [event.materialization for event in result.get_asset_materialization_events()]
    assert late.metadata["overdue"].value == 3
    assert str(late.metadata["by_tenant"].value).splitlines()[2:] == [
        "| two | One | 2 | 0 | 2 |",
        "| one | One | 1 | 1 | 1 |",
    ]


def test_a_run_that_fails_says_why_in_the_form_of_the_original(
    database: Database, instance: dg.DagsterInstance, desk: Desk
) -> None:
    with locks.CHECK_TASKS.lease(database, holder="another run"):
        result = execute(database, instance, "check_sla_and_overdue_job")
    assert not result.success
    record_ends(database, instance, instance.get_run_records())
    [row] = rows(database, "SELECT * FROM litigation.job_results")
    assert row.document["success"] is False
    assert row.document["job"] == "check-sla-and-overdue"
    assert "another run" in row.document["errorDetails"]
    assert row.document["errorDetails"].startswith(row.document["error"])
    assert rows(database, "SELECT FROM platform.events") == []


def test_a_result_is_shown_when_its_run_has_ended_however_it_did(database: Database) -> None:
    with database.transaction() as connection:
        record_results(connection, run_id="a run", job="check_sla_and_overdue_job", results={"overdueTasks": 1})
    assert rows(database, "SELECT FROM litigation.job_results") == []
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE platform.audit_log SET details = jsonb_set(details, '{status}', '\"CANCELED\"')"
        )
    [row] = rows(database, "SELECT document FROM litigation.job_results")
    assert row.document | {"executedAt": None} == {
        "success": False,
        "job": "check-sla-and-overdue",
        "error": "The run ended as CANCELED.",
        "errorDetails": "The run ended as CANCELED.",
        "executedAt": None,
    }


def test_a_range_of_days_is_one_run_with_its_metrics_and_what_is_unusual(
    database: Database, instance: dg.DagsterInstance, desk: Desk
) -> None:
    result = execute(
        database,
        instance,
        "analytics_snapshot_job",
        tags={"dagster/asset_partition_range_start": "2025-05-10", "dagster/asset_partition_range_end": "2025-06-09"},
    )
    assert result.success
    days = [event for event in result.get_asset_materialization_events() if event.partition]
    assert len(days) == 31
    assert scalar(database, "SELECT count(*) FROM litigation.daily_metrics") == 31 * 6
    again = execute(
        database,
        instance,
        "analytics_snapshot_job",
        tags={"dagster/asset_partition_range_start": "2025-05-10", "dagster/asset_partition_range_end": "2025-06-09"},
    )
    written = {
        event.materialization.metadata["rows_written"].value
        for event in again.get_asset_materialization_events()
        if event.partition
    }
    assert written == {0}
    results = rows(database, "SELECT details -> 'results' AS r FROM platform.audit_log ORDER BY recorded_at")
    assert [row.r["days"] for row in results] == [31, 31]
    assert all(check.passed for check in again.get_asset_check_evaluations())


def tick(database: Database, instance: dg.DagsterInstance, schedule: str, at: datetime) -> dg.SensorExecutionData | Any:
    repository = build_defs({"database": database}).get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        repository_def=repository,
        scheduled_execution_time=at,
        resources={"database": database},
    ) as context:
        return repository.get_schedule_def(schedule).evaluate_tick(context)


def test_a_schedule_starts_a_run_when_the_hour_of_some_tenant_has_come(
    database: Database, instance: dg.DagsterInstance
) -> None:
    Desk(database, "kolkata", timezone="Asia/Kolkata")
    eight = datetime(2025, 6, 10, 2, 30, tzinfo=UTC)
    for schedule, at in (("send_hearing_reminders", eight), ("check_upcoming_deadlines", eight + HOUR)):
        before = tick(database, instance, schedule, at - 15 * MINUTE)
        assert not before.run_requests
        assert "for no tenant that has not had it since" in before.skip_message
        assert len(tick(database, instance, schedule, at).run_requests) == 1


def test_the_schedule_of_metrics_takes_each_day_that_has_come_to_its_end_and_those_it_missed(
    database: Database, instance: dg.DagsterInstance, desk: Desk
) -> None:
    desk.set_clock(None)
    ends = datetime(2025, 6, 9, 20, 59, tzinfo=UTC)

    def due(at: datetime) -> list[tuple[str, str]]:
        requests = tick(database, instance, "analytics_snapshot", at).run_requests or []
        assert len({request.run_key for request in requests}) == len(requests)
        return [days_of(request) for request in requests]

    assert due(ends) == [("2025-06-09", "2025-06-09")]
    assert due(ends - MINUTE) == [("2025-06-08", "2025-06-08")]
    execute(database, instance, "analytics_snapshot_job", tags=range_tags("2025-06-05", "2025-06-06"))
    execute(database, instance, "analytics_snapshot_job", tags=range_tags("2025-06-09", "2025-06-09"))
    assert due(ends) == [("2025-06-07", "2025-06-08")]
    execute(database, instance, "analytics_snapshot_job", tags=range_tags("2025-06-07", "2025-06-08"))
    assert due(ends) == []
    assert due(ends + 3 * DAY) == [("2025-06-10", "2025-06-12")]
    # A month without any run is one run.
    assert due(ends + 31 * DAY) == [("2025-06-10", "2025-07-10")]


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    """The first and the last day that a run is asked for."""
    tags = request.tags
    first = request.partition_key or tags["dagster/asset_partition_range_start"]
    return first, request.partition_key or tags["dagster/asset_partition_range_end"]


def test_a_scheduled_run_takes_those_who_lack_a_day_and_a_run_by_hand_takes_all(
    database: Database, instance: dg.DagsterInstance, desk: Desk
) -> None:
    desk.set_clock(None)
    Desk(database, "york", timezone="America/New_York").case(created_at=NOON - 40 * DAY)
    # It has no case before the day that follows.
    Desk(database, "young").case(created_at=NOON + 2 * DAY)
    execute(database, instance, "analytics_snapshot_job", tags=range_tags("2025-06-08", "2025-06-08"))

    def taken(request: dg.RunRequest) -> int:
        job = "analytics_snapshot_job"
        result = execute(database, instance, job, tags=request.tags, partition_key=request.partition_key)
        assert result.success
        [audited] = rows(database, "SELECT details FROM platform.audit_log WHERE run_id = :of", of=result.run_id)
        return int(audited.details["results"]["tenants"])

    def due(at: datetime) -> dg.RunRequest:
        [request] = tick(database, instance, "analytics_snapshot", at).run_requests
        assert isinstance(request, dg.RunRequest)
        return request

    day, month = due(datetime(2025, 6, 9, 20, 59, tzinfo=UTC)), due(datetime(2025, 7, 9, 20, 59, tzinfo=UTC))
    assert (days_of(day), days_of(month)) == (("2025-06-09", "2025-06-09"), ("2025-06-09", "2025-07-09"))
    assert taken(day) == 2
    assert taken(day) == 0
    assert taken(dg.RunRequest(partition_key=day.partition_key)) == 3
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "DELETE FROM litigation.daily_metrics WHERE tenant_id = 'york' AND day = '2025-06-09'"
        )
    assert taken(day) == 1
    assert taken(month) == 3
    assert taken(month) == 0
    assert scalar(database, "SELECT max(day) FROM litigation.daily_metrics").isoformat() == "2025-07-09"


@pytest.mark.parametrize(
    ("parent", "tags", "those_missing"),
    [
        (None, ONLY_MISSING, True),
        (None, {}, False),
        ("the run that died", {**ONLY_MISSING, "dagster/retry_number": "1"}, True),
        ("any run", ONLY_MISSING, False),
        ("any run", {"dagster/retry_number": "1"}, False),
    ],
    ids=["scheduled", "by hand", "scheduled, retried by Dagster", "scheduled, repeated by hand", "by hand, retried"],
)
def test_a_run_that_dagster_retries_is_for_whom_the_run_that_died_was(
    parent: str | None, tags: dict[str, str], those_missing: bool
) -> None:
    run = dg.DagsterRun("analytics_snapshot_job", parent_run_id=parent, root_run_id=parent, tags=tags)
    assert is_for_those_missing(run) is those_missing


def test_late_records_are_restated_by_a_run_of_the_sensor(
    database: Database, instance: dg.DagsterInstance, desk: Desk
) -> None:
    days = {"dagster/asset_partition_range_start": "2025-06-01", "dagster/asset_partition_range_end": "2025-06-09"}
    execute(database, instance, "analytics_snapshot_job", tags=days)
    repository = build_defs({"database": database}).get_repository_def()
    sensor = repository.get_sensor_def("late_litigation_records")

    def asked() -> bool:
        with dg.build_sensor_context(
            instance=instance, repository_def=repository, resources={"database": database}
        ) as context:
            return bool(sensor.evaluate_tick(context).run_requests)

    assert not asked()
    desk.document(scalar(database, "SELECT id FROM raw.cases"), NOON - 5 * DAY)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE litigation.metric_marks SET marked_at = marked_at - interval '1 minute'")
    assert asked()
    result = execute(database, instance, "restate_metrics_job")
    assert result.success
    assert not asked()
    found = rows(
        database,
        "SELECT value FROM litigation.daily_metrics WHERE metric = 'document_count' "
        "AND day >= '2025-06-04' ORDER BY day",
    )
    assert [row.value for row in found] == [0, 1, 1, 2, 2, 2]


def test_a_preview_of_days_shows_and_keeps_nothing(
    database: Database, instance: dg.DagsterInstance, desk: Desk
) -> None:
    days = {"first_day": "2025-05-10", "last_day": "2025-06-09"}
    result = execute(database, instance, "preview_analytics_snapshot_job", days)
    results = shown(result)["results"]
    assert (results["days"], results["metricsWritten"], results["dryRun"]) == (31, 31 * 6, True)
    assert scalar(database, "SELECT count(*) FROM litigation.daily_metrics") == 0
    refused = execute(database, instance, "preview_analytics_snapshot_job", {**days, "last_day": "soon"})
    assert not refused.success
    unknown = execute(database, instance, "preview_analytics_snapshot_job", {**days, "tenant_id": "elsewhere"})
    assert "There is no tenant 'elsewhere'. Name one of raw.tenants" in said_of(instance, unknown)


def said_of(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    """Everything that Dagster keeps of a run: its log, its events, their metadata, its errors."""
    return "\n".join(f"{entry.user_message} {entry.to_json()}" for entry in instance.all_logs(result.run_id))


@pytest.mark.parametrize("broken", [False, True], ids=["done", "failed"])
@pytest.mark.parametrize("job", JOBS)
def test_no_log_audit_row_or_metadata_names_people_or_quotes_their_records(
    database: Database, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], job: str, broken: bool
) -> None:
    desk = Desk(database, clock_at=NOON)
    person = {"name": "Noor Secret", "email": "noor@secret.example", "phone": "+966512340000", "role": "admin"}
    user = desk.user(**person, whatsapp=True)
    case = desk.case(owner_id=user, title="Secret appeal", created_at=NOON - 40 * DAY)
    given = {"title": "Secret reply", "assigned_to": user}
    desk.task(case, **given, due_date=NOON - DAY, created_at=NOON - 30 * DAY)
    desk.task(case, **given, due_date=NOON + 3 * HOUR)
    desk.hearing(case, NOON + 5 * HOUR, notes="Secret notes")
    House(database, "one").rule(active_since=NOON - 40 * DAY)
    if broken:
        # The server quotes the row that breaks a rule of a table.
        with database.transaction() as connection:
            for table in ("platform.events", "notifications.notifications", "litigation.daily_metrics"):
                connection.exec_driver_sql(f"ALTER TABLE {table} ADD CHECK (tenant_id <> 'one') NOT VALID")
    days = dict.fromkeys(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), "2025-06-09")
    definition = build_defs({"database": database}).resolve_job_def(job)
    result = definition.execute_in_process(
        instance=instance, raise_on_error=False, tags=days if job == "analytics_snapshot_job" else None
    )
    assert result.success is not broken
    record_ends(database, instance, instance.get_run_records())
    audited = rows(database, "SELECT CAST(a AS text) AS row FROM platform.audit_log AS a")
    assert audited
    shown = [said_of(instance, result), *capfd.readouterr(), *(row.row for row in audited)]
    assert job in shown[0]
    for secret in ("secret", "noor", "96651234"):
        assert [text for text in shown if secret in text.lower()] == []
