"""Errors of a regressor and of a depth source: correlated in time, biased, largest at the limbs and in depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..body.joints import J
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array, HumanParams

ROOT_SIGMA_DEG = 4.0
JOINT_SIGMA_DEG: dict[str, float] = {
    "left_hip": 6, "right_hip": 6, "left_knee": 6, "right_knee": 6, "left_ankle": 4, "right_ankle": 4,
    "spine1": 2, "spine2": 2.5, "spine3": 3, "neck": 5,
    "left_shoulder": 8, "right_shoulder": 8, "left_elbow": 8, "right_elbow": 8,
}  # fmt: skip
"""Standard deviation about each axis; joints that are not named are exact."""


@dataclass(frozen=True)
class PoseNoise:
    """Errors of the initial estimate.

    Attributes:
        scale: Factor on everything random; 0 leaves the depth bias.
        correlation: Of one frame's error with the next one's (AR(1)); the standard deviation stays as stated.
        bias: Standard deviation of each joint's constant error about each axis, in units of its own.
        transl_sigma_m: Standard deviation of the translation along x, y, z of the camera frame.
        depth_bias_m: Added along z.
    """

    scale: float = 1.0
    correlation: float = 0.6
    bias: float = 0.4
    transl_sigma_m: tuple[float, float, float] = (0.02, 0.02, 0.08)
    depth_bias_m: float = 0.06

    def apply(self, truth: Sequence[HumanParams], rng: np.random.Generator) -> list[HumanParams]:
        """Return the estimates. Errors of joints act before their rotation, that of the root after its own."""
        count = len(truth)
        sigma = self.scale * np.radians(_sigma_deg())
        errors = sigma[:, None] * ar1(rng, count, (22, 3), self.correlation)
        errors += self.bias * sigma[:, None] * rng.standard_normal((22, 3))
        shift = self.scale * np.array(self.transl_sigma_m) * ar1(rng, count, (3,), self.correlation)
        shift[:, 2] += self.depth_bias_m
        turns = rotvec_to_rotmat(errors)
        return [_disturbed(p, R, d) for p, R, d in zip(truth, turns, shift, strict=True)]


@dataclass(frozen=True)
class DepthNoise:
    """Errors of a monocular depth source: a wrong scale in each frame, and grain.

    Attributes:
        scale_sigma: Standard deviation of each frame's factor about 1 + `scale_bias`.
        scale_bias: The same for all frames.
        pixel_sigma_m: Standard deviation of each pixel, on its own.
    """

    scale_sigma: float = 0.02
    scale_bias: float = 0.0
    pixel_sigma_m: float = 0.010

    def apply(self, depth_m: Array, rng: np.random.Generator) -> Array:
        """Return one frame's noisy depth, float32 (H, W) [m]; invalid pixels (0) stay invalid."""
        factor = 1 + self.scale_bias + self.scale_sigma * rng.standard_normal()
        noisy = depth_m * factor + self.pixel_sigma_m * rng.standard_normal(depth_m.shape)
        return np.where(depth_m > 0, np.maximum(noisy, 1e-3), 0).astype(np.float32)


EXACT_POSE = PoseNoise(scale=0.0, depth_bias_m=0.0)
EXACT_DEPTH = DepthNoise(0.0, 0.0, 0.0)


def ar1(rng: np.random.Generator, count: int, shape: tuple[int, ...], correlation: float) -> Array:
    """Return a stationary first-order process of variance 1, (count, *shape)."""
    x = rng.standard_normal((count, *shape))
    for t in range(1, count):
        x[t] = correlation * x[t - 1] + np.sqrt(1 - correlation**2) * x[t]
    return x


def _sigma_deg() -> Array:
    sigma = np.zeros(22)
    sigma[0] = ROOT_SIGMA_DEG
    for name, value in JOINT_SIGMA_DEG.items():
        sigma[J[name]] = value
    return sigma


def _disturbed(truth: HumanParams, turns: Array, shift: Array) -> HumanParams:
    root = turns[0] @ rotvec_to_rotmat(truth.global_orient.astype(np.float64))
    body = rotvec_to_rotmat(truth.body_pose.astype(np.float64)) @ turns[1:]
    return replace(
        truth,
        global_orient=rotmat_to_rotvec(root).astype(np.float32),
        body_pose=rotmat_to_rotvec(body).astype(np.float32),
        transl=(truth.transl + shift).astype(np.float32),
    )
