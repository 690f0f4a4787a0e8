"""Bring a database to the newest version, print what that would do, back it up, restore it, empty it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dossier_pipelines.migrations.declared import SCHEMAS
from dossier_pipelines.shared.database import Database, libpq_environment
from dossier_pipelines.shared.embedded_postgres import binary
from dossier_pipelines.shared.failures import UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

VERSION_TABLE_SCHEMA: Final = "platform"
# Two commands that start together migrate one after the other.
MIGRATION_LOCK: Final = 4_705_220_611
# pg_restore writes this for every server, and PostgreSQL 16 refuses it.
NOT_BEFORE_17: Final = b"SET transaction_timeout = 0;\n"


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
    """Return the version that the database has, or None when it is empty.

    Raises UserError for a version that this release does not know.
    """
    with database.engine.connect() as connection:
        return _known_version(connection)


def _known_version(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_TABLE_SCHEMA})
    current = context.get_current_revision()
    if current is not None and current not in versions():
        raise UserError(
            f"The database is at version {current}, and this release knows none newer than {newest_version()}. "
            "Install the newer release, or restore the backup that was taken before the migration."
        )
    return current


def migrate(database: Database, *, version: str = "head") -> None:
    """Migrate to ``version``, in one transaction: all of it or nothing."""
    with database.engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(sa.schema.CreateSchema(VERSION_TABLE_SCHEMA, if_not_exists=True))
        _known_version(connection)
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
    return f"BEGIN;\n\n{prologue}{output.getvalue().strip()}\n\nCOMMIT;"


def _command(program: str, *arguments: str) -> list[str]:
    return [str(binary(program)), *arguments]


def _failure(doing: str, program: str, said: str) -> UserError:
    return UserError(f"{doing} failed: {program} said: {' '.join(said.strip().splitlines()[:3])}")


def backup(database: Database, file: Path) -> None:
    """Write the project's schemas into ``file`` (pg_dump's custom format); a failed backup leaves no file."""
    if not file.parent.is_dir():
        raise UserError(f"The backup cannot be written: the folder {file.parent} does not exist.")
    if file.exists() and not file.is_file():
        raise UserError(f"The backup cannot be written: {file} is no file.")
    unfinished = file.with_name(f".{file.name}.unfinished")
    schemas = [f"--schema={schema}" for schema in SCHEMAS]
    try:
        done = subprocess.run(
            _command("pg_dump", "--format=custom", "--no-owner", *schemas, f"--file={unfinished}"),
            env={**os.environ, **libpq_environment(database.engine.url)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise _failure(f"The backup to {file}", "pg_dump", done.stderr)
        unfinished.replace(file)
    except OSError as error:
        raise UserError(f"The backup to {file} failed: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(database: Database, file: Path) -> None:
    """Replace the project's schemas by those of ``file``, in one transaction: all of it or nothing.

    The schemas are dropped first, not the objects that the backup knows: it may be older than the database.
    """
    doing = f"Restoring {file}"
    if not file.is_file():
        raise UserError(f"There is no backup {file}.")
    content = subprocess.run(_command("pg_restore", "--list", str(file)), capture_output=True, text=True, check=False)
    if content.returncode != 0:
        reason = content.stderr.strip().removeprefix("pg_restore: ").removeprefix("error: ")
        raise UserError(
            f"{file} is no backup that pg_restore can read ({reason}). Name one that `dossier-pipelines db backup` "
            "made; nothing was changed."
        )
    if f" TABLE {VERSION_TABLE_SCHEMA} alembic_version " not in content.stdout:
        raise UserError(f"{file} is no backup of this project; nothing was changed.")
    _require_no_views_of_others(database)
    begin = [
        "SET client_min_messages = warning;",
        "BEGIN;",
        *(f"DROP SCHEMA IF EXISTS {schema} CASCADE;" for schema in SCHEMAS),
    ]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        tempfile.TemporaryFile("w+", encoding="utf-8") as answered,
        subprocess.Popen(
            _command("pg_restore", "--no-owner", "--exit-on-error", "--file=-", str(file)),
            stdout=subprocess.PIPE,
            stderr=said,
        ) as reader,
        subprocess.Popen(
            _command("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"),
            env={**os.environ, **libpq_environment(database.engine.url)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=answered,
        ) as writer,
    ):
        assert reader.stdout is not None  # noqa: S101
        assert writer.stdin is not None  # noqa: S101
        # psql ends by itself at the first error. Without the last line nothing is committed.
        with contextlib.suppress(BrokenPipeError), writer.stdin:
            writer.stdin.write("\n".join([*begin, ""]).encode())
            for line in reader.stdout:
                if line == NOT_BEFORE_17:
                    break
                writer.stdin.write(line)
            shutil.copyfileobj(reader.stdout, writer.stdin)
            if reader.wait() == 0:
                writer.stdin.write(b"COMMIT;\n")
        reader.stdout.close()
        # A reader that psql left alone was ended by a signal.
        if reader.wait() > 0:
            said.seek(0)
            raise _failure(doing, "pg_restore", said.read())
        if writer.wait() != 0:
            answered.seek(0)
            raise _failure(doing, "psql", answered.read())


def _require_no_views_of_others(database: Database) -> None:
    views = database.run("dossier_pipelines.migrations", "views_of_others", {"schemas": list(SCHEMAS)})
    if views:
        raise UserError(
            f"Views of yours are built on the project's tables and would be lost: {', '.join(v.name for v in views)}. "
            "Keep their definitions, drop them, and try again. Nothing was changed."
        )


def reset(database: Database) -> None:
    """Drop everything that the project keeps and build it empty at the newest version."""
    _require_no_views_of_others(database)
    with database.engine.begin() as connection:
        for schema in SCHEMAS:
            connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))
    migrate(database)
