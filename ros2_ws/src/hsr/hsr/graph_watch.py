"""What the ROS graph says about why nothing arrives: wrong topics, endpoints that do not match, nodes there twice.

Asked once for each diagnostics message; nothing here is on the path of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rclpy.qos import QoSCompatibility, qos_check_compatible

from hsr_core.near_names import near_names

from .diagnostics import Status
from .qos import node_of

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
FRAMES = "tf2_msgs/msg/TFMessage"
MOST_NAMED = 4


def image_hint(node: Any, topic: str) -> str:
    """Return what may be meant instead of an image topic without images; "" when the topic has a publisher.

    Args:
        topic: Resolved name, perhaps with /compressed.
    """
    if node.count_publishers(topic):
        return ""
    own = f"{node.get_namespace().rstrip('/')}/"
    there = {
        name: types[0]
        for name, types in node.get_topic_names_and_types()
        if types[0] in IMAGES and not name.startswith(own) and node.count_publishers(name)
    }
    if not there:
        return "nobody publishes images"
    near = near_names(topic, there, MOST_NAMED, 0.0)
    names = ", ".join(name.removesuffix("/compressed") if name == f"{topic}/compressed" else name for name in near)
    if f"{topic}/compressed" in there:
        return f"only {topic}/compressed is published: set input.transport to compressed or auto"
    return f"nobody publishes it; images are published on {names}: remap image to one of them"


def wrong_type(node: Any, topic: str, wanted: str) -> str:
    """Return what is wrong when a topic has publishers, and none of the wanted type; "" when nothing."""
    kinds = sorted({info.topic_type for info in node.get_publishers_info_by_topic(topic)})
    return f"{topic} carries {', '.join(kinds)}, not {wanted}" if kinds and wanted not in kinds else ""


def mismatches(node: Any, topic: str) -> list[str]:
    """Return other nodes' endpoints on a topic that do not match this node's by quality of service, each a sentence."""
    # This node's own endpoints are taken from the graph, too: only there are all policies as the middleware has them.
    own_publishers, publishers = _own_and_others(node, node.get_publishers_info_by_topic(topic))
    own_subscriptions, subscriptions = _own_and_others(node, node.get_subscriptions_info_by_topic(topic))
    pairs = [(ours, other, other, "receives nothing") for ours in own_publishers for other in subscriptions]
    pairs += [
        (other, ours, other, "does not match this node's subscription")
        for ours in own_subscriptions
        for other in publishers
    ]
    out = []
    for publisher, subscription, other, what in pairs:
        verdict, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
        if verdict == QoSCompatibility.ERROR:
            out.append(f"{topic}: {node_of(other)} {what} ({_plain(reason)})")
    return out


def doubles(node: Any) -> str:
    """Return what is wrong when another node of the same name is there; "" when none is."""
    own = node.get_fully_qualified_name()
    names = [f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()]
    count = names.count(own)
    return f"{count} nodes are called {own}: they publish on the same topics and take each other's requests; start " \
        "the others with another namespace, or end them" if count > 1 else ""  # fmt: skip


def shared(node: Any, topic: str) -> str:
    """Return what is wrong when others publish on a topic of this node; "" when nobody does, or all do as on /tf."""
    count = node.count_publishers(topic)
    if count < 2 or any(info.topic_type == FRAMES for info in node.get_publishers_info_by_topic(topic)):
        return ""
    return f"{topic} has {count} publishers: another node publishes there, too"


def no_clock(node: Any) -> str:
    """Return what is wrong when time is to come from /clock and does not; "" when nothing."""
    waits = node.get_parameter("use_sim_time").value and not node.count_publishers("/clock")
    return "use_sim_time is true and nobody publishes /clock: time stands still" if waits else ""


def graph_status(node: Any, names: Mapping[str, str], subscribed: Iterable[str], published: Iterable[str]) -> Status:
    """Return a status of the node's place in the graph.

    Args:
        names: Resolved topic by name: shows what was remapped.
        subscribed, published: Topics of this node.
    """
    subscribed, published = list(subscribed), list(published)
    status = Status("graph", {"node": node.get_fully_qualified_name(), **names})
    problems = [doubles(node), no_clock(node)]
    for topic in (*subscribed, *published):
        problems += mismatches(node, topic)
    if not problems[0]:
        problems += filter(None, (shared(node, topic) for topic in published))
    for text in filter(None, problems):
        status.warn(text)
    return status


def _own_and_others(node: Any, endpoints: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    name, sides = (node.get_name(), node.get_namespace()), ([], [])
    for info in endpoints:
        sides[(info.node_name, info.node_namespace) != name].append(info)
    return sides


def _plain(reason: str) -> str:
    """Return rclpy's reason without its marks."""
    return reason.replace("ERROR:", "").strip().rstrip(";").lower()
