"""Structural similarity with a gradient, fast enough for every step of an optimisation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

from ..errors import ShapeError

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
_HALF = WINDOW // 2
_WEIGHTS = torch.exp(-((torch.arange(WINDOW, dtype=torch.float64) - _HALF) ** 2) / (2 * SIGMA**2))
_TAPS = tuple((_WEIGHTS / _WEIGHTS.sum()).tolist())


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean structural similarity over pixels and channels, a scalar.

    The gradient flows to `image` alone.

    Args:
        image, target: (..., H, W, C) in 0..1.

    Raises:
        ShapeError: The shapes differ.

    Source:
        Wang et al., Image quality assessment, 2004: 11x11 Gaussian window of sigma 1.5, range 1; zero padding, as the
        3D Gaussian splatting implementations have it.
    """
    if image.shape != target.shape or image.ndim < 3:
        raise ShapeError(f"ssim takes two images (..., H, W, C), not {tuple(image.shape)} and {tuple(target.shape)}")
    planes = [x.movedim(-1, -3).flatten(0, -3) for x in (image, target.detach())]
    if image.is_cuda:
        return _Ssim.apply(*planes)
    # A CPU's caches hold the maps of one picture, not of a batch.
    parts = [x.split(image.shape[-1]) for x in planes]
    return torch.stack([_Ssim.apply(a, b) for a, b in zip(*parts, strict=True)]).mean()


def _blur(maps: Tensor) -> Tensor:
    """Filter (M, H, W) by the window, zero outside. The filter is symmetric: it is its own adjoint."""
    if maps.is_cuda:
        taps = maps.new_tensor(_TAPS) if maps.dtype == torch.float64 else _cuda_taps(maps)
        rows = conv2d(maps[:, None], taps.view(1, 1, -1, 1), padding=(_HALF, 0))
        return conv2d(rows, taps.view(1, 1, 1, -1), padding=(0, _HALF))[:, 0]
    # On a CPU sums of shifted images beat a convolution three times over: no matrix of patches is made.
    height, width = maps.shape[1:]
    wide = pad(maps, (_HALF,) * 4)
    rows = wide[:, _HALF : _HALF + height] * _TAPS[_HALF]
    for i in range(_HALF):
        rows.add_(wide[:, i : i + height] + wide[:, WINDOW - 1 - i : WINDOW - 1 - i + height], alpha=_TAPS[i])
    out = rows[:, :, _HALF : _HALF + width] * _TAPS[_HALF]
    for i in range(_HALF):
        out.add_(rows[:, :, i : i + width] + rows[:, :, WINDOW - 1 - i : WINDOW - 1 - i + width], alpha=_TAPS[i])
    return out


_on_device: dict[torch.device, Tensor] = {}


def _cuda_taps(like: Tensor) -> Tensor:
    """Keep the window on each GPU: copying it there at each call would forbid CUDA graphs."""
    if like.device not in _on_device:
        _on_device[like.device] = like.new_tensor(_TAPS, dtype=torch.float32)
    return _on_device[like.device]


class _Ssim(torch.autograd.Function):
    """Mean SSIM of (M, H, W) maps. Backward filters the derivative by three of the five filtered maps."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        n = len(a)
        mu_a, mu_b, aa, bb, ab = _blur(torch.cat([a, b, a * a, b * b, a * b])).split(n)
        mu_ab, mu_aa, mu_bb = mu_a * mu_b, mu_a * mu_a, mu_b * mu_b
        top1, top2 = 2 * mu_ab + C1, 2 * (ab - mu_ab) + C2
        low1, low2 = mu_aa + mu_bb + C1, aa + bb - mu_aa - mu_bb + C2
        inverse = 1 / (low1 * low2)
        value = top1 * top2 * inverse
        if ctx.needs_input_grad[0]:
            by_mean = 2 * (mu_b * (top2 - top1) * inverse + mu_a * value * (1 / low2 - 1 / low1))
            ctx.save_for_backward(a, b, torch.cat([by_mean, -value / low2, 2 * top1 * inverse]))
        return value.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        a, b, partial = ctx.saved_tensors
        by_mean, by_square, by_product = _blur(partial).split(len(a))
        return (by_mean + 2 * a * by_square + b * by_product) * (upstream / a.numel()), None
