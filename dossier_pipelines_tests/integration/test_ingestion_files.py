"""Folders of files: what is read, what is set aside, and that nothing else happens."""

from pathlib import Path

from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.records import MINIMAL, load, scalar, write_files


def test_a_folder_of_csv_files_is_loaded_and_a_rerun_changes_nothing(database: Database, folder: Path) -> None:
    write_files(folder, MINIMAL)
    first = load(database, folder)
    assert first["engagements"] is not None
    assert first["engagements"].inserted == 1
    before = scalar(database, "SELECT xmin::text FROM raw.engagements")
    again = load(database, folder)
    assert again["engagements"] is not None
    assert (again["engagements"].unchanged, again["engagements"].inserted, again["engagements"].updated) == (1, 0, 0)
    assert scalar(database, "SELECT xmin::text FROM raw.engagements") == before
