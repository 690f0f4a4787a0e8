"""The desk's jobs on a small source: what they load, compute, show, and what they do not show."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dossier_pipelines.definitions import build_defs
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import DEFAULTS, differences, reference_health, stored_health
from dossier_pipelines_tests.records import (
    COMMITMENTS_CSV,
    DOSSIERS_CSV,
    ENGAGEMENTS_CSV,
    rows,
    scalar,
    write_files,
)

AS_OF = "2025-06-15T12:00:00+00:00"
MOMENT = datetime.fromisoformat(AS_OF)
SOURCE = {
    "users.csv": "id,name,email,phone,role,locale,timezone\nu1,Ann Lee,ann.lee@example.org,+46 70 123 45 67,desk,sv,\n",
    "dossiers.csv": DOSSIERS_CSV
    + "d1,Sweden,country,Northern Europe,EU,public,u1,2020-01-01\n"
    + "d2,Arctic Forum,forum,,,internal,u1,2020-01-01\n",
    "engagements.csv": ENGAGEMENTS_CSV
    + "e1,d1,meeting,Lunch with Bob Ray,2025-06-14T09:00:00Z,\n"
    + "e2,d1,visit,,2025-05-14T09:00:00Z,\n"
    + "e3,d1,visit,,2025-04-14T09:00:00Z,\n"
    + "e4,d2,meeting,,2024-12-01T09:00:00Z,\n"
    + "e5,d2,meeting,,Bob Ray; next week,\n",
    "commitments.csv": COMMITMENTS_CSV
    + "c1,d1,Send Cid Fox the figures,completed,2025-03-01,u1,high,2025-01-10,,2025-02-01,\n"
    + "c2,d1,Open an office,pending,2025-06-01,u1,low,2025-01-10,,,\n"
    + "c3,d1,Call Cid Fox back,cancelled,2025-06-01,u1,low,2025-01-10,,,2025-02-01\n",
    "documents.csv": "id,dossier_id,type,created_at\nf1,d1,report,2025-01-01\nf2,d1,note,2025-01-01\n",
}
PERSONAL = ("Ann Lee", "ann.lee@example.org", "123 45 67", "Bob Ray", "Cid Fox", "Lunch", "Open an office")


@pytest.fixture
def source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the job loads."""
    monkeypatch.setenv("DOSSIER_SOURCE", str(write_files(folder, SOURCE)))
    return folder


def run_job(
    database: Database, name: str = "load_and_refresh_job", **refresh: Any
) -> tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]:
    """Execute a job on Dagster storage of its own; ``refresh`` is the configuration of the refresh."""
    instance = dg.DagsterInstance.ephemeral()
    result = (
        build_defs({"database": database})
        .resolve_job_def(name)
        .execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"ops": {"refresh_health": {"config": refresh}}} if refresh else None,
        )
    )
    return result, instance


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Asset to the metadata of its materialization."""
    return {
        event.asset_key.to_user_string(): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


# --- what a run does and shows ----------------------------------------------------------------------------------


def test_one_run_loads_computes_and_reports(database: Database, source: Path) -> None:
    result, _ = run_job(database, as_of=AS_OF)
    assert result.success
    assert all(check.passed or check.check_name == "rejected_share" for check in result.get_asset_check_evaluations())
    assert differences(stored_health(database), reference_health(database, as_of=MOMENT)) == {}
    assert scalar(database, "SELECT count(*) FROM platform.stale_marks") == 0


def test_raw_assets_show_what_was_read_and_what_became_of_it(database: Database, source: Path) -> None:
    shown = metadata(run_job(database, as_of=AS_OF)[0])
    assert shown["raw/engagements"] == {
        "rows_read": 5,
        "inserted": 4,
        "updated": 0,
        "unchanged": 0,
        "removed": 0,
        "rejected": 1,
        "source": "engagements.csv",
        "dagster/row_count": 4,
        "rejected_because": {"occurred_at is no date and time; write it like 2020-04-29T12:00:00+03:00": 1},
    }
    assert {name: shown[f"raw/{name}"]["inserted"] for name in ("users", "dossiers", "commitments", "documents")} == {
        "users": 1,
        "dossiers": 2,
        "commitments": 3,
        "documents": 2,
    }


def test_an_entity_that_the_source_does_not_have_is_said_to_be_missing(database: Database, source: Path) -> None:
    (source / "documents.csv").unlink()
    assert metadata(run_job(database, as_of=AS_OF)[0])["raw/documents"] == {"source_has_it": False, "rows_read": 0}


def test_computed_assets_show_what_they_add_up_to(database: Database, source: Path) -> None:
    shown = metadata(run_job(database, as_of=AS_OF)[0])
    assert shown["dossiers/engagement_stats"] == {"dagster/row_count": 2, "rows_written": 2}
    assert shown["dossiers/commitment_stats"] == {"dagster/row_count": 2, "rows_written": 2, "overdue_commitments": 1}
    # Sweden: 0.30 x 6 + 0.40 x 50 + 0.30 x 100; the forum has one engagement and no commitment.
    assert shown["dossiers/health_scores"] == {
        "dagster/row_count": 2,
        "refreshed": 2,
        "changed": 2,
        "drifted": 0,
        # The forum was silent for 196 days, and nobody was told yet.
        "notifications": 1,
        "scored": 1,
        "insufficient_data": 1,
        "average_score": 52.0,
        "excellent": 0,
        "good": 0,
        "fair": 1,
        "poor": 0,
    }


def test_reports_are_tables_that_a_person_reads(database: Database, source: Path) -> None:
    shown = metadata(run_job(database, as_of=AS_OF)[0])
    assert shown["dossiers/dossier_overview"] == {"dagster/row_count": 2, "latest_movers": "No score has moved yet."}
    assert set(shown["dossiers/health_by_group"]) == {"by_region", "by_bloc", "by_type"}
    assert "| Northern Europe |52|1|0|0|1|0|0|" in shown["dossiers/health_by_group"]["by_region"]
    with (source / "engagements.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"n{number},d1,meeting,,2025-06-1{number}T09:00:00Z,\n" for number in range(5))
    movers = metadata(run_job(database, as_of=AS_OF)[0])["dossiers/dossier_overview"]["latest_movers"]
    assert movers.splitlines()[2:] == ["| Sweden | 52 | 55 | 5 engagements were added |"]


def test_a_second_run_finds_nothing_to_do(database: Database, source: Path) -> None:
    run_job(database, as_of=AS_OF)
    shown = metadata(run_job(database, as_of=AS_OF)[0])
    assert (shown["raw/engagements"]["inserted"], shown["raw/engagements"]["unchanged"]) == (0, 4)
    health = shown["dossiers/health_scores"]
    assert (health["refreshed"], health["changed"], health["scored"], health["average_score"]) == (0, 0, 1, 52.0)
    assert shown["dossiers/engagement_stats"]["rows_written"] == 0


def test_only_what_changed_at_the_source_is_computed_anew(database: Database, source: Path) -> None:
    run_job(database, as_of=AS_OF)
    edited = SOURCE["commitments.csv"].replace("Open an office,pending", "Open an office,completed")
    write_files(source, {"commitments.csv": edited})
    shown = metadata(run_job(database, as_of=AS_OF)[0])
    assert shown["raw/commitments"]["updated"] == 1
    assert (shown["dossiers/health_scores"]["refreshed"], shown["dossiers/health_scores"]["average_score"]) == (1, 72.0)


def test_a_dossier_that_is_gone_from_the_source_takes_everything_with_it(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(database, as_of=AS_OF)
    going = scalar(database, "SELECT id FROM raw.dossiers WHERE name = 'Sweden'")
    monkeypatch.setenv("DOSSIER_FULL_REFRESH", "true")
    monkeypatch.setenv("DOSSIER_MAX_REMOVED_SHARE", "1")
    monkeypatch.setenv("DOSSIER_ALLOW_EMPTY", "true")
    write_files(
        source,
        {
            "dossiers.csv": DOSSIERS_CSV + "d2,Arctic Forum,forum,,,internal,u1,2020-01-01\n",
            "engagements.csv": ENGAGEMENTS_CSV + "e4,d2,meeting,,2024-12-01T09:00:00Z,\n",
            "commitments.csv": COMMITMENTS_CSV,
            "documents.csv": "id,dossier_id,type,created_at\n",
        },
    )
    result, _ = run_job(database, as_of=AS_OF)
    assert result.success
    for table in (
        "raw.engagements",
        "raw.commitments",
        "raw.documents",
        "dossiers.engagement_stats",
        "dossiers.commitment_stats",
        "dossiers.health_scores",
        "dossiers.dossier_overview",
        "platform.stale_marks",
    ):
        assert going not in [row.dossier_id for row in rows(database, f"SELECT dossier_id FROM {table}")], table
    assert metadata(result)["dossiers/health_scores"]["dagster/row_count"] == 1


def test_nothing_personal_is_shown(database: Database, source: Path) -> None:
    for _ in range(2):
        result, instance = run_job(database, as_of=AS_OF)
        told = " ".join(str(event) for event in result.all_events)
        told += " ".join(str(entry) for entry in instance.all_logs(result.run_id))
        told += json.dumps(metadata(result), default=str)
        assert "Northern Europe" in told
        for text in PERSONAL:
            assert text not in told, text
        edited = SOURCE["commitments.csv"].replace("Open an office,pending", "Open an office,completed")
        write_files(source, {"commitments.csv": edited})


# --- moments ----------------------------------------------------------------------------------------------------


def test_without_a_moment_given_that_of_the_run_is_used(database: Database, source: Path) -> None:
    result, instance = run_job(database)
    assert result.success
    record = instance.get_run_record_by_id(result.run_id)
    assert record is not None
    assert record.start_time is not None
    assert scalar(database, "SELECT DISTINCT as_of FROM dossiers.health_scores") == datetime.fromtimestamp(
        record.start_time, UTC
    )


@pytest.mark.parametrize(
    ("as_of", "moment"),
    [
        ("2025-06-15", "2025-06-14T21:00:00Z"),
        ("2025-06-15T12:00", "2025-06-15T09:00:00Z"),
        ("2025-06-15T12:00:00+05:45", "2025-06-15T06:15:00Z"),
        ("2025-06-15T12:00:00Z", "2025-06-15T12:00:00Z"),
    ],
)
def test_a_moment_without_an_offset_is_in_the_tenants_zone(
    database: Database, source: Path, as_of: str, moment: str
) -> None:
    run_job(database, as_of=as_of)
    assert scalar(database, "SELECT DISTINCT as_of FROM dossiers.health_scores") == datetime.fromisoformat(moment)


def test_each_tenant_has_the_today_of_its_zone(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second of November has 25 hours in New York; at 4:30 UTC on the third it is still the second there.
    due = COMMITMENTS_CSV + "c1,d1,Send figures,pending,2025-11-02,u1,high,2025-01-10,,,\n"
    write_files(source, {"commitments.csv": due})
    for tenant, timezone in (("riyadh", "Asia/Riyadh"), ("new-york", "America/New_York")):
        monkeypatch.setenv("DOSSIER_TENANT", tenant)
        monkeypatch.setenv("DOSSIER_TIMEZONE", timezone)
        assert run_job(database, as_of="2025-11-03T04:30:00+00:00")[0].success
    found = rows(
        database, "SELECT tenant_id, sum(overdue_commitments) FROM dossiers.commitment_stats GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [("new-york", 0), ("riyadh", 1)]
    run_job(database, as_of="2025-11-03T05:00:00+00:00")
    assert scalar(database, "SELECT sum(overdue_commitments) FROM dossiers.commitment_stats") == 2


def test_another_zone_in_the_settings_is_another_today(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = COMMITMENTS_CSV + "c1,d1,Send figures,pending,2025-06-14,u1,high,2025-01-10,,,\n"
    write_files(source, {"commitments.csv": due})
    run_job(database, as_of="2025-06-14T22:00:00Z")
    assert scalar(database, "SELECT sum(overdue_commitments) FROM dossiers.commitment_stats") == 1
    monkeypatch.setenv("DOSSIER_TIMEZONE", "Europe/London")
    run_job(database, as_of="2025-06-14T22:00:00Z")
    assert scalar(database, "SELECT sum(overdue_commitments) FROM dossiers.commitment_stats") == 0


def test_only_the_tenant_that_is_named_is_refreshed(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tenant in ("one", "other"):
        monkeypatch.setenv("DOSSIER_TENANT", tenant)
        run_job(database, as_of=AS_OF, tenant_id="one")
    assert {key.tenant_id for key in stored_health(database)} == {"one"}


# --- failures ---------------------------------------------------------------------------------------------------


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a failed step says to a person."""
    event = next(event for event in result.all_events if event.is_step_failure and event.step_key == step)
    said = event.step_failure_data.user_failure_data
    assert said is not None
    assert said.description is not None
    return said.description


def test_a_moment_that_is_none_fails_in_words_and_changes_nothing(database: Database, source: Path) -> None:
    result, _ = run_job(database, as_of="next Tuesday")
    assert not result.success
    # What is loaded is dated by it, so that nothing is loaded.
    description = failure(result, "raw__dossiers")
    assert "as_of is 'next Tuesday', which is no ISO 8601 date or time." in description
    assert scalar(database, "SELECT count(*) FROM raw.dossiers") == 0
    assert stored_health(database) == {}
    assert "dossiers/health_scores" not in metadata(result)


def test_wrong_settings_fail_by_their_name_and_keep_the_scores(
    database: Database, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(database, as_of=AS_OF)
    before = stored_health(database)
    wrong = tmp_path / "health.toml"
    wrong.write_text("[defaults]\nweights = { engagement = 0.5, commitment = 0.5, recency = 0.5 }\n", encoding="utf-8")
    monkeypatch.setenv("DOSSIER_HEALTH_CONFIG", str(wrong))
    result, _ = run_job(database, as_of=AS_OF)
    assert not result.success
    assert "health.toml: defaults." in failure(result, "refresh_health")
    assert stored_health(database) == before


def test_settings_of_a_file_are_used_and_named(
    database: Database, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(database, as_of=AS_OF)
    built_in = Path(dg.file_relative_path(build_defs.__code__.co_filename, "dossiers/health.toml"))
    own = tmp_path / "health.toml"
    own.write_text(
        built_in.read_text(encoding="utf-8") + "\n[types.forum]\nmin_engagements = 1\nmin_commitments = 0\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("DOSSIER_HEALTH_CONFIG", str(own))
    result, _ = run_job(database, as_of=AS_OF)
    assert result.success
    assert metadata(result)["dossiers/health_scores"]["scored"] == 2
    assert scalar(database, "SELECT count(DISTINCT settings_version) FROM dossiers.health_scores") == 1
    assert scalar(database, "SELECT max(settings_version) FROM dossiers.health_scores") != DEFAULTS.version


# --- the other jobs ---------------------------------------------------------------------------------------------


def test_the_refresh_job_loads_nothing_and_takes_what_was_written_directly(database: Database, source: Path) -> None:
    run_job(database, as_of=AS_OF)
    dossier = scalar(database, "SELECT id FROM raw.dossiers WHERE name = 'Sweden'")
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) VALUES ('default', %s, %s, %s)",
            (uuid.uuid4(), dossier, MOMENT),
        )
    result, _ = run_job(database, "refresh_health_scores_job", as_of=AS_OF)
    assert result.success
    shown = metadata(result)
    assert set(shown) == {
        "dossiers/engagement_stats",
        "dossiers/commitment_stats",
        "dossiers/health_scores",
        "dossiers/dossier_overview",
        "dossiers/health_by_group",
    }
    assert shown["dossiers/health_scores"]["refreshed"] == 1
    assert {check.check_name for check in result.get_asset_check_evaluations()} == {
        "ranges",
        "formula_consistency",
        "uniqueness",
        "freshness",
        "drift",
        "settings_in_force",
    }


def test_the_nightly_job_computes_every_score_from_the_records(database: Database, source: Path) -> None:
    run_job(database)
    result, _ = run_job(database, "recompute_health_scores_job")
    assert result.success
    assert scalar(database, "SELECT count(*) FROM dossiers.health_refreshes WHERE mode = 'full'") == 1
    shown = metadata(result)["dossiers/health_scores"]
    assert (shown["refreshed"], shown["drifted"]) == (2, 0)


def test_the_nightly_job_runs_at_three_in_the_tenants_night(tmp_path: Path) -> None:
    schedule = build_defs().resolve_schedule_def("recompute_health_scores_nightly")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * *", "Asia/Riyadh")
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=datetime(2025, 6, 15, 0, tzinfo=UTC)
        ) as context,
    ):
        tick = schedule.evaluate_tick(context)
    assert tick.run_requests is not None
    assert len(tick.run_requests) == 1
    job = build_defs().resolve_job_def("recompute_health_scores_job")
    assert job.run_config is not None
    assert job.run_config["ops"] == {"refresh_health": {"config": {"full": True}}}


def test_a_day_without_the_nightly_job_is_a_day_late_and_not_lost(database: Database, source: Path) -> None:
    # Everything that time changed since the last run is done by the next, however long ago that was.
    run_job(database, as_of=AS_OF)
    run_job(database, as_of="2026-06-15T12:00:00+00:00")
    assert differences(stored_health(database), reference_health(database, as_of=MOMENT.replace(year=2026))) == {}
