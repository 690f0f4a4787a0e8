"""Incremental equals full: whatever happens to the records and however time goes, nothing is missed."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from random import Random
from typing import Final

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import (
    OTHERWISE,
    STATEMENTS,
    VARIED,
    Health,
    History,
    Key,
    Operation,
    differences,
    reference_health,
    stored_health,
)
from dossier_pipelines_tests.records import rows

HISTORIES: Final = int(os.environ.get("DOSSIER_TEST_HISTORIES", "1000"))
SEED: Final = os.environ.get("DOSSIER_TEST_SEED", "1")
# So many live side by side in one database, each a tenant with a clock of its own.
TOGETHER: Final = 250
REFRESHES: Final = 10
MOST_CHANGES_BETWEEN: Final = 4


@pytest.mark.parametrize("first", range(0, HISTORIES, TOGETHER))
def test_after_every_refresh_of_a_random_history_all_values_are_those_of_the_formula(
    database: Database, first: int, record_property: pytest.FixtureRequest
) -> None:
    histories = [History(number, SEED) for number in range(first, min(first + TOGETHER, HISTORIES))]
    random = Random(f"{SEED}/{first}")
    config, other = VARIED, OTHERWISE
    done: Counter[str] = Counter()
    _open(database, histories)
    before: dict[Key, Health] = {}
    for _ in range(REFRESHES):
        for _ in range(MOST_CHANGES_BETWEEN):
            active = [history for history in histories if history.random.random() < 0.6]
            done += _execute(database, [history.next_operation() for history in active])
            if random.random() < 0.02:
                _truncate(database, random, histories)
        _execute(database, [history.pass_time() for history in histories])
        if random.random() < 0.1:
            config, other = other, config
        now = max(history.clock for history in histories)
        result = refresh_health(database, config, now=now)
        done["dossiers refreshed"] += result.refreshed
        stored = stored_health(database)
        _require_none(differences(stored, reference_health(database, config)), histories)
        _require_none(_unexplained(database, before, stored), histories)
        assert refresh_health(database, config, now=now).refreshed == 0
        before = stored
    result = refresh_health(database, config, now=now, full=True)
    drifted = rows(database, "SELECT tenant_id, drifted_dossiers FROM dossiers.health_refreshes WHERE drifted > 0")
    assert (result.drifted, result.changed, drifted) == (0, 0, [])
    assert stored_health(database) == stored
    assert result.refreshed == len(stored)
    record_property("operations", dict(done))


def _open(database: Database, histories: list[History]) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO platform.tenants (tenant_id, timezone, clock_at) VALUES (:tenant_id, :timezone, :clock_at)"
            ),
            [{"tenant_id": one.tenant_id, "timezone": one.zone, "clock_at": one.clock} for one in histories],
        )


def _execute(database: Database, operations: list[Operation]) -> Counter[str]:
    """Run one statement per history; those of one kind go to the server together."""
    by_name = defaultdict(list)
    for operation in operations:
        by_name[operation.name].append(operation.parameters)
    with database.transaction() as connection:
        for name, parameters in by_name.items():
            connection.execute(sa.text(STATEMENTS[name]), parameters)
    return Counter({name: len(parameters) for name, parameters in by_name.items()})


def _truncate(database: Database, random: Random, histories: list[History]) -> None:
    tables = random.choice((("engagements",), ("commitments",), ("dossiers", "engagements", "commitments")))
    with database.transaction() as connection:
        connection.execute(sa.text(f"TRUNCATE raw.{tables[0]}"))
    for history in histories:
        history.forget_all(*tables)


def _unexplained(database: Database, before: dict[Key, Health], after: dict[Key, Health]) -> dict[Key, str]:
    """Return the dossiers whose score or components moved without any factor that says why."""
    silent = {
        Key(row.tenant_id, row.dossier_id)
        for row in rows(database, "SELECT tenant_id, dossier_id FROM dossiers.health_scores WHERE factors = '[]'")
    }
    return {
        key: f"was {before[key]}, is {after[key]}, without a factor"
        for key in before.keys() & silent
        if _shown(before[key]) != _shown(after[key])
    }


def _shown(health: Health) -> tuple[object, ...]:
    return (
        health.engagement_frequency_score,
        health.fulfillment_rate,
        health.recency,
        health.overall_score,
        health.band,
        health.overdue_commitments,
    )


def _require_none(found: dict[Key, object], histories: list[History]) -> None:
    """Fail with the whole history of the first tenant concerned."""
    if found:
        key = min(found)
        log = next(history.log for history in histories if history.tenant_id == key.tenant_id)
        pytest.fail(f"{len(found)} dossiers; first {key}: {found[key]}\n" + "\n".join(log))
