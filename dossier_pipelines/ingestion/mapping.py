"""Mapping files: an existing application's names, values and keys, translated into ours.

A file is TOML or YAML with one table per entity::

    [commitments]
    source = "crm.promises"                          # table, file name or REST path
    [commitments.columns]
    id = ["country_code", "promise_no"]              # a key made of several columns
    dossier_id = "country_code"
    due_date = "deadline"
    [commitments.constants]
    priority = "medium"
    [commitments.values.status]
    "Open" = "pending"
    "Done" = "completed"

What is not mentioned keeps our own name. ``examples/mapping/`` holds a worked example.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.shared.failures import MappingError

Name = Annotated[str, Field(min_length=1, max_length=200)]


class EntityMapping(BaseModel):
    """How one entity is found in the source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Name | None = None
    columns: dict[str, tuple[Name, ...]] = Field(default_factory=dict)
    constants: dict[str, str] = Field(default_factory=dict)
    values: dict[str, dict[str, str]] = Field(default_factory=dict)

    @field_validator("columns", mode="before")
    @classmethod
    def _accept_a_single_name(cls, value: object) -> object:
        if isinstance(value, dict):
            return {ours: (theirs,) if isinstance(theirs, str) else theirs for ours, theirs in value.items()}
        return value

    @field_validator("constants", mode="before")
    @classmethod
    def _accept_numbers_as_text(cls, value: object) -> object:
        if isinstance(value, dict):
            return {
                ours: str(constant) if isinstance(constant, int | float) else constant
                for ours, constant in value.items()
            }
        return value

    def source_columns(self, column: str) -> tuple[str, ...]:
        """Return the source's columns that make up our ``column``; empty for a constant."""
        if column in self.constants:
            return ()
        return self.columns.get(column, (column,))


class SourceMapping(BaseModel):
    """A whole mapping file: entity name to its mapping."""

    model_config = ConfigDict(frozen=True)

    entities: dict[str, EntityMapping] = Field(default_factory=dict)

    def of(self, entity: Entity) -> EntityMapping:
        """Return the mapping of ``entity``; our own names where the file says nothing."""
        return self.entities.get(entity.name, EntityMapping())


def read_mapping(path: Path | None, entities: MappingType[str, Entity]) -> SourceMapping:
    """Read and check a mapping file; raise MappingError naming the file, the place and the legal names."""
    if path is None:
        return SourceMapping()
    raw = _parse(path)
    # In YAML a name may be a number or a date.
    unknown = sorted(set(raw) - set(entities), key=str)
    if unknown:
        raise MappingError(f"{path}: there is no entity {unknown[0]!r}. The entities are {', '.join(entities)}.")
    mappings: dict[str, EntityMapping] = {}
    for name, content in raw.items():
        try:
            mapping = EntityMapping.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join([name, *(str(part) for part in first["loc"])])
            raise MappingError(f"{path}: {place}: {first['msg']}.") from error
        _check_columns(path, entities[name], mapping)
        mappings[name] = mapping
    return SourceMapping(entities=mappings)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"The mapping file {path} cannot be read: {error}.") from error
    content: object
    match path.suffix.lower():
        case ".toml":
            try:
                content = tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                raise MappingError(f"The mapping file {path} is no valid TOML: {error}.") from error
        case ".yaml" | ".yml":
            import yaml

            try:
                content = yaml.safe_load(text)
            # ValueError: something like 2020-02-31, which looks like a date and is none.
            except (yaml.YAMLError, ValueError) as error:
                said = " ".join(str(error).split())
                raise MappingError(f"The mapping file {path} is no valid YAML: {said}.") from error
        case _:
            raise MappingError(f"The mapping file {path} must end in .toml, .yaml or .yml.")
    if not isinstance(content, dict):
        raise MappingError(f"The mapping file {path} holds no tables; see examples/mapping for one that works.")
    return content


def _check_columns(path: Path, entity: Entity, mapping: EntityMapping) -> None:
    for section, mapped in (
        ("columns", mapping.columns),
        ("constants", mapping.constants),
        ("values", mapping.values),
    ):
        for name in mapped:
            names = dict.fromkeys((*((entity.tenant,) if entity.tenant else ()), *entity.names))
            if name not in (*names, "deleted"):
                raise MappingError(
                    f"{path}: {entity.name}.{section}.{name}: {entity.name} has no column {name!r}. "
                    f"Its columns are {', '.join(names)}, and deleted for removals."
                )
    both = sorted(set(mapping.columns) & set(mapping.constants))
    if both:
        raise MappingError(f"{path}: {entity.name}.{both[0]} is named as a column and as a constant; keep one.")
    for name, theirs in mapping.columns.items():
        if not theirs:
            raise MappingError(f"{path}: {entity.name}.columns.{name} names no column.")
