"""Which statement carries out which kind of action, and how a desk plugs in its own.

A desk that can create a task or set a field gives a statement file of its own: one set-based statement that reads the
working table ``actions_handed`` and answers into ``actions_handled``, in the transaction of the run:

    WITH made AS (
        INSERT INTO litigation.created_tasks (...) SELECT ... FROM actions_handed AS h ... ON CONFLICT DO NOTHING
    )
    INSERT INTO actions_handled (tenant_id, rule_id, event_id, n, error)
    SELECT h.tenant_id, h.rule_id, h.event_id, h.n, CASE WHEN ... THEN 'the case is not loaded' END
    FROM actions_handed AS h

``actions_handed`` has a row per action: tenant_id, rule_id, event_id, n (which action of the rule), identity (which
it is wherever it stands); action; arguments (jsonb, the action with its texts filled); user_id (who is named by
user_id or assigned_to) and role; rule_name; trigger_event, entity_type, entity_id, occurred_at, payload and depth of
the event; key (the dedupe key of the action: what is made under it is made once, also when an attempt is repeated).
Its key is (tenant_id, rule_id, event_id, n).
Every row must be answered, with null or with the reason of its failure in words, without personal data.

The statement may bind :now, :run_id and :channels (text[], the channels of notifications). What raises an error is
tried rule by rule, so that one rule's trouble stays its own. Events that the statement records count as one deeper than
the event answered; where something is made that can cause events later, keep ``depth + 1`` with it, and put it into
their payload as ``automation_depth``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PACKAGE: Final = "dossier_pipelines.automation_rules"
KINDS: Final = ("notify", "webhook", "create_task", "set_field")


class StatementFile(NamedTuple):
    """The statement ``name``.sql in the folder sql of ``package``."""

    package: str
    name: str


OWN: Final[Mapping[str, StatementFile]] = {
    "notify": StatementFile(PACKAGE, "notify"),
    "webhook": StatementFile(PACKAGE, "webhook"),
}


@dataclass(frozen=True)
class ActionHandlers:
    """What carries out each kind of action: the room's own, and what a desk gives.

    Raises ValueError for a kind that no rule can have.
    """

    given: Mapping[str, StatementFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no rule would ever ask for."""
        unknown = sorted(set(self.given) - set(KINDS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no rule has such an action; there are {', '.join(KINDS)}")

    def of(self, action: str) -> StatementFile | None:
        """Return what carries out ``action``; None when no desk does."""
        return self.given.get(action) or OWN.get(action)


NO_DESK: Final = ActionHandlers()
