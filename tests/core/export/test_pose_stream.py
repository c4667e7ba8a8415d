"""Pose streams: what is in the file gives the recorded person again, by scipy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from export_people import BEGIN_NS, CAMERA, STEP_NS, estimate, params_at, with_arrays, world_pose, write_recording
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import JOINT_NAMES, J
from hsr_core.config import Settings
from hsr_core.export import export
from hsr_core.results import PeopleRecorder, load_people
from hsr_core.types import EstimateSource, FrameResult, TrackState

N = 16
T = world_pose(4)


@pytest.fixture(scope="module")
def stream(tmp_path_factory, open_body):
    folder = tmp_path_factory.mktemp("stream")
    path = write_recording(folder / "people.npz", open_body, N, missing=(0, 5, 6), T_world_cam=T)
    score = load_people(path)["joint_score"]
    score[8, 0, J["left_knee"]] = 0.1
    parts = load_people(path)["parts"]
    parts[9, 0] = 1 | 4  # body and right hand
    with_arrays(path, joint_score=score, parts=parts)
    told = export(str(path), "pose_stream", folder / "stream.npz")
    with np.load(folder / "stream.npz", allow_pickle=False) as file:
        return load_people(path), dict(file), told


def test_missing_frames_are_left_out_and_the_index_tells_them(stream):
    _, arrays, told = stream
    there = [i for i in range(1, N) if i not in (5, 6)]
    assert arrays["frame_index"].tolist() == [i - 1 for i in there]
    assert arrays["stamp_ns"].tolist() == [BEGIN_NS + round(i * STEP_NS * 1e-9 * 1e9) for i in there]
    assert (told["frames"], told["frames_missing"]) == (N - 3, 2)
    assert arrays["smpl_joints"].shape == (N - 3, 24, 3)
    assert arrays["smpl_pose"].shape == (N - 3, 21, 3)
    assert arrays["body_quat"].shape == (N - 3, 4)


def test_joints_and_quaternion_give_the_recorded_joints_in_the_world(stream):
    people, arrays, _ = stream
    names = [*JOINT_NAMES[:22], "left_middle1", "right_middle1"]
    for row, frame in enumerate(arrays["frame_index"] + 1):
        recorded = people["joints"][frame, 0][[J[name] for name in names]] @ T[:3, :3].T + T[:3, 3]
        w, x, y, z = arrays["body_quat"][row]
        there = Rotation.from_quat([x, y, z, w]).apply(arrays["smpl_joints"][row]) + recorded[0]
        np.testing.assert_allclose(there, recorded, atol=2e-4)
        np.testing.assert_allclose(arrays["smpl_pose"][row], people["body_pose"][frame, 0], atol=1e-5)


def test_a_person_who_stands_upright_and_looks_along_x_has_the_identity(open_body, tmp_path):
    level = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    # the body rests with y up, facing z: in a level camera's axes (x right, y down) that is a turn by pi about x,
    # and another by pi about y to look away from the camera, along the world's x
    turned = Rotation.from_rotvec([0, np.pi, 0]) * Rotation.from_rotvec([np.pi, 0, 0])
    params = replace(params_at(open_body, 0.0), global_orient=turned.as_rotvec().astype(np.float32))
    params = replace(params, body_pose=np.zeros((21, 3), np.float32))
    recorder = PeopleRecorder(tmp_path / "people.npz", Settings(), {"source": "made"})
    for i in range(3):
        person = estimate(open_body, params, 1, state=TrackState.TRACKED, primary=True, raw=None)
        recorder.add(FrameResult(i, BEGIN_NS + i * STEP_NS, "cam", CAMERA, (person,), {}, EstimateSource.SMOOTHED,
                                 "map", level))  # fmt: skip
    recorder.save(complete=True)
    export(str(tmp_path / "people.npz"), "pose_stream", tmp_path / "stream.npz")
    with np.load(tmp_path / "stream.npz", allow_pickle=False) as file:
        quat, joints, names = file["body_quat"][0], file["smpl_joints"][0], list(file["joint_names"])
    np.testing.assert_allclose(np.abs(quat), [1, 0, 0, 0], atol=1e-6)
    head, shoulder, foot = (joints[names.index(name)] for name in ("head", "left_shoulder", "left_foot"))
    ankle = joints[names.index("left_ankle")]
    assert head[2] > 0.4 > shoulder[1] > 0.1
    assert foot[2] < -0.6
    assert foot[0] > ankle[0] + 0.05


def test_what_was_not_seen_is_not_valid(stream):
    _, arrays, _ = stream
    invalid = {(int(row), str(arrays["joint_names"][j])) for row, j in np.argwhere(~arrays["joint_valid"])}
    row_of = {int(frame) + 1: row for row, frame in enumerate(arrays["frame_index"])}
    assert invalid == {(row_of[8], "left_knee"), (row_of[9], "left_hand")}


def test_a_file_of_a_recording_without_a_governor_says_so(stream):
    header = json.loads(str(stream[1]["hsr_header"]))
    assert "passed no governor" in header["governor"]
    assert header["conventions"]["body_quat"].startswith("wxyz")
