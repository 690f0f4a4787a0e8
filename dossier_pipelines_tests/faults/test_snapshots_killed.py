"""A backfill, or a restating, that is killed at every fifth step: the next run leaves what one clean run leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers import snapshots
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.faults.desk import await_gone
from dossier_pipelines_tests.faults.history import say
from dossier_pipelines_tests.faults.steps import killed_at
from dossier_pipelines_tests.faults.work import (
    DAYS,
    one_year_at_a_time,
    restate_days,
    restate_days_in_process,
    take_days,
    take_days_in_process,
)
from dossier_pipelines_tests.histories import Records
from dossier_pipelines_tests.records import rows, scalar

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def years(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many chunks as there are years."""
    monkeypatch.setattr(snapshots, "MOST_DOSSIER_YEARS", snapshots.MOST_DOSSIER_YEARS)
    one_year_at_a_time()


@pytest.fixture
def records(database: Database) -> Records:
    """Two relationships with a past of three years."""
    records = Records(database)
    for place in range(2):
        dossier = records.dossier(f"Counterpart {place}", created_at=datetime(2023, 1, 1, tzinfo=UTC))
        begun = datetime(2023, 2 + place, 3, 12, tzinfo=UTC)
        records.engagements(dossier, *(begun + timedelta(days=40 * number) for number in range(20)))
        for number in range(6):
            made = begun + timedelta(days=100 * number)
            records.commitment(dossier, created_at=made, due_date=(made + timedelta(days=50)).date())
    return records


def stored(database: Database) -> list[str]:
    days = "SELECT CAST(x AS text) AS row FROM dossiers.{} AS x ORDER BY 1"
    return [row.row for table in ("snapshot_spans", "snapshot_days") for row in rows(database, days.format(table))]


def forget(database: Database) -> None:
    with database.transaction() as connection:
        for table in ("snapshot_spans", "snapshot_days", "snapshot_chunks", "snapshot_reach", "snapshot_marks"):
            connection.execute(sa.text(f"TRUNCATE dossiers.{table}"))


def test_a_backfill_killed_at_every_fifth_step_goes_on_where_it_stopped(
    database: Database, records: Records, new_database_url: str, years: None
) -> None:
    assert take_days(database).skipped == 0
    clean = stored(database)
    assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_days") == (DAYS[1] - DAYS[0]).days + 1
    step, went_on = 1, set()
    forget(database)
    while killed_at(step, take_days_in_process, new_database_url):
        await_gone(database)
        done = scalar(database, "SELECT count(*) FROM dossiers.snapshot_chunks")
        assert take_days(database).skipped == done
        assert stored(database) == clean, f"killed at step {step}"
        went_on.add(done)
        # Not each of two hundred steps, but every kind of step, at every chunk.
        step += 5
        forget(database)
    assert went_on == {0, 1, 2, 3}
    say("backfill killed at every fifth step", kills=(step - 1) // 5, steps=step - 1, lost=0)


def test_a_restating_killed_at_every_fifth_step_is_done_by_the_next_one(
    database: Database, records: Records, new_database_url: str, years: None
) -> None:
    dossier = rows(database, "SELECT id FROM raw.dossiers ORDER BY id LIMIT 1")[0].id

    def overtaken() -> None:
        forget(database)
        with database.transaction() as connection:
            connection.execute(sa.text("DELETE FROM raw.engagements WHERE type = 'late'"))
        take_days(database)
        with database.transaction() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at, type) "
                    "VALUES ('default', md5('late')::uuid, :dossier, '2024-02-29 12:00Z', 'late')"
                ),
                {"dossier": dossier},
            )

    overtaken()
    restate_days(database)
    clean = stored(database)
    step = 1
    overtaken()
    assert stored(database) != clean
    while killed_at(step, restate_days_in_process, new_database_url):
        await_gone(database)
        restate_days(database)
        assert stored(database) == clean, f"killed at step {step}"
        assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_marks") == 0
        step += 5
        overtaken()
    say("restating killed at every fifth step", kills=(step - 1) // 5, steps=step - 1, lost=0)
