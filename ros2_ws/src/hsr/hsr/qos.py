"""Quality of service of every endpoint, in one table.

Outputs are reliable with a shallow history: a reliable writer matches every reader, and the usual tools ask for
reliable. Only descriptions are kept for late joiners; a late joiner must not receive an old person.
"""

from __future__ import annotations

from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

OVERRIDES = QoSOverridingOptions.with_default_policies()
"""Lets users override an endpoint by the standard qos_overrides parameters."""

INPUT_OVERRIDES = QoSOverridingOptions(
    [kind for kind in QoSOverridingOptions.with_default_policies().policy_kinds if kind != QoSPolicyKind.RELIABILITY]
)
"""For subscriptions that follow their publishers: rclpy would hold the reliability of the first one for ever."""


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def image_input(reliable: bool, depth: int = 1) -> QoSProfile:
    return _profile(depth, reliable=reliable)


def camera_info_input(reliable: bool) -> QoSProfile:
    return _profile(1, reliable=reliable)


def mesh(people_max: int) -> QoSProfile:
    return _profile(max(4, people_max))


def people() -> QoSProfile:
    return _profile(5)


def joint_states() -> QoSProfile:
    return _profile(5)


def skeleton(people_max: int) -> QoSProfile:
    return _profile(2 * people_max)


def joint_poses() -> QoSProfile:
    return _profile(5)


def mesh_compact(people_max: int) -> QoSProfile:
    return _profile(people_max)


def body_model() -> QoSProfile:
    return _profile(4, latched=True)


def overlay() -> QoSProfile:
    return _profile(1)


def stats() -> QoSProfile:
    return _profile(10)


def diagnostics() -> QoSProfile:
    return _profile(10)


def tf() -> QoSProfile:
    """Frames, as tf2's broadcaster and listener have them."""
    return _profile(100)


def tf_static() -> QoSProfile:
    return _profile(100, latched=True)


def paired_input(reliable: bool) -> QoSProfile:
    """Depth images and masks, which are paired with images by their stamps."""
    return _profile(4, reliable=reliable)


def rep155() -> QoSProfile:
    return _profile(1)


def rep155_matches() -> QoSProfile:
    return _profile(10)


def description() -> QoSProfile:
    """A URDF."""
    return _profile(1, latched=True)


def refined_people() -> QoSProfile:
    return _profile(64)


def refined_mesh() -> QoSProfile:
    return _profile(4)


def picture() -> QoSProfile:
    """Gaussians and pictures of the refiner."""
    return _profile(1)


def quality() -> QoSProfile:
    return _profile(10, latched=True)


def avatar() -> QoSProfile:
    return _profile(4, latched=True)


def people_newest() -> QoSProfile:
    """For whom only the newest frame counts."""
    return _profile(1)


def level() -> QoSProfile:
    """What is said again and again, by a publisher of any reliability: the deadman's level."""
    return _profile(1, reliable=False)


def joint_parts() -> QoSProfile:
    """A robot's joints, by publishers of any reliability: of several drivers none pushes another's part out."""
    return _profile(20, reliable=False)


def joint_command() -> QoSProfile:
    """To a robot: a late joiner must not receive an old command."""
    return _profile(1)


def retarget_status() -> QoSProfile:
    return _profile(1)


def deadman() -> QoSProfile:
    return _profile(5)


def robot_joint_states() -> QoSProfile:
    return _profile(5)


def extra(reliable: bool, latched: bool) -> QoSProfile:
    """Any topic that a recorder was asked to record, by what its publishers offer."""
    return _profile(100, reliable=reliable, latched=latched)


def match_reliability(node: Any, topic: str, wanted: str = "auto") -> bool:
    """Return whether to subscribe reliably to `topic` (a resolved name).

    `auto`: reliable when all publishers are. A reliable reader does not match a best-effort writer at all; a
    best-effort reader of a reliable writer loses large messages. Without a publisher: reliable.
    """
    if wanted != "auto":
        return wanted == "reliable"
    publishers = node.get_publishers_info_by_topic(topic)
    return all(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers)


def describe_publishers(node: Any, topic: str) -> str:
    """Return who publishes on `topic` and how, for a warning."""
    lines = [
        f"{node_of(info)} ({info.qos_profile.reliability.name.lower()}, {info.qos_profile.durability.name.lower()})"
        for info in node.get_publishers_info_by_topic(topic)
    ]
    return ", ".join(lines) or "nobody"


def node_of(info: Any) -> str:
    """Return the full name of an endpoint's node; an endpoint may be discovered before its node's name is."""
    known = info.node_name != "_NODE_NAME_UNKNOWN_"
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}" if known else "a node just discovered"
