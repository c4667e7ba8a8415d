"""Head rotation, jaw, expression, eyelids and gaze from face landmarks.

The head's landmarks are linear in expression and, for these angles, in the jaw; so after a rigid alignment one small
ridge regression gives the expression. What stays the same over the first seconds is taken for the person's own face,
not for an expression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..body.joints import LEFT_EYE, RIGHT_EYE
from ..geometry.rotations import rotation_between, rotmat_to_rotvec
from ..types import Array, HumanParams
from .face_network import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, FaceLandmarks, FaceNetwork
from .face_points import find_face_points

_MOUTH = np.array([
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
])  # fmt: skip
_BROWS = np.array([70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285])
_CHEEKS = np.array([50, 101, 118, 117, 205, 187, 147, 280, 330, 347, 346, 425, 411, 376, 206, 426, 216, 436])
_CHIN = np.array([152, 148, 377, 175, 199, 200, 18, 83, 313, 201, 421])
_STABLE = np.array([
    1, 2, 4, 5, 6, 168, 195, 197, 98, 327, 33, 133, 263, 362, 10, 151, 9, 8, 67, 297, 109, 338, 127, 356, 234, 454,
    93, 323, 129, 358, 49, 279, 122, 351,
])  # fmt: skip
"""Nose, eye corners, forehead and temples: what neither jaw nor expression moves much."""
_UPPER_LIP, _LOWER_LIP = 13, 14
"""Inner edges of the lips: their gap is the mouth's opening for any face."""
_BELOW_LIP = 17
"""A point that moves with the jaw alone; the inner edges touch on a closed template and cannot be told apart there."""

_LANDMARK_SIGMA_M = 0.002
_CORRELATED = 5.0
"""Neighbouring landmarks err together: so many count as one."""
_DEPTH_WEIGHT = 0.4
"""The network's depth is less sure than its pixels."""
_LID_OPEN, _LID_CLOSED = 0.28, 0.08
"""Opening of an eye (lids over corners) when relaxed and when shut."""
_JAW_MAX, _GAZE_MAX = 0.6, 0.6
_OWN_FACE_FRAMES = 30
"""After so many frames half of the steady difference counts as the person's own face."""


@dataclass(frozen=True, eq=False)
class FaceFit:
    """What a face tells. Rotation vectors [rad].

    Attributes:
        head_rotation: (3, 3) global rotation of the head joint, in the frame the landmarks were given in.
        jaw_pose, leye_pose, reye_pose: (3,).
        eyelids: (2,) left, right; 0 open, 1 closed.
        expression: (n,).
    """

    head_rotation: Array
    jaw_pose: Array
    leye_pose: Array
    reye_pose: Array
    eyelids: Array
    expression: Array


class FaceFitter:
    """Fits one person's face; `reset` for another person."""

    def __init__(self, body: Any, network: FaceNetwork) -> None:
        neutral = HumanParams(
            betas=np.zeros(body.n_betas, np.float32),
            expression=np.zeros(body.n_expression, np.float32),
            head_betas=np.zeros(body.n_head_betas, np.float32),
            head_expression=np.zeros(body.n_head_expression, np.float32),
        )
        vertices, joints = body.rest(neutral)
        self._eyes = joints[[LEFT_EYE, RIGHT_EYE]].astype(np.float64)
        points = find_face_points(vertices, body.faces, self._eyes, network)
        self._neutral = points.at(vertices)
        self._n = body.n_head_expression

        def moved(**change: Array) -> Array:
            return points.at(body.rest(replace(neutral, **change))[0]) - self._neutral

        self._closed_gap = float(np.linalg.norm(self._neutral[_LOWER_LIP] - self._neutral[_UPPER_LIP]))
        self._jaw = moved(jaw_pose=np.array([0.2, 0, 0], np.float32)) / 0.2
        unit = np.eye(self._n, dtype=np.float32)
        basis = np.stack([moved(head_expression=unit[i]) for i in range(self._n)], -1)
        self._used = np.concatenate([_MOUTH, _BROWS, _CHEEKS, _CHIN])
        self._used = self._used[points.on_face[self._used]]
        self._stable = _STABLE[points.on_face[_STABLE]]
        weight = np.array([1, 1, _DEPTH_WEIGHT])
        A = (basis[self._used] * weight[None, :, None]).reshape(-1, self._n)
        variance = _CORRELATED * _LANDMARK_SIGMA_M**2  # against a prior of unit variance per coefficient
        self._solve = np.linalg.solve(A.T @ A / variance + np.eye(self._n), A.T / variance)
        self._weight = weight
        self.reset()

    def reset(self) -> None:
        """Forget the person's own face."""
        self._own = np.zeros_like(self._neutral)
        self._frames = 0

    def fit(self, face: FaceLandmarks, R_turn: Array) -> FaceFit | None:
        """Return head rotation and face parameters; None for landmarks of a face seen from behind, which is no face.

        Args:
            face: Landmarks.
            R_turn: (3, 3) applied to the landmarks: from the viewing ray's frame to the camera's.
        """
        observed = face.points
        R, scale, t = _similarity(self._neutral[self._stable], observed[self._stable])
        if R[2, 2] > 0.3:
            return None
        local = (observed - t) @ R / scale - self._neutral
        own = self._own * (self._frames / (self._frames + _OWN_FACE_FRAMES))

        gap = np.linalg.norm(observed[_LOWER_LIP] - observed[_UPPER_LIP]) / scale - self._closed_gap
        jaw = float(np.clip(gap / np.linalg.norm(self._jaw[_BELOW_LIP]), 0.0, _JAW_MAX))
        left = local - jaw * self._jaw - own
        expression = np.clip(self._solve @ (left[self._used] * self._weight).ravel(), -3, 3)
        self._learn(local - jaw * self._jaw)

        corners = ((LEFT_EYE_CORNERS, face.left_eye, 0), (RIGHT_EYE_CORNERS, face.right_eye, 1))
        gaze = [
            self._gaze(R, scale, observed[list(c)].mean(0), self._neutral[list(c)].mean(0), e.iris, i)
            for c, e, i in corners
        ]
        lids = (_LID_OPEN - np.array([face.left_eye.opening, face.right_eye.opening])) / (_LID_OPEN - _LID_CLOSED)
        return FaceFit(
            head_rotation=R_turn @ R,
            jaw_pose=np.array([jaw, 0, 0]),
            leye_pose=gaze[0],
            reye_pose=gaze[1],
            eyelids=np.clip(lids, 0, 1),
            expression=expression,
        )

    def _learn(self, difference: Array) -> None:
        """Running mean of the difference from the template, frozen in weight after 300 frames."""
        self._frames = min(self._frames + 1, 300)
        self._own += (difference - self._own) / self._frames

    def _gaze(self, R: Array, scale: float, corners: Array, corners_rest: Array, iris: Array, eye: int) -> Array:
        """Return an eye's rotation from where its iris lies beside the middle of the lids' corners."""
        center = corners + scale * R @ (self._eyes[eye] - corners_rest)
        across = (iris - center[:2]) / (scale * 0.012)  # radius of an eyeball, 12 mm
        across = across / max(1.0, np.hypot(*across) / 0.9)
        looking = R.T @ np.array([*across, -np.sqrt(1 - across @ across)])
        rotvec = rotmat_to_rotvec(rotation_between(np.array([0.0, 0, 1]), looking))
        return np.clip(rotvec, -_GAZE_MAX, _GAZE_MAX)


def _similarity(model: Array, seen: Array) -> tuple[Array, float, Array]:
    """Return R, s, t with seen = s R model + t in the least-squares sense, det R = +1.

    Source: Umeyama 1991, eqs. 39 to 42.
    """
    mean_m, mean_s = model.mean(0), seen.mean(0)
    centred = model - mean_m
    U, D, Vt = np.linalg.svd((seen - mean_s).T @ centred)
    proper = np.array([1.0, 1.0, np.linalg.det(U) * np.linalg.det(Vt)])  # never a reflection
    R = (U * proper) @ Vt
    s = float(D @ proper / np.square(centred).sum())
    return R, s, mean_s - s * R @ mean_m
