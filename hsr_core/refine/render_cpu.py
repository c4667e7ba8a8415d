"""The rasteriser for CPUs: numba kernels on views of torch tensors, spread over threads, with their own backward.

The same input gives the same output and gradients, to the bit, on every run and for every number of threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import splat_kernels as kernels
from .scene import PosedGaussians, Rendered
from .splat_kernels import GRADS, ROW, TILE

CHUNKS_PER_THREAD = 4
"""Pieces of work per thread: a thread that the system holds up delays the others by a small piece only."""
ROWS_PER_CHUNK = 2048
"""Fewer Gaussians than this are not worth another thread."""

KEPT_WORKSPACES = 4
KEPT_BYTES = 1 << 28
"""A workspace that a strange scene has blown up beyond this is not kept."""


def render_cpu(
    gaussians: PosedGaussians, K: Tensor, image_hw: tuple[int, int], background: Tensor, *, near: float
) -> Rendered:
    """Render on the CPU; `hsr_core.refine.render.render` describes arguments and result. float32 only."""
    tensors = (gaussians.means, gaussians.covariances, gaussians.opacities, gaussians.colors)
    means, covariances, opacities, colors = (tensor.contiguous() for tensor in tensors)
    means2d, conics, depths, radii = _Project.apply(
        means, covariances, opacities.detach(), colors.detach(), K.detach().contiguous(), image_hw, near
    )
    color, alpha, depth, max_weight = _Composite.apply(
        means2d, conics, depths, opacities, colors, radii, background.detach().contiguous(), image_hw
    )
    return Rendered(color, alpha, depth, radii, means2d, max_weight)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means, covariances, opacities, colors, K, image_hw, near):
        batch, count = means.shape[:2]
        means2d, conics = means.new_empty(batch, count, 2), means.new_empty(batch, count, 3)
        depths, radii = means.new_empty(batch, count), means.new_empty(batch, count, dtype=torch.int32)
        height, width = image_hw
        _share(
            kernels.project, _even(batch * count), count, _rows(K, 3, 3), width, height, np.float32(near),
            _rows(means, 3), _rows(covariances, 9), _rows(opacities), _rows(colors, 3),
            _rows(means2d, 2), _rows(conics, 3), _rows(depths), _rows(radii),
        )  # fmt: skip
        ctx.save_for_backward(means, covariances, K, conics, radii)
        ctx.image_hw = image_hw
        ctx.mark_non_differentiable(radii)
        return means2d, conics, depths, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_means2d, d_conics, d_depths, _):
        means, covariances, K, conics, radii = ctx.saved_tensors
        d_means, d_covariances = torch.empty_like(means), torch.empty_like(covariances)
        height, width = ctx.image_hw
        _share(
            kernels.project_backward, _even(radii.numel()), means.shape[1], _rows(K, 3, 3), width, height,
            _rows(means, 3), _rows(covariances, 9), _rows(conics, 3), _rows(radii),
            _rows(d_means2d, 2), _rows(d_conics, 3), _rows(d_depths), _rows(d_means, 3), _rows(d_covariances, 9),
        )  # fmt: skip
        return d_means, d_covariances, None, None, None, None, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means2d, conics, depths, opacities, colors, radii, background, image_hw):
        batch, count = radii.shape
        height, width = image_hw
        work = _Workspace.take()
        plan = work.plan(batch, image_hw, means2d, conics, depths, opacities, colors, radii)
        color, max_weight = means2d.new_empty(batch, height, width, 3), means2d.new_zeros(batch, count)
        alpha, depth = (means2d.new_empty(batch, height, width) for _ in range(2))
        ground = background.numpy()
        _share(
            kernels.composite, work.tile_chunks, *plan, ground, color.numpy(), alpha.numpy(), depth.numpy(),
            work.transmittance, work.last, work.pair_weight,
        )  # fmt: skip
        _share(
            kernels.max_pairs, _even(work.drawn), work.order, work.first_pair, work.pair_weight, _rows(max_weight)
        )  # fmt: skip
        ctx.work, ctx.plan, ctx.ground, ctx.shape = work, plan, ground, (batch, count)
        ctx.save_for_backward(depth)
        ctx.mark_non_differentiable(max_weight)
        return color, alpha, depth, max_weight

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_color, d_alpha, d_depth, _):
        (depth,) = ctx.saved_tensors
        work = ctx.work
        pair_grads = work.array("pair_grads", (work.pairs_count, GRADS), np.float32)
        _share(
            kernels.composite_backward, work.tile_chunks, *ctx.plan, ctx.ground, depth.numpy(), work.transmittance,
            work.last, d_color.contiguous().numpy(), d_alpha.contiguous().numpy(), d_depth.contiguous().numpy(),
            pair_grads,
        )  # fmt: skip
        d_means2d, d_conics, d_colors = (depth.new_zeros(*ctx.shape, size) for size in (2, 3, 3))
        d_opacities, d_depths = (depth.new_zeros(ctx.shape) for _ in range(2))
        _share(
            kernels.sum_pairs, _even(work.drawn), work.order, work.first_pair, pair_grads,
            _rows(d_means2d, 2), _rows(d_conics, 3), _rows(d_opacities), _rows(d_colors, 3), _rows(d_depths),
        )  # fmt: skip
        return d_means2d, d_conics, d_depths, d_opacities, d_colors, None, None, None


class _Workspace:
    """What compositing needs from forward to backward, kept for the next call when the graph is gone."""

    _free: list[dict[str, NDArray]] = []  # noqa: RUF012  shared on purpose; append and pop are atomic

    def __init__(self, arrays: dict[str, NDArray]) -> None:
        self._arrays = arrays

    @classmethod
    def take(cls) -> _Workspace:
        try:
            return cls(cls._free.pop())
        except IndexError:
            return cls({})

    def __del__(self) -> None:
        if len(self._free) < KEPT_WORKSPACES and sum(a.nbytes for a in self._arrays.values()) < KEPT_BYTES:
            self._free.append(self._arrays)

    def array(self, name: str, shape: tuple[int, ...], dtype: type) -> NDArray:
        """Return an uninitialised array; its memory is used again by calls that need no more."""
        size = int(np.prod(shape))
        kept = self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = np.empty(size + size // 4, dtype)
        return kept[:size].reshape(shape)

    def plan(self, batch, image_hw, means2d, conics, depths, opacities, colors, radii) -> tuple:
        """Sort by depth and list each tile's Gaussians; return what both compositing kernels start with."""
        height, width = image_hw
        total, count = radii.numel(), radii.shape[1]
        tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
        self.order = self.array("order", (total,), np.int32)
        spare = self.array("spare", (total,), np.int32)
        self.drawn = kernels.sort_by_depth(_rows(depths), _rows(radii), self.order, spare)
        table, boxes = self.array("table", (total, ROW), np.float32), self.array("boxes", (total, 4), np.int32)
        _share(
            kernels.prepare, _even(self.drawn), width, height, self.order, _rows(means2d, 2), _rows(conics, 3),
            _rows(depths), _rows(opacities), _rows(colors, 3), table, boxes,
        )  # fmt: skip
        self.first_pair = self.array("first_pair", (total + 1,), np.int64)
        tile_start = self.array("tile_start", (batch * tiles_x * tiles_y + 1,), np.int64)
        grid = (self.drawn, count, tiles_x, tiles_y, self.order, boxes, self.first_pair, tile_start)
        self.pairs_count = kernels.count_pairs(*grid)
        ranks = self.array("ranks", (self.pairs_count,), np.int32)
        pairs = self.array("pairs", (self.pairs_count,), np.int32)
        kernels.list_pairs(*grid, self.array("fill", (len(tile_start) - 1,), np.int64), ranks, pairs)
        self.pair_weight = self.array("pair_weight", (self.pairs_count,), np.float32)
        self.transmittance = self.array("transmittance", (batch, height, width), np.float32)
        self.last = self.array("last", (batch, height, width), np.int32)
        self.tile_chunks = _balanced(tile_start)
        return width, height, tiles_x, tiles_y, tile_start, ranks, pairs, table, boxes


def _rows(tensor: Tensor, *row: int) -> NDArray:
    """View a tensor as rows of a fixed shape; copies only what is not contiguous."""
    return tensor.detach().contiguous().view(-1, *row).numpy()


# threads

_pool: tuple[int, ThreadPoolExecutor] | None = None


def _threads() -> int:
    return torch.get_num_threads()


def _even(rows: int) -> NDArray[np.int64]:
    """Return the borders of equal pieces."""
    pieces = max(min(rows // ROWS_PER_CHUNK, CHUNKS_PER_THREAD * _threads()), 1)
    return np.linspace(0, rows, pieces + 1).astype(np.int64)


def _balanced(tile_start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the borders of pieces of tiles with about as many pairs each; an empty tile counts a little too."""
    cost = tile_start + 8 * np.arange(len(tile_start))
    pieces = CHUNKS_PER_THREAD * _threads()
    borders = np.searchsorted(cost, np.linspace(0, cost[-1], pieces + 1))
    borders[-1] = len(tile_start) - 1
    return np.unique(borders)


def _share(kernel: Any, borders: NDArray[np.int64], *args: Any) -> None:
    """Call kernel(start, stop, *args) for each piece, in torch's number of threads, this one included."""
    pieces = zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)

    def work() -> None:
        for start, stop in pieces:  # next() of a zip is atomic
            kernel(start, stop, *args)

    helpers = min(_threads(), len(borders) - 1) - 1
    futures = [_executor().submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        for future in futures:
            if not future.cancel():
                future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    wanted = max(_threads() - 1, 1)
    if _pool is None or _pool[0] < wanted:  # an older pool ends when its last caller lets go of it
        _pool = wanted, ThreadPoolExecutor(wanted, thread_name_prefix="hsr-splat")
    return _pool[1]


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # a child has none of its parent's threads
