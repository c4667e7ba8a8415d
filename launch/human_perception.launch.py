"""People in front of a camera: the perception node and, if wanted, a source, a web view and RViz.

    ros2 launch hsr human_perception.launch.py camera:=/camera rviz:=true
    ros2 launch hsr human_perception.launch.py source:=walk.mp4 view:=true

For two cameras include this file twice with two namespaces, each inside a GroupAction of its own: an included file's
arguments otherwise stay set for the next one.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import launch.logging
import yaml
from hsr.environment import share_dir, transport_environment
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    GroupAction,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from launch_ros.actions import LifecycleNode, Node, PushRosNamespace, SetParameter
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription, SomeSubstitutionsType, Substitution

RESPAWN_DELAY_S = 2.0
ASK_AGAIN_S = 5.0

# name, default, description, choices
ARGUMENTS = (
    ("camera", "/camera", "Base of the camera's topics", None),
    ("image", [LaunchConfiguration("camera"), "/image_raw"], "Image topic", None),
    ("camera_info", [LaunchConfiguration("camera"), "/camera_info"], "Camera info topic", None),
    ("transport", "", "Image transport; empty: as the parameter file says", ["", "raw", "compressed"]),
    (
        "source",
        "",
        "Play this as the camera: a video file, webcam:0 or synthetic; empty: a camera runs elsewhere",
        None,
    ),
    (
        "back_and_forth",
        "false",
        "Play every second time of a short source backwards: without a cut a person stays one person",
        ["true", "false"],
    ),
    ("namespace", "human", "Namespace of the nodes and of their topics", None),
    ("params", "", "Parameter file, laid over the defaults in config/perception.yaml", None),
    ("regressor", "", "auto, landmarks, pear or another registered name; empty: as the parameter file says", None),
    ("weights", "", "PEAR's checkpoint; empty: as the parameter file says, then HSR_PEAR_WEIGHTS", None),
    ("body_models", "", "Folder with SMPL-X and FLAME files; empty: as the parameter file says", None),
    ("engine", "", "auto, tensorrt, tensorrt-rtx, onnxruntime or torch; empty: as the parameter file says", None),
    ("device", "", "auto, cpu or cuda; empty: as the parameter file says", None),
    ("refine", "false", "Start the refiner: windows of better people, and an avatar of them", ["true", "false"]),
    ("depth", "depth", "Depth image for the refiner, registered to the image", None),
    ("depth_info", "depth_info", "Camera info of the depth image", None),
    ("mask", "mask", "Image of masks for the refiner", None),
    ("record", "", "Record images, people and statistics into this new folder; empty: record nothing", None),
    ("view", "false", "Start the web view", ["true", "false"]),
    ("rviz", "false", "Start RViz with the package's displays", ["true", "false"]),
    ("autostart", "true", "Configure and activate the perception node and the refiner", ["true", "false"]),
    ("respawn", "true", "Start a node again 2 s after it died", ["true", "false"]),
    ("dds_profile", "auto", "Fast DDS profile: auto (ours, unless one is set), none, or a path", None),
    ("use_sim_time", "false", "Take the time from /clock", ["true", "false"]),
    ("log_level", "info", "Least severity that is logged", ["debug", "info", "warn", "error", "fatal"]),
    ("python", sys.executable, "Interpreter of the nodes", None),
)
FORWARDED = {
    "transport": "input.transport",
    "regressor": "regressor",
    "weights": "pear.weights",
    "body_models": "body_model.path",
    "engine": "engine",
    "device": "device",
}
"""Launch arguments that are parameters when they are not empty."""
REFINER_FORWARDED = ("transport", "body_models", "engine", "device")
"""Those that are parameters of the refiner, too."""


class ParameterFile(Substitution):
    """The path of a parameter file that holds the values that are not empty."""

    def __init__(self, values: Mapping[str, SomeSubstitutionsType]) -> None:
        super().__init__()
        self._values = {name: normalize_to_list_of_substitutions(value) for name, value in values.items()}

    def describe(self) -> str:
        return f"ParameterFile({', '.join(self._values)})"

    def perform(self, context: LaunchContext) -> str:
        texts = {name: perform_substitutions(context, value) for name, value in self._values.items()}
        given = {name: text for name, text in texts.items() if text}
        return _write_for_this_launch(yaml.safe_dump({"/**": {"ros__parameters": given}}), ".yaml")


class UserFile(Substitution):
    """The user's parameter file, or the default one again when there is none."""

    def describe(self) -> str:
        return "UserFile(params)"

    def perform(self, context: LaunchContext) -> str:
        path = LaunchConfiguration("params").perform(context)
        if not path:
            return str(share_dir() / "config" / "perception.yaml")
        if not Path(path).expanduser().is_file():
            raise FileNotFoundError(f"params:={path}: no such file")
        return str(Path(path).expanduser())


class RvizConfig(Substitution):
    """A copy of rviz/human.rviz with the topics of this launch."""

    def describe(self) -> str:
        return "RvizConfig(namespace, image)"

    def perform(self, context: LaunchContext) -> str:
        text = (share_dir() / "rviz" / "human.rviz").read_text()
        namespace = LaunchConfiguration("namespace").perform(context).strip("/")
        image = LaunchConfiguration("image").perform(context)
        text = text.replace("/human/", f"/{namespace}/").replace("/camera/image_raw", image)
        return _write_for_this_launch(text, ".rviz")


def _write_for_this_launch(text: str, suffix: str) -> str:
    """Write beside the logs of this launch and return the path."""
    folder = launch.logging.launch_config.log_dir
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="human_perception_", suffix=suffix, delete=False) as file:
        file.write(text)
    return file.name


def _environment(context: LaunchContext) -> list[SetEnvironmentVariable]:
    """Set the transport profile and the allocator's thresholds for the nodes of this file only."""
    profile = LaunchConfiguration("dds_profile").perform(context)
    return [SetEnvironmentVariable(*item) for item in transport_environment(profile, context.environment).items()]


def _perception() -> LifecycleNode:
    overrides = {parameter: LaunchConfiguration(argument) for argument, parameter in FORWARDED.items()}
    return LifecycleNode(
        package="hsr",
        executable="perception_node",
        exec_name="perception",
        name="perception",
        namespace="",
        parameters=[str(share_dir() / "config" / "perception.yaml"), UserFile(), ParameterFile(overrides)],
        remappings=[("image", LaunchConfiguration("image")), ("camera_info", LaunchConfiguration("camera_info"))],
        **_common(),
    )


def _refiner() -> LifecycleNode:
    overrides = {FORWARDED[argument]: LaunchConfiguration(argument) for argument in REFINER_FORWARDED}
    inputs = ("image", "camera_info", "depth", "depth_info", "mask")
    return LifecycleNode(
        package="hsr",
        executable="refine_node",
        exec_name="refiner",
        name="refiner",
        namespace="",
        parameters=[str(share_dir() / "config" / "refine.yaml"), UserFile(), ParameterFile(overrides)],
        remappings=[(name, LaunchConfiguration(name)) for name in inputs],
        condition=IfCondition(LaunchConfiguration("refine")),
        **_common(),
    )


def _common() -> dict:
    return {
        "prefix": [LaunchConfiguration("python")],
        "output": "screen",
        "emulate_tty": True,
        "respawn": LaunchConfiguration("respawn"),
        "respawn_delay": RESPAWN_DELAY_S,
        "ros_arguments": ["--log-level", LaunchConfiguration("log_level")],
    }


class _Autostart:
    """Configure the node whenever its process starts, and activate it once it is configured.

    After a crash the middleware takes the dead process's services for alive until its lease ends (20 s), and a request
    may go there: a respawned node is asked again until it is heard of.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._starts = 0
        self._heard = False

    def handlers(self) -> list[RegisterEventHandler]:
        enabled = IfCondition(LaunchConfiguration("autostart"))
        node = self._node
        activate = self._change(Transition.TRANSITION_ACTIVATE)
        handlers = (
            OnProcessStart(target_action=node, on_start=[OpaqueFunction(function=self._started)]),
            OnStateTransition(
                target_lifecycle_node=node, goal_state="configuring", entities=[OpaqueFunction(function=self._hear)]
            ),
            OnStateTransition(
                target_lifecycle_node=node, start_state="configuring", goal_state="inactive", entities=[activate]
            ),
        )
        return [RegisterEventHandler(handler, condition=enabled) for handler in handlers]

    def _started(self, context: LaunchContext) -> list[Action]:
        self._starts += 1
        self._heard = False
        return self._ask(context) if self._starts > 1 else [self._change(Transition.TRANSITION_CONFIGURE)]

    def _hear(self, context: LaunchContext) -> None:
        self._heard = True

    def _ask(self, context: LaunchContext) -> list[Action]:
        if self._heard or context.is_shutdown:
            return []
        again = TimerAction(period=ASK_AGAIN_S, actions=[OpaqueFunction(function=self._ask)])
        return [self._change(Transition.TRANSITION_CONFIGURE), again]

    def _change(self, transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(self._node), transition_id=transition))


def _source() -> Node:
    return Node(
        package="hsr",
        executable="source_node",
        exec_name="source",
        name="source",
        parameters=[{name: LaunchConfiguration(name) for name in ("source", "back_and_forth")}],
        remappings=[
            ("/camera/image_raw", LaunchConfiguration("image")),
            ("/camera/camera_info", LaunchConfiguration("camera_info")),
        ],
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("source"), "")),
        **_common(),
    )


def _recorder() -> Node:
    return Node(
        package="hsr",
        executable="record_node",
        exec_name="recorder",
        name="recorder",
        parameters=[{"path": ParameterValue(LaunchConfiguration("record"), value_type=str)}],
        remappings=[(name, LaunchConfiguration(name)) for name in ("image", "camera_info")],
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("record"), "")),
        **{**_common(), "respawn": False},  # the folder is there the second time
    )


def _view() -> Node:
    return Node(
        package="hsr",
        executable="view_node",
        exec_name="view",
        name="view",
        remappings=[("image", LaunchConfiguration("image"))],
        condition=IfCondition(LaunchConfiguration("view")),
        **_common(),
    )


def _rviz() -> Node:
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", RvizConfig()],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    perception, refiner = _perception(), _refiner()
    # The group keeps defaults, namespace and environment from leaking into a launch file that includes this one.
    group = GroupAction(
        [
            *declared,
            OpaqueFunction(function=_environment),
            PushRosNamespace(LaunchConfiguration("namespace")),
            SetParameter("use_sim_time", LaunchConfiguration("use_sim_time")),
            *_Autostart(perception).handlers(),
            perception,
            *_Autostart(refiner).handlers(),
            refiner,
            _source(),
            _recorder(),
            _view(),
            _rviz(),
        ]
    )
    return LaunchDescription([group])
