"""The launch file: where ROS's launch is installed it is run, elsewhere its text is read."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hsr.environment import PROFILE_VARIABLES, share_dir
from hsr.params import default_parameters_yaml
from hsr.refine_params import DEFAULTS as REFINER_DEFAULTS

from hsr_core.config import describe

PATH = Path(__file__).resolve().parents[2] / "launch" / "human_perception.launch.py"
EXPECTED = {
    "camera", "image", "camera_info", "transport", "source", "namespace", "params", "regressor", "weights",
    "body_models", "engine", "device", "refine", "depth", "depth_info", "mask", "record", "view",
    "rviz", "autostart", "back_and_forth", "respawn", "dds_profile", "use_sim_time", "log_level", "python",
}  # fmt: skip

# The project's own folder is called launch too: a package without a file is that folder.
_spec = importlib.util.find_spec("launch")
HAS_LAUNCH = _spec is not None and _spec.origin is not None and importlib.util.find_spec("launch_ros") is not None
needs_launch = pytest.mark.skipif(
    not HAS_LAUNCH, reason="launch and launch_ros are missing: part of a ROS 2 installation"
)


def constant(name: str):
    """Return a literal of the launch file without importing it."""
    for node in ast.parse(PATH.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{PATH.name} has no {name}")


def test_forwarded_arguments_are_parameters_and_override_nothing_by_default() -> None:
    names = {spec.name for spec in describe()}
    forwarded = constant("FORWARDED")
    assert set(forwarded.values()) <= names
    text = PATH.read_text()
    for argument in forwarded:
        assert f'("{argument}", "",' in text  # empty: the parameter file decides


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


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("human_perception_launch", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_launch
def test_every_argument_is_listed_and_described() -> None:
    arguments = {a.name: a for a in load().generate_launch_description().get_launch_arguments()}
    assert set(arguments) == EXPECTED
    assert all(len(argument.description) > 10 for argument in arguments.values())
    transport = next(spec for spec in describe() if spec.name == "input.transport")
    assert set(arguments["transport"].choices) == {"", *transport.choices}


@needs_launch
def test_parameter_file_holds_only_what_was_given() -> None:
    from launch.substitutions import LaunchConfiguration

    from launch import LaunchContext

    module, context = load(), LaunchContext()
    context.launch_configurations.update(
        {"device": "cpu", **dict.fromkeys(("regressor", "weights", "body_models", "engine", "transport", "params"), "")}
    )
    values = {parameter: LaunchConfiguration(name) for name, parameter in module.FORWARDED.items()}
    path = Path(module.ParameterFile(values).perform(context))
    assert yaml.safe_load(path.read_text()) == {"/**": {"ros__parameters": {"device": "cpu"}}}
    path.unlink()
    context.launch_configurations["params"] = "/no/such/file.yaml"
    with pytest.raises(FileNotFoundError, match="params:="):
        module.UserFile().perform(context)


@needs_launch
def test_rviz_gets_the_topics_of_this_launch() -> None:
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update({"namespace": "/left/human", "image": "/left/image_raw"})
    path = Path(load().RvizConfig().perform(context))
    text = path.read_text()
    path.unlink()
    assert "/left/human/mesh" in text
    assert "/left/image_raw" in text
    assert " /human/" not in text


@needs_launch
@pytest.mark.parametrize(("profile", "expected"), [("auto", True), ("none", False)])
def test_the_profile_is_set_for_its_own_nodes_only(profile, expected, monkeypatch) -> None:
    from launch import LaunchContext

    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    context = LaunchContext()
    context.launch_configurations["dds_profile"] = profile
    for action in load()._environment(context):
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
