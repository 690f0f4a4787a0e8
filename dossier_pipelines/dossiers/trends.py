"""Trends as pictures: how the scores of all and of each group went, who moved most, how many were in which band.

Pictures are SVG in a markdown image, the one form that Dagster's UI shows; below 1,000 characters it shows it at once,
a longer text behind a click. Views have the figures behind them (schema/views.sql).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dossier_pipelines.dossiers.refresh import PACKAGE
from dossier_pipelines.dossiers.tables import BANDS, INSUFFICIENT_DATA
from dossier_pipelines.shared.database import Database

if TYPE_CHECKING:
    import sqlalchemy as sa

T = TypeVar("T")

WIDTH: Final = 240
HEIGHT: Final = 48
# So many points are as fine as the picture is, and small enough to be shown at once.
MOST_POINTS: Final = 40
MOST_MOVERS: Final = 12
COLOURS: Final = {
    "excellent": "#2e9e4f",
    "good": "#e3b505",
    "fair": "#e8842c",
    "poor": "#cc3333",
    INSUFFICIENT_DATA: "#b8bec7",
}
GROUPINGS: Final = ("region", "bloc", "type")


def trend_pictures(database: Database) -> dict[str, str]:
    """Return name to markdown; empty without any snapshot."""
    rows = database.run(PACKAGE, "trend_by_group")
    courses = {key: list(found) for key, found in groupby(rows, key=lambda row: (row.grouping, row.value))}
    everything = courses.get(("all", "all"))
    if not everything:
        return {}
    first, last = everything[0], everything[-1]
    pictures = {
        "average_score": f"{image(line([row.average_score for row in everything]))}\n\n"
        f"{first.day:%Y-%m} to {last.day:%Y-%m}: {_shown(first.average_score)} to {_shown(last.average_score)}",
        "bands": f"{image(stack(everything))}\n\nDossiers per band, {first.day:%Y-%m} to {last.day:%Y-%m}",
    }
    for grouping in GROUPINGS:
        found = [course for (kind, _), course in courses.items() if kind == grouping]
        lines = [
            f"| {_cell(course[-1].value)} | {image(line([row.average_score for row in course]))} "
            f"| {_shown(course[0].average_score)} | {_shown(course[-1].average_score)} | {course[-1].dossiers} |"
            for course in sorted(found, key=lambda course: -(course[-1].average_score or Decimal(-1)))
        ]
        pictures[f"by_{grouping}"] = "\n".join(
            [f"| {grouping} | course | was | is | dossiers |", "|---|---|---:|---:|---:|", *lines]
        )
    pictures["biggest_movers"] = _movers(database.run(PACKAGE, "movers_of_a_year", {"most": MOST_MOVERS}))
    return pictures


def _movers(rows: Sequence[sa.Row[Any]]) -> str:
    if not rows:
        return "No score moved in the last year."
    lines = [
        f"| {_cell(row.name)} | {image(line(row.scores or []))} | {row.score_was} | {row.score_is} | "
        + ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in sorted(row.factors.items()))
        + " |"
        for row in rows
    ]
    head = ["| dossier | course | was | is | what happened |", "|---|---|---:|---:|---|"]
    return "\n".join([f"From {rows[0].from_day} to {rows[0].to_day}:", "", *head, *lines])


def image(svg: str) -> str:
    """Return ``svg`` as a markdown image."""
    return f"![trend](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def line(scores: Sequence[Decimal | int | None]) -> str:
    """Return the course of scores from 0 (below) to 100 as an SVG line; without a score there is a gap."""
    chosen = thinned(scores)
    step = WIDTH / max(1, len(chosen) - 1)
    path = ""
    drawn = False
    for place, score in enumerate(chosen):
        if score is not None:
            path += f"{'L' if drawn else 'M'}{place * step:.0f} {HEIGHT - float(score) * HEIGHT / 100:.0f}"
        drawn = score is not None
    return _svg(
        f'<path d="M0 19H{WIDTH}" stroke="#ddd"/><path d="{path}" fill="none" stroke="#2b6cb0" stroke-width="2"/>'
    )


def stack(course: Sequence[Any]) -> str:
    """Return the dossiers per band, one bar a point, the healthiest below, as shares of the largest total."""
    chosen = thinned(course)
    most = max(float(row.dossiers) for row in chosen) or 1.0
    step = WIDTH / len(chosen)
    paths = dict.fromkeys((*BANDS, INSUFFICIENT_DATA), "")
    for place, row in enumerate(chosen):
        below = float(HEIGHT)
        for band in paths:
            tall = float(getattr(row, band)) * HEIGHT / most
            if tall:
                paths[band] += f"M{place * step:.0f} {below:.0f}v{-tall:.0f}"
            below -= tall
    return _svg(
        "".join(
            f'<path d="{path}" stroke="{COLOURS[band]}" stroke-width="{step:.0f}"/>'
            for band, path in paths.items()
            if path
        )
    )


def thinned(points: Sequence[T]) -> list[T]:
    """Return at most MOST_POINTS of ``points``, evenly, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    return [points[round(place * (len(points) - 1) / (MOST_POINTS - 1))] for place in range(MOST_POINTS)]


def _svg(content: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">{content}</svg>'


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _shown(score: Decimal | None) -> str:
    return "none" if score is None else str(score)
