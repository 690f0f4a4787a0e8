"""Every change of a commitment's status is kept, each with the moment from which on it holds."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.dossiers.overdue import OverdueScope, detect_in_transaction, detect_overdue
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines_tests.histories import (
    DAY,
    DEFAULTS,
    HOUR,
    MICROSECOND,
    STATUSES,
    ZONES,
    Records,
    differences,
    reference_health,
    stored_health,
)
from dossier_pipelines_tests.records import COMMITMENTS_CSV, MINIMAL, load, rows, scalar, write_files

CLOCK: Final = datetime(2025, 6, 15, 12, tzinfo=UTC)
MADE: Final = CLOCK - 60 * DAY


class Entry(NamedTuple):
    """An entry of the history; without ``valid_from`` the status always was so."""

    status: str
    valid_from: datetime | None
    cause: str = "source"


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


@pytest.fixture
def dossier(records: Records) -> uuid.UUID:
    return records.dossier()


def histories(database: Database) -> dict[tuple[str, uuid.UUID], list[Entry]]:
    """Every commitment's history; its ordinals have no gap."""
    found: dict[tuple[str, uuid.UUID], list[Entry]] = {}
    for row in rows(database, "SELECT * FROM dossiers.commitment_history ORDER BY tenant_id, commitment_id, ordinal"):
        entries = found.setdefault((row.tenant_id, row.commitment_id), [])
        entries.append(Entry(row.status, row.valid_from, row.cause))
        assert row.ordinal == len(entries), row
    return found


def history(database: Database, commitment: uuid.UUID, tenant_id: str = "default") -> list[Entry]:
    return histories(database).get((tenant_id, commitment), [])


def told(database: Database, ids: dict[str, uuid.UUID]) -> dict[str, list[Entry]]:
    """The histories of several cases' commitments."""
    found = histories(database)
    return {case: found["default", commitment] for case, commitment in ids.items()}


def require_consistent(database: Database) -> None:
    """Every commitment has a history that begins when it was made and ends with what it is."""
    broken = rows(
        database,
        """
        SELECT c.tenant_id, c.id, first.valid_from, c.created_at, last.status, c.status AS is, last.valid_from AS since,
            c.status_since
        FROM raw.commitments AS c
        FULL JOIN (
            SELECT DISTINCT ON (tenant_id, commitment_id) * FROM dossiers.commitment_history
            ORDER BY tenant_id, commitment_id, ordinal
        ) AS first ON first.tenant_id = c.tenant_id AND first.commitment_id = c.id
        LEFT JOIN (
            SELECT DISTINCT ON (tenant_id, commitment_id) * FROM dossiers.commitment_history
            ORDER BY tenant_id, commitment_id, ordinal DESC
        ) AS last ON last.tenant_id = c.tenant_id AND last.commitment_id = c.id
        WHERE (first.valid_from, last.status, last.valid_from)
            IS DISTINCT FROM (c.created_at, c.status, c.status_since) OR first.ordinal IS DISTINCT FROM 1
        """,
    )
    assert broken == []


def untouched(database: Database) -> list[str]:
    """Every entry, with the transaction that wrote it."""
    return [row[0] for row in rows(database, "SELECT xmin::text || h FROM dossiers.commitment_history AS h ORDER BY 1")]


def detect(database: Database, **scope: Any) -> int:
    """How many are found late."""
    found = detect_overdue(database, OverdueScope(**scope), now=CLOCK, run_id=str(scope))
    return len(found["commitments"])


# As a load merges: what is new is inserted, what is known is replaced, in one statement.
_COLUMNS: Final = {
    "id": "uuid",
    "dossier_id": "uuid",
    "status": "text",
    "due_date": "date",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "completed_at": "timestamptz",
    "cancelled_at": "timestamptz",
}
WRITE: Final = sa.text(
    f"INSERT INTO raw.commitments (tenant_id, {', '.join(_COLUMNS)}) SELECT :tenant_id, n.* FROM unnest("
    + ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _COLUMNS.items())
    + ") AS n ON CONFLICT (tenant_id, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "id")
)


# --- what a new commitment tells --------------------------------------------------------------------------------

EARLIER, LATER = CLOCK - 9 * DAY, CLOCK - 4 * DAY
TOLD: Final[dict[str, tuple[dict[str, Any], list[Entry]]]] = {
    "open": ({"status": "pending", "created_at": MADE}, [Entry("pending", MADE)]),
    "begun": ({"status": "in_progress", "created_at": MADE}, [Entry("in_progress", MADE)]),
    "open since always": ({"status": "pending"}, [Entry("pending", None)]),
    "open, with the date of an end that was taken back": (
        {"status": "pending", "created_at": MADE, "completed_at": LATER},
        [Entry("pending", MADE)],
    ),
    "completed": (
        {"status": "completed", "created_at": MADE, "completed_at": LATER},
        [Entry("pending", MADE), Entry("completed", LATER)],
    ),
    "cancelled": (
        {"status": "cancelled", "created_at": MADE, "cancelled_at": LATER},
        [Entry("pending", MADE), Entry("cancelled", LATER)],
    ),
    "completed, made nobody knows when": (
        {"status": "completed", "completed_at": LATER},
        [Entry("pending", None), Entry("completed", LATER)],
    ),
    "completed without a date": ({"status": "completed", "created_at": MADE}, [Entry("completed", MADE)]),
    "cancelled without a date": ({"status": "cancelled", "created_at": MADE}, [Entry("cancelled", MADE)]),
    "completed without any date": ({"status": "completed"}, [Entry("completed", None)]),
    "completed before it was made": (
        {"status": "completed", "created_at": MADE, "completed_at": MADE - DAY},
        [Entry("completed", MADE)],
    ),
    "completed, then cancelled": (
        {"status": "cancelled", "created_at": MADE, "completed_at": EARLIER, "cancelled_at": LATER},
        [Entry("pending", MADE), Entry("completed", EARLIER), Entry("cancelled", LATER)],
    ),
    "cancelled, then completed": (
        {"status": "completed", "created_at": MADE, "completed_at": LATER, "cancelled_at": EARLIER},
        [Entry("pending", MADE), Entry("cancelled", EARLIER), Entry("completed", LATER)],
    ),
    "both ends, made nobody knows when": (
        {"status": "completed", "completed_at": LATER, "cancelled_at": EARLIER},
        [Entry("pending", None), Entry("cancelled", EARLIER), Entry("completed", LATER)],
    ),
    "both ends at the same moment": (
        {"status": "completed", "created_at": MADE, "completed_at": LATER, "cancelled_at": LATER},
        [Entry("pending", MADE), Entry("completed", LATER)],
    ),
    "the other end is later than the status": (
        {"status": "completed", "created_at": MADE, "completed_at": EARLIER, "cancelled_at": LATER},
        [Entry("pending", MADE), Entry("completed", EARLIER)],
    ),
    "the other end is before it was made": (
        {"status": "cancelled", "created_at": MADE, "completed_at": MADE - DAY, "cancelled_at": LATER},
        [Entry("pending", MADE), Entry("cancelled", LATER)],
    ),
    "overdue, due nobody knows when": ({"status": "overdue", "created_at": MADE}, [Entry("overdue", MADE)]),
    "overdue since before it was made": (
        {"status": "overdue", "created_at": MADE, "due_date": (MADE - 5 * DAY).date()},
        [Entry("overdue", MADE)],
    ),
}


def test_a_new_commitment_is_told_by_its_own_dates(database: Database, records: Records, dossier: uuid.UUID) -> None:
    ids = {case: records.commitment(dossier, **values) for case, (values, _) in TOLD.items()}
    assert told(database, ids) == {case: expected for case, (_, expected) in TOLD.items()}
    require_consistent(database)


def test_commitments_that_come_in_one_statement_are_told_one_by_one(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    ids = {case: uuid.uuid5(dossier, case) for case in TOLD}
    missing: dict[str, Any] = dict.fromkeys(_COLUMNS)
    every = [{**missing, **values, "id": ids[case], "dossier_id": dossier} for case, (values, _) in TOLD.items()]
    with database.transaction() as connection:
        connection.execute(WRITE, {"tenant_id": "default", **{name: [one[name] for one in every] for name in _COLUMNS}})
    assert told(database, ids) == {case: expected for case, (_, expected) in TOLD.items()}
    require_consistent(database)


# Days after which a commitment is overdue, and when they are over.
ENDS_OF_DAYS: Final = (
    ("Asia/Riyadh", date(2025, 6, 1), "2025-06-01T21:00:00Z"),
    ("America/New_York", date(2025, 3, 9), "2025-03-10T04:00:00Z"),
    ("Pacific/Kiritimati", date(2024, 2, 28), "2024-02-28T10:00:00Z"),
    # Midnight does not exist: clocks go from 24:00 to 1:00.
    ("Africa/Cairo", date(2025, 4, 24), "2025-04-24T22:00:00Z"),
    # Midnight comes twice: clocks go back from 1:00 to 0:00.
    ("America/Havana", date(2025, 11, 1), "2025-11-02T04:00:00Z"),
    # Clocks go from midnight back to 23:00.
    ("America/Nuuk", date(2025, 10, 25), "2025-10-26T02:00:00Z"),
)


def test_a_commitment_that_arrives_overdue_was_so_from_the_day_after_it_was_due(database: Database) -> None:
    made = datetime(2024, 1, 1, tzinfo=UTC)
    for zone, due, since in ENDS_OF_DAYS:
        records = Records(database, tenant_id=zone, timezone=zone, clock_at=CLOCK)
        commitment = records.commitment(records.dossier(), "overdue", created_at=made, due_date=due)
        assert history(database, commitment, zone) == [
            Entry("pending", made),
            Entry("overdue", datetime.fromisoformat(since)),
        ], zone
    require_consistent(database)


# --- what changes -----------------------------------------------------------------------------------------------

CHANGES: Final[dict[str, tuple[dict[str, Any], datetime]]] = {
    "the date of the completion": ({"status": "completed", "completed_at": LATER}, LATER),
    "the date of the cancellation": ({"status": "cancelled", "cancelled_at": LATER}, LATER),
    "the date of the end, whenever it was reported": (
        {"status": "completed", "completed_at": EARLIER, "updated_at": LATER},
        EARLIER,
    ),
    "the date of another end says nothing": (
        {"status": "completed", "cancelled_at": LATER + DAY, "updated_at": LATER},
        LATER,
    ),
    "the source's change": ({"status": "in_progress", "updated_at": LATER}, LATER),
    "the source's change, for an end without a date": ({"status": "completed", "updated_at": LATER}, LATER),
    "the tenant's clock": ({"status": "in_progress"}, CLOCK),
    "the tenant's clock, for an end without a date": ({"status": "cancelled"}, CLOCK),
    "an old change of the source's is not this one": ({"status": "in_progress", "updated_at": EARLIER - DAY}, CLOCK),
    "not before it was made": ({"status": "completed", "completed_at": MADE - DAY}, MADE),
}


def test_a_changed_status_holds_from_what_the_source_says_or_else_from_now_on(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    ids = {case: records.commitment(dossier, created_at=MADE, updated_at=EARLIER - DAY) for case in CHANGES}
    for case, (values, _) in CHANGES.items():
        records.change("commitments", ids[case], **values)
    assert told(database, ids) == {
        case: [Entry("pending", MADE), Entry(values["status"], since)] for case, (values, since) in CHANGES.items()
    }
    require_consistent(database)


def test_two_changes_between_two_loads_are_kept_in_the_order_of_their_dates(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    cancelled, completed = (records.commitment(dossier, created_at=MADE) for _ in range(2))
    records.change("commitments", cancelled, status="cancelled", completed_at=EARLIER, cancelled_at=LATER)
    records.change("commitments", completed, status="completed", completed_at=LATER, cancelled_at=EARLIER)
    begins = Entry("pending", MADE)
    assert history(database, cancelled) == [begins, Entry("completed", EARLIER), Entry("cancelled", LATER)]
    assert history(database, completed) == [begins, Entry("cancelled", EARLIER), Entry("completed", LATER)]
    require_consistent(database)


def test_an_end_that_is_known_already_is_not_told_twice(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, created_at=MADE)
    records.change("commitments", commitment, status="completed", completed_at=EARLIER)
    records.change("commitments", commitment, status="cancelled", cancelled_at=LATER)
    assert history(database, commitment) == [
        Entry("pending", MADE),
        Entry("completed", EARLIER),
        Entry("cancelled", LATER),
    ]
    records.change("commitments", commitment, status="pending", updated_at=LATER + DAY)
    records.change("commitments", commitment, status="cancelled", cancelled_at=CLOCK)
    # The completion lies before the reopening; it is no second one.
    assert history(database, commitment)[3:] == [Entry("pending", LATER + DAY), Entry("cancelled", CLOCK)]
    require_consistent(database)


def test_a_commitment_that_is_reopened_is_open_from_then_on(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, "completed", created_at=MADE, completed_at=EARLIER)
    records.change("commitments", commitment, status="pending", completed_at=None, updated_at=LATER)
    records.change("commitments", commitment, status="completed", completed_at=CLOCK)
    assert history(database, commitment) == [
        Entry("pending", MADE),
        Entry("completed", EARLIER),
        Entry("pending", LATER),
        Entry("completed", CLOCK),
    ]
    require_consistent(database)


def test_a_change_that_is_none_adds_nothing(database: Database, records: Records, dossier: uuid.UUID) -> None:
    commitment = records.commitment(dossier, "completed", created_at=MADE, completed_at=EARLIER)
    before = untouched(database)
    records.change("commitments", commitment, status="completed", completed_at=EARLIER, updated_at=CLOCK)
    records.change("commitments", commitment, description="Told anew", due_date=CLOCK.date(), priority="high")
    assert untouched(database) == before


def test_every_tenant_learns_by_its_own_clock(database: Database) -> None:
    learnt = []
    for number, clock_at in enumerate((CLOCK, CLOCK - 3 * DAY)):
        tenant = Records(database, tenant_id=f"tenant-{number}", clock_at=clock_at)
        # Both have the same id.
        commitment = tenant.commitment(tenant.dossier(), created_at=MADE)
        tenant.change("commitments", commitment, status="in_progress")
        learnt.append(history(database, commitment, tenant.tenant_id)[1:])
    assert learnt == [[Entry("in_progress", CLOCK)], [Entry("in_progress", CLOCK - 3 * DAY)]]
    require_consistent(database)


# --- what overdue detection marks -------------------------------------------------------------------------------


def test_a_mark_is_kept_with_its_cause_and_the_moment_of_the_detection(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, created_at=MADE, due_date=LATER.date())
    assert detect(database, as_of=CLOCK - HOUR) == 1
    marked = [Entry("pending", MADE), Entry("overdue", CLOCK - HOUR, "detection")]
    assert history(database, commitment) == marked
    assert detect(database) == 0
    assert history(database, commitment) == marked
    require_consistent(database)


def test_what_follows_a_mark_comes_from_the_source_again(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, created_at=MADE, due_date=LATER.date())
    with database.transaction() as connection:
        detect_in_transaction(connection, OverdueScope(), now=CLOCK, run_id="a run")
        connection.execute(sa.text("UPDATE raw.commitments SET status = 'in_progress', due_date = '2025-08-01'"))
    assert history(database, commitment)[1:] == [Entry("overdue", CLOCK, "detection"), Entry("in_progress", CLOCK)]
    require_consistent(database)


def test_a_completion_that_is_reported_late_outdoes_the_mark_made_meanwhile(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, created_at=MADE, due_date=(EARLIER - DAY).date())
    assert detect(database, as_of=LATER) == 1
    records.change("commitments", commitment, status="completed", completed_at=EARLIER)
    assert history(database, commitment) == [
        Entry("pending", MADE),
        Entry("overdue", LATER, "detection"),
        Entry("completed", EARLIER),
    ]
    require_consistent(database)
    require_counts(database, {EARLIER - MICROSECOND: (0, 1), EARLIER: (1, 0), LATER: (1, 0), CLOCK: (1, 0)})
    # Nor does the mark come up again when there is something newer.
    records.change("commitments", commitment, status="pending", updated_at=CLOCK, due_date=CLOCK.date())
    require_counts(database, {EARLIER - MICROSECOND: (0, 0), EARLIER: (1, 0), LATER: (1, 0), CLOCK: (0, 0)})


def require_counts(database: Database, expected: dict[datetime, tuple[int, int]]) -> None:
    """As of moments, so many commitments are fulfilled and overdue."""
    for moment, counts in expected.items():
        refresh_health(database, DEFAULTS, now=CLOCK, as_of=moment, full=True)
        [health] = stored_health(database).values()
        assert (health.fulfilled_commitments, health.overdue_commitments) == counts, moment
        assert differences(stored_health(database), reference_health(database, as_of=moment)) == {}


# --- what the source corrects -----------------------------------------------------------------------------------


def test_a_corrected_date_is_corrected_and_not_added(database: Database, records: Records, dossier: uuid.UUID) -> None:
    commitment = records.commitment(dossier, "completed", created_at=MADE, completed_at=EARLIER)
    for corrected, expected in ((LATER, LATER), (EARLIER - DAY, EARLIER - DAY), (MADE - DAY, MADE)):
        records.change("commitments", commitment, completed_at=corrected)
        assert history(database, commitment) == [Entry("pending", MADE), Entry("completed", expected)]
        require_consistent(database)


def test_the_date_of_a_change_is_corrected_when_it_is_told_after_it(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, created_at=MADE)
    records.change("commitments", commitment, status="cancelled")
    assert history(database, commitment)[1:] == [Entry("cancelled", CLOCK)]
    records.change("commitments", commitment, cancelled_at=LATER)
    assert history(database, commitment)[1:] == [Entry("cancelled", LATER)]
    records.change("commitments", commitment, cancelled_at=None)
    assert history(database, commitment)[1:] == [Entry("cancelled", LATER)]
    require_consistent(database)


def test_dates_that_follow_tell_the_past_of_a_commitment_that_had_none(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, "cancelled", created_at=MADE)
    assert history(database, commitment) == [Entry("cancelled", MADE)]
    records.change("commitments", commitment, completed_at=EARLIER, cancelled_at=LATER)
    assert history(database, commitment) == [
        Entry("pending", MADE),
        Entry("completed", EARLIER),
        Entry("cancelled", LATER),
    ]
    require_consistent(database)


REMADE: Final[tuple[tuple[dict[str, Any], datetime | None, list[Entry]], ...]] = (
    ({"status": "pending"}, LATER, [Entry("pending", LATER)]),
    ({"status": "pending"}, None, [Entry("pending", None)]),
    ({"status": "completed"}, EARLIER, [Entry("completed", EARLIER)]),
    ({"status": "completed", "completed_at": LATER}, EARLIER, [Entry("pending", EARLIER), Entry("completed", LATER)]),
    ({"status": "completed", "completed_at": LATER}, None, [Entry("pending", None), Entry("completed", LATER)]),
    # It was completed when it was made, at the earliest.
    ({"status": "completed", "completed_at": EARLIER}, LATER, [Entry("pending", LATER), Entry("completed", LATER)]),
)


def test_when_it_was_made_is_corrected_too(database: Database, records: Records, dossier: uuid.UUID) -> None:
    for values, created_at, expected in REMADE:
        commitment = records.commitment(dossier, created_at=MADE, **values)
        records.change("commitments", commitment, created_at=created_at)
        assert history(database, commitment) == expected, (values, created_at)
        require_consistent(database)


def test_when_it_was_made_is_corrected_together_with_a_change(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, created_at=MADE)
    records.change("commitments", commitment, status="completed", completed_at=LATER, created_at=EARLIER)
    assert history(database, commitment) == [Entry("pending", EARLIER), Entry("completed", LATER)]
    require_consistent(database)


# --- what is gone -----------------------------------------------------------------------------------------------


def test_a_commitment_that_is_deleted_takes_its_history_along(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    gone, also_gone, stays = (
        records.commitment(dossier, "completed", created_at=MADE, completed_at=LATER) for _ in range(3)
    )
    other = Records(database, tenant_id="other", clock_at=CLOCK)
    elsewhere = [other.commitment(other.dossier()) for _ in range(3)]
    records.remove("commitments", gone, also_gone)
    assert histories(database).keys() == {("default", stays), *(("other", one) for one in elsewhere)}
    assert len(history(database, stays)) == 2


def test_a_dossier_that_is_deleted_takes_its_commitments_histories_along(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    records.commitment(dossier)
    stays = records.commitment(records.dossier())
    records.remove("dossiers", dossier)
    assert histories(database).keys() == {("default", stays)}


@pytest.mark.parametrize("table", ["commitments", "dossiers"])
def test_a_table_that_is_emptied_leaves_no_history(
    database: Database, records: Records, dossier: uuid.UUID, table: str
) -> None:
    records.commitment(dossier, "completed", created_at=MADE, completed_at=LATER)
    with database.transaction() as connection:
        connection.execute(sa.text(f"TRUNCATE raw.{table}"))
    assert histories(database) == {}


def test_a_commitment_that_gets_another_id_is_a_new_one(
    database: Database, records: Records, dossier: uuid.UUID
) -> None:
    commitment = records.commitment(dossier, "completed", created_at=MADE, completed_at=LATER)
    other = uuid.UUID(int=0xFFFF)
    records.change("commitments", commitment, id=other)
    assert histories(database) == {("default", other): [Entry("pending", MADE), Entry("completed", LATER)]}
    require_consistent(database)


# --- what is loaded ---------------------------------------------------------------------------------------------

SOURCE: Final = {
    **MINIMAL,
    "commitments.csv": COMMITMENTS_CSV
    + "c1,d1,Send figures,pending,2025-06-01,u1,high,2025-01-10,2025-01-10,,\n"
    + "c2,d1,Call,completed,2025-06-01,u1,high,2025-01-10,2025-02-01,2025-02-01T10:00:00Z,\n"
    + "c3,d1,Visit,cancelled,2025-06-01,u1,high,2025-01-10,2025-03-01,2025-02-01T10:00:00Z,2025-03-01T10:00:00Z\n",
}
# Dates of a source are the tenant's, three hours ahead.
LOADED: Final = Entry("pending", datetime(2025, 1, 9, 21, tzinfo=UTC))


def loaded(database: Database) -> dict[str, list[Entry]]:
    names = {
        (row.tenant_id, row.id): row.source_key
        for row in rows(database, "SELECT tenant_id, id, source_key FROM raw.commitments")
    }
    return {names[key]: entries for key, entries in histories(database).items()}


@pytest.fixture
def source(database: Database, folder: Path) -> Path:
    load(database, write_files(folder, SOURCE))
    return folder


def reload(database: Database, source: Path, was: str, is_: str) -> None:
    """Load the source anew after an edit."""
    text = (source / "commitments.csv").read_text(encoding="utf-8")
    assert was in text
    load(database, write_files(source, {"commitments.csv": text.replace(was, is_)}))


def test_a_load_brings_every_status_that_the_source_tells(database: Database, source: Path) -> None:
    completed = datetime(2025, 2, 1, 10, tzinfo=UTC)
    assert loaded(database) == {
        "c1": [LOADED],
        "c2": [LOADED, Entry("completed", completed)],
        "c3": [LOADED, Entry("completed", completed), Entry("cancelled", datetime(2025, 3, 1, 10, tzinfo=UTC))],
    }
    require_consistent(database)


def test_rows_that_are_loaded_unchanged_add_nothing(database: Database, source: Path) -> None:
    before = untouched(database)
    load(database, source)
    reload(database, source, "Call,completed", "Call again,completed")
    assert scalar(database, "SELECT count(*) FROM raw.commitments WHERE description = 'Call again'") == 1
    assert untouched(database) == before


def test_a_load_adds_what_has_changed_since(database: Database, source: Path) -> None:
    before = loaded(database)
    reload(
        database,
        source,
        "Send figures,pending,2025-06-01,u1,high,2025-01-10,2025-01-10,",
        "Send figures,completed,2025-06-01,u1,high,2025-01-10,2025-05-05,2025-05-04T08:00:00Z",
    )
    assert loaded(database) == {
        **before,
        "c1": [LOADED, Entry("completed", datetime(2025, 5, 4, 8, tzinfo=UTC))],
    }
    require_consistent(database)


def test_a_load_that_computes_for_a_moment_learns_at_that_moment(database: Database, source: Path) -> None:
    text = (source / "commitments.csv").read_text(encoding="utf-8")
    write_files(source, {"commitments.csv": text.replace("Send figures,pending", "Send figures,in_progress")})
    configured = configured_source(read_settings({"DOSSIER_SOURCE": str(source)}))
    configured.load(database, ENTITIES["commitments"], known=ENTITIES, run_id="for a moment", noticed_at=LATER)
    assert loaded(database)["c1"] == [LOADED, Entry("in_progress", LATER)]
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE platform.tenants SET clock_at = :clock"), {"clock": CLOCK})
        connection.execute(sa.text("UPDATE raw.commitments SET status = 'pending' WHERE source_key = 'c1'"))
    assert loaded(database)["c1"][2:] == [Entry("pending", CLOCK)]
    require_consistent(database)


def test_a_load_that_still_calls_a_marked_commitment_open_adds_nothing(database: Database, source: Path) -> None:
    assert detect(database, as_of=CLOCK) == 1
    before = untouched(database)
    reload(database, source, "Send figures", "Send all the figures")
    assert untouched(database) == before
    reload(database, source, "2025-06-01,u1,high,2025-01-10,2025-01-10", "2025-08-01,u1,high,2025-01-10,2025-06-10")
    assert loaded(database)["c1"] == [
        LOADED,
        Entry("overdue", CLOCK, "detection"),
        Entry("pending", datetime(2025, 6, 9, 21, tzinfo=UTC)),
    ]
    require_consistent(database)


# --- made-up histories ------------------------------------------------------------------------------------------

SEQUENCES: Final = 200
STATEMENTS_EACH: Final = 11
END_OF: Final = {"completed": "completed_at", "cancelled": "cancelled_at"}
OTHER_END: Final = {"completed": "cancelled", "cancelled": "completed"}


def latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


@dataclass
class Promise:
    """A commitment as the rule sees it."""

    status: str
    due_date: date | None
    created_at: datetime | None
    updated_at: datetime | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    since: datetime | None = None
    past: list[Entry] = field(default_factory=list)

    def end(self, status: str) -> datetime | None:
        """When it came to an end, if the source says so."""
        return getattr(self, END_OF[status]) if status in END_OF else None

    def begin(self, zone: ZoneInfo) -> None:
        """Be new: nothing is known but the present row."""
        told = self.end(self.status)
        if self.status == "overdue" and self.due_date is not None:
            after = self.due_date + DAY
            told = datetime(after.year, after.month, after.day, tzinfo=zone).astimezone(UTC)
        self.since = latest((told, self.created_at))
        self.tell()

    def tell(self) -> None:
        """Have the past that the present row tells."""
        self.past = [] if self.since == self.created_at else [Entry("pending", self.created_at)]
        self.past += self.ended_before(self.created_at)
        self.past.append(Entry(self.status, self.since))

    def ended_before(self, after: datetime | None) -> list[Entry]:
        """The other end, when it lies between a moment and the present status."""
        other = OTHER_END.get(self.status)
        moment = self.end(other) if other else None
        if other is None or moment is None or self.since is None or moment >= self.since:
            return []
        return [Entry(other, moment)] if after is None or moment > after else []

    def change(self, clock: datetime, **values: Any) -> None:
        """Take another row of the source."""
        old = dict(vars(self))
        vars(self).update(values)
        told = self.end(self.status)
        dates = {name for name in ("created_at", "completed_at", "cancelled_at") if old[name] != getattr(self, name)}
        if self.status != old["status"]:
            if told is None and self.updated_at is not None and self.updated_at != old["updated_at"]:
                told = self.updated_at
            self.since = latest((told or clock, self.created_at))
        elif told is not None:
            self.since = latest((told, self.created_at))
        elif old["since"] == old["created_at"]:
            self.since = self.created_at
        else:
            self.since = latest((self.since, self.created_at))
        if self.status == old["status"] and len(self.past) == 1:
            if dates:
                self.tell()
            return
        self.past[0] = self.past[0]._replace(valid_from=self.created_at)
        if self.status == old["status"]:
            self.past[-1] = self.past[-1]._replace(valid_from=self.since)
            return
        if old["status"] != OTHER_END.get(self.status):
            self.past += self.ended_before(old["since"])
        self.past.append(Entry(self.status, self.since))

    def mark(self, clock: datetime) -> None:
        """Be found late."""
        self.status, self.since = "overdue", clock
        self.past.append(Entry("overdue", clock, "detection"))


class Sequence:
    """A tenant whose commitments change at random, in the database and by the rule; one seed makes one sequence."""

    def __init__(self, number: int) -> None:
        self.random = Random(f"status history {number}")
        self.tenant_id = f"sequence-{number:03}"
        self.zone = self.random.choice(ZONES)
        self.clock = CLOCK + self.random.randrange(300) * DAY
        self.dossier_id = uuid.UUID(int=self.random.getrandbits(128))
        self.promises: dict[uuid.UUID, Promise] = {}
        self.log: list[str] = []

    def open(self, connection: sa.Connection) -> None:
        self._run(
            connection,
            "INSERT INTO platform.tenants (tenant_id, timezone, clock_at) VALUES (:tenant_id, :zone, :clock)",
            zone=self.zone,
            clock=self.clock,
        )
        self._run(
            connection,
            "INSERT INTO raw.dossiers (tenant_id, id, name) VALUES (:tenant_id, :id, 'A')",
            id=self.dossier_id,
        )

    def _run(self, connection: sa.Connection, sql: str | sa.TextClause, **parameters: Any) -> None:
        self.log.append(f"{sql if isinstance(sql, str) else 'write'} {parameters}")
        statement = sa.text(sql) if isinstance(sql, str) else sql
        connection.execute(statement, {"tenant_id": self.tenant_id, **parameters})

    # Few different moments, so that they meet.
    def _moment(self) -> datetime | None:
        if self.random.random() < 0.35:
            return None
        return self.clock + self.random.randrange(-6, 3) * 12 * HOUR

    def _due(self) -> date | None:
        if self.random.random() < 0.1:
            return None
        return self.clock.date() + self.random.randrange(-4, 4) * DAY

    def _row(self) -> dict[str, Any]:
        moments = {name: self._moment() for name, kind in _COLUMNS.items() if kind == "timestamptz"}
        return {"status": self.random.choice(STATUSES), "due_date": self._due(), **moments}

    def _some(self) -> list[uuid.UUID]:
        return self.random.sample(sorted(self.promises), min(len(self.promises), self.random.choice((1, 2, 3))))

    def go_on(self, connection: sa.Connection) -> None:
        """Make one statement."""
        kinds = {"write": 6, "change": 8, "detect": 3, "delete": 1, "renumber": 1, "describe": 1, "time": 3, "move": 1}
        kind = self.random.choices(list(kinds), list(kinds.values()))[0] if self.promises else "write"
        getattr(self, f"_{kind}")(connection)

    def _write(self, connection: sa.Connection) -> None:
        new = [uuid.UUID(int=self.random.getrandbits(128)) for _ in range(self.random.choice((0, 1, 2, 3)))]
        found = {one: self._row() for one in [*new, *self._some()]}
        for one, row in found.items():
            if one in self.promises:
                # A source repeats most of what it said.
                kept = self.random.sample(list(row), self.random.randrange(len(row) + 1))
                row.update({name: getattr(self.promises[one], name) for name in kept})
                self.promises[one].change(self.clock, **row)
            else:
                self.promises[one] = Promise(**row)
                self.promises[one].begin(ZoneInfo(self.zone))
        columns: dict[str, list[Any]] = {name: [row[name] for row in found.values()] for name in self._row()}
        self._run(connection, WRITE, id=list(found), dossier_id=[self.dossier_id] * len(found), **columns)

    def _change(self, connection: sa.Connection) -> None:
        ids, row = self._some(), self._row()
        values = {name: row[name] for name in self.random.sample(list(row), self.random.choice((1, 1, 2, 3)))}
        for one in ids:
            self.promises[one].change(self.clock, **values)
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        self._run(
            connection,
            f"UPDATE raw.commitments SET {assignments} WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
            ids=ids,
            **values,
        )

    def _detect(self, connection: sa.Connection) -> None:
        self.log.append("detect")
        today = self.clock.astimezone(ZoneInfo(self.zone)).date()
        late = [
            promise
            for promise in self.promises.values()
            if promise.status in ("pending", "in_progress")
            and promise.due_date is not None
            and promise.due_date < today
            and (promise.created_at is None or promise.created_at <= self.clock)
        ]
        for promise in late:
            promise.mark(self.clock)
        scope = OverdueScope(tenant_id=self.tenant_id)
        found = detect_in_transaction(connection, scope, now=CLOCK, run_id=f"{self.tenant_id} {len(self.log)}")
        assert found["overdueCount"] == len(late), self.log

    def _delete(self, connection: sa.Connection) -> None:
        ids = self._some()
        for one in ids:
            del self.promises[one]
        self._run(connection, "DELETE FROM raw.commitments WHERE tenant_id = :tenant_id AND id = ANY (:ids)", ids=ids)

    def _renumber(self, connection: sa.Connection) -> None:
        [was, *_] = self._some()
        is_ = uuid.UUID(int=self.random.getrandbits(128))
        self.promises[is_] = self.promises.pop(was)
        self.promises[is_].tell()
        self._run(
            connection,
            "UPDATE raw.commitments SET id = :is WHERE tenant_id = :tenant_id AND id = :was",
            was=was,
            **{"is": is_},
        )

    def _describe(self, connection: sa.Connection) -> None:
        self._run(connection, "UPDATE raw.commitments SET description = 'Told anew' WHERE tenant_id = :tenant_id")

    def _time(self, connection: sa.Connection) -> None:
        self.clock += self.random.choice((-1, 1, 2, 3)) * 12 * HOUR
        self._run(connection, "UPDATE platform.tenants SET clock_at = :at WHERE tenant_id = :tenant_id", at=self.clock)

    def _move(self, connection: sa.Connection) -> None:
        self.zone = self.random.choice(ZONES)
        self._run(connection, "UPDATE platform.tenants SET timezone = :to WHERE tenant_id = :tenant_id", to=self.zone)


def test_whatever_happens_the_history_is_what_the_rule_says(database: Database) -> None:
    sequences = [Sequence(number) for number in range(SEQUENCES)]
    with database.transaction() as connection:
        for one in sequences:
            one.open(connection)
    entries = 0
    for _ in range(STATEMENTS_EACH):
        with database.transaction() as connection:
            for one in sequences:
                one.go_on(connection)
        stored = histories(database)
        for one in sequences:
            expected = {(one.tenant_id, key): promise.past for key, promise in one.promises.items()}
            found = {key: past for key, past in stored.items() if key[0] == one.tenant_id}
            assert found == expected, "\n".join(one.log)
        require_consistent(database)
        entries = len([entry for past in stored.values() for entry in past])
    assert entries > 7 * SEQUENCES, "the sequences have become dull"
