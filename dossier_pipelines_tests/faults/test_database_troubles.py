"""A server that restarts, connections that are cut, locks, timeouts and conflicts: recovery without help.

Nobody is killed here, so that nothing is sent twice: a worker that lives knows what it sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from dossier_pipelines.dossiers.overdue import OverdueScope, detect_overdue
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.notifications.recording import DeliveryPolicy
from dossier_pipelines.shared.audit import read_results
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines_tests.faults.desk import CLOCK, Before, Desk, expire_claims, pending, state
from dossier_pipelines_tests.faults.history import History, say
from dossier_pipelines_tests.faults.peers import Peers
from dossier_pipelines_tests.faults.server import errors_of, lose_the_answer_once, once_before, restart
from dossier_pipelines_tests.faults.work import POLICY, deliver, deliver_until, detect
from dossier_pipelines_tests.histories import DEFAULTS
from dossier_pipelines_tests.processes import wait_until
from dossier_pipelines_tests.records import rows, scalar

# Which of several equals fill a day's number is chance.
UNLIMITED = DeliveryPolicy(channels=POLICY.channels, daily_number=1000)


def with_options(url: str, **settings: str) -> str:
    """Return ``url`` with settings for each of its sessions."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


def in_background(work: Callable[[], object]) -> Callable[[], object]:
    """Start ``work`` in a thread and return how to await it."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future.result


def run_detection(database: Database) -> None:
    detect_overdue(database, OverdueScope(), now=CLOCK, run_id="test", policy=UNLIMITED)
    refresh_health(database, DEFAULTS, now=CLOCK, policy=UNLIMITED)


def clean_state(database: Database, before: Before) -> dict[str, list[str]]:
    """Return what a detection leaves when nothing goes wrong, and bring the desk back."""
    run_detection(database)
    clean = state(database)
    before.bring_back()
    return clean


# --- a server of one's own that restarts ------------------------------------------------------------------------


def test_a_delivery_outlives_restarts_of_the_server_and_repeats_nothing(
    own_server: EmbeddedPostgres, own_database: Database, peers: Peers
) -> None:
    desk = Desk(own_database)
    desk.notifications(300, each_day=4)
    history = History(own_database, peers)
    worker = create_database(own_server.url("own"))
    with errors_of(worker) as errors:
        finished = in_background(lambda: deliver(worker, peers.addresses))
        for taken in (40, 120):
            wait_until(lambda taken=taken: len(peers.taken) > taken, "the delivery is in the middle")
            restart(own_server)
        finished()
    worker.engine.dispose()
    assert errors, "nobody noticed"
    # A claim whose commit was in doubt waits for its end.
    expire_claims(own_database)
    deliver_until(lambda: not pending(own_database), own_database, peers.addresses)
    counts = history.check()
    assert counts["repeated"] == 0
    say("server restarted during a delivery", restarts=2, **counts)


@pytest.mark.parametrize(
    "moment",
    ["UPDATE raw.commitments", "INSERT INTO notifications.daily_counts", "INSERT INTO platform.audit_log"],
)
def test_a_detection_outlives_a_restart_of_the_server(
    own_server: EmbeddedPostgres, own_database: Database, moment: str
) -> None:
    Desk(own_database)
    before = Before(own_database)
    clean = clean_state(own_database, before)
    with errors_of(own_database) as errors, once_before(own_database, moment, lambda: restart(own_server)):
        run_detection(own_database)
    assert errors
    assert state(own_database) == clean
    say("server restarted during a detection", restarts=1, lost=0)


def test_the_job_under_its_leases_outlives_a_restart_of_the_server(
    own_server: EmbeddedPostgres, own_database: Database
) -> None:
    Desk(own_database)
    before = Before(own_database)
    assert detect(own_database)
    clean = state(own_database)
    before.bring_back()
    with once_before(own_database, "UPDATE raw.commitments", lambda: restart(own_server)):
        assert detect(own_database)
    assert state(own_database) == clean


# --- connections that are cut -----------------------------------------------------------------------------------


def name_connection(connection: psycopg.Connection, name: str) -> None:
    """Give a connection a name that pg_stat_activity shows."""
    connection.execute(f"SET application_name = '{name}'")
    connection.commit()


def test_a_delivery_whose_connections_are_cut_after_every_few_messages_sends_each_once(
    database: Database, desk: Desk, history: History, new_database_url: str
) -> None:
    desk.notifications(300, each_day=4)
    worker = create_database(with_options(new_database_url, lock_timeout="60s"))
    # The test's own questions go over connections of another name.
    event.listen(worker.engine, "connect", lambda connection, _: name_connection(connection, "to be cut"))
    done = threading.Event()
    cut: list[int] = []

    def cut_all() -> None:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'to be cut'"
        )
        cut.append(scalar(database, query))

    def cut_as_it_goes_on() -> None:
        # By what was done and not by the clock: on a slow machine nothing would be done between two cuts.
        taken = 0
        while not done.wait(0.01):
            if len(history.peers.taken) >= taken + 10:
                taken = len(history.peers.taken)
                cut_all()

    finished = in_background(cut_as_it_goes_on)
    try:
        with once_before(worker, "INSERT INTO notifications.deliveries", cut_all):
            deliver(worker, history.peers.addresses)
        while pending(database):
            expire_claims(database)
            deliver(worker, history.peers.addresses)
    finally:
        done.set()
        finished()
    worker.engine.dispose()
    counts = history.check()
    assert counts["repeated"] == 0
    assert len(cut) > 3
    assert sum(cut) > 3
    say("connections cut during a delivery", cuts=len(cut), connections=sum(cut), **counts)


def test_a_detection_whose_commit_took_effect_although_its_answer_was_lost_reports_what_it_did(
    database: Database, desk: Desk, new_database_url: str
) -> None:
    before = Before(database)
    clean = clean_state(database, before)
    worker = create_database(new_database_url)
    lose_the_answer_once(worker, after="UPDATE raw.commitments")
    with errors_of(worker) as errors:
        found = detect_overdue(worker, OverdueScope(), now=CLOCK, run_id="lost", policy=UNLIMITED)
    assert errors, "no answer was lost"
    refresh_health(worker, DEFAULTS, now=CLOCK, policy=UNLIMITED)
    assert state(database) == clean
    assert found["overdueCount"] == found["eventsRecorded"] == 6
    with database.transaction() as connection:
        assert read_results(connection, run_id="lost")["overdueCount"] == 6
    worker.engine.dispose()


# --- locks, timeouts and conflicts ------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "code"), [("lock_timeout", "55P03"), ("statement_timeout", "57014")])
def test_a_detection_that_runs_into_a_timeout_is_done_when_the_lock_is_gone(
    database: Database, desk: Desk, new_database_url: str, limit: str, code: str
) -> None:
    clean = clean_state(database, Before(database))
    worker = create_database(with_options(new_database_url, **{limit: "1s"}))
    with errors_of(worker) as errors:
        with database.transaction() as other:
            other.execute(sa.text("SELECT id FROM raw.commitments FOR UPDATE"))
            finished = in_background(lambda: run_detection(worker))
            wait_until(lambda: errors.count(code) >= 2, "it ran into the timeout twice")
            assert scalar(database, "SELECT count(*) FROM platform.events") == 0
        finished()
    worker.engine.dispose()
    assert state(database) == clean
    say(f"detection with {limit}", hits=len(errors), lost=0)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_detection_that_meets_a_serialization_failure_is_done_again(
    database: Database, desk: Desk, new_database_url: str, isolation: str
) -> None:
    clean = clean_state(database, Before(database))
    worker = create_database(
        with_options(new_database_url, default_transaction_isolation=isolation.replace(" ", r"\ "))
    )

    def meddle() -> None:
        with database.transaction() as other:
            other.execute(sa.text("UPDATE raw.commitments SET priority = priority"))

    snapshot_then(worker, meddle)
    with errors_of(worker) as errors:
        run_detection(worker)
    worker.engine.dispose()
    assert "40001" in errors
    assert state(database) == clean


def snapshot_then(database: Database, action: Callable[[], object]) -> None:
    """Before the next detection's statement, take its snapshot and call ``action``, once."""
    waiting = [action]

    def call(connection: Connection, _cursor: object, text: str, *_: object) -> None:
        if "UPDATE raw.commitments" in text and waiting:
            act = waiting.pop()
            connection.exec_driver_sql("SELECT count(*) FROM raw.commitments")
            act()

    event.listen(database.engine, "before_cursor_execute", call)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_deliveries_at_once_under_a_strict_isolation_send_each_message_once(
    database: Database, desk: Desk, history: History, new_database_url: str, isolation: str
) -> None:
    desk.notifications(60, each_day=4)
    url = with_options(new_database_url, default_transaction_isolation=isolation.replace(" ", r"\ "))
    workers = [create_database(url) for _ in range(3)]
    with ThreadPoolExecutor(len(workers)) as pool:
        for done in [pool.submit(deliver, worker, history.peers.addresses) for worker in workers]:
            done.result()
    for worker in workers:
        worker.engine.dispose()
    deliver_until(lambda: not pending(database), database, history.peers.addresses)
    counts = history.check()
    assert counts["repeated"] == 0
    say(f"deliveries under {isolation}", **counts)


def test_a_detection_that_is_the_victim_of_a_deadlock_is_done_again(
    database: Database, desk: Desk, new_database_url: str
) -> None:
    clean = clean_state(database, Before(database))
    worker = create_database(with_options(new_database_url, deadlock_timeout="2s"))
    waits = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE '%raw.commitments%'"
    )
    ids = sorted(row.id for row in rows(database, "SELECT id FROM raw.commitments WHERE status <> 'completed'"))
    lock = sa.text("SELECT id FROM raw.commitments WHERE id = ANY (:ids) FOR UPDATE")
    with errors_of(worker) as errors:
        with database.transaction() as other:
            # It never is the victim: it does not look in time.
            other.execute(sa.text("SET LOCAL deadlock_timeout = '10min'"))
            other.execute(lock, {"ids": [ids[-1]]})
            finished = in_background(lambda: run_detection(worker))
            wait_until(lambda: scalar(database, waits), "the detection waits for the last commitment")
            other.execute(lock, {"ids": ids[:-1]})
        finished()
    worker.engine.dispose()
    assert "40P01" in errors
    assert state(database) == clean
    say("deadlock", victims=errors.count("40P01"), lost=0)
