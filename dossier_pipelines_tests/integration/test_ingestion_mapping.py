"""Mapping files at work: an application whose names, values and keys are unlike ours, in every kind of source."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import SourceError
from dossier_pipelines_tests.records import (
    DOSSIERS_CSV,
    MINIMAL,
    SOURCE_KINDS,
    Tables,
    contents,
    keys,
    load,
    published,
    reasons,
    rows,
    write_files,
)

NAMESPACE = uuid.UUID("7f1d2c7e-3c1b-5d0c-9a5e-6a1f0b9d4e21")

PARTNERS: Tables = {
    "staff": [{"login": "ann", "first": "Ann", "last": "Lee", "tz": "Europe/Oslo"}],
    "partner": [
        {"area": "a|b", "code": "c", "title": "Sweden", "keeper": "ann", "note": "old friend"},
        {"area": "a", "code": "b|c", "title": "Norway", "keeper": "", "note": ""},
        {"area": "a\\", "code": "b", "title": "Iceland", "keeper": "ann", "note": ""},
    ],
    "contact": [
        {"nr": "1", "area": "a|b", "code": "c", "what": "visit", "day": "2025-01-10", "void": "f"},
        {"nr": "2", "area": "a", "code": "b|c", "what": "call", "day": "2025-01-11", "void": ""},
        {"nr": "3", "area": "a", "code": "b|c", "what": "call", "day": "2025-01-12", "void": "t"},
        {"nr": "4", "area": "a|b|c", "code": "", "what": "call", "day": "2025-01-13", "void": ""},
    ],
    "promise": [
        {"area": "a|b", "code": "c", "no": "1", "state": "Open", "deadline": "2025-03-01", "rank": "n/a"},
        {"area": "a", "code": "b|c", "no": "1", "state": "Done", "deadline": "2025-03-02", "rank": "high"},
        {"area": "a", "code": "b|c", "no": "2", "state": "in_progress", "deadline": "", "rank": ""},
        {"area": "a", "code": "b|c", "no": "3", "state": "Lost", "deadline": "2025-03-03", "rank": ""},
    ],
}
MAPPING = r"""
[users]
source = "staff"
[users.columns]
id = "login"
name = ["first", "last"]
timezone = "tz"

[dossiers]
source = "partner"
[dossiers.columns]
id = ["area", "code"]
name = "title"
owner_id = "keeper"
[dossiers.constants]
type = "country"

[engagements]
source = "contact"
[engagements.columns]
id = "nr"
dossier_id = ["area", "code"]
type = "what"
occurred_at = "day"
deleted = "void"
[engagements.values.type]
call = "phone call"

[commitments]
source = "promise"
[commitments.columns]
id = ["area", "code", "no"]
dossier_id = ["area", "code"]
status = "state"
due_date = "deadline"
priority = "rank"
[commitments.constants]
description = "Promise"
[commitments.values.status]
Open = "pending"
Done = "completed"
[commitments.values.priority]
"n/a" = ""
"""


@pytest.fixture
def mapping(tmp_path: Path) -> str:
    path = tmp_path / "map.toml"
    path.write_text(MAPPING, encoding="utf-8")
    return str(path)


def stable(entity: str, key: str) -> uuid.UUID:
    return uuid.uuid3(NAMESPACE, f"{entity}:{key}")


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_names_values_constants_and_keys_are_translated_in_every_source(
    database: Database, folder: Path, server_url: str, mapping: str, kind: str
) -> None:
    with published(kind, PARTNERS, folder=folder, server_url=server_url) as source:
        result = load(database, source, DOSSIER_MAPPING=mapping)
        before = contents(database)
        again = load(database, source, DOSSIER_MAPPING=mapping)
    assert result["documents"] is None
    assert rows(database, "SELECT id, source_key, name, timezone, extra FROM raw.users") == [
        (stable("users", "ann"), "ann", "Ann Lee", "Europe/Oslo", None)
    ]
    ann = stable("users", "ann")
    assert rows(
        database, "SELECT name, id, source_key, type, owner_id, extra ->> 'note' FROM raw.dossiers ORDER BY 1"
    ) == [
        ("Iceland", stable("dossiers", r"a\\|b"), r"a\\|b", "country", ann, None),
        ("Norway", stable("dossiers", r"a|b\|c"), r"a|b\|c", "country", None, None),
        ("Sweden", stable("dossiers", r"a\|b|c"), r"a\|b|c", "country", ann, "old friend"),
    ]
    assert rows(
        database,
        "SELECT e.source_key, d.name, e.type, e.occurred_at::date::text "
        "FROM raw.engagements AS e JOIN raw.dossiers AS d ON d.id = e.dossier_id ORDER BY 1",
    ) == [("1", "Sweden", "visit", "2025-01-09"), ("2", "Norway", "phone call", "2025-01-10")]
    assert rows(
        database,
        "SELECT c.source_key, d.name, c.description, c.status, c.due_date::text, c.priority "
        "FROM raw.commitments AS c JOIN raw.dossiers AS d ON d.id = c.dossier_id ORDER BY 1",
    ) == [
        (r"a\|b|c|1", "Sweden", "Promise", "pending", "2025-03-01", None),
        (r"a|b\|c|1", "Norway", "Promise", "completed", "2025-03-02", "high"),
        (r"a|b\|c|2", "Norway", "Promise", "in_progress", None, None),
    ]
    assert list(reasons(database, "engagements").values()) == ["dossier_id is missing"]
    assert [reason.partition(" is not")[0] for reason in reasons(database, "commitments").values()] == ["status 'Lost'"]
    assert contents(database) == before
    unchanged = {name: (done.unchanged, done.updated) for name, done in again.items() if done is not None}
    assert unchanged == {"users": (1, 0), "dossiers": (3, 0), "engagements": (2, 0), "commitments": (3, 0)}


def test_the_same_row_has_the_same_id_in_every_source(
    database: Database, tmp_path: Path, server_url: str, mapping: str
) -> None:
    loaded = []
    for kind in SOURCE_KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        with published(kind, PARTNERS, folder=folder, server_url=server_url) as source:
            load(database, source, DOSSIER_MAPPING=mapping, DOSSIER_TENANT=kind)
        loaded.append(
            rows(database, "SELECT id, dossier_id FROM raw.commitments WHERE tenant_id = :t ORDER BY 1", t=kind)
        )
    assert all(found == loaded[0] for found in loaded)
    assert len(loaded[0]) == 3


def test_a_nested_field_of_a_document_is_named_with_dots(database: Database, folder: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("dossiers: {columns: {name: names.en, region: place.in.map, owner_id: 'a.b'}}\n")
    dossiers = (
        '{"id": "d1", "names": {"en": "Sweden"}, "place": {"in": {"map": "North"}}, "a.b": "u1"}\n'
        '{"id": "d2", "names": {"en": 7}, "place": null}\n'
    )
    others = {name: text for name, text in MINIMAL.items() if name != "dossiers.csv"}
    load(database, write_files(folder, others | {"dossiers.jsonl": dossiers}), DOSSIER_MAPPING=str(mapping))
    assert rows(database, "SELECT name, region, owner_id FROM raw.dossiers ORDER BY source_key") == [
        ("Sweden", "North", stable("users", "u1")),
        ("7", None, None),
    ]


def test_another_mapping_updates_what_it_changes(database: Database, folder: Path, tmp_path: Path) -> None:
    write_files(folder, MINIMAL | {"dossiers.csv": DOSSIERS_CSV + "d1,Sweden,country,,,,,\n"})
    load(database, folder)
    mapping = tmp_path / "map.toml"
    mapping.write_text('[dossiers.values.type]\ncountry = "state"\n')
    result = load(database, folder, DOSSIER_MAPPING=str(mapping))
    assert [(result[name].updated, result[name].unchanged) for name in ("dossiers", "engagements")] == [(1, 0), (0, 1)]
    assert rows(database, "SELECT type FROM raw.dossiers") == [("state",)]
    assert keys(database, "engagements") == ["e1"]


def test_an_empty_constant_stands_for_a_column_that_the_source_lacks(
    database: Database, folder: Path, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text('[commitments.constants]\ndue_date = ""\n')
    write_files(folder, MINIMAL | {"commitments.csv": "id,dossier_id,status\nc1,d1,pending\n"})
    load(database, folder, DOSSIER_MAPPING=str(mapping))
    assert rows(database, "SELECT source_key, due_date FROM raw.commitments") == [("c1", None)]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("csv", "staff.csv: the column 'surname' (for name) is missing; there are login, first, last, tz."),
        ("sqlite", "staff: the column 'surname' (for name) is missing; there are login, first, last, tz."),
        ("postgresql", "staff: the column 'surname' (for name) is missing; there are login, first, last, tz."),
    ],
)
def test_a_mapped_column_that_is_not_there_is_named_with_what_is(
    database: Database, folder: Path, server_url: str, mapping: str, kind: str, message: str
) -> None:
    Path(mapping).write_text(MAPPING.replace('"last"', '"surname"'), encoding="utf-8")
    with (
        published(kind, PARTNERS, folder=folder, server_url=server_url) as source,
        pytest.raises(SourceError) as refused,
    ):
        load(database, source, DOSSIER_MAPPING=mapping)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("csv", "there is no personnel.csv (or .jsonl, also with .gz) for users; it holds contact.csv, partner.csv"),
        ("sqlite", "there is no table or view 'personnel' for users; there are contact, partner, promise, staff."),
        ("postgresql", "there is no table or view 'personnel' for users; there are contact, partner, promise, staff."),
        ("rest", "there is no personnel for users (404). Name the right path in a mapping file."),
    ],
)
def test_a_mapped_source_that_is_not_there_is_refused_though_the_entity_is_optional(
    database: Database, folder: Path, server_url: str, mapping: str, kind: str, message: str
) -> None:
    Path(mapping).write_text(MAPPING.replace('"staff"', '"personnel"'), encoding="utf-8")
    with (
        published(kind, PARTNERS, folder=folder, server_url=server_url) as source,
        pytest.raises(SourceError) as refused,
    ):
        load(database, source, DOSSIER_MAPPING=mapping)
    assert message in str(refused.value)
    assert keys(database, "dossiers") == []
