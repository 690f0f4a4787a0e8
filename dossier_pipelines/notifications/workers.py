"""Delivery by several processes: one Python process keeps one core busy, and what sends is Python.

Run as a program, this module is one of the others: it delivers what is due by the channels of its environment, and
prints how that ended. Nobody waits for it that it would need: killed, it leaves claims that expire, as any worker does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dossier_pipelines.notifications.configured import configured_lanes
from dossier_pipelines.notifications.delivery import DeliveryResult, Pace, deliver_due
from dossier_pipelines.notifications.recording import PACKAGE, delivery_policy, plan_deliveries
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.failures import UserError

# A process takes a second to start; a core sends a thousand mails in it.
MANY_DUE: Final = 5_000


def deliver_together(
    database: Database, settings: Settings, *, run_id: str | None = None, many: int = MANY_DUE
) -> DeliveryResult:
    """Deliver everything that is due, by DOSSIER_DELIVERY_PROCESSES processes if at least ``many`` messages are.

    A limit per run is kept by one process alone. Raise UserError when one of the processes failed; what it did not
    deliver is due again when its claims end.
    """
    policy = delivery_policy(settings)
    pace = Pace()
    lanes = configured_lanes(settings, pace)
    others = 0
    limited = settings.mails_per_run or settings.webhooks_per_run or settings.whatsapps_per_run
    if settings.delivery_processes > 1 and not limited:
        database.in_transaction(lambda connection: plan_deliveries(connection, policy, run_id=run_id))
        due = database.run(PACKAGE, "count_due", {"channels": list(lanes), "enough": many})[0].due
        others = settings.delivery_processes - 1 if due >= many else 0
    with _workers(database, others) as workers:
        result = deliver_due(database, lanes, policy, pace=pace, run_id=run_id)
        for worker in workers:
            said, _ = worker.communicate()
            if worker.returncode:
                raise UserError(
                    f"One of {others + 1} delivery processes ended with code {worker.returncode}; its log is above. "
                    "What it had not delivered goes out with the next delivery."
                )
            for channel, status, count in json.loads(said):
                result.outcomes[channel, status] += count
    return result


@contextmanager
def _workers(database: Database, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    # The server is running; a worker need not find it.
    environ = {**os.environ, "DOSSIER_DATABASE_URL": database.engine.url.render_as_string(hide_password=False)}
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            started.append(
                subprocess.Popen([sys.executable, "-m", __name__], env=environ, stdout=subprocess.PIPE, text=True)
            )
        yield started
    finally:
        for worker in started:
            worker.terminate()
            worker.wait()


def main() -> None:
    """Be one of several: deliver until nothing is due."""
    settings = read_settings()
    database = create_database(settings.database_url or "")
    try:
        pace = Pace()
        result = deliver_due(database, configured_lanes(settings, pace), delivery_policy(settings), pace=pace)
    finally:
        database.engine.dispose()
    print(json.dumps([(*key, count) for key, count in result.outcomes.items()]))


if __name__ == "__main__":
    main()
