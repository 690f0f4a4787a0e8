"""Who watches the watchers: how every run ended, alarms of jobs, locks of the dead.

With real runs, on Dagster's storage in PostgreSQL.
"""

import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from dossier_pipelines.dossiers import locks
from dossier_pipelines.notifications.recording import DEFAULT_POLICY
from dossier_pipelines.operations.automation import build_sensors, watched_jobs
from dossier_pipelines.operations.leases import watch_leases
from dossier_pipelines.operations.run_watch import WatchedJob, judge_jobs
from dossier_pipelines.shared.audit import read_results, record_results
from dossier_pipelines.shared.database import Database, database_url
from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.processes import CHECKOUT, environment, wait_until
from dossier_pipelines_tests.records import rows, scalar

RECIPIENTS = ("ops@example.org", "desk@example.org")
JOB = "refresh_health_scores_job"
NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)

# A run that holds the lease of a job on our database, until its process is killed.
HOLDING = """
import sys
import dagster as dg
from dossier_pipelines.shared.database import create_database
from dossier_pipelines.shared.job_lease import job_lease

@dg.op
def hold(context):
    with job_lease(create_database(sys.argv[1]), "refresh_health_scores", holder=context.run_id, seconds=900):
        print(context.run_id, flush=True)
        sys.stdin.readline()

@dg.job
def holding():
    hold()

with dg.DagsterInstance.get() as instance:
    holding.execute_in_process(instance=instance)
"""


@dg.op(config_schema={"says": dg.Field(str, default_value="")})
def work(context: dg.OpExecutionContext) -> None:
    """Succeed, or fail in the words of its configuration."""
    if context.op_config["says"]:
        raise dg.Failure(description=context.op_config["says"])


@dg.op
def stumble() -> None:
    """Fail without any words for a person."""
    raise ZeroDivisionError("a defect")


@dg.job
def a_job() -> None:
    """Do some work."""
    work()


@dg.job
def a_broken_job() -> None:
    """Never succeed."""
    stumble()


@pytest.fixture
def instance(tmp_path: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The project's own instance, on an empty storage."""
    url = database_url(empty_database_url, driver="postgresql+psycopg2").render_as_string(hide_password=False)
    shutil.copyfile(CHECKOUT / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_PG_URL", url)
    with dg.DagsterInstance.get() as instance:
        yield instance


def execute(instance: dg.DagsterInstance, job: dg.JobDefinition = a_job, *, says: str = "") -> str:
    config = {"ops": {"work": {"config": {"says": says}}}} if job is a_job else None
    return job.execute_in_process(instance=instance, raise_on_error=False, run_config=config).run_id


class Watch:
    """A sensor of the room that is looked at again and again, as the daemon does."""

    def __init__(self, name: str, instance: dg.DagsterInstance, database: Database, settings: Settings) -> None:
        self.sensor = next(sensor for sensor in build_sensors(settings) if sensor.name == name)
        self.instance = instance
        self.database = database
        self.cursor: str | None = None

    def look(self) -> Any:
        """Evaluate one tick, and keep its cursor."""
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"database": self.database}
        ) as context:
            data = self.sensor.evaluate_tick(context)
        assert not data.run_requests
        self.cursor = data.cursor or self.cursor
        return data


@pytest.fixture
def ended_runs(instance: dg.DagsterInstance, database: Database) -> Watch:
    return Watch("ended_runs", instance, database, Settings(operations_recipients=RECIPIENTS))


@pytest.fixture
def job_locks(instance: dg.DagsterInstance, database: Database) -> Watch:
    return Watch("job_locks", instance, database, Settings())


def audited(database: Database) -> dict[str, Mapping[str, Any]]:
    """Run id to what is written down of it."""
    found = rows(database, "SELECT * FROM platform.audit_log")
    assert {(row.tenant_id, row.action_type, row.entity_type) for row in found} <= {
        ("*", "background_job_execution", "job")
    }
    assert len({row.run_id for row in found}) == len(found)
    return {row.run_id: row.details for row in found}


# --- how runs ended ---------------------------------------------------------------------------------------------


def test_every_run_that_ended_is_written_down_once_however_often_it_is_looked_at(
    instance: dg.DagsterInstance, database: Database, ended_runs: Watch
) -> None:
    good = execute(instance)
    bad = execute(instance, says="The source is gone.")
    broken = execute(instance, a_broken_job)
    canceled = instance.create_run_for_job(a_job)
    instance.report_run_canceled(canceled)
    waiting = instance.create_run_for_job(a_job)
    ended_runs.look()
    found = audited(database)
    assert set(found) == {good, bad, broken, canceled.run_id}
    assert waiting.run_id not in found
    took = {run_id: details["execution_time_ms"] for run_id, details in found.items()}
    assert all(isinstance(took[run_id], int) and took[run_id] >= 0 for run_id in (good, bad, broken))
    assert {run_id: (details["job_name"], details["status"]) for run_id, details in found.items()} == {
        good: ("a_job", "SUCCESS"),
        bad: ("a_job", "FAILURE"),
        broken: ("a_broken_job", "FAILURE"),
        canceled.run_id: ("a_job", "CANCELED"),
    }
    assert (found[good]["error"], found[bad]["error"], found[canceled.run_id]["error"]) == (
        None,
        "The source is gone.",
        None,
    )
    assert found[broken]["error"]
    assert all(
        set(details) == {"job_name", "status", "results", "execution_time_ms", "started_at", "error"}
        for details in found.values()
    )
    before = rows(database, "SELECT xmin::text, a::text FROM platform.audit_log AS a ORDER BY 2")
    for _ in range(2):
        ended_runs.look()
    # As after a cursor that was lost.
    ended_runs.cursor = None
    ended_runs.look()
    assert rows(database, "SELECT xmin::text, a::text FROM platform.audit_log AS a ORDER BY 2") == before


def test_runs_that_end_later_are_found_by_the_next_look(
    instance: dg.DagsterInstance, database: Database, ended_runs: Watch
) -> None:
    run_ids = set()
    for _ in range(3):
        run_ids.add(execute(instance))
        ended_runs.look()
        assert set(audited(database)) == run_ids


def test_the_time_of_an_entry_is_that_at_which_the_run_ended(
    instance: dg.DagsterInstance, database: Database, ended_runs: Watch
) -> None:
    run_id = execute(instance)
    record = instance.get_run_record_by_id(run_id)
    assert record is not None
    assert record.end_time is not None
    ended_runs.look()
    assert scalar(database, "SELECT recorded_at FROM platform.audit_log") == datetime.fromtimestamp(
        record.end_time, UTC
    )


def test_what_a_run_wrote_down_itself_is_kept(
    instance: dg.DagsterInstance, database: Database, ended_runs: Watch
) -> None:
    run_id = execute(instance, says="The server is gone.")
    with database.transaction() as connection:
        record_results(connection, run_id=run_id, job="a_job", results={"marked": 7})
        record_results(connection, run_id=run_id, job="a_job", results={"told": 9})
    ended_runs.look()
    details = audited(database)[run_id]
    assert details["results"] == {"marked": 7, "told": 9}
    assert (details["status"], details["error"]) == ("FAILURE", "The server is gone.")
    with database.transaction() as connection:
        assert read_results(connection, run_id=run_id) == {"marked": 7, "told": 9}


def test_what_a_run_writes_down_while_it_is_found_to_have_ended_is_kept_too(
    instance: dg.DagsterInstance, database: Database, ended_runs: Watch
) -> None:
    run_id = execute(instance)
    ended_runs.look()
    with database.transaction() as connection:
        record_results(connection, run_id=run_id, job="a_job", results={"marked": 7})
    ended_runs.look()
    details = audited(database)[run_id]
    assert (details["status"], details["results"]) == ("SUCCESS", {"marked": 7})


def test_a_very_long_error_is_cut(instance: dg.DagsterInstance, database: Database, ended_runs: Watch) -> None:
    run_id = execute(instance, says="x" * 10_000)
    ended_runs.look()
    assert audited(database)[run_id]["error"] == "x" * 500


# --- jobs in trouble --------------------------------------------------------------------------------------------


class Courses:
    """Runs of the refresh that ended, written down as the watch does, and what is said of them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.at = NOW

    def end(self, *statuses: str, job: str = JOB, seconds: float = 1.0) -> None:
        """Let runs end, a minute apart; each failure has an error of its own."""
        for status in statuses:
            self.at += timedelta(minutes=1)
            error = f"'{status} at {self.at:%H:%M}'" if status == "FAILURE" else "NULL"
            with self.database.transaction() as connection:
                connection.execute(
                    sa.text(
                        "INSERT INTO platform.audit_log (tenant_id, action_type, entity_type, run_id, details, "
                        "recorded_at) VALUES ('*', 'background_job_execution', 'job', :run_id, jsonb_build_object("
                        f"'job_name', CAST(:job AS text), 'status', CAST(:status AS text), 'error', {error}, "
                        "'execution_time_ms', CAST(:ms AS double precision)), :at)"
                    ),
                    {
                        "run_id": str(uuid.uuid4()),
                        "job": job,
                        "status": status,
                        "at": self.at,
                        "ms": 1000 * seconds,
                    },
                )

    def judge(
        self, *, minutes: float = 1e9, since: datetime = LONG_AGO, now: datetime | None = None, **expected: Any
    ) -> list[str]:
        """Look at the job, and return what is newly wrong with it."""
        watched = {JOB: WatchedJob(minutes=minutes, **expected)}
        return judge_jobs(self.database, watched, RECIPIENTS, DEFAULT_POLICY, since=since, now=now or self.at)

    def told(self) -> list[tuple[str, str]]:
        """Who was told what, oldest first."""
        found = rows(
            self.database,
            "SELECT address, message FROM notifications.notifications WHERE kind = 'job_trouble' "
            "ORDER BY created_at, address",
        )
        return [(row.address, row.message) for row in found]


@pytest.fixture
def courses(database: Database) -> Courses:
    return Courses(database)


def test_a_job_that_failed_twice_in_a_row_alerts_each_recipient_once_until_it_is_well_again(courses: Courses) -> None:
    courses.end("SUCCESS", "FAILURE")
    assert courses.judge() == []
    courses.end("FAILURE")
    said = "refresh_health_scores_job failed twice in a row. The last error: FAILURE at 12:03"
    assert courses.judge() == [said]
    message = f"{said}. Open its runs in the Dagster UI."
    assert courses.told() == [("desk@example.org", message), ("ops@example.org", message)]
    # It goes on failing, and is looked at again: nobody is told anything more.
    courses.end("FAILURE", "FAILURE")
    assert courses.judge() == []
    courses.end("SUCCESS")
    assert courses.judge() == []
    assert scalar(courses.database, "SELECT cleared_at IS NOT NULL FROM platform.job_alerts")
    courses.end("FAILURE")
    assert courses.judge() == []
    courses.end("FAILURE")
    assert courses.judge() == ["refresh_health_scores_job failed twice in a row. The last error: FAILURE at 12:08"]
    assert len(courses.told()) == 4


@pytest.mark.parametrize(
    "statuses",
    [("FAILURE",), ("FAILURE", "SUCCESS", "FAILURE"), ("FAILURE", "CANCELED"), ("FAILURE", "running", "SUCCESS")],
    ids=str,
)
def test_less_than_two_failures_in_a_row_alert_nobody(courses: Courses, statuses: tuple[str, ...]) -> None:
    courses.end(*statuses)
    assert courses.judge() == []
    assert courses.told() == []


def test_a_run_that_is_under_way_neither_raises_nor_clears_an_alert(courses: Courses) -> None:
    courses.end("FAILURE", "FAILURE", "running")
    assert len(courses.judge()) == 1
    courses.end("running")
    assert courses.judge() == []
    assert scalar(courses.database, "SELECT cleared_at IS NULL FROM platform.job_alerts")


def test_the_last_error_is_told_and_not_the_greatest(courses: Courses) -> None:
    courses.at = NOW + timedelta(hours=11, minutes=57)
    # The clock passes midnight: the later one comes first in the alphabet.
    courses.end("FAILURE", "running", "FAILURE")
    assert courses.judge() == ["refresh_health_scores_job failed twice in a row. The last error: FAILURE at 00:00"]


def test_failures_of_another_job_are_not_this_ones(courses: Courses) -> None:
    courses.end("FAILURE")
    courses.end("FAILURE", job="another_job")
    assert courses.judge() == []


def test_the_alert_of_a_job_is_critical_and_goes_by_mail(courses: Courses) -> None:
    courses.end("FAILURE", "FAILURE")
    courses.judge()
    found = rows(
        courses.database,
        "SELECT n.tenant_id, n.title, n.urgency, n.metadata, d.status FROM notifications.notifications AS n "
        "JOIN notifications.deliveries AS d ON d.tenant_id = n.tenant_id AND d.notification_id = n.id "
        "WHERE d.channel = 'email'",
    )
    assert [tuple(row) for row in found] == [
        ("*", f"Job in trouble: {JOB}", 1, {"job": JOB, "condition": "failing"}, "queued")
    ] * len(RECIPIENTS)


def test_a_job_that_does_not_run_in_time_alerts_once_until_it_ran_and_again_after(courses: Courses) -> None:
    courses.end("SUCCESS")
    in_time, late = courses.at + timedelta(minutes=45), courses.at + timedelta(minutes=46)
    assert courses.judge(minutes=45, now=in_time) == []
    [said] = courses.judge(minutes=45, now=late)
    assert said.startswith(
        "refresh_health_scores_job did not run when it should: the last run ended at 2025-06-15 12:01"
    )
    assert said.endswith("and it should every 45 minutes")
    assert courses.judge(minutes=45, now=late + timedelta(hours=1)) == []
    assert len(courses.told()) == len(RECIPIENTS)
    courses.at = late
    courses.end("SUCCESS")
    assert courses.judge(minutes=45) == []
    assert len(courses.judge(minutes=45, now=courses.at + timedelta(minutes=46))) == 1
    assert len(courses.told()) == 2 * len(RECIPIENTS)


def test_a_job_is_not_late_before_anybody_has_watched_for_that_long(courses: Courses) -> None:
    assert courses.judge(minutes=45, since=NOW, now=NOW + timedelta(minutes=45)) == []
    [said] = courses.judge(minutes=45, since=NOW, now=NOW + timedelta(minutes=46))
    assert said == (
        "refresh_health_scores_job did not run when it should: no run ended yet, and it should every 45 minutes"
    )


def test_without_recipients_trouble_is_recorded_and_told_to_nobody(courses: Courses) -> None:
    courses.end("FAILURE", "FAILURE")
    raised = judge_jobs(
        courses.database, {JOB: WatchedJob(minutes=1e9)}, (), DEFAULT_POLICY, since=LONG_AGO, now=courses.at
    )
    assert len(raised) == 1
    assert courses.told() == []
    assert scalar(courses.database, "SELECT said FROM platform.job_alerts") == raised[0]


def test_how_long_a_job_may_rest_follows_its_schedule() -> None:
    settings = read_settings({"HEALTH_REFRESH_INTERVAL_MINUTES": "5"})
    always = {
        "refresh_health_scores_job": 15.0,
        "detect_overdue_commitments_job": 26 * 60.0,
        "recompute_health_scores_job": 26 * 60.0,
        "check_sla_and_overdue_job": 24 * 60.0,
    }
    by_day = (
        "daily_snapshots_job",
        "send_hearing_reminders_job",
        "check_upcoming_deadlines_job",
        "analytics_snapshot_job",
        "automation_health_check_job",
    )

    def minutes(*, clocks_run: bool) -> dict[str, float]:
        return {name: job.minutes for name, job in watched_jobs(settings, clocks_run=clocks_run).items()}

    assert minutes(clocks_run=True) == always | dict.fromkeys(by_day, 26 * 60.0)
    # Where all clocks stand still no day ends.
    assert minutes(clocks_run=False) == always


def test_a_job_that_may_fail_twice_alerts_at_the_third_time(courses: Courses) -> None:
    courses.end("FAILURE", "FAILURE")
    assert courses.judge(failures=3) == []
    courses.end("FAILURE")
    assert courses.judge(failures=3) == [f"{JOB} failed 3 times in a row. The last error: FAILURE at 12:03"]


def test_a_run_that_takes_too_long_is_a_warning_and_twice_as_long_an_alarm(courses: Courses) -> None:
    courses.end("SUCCESS", seconds=7.5)
    assert courses.judge(seconds=5) == []
    courses.end("SUCCESS", seconds=7.6)
    assert courses.judge(seconds=5) == [f"{JOB} took 7.6 s, more than 1.5 times the 5 s that are expected of it"]
    # A failure says nothing of how long the work takes.
    courses.end("FAILURE", seconds=100)
    assert courses.judge(seconds=5) == []
    courses.end("SUCCESS", seconds=10.1)
    assert courses.judge(seconds=5) == [f"{JOB} took 10.1 s, more than twice the 5 s that are expected of it"]
    found = rows(
        courses.database,
        "SELECT metadata ->> 'condition' AS c, min(urgency) AS u FROM notifications.notifications GROUP BY 1",
    )
    assert {row.c: row.u for row in found} == {"slower": 2, "slow": 1}
    courses.end("SUCCESS", seconds=1)
    assert courses.judge(seconds=5) == []
    assert scalar(courses.database, "SELECT count(*) FROM platform.job_alerts WHERE cleared_at IS NULL") == 0
    # Without an expectation nothing is too long.
    courses.end("SUCCESS", seconds=1e6)
    assert courses.judge() == []


def test_more_than_a_tenth_of_failures_is_a_warning(courses: Courses) -> None:
    courses.end(*["SUCCESS"] * 17, "FAILURE", "SUCCESS", "FAILURE")
    assert courses.judge(seconds=5) == []
    courses.end("SUCCESS", "FAILURE")
    assert courses.judge(seconds=5) == [f"{JOB} failed in 3 of its last 20 runs"]
    courses.end(*["SUCCESS"] * 17)
    assert courses.judge(seconds=5) == []
    assert scalar(courses.database, "SELECT cleared_at IS NOT NULL FROM platform.job_alerts")


@pytest.mark.parametrize(("clocks", "run"), [([], False), (["2025-06-15"], False), (["2025-06-15", None], True)])
def test_a_day_ends_where_some_tenant_lives_in_the_present(
    database: Database, clocks: list[str | None], run: bool
) -> None:
    with database.transaction() as connection:
        for number, clock in enumerate(clocks):
            connection.execute(
                sa.text("INSERT INTO platform.tenants VALUES (:tenant, 'UTC', CAST(:clock AS timestamptz))"),
                {"tenant": f"t{number}", "clock": clock},
            )
    assert database.run("dossier_pipelines.operations", "clocks_run")[0].run is run


@dg.job(name=JOB)
def failing_refresh() -> None:
    """Fail as a refresh does."""
    stumble()


def test_the_sensor_alerts_operations_of_a_refresh_that_fails_twice(
    instance: dg.DagsterInstance, database: Database, ended_runs: Watch
) -> None:
    execute(instance, failing_refresh)
    assert "no new trouble" in ended_runs.look().skip_message
    execute(instance, failing_refresh)
    assert "refresh_health_scores_job failed twice in a row." in ended_runs.look().skip_message
    addresses = rows(database, "SELECT address FROM notifications.notifications ORDER BY 1")
    assert [row.address for row in addresses] == sorted(RECIPIENTS)
    assert "no new trouble" in ended_runs.look().skip_message
    assert scalar(database, "SELECT count(*) FROM notifications.notifications") == len(RECIPIENTS)


# --- locks ------------------------------------------------------------------------------------------------------


def shown(data: Any) -> dict[str, Any]:
    """What the watch tells an analyst, from the event of the asset."""
    [event] = data.asset_events
    return {name: value.value for name, value in event.metadata.items()}


def lease(database: Database) -> sa.Row[Any]:
    return rows(database, "SELECT * FROM platform.job_leases WHERE job = :job", job=locks.REFRESH.name)[0]


def expire(database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE platform.job_leases SET expires_at = clock_timestamp()")


def test_an_analyst_sees_who_holds_a_lock_since_when_and_until_when(database: Database, job_locks: Watch) -> None:
    with job_lease(database, locks.REFRESH.name, holder="run 7", seconds=900):
        held = lease(database)
        data = job_locks.look()
        said = shown(data)
        assert data.skip_message == "refresh_health_scores: held by run run 7"
        assert (said["held"], said["freed"], said["runs_ended"]) == (1, 0, 0)
        assert f"| refresh_health_scores | run 7 | {held.acquired_at} | {held.expires_at} |" in said["locks"]
        # Nothing new is no news.
        assert not job_locks.look().asset_events
    said = shown(job_locks.look())
    assert said["held"] == 0
    assert "| refresh_health_scores | free |" in said["locks"]
    assert "| released |" in said["locks"]


def test_a_lock_that_nobody_ever_took_is_no_news(job_locks: Watch) -> None:
    assert job_locks.look().skip_message == "No lock is held."


@pytest.mark.parametrize("says", ["", "The source is gone."], ids=["success", "failure"])
def test_the_lock_of_a_run_that_is_finished_is_freed_and_the_run_left_as_it_is(
    instance: dg.DagsterInstance, database: Database, job_locks: Watch, says: str
) -> None:
    run_id = execute(instance, says=says)
    status = instance.get_runs()[0].status
    with job_lease(database, locks.REFRESH.name, holder=run_id, seconds=900):
        data = job_locks.look()
        assert (data.skip_message, shown(data)["freed"]) == ("freed refresh_health_scores", 1)
        found = lease(database)
        assert (found.holder, found.ended_because) == (None, "abandoned")
    assert instance.get_runs()[0].status is status


def test_a_run_that_lost_its_lease_is_ended_and_its_lock_freed(
    instance: dg.DagsterInstance, database: Database, job_locks: Watch
) -> None:
    run = instance.create_run_for_job(a_job, status=dg.DagsterRunStatus.STARTED)
    with job_lease(database, locks.REFRESH.name, holder=run.run_id, seconds=900):
        job_locks.look()
        assert lease(database).holder == run.run_id
        expire(database)
        data = job_locks.look()
    assert data.skip_message == f"freed refresh_health_scores; ended run {run.run_id}"
    assert shown(data)["runs_ended"] == 1
    assert lease(database).ended_because == "expired"
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("The lease of refresh_health_scores ran out without a sign of life" in message for message in messages)
    # Neither again.
    assert job_locks.look().skip_message == "No lock is held."


def test_a_lock_that_ran_out_is_freed_though_its_holder_is_no_run_of_ours(database: Database, job_locks: Watch) -> None:
    with job_lease(database, locks.REFRESH.name, holder="another deployment's run", seconds=900):
        expire(database)
        assert job_locks.look().skip_message == "freed refresh_health_scores"
    assert lease(database).holder is None


def test_a_lock_that_is_held_by_a_run_that_works_is_left_alone(
    instance: dg.DagsterInstance, database: Database, job_locks: Watch
) -> None:
    run = instance.create_run_for_job(a_job, status=dg.DagsterRunStatus.STARTED)
    with job_lease(database, locks.REFRESH.name, holder=run.run_id, seconds=900) as held:
        job_locks.look()
        with database.transaction() as connection:
            held.require(connection)
    assert instance.get_runs()[0].status is dg.DagsterRunStatus.STARTED


def test_a_holder_that_gives_a_sign_of_life_while_it_is_looked_at_keeps_its_lock(
    instance: dg.DagsterInstance, database: Database
) -> None:
    run = instance.create_run_for_job(a_job, status=dg.DagsterRunStatus.STARTED)

    def renew(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if "ended_because = %(because)s" in sql:
            with sa.create_engine(database.engine.url).begin() as connection:
                connection.exec_driver_sql(
                    "UPDATE platform.job_leases SET expires_at = clock_timestamp() + interval '900 s'"
                )

    with job_lease(database, locks.REFRESH.name, holder=run.run_id, seconds=900):
        expire(database)
        sa.event.listen(database.engine, "before_cursor_execute", renew)
        watch = watch_leases(database, instance)
        sa.event.remove(database.engine, "before_cursor_execute", renew)
        assert (watch.cleared, watch.ended) == ([], [])
        assert lease(database).holder == run.run_id
    assert instance.get_runs()[0].status is dg.DagsterRunStatus.STARTED


# --- killed -----------------------------------------------------------------------------------------------------


def test_a_run_whose_process_is_killed_ends_as_a_failure_in_the_audit_log_and_its_lock_is_freed(
    instance: dg.DagsterInstance, database: Database, new_database_url: str, ended_runs: Watch, job_locks: Watch
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, new_database_url],
        cwd=CHECKOUT,
        env=environment({name: os.environ[name] for name in ("DAGSTER_HOME", "DAGSTER_PG_URL")}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        job_locks.look()
        assert lease(database).holder == run_id
    finally:
        process.kill()
        process.communicate()
    ended_runs.look()
    assert run_id not in audited(database)
    # What the daemon does when it sees that the process is gone.
    run = instance.get_run_by_id(run_id)
    assert run is not None
    wait_until(
        lambda: instance.run_launcher.check_run_worker_health(run).status.value == "FAILED", "the launcher sees it"
    )
    monitored: Any = SimpleNamespace(instance=instance, create_request_context=lambda: None)
    assert [error for error in execute_run_monitoring_iteration(monitored, logging.getLogger("test")) if error] == []
    assert job_locks.look().skip_message == "freed refresh_health_scores"
    assert lease(database).ended_because == "abandoned"
    ended_runs.look()
    details = audited(database)[run_id]
    assert (details["job_name"], details["status"]) == ("holding", "FAILURE")
    assert "process" in details["error"]
