"""A day's snapshot is what was so at the end of the day: taken then or later, alone or in a range, restated or not."""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import HealthConfig
from dossier_pipelines.dossiers.overdue import OverdueScope, detect_in_transaction, detect_overdue
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.dossiers.snapshots import SnapshotChunk, SnapshotResult, restate_snapshots, take_snapshots
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.histories import (
    DAY,
    DEFAULTS,
    HOUR,
    MICROSECOND,
    OTHERWISE,
    STATUSES,
    STEPS_IN_DAYS,
    TYPES,
    VARIED,
    ZONES,
    Health,
    Key,
    Records,
    differences,
    stored_health,
)
from dossier_pipelines_tests.records import rows, scalar

STATISTICS: Final = tuple(one.name for one in fields(Health))
# The moment of tenants without a clock of their own.
NOW: Final = datetime(2025, 6, 20, 9, tzinfo=UTC)

Day = tuple[Key, date]


def take(
    database: Database, first_day: date, last_day: date | None = None, *, config: HealthConfig = DEFAULTS, **more: Any
) -> SnapshotResult:
    return take_snapshots(database, config, first_day=first_day, last_day=last_day or first_day, **{"now": NOW, **more})


def restate(database: Database, *, config: HealthConfig = DEFAULTS, **more: Any) -> SnapshotResult:
    return restate_snapshots(database, config, now=NOW, **more)


def shown(database: Database) -> dict[Day, dict[str, Any]]:
    """Every day of every dossier, as readers see it."""
    found = {}
    for row in rows(database, "SELECT * FROM dossiers.daily_snapshots"):
        values = dict(row._mapping)
        found[Key(values.pop("tenant_id"), values.pop("dossier_id")), values.pop("day")] = values
    return found


def stored(database: Database) -> list[str]:
    """Every span, to the byte."""
    return [row[0] for row in rows(database, "SELECT s::text FROM dossiers.snapshot_spans AS s ORDER BY 1")]


def versions(database: Database) -> list[str]:
    """Every span, with its place and the transaction that wrote it: equal means untouched."""
    found = rows(
        database, "SELECT s.xmin::text || s.ctid::text || s::text FROM dossiers.snapshot_spans AS s ORDER BY 1"
    )
    return [row[0] for row in found]


def days_taken(database: Database, tenant_id: str = "default") -> list[date]:
    found = rows(
        database,
        "SELECT day FROM dossiers.snapshot_days WHERE tenant_id = :tenant_id ORDER BY day",
        tenant_id=tenant_id,
    )
    return [row.day for row in found]


def marks(database: Database) -> set[tuple[uuid.UUID, datetime | None]]:
    """Whose snapshots have been overtaken, each with the earliest moment; null: all of them."""
    found = rows(
        database,
        "SELECT dossier_id, nullif(min(coalesce(since, '-infinity')), '-infinity') AS since "
        "FROM dossiers.snapshot_marks GROUP BY dossier_id",
    )
    return {(row.dossier_id, row.since) for row in found}


def forget_snapshots(database: Database) -> None:
    """Be as if no snapshot had ever been taken."""
    with database.transaction() as connection:
        connection.execute(
            sa.text("TRUNCATE dossiers.snapshot_spans, dossiers.snapshot_days, dossiers.snapshot_chunks")
        )


def days_between(first_day: date, last_day: date) -> list[date]:
    return [first_day + number * DAY for number in range((last_day - first_day).days + 1)]


# --- made-up worlds ---------------------------------------------------------------------------------------------

# Ranges that hold the leap day, a new year and the changes of clocks of every zone, at midnight or not.
RANGES: Final = (
    (date(2024, 2, 12), 45),
    (date(2024, 12, 20), 30),
    (date(2025, 2, 27), 62),
    (date(2025, 9, 20), 48),
)


class World:
    """Tenants of every zone, whose records are on and around the edges of a range's days, and change at random."""

    def __init__(self, database: Database, seed: int, *, dossiers: int = 4) -> None:
        self.database = database
        self.random = Random(f"daily snapshots {seed}")
        begin, length = RANGES[seed % len(RANGES)]
        self.first = begin + self.random.randrange(10) * DAY
        self.last = self.first + (length - self.random.randrange(10)) * DAY
        self.zones = {zone.replace("/", "-").lower(): zone for zone in ZONES}
        self.log: list[str] = []
        with database.transaction() as connection:
            self.connection = connection
            for tenant_id, zone in self.zones.items():
                self._run(
                    tenant_id,
                    "INSERT INTO platform.tenants (tenant_id, timezone) VALUES (:tenant_id, :zone)",
                    zone=zone,
                )
                for _ in range(dossiers):
                    self._open_dossier(tenant_id)
                for _ in range(12):
                    self._add_engagements(tenant_id)
                    self._add_commitments(tenant_id)
        self.let_clocks_run_out()

    def let_clocks_run_out(self) -> None:
        """Let all clocks have come past the range."""
        with self.database.transaction() as connection:
            connection.execute(
                sa.text("UPDATE platform.tenants SET clock_at = :at"),
                {"at": datetime(self.last.year, self.last.month, self.last.day, 12, tzinfo=UTC) + 3 * DAY},
            )

    def go_on(self, statements: int) -> None:
        """Let so many things happen to each tenant."""
        for _ in range(statements):
            with self.database.transaction() as connection:
                self.connection = connection
                for tenant_id in self.zones:
                    chosen = self.random.choices(list(_HAPPENINGS), list(_HAPPENINGS.values()))[0]
                    getattr(self, f"_{chosen}")(tenant_id)
        self.let_clocks_run_out()

    def _run(self, tenant_id: str, sql: str, **parameters: Any) -> None:
        self.log.append(f"{tenant_id}: {sql} {parameters}")
        self.connection.execute(sa.text(sql), {"tenant_id": tenant_id, **parameters})

    def _ids(self, tenant_id: str, table: str) -> list[uuid.UUID]:
        found = self.connection.execute(
            sa.text(f"SELECT id FROM raw.{table} WHERE tenant_id = :tenant_id ORDER BY id"), {"tenant_id": tenant_id}
        )
        return list(found.scalars())

    def _some(self, tenant_id: str, table: str) -> list[uuid.UUID]:
        known = self._ids(tenant_id, table)
        return self.random.sample(known, min(len(known), self.random.choice((1, 1, 2, 3))))

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128))

    def _edge(self, tenant_id: str) -> datetime:
        """A moment on, just before or just after a midnight of the range, or anywhere in a day."""
        day = self.first + self.random.randrange(-3, (self.last - self.first).days + 4) * DAY
        midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.zones[tenant_id])).astimezone(UTC)
        around = (-HOUR, -MICROSECOND, timedelta(0), timedelta(0), MICROSECOND, HOUR, self.random.randrange(24) * HOUR)
        return midnight + self.random.choice(around)

    def _occurred(self, tenant_id: str) -> datetime:
        """Such a moment, or one from which a window or a step ends there."""
        steps = self.random.choice((0, 0, 0, *STEPS_IN_DAYS, self.random.randrange(600)))
        return self._edge(tenant_id) - steps * DAY

    def _maybe(self, tenant_id: str) -> datetime | None:
        if self.random.random() < 0.4:
            return None
        return self._edge(tenant_id) - self.random.choice((0, 0, 0, 1, 40)) * DAY

    def _due(self, tenant_id: str) -> date | None:
        if self.random.random() < 0.1:
            return None
        return self._edge(tenant_id).date() + self.random.choice((-1, 0, 0, 1, 29, 30, 31, 31)) * DAY

    def _promise(self, tenant_id: str) -> dict[str, Any]:
        return {
            "status": self.random.choice((*STATUSES, "pending")),
            "due_date": self._due(tenant_id),
            **{name: self._maybe(tenant_id) for name in ("created_at", "updated_at", "completed_at", "cancelled_at")},
        }

    # What happens.

    def _open_dossier(self, tenant_id: str) -> None:
        self._run(
            tenant_id,
            "INSERT INTO raw.dossiers (tenant_id, id, name, type, created_at) VALUES (:tenant_id, :id, 'A', :type, :at)",
            id=self._uuid(),
            type=self.random.choice(TYPES),
            at=self._maybe(tenant_id),
        )

    def _change_dossier(self, tenant_id: str) -> None:
        name, value = self.random.choice(
            (("type", self.random.choice(TYPES)), ("created_at", self._maybe(tenant_id)), ("name", "Renamed"))
        )
        self._run(
            tenant_id,
            f"UPDATE raw.dossiers SET {name} = :value WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
            ids=self._some(tenant_id, "dossiers"),
            value=value,
        )

    def _close_dossier(self, tenant_id: str) -> None:
        known = self._ids(tenant_id, "dossiers")
        if len(known) > 2:
            self._run(
                tenant_id,
                "DELETE FROM raw.dossiers WHERE tenant_id = :tenant_id AND id = :id",
                id=self.random.choice(known),
            )

    def _add_engagements(self, tenant_id: str) -> None:
        for _ in range(self.random.choice((1, 2, 3))):
            self._run(
                tenant_id,
                "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                "VALUES (:tenant_id, :id, :dossier_id, :at)",
                id=self._uuid(),
                dossier_id=self.random.choice(self._ids(tenant_id, "dossiers")),
                at=self._occurred(tenant_id),
            )

    def _change_engagements(self, tenant_id: str) -> None:
        name, value = self.random.choice(
            (
                ("occurred_at", self._occurred(tenant_id)),
                ("dossier_id", self.random.choice(self._ids(tenant_id, "dossiers"))),
                ("description", "Told anew"),
            )
        )
        self._run(
            tenant_id,
            f"UPDATE raw.engagements SET {name} = :value WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
            ids=self._some(tenant_id, "engagements"),
            value=value,
        )

    def _add_commitments(self, tenant_id: str) -> None:
        for _ in range(self.random.choice((1, 1, 2))):
            promise = self._promise(tenant_id)
            self._run(
                tenant_id,
                f"INSERT INTO raw.commitments (tenant_id, id, dossier_id, {', '.join(promise)}) "
                f"VALUES (:tenant_id, :id, :dossier_id, {', '.join(f':{name}' for name in promise)})",
                id=self._uuid(),
                dossier_id=self.random.choice(self._ids(tenant_id, "dossiers")),
                **promise,
            )

    def _change_commitments(self, tenant_id: str) -> None:
        promise = self._promise(tenant_id) | {
            "dossier_id": self.random.choice(self._ids(tenant_id, "dossiers")),
            "description": "Told anew",
        }
        names = self.random.sample(list(promise), self.random.choice((1, 1, 2, 3)))
        if self.random.random() < 0.4:
            names = sorted({*names, "status"})
        self._run(
            tenant_id,
            f"UPDATE raw.commitments SET {', '.join(f'{name} = :{name}' for name in names)} "
            "WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
            ids=self._some(tenant_id, "commitments"),
            **{name: promise[name] for name in names},
        )

    def _remove(self, tenant_id: str) -> None:
        table = self.random.choice(("engagements", "commitments"))
        self._run(
            tenant_id,
            f"DELETE FROM raw.{table} WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
            ids=self._some(tenant_id, table),
        )

    def _renumber(self, tenant_id: str) -> None:
        table = self.random.choice(("engagements", "commitments"))
        for was in self._some(tenant_id, table)[:1]:
            self._run(
                tenant_id,
                f"UPDATE raw.{table} SET id = :becomes WHERE tenant_id = :tenant_id AND id = :was",
                was=was,
                becomes=self._uuid(),
            )

    def _move(self, tenant_id: str) -> None:
        self.zones[tenant_id] = self.random.choice(ZONES)
        self._run(
            tenant_id,
            "UPDATE platform.tenants SET timezone = :zone WHERE tenant_id = :tenant_id",
            zone=self.zones[tenant_id],
        )

    def _detect(self, tenant_id: str) -> None:
        """Let the clock show some moment of the range; then it is by this clock that changes without a date are."""
        at = self._edge(tenant_id)
        self._run(tenant_id, "UPDATE platform.tenants SET clock_at = :at WHERE tenant_id = :tenant_id", at=at)
        scope = OverdueScope(tenant_id=tenant_id)
        self.log.append(f"{tenant_id}: detect")
        detect_in_transaction(self.connection, scope, now=NOW, run_id=f"detection {len(self.log)}")


_HAPPENINGS: Final = {
    "add_engagements": 4,
    "change_engagements": 4,
    "add_commitments": 4,
    "change_commitments": 14,
    "remove": 3,
    "renumber": 1,
    "open_dossier": 1,
    "change_dossier": 2,
    "close_dossier": 1,
    "detect": 5,
    "move": 1,
}


# --- the proof --------------------------------------------------------------------------------------------------


def end_of(database: Database, day: date) -> dict[str, datetime]:
    """When the day ends, by tenant."""
    found = rows(database, "SELECT tenant_id, dossiers.day_end(:day, timezone) AS at FROM platform.tenants", day=day)
    return {row.tenant_id: row.at for row in found}


def refreshed_as_of(database: Database, day: date) -> dict[Key, Health]:
    """What a full refresh computes as of the end of the day, of dossiers that exist by then."""
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE platform.tenants SET clock_at = dossiers.day_end(:day, timezone)"), {"day": day}
        )
    refresh_health(database, VARIED, now=NOW, full=True)
    opened = {
        Key(row.tenant_id, row.id)
        for row in rows(
            database,
            "SELECT d.tenant_id, d.id FROM raw.dossiers AS d JOIN platform.tenants AS t USING (tenant_id) "
            "WHERE coalesce(d.created_at <= t.clock_at, true)",
        )
    }
    return {key: health for key, health in stored_health(database).items() if key in opened}


@pytest.mark.parametrize("seed", range(len(RANGES)))
def test_every_day_is_what_a_full_refresh_computes_as_of_its_end(database: Database, seed: int) -> None:
    world = World(database, seed)
    world.go_on(8)
    assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_marks") == 0
    result = take(database, world.first, world.last, config=VARIED)
    assert result.days == (world.last - world.first).days + 1
    found: dict[date, dict[Key, Health]] = defaultdict(dict)
    for (key, day), values in shown(database).items():
        found[day][key] = Health(**{name: values[name] for name in STATISTICS})
        assert values["settings_version"] == VARIED.version
    assert sorted(found) == days_between(world.first, world.last)
    for day, snapshots in found.items():
        expected = refreshed_as_of(database, day)
        assert differences(snapshots, expected) == {}, f"{day}\n" + "\n".join(world.log)
    changing = {key for key, _ in shown(database) if len({found[day].get(key) for day in found}) > 3}
    assert len(changing) > 10, "the world has become dull"


def tell_until(database: Database, day: date) -> None:
    """Open tenants anew who only ever received what the present ones had by the end of the day: ``riyadh until ...``."""
    until = {"day": day, "suffix": f" until {day}"}
    with database.transaction() as connection:
        for sql in (
            "INSERT INTO platform.tenants (tenant_id, timezone, clock_at) "
            "SELECT tenant_id || :suffix, timezone, dossiers.day_end(:day, timezone) FROM platform.tenants "
            "WHERE tenant_id NOT LIKE '% until %'",
            "INSERT INTO raw.dossiers (tenant_id, id, name, type, created_at) "
            "SELECT n.tenant_id, d.id, d.name, d.type, d.created_at FROM raw.dossiers AS d "
            "JOIN platform.tenants AS n ON n.tenant_id = d.tenant_id || :suffix "
            "WHERE coalesce(d.created_at <= n.clock_at, true)",
            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
            "SELECT n.tenant_id, e.id, e.dossier_id, e.occurred_at FROM raw.engagements AS e "
            "JOIN platform.tenants AS n ON n.tenant_id = e.tenant_id || :suffix "
            "WHERE e.occurred_at <= n.clock_at",
        ):
            used = {name: value for name, value in until.items() if f":{name}" in sql}
            connection.execute(sa.text(sql), used)
        pasts = _known(connection, day)
        for number in range(max(len(past) for past in pasts.values())):
            step = [(key, *past[number]) for key, past in pasts.items() if number < len(past)]
            _tell(connection, step, new=number == 0, suffix=until["suffix"])
        # Due dates have no history.
        connection.execute(
            sa.text(
                "UPDATE raw.commitments AS n SET due_date = c.due_date FROM raw.commitments AS c "
                "WHERE n.tenant_id = c.tenant_id || :suffix AND n.id = c.id"
            ),
            {"suffix": until["suffix"]},
        )


Known = tuple[str, uuid.UUID, uuid.UUID, datetime | None]


def _known(connection: sa.Connection, day: date) -> dict[Known, list[tuple[str, datetime | None]]]:
    """What was known of every commitment by the end of the day, in the order of learning."""
    found = connection.execute(
        sa.text(
            "SELECT c.tenant_id, c.id, c.dossier_id, c.created_at, h.status, h.valid_from FROM raw.commitments AS c "
            "JOIN platform.tenants AS t ON t.tenant_id = c.tenant_id AND t.tenant_id NOT LIKE '% until %' "
            "JOIN dossiers.commitment_history AS h ON h.tenant_id = c.tenant_id AND h.commitment_id = c.id "
            "WHERE coalesce(greatest(c.created_at, h.valid_from) <= dossiers.day_end(:day, t.timezone), true) "
            "ORDER BY c.tenant_id, c.id, h.ordinal"
        ),
        {"day": day},
    )
    pasts: dict[Known, list[tuple[str, datetime | None]]] = defaultdict(list)
    for row in found:
        past = pasts[row.tenant_id, row.id, row.dossier_id, row.created_at]
        if past and past[-1][0] == row.status:
            # Of two that say the same the earlier moment counts.
            earlier = None if past[-1][1] is None else min(past[-1][1], row.valid_from)
            past[-1] = (row.status, earlier)
        else:
            past.append((row.status, row.valid_from))
    return pasts


def _tell(connection: sa.Connection, step: list[tuple[Known, str, datetime | None]], *, new: bool, suffix: str) -> None:
    values = [
        {
            "tenant_id": tenant_id + suffix,
            "id": commitment_id,
            "status": status,
            "created_at": created_at,
            "dossier_id": dossier_id,
            "at": at,
            "completed_at": at if status == "completed" else None,
            "cancelled_at": at if status == "cancelled" else None,
        }
        for (tenant_id, commitment_id, dossier_id, created_at), status, at in step
    ]
    if new:
        connection.execute(
            sa.text(
                "INSERT INTO raw.commitments (tenant_id, id, dossier_id, status, created_at) "
                "VALUES (:tenant_id, :id, :dossier_id, :status, :created_at)"
            ),
            values,
        )
        return
    # Two changes at the same moment are two changes.
    for assignments in (
        "updated_at = NULL",
        "status = :status, updated_at = :at, completed_at = :completed_at, cancelled_at = :cancelled_at",
    ):
        connection.execute(
            sa.text(f"UPDATE raw.commitments SET {assignments} WHERE tenant_id = :tenant_id AND id = :id"), values
        )


@pytest.mark.parametrize("seed", range(10, 10 + len(RANGES)))
def test_every_day_is_what_was_known_by_its_end(database: Database, seed: int) -> None:
    world = World(database, seed)
    world.go_on(8)
    take(database, world.first, world.last, config=VARIED)
    original, before = shown(database), versions(database)
    for day in world.random.sample(days_between(world.first, world.last), 6):
        tell_until(database, day)
        take(database, day, config=VARIED)
        fresh = {
            (Key(key.tenant_id.removesuffix(f" until {day}"), key.dossier_id), then): values
            for (key, then), values in shown(database).items()
            if key.tenant_id.endswith(f" until {day}")
        }
        assert fresh == {(key, then): values for (key, then), values in original.items() if then == day}, world.log
    assert set(before) <= set(versions(database))
    assert len(original) > 500


@pytest.mark.parametrize("seed", range(20, 20 + len(RANGES)))
def test_every_difference_to_the_day_before_is_told(database: Database, seed: int) -> None:
    world = World(database, seed)
    world.go_on(8)
    take(database, world.first, world.last, config=VARIED)
    found = shown(database)
    ids = {row.id for table in ("engagements", "commitments") for row in rows(database, f"SELECT id FROM raw.{table}")}
    moved = 0
    for (key, day), values in found.items():
        before = found.get((key, day - DAY))
        counts = {one["factor"]: one["count"] for one in values["factors"]}
        for one in values["factors"]:
            assert one["text"].startswith(f"{one['count']} ") or one["factor"] == "recency"
            assert len(one["records"]) == (0 if one["factor"] == "recency" else one["count"])
            assert {uuid.UUID(record) for record in one["records"]} <= ids
        if before is None:
            assert day == world.first or (values["previous_score"], values["factors"]) == (None, [])
            continue
        assert values["previous_score"] == before["overall_score"]
        known = None not in (values["overall_score"], before["overall_score"])
        difference = values["overall_score"] - before["overall_score"] if known else None
        assert values["score_change"] == difference
        for statistic, more, less in (
            ("total_engagements_365d", "engagements_added", "engagements_aged"),
            ("overdue_commitments", "commitments_overdue", "commitments_no_longer_overdue"),
            ("total_commitments", "commitments_added", "commitments_gone"),
        ):
            assert values[statistic] - before[statistic] == counts.get(more, 0) - counts.get(less, 0), (key, day)
        assert (values["recency"] != before["recency"]) == ("recency" in counts)
        if not values["factors"]:
            assert values["fulfilled_commitments"] == before["fulfilled_commitments"]
            assert values["overall_score"] == before["overall_score"]
        moved += bool(difference)
    assert moved > 50, "the world has become dull"


# --- what happened on a day -------------------------------------------------------------------------------------

# Noon in Riyadh.
NOON: Final = datetime(2025, 6, 10, 9, tzinfo=UTC)
TODAY: Final = NOON.date()
MADE: Final = NOON - 100 * DAY


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=NOON + 5 * DAY)


def factors(database: Database, day: date = TODAY) -> list[tuple[str, int, str, list[str]]]:
    """What is said of the only dossier's day."""
    [found] = [values["factors"] for (_, then), values in shown(database).items() if then == day]
    return [(one["factor"], one["count"], one["text"], one["records"]) for one in found]


Story = Callable[[Records, uuid.UUID], list[uuid.UUID]]


def _fulfilled(records: Records, dossier: uuid.UUID) -> list[uuid.UUID]:
    return [
        records.commitment(dossier, "completed", created_at=MADE, completed_at=NOON + number * HOUR)
        for number in (0, 1)
    ]


def _reopened(records: Records, dossier: uuid.UUID) -> list[uuid.UUID]:
    commitment = records.commitment(dossier, "completed", created_at=MADE, completed_at=NOON - 9 * DAY)
    records.change("commitments", commitment, status="in_progress", completed_at=None, updated_at=NOON)
    return [commitment]


def _extended(records: Records, dossier: uuid.UUID) -> list[uuid.UUID]:
    commitment = records.commitment(dossier, created_at=MADE, due_date=TODAY - 3 * DAY)
    records.change("commitments", commitment, status="cancelled", cancelled_at=NOON)
    return [commitment]


FACTORS: Final[dict[str, tuple[Story, list[tuple[str, int, str]]]]] = {
    "nothing": (lambda records, dossier: [], []),
    "became overdue": (
        lambda records, dossier: [records.commitment(dossier, created_at=MADE, due_date=TODAY - DAY)],
        [("commitments_overdue", 1, "1 commitment became overdue")],
    ),
    "two fulfilled": (_fulfilled, [("commitments_fulfilled", 2, "2 commitments were fulfilled")]),
    "reopened": (_reopened, [("commitments_reopened", 1, "1 commitment is no longer fulfilled")]),
    "an overdue one cancelled": (
        _extended,
        [
            ("commitments_no_longer_overdue", 1, "1 commitment is no longer overdue"),
            ("commitments_gone", 1, "1 commitment was cancelled or removed"),
        ],
    ),
    "added": (
        lambda records, dossier: [records.commitment(dossier, created_at=NOON) for _ in range(2)],
        [("commitments_added", 2, "2 commitments were added")],
    ),
    "engaged again": (
        lambda records, dossier: [records.engagement(dossier, NOON)],
        [("engagements_added", 1, "1 engagement was added")],
    ),
    # A window includes its ends: 365 days after noon is over a year later, just after noon.
    "aged out": (
        lambda records, dossier: [records.engagement(dossier, NOON - 365 * DAY)],
        [("engagements_aged", 1, "1 engagement is more than 365 days ago now")],
    ),
}


@pytest.mark.parametrize("case", FACTORS)
def test_a_day_says_what_happened_on_it_and_to_which_records(database: Database, records: Records, case: str) -> None:
    story, expected = FACTORS[case]
    dossier = records.dossier(created_at=MADE)
    # What is there already keeps recency at its best throughout.
    records.engagement(dossier, NOON - 5 * DAY)
    ids = [str(one) for one in story(records, dossier)]
    take(database, TODAY - DAY, TODAY + DAY)
    assert factors(database) == [(*one, ids) for one in expected]
    assert factors(database, TODAY + DAY) == []


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ([NOON - 31 * DAY], "the latest engagement is 31 days ago, was 30"),
        ([NOON - 181 * DAY], "the latest engagement is 181 days ago, was 180"),
        # Also of one that counts in nothing else any more.
        ([NOON - 400 * DAY, NOON], "the latest engagement is 0 days ago, was 399"),
        ([NOON], "the first engagement is 0 days ago"),
    ],
)
def test_a_step_of_recency_is_told_with_the_days(
    database: Database, records: Records, before: list[datetime], text: str
) -> None:
    records.engagements(records.dossier(created_at=NOON - 500 * DAY), *before)
    take(database, TODAY)
    assert ("recency", 1, text, []) in factors(database)
    take(database, TODAY + DAY)
    assert factors(database, TODAY + DAY) == []


def test_of_many_records_twenty_are_named(database: Database, records: Records) -> None:
    dossier = records.dossier(created_at=MADE)
    ids = records.engagements(dossier, NOON - DAY, *[NOON] * 30)
    take(database, TODAY)
    assert factors(database) == [
        ("engagements_added", 30, "30 engagements were added", [str(one) for one in sorted(ids[1:])[:20]])
    ]


def test_a_score_knows_the_one_of_the_day_before(database: Database, records: Records) -> None:
    dossier = records.dossier(created_at=NOON - 2 * DAY)
    records.engagements(dossier, *[NOON - 3 * DAY] * 3)
    records.commitment(dossier, created_at=MADE)
    records.commitment(dossier, "completed", created_at=MADE, completed_at=NOON)
    take(database, TODAY - 2 * DAY, TODAY + DAY)
    found = [
        (values["overall_score"], values["previous_score"], values["score_change"])
        for _, values in sorted(shown(database).items())
    ]
    # 0.3 x 6 + 0.4 x 0 or 50 + 0.3 x 100; the first day of a dossier has none before it.
    assert found == [(32, None, None), (32, 32, 0), (52, 32, 20), (52, 52, 0)]


def test_without_enough_data_there_is_no_change_to_tell(database: Database, records: Records) -> None:
    dossier = records.dossier(created_at=MADE)
    records.engagements(dossier, NOON - DAY, NOON - DAY, NOON)
    records.commitment(dossier, created_at=MADE)
    take(database, TODAY - DAY, TODAY + DAY)
    found = [
        (values["overall_score"], values["previous_score"], values["score_change"])
        for _, values in sorted(shown(database).items())
    ]
    assert found == [(None, None, None), (32, None, None), (32, 32, 0)]
    assert factors(database) == [("engagements_added", 1, "1 engagement was added", [str(uuid.UUID(int=4))])]


def test_a_dossier_has_no_day_before_it_was_opened(database: Database, records: Records) -> None:
    # The last moment of the day before, in the tenant's zone, and the first of the day.
    midnight = datetime(2025, 6, 9, 21, tzinfo=UTC)
    first, second, always = (records.dossier(created_at=at) for at in (midnight - MICROSECOND, midnight, None))
    records.engagement(always, MADE)
    take(database, TODAY - 3 * DAY, TODAY)
    found = {
        key.dossier_id: [day for each, day in sorted(shown(database)) if each == key] for key, _ in shown(database)
    }
    assert found == {
        first: [TODAY - DAY, TODAY],
        second: [TODAY],
        always: days_between(TODAY - 3 * DAY, TODAY),
    }
