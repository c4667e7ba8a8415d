"""Transitions, their failures, and that nothing grows or stays behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness import LIMIT_S, Perception, image, level
from hsr import lifecycle
from hsr.marker import decode_marker
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.task import Future
from scripted_node import FAIL_DIR
from visualization_msgs.msg import Marker


@pytest.fixture(scope="module")
def fail_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fail")


@pytest.fixture(scope="module")
def perception(rig, fail_dir):
    return Perception(rig, activate=False, environ={FAIL_DIR: str(fail_dir)})


def test_the_node_waits_unconfigured_and_refuses_impossible_transitions(perception):
    assert perception.state() == "unconfigured"
    perception.change("activate", expected=False)
    assert perception.state() == "unconfigured"
    perception.change("deactivate", expected=False)
    assert perception.process.returncode is None


def test_nothing_is_published_before_activation(rig, perception):
    perception.change("configure")
    perception.send()
    assert not rig.node.count_subscribers("/camera/image_raw")
    assert not perception.people
    perception.change("activate")
    perception.works()


def test_deactivation_deletes_our_markers_and_stops_within_a_frame(rig, perception):
    markers = rig.listen(Marker, "/human/mesh", 10, raw=True)
    perception.feed(lambda: markers, "a mesh")
    perception.change("deactivate")
    rig.wait(lambda: decode_marker(markers[-1]).action == Marker.DELETE, "DELETE of the mesh")
    ignored = perception.send()
    assert perception.state() == "inactive"
    perception.change("activate")
    assert perception.works().seq > 0
    assert ignored.header.stamp not in [msg.header.stamp for msg in perception.people]


@pytest.mark.parametrize(
    ("transition", "before"),
    [("configure", ()), ("activate", ("configure",)), ("deactivate", ("configure", "activate")),
     ("cleanup", ("configure",))],
)  # fmt: skip
def test_an_exception_in_a_transition_leaves_a_living_unconfigured_node_that_says_why(
    perception, fail_dir, transition, before
):
    reset_to_unconfigured(perception)
    for step in before:
        perception.change(step)
    (fail_dir / transition).touch()
    perception.change(transition, expected=False)
    assert perception.state() == "unconfigured"
    status = perception.wait_status("lifecycle", lambda s: level(s) == 2, "the failure in the diagnostics")
    assert f"{transition} was told to fail" in status.message
    perception.change("configure")
    perception.change("activate")
    perception.works()
    assert level(perception.wait_status("lifecycle", lambda s: s.message == "ok", "the failure is over")) == 0


def test_twenty_rounds_leave_no_memory_threads_or_endpoints(rig, perception):
    reset_to_unconfigured(perception)

    def round_trip():
        perception.change("configure")
        perception.change("activate")
        perception.works()
        perception.change("deactivate")
        perception.change("cleanup")

    def footprint() -> tuple[int, float, set[str]]:
        threads = len(os.listdir(f"/proc/{perception.process.pid}/task"))
        topics = {name for name, _ in rig.node.get_publisher_names_and_types_by_node("perception", "/human")} | {
            name for name, _ in rig.node.get_subscriber_names_and_types_by_node("perception", "/human")
        }
        return threads, perception.process.rss_mb(), topics

    empty_topics = footprint()[2]
    for _ in range(3):  # buffers and caches that are filled once
        round_trip()
    threads, rss_mb, _ = footprint()
    for _ in range(17):
        round_trip()
    rig.wait(lambda: footprint()[2] == empty_topics, "the endpoints to go")
    rig.wait(lambda: footprint()[0] <= threads, "the threads to go")
    assert footprint()[1] - rss_mb < 5


def test_a_reply_that_is_lost_is_made_up_for_by_asking_for_the_state(perception, monkeypatch):
    reset_to_unconfigured(perception)
    perception.change("configure")
    client = perception.lifecycle
    monkeypatch.setattr(lifecycle, "ASK_S", 0.1)
    monkeypatch.setattr(client, "_change", Silent())
    assert client.change("configure", LIMIT_S)
    assert not client.change("activate", 0.3)
    assert client._change.pending == []


class Silent:
    """A client whose requests are never replied to."""

    def __init__(self) -> None:
        self.pending: list[Future] = []

    def service_is_ready(self) -> bool:
        return True

    def call_async(self, request: ChangeState.Request) -> Future:
        self.pending.append(Future())
        return self.pending[-1]

    def remove_pending_request(self, future: Future) -> None:
        self.pending.remove(future)


def test_shutdown_ends_the_process_well(rig, perception):
    reset_to_unconfigured(perception)
    perception.change("configure")
    perception.change("activate")
    request = Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert rig.call(ChangeState, "/human/perception/change_state", transition=request).success
    rig.wait(lambda: perception.process.returncode is not None, "the process to end")
    assert perception.process.returncode == 0


def reset_to_unconfigured(perception: Perception) -> None:
    state = perception.state()
    if state == "active":
        perception.change("deactivate")
    if state in ("active", "inactive"):
        perception.change("cleanup")
    assert perception.state() == "unconfigured"
    assert image().height  # the camera may play on
