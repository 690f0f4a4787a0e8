"""Refreshing while others write: nothing is lost, nobody waits, nothing is half done.

All of it twice: a refresh of few dossiers works in temporary tables, one of many in tables that its helpers can read.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from dossier_pipelines.dossiers import refresh as product
from dossier_pipelines.dossiers.refresh import RefreshResult, refresh_health, refresh_in_transaction
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import (
    DAY,
    DEFAULTS,
    STATUSES,
    Records,
    differences,
    reference_health,
    stored_health,
)
from dossier_pipelines_tests.records import rows, scalar

CLOCK = datetime(2025, 6, 15, 12, tzinfo=UTC)
WRITERS = 8
TRANSACTIONS = 6
# Long enough for any statement that does not wait; whoever waits for an open transaction waits for ever.
IMPATIENT = "SET LOCAL lock_timeout = '5s'"
TABLES = (
    "platform.stale_marks",
    "dossiers.health_scores",
    "dossiers.engagement_stats",
    "dossiers.commitment_stats",
    "dossiers.health_refreshes",
    "dossiers.health_settings",
)


# What is about to be done at each moment of a refresh, as the statement that does it begins.
COMPUTE = r"CREATE (UNLOGGED TABLE dossiers\.|TEMPORARY TABLE )refreshed\b"
WRITE_SCORES = "INSERT INTO dossiers.health_refreshes"
WRITE_STATISTICS = "INSERT INTO dossiers.engagement_stats"
ALERT = "INSERT INTO dossiers.relationship_alerts"


@pytest.fixture(params=["few", "many"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a refresh takes what it has to do for few dossiers or for many."""
    if request.param == "many":
        monkeypatch.setattr(product, "MANY", 1)
    return str(request.param)


def refresh(database: Database, *, full: bool = False) -> RefreshResult:
    return refresh_health(database, DEFAULTS, now=CLOCK, full=full)


def require_nothing_lost(database: Database) -> None:
    """Every value is that of the formula, a full refresh finds no difference, and no mark is left."""
    assert differences(stored_health(database), reference_health(database)) == {}
    result = refresh(database, full=True)
    assert (result.drifted, result.changed) == (0, 0)
    assert scalar(database, "SELECT count(*) FROM platform.stale_marks") == 0


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, clock_at=CLOCK)


@contextmanager
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Yield a way to start work in another thread; its result or exception is the future's."""
    with ThreadPoolExecutor(WRITERS) as threads:
        yield threads.submit


@contextmanager
def just_before(database: Database, pattern: str, action: Callable[[Connection], object]) -> Iterator[None]:
    """Call ``action`` once, right before the first statement in which ``pattern`` is found goes to the server."""
    waiting = [action]

    def call(connection: Connection, _cursor: object, sql: str, *_: object) -> None:
        if waiting and re.search(pattern, sql):
            waiting.pop()(connection)

    event.listen(database.engine, "before_cursor_execute", call)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", call)
    assert not waiting, f"no statement was like {pattern!r}"


def await_true(database: Database, sql: str, **parameters: Any) -> None:
    """Ask the server again and again until it says true; the test's own timeout is the limit."""
    while not scalar(database, sql, **parameters):
        pass


WAITS_FOR_A_LOCK = (
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


# --- nothing is lost --------------------------------------------------------------------------------------------


# In the middle of every refresh: the marks not taken yet, taken, computed, half written, all written.
MOMENTS = ("DELETE FROM platform.stale_marks", COMPUTE, WRITE_SCORES, WRITE_STATISTICS, ALERT)


class LateCommits:
    """Writers that wait with an open transaction until it is their turn to commit, in no order."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.waiting: list[tuple[threading.Event, threading.Event]] = []
        self.lock = threading.Lock()
        self.let_in = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait to be let in; what is done inside is awaited by whoever let us in."""
        go, done = threading.Event(), threading.Event()
        with self.lock:
            self.waiting.append((go, done))
        go.wait()
        try:
            yield
        finally:
            done.set()

    def let_one_in(self) -> None:
        """Let one of the waiting, if any, commit, and await that."""
        with self.lock:
            if not self.waiting:
                return
            go, done = self.waiting.pop(self.random.randrange(len(self.waiting)))
        go.set()
        done.wait()
        self.let_in += 1


def write(database: Database, dossiers: list[uuid.UUID], commits: LateCommits, number: int) -> None:
    """Run transactions that stay open while refreshes pass which cannot see them yet."""
    random = Random(number)
    engagements: list[uuid.UUID] = []
    commitments: list[uuid.UUID] = []
    with database.engine.connect() as connection:

        def run(sql: str, **parameters: Any) -> None:
            connection.execute(sa.text(sql), parameters)

        for _ in range(TRANSACTIONS):
            # In any order, so that two writers touch the same ones in opposite orders.
            for dossier in random.sample(dossiers, 3):
                engagements.append(uuid.UUID(int=random.getrandbits(128)))
                commitments.append(uuid.UUID(int=random.getrandbits(128)))
                run(
                    "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                    "VALUES ('default', :id, :dossier, :at)",
                    id=engagements[-1],
                    dossier=dossier,
                    at=CLOCK - random.randrange(400) * DAY,
                )
                run(
                    "INSERT INTO raw.commitments (tenant_id, id, dossier_id, status, due_date) "
                    "VALUES ('default', :id, :dossier, :status, :due)",
                    id=commitments[-1],
                    dossier=dossier,
                    status=random.choice(STATUSES),
                    due=CLOCK.date() + random.randrange(-40, 40) * DAY,
                )
                run(
                    "UPDATE raw.commitments SET status = :status WHERE id = :id",
                    id=random.choice(commitments),
                    status=random.choice(STATUSES),
                )
                run(
                    "UPDATE raw.engagements SET dossier_id = :dossier WHERE id = :id",
                    id=random.choice(engagements),
                    dossier=random.choice(dossiers),
                )
                run("DELETE FROM raw.engagements WHERE id = :id", id=random.choice(engagements))
            with commits.turn():
                connection.commit()


def test_changes_that_commit_late_and_out_of_order_are_not_lost(database: Database, records: Records) -> None:
    dossiers = [records.dossier() for _ in range(40)]
    commits = LateCommits(seed=1)

    def let_in(_connection: Connection, _cursor: object, sql: str, *_: object) -> None:
        if any(re.search(moment, sql) for moment in MOMENTS):
            commits.let_one_in()

    event.listen(database.engine, "before_cursor_execute", let_in)
    refreshes = 0
    with background() as start:
        writers = [start(write, database, dossiers, commits, number) for number in range(WRITERS)]
        try:
            while not all(writer.done() for writer in writers):
                refresh(database)
                refreshes += 1
        finally:
            event.remove(database.engine, "before_cursor_execute", let_in)
            # A refresh that failed leaves nobody waiting.
            while not all(writer.done() for writer in writers):
                commits.let_one_in()
    for writer in writers:
        writer.result()
    refresh(database)
    assert commits.let_in == WRITERS * TRANSACTIONS
    assert refreshes > TRANSACTIONS
    assert scalar(database, "SELECT count(*) FROM raw.commitments") == WRITERS * TRANSACTIONS * 3
    require_nothing_lost(database)


def test_a_change_that_comes_while_a_refresh_computes_is_taken_by_the_next(
    database: Database, records: Records
) -> None:
    dossier = records.dossier()
    records.engagement(dossier, CLOCK - 40 * DAY)
    with just_before(database, COMPUTE, lambda _: records.engagement(dossier, CLOCK - DAY)):
        refresh(database)
    assert scalar(database, "SELECT count(*) FROM platform.stale_marks") == 1
    assert refresh(database).refreshed == 1
    require_nothing_lost(database)


def test_a_change_that_comes_while_a_full_refresh_computes_is_no_drift(database: Database, records: Records) -> None:
    dossier = records.dossier()
    refresh(database)
    with just_before(database, COMPUTE, lambda _: records.engagement(dossier, CLOCK - DAY)):
        result = refresh(database, full=True)
    assert (result.changed, result.drifted) == (1, 0)
    refresh(database)
    require_nothing_lost(database)


# --- two refreshes ----------------------------------------------------------------------------------------------


def test_two_refreshes_at_once_run_one_after_the_other(database: Database, records: Records) -> None:
    one, other = records.dossier(), records.dossier()
    with background() as start:
        with database.transaction() as connection:
            assert refresh_in_transaction(connection, DEFAULTS, now=CLOCK).refreshed == 2
            # What commits meanwhile is for the second.
            records.engagement(other, CLOCK - DAY)
            second = start(refresh, database)
            await_true(database, WAITS_FOR_A_LOCK)
            assert not second.done()
            assert stored_health(database) == {}
        assert second.result().refreshed == 1
    assert {key.dossier_id for key in stored_health(database)} == {one, other}
    require_nothing_lost(database)


def test_many_refreshes_at_once_give_what_one_gives(database: Database, records: Records) -> None:
    for number in range(20):
        records.engagements(records.dossier(), *[CLOCK - 30 * number * DAY] * 3)
    with background() as start:
        results = [start(refresh, database, full=number % 2 == 0) for number in range(WRITERS)]
    assert sum(result.result().changed for result in results) == 20
    assert sum(result.result().drifted for result in results) == 0
    require_nothing_lost(database)


def test_a_caller_may_refresh_twice_in_a_transaction_and_take_it_back(database: Database, records: Records) -> None:
    records.dossier()
    before = everything(database)
    with database.engine.connect() as connection:
        for full, refreshed in ((False, 1), (True, 1), (False, 0), (True, 1)):
            assert refresh_in_transaction(connection, DEFAULTS, now=CLOCK, full=full).refreshed == refreshed
        connection.rollback()
    assert everything(database) == before


# --- nobody waits -----------------------------------------------------------------------------------------------


def test_writers_never_wait_for_a_refresh(database: Database, records: Records) -> None:
    dossiers = [records.dossier() for _ in range(4)]
    engagements = [records.engagement(dossier, CLOCK - 40 * DAY) for dossier in dossiers]
    commitments = [records.commitment(dossier, due_date=date(2025, 7, 1)) for dossier in dossiers]
    refresh(database)
    with database.engine.connect() as refresher, refresher.begin():
        # It has written everything and taken the marks, and holds all that it locks.
        refresh_in_transaction(refresher, DEFAULTS, now=CLOCK, full=True)
        with database.engine.connect() as one, database.engine.connect() as other:
            for connection in (one, other):
                connection.execute(sa.text(IMPATIENT))
            # Each step in turn, in opposite order: a lock on a dossier would end in a deadlock.
            for connection, order in ((one, (0, 1)), (other, (1, 0)), (one, (1, 0)), (other, (0, 1))):
                for position in order:
                    connection.execute(
                        sa.text(
                            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
                            "VALUES ('default', gen_random_uuid(), :dossier, :at)"
                        ),
                        {"dossier": dossiers[position], "at": CLOCK - DAY},
                    )
            for sql, parameters in (
                ("UPDATE raw.commitments SET status = 'completed' WHERE id = :id", {"id": commitments[0]}),
                ("DELETE FROM raw.engagements WHERE id = :id", {"id": engagements[1]}),
                ("UPDATE raw.dossiers SET type = 'forum' WHERE id = :id", {"id": dossiers[2]}),
                ("UPDATE platform.tenants SET timezone = 'UTC'", {}),
                ("DELETE FROM raw.dossiers WHERE id = :id", {"id": dossiers[3]}),
            ):
                one.execute(sa.text(sql), parameters)
            other.commit()
            one.commit()
    refresh(database)
    assert {key.dossier_id for key in stored_health(database)} == set(dossiers[:3])
    require_nothing_lost(database)


def test_a_refresh_never_waits_for_writers(database: Database, records: Records) -> None:
    dossier = records.dossier()
    commitment = records.commitment(dossier)
    with database.engine.connect() as writer, writer.begin():
        for sql in (
            "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) "
            "VALUES ('default', gen_random_uuid(), :dossier, now())",
            "UPDATE raw.commitments SET status = 'completed' WHERE id = :commitment",
            "UPDATE raw.dossiers SET type = 'forum' WHERE id = :dossier",
        ):
            writer.execute(sa.text(sql), {"dossier": dossier, "commitment": commitment})
        with database.transaction() as connection:
            connection.execute(sa.text(IMPATIENT))
            assert refresh_in_transaction(connection, DEFAULTS, now=CLOCK, full=True).refreshed == 1
        assert stored_health(database)[("default", dossier)].fulfilled_commitments == 0
    refresh(database)
    assert stored_health(database)[("default", dossier)].fulfilled_commitments == 1
    require_nothing_lost(database)


# --- dossiers that go while a refresh runs ----------------------------------------------------------------------


@pytest.mark.parametrize("scored_before", [False, True])
@pytest.mark.parametrize("with_records", [False, True])
@pytest.mark.parametrize(
    "moment",
    [
        # Chosen, but not computed; computed, but not written; scores written, statistics not; all written.
        COMPUTE,
        WRITE_SCORES,
        WRITE_STATISTICS,
        ALERT,
    ],
)
def test_of_a_dossier_that_is_deleted_during_a_refresh_the_next_one_leaves_nothing(
    database: Database, records: Records, moment: str, with_records: bool, scored_before: bool
) -> None:
    going, staying = records.dossier(), records.dossier()
    if scored_before:
        refresh(database)
    for dossier in (going, staying) if with_records else ():
        records.engagement(dossier, CLOCK - DAY)
        records.commitment(dossier)

    def delete(_: Connection) -> None:
        with database.transaction() as connection:
            connection.execute(sa.text(IMPATIENT))
            connection.execute(sa.text("DELETE FROM raw.dossiers WHERE id = :id"), {"id": going})

    with just_before(database, moment, delete):
        refresh(database, full=True)
    refresh(database)
    assert set(stored_health(database)) == {("default", staying)}
    require_nothing_lost(database)


def test_a_refresh_and_a_deletion_that_meet_in_opposite_order_do_not_deadlock(
    database: Database, records: Records
) -> None:
    dossiers = [records.dossier() for _ in range(3)]
    refresh(database)
    for dossier in dossiers:
        records.engagement(dossier, CLOCK - DAY)
    with background() as start:
        with database.transaction() as deleter:
            delete = sa.text("DELETE FROM raw.dossiers WHERE id = :id")
            deleter.execute(delete, {"id": dossiers[1]})
            refreshing = start(refresh, database)
            # It waits for the fate of the second, and may hold the others.
            await_true(database, WAITS_FOR_A_LOCK)
            deleter.execute(delete, {"id": dossiers[0]})
            deleter.execute(delete, {"id": dossiers[2]})
        refreshing.result()
    refresh(database)
    assert stored_health(database) == {}
    require_nothing_lost(database)


def test_a_dossier_whose_deletion_is_taken_back_keeps_its_score(database: Database, records: Records) -> None:
    dossier = records.dossier()
    records.engagement(dossier, CLOCK - DAY)
    refresh(database)
    before = everything(database)
    with database.engine.connect() as connection:
        connection.execute(sa.text("DELETE FROM raw.dossiers"))
        connection.rollback()
    assert everything(database) == before
    require_nothing_lost(database)


# --- what a refresh works in ------------------------------------------------------------------------------------


def working_tables(database: Database) -> list[str]:
    """Return the tables, of any schema, that a refresh works in."""
    found = rows(
        database,
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relname IN ('refresh_keys', 'refreshed') ORDER BY c.relname",
    )
    return [f"{'temporary' if row.nspname.startswith('pg_temp_') else row.nspname}.{row.relname}" for row in found]


def test_few_dossiers_are_refreshed_in_temporary_tables_and_many_in_shared_ones(
    database: Database, records: Records, way: str
) -> None:
    records.dossier()
    seen: list[str] = []

    def look(connection: Connection) -> None:
        found = connection.exec_driver_sql(
            "SELECT concat(c.relpersistence, ' ', n.nspname) FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relname IN ('refresh_keys', 'refreshed')"
        )
        seen.extend(sorted(re.sub(r"pg_temp_\d+", "pg_temp", row[0]) for row in found))

    with just_before(database, ALERT, look):
        refresh(database)
    assert seen == (["u dossiers"] * 2 if way == "many" else ["t pg_temp"] * 2)
    assert working_tables(database) == []


def test_what_few_dossiers_take_and_what_many_take_is_the_same(
    database: Database, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        dossier = records.dossier()
        records.engagements(dossier, *[CLOCK - number * 15 * DAY] * (number % 7))
        records.commitment(dossier, STATUSES[number % 5], due_date=CLOCK.date() + (number - 15) * DAY)
    refresh(database, full=True)
    first = stored_health(database)
    monkeypatch.setattr(product, "MANY", 1 if product.MANY > 1 else 5_000)
    result = refresh(database, full=True)
    assert (result.refreshed, result.changed, result.drifted) == (30, 0, 0)
    assert stored_health(database) == first
    assert differences(first, reference_health(database)) == {}


# --- killed -----------------------------------------------------------------------------------------------------


def everything(database: Database) -> dict[str, list[str]]:
    """Return the content of every table that a refresh writes, marks included."""
    return {
        table: [row[0] for row in rows(database, f"SELECT CAST(t AS text) FROM {table} AS t ORDER BY 1")]
        for table in TABLES
    }


@pytest.mark.parametrize("moment", [COMPUTE, WRITE_SCORES, "INSERT INTO dossiers.commitment_stats", ALERT])
def test_a_refresh_that_is_killed_leaves_everything_as_it_was(
    database: Database, records: Records, moment: str
) -> None:
    old, new = records.dossier(), None
    records.engagement(old, CLOCK - DAY)
    refresh(database)
    new = records.dossier()
    for dossier in (old, new):
        records.commitment(dossier, due_date=date(2025, 1, 1))
    before = everything(database)
    assert len(before["platform.stale_marks"]) == 3
    # A process that dies takes its session with it, and nobody tries again.
    with (
        just_before(database, moment, end_session(database)),
        pytest.raises(OperationalError),
        database.transaction() as connection,
    ):
        refresh_in_transaction(connection, DEFAULTS, now=CLOCK)
    assert everything(database) == before
    assert working_tables(database) == []
    # The next one does the work, as if nothing had been.
    assert refresh(database).refreshed == 2
    require_nothing_lost(database)


def end_session(database: Database) -> Callable[[Connection], None]:
    """Return what ends the session of a connection, as a server that restarts does."""

    def end(connection: Connection) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        assert scalar(database, "SELECT pg_terminate_backend(:pid, 60000)", pid=pid)

    return end


@pytest.mark.parametrize("moment", ["DELETE FROM platform.stale_marks", ALERT])
def test_a_refresh_whose_session_is_lost_is_done_once_more(database: Database, records: Records, moment: str) -> None:
    records.engagement(records.dossier(), CLOCK - DAY)
    with just_before(database, moment, end_session(database)):
        result = refresh(database)
    assert (result.refreshed, result.changed) == (1, 1)
    assert scalar(database, "SELECT count(*) FROM dossiers.health_refreshes") == 1
    assert working_tables(database) == []
    require_nothing_lost(database)
