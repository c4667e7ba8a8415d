"""Several cameras: a perception node for each, under /<camera>/human.

    ros2 launch hsr cameras.launch.py cameras:=/front,/rear
    ros2 launch hsr cameras.launch.py cameras:=/front/camera,/rear/camera preset:=realsense one_process:=true
    ros2 launch hsr cameras.launch.py cameras:=cameras.yaml

The third form has a list with an entry for each camera, whose keys are the arguments of human_perception.launch.py:

    - {namespace: front/human, preset: realsense, camera: /front/camera, people: 4}
    - {namespace: rear/human, image: /rear/picture, camera_info: /rear/camera_info, view: true}

People of different cameras have different ids (blocks of a million numbers), so that their frames on /tf stay apart,
and each camera has its own REP-155 topics under /<camera>/humans.
"""

import importlib.util
from pathlib import Path

import yaml
from hsr.environment import share_dir
from hsr.launching import ParameterFile, SimTime, UserFile, check_arguments, environment, given, write_for_this_launch
from hsr.parameter_files import nearest
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch_ros.actions import Node

from hsr_core.errors import ConfigError
from hsr_core.threads import shared_by
from launch import Action, LaunchContext, LaunchDescription

FILE = share_dir() / "launch" / "human_perception.launch.py"
IDS_PER_CAMERA = 1_000_000
RESPAWN_DELAY_S = 2.0

_spec = importlib.util.spec_from_file_location("human_perception_launch", FILE)
_one_camera = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_one_camera)

SHARED = (
    "preset", "transport", "source", "params", "regressor", "weights", "body_models", "engine", "device", "people",
    "world_frame", "tf", "rep155", "refine", "view", "autostart", "respawn", "dds_profile", "use_sim_time", "log_level",
    "python",
)  # fmt: skip
"""Arguments of human_perception.launch.py that are for every camera here; an entry of the file may say otherwise."""
ARGUMENTS = (
    (
        "cameras",
        None,
        "Bases of the cameras' topics, such as /front,/rear; or a YAML file with a list of cameras",
        None,
    ),
    (
        "one_process",
        "false",
        "All perception nodes in one process: less memory, but they share Python",
        ["true", "false"],
    ),
    *(row for row in _one_camera.ARGUMENTS if row[0] in SHARED),
)


def _cameras(text: str) -> list[dict[str, str]]:
    """Return the arguments of each camera.

    Raises:
        ConfigError: An argument that does not exist, two cameras in one namespace, or none at all.
    """
    if Path(text).suffix in (".yaml", ".yml"):
        entries = yaml.safe_load(Path(text).expanduser().read_text())
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigError(
                f"{text} must hold a list of cameras, each with arguments of {FILE.name}: {{camera: /front}}"
            )
    else:
        entries = [{"camera": base} for base in filter(None, text.replace(" ", "").split(","))]
    known = [name for name, *_ in _one_camera.ARGUMENTS]
    out = []
    for number, entry in enumerate(entries):
        for key in entry:
            if key not in known:
                raise ConfigError(f"camera {number + 1} of {text}: unknown argument {key!r}{nearest(key, known)}")
        space = entry.get("namespace") or f"{entry.get('camera', f'camera{number + 1}')}/human"
        space = space.strip("/")
        root = f"/{space}s" if space.endswith("human") else f"/{space}/humans"
        said = {key: "" if value is None else value for key, value in entry.items()}
        values = {"first_id": 1 + number * IDS_PER_CAMERA, "humans": root, **said, "namespace": space}
        out.append(
            {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
        )
    spaces = [entry["namespace"] for entry in out]
    if not out or len(set(spaces)) < len(spaces):
        raise ConfigError(f"cameras:={text}: each camera needs a name of its own, not {', '.join(spaces) or 'none'}")
    return out


def _start(context: LaunchContext) -> list[Action]:
    shared = {name: given(context, name) for name in SHARED}
    cameras = [{**shared, **camera} for camera in _cameras(given(context, "cameras"))]
    together = given(context, "one_process") == "true"
    entries = [_entry(camera) for camera in cameras]  # a mistake in the last one starts none
    actions: list[Action] = [SetEnvironmentVariable(*item) for item in shared_by(len(cameras)).items()]
    for camera in cameras:
        arguments = {**camera, "perception": "false"} if together else camera
        actions.append(GroupAction([IncludeLaunchDescription(str(FILE), launch_arguments=arguments.items())]))
    return [*actions, _nodes(context, entries)] if together else actions


def _nodes(context: LaunchContext, entries: list[dict]) -> Node:
    """Return the process with all perception nodes."""
    path = write_for_this_launch(yaml.safe_dump(entries), ".yaml")
    autostart = [] if given(context, "autostart") == "true" else ["--no-autostart"]
    return Node(
        package="hsr",
        executable="camera_nodes",
        exec_name="cameras",
        arguments=[path, *autostart],
        prefix=[given(context, "python")],
        output="screen",
        emulate_tty=True,
        respawn=given(context, "respawn") == "true",
        respawn_delay=RESPAWN_DELAY_S,
        ros_arguments=["--log-level", given(context, "log_level")],
    )


def _entry(camera: dict[str, str]) -> dict:
    """Return a camera as hsr.camera_nodes reads it."""
    context = LaunchContext()
    context.launch_configurations.update(camera)
    for name, default, text, choices in _one_camera.ARGUMENTS:
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices).execute(context)
    check_arguments(context)
    forwarded = ParameterFile(_one_camera._forwarded(_one_camera.FORWARDED))
    return {
        "namespace": f"/{given(context, 'namespace')}",
        "remap": {name: given(context, name) for name in _one_camera.INPUTS},
        "params": [UserFile("perception.yaml").perform(context), forwarded.perform(context)],
        "set": {"use_sim_time": SimTime().perform(context) == "true"},
    }


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    return LaunchDescription(
        [GroupAction([*declared, OpaqueFunction(function=environment), OpaqueFunction(function=_start)])]
    )
