"""The processes around the project on one machine: its database, Dagster's storage and home, their environment.

`running` is what every command stands on: afterwards the database answers, is new enough, and Dagster's storage
exists; at its end the embedded server is let go.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dossier_pipelines.shared.database import (
    DAGSTER_DATABASE,
    DAGSTER_DRIVER,
    Database,
    create_database,
    create_missing_database,
    database_url,
    libpq_environment,
    require_supported,
)
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A database that runs, and what other programs need to work on it."""

    database: Database
    url: str
    data_directory: Path
    embedded: EmbeddedPostgres | None

    @property
    def dagster_home(self) -> Path:
        """Dagster's files: its configuration and the logs of runs."""
        named = os.environ.get("DAGSTER_HOME")
        return Path(named).expanduser().resolve() if named else self.data_directory.resolve() / "dagster"

    def environment(self) -> dict[str, str]:
        """Return the variables with which Dagster's programs and psql work on this deployment."""
        return {
            "DOSSIER_DATABASE_URL": self.url,
            "DOSSIER_DATA_DIR": str(self.data_directory.resolve()),
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_PG_URL": dagster_url(self.url),
            # A backfill's run has events of every day; written one by one they take longer than the days.
            "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", "500"),
            **libpq_environment(database_url(self.url)),
        }


def dagster_url(url: str) -> str:
    """Return the URL of Dagster's own database: on the same server, unless DAGSTER_PG_URL names another."""
    named = os.environ.get("DAGSTER_PG_URL")
    if named:
        return named
    own = database_url(url, driver=DAGSTER_DRIVER)
    database = DAGSTER_DATABASE if own.database in {None, "dossier"} else f"{own.database}_{DAGSTER_DATABASE}"
    return own.set(database=database).render_as_string(hide_password=False)


@contextmanager
def running(settings: Settings, *, keep_running: bool = False) -> Iterator[Deployment]:
    """Yield the deployment of ``settings``, its server started if it is the embedded one."""
    own = EmbeddedPostgres(settings.data_directory)
    # `env` exports the embedded server's URL, too, and somebody may have stopped it since.
    embedded = own if settings.database_url in {None, own.url()} else None
    try:
        if embedded is not None:
            embedded.start()
        url = settings.database_url or (embedded.url() if embedded else "")
        create_missing_database(database_url(url))
        database = create_database(url)
        try:
            require_supported(database)
            yield Deployment(database=database, url=url, data_directory=settings.data_directory, embedded=embedded)
        finally:
            database.engine.dispose()
    finally:
        if embedded is not None:
            embedded.release(keep_running=keep_running)


def prepare_dagster(deployment: Deployment) -> None:
    """Make Dagster's database and home, and point this process and its children at them."""
    create_missing_database(database_url(dagster_url(deployment.url), driver="postgresql+psycopg"))
    home = deployment.dagster_home
    if home == deployment.data_directory.resolve() / "dagster":
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_file("dagster.yaml"), home / "dagster.yaml")
    elif not (home / "dagster.yaml").is_file():
        # Dagster would go on with defaults: no limits, no locks between runs, a database of its own.
        raise UserError(
            f"DAGSTER_HOME is {os.environ['DAGSTER_HOME']}, where there is no dagster.yaml. Copy this project's into "
            "it, or unset DAGSTER_HOME."
        )
    os.environ.update(deployment.environment())


def project_file(name: str) -> Path:
    """Return a file of the checkout that the package is installed from, or of the one that we stand in.

    The working directory comes last: it may be another Dagster project.
    """
    for folder in (Path(__file__).parents[2], Path.cwd()):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{name} is not here. Run the command in a checkout of the project, or set DAGSTER_HOME.")
