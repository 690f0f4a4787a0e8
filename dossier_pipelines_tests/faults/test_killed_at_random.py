"""Killed 200 times at random moments, by a signal: nothing lost, and nothing repeated but what was in flight."""

from __future__ import annotations

from random import Random

import pytest

from dossier_pipelines.notifications.delivery import Pace
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.faults.desk import Desk, await_gone, column, expire_claims, pending
from dossier_pipelines_tests.faults.history import History, say
from dossier_pipelines_tests.faults.steps import killed_after, killed_at
from dossier_pipelines_tests.faults.work import deliver_in_process, deliver_until, detect, detect_in_process
from dossier_pipelines_tests.processes import PATIENCE_SECONDS
from dossier_pipelines_tests.records import rows

# Hundreds of processes, on a machine that may be busy with others.
pytestmark = pytest.mark.timeout(900)

DELIVERIES_KILLED = 150
DETECTIONS_KILLED = 50
# So long that only the dead are silent for it, however slow the machine is. Claims of the dead end by hand instead.
PATIENT = Pace(deadline=PATIENCE_SECONDS, claim=10 * PATIENCE_SECONDS)


def test_a_queue_whose_workers_are_killed_again_and_again_goes_out_whole(
    database: Database, desk: Desk, history: History, new_database_url: str
) -> None:
    random = Random(1)
    addresses = history.peers.addresses
    queued = 0
    while history.kills < DELIVERIES_KILLED:
        if history.kills * 4 >= queued:
            desk.notifications(40, each_day=4, first=queued)
            queued += 40
        if history.kills % 2:
            killed = killed_after(random.uniform(0.02, 0.25), deliver_in_process, new_database_url, addresses, PATIENT)
        else:
            killed = killed_at(random.randrange(1, 60), deliver_in_process, new_database_url, addresses, PATIENT)
        if killed:
            history.died()
            # While others are killed: those of a few, or of one.
            if random.random() < 0.5:
                expire_claims(database)
    await_gone(database)
    expire_claims(database)
    deliver_until(lambda: not pending(database), database, addresses, pace=PATIENT)
    counts = history.check()
    assert counts["repeated"] > 0, "nobody was killed while something was in flight"
    say("delivery killed at random", kills=history.kills, **counts)


def test_a_detection_that_is_killed_again_and_again_marks_tells_and_records_each_once(
    database: Database, desk: Desk, new_database_url: str
) -> None:
    random = Random(2)
    kills = 0
    while kills < DETECTIONS_KILLED:
        desk.late(desk.dossiers[kills % 3], desk.people[kills % 2], 2)
        if kills % 2:
            kills += killed_after(random.uniform(0.02, 0.3), detect_in_process, new_database_url)
        else:
            kills += killed_at(random.randrange(1, 90), detect_in_process, new_database_url)
        # The lease of the dead is free as soon as the server knows.
        await_gone(database)
    assert detect(database)
    late = sorted(desk.commitments)
    assert set(column(database, "SELECT status FROM raw.commitments WHERE status <> 'completed'")) == {"overdue"}
    told = "SELECT entity_id FROM platform.events WHERE type = 'commitment_overdue' ORDER BY 1"
    assert column(database, told) == late
    persons = rows(
        database,
        """
        SELECT c.id, count(n.id) AS told,
            count(DISTINCT p.user_id) FILTER (WHERE p.user_id = n.user_id) AS persons,
            count(DISTINCT p.user_id) AS must
        FROM raw.commitments AS c
        JOIN raw.dossiers AS d ON d.id = c.dossier_id
        CROSS JOIN LATERAL (SELECT c.owner_id AS user_id UNION SELECT d.owner_id) AS p
        LEFT JOIN notifications.notifications AS n
            ON n.kind = 'commitment_overdue' AND CAST(n.metadata ->> 'commitment_id' AS uuid) = c.id
            AND n.user_id = p.user_id
        WHERE c.status = 'overdue' GROUP BY c.id
        """,
    )
    assert len(persons) == len(late)
    assert [row for row in persons if not row.told == row.persons == row.must] == []
    say("detection killed at random", kills=kills, sent=sum(row.told for row in persons), repeated=0, lost=0)
