"""The services: what they do, and that they do not hold up the frames."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Perception, image
from hsr.marker import decode_marker
from hsr_msgs.msg import Human
from hsr_msgs.srv import LockShape, SelectHuman, Snapshot
from rcl_interfaces.srv import DescribeParameters, ListParameters
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker

from hsr_core.config import describe

NAME = "/human/perception"


@pytest.fixture(scope="module")
def perception(rig):
    node = Perception(rig, f"data_dir:={rig.folder / 'data'}", "service_timeout_s:=3.0", activate=False)
    return node


def ask(perception, kind, service, /, **fields):
    """Call a service while the camera plays."""
    rig = perception.rig
    client = rig.node.create_client(kind, f"{NAME}/{service}")
    rig.wait(client.service_is_ready, service)
    future = client.call_async(kind.Request(**fields))
    perception.feed(future.done, f"answer of {service}")
    rig.node.destroy_client(client)
    return future.result()


def test_services_of_an_inactive_node_say_so(rig, perception):
    answer = rig.call(Trigger, f"{NAME}/reset")
    assert not answer.success
    assert "not active" in answer.message
    perception.change("configure")
    perception.change("activate")
    perception.works()


def test_reset_gives_new_ids_and_clears_the_display(rig, perception):
    old = perception.works().humans[0].track_id
    markers = rig.listen(Marker, "/human/mesh", 50, raw=True)
    assert ask(perception, Trigger, "reset").success
    assert perception.works().humans[0].track_id > old
    rig.wait(lambda: any(decode_marker(m).action == Marker.DELETEALL for m in markers), "DELETEALL")


def test_reset_and_deactivation_end_every_track_once(rig, perception):
    before = perception.works().humans[0].track_id
    assert ask(perception, Trigger, "reset").success
    after = perception.works().humans[0].track_id
    perception.change("deactivate")
    rig.wait(lambda: any(human.track_id == after for human in last_words(perception)), "LOST after the deactivation")
    assert [human.track_id for human in last_words(perception)].count(before) == 1
    assert [human.track_id for human in last_words(perception)].count(after) == 1
    perception.change("activate")
    assert perception.works().humans[0].track_id > after
    assert len({human.track_id for human in last_words(perception)}) == len(last_words(perception))


def last_words(perception) -> list[Human]:
    return [human for message in perception.people for human in message.humans if human.state == Human.LOST]


def test_pause_stops_processing_and_resumes(rig, perception):
    perception.works()
    assert ask(perception, SetBool, "pause", data=True).success
    sent = []
    perception.feed(lambda: len(sent) == 20, "images", make=lambda: sent.append(image()) or sent[-1])
    perception.wait_status("camera", lambda s: "paused" in s.message, "that it pauses")
    stamps = [(msg.header.stamp.sec, msg.header.stamp.nanosec) for msg in perception.people]
    assert not {(msg.header.stamp.sec, msg.header.stamp.nanosec) for msg in sent} & set(stamps)
    assert ask(perception, SetBool, "pause", data=False).success
    perception.works()


def test_the_primary_person_is_locked_by_id(perception):
    human = perception.works().humans[0]
    answer = ask(perception, SelectHuman, "set_primary", id=human.id)
    assert answer.ok
    assert answer.id == human.id
    answer = ask(perception, SelectHuman, "set_primary", id="zzzzz")
    assert not answer.ok
    assert human.id in answer.message
    assert ask(perception, SelectHuman, "set_primary", id="").ok


def test_locking_a_shape_sets_the_height_and_refuses_an_impossible_one(perception):
    perception.works()
    assert ask(perception, LockShape, "lock_shape", id="", lock=True, height_m=1.8).ok
    assert ask(perception, LockShape, "lock_shape", id="", lock=True).ok
    assert not ask(perception, LockShape, "lock_shape", id="zzzzz", lock=True).ok
    answer = ask(perception, LockShape, "lock_shape", id="", lock=True, height_m=9.0)
    assert not answer.ok
    assert "height" in answer.message or "range" in answer.message


def test_a_snapshot_holds_image_parameters_and_mesh(perception):
    perception.works()
    answer = ask(perception, Snapshot, "snapshot", name="one")
    assert answer.ok, answer.message
    from pathlib import Path

    folder = Path(answer.path)
    assert folder.name == "one"
    assert (folder / "image.png").stat().st_size > 0
    people = np.load(folder / "people.npz", allow_pickle=False)
    track_id = int(people["track_id"][0])
    assert people[f"{track_id}/body_pose"].shape == (21, 3)
    assert (folder / f"mesh_{track_id}.ply").read_bytes().startswith(b"ply\n")


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "/etc/x"])
def test_a_snapshot_stays_in_its_folder(perception, name):
    answer = ask(perception, Snapshot, "snapshot", name=name)
    assert not answer.ok
    assert "plain name" in answer.message


def test_without_images_a_snapshot_is_given_up_in_time(rig, perception):
    answer = rig.call(Snapshot, f"{NAME}/snapshot", name="never")
    assert not answer.ok
    assert "in time" in answer.message


def test_a_hundred_calls_leave_the_frames_alone(rig, perception):
    """The worker serves requests between frames: nothing is lost to them but a frame in work at a reset."""
    perception.works()
    client = rig.node.create_client(SetBool, f"{NAME}/pause")
    rig.wait(client.service_is_ready, "pause")
    begin, before = len(perception.stats), perception.stats[-1]
    futures = []

    def call_now_and_then():
        if len(futures) < 100 and (not futures or futures[-1].done()):
            futures.append(client.call_async(SetBool.Request(data=False)))
        return len(futures) == 100 and futures[-1].done()

    perception.feed(call_now_and_then, "a hundred answers", hz=20.0)
    assert all(future.result().success for future in futures)
    perception.feed(lambda: len(perception.stats) >= begin + 10, "frames")
    last = perception.stats[-1]
    received, processed = last.received - before.received, last.processed - before.processed
    assert processed >= 0.5 * received  # a busy computer loses some by itself
    dropped = last.dropped_busy - before.dropped_busy + last.dropped_stale - before.dropped_stale
    assert received - processed - dropped <= 1  # the one that has just arrived


@pytest.mark.parametrize("pair", ["people.max:=99", "marker.color_mode:=plaid", "smoothing.beta:=text"])
def test_a_wrong_parameter_at_the_start_ends_the_node_with_a_reason(rig, pair):
    process = rig.start("refused", "scripted_node", "--ros-args", "-p", pair)
    rig.wait(lambda: process.returncode is not None, "the end")
    assert process.returncode == 1
    assert pair.partition(":")[0] in process.tail(1)
    rig.stop(process)


def test_every_parameter_is_described(rig, perception):
    names = rig.call(ListParameters, f"{NAME}/list_parameters").result.names
    wanted = {spec.name for spec in describe()} | {"diagnostic_updater.period", "service_timeout_s"}
    assert wanted <= set(names)
    described = rig.call(DescribeParameters, f"{NAME}/describe_parameters", names=sorted(wanted)).descriptors
    assert all(descriptor.description for descriptor in described)
