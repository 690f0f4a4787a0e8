"""health_by_group as tables that a person looks at. pandas shapes them; it is imported here, where it is used."""

from __future__ import annotations

import pandas as pd
import sqlalchemy as sa

from dossier_pipelines.dossiers.tables import BANDS, INSUFFICIENT_DATA
from dossier_pipelines.shared.database import Database

SHOWN = ("region", "bloc", "type")
MOST_ROWS = 40


def group_tables(database: Database) -> dict[str, str]:
    """Return a markdown table for each grouping, healthiest group first; tenants are added up."""
    with database.engine.connect() as connection:
        frame = pd.read_sql(sa.text("SELECT * FROM dossiers.health_by_group"), connection)
    return {grouping: markdown_table(frame[frame["grouping"] == grouping]) for grouping in SHOWN}


def markdown_table(frame: pd.DataFrame) -> str:
    """Return one grouping as markdown; averages of tenants are weighted by their scored dossiers."""
    bands = [*BANDS, INSUFFICIENT_DATA]
    work = frame.assign(
        scored=frame[list(BANDS)].sum(axis=1),
        points=pd.to_numeric(frame["average_score"]).fillna(0) * frame[list(BANDS)].sum(axis=1),
    )
    totals = work.groupby("value")[["dossiers", "scored", "points", *bands]].sum()
    totals["average score"] = (totals["points"] / totals["scored"].where(totals["scored"] > 0)).round(2)
    totals = totals.sort_values(["average score", "dossiers"], ascending=[False, False]).head(MOST_ROWS)
    columns = ["average score", "dossiers", *bands]
    header = "| |" + "|".join(column.replace("_", " ") for column in columns) + "|\n|---" + "|---:" * len(columns) + "|"
    lines = [
        f"| {str(value).replace('|', '/')} |" + "|".join("" if pd.isna(cell) else f"{cell:.15g}" for cell in row) + "|"
        for value, row in zip(totals.index, totals[columns].to_numpy(dtype=float), strict=True)
    ]
    return "\n".join([header, *lines])
