"""Placeholders: what an event says is put into a text once, as it is, whatever either of them holds."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dossier_pipelines.shared.database import Database

KEYS = ("task_id", "case_id", "_x9", "A")
# What PostgreSQL can hold: everything but NUL and surrogates. What could be taken for something else comes more often.
CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\x00")
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "{task_id}",
                "{case_id}",
                "{_x9}",
                "{A}",
                "{unknown}",
                "{{task_id}}",
                "{task_id",
                "task_id}",
                "{}",
                "{ A }",
            ),
            *(
                "{",
                "}",
                "{9x}",
                "{task-id}",
                "\\",
                "\\1",
                "&",
                "'",
                "''; --",
                "%s",
                "$1",
                ":task_id",
                "{\n}",
                "é{A}é",
                "😀",
            ),
        ]
    ),
    st.text(CHARACTERS, max_size=5),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), TEXTS)


def filled(template: str, payload: dict[str, Any]) -> str:
    """The same in Python."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in payload:
            return match[0]
        found = payload[match[1]]
        return "" if found is None else found if isinstance(found, str) else json.dumps(found)

    return re.sub(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", value, template)


@given(template=TEXTS, payload=st.dictionaries(st.sampled_from(KEYS), VALUES))
@example(template="{task_id}", payload={"task_id": "{task_id}"})
@example(template="{A}{_x9}", payload={"A": "{_x9}", "_x9": "{A}"})
@example(template="", payload={"A": 1})
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_placeholder_becomes_its_value_and_everything_else_stays(
    database: Database, template: str, payload: dict[str, Any]
) -> None:
    with database.engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT automation_rules.fill(:template, CAST(:payload AS jsonb))"),
            {"template": template, "payload": json.dumps(payload)},
        ).scalar_one()
    assert found == filled(template, payload)


@pytest.mark.parametrize("payload", [["task_id"], "task_id", 7, None])
def test_a_payload_that_is_no_object_fills_nothing(database: Database, payload: object) -> None:
    with database.engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT automation_rules.fill('{task_id}', CAST(:payload AS jsonb))"),
            {"payload": json.dumps(payload)},
        ).scalar_one()
    assert found == "{task_id}"
