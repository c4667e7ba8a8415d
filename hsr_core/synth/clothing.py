"""Clothes over the open body: a displaced copy of its mesh with skinning weights of its own and a hem that swings.

No pose of the body explains the clothes exactly: that is what refinement has to live with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..body.ehm import EhmBody
from ..body.joints import J
from ..errors import ConfigError
from ..geometry.raster import Topology
from ..types import Array, HumanParams

TORSO_M, FLARE_M, LEGS_M = 0.015, 0.025, 0.010
"""Distance from the skin: shirt, what its hem adds to that, trousers."""

FOLD_DEPTH, FOLD_WAVELENGTH_M = 0.35, 0.10
SWING_M = 0.010
WEIGHT_MOVED = 0.6
"""Share of the hips' weights that the pelvis takes at the hem."""


def ramp(x: Array, start: float, end: float) -> Array:
    """Return 0 before `start`, 1 after `end` (which may be smaller), smooth between."""
    s = np.clip((x - start) / (end - start), 0, 1)
    return s * s * (3 - 2 * s)


@dataclass(frozen=True)
class Cut:
    """Where the clothes of one shape end, in its rest pose (T-pose, x left, y up) [m]."""

    neck: tuple[float, float, float]
    sleeve_x: float
    waist_y: float
    hem_y: float
    cuff_y: float

    @classmethod
    def from_joints(cls, joints: Array) -> Cut:
        """Return the cut for rest joints (55, 3)."""
        x, y = joints[:, 0], joints[:, 1]
        shoulder, elbow, hip, ankle = (J[f"left_{name}"] for name in ("shoulder", "elbow", "hip", "ankle"))
        return cls(
            neck=tuple(float(c) for c in joints[J["neck"]]),
            sleeve_x=float(x[shoulder] + 0.72 * (x[elbow] - x[shoulder])),
            waist_y=float(y[J["spine1"]] + 0.02),
            hem_y=float(y[hip] - 0.09),
            cuff_y=float(y[ankle] + 0.06),
        )

    def shirt(self, p: Array, soft_m: float) -> Array:
        """Return how much points (N, 3) belong to the shirt, [0, 1]; its edges are `soft_m` wide."""
        nx, ny, nz = self.neck
        from_neck = np.sqrt((p[:, 0] - nx) ** 2 + (p[:, 1] - ny - 0.03) ** 2 + (p[:, 2] - nz - 0.02) ** 2)
        inside = ramp(from_neck, 0.098, 0.098 + soft_m) * ramp(p[:, 1], ny + 0.02, ny + 0.02 - soft_m)
        return inside * ramp(np.abs(p[:, 0]), self.sleeve_x, self.sleeve_x - soft_m) * self._above_hem(p, soft_m)

    def trousers(self, p: Array, soft_m: float) -> Array:
        return (1 - self._above_hem(p, soft_m)) * ramp(p[:, 1], self.cuff_y, self.cuff_y + soft_m)

    def flare(self, p: Array, soft_m: float) -> Array:
        """Return how much of the hem's freedom points have: 0 at the waist, 1 at the hem, 0 below it."""
        below_waist = np.clip((self.waist_y - p[:, 1]) / (self.waist_y - self.hem_y), 0, 1)
        return below_waist * self._above_hem(p, soft_m) * ramp(np.abs(p[:, 0]), 0.40, 0.35)

    def _above_hem(self, p: Array, soft_m: float) -> Array:
        return ramp(p[:, 1], self.hem_y - soft_m, self.hem_y)


class DressedBody:
    """One person's clothes and bare skin as one closed mesh.

    Attributes:
        rest: The undressed rest mesh (V, 3) [m]: canonical coordinates, also those of the texture.
        joints: Its joints (55, 3) [m].
        offsets: Distance of the cloth from the skin along the rest normal, at rest (V,) [m].
        weights: Skinning weights of the clothes (V, 55), rows sum to 1.
        topology: Triangles, those of the body.

    Args:
        body: The open body.
        shape: Gives shape, head and expression; its pose is not used.
        amount: Factor on every displacement: 0 = the body itself, 1 = as described.

    Raises:
        ConfigError: The body is no open body, or the amount lies outside 0..3.
    """

    def __init__(self, body: EhmBody, shape: HumanParams, amount: float = 1.0) -> None:
        if body.family != "OPEN":
            raise ConfigError(f"synthetic people are made of the open body, not of {body.family} files")
        if not 0 <= amount <= 3:
            raise ConfigError(f"the amount of clothing must lie in 0..3, not {amount:g}")
        self._body = body
        self.rest, self.joints = body.rest(shape)
        self.topology = Topology(body.faces)
        self.cut = Cut.from_joints(self.joints)
        self.normals = self.topology.vertex_normals(self.rest)
        flare = self.cut.flare(self.rest, 0.03)
        self._outward = flare * ramp(self._radial(), -0.1, 0.4)
        self._azimuth = np.arctan2(self.rest[:, 0], self.rest[:, 2] - self.joints[0, 2])
        self.offsets = (amount * self._offsets()).astype(np.float32)
        self._swing_m = amount * SWING_M * self._outward
        self.weights = _moved_to_pelvis(_weights_of(body), (WEIGHT_MOVED if amount else 0.0) * flare)

    def _radial(self) -> Array:
        """Cosine between the normal and the way out from the body's vertical axis: the inner thighs do not flare."""
        out = self.rest[:, [0, 2]] - self.joints[0, [0, 2]]
        return (self.normals[:, [0, 2]] * out).sum(1) / np.maximum(np.linalg.norm(out, axis=1), 1e-6)

    def _offsets(self) -> Array:
        p = self.rest
        still = TORSO_M * self.cut.shirt(p, 0.03) + LEGS_M * self.cut.trousers(p, 0.03) + FLARE_M * self._outward
        across = p[:, 0] + 0.7 * p[:, 2] + 0.02 * np.sin(2 * np.pi * p[:, 1] / 0.30)
        return still * (1 + FOLD_DEPTH * np.sin(2 * np.pi * across / FOLD_WAVELENGTH_M))

    def pose(self, params: HumanParams, swing_rad: float) -> Array:
        """Return the dressed mesh (V, 3) [m] in the frame of `params`; `swing_rad` is the phase of the hem."""
        posed = self._body.pose_one(params, vertices=False)
        offset = self.offsets + self._swing_m * np.sin(swing_rad + self._azimuth)
        dressed = self.rest + offset[:, None].astype(np.float32) * self.normals
        R, J_rest = posed.joint_rotmats, self.joints
        t = posed.joints - np.einsum("jab,jb->ja", R, J_rest)
        A = (self.weights @ np.concatenate([R, t[..., None]], -1).reshape(len(R), 12)).reshape(-1, 3, 4)
        return np.einsum("vab,vb->va", A[..., :3], dressed) + A[..., 3]


def _weights_of(body: EhmBody) -> Array:
    return body.layer.full.body.weights.cpu().numpy()


def _moved_to_pelvis(weights: Array, share: Array) -> Array:
    out = weights.astype(np.float32, copy=True)
    hips = [J["left_hip"], J["right_hip"]]
    out[:, 0] += (share * weights[:, hips].sum(1)).astype(np.float32)
    out[:, hips] *= (1 - share)[:, None].astype(np.float32)
    return out
