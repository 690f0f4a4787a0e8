"""Mapping files: what is legal, and that everything else is refused with the file and the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dossier_pipelines.dossiers.entities import COMMITMENTS, DOSSIERS, ENTITIES
from dossier_pipelines.ingestion.mapping import EntityMapping, SourceMapping, read_mapping
from dossier_pipelines.shared.failures import MappingError

TOML = """\
[commitments]
source = "crm.promises"
[commitments.columns]
id = ["country", "number"]
dossier_id = "country"
[commitments.constants]
priority = "medium"
external_contact = 7
[commitments.values.status]
"Open" = "pending"
"""
YAML = """\
commitments:
  source: crm.promises
  columns: {id: [country, number], dossier_id: country}
  constants: {priority: medium, external_contact: 7}
  values: {status: {Open: pending}}
"""


def read(folder: Path, content: str | bytes, name: str = "map.toml") -> SourceMapping:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_mapping(path, ENTITIES)


@pytest.mark.parametrize(
    ("name", "content"),
    [("map.toml", TOML), ("map.yaml", YAML), ("MAP.YML", YAML), ("bom.toml", "\ufeff" + TOML), ("dos.toml", TOML)],
)
def test_toml_and_yaml_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    content = content.replace("\n", "\r\n") if name == "dos.toml" else content
    assert read(tmp_path, content, name).of(COMMITMENTS) == EntityMapping(
        source="crm.promises",
        columns={"id": ("country", "number"), "dossier_id": ("country",)},
        constants={"priority": "medium", "external_contact": "7"},
        values={"status": {"Open": "pending"}},
    )


def test_what_is_not_mentioned_keeps_our_names(tmp_path: Path) -> None:
    mapping = read(tmp_path, TOML)
    assert mapping.of(DOSSIERS) == EntityMapping()
    assert mapping.of(COMMITMENTS).source_columns("due_date") == ("due_date",)
    assert mapping.of(COMMITMENTS).source_columns("id") == ("country", "number")
    assert mapping.of(COMMITMENTS).source_columns("priority") == ()
    assert read_mapping(None, ENTITIES) == SourceMapping()


def test_removals_can_be_mapped_though_no_entity_declares_them(tmp_path: Path) -> None:
    mapping = read(tmp_path, '[users.columns]\ndeleted = "left_at"\n[users.values.deleted]\n"1900-01-01" = "no"\n')
    assert mapping.entities["users"].source_columns("deleted") == ("left_at",)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("[promises]\n", "there is no entity 'promises'. The entities are users, dossiers, engagements"),
        ("[commitments]\nsourc = 'x'\n", "commitments.sourc: Extra inputs are not permitted"),
        ("[commitments]\nsource = ''\n", "commitments.source: String should have at least 1 character"),
        ("[commitments]\nsource = 7\n", "commitments.source: Input should be a valid string"),
        ("commitments = 'promises'\n", "commitments: Input should be a valid dictionary"),
        ("[commitments.columns]\ndue = 'x'\n", "commitments.columns.due: commitments has no column 'due'"),
        ("[commitments.columns]\nid = []\n", "commitments.columns.id names no column"),
        ("[commitments.columns]\nid = ['a', '']\n", "commitments.columns.id.1: String should have at least 1"),
        ("[commitments.columns]\nid = 7\n", "commitments.columns.id: Input should be a valid tuple"),
        ("[users.constants]\nrole = []\n", "users.constants.role: Input should be a valid string"),
        ("[users.constants]\nrank = 'x'\n", "users.constants.rank: users has no column 'rank'"),
        ("[users.values.rank]\na = 'b'\n", "users.values.rank: users has no column 'rank'"),
        ("[users.values]\nrole = 'b'\n", "users.values.role: Input should be a valid dictionary"),
        (
            "[users.columns]\nrole = 'x'\n[users.constants]\nrole = 'y'\n",
            "users.role is named as a column and as a constant; keep one",
        ),
        ("[users\n", "is no valid TOML: Expected ']' at the end of a table declaration (at line 1"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_place(tmp_path: Path, content: str, place: str) -> None:
    with pytest.raises(MappingError) as refused:
        read(tmp_path, content)
    assert str(tmp_path / "map.toml") in str(refused.value)
    assert place in str(refused.value)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("users: [\n", "is no valid YAML: while parsing"),
        ("users: {constants: {role: 2020-02-31}}\n", "is no valid YAML: day is out of range for month"),
        ("users: {values: {role: {1: boss}}}\n", "users.values.role.1.[key]: Input should be a valid string"),
        ("users:\n", "users: Input should be a valid dictionary"),
        ("1: {}\nnobody: {}\n", "there is no entity 1."),
        ("- users\n", "holds no tables"),
        ("", "holds no tables"),
    ],
)
def test_wrong_yaml_is_refused_in_one_line(tmp_path: Path, content: str, place: str) -> None:
    with pytest.raises(MappingError) as refused:
        read(tmp_path, content, "map.yaml")
    assert str(tmp_path / "map.yaml") in str(refused.value)
    assert place in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.json", "{}", "must end in .toml, .yaml or .yml"),
        ("map.toml", b"[users]\nsource = '\xe9'\n", "cannot be read"),
        ("map.toml", b"\xff\xfe[\0", "cannot be read"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(MappingError, match=message) as refused:
        read(tmp_path, content, name)
    assert name in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"nowhere\.toml cannot be read"):
        read_mapping(tmp_path / "nowhere.toml", ENTITIES)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(MappingError, match=r"folder\.toml cannot be read"):
        read_mapping(tmp_path / "folder.toml", ENTITIES)
