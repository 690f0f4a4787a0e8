"""Loading from CSV, validated and merged, beside a bare COPY into the same indexed table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from benchmarks.records import driver_connection
from dossier_pipelines.shared.database import Database

# A process of its own, so that the memory is that of a load and nothing else.
CHILD = """
import json, os, resource, sys, time
from dossier_pipelines.dossiers.entities import ENTITIES
from dossier_pipelines.ingestion.configured import configured_source
from dossier_pipelines.shared.database import create_database
from dossier_pipelines.shared.environment import read_settings
settings = read_settings()
database = create_database(settings.database_url)
source = configured_source(settings)
began = time.perf_counter()
result = source.load(database, ENTITIES[sys.argv[1]], known=ENTITIES)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  **result.as_metadata()}))
"""


@dataclass(frozen=True)
class Loaded:
    """One load: seconds, the peak of Python's memory in MB, and rows by outcome."""

    seconds: float
    memory_mb: float
    rows: dict[str, int]


def load_in_a_process(url: str, folder: Path, entity: str) -> Loaded:
    """Load ``entity`` as a run does."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, entity],
        env={**os.environ, "DOSSIER_DATABASE_URL": url, "DOSSIER_SOURCE": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    return Loaded(report.pop("seconds"), report.pop("memory_mb"), report)


def bare_copy(database: Database, folder: Path, entity: str) -> float:
    """Return the seconds of COPY into a table with the columns, defaults and indexes of raw.``entity``, unchecked."""
    path = folder / f"{entity}.csv"
    with path.open("rb") as handle:
        columns = handle.readline().decode().strip()
    with database.engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS bench"))
        connection.execute(sa.text(f"DROP TABLE IF EXISTS bench.{entity}"))
        connection.execute(sa.text(f"CREATE TABLE bench.{entity} (LIKE raw.{entity} INCLUDING ALL)"))
        connection.execute(sa.text(f"ALTER TABLE bench.{entity} ALTER tenant_id SET DEFAULT 'default'"))
    began = time.perf_counter()
    with (
        database.engine.begin() as connection,
        driver_connection(connection).cursor() as cursor,
        cursor.copy(f"COPY bench.{entity} ({columns}) FROM STDIN (FORMAT csv, HEADER)") as copy,
        path.open("rb") as handle,
    ):
        while block := handle.read(1 << 20):
            copy.write(block)
    seconds = time.perf_counter() - began
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE bench.{entity}"))
    return seconds
