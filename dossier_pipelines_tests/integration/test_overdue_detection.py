"""Overdue detection: what is late is marked, recorded and told, once, and everything else is left alone."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dossier_pipelines.definitions import build_defs
from dossier_pipelines.dossiers import locks
from dossier_pipelines.dossiers.overdue import MOST_LISTED, OverdueScope, detect_in_transaction, detect_overdue
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import LeaseLostError, UserError
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.histories import (
    DAY,
    DEFAULTS,
    STATUSES,
    Records,
    differences,
    reference_health,
    stored_health,
)
from dossier_pipelines_tests.records import (
    COMMITMENTS_CSV,
    DOSSIERS_CSV,
    ENGAGEMENTS_CSV,
    contents,
    load,
    rows,
    scalar,
    write_files,
)

# Past midnight in Riyadh, still the day before in UTC.
CLOCK = datetime(2025, 6, 14, 22, tzinfo=UTC)
TODAY = date(2025, 6, 15)
YESTERDAY = TODAY - DAY
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANN, BOB = uuid.UUID(int=0xA), uuid.UUID(int=0xB)
WRITTEN = ("raw.commitments", "platform.events", "notifications.notifications", "notifications.deliveries")


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


def detect(database: Database, *, now: datetime = NOW, run_id: str = "a run", **scope: Any) -> dict[str, Any]:
    return detect_overdue(database, OverdueScope(**scope), now=now, run_id=run_id)


def statuses(database: Database, tenant_id: str = "default") -> dict[uuid.UUID, str]:
    found = rows(database, "SELECT id, status FROM raw.commitments WHERE tenant_id = :tenant", tenant=tenant_id)
    return {row.id: row.status for row in found}


def told(database: Database) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Who was told of which commitment."""
    found = rows(database, "SELECT user_id, metadata FROM notifications.notifications WHERE kind <> 'digest'")
    return sorted((row.user_id, uuid.UUID(row.metadata["commitment_id"])) for row in found)


def everything(database: Database) -> dict[str, list[str]]:
    """Every row that a detection writes, with the transaction that wrote it."""
    return {
        table: [row[0] for row in rows(database, f"SELECT xmin::text || t::text FROM {table} AS t ORDER BY 1")]
        for table in WRITTEN
    }


# --- what is late -----------------------------------------------------------------------------------------------


def test_pending_and_in_progress_commitments_due_before_today_are_marked_and_nothing_else(
    database: Database, records: Records
) -> None:
    dossier = records.dossier()
    before = {
        records.commitment(dossier, status, due_date=due): (status, due)
        for status in STATUSES
        for due in (TODAY - 400 * DAY, YESTERDAY, TODAY, TODAY + DAY, None)
    }
    detect(database)
    assert statuses(database) == {
        commitment: "overdue" if status in {"pending", "in_progress"} and due and due < TODAY else status
        for commitment, (status, due) in before.items()
    }


def test_today_is_that_of_the_tenants_zone_and_clock(database: Database) -> None:
    # At this moment it is the 15th in Riyadh and the 14th in New York; the third tenant's records end a day earlier,
    # and the last one lives in the present.
    expected = {}
    for tenant, zone, clock, status in (
        ("riyadh", "Asia/Riyadh", CLOCK, "overdue"),
        ("new-york", "America/New_York", CLOCK, "pending"),
        ("earlier", "Asia/Riyadh", CLOCK - DAY, "pending"),
        ("present", "America/New_York", None, "overdue"),
    ):
        records = Records(database, tenant_id=tenant, timezone=zone, clock_at=clock)
        expected[tenant] = {records.commitment(records.dossier(), due_date=YESTERDAY): status}
    assert detect(database)["overdueCount"] == 2
    assert {tenant: statuses(database, tenant) for tenant in expected} == expected


def test_a_moment_that_is_given_takes_the_place_of_every_clock(database: Database, records: Records) -> None:
    commitment = records.commitment(records.dossier(), due_date=date(2024, 2, 29))
    detect(database, as_of=datetime(2024, 2, 29, 20, 59, tzinfo=UTC))
    assert statuses(database) == {commitment: "pending"}
    detect(database, as_of=datetime(2024, 2, 29, 21, tzinfo=UTC))
    assert statuses(database) == {commitment: "overdue"}


def test_a_moment_to_come_is_refused_unless_it_is_a_dry_run(database: Database, records: Records) -> None:
    commitment = records.commitment(records.dossier(), due_date=CLOCK.date() + DAY)
    # A tenant without a dossier has nothing that could be late.
    Records(database, tenant_id="past", clock_at=CLOCK - 100 * DAY)
    with pytest.raises(UserError, match=r"the clock of tenant 'default' shows 2025-06-14.*dry_run"):
        detect(database, as_of=CLOCK + 9 * DAY)
    assert detect(database, as_of=CLOCK + 9 * DAY, dry_run=True)["overdueCount"] == 1
    assert statuses(database) == {commitment: "pending"}
    assert detect(database, as_of=CLOCK)["overdueCount"] == 0


def test_a_commitment_that_is_not_made_yet_is_not_late(database: Database, records: Records) -> None:
    dossier = records.dossier()
    later = records.commitment(dossier, due_date=YESTERDAY, created_at=CLOCK + DAY)
    at_once = records.commitment(dossier, due_date=YESTERDAY, created_at=CLOCK)
    detect(database)
    assert statuses(database) == {later: "pending", at_once: "overdue"}


def test_a_dossier_or_a_tenant_that_is_named_is_the_only_one_looked_at(database: Database, records: Records) -> None:
    one, other = records.dossier(), records.dossier()
    mine, its = records.commitment(one, due_date=YESTERDAY), records.commitment(other, due_date=YESTERDAY)
    stranger = Records(database, tenant_id="stranger", clock_at=CLOCK)
    theirs = stranger.commitment(stranger.dossier(), due_date=YESTERDAY)
    result = detect(database, tenant_id="default", dossier_id=str(one))
    assert [entry["id"] for entry in result["commitments"]] == [str(mine)]
    assert statuses(database) == {mine: "overdue", its: "pending"}
    detect(database, tenant_id="default")
    assert statuses(database) == {mine: "overdue", its: "overdue"}
    assert statuses(database, "stranger") == {theirs: "pending"}
    detect(database)
    assert statuses(database, "stranger") == {theirs: "overdue"}


# --- what is recorded -------------------------------------------------------------------------------------------


def test_each_mark_is_one_event_that_says_what_was_so(database: Database, records: Records) -> None:
    dossier = records.dossier()
    first = records.commitment(dossier, "in_progress", due_date=TODAY - 3 * DAY, priority="high")
    second = records.commitment(dossier, due_date=YESTERDAY)
    detect(database, run_id="run 7")
    found = rows(database, "SELECT * FROM platform.events ORDER BY (payload ->> 'days_overdue')::int DESC")
    assert [row.payload for row in found] == [
        {
            "commitment_id": str(first),
            "dossier_id": str(dossier),
            "due_date": "2025-06-12",
            "days_overdue": 3,
            "priority": "high",
            "previous_status": "in_progress",
        },
        {
            "commitment_id": str(second),
            "dossier_id": str(dossier),
            "due_date": "2025-06-14",
            "days_overdue": 1,
            "priority": None,
            "previous_status": "pending",
        },
    ]
    assert {(row.tenant_id, row.type, row.entity_type, row.occurred_at, row.run_id) for row in found} == {
        ("default", "commitment_overdue", "commitment", CLOCK, "run 7")
    }
    assert [row.entity_id for row in found] == [first, second]


@pytest.mark.parametrize(
    ("owner", "dossier_owner", "people"),
    [
        (ANN, BOB, [ANN, BOB]),
        (ANN, ANN, [ANN]),
        (ANN, None, [ANN]),
        (None, BOB, [BOB]),
        (None, None, []),
    ],
)
def test_the_owners_of_the_commitment_and_of_its_dossier_are_told_once_each(
    database: Database,
    records: Records,
    owner: uuid.UUID | None,
    dossier_owner: uuid.UUID | None,
    people: list[uuid.UUID],
) -> None:
    commitment = records.commitment(records.dossier(owner_id=dossier_owner), due_date=YESTERDAY, owner_id=owner)
    result = detect(database)
    assert told(database) == [(person, commitment) for person in people]
    assert (result["overdueCount"], result["eventsRecorded"], result["notificationsSent"]) == (1, 1, len(people))


def test_what_people_read_is_as_agreed(database: Database, records: Records) -> None:
    dossier = records.dossier("Côte d'Ivoire 100% %s", owner_id=BOB)
    commitment = records.commitment(
        dossier, due_date=date(2025, 3, 1), description="Send <b>50%</b> of the 'figures'", priority="critical"
    )
    detect(database, run_id="run 7")
    [row] = rows(database, "SELECT * FROM notifications.notifications")
    assert row.title == "Commitment overdue: Send <b>50%</b> of the 'figures'"
    assert row.message == (
        "Send <b>50%</b> of the 'figures' is overdue (due 2025-03-01). Dossier: Côte d'Ivoire 100% %s. "
        "Recommended: Update status or extend deadline."
    )
    assert row.metadata == {
        "commitment_id": str(commitment),
        "dossier_id": str(dossier),
        "due_date": "2025-03-01",
    }
    assert (row.tenant_id, row.user_id, row.kind, row.urgency, row.read_at) == (
        "default",
        BOB,
        "commitment_overdue",
        1,
        None,
    )
    # Told now, of what happened at the tenant's own moment.
    assert (row.created_at, row.run_id) == (NOW, "run 7")
    assert row.event_id == scalar(database, "SELECT id FROM platform.events")


@pytest.mark.parametrize(("priority", "urgency"), [("critical", 1), ("high", 2), ("medium", 3), (None, 3), ("low", 4)])
def test_what_has_priority_is_told_first(
    database: Database, records: Records, priority: str | None, urgency: int
) -> None:
    records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN, priority=priority)
    detect(database)
    assert scalar(database, "SELECT urgency FROM notifications.notifications") == urgency


def test_a_commitment_without_a_description_is_told_in_words_too(database: Database, records: Records) -> None:
    records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    detect(database)
    assert scalar(database, "SELECT title FROM notifications.notifications") == "Commitment overdue: no description"


def test_what_is_recorded_is_planned_in_the_same_transaction(database: Database, records: Records) -> None:
    records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    detect(database)
    [delivery] = rows(database, "SELECT channel, status FROM notifications.deliveries")
    # Nobody has a mail address: what is recorded is in the inbox all the same.
    assert tuple(delivery) == ("in_app", "sent")
    assert scalar(database, "SELECT count(*) = 0 FROM notifications.unplanned")


# --- once -------------------------------------------------------------------------------------------------------


def test_a_second_detection_finds_nothing_and_writes_nothing(database: Database, records: Records) -> None:
    records.commitment(records.dossier(owner_id=BOB), due_date=YESTERDAY, owner_id=ANN)
    detect(database)
    before = everything(database)
    result = detect(database, run_id="another run")
    assert everything(database) == before
    assert (result["overdueCount"], result["notificationsSent"], result["commitments"]) == (0, 0, [])


def test_what_is_taken_back_is_marked_recorded_and_told_by_the_next_detection(
    database: Database, records: Records
) -> None:
    commitment = records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    before = everything(database)
    with database.engine.connect() as connection:
        detect_in_transaction(connection, OverdueScope(), now=NOW, run_id="a run")
        connection.rollback()
    assert everything(database) == before
    assert detect(database)["eventsRecorded"] == 1
    assert told(database) == [(ANN, commitment)]


def test_a_mark_that_somebody_took_away_is_set_again_and_told_to_nobody(database: Database, records: Records) -> None:
    commitment = records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    detect(database)
    records.change("commitments", commitment, status="in_progress")
    result = detect(database)
    assert statuses(database) == {commitment: "overdue"}
    assert (result["overdueCount"], result["eventsRecorded"], result["notificationsSent"]) == (1, 0, 0)


def test_a_run_that_lost_its_lease_writes_nothing(database: Database, records: Records) -> None:
    commitment = records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    before = everything(database)
    lock = locks.OVERDUE
    with job_lease(database, lock.name, holder="one", seconds=lock.seconds) as lease:
        expire(database)
        with job_lease(database, lock.name, holder="other", seconds=lock.seconds) as newer:
            with pytest.raises(LeaseLostError, match="Nothing was written"):
                detect_overdue(database, OverdueScope(), now=NOW, run_id="one", lease=lease)
            assert everything(database) == before
            assert scalar(database, "SELECT count(*) FROM platform.audit_log") == 0
            detect_overdue(database, OverdueScope(), now=NOW, run_id="other", lease=newer)
    assert statuses(database) == {commitment: "overdue"}


def expire(database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE platform.job_leases SET expires_at = clock_timestamp()")


# --- dry run ----------------------------------------------------------------------------------------------------


def test_a_dry_run_lists_what_a_detection_would_mark_and_changes_and_sends_nothing(
    database: Database, records: Records
) -> None:
    for number in range(5):
        dossier = records.dossier(owner_id=BOB)
        records.commitment(dossier, "in_progress", due_date=YESTERDAY - number * DAY, owner_id=ANN)
        records.commitment(dossier, due_date=TODAY)
    refresh_health(database, DEFAULTS, now=NOW)
    before = everything(database)
    dry = detect(database, dry_run=True)
    assert everything(database) == before
    assert scalar(database, "SELECT count(*) FROM platform.stale_marks") == 0
    wet = detect(database)
    assert (dry["dryRun"], wet["dryRun"]) == (True, False)
    assert (dry["overdueCount"], dry["affectedDossiers"]) == (wet["overdueCount"], wet["affectedDossiers"]) == (5, 5)
    assert (dry["notificationsSent"], dry["eventsRecorded"]) == (0, 0)
    assert dry["commitments"] == [{**entry, "newStatus": entry["previousStatus"]} for entry in wet["commitments"]]


# --- what the source says afterwards ----------------------------------------------------------------------------

SOURCE = {
    "dossiers.csv": DOSSIERS_CSV + "d1,Sweden,country,Northern Europe,EU,public,,2020-01-01\n",
    "engagements.csv": ENGAGEMENTS_CSV + "e1,d1,meeting,First contact,2025-01-10T09:00:00Z,\n",
    "commitments.csv": COMMITMENTS_CSV
    + "c1,d1,Send figures,pending,2025-06-01,u1,high,2025-01-10,2025-01-10,,\n"
    + "c2,d1,Call back,in_progress,2025-06-02,u1,low,2025-01-10,2025-01-10,,\n",
}


@pytest.fixture
def source(database: Database, folder: Path) -> Path:
    """A source whose two commitments are loaded and marked."""
    load(database, write_files(folder, SOURCE))
    assert detect(database, as_of=CLOCK)["overdueCount"] == 2
    return folder


def reload(database: Database, source: Path, was: str, is_: str) -> None:
    """Load the source anew after an edit."""
    text = (source / "commitments.csv").read_text(encoding="utf-8")
    assert was in text
    load(database, write_files(source, {"commitments.csv": text.replace(was, is_)}))


def marks(database: Database) -> list[str]:
    found = rows(database, "SELECT status FROM raw.commitments ORDER BY source_key")
    return [row.status for row in found]


def test_an_unchanged_row_that_still_says_pending_is_not_even_touched(database: Database, source: Path) -> None:
    before = contents(database)
    load(database, source)
    assert contents(database) == before
    assert marks(database) == ["overdue", "overdue"]


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ("Send figures", "Send all the figures"),
        ("u1,high", "u2,critical"),
        ("2025-01-10,2025-01-10", "2025-01-10,2025-06-10"),
        ("Send figures,pending", "Send figures,in_progress"),
    ],
    ids=["description", "owner", "updated_at", "another open status"],
)
def test_a_row_that_changed_but_is_open_and_due_as_before_keeps_its_mark(
    database: Database, source: Path, was: str, is_: str
) -> None:
    reload(database, source, was, is_)
    assert marks(database) == ["overdue", "overdue"]
    assert detect(database, as_of=CLOCK)["overdueCount"] == 0
    changed = rows(database, "SELECT description, priority, owner_id FROM raw.commitments ORDER BY source_key")[0]
    assert (changed.description, changed.priority) == (
        "Send all the figures" if "all" in is_ else "Send figures",
        "critical" if "critical" in is_ else "high",
    )


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_a_row_that_is_done_takes_its_mark_away(database: Database, source: Path, status: str) -> None:
    reload(database, source, "Send figures,pending", f"Send figures,{status}")
    assert marks(database) == [status, "overdue"]
    assert detect(database, as_of=CLOCK)["overdueCount"] == 0


def test_a_due_date_in_the_future_takes_the_mark_away_until_it_has_passed_too(database: Database, source: Path) -> None:
    reload(database, source, "2025-06-01", "2025-08-01")
    assert marks(database) == ["pending", "overdue"]
    assert detect(database, as_of=CLOCK)["overdueCount"] == 0
    result = detect(database, as_of=datetime(2025, 8, 2, 12, tzinfo=UTC))
    assert [entry["dueDate"] for entry in result["commitments"]] == ["2025-08-01"]
    assert (result["eventsRecorded"], result["notificationsSent"]) == (1, 1)
    dates = rows(database, "SELECT payload ->> 'due_date' AS due FROM platform.events ORDER BY 1")
    assert [row.due for row in dates] == ["2025-06-01", "2025-06-02", "2025-08-01"]


# --- the result document ----------------------------------------------------------------------------------------


def test_the_result_says_what_was_found_and_done(database: Database, records: Records) -> None:
    one, other = records.dossier(owner_id=BOB), records.dossier()
    first = records.commitment(one, "in_progress", due_date=TODAY - 2 * DAY, owner_id=ANN, description="Send figures")
    second = records.commitment(one, due_date=YESTERDAY, description="Call back")
    third = records.commitment(other, due_date=YESTERDAY)
    assert detect(database) == {
        "overdueCount": 3,
        "affectedDossiers": 2,
        "notificationsSent": 3,
        "eventsRecorded": 3,
        "healthScoresRecalculated": 0,
        "dryRun": False,
        "commitments": [
            {
                "id": str(commitment),
                "dossierId": str(dossier),
                "description": description,
                "dueDate": due,
                "ownerId": owner,
                "previousStatus": status,
                "newStatus": "overdue",
            }
            for commitment, dossier, description, due, owner, status in (
                (first, one, "Send figures", "2025-06-13", str(ANN), "in_progress"),
                (second, one, "Call back", "2025-06-14", None, "pending"),
                (third, other, "no description", "2025-06-14", None, "pending"),
            )
        ],
    }


def test_of_very_many_the_result_counts_all_and_lists_the_first(database: Database, records: Records) -> None:
    dossier = records.dossier()
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO raw.commitments (tenant_id, id, dossier_id, status, due_date) "
            "SELECT 'default', gen_random_uuid(), %s, 'pending', date '2020-01-01' + n "
            "FROM generate_series(1, %s) AS n",
            (dossier, MOST_LISTED + 1),
        )
    result = detect(database)
    assert (result["overdueCount"], len(result["commitments"])) == (MOST_LISTED + 1, MOST_LISTED)
    assert result["commitments"][0]["dueDate"] == "2020-01-02"
    assert scalar(database, "SELECT count(*) FROM platform.events") == MOST_LISTED + 1


# --- the job ----------------------------------------------------------------------------------------------------


def run_job(database: Database, **config: Any) -> tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]:
    instance = dg.DagsterInstance.ephemeral()
    job = build_defs({"database": database}).resolve_job_def("detect_overdue_commitments_job")
    run_config = {"ops": {"mark_overdue_commitments": {"config": config}}} if config else None
    return job.execute_in_process(instance=instance, raise_on_error=False, run_config=run_config), instance


def output_metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [
        event
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_OUTPUT and event.step_key == "refresh_affected_scores"
    ]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    said = event.step_failure_data.user_failure_data
    assert said is not None
    return str(said.description)


def test_the_job_marks_refreshes_the_affected_scores_and_shows_the_document(
    database: Database, records: Records
) -> None:
    late, fine = records.dossier(owner_id=BOB), records.dossier()
    commitment = records.commitment(late, due_date=YESTERDAY, owner_id=ANN, description="Send figures")
    records.commitment(fine, due_date=TODAY)
    refresh_health(database, DEFAULTS, now=NOW)
    before = rows(database, "SELECT dossier_id, calculated_at FROM dossiers.health_scores ORDER BY 1")
    result, _ = run_job(database)
    assert result.success
    shown = output_metadata(result)
    document = shown.pop("result")
    took = shown.pop("executionTimeMs")
    assert isinstance(took, int)
    assert shown == {
        "overdueCount": 1,
        "affectedDossiers": 1,
        "notificationsSent": 2,
        "healthScoresRecalculated": 1,
        "dryRun": False,
    }
    assert {name: document[name] for name in shown} == shown
    assert document["executionTimeMs"] == took
    assert [entry["id"] for entry in document["commitments"]] == [str(commitment)]
    after = rows(database, "SELECT dossier_id, calculated_at FROM dossiers.health_scores ORDER BY 1")
    assert [new.calculated_at > old.calculated_at for old, new in zip(before, after, strict=True)] == [True, False]
    assert scalar(database, "SELECT count(*) FROM platform.stale_marks") == 0
    assert differences(stored_health(database), reference_health(database)) == {}


def test_the_job_writes_its_document_into_the_audit_log(database: Database, records: Records) -> None:
    records.commitment(records.dossier(), due_date=YESTERDAY)
    result, _ = run_job(database)
    [row] = rows(database, "SELECT tenant_id, action_type, run_id, details FROM platform.audit_log")
    assert (row.tenant_id, row.action_type, row.run_id) == ("*", "background_job_execution", result.run_id)
    assert row.details["results"] == output_metadata(result)["result"]


def test_a_dry_run_of_the_job_changes_no_score_either(database: Database, records: Records) -> None:
    records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    before = everything(database)
    result, _ = run_job(database, dry_run=True)
    assert result.success
    shown = output_metadata(result)
    assert (shown["overdueCount"], shown["dryRun"], shown["healthScoresRecalculated"]) == (1, True, 0)
    assert everything(database) == before
    assert stored_health(database) == {}


def test_the_job_takes_a_dossier_a_tenant_and_a_moment(database: Database, records: Records) -> None:
    one, other = records.dossier(), records.dossier()
    due = YESTERDAY - DAY
    mine, its = records.commitment(one, due_date=due), records.commitment(other, due_date=due)
    # Late by the clock, and not at the moment that is given.
    later = records.commitment(one, due_date=YESTERDAY)
    result, _ = run_job(database, dossier_id=str(one).upper(), tenant_id="default", as_of="2025-06-14T00:00")
    assert result.success
    assert statuses(database) == {mine: "overdue", its: "pending", later: "pending"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"dossier_id": "Sweden"}, "dossier_id is 'Sweden', which is no UUID."),
        ({"as_of": "next Tuesday"}, "as_of is 'next Tuesday', which is no ISO 8601 date or time."),
    ],
)
def test_a_wrong_option_fails_in_words_and_changes_nothing(
    database: Database, records: Records, config: dict[str, str], said: str
) -> None:
    commitment = records.commitment(records.dossier(), due_date=YESTERDAY)
    result, _ = run_job(database, **config)
    assert not result.success
    assert said in failure(result)
    assert statuses(database) == {commitment: "pending"}


def test_a_second_run_at_the_same_time_says_who_is_at_work_and_does_nothing(
    database: Database, records: Records
) -> None:
    commitment = records.commitment(records.dossier(), due_date=YESTERDAY)
    with job_lease(database, locks.OVERDUE.name, holder="the other run", seconds=locks.OVERDUE.seconds):
        result, _ = run_job(database)
    assert not result.success
    assert "held by run the other run since" in failure(result)
    assert statuses(database) == {commitment: "pending"}


def test_the_job_holds_its_lease_only_while_it_works(database: Database, records: Records) -> None:
    records.commitment(records.dossier(), due_date=YESTERDAY)
    run_job(database)
    found = rows(database, "SELECT job, holder, fencing_number, ended_because FROM platform.job_leases ORDER BY job")
    assert [tuple(row) for row in found] == [
        ("detect_overdue_commitments", None, 1, "released"),
        ("refresh_health_scores", None, 1, "released"),
    ]


def test_a_run_that_died_after_marking_is_taken_up_where_it_stopped(
    database: Database, records: Records, new_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOSSIER_DATABASE_URL", new_database_url)
    commitment = records.commitment(records.dossier(), due_date=YESTERDAY, owner_id=ANN)
    instance = dg.DagsterInstance.ephemeral()
    job = build_defs({"database": database}).resolve_job_def("detect_overdue_commitments_job")
    # The scores cannot be refreshed: the formula's settings cannot be read.
    monkeypatch.setenv("DOSSIER_HEALTH_CONFIG", "/no/such/file.toml")
    died = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not died.success
    assert statuses(database) == {commitment: "overdue"}
    assert stored_health(database) == {}
    monkeypatch.delenv("DOSSIER_HEALTH_CONFIG")
    options = dg.ReexecutionOptions.from_failure(died.run_id, instance)
    again = dg.execute_job(dg.reconstructable(the_job), instance=instance, reexecution_options=options)
    assert again.success
    assert differences(stored_health(database), reference_health(database)) == {}
    document = scalar(
        database, "SELECT details -> 'results' FROM platform.audit_log WHERE run_id = :id", id=again.run_id
    )
    assert (document["overdueCount"], document["healthScoresRecalculated"]) == (1, 1)


def the_job() -> dg.JobDefinition:
    """The job with the resources that a run of its own has: a re-execution builds it anew."""
    return build_defs().resolve_job_def("detect_overdue_commitments_job")


def test_the_log_of_the_job_names_no_person_and_no_promise(database: Database, records: Records) -> None:
    records.commitment(records.dossier("Atlantis"), due_date=YESTERDAY, owner_id=ANN, description="Send the figures")
    result, instance = run_job(database)
    logged = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.user_message]
    assert any("1 overdue in 1 dossiers" in message for message in logged)
    assert not any("Send the figures" in message or "Atlantis" in message for message in logged), json.dumps(logged)
