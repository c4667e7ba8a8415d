"""Parameters: one source of defaults, described, refused when wrong."""

from __future__ import annotations

import pytest
import rclpy
from hsr.environment import share_dir
from hsr.params import current_settings, declare_parameters, default_parameters_yaml, descriptor, watch_parameters
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter

from hsr_core.config import Settings, describe, load_settings
from hsr_core.errors import ConfigError

SPECS = list(describe())
LIMITED = [spec for spec in SPECS if spec.low is not None]


@pytest.fixture
def node(rclpy_context):
    node = rclpy.create_node("parameters")
    yield node
    node.destroy_node()


def node_with(*overrides: Parameter):
    return rclpy.create_node("parameters", parameter_overrides=list(overrides))


def test_the_parameter_file_is_what_the_settings_say() -> None:
    assert (share_dir() / "config" / "perception.yaml").read_text() == default_parameters_yaml(), (
        "write it again: python -c 'from hsr.params import *; print(default_parameters_yaml(), end=\"\")'"
    )


def test_a_node_started_with_the_parameter_file_has_the_defaults(ros_domain) -> None:
    rclpy.init(args=["--ros-args", "--params-file", str(share_dir() / "config" / "perception.yaml")])
    try:
        node = rclpy.create_node("perception", namespace="human")
        assert declare_parameters(node) == Settings()
        given = set(node._parameter_overrides)
        assert {spec.name for spec in SPECS} <= given  # every one of them really came from the file
        node.destroy_node()
    finally:
        rclpy.shutdown()


def test_the_library_reads_the_same_names(tmp_path) -> None:
    import yaml

    tree = yaml.safe_load(default_parameters_yaml())["/**"]["ros__parameters"]
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert load_settings(path) == Settings()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_parameter_is_described(spec, node) -> None:
    declare_parameters(node)
    described = node.describe_parameter(spec.name)
    assert len(described.description) >= 8
    assert described.read_only is not spec.live
    kinds = {str: ParameterType.PARAMETER_STRING, bool: ParameterType.PARAMETER_BOOL,
             int: ParameterType.PARAMETER_INTEGER, float: ParameterType.PARAMETER_DOUBLE}  # fmt: skip
    assert described.type == kinds[type(spec.default)]
    assert node.get_parameter(spec.name).value == spec.default
    ranges = [*described.floating_point_range, *described.integer_range]
    assert [(r.from_value, r.to_value) for r in ranges] == ([(spec.low, spec.high)] if spec.low is not None else [])
    for choice in spec.choices:
        assert choice in described.additional_constraints


@pytest.mark.parametrize("spec", [spec for spec in LIMITED if spec.live], ids=lambda spec: spec.name)
def test_out_of_range_is_refused_with_a_reason(spec, node) -> None:
    declare_parameters(node)
    watch_parameters(node, lambda settings: pytest.fail("took a wrong value"))
    for bad in (spec.low - 1, spec.high + 1):
        (result,) = node.set_parameters([Parameter(spec.name, value=type(spec.default)(bad))])
        assert not result.successful
        assert "range" in result.reason
    assert current_settings(node) == Settings()


def test_accepted_changes_are_handed_over_once_they_hold(node) -> None:
    declare_parameters(node)
    seen: list[Settings] = []
    watch_parameters(node, seen.append)
    (result,) = node.set_parameters([Parameter("subject.height_m", value=1.85)])
    assert result.successful
    assert [settings.subject.height_m for settings in seen] == [1.85]
    assert seen[0].smoothing == Settings().smoothing
    node.set_parameters_atomically([Parameter("smoothing.beta", value=1.0), Parameter("mesh.every_n", value=2)])
    assert (seen[-1].smoothing.beta, seen[-1].mesh.every_n, seen[-1].subject.height_m) == (1.0, 2, 1.85)
    assert seen[-1] == current_settings(node)


def test_choices_and_fixed_parameters_are_refused(node) -> None:
    declare_parameters(node)
    seen: list[Settings] = []
    watch_parameters(node, seen.append)
    (result,) = node.set_parameters([Parameter("marker.color_mode", value="rainbow")])
    assert not result.successful
    assert "must be one of uniform, shaded, not 'rainbow'" in result.reason
    (result,) = node.set_parameters([Parameter("regressor", value="fake")])
    assert not result.successful
    assert "read-only" in result.reason.lower()
    (result,) = node.set_parameters([Parameter("subject.height_m", value="tall")])
    assert not result.successful
    assert seen == []
    assert current_settings(node) == Settings()


def test_parameters_of_others_pass_through(node) -> None:
    declare_parameters(node)
    node.declare_parameter("other", 1)
    watch_parameters(node, lambda settings: pytest.fail("not one of ours"))
    (result,) = node.set_parameters([Parameter("other", value=2)])
    assert result.successful


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("subject.height_m", 1, "subject.height_m takes a number with a decimal point"),
        ("subject.height_m", 9.0, "subject.height_m"),
        ("people.max", 99, "people.max"),
        ("input.transport", "pigeon", "must be one of auto, raw, compressed"),
        ("smoothing.enabled", "yes", "takes true or false"),
    ],
)
def test_a_wrong_value_at_start_names_the_parameter(name, value, why, rclpy_context) -> None:
    node = node_with(Parameter(name, value=value))
    with pytest.raises(ConfigError, match=why):
        declare_parameters(node)
    node.destroy_node()


def test_values_given_at_start_are_used_and_declaring_twice_is_harmless(rclpy_context) -> None:
    node = node_with(Parameter("regressor", value="fake"), Parameter("people.max", value=3))
    for _ in range(2):
        settings = declare_parameters(node)
        assert (settings.regressor, settings.people.max) == ("fake", 3)
    node.destroy_node()


def test_descriptors_of_integers_have_whole_steps() -> None:
    (spec,) = (spec for spec in SPECS if spec.name == "people.max")
    (span,) = descriptor(spec).integer_range
    assert span.step == 1
