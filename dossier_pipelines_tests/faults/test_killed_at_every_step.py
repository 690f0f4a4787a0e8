"""Killed at every step there is: the next run leaves what one clean run leaves, and nothing is sent without need."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from dossier_pipelines.dossiers.locks import REFRESH
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.notifications.delivery import Pace
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.faults.desk import Before, Desk, await_gone, expire_claims, pending, state
from dossier_pipelines_tests.faults.history import History, say
from dossier_pipelines_tests.faults.steps import killed_at
from dossier_pipelines_tests.faults.work import deliver, deliver_in_process, deliver_until, detect, detect_in_process
from dossier_pipelines_tests.histories import DEFAULTS

# Hundreds of processes, on a machine that may be busy with others.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance for the runs of the test's own process: making one costs as much as a run."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def next_run(database: Database, instance: dg.DagsterInstance) -> None:
    """Run the job, and the refresh that the schedule makes after it."""
    assert detect(database, instance)
    with job_lease(database, REFRESH.name, holder="the schedule", seconds=REFRESH.seconds) as lease:
        refresh_health(database, DEFAULTS, now=datetime.now(UTC), lease=lease)


def test_a_detection_killed_at_any_step_is_completed_by_the_next_run(
    database: Database, desk: Desk, new_database_url: str, instance: dg.DagsterInstance
) -> None:
    before = Before(database)
    next_run(database, instance)
    clean = state(database)
    assert len(clean["commitments"]) == 9
    assert len([event for event in clean["events"] if "commitment_overdue" in event]) == 6
    assert len([event for event in clean["events"] if "health_score_dropped" in event]) == 3
    assert clean["stale_marks"] == clean["held_leases"] == []
    step = 1
    before.bring_back()
    while killed_at(step, detect_in_process, new_database_url):
        await_gone(database)
        next_run(database, instance)
        assert state(database) == clean, f"killed at step {step}"
        step += 1
        before.bring_back()
    assert step > 80
    say("detection killed at every step", steps=step - 1, kills=step - 1, events=len(clean["events"]), lost=0)


def test_a_delivery_killed_at_any_step_loses_nothing_and_repeats_only_what_was_in_flight(
    database: Database, desk: Desk, history: History, new_database_url: str
) -> None:
    peers = history.peers
    desk.notifications(8, each_day=4, people=2)
    before = Before(database)
    deliver(database, peers.addresses)
    clean = state(database)
    assert history.check() == {"sent": 12, "repeated": 0, "lost": 0}
    assert len([message for message in clean["deliveries"] if "'digest'" in message]) == 4
    totals = {"sent": 0, "repeated": 0, "lost": 0}
    step = 1
    while True:
        before.bring_back()
        peers.forget()
        history = History(database, peers)
        if not killed_at(step, deliver_in_process, new_database_url, peers.addresses, Pace()):
            break
        history.died()
        expire_claims(database)
        deliver_until(lambda: not pending(database), database, peers.addresses)
        assert state(database) == clean, f"killed at step {step}"
        totals = {name: totals[name] + count for name, count in history.check().items()}
        step += 1
    assert step > 60
    say("delivery killed at every step", steps=step - 1, kills=step - 1, **totals)
