"""Recordings of people whose motion is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hsr_core.body import EhmBody
from hsr_core.config import Settings
from hsr_core.results import PeopleRecorder
from hsr_core.types import (
    Array,
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

CAMERA = Camera(np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), (480, 640))
BEGIN_NS, STEP_NS = 10**9, 33_333_333
EVERYTHING = Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE


def world_pose(seed: int) -> Array:
    """Return a camera pose in some world."""
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    T[:3, 3] = rng.normal(0, 2, 3)
    return T


def params_at(body: EhmBody, t: float, person: int = 1) -> HumanParams:
    """Return the parameters at t [s]: smooth, all joints move."""
    rng = np.random.default_rng(person)

    def wave(shape: tuple[int, ...], size: float) -> Array:
        a, b, phase = (rng.normal(0, size, shape) for _ in range(3))
        return (a + b * np.sin(2.0 * t + 3 * phase / size)).astype(np.float32)

    return HumanParams(
        global_orient=(np.array([np.pi, 0, 0]) + wave((3,), 0.2)).astype(np.float32),
        transl=np.array([0.3 * person + 0.2 * np.sin(t), 0.1, 3.0 + 0.3 * t], np.float32),
        body_pose=wave((21, 3), 0.25),
        left_hand_pose=wave((15, 3), 0.2),
        right_hand_pose=wave((15, 3), 0.2),
        betas=rng.normal(0, 0.5, body.n_betas).astype(np.float32),
        expression=wave((body.n_expression,), 0.3),
        head_betas=np.zeros(body.n_head_betas, np.float32),
        head_expression=np.zeros(body.n_head_expression, np.float32),
    )


def estimate(
    body: EhmBody, params: HumanParams, track_id: int, *, state: TrackState, primary: bool, raw: HumanParams | None
) -> HumanEstimate:
    posed = body.pose_one(params, vertices=False)
    seen = Regression(
        raw or params, np.array([10, 20, 100, 300.0]), 0.9, np.full(55, 0.8), np.full(4, 0.9), EVERYTHING,
        MetricSource.ASSUMED_HEIGHT, 0.2,
    )  # fmt: skip
    return HumanEstimate(track_id, state, primary, seen, params, posed.joints, posed.joint_rotmats, np.ones((55, 3)))


def write_recording(
    path: Path,
    body: EhmBody,
    frames: int = 40,
    *,
    missing: tuple[int, ...] = (),
    predicted: tuple[int, ...] = (),
    second: range = range(0),
    T_world_cam: Array | None = None,
    raw_noise: float = 0.0,
    times: Array | None = None,
) -> Path:
    """Write a people file: person 1 (primary) in all frames but `missing`, person 2 in those of `second`."""
    rng = np.random.default_rng(5)
    facts = {
        "source": "made.mp4", "regressor": "fake", "body_model": body.model_id, "body_family": body.family,
        "licence_note": body.licence_note,
    }  # fmt: skip
    recorder = PeopleRecorder(path, Settings(), facts)
    for i in range(frames):
        t = i * STEP_NS * 1e-9 if times is None else float(times[i])
        people = []
        if i not in missing:
            smooth = params_at(body, t)
            raw = replace(smooth, transl=smooth.transl + rng.normal(0, raw_noise, 3).astype(np.float32))
            state = TrackState.PREDICTED if i in predicted else TrackState.TRACKED
            people.append(estimate(body, smooth, 1, state=state, primary=True, raw=raw))
        if i in second:
            other = params_at(body, t, 2)
            people.append(estimate(body, other, 2, state=TrackState.TRACKED, primary=False, raw=None))
        stamp = BEGIN_NS + round(t * 1e9)
        recorder.add(
            FrameResult(
                i, stamp, "cam", CAMERA, tuple(people), {}, EstimateSource.SMOOTHED, "map" if T_world_cam is not None
                else "", T_world_cam,
            )
        )  # fmt: skip
    recorder.save(complete=True)
    return path


def with_arrays(path: Path, **changes: Array) -> Path:
    """Change arrays of a people file."""
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez(path, **arrays)
    return path


def header_of(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["hsr_header"]))
