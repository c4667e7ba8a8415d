"""The URDF of one person in REP-155's naming, with their own segment lengths.

Links, joints, axes and fixed joints are those of ros4hri's human_description, so that tools which know it find
everything; lengths are the person's, and limits are open (the angles that are published are not clipped).
"""

from __future__ import annotations

import math

from .proportions import Proportions
from .rep155 import AXES, JOINTS, SIDES
from .urdf import Capsule, Joint, urdf_text

COLORS = {"skin": (0.87, 0.62, 0.48, 1.0), "dark": (0.15, 0.15, 0.2, 1.0)}
_AXIS = dict(zip(JOINTS, AXES, strict=True))
_HALF_PI = math.pi / 2


def rep155_urdf(body: Proportions, body_id: str) -> str:
    """Return the URDF; every name ends in `_<body_id>`, the root link is `body_<body_id>` at mid-hips."""
    return urdf_text("human_" + body_id, "body_" + body_id, rep155_joints(body, body_id), COLORS)


def rep155_joints(body: Proportions, body_id: str) -> list[Joint]:
    """Return the joints of the tree, parents before children: 20 revolute ones in the order of `JOINTS`, 6 fixed."""
    end = "_" + body_id

    def joint(name: str, parent: str, child: str = "", **fields) -> Joint:
        return Joint(name + end, parent + end, (child or name) + end, axis=_AXIS.get(name), **fields)

    joints = [
        joint("waist", "body"),
        Joint("torso" + end, "waist" + end, "torso" + end, (0, 0, body.torso), shapes=_torso(body)),
        joint("r_head", "torso", xyz=(body.neck[0], 0, body.neck[1])),
        joint("y_head", "r_head"),
        joint("p_head", "y_head"),
        Joint("head" + end, "p_head" + end, "head" + end, (body.face[0], 0, body.face[1]), shapes=_skull(body)),
    ]
    for i, (letter, _, side) in enumerate(SIDES):
        y, p = f"{letter}_y_shoulder", f"{letter}_p_shoulder"
        joints += [
            joint(y, "torso", xyz=(0, side * body.shoulders[i], 0)),
            joint(p, y),
            joint(f"{letter}_r_shoulder", p, f"{letter}_shoulder", shapes=_bone(body.upperarm[i], 0.045)),
            *_lower(joint, letter, "shoulder", "elbow", "wrist", body.upperarm[i], body.forearm[i], 0.035),
        ]
    for i, (letter, _, side) in enumerate(SIDES):
        y, p = f"{letter}_y_hip", f"{letter}_p_hip"
        joints += [
            joint(y, "body", xyz=(0, side * body.hips[i], 0)),
            joint(p, y),
            joint(f"{letter}_r_hip", p, f"{letter}_hip", shapes=_bone(body.thigh[i], 0.07)),
            *_lower(joint, letter, "hip", "knee", "ankle", body.thigh[i], body.shin[i], 0.05),
        ]
    return joints


def _lower(joint, letter: str, upper: str, hinge: str, last: str, length: float, lower: float, radius: float) -> list:
    return [
        joint(f"{letter}_{hinge}", f"{letter}_{upper}", xyz=(0, 0, -length), shapes=_bone(lower, radius)),
        joint(f"{letter}_{last}", f"{letter}_{hinge}", xyz=(0, 0, -lower)),
    ]


def _bone(length: float, radius: float) -> tuple[Capsule]:
    return (Capsule((0, 0, 0), (0, 0, -length), radius),)


def _torso(body: Proportions) -> tuple[Capsule, ...]:
    left, right = body.shoulders
    return (
        Capsule((0, left, 0), (0, -right, 0), 0.045),
        Capsule((0, 0, 0), (0, 0, -body.torso), 0.09),
        Capsule((0, 0, 0), (body.neck[0], 0, body.neck[1]), 0.05),
    )


def _skull(body: Proportions) -> tuple[Capsule, ...]:
    """The head's frame is between the eyes, its x out of the face."""
    eye = 0.5 * body.eyes
    back = -body.face[0]
    return (
        Capsule((0.5 * back, 0, -0.03), (0.6 * back, 0, 0.04), 0.085),
        *(Capsule(place, place, 0.014) for place in ((0.02, eye, 0), (0.02, -eye, 0))),
    )
