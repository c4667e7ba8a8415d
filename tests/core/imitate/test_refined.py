"""Corrections of a few frames reach all of them, and turn and move the person as they say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from export_people import params_at, write_recording
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import J
from hsr_core.export.inputs import read_input
from hsr_core.export.motion import Motion
from hsr_core.imitate.refined import Corrections, corrected_track, corrections_of

STEP = 10**8


def corrections(turns, shifts):
    return Corrections(np.arange(len(shifts)) * STEP, np.asarray(turns, float), np.asarray(shifts, float))


@pytest.fixture
def track(tmp_path, open_body):
    return read_input(str(write_recording(tmp_path / "people.npz", open_body, 12, missing=(5,))), tmp_path).chosen("1")[
        0
    ]


def test_between_two_frames_it_is_linear_and_outside_the_nearest():
    turns = np.zeros((2, 22, 3))
    turns[1, 3, 0] = 0.2
    found, shifts = corrections(turns, [[0, 0, 0], [1, 2, 3]]).at(np.array([-STEP, STEP // 4, 2 * STEP]))
    np.testing.assert_allclose(found[:, 3, 0], [0, 0.05, 0.2])
    np.testing.assert_allclose(shifts, [[0, 0, 0], [0.25, 0.5, 0.75], [1, 2, 3]])


def test_what_the_refiner_changed_is_found_again(open_body):
    rng = np.random.default_rng(0)
    before = [params_at(open_body, t) for t in (0.0, 0.4)]
    turns, shifts = rng.normal(0, 0.2, (2, 22, 3)), rng.normal(0, 0.1, (2, 3))
    after = []
    for person, turn, shift in zip(before, turns, shifts, strict=True):
        root = Rotation.from_rotvec(turn[0]) * Rotation.from_rotvec(person.global_orient)
        body = Rotation.from_rotvec(person.body_pose) * Rotation.from_rotvec(turn[1:])
        after.append(replace(person, global_orient=root.as_rotvec(), body_pose=body.as_rotvec(),
                             transl=person.transl + shift))  # fmt: skip
    clip = SimpleNamespace(incoming=before, people=after)
    found = corrections_of([([SimpleNamespace(stamp_ns=0), SimpleNamespace(stamp_ns=STEP)], clip)])
    np.testing.assert_allclose(found.turns, turns, atol=1e-6)
    np.testing.assert_allclose(found.shifts, shifts, atol=1e-6)


def test_a_turn_of_the_root_turns_the_whole_person_about_the_pelvis(track, tmp_path):
    turn, shift = np.array([0.1, -0.4, 0.2]), np.array([0.3, -0.1, 0.5])
    turns = np.zeros((1, 22, 3))
    turns[0, 0] = turn
    changed = corrected_track(track, corrections(turns, [shift]), tmp_path)
    R = Rotation.from_rotvec(turn).as_matrix()
    for smoothing in ("raw", "recorded"):
        motions = [Motion(one, smoothing, "level") for one in (track, changed)]
        before, after = (motion.joints_m(motion.read(slice(0, 12))) for motion in motions)
        level = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        want = (before - before[:, :1]) @ (level @ R @ level.T).T + before[:, :1] + level @ shift
        np.testing.assert_allclose(after, want, atol=2e-5)
        assert np.isnan(after[5]).all()


def test_two_people_who_begin_in_one_frame_keep_their_own(track, tmp_path):
    """Each has rows on the disk: those of the second must not be written over those of the first."""
    none = np.zeros((1, 22, 3))
    first = corrected_track(track, corrections(none, [[0, 0, 1.0]]), tmp_path)
    kept = first.read("transl", slice(0, 5)).copy()
    corrected_track(replace(track, track_id=7), corrections(none, [[0, 0, 2.0]]), tmp_path)
    np.testing.assert_array_equal(first.read("transl", slice(0, 5)), kept)


def test_a_turn_of_an_elbow_moves_the_arm_below_it_alone(track, tmp_path):
    turns = np.zeros((1, 22, 3))
    turns[0, J["left_elbow"]] = (0, 0.5, 0)
    changed = corrected_track(track, corrections(turns, [np.zeros(3)]), tmp_path)
    before, after = (m.joints_m(m.read(slice(0, 5))) for m in (Motion(one, "raw") for one in (track, changed)))
    moved = np.linalg.norm(after - before, axis=-1).max(axis=0) > 1e-4
    below = [J["left_wrist"], *range(25, 40)]
    assert np.flatnonzero(moved).tolist() == below
