"""The open body's face: expression components, and the head part that plays FLAME's role."""

from __future__ import annotations

import numpy as np

from ..types import Array
from .anny_seam import above, neck_loop, rings
from .anny_source import AnnySource
from .joints import J

N_EXPRESSION = 10
JAW_FADE_RINGS = 4
LID_INNER_M, LID_OUTER_M = 0.022, 0.034
"""Distance from the eye's centre up to which the lids move in full, and from which on nothing moves."""

_NOT_EXPRESSION = ("jaw", "eyeBlink", "eyeLook", "mouthClose", "tongueOut")
"""Facial actions left to the jaw joint, the eyelids and the eye joints (mouthClose presumes an open jaw)."""


def expression_space(actions: Array, names: list[str], on_head: Array) -> tuple[Array, Array]:
    """Find ten expression components over the facial actions, with unit-variance coefficients.

    Principal components for actions of standard deviation 0.25 whose left and right halves go together (correlation
    0.7). Opening the jaw, blinking and gaze are left out: the jaw joint, the lids and the eye joints do them.

    Args:
        actions: (A, V, 3) [m]. on_head: (V,) share of each vertex that may move (1 on the head, 0 elsewhere).

    Returns:
        expression directions (V, 3, 10) [m], and the matrix (10, A) from action strengths to coefficients.
    """
    used = [i for i, name in enumerate(names) if not name.startswith(_NOT_EXPRESSION)]
    moves = (actions[used] * on_head[:, None]).reshape(len(used), -1)
    covariance = 0.25**2 * np.eye(len(used))
    partner = {name: i for i, name in enumerate(names[u] for u in used)}
    for name, i in partner.items():
        other = name.replace("Left", "Right")
        if other != name and other in partner:
            covariance[i, partner[other]] = covariance[partner[other], i] = 0.7 * 0.25**2
    root = np.linalg.cholesky(covariance)
    _, size, rows = np.linalg.svd(root.T @ moves, full_matrices=False)
    unit = rows[:N_EXPRESSION] * signs(rows[:N_EXPRESSION])
    size = size[:N_EXPRESSION, None]
    from_actions = np.zeros((N_EXPRESSION, len(names)))
    from_actions[:, used] = unit @ moves.T / size
    return (unit * size).T.reshape(-1, 3, N_EXPRESSION), from_actions


def eyelids(source: AnnySource, template: Array, weights: Array) -> Array:
    """Return the displacement of the closed left and right lid (2, V, 3) [m].

    Anny's blink is a wink that pulls at the cheek, the nose and the other eye: only what lies round the eye is kept.
    """
    out = []
    for side in ("Left", "Right"):
        blink = source.actions[source.action_names.index(f"eyeBlink{side}")]
        eyeball = weights[:, J[f"{side.lower()}_eye_smplhf"]] > 0.5
        distance = np.linalg.norm(template - template[eyeball].mean(axis=0), axis=1)
        near = np.clip((LID_OUTER_M - distance) / (LID_OUTER_M - LID_INNER_M), 0, 1)
        out.append(blink * (near * near * (3 - 2 * near))[:, None])
    return np.stack(out)


def signs(components: Array) -> Array:
    """Return +-1 per row (n, 1): what makes its largest entry positive. A decomposition leaves the sign open."""
    pivot = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return np.where(pivot < 0, -1.0, 1.0)


def head_region(source: AnnySource, template: Array, joints: Array, weights: Array) -> Array:
    """Return the skin that the head part replaces: all above the neck, eyes and tongue. (V,) bool."""
    bones = [source.bone(f"neck0{i}") for i in (1, 2, 3)]
    on_neck = source.bone_weights[:, bones].sum(axis=1) > 0.5
    axis_z = joints[[J["neck"], J["head"]], 2].mean()
    nape = np.flatnonzero(on_neck & (np.abs(template[:, 0]) < 1e-4) & (template[:, 2] < axis_z))
    loop = neck_loop(source.faces, template, axis_z, nape, weights[:, J["jaw"]])
    inside = above(source.faces, loop, int(template[:, 1].argmax()))
    apart = weights[:, [J["jaw"], J["left_eye_smplhf"], J["right_eye_smplhf"], J["head"]]].sum(axis=1) > 0.999
    return inside | (apart & ~above(source.faces, loop, int(template[:, 1].argmin())))


def fade_jaw(weights: Array, faces: Array, replaced: Array) -> Array:
    """Let the jaw's weight fade to nothing over the last rings above the seam: below it nothing follows the jaw."""
    inside = ~replaced
    keep = np.ones(len(weights))
    for step in range(JAW_FADE_RINGS):
        grown = rings(faces, inside)
        keep[inside if step == 0 else grown & ~inside] = step / JAW_FADE_RINGS
        inside = grown if step else inside
    out = weights.copy()
    out[:, J["head"]] += out[:, J["jaw"]] * (1 - keep)
    out[:, J["jaw"]] *= keep
    return out


def cut_head(
    faces: Array,
    template: Array,
    shapedirs: Array,
    expression: Array,
    lids: Array,
    weights: Array,
    regressor: Array,
    replaced: Array,
) -> dict[str, Array]:
    """Cut out the part that plays FLAME's role.

    Its shape components are the body's, restricted to the head and measured from the middle of the neck's rim, so
    that equal betas give the same head and `head_scale` grows the head from the neck.

    Args:
        lids: (2, V, 3) displacement of the closed left and right lids [m].
        replaced: (V,) bool from `head_region`.

    Returns:
        The arrays of the head file; N vertices of which `neck` and `boundary` keep the body's places.
    """
    inside = rings(faces, replaced, 3)
    ids = np.flatnonzero(inside)
    outside_ring = rings(faces, ~inside)[ids]
    neck = ~replaced[ids]
    rim = neck & rings(faces, replaced)[ids]  # the neck's skin next to the head
    origin = template[ids][rim].mean(axis=0)
    drift = shapedirs[ids][rim].mean(axis=0)
    joints = [J["pelvis"], J["neck"], J["jaw"], J["left_eye_smplhf"], J["right_eye_smplhf"]]
    local = np.zeros((len(ids), 5))
    local[:, 2:] = weights[ids][:, joints[2:]]
    local[:, 1] = 1.0 - local.sum(axis=1)
    head_regressor = np.zeros((5, len(ids)))
    head_regressor[:2, rim] = 1.0 / rim.sum()  # root and neck do not turn: any place will do
    head_regressor[2:] = regressor[joints[2:]][:, ids]
    return {
        "vertex_ids": ids.astype(np.int64),
        "v_template": template[ids] - origin,
        "shapedirs": np.concatenate([shapedirs[ids] - drift, expression[ids]], axis=2),
        "posedirs": np.zeros((len(ids), 3, 0)),
        "J_regressor": head_regressor,
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": local,
        "neck": np.flatnonzero(neck).astype(np.int64),
        "boundary": np.flatnonzero(outside_ring).astype(np.int64),
        "l_eyelid": lids[0, ids],
        "r_eyelid": lids[1, ids],
    }
