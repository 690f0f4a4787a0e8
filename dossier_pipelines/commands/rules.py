"""`dossier-pipelines rules ...`: replay."""

from __future__ import annotations

import sys

from dossier_pipelines.automation_rules.replaying import parse_rule_id, replay_dead
from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.shared.deployment import running
from dossier_pipelines.shared.environment import Settings


def replay_executions(settings: Settings, *, tenant_id: str | None, rule_id: str | None) -> None:
    """Make the dead executions that fit every named thing due anew for the next run, and say why others stay."""
    identity = parse_rule_id(rule_id, argument="--id") if rule_id else None
    with running(settings) as deployment:
        bring_up_to_date(deployment)
        replayed = replay_dead(deployment.database, tenant_id=tenant_id, rule_id=identity)
    print(f"Executions that are due anew: {replayed.due}.", file=sys.stderr)
    for reason, executions in replayed.left.items():
        print(f"Still given up: {executions}, {reason}.", file=sys.stderr)
