"""The permissions for SROS 2 name what the nodes really do: no less, and nothing that no node does."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import pytest
from harness import Perception, Rig
from hsr.environment import share_dir
from rclpy.node import NodeNameNonExistentError
from refine_rig import Refiner
from retarget_rig import Teleop

NAMESPACE = "/human"
KINDS = {
    "publish": "publisher",
    "subscribe": "subscriber",
    "reply": "service",
    "request": "client",
}
ALWAYS = {"publish": {"/rosout", "/parameter_events"}, "subscribe": {"/clock"}}
"""Of every node, with use_sim_time and logging."""
COMPRESSED = {"/camera/image_raw/compressed"}
DEPTH = {"/human/depth", "/human/depth/compressedDepth", "/human/depth_info"}
FRAMES = {"/tf", "/tf_static"}
ON_DEMAND = {
    ("perception", "publish"): {"/tf", "/humans/*"},
    ("perception", "subscribe"): COMPRESSED | DEPTH | FRAMES,
    ("refiner", "subscribe"): COMPRESSED | DEPTH | FRAMES | {"/human/mask"},
    ("retarget", "subscribe"): {"/human/people_raw", "/human/refined/people"},
    ("recorder", "subscribe"): COMPRESSED | FRAMES,
    ("view", "subscribe"): {"/camera/image_raw"},
    ("health", "subscribe"): {"/camera/image_raw"},
    ("health", "request"): {"/human/perception/get_state"},
}
"""What a node does only with some of its settings, or where a package is installed."""
Permissions = dict[str, set[str]]


def read_policy() -> dict[str, Permissions]:
    """Return, for each node, the full names that it may publish, subscribe, reply to and request."""
    root = ET.parse(share_dir() / "config" / "sros2_policy.xml").getroot()
    assert root.tag == "policy"
    assert root.get("version") == "0.2.0", "the schema that sros2 checks against"
    out: dict[str, Permissions] = {}
    for enclave in root.findall("enclaves/enclave"):
        (profile,) = enclave.findall("profiles/profile")
        node = profile.get("node")
        assert (profile.get("ns"), enclave.get("path")) == (NAMESPACE, f"{NAMESPACE}/{node}")
        allowed: Permissions = {kind: set() for kind in KINDS}
        for group in profile:
            assert group.tag in ("topics", "services")
            for kind, rule in group.attrib.items():
                assert rule == "ALLOW"
                names = [full_name(item.text, node) for item in group]
                assert len(names) == len(set(names)), f"{node} names something twice"
                allowed[kind] |= set(names)
        out[node] = allowed
    return out


def full_name(text: str, node: str) -> str:
    if text.startswith("~/"):
        return f"{NAMESPACE}/{node}/{text[2:]}"
    return text if text.startswith("/") else f"{NAMESPACE}/{text}"


POLICY = read_policy()
EXAMPLES = {"reader", "supervisor"}
"""Of nodes that are not ours."""


def endpoints(rig: Rig, node: str) -> Permissions:
    """Return what the graph says of a node; nothing when it is not there yet."""
    found: Permissions = {kind: set() for kind in KINDS}
    with suppress(NodeNameNonExistentError):
        for kind, word in KINDS.items():
            ask = getattr(rig.node, f"get_{word}_names_and_types_by_node")
            found[kind] = {name for name, _ in ask(node, NAMESPACE)}
    return found


@pytest.fixture(scope="module")
def seen(rig, tmp_path_factory) -> dict[str, Permissions]:
    """Start all nodes; return every endpoint that each of them has."""
    pytest.importorskip("viser", reason="the web view needs viser: make setup")
    pytest.importorskip("pink", reason="the retargeting node needs pink: make setup")
    from web_visitor import Visitor

    def waits_for(node: str, kind: str, name: str) -> None:
        rig.wait(lambda: name in endpoints(rig, node)[kind], f"{node}: {name}")

    camera = ("-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")
    health = rig.start("health", "hsr.health", "--node", "/human/refiner", "--limit", "60")
    waits_for("health", "request", "/human/refiner/get_state")
    found = {"health": endpoints(rig, "health")}
    rig.stop(health)
    Perception(rig)
    rig.start("camera_mount", "hsr.mount_node")
    rig.start("source", "hsr.source_node", "--ros-args", "-p", "source:=synthetic", "-p", "hfov_deg:=60.0")
    bag = tmp_path_factory.mktemp("bag") / "run"
    rig.start("recorder", "hsr.record_node", "--ros-args", "-p", f"path:={bag}", *camera)
    view = rig.start("view", "hsr.view_node", "--ros-args", "-p", "port:=0", "-p", "robot:=g1", *camera)
    visitor = Visitor(rig.wait(lambda: re.search(r"^view: (http\S+)$", view.tail(100), re.M), "the page")[1])
    Refiner(rig)
    Teleop(rig, "robot:=g1", "publish.trajectory:=true")
    waits_for("perception", "subscribe", "/camera/image_raw")
    waits_for("source", "publish", "/camera/camera_info")
    waits_for("recorder", "subscribe", "/camera/image_raw")
    waits_for("recorder", "subscribe", "/camera/camera_info")
    waits_for("refiner", "subscribe", "/human/people")
    waits_for("view", "subscribe", "/human/overlay/compressed")
    waits_for("retarget", "subscribe", "/joint_states")
    waits_for("camera_mount", "publish", "/tf_static")
    nodes = ("perception", "source", "recorder", "view", "refiner", "retarget", "camera_mount")
    looks: list[dict[str, Permissions]] = []

    def settled() -> bool:
        looks.append({node: endpoints(rig, node) for node in nodes})
        return len(looks) > 25 and looks[-1] == looks[-25]

    rig.wait(settled, "no more news of endpoints")
    visitor.leave()
    return found | looks[-1]


@pytest.mark.parametrize("node", sorted(set(POLICY) - EXAMPLES))
def test_a_node_may_do_what_it_does(seen, node):
    """A new topic or service must be written into config/sros2_policy.xml, too."""
    for kind, names in seen[node].items():
        missing = {name for name in names if not any(fnmatch(name, allowed) for allowed in POLICY[node][kind])}
        assert not missing, f"{node} may not {kind}"


@pytest.mark.parametrize("node", sorted(set(POLICY) - EXAMPLES))
def test_a_node_may_do_nothing_else(seen, node):
    """What is gone from the node must go from config/sros2_policy.xml, too."""
    for kind, names in POLICY[node].items():
        known = seen[node][kind] | ALWAYS.get(kind, set()) | ON_DEMAND.get((node, kind), set())
        assert not names - known, f"{node} does not {kind}"


def test_an_example_reader_may_ask_for_nothing_and_reads_what_is_published():
    reader = POLICY["reader"]
    assert reader["request"] == set()
    assert reader["publish"] == ALWAYS["publish"]
    published = POLICY["perception"]["publish"] | POLICY["refiner"]["publish"] | {"/tf_static", "/clock"}
    assert reader["subscribe"] <= published


def test_a_supervisor_asks_for_nothing_but_lifecycle():
    supervisor = POLICY["supervisor"]
    lifecycle = ("change_state", "get_available_states", "get_available_transitions", "get_state")
    nodes = [node for node, allowed in POLICY.items() if f"{NAMESPACE}/{node}/change_state" in allowed["reply"]]
    assert supervisor["request"] == {f"{NAMESPACE}/{node}/{name}" for node in nodes for name in lifecycle}
    assert supervisor["publish"] == ALWAYS["publish"]
    heard = {f"{NAMESPACE}/{node}/transition_event" for node in nodes}  # by `ros2 launch`
    assert supervisor["subscribe"] == ALWAYS["subscribe"] | heard


def test_the_page_says_what_the_file_says():
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert set(re.findall(r"^\| `/human/(\w+)` \|", text, re.M)) == set(POLICY)
