"""Statement files: each is one statement with a header, is used, and binds its values by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

import dossier_pipelines
from dossier_pipelines.shared.database import statement

PACKAGE = Path(dossier_pipelines.__file__).parent
STATEMENTS = sorted(PACKAGE.glob("**/sql/*.sql"))
SCHEMAS = sorted(PACKAGE.glob("**/schema/*.sql"))
STRING = re.compile(r"'(?:[^']|'')*'")


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def header(file: Path) -> str:
    """The comment that a file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return " ".join(line.removeprefix("--").strip() for line in lines[:end])


def code(file: Path) -> str:
    """What is left without comments and string literals."""
    lines = (re.sub(r"--.*", "", line) for line in file.read_text(encoding="utf-8").splitlines())
    return STRING.sub("''", "\n".join(lines))


def package_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).parts[:-2])


def strings_in_code() -> set[str]:
    """Every string constant of the package's modules."""
    return {
        node.value
        for module in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def patterns_in_code() -> list[re.Pattern[str]]:
    """Every f-string of the package's modules, as the names that it can make."""
    return [
        re.compile("".join(re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+" for p in node.values) + "$")
        for module in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr) and any(isinstance(p, ast.Constant) for p in node.values)
    ]


def test_there_are_statements_to_look_at() -> None:
    assert len(STATEMENTS) > 10
    assert len(SCHEMAS) >= 3


@pytest.mark.parametrize("file", STATEMENTS, ids=name)
def test_a_header_says_what_the_statement_gives_and_its_grain(file: Path) -> None:
    said = header(file)
    assert said, "the file begins with a comment"
    assert "Grain: " in said, "the header names the grain"


@pytest.mark.parametrize("file", SCHEMAS, ids=name)
def test_a_schema_file_begins_with_what_it_is_for(file: Path) -> None:
    assert header(file)


def test_every_statement_is_loaded_by_its_name() -> None:
    strings = strings_in_code()
    made = patterns_in_code()
    unused = [
        name(file)
        for file in STATEMENTS
        if file.stem not in strings and not any(pattern.match(file.stem) for pattern in made)
    ]
    assert unused == []


def test_every_schema_file_is_part_of_the_declared_schema() -> None:
    strings = strings_in_code()
    assert [name(file) for file in SCHEMAS if file.name not in strings] == []


@pytest.mark.parametrize("file", STATEMENTS, ids=name)
def test_a_file_is_one_statement(file: Path) -> None:
    assert ";" not in code(file).rstrip().removesuffix(";")


@pytest.mark.parametrize("file", STATEMENTS, ids=name)
def test_its_binds_are_those_of_its_code(file: Path) -> None:
    binds = set(re.findall(r"(?<![:\w]):([a-z_]+)\b", code(file)))
    compiled = statement(package_of(file), file.stem).compile()
    assert set(compiled.params) == binds


@pytest.mark.parametrize("file", STATEMENTS, ids=name)
def test_no_value_is_pasted_into_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"\{\w*\}|%\(\w+\)s|\$\d", STRING.sub("''", text))


@pytest.mark.parametrize("file", STATEMENTS, ids=name)
def test_the_moment_of_a_calculation_is_an_argument(file: Path) -> None:
    # clock_timestamp() says when something was written; that is no moment to compute for.
    assert not re.search(r"\bnow\(\)|\bcurrent_(date|time|timestamp)\b|\blocaltime", code(file), re.IGNORECASE)


def test_a_statement_is_read_once() -> None:
    assert statement("dossier_pipelines.commands", "run_result") is statement(
        "dossier_pipelines.commands", "run_result"
    )
    assert isinstance(statement("dossier_pipelines.commands", "run_result"), sa.TextClause)


def test_a_statement_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        statement("dossier_pipelines.commands", "no_such_statement")
