"""History as runs: partitions, the schedule, late records, retention, refusals, and what a run shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from dossier_pipelines.definitions import build_defs
from dossier_pipelines.dossiers import locks
from dossier_pipelines.dossiers.snapshot_assets import SNAPSHOTS_KEY, TRENDS_KEY
from dossier_pipelines.dossiers.snapshots import remove_old_snapshots, take_snapshots
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.histories import DEFAULTS, Records
from dossier_pipelines_tests.records import rows, scalar

RIYADH = ZoneInfo("Asia/Riyadh")
CLOCK = datetime(2025, 6, 15, 12, tzinfo=UTC)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def records(database: Database) -> Records:
    """One dossier with a past of a year and a half, and a clock that stands still."""
    records = Records(database, clock_at=CLOCK)
    dossier = records.dossier(created_at=datetime(2024, 1, 1, tzinfo=UTC), region="North | South", type="country")
    records.engagements(dossier, *(datetime(2024, 1, 10, 9, tzinfo=UTC) + timedelta(days=12 * n) for n in range(40)))
    for number in range(5):
        made = datetime(2024, 2, 1, tzinfo=UTC) + timedelta(days=60 * number)
        records.commitment(dossier, created_at=made, due_date=(made + timedelta(days=40)).date())
    return records


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run_days(
    database: Database, instance: dg.DagsterInstance, first: str, last: str, **options: Any
) -> dg.ExecuteInProcessResult:
    """Run the job for a range of partitions, as a backfill does."""
    return (
        build_defs({"database": database})
        .resolve_job_def("daily_snapshots_job")
        .execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config=QUIET,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            **options,
        )
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def days(database: Database) -> list[date]:
    return [row.day for row in rows(database, "SELECT day FROM dossiers.snapshot_days ORDER BY day")]


# --- a run ------------------------------------------------------------------------------------------------------


def test_a_range_of_days_is_one_run_that_materializes_each_of_them(
    database: Database, records: Records, instance: dg.DagsterInstance
) -> None:
    result = run_days(database, instance, "2025-01-01", "2025-03-31")
    assert result.success
    assert len(instance.get_runs()) == 1
    assert len(instance.get_materialized_partitions(SNAPSHOTS_KEY)) == 90
    assert days(database) == [date(2025, 1, 1) + timedelta(days=n) for n in range(90)]
    event = instance.get_latest_materialization_event(SNAPSHOTS_KEY)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["days"].value == 90
    # What the days have in common is shown once, not with each of them.
    assert set(event.asset_materialization.metadata) == {"days", "rows_written"}


def test_a_single_day_is_a_run_of_one_partition(
    database: Database, records: Records, instance: dg.DagsterInstance
) -> None:
    job = build_defs({"database": database}).resolve_job_def("daily_snapshots_job")
    assert job.execute_in_process(instance=instance, partition_key="2025-02-28", run_config=QUIET).success
    assert days(database) == [date(2025, 2, 28)]
    assert scalar(database, "SELECT day FROM dossiers.daily_snapshots") == date(2025, 2, 28)


def test_a_run_draws_the_trends(database: Database, records: Records, instance: dg.DagsterInstance) -> None:
    assert run_days(database, instance, "2024-02-01", "2025-06-15").success
    event = instance.get_latest_materialization_event(TRENDS_KEY)
    assert event is not None
    assert event.asset_materialization is not None
    shown = {name: str(value.value) for name, value in event.asset_materialization.metadata.items()}
    assert set(shown) == {"average_score", "bands", "by_region", "by_bloc", "by_type", "biggest_movers"}
    assert all("data:image/svg+xml;base64," in shown[name] for name in set(shown) - {"biggest_movers"})
    # A short text is shown at once, a longer one behind a click.
    assert len(shown["average_score"]) < 1000
    # What stands in a table cell cannot open another one.
    assert shown["by_region"].splitlines()[2].startswith("| North / South |")
    assert "2024-02 to 2025-06" in shown["bands"]


def test_the_log_tells_the_progress(
    database: Database, records: Records, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dossier_pipelines.dossiers.snapshots.MOST_DOSSIER_YEARS", 1)
    result = run_days(database, instance, "2024-03-01", "2025-02-01")
    said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any(re.match(r"2024-03-01 to 2024-12-31: 1 dossiers, \d+ rows written", line) for line in said)
    assert any(re.match(r"2025-01-01 to 2025-02-01: 1 dossiers, \d+ rows written", line) for line in said)


def test_a_day_that_another_run_is_writing_is_refused_with_its_name(
    database: Database, records: Records, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SNAPSHOT_PATIENCE_SECONDS", 0.0)
    with job_lease(database, locks.SNAPSHOTS.name, holder="the other run", seconds=60):
        result = run_days(database, instance, "2025-01-01", "2025-01-31")
    assert not result.success
    assert "is held by run the other run" in failure(result)
    assert days(database) == []
    assert run_days(database, instance, "2025-01-01", "2025-01-31").success


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2025-06-01", "2025-06-16", "2025-06-16 is in the future: the tenants' clocks have come to 2025-06-15"),
        ("2023-12-01", "2024-02-01", "2023-12-01 lies before the first record: the first record is of 2024-01-01"),
    ],
)
def test_days_that_cannot_be_are_refused_and_nothing_is_half_written(
    database: Database, records: Records, instance: dg.DagsterInstance, first: str, last: str, said: str
) -> None:
    result = run_days(database, instance, first, last)
    assert not result.success
    assert said in failure(result)
    assert days(database) == []
    assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_spans") == 0
    assert instance.get_materialized_partitions(SNAPSHOTS_KEY) == set()


def test_a_run_that_succeeded_takes_everything_anew_when_it_is_run_again(
    database: Database, records: Records, instance: dg.DagsterInstance
) -> None:
    first = run_days(database, instance, "2025-01-01", "2025-01-31")
    assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_chunks") == 0
    records.change("commitments", *[row.id for row in rows(database, "SELECT id FROM raw.commitments")], due_date=None)
    again = run_days(database, instance, "2025-01-01", "2025-01-31", run_id=None)
    assert first.success
    assert again.success
    assert scalar(database, "SELECT sum(overdue_commitments) FROM dossiers.daily_snapshots") == 0


# --- by itself --------------------------------------------------------------------------------------------------


def evaluate(database: Database, instance: dg.DagsterInstance, name: str, at: datetime | None = None) -> Any:
    repository = build_defs({"database": database}).get_repository_def()
    if at is not None:
        with dg.build_schedule_context(
            instance=instance, repository_def=repository, scheduled_execution_time=at, resources={"database": database}
        ) as context:
            return repository.get_schedule_def(name).evaluate_tick(context)
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources={"database": database}
    ) as sensor_context:
        return repository.get_sensor_def(name).evaluate_tick(sensor_context)


@pytest.mark.parametrize("day", [date(2024, 2, 29), date(2024, 12, 31), date(2025, 6, 15)])
def test_at_the_end_of_a_day_its_snapshot_is_taken_once(
    database: Database, records: Records, instance: dg.DagsterInstance, day: date
) -> None:
    at = datetime(day.year, day.month, day.day, 23, 59, tzinfo=RIYADH)
    (request,) = evaluate(database, instance, "take_daily_snapshots", at).run_requests
    assert (request.partition_key, request.run_key) == (day.isoformat(), day.isoformat())


def test_the_last_day_has_its_partition_before_it_is_over() -> None:
    definition = build_defs().get_repository_def().get_job("daily_snapshots_job").partitions_def
    assert definition is not None
    with dg.partition_loading_context(datetime(2025, 6, 15, 23, 59, tzinfo=RIYADH)):
        assert definition.get_last_partition_key() == "2025-06-15"
        assert definition.get_first_partition_key() == "2002-01-01"


def test_where_every_clock_stands_still_no_day_is_taken(
    database: Database, records: Records, instance: dg.DagsterInstance
) -> None:
    data = evaluate(database, instance, "take_daily_snapshots", datetime(2025, 6, 16, 23, 59, tzinfo=RIYADH))
    assert data.run_requests in (None, [])
    assert data.skip_message == "No tenant's clock has come to 2025-06-16: they stand at 2025-06-15."


def test_a_late_record_is_in_the_past_days_without_anybody_asking(
    database: Database, records: Records, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dossier_pipelines.shared.scheduling.QUIET_SECONDS", 0.0)
    assert evaluate(database, instance, "late_records").skip_message == "No record arrived late."
    take_snapshots(database, DEFAULTS, first_day=date(2025, 5, 1), last_day=date(2025, 6, 14), now=CLOCK)
    dossier = rows(database, "SELECT id FROM raw.dossiers")[0].id
    counted = "SELECT sum(total_engagements_365d) FROM dossiers.daily_snapshots"
    before = scalar(database, counted)
    records.engagement(dossier, datetime(2025, 6, 10, 9, tzinfo=UTC))
    assert len(evaluate(database, instance, "late_records").run_requests) == 1
    job = build_defs({"database": database}).resolve_job_def("restate_snapshots_job")
    result = job.execute_in_process(instance=instance, run_config=QUIET)
    assert result.success
    assert scalar(database, counted) == before + 5
    assert evaluate(database, instance, "late_records").skip_message == "No record arrived late."


def test_restating_waits_for_a_backfill(database: Database, records: Records, instance: dg.DagsterInstance) -> None:
    take_snapshots(database, DEFAULTS, first_day=date(2025, 5, 1), last_day=date(2025, 6, 14), now=CLOCK)
    records.engagement(rows(database, "SELECT id FROM raw.dossiers")[0].id, datetime(2025, 6, 10, 9, tzinfo=UTC))
    said = evaluate(database, instance, "late_records").skip_message
    assert said == "1 late changes so far; waiting until it is quiet."


# --- retention --------------------------------------------------------------------------------------------------


def test_months_beyond_the_kept_days_are_removed_and_it_is_said_how_much(database: Database, records: Records) -> None:
    take_snapshots(database, DEFAULTS, first_day=date(2024, 1, 1), last_day=date(2025, 6, 15), now=CLOCK)
    stays = "SELECT CAST(x AS text) AS row FROM dossiers.daily_snapshots AS x WHERE day >= '2025-03-01' ORDER BY day"
    expected = [row.row for row in rows(database, stays)]
    counted = remove_old_snapshots(database, keep_days=100, now=CLOCK, dry_run=True)
    assert len(days(database)) == 532
    removed = remove_old_snapshots(database, keep_days=100, now=CLOCK)
    # 100 days before the 15th of June is the 7th of March: all of March stays.
    assert days(database)[0] == date(2025, 3, 1)
    assert removed == counted
    assert removed.days == 532 - len(days(database)) == 425
    assert removed.rows > 0
    kept = [row.row for row in rows(database, stays)]
    # The first day kept has no day before it that a change could be against.
    assert kept[1:] == expected[1:]
    partitions = "SELECT CAST(inhrelid AS regclass) AS name FROM pg_inherits WHERE inhparent = " + (
        "CAST('dossiers.snapshot_spans' AS regclass) ORDER BY 1"
    )
    assert [str(row.name).rpartition("_")[2] for row in rows(database, partitions)] == ["2025", "2026"]
    assert remove_old_snapshots(database, keep_days=100, now=CLOCK).days == 0


def test_what_was_removed_can_be_taken_again(database: Database, records: Records) -> None:
    take_snapshots(database, DEFAULTS, first_day=date(2024, 1, 1), last_day=date(2025, 6, 15), now=CLOCK)
    everything = "SELECT CAST(x AS text) AS row FROM dossiers.snapshot_spans AS x ORDER BY 1"
    before = [row.row for row in rows(database, everything)]
    remove_old_snapshots(database, keep_days=31, now=CLOCK)
    take_snapshots(database, DEFAULTS, first_day=date(2024, 1, 1), last_day=date(2025, 6, 15), now=CLOCK)
    assert [row.row for row in rows(database, everything)] == before


def test_nobody_removes_the_last_month_by_a_slip_of_the_pen(database: Database, records: Records) -> None:
    with pytest.raises(UserError, match="3 days of snapshots are too few to keep; name at least 31"):
        remove_old_snapshots(database, keep_days=3, now=CLOCK)


@pytest.mark.parametrize(("config", "removed"), [({"keep_days": 100}, 425), ({"keep_days": 100, "dry_run": True}, 425)])
def test_the_job_removes_what_its_configuration_says(
    database: Database, records: Records, instance: dg.DagsterInstance, config: dict[str, Any], removed: int
) -> None:
    take_snapshots(database, DEFAULTS, first_day=date(2024, 1, 1), last_day=date(2025, 6, 15), now=CLOCK)
    records.set_clock(CLOCK)
    result = (
        build_defs({"database": database})
        .resolve_job_def("remove_old_snapshots_job")
        .execute_in_process(
            instance=instance,
            run_config={**QUIET, "ops": {"remove_snapshots_beyond_retention": {"config": config}}},
        )
    )
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert output.step_output_data.metadata["days"].value == removed
    assert len(days(database)) == (532 if config.get("dry_run") else 532 - removed)


def test_without_a_word_on_how_long_nothing_is_removed(
    database: Database, records: Records, instance: dg.DagsterInstance
) -> None:
    job = build_defs({"database": database}).resolve_job_def("remove_old_snapshots_job")
    result = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
    assert "set keep_days here, or DOSSIER_HISTORY_DAYS" in failure(result)


@pytest.mark.parametrize(("value", "there"), [("", False), ("400", True)])
def test_old_days_are_removed_by_themselves_if_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, value: str, there: bool
) -> None:
    monkeypatch.setenv("DOSSIER_HISTORY_DAYS", value)
    schedules = {one.name: one.job_name for one in build_defs().get_repository_def().schedule_defs}
    assert (schedules.get("remove_old_snapshots") == "remove_old_snapshots_job") is there
