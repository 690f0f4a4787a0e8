"""Answering events: decide which rules answer what happened, and carry out what they say.

Matching is one transaction and one statement. What it decided is carried out in transactions of a hundred rules each,
and of each rule no more than its share of a run: the rest waits, visible in automation_rules.executions, for the next
run, and holds up no other tenant. Run again after a crash at any point it leaves the same state as one clean run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dossier_pipelines.automation_rules.actions import NO_DESK, PACKAGE, ActionHandlers, StatementFile
from dossier_pipelines.notifications.recording import DEFAULT_POLICY, DeliveryPolicy, plan_deliveries
from dossier_pipelines.shared.audit import read_results, record_results
from dossier_pipelines.shared.database import Database, execute, statement
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import describe_database_error, is_transient

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from dossier_pipelines.shared.job_lease import Lease

JOB: Final = "answer_events"
# With the share of each rule, this bounds what one transaction holds.
RULES_AT_ONCE: Final = 100
FIRST_KEY: Final = ("", "00000000-0000-0000-0000-000000000000")
WORKING_TABLES: Final = ("executing", "acting", "actions_handed", "actions_handled")
# What a run counts, under the names of its result document.
COUNTS: Final = (
    "eventsMatched",
    "eventsTooDeep",
    "executionsMatched",
    "conditionsBroken",
    "executionsAbandoned",
    "succeeded",
    "failed",
    "givenUp",
    "notificationsPlanned",
)

Step = Callable[["Connection"], Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class AnsweringPolicy:
    """How much is done at once, how often it is tried, and how long a chain of rules may become."""

    executions_per_run: int = Settings.rule_executions_per_run
    """Of one rule; the rest waits for the next run."""
    attempts: int = Settings.rule_attempts
    first_seconds: float = 60.0
    """How long a failed execution waits; then twice as long, and so on."""
    longest_seconds: float = 3600.0
    most_depth: int = 5
    """Events that so many rules led to, one causing the next, are the last to be answered."""


DEFAULT_ANSWERING: Final = AnsweringPolicy()


def answering_policy(settings: Settings) -> AnsweringPolicy:
    """Return the policy that the settings ask for."""
    return AnsweringPolicy(executions_per_run=settings.rule_executions_per_run, attempts=settings.rule_attempts)


def answer_events(
    database: Database,
    handlers: ActionHandlers = NO_DESK,
    *,
    now: datetime,
    run_id: str,
    policy: AnsweringPolicy = DEFAULT_ANSWERING,
    delivery: DeliveryPolicy = DEFAULT_POLICY,
    lease: Lease | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Match what is marked, carry out what is due, and return the counts.

    ``now`` is as of when it is done. With ``dry_run`` all of it is tried and taken back. With ``lease``, LeaseLostError
    is raised and nothing written any more unless it is held.
    """
    run = _Run(handlers, now=now, run_id=run_id, policy=policy, delivery=delivery, lease=lease)
    if dry_run:
        return database.in_transaction(run.try_all)

    run.counts = database.in_transaction(run.recorded)
    run.counts = database.in_transaction(partial(run.once, step=run.match))
    after = FIRST_KEY
    while rules := database.in_transaction(partial(run.due_rules, after=after)):
        run.counts = database.in_transaction(partial(run.once, step=partial(run.execute, rules=rules)))
        after = rules[-1]
    return database.in_transaction(run.finish)


def match_events(
    connection: Connection, *, now: datetime, run_id: str, policy: AnsweringPolicy = DEFAULT_ANSWERING
) -> sa.Row[Any]:
    """Decide which rules answer the marked events, those of this transaction among them; return the counts.

    Whoever records events may do it at once, to say how many rules they trigger; else the next run does. The row has
    events, too_deep, matched and unjudged.
    """
    given = {"most_depth": policy.most_depth, "now": now, "run_id": run_id}
    return execute(connection, PACKAGE, "match_events", given).one()


class _Run:
    """One run: what it was asked for, and what it has counted so far."""

    def __init__(
        self,
        handlers: ActionHandlers,
        *,
        now: datetime,
        run_id: str,
        policy: AnsweringPolicy,
        delivery: DeliveryPolicy,
        lease: Lease | None,
    ) -> None:
        self.handlers = handlers
        self.policy = policy
        self.delivery = delivery
        self.lease = lease
        self.now = now
        self.run_id = run_id
        self.counts: Counter[str] = Counter()

    def recorded(self, connection: Connection) -> Counter[str]:
        """Return what the run has written down so far; a step of it that is tried again goes on from there."""
        recorded = read_results(connection, run_id=self.run_id)
        return Counter({name: recorded.get(name, 0) for name in (*COUNTS, "steps")})

    def once(self, connection: Connection, *, step: Step) -> Counter[str]:
        """Do a step and write down the counts with it; return them.

        A commit whose answer was lost may have taken effect: then the counts that it wrote down are ahead of ours.
        """
        if self.lease is not None:
            self.lease.require(connection)
        recorded = self.recorded(connection)
        if recorded["steps"] > self.counts["steps"]:
            return recorded
        counts = self.counts + Counter({"steps": 1})
        counts.update(step(connection))
        self.record(connection, {name: counts[name] for name in (*COUNTS, "steps")})
        return counts

    def record(self, connection: Connection, results: Mapping[str, Any]) -> None:
        record_results(connection, run_id=self.run_id, job=JOB, results=results)

    def try_all(self, connection: Connection) -> dict[str, Any]:
        """Do everything in one transaction, count, and take it back."""
        if self.lease is not None:
            self.lease.require(connection)
        counts: Counter[str] = Counter()
        trial = connection.begin_nested()
        counts.update(self.match(connection))
        after = FIRST_KEY
        while rules := self.due_rules(connection, after=after):
            counts.update(self.execute(connection, rules=rules))
            after = rules[-1]
        trial.rollback()
        results = {**{name: counts[name] for name in COUNTS}, "dryRun": True}
        self.record(connection, results)
        return results

    def finish(self, connection: Connection) -> dict[str, Any]:
        """Say what is left for the next run."""
        results = {
            **{name: self.counts[name] for name in COUNTS},
            "executionsWaiting": execute(connection, PACKAGE, "count_waiting").scalar_one(),
            "dryRun": False,
        }
        self.record(connection, results)
        return results

    def match(self, connection: Connection) -> dict[str, int]:
        """Turn marks into executions, and give up those whose rule is gone."""
        abandoned = execute(connection, PACKAGE, "abandon_executions").rowcount
        found = match_events(connection, now=self.now, run_id=self.run_id, policy=self.policy)
        return {
            "eventsMatched": found.events,
            "eventsTooDeep": found.too_deep,
            "executionsMatched": found.matched,
            "conditionsBroken": found.unjudged,
            "executionsAbandoned": abandoned,
        }

    def due_rules(self, connection: Connection, *, after: tuple[str, str]) -> list[tuple[str, str]]:
        """Return the keys of the next rules that have something due."""
        found = execute(
            connection,
            PACKAGE,
            "due_rules",
            {"after_tenant": after[0], "after_rule": after[1], "rules": RULES_AT_ONCE},
        )
        return [(row.tenant_id, row.id) for row in found]

    def execute(self, connection: Connection, *, rules: list[tuple[str, str]]) -> dict[str, int]:
        """Carry out the share of each of ``rules``."""
        for table in WORKING_TABLES:
            connection.exec_driver_sql(statement(PACKAGE, table).text)
        execute(
            connection,
            PACKAGE,
            "take_executions",
            {
                "tenants": [tenant_id for tenant_id, _ in rules],
                "rules": [rule_id for _, rule_id in rules],
                "share": self.policy.executions_per_run,
            },
        )
        connection.exec_driver_sql("ANALYZE executing")
        execute(connection, PACKAGE, "expand_actions")
        connection.exec_driver_sql("ANALYZE acting")
        for kind in execute(connection, PACKAGE, "acting_kinds").all():
            self._carry_out(connection, {"action": kind.action, "depth": kind.depth})
        ended = execute(
            connection,
            PACKAGE,
            "settle_executions",
            {
                "now": self.now,
                "run_id": self.run_id,
                "attempts": self.policy.attempts,
                "first_seconds": self.policy.first_seconds,
                "longest_seconds": self.policy.longest_seconds,
            },
        ).one()
        planned = plan_deliveries(connection, self.delivery, run_id=self.run_id).planned
        connection.exec_driver_sql(f"DROP TABLE {', '.join(WORKING_TABLES)}")
        return {
            "succeeded": ended.succeeded,
            "failed": ended.failed,
            "givenUp": ended.dead,
            "notificationsPlanned": planned,
        }

    def _carry_out(self, connection: Connection, kind: Mapping[str, Any]) -> None:
        """Carry out the actions of a kind: all in one statement, or rule by rule when that fails."""
        handler = self.handlers.of(kind["action"])
        everything = {**kind, "tenant_id": None, "rule_id": None}
        if handler is None:
            reason = f"no desk carries out {kind['action']}"
            execute(connection, PACKAGE, "fail_actions", {**everything, "error": reason})
            return
        if self._try(connection, handler, everything) is None:
            return
        for rule in execute(connection, PACKAGE, "acting_rules", kind).all():
            own = {**kind, "tenant_id": rule.tenant_id, "rule_id": rule.rule_id}
            error = self._try(connection, handler, own)
            if error is not None:
                execute(connection, PACKAGE, "fail_actions", {**own, "error": error})

    def _try(self, connection: Connection, handler: StatementFile, which: Mapping[str, Any]) -> str | None:
        """Hand ``which`` actions to their statement; return why nothing of it was done, or None."""
        connection.exec_driver_sql("TRUNCATE actions_handed, actions_handled")
        execute(connection, PACKAGE, "hand_actions", which)
        connection.exec_driver_sql("ANALYZE actions_handed")
        given = {"now": self.now, "run_id": self.run_id, "channels": list(self.delivery.channels)}
        wanted = statement(*handler).compile().params
        try:
            with connection.begin_nested():
                _set_depth(connection, str(which["depth"] + 1))
                execute(connection, *handler, {name: given[name] for name in wanted})
                _set_depth(connection, "")
        except DBAPIError as error:
            # A busy database is no fault of the rule: the whole step is tried again.
            if is_transient(error):
                raise
            # A value that the server quotes may be personal.
            said = describe_database_error(error, place="Carrying it out")
            return re.sub(r': ".*(?= \(SQLSTATE)', "", said)
        connection.exec_driver_sql("ANALYZE actions_handled")
        execute(connection, PACKAGE, "take_answers")
        return None


def _set_depth(connection: Connection, depth: str) -> None:
    """Tell the trigger on events how deep what is recorded now is."""
    connection.execute(sa.text("SELECT set_config('automation_rules.depth', :depth, true)"), {"depth": depth})
