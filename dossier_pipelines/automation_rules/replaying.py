"""Replay: what rules gave up gets its attempts back, when what failed is mended."""

from __future__ import annotations

from dossier_pipelines.automation_rules.actions import PACKAGE
from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.identifiers import parse_uuid


def parse_rule_id(text: str, *, argument: str) -> str:
    """Return the id of a rule in its usual form; raise UserError naming ``argument``."""
    return parse_uuid(text, argument=argument, column="rule_id of automation_rules.executions")


def replay_dead(database: Database, *, tenant_id: str | None = None, rule_id: str | None = None) -> int:
    """Make the dead executions that fit every named thing due anew; return how many.

    The actions of each that succeeded are not done again. What a rule gave up that is gone or disabled by now stays as
    it is.
    """
    chosen = {"tenant_id": tenant_id, "rule_id": rule_id}
    return database.in_transaction(lambda connection: execute(connection, PACKAGE, "replay_dead", chosen).rowcount)
