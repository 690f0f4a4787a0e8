"""A task that is late is flagged, and its event recorded once, whatever changed and however time went on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from dossier_pipelines.litigation.service_levels import DEFAULT_HOURS, LOOK_BACK, PACKAGE, TaskScope, check_tasks
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.records import rows, scalar

MINUTE = timedelta(minutes=1)
GRACE = 15 * MINUTE


def check(database: Database, now: datetime = NOON, **scope: Any) -> dict[str, Any]:
    grace = scope.pop("grace", GRACE)
    return check_tasks(database, TaskScope(**scope), now=now, run_id="a run", grace=grace)


def events(database: Database, kind: str) -> list[tuple[str, uuid.UUID]]:
    return [
        (row.tenant_id, row.entity_id)
        for row in rows(database, "SELECT * FROM platform.events WHERE type = :kind ORDER BY recorded_at", kind=kind)
    ]


def flags(database: Database) -> dict[tuple[str, uuid.UUID], tuple[datetime | None, datetime | None]]:
    return {
        (row.tenant_id, row.task_id): (row.overdue_since, row.sla_missed_at)
        for row in rows(database, "SELECT * FROM litigation.task_flags")
    }


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_the_longest_hours_of_service_stop_no_check(database: Database, desk: Desk) -> None:
    desk.hours(low=87_600)
    desk.task(desk.case(), priority="low", created_at=NOON - 3_651 * DAY)
    desk.task(desk.case(), priority="low", created_at=datetime(2199, 12, 31, tzinfo=NOON.tzinfo))
    assert check(database)["slaViolations"] == 1


def test_a_task_is_overdue_when_its_due_date_passed_by_more_than_the_grace(database: Database, desk: Desk) -> None:
    case = desk.case()
    late = desk.task(case, due_date=NOON - GRACE - MINUTE)
    desk.task(case, due_date=NOON - GRACE)
    desk.task(case, due_date=NOON + HOUR)
    desk.task(case, due_date=None)
    desk.task(case, due_date=NOON - DAY, status="completed", completed_at=NOON - HOUR)
    desk.task(case, due_date=NOON - DAY, status="cancelled")
    found = check(database)
    assert (found["overdueTasks"], found["overdueNow"], found["slaViolations"]) == (1, 1, 0)
    assert flags(database) == {("one", late): (NOON - GRACE - MINUTE, None)}
    [event] = rows(database, "SELECT * FROM platform.events")
    assert event.payload | {"due_date": None} == {
        "task_id": str(late),
        "case_id": str(case),
        "priority": "medium",
        "due_date": None,
        "days_overdue": 0,
    }
    assert (event.occurred_at, event.run_id) == (NOON, "a run")


def test_days_overdue_are_those_of_the_tenants_calendar(database: Database) -> None:
    for zone in ("Asia/Kolkata", "America/New_York"):
        desk = Desk(database, zone.lower().replace("/", "-"), timezone=zone)
        # 23:30 of the day before in New York, 09:00 of the day in Kolkata.
        desk.task(desk.case(), due_date=datetime.fromisoformat("2025-06-10T03:30:00+00:00"))
    check(database)
    found = {row.tenant_id: row.payload["days_overdue"] for row in rows(database, "SELECT * FROM platform.events")}
    assert found == {"asia-kolkata": 0, "america-new_york": 1}


def test_a_service_level_is_missed_by_the_age_of_its_priority(database: Database, desk: Desk) -> None:
    case = desk.case()
    desk.hours(high=10)
    missed = set()
    for priority, hours in (DEFAULT_HOURS | {"high": 10}).items():
        missed.add(("one", desk.task(case, priority=priority, created_at=NOON - hours * HOUR)))
        desk.task(case, priority=priority, created_at=NOON - hours * HOUR + MINUTE)
    assert check(database)["slaViolations"] == 4
    assert set(events(database, "sla_violation")) == missed == set(flags(database))
    payloads = {row.payload["priority"]: row.payload for row in rows(database, "SELECT * FROM platform.events")}
    assert payloads["high"]["sla_threshold"] == payloads["high"]["actual_time"] == 10
    assert payloads["low"]["sla_threshold"] == 240
    audited = rows(database, "SELECT * FROM platform.audit_log WHERE action_type = 'sla_violation'")
    assert {row.details["task_id"] for row in audited} == {str(task) for _, task in missed}
    assert {row.tenant_id for row in audited} == {"one"}
    check(database, NOON + MINUTE)
    assert len(events(database, "sla_violation")) == 8


def test_one_that_was_completed_too_late_between_two_checks_is_a_violation(database: Database, desk: Desk) -> None:
    case = desk.case()
    task = desk.task(case, priority="critical", created_at=NOON - 23 * HOUR)
    old = desk.task(case, created_at=NOON - 90 * DAY, status="completed", completed_at=NOON - 30 * DAY)
    check(database)
    desk.change("tasks", task, status="completed", completed_at=NOON + 2 * HOUR)
    desk.change("tasks", old, priority="high")
    assert check(database, NOON + 3 * HOUR)["slaViolations"] == 1
    assert events(database, "sla_violation") == [("one", task)]
    assert flags(database) == {}


def test_one_that_came_and_was_done_too_late_between_two_loads_is_a_violation_once(
    database: Database, desk: Desk
) -> None:
    case = desk.case()
    desk.hours(critical=0.5)
    check(database)
    for minutes in range(15, 75, 15):
        check(database, NOON + minutes * MINUTE)
    late = {"priority": "critical", "created_at": NOON + 5 * MINUTE, "status": "completed"}
    task = desk.task(case, **late, completed_at=NOON + 50 * MINUTE)
    desk.task(case, **late, completed_at=NOON + 20 * MINUTE)
    assert check(database, NOON + 75 * MINUTE)["slaViolations"] == 1
    [event] = rows(database, "SELECT * FROM platform.events")
    assert (event.entity_id, event.payload["sla_threshold"], event.payload["actual_time"]) == (task, 0.5, 0.75)
    assert scalar(database, "SELECT count(*) FROM platform.audit_log WHERE action_type = 'sla_violation'") == 1
    desk.change("tasks", task, completed_at=NOON + 55 * MINUTE)
    assert check(database, NOON + 90 * MINUTE)["slaViolations"] == 0
    assert flags(database) == {}


def test_what_was_done_too_late_before_the_first_check_or_long_ago_is_history(database: Database, desk: Desk) -> None:
    case = desk.case()

    def done(at: datetime) -> uuid.UUID:
        return desk.task(case, created_at=at - 30 * DAY, status="completed", completed_at=at)

    done(NOON - HOUR)
    assert check(database)["slaViolations"] == 0
    # A load of old tasks after the first check, and one of an office that was not known before, years later.
    done(NOON - MINUTE)
    assert check(database, NOON + HOUR)["slaViolations"] == 0
    later = NOON + 700 * DAY
    check(database, later)
    done(later - LOOK_BACK)
    new = done(later - LOOK_BACK + 2 * HOUR)
    known = done(NOON + DAY)
    assert check(database, later + HOUR)["slaViolations"] == 1
    assert events(database, "sla_violation") == [("one", new)]
    # It was judged when it came: what is said of it later makes it no violation of today.
    desk.change("tasks", known, completed_at=later - HOUR)
    assert check(database, later + 2 * HOUR)["slaViolations"] == 0


def test_a_check_repeated_finds_nothing_new(database: Database, desk: Desk) -> None:
    desk.task(desk.case(), due_date=NOON - DAY, created_at=NOON - 30 * DAY)
    first = check(database)
    assert (first["overdueTasks"], first["slaViolations"], first["judged"]) == (1, 1, 1)
    before = flags(database)
    again = check(database)
    assert (again["overdueTasks"], again["slaViolations"], again["judged"]) == (0, 0, 0)
    assert (again["overdueNow"], again["violatingNow"]) == (1, 1)
    assert flags(database) == before
    assert len(rows(database, "SELECT FROM platform.events")) == 2


def test_what_is_done_or_moved_is_unflagged_and_can_be_late_again(database: Database, desk: Desk) -> None:
    case = desk.case()
    task = desk.task(case, due_date=NOON - DAY)
    done = desk.task(case, due_date=NOON - DAY)
    gone = desk.task(case, due_date=NOON - DAY)
    check(database)
    assert len(flags(database)) == 3
    desk.change("tasks", task, due_date=NOON + DAY)
    desk.change("tasks", done, status="completed", completed_at=NOON)
    desk.remove("tasks", gone)
    assert check(database)["unflagged"] == 2
    assert flags(database) == {}
    assert check(database, NOON + 2 * DAY)["overdueTasks"] == 1
    assert events(database, "task_overdue").count(("one", task)) == 2
    # Back to a date that was told already.
    desk.change("tasks", task, due_date=NOON - DAY)
    assert check(database, NOON + 2 * DAY)["overdueTasks"] == 0
    assert flags(database) == {("one", task): (NOON - DAY, None)}


def test_a_dry_run_finds_the_same_and_keeps_nothing(database: Database, desk: Desk) -> None:
    desk.task(desk.case(), due_date=NOON - DAY)
    found = check(database, dry_run=True)
    assert (found["overdueTasks"], found["dryRun"]) == (1, True)
    assert flags(database) == {}
    assert rows(database, "SELECT FROM platform.events") == []
    assert scalar(database, "SELECT count(*) FROM litigation.task_marks") == 1
    assert check(database)["overdueTasks"] == 1


def test_another_service_level_judges_all_open_tasks_anew(database: Database, desk: Desk) -> None:
    task = desk.task(desk.case(), created_at=NOON - 30 * HOUR)
    other = Desk(database, "two")
    other.task(other.case(), created_at=NOON - 30 * HOUR)
    check(database)
    assert flags(database) == {}
    desk.hours(medium=24)
    check(database)
    assert set(flags(database)) == {("one", task)}


def test_a_clock_that_was_put_back_takes_flags_back(database: Database) -> None:
    desk = Desk(database, clock_at=NOON)
    desk.task(desk.case(), due_date=NOON - HOUR)
    check(database)
    assert len(flags(database)) == 1
    desk.set_clock(NOON - 2 * HOUR)
    check(database)
    assert flags(database) == {}


def test_one_tenant_alone_is_checked_when_it_is_named(database: Database, desk: Desk) -> None:
    desk.task(desk.case(), due_date=NOON - DAY)
    other = Desk(database, "two")
    other.task(other.case(), due_date=NOON - DAY)
    assert check(database, tenant_id="two")["overdueTasks"] == 1
    assert {tenant for tenant, _ in flags(database)} == {"two"}
    assert check(database)["overdueTasks"] == 1


def test_a_task_whose_load_was_open_during_a_check_is_found_by_the_next(database: Database, desk: Desk) -> None:
    case = desk.case()
    with database.transaction() as load:
        load.exec_driver_sql(
            "INSERT INTO raw.tasks (tenant_id, id, case_id, title, status, created_at, due_date) "
            f"VALUES ('one', gen_random_uuid(), '{case}', 'Late', 'pending', '2025-06-10T08:00Z', '2025-06-10T08:30Z')"
        )
        assert check(database)["overdueTasks"] == 0
    assert check(database)["overdueTasks"] == 1


def check_while(database: Database, statement: int, act: Callable[[], object], **scope: Any) -> bool:
    """Check, and let ``act`` commit before the given statement of the check; return whether there was such a one."""
    left = statement

    def listen(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            act()

    sa.event.listen(database.engine, "before_cursor_execute", listen)
    check(database, **scope)
    sa.event.remove(database.engine, "before_cursor_execute", listen)
    return left < 0


def desks_at_each_statement(
    database: Database, act: Callable[[Desk, uuid.UUID], object], **task: Any
) -> Iterator[tuple[Desk, uuid.UUID]]:
    """For each statement of a check: check a new tenant with a task, of which ``act`` changes something before it."""
    for statement in count():
        desk = Desk(database, f"tenant-{statement}")
        made = desk.task(desk.case(), **task)
        if not check_while(database, statement, partial(act, desk, made), tenant_id=desk.tenant_id):
            assert statement > 10
            return
        yield desk, made


def test_policies_that_are_loaded_during_a_check_are_judged_by_in_the_next_one_at_the_latest(
    database: Database,
) -> None:
    for desk, task in desks_at_each_statement(
        database, lambda desk, _: desk.hours(medium=24), created_at=NOON - 30 * HOUR
    ):
        check(database, NOON + MINUTE, tenant_id=desk.tenant_id)
        assert (desk.tenant_id, task) in flags(database)
        given = {"grace": GRACE, "hours": json.dumps(DEFAULT_HOURS)}
        assert database.run(PACKAGE, "flags_off", given)[0].violations == 0


def test_a_task_that_is_removed_during_a_check_is_not_flagged_after_the_next_one(database: Database) -> None:
    for desk, task in desks_at_each_statement(
        database, lambda desk, task: desk.remove("tasks", task), due_date=NOON - DAY
    ):
        check(database, NOON + MINUTE, tenant_id=desk.tenant_id)
        assert (desk.tenant_id, task) not in flags(database)


def test_one_that_is_done_during_a_check_and_taken_up_again_is_late_again(database: Database) -> None:
    for desk, task in desks_at_each_statement(
        database,
        lambda desk, task: desk.change("tasks", task, status="completed", completed_at=NOON),
        due_date=NOON - DAY,
    ):
        check(database, NOON + MINUTE, tenant_id=desk.tenant_id)
        desk.change("tasks", task, status="pending", completed_at=None)
        assert check(database, NOON + HOUR, tenant_id=desk.tenant_id)["overdueTasks"] == 1
        assert flags(database)[desk.tenant_id, task] == (NOON - DAY, None)


def test_checks_at_once_record_once(database: Database, desk: Desk) -> None:
    case = desk.case()
    for _ in range(20):
        desk.task(case, due_date=NOON - DAY, created_at=NOON - 30 * DAY)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: check(database), range(4)))
    assert sum(each["overdueTasks"] for each in found) == 20
    assert len(rows(database, "SELECT FROM platform.events")) == 40
    assert len(flags(database)) == 20


def test_one_that_was_done_and_is_taken_up_again_is_late_again_with_the_same_due_date(
    database: Database, desk: Desk
) -> None:
    case = desk.case()
    task = desk.task(case, due_date=NOON - DAY, created_at=NOON - 30 * DAY)
    check(database)
    keys = {row.dedupe_key for row in rows(database, "SELECT dedupe_key FROM platform.events")}
    assert keys == {f"task_overdue:{task}:2025-06-09T09:00:00", f"sla_violation:{task}"}
    for round_ in range(1, 4):
        status = "cancelled" if round_ == 2 else "completed"
        desk.change("tasks", task, status=status, completed_at=NOON if status == "completed" else None)
        assert check(database, NOON + round_ * HOUR)["unflagged"] == 1
        desk.change("tasks", task, status="pending", completed_at=None)
        found = check(database, NOON + round_ * HOUR)
        assert (found["overdueTasks"], found["slaViolations"]) == (1, 1)
        assert check(database, NOON + round_ * HOUR + MINUTE)["overdueTasks"] == 0
    assert len(events(database, "task_overdue")) == len(events(database, "sla_violation")) == 4


def test_one_that_was_late_while_it_was_open_is_not_late_anew_by_being_completed(
    database: Database, desk: Desk
) -> None:
    task = desk.task(desk.case(), created_at=NOON - 30 * DAY)
    check(database)
    # Its flag goes for a while, by another priority, so that only the key knows what was told.
    desk.hours(low=10_000)
    desk.change("tasks", task, priority="low")
    assert check(database, NOON + HOUR)["unflagged"] == 1
    desk.change("tasks", task, priority="medium", status="completed", completed_at=NOON + 2 * HOUR)
    assert check(database, NOON + 3 * HOUR)["slaViolations"] == 0


def test_another_grace_judges_all_that_lies_between_both(database: Database, desk: Desk) -> None:
    task = desk.task(desk.case(), due_date=NOON - 30 * MINUTE)
    hour = timedelta(hours=1)
    assert check(database, grace=hour)["overdueTasks"] == 0
    assert check(database, NOON + MINUTE, grace=hour)["judged"] == 0
    assert check(database, NOON + MINUTE)["overdueTasks"] == 1
    assert check(database, NOON + 2 * MINUTE)["judged"] == 0
    assert check(database, NOON + 2 * MINUTE, grace=hour)["unflagged"] == 1
    assert flags(database) == {}
    # Told once all the same.
    assert check(database, NOON + HOUR, grace=hour)["overdueTasks"] == 0
    assert set(flags(database)) == {("one", task)}


def test_a_check_from_before_the_grace_was_noted_is_followed_by_one_of_all_open_tasks(
    database: Database, desk: Desk
) -> None:
    desk.task(desk.case(), due_date=NOON - 30 * MINUTE)
    check(database, grace=timedelta(hours=1))
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE litigation.task_checks SET grace = NULL")
    assert check(database, NOON + MINUTE)["overdueTasks"] == 1


def test_a_moment_to_come_is_refused_unless_it_is_a_dry_run(database: Database, desk: Desk) -> None:
    past = Desk(database, "past", clock_at=NOON - DAY)
    task = past.task(past.case(), due_date=NOON)
    with pytest.raises(UserError, match=r"the clock of tenant 'past' shows 2025-06-09.*dry_run"):
        check(database, as_of=NOON)
    with pytest.raises(UserError, match="the clock of tenant 'one' shows 2025-06-10"):
        check(database, as_of=NOON + MINUTE, tenant_id="one")
    assert rows(database, "SELECT FROM litigation.task_checks") == []
    assert check(database, as_of=NOON + DAY, dry_run=True)["overdueTasks"] == 1
    check(database, as_of=NOON, tenant_id="one")
    past.set_clock(NOON + HOUR)
    check(database, NOON + HOUR)
    assert events(database, "task_overdue") == [("past", task)]


def test_a_tenant_that_is_none_is_refused(database: Database, desk: Desk) -> None:
    with pytest.raises(UserError, match="There is no tenant 'elsewhere'"):
        check(database, tenant_id="elsewhere")
    assert rows(database, "SELECT FROM platform.audit_log") == []


def test_of_a_tenant_that_was_removed_nothing_stays_and_when_it_comes_back_it_is_judged_anew(
    database: Database, desk: Desk
) -> None:
    other = Desk(database, "two")
    case = other.case()
    late = other.task(case, due_date=NOON - DAY)
    check(database)
    with database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM raw.tenants WHERE tenant_id = 'two'")
    later = other.task(case, due_date=NOON - HOUR)
    done = other.task(case, due_date=NOON - HOUR, status="completed", completed_at=NOON)
    found = check(database, NOON + HOUR)
    assert (found["overdueTasks"], found["overdueNow"]) == (0, 0)
    for table in ("task_marks", "task_checks", "task_flags"):
        assert rows(database, f"SELECT FROM litigation.{table} WHERE tenant_id = 'two'") == []
    Desk(database, "two")
    assert check(database, NOON + HOUR)["overdueTasks"] == 1
    assert set(flags(database)) == {("two", late), ("two", later)}
    assert ("two", done) not in events(database, "task_overdue")


def test_the_check_of_flags_finds_a_wrong_one_of_either_kind(database: Database, desk: Desk) -> None:
    case = desk.case()
    desk.task(case, due_date=NOON - DAY)
    desk.task(case, created_at=NOON - 30 * DAY)
    desk.hours(low=500)
    desk.task(case, priority="low", created_at=NOON - 30 * DAY)
    check(database, grace=HOUR)

    def off() -> int:
        given = {"grace": GRACE, "hours": json.dumps(DEFAULT_HOURS)}
        return int(database.run(PACKAGE, "flags_off", given)[0].violations)

    assert len(flags(database)) == 3
    # What became late since is found by the next check.
    desk.task(case, due_date=NOON + HOUR)
    for damage, wrong in [
        ("DELETE FROM litigation.task_flags WHERE sla_missed_at IS NOT NULL", 2),
        ("DELETE FROM litigation.task_flags WHERE overdue_since IS NOT NULL", 1),
        ("UPDATE litigation.task_flags SET sla_missed_at = overdue_since WHERE overdue_since IS NOT NULL", 1),
        (
            "UPDATE litigation.task_flags SET overdue_since = flagged_at WHERE sla_missed_at IS NULL",
            1,
        ),
    ]:
        assert off() == 0
        with database.transaction() as connection:
            connection.exec_driver_sql(damage)
        assert off() == wrong, damage
        with database.transaction() as connection:
            connection.exec_driver_sql(
                "INSERT INTO litigation.task_marks (tenant_id, task_id) SELECT tenant_id, id FROM raw.tasks"
            )
        assert off() == 0
        check(database, grace=HOUR)


def judged(database: Database, now: datetime, hours: dict[str, dict[str, float]]) -> Any:
    """What is late, by looking at every task."""
    late = {}
    for task in rows(database, "SELECT * FROM raw.tasks WHERE status IN ('pending', 'in_progress')"):
        deadline = task.created_at + hours[task.tenant_id][task.priority] * HOUR
        overdue = task.due_date if task.due_date and task.due_date < now - GRACE else None
        missed = deadline if deadline <= now else None
        if overdue or missed:
            late[task.tenant_id, task.id] = (overdue, missed)
    return late


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_flags_are_what_judging_every_task_says(database: Database, seed: int) -> None:
    random = Random(seed)
    now = NOON
    hours = {name: {str(k): float(v) for k, v in DEFAULT_HOURS.items()} for name in ("one", "two")}
    desks = [Desk(database, name) for name in hours]
    cases = {desk.tenant_id: desk.case() for desk in desks}
    tasks: list[tuple[Desk, uuid.UUID]] = []

    def moment() -> datetime:
        return now + random.randint(-300, 60) * HOUR + random.choice([-1, 0, 1]) * timedelta(microseconds=1)

    for step in range(30):
        for _ in range(random.randint(0, 4)):
            desk = random.choice(desks)
            action = random.choice(["add", "add", "move", "finish", "reopen", "urgent", "remove", "policy"])
            if action == "add" or not tasks:
                made = moment()
                task = desk.task(
                    cases[desk.tenant_id],
                    created_at=made,
                    due_date=random.choice([None, made + random.randint(0, 200) * HOUR, now - GRACE]),
                    priority=random.choice(list(DEFAULT_HOURS)),
                    status=random.choice(["pending", "in_progress", "completed"]),
                )
                tasks.append((desk, task))
                continue
            owner, task = random.choice(tasks)
            match action:
                case "move":
                    owner.change("tasks", task, due_date=moment())
                case "finish":
                    owner.change("tasks", task, status="completed", completed_at=now)
                case "reopen":
                    owner.change("tasks", task, status="pending", completed_at=None)
                case "urgent":
                    owner.change("tasks", task, priority=random.choice(list(DEFAULT_HOURS)))
                case "remove":
                    owner.remove("tasks", task)
                case "policy" if step % 7 == 0 and "policy" not in hours[desk.tenant_id]:
                    desk.hours(low=33)
                    hours[desk.tenant_id] |= {"low": 33, "policy": 0}
        now += random.choice([0, 1, 15, 61, 60 * 24]) * MINUTE
        check(database, now)
        assert flags(database) == judged(database, now, hours), f"step {step} of seed {seed}"
    assert len(events(database, "task_overdue")) > 5
