"""From a camera's frame to people in metres in one graph: crops, network, placing, body.

The arithmetic of `crop.cut_rgb`, `camera` and `EhmLayer`, without a way back to the host in between.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...body.base import EhmParams
from ...body.ehm_layer import EhmLayer
from ...body.joints import N_JOINTS
from ...geometry.camera import undistort_points, unproject
from ...runtime.base import Batch, NetworkSpec, TensorSpec
from ...types import Array, Camera, Frame
from .camera import CENTER_PX, FOCAL_PX, HEAD_SCALE_LIMITS, N_FITTED
from .decode import Decoded
from .network import IMAGE_PX
from .parameters_graph import OUTPUTS, ParametersGraph

MAX_FRAME_BYTES = 1920 * 1080 * 3
"""Room for the frame; a larger one has to be shrunk."""
GRID = 65
"""Nodes of the lens grid along each side of the image."""
FARTHEST_FIT_M = 1e4
"""Above this the joints do not tell the distance; the pelvis alone does."""


People = NamedTuple("People", [(name, Tensor) for name in (*Decoded._fields, "transl", "uv", "joints", "vertices")])
"""What the graph says of a batch of crops: the fields of `Decoded` and where the people are.

`rotmats[:, 0]` turns the person into the real camera's axes, not the virtual one's.

Attributes:
    transl: (B, 3) [m]. uv: (B, 55, 2) full-image pixels of the joints as the network sees them, with distortion.
    joints: (B, 55, 3). vertices: (B, V, 3) [m], camera frame.
"""


class PeopleGraph(nn.Module):
    """A frame, and where to look in it, to people in metres.

    Args:
        parameters: The network.
        layer: The body; of a copy, since the graph is moved to a device.
        given_shape: The body's coefficients are not the network's: two more inputs give those of body and head.
    """

    def __init__(self, parameters: ParametersGraph, layer: EhmLayer, *, given_shape: bool) -> None:
        super().__init__()
        self.parameters_graph = parameters
        self.layer = layer
        self.given_shape = given_shape
        v, u = torch.meshgrid(torch.arange(float(IMAGE_PX)), torch.arange(float(IMAGE_PX)), indexing="ij")
        self.register_buffer("pixels", torch.stack([u, v], -1).flatten(0, 1)[None])
        around = torch.arange(-1, 3, dtype=torch.int32)
        self.register_buffer("neighbours", (around[:, None] * GRID + around).flatten())

    def forward(
        self,
        frame: Tensor,
        layout: Tensor,
        A_img_crop: Tensor,
        rays: Tensor,
        focal: Tensor,
        ray_rotation: Tensor,
        own_betas: Tensor | None = None,
        own_head_betas: Tensor | None = None,
    ) -> People:
        """Regress, place and pose.

        Args:
            frame: uint8 (N,), rows of pixels; at least as many bytes as `layout` says.
            layout: int32 (6,) height, width, bytes per pixel, places of red, green and blue in a pixel.
            A_img_crop: (B, 2, 3) crop to image pixels, integer centres.
            rays: (GRID, GRID, 2) from `lens_grid`. focal: (2,) fx, fy [px].
            ray_rotation: (1,) 1 = turn the person by the viewing ray, 0 = do not.
            own_betas, own_head_betas: (n,) of the body and of its head, for everybody, if the shape is given.
        """
        crops = cut_frame(frame, layout, _affine(A_img_crop, self.pixels)).unflatten(1, (IMAGE_PX, IMAGE_PX))
        out = self.parameters_graph(crops)
        params = self._params(out, own_betas, own_head_betas)
        body = self.layer(params, rotmats=out.rotmats)
        pelvis = body.joints[:, :1]
        t_virtual, uv_crop = _virtual(out.camera, body.joints)
        uv = _affine(A_img_crop, uv_crop)
        straight = self._rays_at(uv[:, :N_FITTED], rays, layout, focal)
        R_ray = _ray_rotation(straight[:, 0] * ray_rotation)

        def turned(points: Tensor) -> Tensor:
            return (points - pelvis) @ R_ray.transpose(1, 2) + pelvis

        joints = turned(body.joints)
        distance = focal[0] * (pelvis[:, 0, 2] + t_virtual[:, 2]) / (A_img_crop[:, 0, 0] * FOCAL_PX)
        transl = _translation(joints[:, :N_FITTED], straight, focal, distance)
        shift = transl[:, None]
        root = R_ray @ out.rotmats[:, 0]
        return People(
            *out._replace(rotmats=torch.cat([root[:, None], out.rotmats[:, 1:]], 1)),
            transl=transl,
            uv=uv,
            joints=joints + shift,
            vertices=turned(body.vertices) + shift,
        )

    def _rays_at(self, uv: Tensor, rays: Tensor, layout: Tensor, focal: Tensor) -> Tensor:
        """Return rays (B, n, 2) of image pixels (B, n, 2): cubic between nodes, as without distortion off the image."""
        last = (layout[:2].flip(0) - 1).to(uv.dtype)
        within = torch.minimum(uv.clamp(min=0), last)
        steps = within * (GRID - 1) / last
        corner = steps.floor().clamp(1, GRID - 3)
        weight_u, weight_v = _lagrange(steps - corner).unbind(-2)  # (B, n, 4) each
        column, row = corner.to(torch.int32).unbind(-1)
        index = (row * GRID + column)[..., None] + self.neighbours
        nodes = rays.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)
        weights = (weight_v[..., :, None] * weight_u[..., None, :]).flatten(-2)
        return (weights[..., None] * nodes).sum(-2) + (uv - within) / focal

    def _params(self, out: Decoded, betas: Tensor | None, head_betas: Tensor | None) -> EhmParams:
        layer, batch = self.layer, out.rotmats.shape[0]
        none = out.rotmats.new_zeros
        low, high = HEAD_SCALE_LIMITS
        usable = (out.head_scale > low) & (out.head_scale < high)
        shape = {
            "betas": out.betas[:, : layer.n_betas],
            "expression": out.expression[:, : layer.n_expression],
            "head_betas": out.head_betas[:, : layer.n_head_betas],
            "head_expression": out.head_expression[:, : layer.n_head_expression],
            "head_scale": torch.where(usable, out.head_scale, torch.ones_like(out.head_scale)),
        }
        if self.given_shape:
            shape = {
                "betas": betas.expand(batch, -1),
                "expression": none((batch, layer.n_expression)),
                "head_betas": head_betas.expand(batch, -1),
                "head_expression": none((batch, layer.n_head_expression)),
                "head_scale": torch.ones_like(out.head_scale),
            }
        return EhmParams(
            **shape,
            global_orient=none((batch, 3)),
            transl=none((batch, 3)),
            body_pose=none((batch, 21, 3)),
            left_hand_pose=none((batch, 15, 3)),
            right_hand_pose=none((batch, 15, 3)),
            jaw_pose=out.jaw_pose,
            leye_pose=out.eye_pose[:, 0],
            reye_pose=out.eye_pose[:, 1],
            eyelids=out.eyelids.clamp(0, 1),
        )


def people_spec(layer: EhmLayer, *, given_shape: bool, max_people: int = 1) -> NetworkSpec:
    """Return the graph's tensors for up to `max_people` crops of one frame."""
    shape = (TensorSpec("own_betas", (layer.n_betas,)), TensorSpec("own_head_betas", (layer.n_head_betas,)))
    return NetworkSpec(
        inputs=(
            TensorSpec("frame", (MAX_FRAME_BYTES,), "uint8", prefix=True),
            TensorSpec("layout", (6,), "int32"),
            TensorSpec("A_img_crop", (None, 2, 3)),
            TensorSpec("rays", (GRID, GRID, 2)),
            TensorSpec("focal", (2,)),
            TensorSpec("ray_rotation", (1,)),
            *(shape if given_shape else ()),
        ),
        outputs=(
            *OUTPUTS,
            TensorSpec("transl", (None, 3)),
            TensorSpec("uv", (None, N_JOINTS, 2)),
            TensorSpec("joints", (None, N_JOINTS, 3)),
            TensorSpec("vertices", (None, layer.n_vertices, 3)),
        ),
        batch=Batch(1, 1, max_people),
        half_modules=("parameters_graph.network.backbone",),
    )


def cut_frame(frame: Tensor, layout: Tensor, uv: Tensor) -> Tensor:
    """Return bilinear samples (B, P, 3) RGB, 0..255, black outside the image.

    Args:
        frame: (N,). layout: int32 (6,): see `PeopleGraph.forward`.
        uv: (B, P, 2) image pixels, integer centres.
    """
    height, width, stride = layout[0], layout[1], layout[2]
    corner = uv.floor()
    fraction = uv - corner
    u, v = corner.to(torch.int32).unbind(-1)
    out = 0.0
    for du, dv in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = u + du, v + dv
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        weight = (fraction[..., 0] if du else 1 - fraction[..., 0]) * (fraction[..., 1] if dv else 1 - fraction[..., 1])
        first = torch.where(inside, (y * width + x) * stride, torch.zeros_like(x))
        index = first[..., None] + layout[3:]
        values = frame.index_select(0, index.flatten()).unflatten(0, index.shape).float()
        out = out + torch.where(inside, weight, torch.zeros_like(weight))[..., None] * values
    return out


def people_inputs(
    frame: Frame, camera: Camera, A_img_crop: Array, rays: Array, *, ray_rotation: bool = True
) -> dict[str, NDArray[Any]]:
    """Return the graph's inputs, but for the shape. The frame is not copied where its rows are contiguous.

    Args:
        frame: Of at most MAX_FRAME_BYTES.
        camera: Of the frame.
        A_img_crop: (B, 2, 3) crop to image pixels.
        rays: `lens_grid` of the camera.
        ray_rotation: Turn people by the viewing ray.
    """
    image = np.ascontiguousarray(frame.image)
    stride = 1 if image.ndim == 2 else image.shape[2]
    order = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "mono": (0, 0, 0)}[frame.order]
    return {
        "frame": image.reshape(-1),
        "layout": np.array([*frame.image_hw, stride, *order], np.int32),
        "A_img_crop": np.float32(A_img_crop),
        "rays": rays,
        "focal": np.array([camera.K[0, 0], camera.K[1, 1]], np.float32),
        "ray_rotation": np.array([ray_rotation], np.float32),
    }


def lens_grid(camera: Camera) -> Array:
    """Return the viewing rays x/z, y/z (GRID, GRID, 2), float32, of pixels spread evenly over the image.

    The corners are nodes. Between the nodes rays are interpolated by cubics: exact without distortion,
    and to a tenth of a pixel in the corners of a strong lens.
    """
    height, width = camera.image_hw
    u, v = np.meshgrid(np.linspace(0, width - 1, GRID), np.linspace(0, height - 1, GRID))
    straight = undistort_points(np.stack([u, v], -1), camera)
    return unproject(straight, np.ones((GRID, GRID)), camera.K)[..., :2].astype(np.float32)


def _affine(A: Tensor, uv: Tensor) -> Tensor:
    """Apply (B, 2, 3) to pixels (B or 1, P, 2); not as a matrix product, which TF32 would make whole pixels wrong."""
    x, y, offset = A[:, None].unbind(-1)
    return uv[..., :1] * x + uv[..., 1:] * y + offset


def _virtual(camera: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
    """Return the translation (B, 3) [m] in the virtual camera and the joints' crop pixels (B, 55, 2)."""
    depth = FOCAL_PX / (CENTER_PX * (camera[:, 2:] + 1e-9))
    t_virtual = torch.cat([-camera[:, :2], depth], 1)
    placed = joints + t_virtual[:, None]
    return t_virtual, CENTER_PX + FOCAL_PX * placed[..., :2] / placed[..., 2:]


def _lagrange(x: Tensor) -> Tensor:
    """Return the weights (..., 4) of the nodes -1, 0, 1, 2 for a cubic's value at x (...)."""
    a, b, c = x + 1, x - 1, x - 2
    return torch.stack([-x * b * c / 6, a * b * c / 2, -a * x * c / 2, a * x * b / 6], -1)


def _ray_rotation(ray: Tensor) -> Tensor:
    """Return the smallest rotations (B, 3, 3) from the optical axis to rays (B, 2) x/z, y/z."""
    z = (1 + ray.square().sum(1)).rsqrt()
    x, y = (ray * z[:, None]).unbind(1)
    k = 1 / (1 + z)
    rows = [1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z]
    return torch.stack(rows, 1).unflatten(1, (3, 3))


def _translation(points: Tensor, rays: Tensor, focal: Tensor, distance: Tensor) -> Tensor:
    """Return the translations (B, 3) [m] that best bring points (B, n, 3) onto rays (B, n, 2).

    The least squares of `fit_translation` with the lateral unknowns eliminated, which float32 can bear. Where a point
    would come to lie behind the camera, the pelvis (the first) at `distance` (B,) [m] on its ray decides.
    """
    target = rays * points[..., 2:] - points[..., :2]
    mean_target, mean_ray = target.mean(1, keepdim=True), rays.mean(1, keepdim=True)
    spread = rays - mean_ray
    weight = focal.square()
    z = -(weight * spread * (target - mean_target)).sum((1, 2)) / (weight * spread * spread).sum((1, 2))
    fitted = torch.cat([mean_target[:, 0] + mean_ray[:, 0] * z[:, None], z[:, None]], 1)
    pelvis = points[:, 0]
    by_pelvis = torch.cat([rays[:, 0], torch.ones_like(rays[:, 0, :1])], 1) * distance[:, None] - pelvis
    usable = ((points[..., 2] + z[:, None]).amin(1) > 0) & (z < FARTHEST_FIT_M)
    return torch.where(usable[:, None], fitted, by_pelvis)
