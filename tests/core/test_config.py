"""Settings: defaults, checks, files."""

from __future__ import annotations

import dataclasses

import pytest

from hsr_core.config import Settings, describe, flatten, load_settings
from hsr_core.errors import ConfigError


def test_every_default_obeys_its_own_limits_and_is_described():
    names = [spec.name for spec in describe()]
    assert len(names) == len(set(names))
    for spec in describe():
        assert spec.check(spec.default) == spec.default
        assert spec.description


def test_the_smoothing_defaults_are_those_of_the_ros_interface():
    smoothing = Settings().smoothing
    assert (smoothing.enabled, smoothing.min_cutoff_hz, smoothing.beta) == (True, 1.5, 4.0)


def test_values_by_flat_name():
    settings = Settings().with_values({"people.max": 3, "regressor": "fake", "subject.height_m": 2})
    assert settings.people.max == 3
    assert settings.regressor == "fake"
    assert settings.subject.height_m == 2.0
    assert isinstance(settings.subject.height_m, float)
    assert settings.smoothing == Settings().smoothing
    assert Settings().people.max == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("people.maximum", 1, "unknown setting 'people.maximum'; did you mean 'people.max'"),
        ("colour", 1, "unknown setting 'colour'; known: .*people.max"),
        ("people.max", 0, r"people\.max must lie in 1\.\.16"),
        ("people.max", 1.5, "people.max must be int"),
        ("people.max", True, "people.max must be int"),
        ("people.min_score", "high", "people.min_score must be float"),
        ("subject.height_m", float("nan"), r"must lie in 0\.5\.\.2\.5"),
        ("smoothing.enabled", 1, "smoothing.enabled must be bool"),
        ("compact.encoding", "uint8", "one of float32, uint16"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(name, value, message):
    with pytest.raises(ConfigError, match=message):
        Settings().with_values({name: value})


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().people.max = 4


@pytest.mark.parametrize("text", ["smoothing:\n  beta: 7\n", "smoothing.beta: 7\n"])
def test_yaml_nested_or_flat(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert load_settings(path).smoothing.beta == 7.0


def test_an_empty_file_is_the_defaults(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("# nothing\n")
    assert load_settings(path) == Settings()


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "smoothing:\n  gamma: 1\n", "smoothing: 3\n"])
def test_bad_files_are_refused(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_settings(tmp_path / "none.yaml")


def test_settings_survive_the_way_through_a_tree():
    changed = Settings().with_values({"overlay.scale": 0.25, "device": "cpu"})
    assert Settings().with_values(flatten(dataclasses.asdict(changed))) == changed
