"""Small sources for tests: files with a few rows, and what is read back from the database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.ingestion.load import LoadResult
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings

DOSSIERS_CSV = "id,name,type,region,bloc,classification,owner_id,created_at\n"
ENGAGEMENTS_CSV = "id,dossier_id,type,description,occurred_at,created_at\n"
COMMITMENTS_CSV = (
    "id,dossier_id,description,status,due_date,owner_id,priority,created_at,updated_at,completed_at,cancelled_at\n"
)

MINIMAL = {
    "dossiers.csv": DOSSIERS_CSV + "d1,Sweden,country,Northern Europe,EU,public,u1,2020-01-01\n",
    "engagements.csv": ENGAGEMENTS_CSV + "e1,d1,meeting,First contact,2025-01-10T09:00:00Z,\n",
    "commitments.csv": COMMITMENTS_CSV + "c1,d1,Send figures,pending,2025-03-01,u1,high,2025-01-10,,,\n",
}


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write ``files`` into ``folder`` and return it."""
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return folder


def load(database: Database, source: str | Path, **environ: str) -> dict[str, LoadResult | None]:
    """Load every entity of ``source`` as a run does, with settings such as DOSSIER_MAPPING."""
    configured = configured_source(read_settings({"DOSSIER_SOURCE": str(source), **environ}))
    return {name: configured.load(database, entity, known=ENTITIES, run_id="test") for name, entity in ENTITIES.items()}


def rows(database: Database, sql: str, **parameters: Any) -> list[sa.Row[Any]]:
    """Return the rows of a query."""
    with database.engine.connect() as connection:
        return list(connection.execute(sa.text(sql), parameters))


def scalar(database: Database, sql: str, **parameters: Any) -> Any:
    """Return the single value of a query."""
    return rows(database, sql, **parameters)[0][0]


def reasons(database: Database, entity: str) -> dict[int, str]:
    """Return row number to reason of what was set aside."""
    return {
        row.row_number: row.reason
        for row in rows(
            database,
            "SELECT row_number, reason FROM ingestion.rejected_rows WHERE entity = :entity ORDER BY row_number",
            entity=entity,
        )
    }
