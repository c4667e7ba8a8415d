"""What is recorded: a run's inputs and outputs, without what can be rebuilt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsr_msgs.msg import BodyModel, FrameStats, HumanArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from . import qos
from .message_types import message_class as message_class


@dataclass(frozen=True)
class RecordedTopic:
    """A topic that is subscribed from the start; names without a slash are relative to the node's namespace."""

    name: str
    message: type
    profile: QoSProfile


def outputs() -> list[RecordedTopic]:
    """Return the stack's outputs to record; the frames only where tf2_msgs is installed."""
    topics = [
        RecordedTopic("people", HumanArray, deep(qos.people())),
        RecordedTopic("body_model", BodyModel, qos.body_model()),
        RecordedTopic("stats", FrameStats, deep(qos.stats())),
        RecordedTopic("joint_states", JointState, deep(qos.joint_states())),
        RecordedTopic("urdf", String, deep(qos.description())),
    ]
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return topics
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return [
        *topics,
        RecordedTopic("/tf", TFMessage, QoSProfile(depth=100)),
        RecordedTopic("/tf_static", TFMessage, latched),
    ]


def deep(profile: QoSProfile) -> QoSProfile:
    """Return a profile with a longer history: a recorder is nice, and may be late, but wants everything."""
    profile.depth = max(profile.depth, 100)
    return profile


def kind_of(message: type) -> str:
    """Return a message class's name as recordings have it, such as `sensor_msgs/msg/Image`."""
    return f"{message.__module__.split('.')[0]}/msg/{message.__name__}"


def offered(infos: Sequence[Any]) -> list[Qos]:
    """Return the publishers' quality of service as recordings have it, each different one once."""
    profiles = [_recorded(info.qos_profile) for info in infos]
    return list(dict.fromkeys(profiles))


def _recorded(profile: QoSProfile) -> Qos:
    return Qos(
        QosHistory[profile.history.name],
        profile.depth,
        QosReliability[profile.reliability.name],
        QosDurability[profile.durability.name],
        _time(profile.deadline),
        _time(profile.lifespan),
        QosLiveliness[profile.liveliness.name],
        _time(profile.liveliness_lease_duration),
        profile.avoid_ros_namespace_conventions,
    )


def _time(duration: Any) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))
