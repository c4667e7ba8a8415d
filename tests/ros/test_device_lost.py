"""A GPU that is full or gone: the node gives up in order, says so, frees what it holds, and comes back when asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Perception, image, level, values
from hsr.lifecycle import GuardedLifecycleNode
from hsr.marker import decode_marker
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState
from scripted_node import FAIL_DIR, Command
from visualization_msgs.msg import Marker

CONFIGURE = "ros2 lifecycle set /human/perception configure"
ACTIVATE = "ros2 lifecycle set /human/perception activate"


@pytest.fixture(scope="module")
def fail_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fail")


@pytest.fixture(scope="module")
def perception(rig, fail_dir):
    return Perception(rig, environ={FAIL_DIR: str(fail_dir)})


@pytest.fixture(scope="module")
def goals(rig, perception):
    """The states that a supervisor sees, as they come."""
    events = rig.listen(TransitionEvent, "/human/perception/transition_event")
    rig.wait(lambda: rig.node.count_publishers("/human/perception/transition_event"), "the lifecycle's events")
    return events


def labels(events: list[TransitionEvent]) -> list[str]:
    return [event.goal_state.label for event in events]


def come_back(perception: Perception) -> None:
    perception.change("configure")
    perception.change("activate")
    perception.works()
    status = perception.wait_status("lifecycle", lambda s: s.message == "ok", "the failure is over")
    assert level(status) == 0


def test_an_ordinary_exception_costs_its_frame_only(perception, goals):
    perception.works()
    goals.clear()
    status = perception.feed(
        lambda: (s := perception.status("inference")) and level(s) == 2 and s,
        "the exception in the diagnostics",
        make=lambda: image(Command.RAISE),
    )
    assert "RuntimeError: as the image asked for" in status.message
    assert int(values(status)["errors"]) >= 1
    perception.works()
    assert perception.state() == "active"
    assert not goals


@pytest.mark.parametrize("lost", ["for a while", "for good"])
def test_a_lost_gpu_takes_the_node_to_unconfigured_and_it_comes_back_when_asked(rig, perception, goals, fail_dir, lost):
    markers = rig.listen(Marker, "/human/mesh", 10, raw=True)
    perception.feed(lambda: markers, "a mesh")
    tries, freed = perception.log().count("device lost"), perception.log().count("stream freed")
    goals.clear()
    (fail_dir / "lost").write_text(lost)
    perception.feed(lambda: "unconfigured" in labels(goals), "the node to give up")
    assert labels(goals) == ["deactivating", "errorprocessing", "unconfigured"]
    assert goals[0].start_state.label == "active"
    assert perception.state() == "unconfigured"

    status = perception.wait_status("lifecycle", lambda s: level(s) == 2, "the loss in the diagnostics")
    for said in ("DeviceError: the GPU was told to be lost", CONFIGURE, ACTIVATE):
        assert said in status.message
        assert said in perception.log()
    rig.wait(lambda: decode_marker(markers[-1]).action == Marker.DELETE, "an empty display")
    assert perception.log().count("stream freed") == freed + 1

    perception.diagnostics.clear()
    sent = []
    perception.feed(
        lambda: len(perception.diagnostics) >= 5, "five more diagnostics", make=lambda: sent.append(image()) or sent[-1]
    )
    assert all(level(s) == 2 for a in perception.diagnostics for s in a.status if s.name == "perception: lifecycle")
    assert not rig.node.count_subscribers("/camera/image_raw")
    stamps = [msg.header.stamp for msg in sent]
    assert not [msg for msg in perception.people if msg.header.stamp in stamps]
    assert perception.log().count("device lost") == tries + 1  # no other frame was tried

    (fail_dir / "lost").unlink()
    come_back(perception)


def test_a_gpu_that_is_lost_during_deactivation_leaves_nothing_half_open(rig, perception, goals, fail_dir):
    tries = perception.log().count("device lost")
    (fail_dir / "lost").write_text("slow")
    perception.feed(lambda: perception.log().count("device lost") > tries, "a frame in work")
    goals.clear()
    perception.change("deactivate", expected=False)
    (fail_dir / "lost").unlink()
    rig.wait(lambda: "unconfigured" in labels(goals), "the end of the transition")
    assert labels(goals) == ["deactivating", "errorprocessing", "unconfigured"]
    status = perception.wait_status("lifecycle", lambda s: level(s) == 2, "the loss in the diagnostics")
    assert "the GPU was told to be lost" in status.message
    come_back(perception)


def test_no_gpu_when_configuring_is_said_and_configuring_again_helps(rig, perception, goals, fail_dir):
    perception.change("deactivate")
    perception.change("cleanup")
    (fail_dir / "open").touch()
    perception.change("configure", expected=False)
    rig.wait(lambda: labels(goals)[-2:] == ["configuring", "unconfigured"], "a transition that fails")
    status = perception.wait_status("lifecycle", lambda s: level(s) == 2, "the failure in the diagnostics")
    assert "configure failed: DeviceError: no GPU was told to be there" in status.message
    assert CONFIGURE in status.message
    come_back(perception)


def test_a_node_that_gave_up_can_be_ended_by_its_lifecycle(rig, perception, goals, fail_dir):
    goals.clear()
    (fail_dir / "lost").touch()
    perception.feed(lambda: "unconfigured" in labels(goals), "the node to give up")
    request = Transition(id=Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert rig.call(ChangeState, "/human/perception/change_state", transition=request).success
    rig.wait(lambda: perception.process.returncode is not None, "the process to end")
    assert perception.process.returncode == 0


def test_giving_up_without_being_active_changes_nothing(rclpy_context):
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    node = GuardedLifecycleNode("idle")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.give_up("of before")
    executor.spin_once(timeout_sec=1.0)
    assert node.state_label == "unconfigured"
    assert node.trigger_configure() == rclpy.lifecycle.TransitionCallbackReturn.SUCCESS
    assert not node.failure
    node.destroy_node()
