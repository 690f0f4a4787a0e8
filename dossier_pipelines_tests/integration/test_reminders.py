"""People are told of hearings and deadlines in the morning of their tenant: once, and of nothing else."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dossier_pipelines.litigation.reminders import DEADLINES, REMINDERS, MorningJob, tell_in_the_morning
from dossier_pipelines.notifications.channels.email import Email
from dossier_pipelines.notifications.channels.whatsapp import WhatsApp
from dossier_pipelines.notifications.delivery import Lane, deliver_due
from dossier_pipelines.notifications.recording import DeliveryPolicy
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import SmtpSettings, WhatsAppSettings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.outbox import Answer, mail_server, receiver
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


def test_hearings_of_today_come_one_by_one_before_those_of_tomorrow(database: Database, desk: Desk) -> None:
    case = desk.case(owner_id=desk.user())
    for place in range(8):
        desk.hearing(case, EIGHT + DAY + place * HOUR)
    today = {desk.hearing(case, EIGHT + (1 + place) * HOUR) for place in range(6)}
    tell(database, REMINDERS, EIGHT)
    assert {row.urgency for row in told(database, "hearing_reminder")} == {1, 2}
    in_digest = rows(
        database,
        "SELECT n.metadata ->> 'hearing_id' AS hearing FROM notifications.notifications AS n "
        "JOIN notifications.deliveries AS d ON d.tenant_id = n.tenant_id AND d.notification_id = n.id "
        "WHERE d.digest_id IS NOT NULL",
    )
    assert len(in_digest) == 4
    assert today.isdisjoint(uuid.UUID(row.hearing) for row in in_digest)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("America/New_York", "2025-06-10 02:00 (America/New_York)"),
        (None, "2025-06-10 09:00 (Asia/Riyadh)"),
        ("Nowhere/Land", "2025-06-10 09:00 (Asia/Riyadh)"),
    ],
)
def test_the_inbox_has_the_time_in_the_zone_of_its_reader_too(
    database: Database, desk: Desk, zone: str | None, said: str
) -> None:
    other = desk.user(timezone="Asia/Kolkata")
    user = desk.user(timezone=zone)
    desk.hearing(desk.case(owner_id=user, assigned_to=other), EIGHT + HOUR)
    tell(database, REMINDERS, EIGHT)
    found = {row.user_id: row.message for row in told(database, "hearing_reminder")}
    assert said in found[user]
    assert "2025-06-10 11:30 (Asia/Kolkata)" in found[other]


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


TOKEN = "a token"


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_a_hearing_of_which_only_the_date_and_the_case_are_known_reaches_its_people(
    database: Database, desk: Desk, locale: str
) -> None:
    user = desk.user(phone="+966512345678", whatsapp=True, locale=locale)
    desk.hearing(desk.case(case_number="C-3", owner_id=user), EIGHT + HOUR)
    policy = DeliveryPolicy(on_request=("whatsapp",))
    tell(database, REMINDERS, EIGHT, policy=policy)
    [inbox] = told(database, "hearing_reminder")
    assert inbox.message == "C-3 is heard on 2025-06-10 09:00 (Asia/Riyadh) at a court that is not yet known."
    tell(database, DEADLINES, EIGHT, tenant_id="one")
    with mail_server() as mails, receiver() as cloud:
        cloud.otherwise = Answer(200, {}, json.dumps({"messages": [{"id": "wamid"}]}).encode())
        smtp = SmtpSettings(host="127.0.0.1", port=mails.port, encryption="none")
        meta = WhatsAppSettings(
            url=cloud.url.removesuffix("/hooks"),
            phone_number_id="1065",
            token=TOKEN,
            templates=(("hearing_reminder", "hearing_v1"),),
        )
        lanes = {
            "email": Lane(channel=Email(smtp, sender="Desk <desk@desk.example>", timeout=30), concurrency=1),
            "whatsapp": Lane(channel=WhatsApp(meta, timeout=30, connections=1), concurrency=1),
        }
        found = deliver_due(database, lanes, policy).outcomes
    assert found == {("email", "sent"): 2, ("whatsapp", "sent"): 1}
    assert [row.last_error for row in rows(database, "SELECT DISTINCT last_error FROM notifications.deliveries")] == [
        None
    ]


def told_of(database: Database) -> list[str]:
    """The titles of what people were told is due."""
    return sorted(item["title"] for row in told(database, "deadlines") for item in row.metadata["items"])


def test_mornings_follow_each_other_without_a_gap_when_clocks_are_put_back(database: Database) -> None:
    desk = Desk(database, timezone="America/New_York")
    case, user = desk.case(), desk.user()
    saturday, sunday = datetime(2025, 11, 1, 13, tzinfo=UTC), datetime(2025, 11, 2, 14, tzinfo=UTC)
    desk.task(case, title="Between", due_date=sunday - 30 * MINUTE, assigned_to=user)
    desk.task(case, title="On the hour", due_date=sunday, assigned_to=user)
    desk.task(case, title="After", due_date=sunday + MINUTE, assigned_to=user)
    tell(database, DEADLINES, saturday)
    assert told_of(database) == ["Between", "On the hour"]
    tell(database, DEADLINES, sunday)
    assert told_of(database) == ["After", "Between", "On the hour"]


@pytest.mark.parametrize(("month", "last"), [(3, 8), (11, 1)], ids=["put forward", "put back"])
@pytest.mark.parametrize("late", [[0, 0, 0], [0, 15, 0], [15, 0, 30], [600, 0, 0], [0, 600, 15]])
def test_whatever_is_due_is_told_in_one_morning_at_least(
    database: Database, month: int, last: int, late: list[int]
) -> None:
    zone = ZoneInfo("America/New_York")
    desk = Desk(database, timezone=str(zone))
    case, user = desk.case(), desk.user()
    nine = [datetime(2025, month, last + day, 9, tzinfo=zone).astimezone(UTC) for day in range(4)]
    moment, titles = nine[0] + MINUTE, []
    while moment <= nine[3]:
        titles.append(moment.isoformat())
        desk.task(case, title=titles[-1], due_date=moment, assigned_to=user)
        moment += 30 * MINUTE
    for at, minutes in zip(nine, late, strict=False):
        tell(database, DEADLINES, at + minutes * MINUTE)
    assert set(told_of(database)) == set(titles)
    assert scalar(database, "SELECT count(*) FROM platform.events") == len(titles)


def due_dates(database: Database) -> list[datetime]:
    """When what people were told of is due, as often as they were told."""
    items = [item for row in told(database, "deadlines") for item in row.metadata["items"]]
    return sorted(datetime.fromisoformat(item["due_at"]) for item in items)


def hearing_dates(database: Database) -> list[datetime]:
    return sorted(datetime.fromisoformat(row.metadata["hearing_at"]) for row in told(database, "hearing_reminder"))


def test_what_is_due_before_the_next_morning_is_told_in_the_night_after_a_morning_that_was_missed(
    database: Database, desk: Desk
) -> None:
    case, user = desk.case(), desk.user()
    tell(database, DEADLINES, NINE - DAY)
    night = NINE + 15 * HOUR + 30 * MINUTE
    dates = [night - MINUTE, night + MINUTE, NINE + DAY - MINUTE, NINE + DAY, NINE + DAY + MINUTE, NINE + 2 * DAY]
    for at in dates:
        desk.task(case, due_date=at, assigned_to=user)
        desk.hearing(case, at)
    found = tell(database, DEADLINES, night)
    assert (found["tenants"], found["tasks"], found["hearings"], found["eventsRecorded"]) == (1, 3, 3, 6)
    assert due_dates(database) == dates[1:4]
    assert tell(database, DEADLINES, night + 15 * MINUTE)["tenants"] == 0
    assert tell(database, DEADLINES, NINE + DAY)["alertsSent"] == 1
    assert due_dates(database) == dates[1:]


def test_hearings_are_reminded_of_in_the_night_after_a_morning_that_was_missed(database: Database, desk: Desk) -> None:
    case = desk.case(owner_id=desk.user())
    tell(database, REMINDERS, EIGHT - DAY)
    night = EIGHT + 16 * HOUR + 30 * MINUTE
    dates = [night - MINUTE, night + MINUTE, EIGHT + DAY - MINUTE, EIGHT + DAY + 12 * HOUR, EIGHT + 2 * DAY]
    for at in dates:
        desk.hearing(case, at)
    assert tell(database, REMINDERS, night)["remindersSent"] == 3
    assert hearing_dates(database) == dates[1:4]
    assert {row.urgency for row in told(database, "hearing_reminder")} == {1}
    assert tell(database, REMINDERS, night + 15 * MINUTE)["tenants"] == 0
    assert tell(database, REMINDERS, EIGHT + DAY)["remindersSent"] == 1
    assert hearing_dates(database) == dates[1:]


@pytest.mark.parametrize("job", [REMINDERS, DEADLINES], ids=["reminders", "deadlines"])
def test_a_tenant_that_is_new_missed_no_morning(database: Database, desk: Desk, job: MorningJob) -> None:
    desk.hearing(desk.case(owner_id=desk.user()), EIGHT - 2 * HOUR)
    assert tell(database, job, EIGHT - 7 * HOUR)["tenants"] == 0
    assert tell(database, job, EIGHT + 2 * HOUR)["tenants"] == 1


def move(database: Database, zone: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE raw.tenants SET timezone = :zone"), {"zone": zone})


ZONE_CHANGES = pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Asia/Riyadh", "America/New_York"),
        ("America/New_York", "Asia/Riyadh"),
        ("Pacific/Kiritimati", "Pacific/Honolulu"),
        ("Pacific/Honolulu", "Pacific/Kiritimati"),
    ],
)


@ZONE_CHANGES
@pytest.mark.parametrize("moved_after", [1, 8, 14, 20])
def test_when_a_tenant_changes_its_zone_whatever_is_due_is_told_once(
    database: Database, before: str, after: str, moved_after: int
) -> None:
    desk = Desk(database, timezone=before)
    case, user = desk.case(), desk.user()
    dates = [NINE + 30 * MINUTE + HOUR * hours for hours in range(24, 120)]
    for at in dates:
        desk.task(case, due_date=at, assigned_to=user)
    for hours in range(96):
        if hours == 24 + moved_after:
            move(database, after)
        tell(database, DEADLINES, NINE + HOUR * hours)
    listed = due_dates(database)
    assert len(listed) == len(set(listed))
    assert set(dates[:72]) <= set(listed)


@ZONE_CHANGES
@pytest.mark.parametrize("moved_after", [1, 14])
def test_when_a_tenant_changes_its_zone_whatever_is_heard_is_told(
    database: Database, before: str, after: str, moved_after: int
) -> None:
    desk = Desk(database, timezone=before)
    case = desk.case(owner_id=desk.user())
    dates = [NINE + 30 * MINUTE + 2 * HOUR * place for place in range(12, 60)]
    for at in dates:
        desk.hearing(case, at)
    for hours in range(96):
        if hours == 24 + moved_after:
            move(database, after)
        now = NINE + HOUR * hours
        tell(database, REMINDERS, now)
        heard = set(hearing_dates(database))
        # Nobody goes to a hearing untold.
        assert {at for at in dates if at <= now + HOUR} <= heard


@pytest.mark.parametrize(("month", "last"), [(3, 8), (11, 1)], ids=["put forward", "put back"])
@pytest.mark.parametrize("night", [0, 1, 3, 8])
def test_a_missed_morning_is_made_up_for_in_the_night_in_which_clocks_are_changed(
    database: Database, month: int, last: int, night: int
) -> None:
    zone = ZoneInfo("America/New_York")
    desk = Desk(database, timezone=str(zone))
    case, user = desk.case(), desk.user()
    nine = [(datetime(2025, month, last, 9, tzinfo=zone) + day * DAY).astimezone(UTC) for day in range(-1, 3)]
    now = datetime(2025, month, last + 1, night, 30, tzinfo=zone).astimezone(UTC)
    dates = [nine[2] + 30 * MINUTE + HOUR * hours for hours in range(-30, 24)]
    for at in dates:
        desk.task(case, due_date=at, assigned_to=user)
    tell(database, DEADLINES, nine[0])
    before = due_dates(database)
    tell(database, DEADLINES, now)
    tell(database, DEADLINES, nine[2])
    listed = due_dates(database)
    assert listed == sorted({*before, *(at for at in dates if now < at <= nine[3])})


@pytest.mark.parametrize(("job", "at"), [(REMINDERS, EIGHT), (DEADLINES, NINE)], ids=["hearing_reminder", "deadlines"])
def test_a_run_by_hand_before_the_hour_leaves_the_day_to_the_scheduled_one(
    database: Database, desk: Desk, job: MorningJob, at: datetime
) -> None:
    case = desk.case(owner_id=desk.user())
    desk.hearing(case, at + HOUR)
    early = tell(database, job, at - 2 * HOUR, tenant_id="one")
    assert (early["eventsRecorded"], rows(database, "SELECT FROM platform.daily_jobs")) == (1, [])
    # Nobody could have known of it before.
    desk.hearing(case, at + 2 * HOUR)
    found = tell_in_the_morning(database, job, now=at, run_id="the scheduled run")
    assert (found["tenants"], found["eventsRecorded"]) == (1, 1)
    messages = sorted(
        told(database, "deadlines" if job is DEADLINES else "hearing_reminder"), key=lambda row: row.run_id
    )
    assert [row.run_id for row in messages] == ["a run", "the scheduled run"]
    if job is DEADLINES:
        assert [len(row.metadata["items"]) for row in messages] == [1, 2]
    assert tell(database, job, at + HOUR)["tenants"] == 0


def test_a_hearing_that_was_entered_in_the_night_and_has_begun_when_a_late_run_comes_is_told(
    database: Database, desk: Desk
) -> None:
    desk.hearing(desk.case(owner_id=desk.user()), EIGHT + 10 * MINUTE)
    assert tell(database, REMINDERS, EIGHT + 15 * MINUTE)["remindersSent"] == 1


@pytest.mark.parametrize("job", [REMINDERS, DEADLINES], ids=["reminders", "deadlines"])
def test_nobody_is_told_anything_of_a_tenant_that_was_removed(database: Database, desk: Desk, job: MorningJob) -> None:
    other = Desk(database, "two")
    for each in (desk, other):
        each.hearing(each.case(owner_id=each.user()), NINE + HOUR)
    with database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM raw.tenants WHERE tenant_id = 'two'")
    assert tell(database, job, NINE)["tenants"] == 1
    assert {row.tenant_id for row in rows(database, "SELECT tenant_id FROM notifications.notifications")} == {"one"}
    with pytest.raises(UserError, match="There is no tenant 'two'"):
        tell(database, job, NINE, tenant_id="two")


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
