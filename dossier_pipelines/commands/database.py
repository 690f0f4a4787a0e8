"""`dossier-pipelines db ...`: migrate, backup, restore, reset, grant, stop."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from dossier_pipelines.migrations import runner
from dossier_pipelines.shared.analysts import grant_reading, tenants_named
from dossier_pipelines.shared.deployment import Deployment, running
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def migrate(settings: Settings, *, dry_run: bool, take_backup: bool) -> None:
    """Migrate, or print what would be done; a database with a version of its own is backed up first."""
    with running(settings) as deployment:
        if dry_run:
            print(
                runner.migration_sql(deployment.database) or "-- Nothing to do: the database is at the newest version."
            )
            return
        if not bring_up_to_date(deployment, take_backup=take_backup):
            _say(f"The database is at the newest version, {runner.newest_version()}.")


def bring_up_to_date(deployment: Deployment, *, take_backup: bool = True) -> bool:
    """Migrate to the newest version; return whether there was anything to do.

    A database that has a version holds data: it is backed up first, beside the embedded server's files.
    """
    before = runner.current_version(deployment.database)
    if before == runner.newest_version():
        return False
    if before is not None and take_backup:
        folder = deployment.data_directory.resolve() / "backups"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The backup folder {folder} cannot be made: {error.strerror}. Name another data directory with "
                "--data-dir, or take a backup yourself and run `dossier-pipelines db migrate --no-backup`."
            ) from error
        file = folder / f"before-{runner.newest_version()}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
        runner.backup(deployment.database, file)
        _say(f"Backed up to {file}.")
    runner.migrate(deployment.database)
    _say(f"Migrated from {before or 'nothing'} to {runner.newest_version()}.")
    return True


def backup(settings: Settings, file: Path) -> None:
    """Write a backup."""
    with running(settings) as deployment:
        if runner.current_version(deployment.database) is None:
            raise UserError("There is nothing to back up: the database is empty. Run `dossier-pipelines db migrate`.")
        runner.backup(deployment.database, file)
    _say(f"Backed up to {file}.")


def restore(settings: Settings, file: Path) -> None:
    """Restore a backup and bring it to the newest version."""
    with running(settings) as deployment:
        runner.restore(deployment.database, file)
        runner.migrate(deployment.database)
    _say(f"Restored {file}.")


def reset(settings: Settings) -> None:
    """Empty the database."""
    with running(settings) as deployment:
        runner.reset(deployment.database)
    _say("The database is empty, at the newest version.")


def grant(settings: Settings, role: str, tenants: list[str], *, everybody: bool) -> None:
    """Let a database role read the rows of tenants."""
    named = tenants_named(tenants, everybody=everybody)
    with running(settings) as deployment:
        readable = grant_reading(deployment.database, role, named)
    _say(f"{role} reads {readable} tables and views, and in them the rows of {', '.join(named)}.")


def stop(settings: Settings) -> None:
    """Stop the embedded server."""
    embedded = EmbeddedPostgres(settings.data_directory)
    # `env` exports the URL of the embedded server too.
    if settings.database_url not in {None, embedded.url()}:
        raise UserError("DOSSIER_DATABASE_URL names a server of yours; this command stops the embedded one only.")
    _say("The database is stopped." if embedded.stop() else "The database does not run.")
