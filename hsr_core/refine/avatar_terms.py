"""The part of the objective that depends on the avatar alone: what its binding asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from . import losses
from .avatar import Avatar, FreeAvatar, MeshAvatar
from .losses import LossSettings
from .neighbours import PointIndex

REFRESH_EVERY = 20
"""Steps between two searches for neighbours."""

AROUND = 3
"""Neighbours of a Gaussian whose attributes may be held together (GART)."""


class AvatarTerms:
    """CAMEL and the other terms in canonical space; nearest neighbours are searched every 20 calls.

    Attributes:
        nearest: (U,) the Gaussian nearest to each of the vertices that `avatar.asked` names, or None for a binding that
            does not ask.
        around: (N, 3) the Gaussians around each Gaussian, or None without weight.
        uncovered_steps: (V,) for how many steps a vertex has had no Gaussian within delta.
    """

    def __init__(self, avatar: Avatar, weights: LossSettings, refresh_every: int = REFRESH_EVERY) -> None:
        self.avatar, self.weights, self.refresh_every = avatar, weights, refresh_every
        self.nearest: Tensor | None = None
        self.around: Tensor | None = None
        self.uncovered_steps = torch.zeros_like(avatar.canonical.vertices[:, 0])
        self._age = refresh_every

    def refresh(self) -> None:
        """Search again at once; call it after Gaussians were added, pruned or rebound."""
        self._age = 0
        self.avatar.reanchor()
        if not isinstance(self.avatar, FreeAvatar):
            return
        index = PointIndex(self.avatar.means)
        if self.weights.spread:
            self.around = index.nearest(self.avatar.means, k=AROUND + 1)[1][:, 1:]
        if self.avatar.binding.camel:
            asked = self.avatar.asked
            distance, self.nearest = index.nearest(self.avatar.canonical.vertices[asked])
            waited = self.uncovered_steps[asked] + self.refresh_every
            self.uncovered_steps[asked] = torch.where(distance > self.weights.delta_m, waited, 0)

    def __call__(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the terms that the binding has, and each term without its weight."""
        if self._age >= self.refresh_every:
            self.refresh()
        self._age += 1
        if isinstance(self.avatar, MeshAvatar):
            return self._on_faces(self.avatar)
        assert isinstance(self.avatar, FreeAvatar)
        return self._free(self.avatar)

    def _on_faces(self, avatar: MeshAvatar) -> tuple[Tensor, dict[str, Tensor]]:
        w = self.weights
        parts = {
            "edge": losses.edge_smoothness(avatar.normal_offsets, avatar.edges),
            "scale": losses.wide_scales(avatar.plane_log_scales),
        }
        return w.edge * parts["edge"] + w.scale * parts["scale"], parts

    def _free(self, avatar: FreeAvatar) -> tuple[Tensor, dict[str, Tensor]]:
        w = self.weights
        parts = {"scale": losses.wide_scales(avatar.log_scales)}
        total = w.scale * parts["scale"]
        if self.around is not None:
            values = (avatar.quats_wxyz, avatar.log_scales, avatar.opacity_logits[:, None], avatar.sh.flatten(1))
            parts["spread"] = sum(losses.neighbour_spread(value, self.around) for value in values)
            total = total + w.spread * parts["spread"]
        if hasattr(avatar, "weight_offsets"):
            parts["lsw_norm"] = losses.learnt_weights_size(avatar.weight_offsets)
            total = total + w.lsw_norm * parts["lsw_norm"]
        if avatar.binding.camel:
            assert self.nearest is not None
            body, normals = avatar.canonical, avatar.anchor_normals
            parts |= {
                "p2m": losses.point_to_mesh(avatar.means, avatar.anchor_vertices, normals, w.delta_m),
                "cov": losses.coverage(
                    body.vertices[avatar.asked], avatar.means.index_select(0, self.nearest), w.delta_m
                ),
                "flat": losses.flatness(avatar.log_scales, w.tau, hinge=w.flat_hinge),
                "surf": losses.surface_alignment(avatar.rotations(), avatar.log_scales, normals),
            }
            parts["camel"] = losses.camel(parts["p2m"], parts["cov"], parts["flat"], parts["surf"], w)
            total = total + w.camel * parts["camel"]
        return total, parts
