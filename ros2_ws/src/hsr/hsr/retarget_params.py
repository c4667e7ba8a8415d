"""The retargeting node's parameters: its own, and everything of `TeleopSettings`."""

from __future__ import annotations

from dataclasses import dataclass, field

from hsr_core.config import setting
from hsr_core.retarget.settings import DeadmanSettings, TeleopSettings


@dataclass(frozen=True)
class NodeSettings:
    robot: str = setting("", "Robot: a name of `hsr robot list`, or the path of a mapping")
    robot_mode: str = setting("upper_body", "Mode of its mapping: upper_body, whole_body, or one of your own")
    input: str = setting(
        "smoothed", "People: people_raw, people, or refined/people", choices=("raw", "smoothed", "refined")
    )
    operator: str = setting(
        "manual",
        "Who is followed: chosen by retarget/select only, or the primary person where nobody is locked",
        choices=("manual", "primary"),
        live=True,
    )


@dataclass(frozen=True)
class ButtonSettings(DeadmanSettings):
    button: int = setting(0, "Number of the deadman's button in sensor_msgs/Joy", low=0, high=63)


@dataclass(frozen=True)
class PublishSettings:
    trajectory: bool = setting(False, "Publish each command as trajectory_msgs/JointTrajectory too")


@dataclass(frozen=True)
class RecordSettings:
    folder: str = setting("", "Folder for a recording of each engagement; empty: none")


@dataclass(frozen=True)
class RetargetSettings(TeleopSettings, NodeSettings):
    """Everything that can be set of the node; it is its session's `TeleopSettings`, too."""

    deadman: ButtonSettings = field(default_factory=ButtonSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)
    record: RecordSettings = field(default_factory=RecordSettings)


DEFAULTS = RetargetSettings()
