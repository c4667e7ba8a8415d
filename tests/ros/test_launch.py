"""The launch file: where ROS's launch is installed it is run, elsewhere its text is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hsr.camera_presets import find_preset
from hsr.environment import PROFILE_VARIABLES, share_dir
from hsr.params import declare_parameters, default_parameters_yaml
from hsr.refine_params import DEFAULTS as REFINER_DEFAULTS
from launch_files import LaunchFile, needs_launch

from hsr_core.config import TrackSettings, describe, flatten
from hsr_core.errors import ConfigError

FILE = LaunchFile("human_perception")
PATH, constant, load, context_with = FILE.path, FILE.constant, FILE.load, FILE.context_with
EXPECTED = {
    "preset", "camera", "bag", "image", "camera_info", "transport", "source", "namespace", "params", "regressor",
    "weights", "body_models", "engine", "device", "people", "first_id", "world_frame", "tf", "rep155", "humans",
    "perception", "refine", "depth", "depth_info", "mask", "record", "view", "rviz", "fixed_frame", "autostart",
    "back_and_forth", "respawn", "dds_profile", "use_sim_time", "log_level", "python",
}  # fmt: skip


def test_forwarded_arguments_are_parameters() -> None:
    assert set(constant("FORWARDED").values()) <= {spec.name for spec in describe()}


def test_arguments_forwarded_to_the_refiner_are_its_parameters_and_its_file_is_generated() -> None:
    names = {spec.name for spec in describe(REFINER_DEFAULTS)}
    assert {constant("FORWARDED")[argument] for argument in constant("REFINER_FORWARDED")} <= names
    assert (share_dir() / "config" / "refine.yaml").read_text() == default_parameters_yaml(
        REFINER_DEFAULTS, "refiner"
    ), "write it again with hsr.params.default_parameters_yaml(hsr.refine_params.DEFAULTS, 'refiner')"


def test_launch_config_and_rviz_are_where_the_package_looks() -> None:
    for name in ("launch/human_perception.launch.py", "config/perception.yaml", "config/refine.yaml",
                 "config/fastdds_large.xml"):  # fmt: skip
        assert (share_dir() / name).is_file()
    tree = yaml.safe_load((share_dir() / "rviz" / "human.rviz").read_text())
    topics = [d["Topic"]["Value"] for d in tree["Visualization Manager"]["Displays"] if "Topic" in d]
    assert {"/human/mesh", "/human/skeleton", "/human/overlay", "/camera/image_raw"} <= set(topics)
    assert {"/human/refined/mesh", "/human/refined/gaussians"} <= set(topics)


@needs_launch
def test_every_argument_is_listed_and_described() -> None:
    arguments = {a.name: a for a in load().generate_launch_description().get_launch_arguments()}
    assert set(arguments) == EXPECTED
    assert all(len(argument.description) > 10 for argument in arguments.values())


@needs_launch
def test_choices_and_defaults_are_those_of_the_parameters() -> None:
    from hsr.camera_presets import load_presets

    module, specs = load(), {spec.name: spec for spec in describe()}
    rows = {name: (default, choices) for name, default, _, choices in module.ARGUMENTS}
    for argument, parameter in module.FORWARDED.items():
        default, choices = rows[argument]
        assert default == ""  # the parameter file decides
        allowed = ("true", "false") if isinstance(specs[parameter].default, bool) else specs[parameter].choices
        assert set(choices or ()) - {""} == set(allowed), argument
    assert set(rows["preset"][1]) == {"", *load_presets()}


@needs_launch
def test_arguments_become_parameters_of_their_type_and_only_those_that_were_given() -> None:
    module = load()

    def written(**given: str) -> dict:
        context = context_with(**given)
        path = Path(module.ParameterFile(module._forwarded(module.FORWARDED)).perform(context))
        values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
        path.unlink()
        return flatten(values)

    assert written() == {}
    assert written(device="cpu", people="4", rep155="false", first_id="1000001", tf="none") == {
        "device": "cpu", "people.max": 4, "rep155.enabled": False, "track.first_id": 1000001, "tf.mode": "none",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"people\.max must lie in 1\.\.16"):
        written(people="40")
    with pytest.raises(ConfigError, match=r"people\.max must be int"):
        written(people="many")


@needs_launch
def test_arguments_win_over_the_users_file_and_that_over_the_defaults(ros_domain, tmp_path) -> None:
    """As ROS reads the three files that the node is given, the user's being a copy of the defaults or none."""
    import rclpy

    module = load()
    mine = tmp_path / "mine.yaml"
    rest = "\n  ros__parameters: {people: {max: 2}, track: {keep_s: 0.5}}\n"
    defaults = share_dir() / "config" / "perception.yaml"
    both = "/human/perception", "/**", "/*/perception"
    for names, keep_s in (((), TrackSettings().keep_s), (["/**"], 0.5), (both[:1], 0.5), (both, 0.5)):
        mine.write_text("".join(f"{name}:{rest}" for name in names))
        user = str(mine) if names else ""
        context = context_with(params=user, first_id="7", people="3")
        last = module.ParameterFile(module._forwarded(module.FORWARDED)).perform(context)
        words = ["--ros-args"]
        for path in (defaults, module.UserFile("perception.yaml").perform(context), last):
            words += ["--params-file", str(path)]
        rclpy.init(args=words)
        node = rclpy.create_node("perception", namespace="human")
        settings = declare_parameters(node)
        node.destroy_node()
        rclpy.shutdown()
        Path(last).unlink()
        assert (settings.track.first_id, settings.track.keep_s, settings.people.max) == (7, keep_s, 3)


@needs_launch
def test_a_preset_gives_the_four_topics_and_each_can_still_be_given() -> None:
    def topics(**given: str) -> list[str]:
        context = context_with(**given)
        return [context.launch_configurations[name] for name in ("image", "camera_info", "depth", "depth_info")]

    assert topics() == ["/camera/image_raw", "/camera/camera_info", "depth", "depth_info"]
    assert topics(camera="/rear") == ["/rear/image_raw", "/rear/camera_info", "depth", "depth_info"]
    preset = find_preset("realsense").topics()
    assert topics(preset="realsense") == [preset.image, preset.camera_info, preset.depth, preset.depth_info]
    left = find_preset("realsense").topics("/left/camera")
    assert topics(preset="realsense", camera="/left/camera", image="/mine") == [
        "/mine", left.camera_info, left.depth, left.depth_info,
    ]  # fmt: skip
    assert topics(preset="usb_cam")[2:] == ["depth", "depth_info"]  # has none: the names stay free


@needs_launch
def test_a_recording_gives_the_topics_that_it_has(tmp_path) -> None:
    pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
    import bags

    messages = [
        ("/cam/image/compressed", bags.BEGIN_NS, bags.compressed(bags.picture(0), bags.BEGIN_NS)),
        ("/cam/camera_info", bags.BEGIN_NS, bags.info(bags.BEGIN_NS)),
    ]
    depth = bags.image(np.full(bags.HW, 2500, "<u2"), bags.BEGIN_NS, "16UC1")
    for name, more, expected in (
        ("plain", [], ["/cam/image", "/cam/camera_info", "depth", "depth_info"]),
        ("with_depth", [("/cam/depth", bags.BEGIN_NS, depth)],
         ["/cam/image", "/cam/camera_info", "/cam/depth", "/cam/camera_info"]),
    ):  # fmt: skip
        found = context_with(bag=str(bags.write_bag(tmp_path / name, messages + more))).launch_configurations
        assert [found[name] for name in constant("INPUTS")] == expected


@needs_launch
def test_a_launch_is_refused_before_anything_starts(tmp_path) -> None:
    from hsr.launching import check_arguments

    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters: {peopel: {max: 4}}\n")
    with pytest.raises(ConfigError, match=r"did you mean 'people\.max'"):
        check_arguments(context_with(params=str(path)))
    with pytest.raises(ConfigError, match="cannot read the parameter file"):
        check_arguments(context_with(params="/no/such/file.yaml"))
    path.write_text("/human/perception:\n  ros__parameters: {people: {max: 4}}\n")
    check_arguments(context_with(params=str(path)))
    with pytest.raises(ConfigError, match="did you mean '/left/human/perception'"):
        check_arguments(context_with(params=str(path), namespace="left/human"))
    with pytest.raises(ValueError, match="give one of them"):
        check_arguments(
            context_with(bag="run1", source="clip", image="/a", camera_info="/b", depth="/c", depth_info="/d")
        )
    with pytest.raises(ValueError, match=r"no source '/no/such\.mp4'; it can be a video"):
        check_arguments(context_with(source="/no/such.mp4"))
    with pytest.raises(ValueError, match="exists already"):
        check_arguments(context_with(record=str(tmp_path)))
    for source in ("clip", "synthetic", "webcam:0", str(tmp_path), f"{path}#/image"):
        check_arguments(context_with(source=source, record=str(tmp_path / "new")))


@needs_launch
def test_rviz_gets_the_topics_and_the_fixed_frame_of_this_launch() -> None:
    def text(**given: str) -> str:
        path = Path(load().RvizConfig().perform(context_with(**given)))
        content = path.read_text()
        path.unlink()
        return content

    left = text(namespace="/left/human", image="/left/image_raw")
    assert "/left/human/mesh" in left
    assert "/left/image_raw" in left
    assert " /human/" not in left
    assert "Fixed Frame: camera_color_optical_frame" in left
    assert "Fixed Frame: odom" in text(world_frame="odom")
    assert "Fixed Frame: map" in text(world_frame="odom", fixed_frame="map")


@needs_launch
@pytest.mark.parametrize(("profile", "expected"), [("auto", True), ("none", False)])
def test_the_profile_is_set_for_its_own_nodes_only(profile, expected, monkeypatch) -> None:
    from hsr.launching import environment

    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    context = context_with(dds_profile=profile)
    for action in environment(context):
        action.execute(context)
    assert (PROFILE_VARIABLES[0] in context.environment) is expected
    assert "MALLOC_MMAP_THRESHOLD_" in context.environment


@needs_launch
@pytest.mark.slow
def test_two_namespaces_come_up_side_by_side(ros_domain, tmp_path) -> None:
    """The same file included twice: both nodes become active by the launch file's events."""
    parent = tmp_path / "two.launch.py"
    parent.write_text(f"""
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription

def one(side):
    arguments = {{"namespace": side + "/human", "camera": "/" + side, "source": "synthetic", "regressor": "fake"}}
    return GroupAction([IncludeLaunchDescription({str(PATH)!r}, launch_arguments=arguments.items())])

def generate_launch_description():
    return LaunchDescription([one("left"), one("right")])
""")
    script = f"""
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
service = LaunchService(argv=[])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription({str(parent)!r})]))
sys.exit(service.run())
"""
    launched = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        assert _both_publish(["/left/human/people", "/right/human/people"], limit_s=60)
    finally:
        launched.send_signal(2)
        launched.wait(30)


def _both_publish(topics: list[str], limit_s: float) -> bool:
    import time

    import rclpy
    from hsr import qos
    from hsr_msgs.msg import HumanArray

    rclpy.init()
    node = rclpy.create_node("listener")
    seen: set[str] = set()
    for topic in topics:
        node.create_subscription(HumanArray, topic, lambda msg, topic=topic: seen.add(topic), qos.people())
    deadline = time.monotonic() + limit_s
    while seen != set(topics) and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
    node.destroy_node()
    rclpy.shutdown()
    return seen == set(topics)


@needs_launch
def test_every_argument_is_documented_as_it_is() -> None:
    text = (PATH.parents[1] / "docs" / "launch.md").read_text()
    for name, default, description, choices in load().ARGUMENTS:
        rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(rows) == 1, name
        cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
        if isinstance(default, str) and name != "python":
            assert cells[1] == (f"`{default}`" if default else "")
        assert cells[2:] == [", ".join(filter(None, choices or ())), description]
