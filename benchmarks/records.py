"""Records made in the database and exported as CSV, at any scale.

Half of the engagements lie in the year before the clock, the rest before it; ids and rows are in random order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dossier_pipelines.shared.database import Database

CLOCK: Final = "2025-11-01T00:00:00Z"


@dataclass(frozen=True)
class Scale:
    """How many records of each kind."""

    factor: int
    dossiers: int
    engagements: int
    commitments: int


# 100 is the scale that the figures are promised for; 1 is about the built-in sample.
SCALES: Final = {factor: Scale(factor, 1_000 * factor, 50_000 * factor, 10_000 * factor) for factor in (1, 10, 100)}

QUERIES: Final = {
    "dossiers": """
        SELECT md5('d' || n)::uuid AS id, 'Counterpart ' || n AS name,
            (ARRAY['country', 'organization', 'forum'])[1 + n % 3] AS type, 'Region ' || n % 7 AS region,
            'Bloc ' || n % 5 AS bloc, 'public' AS classification, '2019-01-01' AS created_at
        FROM generate_series(1, {dossiers}) AS n""",
    "engagements": """
        SELECT gen_random_uuid() AS id, md5('d' || 1 + floor(random() * {dossiers})::int)::uuid AS dossier_id,
            (ARRAY['meeting', 'visit', 'consultation'])[1 + n % 3] AS type, 'Discussed item ' || n AS description,
            timestamptz '{clock}' - random() * interval '730 days' AS occurred_at, timestamptz '{clock}' AS created_at
        FROM generate_series(1, {engagements}) AS n""",
    "commitments": """
        SELECT gen_random_uuid() AS id, md5('d' || 1 + floor(random() * {dossiers})::int)::uuid AS dossier_id,
            'Deliver item ' || n AS description,
            (ARRAY['pending', 'in_progress', 'completed', 'completed', 'completed', 'cancelled'])[1 + n % 6] AS status,
            (timestamptz '{clock}' + (random() - 0.8) * interval '600 days')::date AS due_date, 'high' AS priority,
            timestamptz '{clock}' - interval '600 days' AS created_at
        FROM generate_series(1, {commitments}) AS n""",
}


def driver_connection(connection: Connection) -> psycopg.Connection:
    """Return the psycopg connection below SQLAlchemy's, for COPY."""
    return cast("psycopg.Connection", connection.connection.driver_connection)


def export_records(database: Database, scale: Scale, folder: Path) -> dict[str, int]:
    """Write dossiers.csv, engagements.csv and commitments.csv of ``scale``; return their sizes in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, int] = {}
    for name, query in QUERIES.items():
        sql = query.format(
            dossiers=scale.dossiers, engagements=scale.engagements, commitments=scale.commitments, clock=CLOCK
        )
        path = folder / f"{name}.csv"
        with database.engine.begin() as connection, path.open("wb") as handle:
            connection.execute(sa.text("SELECT setseed(0.5)"))
            with (
                driver_connection(connection).cursor() as cursor,
                cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv, HEADER)") as copy,
            ):
                for block in copy:
                    handle.write(block)
        sizes[name] = path.stat().st_size
    return sizes
