"""`dossier-pipelines backfill`: what it prints, what it refuses in one line; doing it again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres
from dossier_pipelines_tests.processes import call, server_folder
from dossier_pipelines_tests.records import COMMITMENTS_CSV, DOSSIERS_CSV, ENGAGEMENTS_CSV, write_files

SOURCE = {
    "dossiers.csv": DOSSIERS_CSV + "d1,Sweden,country,Northern Europe,EU,public,,2020-01-01\n",
    "engagements.csv": ENGAGEMENTS_CSV + "e1,d1,meeting,,2020-02-14T09:00:00Z,\ne2,d1,visit,,2020-03-14T09:00:00Z,\n",
    "commitments.csv": COMMITMENTS_CSV + "c1,d1,Figures,pending,2020-03-01,,high,2020-01-10,,,\n",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory into which a small source was loaded."""
    with server_folder() as folder:
        source = tmp_path_factory.mktemp("source")
        write_files(source, SOURCE)
        done = call("run", "--source", str(source), "--data-dir", str(folder / "data"))
        assert done.returncode == 0, done.stderr
        yield folder / "data"
        EmbeddedPostgres(folder / "data").stop()


def backfill(data: Path, first: str, last: str) -> dict[str, Any]:
    done = call("backfill", "--from", first, "--to", last, "--json", "--data-dir", str(data))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_range_is_taken_and_taken_again_without_a_change(data: Path) -> None:
    first = backfill(data, "2020-01-15", "2020-12-31")
    assert (first["from"], first["to"], first["days"]) == ("2020-01-15", "2020-12-31", 352)
    assert first["rows_written"] > 5
    again = backfill(data, "2020-02-01", "2020-11-30")
    assert (again["days"], again["rows_written"]) == (304, 0)
    assert again["run_id"] != first["run_id"]
    told = call("backfill", "--from", "2021-01-01", "--to", "2021-01-01", "--data-dir", str(data))
    assert told.returncode == 0
    assert told.stdout.startswith("1 days from 2021-01-01 to 2021-01-01, 1 rows written")


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2020-03-01", "2020-02-01", "The range ends on 2020-02-01, before it starts, on 2020-03-01."),
        ("2020-03-01", "2199-01-01", "2199-01-01 is in the future"),
        ("2019-03-01", "2020-03-01", "2019-03-01 lies before the first record: the first record is of 2020-01-01"),
        ("1999-03-01", "2020-03-01", "1999-03-01 lies before the first day of which there can be a snapshot"),
        ("soon", "2020-03-01", "--from is 'soon', which is no day. Write it like 2019-12-31."),
        ("2020-03-01", "2020-02-30", "--to is '2020-02-30', which is no day."),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_one_line(data: Path, first: str, last: str, said: str) -> None:
    done = call("backfill", "--from", first, "--to", last, "--data-dir", str(data))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Starting PostgreSQL")]
    assert line.startswith(f"dossier-pipelines: {said}")
