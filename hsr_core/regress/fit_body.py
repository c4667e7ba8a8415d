"""Body pose from 2D and 3D landmarks of one camera: damped Gauss-Newton on the skeleton.

Unknown are the translation and the rotations of 20 joints. The residuals, each divided by its standard deviation:

- reprojection of 22 landmarks, robust (Geman-McClure weights);
- direction of 21 bones in 3D, which resolves what one view cannot tell (towards or away);
- joint limits, a weak pose prior, and the last frame's pose.

Lengths come from the body's shape and are never fitted here: with the height given, distance follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..body.joints import PARENTS, J
from ..geometry.camera import fit_translation
from ..geometry.rotations import rotation_between, rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array
from .kinematics import ANCESTORS, forward, forward_offsets, log_jacobian, point_jacobian
from .pose_network import L

_NAMES = (
    "pelvis", "spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_collar", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
SOLVED = np.array([J[name] for name in _NAMES])
_N = 3 + 3 * len(SOLVED)


def _both(pairs: dict[str, str]) -> list[tuple[str, str]]:
    return [(f"{s}_{a}", f"{s}_{b}") for a, b in pairs.items() for s in ("left", "right")]


_UNSEEN_TRUNK = 0.1
"""Weight of the trunk's guessed direction when the hips are out of view: better than none."""

# landmark, joint it moves with, and the rest position: a joint's name or a surface point's.
_HEAD = [("nose", "nose"), *_both({"eye": "eye", "ear": "ear"})]
_AT_JOINT = _both(
    {"elbow": "elbow", "wrist": "wrist", "knee": "knee", "ankle": "ankle", "shoulder": "shoulder", "hip": "hip"}
)
_HAND = _both({"index": "index1", "pinky": "pinky1", "thumb": "thumb2"})
_FOOT = _both({"heel": "heel", "foot_index": "big_toe"})

# A joint's own position moves with its parent: turning an elbow leaves the elbow where it is.
LANDMARKS = np.array([L[a] for a, _ in _HEAD + _AT_JOINT + _HAND + _FOOT])
CARRIERS = np.array(
    [J["head"]] * len(_HEAD)
    + [J[b] for _, b in _AT_JOINT]
    + [J[b.split("_")[0] + "_wrist"] for _, b in _HAND]
    + [J[b.split("_")[0] + "_ankle"] for _, b in _FOOT]
)
_INDEX = {int(landmark): i for i, landmark in enumerate(LANDMARKS)}

BONES = [
    *_both({"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle", "wrist": "index"}),
    *_both({"wrist": "pinky"}),
    *_both({"ankle": "foot_index", "heel": "foot_index"}),
    *_both({"hip": "shoulder"}),
    ("right_shoulder", "left_shoulder"),
    ("right_hip", "left_hip"),
    ("right_ear", "left_ear"),
    ("left_ear", "nose"),
    ("right_ear", "nose"),
]
_BONE_A = np.array([_INDEX[L[a]] for a, _ in BONES])
_BONE_B = np.array([_INDEX[L[b]] for _, b in BONES])
_TRUNK = {"left_shoulder", "right_shoulder", "left_hip", "right_hip"}
_BONE_FLOOR = np.array([_UNSEEN_TRUNK if {a, b} <= _TRUNK else 0.0 for a, b in BONES])

_INF = np.inf
# Limits of the rotation vector [rad]: (low xyz, high xyz) of the left side; SMPL rest axes x left, y up, z forward.
_LIMITS_LEFT = {
    "spine1": ((-0.4, -0.3, -0.3), (0.6, 0.3, 0.3)),
    "spine2": ((-0.4, -0.3, -0.3), (0.5, 0.3, 0.3)),
    "spine3": ((-0.3, -0.3, -0.3), (0.4, 0.3, 0.3)),
    "neck": ((-0.5, -0.6, -0.4), (0.5, 0.6, 0.4)),
    "head": ((-0.5, -0.7, -0.4), (0.5, 0.7, 0.4)),
    "collar": ((-0.15, -0.4, -0.25), (0.15, 0.3, 0.45)),
    "shoulder": ((-1.6, -2.2, -1.6), (1.3, 1.2, 1.6)),
    "elbow": ((-1.6, -2.6, -0.25), (1.2, 0.05, 0.25)),
    "wrist": ((-0.4, -0.6, -1.2), (0.4, 0.6, 1.2)),
    "hip": ((-2.2, -0.8, -0.5), (0.6, 0.9, 1.2)),
    "knee": ((-0.05, -0.35, -0.15), (2.6, 0.35, 0.15)),
    "ankle": ((-0.7, -0.5, -0.5), (0.8, 0.5, 0.5)),
}
_PRIOR_SIGMA = {
    "pelvis": (_INF,) * 3, "spine1": (0.25,) * 3, "spine2": (0.2,) * 3, "spine3": (0.2,) * 3,
    "neck": (0.35,) * 3, "head": (0.35,) * 3, "collar": (0.15,) * 3, "shoulder": (1.0,) * 3,
    "elbow": (0.8, 1.2, 0.3), "wrist": (0.4, 0.4, 0.6), "hip": (0.9, 0.45, 0.4), "knee": (1.2, 0.25, 0.12),
    "ankle": (0.4, 0.3, 0.3),
}  # fmt: skip


_PARTS = [name.removeprefix("left_").removeprefix("right_") for name in _NAMES]


def _limits() -> tuple[Array, Array]:
    """Return the lowest and the highest rotation vectors of the solved joints, both (20, 3) [rad]."""
    free = ((-_INF,) * 3, (_INF,) * 3)
    low, high = np.array([_LIMITS_LEFT.get(part, free) for part in _PARTS]).transpose(1, 0, 2)
    right = [name.startswith("right_") for name in _NAMES]
    low[right, 1:], high[right, 1:] = -high[right, 1:], -low[right, 1:]  # mirrored across x = 0
    return low, high


_LOW, _HIGH = _limits()
_PRIOR = 1 / np.array([_PRIOR_SIGMA[part] for part in _PARTS])
_REST = np.zeros((len(SOLVED), 3))
_REST[_NAMES.index("left_shoulder"), 2], _REST[_NAMES.index("right_shoulder"), 2] = -1.2, 1.2
"""Mean of the pose prior: the body's zero pose with the arms hanging. What is not seen stays there."""


def _named_points(joints: Array, surface: dict[str, Array]) -> Array:
    """Return the places of `LANDMARKS` at rest (or their derivatives), joints and surface points by name."""
    names = [place for _, place in _HEAD + _AT_JOINT + _HAND + _FOOT]
    return np.stack([np.asarray(joints[J[n]] if n in J else surface[n], np.float64) for n in names])


@dataclass(frozen=True)
class BodyFitWeights:
    """Standard deviations of the residuals.

    Attributes:
        pixel: Landmark error, relative to the person's size in pixels.
        bone: Bone direction (unit vectors).
        limit_rad: Softness of the joint limits.
        pose: Factor on the pose prior's deviations.
        head_rad: Head rotation from the face.
        last_rad_per_sqrt_s: Change since the last frame, growing with the root of the time between (random walk).
        robust: Landmark errors beyond this many deviations count less and less.
    """

    pixel: float = 0.012
    bone: float = 0.4
    limit_rad: float = 0.1
    pose: float = 1.0
    head_rad: float = 0.12
    last_rad_per_sqrt_s: float = 1.2
    robust: float = 5.0


@dataclass(frozen=True, eq=False)
class BodyObservation:
    """What is fitted to, in undistorted pixels.

    Attributes:
        uv: (33, 2) [px].
        world: (33, 3) landmark directions in camera axes (already turned to the viewing ray).
        weight: (33,) [0, 1], 0 = not seen.
        size_px: Size of the person in the image.
        K: (3, 3).
        head_rotation: (3, 3) global rotation of the head joint from the face, or None.
    """

    uv: Array
    world: Array
    weight: Array
    size_px: float
    K: Array
    head_rotation: Array | None = None


@dataclass(frozen=True, eq=False)
class BodyFit:
    """A fitted pose.

    Attributes:
        local: (55, 3, 3) local rotations, root first (body to camera).
        transl: (3,) [m].
        cost: Sum of squared, weighted residuals.
        reprojection: (22,) landmark errors in units of the pixel deviation.
    """

    local: Array
    transl: Array
    cost: float
    reprojection: Array


class BodyFitter:
    """Fits one skeleton; `set_body` when its shape changes."""

    def __init__(self, weights: BodyFitWeights | None = None) -> None:
        self.weights = weights or BodyFitWeights()

    def set_body(self, rest_joints: Array, surface: dict[str, Array]) -> None:
        """Take a shape: rest joints (55, 3) and the rest positions of the named surface points [m]."""
        self._rest = np.asarray(rest_joints, np.float64)
        self._offsets = _named_points(self._rest, surface) - self._rest[CARRIERS]
        ends = self._offsets + self._rest[CARRIERS]
        self._bone_length = np.linalg.norm(ends[_BONE_B] - ends[_BONE_A], axis=1)

    def set_shape_basis(self, rest_basis: Array, surface_basis: dict[str, Array]) -> None:
        """Take how the rest joints (55, 3, n) and the surface points (3, n) change with n shape coefficients."""
        named = _named_points(rest_basis, surface_basis)
        self._rest_basis = np.moveaxis(np.asarray(rest_basis, np.float64), -1, 0)
        self._offset_basis = np.moveaxis(named, -1, 0) - self._rest_basis[:, CARRIERS]

    def shape_system(self, seen: BodyObservation, fit: BodyFit) -> tuple[Array, Array]:
        """Return normal matrix (n, n) and gradient (n,) of the reprojection error by shape, the pose taken out."""
        rotations, joints, points = self._posed(fit.local, fit.transl)
        moved = forward_offsets(rotations, self._rest_basis)[:, CARRIERS]
        moved += np.einsum("nab,inb->ina", rotations[CARRIERS], self._offset_basis)
        error, d_error, root = self._reprojection(seen, points)
        by_shape = np.einsum("nab,inb->nai", d_error * root, moved).reshape(-1, len(moved))
        by_pose = np.einsum("nab,nbk->nak", d_error * root, _by_pose(points, rotations, joints)).reshape(-1, _N)
        cross = by_pose.T @ by_shape
        pose = self._linearise(seen, fit.local, fit.transl)
        solved = np.linalg.solve(pose.normal + 1e-6 * np.eye(_N), np.column_stack([cross, pose.gradient]))
        normal = by_shape.T @ by_shape - cross.T @ solved[:, :-1]
        gradient = by_shape.T @ (error * root[..., 0]).ravel() - cross.T @ solved[:, -1]
        return normal, gradient

    def start(self, seen: BodyObservation) -> tuple[Array, Array]:
        """Return a first guess: every bone turned to its observed direction, the body placed by least squares."""
        local = np.broadcast_to(np.eye(3), (55, 3, 3)).copy()
        local[SOLVED] = rotvec_to_rotmat(_REST)
        w = seen.world
        up = (w[L["left_shoulder"]] + w[L["right_shoulder"]] - w[L["left_hip"]] - w[L["right_hip"]]) / 2
        left = w[L["left_hip"]] - w[L["right_hip"]] + w[L["left_shoulder"]] - w[L["right_shoulder"]]
        up = up / np.linalg.norm(up)
        left = left - (left @ up) * up
        left = left / np.linalg.norm(left)
        local[0] = np.stack([left, up, np.cross(left, up)], 1)
        for side in ("left", "right"):
            for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
                if min(seen.weight[L[f"{side}_{name}"]] for name in chain) == 0:
                    continue
                frame = local[0]
                for a, b in pairwise(chain):
                    bone = self._rest[J[f"{side}_{b}"]] - self._rest[J[f"{side}_{a}"]]
                    target = frame.T @ (w[L[f"{side}_{b}"]] - w[L[f"{side}_{a}"]])
                    local[J[f"{side}_{a}"]] = rotation_between(bone, target)
                    frame = frame @ local[J[f"{side}_{a}"]]
        return local, self._place(local, seen)

    def _place(self, local: Array, seen: BodyObservation) -> Array:
        """Return the translation that best reprojects the posed landmarks (linear least squares)."""
        _, _, points = self._posed(local, np.zeros(3))
        transl = fit_translation(points, seen.uv[LANDMARKS], seen.K, np.sqrt(seen.weight[LANDMARKS]))
        if transl is None or transl[2] <= 0.2:
            transl = np.array([0.0, 0.0, seen.K[1, 1] * 1.7 / max(seen.size_px, 1.0)])
        return transl

    def fit(
        self,
        seen: BodyObservation,
        local: Array,
        transl: Array,
        *,
        last: Array | None = None,
        dt_s: float = 1 / 30,
        steps: int = 8,
    ) -> BodyFit:
        """Return the pose that explains the observation best, starting from `local`, `transl`.

        Args:
            seen: The observation.
            local: (55, 3, 3) start.
            transl: (3,) start.
            last: (55, 3, 3) the last frame's pose, or None.
            dt_s: Time since the last frame [s].
            steps: Most Gauss-Newton steps.
        """
        damping = 1e-2
        calm = 1 / (self.weights.last_rad_per_sqrt_s * np.sqrt(max(dt_s, 1e-3)))
        state = self._linearise(seen, local, transl, last, calm)
        for _ in range(steps):
            step = np.linalg.solve(state.normal + damping * np.diag(np.diag(state.normal) + 1e-6), -state.gradient)
            new_local, new_transl = _retract(local, transl, step)
            if new_transl[2] < 0.2:
                new_transl = transl
            trial = self._linearise(seen, new_local, new_transl, last, calm)
            if trial.cost < state.cost:
                gain = (state.cost - trial.cost) / state.cost
                local, transl, state = new_local, new_transl, trial
                damping = max(damping * 0.3, 1e-5)
                if gain < 1e-3:
                    break
            else:
                damping *= 8
                if damping > 1e3:
                    break
        return BodyFit(local, transl, state.cost, state.errors)

    def _posed(self, local: Array, transl: Array) -> tuple[Array, Array, Array]:
        """Return global rotations (55, 3, 3), joints (55, 3) and the landmarks' places (22, 3) [m]."""
        rotations, joints = forward(local, self._rest, transl)
        return rotations, joints, joints[CARRIERS] + np.einsum("nab,nb->na", rotations[CARRIERS], self._offsets)

    def _reprojection(self, seen: BodyObservation, points: Array) -> tuple[Array, Array, Array]:
        """Return the landmarks' errors (22, 2) in deviations, their derivatives by the places (22, 2, 3), and the roots
        of their weights (22, 1, 1), Geman-McClure's among them: (c^2 / (c^2 + r^2))^2."""
        pixels, d_pixels = _project(points, seen.K)
        scale = 1 / (self.weights.pixel * seen.size_px)
        error, c2 = (pixels - seen.uv[LANDMARKS]) * scale, self.weights.robust**2
        root = np.sqrt(seen.weight[LANDMARKS]) * c2 / (c2 + (error**2).sum(1))
        return error, d_pixels * scale, root[:, None, None]

    def _linearise(
        self, seen: BodyObservation, local: Array, transl: Array, last: Array | None = None, calm: float = 0.0
    ) -> _Equations:
        """Return the normal equations at a pose; `calm` is the weight of the change since `last` [1/rad]."""
        rotations, joints, points = self._posed(local, transl)
        by_pose = _by_pose(points, rotations, joints)
        error, d_error, root = self._reprojection(seen, points)
        square, c2 = (error**2).sum(1), self.weights.robust**2
        out = _Equations(np.sqrt(square))
        cost = float((seen.weight[LANDMARKS] * c2 * square / (c2 + square)).sum())
        out.add(np.einsum("nab,nbk->nak", d_error * root, by_pose), error * root[..., 0], cost)
        self._add_bones(out, seen, points, by_pose)
        if seen.head_rotation is not None:
            turn = rotmat_to_rotvec(rotations[_HEAD_JOINT] @ seen.head_rotation.T)
            out.add(_head_jacobian(rotations, turn) / self.weights.head_rad, turn / self.weights.head_rad)
        self._add_priors(out, local)
        if last is not None:
            change = rotmat_to_rotvec(local[SOLVED] @ last[SOLVED].transpose(0, 2, 1))
            out.add_rotations(change, np.full_like(change, calm), log_jacobian(change))
        return out

    def _add_bones(self, out: _Equations, seen: BodyObservation, points: Array, by_pose: Array) -> None:
        """Add the directions of the bones, at their length."""
        weight, world = seen.weight[LANDMARKS], seen.world[LANDMARKS]
        bone = (points[_BONE_B] - points[_BONE_A]) / self._bone_length[:, None]
        target = world[_BONE_B] - world[_BONE_A]
        target = target / np.maximum(np.linalg.norm(target, axis=1, keepdims=True), 1e-6)
        root = np.sqrt(np.maximum(weight[_BONE_A] * weight[_BONE_B], _BONE_FLOOR)) / self.weights.bone
        by_pose = (by_pose[_BONE_B] - by_pose[_BONE_A]) * (root / self._bone_length)[:, None, None]
        out.add(by_pose, (bone - target) * root[:, None])

    def _add_priors(self, out: _Equations, local: Array) -> None:
        """Add the pose prior and the joint limits."""
        rotvec = rotmat_to_rotvec(local[SOLVED])
        by_turn = log_jacobian(rotvec)
        out.add_rotations(rotvec - _REST, _PRIOR / self.weights.pose, by_turn)
        over = np.maximum(rotvec - _HIGH, 0) + np.minimum(rotvec - _LOW, 0)
        out.add_rotations(over, (over != 0) / self.weights.limit_rad, by_turn)


_BLOCK = 3 + 3 * np.arange(len(SOLVED))[:, None] + np.arange(3)


class _Equations:
    """Normal equations J^T J and J^T r, and the cost, of residuals r with the derivatives J by the unknowns.

    Attributes:
        normal: (63, 63). gradient: (63,). cost: Sum of squares. errors: (22,) of the landmarks, in deviations.
    """

    def __init__(self, errors: Array) -> None:
        self.normal, self.gradient, self.cost, self.errors = np.zeros((_N, _N)), np.zeros(_N), 0.0, errors

    def add(self, jacobian: Array, residual: Array, cost: float | None = None) -> None:
        """Add residuals (...,) with derivatives (..., 63); `cost`: what counts in place of their squares."""
        jacobian, residual = jacobian.reshape(-1, _N), residual.ravel()
        self.normal += jacobian.T @ jacobian
        self.gradient += jacobian.T @ residual
        self.cost += float(residual @ residual) if cost is None else cost

    def add_rotations(self, residual: Array, weight: Array, by_turn: Array) -> None:
        """Add weighted residuals (20, 3), each joint's of its own rotation alone, by_turn (20, 3, 3)."""
        block, residual = weight[:, :, None] * by_turn, weight * residual
        self.normal[_BLOCK[:, :, None], _BLOCK[:, None, :]] += np.einsum("sab,sac->sbc", block, block)
        self.gradient[3:] += np.einsum("sab,sa->sb", block, residual).ravel()
        self.cost += float((residual**2).sum())


_HEAD_JOINT = J["head"]
_HEAD_CHAIN = np.flatnonzero(ANCESTORS[_HEAD_JOINT][SOLVED])


def _head_jacobian(rotations: Array, rotvec: Array) -> Array:
    """Return (3, unknowns): derivative of log(R_head R_seen^T) by the increments of the head and what carries it."""
    jacobian = np.zeros((3, _N))
    by_rotation = log_jacobian(rotvec)
    for row in _HEAD_CHAIN:
        parent = PARENTS[SOLVED[row]]
        turn = np.eye(3) if parent < 0 else rotations[parent]
        jacobian[:, 3 + 3 * row : 6 + 3 * row] = by_rotation @ turn
    return jacobian


def _by_pose(points: Array, rotations: Array, joints: Array) -> Array:
    """Return the derivative of the landmarks' places by the unknowns, (22, 3, 63)."""
    out = np.empty((len(points), 3, _N))
    out[:, :, :3] = np.eye(3)
    out[:, :, 3:] = point_jacobian(points, CARRIERS, rotations, joints, SOLVED).reshape(len(points), 3, -1)
    return out


def _retract(local: Array, transl: Array, step: Array) -> tuple[Array, Array]:
    new = local.copy()
    new[SOLVED] = rotvec_to_rotmat(step[3:].reshape(-1, 3)) @ local[SOLVED]
    return new, transl + step[:3]


def _project(points: Array, K: Array) -> tuple[Array, Array]:
    """Return pixels (N, 2) and their derivative by the points (N, 2, 3); depth is held above 5 cm."""
    z = np.maximum(points[:, 2], 0.05)
    x, y = points[:, 0] / z, points[:, 1] / z
    pixels = np.stack([K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]], 1)
    derivative = np.zeros((len(points), 2, 3))
    derivative[:, 0, 0] = K[0, 0] / z
    derivative[:, 0, 1] = K[0, 1] / z
    derivative[:, 0, 2] = -(K[0, 0] * x + K[0, 1] * y) / z
    derivative[:, 1, 1] = K[1, 1] / z
    derivative[:, 1, 2] = -K[1, 1] * y / z
    return pixels, derivative
