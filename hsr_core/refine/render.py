"""Pictures of Gaussians, with gradients: one call, three backends that draw the same."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError, InvalidIntrinsics, MissingPackage, ShapeError
from .scene import PosedGaussians, Rendered

BACKENDS = ("auto", "gsplat", "cpu", "torch")


def render(
    gaussians: PosedGaussians,
    K: Tensor,
    image_hw: tuple[int, int],
    background: Tensor | None = None,
    *,
    backend: str = "auto",
    near: float = 0.01,
    max_weight: bool = True,
) -> Rendered:
    """Render B poses of a set of Gaussians, differentiably in means, covariances, opacities and colours.

    The model is gsplat's: projection linearised at each centre, 0.3 px^2 added to the screen's covariance,
    alpha = min(0.999, opacity exp(-q / 2)) and nothing below 1/255, composited in order of the centres' z until 1e-4 of
    the light is left. A Gaussian with a NaN or infinity in any value is not drawn and gets zero gradient from here;
    upstream, zero times that value is NaN again, so a guard that looks for non-finite gradients still sees it.

    Args:
        gaussians: In the camera frame, float32 (any float type for "torch").
        K: Intrinsics, **pixel centres at +0.5**: messages count them at integers, so add half a pixel to cx and cy. No
            gradient. Shape (B, 3, 3), [px].
        image_hw: Height and width [px].
        background: Colour behind everything, no gradient; None: black. Shape (B, 3).
        backend: "gsplat" (CUDA), "cpu" (numba, all of torch's threads), "torch" (slow reference, any device), or
            "auto": gsplat for tensors on CUDA, else cpu.
        near: Gaussians whose centre is nearer are not drawn [m].
        max_weight: Whether `Rendered.max_weight` is wanted. Costs nothing on the CPU, where it is always there; with
            gsplat it needs a list of all pairs of pixel and Gaussian and waits for the GPU.

    Returns:
        Pictures, and what densification and visibility tests need.

    Raises:
        ShapeError: A shape, type or device does not fit; the message gives what was expected.
        InvalidIntrinsics: A focal length is not positive (only tensors on the CPU are looked at: no wait for a GPU).
        ConfigError: Unknown backend, or one that cannot work on these tensors' device.
        MissingPackage: The backend's package is not installed; the message says what to do.

    Source:
        Kerbl et al. 2023, "3D Gaussian Splatting", eq. 2 to 5; Ye et al. 2024, arXiv:2312.02121. Depth: expected z.
    """
    background = gaussians.colors.new_zeros(len(K), 3) if background is None else background
    _check(gaussians, K, image_hw, background, near)
    name = _choose(backend, gaussians.means)
    if name == "torch" or gaussians.means.shape[1] == 0:
        from .render_torch import render_torch

        return render_torch(gaussians, K, image_hw, background, near=near)
    if gaussians.means.dtype != torch.float32:
        raise ShapeError(f'backend "{name}" renders float32, not {gaussians.means.dtype}; backend="torch" takes any')
    if name == "gsplat":
        from .render_gsplat import render_gsplat

        return render_gsplat(gaussians, K, image_hw, background, near=near, max_weight=max_weight)
    try:
        from .render_cpu import render_cpu
    except ImportError as error:
        raise MissingPackage(f'the CPU renderer cannot start: {error}; pip install "numba>=0.60"') from error
    return render_cpu(gaussians, K, image_hw, background, near=near)


def _choose(backend: str, means: Tensor) -> str:
    if backend not in BACKENDS:
        raise ConfigError(f"renderer {backend!r} is unknown; there are {', '.join(BACKENDS)}")
    kind = means.device.type
    if backend == "auto":
        backend = {"cuda": "gsplat", "cpu": "cpu"}.get(kind, "torch")
    needed = {"gsplat": "cuda", "cpu": "cpu"}.get(backend, kind)
    if kind != needed:
        raise ConfigError(f'renderer "{backend}" needs tensors on {needed}, these are on {kind}')
    return backend


def _check(gaussians: PosedGaussians, K: Tensor, image_hw: tuple[int, int], background: Tensor, near: float) -> None:
    if gaussians.means.ndim != 3 or len(gaussians.means) == 0:
        raise ShapeError(f"means must have shape (B, N, 3), B at least 1, not {tuple(gaussians.means.shape)}")
    batch, count = gaussians.means.shape[:2]
    named = {
        "means": (gaussians.means, (batch, count, 3)),
        "covariances": (gaussians.covariances, (batch, count, 3, 3)),
        "opacities": (gaussians.opacities, (batch, count)),
        "colors": (gaussians.colors, (batch, count, 3)),
        "K": (K, (batch, 3, 3)),
        "background": (background, (batch, 3)),
    }
    means = gaussians.means
    for name, (tensor, shape) in named.items():
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}")
        if tensor.dtype != means.dtype or tensor.device != means.device:
            raise ShapeError(
                f"{name} must be {means.dtype} on {means.device} like the means, not {tensor.dtype} on {tensor.device}"
            )
    height, width = image_hw
    if not (isinstance(height, int) and isinstance(width, int) and height >= 1 and width >= 1):
        raise ShapeError(f"image_hw must be two positive integers, height and width, not {image_hw}")
    if not near > 0:
        raise ConfigError(f"near must be positive, not {near}")
    if K.device.type == "cpu" and not bool((K.detach()[:, [0, 1], [0, 1]] > 0).all()):
        raise InvalidIntrinsics(f"focal lengths must be positive: K = {K.detach().tolist()}")
