"""Dagster's wiring: configuration goes in, plain objects come out. No logic belongs here."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dossier_pipelines.shared.database import Database, create_database, require_supported
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines.shared.environment import read_settings


class DatabaseResource(dg.ConfigurableResource[Database]):
    """The PostgreSQL server of the environment: DOSSIER_DATABASE_URL, or the embedded one.

    The URL is read when a run needs it and is no configuration field: fields are shown in the UI, and the URL holds
    a password.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Database]:
        """Yield a `Database`; join the embedded server for as long as the run lasts."""
        settings = read_settings()
        embedded = None if settings.database_url else EmbeddedPostgres(settings.data_directory)
        try:
            if embedded is not None:
                embedded.start()
            database = create_database(settings.database_url or (embedded.url() if embedded else ""))
            try:
                require_supported(database)
                yield database
            finally:
                database.engine.dispose()
        finally:
            if embedded is not None:
                embedded.release()
