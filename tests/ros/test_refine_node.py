"""The refiner as a process of its own, over real DDS, with a refinement that is played."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import numpy as np
import pytest
from harness import FRAME_ID, LIMIT_S, image, level
from hsr.convert import body_id, stamp_to_ns
from hsr.marker import decode_marker
from hsr.refine_outputs import refined_color
from hsr.splat_cloud import POINT
from hsr_msgs.msg import AvatarInfo, FrameStats, Human, HumanArray
from hsr_msgs.srv import AvatarFile
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from refine_rig import CAMERA, SIZE, STEP_NS, Z_M, Refiner, depth_image, human, info, mask_image, people
from scripted_refiner import BACKGROUND, SHIFT_M, BoxBody, Command
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker

from hsr_core.types import HumanParams

NAME = "/human/refiner"


@pytest.fixture(scope="module")
def refiner(rig):
    return Refiner(rig)


def test_a_window_is_published_frame_by_frame_with_the_stamps_of_the_images(refiner):
    sent = []
    refiner.feed(lambda: len(refiner.people) >= 6, "two windows", play=lambda: sent.append(refiner.send()))
    heard = [stamp_to_ns(msg.header.stamp) for msg in refiner.people]
    assert set(heard) <= set(sent)
    assert heard == sorted(heard)
    msg = refiner.people[0]
    assert (msg.source, msg.header.frame_id, msg.model_id) == (HumanArray.REFINED, FRAME_ID, BoxBody.model_id)
    assert msg.seq == heard[0] // STEP_NS  # of the perception node's frame
    np.testing.assert_allclose(np.reshape(msg.k, (3, 3)), CAMERA.K)
    (person,) = msg.humans
    transl = np.float32([0, 0, Z_M]) + SHIFT_M
    np.testing.assert_allclose(person.transl, transl)
    np.testing.assert_array_equal(person.left_hand_pose, np.full(45, 0.125, np.float32))
    assert len(person.right_hand_pose) == 0
    joints = BoxBody().pose_one(HumanParams(transl=transl)).joints
    np.testing.assert_allclose(np.reshape(person.joints, (55, 3)), joints, atol=1e-6)
    uv = joints @ CAMERA.K.T
    keypoints = np.reshape(person.keypoints2d, (55, 3))
    np.testing.assert_allclose(keypoints[:, :2], uv[:, :2] / uv[:, 2:], rtol=1e-4)
    np.testing.assert_array_equal(keypoints[:, 2], np.full(55, 0.75, np.float32))
    assert person.metric_source == Human.METRIC_ASSUMED_HEIGHT  # no depth took part: no more is known than before
    assert person.depth_sigma_m == 0.5


def test_quality_mesh_and_avatar_go_with_it(rig, refiner):
    quality = refiner.works()
    assert (quality.track_id, quality.id, quality.status) == (7, body_id(7), "track")
    assert (quality.frames, quality.iterations, quality.time_ms) == (3, 30, 125)
    assert (quality.objective_before, quality.objective_after) == (0.5, 0.25)
    assert (quality.psnr_db, quality.mask_iou, quality.gaussians) == (24, 0.875, 2)
    assert np.isnan(quality.depth_rmse_m)
    start, end = stamp_to_ns(quality.start), stamp_to_ns(quality.end)
    assert end == stamp_to_ns(quality.header.stamp)
    assert end - start == 2 * STEP_NS
    rig.wait(lambda: any(decode_marker(m).stamp_ns == end for m in refiner.meshes), "the newest frame's mesh")
    mesh = next(decode_marker(m) for m in refiner.meshes if decode_marker(m).stamp_ns == end)
    assert (mesh.ns, mesh.id, mesh.frame_id, mesh.action) == ("refined", 7, FRAME_ID, Marker.ADD)
    np.testing.assert_allclose(mesh.color[:3], refined_color(7), atol=1e-6)
    corners = np.unique(np.round(mesh.points, 4), axis=0)
    np.testing.assert_allclose(corners.mean(axis=0), np.float32([0, 0, Z_M]) + SHIFT_M, atol=1e-3)
    rig.wait(lambda: refiner.avatars and stamp_to_ns(refiner.avatars[-1].header.stamp) == end, "the avatar's change")
    avatar = refiner.avatars[-1]
    assert (avatar.track_id, avatar.gaussians, avatar.psnr_db) == (7, 2, 24)
    assert avatar.trained_frames == 3 * avatar.version


def test_people_whose_images_are_not_needed_are_refined_with_their_neighbours(refiner):
    refiner.works()
    refiner.step_ns = 25_000_000  # 40 Hz
    try:
        begin = len(refiner.people)
        refiner.feed(lambda: len(refiner.people) >= begin + 30, "people at the rate of the camera")
    finally:
        refiner.step_ns = STEP_NS
    stamps = [stamp_to_ns(msg.header.stamp) for msg in refiner.people[begin:]]
    assert 25_000_000 in np.diff(stamps)
    kept = [entry["stamp_ns"] for entry in refiner.told("add")]
    assert np.diff(kept).min() >= 75_000_000
    assert not {entry["stamp_ns"] for entry in refiner.told("estimate")} & set(kept)
    np.testing.assert_allclose([msg.humans[0].transl[2] for msg in refiner.people[begin:]], Z_M + SHIFT_M[2])


def test_who_comes_late_hears_of_quality_and_avatar(rig, refiner):
    refiner.works()
    latched = QoSProfile(depth=4, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    late = rig.listen(AvatarInfo, "/human/avatar", latched)
    rig.wait(lambda: late, "the avatar as it was told before")


def test_a_rejected_window_is_told_and_its_people_are_not_published(refiner):
    refiner.works()
    refiner.feed(
        lambda: not refiner.quality[-1].accepted and refiner.quality[-1].reason == "the image asked for it",
        "a rejected window", play=lambda: refiner.send(Command.REJECT),
    )  # fmt: skip
    assert refiner.quality[-1].status == "coast"
    begin = len(refiner.quality)
    refiner.feed(lambda: len(refiner.quality) >= begin + 2, "more of them", play=lambda: refiner.send(Command.REJECT))
    rejected = [(stamp_to_ns(q.start), stamp_to_ns(q.end)) for q in refiner.quality if not q.accepted]
    refiner.works()
    stamps = [stamp_to_ns(msg.header.stamp) for msg in refiner.people]
    assert len(rejected) >= 3
    assert not any(start <= stamp <= end for start, end in rejected for stamp in stamps)


def test_windows_that_are_done_too_late_are_dropped_and_counted(rig, refiner):
    def limit(seconds: float) -> None:
        value = Parameter("window.max_age_s", value=seconds).to_parameter_msg()
        (result,) = rig.call(SetParameters, f"{NAME}/set_parameters", parameters=[value]).results
        assert result.successful, result.reason

    refiner.works()
    limit(0.01)  # less than depth and masks are waited for
    before = refiner.count("stale_windows")
    refiner.feed(lambda: refiner.count("stale_windows") >= before + 2, "the count")
    quality = len(refiner.quality)
    refiner.feed(lambda: refiner.count("stale_windows") >= before + 4, "more of them")
    assert len(refiner.quality) == quality
    limit(60.0)
    refiner.works()


def test_pictures_are_made_for_those_who_listen(rig, refiner):
    refiner.works()
    assert not refiner.told("gaussians")
    assert not refiner.told("render")
    clouds = rig.listen(PointCloud2, "/human/refined/gaussians", 1)
    pictures = rig.listen(Image, "/human/refined/render", 1)
    jpegs = rig.listen(CompressedImage, "/human/refined/render/compressed", 1)
    refiner.feed(lambda: clouds and pictures and jpegs, "the pictures")
    cloud, picture = clouds[0], pictures[0]
    assert cloud.header.frame_id == picture.header.frame_id == FRAME_ID
    assert (cloud.width, cloud.point_step) == (2, 60)
    assert [field.name for field in cloud.fields] == list(POINT.names)
    points = np.frombuffer(bytes(cloud.data), POINT)
    assert (points["x"][1], points["y"][1], points["z"][1]) == (np.float32(0.1), -0.5, 2.25)
    assert points["rgba"].tolist() == [0xFFFF0000, 0x8000FF00]
    scales = np.stack([points[f"scale_{i}"] for i in range(3)], 1)
    np.testing.assert_allclose(np.sort(scales[1]), [1e-3, 1e-2, 2e-2], rtol=1e-3)
    np.testing.assert_allclose(points["f_dc_0"] * 0.28209479 + 0.5, [1, 0], atol=1e-6)
    assert (picture.width, picture.height, picture.encoding) == (*SIZE, "rgb8")
    assert bytes(picture.data[:3]) == bytes([0, 0, BACKGROUND])
    assert jpegs[0].format == "jpeg"


def test_depth_and_mask_of_the_same_moment_go_along(refiner):
    depth_m = np.full(SIZE[::-1], 4.0, np.float32)
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[25:95, 62:98] = 255
    depth_m[mask > 0] = 2.25

    def play(**options):
        stamp_ns = refiner.next_stamp()
        refiner.depth_infos.publish(info(stamp_ns))
        refiner.send(stamp_ns=stamp_ns)
        # After the people, as from a driver that is slower than the network.
        refiner.depths.publish(depth_image(stamp_ns + 5_000_000, depth_m, **options))
        refiner.masks.publish(mask_image(stamp_ns, mask))

    begin = len(refiner.told("add"))
    found = refiner.feed(
        lambda: [e for e in refiner.told("add")[begin:] if e["depth_m"] and e["quality"] > 0.5], "depth", play=play
    )
    assert (found[-1]["depth_source"], found[-1]["metric"]) == ("topic", True)
    assert found[-1]["depth_m"] in (2.25, 4.0)
    assert found[-1]["mask"] == pytest.approx((mask > 0).mean())
    person = refiner.feed(
        lambda: next((m.humans[0] for m in refiner.people if m.humans[0].metric_source == Human.METRIC_REFINED), None),
        "people placed by depth", play=play,
    )  # fmt: skip
    assert person.depth_sigma_m == pytest.approx(0.015 * (person.joints[2]))
    for wrong in ({"encoding": "32FC1", "frame_id": "other_optical_frame"}, {"encoding": "32FC1", "unit": 1000.0}):
        scale = wrong.pop("unit", 1.0)
        depth_m *= scale
        begin = len(refiner.told("add"))
        refiner.feed(
            lambda begin=begin: any(e["depth_source"] == "none" for e in refiner.told("add")[begin:]),
            f"frames without the wrong depth {wrong}", play=lambda wrong=wrong: play(**wrong),
        )  # fmt: skip
        depth_m /= scale
    refiner.works()


def _torn(**fields):
    return lambda stamp_ns: people(stamp_ns, human(**fields))


BAD = {
    "people of another image size": ("dropped_bad", lambda s: people(s, human(), image_width=320)),
    "people of another body": ("dropped_bad", lambda s: people(s, human(), model_id="smplx-1")),
    "people of another frame": ("dropped_bad", lambda s: people(s, human(), header=people(s).header.__class__())),
    "people with other intrinsics": ("dropped_bad", lambda s: people(s, human(), k=2 * CAMERA.K.reshape(-1))),
    "intrinsics of nan": ("dropped_bad", lambda s: people(s, human(), k=np.full(9, np.nan))),
    "assumed intrinsics of zero": (
        "dropped_bad", lambda s: people(s, human(), k=np.zeros(9), intrinsics_source=HumanArray.ASSUMED_FOV),
    ),
    "unknown source of intrinsics": ("dropped_bad", lambda s: people(s, human(), intrinsics_source=99)),
    "a place of nan": ("bad_people", _torn(transl=np.full(3, np.nan, np.float32))),
    "a person behind the camera": ("bad_people", _torn(z_m=-2.0)),
    "half a hand": ("bad_people", _torn(left_hand_pose=array("f", [0.0] * 44))),
    "too many betas": ("bad_people", _torn(betas=array("f", [0.0] * 300))),
    "an unknown metric source": ("bad_people", _torn(metric_source=77)),
    "a person far outside the image": ("no_mask", _torn(transl=np.float32([50, 0, 2]))),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_people_are_counted_and_the_next_good_ones_work(refiner, what):
    counter, make = BAD[what]
    refiner.works()
    before = refiner.count(counter)

    def play():
        stamp_ns = refiner.next_stamp()
        refiner.infos.publish(info(stamp_ns))
        refiner.images.publish(image(stamp_ns=stamp_ns, size=SIZE))
        msg = make(stamp_ns)
        msg.header.stamp = info(stamp_ns).header.stamp
        refiner.perceived.publish(msg)

    refiner.feed(lambda: refiner.count(counter) > before, f"the count of {what}", play=play)
    refiner.works()


@pytest.mark.parametrize(
    "fields", [{"encoding": "rgb12packed"}, {"data": b"\0" * 100}, {"step": 10}], ids=["encoding", "torn", "step"]
)
def test_bad_images_are_counted_and_the_next_good_ones_work(refiner, fields):
    refiner.works()
    before = refiner.count("dropped_bad")

    def play():
        stamp_ns = refiner.next_stamp()
        refiner.images.publish(image(stamp_ns=stamp_ns, size=SIZE, **fields))
        refiner.perceived.publish(people(stamp_ns, human()))

    refiner.feed(lambda: refiner.count("dropped_bad") > before, "the count", play=play)
    refiner.works()


def test_people_without_their_image_are_counted(refiner):
    refiner.works()
    before = refiner.count("unpaired")
    refiner.feed(
        lambda: refiner.count("unpaired") > before, "the count of people without image",
        play=lambda: refiner.perceived.publish(people(refiner.next_stamp() + 1, human())),
    )  # fmt: skip
    refiner.works()


def test_an_exception_costs_its_window_and_results_of_nan_their_frame(refiner):
    refiner.works()
    refiner.feed(
        lambda: refiner.count("errors") >= 1 and level(refiner.status("windows")) == 2, "the exception",
        play=lambda: refiner.send(Command.RAISE),
    )  # fmt: skip
    refiner.works()
    refiner.feed(lambda: refiner.count("bad_results") >= 1, "the bad frame", play=lambda: refiner.send(Command.NAN))
    assert all(np.isfinite(msg.humans[0].transl).all() for msg in refiner.people)
    refiner.works()


def test_learning_is_left_out_while_the_perception_node_is_slower(rig, refiner):
    """10 ms a frame while the refiner waits, 13 ms while it works."""
    stats = rig.node.create_publisher(FrameStats, "/human/stats", 5)
    sent = iter(range(10_000))

    def cost(ms: float) -> None:
        stats.publish(FrameStats(seq=next(sent), total_ms=ms))

    def slower() -> str | None:
        status = refiner.status("windows")
        return next((item.value for item in status.values if item.key == "perception_slower_by"), None)

    refiner.works()
    refiner.feed(lambda: next(sent) > 60, "frames while it waits", play=lambda: cost(10.0))

    def work() -> None:
        refiner.send(Command.LONG)
        cost(13.0)

    refiner.feed(slower, "frames while it works", play=work)
    assert slower() == "30 %"
    refiner.feed(lambda: refiner.told("spare"), "learning left out")
    assert refiner.told("spare")[-1]["on"] is True
    rig.node.destroy_publisher(stats)


def test_somebody_who_leaves_is_told_and_taken_off_the_display(rig, refiner):
    refiner.works()
    refiner.feed(lambda: any(decode_marker(m).id == 9 for m in refiner.meshes), "a mesh of the second person",
                 play=lambda: refiner.send(Command.ACCEPT, human(), human(9)))  # fmt: skip
    refiner.meshes.clear()
    gone = human(9, state=Human.LOST)
    refiner.feed(
        lambda: any(decode_marker(m).action == Marker.DELETE for m in refiner.meshes), "the deletion",
        play=lambda: refiner.send(Command.ACCEPT, human(), gone),
    )  # fmt: skip
    assert [e["track_id"] for e in refiner.told("lost")][-1] == 9
    deleted = next(decode_marker(m) for m in refiner.meshes if decode_marker(m).action == Marker.DELETE)
    assert (deleted.id, deleted.ns) == (9, "refined")


def ask(refiner, kind, service, **fields):
    """Call a service while the camera plays."""
    client = refiner.rig.node.create_client(kind, f"{NAME}/{service}")
    refiner.rig.wait(client.service_is_ready, service)
    future = client.call_async(kind.Request(**fields))
    refiner.feed(future.done, f"answer of {service}")
    refiner.rig.node.destroy_client(client)
    return future.result()


def test_an_avatar_is_saved_and_loaded_by_name(rig, refiner):
    refiner.works()
    answer = ask(refiner, AvatarFile, "save_avatar", name="anna")
    assert answer.ok, answer.message
    assert answer.path == "avatars/anna.npz"
    path = rig.folder / "data" / "avatars" / "anna.npz"
    assert path.is_file()
    assert refiner.told("save")[-1] == {"what": "save", "path": str(path), "track_id": 7}
    rig.wait(lambda: refiner.avatars[-1].path == "avatars/anna.npz", "the path with the avatar")
    answer = ask(refiner, AvatarFile, "load_avatar", name="anna.npz", id=body_id(9))
    assert answer.ok, answer.message
    assert refiner.told("load")[-1]["track_id"] == 9
    answer = ask(refiner, AvatarFile, "load_avatar", name="nobody")
    assert not answer.ok
    assert "nobody.npz" in answer.message
    (path.parent / "torn.npz").write_bytes(b"PK\x03\x04 not a zip")
    assert not ask(refiner, AvatarFile, "load_avatar", name="torn").ok
    refiner.works()


@pytest.mark.parametrize("name", ["", ".", "..", "../../out", "/tmp/out", "a/b", "a\\b", ".hidden", "a\nb", "link"])
def test_a_path_outside_the_data_folder_is_refused(rig, refiner, name):
    folder = rig.folder / "data" / "avatars"
    folder.mkdir(parents=True, exist_ok=True)
    outside = rig.folder / "outside.npz"
    if not (folder / "link.npz").is_symlink():
        (folder / "link.npz").symlink_to(outside)
    before = len(refiner.told("save")), len(refiner.told("load"))
    for service in ("save_avatar", "load_avatar"):
        answer = ask(refiner, AvatarFile, service, name=name)
        assert not answer.ok
        assert "refused" in answer.message or "plain name" in answer.message
    assert not outside.exists()
    assert before == (len(refiner.told("save")), len(refiner.told("load")))
    written = {path for path in rig.folder.rglob("*.npz") if not path.is_relative_to(folder)}
    assert not written


def test_an_unknown_id_is_refused(refiner):
    answer = ask(refiner, AvatarFile, "save_avatar", name="x", id="not an id")
    assert not answer.ok
    assert "five lower-case letters" in answer.message


def test_a_request_interrupts_the_window_in_work(refiner):
    refiner.works()
    begun = len(refiner.told("begin"))
    refiner.feed(lambda: len(refiner.told("begin")) > begun, "a long window", play=lambda: refiner.send(Command.LONG))
    resets, stops = len(refiner.told("reset")), len(refiner.told("stopped"))
    answer = refiner.rig.call(Trigger, f"{NAME}/reset_avatar")
    assert answer.success, answer.message
    assert len(refiner.told("reset")) == resets + 1
    assert len(refiner.told("stopped")) == stops + 1
    refiner.rig.wait(lambda: refiner.avatars[-1].gaussians == 0, "an avatar that is told to be gone")
    refiner.feed(lambda: refiner.count("interrupted") >= 1, "the count")
    refiner.works()


def test_a_clock_that_goes_back_ends_the_window_in_work_and_all_starts_again(refiner):
    refiner.works()
    begun = len(refiner.told("begin"))
    refiner.feed(lambda: len(refiner.told("begin")) > begun, "a long window", play=lambda: refiner.send(Command.LONG))
    again = iter(range(10**6))
    restart_ns = 500_000_000_000  # before everything that was sent so far
    begin = len(refiner.people)
    refiner.feed(
        lambda: any(stamp_to_ns(m.header.stamp) < 600_000_000_000 for m in refiner.people[begin:]),
        "people of the second round",
        play=lambda: refiner.send(stamp_ns=restart_ns + next(again) * STEP_NS),
    )
    old = [stamp_to_ns(m.header.stamp) > 600_000_000_000 for m in refiner.people[begin:]]
    assert not any(old[old.index(False) :])  # nothing of the first round comes after the second has begun
    refiner.feed(lambda: refiner.status("windows") is not None, "diagnostics")


def test_diagnostics_name_every_part(rig, refiner):
    rig.wait(lambda: refiner.status("masks"), "diagnostics")
    names = {status.name for array_ in refiner.diagnostics for status in array_.status}
    parts = ("lifecycle", "transport", "camera", "windows", "avatar", "depth", "masks")
    assert names >= {f"refiner: {part}" for part in parts}


def test_a_lost_gpu_takes_the_node_to_unconfigured_and_it_comes_back_when_asked(rig, refiner):
    refiner.feed(
        lambda: (s := refiner.status("lifecycle")) and level(s) == 2, "the node to give up",
        play=lambda: refiner.send(Command.LOST_GPU),
    )  # fmt: skip
    assert "the GPU was told to be lost" in refiner.status("lifecycle").message
    assert refiner.lifecycle.state(LIMIT_S) == "unconfigured"
    assert refiner.told("close")
    rig.wait(lambda: not rig.node.count_subscribers("/camera/image_raw"), "nobody listens to the camera")
    refiner.change("configure")
    refiner.change("activate")
    refiner.works()


def test_it_is_stopped_in_the_middle_of_a_window_and_starts_again(rig, refiner):
    for _ in range(2):
        begun = len(refiner.told("begin"))
        refiner.feed(
            lambda begun=begun: len(refiner.told("begin")) > begun, "a long window",
            play=lambda: refiner.send(Command.LONG),
        )  # fmt: skip
        stops = len(refiner.told("stopped"))
        refiner.change("deactivate")
        assert len(refiner.told("stopped")) == stops + 1
        assert not rig.node.count_subscribers("/camera/image_raw")
        refiner.change("activate")
        refiner.works()
    answer = rig.call(Trigger, f"{NAME}/reset_avatar")
    assert answer.success
    refiner.change("deactivate")
    answer = rig.call(Trigger, f"{NAME}/reset_avatar")
    assert not answer.success
    assert "not active" in answer.message
    refiner.change("cleanup")
    rig.wait(lambda: not rig.node.count_publishers("/human/refined/people"), "no publisher is left")
    assert rig.stop(refiner.process) == 0


def test_people_of_an_assumed_camera_are_refined_and_missing_camera_info_is_counted(rig):
    node = Refiner(rig, "nice:=5")
    assert os.getpriority(os.PRIO_PROCESS, node.process.pid) == 5
    group = Path(f"/proc/{node.process.pid}/autogroup")
    if group.exists():  # niceness counts within the group only, and the process leads its own
        assert group.read_text().split()[-1] == "5"

    def play(source):
        stamp_ns = node.next_stamp()
        node.images.publish(image(stamp_ns=stamp_ns, size=SIZE))
        node.perceived.publish(people(stamp_ns, human(), intrinsics_source=source))

    node.feed(lambda: node.count("no_camera_info") >= 2, "the count", play=lambda: play(HumanArray.CAMERA_INFO))
    assert not node.people
    node.feed(lambda: node.people, "refined people", play=lambda: play(HumanArray.ASSUMED_FOV))
    assert node.people[0].intrinsics_source == HumanArray.ASSUMED_FOV
    assert rig.stop(node.process) == 0
