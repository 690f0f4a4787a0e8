"""Steps of a process: count them, and end the process at one of them.

A step is the moment before and after each SQL statement, each COMMIT and each send. Processes are forked from a warm
one that has no connection and no thread (multiprocessing's fork server), so that hundreds of them are cheap.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from typing import Any, Final

from sqlalchemy import event

from dossier_pipelines.notifications.channels.channel import Channel, OutgoingMessage, Verdict
from dossier_pipelines.notifications.delivery import Lane
from dossier_pipelines.shared.database import Database

# What a process that ended itself at a step returns.
ENDED: Final = 77
_FORKING: Final = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["dossier_pipelines_tests.faults.warm"])


class Steps:
    """The steps of this process; at number ``last`` it ends, without a goodbye."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.taken = 0
        self._lock = threading.Lock()

    def step(self, *_: object) -> None:
        """Take a step."""
        with self._lock:
            self.taken += 1
            if self.taken == self.last:
                os._exit(ENDED)

    def watch(self, database: Database) -> Database:
        """Count the statements and commits of ``database``."""
        event.listen(database.engine, "before_cursor_execute", self.step)
        event.listen(database.engine, "after_cursor_execute", self.step)
        dialect: Any = database.engine.dialect
        dialect.do_commit = self._around(dialect.do_commit)
        return database

    def watch_lanes(self, lanes: Mapping[str, Lane]) -> dict[str, Lane]:
        """Count the sends of ``lanes``."""
        return {name: replace(lane, channel=_Stepping(lane.channel, self)) for name, lane in lanes.items()}

    def _around(self, work: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(work)
        def stepping(*arguments: object) -> None:
            self.step()
            work(*arguments)
            self.step()

        return stepping


class _Stepping:
    """A channel whose sends are steps."""

    def __init__(self, channel: Channel, steps: Steps) -> None:
        self.channel = channel
        self.steps = steps

    async def send(self, message: OutgoingMessage) -> Verdict:
        self.steps.step()
        verdict = await self.channel.send(message)
        self.steps.step()
        return verdict

    async def close(self) -> None:
        await self.channel.close()


def start(work: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """Start a process that does ``work``."""
    process = _FORKING.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def ending(process: ForkServerProcess) -> int:
    """Await a process; return 0 when it did its work, ENDED or -SIGKILL when it was killed."""
    process.join()
    code = process.exitcode
    process.close()
    assert code in {0, ENDED, -signal.SIGKILL}, f"it failed by itself, with code {code}"
    return code


def killed_at(step: int, work: Callable[..., object], *arguments: object) -> bool:
    """Do ``work`` in a process that ends at ``step``; return whether it got that far."""
    return ending(start(work, *arguments, step)) == ENDED


def killed_after(seconds: float, work: Callable[..., object], *arguments: object) -> bool:
    """Do ``work`` in a process that gets a SIGKILL after ``seconds``; return whether that came in time."""
    process = start(work, *arguments)
    process.join(seconds)
    process.kill()
    return ending(process) == -signal.SIGKILL
