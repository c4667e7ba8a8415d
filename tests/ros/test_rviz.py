"""rviz/human.rviz against RViz' rules, and against what the nodes publish. RViz itself is not run."""

from __future__ import annotations

import pytest
import yaml
from harness import Perception
from hsr import qos
from hsr.environment import share_dir
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

TREE = yaml.safe_load((share_dir() / "rviz" / "human.rviz").read_text())
DISPLAYS = {display["Name"]: display for display in TREE["Visualization Manager"]["Displays"]}
# Classes of the package rviz_default_plugins, as its plugins_description.xml lists them, with the type each shows.
TYPES = {
    "rviz_default_plugins/Grid": None,
    "rviz_default_plugins/TF": None,
    "rviz_default_plugins/Marker": "visualization_msgs/msg/Marker",
    "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
    "rviz_default_plugins/PoseArray": "geometry_msgs/msg/PoseArray",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/Camera": "sensor_msgs/msg/Image",
}
TOOLS = {"Interact", "MoveCamera", "Select", "FocusCamera", "Measure"}
TOPIC_KEYS = {"Value", "Depth", "History Policy", "Reliability Policy", "Durability Policy"}
WITH_FILTER = {"rviz_default_plugins/Marker", "rviz_default_plugins/PoseArray", "rviz_default_plugins/PointCloud2"}
"""Displays that wait for the frame of a message, in a queue whose length is `Filter size`."""
POLICIES = {
    "Keep Last": HistoryPolicy.KEEP_LAST, "Reliable": ReliabilityPolicy.RELIABLE,
    "Best Effort": ReliabilityPolicy.BEST_EFFORT, "Volatile": DurabilityPolicy.VOLATILE,
    "Transient Local": DurabilityPolicy.TRANSIENT_LOCAL,
}  # fmt: skip
REFINED = {"Refined mesh": ("/human/refined/mesh", qos.refined_mesh()),
           "Gaussians": ("/human/refined/gaussians", qos.picture())}  # fmt: skip


def topic_of(display: dict) -> dict | None:
    return display.get("Topic") or display.get("Description Topic")


def profile_of(topic: dict) -> QoSProfile:
    return QoSProfile(
        depth=topic["Depth"],
        history=POLICIES[topic["History Policy"]],
        reliability=POLICIES[topic["Reliability Policy"]],
        durability=POLICIES[topic["Durability Policy"]],
    )


def test_the_displays_are_there_in_order_and_those_that_cost_are_off():
    assert list(DISPLAYS) == [
        "Grid", "TF", "Mesh", "Skeleton", "RobotModel", "Joint poses", "Refined mesh", "Gaussians", "Overlay",
        "Camera with mesh",
    ]  # fmt: skip
    off = {name for name, display in DISPLAYS.items() if not display["Enabled"]}
    assert off == {"RobotModel", "Joint poses", "Refined mesh", "Gaussians"}


@pytest.mark.parametrize("name", DISPLAYS)
def test_a_display_has_a_class_and_a_topic_as_rviz_reads_them(name):
    display = DISPLAYS[name]
    assert display["Class"] in TYPES
    topic = topic_of(display)
    assert (topic is None) == (TYPES[display["Class"]] is None)
    if topic is None:
        return
    wanted = TOPIC_KEYS | ({"Filter size"} if display["Class"] in WITH_FILTER else set())
    assert set(topic) == wanted
    assert topic["Value"].startswith("/")
    assert profile_of(topic).depth > 0


def test_tools_view_and_panels_are_those_of_rviz():
    manager = TREE["Visualization Manager"]
    assert {tool["Class"].removeprefix("rviz_default_plugins/") for tool in manager["Tools"]} == TOOLS
    assert manager["Views"]["Current"]["Class"] == "rviz_default_plugins/Orbit"
    assert {panel["Class"] for panel in TREE["Panels"]} == {"rviz_common/Displays", "rviz_common/Views"}
    assert manager["Global Options"]["Fixed Frame"]
    assert set(DISPLAYS["Camera with mesh"]["Visibility"]) >= set(DISPLAYS) - {"Camera with mesh"}
    assert [n for n, shown in DISPLAYS["Camera with mesh"]["Visibility"].items() if shown] == ["Mesh", "Value"]


def test_only_the_frames_of_people_are_drawn():
    import re

    filter_ = re.compile(DISPLAYS["TF"]["Filter (whitelist)"])
    assert filter_.fullmatch("body_abcde")
    assert filter_.fullmatch("head_abcde")
    assert not filter_.fullmatch("odom")
    assert DISPLAYS["TF"]["Show Names"] is False


def test_every_display_receives_what_the_nodes_publish_with_their_own_quality_of_service(rig):
    """Also with RViz' default for a new display: reliable, volatile, depth 5."""
    perception = Perception(rig)
    perception.works()
    default = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
    for name, display in DISPLAYS.items():
        topic = topic_of(display)
        if topic is None:
            continue
        if name in REFINED:
            expected, offered = REFINED[name]
            assert topic["Value"] == expected
            offers, kinds = [offered], {TYPES[display["Class"]]}
        else:
            infos = rig.wait(lambda t=topic: rig.node.get_publishers_info_by_topic(t["Value"]), topic["Value"])
            offers, kinds = [info.qos_profile for info in infos], {info.topic_type for info in infos}
        assert kinds == {TYPES[display["Class"]]}, name
        for offer in offers:
            for asked in (profile_of(topic), default):
                assert qos_check_compatible(offer, asked)[0] != QoSCompatibility.ERROR, name
