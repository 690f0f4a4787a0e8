"""Settings: every one has a default, and an impossible value fails by its name with what would be possible."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import dossier_pipelines
from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.failures import SettingError

PACKAGE = Path(dossier_pipelines.__file__).parent
EXAMPLE = PACKAGE.parent / ".env.example"


def test_nothing_has_to_be_set() -> None:
    assert read_settings({}) == Settings()
    assert Settings().data_directory == Path(".dossier")
    assert Settings().timezone == "Asia/Riyadh"


def test_every_setting_is_read_by_its_name() -> None:
    settings = read_settings(
        {
            "DOSSIER_DATABASE_URL": "postgresql://host/dossier",
            "DOSSIER_DATA_DIR": "/data/dossier",
            "DOSSIER_SOURCE": "exports",
            "DOSSIER_MAPPING": "crm.toml",
            "DOSSIER_SOURCE_API_KEY": "key",
            "DOSSIER_TENANT": "ministry-1",
            "DOSSIER_TIMEZONE": "Europe/Brussels",
            "DOSSIER_HEALTH_CONFIG": "health.toml",
            "DOSSIER_MAX_REJECTED_SHARE": "0.1",
            "DOSSIER_FULL_REFRESH": "true",
            "DOSSIER_MAX_REMOVED_SHARE": "1",
            "DOSSIER_ALLOW_EMPTY": "on",
        }
    )
    assert settings == Settings(
        database_url="postgresql://host/dossier",
        data_directory=Path("/data/dossier"),
        source="exports",
        mapping=Path("crm.toml"),
        source_api_key="key",
        tenant_id="ministry-1",
        timezone="Europe/Brussels",
        health_config=Path("health.toml"),
        max_rejected_share=0.1,
        full_refresh=True,
        max_removed_share=1.0,
        allow_empty=True,
    )
    assert all(getattr(settings, field.name) != getattr(Settings(), field.name) for field in fields(Settings))


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    names = re.findall(r"DOSSIER_[A-Z_]+", EXAMPLE.read_text(encoding="utf-8"))
    assert read_settings(dict.fromkeys(names, "")) == Settings()
    assert read_settings({**dict.fromkeys(names, "  "), "DOSSIER_SOURCE_API_KEY": ""}) == Settings()


def test_a_home_directory_is_found() -> None:
    assert read_settings({"DOSSIER_DATA_DIR": "~/dossier"}).data_directory == Path.home() / "dossier"


@pytest.mark.parametrize("word", ["1", "true", "TRUE", "yes", "on", " True "])
def test_a_flag_is_raised_by_any_usual_word(word: str) -> None:
    assert read_settings({"DOSSIER_FULL_REFRESH": word}).full_refresh


@pytest.mark.parametrize("word", ["0", "false", "No", "off", ""])
def test_a_flag_is_lowered_by_any_usual_word(word: str) -> None:
    assert not read_settings({"DOSSIER_FULL_REFRESH": word}).full_refresh


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("DOSSIER_FULL_REFRESH", "ja", "write true or false"),
        ("DOSSIER_ALLOW_EMPTY", "2", "write true or false"),
        ("DOSSIER_MAX_REJECTED_SHARE", "5%", "a share between 0 and 1, such as 0.5"),
        ("DOSSIER_MAX_REJECTED_SHARE", "1.01", "a share between 0 and 1"),
        ("DOSSIER_MAX_REJECTED_SHARE", "-0.1", "a share between 0 and 1"),
        ("DOSSIER_MAX_REMOVED_SHARE", "nan", "a share between 0 and 1, such as 0.2"),
        ("DOSSIER_TENANT", "a b", "at most 40 letters, digits, hyphens and underscores"),
        ("DOSSIER_TENANT", "x" * 41, "at most 40 letters"),
        ("DOSSIER_TENANT", "größe", "at most 40 letters"),
        ("DOSSIER_TENANT", "'; DROP SCHEMA raw; --", "at most 40 letters"),
        ("DOSSIER_TIMEZONE", "Riyadh", "Use a name such as Asia/Riyadh"),
    ],
)
def test_an_impossible_value_is_refused_by_name_with_what_is_possible(name: str, value: str, advice: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}")
    assert advice in str(caught.value)


def test_the_example_file_names_every_setting_and_no_other() -> None:
    used = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"\b(?:DOSSIER|DAGSTER)_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    }
    shown = set(re.findall(r"^# ((?:DOSSIER|DAGSTER)_[A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    # Names of constants in the code, and what Dagster itself documents.
    used -= {"DAGSTER_DATABASE", "DAGSTER_DRIVER", "DAGSTER_HOME"}
    assert used == shown


def test_the_example_file_sets_nothing() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
