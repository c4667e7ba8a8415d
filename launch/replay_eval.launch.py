"""What a robot would see: plays a recording through the real nodes in real time and measures rate, drops and latency.

    ros2 launch hsr replay_eval.launch.py bag:=run1 out:=result.json

The nodes are those of human_perception.launch.py, with use_sim_time. `ros2 bag play` plays where it is installed, else
hsr's own player. Everything ends with the recording; the result is printed and written to `out`.
"""

import sys

from hsr.bag_topics import BagTopics, bag_topics
from hsr.environment import share_dir, transport_environment
from hsr.launching import Once, plays_by_ros2
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import Action, LaunchContext, LaunchDescription

READY = b"ready"
"""What the meter says when the perception node takes images."""

# name, default, description, choices
ARGUMENTS = (
    ("bag", None, "Folder of the recording, or its .mcap or .db3 file", None),
    ("image", "", "Image topic of the recording; empty: the only one with a camera info beside it", None),
    (
        "player",
        "auto",
        "ros2 (ros2 bag play), hsr (our player) or auto: ros2 if installed",
        ["auto", "ros2", "hsr"],
    ),
    ("rate", "1.0", "Speed; 1 = as recorded", None),
    ("out", "", "File for the result, as JSON; empty: only print it", None),
    ("record", "", "Record inputs and outputs of the replay into this new folder; empty: record nothing", None),
    ("namespace", "human", "Namespace of the nodes and of their topics", None),
    ("params", "", "Parameter file of the perception node", None),
    ("regressor", "", "auto, landmarks, pear or another registered name; empty: as the parameter file says", None),
    ("weights", "", "PEAR's checkpoint; empty: as the parameter file says, then HSR_PEAR_WEIGHTS", None),
    ("body_models", "", "Folder with SMPL-X and FLAME files; empty: as the parameter file says", None),
    (
        "engine",
        "",
        "What runs the network; empty: as the parameter file says",
        ["", "auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "torch"],
    ),
    ("device", "", "Where the network runs; empty: as the parameter file says", ["", "auto", "cpu", "cuda"]),
    ("view", "false", "Start the web view", ["true", "false"]),
    ("dds_profile", "auto", "Fast DDS profile: auto (ours, unless one is set), none, or a path", None),
    ("log_level", "info", "Least severity that is logged", ["debug", "info", "warn", "error", "fatal"]),
    ("python", sys.executable, "Interpreter of the nodes", None),
)
PASSED_ON = (
    "record", "namespace", "params", "regressor", "weights", "body_models", "engine", "device", "view", "dds_profile",
    "log_level", "python",
)  # fmt: skip
"""Arguments that human_perception.launch.py has, too."""


def _actions(context: LaunchContext) -> list[Action]:
    """Look into the recording, and start what plays, works and measures."""
    # Performed here: what is started by an event later on lies outside the scope of these arguments.
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    found = bag_topics(given["bag"], given["image"])
    nodes = {
        **found.inputs(),
        "transport": found.transport,
        "use_sim_time": "true",
        "source": "",
        "bag": "",  # an included file sees this one's arguments, and would play it, too
        **{name: given[name] for name in PASSED_ON},
    }
    common = {
        "package": "hsr",
        "namespace": "/" + given["namespace"].strip("/"),
        "output": "screen",
        "prefix": [given["python"], " -u"],
        "additional_env": transport_environment(given["dds_profile"], context.environment),
    }
    meter = _meter(given["out"], found, common)
    by_ros2 = given["player"] == "ros2" or (given["player"] == "auto" and plays_by_ros2(found))
    player = _ros2_bag(given, found) if by_ros2 else _player(given, found, common)
    included = IncludeLaunchDescription(
        str(share_dir() / "launch" / "human_perception.launch.py"), launch_arguments=nodes.items()
    )
    ended = EmitEvent(event=Shutdown(reason="the recording has ended"))
    return [
        RegisterEventHandler(OnProcessIO(target_action=meter, on_stdout=_WhenReady(player))),
        RegisterEventHandler(OnProcessExit(target_action=meter, on_exit=[ended])),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=_player_ended)),
        meter,
        GroupAction([included]),
    ]


def _player_ended(event, context: LaunchContext) -> list[Action]:
    """End everything when the player has failed: the meter would wait for it for ever."""
    failed = event.returncode and not context.is_shutdown
    return [EmitEvent(event=Shutdown(reason=f"the player failed with status {event.returncode}"))] if failed else []


class _WhenReady:
    """Starts the player the first time that the meter says it may."""

    def __init__(self, player: Action) -> None:
        self._start = Once(player)

    def __call__(self, event) -> list[Action]:
        return [OpaqueFunction(function=self._start)] if READY in event.text.splitlines() else []


def _meter(out: str, found: BagTopics, common: dict) -> Node:
    return Node(
        executable="replay_meter",
        exec_name="replay_meter",
        name="replay_meter",
        parameters=[{"out": ParameterValue(out, value_type=str)}],
        remappings=[("image", found.images), ("camera_info", found.camera_info)],
        **common,
    )


def _player(given: dict[str, str], found: BagTopics, common: dict) -> Node:
    values = {"path": ParameterValue(given["bag"], value_type=str), "rate": float(given["rate"])}
    return Node(
        executable="play_node",
        exec_name="player",
        name="player",
        parameters=[{**values, "image_topic": found.images, "topics": list(found.camera)}],
        **common,
    )


def _ros2_bag(given: dict[str, str], found: BagTopics) -> ExecuteProcess:
    command = ["ros2", "bag", "play", given["bag"], "--clock", "100", "--rate", given["rate"]]
    command += ["--topics", *found.camera]
    return ExecuteProcess(cmd=command, name="ros2_bag_play", output="screen")


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    return LaunchDescription([GroupAction([*declared, OpaqueFunction(function=_actions)])])
