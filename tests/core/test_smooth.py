"""One-Euro filters and the per-person smoother."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.bench_smoothing import measure_smoothing
from hsr_core.config import SmoothingSettings
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.track.one_euro import PointFilter, RayFilter, RotationFilter
from hsr_core.track.smooth import SHAPE_FRAMES, PoseSmoother
from hsr_core.types import HumanParams, MetricSource, Part, Regression

EVERYTHING = Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE
FRAME_NS = 33_333_333


def person(parts: Part = EVERYTHING, part_score: float = 1.0, **params) -> Regression:
    params = {"transl": np.array([0.0, 0, 3], np.float32)} | params
    return Regression(
        HumanParams(**params), np.array([0.0, 0, 10, 20]), 0.9, np.ones(55), np.full(4, part_score), parts,
        MetricSource.ASSUMED_HEIGHT, 0.2,
    )  # fmt: skip


def smoother(**settings) -> PoseSmoother:
    return PoseSmoother(SmoothingSettings(**settings), lambda betas: np.zeros(3))


def rotations(rng, n, size=0.5):
    return Rotation.from_rotvec(rng.normal(0, size, (n, 3))).as_matrix()


# Filters


@pytest.mark.parametrize(("min_cutoff", "beta"), [(1.0, 0.0), (1.5, 4.0), (0.3, 20.0)])
def test_scalars_equal_the_authors_filter(min_cutoff, beta):
    one_euro = pytest.importorskip("OneEuroFilter", reason="pip install OneEuroFilter==0.2.1")
    rng = np.random.default_rng(1)
    times = 1 + np.cumsum(rng.uniform(0.01, 0.1, 200))
    values = np.cumsum(rng.normal(0, 0.1, 200))
    reference = one_euro.OneEuroFilter(freq=30, mincutoff=min_cutoff, beta=beta)
    expected = [reference(x, t) for x, t in zip(values, times, strict=True)]
    ours = PointFilter(values[:1, None], min_cutoff, beta)
    got = [values[0]] + [
        ours.step(values[i : i + 1, None], times[i] - times[i - 1]).item() for i in range(1, len(times))
    ]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_a_rotation_about_a_fixed_axis_is_filtered_like_its_angle():
    rng = np.random.default_rng(2)
    angles = np.cumsum(rng.normal(0, 0.1, 100))
    axis = np.array([1.0, -2, 0.5]) / np.linalg.norm([1.0, -2, 0.5])
    matrices = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()
    points, turns = PointFilter(angles[:1, None], 2, 3), RotationFilter(matrices[:1], 2, 3)
    for i in range(1, 100):
        expected = Rotation.from_rotvec(points.step(angles[i : i + 1, None], 0.03)[0] * axis).as_matrix()
        np.testing.assert_allclose(turns.step(matrices[i : i + 1], 0.03)[0], expected, atol=1e-9)


def test_turning_the_world_turns_the_output():
    rng = np.random.default_rng(3)
    world = Rotation.random(random_state=3).as_matrix()
    points, turns = rng.normal(0, 1, (50, 4, 3)), [rotations(rng, 4) for _ in range(50)]
    a, b = PointFilter(points[0], 1.5, 4), PointFilter(points[0] @ world.T, 1.5, 4)
    c, d = RotationFilter(turns[0], 2, 3), RotationFilter(world @ turns[0], 2, 3)
    e, f = RayFilter(points[0, 0], (1.5, 4), (0.7, 2)), RayFilter(world @ points[0, 0], (1.5, 4), (0.7, 2))
    for i in range(1, 50):
        np.testing.assert_allclose(b.step(points[i] @ world.T, 0.03), a.step(points[i], 0.03) @ world.T, atol=1e-9)
        np.testing.assert_allclose(d.step(world @ turns[i], 0.03), world @ c.step(turns[i], 0.03), atol=1e-9)
        np.testing.assert_allclose(f.step(world @ points[i, 0], 0.03), world @ e.step(points[i, 0], 0.03), atol=1e-9)


def test_a_ray_filter_with_equal_parts_is_isotropic_only_across_the_ray():
    ray = RayFilter(np.array([0.0, 0, 4]), (100, 0), (0.1, 0))
    moved = ray.step(np.array([0.4, 0, 4.4]), 0.03)
    direction = np.array([0.4, 0, 4.4])
    off_ray = moved - (moved @ direction) / (direction @ direction) * direction
    assert np.linalg.norm(off_ray) < 0.03  # the new direction is taken almost at once
    assert abs(np.linalg.norm(moved) - np.linalg.norm([0.0, 0, 4])) < 0.05  # the new distance hardly


def test_a_step_is_answered_without_overshoot():
    points, turns = PointFilter(np.zeros((1, 1)), 1.5, 4), RotationFilter(np.eye(3)[None], 2, 3)
    target = Rotation.from_rotvec([0, 0, 1.0]).as_matrix()[None]
    for got in (
        [points.step(np.ones((1, 1)), 0.03).item() for _ in range(100)],
        [Rotation.from_matrix(turns.step(target, 0.03)[0]).as_rotvec()[2] for _ in range(100)],
    ):
        assert np.all(np.diff([0, *got]) >= -1e-12)
        assert 0.999 < got[-1] <= 1 + 1e-12


def test_rotations_stay_rotations_over_a_long_run():
    rng = np.random.default_rng(4)
    turns = RotationFilter(rotations(rng, 5), 2, 3)
    for _ in range(5000):
        turns.step(rotations(rng, 5, 2.0), 0.03)
    np.testing.assert_allclose(turns.value @ turns.value.swapaxes(1, 2), np.tile(np.eye(3), (5, 1, 1)), atol=1e-10)
    np.testing.assert_allclose(np.linalg.det(turns.value), 1, atol=1e-10)


def test_nearly_opposite_rotations_are_taken_as_they_come():
    turns = RotationFilter(np.eye(3)[None], 2, 3)
    flipped = Rotation.from_rotvec([np.radians(175), 0, 0]).as_matrix()[None]
    np.testing.assert_allclose(turns.step(flipped, 0.03), flipped, atol=1e-9)
    assert turns.jumps == 1


def test_filtering_rotation_vectors_as_numbers_is_worse_than_filtering_rotations():
    """Someone who faces the camera is half a turn from its axes, just where rotation vectors wrap."""
    rng = np.random.default_rng(5)
    sway = 0.3 * np.sin(2 * np.pi * 0.5 * np.arange(300) / 30)
    true = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec(sway[:, None] * [0.0, 1, 0])
    noisy = true * Rotation.from_rotvec(rng.normal(0, np.radians(2), (300, 3)))
    rotvecs = noisy.as_rotvec()
    numbers, turns = PointFilter(rotvecs[:1], 2, 3), RotationFilter(noisy.as_matrix()[:1], 2, 3)
    as_numbers = [rotvecs[0]] + [numbers.step(rotvecs[i : i + 1], 1 / 30)[0].copy() for i in range(1, 300)]
    as_turns = [noisy.as_matrix()[0]] + [turns.step(noisy.as_matrix()[i : i + 1], 1 / 30)[0] for i in range(1, 300)]
    errors = [
        np.degrees((true.inv() * rotation).magnitude()).mean()
        for rotation in (noisy, Rotation.from_rotvec(as_numbers), Rotation.from_matrix(as_turns))
    ]
    assert errors[1] > errors[0] > 0  # worse than no filter
    assert errors[2] < errors[0]


# The smoother


def test_a_constant_person_is_not_changed():
    rng = np.random.default_rng(6)
    still = person(
        body_pose=rng.normal(0, 0.5, (21, 3)), global_orient=np.array([3.0, 0, 0.3]),
        left_hand_pose=rng.normal(0, 0.3, (15, 3)), head_expression=rng.normal(0, 1, 10),
    )  # fmt: skip
    smooth = smoother()
    for i in range(20):
        got = smooth.update(still, i * FRAME_NS)
    for name, value in vars(still.params).items():
        np.testing.assert_allclose(getattr(got, name), value, atol=1e-6, err_msg=name)  # float32 output


@pytest.mark.parametrize("frames", range(1, 8))
def test_clips_of_any_length_give_a_person_a_frame(frames):
    """The filter looks back only: one frame is taken as it is, and no window has to be filled."""
    rng = np.random.default_rng(20)
    clip = [person(global_orient=rng.normal(0, 2, 3), body_pose=rng.normal(0, 0.5, (21, 3))) for _ in range(frames)]
    smooth = smoother()
    got = [smooth.update(frame, i * FRAME_NS) for i, frame in enumerate(clip)]
    np.testing.assert_allclose(got[0].body_pose, clip[0].params.body_pose, atol=1e-6)
    for params in got:
        assert all(np.isfinite(value).all() for value in vars(params).values())
        for rotvecs in (params.global_orient[None], params.body_pose):
            # What is handed on are rotation vectors of at most half a turn, which are rotations whatever their values.
            R = rotvec_to_rotmat(rotvecs)
            np.testing.assert_allclose(R @ R.swapaxes(1, 2), np.tile(np.eye(3), (len(R), 1, 1)), atol=1e-5)
            np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)
            assert np.linalg.norm(rotvecs, axis=1).max() <= np.pi + 1e-5


def test_the_answer_does_not_depend_on_how_the_stream_is_cut_into_calls():
    rng = np.random.default_rng(7)
    frames = [person(body_pose=rng.normal(0, 0.3, (21, 3))) for _ in range(30)]
    one, other = smoother(), smoother()
    first = [one.update(frame, i * FRAME_NS) for i, frame in enumerate(frames)]
    second = [other.update(frame, i * FRAME_NS) for i, frame in enumerate(frames[:11])]
    second += [other.update(frame, (i + 11) * FRAME_NS) for i, frame in enumerate(frames[11:])]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.body_pose, b.body_pose)


def moving(i: int) -> Regression:
    return person(body_pose=np.full((21, 3), 0.05 * i))


@pytest.mark.parametrize("stamp_ns", [5 * FRAME_NS + 300_000_000, 2 * FRAME_NS])
def test_a_gap_and_a_step_back_start_afresh(stamp_ns):
    smooth = smoother()
    for i in range(6):
        smooth.update(moving(i), i * FRAME_NS)
    got = smooth.update(moving(12), stamp_ns)
    np.testing.assert_allclose(got.body_pose, moving(12).params.body_pose, atol=1e-6)
    assert smooth.counters.resets == 1


def test_a_repeated_stamp_gives_the_last_answer_and_a_tiny_step_is_clamped():
    smooth = smoother()
    smooth.update(moving(0), 0)
    last = smooth.update(moving(1), FRAME_NS)
    assert smooth.update(moving(9), FRAME_NS) is last
    assert smooth.counters.repeated_stamps == 1
    smooth.update(moving(2), FRAME_NS + 1_000_000)
    assert smooth.counters.clamped_steps == 1


def test_one_wrong_distance_is_held_back_and_a_lasting_one_is_believed():
    smooth = smoother()
    at = {z: person(transl=np.array([0.0, 0, z], np.float32)) for z in (3.0, 5.0)}
    for i in range(10):
        smooth.update(at[3.0], i * FRAME_NS)
    assert smooth.update(at[5.0], 10 * FRAME_NS).transl[2] == pytest.approx(3.0, abs=1e-5)
    assert smooth.update(at[3.0], 11 * FRAME_NS).transl[2] == pytest.approx(3.0, abs=1e-5)
    assert smooth.counters.gated == 1
    got = [smooth.update(at[5.0], (12 + i) * FRAME_NS).transl[2] for i in range(5)]
    np.testing.assert_allclose(got, [3, 3, 3, 3, 5], atol=1e-5)


def test_direction_is_followed_while_the_distance_is_held():
    smooth = smoother()
    for i in range(20):
        x, z = 0.02 * i, 3.0 if i < 18 else 4.5
        got = smooth.update(person(transl=np.array([x * z / 3, 0, z], np.float32)), i * FRAME_NS)
    assert got.transl[0] / got.transl[2] == pytest.approx(0.38 / 3, abs=0.02)
    assert got.transl[2] == pytest.approx(3.0, abs=0.05)


def test_a_hand_that_is_no_longer_seen_returns_to_rest_in_a_third_of_a_second():
    fist = np.full((15, 3), 0.6)
    smooth = smoother()
    for i in range(10):
        smooth.update(person(left_hand_pose=fist, right_hand_pose=fist, jaw_pose=np.full(3, 0.2)), i * FRAME_NS)
    hidden = person(EVERYTHING & ~(Part.LEFT_HAND | Part.FACE), right_hand_pose=fist)
    for i in range(10, 20):
        got = smooth.update(hidden, i * FRAME_NS)
    assert np.abs(got.left_hand_pose).max() < 0.06 * 0.6
    assert np.abs(got.jaw_pose).max() < 0.06 * 0.2
    np.testing.assert_allclose(got.right_hand_pose, fist, atol=1e-5)


def test_shape_is_the_median_of_good_frames_and_then_frozen():
    rng = np.random.default_rng(8)
    values = rng.normal(0, 1, (SHAPE_FRAMES, 10)).astype(np.float32)
    values[3] = 1e3  # an outlier must not count
    smooth = smoother()
    smooth.update(person(part_score=0.1, betas=np.full(10, 50, np.float32)), 0)  # a bad frame neither
    for i, betas in enumerate(values):
        got = smooth.update(person(betas=betas), (i + 1) * FRAME_NS)
    np.testing.assert_allclose(got.betas, np.median(values, axis=0), rtol=1e-6)
    later = smooth.update(person(betas=np.full(10, 9, np.float32)), 40 * FRAME_NS)
    np.testing.assert_array_equal(later.betas, got.betas)
    smooth.forget_shape()
    assert smooth.update(person(betas=np.full(10, 9, np.float32)), 41 * FRAME_NS).betas[0] == 9


def test_the_pelvis_is_what_is_filtered_when_shape_moves_it():
    smooth = PoseSmoother(SmoothingSettings(), lambda betas: np.array([0, -0.1 * betas[0], 0]))
    for i in range(40):  # transl makes up for the shape: the pelvis stands still
        b = float(i % 2)
        betas, transl = np.full(10, b, np.float32), np.array([0, 0.1 * b, 3], np.float32)
        got = smooth.update(person(betas=betas, transl=transl), i * FRAME_NS)
    assert got.transl[1] - 0.1 * got.betas[0] == pytest.approx(0, abs=1e-6)


def test_constants_change_live_without_a_jump():
    smooth = smoother()
    for i in range(10):
        before = smooth.update(moving(i), i * FRAME_NS)
    smooth.configure(SmoothingSettings(min_cutoff_hz=0.1, beta=0.0))
    after = smooth.update(moving(10), 10 * FRAME_NS)
    assert np.abs(after.body_pose - before.body_pose).max() < 0.01


def test_memory_is_bounded():
    rng = np.random.default_rng(9)
    smooth = smoother()

    def size() -> int:
        return sum(
            value.nbytes
            for part in (smooth, smooth._pelvis, smooth._rotations, smooth._numbers, *smooth._shapes.values())
            for value in vars(part).values()
            if isinstance(value, np.ndarray)
        ) + len(smooth._away)

    smooth.update(person(), 0)
    early = size()
    for i in range(1, 300):
        smooth.update(person(body_pose=rng.normal(0, 0.3, (21, 3))), i * FRAME_NS)
    assert size() == early


# The trade-off that docs/smoothing.md promises


@pytest.fixture(scope="module")
def by_default():
    return measure_smoothing(SmoothingSettings())


def test_measuring_nothing_measures_no_lag():
    nothing = measure_smoothing(SmoothingSettings(enabled=False))
    for name, values in nothing.items():
        assert abs(values["lag_ms"]) < 7, name  # the method's own error, largest where noise is largest
        assert values["jitter"] == values["jitter_raw"]


def test_the_default_more_than_halves_jitter_within_40_ms(by_default):
    for name, values in by_default.items():
        assert values["lag_ms"] < 40, name
        assert values["jitter"] < 0.5 * values["jitter_raw"], name


def test_the_documented_delays_are_the_measured_ones(by_default):

    text = (Path(__file__).parents[2] / "docs" / "smoothing.md").read_text()
    row = next(line for line in text.splitlines() if "1.5, 4 (default)" in line)
    documented = [float(cell.strip(" *").split()[0]) for cell in row.split("|")[3:8]]
    measured = [values["lag_ms"] for values in by_default.values()]
    np.testing.assert_allclose(documented, measured, atol=1.0)


def test_halving_the_rate_changes_the_lag_by_less_than_half_a_frame(by_default):
    half = measure_smoothing(SmoothingSettings(), rate_hz=15.0)
    for name, values in half.items():
        assert abs(values["lag_ms"] - by_default[name]["lag_ms"]) < 0.5 * 1000 / 30, name


def test_less_cutoff_is_calmer_and_later():
    quick, calm = (measure_smoothing(SmoothingSettings(min_cutoff_hz=c, beta=b)) for c, b in ((2.0, 8.0), (1.0, 1.0)))
    for name in quick:
        assert calm[name]["jitter"] < quick[name]["jitter"]
        assert calm[name]["lag_ms"] > quick[name]["lag_ms"]


def test_two_people_share_no_state():
    rng = np.random.default_rng(10)
    a, b = smoother(), smoother()
    alone = smoother()
    for i in range(20):
        left, right = person(body_pose=rng.normal(0, 0.3, (21, 3))), person(body_pose=rng.normal(0, 0.3, (21, 3)))
        got, _ = a.update(left, i * FRAME_NS), b.update(right, i * FRAME_NS)
        expected = alone.update(replace(left), i * FRAME_NS)
    np.testing.assert_array_equal(got.body_pose, expected.body_pose)
