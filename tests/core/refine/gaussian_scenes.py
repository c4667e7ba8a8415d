"""Random Gaussians in front of a camera, with opaque ones in front of each other."""

from __future__ import annotations

import torch

from hsr_core.refine.scene import PosedGaussians, Rendered

NAMES = ("means", "covariances", "opacities", "colors")


def camera(batch: int, image_hw: tuple[int, int], focal: float = 60.0) -> torch.Tensor:
    """Intrinsics whose principal point is off the middle and whose focal lengths differ."""
    height, width = image_hw
    K = torch.tensor([[focal, 0, 0.48 * width], [0, 1.1 * focal, 0.55 * height], [0, 0, 1]])
    return K.expand(batch, 3, 3).contiguous()


def scene(batch: int = 1, count: int = 60, seed: int = 0, size_m: float = 0.12) -> PosedGaussians:
    """Gaussians of many sizes, shapes and opacities, some outside the image."""
    rng = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng)

    means = torch.cat([2.6 * rand(batch, count, 2) - 1.3, 1.5 + 2 * rand(batch, count, 1)], -1)
    basis = torch.linalg.qr(torch.randn(batch, count, 3, 3, generator=rng)).Q * (
        size_m * rand(batch, count, 1, 3) + 0.003
    )
    opacities = 1.0 - 0.97 * rand(batch, count) ** 2  # a quarter above 0.75, some above the cap
    opacities[:, :2] = torch.tensor([1.0, 0.9995])
    return PosedGaussians(means, basis @ basis.transpose(-1, -2), opacities, rand(batch, count, 3))


def with_gradients(gaussians: PosedGaussians, dtype: torch.dtype = torch.float32) -> PosedGaussians:
    """Copies that collect gradients."""
    return PosedGaussians(*(getattr(gaussians, n).detach().to(dtype).clone().requires_grad_() for n in NAMES))


def weights(rendered: Rendered, seed: int = 1) -> torch.Tensor:
    """A scalar that depends on every pixel of colour, alpha and depth in its own way."""
    rng = torch.Generator().manual_seed(seed)
    pictures = (rendered.color, rendered.alpha, rendered.depth)
    return sum((p * torch.randn(p.shape, generator=rng).to(p.dtype)).sum() for p in pictures)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference by the norm of the second."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))
