"""Recordings become motions: nothing is invented, nothing moves that did not."""

from __future__ import annotations

import numpy as np
import pytest
from export_people import BEGIN_NS, STEP_NS, params_at, with_arrays, world_pose, write_recording
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation, Slerp

from hsr_core.errors import BadFile, ConfigError, MissingFile
from hsr_core.export.inputs import read_input
from hsr_core.export.motion import LEVEL_CAMERA, Motion
from hsr_core.results import load_people
from hsr_core.types import MetricSource


@pytest.fixture
def track_of(tmp_path, open_body):
    def build(person: str = "primary", **how):
        path = write_recording(tmp_path / "people.npz", open_body, **how)
        folder = tmp_path / "spool"
        folder.mkdir(exist_ok=True)
        return read_input(str(path), folder).chosen(person)[0]

    return build


def test_columns_are_those_of_the_people_file(track_of, tmp_path):
    track = track_of(missing=(3, 4), second=range(5, 12))
    file = load_people(tmp_path / "people.npz")
    for name in ("body_pose", "joints", "raw_transl", "joint_quats_xyzw", "confidence"):
        np.testing.assert_array_equal(track.read(name, slice(0, 40)), file[name][:, 0])
    assert track.recorded.people() == {1: 38, 2: 7}


def test_frozen_skeleton_and_rotations_give_the_recorded_joints(track_of):
    T = world_pose(1)
    motion = Motion(track_of(T_world_cam=T), "recorded")
    pose = motion.read(slice(0, 40))
    wanted = motion.track.read("joints", slice(0, 40)) @ T[:3, :3].T + T[:3, 3]
    np.testing.assert_allclose(motion.joints_m(pose), wanted, atol=1e-4)
    assert motion.residual_mm < 0.05
    assert motion.world.startswith("the recording's own")


def test_without_a_world_the_camera_is_taken_as_level_and_that_is_said(track_of):
    motion = Motion(track_of(), "recorded")
    assert motion.world.startswith("ASSUMED")
    joints = motion.joints_m(motion.read(slice(0, 1)))[0]
    np.testing.assert_allclose(joints, motion.track.read("joints", slice(0, 1))[0] @ LEVEL_CAMERA[:3, :3].T, atol=1e-4)
    with pytest.raises(ConfigError, match="--world level"):
        Motion(motion.track, "recorded", "recorded")


def test_what_was_not_seen_is_missing(track_of):
    motion = Motion(track_of(missing=(10, 11), predicted=(20,)), "zero-phase")
    pose = motion.read(slice(0, 40))
    gone = [10, 11, 20]
    assert np.flatnonzero(np.isnan(pose.pelvis[:, 0])).tolist() == gone
    assert np.flatnonzero(~motion.valid).tolist() == gone


def test_smoothing_takes_the_noise_of_the_raw_and_leaves_the_motion(track_of):
    track = track_of(raw_noise=0.02)
    truth = Motion(track, "recorded").read(slice(0, 40)).pelvis
    errors = {how: np.std(Motion(track, how).read(slice(0, 40)).pelvis - truth) for how in ("raw", "zero-phase")}
    # A quadratic through 7 points keeps 1/3 of white noise' variance in the middle (weight 7/21), more at the ends.
    assert 0.4 < errors["zero-phase"] / errors["raw"] < 0.75


def test_pieces_of_a_smoothed_motion_are_those_of_the_whole(track_of):
    motion = Motion(track_of(raw_noise=0.02, missing=(17, 18, 30)), "zero-phase")
    whole = motion.read(slice(0, 40))
    for begin in range(0, 40, 7):
        piece = motion.read(slice(begin, begin + 7))
        np.testing.assert_allclose(piece.pelvis, whole.pelvis[begin : begin + 7], atol=1e-12)
        np.testing.assert_allclose(piece.rotmats, whole.rotmats[begin : begin + 7], atol=1e-12)


def test_a_uniform_rate_interpolates_as_scipy_does_and_splits_at_gaps(track_of):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.045, 40))
    times[25:] += 0.5
    motion = Motion(track_of(times=times, missing=(5, 6)), "recorded")
    stretches = motion.stretches()
    assert [len(s.frames) for s in stretches] == [23, 15]
    stretch = stretches[0]
    poses = list(motion.resampled(stretch, 50.0))
    stamps = np.concatenate([pose.stamps for pose in poses])
    np.testing.assert_allclose(np.diff(stamps), 2e7, atol=1)
    assert stretch.stamps[-1] - 2e7 < stamps[-1] <= stretch.stamps[-1]
    have = motion.read(slice(0, 25))
    known = np.isfinite(have.pelvis[:, 0])
    for j in (0, 5, 18, 40):
        slerp = Slerp(have.stamps[known], Rotation.from_matrix(have.rotmats[known, j]))
        apart = Rotation.from_matrix(poses[0].rotmats[:, j]) * slerp(stamps).inv()
        assert apart.magnitude().max() < 1e-6
    inside = (stamps > have.stamps[4]) & (stamps < have.stamps[7])
    assert not np.concatenate([pose.measured for pose in poses])[inside].any()


def test_stamps_that_repeat_or_go_back_are_left_out_and_counted(track_of, tmp_path, open_body):
    path = write_recording(tmp_path / "p.npz", open_body, 10)
    stamps = load_people(path)["stamp_ns"].copy()
    stamps[4], stamps[7] = stamps[3], stamps[2]
    (tmp_path / "s").mkdir()
    recorded = read_input(str(with_arrays(path, stamp_ns=stamps)), tmp_path / "s")
    assert recorded.counts["out_of_order"] == 2
    assert len(recorded.stamps) == 8


def test_frames_that_are_not_finite_are_missing_and_counted(tmp_path, open_body):
    path = write_recording(tmp_path / "p.npz", open_body, 10)
    pose = load_people(path)["body_pose"].copy()
    pose[4, 0, 3, 1] = np.nan
    (tmp_path / "s").mkdir()
    recorded = read_input(str(with_arrays(path, body_pose=pose)), tmp_path / "s")
    assert recorded.counts["not_finite"] == 1
    assert np.flatnonzero(~recorded.chosen("primary")[0].seen()).tolist() == [4]
    path = with_arrays(path, body_pose=np.full_like(pose, np.nan))
    (tmp_path / "t").mkdir()
    with pytest.raises(BadFile, match="10 are not finite"):
        read_input(str(path), tmp_path / "t").chosen("primary")


def test_nobody_one_frame_no_file_torn_file_each_has_a_message(tmp_path, open_body):
    folder = tmp_path / "s"
    folder.mkdir()
    path = write_recording(tmp_path / "p.npz", open_body, 4, missing=(0, 1, 2, 3))
    with pytest.raises(BadFile, match="no people in 4 frames"):
        read_input(str(path), folder).chosen("primary")
    one = read_input(str(write_recording(path, open_body, 1)), folder).chosen("primary")[0]
    with pytest.raises(ConfigError, match="one frame is no motion"):
        _ = Motion(one).fps
    with pytest.raises(MissingFile, match="hsr run"):
        read_input(str(tmp_path / "none.npz"), folder)
    torn = tmp_path / "torn.npz"
    torn.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadFile, match="torn"):
        read_input(str(torn), folder)
    np.savez(torn, x=np.array([object()], dtype=object))
    with pytest.raises(BadFile, match="pickled"):
        read_input(str(torn), folder)


def test_pictures_are_regressed_first(tmp_path):
    from hsr_core.config import Settings
    from hsr_core.export.inputs import InputOptions

    settings = Settings().with_values({"regressor": "fake"})
    recorded = read_input("synthetic", tmp_path, InputOptions(settings=settings, max_frames=5))
    assert len(recorded.stamps) == 5
    assert recorded.facts.kind == "source"
    assert recorded.facts.regressor == "fake"
    track = recorded.chosen("primary")[0]
    assert track.has_raw
    assert np.isfinite(track.read("joints", slice(0, 5))).all()


def test_what_refine_wrote_is_one_person_seen_in_every_frame(tmp_path, open_body):
    from hsr_core.results import PARAMETERS

    people = [params_at(open_body, i * STEP_NS * 1e-9) for i in range(8)]
    folder = tmp_path / "refined"
    folder.mkdir()
    arrays = {name: np.stack([getattr(person, name) for person in people]) for name in PARAMETERS}
    np.savez(folder / "people.npz", stamp_ns=BEGIN_NS + STEP_NS * np.arange(8), **arrays)
    (folder / "report.json").write_text("{}")
    (tmp_path / "s").mkdir()
    recorded = read_input(str(folder), tmp_path / "s")
    track = recorded.chosen("primary")[0]
    assert recorded.facts.body_model == open_body.model_id
    assert track.seen().all()
    assert not track.has_raw
    wanted = open_body.pose_one(people[3], vertices=False).joints
    np.testing.assert_allclose(track.read("joints", slice(3, 4))[0], wanted, atol=1e-6)


@pytest.mark.parametrize("source", [MetricSource.ASSUMED_HEIGHT, MetricSource.DEPTH_CAMERA])
def test_a_guessed_distance_is_steadied_and_a_measured_one_is_not(track_of, tmp_path, source):
    """Noise along the viewing ray alone; a person who walks away evenly. The whole window's fit is scipy's."""
    track_of(frames=60)
    with np.load(tmp_path / "people.npz") as file:
        arrays = dict(file)
    rest = arrays["joints"][:, 0, 0] - arrays["transl"][:, 0]
    away = np.linspace(3, 5, 60)
    rays = np.array([0.1, 0.05, 0.99]) / np.linalg.norm([0.1, 0.05, 0.99])
    noise = np.random.default_rng(0).normal(0, 0.06, 60)
    arrays["raw_transl"][:, 0] = ((away + noise)[:, None] * rays - rest).astype(np.float32)
    arrays["metric_source"][:, 0] = int(source)
    np.savez(tmp_path / "walk.npz", **arrays)
    track = read_input(str(tmp_path / "walk.npz"), tmp_path).chosen("primary")[0]
    pelvis = Motion(track, "zero-phase").read(slice(0, 60)).pelvis @ LEVEL_CAMERA[:3, :3]
    np.testing.assert_allclose(pelvis / np.linalg.norm(pelvis, axis=1)[:, None], np.tile(rays, (60, 1)), atol=1e-6)
    distance = np.linalg.norm(pelvis, axis=1)
    want = away + noise
    if source is MetricSource.ASSUMED_HEIGHT:
        want = savgol_filter(want, 43, 2, mode="interp")
        assert np.abs(distance - away).max() < 0.05
    np.testing.assert_allclose(distance, savgol_filter(want, 7, 2, mode="interp"), atol=2e-5)
