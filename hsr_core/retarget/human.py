"""What retargeting knows of a person at one instant: named points and rotations in a world whose z is up.

The body model is not part of it: every source comes through a table of names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..body.joints import J
from ..errors import BadFrame, ShapeError
from ..types import Array, HumanEstimate, MetricSource, Part

POINTS: tuple[str, ...] = (
    "pelvis", "chest", "neck", "head",
    *(f"{side}_{part}" for side in ("left", "right")
      for part in ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist")),
)  # fmt: skip
"""The points of a person, in this order everywhere."""

P: dict[str, int] = {name: i for i, name in enumerate(POINTS)}

SMPLX_NAMES: dict[str, str] = {
    name: {"chest": "spine3", "left_toe": "left_foot", "right_toe": "right_foot"}.get(name, name) for name in POINTS
}
"""Point -> joint of SMPL-X."""

HAND_POINTS = (
    "wrist",
    *(f"{finger}{i}" for finger in ("thumb", "index", "middle", "ring", "little") for i in range(4)),
)
"""The 21 points of a hand, each finger from its base to its tip."""

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_HAND_JOINTS = {
    side: [J[f"{side}_{finger}{i}"] for finger in _FINGERS for i in (1, 2, 3)] for side in ("left", "right")
}
_SEEN_PART = {"left": Part.LEFT_HAND, "right": Part.RIGHT_HAND}
_FROM_SMPLX = [J[SMPLX_NAMES[name]] for name in POINTS]
OTHER_SIDE = [
    P[name.replace("left", "right") if name.startswith("left") else name.replace("right", "left")] for name in POINTS
]
MIN_FLAT = 0.3
"""A hips' line whose level part is shorter than this part of it tells no heading: the person lies on a side."""
TIP = 0.8
"""Last bone of a finger, joint to tip, over the bone before: SMPL-X has no joint in the tip."""


@dataclass(frozen=True, eq=False)
class Human:
    """One person at one instant.

    Attributes:
        stamp_ns: Exposure.
        track_id: Never reused within a run.
        points: (18, 3) [m], in the order of `POINTS`, world frame, z up. NaN is allowed where not `valid`.
        valid: (18,) bool: seen, not extrapolated.
        rotations: (18, 3, 3) joint to world, identity = the body model's rest with its axes (x left, y up, z forward);
            None: they are built from the points.
        score: Confidence of the person, [0, 1].
        left_hand, right_hand: (21, 3) [m] in the order of `HAND_POINTS`, about the wrist, in the
            axes of the wrist joint, or of the world without `rotations`; None: not seen.
        foot_contact: (2,) left, right in [0, 1]; None: judged from the points.
        metric_source: Where the distance comes from; NONE forbids targets that need a place in the world.
        reprojection_px: Error of the points in the image, where it is known.
    """

    stamp_ns: int
    track_id: int
    points: Array
    valid: NDArray[np.bool_]
    rotations: Array | None = None
    score: float = 1.0
    left_hand: Array | None = None
    right_hand: Array | None = None
    foot_contact: Array | None = None
    metric_source: MetricSource = MetricSource.DEPTH_CAMERA
    reprojection_px: float | None = None

    def __post_init__(self) -> None:
        for name, value, shape in (
            ("points", self.points, (len(POINTS), 3)),
            ("valid", self.valid, (len(POINTS),)),
            ("rotations", self.rotations, (len(POINTS), 3, 3)),
            ("left_hand", self.left_hand, (21, 3)),
            ("right_hand", self.right_hand, (21, 3)),
            ("foot_contact", self.foot_contact, (2,)),
        ):
            if value is not None and np.shape(value) != shape:
                raise ShapeError(f"{name} must have shape {shape}, not {np.shape(value)}")

    def at(self, name: str) -> Array:
        """Return a point (3,) [m]."""
        return self.points[P[name]]

    def sees(self, *names: str) -> bool:
        """True when all these points were seen."""
        return all(self.valid[P[name]] for name in names)


def from_estimate(
    person: HumanEstimate, stamp_ns: int, T_world_cam: Array | None, *, min_joint_score: float = 0.3
) -> Human:
    """Return a person as the stream estimates them, in the world.

    Args:
        person: In the camera frame.
        stamp_ns: Of the frame.
        T_world_cam: (4, 4), x_world = T_world_cam x_cam with z up, at `stamp_ns`.
        min_joint_score: Joints below count as not seen.

    Raises:
        BadFrame: No transform (it is never taken as the identity), or not a rigid one.
    """
    T = check_transform(T_world_cam)
    R = T[:3, :3]
    joints = np.asarray(person.joints, np.float64)
    seen = np.asarray(person.regression.joint_score)[_FROM_SMPLX] >= min_joint_score
    hands = {
        f"{side}_hand": hand_points(joints, person.joint_rotmats, side)
        for side in ("left", "right")
        if _SEEN_PART[side] & person.regression.parts
    }
    return Human(
        stamp_ns=stamp_ns,
        track_id=person.track_id,
        points=joints[_FROM_SMPLX] @ R.T + T[:3, 3],
        valid=seen,
        rotations=R @ np.asarray(person.joint_rotmats, np.float64)[_FROM_SMPLX],
        score=float(person.regression.score),
        metric_source=person.regression.metric_source,
        **hands,
    )


def from_points(
    stamp_ns: int, track_id: int, names: Sequence[str], points: Array, *, aliases: Mapping[str, str] | None = None,
    **more: object,
) -> Human:  # fmt: skip
    """Return a person from named points in the world, (n, 3) [m]; names that nobody asks for are left out.

    Args:
        stamp_ns, track_id: As in `Human`.
        names: Of the rows; those of `POINTS` or of SMPL-X.
        points: World frame, z up; NaN = not seen.
        aliases: Point -> the source's name, where it has another.
        more: Further fields of `Human`.
    """
    if np.shape(points) != (len(names), 3):
        raise ShapeError(f"points must have shape {(len(names), 3)} for {len(names)} names, not {np.shape(points)}")
    table = {name: row for row, name in enumerate(names)}
    out = np.full((len(POINTS), 3), np.nan)
    for i, name in enumerate(POINTS):
        for candidate in ((aliases or {}).get(name), name, SMPLX_NAMES[name]):
            if candidate in table:
                out[i] = points[table[candidate]]
                break
    return Human(stamp_ns, track_id, out, np.isfinite(out).all(axis=1), **more)  # type: ignore[arg-type]


def check_transform(T: Array | None) -> Array:
    """Return a rigid transform (4, 4) as float64.

    Raises:
        BadFrame: None, not finite, or its rotation is none.
    """
    if T is None:
        raise BadFrame("no transform from the camera to the world: give tf or a fixed mount; none is assumed")
    T = np.asarray(T, np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise BadFrame(f"T_world_cam must be finite, of shape (4, 4), not {T.shape}")
    R = T[:3, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise BadFrame(f"T_world_cam is not a rigid motion: R R^T = {np.round(R @ R.T, 3).tolist()}")
    return T


def sagittal_plane(person: Human) -> tuple[Array, Array]:
    """Return the upright plane between left and right: its normal (3,) to the left and a point (3,) [m].

    Raises:
        BadFrame: Pelvis or hips were not seen, or the person lies on a side.
    """
    if not person.sees("pelvis", "left_hip", "right_hip"):
        raise BadFrame("mirroring needs pelvis and hips")
    left = person.at("left_hip") - person.at("right_hip")
    across = left * (1, 1, 0)
    flat = float(np.linalg.norm(across))
    if not flat > MIN_FLAT * float(np.linalg.norm(left)):
        raise BadFrame("mirroring needs a person who is upright")
    return across / flat, person.at("pelvis").copy()


def mirrored(person: Human, plane: tuple[Array, Array] | None = None) -> Human:
    """Return the person reflected at a plane, with left and right renamed; rotations stay rotations.

    Doing it twice gives the person again.

    Args:
        person: In the world.
        plane: Normal and a point; None: their own `sagittal_plane`. One plane for all frames reflects a motion with its
            way in the world: a step to the left becomes one to the right, and a foot that stands still does so.

    Raises:
        BadFrame: No plane is given, and `sagittal_plane` finds none.
    """
    across, point = sagittal_plane(person) if plane is None else plane
    S = np.eye(3) - 2 * np.outer(across, across)
    flip = np.diag([-1.0, 1, 1])  # the joints' own axes: x is to the left
    rotations = person.rotations
    flip_hand = S if rotations is None else flip
    return replace(
        person,
        points=((person.points - point) @ S + point)[OTHER_SIDE],
        valid=person.valid[OTHER_SIDE],
        rotations=None if rotations is None else (S @ rotations @ flip)[OTHER_SIDE],
        left_hand=None if person.right_hand is None else person.right_hand @ flip_hand,
        right_hand=None if person.left_hand is None else person.left_hand @ flip_hand,
        foot_contact=None if person.foot_contact is None else person.foot_contact[::-1],
    )


def hand_points(joints: Array, rotmats: Array, side: str) -> Array:
    """Return the 21 points of a hand about its wrist, in the wrist joint's axes; the tips go on from the last bone."""
    wrist = J[f"{side}_wrist"]
    fingers = ((joints[_HAND_JOINTS[side]] - joints[wrist]) @ np.asarray(rotmats[wrist], np.float64)).reshape(5, 3, 3)
    tips = fingers[:, 2] + TIP * (fingers[:, 2] - fingers[:, 1])
    return np.concatenate([np.zeros((1, 3)), np.concatenate([fingers, tips[:, None]], axis=1).reshape(20, 3)])
