"""Bring a database to the newest version, print what that would do, back it up, restore it, empty it."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dossier_pipelines.migrations.declared import SCHEMAS
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.embedded_postgres import binary
from dossier_pipelines.shared.failures import UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

VERSION_TABLE_SCHEMA: Final = "platform"
# Two commands that start together migrate one after the other.
MIGRATION_LOCK: Final = 4_705_220_611


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output is not None else Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def newest_version() -> str:
    """Return the version that this release needs."""
    return versions()[-1]


def versions() -> list[str]:
    """Return every version, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def current_version(database: Database) -> str | None:
    """Return the version that the database has, or None when it is empty."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_TABLE_SCHEMA})
        return context.get_current_revision()


def migrate(database: Database, *, version: str = "head") -> None:
    """Migrate to ``version``, in one transaction: all of it or nothing."""
    with database.engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(sa.schema.CreateSchema(VERSION_TABLE_SCHEMA, if_not_exists=True))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def migration_sql(database: Database) -> str:
    """Return the SQL that `migrate` would run now; nothing is touched. Empty when there is nothing to do."""
    current = current_version(database)
    if current == newest_version():
        return ""
    output = io.StringIO()
    command.upgrade(_config(output), f"{current or 'base'}:head", sql=True)
    prologue = "" if current else f"CREATE SCHEMA IF NOT EXISTS {VERSION_TABLE_SCHEMA};\n\n"
    return prologue + output.getvalue()


def _libpq_environment(url: URL) -> dict[str, str]:
    """Return the environment that points PostgreSQL's own programs at ``url``; the password is in no command line."""
    environment = dict(os.environ)
    query = {name: value for name, value in url.query.items() if isinstance(value, str)}
    values = {
        "PGHOST": url.host or query.get("host"),
        "PGPORT": str(url.port) if url.port else query.get("port"),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": query.get("sslmode"),
    }
    environment.update({name: value for name, value in values.items() if value})
    return environment


def _run(program: str, arguments: list[str], url: URL, *, doing: str) -> None:
    done = subprocess.run(
        [str(binary(program)), *arguments],
        env=_libpq_environment(url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.strip().splitlines()[:3])
        raise UserError(f"{doing} failed: {program} said: {said}")


def backup(database: Database, file: Path) -> None:
    """Write the project's schemas into ``file`` (pg_dump's custom format); a failed backup leaves no file."""
    if not file.parent.is_dir():
        raise UserError(f"The backup cannot be written: the folder {file.parent} does not exist.")
    unfinished = file.with_name(f".{file.name}.unfinished")
    schemas = [f"--schema={schema}" for schema in SCHEMAS]
    try:
        _run(
            "pg_dump",
            [
                "--format=custom",
                "--no-owner",
                "--exclude-table=ingestion.*_" + "[0-9a-f]" * 16,
                *schemas,
                f"--file={unfinished}",
            ],
            database.engine.url,
            doing=f"The backup to {file}",
        )
        unfinished.replace(file)
    except OSError as error:
        raise UserError(f"The backup to {file} failed: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(database: Database, file: Path) -> None:
    """Replace the project's schemas by those of ``file``, in one transaction: all of it or nothing."""
    if not file.is_file():
        raise UserError(f"There is no backup {file}.")
    _run(
        "pg_restore",
        [
            "--clean",
            "--if-exists",
            "--no-owner",
            "--single-transaction",
            "--exit-on-error",
            "--dbname=" + (database.engine.url.database or ""),
            str(file),
        ],
        database.engine.url,
        doing=f"Restoring {file}",
    )


def reset(database: Database) -> None:
    """Drop everything that the project keeps and build it empty at the newest version."""
    with database.engine.begin() as connection:
        for schema in SCHEMAS:
            connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))
    migrate(database)
