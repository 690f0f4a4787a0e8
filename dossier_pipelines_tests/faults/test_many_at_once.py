"""Eight at once: one effect. Nobody is killed, so that everything happens exactly once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from dossier_pipelines.dossiers.overdue import OverdueScope, detect_overdue
from dossier_pipelines.notifications.delivery import Pace
from dossier_pipelines.notifications.recording import Planned, plan_deliveries
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines_tests.faults.desk import CLOCK, Desk, column
from dossier_pipelines_tests.faults.history import History, outbox, say
from dossier_pipelines_tests.faults.steps import ending, start
from dossier_pipelines_tests.faults.work import POLICY, deliver_in_process, try_to_detect_in_process
from dossier_pipelines_tests.records import rows, scalar

MANY = 8


def require_each_once(database: Database, desk: Desk) -> int:
    """Every commitment is marked, recorded once, and told once to each of its two people."""
    assert set(column(database, "SELECT status FROM raw.commitments WHERE status <> 'completed'")) == {"overdue"}
    events = column(database, "SELECT entity_id FROM platform.events WHERE type = 'commitment_overdue' ORDER BY 1")
    assert events == sorted(desk.commitments)
    told = rows(
        database,
        "SELECT metadata ->> 'commitment_id' AS id, count(*) AS told, count(DISTINCT user_id) AS persons "
        "FROM notifications.notifications WHERE kind = 'commitment_overdue' GROUP BY 1",
    )
    assert len(told) == len(events)
    assert {(row.told, row.persons) for row in told} == {(2, 2)}
    return sum(row.told for row in told)


def test_eight_detections_at_once_without_a_lease_mark_tell_and_record_once(
    database: Database, desk: Desk, new_database_url: str
) -> None:
    desk.late(desk.dossiers[0], desk.people[1], 200)

    def one(number: int) -> int:
        own = create_database(new_database_url)
        found = detect_overdue(own, OverdueScope(), now=CLOCK, run_id=f"run {number}", policy=POLICY)
        own.engine.dispose()
        return int(found["overdueCount"])

    with ThreadPoolExecutor(MANY) as pool:
        counts = list(pool.map(one, range(MANY)))
    assert sum(counts) == len(desk.commitments) == 206
    say("eight detections at once", sent=require_each_once(database, desk), repeated=0, lost=0)


def test_eight_runs_of_the_job_at_once_do_its_work_once(database: Database, desk: Desk, new_database_url: str) -> None:
    runs = [start(try_to_detect_in_process, new_database_url) for _ in range(MANY)]
    for run in runs:
        run.join()
    # Who finds the lease held gives up; who comes when it is free finds nothing left.
    assert {run.exitcode for run in runs} <= {0, 1}
    assert 0 in {run.exitcode for run in runs}
    assert scalar(database, "SELECT count(*) FROM platform.job_leases WHERE holder IS NOT NULL") == 0
    say("eight jobs at once", sent=require_each_once(database, desk), repeated=0, lost=0)


def test_eight_deliveries_at_once_send_each_message_once(
    database: Database, desk: Desk, history: History, new_database_url: str
) -> None:
    desk.notifications(300, each_day=4)
    workers = [start(deliver_in_process, new_database_url, history.peers.addresses, Pace()) for _ in range(MANY)]
    assert {ending(worker) for worker in workers} == {0}
    counts = history.check()
    assert counts["repeated"] == 0
    attempts = column(database, "SELECT DISTINCT attempts FROM notifications.deliveries WHERE channel <> 'in_app'")
    assert attempts == [1]
    say("eight deliveries at once", **counts)


def test_eight_plans_at_once_keep_the_daily_number_exact(database: Database, desk: Desk, new_database_url: str) -> None:
    def record_and_plan(number: int) -> Planned:
        own = create_database(new_database_url)
        # Twelve for each person, all on one day, in transactions that wait for each other.
        with own.transaction() as connection:
            desk.record(connection, 36, each_day=1000, first=36 * number)
            planned = plan_deliveries(connection, POLICY)
        own.engine.dispose()
        return planned

    with ThreadPoolExecutor(MANY) as pool:
        planned = list(pool.map(record_and_plan, range(MANY)))
    assert sum(one.planned for one in planned) == 36 * MANY
    singles = column(
        database,
        "SELECT count(*) FROM notifications.notifications AS n JOIN notifications.deliveries AS d "
        "ON d.notification_id = n.id WHERE d.channel = 'in_app' AND d.digest_id IS NULL GROUP BY n.user_id",
    )
    assert singles == [POLICY.daily_number] * 3
    digests = rows(
        database,
        "SELECT g.id, count(*) AS carried FROM notifications.notifications AS g "
        "JOIN notifications.deliveries AS d ON d.digest_id = g.id GROUP BY g.id",
    )
    assert len(digests) == 3
    assert sum(digest.carried for digest in digests) == 36 * MANY - 6
    # Each message by two channels.
    assert len(outbox(database)) == 2 * (6 + 3)
    say("eight plans at once", planned=36 * MANY, digests=len(digests), lost=0)
