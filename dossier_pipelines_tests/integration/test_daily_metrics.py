"""A day's metrics are what was so at its end in the tenant's zone: taken then or later, alone or in a range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from dossier_pipelines.litigation.metrics import (
    MetricChunk,
    MetricResult,
    missing_ranges,
    take_metrics,
)
from dossier_pipelines.litigation.restating import restate_metrics
from dossier_pipelines.litigation.service_levels import DEFAULT_HOURS
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.litigation import DAY, HOUR, NOON, Desk
from dossier_pipelines_tests.processes import wait_until
from dossier_pipelines_tests.records import rows, scalar, waits_for_a_table

MINUTE: Final = timedelta(minutes=1)
GRACE: Final = 15 * MINUTE
TODAY: Final = NOON.date()
ZONES: Final = {"riyadh": "Asia/Riyadh", "kolkata": "Asia/Kolkata", "new-york": "America/New_York"}


def take(
    database: Database, first: date, last: date | None = None, *, now: datetime = NOON, **more: Any
) -> MetricResult:
    return take_metrics(database, first_day=first, last_day=last or first, now=now, run_id="a run", **more)


def metrics(database: Database) -> dict[tuple[str, date, str], float | None]:
    return {
        (row.tenant_id, row.day, row.metric): row.value
        for row in rows(database, "SELECT * FROM litigation.daily_metrics")
    }


def versions(database: Database) -> list[str]:
    return [
        row.v
        for row in rows(database, "SELECT concat(xmin, ctid, d) AS v FROM litigation.daily_metrics AS d ORDER BY 1")
    ]


def end_of(day: date, zone: str) -> datetime:
    return datetime.combine(day + DAY, datetime.min.time(), ZoneInfo(zone)).astimezone(UTC) - timedelta(microseconds=1)


def looked_up(database: Database, tenant_id: str, zone: str, day: date) -> dict[str, float | None]:
    """The day's metrics, by looking at every record as it was at the end of the day."""
    end = end_of(day, zone)

    def records(table: str) -> Any:
        return rows(database, f"SELECT * FROM raw.{table} WHERE tenant_id = :of", of=tenant_id)

    def status(task: Any) -> str | None:
        past = rows(
            database,
            "SELECT status FROM litigation.task_history WHERE tenant_id = :of AND task_id = :id AND valid_from <= :end "
            "ORDER BY ordinal DESC LIMIT 1",
            of=tenant_id,
            id=task.id,
            end=end,
        )
        assert past or task.created_at > end, "a task has no status after it was set"
        return past[0].status if task.created_at <= end else None

    def ended(task: Any) -> datetime:
        return scalar(
            database,
            "SELECT valid_from FROM litigation.task_history WHERE tenant_id = :of AND task_id = :id "
            "AND status = 'completed' AND valid_from <= :end ORDER BY ordinal DESC LIMIT 1",
            of=tenant_id,
            id=task.id,
            end=end,
        )

    hours = DEFAULT_HOURS | {policy.priority: float(policy.hours) for policy in records("sla_policies")}
    tasks = [(task, status(task)) for task in records("tasks")]
    counted = [(task, state) for task, state in tasks if state not in {None, "cancelled"}]
    missed = overdue = done = 0
    for task, state in counted:
        deadline = task.created_at + hours[task.priority] * HOUR
        done += state == "completed"
        missed += ended(task) > deadline if state == "completed" else deadline <= end
        overdue += state != "completed" and task.due_date is not None and task.due_date < end - GRACE
    held = [
        h for h in records("hearings") if h.status == "completed" and h.hearing_date <= end and h.attended is not None
    ]
    cases = [c for c in records("cases") if c.created_at <= end and not (c.closed_at and c.closed_at <= end)]
    return {
        "case_count": len(cases),
        "task_completion_rate": done / len(counted) if counted else None,
        "sla_compliance_rate": (len(counted) - missed) / len(counted) if counted else None,
        "hearing_attendance_rate": sum(h.attended for h in held) / len(held) if held else None,
        "document_count": sum(d.uploaded_at <= end for d in records("case_documents")),
        "overdue_tasks": overdue,
    }


class World:
    """Tenants in several zones, with records at and about the ends of their days."""

    def __init__(
        self, database: Database, seed: int, *, zones: Mapping[str, str] = ZONES, noon: datetime = NOON
    ) -> None:
        self.random = Random(seed)
        self.database = database
        self.zones = zones
        self.noon = noon
        self.desks = {
            name: Desk(database, name, timezone=zone, clock_at=noon + 2 * DAY) for name, zone in zones.items()
        }
        self.cases: list[Any] = []
        self.tasks: list[Any] = []
        self.hearings: list[Any] = []
        self.policies: dict[str, dict[str, Any]] = {}
        for desk in self.desks.values():
            self.cases.append((desk, desk.case(created_at=noon - 30 * DAY)))
        self.go_on(60)

    def moment(self) -> datetime:
        if self.random.random() < 0.4:
            zone = self.random.choice(list(self.zones.values()))
            return end_of(self.noon.date() - self.random.randint(0, 12) * DAY, zone) + self.random.choice(
                [timedelta(0), timedelta(microseconds=1), GRACE, -GRACE]
            )
        return self.noon - self.random.randint(-20, 300) * HOUR

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice(
                [
                    *(self._case, self._task, self._task, self._finish, self._change, self._hearing, self._document),
                    self._policy,
                ]
            )()

    def _of(self, found: list[Any]) -> Any:
        return self.random.choice(found)

    def _case(self) -> None:
        desk, made = self._of(list(self.desks.values())), self.moment()
        self.cases.append((desk, desk.case(created_at=made, closed_at=self.random.choice([None, made + 50 * HOUR]))))

    def _task(self) -> None:
        desk, case = self._of(self.cases)
        made = self.moment()
        status = self._of(["pending", "in_progress", "completed", "cancelled"])
        ended = made + self.random.randint(0, 200) * HOUR if status == "completed" else None
        task = desk.task(
            case,
            created_at=made,
            due_date=self._of([None, self.moment()]),
            status=status,
            completed_at=ended,
            priority=self._of(list(DEFAULT_HOURS)),
        )
        self.tasks.append((desk, task))

    def _finish(self) -> None:
        if self.tasks:
            desk, task = self._of(self.tasks)
            desk.change("tasks", task, status="completed", completed_at=self.moment() + 300 * HOUR)

    def _change(self) -> None:
        if self.tasks:
            desk, task = self._of(self.tasks)
            match self.random.randint(0, 5):
                case 0:
                    desk.change("tasks", task, due_date=self.moment())
                case 1:
                    desk.change("tasks", task, priority=self._of(list(DEFAULT_HOURS)))
                case 2:
                    desk.change("tasks", task, status="pending", completed_at=None)
                case 3:
                    desk.change("tasks", task, status="cancelled", completed_at=None)
                case 4:
                    desk.remove("tasks", task)
                    self.tasks.remove((desk, task))
                case 5:
                    desk.change("tasks", task, created_at=self.moment())

    def _policy(self) -> None:
        desk = self._of(list(self.desks.values()))
        policies = self.policies.setdefault(desk.tenant_id, {})
        priority = self._of(list(DEFAULT_HOURS))
        if priority not in policies:
            policies[priority] = desk.policy(priority, self.random.randint(1, 300))
        elif self.random.random() < 0.5:
            desk.change("sla_policies", policies[priority], hours=self.random.randint(1, 300))
        else:
            desk.remove("sla_policies", policies.pop(priority))

    def _hearing(self) -> None:
        desk, case = self._of(self.cases)
        status = self._of(["scheduled", "completed", "completed", "adjourned"])
        self.hearings.append(
            (desk, desk.hearing(case, self.moment(), status=status, attended=self._of([True, False, None])))
        )
        if self.random.random() < 0.3:
            owner, hearing = self._of(self.hearings)
            owner.change("hearings", hearing, status="completed", attended=True)

    def _document(self) -> None:
        desk, case = self._of(self.cases)
        desk.document(case, self.moment())

    def expected(self, days: list[date]) -> dict[tuple[str, date, str], float | None]:
        return {
            (name, day, metric): value
            for name, zone in self.zones.items()
            for day in days
            for metric, value in looked_up(self.database, name, zone, day).items()
        }


def days_between(first: date, last: date) -> list[date]:
    return [first + number * DAY for number in range((last - first).days + 1)]


@pytest.mark.parametrize("seed", range(4))
def test_every_day_is_what_looking_at_every_record_says(database: Database, seed: int) -> None:
    world = World(database, seed)
    days = days_between(TODAY - 10 * DAY, TODAY)
    take(database, days[0], days[-1])
    found = metrics(database)
    expected = world.expected(days)
    assert {key: (found[key], expected[key]) for key in expected if found[key] != pytest.approx(expected[key])} == {}
    assert len(set(found.values())) > 8, "the world has become dull"


@pytest.mark.parametrize("seed", range(10, 14))
def test_whatever_comes_late_restating_makes_it_as_if_it_had_come_in_time(database: Database, seed: int) -> None:
    world = World(database, seed)
    days = days_between(TODAY - 10 * DAY, TODAY)
    take(database, days[0], days[-1])
    for _ in range(4):
        world.go_on(5)
        restate_metrics(database, now=NOON, run_id="a restating")
        found, expected = metrics(database), world.expected(days)
        assert {
            key: (found[key], expected[key]) for key in expected if found[key] != pytest.approx(expected[key])
        } == {}
    assert scalar(database, "SELECT count(*) FROM litigation.metric_marks") == 0


# New York's clocks change at two in the night. Cairo's, and Havana's in spring, do at midnight: a day begins at one, or
# its last hour comes twice. Havana's go back at one, so that the first hour of the day comes twice.
CHANGING: Final = {"new-york": "America/New_York", "cairo": "Africa/Cairo", "havana": "America/Havana"}
CHANGES: Final = {
    "America, spring": date(2025, 3, 9),
    "Cairo, spring": date(2025, 4, 25),
    "Cairo, autumn": date(2025, 10, 30),
    "America, autumn": date(2025, 11, 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_days_on_which_clocks_change_are_what_looking_at_every_record_says(database: Database, change: str) -> None:
    noon = datetime.combine(CHANGES[change] + 5 * DAY, time(9), UTC)
    world = World(database, 30, zones=CHANGING, noon=noon)
    for desk, case in world.cases[:3]:
        # The hours about the change, and its own moments.
        for zone in CHANGING.values():
            for day in days_between(CHANGES[change] - DAY, CHANGES[change] + DAY):
                end = end_of(day, zone)
                for at in (
                    end,
                    end + timedelta(microseconds=1),
                    end - HOUR,
                    end + HOUR,
                    end + HOUR / 2,
                    end - HOUR / 2,
                ):
                    desk.document(case, at)
                desk.task(case, created_at=end - 10 * DAY, due_date=end - GRACE)
                desk.task(case, created_at=end - 10 * HOUR + HOUR / 2, priority="critical")
    days = days_between(CHANGES[change] - 2 * DAY, CHANGES[change] + DAY)
    take(database, days[0], days[-1], now=noon)
    found, expected = metrics(database), world.expected(days)
    assert {key: (found[key], expected[key]) for key in expected if found[key] != pytest.approx(expected[key])} == {}
    world.go_on(10)
    restate_metrics(database, now=noon, run_id="a restating")
    found, expected = metrics(database), world.expected(days)
    assert {key: (found[key], expected[key]) for key in expected if found[key] != pytest.approx(expected[key])} == {}


def test_a_range_taken_again_or_piece_by_piece_changes_no_byte(database: Database) -> None:
    World(database, 20)
    take(database, TODAY - 10 * DAY, TODAY)
    before, values = versions(database), metrics(database)
    again = take(database, TODAY - 10 * DAY, TODAY)
    assert (again.written, again.days) == (0, 11)
    for day in days_between(TODAY - 10 * DAY, TODAY):
        assert take(database, day).written == 0
    assert versions(database) == before
    assert metrics(database) == values


def test_a_tenant_gets_no_day_before_its_own_23_59(database: Database) -> None:
    for name, zone in ZONES.items():
        desk = Desk(database, name, timezone=zone)
        desk.case(created_at=NOON - 30 * DAY)
    # 23:59 in Riyadh; in Kolkata it is the next day, in New York the afternoon.
    take(database, TODAY - DAY, TODAY, now=datetime(2025, 6, 10, 20, 59, tzinfo=UTC))
    newest = {name: max(day for tenant, day, _ in metrics(database) if tenant == name) for name in ZONES}
    assert newest == {"riyadh": TODAY, "kolkata": TODAY, "new-york": TODAY - DAY}


def test_a_range_that_cannot_be_is_refused_and_nothing_written(database: Database) -> None:
    with pytest.raises(UserError, match="has no case yet"):
        take(database, TODAY)
    Desk(database).case(created_at=NOON - 10 * DAY)
    first = TODAY - 10 * DAY
    for begin, end, message in (
        (TODAY, TODAY - DAY, "The range ends on 2025-06-09, before it starts"),
        (first, TODAY, "2025-06-10 has not come to its end: the newest day that has is 2025-06-09"),
        (first - DAY, TODAY - DAY, "2025-05-30 lies before the first record: the first record is of 2025-05-31"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            take(database, begin, end)
        assert "othing was written" in str(refused.value)
    assert metrics(database) == {}


def test_a_load_that_is_open_while_days_are_taken_is_not_lost(database: Database) -> None:
    desk = Desk(database)
    case = desk.case(created_at=NOON - 30 * DAY)
    yesterday = TODAY - DAY

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as load:
            load.exec_driver_sql(
                "INSERT INTO raw.case_documents (tenant_id, id, case_id, uploaded_at) "
                f"VALUES ('one', gen_random_uuid(), '{case}', '2025-06-08T09:00Z')"
            )
            taken = pool.submit(take, database, yesterday)
            wait_until(
                lambda: waits_for_a_table(database) or taken.done(), "the metrics wait for the load, or are taken"
            )
        taken.result()
    restate_metrics(database, now=NOON, run_id="a restating")
    assert metrics(database)["one", yesterday, "document_count"] == 1


def test_other_service_levels_are_in_the_days_from_the_first_on(database: Database) -> None:
    desk = Desk(database, clock_at=NOON)
    desk.task(desk.case(created_at=NOON - 30 * DAY), created_at=NOON - 20 * DAY, priority="low")
    first, last = TODAY - 19 * DAY, TODAY - DAY

    def compliant() -> int:
        restate_metrics(database, now=NOON, run_id="a restating")
        found = metrics(database)
        return sum(found["one", day, "sla_compliance_rate"] == 1 for day in days_between(first, last))

    take(database, first, last)
    # Ten days from noon on end within the tenth.
    assert compliant() == 9
    policy = desk.policy("low", 48)
    assert compliant() == 1
    desk.change("sla_policies", policy, hours=72)
    assert compliant() == 2
    desk.change("sla_policies", policy, hours=72)
    assert scalar(database, "SELECT count(*) FROM litigation.metric_marks") == 0
    desk.remove("sla_policies", policy)
    assert compliant() == 9


CREATED: Final = NOON - 8 * DAY
TASKS: Final[dict[str, dict[str, Any]]] = {
    "open": {"status": "pending", "due_date": NOON - 6 * DAY},
    "completed": {"status": "completed", "completed_at": NOON - 7 * DAY},
    "completed, nobody knows when": {"status": "completed"},
    "completed before the creation that it came with": {"status": "completed", "completed_at": NOON - 12 * DAY},
}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("moved", [-6, 4, 7.5])
def test_a_corrected_creation_is_in_the_days_as_if_it_had_come_so(database: Database, kind: str, moved: float) -> None:
    corrected, right = (Desk(database, name, clock_at=NOON) for name in ("corrected", "right"))
    task = corrected.task(corrected.case(created_at=NOON - 30 * DAY), created_at=CREATED, **TASKS[kind])
    right.task(right.case(created_at=NOON - 30 * DAY), created_at=CREATED + moved * DAY, **TASKS[kind])
    days = days_between(TODAY - 20 * DAY, TODAY - DAY)
    take(database, days[0], days[-1])
    corrected.change("tasks", task, created_at=CREATED + moved * DAY)
    restate_metrics(database, now=NOON, run_id="a restating")
    found = metrics(database)
    named = {
        name: {key[1:]: value for key, value in found.items() if key[0] == name} for name in ("corrected", "right")
    }
    assert named["corrected"] == named["right"]
    kept = "SELECT ordinal, status, valid_from FROM litigation.task_history WHERE tenant_id = :of ORDER BY ordinal"
    assert rows(database, kept, of="corrected") == rows(database, kept, of="right")


UNCHANGED: Final[dict[str, Callable[[Desk, Any, Any], object]]] = {
    "a title": lambda desk, case, task: desk.change("tasks", task, title="Told anew"),
    "who does it": lambda desk, case, task: desk.change("tasks", task, assigned_to=case),
    "the case's title": lambda desk, case, task: desk.change("cases", case, title="Told anew"),
    "a scheduled hearing": lambda desk, case, task: desk.hearing(case, NOON - 5 * DAY),
    "a document of tomorrow": lambda desk, case, task: desk.document(case, NOON + DAY),
    "a task of tomorrow": lambda desk, case, task: desk.task(case, created_at=NOON + DAY),
    "a completion of tomorrow": lambda desk, case, task: desk.change(
        "tasks", task, status="completed", completed_at=NOON + DAY
    ),
}


def test_what_changes_no_day_leaves_no_mark(database: Database) -> None:
    desk = Desk(database, clock_at=NOON)
    case = desk.case(created_at=NOON - 30 * DAY)
    task = desk.task(case, created_at=NOON - 20 * DAY)
    take(database, TODAY - 5 * DAY, TODAY - DAY)
    for name, change in UNCHANGED.items():
        change(desk, case, task)
        assert scalar(database, "SELECT count(*) FROM litigation.metric_marks") == 0, name


def test_the_document_of_a_day_is_the_originals(database: Database) -> None:
    desk = Desk(database)
    desk.task(desk.case(created_at=NOON - 30 * DAY), created_at=NOON - 3 * DAY, due_date=NOON - 2 * DAY)
    take(database, TODAY - DAY)
    [row] = rows(database, "SELECT * FROM litigation.daily_snapshots")
    assert row.snapshot == {
        "metric_type": "daily_snapshot",
        "snapshot_date": "2025-06-09",
        "metric_value": {
            "case_count": 1,
            "task_completion_rate": 0,
            "sla_compliance_rate": 1,
            "hearing_attendance_rate": None,
            "document_count": 0,
            "overdue_tasks": 1,
            "anomaly_detected": False,
        },
    }


def unusual_desk(database: Database, *, documents: int = 40) -> Desk:
    """A tenant that has one more document every day, and on the last so many."""
    desk = Desk(database, clock_at=NOON)
    desk.user(role="admin")
    desk.user(role="clerk")
    case = desk.case(created_at=NOON - 200 * DAY)
    for number in range(2, 200):
        desk.document(case, NOON - number * DAY)
    for _ in range(documents):
        desk.document(case, NOON - DAY)
    return desk


def test_what_is_unusual_is_stored_with_what_was_expected_and_the_records_that_changed(database: Database) -> None:
    unusual_desk(database)
    result = take(database, TODAY - 190 * DAY, TODAY - DAY)
    assert result.robust >= 1
    [row] = rows(
        database,
        "SELECT * FROM litigation.anomalies WHERE detector = 'weekday_robust' AND metric = 'document_count' "
        "AND day = :day",
        day=TODAY - DAY,
    )
    assert row.value == 198 + 40
    assert row.expected == pytest.approx(199, abs=1)
    assert row.low <= row.expected <= row.high < row.value
    assert row.deviation == pytest.approx(row.value - row.expected)
    assert [(found["record"], found["count"], len(found["ids"])) for found in row.records] == [
        ("documents_uploaded", 40, 20)
    ]
    [snapshot] = rows(database, "SELECT snapshot FROM litigation.daily_snapshots WHERE day = :day", day=TODAY - DAY)
    assert snapshot.snapshot["metric_value"]["anomaly_detected"] is True


def test_administrators_are_told_of_the_newest_day_once_and_of_no_past_one(database: Database) -> None:
    unusual_desk(database)
    take(database, TODAY - 190 * DAY, TODAY - 2 * DAY)
    assert rows(database, "SELECT FROM notifications.notifications") == []
    take(database, TODAY - DAY)
    take(database, TODAY - DAY)
    take(database, TODAY - 20 * DAY, TODAY - DAY)
    told = rows(
        database,
        "SELECT n.*, u.role FROM notifications.notifications AS n JOIN raw.users AS u ON u.tenant_id = n.tenant_id "
        "AND u.id = n.user_id WHERE n.metadata ->> 'metric' = 'document_count'",
    )
    assert [(row.kind, row.role, row.title) for row in told] == [
        ("metric_unusual", "admin", "Unusual: document count on 2025-06-09")
    ]
    assert "238.0000, where" in told[0].message
    events = rows(database, "SELECT * FROM platform.events WHERE type = 'metric_unusual'")
    assert "document_count" in {row.payload["metric"] for row in events}


def test_administrators_are_told_of_what_late_records_make_unusual_on_the_newest_day_once(database: Database) -> None:
    desk = unusual_desk(database, documents=1)
    case = scalar(database, "SELECT id FROM raw.cases")
    take(database, TODAY - 190 * DAY, TODAY - DAY)
    assert rows(database, "SELECT FROM notifications.notifications") == []
    for late in (NOON - 20 * DAY, NOON - DAY, NOON - DAY):
        for _ in range(40):
            desk.document(case, late)
        restated = restate_metrics(database, now=NOON, run_id="a restating")
        told = rows(database, "SELECT title FROM notifications.notifications")
        assert [row.title for row in told] == ["Unusual: document count on 2025-06-09"] * (late != NOON - 20 * DAY)
    assert restated.told == 0
    assert scalar(database, "SELECT count(*) FROM notifications.deliveries") > 0


def robust(database: Database) -> dict[tuple[str, date], Any]:
    found = rows(database, "SELECT * FROM litigation.anomalies WHERE detector = 'weekday_robust'")
    return {(row.metric, row.day): row.records for row in found}


@pytest.mark.parametrize("days", [1, 10])
def test_a_day_that_turns_out_unusual_when_the_days_before_it_are_taken_has_its_records(
    database: Database, days: int
) -> None:
    unusual_desk(database)
    take(database, TODAY - days * DAY, TODAY - DAY)
    assert robust(database) == {}
    first = TODAY - 150 * DAY
    take(database, first, TODAY - (days + 1) * DAY)
    found = robust(database)
    assert [(each["record"], each["count"]) for each in found["document_count", TODAY - DAY]] == [
        ("documents_uploaded", 40)
    ]
    take(database, first, TODAY - DAY)
    assert robust(database) == found


def test_a_dry_run_finds_the_same_and_keeps_nothing(database: Database) -> None:
    unusual_desk(database)
    dry = take(database, TODAY - 190 * DAY, TODAY - DAY, dry_run=True)
    for table in ("litigation.daily_metrics", "litigation.anomalies", "litigation.metric_reach", "platform.events"):
        assert rows(database, f"SELECT FROM {table}") == [], table
    assert take(database, TODAY - 190 * DAY, TODAY - DAY) == dry


def test_a_dry_run_over_several_transactions_judges_each_day_by_those_before_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    unusual_desk(database)
    monkeypatch.setattr("dossier_pipelines.litigation.metrics.MOST_TENANT_DAYS", 20)
    dry = take(database, TODAY - 190 * DAY, TODAY - DAY, dry_run=True)
    assert dry.robust >= 1
    assert take(database, TODAY - 190 * DAY, TODAY - DAY) == dry


def taken_days(database: Database, tenant_id: str) -> list[date]:
    return sorted({day for tenant, day, _ in metrics(database) if tenant == tenant_id})


def restate(database: Database, **more: Any) -> MetricResult:
    return restate_metrics(database, now=NOON, run_id="a restating", **more)


def test_restating_takes_of_each_tenant_the_days_that_were_taken_and_no_others(database: Database) -> None:
    old, young = Desk(database, "old", clock_at=NOON), Desk(database, "young", clock_at=NOON)
    cases = [desk.case(created_at=NOON - 400 * DAY) for desk in (old, young)]
    take(database, TODAY - 300 * DAY, TODAY - DAY, tenants=["old"])
    # A gap, and the newest day has not been taken: the run of the evening takes it, and tells what is unusual.
    take(database, TODAY - 6 * DAY, tenants=["young"])
    take(database, TODAY - 4 * DAY, TODAY - 2 * DAY, tenants=["young"])
    before = taken_days(database, "young")
    old.policy("low", 48)
    young.document(cases[1], NOON - 5 * DAY)
    result = restate(database)
    assert (result.days, result.tenants, result.written) == (300, 2, 3)
    assert taken_days(database, "young") == before == [TODAY - n * DAY for n in (6, 4, 3, 2)]
    assert metrics(database)["young", TODAY - 4 * DAY, "document_count"] == 1
    assert missing_ranges(database, since=TODAY - 7 * DAY, now=NOON) != []
    assert scalar(database, "SELECT count(*) FROM litigation.metric_marks") == 0


def test_a_restating_that_dies_between_tenants_is_gone_on_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["one", "three", "two"]
    desks = [Desk(database, name, clock_at=NOON) for name in names]
    cases = [desk.case(created_at=NOON - 400 * DAY) for desk in desks]
    take(database, TODAY - 30 * DAY, TODAY - DAY)
    for desk, case in zip(desks, cases, strict=True):
        desk.document(case, NOON - 20 * DAY)
    # A transaction for each tenant.
    monkeypatch.setattr("dossier_pipelines.litigation.restating.MOST_TENANT_DAYS", 20)

    def die(chunk: MetricChunk) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restate(database, report=die)
    waiting = "SELECT tenant_id FROM litigation.metric_marks ORDER BY tenant_id"
    left = [row.tenant_id for row in rows(database, waiting)]
    assert len(left) == 2
    desks[names.index(left[0])].document(cases[names.index(left[0])], NOON - 25 * DAY)
    chunks: list[MetricChunk] = []
    result = restate(database, report=chunks.append)
    assert [chunk.tenants for chunk in chunks] == [1, 1]
    assert (result.tenants, result.days) == (2, 25)
    counts = metrics(database)
    assert {name: counts[name, TODAY - DAY, "document_count"] for name in names} == dict.fromkeys(names, 1) | {
        left[0]: 2
    }
    assert rows(database, waiting) == []
    written = scalar(database, "SELECT details -> 'results' FROM platform.audit_log WHERE run_id = 'a restating'")
    assert written["metricsWritten"] == result.written


def test_a_tenant_that_moves_west_loses_the_day_that_has_not_ended_there_until_it_does(database: Database) -> None:
    # 23:59:30 in Kolkata, and 14:29:30 in New York.
    evening = datetime(2025, 6, 10, 18, 29, 30, tzinfo=UTC)
    desk = Desk(database, timezone="Asia/Kolkata", clock_at=evening)
    desk.case(created_at=NOON - 30 * DAY)
    take(database, TODAY - 3 * DAY, TODAY, now=evening)
    assert taken_days(database, "one")[-1] == TODAY
    desk._run("UPDATE raw.tenants SET timezone = 'America/New_York'")
    restate_metrics(database, now=evening, run_id="a restating")
    assert taken_days(database, "one") == [TODAY - n * DAY for n in (3, 2, 1)]
    desk.set_clock(evening + DAY)
    assert missing_ranges(database, since=TODAY, now=evening) == [(TODAY, TODAY)]


def test_a_day_that_another_run_took_while_the_restating_waited_is_restated_and_kept(database: Database) -> None:
    desk = Desk(database)
    case = desk.case(created_at=NOON - 30 * DAY)
    # 23:59:30 in Riyadh.
    evening = datetime(2025, 6, 10, 20, 59, 30, tzinfo=UTC)
    take(database, TODAY - DAY, TODAY, now=evening)
    desk.policy("low", 48)
    desk.document(case, NOON)
    restate_metrics(database, now=evening - MINUTE, run_id="a restating")
    assert metrics(database)["one", TODAY, "document_count"] == 1
    assert scalar(database, "SELECT count(*) FROM litigation.metric_marks") == 0


def test_another_grace_reaches_the_days_that_are_taken_already(database: Database) -> None:
    desk = Desk(database, clock_at=NOON)
    desk.task(desk.case(created_at=NOON - 30 * DAY), created_at=NOON - 9 * DAY, due_date=NOON - 5 * DAY)
    take(database, TODAY - 6 * DAY, TODAY - 2 * DAY)
    assert metrics(database)["one", TODAY - 5 * DAY, "overdue_tasks"] == 1
    take(database, TODAY - DAY, grace=2 * DAY)
    restate(database)
    found = metrics(database)
    assert [found["one", TODAY - n * DAY, "overdue_tasks"] for n in (5, 4, 3, 2, 1)] == [0, 0, 1, 1, 1]
    take(database, TODAY - DAY, grace=2 * DAY)
    assert scalar(database, "SELECT count(*) FROM litigation.metric_marks") == 0


def test_what_was_unusual_of_a_tenant_that_is_gone_warns_nobody(database: Database) -> None:
    desk = unusual_desk(database)
    take(database, TODAY - 190 * DAY, TODAY - DAY)
    assert database.run("dossier_pipelines.litigation", "unusual_now") != []
    desk._run("DELETE FROM raw.tenants")
    assert database.run("dossier_pipelines.litigation", "unusual_now") == []


def test_whoever_waits_for_an_open_load_lets_the_loads_after_it_pass(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(database)
    case = desk.case(created_at=NOON - 30 * DAY)
    monkeypatch.setattr("dossier_pipelines.litigation.metrics.LOCK_SECONDS", 1)
    with ThreadPoolExecutor(2) as pool:
        with database.transaction() as load:
            load.exec_driver_sql("LOCK TABLE raw.case_documents IN ROW EXCLUSIVE MODE")
            taken = pool.submit(take, database, TODAY - DAY)
            wait_until(
                lambda: waits_for_a_table(database) or taken.done(), "the metrics wait for the load, or are taken"
            )
            # Its transaction commits while the first one is open.
            pool.submit(desk.document, case, NOON - 2 * DAY).result()
            assert not taken.done()
        taken.result()
    assert metrics(database)["one", TODAY - DAY, "document_count"] == 1
