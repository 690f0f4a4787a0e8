"""The lease of a job: one holder at a time, whoever dies, hangs or comes late."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.failures import LeaseHeldError, LeaseLostError
from dossier_pipelines.shared.job_lease import Lease, job_lease
from dossier_pipelines_tests.processes import CHECKOUT, PATIENCE_SECONDS, environment, wait_until
from dossier_pipelines_tests.records import rows, scalar

JOB = "count_the_stars"
THREADS = 8
PROCESSES = 4
ROUNDS = 3

# Holds the lease of argv[2] on the server of argv[1] as run argv[3], until it is told to go or killed.
HOLD = """
import sys
from dossier_pipelines.shared.database import create_database
from dossier_pipelines.shared.job_lease import job_lease
with job_lease(create_database(sys.argv[1]), sys.argv[2], holder=sys.argv[3], seconds=3600) as lease:
    print(lease.fencing_number, flush=True)
    sys.stdin.readline()
"""
# Takes the lease argv[4] times; while it has it, it must be the only one inside.
TAKE_TURNS = """
import sys
import sqlalchemy as sa
from dossier_pipelines.shared.database import create_database
from dossier_pipelines.shared.job_lease import job_lease
database = create_database(sys.argv[1])
def step(change):
    with database.transaction() as connection:
        return connection.execute(
            sa.text("UPDATE turns SET inside = inside + :change RETURNING inside"), {"change": change}
        ).scalar_one()
for turn in range(int(sys.argv[4])):
    with job_lease(database, sys.argv[2], holder=sys.argv[3], seconds=3600, patience_seconds=120) as lease:
        assert step(1) == 1
        print(lease.fencing_number, flush=True)
        assert step(-1) == 0
"""


def take(
    database: Database, holder: str = "one", *, seconds: float = 3600, patience: float = 0
) -> AbstractContextManager[Lease]:
    return job_lease(database, JOB, holder=holder, seconds=seconds, patience_seconds=patience)


def row(database: Database) -> sa.Row[Any]:
    return rows(database, "SELECT * FROM platform.job_leases WHERE job = :job", job=JOB)[0]


def expire(database: Database) -> None:
    """Let the holder's time be over, as after a long silence."""
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE platform.job_leases SET expires_at = clock_timestamp()")


def statements(database: Database, fragment: str) -> list[str]:
    """Return a list that grows by each statement with ``fragment`` that is executed from now on."""
    seen: list[str] = []

    def see(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if fragment in sql:
            seen.append(sql)

    event.listen(database.engine, "after_cursor_execute", see)
    return seen


def write_under(database: Database, lease: Lease) -> None:
    """Write a row in a transaction that asks for the lease first."""
    with database.transaction() as connection:
        lease.require(connection)
        connection.exec_driver_sql("INSERT INTO turns VALUES (1)")


@pytest.fixture(autouse=True)
def turns(database: Database) -> None:
    """A table to write into."""
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE turns (inside integer)")


@pytest.fixture
def other(new_database_url: str) -> Iterator[Database]:
    """The same database as another deployment reaches it."""
    database = create_database(new_database_url)
    yield database
    database.engine.dispose()


@contextmanager
def process(program: str, url: str, holder: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", program, url, JOB, holder, *arguments],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


# --- one at a time ----------------------------------------------------------------------------------------------


def test_of_eight_threads_one_at_a_time_holds_it_and_each_gets_a_higher_number(database: Database) -> None:
    inside = threading.Semaphore(1)
    numbers: list[int] = []

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            with take(database, f"run {number}", patience=PATIENCE_SECONDS) as lease:
                assert inside.acquire(blocking=False), "two hold it"
                numbers.append(lease.fencing_number)
                inside.release()

    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(work, number) for number in range(THREADS)]:
            done.result()
    assert numbers == list(range(1, THREADS * ROUNDS + 1))


def test_of_several_processes_one_at_a_time_holds_it(database: Database, new_database_url: str) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO turns VALUES (0)")
    numbers = []
    with ExitStack() as stack:
        processes = [
            stack.enter_context(process(TAKE_TURNS, new_database_url, f"run {number}", str(ROUNDS)))
            for number in range(PROCESSES)
        ]
        for one in processes:
            said, complaint = one.communicate(timeout=PATIENCE_SECONDS)
            assert one.returncode == 0, complaint
            numbers += [int(line) for line in said.split()]
    assert sorted(numbers) == list(range(1, PROCESSES * ROUNDS + 1))


def test_eight_that_come_at_once_and_do_not_wait_are_one_holder_and_seven_refusals(database: Database) -> None:
    barrier = threading.Barrier(THREADS)
    answered = threading.Barrier(THREADS)

    def come(number: int) -> str:
        barrier.wait()
        try:
            with take(database, f"run {number}"):
                answered.wait()
                return "held"
        except LeaseHeldError:
            answered.wait()
            return "refused"

    with ThreadPoolExecutor(THREADS) as threads:
        outcomes = sorted(threads.map(come, range(THREADS)))
    assert outcomes == ["held"] + ["refused"] * (THREADS - 1)


def test_jobs_and_tenants_have_leases_of_their_own(database: Database) -> None:
    with (
        take(database),
        job_lease(database, "another job", holder="two", seconds=60),
        job_lease(database, JOB, holder="three", seconds=60, tenant_id="a tenant"),
    ):
        held = rows(database, "SELECT tenant_id, job, holder FROM platform.job_leases ORDER BY holder")
    assert [tuple(one) for one in held] == [("*", JOB, "one"), ("a tenant", JOB, "three"), ("*", "another job", "two")]


# --- who comes second -------------------------------------------------------------------------------------------

HELD = (
    r"count_the_stars is held by run one since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, until \d\d:\d\d:\d\d UTC unless it "
    r"goes on; this run did nothing\. Wait for that run, or end it in the UI\."
)


def test_who_comes_second_is_told_who_holds_it_since_when_and_until_when(database: Database, other: Database) -> None:
    with take(database) as lease:
        with pytest.raises(LeaseHeldError) as refusal, take(other, "two"):
            pass
        held = row(database)
        write_under(database, lease)
    assert re.fullmatch(HELD, str(refusal.value))
    assert f"since {held.acquired_at:%Y-%m-%d %H:%M:%S} UTC, until {held.expires_at:%H:%M:%S} UTC" in str(refusal.value)


def test_who_comes_while_the_holder_writes_is_told_the_same(database: Database, other: Database) -> None:
    with take(database) as lease, database.transaction() as connection:
        lease.require(connection)
        with pytest.raises(LeaseHeldError) as refusal, take(other, "two"):
            pass
    assert re.fullmatch(HELD, str(refusal.value))


def test_a_holder_cannot_take_it_twice(database: Database) -> None:
    with take(database), pytest.raises(LeaseHeldError), take(database):
        pass


def test_who_has_patience_gets_it_when_the_holder_lets_go(database: Database, other: Database) -> None:
    looks = statements(other, "FOR UPDATE SKIP LOCKED")

    def wait() -> int:
        with take(other, "two", patience=PATIENCE_SECONDS) as lease:
            return lease.fencing_number

    with ThreadPoolExecutor(1) as threads:
        with take(database):
            waiting = threads.submit(wait)
            wait_until(lambda: len(looks) >= 3, "the second one was refused, looked again, and was refused")
            assert not waiting.done()
        assert waiting.result() == 2


def test_a_holder_that_fails_lets_go(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), take(database):
        raise ZeroDivisionError
    assert (row(database).holder, row(database).ended_because) == (None, "released")
    with take(database, "two") as lease:
        assert lease.fencing_number == 2


# --- holders that die -------------------------------------------------------------------------------------------


def test_a_holder_that_is_killed_frees_it_at_once_however_far_its_expiry_lies_ahead(
    database: Database, new_database_url: str
) -> None:
    with process(HOLD, new_database_url, "one") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        with pytest.raises(LeaseHeldError), take(database, "two"):
            pass
        until = row(database).expires_at
        holder.kill()
        holder.wait()
        # Its session ends as soon as the server sees that nobody is there.
        with take(database, "two", patience=PATIENCE_SECONDS) as lease:
            assert lease.fencing_number == 2
            assert row(database).holder == "two"
            # The dead one would have had an hour.
            assert row(database).acquired_at < until


def test_a_holder_that_only_lost_its_session_goes_on_and_lets_go(database: Database, other: Database) -> None:
    with take(database) as lease:
        with other.transaction() as connection:
            ended = connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).scalars()
            assert list(ended) == [True]
        write_under(database, lease)
    assert (row(database).holder, row(database).ended_because) == (None, "released")


# --- holders that hang ------------------------------------------------------------------------------------------


def test_a_holder_that_is_silent_for_too_long_loses_it_and_writes_nothing(database: Database, other: Database) -> None:
    with take(database, seconds=3600) as lease:
        write_under(database, lease)
        expire(database)
        with take(other, "two") as newer:
            assert newer.fencing_number == lease.fencing_number + 1
            with pytest.raises(LeaseLostError) as refusal:
                write_under(database, lease)
            write_under(other, newer)
        # Nor does it have it again when the newer one is done.
        with pytest.raises(LeaseLostError):
            write_under(database, lease)
    assert str(refusal.value) == (
        "This run lost the lease of count_the_stars: it took longer than 3600 s without a sign of life, and another "
        "run took over. Nothing was written; that run does the work."
    )
    assert scalar(database, "SELECT count(*) FROM turns") == 2


def test_a_holder_that_is_late_but_was_not_replaced_may_write(database: Database) -> None:
    with take(database) as lease:
        expire(database)
        write_under(database, lease)
    assert scalar(database, "SELECT count(*) FROM turns") == 1


def test_an_old_holder_that_lets_go_does_not_free_the_new_ones(database: Database, other: Database) -> None:
    with ExitStack() as stack:
        with take(database):
            expire(database)
            newer = stack.enter_context(take(other, "two"))
        # The old one is gone by now.
        held = row(database)
        assert (held.holder, held.fencing_number, held.ended_because) == ("two", 2, None)
        with pytest.raises(LeaseHeldError, match="held by run two"), take(database, "three"):
            pass
        write_under(other, newer)


def test_an_old_holder_cannot_make_the_new_one_last_longer_or_shorter(database: Database, other: Database) -> None:
    with ExitStack() as stack:

        def taken_over() -> bool:
            # A renewal may come between the two, and then it is held again.
            expire(database)
            try:
                stack.enter_context(take(other, "two"))
            except LeaseHeldError:
                return False
            return True

        with take(database, seconds=0.6):
            wait_until(taken_over, "the lease of one that goes on renewing it is taken over")
            until = row(other).expires_at
            tries = statements(database, "SET expires_at")
            wait_until(lambda: len(tries) >= 3, "the old one tries to renew, three times")
            assert row(other).expires_at == until


def test_nobody_takes_it_from_a_transaction_that_asked_for_it(database: Database, other: Database) -> None:
    with take(database) as lease:
        with database.transaction() as connection:
            lease.require(connection)
            expire(other)
            with pytest.raises(LeaseHeldError), take(other, "two"):
                pass
            connection.exec_driver_sql("INSERT INTO turns VALUES (1)")
        with take(other, "two") as newer:
            assert newer.fencing_number == 2
    assert scalar(database, "SELECT count(*) FROM turns") == 1


def test_it_is_renewed_for_as_long_as_its_holder_works(database: Database, other: Database) -> None:
    # So long that no machine is silent for it.
    with take(database, seconds=9) as lease:
        until = [row(other).expires_at]
        for _ in range(2):
            wait_until(lambda: row(other).expires_at > until[-1], "it is renewed, and renewed again")
            until.append(row(other).expires_at)
        # As when its first time is over.
        assert until[-1] - row(other).acquired_at > timedelta(seconds=9 + 2)
        with pytest.raises(LeaseHeldError), take(other, "two"):
            pass
        write_under(database, lease)


def test_a_transaction_that_asked_for_it_does_not_keep_it_from_being_renewed(
    database: Database, other: Database
) -> None:
    with take(database, seconds=0.3) as lease, database.transaction() as connection:
        lease.require(connection)
        until = row(other).expires_at
        wait_until(lambda: row(other).expires_at > until, "it is renewed")


def test_what_ended_a_lease_stays_to_be_read(database: Database) -> None:
    with take(database), database.transaction() as connection:
        # As the watch does with one that ran out.
        connection.exec_driver_sql("UPDATE platform.job_leases SET holder = NULL, ended_because = 'expired'")
    assert row(database).ended_because == "expired"
