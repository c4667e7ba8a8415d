"""The noise has the standard deviations, correlation and biases that it states."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import J
from hsr_core.synth.noise import EXACT_POSE, JOINT_SIGMA_DEG, ROOT_SIGMA_DEG, DepthNoise, PoseNoise, ar1
from hsr_core.types import HumanParams


def clip(count: int) -> list[HumanParams]:
    """A clip of one pose, the root near a half turn, as people who face the camera are."""
    rng = np.random.default_rng(3)
    pose = rng.normal(0, 0.4, (21, 3)).astype(np.float32)
    one = HumanParams(global_orient=np.array([3.1, 0.1, 0], np.float32), body_pose=pose, transl=np.array([0, 0, 3.0]))
    return [one] * count


def errors_deg(noisy: list[HumanParams], truth: list[HumanParams]) -> np.ndarray:
    """Rotation vectors of the errors, (T, 22, 3): the root's in the camera frame, a joint's before its rotation."""
    out = np.zeros((len(noisy), 22, 3))
    root = [Rotation.from_rotvec([p.global_orient for p in side]) for side in (noisy, truth)]
    out[:, 0] = (root[0] * root[1].inv()).as_rotvec()
    for j in range(21):
        one = [Rotation.from_rotvec([p.body_pose[j] for p in side]) for side in (noisy, truth)]
        out[:, j + 1] = (one[1].inv() * one[0]).as_rotvec()
    return np.degrees(out)


def test_joint_errors_have_their_standard_deviation_and_correlation():
    truth = clip(4000)
    noisy = PoseNoise(bias=0.0).apply(truth, np.random.default_rng(0))
    errors = errors_deg(noisy, truth)
    expected = np.zeros(22)
    expected[0] = ROOT_SIGMA_DEG
    for name, sigma in JOINT_SIGMA_DEG.items():
        expected[J[name]] = sigma
    assert expected[J["left_shoulder"]] == 8
    np.testing.assert_allclose(errors.std(0), np.repeat(expected[:, None], 3, 1), rtol=0.1, atol=1e-3)
    moving = errors[:, expected > 0]
    lag = (moving[1:] * moving[:-1]).mean(0) / moving.var(0)
    assert np.abs(lag - 0.6).max() < 0.06  # 4000 samples of such a process: +- 0.013


def test_the_bias_is_constant_in_time_and_has_its_own_spread():
    means = []
    truth = clip(60)
    for seed in range(60):
        noisy = PoseNoise(correlation=0.0).apply(truth, np.random.default_rng(seed))
        means.append(errors_deg(noisy, truth).mean(0)[J["left_knee"]])
    # Mean of 60 independent frames: variance of the bias plus sigma^2 / 60.
    expected = 6 * np.sqrt(0.4**2 + 1 / 60)
    assert np.std(means) == pytest.approx(expected, rel=0.2)


def test_translation_errors_and_depth_bias():
    truth = clip(4000)
    noisy = PoseNoise().apply(truth, np.random.default_rng(0))
    shift = np.array([a.transl - b.transl for a, b in zip(noisy, truth, strict=True)])
    np.testing.assert_allclose(shift.std(0), [0.02, 0.02, 0.08], rtol=0.08)
    np.testing.assert_allclose(shift.mean(0), [0, 0, 0.06], atol=0.008)


def test_what_a_regressor_does_not_disturb_stays_to_the_bit():
    truth = clip(3)
    for p, q in zip(PoseNoise().apply(truth, np.random.default_rng(0)), truth, strict=True):
        assert p.betas is q.betas
        assert p.left_hand_pose is q.left_hand_pose
    exact = EXACT_POSE.apply(truth, np.random.default_rng(0))
    np.testing.assert_allclose([p.body_pose for p in exact], [p.body_pose for p in truth], atol=1e-6)
    np.testing.assert_array_equal([p.transl for p in exact], [p.transl for p in truth])


def test_the_process_is_stationary_from_its_first_frame():
    x = ar1(np.random.default_rng(0), 6, (20000,), 0.6)
    np.testing.assert_allclose(x.std(1), 1, rtol=0.03)


def test_depth_noise_scales_each_frame_and_adds_grain():
    depth = np.zeros((40, 50), np.float32)
    depth[5:35, 5:45] = 3.0
    rng = np.random.default_rng(0)
    noisy = np.stack([DepthNoise().apply(depth, rng) for _ in range(600)])
    assert np.all(noisy[:, depth == 0] == 0)
    inside = noisy[:, depth > 0]
    factors = inside.mean(1) / 3
    assert factors.std() == pytest.approx(0.02, rel=0.1)
    assert factors.mean() == pytest.approx(1, abs=0.003)
    assert (inside - inside.mean(1, keepdims=True)).std() == pytest.approx(0.010, rel=0.02)


def test_depth_noise_can_be_biased_or_absent():
    depth = np.full((10, 10), 2.0, np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(DepthNoise(0, 0, 0).apply(depth, rng), depth)
    np.testing.assert_allclose(DepthNoise(0, 0.05, 0).apply(depth, rng), 2.1, rtol=1e-6)
