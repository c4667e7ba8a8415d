"""A person as Gaussians in the body's canonical space, moved by the body's skinning.

avatar = build_avatar(CanonicalBody.from_body(body, params), AvatarSettings())
gaussians = avatar.pose_person(params)

Source:
    HumanSplatHMR (arXiv 2605.02784), eq. (3)-(5); 3D Gaussian splatting (Kerbl et al. 2023) for the parameters.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import roma
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..config import setting
from ..errors import ConfigError, ShapeError
from ..types import HumanParams
from . import avatar_init as start
from .binding import BINDINGS, Binding, Weights, binding_by_name
from .neighbours import PointIndex
from .scene import PosedGaussians
from .sh import MAX_DEGREE, rgb_to_sh0, sh_to_rgb
from .skin import CanonicalBody, local_rotmats, transform_rows

SCALE_M = (0.5e-3, 50e-3)
"""Least and greatest standard deviation of a Gaussian, kept by `clamp_`."""

HYSTERESIS_M = 3e-3
"""A Gaussian changes its anchor only for a vertex that is nearer by more than this: else its skinning jumps."""

THICKNESS_M = 1e-3
"""Across the face, of a Gaussian on a face (iHuman)."""

FACE_FILL = 1.2
"""In-plane scale of a Gaussian on a face, over the radius of the disc of its area."""


@dataclass(frozen=True)
class AvatarSettings:
    binding: str = setting("camel", "How Gaussians are bound to the body", choices=tuple(BINDINGS))
    start: int = setting(7000, "Gaussians at the start; fewer where the body has fewer vertices", low=1, high=1_000_000)
    sh_degree: int = setting(0, "Degree of the spherical harmonics of colour", low=0, high=MAX_DEGREE)
    opacity_init: float = setting(0.9, "Opacity at the start", low=0.01, high=0.99)
    tau: float = setting(3.0, "Tangential over normal scale, eq. (9)", low=1, high=100)


class Avatar(nn.Module):
    """Gaussians of one person: what the bindings share. Made by `build_avatar`.

    Parameters (raw, as in Gaussian splatting files):
        opacity_logits: (N,). sh0: (N, 1, 3). shN: (N, 3 or 0, 3), in the Gaussian's own frame.

    Attributes:
        canonical: The body. binding: How it is bound.
    """

    def __init__(self, canonical: CanonicalBody, binding: Binding, sh_degree: int, colors: Tensor, opacity: float):
        super().__init__()
        if sh_degree not in range(MAX_DEGREE + 1):
            raise ConfigError(f"sh_degree must be 0..{MAX_DEGREE}, not {sh_degree}")
        n = len(colors)
        self.canonical, self.binding = canonical, binding
        self.opacity_logits = nn.Parameter(torch.full((n,), math.log(opacity / (1 - opacity))).to(colors))
        self.sh0 = nn.Parameter(rgb_to_sh0(colors)[:, None].clone())
        self.shN = nn.Parameter(colors.new_zeros(n, (sh_degree + 1) ** 2 - 1, 3))

    @property
    def n_gaussians(self) -> int:
        return self.opacity_logits.shape[0]

    @property
    def sh_degree(self) -> int:
        return math.isqrt(self.shN.shape[1])

    @property
    def sh(self) -> Tensor:
        """All coefficients, (N, K, 3)."""
        return torch.cat([self.sh0, self.shN], dim=1)

    def raise_sh_degree(self) -> None:
        """Go from degree 0 to 1, starting at zero. The parameter `shN` is a new one."""
        if self.sh_degree == 0:
            self.shN = nn.Parameter(self.sh0.new_zeros(self.n_gaussians, 3, 3))

    def pose(self, rotmats: Tensor, transl: Tensor) -> PosedGaussians:
        """Place the Gaussians in the camera frame.

        Args:
            rotmats: Rotations of all joints relative to their parents, root first. Shape (B, J, 3, 3).
            transl: Added after blending, [m]. Shape (B, 3).

        Raises:
            ShapeError: Wrong shapes.
        """
        n_joints = self.canonical.joints.shape[0]
        if rotmats.shape[1:] != (n_joints, 3, 3) or transl.shape != (len(rotmats), 3):
            raise ShapeError(
                f"pose takes rotmats (B, {n_joints}, 3, 3) and transl (B, 3), not {tuple(rotmats.shape)} and "
                f"{tuple(transl.shape)}"
            )
        means, frames, scales = self._placed(rotmats)
        means = means + transl[:, None]
        half = frames * scales[..., None, :]
        batch = len(rotmats)
        directions = None
        if self.shN.shape[1]:
            directions = normalize((normalize(means, dim=-1)[..., None, :] @ frames)[..., 0, :], dim=-1)
        colors = sh_to_rgb(self.sh0, self.shN, directions)
        return PosedGaussians(
            means=means,
            covariances=half @ half.transpose(-1, -2),
            opacities=self.opacity_logits.sigmoid().expand(batch, -1),
            colors=colors.expand(batch, -1, -1),
        )

    def pose_person(self, person: HumanParams) -> PosedGaussians:
        """Place the Gaussians as one person, B = 1."""
        device = self.opacity_logits.device
        transl = torch.as_tensor(person.transl, device=device)
        return self.pose(local_rotmats(person)[None].to(device), transl[None])

    def _placed(self, rotmats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means (B, N, 3) without translation, frames L (B, N, 3, 3), scales (N, 3) or (B, N, 3) along them."""
        raise NotImplementedError

    def frames(self, rotmats: Tensor) -> Tensor:
        """Return each Gaussian's axes in the camera frame, (B, J, 3, 3) -> (B, N, 3, 3): nearly a rotation."""
        return self._placed(rotmats)[1]

    def posed_normals(self, rotmats: Tensor) -> Tensor:
        """Return the skin's unit normals at the Gaussians, without gradient, (B, J, 3, 3) -> (B, N, 3)."""
        raise NotImplementedError

    def clamp_(self) -> None:
        """Bring scales back within `SCALE_M`; call it after each step of the optimiser."""
        raise NotImplementedError


class FreeAvatar(Avatar):
    """Gaussians with free canonical centres, skinned by the weights of the nearest vertex.

    Parameters, besides those of `Avatar`:
        means: (N, 3) canonical [m]. quats_wxyz: (N, 4), normalised on use. log_scales: (N, 3) [log m].
        weight_offsets: (N, J), only for the bindings that learn weights.

    Attributes:
        anchors: (N,) nearest canonical vertex, see `reanchor`.
        anchor_vertices, anchor_normals: (N, 3), of the anchors.
        asked: (U,) the vertices that eq. (8) asks to be covered: those at which Gaussians began. A few Gaussians could
            not cover every vertex of a dense body.
    """

    anchors: Tensor
    asked: Tensor
    anchor_vertices: Tensor
    anchor_normals: Tensor

    def __init__(
        self,
        canonical: CanonicalBody,
        binding: Binding,
        *,
        means: Tensor,
        quats_wxyz: Tensor,
        log_scales: Tensor,
        colors: Tensor,
        anchors: Tensor,
        sh_degree: int = 0,
        opacity: float = 0.9,
    ) -> None:
        super().__init__(canonical, binding, sh_degree, colors, opacity)
        self.means = nn.Parameter(means)
        self.quats_wxyz = nn.Parameter(quats_wxyz)
        self.log_scales = nn.Parameter(log_scales)
        if binding.weights is not Weights.FIXED:
            self.weight_offsets = nn.Parameter(means.new_zeros(len(means), canonical.weights.shape[1]))
        self._index: PointIndex | None = None
        self.set_anchors(anchors)
        self.register_buffer("asked", anchors.unique(), persistent=False)

    def set_anchors(self, anchors: Tensor) -> None:
        """Bind Gaussians to vertices (N,) and gather what a pose needs of these.

        Raises:
            ShapeError: Not one vertex of the body for each Gaussian.
        """
        n = len(self.means)
        if anchors.shape != (n,) or (
            n and not 0 <= int(anchors.min()) <= int(anchors.max()) < self.canonical.n_vertices
        ):
            raise ShapeError(f"anchors must be {n} numbers in 0..{self.canonical.n_vertices - 1}")
        body = self.canonical
        gathered = {
            "anchors": anchors,
            "anchor_vertices": body.vertices[anchors],
            "anchor_normals": body.normals[anchors],
            "_weights": body.weights[anchors],
            "_to_rest": body.to_rest[anchors],
            "_posedirs": None if body.posedirs is None else body.posedirs[:, anchors].flatten(1),
        }
        for name, value in gathered.items():
            self.register_buffer(name, value, persistent=False)

    def reanchor(self) -> int:
        """Bind each Gaussian to the vertex nearest to it, if that is nearer than its own by 3 mm.

        Returns:
            How many changed.
        """
        index = self.vertex_index()
        distance, nearest = index.nearest(self.means)
        own = (self.means.detach() - self.anchor_vertices).norm(dim=1)
        changed = own - distance > HYSTERESIS_M
        count = int(changed.sum())
        if count:
            self.set_anchors(torch.where(changed, nearest, self.anchors))
        return count

    def vertex_index(self) -> PointIndex:
        """Return the search over the canonical vertices, made once."""
        if self._index is None or self._index.points.data_ptr() != self.canonical.vertices.data_ptr():
            self._index = PointIndex(self.canonical.vertices)
        return self._index

    @torch.no_grad()
    def rebind(self, canonical: CanonicalBody) -> None:
        """Move the Gaussians to the same person's body of another shape; anchors and moments of the optimiser stay.

        Each keeps its place relative to its anchor: carried by the vertex, turned with its normal, grown with its area.

        Raises:
            ShapeError: The two bodies have different topologies.
        """
        old = self.canonical
        if canonical.n_vertices != old.n_vertices or canonical.model_id != old.model_id:
            raise ShapeError(f"an avatar of {old.model_id} cannot move to a body of {canonical.model_id}")
        canonical = canonical.to(self.means)
        turn = normal_rotation(self.anchor_normals, canonical.normals[self.anchors])
        offset = self.means - self.anchor_vertices
        self.means.copy_(canonical.vertices[self.anchors] + (turn @ offset[..., None])[..., 0])
        self.quats_wxyz.copy_(rotmat_to_quat(turn @ self.rotations()))
        growth = canonical.areas[self.anchors] / old.areas[self.anchors]
        growth = torch.where(torch.isfinite(growth) & (growth > 0), growth, torch.ones_like(growth))
        self.log_scales += 0.5 * growth.log()[:, None]
        self.canonical, self._index = canonical, None
        self.set_anchors(self.anchors)

    def rotations(self) -> Tensor:
        """Return each Gaussian's rotation in canonical space, (N, 3, 3)."""
        return quat_to_rotmat(self.quats_wxyz)

    def skinning_weights(self) -> Tensor:
        """Return the weights in use, (N, J)."""
        if self.binding.weights is Weights.FIXED:
            return self._weights
        if self.binding.weights is Weights.ADDED:
            return self._weights + self.weight_offsets
        return ((self._weights + 1e-9).log() + self.weight_offsets).softmax(dim=1)

    def _placed(self, rotmats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        body = self.canonical
        blend = blended(self._weights, body.rest_motions(rotmats))
        rest = transform_rows(self._to_rest, self.means)
        if self._posedirs is not None:
            feature = body.pose_feature(rotmats) - body.canonical_feature
            rest = rest + (feature @ self._posedirs).unflatten(1, (-1, 3))
        means = transform_rows(blend, rest)
        rotations = self.rotations()
        frames = blend[..., :3] @ (self._to_rest[..., :3] @ rotations)
        if self.binding.weights is not Weights.FIXED:
            # Relative to the canonical pose, as eq. (5): offsets that sum to zero change nothing there.
            learnt = blended(self.skinning_weights() - self._weights, body.bones(rotmats))
            means = means + transform_rows(learnt, self.means)
            frames = frames + learnt[..., :3] @ rotations
        return means, frames, self.log_scales.exp()

    @torch.no_grad()
    def posed_normals(self, rotmats: Tensor) -> Tensor:
        blend = blended(self._weights, self.canonical.rest_motions(rotmats))[..., :3]
        at_rest = self._to_rest[..., :3] @ self.anchor_normals[..., None]
        return normalize((blend @ at_rest)[..., 0], dim=-1)

    @torch.no_grad()
    def clamp_(self) -> None:
        low, high = (math.log(limit) for limit in SCALE_M)
        self.log_scales.clamp_(low, high)


class MeshAvatar(Avatar):
    """One Gaussian on each face, moved by mesh skinning (Gaussians on mesh).

    Parameters, besides those of `Avatar`:
        normal_offsets: (V,) along the canonical normals [m]. in_plane: (F, 2) unit complex number, normalised on use.
        plane_log_scales: (F, 2) [log m].

    Source:
        GoMAvatar (Wen et al. 2024); thickness as iHuman (Paudel et al. 2024).
    """

    def __init__(
        self, canonical: CanonicalBody, binding: Binding, *, colors: Tensor, sh_degree: int = 0, opacity: float = 0.9
    ) -> None:
        super().__init__(canonical, binding, sh_degree, colors, opacity)
        faces, vertices = canonical.faces, canonical.vertices
        a, b, c = vertices[faces].unbind(1)
        radius = start.radii_of(torch.linalg.cross(b - a, c - a).norm(dim=1) / 2) * FACE_FILL
        self.normal_offsets = nn.Parameter(torch.zeros_like(vertices[:, 0]))
        self.in_plane = nn.Parameter(torch.eye(2).to(vertices)[:1].repeat(len(faces), 1))
        self.plane_log_scales = nn.Parameter(radius.log()[:, None].repeat(1, 2))
        pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
        keys = (pairs[:, 0] * len(vertices) + pairs[:, 1]).unique()  # of rows, unique is a hundred times slower
        edges = torch.stack([keys // len(vertices), keys % len(vertices)], dim=1)
        self.register_buffer("edges", edges, persistent=False)  # (E, 2)

    def reanchor(self) -> int:
        """Do nothing: a Gaussian stays on its face."""
        return 0

    def _placed(self, rotmats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        body = self.canonical
        rest = transform_rows(body.to_rest, body.vertices + self.normal_offsets[:, None] * body.normals)
        if body.posedirs is not None:
            feature = body.pose_feature(rotmats) - body.canonical_feature
            rest = rest + (feature @ body.posedirs.flatten(1)).unflatten(1, (-1, 3))
        posed = transform_rows(blended(body.weights, body.rest_motions(rotmats)), rest)
        corners = posed.index_select(1, body.faces.flatten()).unflatten(1, (-1, 3))
        a, b, c = corners.unbind(2)
        along = normalize(b - a, dim=-1)
        normal = normalize(torch.linalg.cross(b - a, c - a), dim=-1, eps=1e-20)
        across = torch.linalg.cross(normal, along)
        cos, sin = normalize(self.in_plane, dim=-1)[:, :, None].unbind(1)
        frames = torch.stack([cos * along + sin * across, cos * across - sin * along, normal], dim=-1)
        in_plane = self.plane_log_scales.exp()
        return corners.mean(dim=2), frames, torch.cat([in_plane, torch.full_like(in_plane[:, :1], THICKNESS_M)], dim=1)

    @torch.no_grad()
    def posed_normals(self, rotmats: Tensor) -> Tensor:
        return self.frames(rotmats)[..., 2]

    @torch.no_grad()
    def clamp_(self) -> None:
        low, high = (math.log(limit) for limit in SCALE_M)
        self.plane_log_scales.clamp_(low, high)


def build_avatar(
    canonical: CanonicalBody, settings: AvatarSettings, *, colors: Tensor | None = None, seed: int = 0
) -> Avatar:
    """Make a person's avatar before any optimisation: Gaussians lie on the skin, flat, as wide as their share of it.

    Args:
        canonical: The body. Where it has more than `settings.start` vertices, that many are taken, evenly spread.
        colors: (V, 3) in 0..1 of the body's vertices (`avatar_init.vertex_colors`); None: grey.
        seed: Of the rotation in the tangent plane.

    Raises:
        ConfigError: A setting is not allowed.
        ShapeError: Colours are not those of the body.
    """
    binding = binding_by_name(settings.binding)
    if colors is None:
        colors = torch.full_like(canonical.vertices, start.GREY)
    colors = torch.as_tensor(colors).to(canonical.vertices)
    if colors.shape != canonical.vertices.shape:
        raise ShapeError(
            f"colors must be {tuple(canonical.vertices.shape)}, one for each vertex, not {tuple(colors.shape)}"
        )
    common = {"sh_degree": settings.sh_degree, "opacity": settings.opacity_init}
    if binding.on_faces:
        return MeshAvatar(canonical, binding, colors=colors[canonical.faces].mean(dim=1), **common)
    chosen = start.farthest_points(canonical.vertices, settings.start).to(canonical.faces.device)
    areas = canonical.areas
    if len(chosen) < len(areas):
        areas = start.share_areas(canonical.vertices, areas, chosen)
    log_radius = start.radii_of(areas).log()
    frames = start.tangent_frames(canonical.normals[chosen], torch.Generator().manual_seed(seed))
    return FreeAvatar(
        canonical,
        binding,
        means=canonical.vertices[chosen].clone(),
        quats_wxyz=rotmat_to_quat(frames),
        log_scales=torch.stack([log_radius, log_radius, log_radius - math.log(settings.tau)], dim=1),
        colors=colors[chosen],
        anchors=chosen,
        **common,
    )


def blended(weights: Tensor, motions: Tensor) -> Tensor:
    """Blend affine maps as one matrix product: (N, J) x (B, J, 3, 4) -> (B, N, 3, 4)."""
    batch, joints = motions.shape[:2]
    columns = motions.permute(1, 0, 2, 3).reshape(joints, -1)
    return (weights @ columns).view(len(weights), batch, 3, 4).transpose(0, 1)


def quat_to_rotmat(quats_wxyz: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) of quaternions (..., 4) of any length but zero."""
    return roma.unitquat_to_rotmat(normalize(quats_wxyz, dim=-1)[..., [1, 2, 3, 0]])


def rotmat_to_quat(rotmats: Tensor) -> Tensor:
    """Return unit quaternions wxyz (..., 4)."""
    return roma.rotmat_to_unitquat(rotmats)[..., [3, 0, 1, 2]]


def normal_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Return the smallest rotations (N, 3, 3) from unit vectors to unit vectors (N, 3).

    Opposite vectors have none: there the result is the half turn that is left by rounding, or no turn at all.
    """
    axis = torch.linalg.cross(source, target)
    cos = (source * target).sum(-1, keepdim=True)
    quats = torch.cat([axis, 1 + cos], dim=-1)
    length = quats.norm(dim=-1, keepdim=True)
    still = torch.zeros_like(quats)
    still[:, 3] = 1
    return roma.unitquat_to_rotmat(torch.where(length > 1e-6, quats / length.clamp_min(1e-6), still))


def snapshot(avatar: Avatar) -> Avatar:
    """Return a copy that later steps do not touch; the body and the search over it are shared."""
    shared = (avatar.canonical, getattr(avatar, "_index", None))
    return copy.deepcopy(avatar, {id(part): part for part in shared if part is not None})
