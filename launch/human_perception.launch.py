"""People in front of a camera: the perception node and, if wanted, a source, a recording, a web view and RViz.

    ros2 launch hsr human_perception.launch.py camera:=/camera rviz:=true
    ros2 launch hsr human_perception.launch.py preset:=realsense people:=4 world_frame:=odom
    ros2 launch hsr human_perception.launch.py source:=walk.mp4 view:=true
    ros2 launch hsr human_perception.launch.py bag:=run1

For several cameras see cameras.launch.py, or include this file once for each, with a namespace and a first_id of its
own, each inside a GroupAction of its own: an included file's arguments otherwise stay set for the next one.
"""

import sys

from hsr.bag_topics import bag_topics
from hsr.camera_presets import load_presets
from hsr.environment import share_dir, transport_environment
from hsr.launching import (
    Autostart,
    CameraTopic,
    ParameterFile,
    RvizConfig,
    SimTime,
    Transport,
    UserFile,
    check_arguments,
    environment,
    given,
    namespace,
    plays_by_ros2,
    when_active,
)
from hsr.refine_params import DEFAULTS as REFINER_DEFAULTS
from launch.actions import DeclareLaunchArgument, ExecuteProcess, GroupAction, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import LifecycleNode, Node, PushRosNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

from launch import Action, LaunchContext, LaunchDescription

RESPAWN_DELAY_S = 2.0
OWN = ("/humans/", "/diagnostics", "/rosout", "/parameter_events", "/clock")
"""Beside the namespace: topics of a recording that are not played, because they come from running nodes."""

# name, default, description, choices; an empty choice: as the parameter file says
ARGUMENTS = (
    ("preset", "", "Known camera (config/cameras.yaml): gives the four topics below", ["", *load_presets()]),
    ("camera", "", "Base of the camera's topics; empty: the preset's, else /camera", None),
    ("bag", "", "Play this recording, with its time for all nodes, once the perception node is active", None),
    ("image", CameraTopic("image", "<camera>/image_raw"), "Image topic", None),
    ("camera_info", CameraTopic("camera_info", "<camera>/camera_info"), "Camera info topic", None),
    ("depth", CameraTopic("depth", "depth"), "Depth image, registered to the image; used while it is published", None),
    ("depth_info", CameraTopic("depth_info", "depth_info"), "Camera info of the depth image", None),
    ("mask", "mask", "Image of masks for the refiner", None),
    ("transport", "", "Image transport; empty: as the parameter file says", ["", "auto", "raw", "compressed"]),
    (
        "source",
        "",
        "Play this as the camera: a video file, webcam:0, clip or synthetic; empty: a camera runs elsewhere",
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
    (
        "engine",
        "",
        "What runs the network; empty: as the parameter file says",
        ["", "auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "torch"],
    ),
    ("device", "", "Where the network runs; empty: as the parameter file says", ["", "auto", "cpu", "cuda"]),
    ("people", "", "Most people per frame, 1 to 16; empty: as the parameter file says", None),
    ("first_id", "", "Number of the first person: another million for each camera; empty: 1", None),
    (
        "world_frame",
        "",
        "Fixed frame that TF ties the camera to, such as odom; empty: as the parameter file says",
        None,
    ),
    ("tf", "", "Frames per person on /tf; empty: as the parameter file says", ["", "none", "root", "rep155", "full"]),
    ("rep155", "", "Topics under /humans (ROS4HRI); empty: as the parameter file says", ["", "true", "false"]),
    ("humans", "", "Root of the ROS4HRI topics, another for each camera; empty: as the parameter file says", None),
    ("perception", "true", "Start the perception node; false: it runs elsewhere", ["true", "false"]),
    ("refine", "false", "Start the refiner: windows of better people, and an avatar of them", ["true", "false"]),
    ("record", "", "Record images, people and statistics into this new folder; empty: record nothing", None),
    ("view", "false", "Start the web view", ["true", "false"]),
    ("rviz", "false", "Start RViz with the package's displays", ["true", "false"]),
    ("fixed_frame", "", "RViz' fixed frame; empty: world_frame, else camera_color_optical_frame", None),
    ("autostart", "true", "Configure and activate the perception node and the refiner", ["true", "false"]),
    ("respawn", "true", "Start a node again 2 s after it died", ["true", "false"]),
    ("dds_profile", "auto", "Fast DDS profile: auto (ours, unless one is set), none, or a path", None),
    ("use_sim_time", "false", "Take the time from /clock; always with a bag", ["true", "false"]),
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
    "people": "people.max",
    "first_id": "track.first_id",
    "world_frame": "world_frame",
    "tf": "tf.mode",
    "rep155": "rep155.enabled",
    "humans": "rep155.root",
}
"""Launch arguments that are parameters when they are not empty."""
REFINER_FORWARDED = ("transport", "body_models", "engine", "device")
"""Those that are parameters of the refiner, too."""


INPUTS = ("image", "camera_info", "depth", "depth_info")
"""Topics of the perception node and of the refiner, by the names of their arguments."""


def _forwarded(names) -> dict:
    return {FORWARDED[name]: Transport() if name == "transport" else name for name in names}


def _perception() -> LifecycleNode:
    return LifecycleNode(
        package="hsr",
        executable="perception_node",
        exec_name="perception",
        name="perception",
        namespace="",
        parameters=[
            str(share_dir() / "config" / "perception.yaml"),
            UserFile("perception.yaml"),
            ParameterFile(_forwarded(FORWARDED)),
        ],
        remappings=[(name, LaunchConfiguration(name)) for name in INPUTS],
        condition=IfCondition(LaunchConfiguration("perception")),
        **_common(),
    )


def _refiner() -> LifecycleNode:
    return LifecycleNode(
        package="hsr",
        executable="refine_node",
        exec_name="refiner",
        name="refiner",
        namespace="",
        parameters=[
            str(share_dir() / "config" / "refine.yaml"),
            UserFile("refine.yaml"),
            ParameterFile(_forwarded(REFINER_FORWARDED), REFINER_DEFAULTS, "refiner"),
        ],
        remappings=[(name, LaunchConfiguration(name)) for name in (*INPUTS, "mask")],
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


def _source() -> Node:
    return Node(
        package="hsr",
        executable="source_node",
        exec_name="source",
        name="source",
        parameters=[
            {
                "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
                "back_and_forth": LaunchConfiguration("back_and_forth"),
            }
        ],
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


def _player(context: LaunchContext, perception: LifecycleNode) -> list[Action]:
    """Return what plays the bag, by `ros2 bag play` where it is installed, once the perception node is active."""
    bag = given(context, "bag")
    if not bag:
        return []
    own = (f"/{namespace(context)}/", *OWN)
    found = bag_topics(bag, given(context, "image"))
    topics = [name for name in found.recorded if not name.startswith(own)]
    # What an event starts lies outside the scope of these arguments: everything is given as it is now.
    environ = transport_environment(given(context, "dds_profile"), context.environment)
    if plays_by_ros2(found):
        command = ["ros2", "bag", "play", bag, "--clock", "100", "--topics", *topics]
        return [when_active(perception, ExecuteProcess(cmd=command, output="screen", additional_env=environ))]
    player = Node(
        package="hsr",
        executable="play_node",
        exec_name="player",
        name="player",
        namespace=f"/{namespace(context)}",
        parameters=[
            {"path": ParameterValue(bag, value_type=str), "topics": topics, "image_topic": found.images},
            {"use_sim_time": False},
        ],
        prefix=[given(context, "python")],
        output="screen",
        additional_env=environ,
    )
    return [when_active(perception, player)]


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
            PushRosNamespace(LaunchConfiguration("namespace")),
            OpaqueFunction(function=check_arguments),
            OpaqueFunction(function=environment),
            SetParameter("use_sim_time", SimTime()),
            *Autostart(perception).handlers(),
            OpaqueFunction(function=_player, args=[perception]),
            perception,
            *Autostart(refiner).handlers(),
            refiner,
            _source(),
            _recorder(),
            _view(),
            _rviz(),
        ]
    )
    return LaunchDescription([group])
