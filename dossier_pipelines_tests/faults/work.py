"""What the processes do that are killed: a run of overdue detection, and a run of delivery, as the jobs do them.

Functions here are called in fresh processes by their names, and in the test's own process for the run that follows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

import dagster as dg

from dossier_pipelines.dossiers import snapshots
from dossier_pipelines.dossiers.locks import SNAPSHOTS
from dossier_pipelines.dossiers.ops import detect_overdue_commitments_job
from dossier_pipelines.dossiers.snapshots import SnapshotResult, restate_snapshots, take_snapshots
from dossier_pipelines.notifications.channels.email import Email
from dossier_pipelines.notifications.channels.webhook import Webhook
from dossier_pipelines.notifications.delivery import DeliveryResult, Lane, Pace, RetryPolicy, deliver_due
from dossier_pipelines.notifications.recording import DeliveryPolicy
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.environment import SmtpSettings
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.faults.history import DOMAIN
from dossier_pipelines_tests.faults.peers import Addresses
from dossier_pipelines_tests.faults.steps import Steps
from dossier_pipelines_tests.histories import DEFAULTS
from dossier_pipelines_tests.processes import wait_until

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# Two a day, and the rest in digests: small numbers have them too.
POLICY: Final = DeliveryPolicy(channels=("in_app", "email", "webhook"), daily_number=2)
# Being killed is no fault of a message.
PATIENT: Final = RetryPolicy(attempts=1000)
DAYS: Final = (date(2023, 7, 1), date(2025, 12, 31))
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def lanes(addresses: Addresses, *, concurrency: int = 2, timeout: float = 20.0) -> dict[str, Lane]:
    """Return the lanes to both receivers."""
    smtp = SmtpSettings(host="127.0.0.1", port=addresses.smtp_port, encryption="none")
    mail = Email(smtp, sender=f"The desk <desk@{DOMAIN}>", timeout=timeout)
    hook = Webhook(f"http://127.0.0.1:{addresses.http_port}/hook", SECRET, timeout=timeout, connections=concurrency)
    return {
        "email": Lane(channel=mail, concurrency=concurrency),
        "webhook": Lane(channel=hook, concurrency=concurrency),
    }


def deliver(
    database: Database,
    addresses: Addresses,
    *,
    steps: Steps | None = None,
    pace: Pace | None = None,
    retries: RetryPolicy = PATIENT,
    concurrency: int = 2,
) -> DeliveryResult:
    """Deliver what is due."""
    ways = lanes(addresses, concurrency=concurrency, timeout=(pace or Pace()).deadline)
    return deliver_due(
        database, steps.watch_lanes(ways) if steps else ways, POLICY, retries=retries, pace=pace, run_id="test"
    )


def deliver_until(
    condition: Callable[[], object],
    database: Database,
    addresses: Addresses,
    *,
    pace: Pace | None = None,
    retries: RetryPolicy = PATIENT,
    concurrency: int = 2,
) -> None:
    """Deliver again and again, as the sensor has it done."""

    def again() -> object:
        deliver(database, addresses, pace=pace, retries=retries, concurrency=concurrency)
        return condition()

    wait_until(again, "what is to be delivered is delivered")


def detect(database: Database, instance: dg.DagsterInstance | None = None) -> bool:
    """Run the job, on an instance of its own unless there is one; return whether it succeeded."""
    if instance is None:
        with dg.DagsterInstance.ephemeral() as own:
            return detect(database, own)
    return detect_overdue_commitments_job.execute_in_process(
        resources={"database": database}, instance=instance, run_config=QUIET, raise_on_error=False
    ).success


def deliver_in_process(url: str, addresses: Addresses, pace: Pace, last: int | None = None) -> None:
    """Deliver, and end at step ``last``."""
    steps = Steps(last)
    deliver(steps.watch(create_database(url)), addresses, steps=steps, pace=pace)


def detect_in_process(url: str, last: int | None = None) -> None:
    """Run the job, and end at step ``last``."""
    assert detect(Steps(last).watch(create_database(url)))


def try_to_detect_in_process(url: str) -> None:
    """Run the job beside others; return 1 when it gave up."""
    sys.exit(0 if detect(create_database(url)) else 1)


def take_days(database: Database) -> SnapshotResult:
    """Take two years and a half of days, a year in a transaction."""
    with job_lease(database, SNAPSHOTS.name, holder="a backfill", seconds=SNAPSHOTS.seconds) as lease:
        return take_snapshots(
            database, DEFAULTS, first_day=DAYS[0], last_day=DAYS[1], now=NOW, backfill_id="a backfill", lease=lease
        )


def restate_days(database: Database) -> SnapshotResult:
    """Restate what late records have overtaken."""
    with job_lease(database, SNAPSHOTS.name, holder="a restating", seconds=SNAPSHOTS.seconds) as lease:
        return restate_snapshots(database, DEFAULTS, now=NOW, lease=lease)


def take_days_in_process(url: str, last: int | None = None) -> None:
    """Backfill, and end at step ``last``."""
    one_year_at_a_time()
    take_days(Steps(last).watch(create_database(url)))


def restate_days_in_process(url: str, last: int | None = None) -> None:
    """Restate, and end at step ``last``."""
    restate_days(Steps(last).watch(create_database(url)))


def one_year_at_a_time() -> None:
    """Let a small desk have chunks as a large one has them."""
    snapshots.MOST_DOSSIER_YEARS = 1
