"""The per-frame recipe, with the open body and regressors whose answers are known."""

from __future__ import annotations

import gc
import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.errors import BadFrame, ConfigError
from hsr_core.geometry.raster import render_mesh
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.place import TORSO, TrunkSurface, measure_depth
from hsr_core.regress.fake import FakeRegressor
from hsr_core.stream import HumanStream, regressor_name
from hsr_core.types import Camera, EstimateSource, Frame, IntrinsicsSource, MetricSource, TrackState

FRAME_NS = 33_333_333
IMAGE = np.zeros((480, 640, 3), np.uint8)
CAMERA = Camera(np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), (480, 640))
RAW = Settings().with_values({"smoothing.enabled": False})


@pytest.fixture(scope="module")
def body():
    return load_body()


class Scripted(FakeRegressor):
    """The fake person, changed by `script(frame, regression)`: a list of regressions, or None for the person itself."""

    def __init__(self, body, script=None, settings=None):
        super().__init__(settings or Settings(), body)
        self.script, self.configured, self.resets, self.closed = script, [], 0, False

    def regress(self, frame, camera):
        people = super().regress(frame, camera)
        return people if self.script is None else self.script(frame, people[0])

    def configure(self, settings):
        self.configured.append(settings)

    def reset(self):
        self.resets += 1

    def close(self):
        self.closed = True


def frame(i: int = 0, **changes) -> Frame:
    return Frame(IMAGE, i * FRAME_NS, camera=CAMERA, index=i) if not changes else replace(frame(i), **changes)


def stream_of(body, script=None, settings=RAW) -> HumanStream:
    return HumanStream(settings, body, Scripted(body, script, settings))


# Results


def test_a_result_carries_the_frames_stamp_and_the_regressed_person(body):
    stream = stream_of(body)
    result = stream.process(frame(3, frame_id="left_optical_frame"))
    (person,) = result.people
    assert (result.stamp_ns, result.frame_id, result.seq) == (3 * FRAME_NS, "left_optical_frame", 1)
    assert result.source is EstimateSource.REGRESSED
    assert person.params is person.regression.params
    assert person.state is TrackState.NEW
    assert person.primary
    posed = body.pose_one(person.params)
    np.testing.assert_allclose(person.joints, posed.joints, atol=1e-6)
    np.testing.assert_allclose(stream.mesh(person), posed.vertices, atol=1e-6)
    assert {"regress", "place", "smooth", "body", "total"} <= result.stage_ms.keys()


def test_key_points_are_the_joints_seen_through_the_lens(body):
    bent = replace(CAMERA, dist=np.array([-0.3, 0.1, 0.001, 0, 0]))
    (person,) = stream_of(body).process(frame(camera=bent)).people
    expected, _ = cv2.projectPoints(person.joints.astype(np.float64), np.zeros(3), np.zeros(3), bent.K, bent.dist)
    np.testing.assert_allclose(person.keypoints2d[:, :2], expected[:, 0], atol=1e-3)
    np.testing.assert_allclose(person.keypoints2d[:, 2], 0.9)


def test_smoothing_is_on_by_default_and_leaves_the_regression_alone(body):
    stream, plain = stream_of(body, settings=Settings()), stream_of(body)
    for i in range(10):
        smoothed, raw = stream.process(frame(i)), plain.process(frame(i))
    assert smoothed.source is EstimateSource.SMOOTHED
    np.testing.assert_array_equal(smoothed.people[0].regression.params.body_pose, raw.people[0].params.body_pose)
    assert np.abs(smoothed.people[0].params.body_pose - raw.people[0].params.body_pose).max() > 1e-3


def test_vertices_are_made_once_and_only_when_asked_for(body, monkeypatch):
    asked = []
    pose_one = body.pose_one
    monkeypatch.setattr(
        body, "pose_one", lambda p, *, vertices=True: asked.append(vertices) or pose_one(p, vertices=vertices)
    )
    stream = stream_of(body)
    (person,) = stream.process(frame()).people
    assert asked == [False]
    assert stream.mesh(person) is stream.mesh(person)
    assert asked == [False, True]


def test_velocity_of_a_person_who_walks_and_turns(body):
    def walk(frame, person):
        t = frame.stamp_ns / 1e9
        turn = rotvec_to_rotmat(np.array([0, 0.5 * t, 0])) @ np.diag([1.0, -1, -1])
        rotvec, _ = cv2.Rodrigues(turn)
        params = replace(
            person.params,
            transl=np.array([1.2 * t, 0, 4], np.float32),
            global_orient=rotvec[:, 0].astype(np.float32),
        )
        return [replace(person, params=params)]

    stream = stream_of(body, walk)
    first = stream.process(frame(0)).people[0]
    assert first.root_velocity is None
    for i in range(1, 40):
        (person,) = stream.process(frame(i)).people
    np.testing.assert_allclose(person.root_velocity, [1.2, 0, 0, 0, 0.5, 0], atol=0.01)
    assert stream.process(frame(60)).people[0].root_velocity is None  # after a gap


# The camera


def test_without_a_camera_a_field_of_view_is_assumed_flagged_and_said_once(body, caplog):
    stream = stream_of(body)
    with caplog.at_level(logging.WARNING):
        cameras = [stream.process(frame(i, camera=None)).camera for i in range(5)]
    assert len([r for r in caplog.records if "field of view" in r.message]) == 1
    assert cameras[0].source is IntrinsicsSource.ASSUMED_FOV
    assert cameras[0].K[0, 0] == pytest.approx(320 / np.tan(np.radians(30)))
    assert all(camera is cameras[0] for camera in cameras)  # nothing is made again
    stream.configure(RAW.with_values({"camera.assumed_hfov_deg": 90.0}))
    assert stream.process(frame(6, camera=None)).camera.K[0, 0] == pytest.approx(320)


def test_a_camera_for_another_size_is_scaled_or_refused_and_flagged(body, caplog):
    stream = stream_of(body)
    double = Camera(CAMERA.K * [[2, 1, 2], [1, 2, 2], [1, 1, 1]], (960, 1280))
    assert stream.process(frame(0, camera=double)).camera.K[0, 0] == pytest.approx(600)
    square = Camera(np.array([[600.0, 0, 250], [0, 600, 250], [0, 0, 1]]), (500, 500))
    with caplog.at_level(logging.WARNING):
        assert stream.process(frame(1, camera=square)).camera.source is IntrinsicsSource.ASSUMED_FOV
    assert "500x500" in caplog.text


def test_rectify_off_ignores_distortion(body):
    stream = stream_of(body, settings=RAW.with_values({"camera.rectify": False}))
    camera = replace(CAMERA, dist=np.array([-0.3, 0, 0, 0, 0]))
    assert not stream.process(frame(camera=camera)).camera.distorted


# People who come and go


def test_someone_who_is_not_seen_is_held_with_zero_scores_and_then_lost_once(body):
    stream = stream_of(body, lambda f, person: [person] if f.index < 5 else [], RAW.with_values({"track.keep_s": 0.1}))
    results = [stream.process(frame(i)) for i in range(12)]
    states = [[p.state for p in r.people] for r in results]
    assert states[5:] == [[TrackState.PREDICTED]] * 3 + [[TrackState.LOST]] + [[]] * 3
    held = results[5].people[0]
    assert held.track_id == results[0].people[0].track_id
    np.testing.assert_array_equal(held.joints, results[4].people[0].joints)
    assert held.regression.joint_score.max() == 0
    assert held.keypoints2d[:, 2].max() == 0
    assert held.regression.parts == 0
    assert held.root_velocity is None
    assert results[4].people[0].keypoints2d[:, 2].max() > 0  # what was published before is untouched


def test_a_stamp_that_goes_back_forgets_everybody(body):
    stream = stream_of(body)
    first = stream.process(frame(10)).people[0].track_id
    again = stream.process(frame(2))
    assert [p.track_id for p in again.people] != [first]
    assert stream.counters.clock_jumps == 1
    assert stream.regressor.resets == 1


def test_many_people_are_followed_up_to_the_limit_and_one_is_primary(body):
    def crowd(frame, person):
        people = []
        for i in range(10):
            height = 300 if i == 3 else 150
            box = np.array([60 * i, 0, 60 * i + 50, height], np.float32)
            params = replace(person.params, transl=np.array([1.5 * i - 7, 0, 6], np.float32))
            people.append(replace(person, params=params, bbox_xyxy=box))
        return people

    stream = stream_of(body, crowd, RAW.with_values({"people.max": 8}))
    results = [stream.process(frame(i)) for i in range(3)]
    ids = [[p.track_id for p in r.people] for r in results]
    assert ids[0] == ids[1] == ids[2] == list(range(1, 9))
    assert [p.track_id for p in results[0].people if p.primary] == [4]
    stream.set_primary(7)
    assert [p.track_id for p in stream.process(frame(4)).people if p.primary] == [7]


@pytest.mark.parametrize("change", ["nan", "score", "size"])
def test_unusable_people_are_dropped(body, change):
    def script(frame, person):
        if change == "nan":
            return [replace(person, params=replace(person.params, transl=np.array([np.nan, 0, 3], np.float32)))]
        if change == "score":
            return [replace(person, score=0.1)]
        return [replace(person, bbox_xyxy=np.array([0, 0, 20, 60], np.float32))]

    stream = stream_of(body, script)
    assert stream.process(frame()).people == ()
    assert stream.counters.dropped_people == (change == "nan")


def test_a_bad_frame_does_not_end_the_stream(body):
    def script(frame, person):
        if frame.index == 1:
            raise BadFrame("torn")
        return [person]

    stream = stream_of(body, script)
    stream.process(frame(0))
    with pytest.raises(BadFrame):
        stream.process(frame(1))
    assert stream.process(frame(2)).people[0].state is TrackState.TRACKED


# Life


def test_live_settings_reach_everything(body):
    stream = stream_of(body, settings=Settings())
    stream.process(frame(0))
    stream.configure(Settings().with_values({"subject.height_m": 1.9, "smoothing.enabled": False}))
    assert stream.regressor.configured[-1].subject.height_m == 1.9
    assert stream.process(frame(1)).source is EstimateSource.REGRESSED


def test_a_regressor_given_by_the_caller_is_the_callers_to_close(body):
    own = Scripted(body)
    HumanStream(RAW, body, own).close()
    assert not own.closed


def test_names_of_regressors(body, monkeypatch):
    monkeypatch.delenv("HSR_PEAR_WEIGHTS", raising=False)
    assert regressor_name(Settings()) == "landmarks"
    assert regressor_name(Settings().with_values({"pear.weights": "pear_model.pt"})) == "pear"
    monkeypatch.setenv("HSR_PEAR_WEIGHTS", "pear_model.pt")
    assert regressor_name(Settings()) == "pear"
    assert regressor_name(Settings(regressor="landmarks")) == "landmarks"
    with HumanStream(Settings(regressor="fake"), body) as stream:
        assert stream.regressor.name == "fake"
    with pytest.raises(ConfigError, match="fake"):
        HumanStream(Settings(regressor="magic"), body)


def test_nothing_is_kept_of_old_frames(body):
    stream = stream_of(body, settings=Settings())
    for i in range(30):
        result = stream.process(frame(i))
        stream.mesh(result.people[0])
    del result
    gc.collect()
    assert len(stream._meshes) <= 1
    assert len(stream._tracker.tracks) == 1


# Depth


def depth_of(body, params, scale: float = 1.0):
    """Depth image [m] of a person as the camera would measure it; no reading beside them."""
    _, depth, _ = render_mesh(body.pose_one(params).vertices * np.float32(scale), body.faces, CAMERA)
    return depth


def turned(person, angle: float, z: float = 3.0):
    R = np.diag([1.0, -1, -1]) @ rotvec_to_rotmat(np.array([0, angle, 0]))
    rotvec, _ = cv2.Rodrigues(R)
    return replace(
        person.params, global_orient=rotvec[:, 0].astype(np.float32), transl=np.array([0.2, 0.3, z], np.float32)
    )


@pytest.mark.parametrize("angle", [0.0, 0.8, np.pi / 2, np.pi])
def test_the_trunk_is_found_behind_its_skin_from_all_sides(body, angle):
    """The body is rendered where it is, so the ratio of measured to regressed depth must be one."""
    person = FakeRegressor(Settings(), body).regress(frame(), CAMERA)[0]
    params = turned(person, angle)
    posed = body.pose_one(params)
    measured = measure_depth(
        depth_of(body, params), CAMERA, posed.joints, posed.joint_rotmats, TrunkSurface(body, params)
    )
    # Arms at the sides hide the trunk in profile; elsewhere a centimetre or two remain.
    assert abs(measured.ratio - 1) * 3.0 < (0.06 if 0.8 < angle < 3 else 0.02)


def test_a_depth_camera_places_the_person_and_tells_the_height(body):
    """Someone 10 % smaller than assumed, seen at the same angle: regressed at 3.3 m, truly at 3 m."""
    heights = []

    def script(f, person):
        return [replace(person, params=turned(person, 0.0, z=3.3))]

    stream = stream_of(body, script)
    for i in range(12):
        params = script(None, FakeRegressor(Settings(), body).regress(frame(), CAMERA)[0])[0].params
        (person,) = stream.process(frame(i, depth_m=depth_of(body, params, 3.0 / 3.3))).people
        heights = [s.subject.height_m for s in stream.regressor.configured]
    assert person.regression.metric_source is MetricSource.DEPTH_CAMERA
    assert person.joints[0, 2] == pytest.approx(3.0, abs=0.03)
    regressed = body.pose_one(params).joints[0]
    np.testing.assert_allclose(person.joints[0] / person.joints[0, 2], regressed / regressed[2], atol=1e-3)
    assert heights == [pytest.approx(1.70 * 3.0 / 3.3, rel=0.01)]
    assert 0.01 < person.regression.depth_sigma_m < 0.1


@pytest.mark.parametrize("depth", [np.zeros((480, 640), np.float32), np.full((480, 640), np.nan, np.float32)])
def test_depth_without_readings_changes_nothing(body, depth):
    (person,) = stream_of(body).process(frame(depth_m=depth)).people
    assert person.regression.metric_source is MetricSource.ASSUMED_HEIGHT


def test_holes_and_an_arm_before_the_trunk_do_not_move_the_person(body):
    person = FakeRegressor(Settings(), body).regress(frame(), CAMERA)[0]
    params = turned(person, 0.0)
    posed = body.pose_one(params)
    depth = depth_of(body, params)
    rng = np.random.default_rng(0)
    depth[rng.random(depth.shape) < 0.4] = 0
    v = round(float(posed.joints[TORSO[3], 1] / posed.joints[TORSO[3], 2] * 600 + 239.5))
    depth[v - 15 : v + 15, 300:420] = 2.5  # something before the chest
    measured = measure_depth(depth, CAMERA, posed.joints, posed.joint_rotmats, TrunkSurface(body, params))
    assert measured.ratio == pytest.approx(1, abs=0.01)


def test_depth_of_half_the_resolution_is_enough(body):
    person = FakeRegressor(Settings(), body).regress(frame(), CAMERA)[0]
    params = turned(person, 0.0)
    posed = body.pose_one(params)
    half = depth_of(body, params)[::2, ::2]
    measured = measure_depth(half, CAMERA, posed.joints, posed.joint_rotmats, TrunkSurface(body, params))
    assert measured.ratio == pytest.approx(1, abs=0.01)


def test_depth_is_not_trusted_with_an_assumed_field_of_view(body):
    depth = np.full((480, 640), 2.0, np.float32)
    (person,) = stream_of(body).process(frame(camera=None, depth_m=depth)).people
    assert person.regression.metric_source is MetricSource.ASSUMED_HEIGHT
