"""Metric placement by a depth image: what stands before a person, what is missing, and what cannot be."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.body.joints import J
from hsr_core.config import Settings
from hsr_core.geometry.raster import render_mesh
from hsr_core.place import LEARNT_PRIOR, TrunkSurface, measure_depth
from hsr_core.regress.fake import FakeRegressor
from hsr_core.stream import HEIGHT_FRAMES, HOLD_S, HumanStream
from hsr_core.types import Camera, Frame, MetricSource

CAMERA = Camera(np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), (480, 640))
IMAGE = np.zeros((480, 640, 3), np.uint8)
WALL_M, Z_M = 4.5, 3.0
RAW = Settings().with_values({"smoothing.enabled": False})


class Standing:
    """A person at 3 m before a wall, and the depth image of the two."""

    def __init__(self, body, yaw: float = 0.0, **pose) -> None:
        self.body = body
        self.person = FakeRegressor(Settings(), body).regress(Frame(IMAGE, 0, camera=CAMERA), CAMERA)[0]
        rotvec, _ = cv2.Rodrigues(np.diag([1.0, -1, -1]) @ cv2.Rodrigues(np.array([0, yaw, 0.0]))[0])
        self.params = replace(
            self.person.params,
            global_orient=rotvec[:, 0].astype(np.float32),
            transl=np.array([0.1, 0.3, Z_M], np.float32),
            **pose,
        )
        posed = body.pose_one(self.params)
        self.joints, self.rotmats = posed.joints, posed.joint_rotmats
        _, depth, self.mask = render_mesh(posed.vertices, body.faces, CAMERA)
        self.depth = np.where(depth > 0, depth, np.float32(WALL_M))

    def row(self, joint: str) -> int:
        return round(float(CAMERA.K[1, 1] * self.joints[J[joint], 1] / self.joints[J[joint], 2] + CAMERA.K[1, 2]))

    def error_m(self, depth=None, *, scale: float = 1.0, **more) -> float:
        """Return by how much the distance is off when the body was regressed at `scale` of its distance."""
        joints = self.joints * np.float32(scale)
        surface = TrunkSurface(self.body, self.params)
        depth = self.depth if depth is None else depth
        measured = measure_depth(depth, CAMERA, joints, self.rotmats, surface, **more)
        return float("nan") if measured is None else float(measured.ratio * joints[0, 2] - self.joints[0, 2])

    def masked(self, mask: np.ndarray):
        """The person with a mask of another resolution, as a regressor gives it."""
        small = cv2.resize(mask.astype(np.float32), (320, 240), interpolation=cv2.INTER_AREA)
        return replace(self.person, mask=small, mask_A_crop_img=np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]]))


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def standing(body):
    return Standing(body)


@pytest.mark.parametrize("yaw", [0.0, 0.8, 1.57, 2.4, 3.14, -1.57])
def test_from_all_sides_to_three_centimetres(body, yaw):
    """In profile the arm hides the trunk: it is known where the arm is."""
    assert abs(Standing(body, yaw).error_m()) < 0.03


def test_a_person_of_another_size_is_found_where_they_are(standing):
    assert abs(standing.error_m(scale=1.25)) < 0.06
    assert abs(standing.error_m(scale=0.8)) < 0.06


def test_arms_crossed_before_the_chest(body):
    pose = np.zeros((21, 3), np.float32)
    for side, sign in (("left", 1), ("right", -1)):
        pose[J[f"{side}_shoulder"] - 1] = (0, -0.6 * sign, -1.1 * sign)
        pose[J[f"{side}_elbow"] - 1] = (0, -2.0 * sign, 0)
    assert abs(Standing(body, body_pose=pose).error_m()) < 0.05


def test_sitting_and_bent_to_four_centimetres(body):
    """Thighs towards the camera, arms and legs anywhere. One of the four is that nobody here wears clothes."""
    rng = np.random.default_rng(1)
    sitting = np.zeros((21, 3), np.float32)
    for side in ("left", "right"):
        sitting[J[f"{side}_hip"] - 1, 0], sitting[J[f"{side}_knee"] - 1, 0] = -1.5, 1.5
    bent = rng.normal(0, 0.4, (8, 21, 3)).astype(np.float32)
    bent[:, [J[f"spine{i}"] - 1 for i in (1, 2, 3)]] *= 0.3
    errors = [
        Standing(body, yaw, body_pose=pose).error_m()
        for yaw, pose in zip(range(16), [*bent, *[sitting] * 8], strict=True)
    ]
    assert np.abs(errors).max() < 0.04


def test_a_table_before_hips_and_thighs(standing):
    depth = standing.depth.copy()
    depth[standing.row("spine1") :] = 2.3  # four of seven sites
    known = standing.error_m(depth, prior=LEARNT_PRIOR)
    assert abs(known) < 0.05
    masked = standing.masked(standing.mask & (np.arange(480) < standing.row("spine1"))[:, None])
    assert abs(standing.error_m(depth, person=masked)) < 0.05  # a mask tells, whatever is known


def test_a_robots_arm_across_the_chest(standing):
    depth = standing.depth.copy()
    row = standing.row("spine3")
    depth[row - 25 : row + 25] = 0.6
    assert abs(standing.error_m(depth)) < 0.03


def test_holes_and_flying_pixels(standing):
    """A third of the pixels is missing, and at outlines depth lies between person and wall."""
    rng = np.random.default_rng(0)
    depth = cv2.blur(standing.depth, (9, 9))
    depth[rng.random(depth.shape) < 0.33] = 0
    depth[standing.row("head") - 40 : standing.row("head") + 40] = 0  # hair does not reflect
    assert abs(standing.error_m(depth)) < 0.03


def test_the_sensors_noise_averages_out(standing):
    errors = []
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 0.0025 * standing.depth**2)
        errors.append(standing.error_m((standing.depth + noise).astype(np.float32)))
    assert np.ptp(errors) < 0.02


def test_a_depth_image_that_ends_beside_the_person(standing):
    depth = standing.depth.copy()
    column = round(float(600 * standing.joints[0, 0] / standing.joints[0, 2] + 319.5))
    depth[:, column:] = 0  # half of the person is outside
    assert abs(standing.error_m(depth)) < 0.04
    depth[standing.row("neck") :] = 0  # only the head is left
    assert np.isnan(standing.error_m(depth))


def test_nothing_is_made_of_the_wall_behind_a_person_who_is_not_there(standing):
    """The regressor's box is beside the person: the mask is empty there."""
    empty = standing.masked(np.zeros_like(standing.mask))
    assert np.isnan(standing.error_m(np.full((480, 640), WALL_M, np.float32), person=empty))


@pytest.mark.parametrize("factor", [0.001, 0.1, 10.0, 1000.0])
def test_depth_of_another_unit_places_nobody(standing, factor):
    assert np.isnan(standing.error_m(standing.depth * np.float32(factor)))


def test_the_stated_error_covers_the_true_one(body):
    """Over poses and sensor noise the error is within two standard deviations nearly always."""
    rng = np.random.default_rng(5)
    surface, ratios = None, []
    for yaw in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        scene = Standing(body, yaw)
        surface = surface or TrunkSurface(body, scene.params)
        depth = (scene.depth + rng.normal(0, 0.0025 * scene.depth**2)).astype(np.float32)
        measured = measure_depth(depth, CAMERA, scene.joints, scene.rotmats, surface)
        ratios.append((measured.ratio - 1) * scene.joints[0, 2] / measured.sigma_m)
    assert (np.abs(ratios) < 2).mean() >= 0.9


# The stream


class Walks(FakeRegressor):
    """Walks away at 1 m/s, and is 10 % shorter than assumed."""

    def regress(self, frame, camera):
        (person,) = super().regress(frame, camera)
        params = replace(person.params, transl=np.array([0, 0.3, 3.3 + frame.stamp_ns * 1e-9], np.float32))
        return [replace(person, params=params)]


def frame(stamp_ns: int, **changes) -> Frame:
    return Frame(IMAGE, stamp_ns, camera=CAMERA, **changes)


def depth_of(body, person, scale: float = 1 / 1.1):
    _, depth, _ = render_mesh(body.pose_one(person.params).vertices * np.float32(scale), body.faces, CAMERA)
    return depth


def test_when_depth_stops_the_source_says_so_within_a_fifth_of_a_second(body):
    regressor = Walks(RAW, body)
    stream = HumanStream(RAW, body, regressor)
    step_ns, seen = 33_000_000, []
    for i in range(14):
        image = frame(i * step_ns)
        depth = depth_of(body, regressor.regress(image, CAMERA)[0]) if i < 4 else None
        (person,) = stream.process(image, lambda *_: depth).people  # noqa: B023
        seen.append((person.regression.metric_source, person.regression.depth_sigma_m, person.joints[0, 2]))
    sources = [source for source, _, _ in seen]
    last = max(i for i, source in enumerate(sources) if source is MetricSource.DEPTH_CAMERA)
    assert sources[: last + 1] == [MetricSource.DEPTH_CAMERA] * (last + 1)
    assert 3 < last <= 3 + HOLD_S * 1e9 / step_ns
    assert sources[-1] is MetricSource.ASSUMED_HEIGHT
    sigmas = [sigma for _, sigma, _ in seen[3 : last + 1]]
    assert sigmas == sorted(sigmas)
    assert sigmas[-1] > sigmas[0]
    distances = np.diff([z for _, _, z in seen[: last + 1]])
    np.testing.assert_allclose(distances, 0.033 / 1.1, atol=0.012)  # walks on while depth is held


def test_depth_is_asked_for_after_the_regression_and_for_people_only(body):
    order = []

    class Told(FakeRegressor):
        def regress(self, frame, camera):
            order.append("regress")
            return super().regress(frame, camera)[: frame.index]

    stream = HumanStream(RAW, body, Told(RAW, body))
    ask = lambda *_: order.append("depth")  # noqa: E731
    stream.process(frame(0, index=1), ask)
    stream.process(frame(1, index=0), ask)
    assert order == ["regress", "depth", "regress"]
    stream.process(frame(2, index=1, depth_m=np.zeros((480, 640), np.float32)), ask)
    assert order.count("depth") == 1  # it came with the frame


def test_without_intrinsics_depth_is_not_asked_for(body):
    stream = HumanStream(RAW, body, FakeRegressor(RAW, body))
    (person,) = stream.process(Frame(IMAGE, 0), lambda *_: pytest.fail("asked")).people
    assert person.regression.metric_source is MetricSource.ASSUMED_HEIGHT


class Stands(FakeRegressor):
    """Three metres away, and said to be nearer or farther."""

    said = 1.0

    def regress(self, frame, camera):
        (person,) = super().regress(frame, camera)
        return [replace(person, params=replace(person.params, transl=np.array([0, 0.3, 3 * self.said], np.float32)))]


@pytest.mark.parametrize("said", [1.1, 1.25, 0.8])
def test_when_depth_comes_and_goes_the_distance_changes_at_once_and_nobody_moves(body, said):
    """0.3 m is less, 0.75 m more than a smoothed pelvis may move in a frame; the pelvis itself stands still."""
    settings = Settings()
    regressor = Stands(settings, body)
    regressor.said = said
    stream, depth = HumanStream(settings, body, regressor), None
    seen = []
    for i in range(40):
        image = frame(i * 33_000_000)
        if depth is None:
            depth = depth_of(body, regressor.regress(image, CAMERA)[0], 1 / said)
        given = depth if 10 <= i < 25 else None
        (person,) = stream.process(image, lambda *_: given).people  # noqa: B023
        seen.append(person)
    assert {person.track_id for person in seen} == {seen[0].track_id}
    assert np.abs([person.root_velocity[:3] for person in seen[1:]]).max() < 0.05
    distances = np.array([person.joints[0, 2] for person in seen])
    assert {p.regression.metric_source for p in seen[10:25]} == {MetricSource.DEPTH_CAMERA}
    np.testing.assert_allclose(distances[10:25], 3.0, atol=0.06)
    assert seen[-1].regression.metric_source is MetricSource.ASSUMED_HEIGHT
    np.testing.assert_allclose(distances[[9, -1]], 3 * said, rtol=0.01)


def test_a_measured_height_counts_from_the_next_frame_on(body):
    """Else the last ratio, of the old height, would be held for the new one when depth stops just then."""

    class Scaled(FakeRegressor):
        height_m = 1.7

        def set_height(self, person, height_m):
            self.height_m = height_m

        def regress(self, frame, camera):
            (person,) = super().regress(frame, camera)
            transl = np.array([0, 0.3, 3.0], np.float32) * np.float32(self.height_m / 1.5)
            return [replace(person, params=replace(person.params, transl=transl))]

    regressor = Scaled(RAW, body)
    stream, distances, depth = HumanStream(RAW, body, regressor), [], None
    for i in range(HEIGHT_FRAMES + 3):
        image = frame(i * 33_000_000)
        if depth is None:
            depth = depth_of(body, regressor.regress(image, CAMERA)[0], 1.5 / 1.7)
        given = depth if i <= HEIGHT_FRAMES else None
        (person,) = stream.process(image, lambda *_: given).people  # noqa: B023
        distances.append(person.joints[0, 2])
        assert person.regression.metric_source is MetricSource.DEPTH_CAMERA
    assert regressor.height_m == pytest.approx(1.5, rel=0.02)
    np.testing.assert_allclose(distances, 3.0, atol=0.07)


def test_when_intrinsics_or_the_assumed_height_change_nobody_moves(body):
    settings = Settings()
    regressor = Stands(settings, body)
    stream = HumanStream(settings, body, regressor)
    longer = replace(CAMERA, K=CAMERA.K * np.array([[1.3], [1.3], [1.0]]))
    for i in range(30):
        if i == 10:
            regressor.said = 1.3
        if i == 20:
            regressor.said = 1.0
            stream.configure(settings.with_values({"subject.height_m": 1.3}))
        image = replace(frame(i * 33_000_000), camera=CAMERA if i < 10 else longer)
        (person,) = stream.process(image).people
        assert person.joints[0, 2] == pytest.approx(3 * regressor.said, rel=0.01)
        assert i == 0 or np.abs(person.root_velocity[:3]).max() < 0.1
