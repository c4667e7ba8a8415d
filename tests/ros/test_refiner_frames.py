"""From messages to frames of the refinement: no distortion is left, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from harness import FRAME_ID
from hsr import convert
from hsr.cameras import CameraBook
from hsr.image_input import Incoming
from hsr.notices import Notices
from hsr.pairing import Bundle
from hsr.refine_frames import FrameMaker, NoCameraInfo
from hsr.refine_grid import Grid
from hsr.refine_params import DEFAULTS
from hsr.stats import Counters
from hsr_msgs.msg import Human
from refine_rig import Z_M, depth_image, human, info, mask_image, people
from scripted_refiner import BoxBody
from sensor_msgs.msg import CompressedImage, Image

from hsr_core.depth import DepthSelector
from hsr_core.depth.measured import MeasuredDepth
from hsr_core.errors import BadFrame
from hsr_core.geometry.camera import project
from hsr_core.mask import MaskSelector
from hsr_core.mask.mesh import MeshMask
from hsr_core.mask.topic import TopicMask
from hsr_core.types import Camera

HW = (240, 320)
K = np.array([[260.0, 0, 158.5], [0, 250, 121.25], [0, 0, 1]])
STAMP_NS = 5_000_000_000
PLUMB = Camera(K, HW, np.array([-0.28, 0.09, 1e-3, -5e-4, 0.0]), frame_id=FRAME_ID)
FISHEYE = Camera(K, HW, np.array([0.05, -0.01, 2e-3, 0.0]), "equidistant", frame_id=FRAME_ID)
STRAIGHT = Camera(K, HW, frame_id=FRAME_ID)
LENSES = pytest.mark.parametrize("camera", [PLUMB, FISHEYE], ids=["plumb_bob", "equidistant"])


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str) -> None:
        self.lines.append(text)


class Bench:
    """A frame maker with the topic providers, and messages of one moment."""

    def __init__(self, camera: Camera = STRAIGHT, *, with_info: bool = True, side: int = 0, **depth) -> None:
        self.log, self.counters = Log(), Counters()
        notices = Notices(self.log)
        cameras = CameraBook(notices)
        if with_info:
            cameras.put(info(STAMP_NS, camera))
        settings = SimpleNamespace(**{**vars(DEFAULTS.depth), **depth})
        self.depth = DepthSelector([MeasuredDepth(settings)])
        self.masks = MaskSelector([TopicMask(DEFAULTS.mask), MeshMask(DEFAULTS.mask.cloth_m)], DEFAULTS.mask)
        self.maker = FrameMaker(
            BoxBody(), self.depth, self.masks, cameras, self.counters, notices, DEFAULTS.input, side
        )  # fmt: skip
        self.camera = camera

    def make(self, pixels=None, *, depth: Image | None = None, mask: Image | None = None, who=None, depth_info=None):
        pixels = np.zeros((*HW, 3), np.uint8) if pixels is None else pixels
        msg = convert.image_to_msg(pixels, STAMP_NS, FRAME_ID)
        found = people(STAMP_NS, *(who or (human(),)), camera=self.camera)
        bundle = Bundle(found, 0, 0.0, Incoming(msg, STAMP_NS, 0.0, 0), depth, mask)
        return self.maker.make(bundle, depth_info)[1]


def dots(camera: Camera, points) -> np.ndarray:
    """Return an image as the camera sees it, with a white dot at each point; OpenCV projects."""
    zero = np.zeros(3)
    if camera.model == "equidistant":
        uv = cv2.fisheye.projectPoints(points[:, None], zero, zero, camera.K, camera.dist)[0][:, 0]
    else:
        uv = cv2.projectPoints(points[:, None], zero, zero, camera.K, camera.dist)[0][:, 0]
    image = np.zeros((*HW, 3), np.uint8)
    for u, v in uv:
        y, x = np.mgrid[: HW[0], : HW[1]]
        spot = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8)
        image = np.maximum(image, spot[..., None].astype(np.uint8))
    return image


@LENSES
def test_points_of_a_distorted_image_lie_where_a_pinhole_of_the_same_k_has_them(camera):
    points = np.array([[x, y, 2.0] for x in (-0.8, 0.1, 0.8) for y in (-0.6, 0.0, 0.6)])
    (person,) = Bench(camera).make(dots(camera, points))
    image = person.frame.image.mean(axis=2)
    assert image.dtype == np.float32
    for x, y, z in points:
        u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
        rows, columns = np.mgrid[int(v) - 6 : int(v) + 8, int(u) - 6 : int(u) + 8]
        weights = image[rows, columns]
        assert weights.max() > 0.7
        found = (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()
        assert found == pytest.approx((u, v), abs=0.25)  # [px]
    np.testing.assert_array_equal(person.frame.K, K)


@LENSES
def test_depth_and_masks_are_picked_and_not_mixed(camera):
    """Two depths and nothing between them; the border lies where the undistorted border of the scene does."""
    rays = cv2.undistortPoints if camera.model == "plumb_bob" else cv2.fisheye.undistortPoints
    v, u = np.mgrid[: HW[0], : HW[1]].astype(np.float64)
    where = rays(np.stack([u, v], -1).reshape(-1, 1, 2), K, camera.dist).reshape(*HW, 2)
    left = where[..., 0] < 0.05  # left of a plane through the camera
    depth_m = np.where(left, 2.0, 3.5).astype(np.float32)
    mask = np.where((np.abs(where[..., 0]) < 0.12) & (np.abs(where[..., 1]) < 0.28), 255, 0)
    for encoding in ("16UC1", "32FC1"):
        (person,) = Bench(camera).make(
            depth=depth_image(STAMP_NS, depth_m, encoding=encoding), mask=mask_image(STAMP_NS, mask)
        )  # fmt: skip
        frame = person.frame
        assert (person.depth_source, person.depth_weight) == ("topic", 2.0)
        assert set(np.unique(frame.depth_m).round(6)) <= {0.0, 2.0, 3.5}
        assert set(np.unique(frame.mask)) == {0, 1}
        border = K[0, 0] * 0.05 + K[0, 2]
        columns = np.arange(HW[1])
        for row in (40, 120, 200):
            assert abs(columns[frame.depth_m[row] == 2].max() + 0.5 - border) <= 1
        top, bottom = (K[1, 1] * y + K[1, 2] for y in (-0.28, 0.28))
        rows = np.flatnonzero(frame.mask[:, round(K[0, 2])])
        assert (rows.min() - 0.5, rows.max() + 0.5) == (pytest.approx(top, abs=1), pytest.approx(bottom, abs=1))


@LENSES
def test_registered_depth_of_half_the_size_and_compressed_is_the_same_scene(camera):
    """Its camera info says that it is the same picture; without it another size is refused."""
    _, u = np.mgrid[: HW[0] // 2, : HW[1] // 2]
    depth_m = np.where(u < HW[1] // 4, 2.0, 3.5).astype(np.float32)
    small = depth_image(STAMP_NS, depth_m)
    png = cv2.imencode(".png", (depth_m * 1000).astype(np.uint16))[1].tobytes()
    compressed = CompressedImage(header=small.header, format="16UC1; compressedDepth png", data=b"\0" * 12 + png)
    half = info(STAMP_NS, camera.scaled((HW[0] // 2, HW[1] // 2)))
    found = [Bench(camera).make(depth=msg, depth_info=half)[0] for msg in (small, compressed)]
    full = depth_image(STAMP_NS, cv2.resize(depth_m, HW[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    (expected,) = Bench(camera).make(depth=full)
    for person in found:
        assert person.depth_source == "topic"
        np.testing.assert_array_equal(person.frame.depth_m, expected.frame.depth_m)
    assert Bench(camera).make(depth=small)[0].depth_source == "none"


def test_depth_of_another_camera_is_registered_once_it_is_known_where_that_one_is():
    """It stands half a metre behind the colour camera: a wall 2.5 m before it is 2 m before that one."""
    bench = Bench(register=True)
    moment = {
        "depth": depth_image(STAMP_NS, np.full(HW, 2.5), frame_id="depth_optical_frame"),
        "depth_info": info(STAMP_NS, dataclasses.replace(STRAIGHT, frame_id="depth_optical_frame")),
    }
    asked = []
    bench.maker.extrinsics = lambda *frames: asked.append(frames)
    assert bench.make(**moment)[0].depth_source == "none"
    T_color_depth = np.eye(4)
    T_color_depth[2, 3] = -0.5
    bench.maker.extrinsics = lambda *frames: T_color_depth
    (person,) = bench.make(**moment)
    assert asked == [(FRAME_ID, "depth_optical_frame")]
    assert person.depth_source == "topic"
    seen = person.frame.depth_m[60:-60, 80:-80]
    np.testing.assert_allclose(seen[seen > 0], 2.0, atol=1e-3)
    assert (seen > 0).mean() > 0.9


@LENSES
def test_shrunk_images_show_the_same_scene_under_their_own_k(camera):
    """Half of everything: dots where the smaller pinhole has them, depth not mixed, people where they were."""
    points = np.array([[x, y, 2.0] for x in (-0.8, 0.1, 0.8) for y in (-0.6, 0.0, 0.6)])
    depth_m = np.full(HW, 2.0, np.float32)
    depth_m[:, 100:] = 3.0
    bench = Bench(camera, side=HW[1] // 2)
    (person,) = bench.make(
        dots(camera, points), depth=depth_image(STAMP_NS, depth_m), mask=mask_image(STAMP_NS, np.full(HW, 255)),
        depth_info=info(STAMP_NS, camera),
    )  # fmt: skip
    frame = person.frame
    assert frame.image.shape == (HW[0] // 2, HW[1] // 2, 3)
    K2 = frame.K
    # Edges of pixels align: the middle of the picture stays the middle.
    assert (K2[0, 2] + 0.5, K2[1, 2] + 0.5) == (pytest.approx((K[0, 2] + 0.5) / 2), pytest.approx((K[1, 2] + 0.5) / 2))
    image = frame.image.mean(axis=2)
    for x, y, z in points:
        u, v = K2[0, 0] * x / z + K2[0, 2], K2[1, 1] * y / z + K2[1, 2]
        rows, columns = np.mgrid[int(v) - 3 : int(v) + 5, int(u) - 3 : int(u) + 5]
        weights = image[rows, columns]
        found = (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()
        assert found == pytest.approx((u, v), abs=0.25)  # [px]
    assert person.depth_source == "topic"
    assert set(np.unique(frame.depth_m).round(6)) <= {0, 2, 3}
    assert Grid(camera, 10_000).camera.image_hw == HW  # never enlarged
    np.testing.assert_allclose(
        Grid(camera, HW[1] // 2).points(project(points, camera)), points[:, :2] / 2 * np.diag(K2)[:2] + K2[:2, 2],
        atol=0.05,
    )  # fmt: skip


def test_without_distortion_nothing_is_copied_or_interpolated():
    straight = Grid(STRAIGHT)
    assert straight.same
    image = np.random.default_rng(0).integers(0, 255, (*HW, 3), dtype=np.uint8)
    assert straight.smooth(image) is image
    (person,) = Bench().make(image)
    np.testing.assert_allclose(person.frame.image, image[..., ::-1] / 255.0, atol=1e-6)


@LENSES
def test_the_body_lies_on_its_own_mask(camera):
    (person,) = Bench(camera).make()
    params = person.frame.params
    uv = project(BoxBody().pose_one(params).vertices, STRAIGHT)
    rows, columns = np.nonzero(person.frame.mask)
    margin = 0.045 * K[0, 0] / Z_M + 2  # clothes and slack, and the discs that grow it
    assert columns.min() == pytest.approx(uv[:, 0].min() - margin, abs=3)
    assert rows.max() == pytest.approx(uv[:, 1].max() + margin, abs=3)


WRONG_DEPTH = {
    "another size": depth_image(STAMP_NS, np.full((120, 160), 2.0)),
    "another frame": depth_image(STAMP_NS, np.full(HW, 2.0), frame_id="depth_optical_frame"),
    "nothing valid": depth_image(STAMP_NS, np.zeros(HW)),
    "nan": depth_image(STAMP_NS, np.full(HW, np.nan), encoding="32FC1"),
    "millimetres as metres": depth_image(STAMP_NS, np.full(HW, 2000.0), encoding="32FC1"),
    "another moment": depth_image(STAMP_NS + 200_000_000, np.full(HW, 2.0)),
    "another encoding": Image(header=people(STAMP_NS).header, height=HW[0], width=HW[1], step=HW[1], encoding="mono8"),
    "torn": depth_image(STAMP_NS, np.full(HW, 2.0)),
}
WRONG_DEPTH["torn"].data = array("B", bytes(100))


@pytest.mark.parametrize("what", WRONG_DEPTH)
@pytest.mark.parametrize("camera", [STRAIGHT, PLUMB], ids=["pinhole", "plumb_bob"])
def test_depth_that_does_not_fit_is_left_out_and_the_reason_said(what, camera):
    bench = Bench(camera)
    (person,) = bench.make(depth=WRONG_DEPTH[what])
    assert person.frame.depth_m is None
    assert person.depth_source == "none"
    assert bench.counters["no_depth"] == 1
    assert bench.depth.status
    bench.depth.reset()  # the next image is of the same moment
    (person,) = bench.make(depth=depth_image(STAMP_NS, np.full(HW, 2.0)))
    assert person.depth_source == "topic"


def test_depth_of_other_intrinsics_is_refused_by_its_camera_info():
    other = Camera(K * np.array([[1.1], [1.1], [1]]), HW, frame_id=FRAME_ID)
    bench = Bench()
    (person,) = bench.make(depth=depth_image(STAMP_NS, np.full(HW, 2.0)), depth_info=info(STAMP_NS, other))
    assert person.frame.depth_m is None
    assert "intrinsics differ" in bench.depth.status


def test_a_mask_of_another_person_is_kept_apart_and_contested_pixels_count_for_nobody():
    mask = np.zeros(HW, np.uint16)
    mask[60:185, 40:130], mask[60:185, 185:275] = 5, 9
    left, right = (human(i, transl=np.float32([x, 0, Z_M]), primary=i == 1) for i, x in ((1, -0.75), (2, 0.65)))
    msg = mask_image(STAMP_NS, mask)
    msg.encoding, msg.step, msg.data = "16UC1", 2 * HW[1], array("B", mask.tobytes())
    made = {person.track_id: person for person in Bench().make(mask=msg, who=(left, right))}
    assert set(made) == {1, 2}
    for track_id, number in ((1, 5), (2, 9)):
        np.testing.assert_array_equal(made[track_id].frame.mask > 0.5, mask == number)
        assert not made[track_id].frame.ignore.any()


def test_people_need_the_camera_that_they_were_estimated_with():
    bench = Bench(with_info=False)
    with pytest.raises(NoCameraInfo, match="no camera info for frame"):
        bench.make()
    bench = Bench(PLUMB)
    bench.camera = Camera(1.2 * K * [[1], [1], [1 / 1.2]], HW, frame_id=FRAME_ID)
    with pytest.raises(BadFrame, match="other intrinsics"):
        bench.make()


def test_one_bad_person_does_not_cost_the_other():
    bench = Bench()
    bad = human(3, body_pose=np.full(63, np.inf, np.float32))
    made = bench.make(who=(bad, human(4)))
    assert [person.track_id for person in made] == [4]
    assert bench.counters["bad_people"] == 1
    assert any("not finite" in line for line in bench.log.lines)


def test_who_is_not_seen_in_the_image_is_not_refined():
    assert Bench().make(who=(human(state=Human.PREDICTED),)) == []
    assert Bench().make(who=(human(state=Human.LOST),)) == []


def test_metric_is_known_from_depth_or_from_what_came_in():
    nothing = human(metric_source=Human.METRIC_NONE, depth_sigma_m=float("inf"))
    assert not Bench().make(who=(nothing,))[0].metric
    assert Bench().make()[0].metric
    assert Bench().make(who=(nothing,), depth=depth_image(STAMP_NS, np.full(HW, 2.0)))[0].metric
