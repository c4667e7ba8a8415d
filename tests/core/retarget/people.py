"""Made-up people: sticks of a grown person's lengths, posed by directions, in a world with z up and x to the front."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hsr_core.geometry.rotations import rotation_between, rotvec_to_rotmat
from hsr_core.retarget.frames import R_REST
from hsr_core.retarget.human import POINTS, Human, P

LENGTHS = {
    ("shoulder", "elbow"): 0.29, ("elbow", "wrist"): 0.26, ("hip", "knee"): 0.42, ("knee", "ankle"): 0.41,
}  # fmt: skip
ANKLE_M = 0.09
STANDING_M = sum(LENGTHS[pair] for pair in (("hip", "knee"), ("knee", "ankle"))) + ANKLE_M
DOWN = np.array([0.0, 0, -1])
FRONT, UP = np.array([1.0, 0, 0]), np.array([0.0, 0, 1])

Directions = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Side_limb (left_arm, ...) -> directions of its two segments."""


def at_ease() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Arms a little out and bent, legs straight."""
    out = {}
    for side, y in (("left", 1), ("right", -1)):
        out[f"{side}_arm"] = (unit(0.1, 0.3 * y, -1), unit(0.9, 0.1 * y, -0.3))
        out[f"{side}_leg"] = (DOWN, DOWN)
    return out


def t_pose() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    out = {}
    for side, y in (("left", 1), ("right", -1)):
        out[f"{side}_arm"] = (unit(0, y, 0), unit(0, y, 0))
        out[f"{side}_leg"] = (DOWN, DOWN)
    return out


def unit(x: float, y: float, z: float) -> np.ndarray:
    v = np.array([x, y, z], float)
    return v / np.linalg.norm(v)


def person(
    stamp_s: float = 0.0,
    limbs: Directions | None = None,
    *,
    track_id: int = 1,
    place: tuple[float, float, float] = (0.0, 0.0, 0.0),
    yaw: float = 0.0,
    size: float = 1.0,
    with_rotations: bool = True,
    **more,
) -> Human:
    """A person with an upright trunk. Rotations: trunk, head, hands and feet as at rest, turned by yaw."""
    limbs = {**at_ease(), **(limbs or {})}
    points = np.zeros((len(POINTS), 3))
    points[P["pelvis"]] = (0, 0, STANDING_M + 0.04)
    points[P["chest"]], points[P["neck"]] = (0, 0, STANDING_M + 0.35), (0, 0, STANDING_M + 0.52)
    points[P["head"]] = (0, 0, STANDING_M + 0.62)
    for side, y in (("left", 1), ("right", -1)):
        points[P[f"{side}_hip"]] = (0, 0.09 * y, STANDING_M)
        points[P[f"{side}_shoulder"]] = (0, 0.19 * y, STANDING_M + 0.46)
        for limb, chain in (("arm", ("shoulder", "elbow", "wrist")), ("leg", ("hip", "knee", "ankle"))):
            for parent, child, along in zip(chain, chain[1:], limbs[f"{side}_{limb}"], strict=False):
                points[P[f"{side}_{child}"]] = points[P[f"{side}_{parent}"]] + LENGTHS[parent, child] * along
        points[P[f"{side}_toe"]] = points[P[f"{side}_ankle"]] + (0.13, 0, -0.06)
    R = rotvec_to_rotmat(np.array([0, 0, yaw]))
    points = size * points @ R.T + np.asarray(place)
    rotations = None
    if with_rotations:
        rotations = np.broadcast_to(R @ R_REST, (len(POINTS), 3, 3)).copy()
        for side, y in (("left", 1.0), ("right", -1.0)):  # hands go on from the forearm
            turn = rotation_between(np.array([0, y, 0]), limbs[f"{side}_arm"][1])
            rotations[P[f"{side}_wrist"]] = R @ turn @ R_REST
    return Human(round(stamp_s * 1e9), track_id, points, np.ones(len(POINTS), bool), rotations, **more)


def squat(depth_m: float) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[float, float, float]]:
    """Legs of a person who goes down by so much with the feet in their place: directions, and the place of the body."""
    thigh, shank = LENGTHS["hip", "knee"], LENGTHS["knee", "ankle"]
    reach = thigh + shank - depth_m
    lift = np.arccos((thigh**2 + reach**2 - shank**2) / (2 * thigh * reach))
    fall = np.arcsin(thigh * np.sin(lift) / shank)
    leg = (unit(np.sin(lift), 0, -np.cos(lift)), unit(-np.sin(fall), 0, -np.cos(fall)))
    return {"left_leg": leg, "right_leg": leg}, (0.0, 0.0, -depth_m)


def as_robot(robot, q: np.ndarray, stamp_s: float) -> Human:
    """A grown person whose upper body stands exactly as the robot does: every target is within its reach."""
    placed = robot.frame_placements(q)
    limbs = {}
    for side in ("left", "right"):
        shoulder, elbow, wrist = (placed[f"{side}_{part}"][:3, 3] for part in ("shoulder", "elbow", "wrist"))
        limbs[f"{side}_arm"] = (unit(*(elbow - shoulder)), unit(*(wrist - elbow)))
    human = person(stamp_s, limbs)
    for part, offset in robot.offsets.items():
        human.rotations[P[part]] = placed[part][:3, :3] @ offset.T
    return human
