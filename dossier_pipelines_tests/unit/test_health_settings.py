"""The settings of the health formula: what is refused, and by which name; what makes two of them equal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_pipelines.dossiers import tables
from dossier_pipelines.dossiers.health_formula import HealthConfig, parse_health_config, read_health_config
from dossier_pipelines.shared.failures import SettingError

DEFAULTS: dict[str, Any] = {
    "weights": {"engagement": "0.30", "commitment": "0.40", "recency": "0.30"},
    "yearly_target": 50,
    "min_engagements": 3,
    "min_commitments": 1,
    "recency_days": {"fresh": 30, "recent": 90, "distant": 180},
    "recency_points": {"fresh": 100, "recent": 70, "distant": 40, "silent": 10},
    "bands": {"excellent": 80, "good": 60, "fair": 40},
}


def config_of(types: Mapping[str, Any] | None = None, **differing: object) -> HealthConfig:
    content: dict[str, Any] = {"defaults": {**DEFAULTS, **differing}}
    if types is not None:
        content["types"] = types
    return parse_health_config(content, place="health.toml")


def refusal(types: Any = None, **differing: object) -> str:
    with pytest.raises(SettingError) as error:
        config_of(types, **differing)
    return str(error.value)


def test_the_built_in_settings_are_those_of_the_specification() -> None:
    assert read_health_config() == config_of()


# --- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [
        {"engagement": "0.30", "commitment": "0.40", "recency": "0.31"},
        {"engagement": "0.30", "commitment": "0.40", "recency": "0.2999"},
        {"engagement": "0", "commitment": "0", "recency": "0"},
        {"engagement": 1, "commitment": 1, "recency": 1},
    ],
)
def test_weights_that_do_not_sum_to_one_are_refused_by_name(weights: dict[str, object]) -> None:
    assert "health.toml: defaults.weights sum to" in refusal(weights=weights)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recency_days", {"fresh": 90, "recent": 30, "distant": 180}),
        ("recency_days", {"fresh": 30, "recent": 30, "distant": 180}),
        ("recency_days", {"fresh": 30, "recent": 180, "distant": 180}),
        ("recency_points", {"fresh": 70, "recent": 100, "distant": 40, "silent": 10}),
        ("recency_points", {"fresh": 100, "recent": 70, "distant": 10, "silent": 40}),
        ("bands", {"excellent": 60, "good": 80, "fair": 40}),
        ("bands", {"excellent": 80, "good": 80, "fair": 40}),
        ("bands", {"excellent": 80, "good": 60, "fair": 60}),
    ],
)
def test_steps_out_of_order_are_refused_by_name(name: str, value: dict[str, int]) -> None:
    assert f"health.toml: defaults.{name} are out of order" in refusal(**{name: value})


def test_equal_points_of_two_steps_are_in_order() -> None:
    assert config_of(recency_points={"fresh": 50, "recent": 50, "distant": 50, "silent": 50})


@pytest.mark.parametrize(
    ("differing", "named"),
    [
        ({"yearly_goal": 50}, "defaults.yearly_goal"),
        ({"weights": {**DEFAULTS["weights"], "mood": "0"}}, "defaults.weights.mood"),
        ({"yearly_target": "many"}, "defaults.yearly_target"),
        ({"yearly_target": 0}, "defaults.yearly_target"),
        ({"yearly_target": 12.5}, "defaults.yearly_target"),
        ({"yearly_target": True}, "defaults.yearly_target"),
        ({"min_engagements": -1}, "defaults.min_engagements"),
        ({"min_commitments": None}, "defaults.min_commitments"),
        ({"weights": "equal"}, "defaults.weights"),
        ({"weights": {**DEFAULTS["weights"], "recency": "a third"}}, "defaults.weights.recency"),
        ({"weights": {**DEFAULTS["weights"], "recency": "nan"}}, "defaults.weights.recency"),
        ({"weights": {"engagement": "0.33333", "commitment": "0.33333", "recency": "0.33334"}}, "weights.engagement"),
        ({"weights": {"engagement": "1.5", "commitment": "-0.5", "recency": "0"}}, "defaults.weights.engagement"),
        ({"weights": {"engagement": "0.5", "commitment": "0.5"}}, "defaults.weights.recency"),
        ({"recency_points": {**DEFAULTS["recency_points"], "fresh": 101}}, "defaults.recency_points.fresh"),
        ({"bands": {**DEFAULTS["bands"], "excellent": 101}}, "defaults.bands.excellent"),
        ({"bands": [80, 60, 40]}, "defaults.bands"),
    ],
)
def test_an_unknown_or_impossible_setting_is_refused_by_name(differing: dict[str, object], named: str) -> None:
    assert named in refusal(**differing)


def test_a_missing_setting_is_refused_by_name() -> None:
    incomplete = {name: value for name, value in DEFAULTS.items() if name != "yearly_target"}
    with pytest.raises(SettingError, match=r"health\.toml: defaults\.yearly_target"):
        parse_health_config({"defaults": incomplete}, place="health.toml")


def test_no_settings_at_all_are_refused() -> None:
    with pytest.raises(SettingError, match=r"health\.toml: defaults\.weights"):
        parse_health_config({}, place="health.toml")


def test_an_unknown_table_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match=r"there is no table \[type\]"):
        parse_health_config({"defaults": DEFAULTS, "type": {}}, place="health.toml")


@pytest.mark.parametrize(
    ("types", "named"),
    [
        ({"forum": {"yearly_target": 0}}, "types.forum.yearly_target"),
        ({"forum": {"colour": "green"}}, "types.forum.colour"),
        ({"forum": {"bands": {"excellent": 10, "good": 20, "fair": 30}}}, "types.forum.bands"),
        ({"forum": {"weights": {"engagement": "0.9"}}}, "types.forum.weights"),
        ({"forum": 12}, "types.forum"),
        (12, "types"),
        (["forum"], "types"),
    ],
)
def test_a_wrong_setting_of_one_type_is_refused_by_its_name(types: Any, named: str) -> None:
    assert named in refusal(types)


@pytest.mark.parametrize("defaults", [12, "all", ["weights"]])
def test_defaults_that_are_no_table_are_refused_by_name(defaults: object) -> None:
    with pytest.raises(SettingError, match=r"health\.toml: defaults"):
        parse_health_config({"defaults": defaults, "types": {"forum": {"yearly_target": 1}}}, place="health.toml")


def test_a_type_cannot_be_called_as_all_others_are() -> None:
    assert "types.*" in refusal({"*": {"yearly_target": 12}})


# --- files ------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_refused_by_the_name_of_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"DOSSIER_HEALTH_CONFIG names .*nowhere\.toml, which cannot be read"):
        read_health_config(tmp_path / "nowhere.toml")


def test_a_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="DOSSIER_HEALTH_CONFIG"):
        read_health_config(tmp_path)


def test_a_file_that_is_no_toml_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "health.toml"
    path.write_text("[defaults\nyearly_target = 50")
    with pytest.raises(SettingError, match=r"health\.toml is no valid TOML: .*line 1"):
        read_health_config(path)


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "health.toml"
    path.write_bytes("# Größe".encode("latin-1"))
    with pytest.raises(SettingError, match="DOSSIER_HEALTH_CONFIG"):
        read_health_config(path)


def test_a_file_may_begin_with_a_byte_order_mark_and_use_numbers_for_weights(tmp_path: Path) -> None:
    path = tmp_path / "health.toml"
    path.write_text(
        """
        [defaults]
        weights = { engagement = 0.1, commitment = 0.2, recency = 0.7 }
        yearly_target = 50
        min_engagements = 3
        min_commitments = 1
        recency_days = { fresh = 30, recent = 90, distant = 180 }
        recency_points = { fresh = 100, recent = 70, distant = 40, silent = 10 }
        bands = { excellent = 80, good = 60, fair = 40 }
        """,
        encoding="utf-8-sig",
    )
    # In binary floats 0.1 + 0.2 + 0.7 is 0.9999999999999999.
    expected = config_of(weights={"engagement": "0.1", "commitment": "0.2", "recency": "0.7"})
    assert read_health_config(path) == expected


# --- per type ---------------------------------------------------------------------------------------------------


def test_a_type_has_the_defaults_but_for_what_it_changes() -> None:
    config = config_of({"forum": {"yearly_target": 12}})
    assert config.of("forum").yearly_target == 12
    assert config.of("forum").bands == config.of(None).bands
    assert config.of("country").yearly_target == 50
    assert config.of(None).yearly_target == 50
    assert config.of("unheard of") == config.of(None)


def test_a_type_may_change_one_value_of_a_table() -> None:
    config = config_of({"forum": {"recency_days": {"fresh": 45}}})
    assert config.of("forum").recency_days.model_dump() == {"fresh": 45, "recent": 90, "distant": 180}
    assert config.of(None).recency_days.fresh == 30


# --- versions and rows ------------------------------------------------------------------------------------------


def test_equal_settings_have_equal_versions_however_they_are_written() -> None:
    written = config_of({"forum": {"yearly_target": 12}, "country": {"min_engagements": 5}})
    otherwise = parse_health_config(
        {
            "types": {"country": {**DEFAULTS, "min_engagements": 5}, "forum": {**DEFAULTS, "yearly_target": 12}},
            "defaults": dict(reversed(DEFAULTS.items()))
            | {"weights": {"recency": 0.3, "commitment": "0.4000", "engagement": "0.3"}},
        },
        place="elsewhere.toml",
    )
    assert otherwise.version == written.version


@pytest.mark.parametrize(
    "differing",
    [
        {"weights": {"engagement": "0.3001", "commitment": "0.3999", "recency": "0.30"}},
        {"yearly_target": 51},
        {"min_engagements": 4},
        {"min_commitments": 2},
        {"recency_days": {"fresh": 31, "recent": 90, "distant": 180}},
        {"recency_points": {"fresh": 100, "recent": 70, "distant": 40, "silent": 11}},
        {"bands": {"excellent": 80, "good": 60, "fair": 41}},
    ],
)
def test_any_other_setting_is_another_version(differing: dict[str, object]) -> None:
    assert config_of(**differing).version != config_of().version
    assert config_of({"forum": differing}).version not in {config_of().version, config_of(**differing).version}


def test_a_version_is_short_enough_to_be_read_out() -> None:
    assert len(config_of().version) == 12


def test_every_setting_has_its_column_in_the_table() -> None:
    columns = {column.name for column in tables.HEALTH_SETTINGS.columns}
    filled_by_the_database = {"tenant_id", "version", "first_used_at"}
    for row in config_of({"forum": {"yearly_target": 12}}).rows():
        assert set(row) == columns - filled_by_the_database


def test_there_is_one_row_per_type_and_one_for_all_others() -> None:
    rows = config_of({"forum": {"yearly_target": 12}, "country": {}}).rows()
    assert [(row["dossier_type"], row["yearly_target"]) for row in rows] == [("*", 50), ("country", 50), ("forum", 12)]


SHARES = st.integers(min_value=0, max_value=10_000)


@settings(derandomize=True, deadline=None)
@given(SHARES, SHARES)
def test_any_weights_of_four_places_that_sum_to_one_are_accepted_and_kept(one: int, other: int) -> None:
    low, high = sorted((one, other))
    weights = {
        name: f"{share / 10_000:.4f}"
        for name, share in (("engagement", low), ("commitment", high - low), ("recency", 10_000 - high))
    }
    row = config_of(weights=weights).rows()[0]
    assert {name: row[f"weight_{name}"] for name in weights} == weights
