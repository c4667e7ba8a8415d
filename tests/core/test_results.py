"""The people file: what is written is what was found, and bad files are named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core import results
from hsr_core.body.joints import JOINT_NAMES
from hsr_core.config import Settings
from hsr_core.errors import BadFile, MissingFile
from hsr_core.results import PARAMETERS, PeopleRecorder, load_people
from hsr_core.types import (
    Camera,
    EstimateSource,
    FrameResult,
    HumanEstimate,
    HumanParams,
    MetricSource,
    Part,
    Regression,
    TrackState,
)

CAMERA = Camera(np.array([[600.0, 0, 319.5], [0, 610, 239.5], [0, 0, 1]]), (480, 640))


def person(track_id: int, rng: np.random.Generator, state: TrackState = TrackState.TRACKED) -> HumanEstimate:
    raw = HumanParams(
        body_pose=rng.normal(0, 1, (21, 3)).astype(np.float32), betas=rng.normal(0, 1, 7).astype(np.float32)
    )
    seen = Regression(
        raw, np.array([1, 2, 30, 40.0]), 0.8, rng.random(55), np.array([0.9, 0.8, 0, 0.7]),
        Part.BODY | Part.LEFT_HAND, MetricSource.ASSUMED_HEIGHT, 0.2,
    )  # fmt: skip
    smooth = replace(raw, body_pose=raw.body_pose / 2)
    rotmats = Rotation.random(55, random_state=track_id).as_matrix()
    return HumanEstimate(
        track_id, state, track_id == 1, seen, smooth, rng.normal(0, 1, (55, 3)), rotmats, rng.random((55, 3))
    )


def result(seq: int, *people: HumanEstimate, camera: Camera = CAMERA) -> FrameResult:
    return FrameResult(seq, seq * 33, "cam", camera, people, {}, EstimateSource.SMOOTHED)


@pytest.fixture
def recorder(tmp_path):
    return PeopleRecorder(tmp_path / "people.npz", Settings(), {"source": "test"})


def test_everything_comes_back(recorder):
    rng = np.random.default_rng(0)
    frames = [result(i, person(1, rng), person(2, rng)) for i in range(5)]
    for one in frames:
        recorder.add(one)
    recorder.save(complete=True)
    file = load_people(recorder.path)
    np.testing.assert_array_equal(file["stamp_ns"], [0, 33, 66, 99, 132])
    np.testing.assert_array_equal(file["track_id"], [[1, 2]] * 5)
    assert file["joints"].shape == (5, 2, 55, 3)
    assert tuple(file["joint_names"]) == JOINT_NAMES
    np.testing.assert_array_equal(file["K"], CAMERA.K)
    for t, one in enumerate(frames):
        for slot, expected in enumerate(one.people):
            np.testing.assert_allclose(file["joints"][t, slot], expected.joints, rtol=1e-6)
            np.testing.assert_allclose(file["keypoints2d"][t, slot], expected.keypoints2d, rtol=1e-6)
            np.testing.assert_allclose(
                Rotation.from_quat(file["joint_quats_xyzw"][t, slot]).as_matrix(), expected.joint_rotmats, atol=1e-6
            )
            smooth, raw = file.params(t, slot), file.params(t, slot, raw=True)
            for name in PARAMETERS:
                np.testing.assert_array_equal(getattr(smooth, name), getattr(expected.params, name))
                np.testing.assert_array_equal(getattr(raw, name), getattr(expected.regression.params, name))
    assert file["parts"][0, 0] == 3
    assert file.metadata["complete"] is True
    assert file.metadata["settings"]["subject"]["height_m"] == 1.70


def test_people_who_come_and_go(recorder):
    rng = np.random.default_rng(1)
    for i, ids in enumerate([[], [1], [1, 2], [2], [2, 3], []]):
        recorder.add(result(i, *(person(k, rng) for k in ids)))
    recorder.save(complete=True)
    file = load_people(recorder.path)
    np.testing.assert_array_equal(file["track_id"], [[-1, -1], [1, -1], [1, 2], [-1, 2], [3, 2], [-1, -1]])
    absent = ~file.present
    for name, array in file.arrays.items():
        if array.shape[:2] == absent.shape and array.dtype == np.float32:
            assert np.isnan(array[absent]).all(), name
            if name != "root_velocity":  # unknown in this test
                assert np.isfinite(array[~absent]).all(), name


def test_a_person_who_is_lost_is_absent(recorder):
    rng = np.random.default_rng(2)
    recorder.add(result(0, person(1, rng)))
    recorder.add(result(1, person(1, rng, TrackState.PREDICTED)))
    recorder.add(result(2, person(1, rng, TrackState.LOST)))
    recorder.save(complete=True)
    file = load_people(recorder.path)
    assert file["track_id"][:, 0].tolist() == [1, 1, -1]
    assert file["state"][:, 0].tolist() == [2, 3, 0]


def test_an_empty_recording_is_a_file_too(recorder):
    recorder.save(complete=False)
    file = load_people(recorder.path)
    assert len(file["stamp_ns"]) == 0
    assert file.metadata["complete"] is False


def test_nobody_in_any_frame(recorder):
    recorder.add(result(0))
    recorder.save(complete=True)
    assert load_people(recorder.path)["track_id"].tolist() == [[-1]]


def test_a_camera_that_changes_is_kept_per_frame(recorder):
    recorder.add(result(0))
    recorder.add(result(1, camera=CAMERA.scaled((240, 320))))
    recorder.save(complete=True)
    np.testing.assert_allclose(load_people(recorder.path)["K_per_frame"][:, 0, 0], [600, 300])


def test_saving_again_replaces_the_file_and_leaves_nothing_else(recorder):
    recorder.save(complete=False)
    recorder.add(result(0))
    recorder.save(complete=True)
    assert [path.name for path in recorder.path.parent.iterdir()] == ["people.npz"]
    assert load_people(recorder.path).metadata["complete"] is True


def test_a_frame_that_ctrl_c_cuts_in_two_is_not_there(recorder, monkeypatch):
    rng = np.random.default_rng(2)
    recorder.add(result(0, person(1, rng)))

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "person_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recorder.add(result(1, person(1, rng)))
    recorder.save(complete=False)
    people = load_people(recorder.path)
    assert {len(people[name]) for name in ("stamp_ns", "track_id", "joints")} == {1}


def test_a_failed_save_keeps_the_old_file(recorder, monkeypatch):
    recorder.save(complete=True)
    before = recorder.path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda file, **arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recorder.save(complete=True)
    assert recorder.path.read_bytes() == before
    assert len(list(recorder.path.parent.iterdir())) == 1


def test_bad_files_are_named(tmp_path, recorder):
    with pytest.raises(MissingFile, match="hsr run"):
        load_people(tmp_path / "none.npz")
    recorder.add(result(0, person(1, np.random.default_rng(3))))
    recorder.save(complete=True)
    whole = recorder.path.read_bytes()
    bad = tmp_path / "bad.npz"
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=r"bad\.npz"):
        load_people(bad)
    np.savez(bad, metadata=np.array(json.dumps({"format": "other/1"})))
    with pytest.raises(BadFile, match="other/1"):
        load_people(bad)
    np.savez(bad, metadata=np.array([{"pickled": 1}], dtype=object))
    with pytest.raises(BadFile, match=r"bad\.npz"):
        load_people(bad)
