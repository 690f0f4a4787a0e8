"""The declared schema of all rooms together: what the newest migration must have built."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

import dossier_pipelines.automation_rules.tables
import dossier_pipelines.dossiers.tables
import dossier_pipelines.ingestion.tables
import dossier_pipelines.ingestion.users
import dossier_pipelines.litigation.tables
import dossier_pipelines.notifications.tables  # noqa: F401
from dossier_pipelines.shared.tables import METADATA

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

SCHEMAS: Final = ("platform", "ingestion", "raw", "dossiers", "notifications", "automation_rules", "litigation")
# Functions, triggers and views, in the order in which they build on each other.
PROGRAMS: Final = (
    ("dossier_pipelines.shared", "days.sql"),
    ("dossier_pipelines.ingestion", "stable_uuid.sql"),
    ("dossier_pipelines.dossiers", "status_history.sql"),
    ("dossier_pipelines.dossiers", "health.sql"),
    ("dossier_pipelines.dossiers", "mark_stale.sql"),
    ("dossier_pipelines.dossiers", "mark_late.sql"),
    ("dossier_pipelines.dossiers", "views.sql"),
    ("dossier_pipelines.notifications", "mark_unplanned.sql"),
    ("dossier_pipelines.notifications", "views.sql"),
    ("dossier_pipelines.automation_rules", "rules.sql"),
    ("dossier_pipelines.litigation", "tenants.sql"),
    ("dossier_pipelines.litigation", "service_hours.sql"),
    ("dossier_pipelines.litigation", "task_history.sql"),
    ("dossier_pipelines.litigation", "mark_tasks.sql"),
    ("dossier_pipelines.litigation", "mark_metrics.sql"),
    ("dossier_pipelines.litigation", "views.sql"),
    # Last: it looks at all tables.
    ("dossier_pipelines.shared", "row_security.sql"),
)


def program(package: str, name: str) -> str:
    """Return the SQL of one schema file."""
    return resources.files(package).joinpath("schema", name).read_text(encoding="utf-8")


def create_declared(connection: Connection) -> None:
    """Build the declared schema in an empty database, without any migration."""
    for schema in SCHEMAS:
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    METADATA.create_all(connection)
    for package, name in PROGRAMS:
        connection.exec_driver_sql(program(package, name))
