"""The pictures are pictures: well-formed, within their frame, small, whatever the scores were."""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossier_pipelines.dossiers.tables import BANDS, INSUFFICIENT_DATA
from dossier_pipelines.dossiers.trends import HEIGHT, MOST_POINTS, WIDTH, image, line, stack, thinned

SCORES = st.lists(st.one_of(st.none(), st.decimals(0, 100, places=1)), max_size=400)


def paths(svg: str) -> list[str]:
    """The paths of a picture; fails when it is no XML."""
    return [element.attrib["d"] for element in ElementTree.fromstring(svg)]


@given(SCORES)
def test_a_course_stays_in_its_frame(scores: list[Decimal | None]) -> None:
    _, course = paths(line(scores))
    points = [(int(x), int(y)) for x, y in re.findall(r"[ML](-?\d+) (-?\d+)", course)]
    assert len(points) == sum(score is not None for score in thinned(scores))
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_a_course_rises_with_the_score_and_breaks_where_there_is_none() -> None:
    assert paths(line([0, 100]))[1] == f"M0 {HEIGHT}L{WIDTH} 0"
    assert paths(line([50, None, 50, 100]))[1] == "M0 24M160 24L240 0"
    assert paths(line([]))[1] == paths(line([None]))[1] == ""


@given(st.lists(st.integers(), max_size=2000))
def test_thinned_points_are_few_and_keep_the_ends_and_the_order(points: list[int]) -> None:
    places = thinned(list(range(len(points))))
    assert len(places) == min(len(points), MOST_POINTS)
    assert places == sorted(set(places))
    assert places[:1] == [0] * bool(points)
    assert places[-1:] == [len(points) - 1] * bool(points)


@given(st.lists(st.lists(st.integers(0, 900), min_size=5, max_size=5), min_size=1, max_size=300))
def test_bars_are_as_high_as_there_are_dossiers(counts: list[list[int]]) -> None:
    names = [*BANDS, INSUFFICIENT_DATA]
    course = [SimpleNamespace(dossiers=sum(row), **dict(zip(names, row, strict=True))) for row in counts]
    for path in paths(stack(course)):
        assert all(0 <= int(y) <= HEIGHT for y in re.findall(r"M\d+ (-?\d+)", path))
        assert all(0 <= int(tall) <= HEIGHT for tall in re.findall(r"v-(\d+)", path))


@pytest.mark.parametrize("score", [0, 57, 100])
def test_the_longest_course_is_small_enough_to_be_shown_at_once(score: int) -> None:
    shown = image(line([score, 100 - score] * 200))
    assert len(shown) < 1000 - len("\n\n2002-01 to 2020-04: 100.0 to 100.0")
    address = re.fullmatch(r"!\[trend\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", shown)
    assert address is not None
    assert paths(base64.b64decode(address[1]).decode())
