"""The view node beside a real perception node: costs nothing unwatched, shows whole frames, sets the smoothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("viser", reason="pip install 'hsr-core[view]'")
from harness import FRAME_ID, Perception
from hsr import convert
from hsr.marker import CompactMeshWriter
from hsr.view_feed import ViewFeed, sequence_number
from hsr_msgs.msg import BodyModel, FrameStats
from rcl_interfaces.srv import GetParameters
from rclpy.serialization import serialize_message
from scripted_node import VERTICES, Command, ScriptedStream
from web_visitor import Visitor

from hsr_core.config import Settings
from hsr_core.types import Camera, Frame

TOPICS = ("people", "mesh_compact", "body_model", "stats", "overlay/compressed")


@pytest.fixture(scope="module")
def perception(rig):
    return Perception(rig)


@pytest.fixture
def view(rig):
    """A view node; its process and the address that it printed."""
    process = rig.start("view", "hsr.view_node", "--ros-args", "-p", "port:=0")
    found = rig.wait(lambda: re.search(r"^view: (http://127\.0\.0\.1:\d+)$", process.tail(100), re.M), "the address")
    yield process, found[1]
    if process.returncode is None:
        rig.stop(process)


def readers(rig) -> list[str]:
    """Topics that the view node subscribes to."""
    return [
        t for t in TOPICS if any(i.node_name == "view" for i in rig.node.get_subscriptions_info_by_topic(f"/human/{t}"))
    ]


def test_subscribes_only_while_somebody_looks(rig, perception, view):
    rig.wait(lambda: "view" in rig.node.get_node_names(), "the view node")
    assert readers(rig) == []
    visitor = Visitor(view[1])
    rig.wait(lambda: readers(rig) == list(TOPICS), "subscriptions")
    visitor.leave()
    rig.wait(lambda: readers(rig) == [], "no subscriptions")


def test_mesh_skeleton_and_picture_reach_the_page(rig, perception, view):
    visitor = Visitor(view[1])
    rig.wait(lambda: readers(rig) == list(TOPICS), "subscriptions")
    wanted = {
        ("/camera/person_0/mesh", "vertices"),
        ("/camera/person_0/skeleton", "points"),
        ("/camera/image", "_image_data"),
    }
    perception.feed(lambda: wanted <= set(visitor.updates), "mesh, skeleton and picture on the page")
    assert visitor.bytes > VERTICES * 12
    visitor.leave()


def test_sliders_begin_with_perception_s_values_and_set_them(rig, perception, view):
    def smoothing() -> list:
        names = ["smoothing.enabled", "smoothing.min_cutoff_hz", "smoothing.beta"]
        values = rig.call(GetParameters, "/human/perception/get_parameters", names=names).values
        return [values[0].bool_value, values[1].double_value, values[2].double_value]

    visitor = Visitor(view[1])
    rig.wait(lambda: visitor.value("beta") == smoothing()[2], "the sliders to follow")
    visitor.set("beta", 9.5)
    rig.wait(lambda: smoothing()[2] == 9.5, "beta")
    visitor.set("on", False)
    rig.wait(lambda: smoothing()[0] is False, "smoothing off")
    assert smoothing()[2] == 9.5
    visitor.leave()
    late = Visitor(view[1])
    rig.wait(lambda: late.value("beta") == 9.5 and late.value("on") is False, "a later visitor to see them")
    late.leave()


def test_ends_cleanly_when_told_to(rig, view):
    visitor = Visitor(view[1])
    assert rig.stop(view[0]) == 0
    visitor.leave()


def test_wrong_setting_stops_the_start_and_says_what_is_allowed(rig):
    process = rig.start("view", "hsr.view_node", "--ros-args", "-p", "picture:=depth")
    rig.wait(lambda: process.returncode is not None, "the end")
    assert process.returncode == 1
    assert "overlay, camera, none" in process.tail()
    rig.stop(process)


class Recorder:
    """Messages as they travel, made by the perception node's own functions."""

    def __init__(self) -> None:
        self.stream = ScriptedStream(Settings())
        self._mesh = CompactMeshWriter("float32", "tiny-0")
        self._camera = Camera.from_hfov(60, (48, 64), FRAME_ID)
        self._stamp_ns = 0

    def frame(self, command: int = Command.PERSON) -> tuple[bytes, list[bytes]]:
        self._stamp_ns += 33_000_000
        image = np.full((48, 64, 3), command, np.uint8)
        result = self.stream.process(Frame(image, self._stamp_ns, camera=self._camera, frame_id=FRAME_ID))
        meshes = [
            self._mesh.encode(
                convert.body_id(p.track_id), p.track_id, result.seq, self.stream.mesh(p), self._stamp_ns, "c"
            )
            for p in result.people
        ]
        return serialize_message(convert.people_to_msg(result, "tiny-0")), meshes


def test_mesh_and_skeleton_belong_to_one_frame():
    feed, recorder = ViewFeed(), Recorder()
    first, first_meshes = recorder.frame()
    second, second_meshes = recorder.frame()
    feed.add_people(first)
    feed.add_mesh(first_meshes[0])
    feed.add_people(second)  # its mesh is still under way
    person = feed.snapshot().people[0]
    assert feed.snapshot() is None  # nothing new
    feed.add_mesh(second_meshes[0])
    assert feed.snapshot() is not None
    # The scripted body's first vertex keeps its place relative to the first joint.
    offset = recorder.stream.body._vertices[0] - recorder.stream.body._joints[0]
    np.testing.assert_allclose(person.vertices[0] - person.joints[0], offset, atol=1e-4)
    assert sequence_number(second) == sequence_number(second_meshes[0]) == sequence_number(first) + 1


def test_everybody_has_the_mesh_of_his_own():
    feed, recorder = ViewFeed(), Recorder()
    people, meshes = recorder.frame(Command.TEN)
    feed.add_people(people)
    for mesh in meshes:
        feed.add_mesh(mesh)
    offset = recorder.stream.body._vertices[0] - recorder.stream.body._joints[0]
    shown = feed.snapshot().people
    assert len({p.track_id for p in shown}) == len(shown) > 1
    for person in shown:
        np.testing.assert_allclose(person.vertices[0] - person.joints[0], offset, atol=1e-4)


def test_nobody_is_shown_at_once_and_empty_messages_are_ignored():
    feed, recorder = ViewFeed(), Recorder()
    people, meshes = recorder.frame()
    feed.add_people(people)
    feed.add_mesh(meshes[0])
    feed.add_people(b"")
    feed.add_mesh(b"")
    assert len(feed.snapshot().people) == 1
    nobody = recorder.frame(Command.NOBODY)[0]
    for _ in range(20):  # past the track's memory
        nobody = recorder.frame(Command.NOBODY)[0]
    feed.add_people(nobody)
    assert feed.snapshot().people == ()


def test_skeleton_alone_without_triangles_and_without_meshes():
    feed, recorder = ViewFeed(), Recorder()
    feed.set_body_model(BodyModel(licence_note="not to be shared"))
    feed.add_people(recorder.frame()[0])
    shot = feed.snapshot()
    assert shot.faces is None
    assert shot.people[0].vertices is None


def test_numbers_are_those_of_the_newest_frames():
    feed = ViewFeed()
    assert feed.stats().processed == -1
    for age in range(1, 101):
        feed.add_stats(FrameStats(image_age_ms=float(age), received=200, processed=age, dropped_busy=3, dropped_bad=1))
    stats = feed.stats()
    assert (stats.received, stats.processed, stats.dropped) == (200, 100, 4)
    assert stats.latency_p50_ms == pytest.approx(50.5)
    assert stats.latency_p99_ms == pytest.approx(99.01)
