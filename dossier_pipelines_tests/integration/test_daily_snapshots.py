"""A day's snapshot is what was so at the end of the day: taken then or later, alone or in a range, restated or not."""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import Health, HealthConfig
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
    MINUTE,
    OTHERWISE,
    STATUSES,
    STEPS_IN_DAYS,
    TYPES,
    VARIED,
    ZONES,
    Key,
    Records,
    differences,
    stored_health,
)
from dossier_pipelines_tests.processes import wait_until
from dossier_pipelines_tests.records import rows, scalar, waits_for_a_table

STATISTICS: Final = tuple(one.name for one in fields(Health))
# The moment of tenants without a clock of their own.
NOW: Final = datetime(2025, 6, 20, 9, tzinfo=UTC)

Day = tuple[Key, date]


def take(
    database: Database, first_day: date, last_day: date | None = None, *, config: HealthConfig = DEFAULTS, **more: Any
) -> SnapshotResult:
    return take_snapshots(database, config, first_day=first_day, last_day=last_day or first_day, **{"now": NOW, **more})


def restate(database: Database, *, config: HealthConfig = VARIED, **more: Any) -> SnapshotResult:
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


def marks(database: Database, tenant_id: str = "default") -> set[tuple[uuid.UUID, datetime | None]]:
    """Whose snapshots have been overtaken, each with the earliest moment; null: all of them."""
    found = rows(
        database,
        "SELECT dossier_id, nullif(min(coalesce(since, '-infinity')), '-infinity') AS since "
        "FROM dossiers.snapshot_marks WHERE tenant_id = :tenant_id GROUP BY dossier_id",
        tenant_id=tenant_id,
    )
    return {(row.dossier_id, row.since) for row in found}


def forget_snapshots(database: Database) -> None:
    """Be as if no snapshot had ever been taken."""
    with database.transaction() as connection:
        connection.execute(
            sa.text("TRUNCATE " + ", ".join(f"dossiers.snapshot_{of}" for of in ("spans", "days", "chunks", "reach")))
        )


def days_between(first_day: date, last_day: date) -> list[date]:
    return [first_day + number * DAY for number in range((last_day - first_day).days + 1)]


# --- made-up worlds ---------------------------------------------------------------------------------------------

# Ranges that hold the leap day, a new year and the changes of clocks of every zone, at midnight or not.
RANGES: Final = (
    (date(2024, 2, 21), date(2024, 3, 4)),
    (date(2024, 12, 26), date(2025, 1, 6)),
    (date(2025, 3, 6), date(2025, 3, 12)),
    (date(2025, 3, 27), date(2025, 4, 8)),
    (date(2025, 4, 21), date(2025, 4, 29)),
    (date(2025, 10, 23), date(2025, 11, 5)),
)


class World:
    """Tenants of every zone, whose records are on and around the edges of a range's days, and change at random."""

    def __init__(self, database: Database, seed: int, *, tenants: int = len(ZONES)) -> None:
        self.database = database
        self.random = Random(f"daily snapshots {seed}")
        self.first, self.last = RANGES[seed % len(RANGES)]
        self.first -= self.random.randrange(3) * DAY
        self.last += self.random.randrange(3) * DAY
        self.zones = {zone.replace("/", "-").lower(): zone for zone in self.random.sample(ZONES, tenants)}
        self.log: list[str] = []
        with database.transaction() as connection:
            self.connection = connection
            for tenant_id, zone in self.zones.items():
                self._run(
                    tenant_id,
                    "INSERT INTO platform.tenants (tenant_id, timezone) VALUES (:tenant_id, :zone)",
                    zone=zone,
                )
                for _ in range(4):
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

    def require_none(self, wrong: set[str], *, since: int = 0) -> None:
        """Fail with what is wrong of the first tenant that has something wrong, and what happened to it."""
        for tenant_id in self.zones:
            its = sorted(one for one in wrong if tenant_id in one)
            happened = [line for line in self.log[since:] if line.startswith(f"{tenant_id}:")]
            assert its == [], "\n".join(happened)
        assert wrong == set()

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
            "INSERT INTO raw.dossiers (tenant_id, id, name, type, created_at) "
            "VALUES (:tenant_id, :id, 'A', :type, :at)",
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


# --- days -------------------------------------------------------------------------------------------------------

CLOCK_CHANGES: Final = (
    *((zone, begin) for zone in ZONES for begin in (date(2024, 2, 25), date(2025, 3, 5), date(2025, 10, 20))),
    # Clocks went back from 0:01 to 23:01: a last hour of the old day came after the first minute of the new one.
    ("America/St_Johns", date(2010, 10, 20)),
    ("America/St_Johns", date(2010, 3, 1)),
    # The 30th of December was left out.
    ("Pacific/Apia", date(2011, 12, 1)),
)


def begin_of_next(day: date, zone: ZoneInfo) -> datetime:
    """The first minute that is later than the day by the clock on the wall."""
    moment = datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
    while moment.astimezone(zone).date() <= day:
        moment += HOUR
    minutes = (moment - number * MINUTE for number in range(120, -1, -1))
    return next(minute for minute in minutes if minute.astimezone(zone).date() > day)


def test_a_day_ends_when_the_next_one_begins_for_the_first_time(database: Database) -> None:
    for zone, begin in CLOCK_CHANGES:
        days = days_between(begin, begin + 40 * DAY)
        ends = [begin_of_next(day, ZoneInfo(zone)) - MICROSECOND for day in days]
        found = rows(
            database,
            "SELECT platform.day_end(n.day, :zone) AS ends, platform.first_day(n.ends, :zone) AS last_moment, "
            "platform.first_day(n.ends + interval '1 microsecond', :zone) AS first_moment, "
            "platform.first_day(n.ends + interval '30 minutes', :zone) AS soon_after "
            "FROM unnest(CAST(:days AS date[]), CAST(:ends AS timestamptz[])) AS n (day, ends)",
            zone=zone,
            days=days,
            ends=ends,
        )
        assert [row.ends for row in found] == ends, zone
        first = {end: day for day, end in reversed(list(zip(days, ends, strict=True)))}
        for day, end, row in zip(days, ends, found, strict=True):
            after = next((later for later in days if later > day and ends[days.index(later)] > end), day + DAY)
            assert (row.last_moment, row.first_moment, row.soon_after) == (first[end], after, after), (zone, day)


# --- the proof --------------------------------------------------------------------------------------------------


def end_of(database: Database, day: date) -> dict[str, datetime]:
    """When the day ends, by tenant."""
    found = rows(database, "SELECT tenant_id, platform.day_end(:day, timezone) AS at FROM platform.tenants", day=day)
    return {row.tenant_id: row.at for row in found}


def refreshed_as_of(database: Database, day: date) -> dict[Key, Health]:
    """What a full refresh computes as of the end of the day, of dossiers that exist by then."""
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE platform.tenants SET clock_at = platform.day_end(:day, timezone)"), {"day": day}
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
        world.require_none({f"{key} {day} {found}" for key, found in differences(snapshots, expected).items()})
    keys = {key for snapshots in found.values() for key in snapshots}
    changing = [key for key in keys if len({snapshots.get(key) for snapshots in found.values()}) > 3]
    assert len(changing) > 10, "the world has become dull"


def tell_until(database: Database, day: date) -> None:
    """Open tenants anew who only ever received what the present ones had by the end of the day."""
    suffix = f" until {day}"
    with database.transaction() as connection:
        for sql in (
            "INSERT INTO platform.tenants (tenant_id, timezone, clock_at) "
            "SELECT tenant_id || :suffix, timezone, platform.day_end(:day, timezone) FROM platform.tenants "
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
            connection.execute(sa.text(sql), {"suffix": suffix} | ({"day": day} if ":day" in sql else {}))
        pasts = _known(connection, day)
        for number in range(max(len(past) for past in pasts.values())):
            step = [(key, *past[number]) for key, past in pasts.items() if number < len(past)]
            _tell(connection, step, new=number == 0, suffix=suffix)
        # Due dates have no history.
        connection.execute(
            sa.text(
                "UPDATE raw.commitments AS n SET due_date = c.due_date FROM raw.commitments AS c "
                "WHERE n.tenant_id = c.tenant_id || :suffix AND n.id = c.id"
            ),
            {"suffix": suffix},
        )


Known = tuple[str, uuid.UUID, uuid.UUID, datetime | None]


def _known(connection: sa.Connection, day: date) -> dict[Known, list[tuple[str, datetime | None]]]:
    """What was known of every commitment by the end of the day, in the order of learning."""
    found = connection.execute(
        sa.text(
            "SELECT c.tenant_id, c.id, c.dossier_id, c.created_at, h.status, h.valid_from FROM raw.commitments AS c "
            "JOIN platform.tenants AS t ON t.tenant_id = c.tenant_id AND t.tenant_id NOT LIKE '% until %' "
            "JOIN dossiers.commitment_history AS h ON h.tenant_id = c.tenant_id AND h.commitment_id = c.id "
            "WHERE coalesce(greatest(c.created_at, h.valid_from) <= platform.day_end(:day, t.timezone), true) "
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


@pytest.mark.parametrize("seed", range(10, 13))
def test_every_day_is_what_was_known_by_its_end(database: Database, seed: int) -> None:
    world = World(database, seed)
    world.go_on(8)
    take(database, world.first, world.last, config=VARIED)
    original, before = shown(database), versions(database)
    for day in world.random.sample(days_between(world.first, world.last), 4):
        tell_until(database, day)
        take(database, day, config=VARIED)
        fresh = {
            (Key(key.tenant_id.removesuffix(f" until {day}"), key.dossier_id), then): values
            for (key, then), values in shown(database).items()
            if key.tenant_id.endswith(f" until {day}")
        }
        of_the_day = {(key, then): values for (key, then), values in original.items() if then == day}
        differing = fresh.keys() ^ of_the_day.keys() | {one for one in fresh if fresh[one] != of_the_day.get(one)}
        world.require_none({f"{one} {fresh.get(one)} is not {of_the_day.get(one)}" for one in differing})
    assert set(before) <= set(versions(database))
    assert len(original) > 300


@pytest.mark.parametrize("seed", range(20, 22))
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
    assert moved > 20, "the world has become dull"


# --- what happened on a day -------------------------------------------------------------------------------------

# Noon in Riyadh.
NOON: Final = datetime(2025, 6, 10, 9, tzinfo=UTC)
TODAY: Final = NOON.date()
MADE: Final = NOON - 100 * DAY


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=NOON + 5 * DAY)


Told = list[tuple[str, int, str, list[str]]]


def factors(database: Database, day: date = TODAY, *, tenant_id: str = "default") -> Told:
    """What is said of the day of a tenant's only dossier."""
    its = {then: values for (key, then), values in shown(database).items() if key.tenant_id == tenant_id}
    return [(one["factor"], one["count"], one["text"], one["records"]) for one in its[day]["factors"]]


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
    # It is not open again.
    "a completed one cancelled": (
        lambda records, dossier: [
            records.commitment(dossier, "cancelled", created_at=MADE, completed_at=NOON - 9 * DAY, cancelled_at=NOON)
        ],
        [("commitments_gone", 1, "1 commitment was cancelled or removed")],
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


def test_a_day_says_what_happened_on_it_and_to_which_records(database: Database) -> None:
    expected = {}
    for case, (story, told) in FACTORS.items():
        records = Records(database, tenant_id=case, clock_at=NOON + 5 * DAY)
        dossier = records.dossier(created_at=MADE)
        # What is there already keeps recency at its best throughout.
        records.engagement(dossier, NOON - 5 * DAY)
        ids = [str(one) for one in story(records, dossier)]
        expected[case] = [(*one, ids) for one in told]
    take(database, TODAY - DAY, TODAY + DAY)
    assert {case: factors(database, tenant_id=case) for case in FACTORS} == expected
    assert {case: factors(database, TODAY + DAY, tenant_id=case) for case in FACTORS} == {case: [] for case in FACTORS}


RECENCY: Final = {
    "the latest engagement is 31 days ago, was 30": [NOON - 31 * DAY],
    "the latest engagement is 181 days ago, was 180": [NOON - 181 * DAY],
    # Also of one that counts in nothing else any more.
    "the latest engagement is 0 days ago, was 399": [NOON - 400 * DAY, NOON],
    "the first engagement is 0 days ago": [NOON],
}


def test_a_step_of_recency_is_told_with_the_days(database: Database) -> None:
    for text, occurred in RECENCY.items():
        records = Records(database, tenant_id=text, clock_at=NOON + 5 * DAY)
        records.engagements(records.dossier(created_at=NOON - 500 * DAY), *occurred)
    take(database, TODAY)
    for text in RECENCY:
        assert ("recency", 1, text, []) in factors(database, tenant_id=text)
    take(database, TODAY + DAY)
    assert [factors(database, TODAY + DAY, tenant_id=text) for text in RECENCY] == [[]] * len(RECENCY)


def test_a_step_of_recency_counts_the_hours_that_a_day_has(database: Database) -> None:
    # The 2nd of November has 25 hours in Havana: when it begins it is not 30 days ago, when it ends it is 31.
    records = Records(database, timezone="America/Havana", clock_at=datetime(2025, 11, 5, tzinfo=UTC))
    records.engagement(records.dossier(created_at=MADE), datetime(2025, 10, 3, 4, 30, tzinfo=UTC))
    day = date(2025, 11, 2)
    take(database, day - DAY, day)
    assert factors(database, day) == [("recency", 1, "the latest engagement is 31 days ago, was 29", [])]


def test_what_makes_up_for_itself_is_told_all_the_same(database: Database, records: Records) -> None:
    dossier = records.dossier(created_at=MADE)
    done, undone = (records.commitment(dossier, created_at=MADE) for _ in range(2))
    records.change("commitments", undone, status="completed", completed_at=NOON - 9 * DAY)
    records.change("commitments", undone, status="pending", completed_at=None, updated_at=NOON)
    records.change("commitments", done, status="completed", completed_at=NOON)
    for ranges in (
        [(TODAY - DAY, TODAY + DAY)],
        [(TODAY - DAY, TODAY - DAY), (TODAY + DAY, TODAY + DAY), (TODAY, TODAY)],
    ):
        forget_snapshots(database)
        for begin, end in ranges:
            take(database, begin, end)
        assert factors(database) == [
            ("commitments_fulfilled", 1, "1 commitment was fulfilled", [str(done)]),
            ("commitments_reopened", 1, "1 commitment is no longer fulfilled", [str(undone)]),
        ]
        assert factors(database, TODAY + DAY) == factors(database, TODAY - DAY) == []


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


# --- ranges -----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(database: Database) -> World:
    """A range with a new year in it."""
    world = World(database, 1, tenants=5)
    world.go_on(8)
    return world


def day_by_day(days: list[date], _: Random) -> list[tuple[date, date]]:
    return [(day, day) for day in days]


def in_pieces(days: list[date], random: Random) -> list[tuple[date, date]]:
    """Pieces in any order, many of them over each other."""
    pieces = [(min(pair), max(pair)) for pair in (random.choices(days, k=2) for _ in range(8))]
    missing = set(days).difference(*(days_between(*piece) for piece in pieces))
    pieces += [(day, day) for day in sorted(missing)]
    random.shuffle(pieces)
    return pieces


def test_a_range_taken_piece_by_piece_is_the_same_as_taken_at_once(database: Database, world: World) -> None:
    take(database, world.first, world.last, config=VARIED)
    at_once, then = stored(database), rows(database, "SELECT * FROM dossiers.snapshot_days ORDER BY 1, 2")
    assert len(at_once) > 50, "the world has become dull"
    for cut in (day_by_day, in_pieces, in_pieces):
        forget_snapshots(database)
        pieces = cut(days_between(world.first, world.last), world.random)
        for begin, end in pieces:
            take(database, begin, end, config=VARIED)
        assert stored(database) == at_once, pieces
        assert rows(database, "SELECT * FROM dossiers.snapshot_days ORDER BY 1, 2") == then


def test_a_range_taken_again_changes_no_row(database: Database, world: World) -> None:
    take(database, world.first, world.last, config=VARIED)
    before = versions(database)
    for begin, end in (
        (world.first, world.last),
        (world.first + 5 * DAY, world.first + 9 * DAY),
        (world.last, world.last),
    ):
        chunks: list[SnapshotChunk] = []
        result = take(database, begin, end, config=VARIED, report=chunks.append)
        assert (result.written, result.skipped, result.days) == (0, 0, (end - begin).days + 1)
        assert [chunk.written for chunk in chunks] == [0] * len(chunks)
        assert versions(database) == before


def test_days_that_were_not_taken_are_not_shown(database: Database, records: Records) -> None:
    dossier = records.dossier(created_at=MADE)
    records.engagements(dossier, *[NOON - 90 * DAY] * 3)
    records.commitment(dossier, "completed", completed_at=NOON - 2 * DAY)
    records.commitment(dossier)
    take(database, TODAY - 5 * DAY, TODAY - 4 * DAY)
    take(database, TODAY)
    found = shown(database)
    assert [day for _, day in sorted(found)] == [TODAY - 5 * DAY, TODAY - 4 * DAY, TODAY] == days_taken(database)
    # The score of the day before, although there is no snapshot of it: the step of recency falls on the 11th.
    last = found[Key("default", dossier), TODAY]
    assert (last["previous_score"], last["score_change"], last["factors"]) == (last["overall_score"], 0, [])
    assert found[Key("default", dossier), TODAY - 4 * DAY]["overall_score"] == last["overall_score"] - 20
    assert [list(row) for row in rows(database, "SELECT last_day FROM dossiers.snapshot_spans ORDER BY 1")] == [
        [TODAY - 4 * DAY],
        [TODAY],
    ]


def test_other_settings_write_the_days_anew_with_their_version(database: Database, world: World) -> None:
    take(database, world.first, world.last, config=VARIED)
    middle = world.first + 10 * DAY
    assert take(database, middle, world.last, config=OTHERWISE).written > 0
    found = shown(database)
    assert {(day < middle, values["settings_version"]) for (_, day), values in found.items()} == {
        (True, VARIED.version),
        (False, OTHERWISE.version),
    }
    take(database, world.first, middle - DAY, config=OTHERWISE)
    both = stored(database)
    forget_snapshots(database)
    take(database, world.first, world.last, config=OTHERWISE)
    assert both == stored(database)
    kept = rows(database, "SELECT DISTINCT version FROM dossiers.health_settings")
    assert {row.version for row in kept} == {VARIED.version, OTHERWISE.version}


# --- late records -----------------------------------------------------------------------------------------------


def taken_anew(database: Database, *ranges: tuple[date, date]) -> list[str]:
    """What is stored when the days are taken for the first time now."""
    forget_snapshots(database)
    for begin, end in ranges:
        take(database, begin, end, config=VARIED)
    return stored(database)


@pytest.mark.parametrize("seed", range(30, 33))
def test_whatever_comes_late_restating_makes_it_as_if_it_had_come_in_time(database: Database, seed: int) -> None:
    world = World(database, seed, tenants=3)
    third = (world.last - world.first).days // 3
    # The days between are never taken.
    ranges = ((world.first, world.first + third * DAY), (world.last - third * DAY, world.last))
    for begin, end in ranges:
        take(database, begin, end, config=VARIED)
    for number in range(4):
        before = len(world.log)
        if number == 2:
            table = world.random.choice(("engagements", "commitments"))
            with database.transaction() as connection:
                connection.execute(sa.text(f"TRUNCATE raw.{table}"))
            for _ in range(3):
                with database.transaction() as world.connection:
                    for tenant_id in world.zones:
                        getattr(world, f"_add_{table}")(tenant_id)
        world.go_on(world.random.choice((1, 1, 2, 6)))
        assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_marks") > 0
        restate(database, config=VARIED)
        restated = stored(database)
        world.require_none(set(restated) ^ set(taken_anew(database, *ranges)), since=before)
        assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_marks") == 0


class Late:
    """Two dossiers whose days are taken; one has an engagement and a few commitments, two of them since always."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.one, self.other = (records.dossier(created_at=MADE) for _ in range(2))
        self.engagement = records.engagement(self.one, NOON - 8 * DAY)
        self.open = records.commitment(self.one, created_at=NOON - 7 * DAY, due_date=TODAY - 3 * DAY)
        self.done = records.commitment(self.one, "completed", created_at=MADE, completed_at=NOON - 6 * DAY)
        self.always = records.commitment(self.one)
        self.always_done = records.commitment(self.one, "completed")


@pytest.fixture
def late(database: Database, records: Records) -> Late:
    late = Late(records)
    take_both(database)
    assert marks(database) == set()
    return late


def take_both(database: Database) -> None:
    """Take the days of two ranges; of those between there is no snapshot."""
    take(database, TODAY - 9 * DAY, TODAY - 7 * DAY, config=VARIED)
    take(database, TODAY - 4 * DAY, TODAY, config=VARIED)


def require_as_if_taken_now(database: Database) -> None:
    """What is stored of both ranges is what it would be if they were taken for the first time now."""
    is_ = stored(database)
    forget_snapshots(database)
    take_both(database)
    assert is_ == stored(database)


# What comes late, and since how many days before noon which dossiers are marked; None: all days.
COMES_LATE: Final[dict[str, tuple[Callable[[Late], object], dict[str, float | None]]]] = {
    "an engagement": (lambda x: x.records.engagement(x.one, NOON - 3 * DAY), {"one": 3}),
    "an engagement that had another date": (
        lambda x: x.records.change("engagements", x.engagement, occurred_at=NOON - 5 * DAY),
        {"one": 8},
    ),
    "an engagement that was earlier": (
        lambda x: x.records.change("engagements", x.engagement, occurred_at=NOON - 50 * DAY),
        {"one": 50},
    ),
    "an engagement of the other dossier": (
        lambda x: x.records.change("engagements", x.engagement, dossier_id=x.other),
        {"one": 8, "other": 8},
    ),
    "an engagement with another id": (
        lambda x: x.records.change("engagements", x.engagement, id=uuid.UUID(int=99)),
        {"one": 8},
    ),
    "an engagement that never was": (lambda x: x.records.remove("engagements", x.engagement), {"one": 8}),
    "a commitment": (lambda x: x.records.commitment(x.other, created_at=NOON - 2 * DAY), {"other": 2}),
    "a commitment since always": (lambda x: x.records.commitment(x.other), {"other": None}),
    "a completion": (
        lambda x: x.records.change("commitments", x.open, status="completed", completed_at=NOON - 2 * DAY),
        {"one": 2},
    ),
    "a change that the source dates": (
        lambda x: x.records.change("commitments", x.open, status="completed", updated_at=NOON - DAY),
        {"one": 1},
    ),
    "a completion with another date": (
        lambda x: x.records.change("commitments", x.done, completed_at=NOON - 2 * DAY),
        {"one": 6},
    ),
    "a completion that was earlier": (
        lambda x: x.records.change("commitments", x.done, completed_at=NOON - 9 * DAY),
        {"one": 9},
    ),
    "when a completion was that had no date": (
        lambda x: x.records.change("commitments", x.always_done, completed_at=NOON - 2 * DAY),
        {"one": None},
    ),
    "two changes at once": (
        lambda x: x.records.change(
            "commitments", x.open, status="cancelled", completed_at=NOON - 3 * DAY, cancelled_at=NOON - 2 * DAY
        ),
        {"one": 3},
    ),
    "another due date": (
        lambda x: x.records.change("commitments", x.open, due_date=TODAY + 5 * DAY),
        {"one": 7},
    ),
    "when a commitment was made": (
        lambda x: x.records.change("commitments", x.open, created_at=NOON - 2 * DAY),
        {"one": 7},
    ),
    "that a commitment was not always there": (
        lambda x: x.records.change("commitments", x.always, created_at=NOON - 2 * DAY),
        {"one": None},
    ),
    "a commitment of the other dossier": (
        lambda x: x.records.change("commitments", x.open, dossier_id=x.other),
        {"one": 7, "other": 7},
    ),
    "a commitment with another id": (
        lambda x: x.records.change("commitments", x.open, id=uuid.UUID(int=99)),
        {"one": 7},
    ),
    "a commitment that never was": (lambda x: x.records.remove("commitments", x.open), {"one": 7}),
    "a mark of overdue detection": (
        lambda x: detect_overdue(
            x.records.database, OverdueScope(as_of=NOON - DAY, tenant_id=x.records.tenant_id), now=NOW, run_id="late"
        ),
        {"one": 1},
    ),
    "the type": (lambda x: x.records.change("dossiers", x.one, type="organization"), {"one": None}),
    "when it was opened": (
        lambda x: x.records.change("dossiers", x.one, created_at=NOON - 2 * DAY),
        {"one": None},
    ),
    "that it is gone": (lambda x: x.records.remove("dossiers", x.one), {"one": None}),
}


def test_what_comes_late_marks_its_dossiers_and_is_restated(database: Database) -> None:
    tenants = {case: Late(Records(database, tenant_id=case, clock_at=NOON + 5 * DAY)) for case in COMES_LATE}
    take_both(database)
    before, days = stored(database), {case: days_taken(database, case) for case in COMES_LATE}
    marked, expected = {}, {}
    for case, (happens, since) in COMES_LATE.items():
        happens(tenants[case])
        marked[case] = marks(database, case)
        expected[case] = {
            (getattr(tenants[case], name), None if days is None else NOON - days * DAY) for name, days in since.items()
        }
    assert marked == expected
    restate(database)
    assert scalar(database, "SELECT count(*) FROM dossiers.snapshot_marks") == 0
    differing = set(before) ^ set(stored(database))
    assert [case for case in COMES_LATE if not any(row.startswith(f'("{case}",') for row in differing)] == []
    # The days between were never taken, and still are not.
    assert {case: days_taken(database, case) for case in COMES_LATE} == days
    require_as_if_taken_now(database)


def test_a_dossier_that_is_opened_late_is_marked_and_restated(database: Database, late: Late) -> None:
    dossier = late.records.dossier(created_at=NOON - 2 * DAY)
    assert marks(database) == {(dossier, NOON - 2 * DAY)}
    restate(database)
    assert [day for key, day in sorted(shown(database)) if key.dossier_id == dossier] == days_between(
        TODAY - 2 * DAY, TODAY
    )
    always = late.records.dossier()
    assert marks(database) == {(always, None)}
    restate(database)
    assert [day for key, day in sorted(shown(database)) if key.dossier_id == always] == days_taken(database)


def test_another_time_zone_restates_every_dossier_of_the_tenant(database: Database, late: Late) -> None:
    other = Records(database, tenant_id="other", clock_at=NOON)
    other.engagement(other.dossier(), NOON - 20 * DAY)
    take(database, TODAY, config=VARIED, tenant_id="other")
    untouched = [row for row in versions(database) if "(other," in row]
    # An evening in Riyadh is a morning in Kiritimati.
    late.records.engagement(late.one, datetime(2025, 6, 8, 20, tzinfo=UTC))
    restate(database)
    before = stored(database)
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE platform.tenants SET timezone = 'Pacific/Kiritimati' WHERE tenant_id = 'default'")
        )
    assert marks(database) == {(late.one, None), (late.other, None)}
    restate(database)
    assert stored(database) != before
    assert [row for row in versions(database) if "(other," in row] == untouched
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM raw.dossiers WHERE tenant_id = 'other'"))
    require_as_if_taken_now(database)


NO_SNAPSHOT_CHANGES: Final[dict[str, Callable[[Late], object]]] = {
    "an engagement after the newest snapshot": lambda x: x.records.engagement(x.one, NOON + DAY),
    "the first moment after it": lambda x: x.records.engagement(x.one, datetime(2025, 6, 10, 21, tzinfo=UTC)),
    "a commitment made after it": lambda x: x.records.commitment(x.one, created_at=NOON + DAY),
    "a status after it": lambda x: x.records.change("commitments", x.open, status="in_progress", updated_at=NOON + DAY),
    "a status by the clock": lambda x: x.records.change("commitments", x.open, status="in_progress"),
    "a dossier opened after it": lambda x: x.records.dossier(created_at=NOON + DAY),
    "a commitment's description": lambda x: x.records.change(
        "commitments", x.open, description="Told anew", priority="high", updated_at=NOON
    ),
    "an engagement's description": lambda x: x.records.change(
        "engagements", x.engagement, description="Told anew", type="visit", created_at=NOON
    ),
    "a dossier's name": lambda x: x.records.change("dossiers", x.one, name="Renamed", region="North"),
    "a document": lambda x: x.records.document(x.one),
    "what is the same": lambda x: x.records.change("commitments", x.done, completed_at=NOON - 6 * DAY),
    "the clock": lambda x: x.records.set_clock(NOON + 9 * DAY),
}


def test_what_changes_no_snapshot_leaves_no_mark(database: Database, late: Late) -> None:
    before = versions(database)
    for case, happens in NO_SNAPSHOT_CHANGES.items():
        happens(late)
        assert marks(database) == set(), case
    assert restate(database) == SnapshotResult(days=0, written=0, skipped=0)
    assert versions(database) == before


def test_only_the_days_from_the_mark_on_are_restated(database: Database, late: Late) -> None:
    late.records.engagement(late.one, NOON - 3 * DAY)
    chunks: list[SnapshotChunk] = []
    assert restate(database, report=chunks.append).days == 4
    assert [(chunk.first_day, chunk.last_day, chunk.dossiers) for chunk in chunks] == [(TODAY - 3 * DAY, TODAY, 1)]
    # In the days that were never taken.
    late.records.engagement(late.one, NOON - 6 * DAY)
    chunks.clear()
    assert restate(database, report=chunks.append).days == 5
    assert [(chunk.first_day, chunk.last_day, chunk.dossiers) for chunk in chunks] == [(TODAY - 4 * DAY, TODAY, 1)]


def test_a_mark_that_is_made_while_others_are_restated_stays_for_the_next_time(database: Database, late: Late) -> None:
    late.records.engagement(late.one, NOON - 3 * DAY)
    with database.engine.connect() as connection:
        meanwhile = connection.begin()
        connection.execute(
            sa.text(
                "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                "VALUES ('default', :id, :dossier_id, :at)"
            ),
            {"id": uuid.UUID(int=99), "dossier_id": late.other, "at": NOON - 2 * DAY},
        )
        restate(database, report=lambda _: meanwhile.commit())
    assert marks(database) == {(late.other, NOON - 2 * DAY)}
    restate(database)
    assert marks(database) == set()
    require_as_if_taken_now(database)


class Died(Exception):
    """The process is gone."""


def test_a_restating_that_died_is_done_again(database: Database, late: Late) -> None:
    late.records.engagement(late.one, NOON - 8 * DAY)

    def die(_: SnapshotChunk) -> None:
        raise Died

    with pytest.raises(Died):
        restate(database, report=die)
    late.records.engagement(late.other, NOON - 2 * DAY)
    assert marks(database) == {(late.one, NOON - 8 * DAY), (late.other, NOON - 2 * DAY)}
    restate(database)
    assert marks(database) == set()
    require_as_if_taken_now(database)


# --- what is written while days are taken for the first time ----------------------------------------------------


def add_engagement(connection: sa.Connection, dossier_id: uuid.UUID, at: datetime) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
            "VALUES ('default', :id, :dossier_id, :at)"
        ),
        {"id": uuid.uuid4(), "dossier_id": dossier_id, "at": at},
    )


def test_a_load_that_is_open_while_days_are_taken_is_not_lost(database: Database, records: Records) -> None:
    late = Late(records)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as load:
            add_engagement(load, late.one, NOON - 3 * DAY)
            taken = pool.submit(take_both, database)
            wait_until(
                lambda: waits_for_a_table(database) or taken.done(), "the snapshots wait for the load, or are taken"
            )
        taken.result()
    restate(database)
    require_as_if_taken_now(database)


def test_what_is_written_while_days_are_taken_leaves_a_mark(database: Database, records: Records) -> None:
    late = Late(records)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as other:
            # The records have been read when the chunk comes to this table.
            other.exec_driver_sql("LOCK TABLE dossiers.snapshot_days IN ACCESS EXCLUSIVE MODE")
            taken = pool.submit(lambda: take(database, TODAY - DAY, TODAY, config=VARIED))
            wait_until(lambda: waits_for_a_table(database), "the snapshots wait for the table")
            with database.transaction() as load:
                add_engagement(load, late.other, NOON - 3 * DAY)
        taken.result()
    assert marks(database) == {(late.other, NOON - 3 * DAY)}
    before = stored(database)
    restate(database)
    is_ = stored(database)
    forget_snapshots(database)
    take(database, TODAY - DAY, TODAY, config=VARIED)
    assert before != is_ == stored(database)


def test_a_dossier_that_comes_late_to_a_tenant_without_any_gets_its_days(database: Database, late: Late) -> None:
    other = Records(database, tenant_id="other", clock_at=NOON)
    take(database, TODAY - 2 * DAY, TODAY, config=VARIED)
    dossier = other.dossier(created_at=MADE)
    restate(database)
    shown_days = [day for key, day in sorted(shown(database)) if key == ("other", dossier)]
    assert shown_days == days_taken(database, "other") == days_between(TODAY - 2 * DAY, TODAY)


def test_a_tenant_that_moves_west_loses_the_day_that_has_not_come_there(database: Database, records: Records) -> None:
    late = Late(records)
    records.set_clock(datetime(2025, 6, 10, 21, 30, tzinfo=UTC))
    tomorrow = TODAY + DAY
    take(database, TODAY, tomorrow, config=VARIED)
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE platform.tenants SET timezone = 'UTC' WHERE tenant_id = 'default'"))
    restate(database)
    assert days_taken(database) == [TODAY]
    assert {day for _, day in shown(database)} == {TODAY}
    # Told after the night in Riyadh, before that in UTC.
    records.engagement(late.one, datetime(2025, 6, 11, 23, tzinfo=UTC))
    records.set_clock(NOON + 2 * DAY)
    take(database, tomorrow, config=VARIED)
    newest = shown(database)
    piecewise = {key: newest[key] for key in newest if key[1] == tomorrow}
    forget_snapshots(database)
    take(database, TODAY, tomorrow, config=VARIED)
    assert {key: row for key, row in shown(database).items() if key[1] == tomorrow} == piecewise


def test_emptying_the_dossiers_empties_the_progress_of_backfills(database: Database, late: Late) -> None:
    take(database, TODAY, config=VARIED, backfill_id="a backfill")
    with database.transaction() as connection:
        connection.exec_driver_sql("TRUNCATE raw.dossiers CASCADE")
    for table in ("snapshot_spans", "snapshot_days", "snapshot_chunks", "snapshot_marks"):
        assert scalar(database, f"SELECT count(*) FROM dossiers.{table}") == 0, table


# --- several tenants --------------------------------------------------------------------------------------------


def test_a_tenant_gets_no_day_that_its_clock_has_not_reached(database: Database) -> None:
    # The last moment of the 9th in Riyadh and the first of the 10th; two hours later it is still the 9th in New York.
    midnight = datetime(2025, 6, 9, 21, tzinfo=UTC)
    for tenant_id, zone, clock_at in (
        ("before", "Asia/Riyadh", midnight - MICROSECOND),
        ("after", "Asia/Riyadh", midnight),
        ("west", "America/New_York", midnight + 2 * HOUR),
        ("running", "Asia/Riyadh", None),
    ):
        tenant = Records(database, tenant_id=tenant_id, timezone=zone, clock_at=clock_at)
        tenant.engagement(tenant.dossier(), MADE)
    take(database, TODAY - 3 * DAY, TODAY + DAY, now=NOON + DAY)
    newest = {key.tenant_id: max(day for each, day in shown(database) if each == key) for key, _ in shown(database)}
    assert newest == {
        "before": TODAY - DAY,
        "after": TODAY,
        "west": TODAY - DAY,
        "running": TODAY + DAY,
    }
    assert {tenant_id: days_taken(database, tenant_id)[-1] for tenant_id in newest} == newest


def test_one_tenants_days_leave_the_others_untouched(database: Database, world: World) -> None:
    [one, other, *_] = world.zones
    middle = world.first + 8 * DAY
    take(database, world.first, middle, config=VARIED)
    before = [row for row in versions(database) if f"({one}," not in row]
    take(database, world.first, world.last, config=OTHERWISE, tenant_id=one)
    assert [row for row in versions(database) if f"({one}," not in row] == before
    assert len(before) > 20
    assert days_taken(database, one)[-1] == world.last
    assert days_taken(database, other)[-1] == middle
    kept = rows(
        database, "SELECT DISTINCT tenant_id FROM dossiers.health_settings WHERE version = :new", new=OTHERWISE.version
    )
    assert [row.tenant_id for row in kept] == [one]


# --- refusals ---------------------------------------------------------------------------------------------------


def written(database: Database) -> list[int]:
    return [
        scalar(database, f"SELECT count(*) FROM dossiers.{table}")
        for table in (
            "snapshot_spans",
            "snapshot_days",
            "snapshot_chunks",
            "snapshot_reach",
            "health_settings",
            "snapshot_marks",
        )
    ]


REFUSED: Final = (
    (TODAY, TODAY - DAY, "The range ends on 2025-06-09, before it starts, on 2025-06-10."),
    (TODAY, TODAY + 9 * DAY, "2025-06-19 is in the future: the tenants' clocks have come to 2025-06-15."),
    (TODAY - 30 * DAY, TODAY, "2025-05-11 lies before the first record: the first record is of 2025-05-31; start"),
    (TODAY - 11 * DAY, TODAY, "2025-05-30 lies before the first record: the first record is of 2025-05-31; start"),
)


def test_a_range_that_cannot_be_is_refused_and_nothing_written(database: Database, records: Records) -> None:
    records.dossier(created_at=NOON - 9 * DAY)
    # An hour before midnight in UTC, two hours after it in Riyadh.
    records.engagement(records.dossier(created_at=NOON), datetime(2025, 5, 30, 23, tzinfo=UTC))
    for first_day, last_day, message in REFUSED:
        with pytest.raises(UserError, match=re.escape(message)) as refused:
            take(database, first_day, last_day, backfill_id="a backfill")
        assert "othing was written" in str(refused.value)
        assert not any(written(database))
    take(database, TODAY - 10 * DAY, TODAY + 5 * DAY, backfill_id="a backfill")


def test_any_kind_of_record_can_be_the_first(database: Database) -> None:
    for kind in ("dossier", "commitment", "engagement"):
        records = Records(database, tenant_id=kind, clock_at=NOON)
        dossier = records.dossier(created_at=MADE if kind == "dossier" else NOON)
        if kind == "commitment":
            records.commitment(dossier, created_at=MADE)
        elif kind == "engagement":
            records.engagement(dossier, MADE)
        with pytest.raises(UserError, match=f"the first record is of {MADE.date()}"):
            take(database, MADE.date() - DAY, tenant_id=kind)
        take(database, MADE.date(), tenant_id=kind)
        assert days_taken(database, kind) == [MADE.date()]


def test_without_a_tenant_or_a_record_there_is_nothing_to_take(database: Database) -> None:
    with pytest.raises(UserError, match="There is no tenant yet"):
        take(database, TODAY)
    Records(database, clock_at=NOON)
    with pytest.raises(UserError, match="there is no record at all"):
        take(database, TODAY)
    with pytest.raises(UserError, match="There is no tenant 'elsewhere'"):
        take(database, TODAY, tenant_id="elsewhere")
    assert not any(written(database))


def test_another_tenants_records_and_clock_do_not_make_a_range_possible(database: Database) -> None:
    for tenant_id, clock_at, occurred_at in (("early", NOON, MADE), ("late", NOON - 5 * DAY, NOON - 9 * DAY)):
        tenant = Records(database, tenant_id=tenant_id, clock_at=clock_at)
        tenant.engagement(tenant.dossier(), occurred_at)
    with pytest.raises(UserError, match="the first record is of 2025-06-01"):
        take(database, TODAY - 20 * DAY, TODAY - 8 * DAY, tenant_id="late")
    with pytest.raises(UserError, match="have come to 2025-06-05"):
        take(database, TODAY - 7 * DAY, TODAY, tenant_id="late")
    assert not any(written(database))
    take(database, TODAY - 20 * DAY, TODAY)


# --- a backfill that dies ---------------------------------------------------------------------------------------


# So many dossiers that every year is a chunk of its own.
MANY: Final = 1_300
FIRST: Final = date(2022, 11, 5)
CHUNKS: Final = [
    (FIRST, date(2022, 12, 31)),
    (date(2023, 1, 1), date(2023, 12, 31)),
    (date(2024, 1, 1), date(2024, 12, 31)),
    (date(2025, 1, 1), TODAY),
]


@pytest.fixture
def long_past(database: Database, records: Records) -> None:
    """Many dossiers that are not used, and three that are."""
    random = Random("a backfill")
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO raw.dossiers (tenant_id, id, name) "
                "SELECT 'default', CAST(md5(CAST(n AS text)) AS uuid), 'A' FROM generate_series(1, :many) AS g (n)"
            ),
            {"many": MANY},
        )
    records.engagement(records.dossier(), NOON - 948 * DAY)
    for _ in range(3):
        dossier = records.dossier(created_at=NOON - random.randrange(400, 900) * DAY)
        records.engagements(dossier, *[NOON - random.randrange(-4, 940) * DAY for _ in range(25)])
        records.commitment(dossier, "completed", created_at=MADE, completed_at=NOON)


@contextmanager
def failing_in(database: Database, year: int) -> Iterator[None]:
    """The database refuses what is of a year."""
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON dossiers.snapshot_spans FOR EACH ROW "
            f"WHEN (extract(year FROM new.first_day) = {year}) EXECUTE FUNCTION public.refuse()"
        )
    yield
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER refuse ON dossiers.snapshot_spans")


def chunks_done(database: Database, backfill_id: str) -> list[tuple[date, date]]:
    found = rows(
        database,
        "SELECT first_day, last_day FROM dossiers.snapshot_chunks WHERE backfill_id = :id ORDER BY first_day",
        id=backfill_id,
    )
    return [(row.first_day, row.last_day) for row in found]


@pytest.mark.usefixtures("long_past")
@pytest.mark.parametrize("fails", ["the database", "the run"])
def test_a_backfill_that_died_goes_on_where_it_stopped(database: Database, fails: str) -> None:
    reported: list[SnapshotChunk] = []

    def die(chunk: SnapshotChunk) -> None:
        reported.append(chunk)
        raise Died

    if fails == "the database":
        with failing_in(database, 2024), pytest.raises(sa.exc.DatabaseError, match="the disk is full"):
            take(database, FIRST, TODAY, backfill_id="a backfill", report=reported.append)
        assert [(chunk.first_day, chunk.last_day) for chunk in reported] == CHUNKS[:2]
        assert CHUNKS[2] not in chunks_done(database, "a backfill")
        assert not [day for day in days_taken(database) if day.year == 2024]
    else:
        with pytest.raises(Died):
            take(database, FIRST, TODAY, backfill_id="a backfill", report=die)
    # What was reported is done; what was under way meanwhile may be.
    done = chunks_done(database, "a backfill")
    assert [(chunk.first_day, chunk.last_day) for chunk in reported] == done[: len(reported)]
    halfway = versions(database)
    reported.clear()
    result = take(database, FIRST, TODAY, backfill_id="a backfill", report=reported.append)
    assert [(chunk.first_day, chunk.last_day) for chunk in reported] == [one for one in CHUNKS if one not in done]
    assert (result.skipped, result.written) == (len(done), sum(chunk.written for chunk in reported))
    assert set(halfway) <= set(versions(database))
    assert chunks_done(database, "a backfill") == CHUNKS
    resumed, days = stored(database), days_taken(database)
    # Another one does all of it, and finds nothing to change.
    other = take(database, FIRST, TODAY, backfill_id="another")
    assert (other.skipped, other.written) == (0, 0)
    forget_snapshots(database)
    take(database, FIRST, TODAY)
    assert (stored(database), days_taken(database)) == (resumed, days)
    assert chunks_done(database, "a backfill") == []
