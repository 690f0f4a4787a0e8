"""People are told of hearings and deadlines in the morning of their tenant: once, and of nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dossier_pipelines.litigation.reminders import DEADLINES, REMINDERS, MorningJob, tell_in_the_morning
from dossier_pipelines.notifications.recording import DeliveryPolicy
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.records import rows, scalar

MINUTE = timedelta(minutes=1)
# 08:00 and 09:00 in Riyadh.
EIGHT = datetime(2025, 6, 10, 5, tzinfo=UTC)
NINE = EIGHT + HOUR


def tell(database: Database, job: MorningJob, now: datetime, **more: Any) -> dict[str, Any]:
    return tell_in_the_morning(database, job, now=now, run_id="a run", **more)


def told(database: Database, kind: str) -> list[sa.Row[Any]]:
    return rows(
        database, "SELECT * FROM notifications.notifications WHERE kind = :kind ORDER BY tenant_id, user_id", kind=kind
    )


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_the_owner_and_the_advocate_are_reminded_of_the_hearings_of_today_and_tomorrow(
    database: Database, desk: Desk
) -> None:
    owner, advocate = desk.user(), desk.user()
    case = desk.case(
        case_number="GST 7/2024",
        title="Appeal",
        owner_id=owner,
        assigned_to=advocate,
        court_id=desk.court("GSTAT", "Ahmedabad"),
    )
    # The last moment of tomorrow in Riyadh, and the first of the day after.
    midnight = datetime(2025, 6, 11, 21, tzinfo=UTC)
    near = [desk.hearing(case, at) for at in (EIGHT + HOUR, midnight - MINUTE)]
    desk.hearing(case, midnight)
    desk.hearing(case, EIGHT - HOUR)
    for status in ("completed", "adjourned", "cancelled"):
        desk.hearing(case, EIGHT + 2 * HOUR, status=status)
    found = tell(database, REMINDERS, EIGHT)
    assert (found["hearings"], found["remindersSent"], found["eventsRecorded"], found["tenants"]) == (2, 4, 2, 1)
    messages = told(database, "hearing_reminder")
    assert {(row.user_id, row.metadata["hearing_id"]) for row in messages} == {
        (person, str(hearing)) for person in (owner, advocate) for hearing in near
    }
    first = next(row for row in messages if row.metadata["hearing_id"] == str(near[0]))
    assert first.title == "Hearing Reminder: GST 7/2024 - GSTAT"
    assert first.metadata | {"hearing_at": None} == {
        "hearing_id": str(near[0]),
        "case_id": str(case),
        "case_number": "GST 7/2024",
        "case_title": "Appeal",
        "court": "GSTAT",
        "city": "Ahmedabad",
        "hearing_at": None,
    }
    assert "2025-06-10 09:00 (Asia/Riyadh) at GSTAT, Ahmedabad" in first.message
    assert first.created_at == EIGHT


def test_each_tenant_has_its_own_eight_o_clock(database: Database) -> None:
    eight = {
        "riyadh": ("Asia/Riyadh", datetime(2025, 6, 10, 5, tzinfo=UTC)),
        "kolkata": ("Asia/Kolkata", datetime(2025, 6, 10, 2, 30, tzinfo=UTC)),
        "new-york": ("America/New_York", datetime(2025, 6, 10, 12, tzinfo=UTC)),
    }
    desks = {name: Desk(database, name, timezone=zone) for name, (zone, _) in eight.items()}
    tick = datetime(2025, 6, 10, 1, tzinfo=UTC)
    # In New York it is the evening before: that day is done.
    tell(database, REMINDERS, tick)
    for name, (_, at) in eight.items():
        desks[name].hearing(desks[name].case(owner_id=desks[name].user()), at + 3 * HOUR)
    heard: dict[str, datetime] = {}
    while tick < datetime(2025, 6, 10, 13, tzinfo=UTC):
        tell(database, REMINDERS, tick)
        for row in told(database, "hearing_reminder"):
            heard.setdefault(row.tenant_id, tick)
        tick += 15 * MINUTE
    assert heard == {name: at for name, (_, at) in eight.items()}
    assert len(told(database, "hearing_reminder")) == 3


def test_after_a_downtime_the_day_is_done_late_and_once(database: Database, desk: Desk) -> None:
    desk.hearing(desk.case(owner_id=desk.user()), EIGHT + DAY)
    assert tell(database, REMINDERS, EIGHT - MINUTE)["tenants"] == 0
    assert tell(database, REMINDERS, EIGHT + 5 * HOUR)["remindersSent"] == 1
    assert tell(database, REMINDERS, EIGHT + 6 * HOUR)["tenants"] == 0
    # The next morning the hearing of today was told of already.
    assert tell(database, REMINDERS, EIGHT + DAY - MINUTE)["tenants"] == 0
    again = tell(database, REMINDERS, EIGHT + DAY - MINUTE + 5 * MINUTE)
    assert (again["tenants"], again["hearings"], again["remindersSent"]) == (1, 0, 0)


def test_a_hearing_that_is_moved_to_another_day_is_told_again_and_on_the_same_day_not(
    database: Database, desk: Desk
) -> None:
    hearing = desk.hearing(desk.case(owner_id=desk.user()), EIGHT + 4 * HOUR)
    tell(database, REMINDERS, EIGHT)
    desk.change("hearings", hearing, hearing_date=EIGHT + 5 * HOUR)
    assert tell(database, REMINDERS, EIGHT, tenant_id="one")["remindersSent"] == 0
    desk.change("hearings", hearing, hearing_date=EIGHT + DAY)
    assert tell(database, REMINDERS, EIGHT, tenant_id="one")["remindersSent"] == 1


def test_whoever_wants_it_is_reminded_by_whatsapp_too(database: Database, desk: Desk) -> None:
    with_it, without = desk.user(phone="+966512345678", whatsapp=True), desk.user(phone="+966512345679")
    desk.hearing(desk.case(owner_id=with_it, assigned_to=without), EIGHT + HOUR)
    tell(database, REMINDERS, EIGHT, policy=DeliveryPolicy(on_request=("whatsapp",)))
    found = rows(
        database,
        "SELECT n.user_id, array_agg(d.channel ORDER BY d.channel) AS channels FROM notifications.deliveries AS d "
        "JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id GROUP BY 1",
    )
    assert {row.user_id: row.channels for row in found} == {
        with_it: ["email", "in_app", "whatsapp"],
        without: ["email", "in_app"],
    }


def test_what_is_missing_is_counted_and_holds_nobody_up(database: Database, desk: Desk) -> None:
    nowhere = desk.user(email=None)
    desk.hearing(desk.case(case_number="A", owner_id=nowhere), EIGHT + HOUR)
    desk.hearing(desk.case(case_number="B", court_id=desk.court()), EIGHT + HOUR)
    found = tell(database, REMINDERS, EIGHT)
    assert (found["hearings"], found["remindersSent"]) == (2, 1)
    assert (found["hearingsWithoutRecipient"], found["hearingsWithoutCourt"]) == (1, 1)
    [message] = told(database, "hearing_reminder")
    assert message.title == "Hearing Reminder: A - court not yet known"
    assert scalar(database, "SELECT array_agg(channel) FROM notifications.deliveries") == ["in_app"]


def test_each_person_gets_one_message_with_what_is_due_in_24_hours(database: Database, desk: Desk) -> None:
    clerk, advocate = desk.user(), desk.user()
    case = desk.case(case_number="C 1", assigned_to=advocate, court_id=desk.court("High Court", "Delhi"))
    normal = desk.task(case, title="File", due_date=NINE + HOUR, assigned_to=clerk)
    high = desk.task(case, title="Reply", due_date=NINE + 20 * HOUR, priority="high", assigned_to=clerk)
    edge = desk.task(case, title="Edge", due_date=NINE + DAY, priority="critical", assigned_to=clerk)
    nobodys = desk.task(case, title="Nobody's", due_date=NINE + HOUR)
    hearing = desk.hearing(case, NINE + 5 * HOUR)
    desk.task(case, due_date=NINE + DAY + MINUTE, assigned_to=clerk)
    desk.task(case, due_date=NINE - MINUTE, assigned_to=clerk)
    desk.task(case, due_date=NINE + HOUR, assigned_to=clerk, status="completed", completed_at=NINE)
    desk.hearing(case, NINE + HOUR, status="cancelled")
    found = tell(database, DEADLINES, NINE)
    assert (found["tasks"], found["hearings"], found["alertsSent"], found["eventsRecorded"]) == (4, 1, 2, 5)
    messages = {row.user_id: row for row in told(database, "deadlines")}
    listed = {user: [item["id"] for item in row.metadata["items"]] for user, row in messages.items()}
    assert listed == {
        clerk: [str(high), str(edge), str(normal)],
        advocate: [str(hearing), str(nobodys)],
    }
    assert messages[clerk].urgency == 1
    assert messages[advocate].metadata["items"][0] | {"due_at": None} == {
        "type": "hearing",
        "id": str(hearing),
        "title": "C 1",
        "due_at": None,
        "priority": "high",
        "case_number": "C 1",
        "court": "High Court",
        "city": "Delhi",
    }
    payloads = {
        row.payload["entity_id"]: row.payload
        for row in rows(database, "SELECT * FROM platform.events WHERE type = 'deadline_approaching'")
    }
    assert (payloads[str(high)]["entity_type"], payloads[str(high)]["hours_until_due"]) == ("task", 20)
    assert tell(database, DEADLINES, NINE + HOUR)["tenants"] == 0
    assert tell(database, DEADLINES, NINE + HOUR, tenant_id="one")["alertsSent"] == 0


def test_one_tenants_items_are_in_nobody_elses_message(database: Database) -> None:
    for name in ("one", "two"):
        desk = Desk(database, name)
        # The same ids in both: the tenant is a part of every key.
        user = desk.user()
        desk.task(desk.case(owner_id=user), title=f"Of {name}", due_date=NINE + HOUR, assigned_to=user)
        desk.hearing(desk.case(owner_id=user, case_number=f"Of {name}"), NINE + HOUR)
    tell(database, DEADLINES, NINE)
    tell(database, REMINDERS, NINE)
    for row in rows(
        database, "SELECT tenant_id, concat(title, message, metadata) AS said FROM notifications.notifications"
    ):
        other = "two" if row.tenant_id == "one" else "one"
        assert f"Of {row.tenant_id}" in row.said or "due in the next" in row.said
        assert f"Of {other}" not in row.said


@pytest.mark.parametrize(("job", "at"), [(REMINDERS, EIGHT), (DEADLINES, NINE)], ids=["reminders", "deadlines"])
def test_runs_at_once_tell_once_and_a_dry_run_tells_nobody(
    database: Database, desk: Desk, job: MorningJob, at: datetime
) -> None:
    user = desk.user()
    for _ in range(10):
        case = desk.case(owner_id=user)
        desk.hearing(case, at + HOUR)
        desk.task(case, due_date=at + HOUR, assigned_to=user)
    dry = tell(database, job, at, dry_run=True)
    assert dry["eventsRecorded"] > 0
    assert rows(database, "SELECT FROM platform.events") == []
    assert rows(database, "SELECT FROM notifications.notifications") == []
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: tell(database, job, at), range(4)))
    assert sum(each["eventsRecorded"] for each in found) == dry["eventsRecorded"]
    sent = "remindersSent" if job is REMINDERS else "alertsSent"
    assert sum(each[sent] for each in found) == dry[sent]


def test_a_tenant_that_is_none_is_refused(database: Database, desk: Desk) -> None:
    with pytest.raises(UserError, match="There is no tenant 'elsewhere'"):
        tell(database, REMINDERS, NOON, tenant_id="elsewhere")
