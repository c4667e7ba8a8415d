"""What the launch files share: values that are worked out when a launch runs, and the start of lifecycle nodes."""

from __future__ import annotations

import copy
import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import launch.logging
import yaml
from launch.actions import EmitEvent, OpaqueFunction, RegisterEventHandler, SetEnvironmentVariable, TimerAction
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from hsr_core.config import SettingSpec, describe
from hsr_core.sources import HELP as SOURCES
from hsr_core.sources import source_exists
from launch import Action, LaunchContext, Substitution

from .bag_topics import BagTopics, bag_topics
from .camera_presets import find_preset
from .environment import share_dir, transport_environment
from .parameter_files import check_file

ASK_AGAIN_S = 5.0


def given(context: LaunchContext, name: str) -> str:
    """Return a launch argument's value."""
    return LaunchConfiguration(name).perform(context)


def namespace(context: LaunchContext) -> str:
    """Return the namespace of the nodes, with that of a launch file around this one."""
    pushed = context.launch_configurations.get("ros_namespace", "")
    return (pushed or given(context, "namespace")).strip("/")


class CameraTopic(Substitution):
    """A topic of the camera that the arguments `preset`, `camera` or `bag` name.

    Args:
        name: image, camera_info, depth or depth_info.
        otherwise: Without a preset that has it: the name under `camera`, or a relative name if there is no slash.
    """

    def __init__(self, name: str, otherwise: str) -> None:
        super().__init__()
        self._name, self._otherwise = name, otherwise

    def describe(self) -> str:
        return f"the preset's {self._name}, else {self._otherwise}"

    def perform(self, context: LaunchContext) -> str:
        preset, camera, bag = (given(context, name) for name in ("preset", "camera", "bag"))
        if preset:
            return getattr(find_preset(preset).topics(camera or None), self._name) or self._name
        if bag and not camera:
            image = given(context, "image") if self._name != "image" else ""
            return getattr(bag_topics(bag, image), self._name) or self._otherwise
        return self._otherwise.replace("<camera>", camera or "/camera")


def plays_by_ros2(found: BagTopics) -> bool:
    """Whether `ros2 bag play` plays a recording: where it is installed, unless the frames of recorded people, which
    only our player leaves out, would come beside those of the new people."""
    return not found.people and shutil.which("ros2") is not None and importlib.util.find_spec("ros2bag") is not None


class Transport(Substitution):
    """The argument `transport`; without one that of the recording that is played, if one is."""

    def describe(self) -> str:
        return "transport, else that of the bag"

    def perform(self, context: LaunchContext) -> str:
        bag = given(context, "bag")
        return given(context, "transport") or (bag_topics(bag, given(context, "image")).transport if bag else "")


class SimTime(Substitution):
    """Whether nodes take their time from /clock: as told, and always with a recording."""

    def describe(self) -> str:
        return "use_sim_time, or a bag is played"

    def perform(self, context: LaunchContext) -> str:
        return "true" if given(context, "bag") else given(context, "use_sim_time")


class ParameterFile(Substitution):
    """The path of a parameter file with those arguments that are not empty.

    Args:
        arguments: Launch argument by parameter name, or a substitution that gives its value.
        settings: Group of settings that has these parameters; gives their types.
        node: Name of the node that it is for.
    """

    def __init__(
        self, arguments: Mapping[str, str | Substitution], settings: object = None, node: str = "perception"
    ) -> None:
        super().__init__()
        self._arguments = dict(arguments)
        self._node = node
        self._specs = {spec.name: spec for spec in describe(settings)}

    def describe(self) -> str:
        return f"ParameterFile({', '.join(self._arguments)})"

    def values(self, context: LaunchContext) -> dict[str, bool | int | float | str]:
        """Return the parameters."""
        values = {}
        for parameter, source in self._arguments.items():
            text = given(context, source) if isinstance(source, str) else source.perform(context)
            if text:
                values[parameter] = typed(self._specs[parameter], text)
        return values

    def perform(self, context: LaunchContext) -> str:
        content = {"ros__parameters": nested(self.values(context))}
        # Of all files' sections for a node ROS takes last the one whose name came up last, whichever file holds its
        # values: one that no file of a user's has wins over theirs.
        tree = {name: copy.deepcopy(content) for name in ("/**", f"/**/{namespace(context)}/{self._node}")}
        return write_for_this_launch(yaml.safe_dump(tree), ".yaml")


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{group.name: value}` as `{group: {name: value}}`.

    ROS reads both, but a dotted name in a third file does not replace what two files before it have in groups.
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        group, _, leaf = name.rpartition(".")
        (out.setdefault(group, {}) if group else out)[leaf] = value
    return out


def typed(spec: SettingSpec, text: str) -> bool | int | float | str:
    """Return a launch argument's text as the parameter's type.

    Raises:
        ConfigError: It is not one, out of range or not one of the choices.
    """
    if isinstance(spec.default, str):
        return spec.check(text)
    return spec.check(yaml.safe_load(text))


class UserFile(Substitution):
    """The user's parameter file, checked; without one the package's own again."""

    def __init__(self, default: str) -> None:
        super().__init__()
        self._default = default

    def describe(self) -> str:
        return "UserFile(params)"

    def perform(self, context: LaunchContext) -> str:
        path = given(context, "params")
        return str(Path(path).expanduser()) if path else str(share_dir() / "config" / self._default)


class RvizConfig(Substitution):
    """A copy of rviz/human.rviz with the topics and the fixed frame of this launch."""

    def describe(self) -> str:
        return "RvizConfig(namespace, image, fixed_frame)"

    def perform(self, context: LaunchContext) -> str:
        text = (share_dir() / "rviz" / "human.rviz").read_text()
        text = text.replace("/human/", f"/{namespace(context)}/").replace("/camera/image_raw", given(context, "image"))
        frame = given(context, "fixed_frame") or given(context, "world_frame")
        if frame:
            text = text.replace("Fixed Frame: camera_color_optical_frame", f"Fixed Frame: {frame}")
        return write_for_this_launch(text, ".rviz")


def check_arguments(context: LaunchContext) -> None:
    """Refuse a launch before anything is started: a parameter file with mistakes, a source that does not exist."""
    path = given(context, "params")
    if path:
        check_file(path, namespace(context))
    if given(context, "preset"):
        find_preset(given(context, "preset"))
    if given(context, "bag") and given(context, "source"):
        raise ValueError("bag:= and source:= are two cameras at once: give one of them")
    source = given(context, "source")
    if source and not source_exists(source):
        raise ValueError(f"no source {source!r}; it can be {SOURCES}")
    record = given(context, "record")
    if record and Path(record).exists():
        raise ValueError(f"record:={record} exists already; choose a folder that does not")


def environment(context: LaunchContext) -> list[SetEnvironmentVariable]:
    """Set the transport profile and the allocator's thresholds for the nodes of this file only."""
    variables = transport_environment(given(context, "dds_profile"), context.environment)
    return [SetEnvironmentVariable(*item) for item in variables.items()]


def write_for_this_launch(text: str, suffix: str) -> str:
    """Write beside the logs of this launch and return the path."""
    folder = launch.logging.launch_config.log_dir
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="human_perception_", suffix=suffix, delete=False) as file:
        file.write(text)
    return file.name


class Once:
    """Gives an action the first time that it is asked for it."""

    def __init__(self, action: Action) -> None:
        self._action: Action | None = action

    def __call__(self, context: LaunchContext) -> list[Action]:
        action, self._action = self._action, None
        return [action] if action is not None else []


def when_active(node: LifecycleNode, then: Action) -> RegisterEventHandler:
    """Run an action the first time that a node becomes active."""
    start = OpaqueFunction(function=Once(then))
    return RegisterEventHandler(OnStateTransition(target_lifecycle_node=node, goal_state="active", entities=[start]))


class Autostart:
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
