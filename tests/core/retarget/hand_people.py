"""Made-up hands for the tests of hands that follow by fingertip vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hsr_core.bench_hands import made_up_hand
from hsr_core.config import with_values
from hsr_core.retarget.hand_model import HandModel
from hsr_core.retarget.hand_targets import FINGERS_M, PALM_M
from hsr_core.retarget.hands import VectorHand
from hsr_core.retarget.human import HAND_POINTS
from hsr_core.retarget.settings import TeleopSettings

from .conftest import loaded
from .urdf_walk import walk

STEP_NS = 33_333_333
THUMB = HAND_POINTS.index("thumb3")
HANDS = (("allegro", "right"), ("allegro_left", "left"), ("f5d6", "right"), ("g1_hands", "left"), ("g1_hands", "right"))


class Follower:
    """One hand of a robot that is fed frame by frame.

    Attributes:
        q: The robot's posture.
        fastest: Largest speed so far, over the limit.
    """

    def __init__(self, robot: str, side: str, values: dict | None = None, *, hurried: bool = False) -> None:
        self.robot = loaded(robot, "upper_body")
        self.model: HandModel = self.robot.hands[side]
        if hurried:
            self.model = replace(self.model, velocity=np.full(len(self.model.names), 1e6))
        self.side, self.hand = side, VectorHand(self.model, with_values(TeleopSettings(), values or {}))
        self.q, self.stamp_ns, self.fastest = self.robot.neutral.copy(), 0, 0.0

    @property
    def x(self) -> np.ndarray:
        return self.q[self.model.idx_own].copy()

    def see(self, points, frames: int = 1, *, source: str = "", dt_ns: int = STEP_NS):
        """Feed the same points so often; return flags and error of the last frame."""
        for _ in range(frames):
            self.stamp_ns += dt_ns
            last = self.x
            flags = self.hand.see(self.stamp_ns, points, source or self.side)
            answer = flags, self.hand.move(self.q, dt_ns * 1e-9)
            speed = np.abs(self.x - last) / (dt_ns * 1e-9)
            self.fastest = max(self.fastest, float((speed / self.model.velocity).max()))
        return answer

    def tips_apart(self, tip: str) -> float:
        """Distance of the surfaces of the thumb's tip and another one [m]."""
        points, i = self.model.place(self.x), self.model.mapping.pinch.index(tip)
        return float(np.linalg.norm(points[self.model.fingers[i]] - points[self.model.thumb]) - self.model.touch[i])


def vectors_by_walk(follower: Follower, q: np.ndarray) -> np.ndarray:
    """The robot's vectors in the axes of its hand, (n, 3) [m], by a walk over the URDF that knows no pinocchio."""
    model, robot = follower.model, follower.robot
    joints = {
        name: q[robot.model.joints[robot.model.getJointId(name)].idx_q]
        for name in list(robot.model.names)[1:]
    }  # fmt: skip
    links = walk(robot.urdf, joints, np.eye(4))

    def at(name: str) -> np.ndarray:
        point = model.mapping.points[name]
        T = links[point.frame]
        return T[:3, :3] @ np.array(point.at) + T[:3, 3]

    R = _axes([at(name) for name in model.mapping.palm], follower.side)
    return np.array([(at(vector.end) - at(vector.start)) @ R for vector in model.mapping.vectors])


def as_person(follower: Follower, q: np.ndarray) -> np.ndarray:
    """A person's hand, (21, 3) [m], whose vectors are the robot's in posture `q`, scaled back to a person's size.

    Vectors that start at a finger's base are laid on from the base of a grown person's; each finger is as long as
    theirs, bent at one place in its middle.
    """
    hand = made_up_hand(np.full(4, 0.3), side=follower.side)
    hand *= PALM_M / np.linalg.norm(hand[HAND_POINTS.index("middle0")])
    # The axes of the person's palm, by the same three points as the robot's.
    R = _axes([hand[HAND_POINTS.index(name)] for name in follower.model.mapping.palm], follower.side)
    found = zip(follower.model.mapping.vectors, vectors_by_walk(follower, q), strict=True)
    wanted = {
        HAND_POINTS.index(vector.end): hand[HAND_POINTS.index(vector.start)] + R @ one / vector.scale
        for vector, one in found
    }
    for tip in [row for row in wanted if HAND_POINTS[row].endswith("3")]:
        end = wanted[tip]
        base = 0.5 * end if tip == THUMB else hand[tip - 3]  # nothing asks for the thumb's base
        last = wanted.get(tip - 1, end)
        half, bone_m = (last - base) / 2, (FINGERS_M[(tip - 1) // 4] - np.linalg.norm(end - last)) / 2
        aside = np.cross(half, (0.3, 0.5, 0.7))
        aside *= np.sqrt(bone_m**2 - half @ half) / np.linalg.norm(aside)
        hand[tip - 3 : tip + 1] = base, base + half + aside, last, end
    return hand


def _axes(palm: list[np.ndarray], side: str) -> np.ndarray:
    """x out of the palm, z to the middle of the knuckles, from wrist, index and far knuckle."""
    wrist, index, far = palm
    z = (index + far) / 2 - wrist
    x = np.cross(index - far, z) * (1 if side == "right" else -1)
    return np.stack([v / np.linalg.norm(v) for v in (x, np.cross(z, x), z)], axis=1)
