"""Newest frame first, and what happens when time, stamps or the rate of images misbehave."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from harness import Perception, image, level
from hsr import convert
from hsr.marker import decode_marker
from hsr.params import DEFAULTS
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from scripted_node import FAIL_DIR, Command
from visualization_msgs.msg import Marker

S = 1_000_000_000


@pytest.fixture(scope="module")
def fail_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fail")


@pytest.fixture(scope="module")
def perception(rig, fail_dir):
    node = Perception(rig, environ={FAIL_DIR: str(fail_dir)})
    node.works()
    return node


def stamp_of(message) -> int:
    return convert.stamp_to_ns(message.header.stamp)


def ids(people) -> set[str]:
    return {human.id for message in people for human in message.humans}


def counts(status) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def set_max_age(perception, seconds: float) -> None:
    value = Parameter("input.max_age_s", value=seconds).to_parameter_msg()
    (result,) = perception.rig.call(SetParameters, "/human/perception/set_parameters", parameters=[value]).results
    assert result.successful, result.reason


def received(perception) -> int:
    """Return how many images the node has taken, by diagnostics that it begins to make from now on."""
    perception.diagnostics.clear()
    perception.rig.wait(lambda: len(perception.diagnostics) > 1, "diagnostics")
    return int(counts(perception.status("camera"))["received"])


def test_at_overload_the_newest_frame_is_worked_on_and_the_rest_is_counted(perception, fail_dir):
    set_max_age(perception, 0.0)  # however long it takes
    perception.works()
    (fail_dir / "hold").touch()
    perception.feed(lambda: "held" in perception.log(), "a frame in work", make=lambda: image(Command.HELD))
    begin, arrived = len(perception.people), received(perception)
    sent = []

    def send() -> int:
        sent.append(stamp_of(perception.send()))
        return received(perception)

    while send() < arrived + 4:
        pass
    count = 0
    while count < (count := received(perception)):  # until all of them have arrived
        pass
    (fail_dir / "hold").unlink()
    perception.rig.wait(lambda: sent[-1] in map(stamp_of, perception.people), "people of the newest image")
    assert not set(sent[:-1]) & set(map(stamp_of, perception.people[begin:]))
    perception.rig.wait(lambda: stamp_of(perception.stats[-1]) == sent[-1], "its counters")
    last = perception.stats[-1]
    assert last.dropped_busy >= 3
    assert last.received == last.processed + last.dropped_busy + last.dropped_stale + last.dropped_bad
    set_max_age(perception, DEFAULTS.input.max_age_s)


def test_a_storm_of_images_has_no_effect_but_counters(perception):
    perception.works()
    before = perception.stats[-1]
    perception.feed(lambda: perception.counted("received") > before.received + 150, "a storm", hz=200.0)
    assert perception.counted("dropped_bad") == before.dropped_bad
    assert perception.process.returncode is None
    perception.works()


def test_old_images_are_dropped_and_counted(perception):
    """Single late ones: a constant lateness would be another clock."""
    perception.works()
    stale = perception.counted("dropped_stale")
    n = [0]

    def now_and_then_late():
        n[0] += 1
        return image(stamp_ns=time.time_ns() - (2 * S if n[0] % 5 == 0 else 0))

    perception.feed(lambda: perception.counted("dropped_stale") > stale + 2, "stale images", make=now_and_then_late)
    perception.works()


def test_repeated_stamps_are_stale(perception):
    perception.works()
    stale, stamp = perception.counted("dropped_stale"), time.time_ns()
    for _ in range(30):
        perception.send(image(stamp_ns=stamp))
        perception.rig.executor.spin_once(timeout_sec=0.01)
    perception.feed(lambda: perception.counted("dropped_stale") > stale, "the count")
    perception.works()


def test_a_clip_that_begins_again_gets_new_ids_and_an_empty_display(rig, perception):
    old_ids = ids([perception.works()])
    markers = rig.listen(Marker, "/human/mesh", 50, raw=True)
    offset = -20 * S
    begin = len(perception.people)
    perception.feed(
        lambda: [p for p in perception.people[begin:] if p.humans and stamp_of(p) < time.time_ns() - 10 * S],
        "people of the second round", make=lambda: image(stamp_ns=time.time_ns() + offset),
    )  # fmt: skip
    assert ids(perception.people[-1:]).isdisjoint(old_ids)
    rig.wait(lambda: any(decode_marker(m).action == Marker.DELETEALL for m in markers), "DELETEALL")
    rounds = [stamp_of(p) for p in perception.people[begin:]]
    back = int(np.argmin(np.diff(rounds))) if len(rounds) > 1 else 0
    assert all(stamp < time.time_ns() - 10 * S for stamp in rounds[back + 1 :])  # nothing old after the jump
    # The offset is constant: another clock, said once, and nothing is dropped for its age.
    perception.feed(
        lambda: "clocks not synchronised" in perception.log(), "the remark on clocks",
        make=lambda: image(stamp_ns=time.time_ns() + offset),
    )  # fmt: skip
    perception.works()


def test_images_without_stamps_get_the_time_of_receipt(perception):
    perception.works()
    before = time.time_ns()
    begin = len(perception.people)
    perception.feed(lambda: len(perception.people) > begin + 3, "people", make=lambda: image(stamp_ns=0))
    stamp = convert.stamp_to_ns(perception.people[-1].header.stamp)
    assert before <= stamp <= time.time_ns()
    assert level(perception.wait_status("camera", lambda s: "no stamps" in s.message, "the remark")) >= 1
    perception.works()


def test_silence_is_a_warning_then_an_error_and_ends_without_a_restart(perception):
    perception.works()
    status = perception.wait_status("camera", lambda s: level(s) == 1, "a warning after a second")
    assert "no image" in status.message
    perception.wait_status("camera", lambda s: level(s) == 2, "an error after five")
    assert "/camera/image_raw" in perception.log()
    perception.works()
    perception.feed(lambda: perception.status("camera").message == "ok", "a good camera again")


def test_nobody_for_a_minute_of_stamps_changes_nothing(perception):
    """Stamps at thirty times the speed: 60 s of an empty scene, then a person."""
    old_ids = ids([perception.works()])
    clock = {"ns": time.time_ns()}

    def empty():
        clock["ns"] += S
        return image(Command.NOBODY, stamp_ns=clock["ns"])

    begin = len(perception.people)
    perception.feed(
        lambda: convert.stamp_to_ns(perception.people[-1].header.stamp) > clock["ns"] - 2 * S
        and len(perception.people) > begin + 58, "a minute of nobody", make=empty,
    )  # fmt: skip
    assert not any(message.humans for message in perception.people[begin + 2 :])

    def person():
        clock["ns"] += S // 30
        return image(stamp_ns=clock["ns"])

    perception.feed(lambda: perception.people[-1].humans, "the person", make=person)
    assert perception.process.returncode is None
    assert ids([perception.works()]) | old_ids  # back to the present


class SimTime:
    """Publishes /clock and images stamped by it."""

    def __init__(self, rig, perception) -> None:
        self.now_ns, self._perception = 1000 * S, perception
        self._clock = rig.node.create_publisher(Clock, "/clock", 10)

    def image(self):
        self.now_ns += S // 40
        self._clock.publish(Clock(clock=convert.ns_to_stamp(self.now_ns)))
        return image(stamp_ns=self.now_ns)

    def jump(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)


def test_simulated_time_that_jumps_back_resets_tracks_and_nothing_old_follows(tmp_path_factory):
    from harness import Rig

    rig = Rig(tmp_path_factory.mktemp("sim"))
    try:
        perception = Perception(rig, "use_sim_time:=true")
        markers = rig.listen(Marker, "/human/mesh", 50, raw=True)
        sim = SimTime(rig, perception)
        perception.feed_until_more(perception.people, "people", n=10, make=sim.image)
        old_ids, turn_ns = ids(perception.people), sim.now_ns
        for _ in range(2):
            sim.jump(-500)
            begin = len(perception.people)
            perception.feed(
                lambda: any(m.action == Marker.DELETEALL for m in map(decode_marker, markers))
                and [p for p in perception.people[begin:] if p.humans and not ids([p]) & old_ids],  # noqa: B023
                "new ids and DELETEALL", make=sim.image,
            )  # fmt: skip
            new = [p for p in perception.people[begin:] if ids([p]) and not ids([p]) & old_ids]
            assert all(stamp_of(p) < turn_ns - 100 * S for p in new)
            after = perception.people[perception.people.index(new[0]) :]
            assert not ids(after) & old_ids
            old_ids |= ids(after)
            turn_ns = sim.now_ns
            markers.clear()
        sim.jump(30)  # forward: the same person
        begin, same = len(perception.people), ids(perception.people[-1:])
        perception.feed(lambda: len(perception.people) > begin + 3, "people after a jump forward", make=sim.image)
        assert ids(perception.people[-1:]) == same
        assert perception.stats[-1].time_source == perception.stats[-1].ROS_TIME
    finally:
        rig.close()
