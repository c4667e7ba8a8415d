"""A robot that follows the person in front of the camera.

    ros2 launch hsr teleop.launch.py robot:=talos source:=clip demo:=true view:=true    # simulated, moves by itself
    ros2 launch hsr teleop.launch.py robot:=g1 source:=webcam:0 mount:="0 0 1.4 0 10 0" joy:=true view:=true
    ros2 launch hsr teleop.launch.py robot:=mine.yaml sim:=false preset:=realsense world_frame:=odom deadman:=/joy

Includes human_perception.launch.py; its arguments are arguments here, too. docs/teleop.md has what to do before a robot
moves.
"""

import importlib.util

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from hsr.camera_mount import CAMERA, FORM, mount_of
from hsr.environment import share_dir
from hsr.launching import (
    Autostart,
    ParameterFile,
    SimTime,
    UserFile,
    check_arguments,
    environment,
    given,
)
from hsr.retarget_params import DEFAULTS as RETARGET_DEFAULTS
from hsr.robot_description import robot_description
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node, PushRosNamespace, SetParameter, SetRemap
from launch_ros.parameter_descriptions import ParameterValue

from hsr_core.errors import ConfigError
from hsr_core.retarget.mapping import built_in
from launch import Action, LaunchContext, LaunchDescription

FILE = share_dir() / "launch" / "human_perception.launch.py"
DEADMAN_HZ = 50.0
"""Of a joystick that is started here: a level older than 150 ms counts as released."""

_spec = importlib.util.spec_from_file_location("human_perception_launch", FILE)
_perception = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_perception)

TELEOP_ARGUMENTS = (
    ("robot", "", "Robot: a name of `hsr robot list`, or the path of a mapping", None),
    ("robot_mode", "upper_body", "Mode of its mapping", None),
    (
        "input",
        "",
        "Stream of people that is followed; empty: as the parameter file says",
        ["", "raw", "smoothed", "refined"],
    ),
    (
        "mirror",
        "",
        "The operator faces the robot: left moves right; empty: as the parameter file says",
        ["", "true", "false"],
    ),
    (
        "operator",
        "",
        "Who chooses: manual, by retarget/select; primary, the primary person; empty: as the parameter file says",
        ["", "manual", "primary"],
    ),
    ("deadman", "retarget/deadman", "Topic of the deadman, sensor_msgs/Joy at 20 Hz or more", None),
    ("deadman_button", "", "Number of its button; empty: as the parameter file says", None),
    ("joy", "false", "Start joy_node (package joy) as the deadman", ["true", "false"]),
    ("joint_states", "/joint_states", "Joint states of the robot", None),
    ("joint_command", "retarget/joint_command", "Where commands go, sensor_msgs/JointState", None),
    ("trajectory", "", "Where they go as JointTrajectory, too, such as a controller's topic; empty: nowhere", None),
    ("sim", "true", "Simulate the robot; false: yours publishes joint_states and takes commands", ["true", "false"]),
    ("demo", "false", "Play the operator, too: choose, arm, engage, press; with sim only", ["true", "false"]),
    ("mount", "", f"Where the camera is, where TF does not lead to it: {FORM}", None),
    ("mount_frame", CAMERA, "Frame of the camera that the mount is of; body axes unless it is an optical one", None),
    ("engagements", "", "Record each engagement into this folder; empty: as the parameter file says", None),
    (
        "robot_state_publisher",
        "false",
        "Publish the robot's frames and its URDF as robot_description (package robot_state_publisher)",
        ["true", "false"],
    ),
)
FOR_CLIP = {"people": "1", "back_and_forth": "true"}
"""What is not said is so for the bundled clip: passers-by cost time, and a cut each 3.8 s would end the engagement."""
ARGUMENTS = (
    *TELEOP_ARGUMENTS,
    *(
        (name, "" if name in FOR_CLIP else default, text, ["", *choices] if name in FOR_CLIP and choices else choices)
        for name, default, text, choices in _perception.ARGUMENTS
    ),
)
FORWARDED = {
    "robot": "robot",
    "robot_mode": "robot_mode",
    "input": "input",
    "mirror": "mirror",
    "operator": "operator",
    "deadman_button": "deadman.button",
    "engagements": "record.folder",
    "trajectory_wanted": "publish.trajectory",
}
"""Launch arguments that are parameters of the retarget node when they are not empty."""
ROBOT_TOPICS = {
    "/joint_states": "joint_states",
    "retarget/deadman": "deadman",
    "retarget/joint_command": "joint_command",
}
"""Topics between the retarget node and a robot, and the arguments that give them other names."""


def _check(context: LaunchContext) -> None:
    """Refuse a launch before anything is started."""
    check_arguments(context)
    robot, mode = given(context, "robot"), given(context, "robot_mode")
    if not robot:
        raise ConfigError(f"robot:= is missing: {', '.join(built_in())}, or the path of a mapping of your own")
    robot_description(robot, mode)
    if given(context, "demo") == "true" and given(context, "sim") != "true":
        raise ConfigError("demo:=true plays the operator: only for a simulated robot (sim:=true)")
    for name in ("joy", "robot_state_publisher"):
        if given(context, name) == "true":
            _need_package(name)
    source = given(context, "source")
    context.launch_configurations["mount"], context.launch_configurations["world_frame"] = mount_of(
        source, given(context, "mount"), given(context, "world_frame")
    )
    for name, value in FOR_CLIP.items():
        if not given(context, name):
            default = next(row[1] for row in _perception.ARGUMENTS if row[0] == name)
            context.launch_configurations[name] = value if source == "clip" else default
    context.launch_configurations["trajectory_wanted"] = "true" if given(context, "trajectory") else ""


def _need_package(name: str) -> None:
    try:
        get_package_prefix(name)
    except PackageNotFoundError:
        package = f"ros-$ROS_DISTRO-{name.replace('_', '-')}"
        raise ConfigError(f"{name}:=true needs the package {name}: apt install {package}") from None


def _include(context: LaunchContext) -> list[Action]:
    """Return the perception's part; the page is started here, because it shows the robot."""
    names = [name for name, *_ in _perception.ARGUMENTS]
    arguments = {name: given(context, name) for name in names} | {"view": "false"}
    return [GroupAction([IncludeLaunchDescription(str(FILE), launch_arguments=arguments.items())])]


def _text(name: str) -> ParameterValue:
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def _retarget() -> LifecycleNode:
    return LifecycleNode(
        package="hsr",
        executable="retarget_node",
        exec_name="retarget",
        name="retarget",
        namespace="",
        parameters=[
            str(share_dir() / "config" / "retarget.yaml"),
            UserFile("retarget.yaml"),
            ParameterFile({parameter: name for name, parameter in FORWARDED.items()}, RETARGET_DEFAULTS, "retarget"),
        ],
        remappings=[(topic, LaunchConfiguration(name)) for topic, name in ROBOT_TOPICS.items()],
        **_perception._common(),
    )


def _sim() -> Node:
    return Node(
        package="hsr",
        executable="robot_sim_node",
        exec_name="robot_sim",
        name="robot_sim",
        parameters=[
            {"robot": _text("robot"), "robot_mode": _text("robot_mode"), "play_operator": LaunchConfiguration("demo")}
        ],
        remappings=[(topic, LaunchConfiguration(name)) for topic, name in ROBOT_TOPICS.items()],
        condition=IfCondition(LaunchConfiguration("sim")),
        **_perception._common(),
    )


def _view() -> Node:
    return Node(
        package="hsr",
        executable="view_node",
        exec_name="view",
        name="view",
        parameters=[{"robot": _text("robot"), "robot_mode": _text("robot_mode")}],
        remappings=[("image", LaunchConfiguration("image")), ("/joint_states", LaunchConfiguration("joint_states"))],
        condition=IfCondition(LaunchConfiguration("view")),
        **_perception._common(),
    )


def _others(context: LaunchContext) -> list[Action]:
    """Return what is started only where it is wanted: the camera's mount, a joystick, the robot's frames."""
    out: list[Action] = []
    if given(context, "mount"):
        values = {"mount": "mount", "world_frame": "world_frame", "frame": "mount_frame"}
        out.append(
            Node(
                package="hsr",
                executable="mount_node",
                exec_name="camera_mount",
                name="camera_mount",
                parameters=[{parameter: _text(name) for parameter, name in values.items()}],
                **_perception._common(),
            )
        )
    if given(context, "joy") == "true":
        out.append(
            Node(
                package="joy",
                executable="joy_node",
                name="deadman",
                parameters=[{"autorepeat_rate": DEADMAN_HZ}],
                remappings=[("joy", LaunchConfiguration("deadman"))],
                output="screen",
            )
        )
    if given(context, "robot_state_publisher") == "true":
        description = robot_description(given(context, "robot"), given(context, "robot_mode"))
        out.append(
            Node(
                package="robot_state_publisher",
                executable="robot_state_publisher",
                namespace="/",
                parameters=[{"robot_description": ParameterValue(description, value_type=str)}],
                remappings=[("joint_states", LaunchConfiguration("joint_states"))],
                output="screen",
            )
        )
    return out


def _trajectory(context: LaunchContext) -> list[Action]:
    """Send trajectories where they are wanted; without a topic none are published."""
    topic = given(context, "trajectory")
    return [SetRemap("retarget/joint_trajectory", topic)] if topic else []


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    retarget = _retarget()
    # The group keeps defaults, namespace and environment from leaking into a launch file that includes this one.
    group = GroupAction(
        [
            *declared,
            OpaqueFunction(function=_check),
            OpaqueFunction(function=_include),
            PushRosNamespace(LaunchConfiguration("namespace")),
            OpaqueFunction(function=environment),
            SetParameter("use_sim_time", SimTime()),
            OpaqueFunction(function=_trajectory),
            *Autostart(retarget).handlers(),
            retarget,
            _sim(),
            _view(),
            OpaqueFunction(function=_others),
        ]
    )
    return LaunchDescription([group])
