"""Every check passes on sound data and fails on broken data, with the ids of what is broken; blocking ones block."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from dossier_pipelines.definitions import build_defs
from dossier_pipelines.dossiers import checks
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.litigation import checks as litigation_checks
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import DAY, DEFAULTS, MICROSECOND, MINUTE, Records, configuration
from dossier_pipelines_tests.records import COMMITMENTS_CSV, DOSSIERS_CSV, ENGAGEMENTS_CSV, MINIMAL, load, write_files

CLOCK = datetime(2025, 6, 15, 12, tzinfo=UTC)
SCORES = "dossiers/health_scores"


def run_checks(database: Database, *names: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Run checks, or all of them, as a run does; return what each found, by "schema/table:check"."""
    definitions = build_defs({"database": database})
    selection = dg.AssetSelection.all_asset_checks()
    if names:
        keys = [dg.AssetCheckKey(dg.AssetKey(name.split(":")[0].split("/")), name.split(":")[1]) for name in names]
        selection = dg.AssetSelection.checks(*keys)
    result = dg.materialize(
        [*definitions.assets, *definitions.asset_checks],
        selection=selection,
        resources={"database": database},
        raise_on_error=False,
    )
    return {
        f"{found.asset_key.to_user_string()}:{found.check_name}": found
        for found in result.get_asset_check_evaluations()
    }


def check(database: Database, name: str) -> dg.AssetCheckEvaluation:
    return run_checks(database, name)[name]


def examples(found: dg.AssetCheckEvaluation) -> set[uuid.UUID]:
    return {uuid.UUID(one) for one in found.metadata["examples"].value}


def corrupt(database: Database, sql: str, **parameters: Any) -> None:
    """Change rows behind the back of triggers and constraints."""
    with database.transaction() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.text(sql), parameters)


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


@pytest.fixture
def dossier(database: Database, records: Records) -> uuid.UUID:
    """A sound dossier with a score, beside another."""
    for name in ("Norway", "Sweden"):
        dossier = records.dossier(name, type="country")
        records.engagements(dossier, CLOCK - DAY, CLOCK - 2 * DAY, CLOCK - 3 * DAY)
        records.commitment(dossier, "completed", description="Send figures")
        records.document(dossier)
    refresh_health(database, DEFAULTS, now=CLOCK)
    return dossier


def test_every_check_passes_on_sound_data(database: Database, dossier: uuid.UUID) -> None:
    found = run_checks(database)
    assert {name: one.passed for name, one in found.items()} == dict.fromkeys(found, True)
    every = (checks.CHECKS, litigation_checks.CHECKS)
    assert len(found) == sum(map(len, every))


def test_every_check_passes_on_an_empty_database(database: Database) -> None:
    found = run_checks(database)
    assert {name: one.passed for name, one in found.items()} == dict.fromkeys(found, True)


# --- raw records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["engagements", "commitments", "documents"])
def test_records_without_a_dossier_are_found(database: Database, dossier: uuid.UUID, table: str) -> None:
    corrupt(database, f"UPDATE raw.{table} SET dossier_id = gen_random_uuid() WHERE dossier_id = :id", id=dossier)
    expected = {engagement.id for engagement in orphans(database, table)}
    assert expected
    found = check(database, f"raw/{table}:references")
    assert not found.passed
    assert examples(found) == expected
    assert found.blocking
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert f"Broken for {len(expected)}: Every record of {table} belongs to a dossier that exists." in str(
        found.description
    )


def orphans(database: Database, table: str) -> list[sa.Row[Any]]:
    with database.transaction() as connection:
        return list(
            connection.execute(
                sa.text(f"SELECT id FROM raw.{table} WHERE dossier_id NOT IN (SELECT id FROM raw.dossiers)")
            )
        )


def test_a_record_of_another_tenants_dossier_has_no_dossier(database: Database, dossier: uuid.UUID) -> None:
    other = Records(database, tenant_id="other", clock_at=CLOCK)
    engagement = other.engagement(dossier, CLOCK - DAY)
    assert examples(check(database, "raw/engagements:references")) == {engagement}


def test_dossiers_that_look_the_same_are_found(database: Database, records: Records, dossier: uuid.UUID) -> None:
    twin = records.dossier("Sweden", type="country")
    records.dossier("Sweden", type="forum")
    found = check(database, "raw/dossiers:uniqueness")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["violations"].value == 1
    assert examples(found) <= {dossier, twin}


def test_commitments_that_look_the_same_are_found(database: Database, records: Records, dossier: uuid.UUID) -> None:
    first, second, third = (records.commitment(dossier, description="Open an office") for _ in range(3))
    # Without a description nothing says that two are the same.
    records.commitment(dossier)
    records.commitment(dossier)
    found = check(database, "raw/commitments:uniqueness")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["violations"].value == 2
    assert examples(found) <= {first, second, third}


def test_engagements_after_the_tenants_clock_are_found(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    records.engagement(dossier, CLOCK)
    assert check(database, "raw/engagements:not_in_the_future").passed
    future = records.engagement(dossier, CLOCK + MICROSECOND)
    found = check(database, "raw/engagements:not_in_the_future")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert examples(found) == {future}
    # Where the clock runs, the moment of the run decides: all of these are long past.
    records.set_clock(None)
    assert check(database, "raw/engagements:not_in_the_future").passed
    tomorrow = records.engagement(dossier, datetime.now(UTC) + DAY)
    assert examples(check(database, "raw/engagements:not_in_the_future")) == {tomorrow}


# --- rejected rows ----------------------------------------------------------------------------------------------


def engagements_csv(*, good: int, bad: int) -> str:
    lines = [f"e{number},d1,meeting,,2025-01-10T09:00:00Z," for number in range(good)]
    lines += [f"b{number},d1,meeting,,Ann Lee; 12 'Main' Street," for number in range(bad)]
    return ENGAGEMENTS_CSV + "\n".join(lines) + "\n"


@pytest.mark.parametrize(("good", "bad", "passed"), [(99, 1, True), (98, 2, False), (100, 0, True)])
def test_more_than_one_percent_of_rejected_rows_is_a_warning(
    database: Database, folder: Path, good: int, bad: int, passed: bool
) -> None:
    load(database, write_files(folder, {**MINIMAL, "engagements.csv": engagements_csv(good=good, bad=bad)}))
    found = check(database, "raw/engagements:rejected_share")
    assert (found.passed, found.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert found.metadata["rejected"].value == bad
    assert found.metadata["share"].value == bad / (good + bad)
    assert f"{bad} of {good + bad} rows were set aside." in str(found.description)


def test_the_reasons_of_rejected_rows_are_shown_without_the_values(database: Database, folder: Path) -> None:
    load(database, write_files(folder, {**MINIMAL, "engagements.csv": engagements_csv(good=5, bad=3)}))
    reasons = check(database, "raw/engagements:rejected_share").metadata["reasons"].value
    assert reasons == {"default": {"occurred_at is no date and time; write it like 2020-04-29T12:00:00+03:00": 3}}


def test_only_the_newest_load_is_judged(database: Database, folder: Path) -> None:
    load(database, write_files(folder, {**MINIMAL, "engagements.csv": engagements_csv(good=5, bad=3)}))
    load(database, write_files(folder, MINIMAL))
    assert check(database, "raw/engagements:rejected_share").passed


# --- scores -----------------------------------------------------------------------------------------------------


def set_value(database: Database, dossier: uuid.UUID, column: str, value: str) -> None:
    """Corrupt one column (``table.column``) of what is stored for a dossier."""
    table, name = column.split(".")
    corrupt(database, f"UPDATE dossiers.{table} SET {name} = {value} WHERE dossier_id = :id", id=dossier)


def require_broken(database: Database, name: str, dossier: uuid.UUID, *, promise: str, blocking: bool) -> None:
    found = check(database, name)
    assert not found.passed
    assert examples(found) == {dossier}
    assert found.metadata["violations"].value == 1
    assert str(found.description).startswith(f"Broken for 1: {promise}")
    assert found.blocking == blocking
    assert found.severity == dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("health_scores.engagement_frequency", "100.01"),
        ("health_scores.engagement_frequency", "-1"),
        ("health_scores.commitment_fulfillment", "101"),
        ("health_scores.recency", "-1"),
        ("engagement_stats.total_engagements_365d", "-1"),
        ("engagement_stats.recent_engagements_90d", "total_engagements_365d + 1"),
        ("commitment_stats.overdue_commitments", "-1"),
        ("commitment_stats.upcoming_commitments", "total_commitments + 1"),
        ("commitment_stats.fulfilled_commitments", "total_commitments + 1"),
        ("commitment_stats.total_commitments", "-1"),
    ],
)
def test_values_that_cannot_be_are_found(database: Database, dossier: uuid.UUID, column: str, value: str) -> None:
    set_value(database, dossier, column, value)
    require_broken(
        database,
        f"{SCORES}:ranges",
        dossier,
        promise="Every score and component lies between 0 and 100, every count is 0 or more.",
        blocking=True,
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("health_scores.overall_score", "overall_score + 1"),
        ("health_scores.overall_score", "NULL"),
        ("health_scores.band", "'poor'"),
        ("health_scores.recency", "40"),
        ("health_scores.engagement_frequency", "8"),
        ("health_scores.commitment_fulfillment", "99"),
        ("health_scores.insufficient_reason", "'nothing is missing'"),
        ("health_scores.settings_version", "'never used'"),
        ("engagement_stats.total_engagements_365d", "2"),
        ("commitment_stats.total_commitments", "0"),
    ],
)
def test_scores_that_do_not_follow_from_their_components_are_found(
    database: Database, dossier: uuid.UUID, column: str, value: str
) -> None:
    set_value(database, dossier, column, value)
    require_broken(
        database,
        f"{SCORES}:formula_consistency",
        dossier,
        promise="Every score is the weighted sum of its components, and its band fits it.",
        blocking=True,
    )


def test_scores_are_judged_by_the_settings_of_their_type(database: Database, records: Records) -> None:
    config = configuration(forum={"yearly_target": 3, "bands": {"excellent": 99, "good": 98, "fair": 97}})
    for kind in ("forum", "country", None):
        dossier = records.dossier(type=kind)
        records.engagements(dossier, *[CLOCK - DAY] * 3)
        records.commitment(dossier, "completed")
    refresh_health(database, config, now=CLOCK)
    assert check(database, f"{SCORES}:formula_consistency").passed
    # Another type waits for its next refresh, and is no defect.
    records.change("dossiers", dossier, type="forum")
    assert check(database, f"{SCORES}:formula_consistency").passed


@pytest.mark.parametrize("table", ["health_scores", "engagement_stats", "commitment_stats"])
def test_a_missing_row_is_found(database: Database, dossier: uuid.UUID, table: str) -> None:
    corrupt(database, f"DELETE FROM dossiers.{table} WHERE dossier_id = :id", id=dossier)
    require_broken(
        database,
        f"{SCORES}:uniqueness",
        dossier,
        promise="Every dossier has exactly one score and one row of each statistic.",
        blocking=True,
    )


def test_rows_without_a_dossier_are_found_once(database: Database, dossier: uuid.UUID) -> None:
    corrupt(database, "DELETE FROM raw.dossiers WHERE id = :id", id=dossier)
    require_broken(
        database,
        f"{SCORES}:uniqueness",
        dossier,
        promise="Every dossier has exactly one score and one row of each statistic.",
        blocking=True,
    )
    # What the check tells to do mends it.
    refresh_health(database, DEFAULTS, now=CLOCK, full=True)
    assert check(database, f"{SCORES}:uniqueness").passed


def test_a_dossier_that_waits_for_its_first_score_is_no_defect(database: Database, records: Records) -> None:
    records.dossier()
    assert check(database, f"{SCORES}:uniqueness").passed


# --- freshness --------------------------------------------------------------------------------------------------


def aged_scores(database: Database, records: Records, *, fresh: int, old: int) -> None:
    """Score dossiers, and let ``old`` of them be an hour old by the tenant's clock."""
    for number in range(fresh + old):
        dossier = records.dossier(f"Dossier {number}")
        records.engagements(dossier, *[CLOCK - DAY] * 3)
        records.commitment(dossier)
    refresh_health(database, DEFAULTS, now=CLOCK)
    corrupt(
        database,
        "UPDATE dossiers.health_scores SET as_of = :long_ago WHERE dossier_id IN "
        "(SELECT dossier_id FROM dossiers.health_scores ORDER BY dossier_id LIMIT :old)",
        long_ago=CLOCK - 60 * MINUTE,
        old=old,
    )


@pytest.mark.parametrize(("fresh", "old", "passed"), [(100, 0, True), (95, 5, True), (94, 6, False), (0, 1, False)])
def test_fewer_than_95_percent_of_fresh_scores_is_an_alert(
    database: Database, records: Records, fresh: int, old: int, passed: bool
) -> None:
    aged_scores(database, records, fresh=fresh, old=old)
    # Without enough data there is nothing that could grow old.
    records.dossier()
    found = check(database, f"{SCORES}:freshness")
    assert (found.passed, found.severity) == (passed, dg.AssetCheckSeverity.ERROR)
    assert found.metadata["fresh_share"].value == pytest.approx(fresh / (fresh + old))
    assert found.metadata["oldest_minutes"].value == (60 if old else 0)
    assert f"{fresh} of {fresh + old} scores are younger than 60 minutes." in str(found.description)


def test_a_score_is_fresh_until_it_is_60_minutes_old(database: Database, records: Records) -> None:
    aged_scores(database, records, fresh=0, old=1)
    corrupt(database, "UPDATE dossiers.health_scores SET as_of = :moment", moment=CLOCK - 60 * MINUTE + MICROSECOND)
    assert check(database, f"{SCORES}:freshness").passed


def test_where_the_clock_runs_a_score_ages_by_the_clock_of_the_run(database: Database, records: Records) -> None:
    records.set_clock(None)
    dossier = records.dossier()
    records.engagements(dossier, *[datetime.now(UTC)] * 3)
    records.commitment(dossier)
    refresh_health(database, DEFAULTS, now=datetime.now(UTC))
    assert check(database, f"{SCORES}:freshness").passed
    corrupt(database, "UPDATE dossiers.health_scores SET calculated_at = now() - interval '61 minutes'")
    found = check(database, f"{SCORES}:freshness")
    assert not found.passed
    assert found.metadata["oldest_minutes"].value == 61


# --- drift and settings -----------------------------------------------------------------------------------------


def test_a_score_that_was_changed_behind_our_back_is_called_drift_until_a_clean_recomputation(
    database: Database, dossier: uuid.UUID
) -> None:
    # Sound in itself, so that only the comparison tells: as if an engagement had been missed.
    corrupt(
        database,
        "UPDATE dossiers.engagement_stats SET recent_engagements_90d = 2 WHERE dossier_id = :id",
        id=dossier,
    )
    # A second tenant without drift adds nothing to the examples.
    Records(database, tenant_id="other", clock_at=CLOCK).dossier()
    refresh_health(database, DEFAULTS, now=CLOCK)
    assert check(database, f"{SCORES}:drift").passed
    assert refresh_health(database, DEFAULTS, now=CLOCK, full=True).drifted == 1
    require_broken(
        database,
        f"{SCORES}:drift",
        dossier,
        promise="The newest full recomputation found every score as the incremental refreshes had left it.",
        blocking=False,
    )
    assert refresh_health(database, DEFAULTS, now=CLOCK, full=True).drifted == 0
    assert check(database, f"{SCORES}:drift").passed


def test_a_changed_score_is_put_right_and_named_by_a_full_refresh(database: Database, dossier: uuid.UUID) -> None:
    set_value(database, dossier, "health_scores.overall_score", "overall_score - 1")
    assert refresh_health(database, DEFAULTS, now=CLOCK, full=True).drifted == 1
    assert examples(check(database, f"{SCORES}:drift")) == {dossier}
    assert check(database, f"{SCORES}:formula_consistency").passed


def test_scores_of_other_settings_are_found(
    database: Database, dossier: uuid.UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "health.toml"
    built_in = Path(checks.__file__).with_name("health.toml").read_text(encoding="utf-8")
    other.write_text(built_in.replace("yearly_target = 50", "yearly_target = 40"), encoding="utf-8")
    monkeypatch.setenv("DOSSIER_HEALTH_CONFIG", str(other))
    found = check(database, f"{SCORES}:settings_in_force")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["violations"].value == 2
    assert dossier in examples(found)


def test_settings_that_cannot_be_read_fail_the_check_by_name(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOSSIER_HEALTH_CONFIG", "/nowhere/health.toml")
    with pytest.raises(dg.Failure, match="DOSSIER_HEALTH_CONFIG"):
        checks.settings_in_force(database)


# --- what fails, blocks -----------------------------------------------------------------------------------------


def run_job(database: Database, name: str = "load_and_refresh_job") -> dg.ExecuteInProcessResult:
    return build_defs({"database": database}).resolve_job_def(name).execute_in_process(raise_on_error=False)


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


def test_records_without_a_dossier_keep_the_scores_from_being_computed(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOSSIER_SOURCE", str(write_files(folder, MINIMAL)))
    assert run_job(database).success
    corrupt(database, "UPDATE raw.commitments SET dossier_id = gen_random_uuid()")
    result = run_job(database)
    assert not result.success
    assert "raw/commitments" in materialized(result)
    assert materialized(result).isdisjoint(
        {"dossiers/commitment_stats", "dossiers/health_scores", "dossiers/dossier_overview", "dossiers/health_by_group"}
    )


def test_impossible_scores_keep_the_reports_from_being_published(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOSSIER_SOURCE", str(write_files(folder, MINIMAL)))
    assert run_job(database).success
    # Not stale, so that the refresh leaves it.
    corrupt(database, "UPDATE dossiers.health_scores SET recency = 101")
    result = run_job(database, "refresh_health_scores_job")
    assert not result.success
    assert materialized(result) == {
        "dossiers/engagement_stats",
        "dossiers/commitment_stats",
        "dossiers/health_scores",
    }
    # The nightly recomputation mends it, publishes, and says that it was wrong.
    result = run_job(database, "recompute_health_scores_job")
    assert materialized(result) >= {"dossiers/dossier_overview", "dossiers/health_by_group"}
    failed = {found.check_name for found in result.get_asset_check_evaluations() if not found.passed}
    assert failed == {"drift"}


def test_a_warning_blocks_nothing(database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = DOSSIERS_CSV + "d1,Sweden,country,,,,,\nd2,Sweden,country,,,,,\n"
    files = {**MINIMAL, "dossiers.csv": twins, "commitments.csv": COMMITMENTS_CSV}
    monkeypatch.setenv("DOSSIER_SOURCE", str(write_files(folder, files)))
    monkeypatch.setenv("DOSSIER_ALLOW_EMPTY", "true")
    result = run_job(database)
    assert result.success
    assert "dossiers/dossier_overview" in materialized(result)
    failed = {found.check_name for found in result.get_asset_check_evaluations() if not found.passed}
    assert failed == {"uniqueness"}


def test_checks_show_ids_and_no_texts(database: Database, records: Records, dossier: uuid.UUID) -> None:
    for name in ("Ann Lee", "Ann Lee"):
        records.dossier(name, type="country")
    records.engagement(dossier, CLOCK + DAY, description="Met Bob Ray")
    corrupt(database, "UPDATE dossiers.health_scores SET recency = 101")
    corrupt(database, "UPDATE raw.commitments SET dossier_id = gen_random_uuid()")
    shown = " ".join(f"{found.description} {found.metadata}" for found in run_checks(database).values())
    for text in ("Ann Lee", "Bob Ray", "Sweden", "Send figures"):
        assert text not in shown
