"""Records with a history: written straight into the database, changed at random, and what must come of them.

`Records` writes single records for a test that tells a story. `History` makes up stories of its own: a few dossiers
of one tenant, whose records are added, changed, moved and deleted while the tenant's clock moves, mostly onto and
around the moments at which time alone changes a statistic. `stored_health` is what the product made of it,
`reference_health` what the formula in plain Python makes of the records that are in the database.
"""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import (
    CommitmentRecord,
    EngagementRecord,
    Health,
    HealthConfig,
    StatusChange,
    health_as_of,
    parse_health_config,
    read_health_config,
)
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.records import rows

MICROSECOND: Final = timedelta(microseconds=1)
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)

DEFAULTS: Final = read_health_config()


def configuration(**differing_types: Mapping[str, Any]) -> HealthConfig:
    """The built-in settings, with types that differ: ``forum={"yearly_target": 12}``."""
    defaults = DEFAULTS.of(None).model_dump()
    return parse_health_config({"defaults": defaults, "types": dict(differing_types)}, place="test")


# Types with settings of their own; halves occur, and nothing may be asked for.
VARIED: Final = configuration(
    forum={"yearly_target": 7, "min_engagements": 1, "recency_days": {"fresh": 7, "recent": 14, "distant": 21}},
    organization={
        "weights": {"engagement": "0.25", "commitment": "0.50", "recency": "0.25"},
        "min_engagements": 0,
        "min_commitments": 0,
        "bands": {"excellent": 90, "good": 50, "fair": 25},
    },
)
OTHERWISE: Final = configuration(
    forum={"yearly_target": 3, "recency_points": {"fresh": 90, "recent": 60, "distant": 20, "silent": 0}},
    country={"min_commitments": 2},
)
TYPES: Final = ("country", "forum", "organization", "never heard of", None)
STATUSES: Final = ("pending", "in_progress", "completed", "cancelled", "overdue")


class Key(NamedTuple):
    """Which dossier."""

    tenant_id: str
    dossier_id: uuid.UUID


# --- what is, and what must be ----------------------------------------------------------------------------------

_STORED: Final = """
SELECT coalesce(s.tenant_id, e.tenant_id, c.tenant_id) AS tenant_id,
    coalesce(s.dossier_id, e.dossier_id, c.dossier_id) AS dossier_id,
    e.total_engagements_365d, e.recent_engagements_90d, e.latest_engagement_date, e.engagement_frequency_score,
    c.total_commitments, c.active_commitments, c.overdue_commitments, c.fulfilled_commitments,
    c.upcoming_commitments, c.fulfillment_rate, s.recency, s.overall_score, s.band, s.insufficient_reason,
    s.engagement_frequency, s.commitment_fulfillment
FROM dossiers.health_scores AS s
FULL JOIN dossiers.engagement_stats AS e ON e.tenant_id = s.tenant_id AND e.dossier_id = s.dossier_id
FULL JOIN dossiers.commitment_stats AS c ON c.tenant_id = coalesce(s.tenant_id, e.tenant_id)
    AND c.dossier_id = coalesce(s.dossier_id, e.dossier_id)
"""
_FIELDS: Final = tuple(one.name for one in fields(Health))


def stored_health(database: Database) -> dict[Key, Health]:
    """Return what is stored for every dossier; a row that is missing shows as nulls."""
    found = {}
    for row in rows(database, _STORED):
        values = row._mapping
        assert row.engagement_frequency == row.engagement_frequency_score, values
        assert row.commitment_fulfillment == row.fulfillment_rate, values
        found[Key(row.tenant_id, row.dossier_id)] = Health(**{name: values[name] for name in _FIELDS})
    return found


def reference_health(
    database: Database, config: HealthConfig = DEFAULTS, *, as_of: datetime | None = None
) -> dict[Key, Health]:
    """Return what the plain Python formula gives for every dossier's records, by default as of its tenant's clock."""
    tenants = {row.tenant_id: row for row in rows(database, "SELECT * FROM platform.tenants")}
    engagements: dict[Key, list[EngagementRecord]] = defaultdict(list)
    for row in rows(database, "SELECT tenant_id, dossier_id, occurred_at FROM raw.engagements"):
        engagements[Key(row.tenant_id, row.dossier_id)].append(EngagementRecord(occurred_at=row.occurred_at))
    past: dict[tuple[str, uuid.UUID], list[StatusChange]] = defaultdict(list)
    for row in rows(database, "SELECT * FROM dossiers.commitment_history ORDER BY ordinal"):
        past[row.tenant_id, row.commitment_id].append(StatusChange(status=row.status, valid_from=row.valid_from))
    commitments: dict[Key, list[CommitmentRecord]] = defaultdict(list)
    for row in rows(database, "SELECT * FROM raw.commitments"):
        commitments[Key(row.tenant_id, row.dossier_id)].append(
            CommitmentRecord(
                status=row.status,
                due_date=row.due_date,
                created_at=row.created_at,
                completed_at=row.completed_at,
                cancelled_at=row.cancelled_at,
                history=tuple(past[row.tenant_id, row.id]),
            )
        )
    expected = {}
    for row in rows(database, "SELECT tenant_id, id, type FROM raw.dossiers"):
        key, tenant = Key(row.tenant_id, row.id), tenants[row.tenant_id]
        expected[key] = health_as_of(
            engagements[key],
            commitments[key],
            as_of=as_of or tenant.clock_at,
            timezone=ZoneInfo(tenant.timezone),
            settings=config.of(row.type),
        )
    return expected


def differences(
    stored: Mapping[Key, Health], expected: Mapping[Key, Health]
) -> dict[Key, dict[str, tuple[object, object]]]:
    """Return, per dossier that differs, ``{column: (stored, expected)}``."""
    found = {}
    for key in stored.keys() | expected.keys():
        is_, must_be = stored.get(key), expected.get(key)
        if is_ != must_be:
            found[key] = {
                name: (getattr(is_, name, "no row"), getattr(must_be, name, "no dossier"))
                for name in _FIELDS
                if getattr(is_, name, "no row") != getattr(must_be, name, "no dossier")
            }
    return found


# --- single records ---------------------------------------------------------------------------------------------


class Records:
    """Writes and changes single records of one tenant, each call a transaction."""

    def __init__(
        self,
        database: Database,
        *,
        tenant_id: str = "default",
        timezone: str = "Asia/Riyadh",
        clock_at: datetime | None = None,
    ) -> None:
        """Register the tenant; with ``clock_at`` its clock stands still."""
        self.database = database
        self.tenant_id = tenant_id
        self._numbers = itertools.count(1)
        self._execute(
            "INSERT INTO platform.tenants (tenant_id, timezone, clock_at) VALUES (:tenant_id, :timezone, :clock_at)",
            timezone=timezone,
            clock_at=clock_at,
        )

    def _execute(self, sql: str, **parameters: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(sa.text(sql), {"tenant_id": self.tenant_id, **parameters})

    def _insert(self, table: str, **values: Any) -> uuid.UUID:
        values["id"] = uuid.UUID(int=next(self._numbers))
        names = ", ".join(values)
        bound = ", ".join(f":{name}" for name in values)
        self._execute(f"INSERT INTO raw.{table} (tenant_id, {names}) VALUES (:tenant_id, {bound})", **values)
        return values["id"]

    def set_clock(self, clock_at: datetime | None) -> None:
        """Move the tenant's clock, or let it run."""
        self._execute("UPDATE platform.tenants SET clock_at = :at WHERE tenant_id = :tenant_id", at=clock_at)

    def dossier(self, name: str = "Sweden", **values: Any) -> uuid.UUID:
        """Open a dossier."""
        return self._insert("dossiers", name=name, **values)

    def engagement(self, dossier_id: uuid.UUID, occurred_at: datetime, **values: Any) -> uuid.UUID:
        """Log an engagement."""
        return self._insert("engagements", dossier_id=dossier_id, occurred_at=occurred_at, **values)

    def engagements(self, dossier_id: uuid.UUID, *moments: datetime) -> list[uuid.UUID]:
        """Log several engagements."""
        return [self.engagement(dossier_id, moment) for moment in moments]

    def commitment(self, dossier_id: uuid.UUID, status: str = "pending", **values: Any) -> uuid.UUID:
        """Record a commitment."""
        return self._insert("commitments", dossier_id=dossier_id, status=status, **values)

    def document(self, dossier_id: uuid.UUID) -> uuid.UUID:
        """File a document."""
        return self._insert("documents", dossier_id=dossier_id)

    def change(self, table: str, *ids: uuid.UUID, **values: Any) -> None:
        """Change columns of records, in one statement."""
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        self._execute(
            f"UPDATE raw.{table} SET {assignments} WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
            ids=list(ids),
            **values,
        )

    def remove(self, table: str, *ids: uuid.UUID) -> None:
        """Delete records, in one statement."""
        self._execute(f"DELETE FROM raw.{table} WHERE tenant_id = :tenant_id AND id = ANY (:ids)", ids=list(ids))


# --- made-up histories ------------------------------------------------------------------------------------------

# Midnights that do not exist (Cairo), come twice (Havana) or at once after 23:00 (Nuuk), both ends of the world, and
# no change of clocks at all.
ZONES: Final = (
    "Asia/Riyadh",
    "America/New_York",
    "Pacific/Auckland",
    "Pacific/Kiritimati",
    "Europe/Brussels",
    "Africa/Cairo",
    "America/Havana",
    "America/Nuuk",
    "UTC",
)
# Days around which clocks change in one zone or another, and the leap day.
NOTABLE_DAYS: Final = (
    date(2024, 2, 28),
    date(2024, 2, 29),
    date(2024, 12, 31),
    date(2025, 3, 9),
    date(2025, 3, 29),
    date(2025, 3, 30),
    date(2025, 4, 24),
    date(2025, 10, 25),
    date(2025, 10, 30),
    date(2025, 11, 1),
    date(2025, 11, 2),
)
# Whole days after which an engagement leaves a window or takes a step, in any of the settings above.
STEPS_IN_DAYS: Final = (7, 8, 14, 15, 21, 22, 30, 31, 90, 91, 180, 181, 365)
SMALL_SHIFTS: Final = (
    timedelta(0),
    MICROSECOND,
    SECOND,
    30 * SECOND,
    10 * MINUTE,
    59 * MINUTE,
    HOUR,
    -MICROSECOND,
    -SECOND,
)

STATEMENTS: Final = {
    "add_dossiers": """
        INSERT INTO raw.dossiers (tenant_id, id, name, type)
        SELECT :tenant_id, id, 'A dossier', type
        FROM unnest(CAST(:ids AS uuid[]), CAST(:types AS text[])) AS n (id, type)
    """,
    "change_type": "UPDATE raw.dossiers SET type = :type WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
    "rename": "UPDATE raw.dossiers SET name = 'Renamed' WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
    "delete_dossiers": "DELETE FROM raw.dossiers WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
    # As a load merges: what is new is inserted, what is known is replaced, in one statement.
    "write_engagements": """
        INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at)
        SELECT :tenant_id, n.* FROM unnest(CAST(:ids AS uuid[]), CAST(:dossier_ids AS uuid[]),
            CAST(:moments AS timestamptz[])) AS n
        ON CONFLICT (tenant_id, id) DO UPDATE SET dossier_id = excluded.dossier_id, occurred_at = excluded.occurred_at
    """,
    "shift_engagements": """
        UPDATE raw.engagements SET occurred_at = occurred_at + CAST(:shift AS interval)
        WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "describe_engagements": """
        UPDATE raw.engagements SET description = 'Told anew' WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "move_engagements": """
        UPDATE raw.engagements SET dossier_id = :dossier_id WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "delete_engagements": "DELETE FROM raw.engagements WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
    "write_commitments": """
        INSERT INTO raw.commitments (
            tenant_id, id, dossier_id, status, due_date, created_at, completed_at, cancelled_at
        )
        SELECT :tenant_id, n.* FROM unnest(CAST(:ids AS uuid[]), CAST(:dossier_ids AS uuid[]),
            CAST(:statuses AS text[]), CAST(:due AS date[]), CAST(:created AS timestamptz[]),
            CAST(:completed AS timestamptz[]), CAST(:cancelled AS timestamptz[])) AS n
        ON CONFLICT (tenant_id, id) DO UPDATE SET dossier_id = excluded.dossier_id, status = excluded.status,
            due_date = excluded.due_date, created_at = excluded.created_at, completed_at = excluded.completed_at,
            cancelled_at = excluded.cancelled_at
    """,
    "change_status": """
        UPDATE raw.commitments SET status = :status WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "change_ends": """
        UPDATE raw.commitments SET completed_at = :at, cancelled_at = :at
        WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "change_created": """
        UPDATE raw.commitments SET created_at = :at WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "extend": """
        UPDATE raw.commitments SET due_date = :due WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "move_commitments": """
        UPDATE raw.commitments SET dossier_id = :dossier_id WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "describe_commitments": """
        UPDATE raw.commitments SET description = 'Told anew', priority = 'high', updated_at = now()
        WHERE tenant_id = :tenant_id AND id = ANY (:ids)
    """,
    "delete_commitments": "DELETE FROM raw.commitments WHERE tenant_id = :tenant_id AND id = ANY (:ids)",
    "change_zone": "UPDATE platform.tenants SET timezone = :zone WHERE tenant_id = :tenant_id",
    "set_clock": "UPDATE platform.tenants SET clock_at = :at WHERE tenant_id = :tenant_id",
}


class Operation(NamedTuple):
    """One statement of one tenant."""

    name: str
    parameters: dict[str, Any]


@dataclass
class _Promise:
    due: date | None
    moments: tuple[datetime | None, ...]


@dataclass
class History:
    """A tenant whose records change at random; the same seed makes the same history."""

    number: int
    seed: str
    log: list[str] = field(default_factory=list)
    """What has happened, to be shown when a test fails."""

    def __post_init__(self) -> None:
        """Choose where and when it begins."""
        self.random = Random(f"{self.seed}/{self.number}")
        self.tenant_id = f"history-{self.number:05}"
        self.zone = self.random.choice(ZONES)
        day = (
            self.random.choice(NOTABLE_DAYS)
            if self.random.random() < 0.5
            else date(2024, 1, 1) + self.random.randrange(700) * DAY
        )
        hour, minute = self.random.choice((0, 12, 22, 23)), self.random.randrange(60)
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(self.zone))
        self.clock = local.astimezone(UTC)
        self.dossiers: list[uuid.UUID] = []
        self.engagements: dict[uuid.UUID, datetime] = {}
        self.commitments: dict[uuid.UUID, _Promise] = {}

    def forget_all(self, *tables: str) -> None:
        """Know that tables were emptied."""
        for table in tables:
            getattr(self, table).clear()
        self.log.append(f"truncate {', '.join(tables)}")

    # Moments and dates that matter as of the clock, more often than others.

    def _moment(self) -> datetime:
        kind = self.random.random()
        if kind < 0.55:
            return self.clock - self.random.choice(STEPS_IN_DAYS) * DAY + self.random.choice(SMALL_SHIFTS)
        if kind < 0.7:
            return self.clock + self.random.choice(SMALL_SHIFTS)
        return self.clock - timedelta(seconds=self.random.randrange(-20 * 86_400, 450 * 86_400))

    def _maybe_moment(self) -> datetime | None:
        if self.random.random() < 0.5:
            return None
        return self.clock + self.random.choice((*SMALL_SHIFTS, -20 * DAY, DAY))

    def _due(self) -> date | None:
        if self.random.random() < 0.1:
            return None
        today = self.clock.astimezone(ZoneInfo(self.zone)).date()
        days = self.random.choice((-1, 0, 0, 1, 29, 30, 31, 31, 32, self.random.randrange(-60, 90)))
        return today + days * DAY

    def _some(self, known: Any) -> list[uuid.UUID]:
        return self.random.sample(sorted(known), min(len(known), self.random.choice((1, 1, 2, 3))))

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128))

    # Operations.

    def next_operation(self) -> Operation:
        """Make up the next statement."""
        name, weight = zip(*_OPERATIONS.items(), strict=True)
        chosen = self.random.choices(name, weight)[0]
        if not self.dossiers:
            chosen = "add_dossiers"
        elif chosen in _NEED and not getattr(self, _NEED[chosen]):
            chosen = f"write_{_NEED[chosen]}"
        parameters = {"tenant_id": self.tenant_id, **getattr(self, f"_{chosen}")()}
        self.log.append(f"{chosen} { ({name: value for name, value in parameters.items() if name != 'tenant_id'}) }")
        return Operation(chosen, parameters)

    def _add_dossiers(self) -> dict[str, Any]:
        ids = [self._uuid() for _ in range(self.random.choice((1, 1, 2)))]
        self.dossiers += ids
        return {"ids": ids, "types": [self.random.choice(TYPES) for _ in ids]}

    def _change_type(self) -> dict[str, Any]:
        return {"ids": self._some(self.dossiers), "type": self.random.choice(TYPES)}

    def _rename(self) -> dict[str, Any]:
        return {"ids": self._some(self.dossiers)}

    def _delete_dossiers(self) -> dict[str, Any]:
        ids = self._some(self.dossiers)
        self.dossiers = [one for one in self.dossiers if one not in ids]
        return {"ids": ids}

    def _write_engagements(self) -> dict[str, Any]:
        new = [self._uuid() for _ in range(self.random.choice((1, 2, 4)))]
        known = self._some(self.engagements) if self.random.random() < 0.3 else []
        ids = [*new, *known]
        moments = [self._moment() for _ in ids]
        self.engagements |= dict(zip(ids, moments, strict=True))
        return {"ids": ids, "dossier_ids": [self.random.choice(self.dossiers) for _ in ids], "moments": moments}

    def _shift_engagements(self) -> dict[str, Any]:
        ids = self._some(self.engagements)
        shift = self.random.choice((*SMALL_SHIFTS[1:], DAY, -DAY, 300 * DAY, -300 * DAY))
        for one in ids:
            self.engagements[one] += shift
        return {"ids": ids, "shift": shift}

    def _describe_engagements(self) -> dict[str, Any]:
        return {"ids": self._some(self.engagements)}

    def _move_engagements(self) -> dict[str, Any]:
        return {"ids": self._some(self.engagements), "dossier_id": self.random.choice(self.dossiers)}

    def _delete_engagements(self) -> dict[str, Any]:
        ids = self._some(self.engagements)
        for one in ids:
            del self.engagements[one]
        return {"ids": ids}

    def _write_commitments(self) -> dict[str, Any]:
        new = [self._uuid() for _ in range(self.random.choice((1, 2, 3)))]
        known = self._some(self.commitments) if self.random.random() < 0.3 else []
        ids = [*new, *known]
        promises = [_Promise(self._due(), tuple(self._maybe_moment() for _ in range(3))) for _ in ids]
        self.commitments |= dict(zip(ids, promises, strict=True))
        created, completed, cancelled = zip(*(promise.moments for promise in promises), strict=True)
        return {
            "ids": ids,
            "dossier_ids": [self.random.choice(self.dossiers) for _ in ids],
            "statuses": [self.random.choice(STATUSES) for _ in ids],
            "due": [promise.due for promise in promises],
            "created": list(created),
            "completed": list(completed),
            "cancelled": list(cancelled),
        }

    def _change_status(self) -> dict[str, Any]:
        return {"ids": self._some(self.commitments), "status": self.random.choice(STATUSES)}

    def _change_ends(self) -> dict[str, Any]:
        return {"ids": self._some(self.commitments), "at": self._maybe_moment()}

    def _change_created(self) -> dict[str, Any]:
        return {"ids": self._some(self.commitments), "at": self._maybe_moment()}

    def _extend(self) -> dict[str, Any]:
        ids, due = self._some(self.commitments), self._due()
        for one in ids:
            self.commitments[one].due = due
        return {"ids": ids, "due": due}

    def _move_commitments(self) -> dict[str, Any]:
        return {"ids": self._some(self.commitments), "dossier_id": self.random.choice(self.dossiers)}

    def _describe_commitments(self) -> dict[str, Any]:
        return {"ids": self._some(self.commitments)}

    def _delete_commitments(self) -> dict[str, Any]:
        ids = self._some(self.commitments)
        for one in ids:
            del self.commitments[one]
        return {"ids": ids}

    def _change_zone(self) -> dict[str, Any]:
        self.zone = self.random.choice(ZONES)
        return {"zone": self.zone}

    # Time.

    def pass_time(self) -> Operation:
        """Move the clock: mostly forward by less than an hour, often onto a boundary, now and then back."""
        kind = self.random.random()
        if kind < 0.1:
            step = timedelta(0)
        elif kind < 0.35:
            step = self.random.choice((MICROSECOND, SECOND, 10 * MINUTE, 59 * MINUTE, HOUR - MICROSECOND, HOUR))
        elif kind < 0.65:
            step = self._next_boundary() + self.random.choice((timedelta(0), timedelta(0), -MICROSECOND, MICROSECOND))
        elif kind < 0.75:
            step = self._next_midnight() - self.random.choice((MICROSECOND, MINUTE, 30 * MINUTE))
        elif kind < 0.85:
            step = timedelta(seconds=self.random.randrange(3600, 5 * 86_400))
        elif kind < 0.93:
            step = timedelta(days=self.random.randrange(20, 200), seconds=self.random.randrange(86_400))
        else:
            step = -self.random.choice((MICROSECOND, MINUTE, 2 * HOUR, DAY, 100 * DAY))
        self.clock += step
        self.log.append(f"clock {step} -> {self.clock}")
        return Operation("set_clock", {"tenant_id": self.tenant_id, "at": self.clock})

    def _next_midnight(self) -> timedelta:
        zone = ZoneInfo(self.zone)
        tomorrow = self.clock.astimezone(zone).date() + DAY
        return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).astimezone(UTC) - self.clock

    def _next_boundary(self) -> timedelta:
        """Return the time to the next moment, or to one of the next, at which a statistic changes."""
        zone = ZoneInfo(self.zone)
        moments = [occurred + days * DAY for occurred in self.engagements.values() for days in (0, *STEPS_IN_DAYS)]
        for promise in self.commitments.values():
            moments += [moment for moment in promise.moments if moment]
            if promise.due:
                days = (promise.due + DAY, promise.due - 30 * DAY)
                moments += [datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) for day in days]
        ahead = sorted({moment - self.clock for moment in moments if moment > self.clock})
        return self.random.choice(ahead[:3]) if ahead else MINUTE


_NEED: Final = {
    name: "engagements" if "engagements" in name else "commitments"
    for name in STATEMENTS
    if name not in {"write_engagements", "write_commitments", "change_zone", "set_clock"}
    and not name.endswith("dossiers")
    and name not in {"change_type", "rename"}
}
_OPERATIONS: Final = {
    "write_engagements": 22,
    "write_commitments": 16,
    "add_dossiers": 5,
    "change_status": 10,
    "extend": 8,
    "shift_engagements": 8,
    "move_engagements": 6,
    "move_commitments": 6,
    "delete_engagements": 5,
    "delete_commitments": 4,
    "change_ends": 4,
    "change_created": 3,
    "change_type": 3,
    "describe_engagements": 2,
    "describe_commitments": 2,
    "rename": 1,
    "delete_dossiers": 3,
    "change_zone": 2,
}
