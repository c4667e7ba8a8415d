"""Joint errors against analytic cases and scipy's Procrustes."""

import numpy as np
import pytest
import roma
import torch
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from hsr_core.errors import ShapeError
from hsr_core.eval.metrics import (
    MPJAE_PARTS,
    align,
    annotated,
    auc3d,
    joint_errors,
    mpjae_deg,
    mpjpe_mm,
    pa_mpjpe_mm,
    pck3d,
    pve_mm,
    root_errors_mm,
    root_mpjpe_mm,
    similarity,
    vertex_errors,
)


@pytest.fixture
def joints():
    return np.random.default_rng(0).normal(0, 0.3, (12, 3))


def test_mpjpe_of_a_shift_is_its_length(joints):
    assert mpjpe_mm(joints + np.array([0, 0, 0.1]), joints) == pytest.approx(100)


def test_root_alignment_removes_a_shift_and_nothing_else(joints):
    assert root_mpjpe_mm(joints + np.array([3, 2, 1]), joints, (6, 7)) == pytest.approx(0, abs=1e-9)
    moved = joints.copy()
    moved[0] += [0, 0.12, 0]
    assert root_mpjpe_mm(moved, joints, (6, 7)) == pytest.approx(10)


def test_similarity_is_undone_exactly(joints):
    R = Rotation.random(random_state=1).as_matrix()
    assert pa_mpjpe_mm(1.7 * joints @ R.T + [1, -2, 3], joints) == pytest.approx(0, abs=1e-6)


def test_a_mirror_is_not_undone(joints):
    assert pa_mpjpe_mm(joints * [-1, 1, 1], joints) > 50


def test_sum_of_squares_equals_scipys_procrustes(joints):
    """scipy reports the residual of the standardised shapes; ours, scaled the same way, must equal it."""
    other = joints + np.random.default_rng(1).normal(0, 0.05, joints.shape)
    residual = ((similarity(other, joints) - joints) ** 2).sum()
    expected = procrustes(joints, other)[2] * ((joints - joints.mean(0)) ** 2).sum()
    assert residual == pytest.approx(expected, rel=1e-9)


def test_a_collapsed_prediction_is_only_moved(joints):
    out = similarity(np.ones((12, 3)), joints)
    np.testing.assert_allclose(out, np.broadcast_to(joints.mean(0), out.shape), atol=1e-12)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("mirrored", [1, -1])
def test_alignment_equals_romas_with_and_without_joints_left_out(scale, mirrored):
    rng = np.random.default_rng(2)
    predicted = rng.normal([0, 1, 4], 0.3, (7, 3, 14, 3))
    reference = predicted * [mirrored, 1, 1] + rng.normal(0, 0.05, predicted.shape)
    reference[2:, :, 5] = np.nan
    used = np.isfinite(reference).all(-1)
    tensors = (torch.from_numpy(x) for x in (predicted, np.where(used[..., None], reference, 0), used.astype(float)))
    R, t, *s = roma.rigid_points_registration(*tensors, compute_scaling=scale)
    found = align(predicted, reference, scale=scale)
    np.testing.assert_allclose(found.R, R, atol=1e-9)
    np.testing.assert_allclose(found.t, t, atol=1e-9)
    np.testing.assert_allclose(found.scale, s[0] if scale else 1, atol=1e-9)
    for index in np.ndindex(7, 3):
        alone = align(predicted[index], reference[index], scale=scale)
        np.testing.assert_allclose(alone.apply(predicted[index]), found.apply(predicted)[index], atol=1e-12)


def test_points_beyond_all_numbers_are_missing_not_a_crash(joints):
    far = joints.copy()
    far[3] = 1e200
    assert np.isnan(pa_mpjpe_mm(far, joints))
    assert align(far, joints).degenerate


def test_fewer_points_than_fix_a_rotation_are_aligned_all_the_same(joints):
    """One point, two, and points on a line: rotations about them are free, the error is not."""
    line = np.linspace(0, 1, 12)[:, None] * [0.3, 0.4, 0.5]
    assert pa_mpjpe_mm(2 * line + 1, line) == pytest.approx(0, abs=1e-9)
    for count in (1, 2):
        reference = np.where(np.arange(12)[:, None] < count, joints, np.nan)
        assert pa_mpjpe_mm(joints[::-1], reference) == pytest.approx(0, abs=1e-9)


def test_no_nearby_similarity_has_a_smaller_sum_of_squares(joints):
    rng = np.random.default_rng(3)
    other = joints + rng.normal(0, 0.05, joints.shape)
    best = align(other, joints)
    least = ((best.apply(other) - joints) ** 2).sum()
    for _ in range(100):
        R = Rotation.from_rotvec(rng.normal(0, 0.02, 3)).as_matrix() @ best.R
        scale, t = best.scale * np.exp(rng.normal(0, 0.02)), best.t + rng.normal(0, 0.01, 3)
        assert ((scale * other @ R.T + t - joints) ** 2).sum() >= least


def test_pa_does_not_depend_on_the_predictions_scale(joints):
    other = joints + np.random.default_rng(4).normal(0, 0.05, joints.shape)
    assert pa_mpjpe_mm(5 * other, joints) == pytest.approx(pa_mpjpe_mm(other, joints), rel=1e-9)


def test_a_collapsed_frame_of_a_batch_is_counted_and_has_no_nan(joints):
    other = np.stack([joints, np.ones_like(joints), joints])
    reference = np.stack([joints] * 3)
    np.testing.assert_array_equal(align(other, reference).degenerate, [False, True, False])
    spread = 1e3 * np.linalg.norm(joints - joints.mean(0), axis=1).mean()
    assert pa_mpjpe_mm(other, reference) == pytest.approx([0, spread, 0], abs=1e-6)


def test_joints_that_are_not_annotated_are_left_out(joints):
    """Joint 0 is not known; the others are off by 100 mm in x, one of them by 200 mm: mean of 11."""
    reference, predicted = joints.copy(), joints + np.array([0.1, 0, 0])
    predicted[5] += [0.1, 0, 0]
    reference[0] = np.nan
    predicted[0] = 17
    assert mpjpe_mm(predicted, reference) == pytest.approx(1200 / 11)
    kept = np.arange(1, 12)
    assert pa_mpjpe_mm(predicted, reference) == pytest.approx(pa_mpjpe_mm(predicted[kept], reference[kept]), rel=1e-9)


def test_a_prediction_that_is_not_finite_is_missing_not_averaged(joints):
    for bad in (np.nan, np.inf):
        predicted = np.stack([joints, joints])
        predicted[1, 3, 2] = bad
        reference = np.stack([joints, joints])
        errors = joint_errors(predicted, reference, (6, 7))
        for name in ("mpjpe_mm", "pa_mpjpe_mm", "abs_mpjpe_mm", "pck3d_50", "auc3d"):
            assert np.isfinite(errors[name][0]), name
            assert np.isnan(errors[name][1]), name
        assert annotated(reference, (6, 7)).all()  # it was asked for: coverage falls


def test_frames_without_their_pelvis_are_not_annotated_for_aligned_metrics(joints):
    reference = np.stack([joints, joints, joints])
    reference[1, 6] = np.nan
    reference[2] = np.nan
    np.testing.assert_array_equal(annotated(reference), [True, True, False])
    np.testing.assert_array_equal(annotated(reference, (6, 7)), [True, False, False])
    assert np.isnan(root_mpjpe_mm(reference, reference, (6, 7))[1:]).all()


def test_depth_shift_is_seen_by_what_a_robot_sees_only(joints):
    """100 mm along z: abs-MPJPE 100, MPJPE and PA 0; a pelvis on the axis is 100 mm too far along its ray."""
    reference = joints - joints[[6, 7]].mean(0) + [0, 0, 4]
    errors = joint_errors(reference + np.array([0, 0, 0.1]), reference, (6, 7))
    assert errors["abs_mpjpe_mm"] == pytest.approx(100)
    assert errors["mpjpe_mm"] == pytest.approx(0, abs=1e-9)
    assert errors["root_error_mm"] == pytest.approx(100)
    assert errors["root_ray_error_mm"] == pytest.approx(100)


def test_root_error_along_the_ray_by_hand():
    """Reference at (3, 0, 4), ray (0.6, 0, 0.8); moved by (0.1, 0.2, 0): 223.6 mm, 60 mm of it along the ray."""
    distance, along = root_errors_mm(np.array([3.1, 0.2, 4.0]), np.array([3.0, 0, 4.0]))
    assert distance == pytest.approx(100 * np.sqrt(5))
    assert along == pytest.approx(60)


def test_pve_moves_by_the_pelvis_of_joints_and_ignores_translation(joints):
    vertices = np.random.default_rng(5).normal(0, 0.5, (40, 3))
    shift = np.array([1, 2, 3.0])
    assert pve_mm(vertices + shift, vertices, joints[0] + shift, joints[0]) == pytest.approx(0, abs=1e-9)
    assert pve_mm(vertices, vertices, joints[0] + [0, 0.05, 0], joints[0]) == pytest.approx(50)
    errors = vertex_errors(1.1 * vertices, vertices, shift, shift)
    assert errors["pa_pve_mm"] == pytest.approx(0, abs=1e-6)
    assert errors["abs_pve_mm"] == pytest.approx(100 * np.linalg.norm(vertices, axis=1).mean())


def test_pck3d_and_its_area_by_hand():
    """Errors 0, 49.9, 50 and 250 mm: two of four below 50; area (1 + 0.7505 + 0.75 + 0) / 4."""
    reference = np.zeros((4, 3))
    predicted = np.array([[0, 0, 0], [0.0499, 0, 0], [0, 0.05, 0], [0, 0, 0.25]])
    assert pck3d(predicted, reference, (0,)) == pytest.approx(0.5)
    assert auc3d(predicted, reference, (0,)) == pytest.approx((1 + 0.7505 + 0.75) / 4)


def test_area_under_pck3d_equals_fine_sampling(joints):
    other = joints + np.random.default_rng(6).normal(0, 0.06, joints.shape)
    sampled = np.mean([pck3d(other, joints, (6, 7), t) for t in (np.arange(4000) + 0.5) / 20])
    assert auc3d(other, joints, (6, 7)) == pytest.approx(sampled, abs=1e-4)


def test_angle_error_equals_scipys_and_procrustes_removes_a_common_turn():
    rng = np.random.default_rng(7)
    reference = Rotation.random(24, random_state=1)
    predicted = Rotation.from_rotvec(rng.normal(0, 0.4, (24, 3))) * reference
    parts = list(MPJAE_PARTS)
    expected = np.degrees((predicted * reference.inv()).magnitude()[parts].mean())
    assert mpjae_deg(predicted.as_matrix(), reference.as_matrix()) == pytest.approx(expected, abs=1e-9)
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5])
    points = rng.normal(0, 0.3, (24, 3))
    R = align(turn.apply(points), points).R
    turned = (turn * reference).as_matrix()
    assert mpjae_deg(turned, reference.as_matrix()) == pytest.approx(np.degrees(turn.magnitude()))
    assert mpjae_deg(turned, reference.as_matrix(), R_align=R) == pytest.approx(0, abs=1e-6)


def test_angle_error_is_exact_near_zero_and_pi():
    for angle in (0.0, 1e-7, np.pi - 1e-3, np.pi):
        R = Rotation.from_rotvec([0, angle, 0]).as_matrix()[None]
        assert mpjae_deg(R, np.eye(3)[None], parts=(0,)) == pytest.approx(np.degrees(angle), abs=1e-6)


def test_shapes_that_differ_are_refused(joints):
    with pytest.raises(ShapeError, match=r"\(12, 3\) and \(11, 3\)"):
        mpjpe_mm(joints, joints[1:])
