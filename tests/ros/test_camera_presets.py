"""Presets of cameras: complete, usable as topic names, and clear when asked for one that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hsr.camera_presets import CameraTopics, find_preset, load_presets
from hsr.image_input import shows_rectified
from rclpy.validate_full_topic_name import validate_full_topic_name

from hsr_core.errors import ConfigError


@pytest.mark.parametrize("name", load_presets())
def test_a_preset_gives_valid_topics_below_any_namespace(name: str) -> None:
    preset = find_preset(name)
    for base in (None, "/left/camera", "left", "/"):
        topics = preset.topics(base)
        for topic in (topics.image, topics.camera_info, topics.depth, topics.depth_info):
            assert topic == "" or validate_full_topic_name(topic)
        assert bool(topics.depth) == bool(topics.depth_info) == (preset.sensor != "none")
    assert shows_rectified(preset.topics().image) == preset.rectified  # what the node takes it for
    assert preset.command().startswith(("ros2 launch ", "ros2 run "))
    assert all(isinstance(value, str) for value in preset.options.values())


def test_the_two_namespace_styles_of_realsense() -> None:
    assert find_preset("realsense").topics() == CameraTopics(
        "/camera/camera/color/image_raw",
        "/camera/camera/color/camera_info",
        "/camera/camera/aligned_depth_to_color/image_raw",
        "/camera/camera/aligned_depth_to_color/camera_info",
    )
    assert find_preset("realsense").topics("/robot1/D455") == CameraTopics(
        "/robot1/D455/color/image_raw",
        "/robot1/D455/color/camera_info",
        "/robot1/D455/aligned_depth_to_color/image_raw",
        "/robot1/D455/aligned_depth_to_color/camera_info",
    )
    assert find_preset("realsense_4_54").topics().image == "/camera/color/image_raw"
    assert "align_depth.enable:=true" in find_preset("realsense").command()


def test_a_camera_that_is_not_known_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'relsense'; known: realsense, "):
        find_preset("relsense")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {image: x, colour: y}", "colour"),
        ("a: {image: x}", "missing"),
        ("a: {description: d, base: '', image: i, camera_info: c, rectified: no, sensor: tof, driver: d}", "sensor"),
        ("[1, 2]", "mapping"),
        ("a: {", "cannot read"),
    ],
)
def test_a_wrong_table_is_refused_and_says_where(tmp_path, text: str, says: str) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        load_presets(path)
    assert "cameras.yaml" in str(error.value)


def test_the_documentation_has_every_preset_with_its_topics_and_options() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cameras.md").read_text()
    for name, preset in load_presets().items():
        topics = preset.topics()
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` | {preset.description} |"))
        assert f"`{topics.image}`" in row
        assert topics.depth in row
        for option, value in preset.options.items():
            assert name == "image_proc" or f"{option}:={value}" in text
