"""Replay: what rules gave up gets its attempts back, when what failed is mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dossier_pipelines.automation_rules.actions import PACKAGE
from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.identifiers import parse_uuid
from dossier_pipelines.shared.tenants import require_tenant

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What became of dead executions: how many are due anew, and how many stay dead for which reason."""

    due: int
    left: Mapping[str, int]


def parse_rule_id(text: str, *, argument: str) -> str:
    """Return the id of a rule in its usual form; raise UserError naming ``argument``."""
    return parse_uuid(text, argument=argument, column="rule_id of automation_rules.executions")


def replay_dead(database: Database, *, tenant_id: str | None = None, rule_id: str | None = None) -> Replay:
    """Make the dead executions that fit every named thing due anew, where the rule as it is now answers the event.

    The actions of each that succeeded are not done again. What stays dead says why in its last_error. Raises UserError
    for a tenant that is none.
    """

    def replay(connection: Connection) -> Replay:
        if tenant_id is not None:
            require_tenant(connection, tenant_id)
        chosen = {"tenant_id": tenant_id, "rule_id": rule_id}
        found = {row.reason: row.executions for row in execute(connection, PACKAGE, "replay_dead", chosen)}
        return Replay(due=found.pop(None, 0), left=found)

    return database.in_transaction(replay)
