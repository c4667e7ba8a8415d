"""`hsr bench render`: the renderers of the refinement, forward and backward, on Gaussians over a whole body."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .body import load_body
from .errors import ConfigError
from .geometry.raster import Topology
from .refine.render import render
from .refine.scene import PosedGaussians, Rendered
from .types import HumanParams

DISTANCE_M = 3.0
FILLED = 0.95
"""Part of the picture's height that the person takes."""
OPACITY = 0.9
SCALE_LIMITS_M = (1e-3, 30e-3)
INPUTS = ("means", "covariances", "opacities", "colors")


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("render", help="Gaussians of a whole body on every renderer, forward and backward")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="side of the picture (default 256)")
    parser.add_argument("--poses", type=int, default=1, metavar="B", help="pictures in one call (default 1)")
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="timed calls of the fast one (default 20)")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write the picture")
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return what there is to show."""
    for name in ("size", "poses", "repeats"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, not {getattr(args, name)}")
    gaussians, K = body_scene(args.size, args.poses)
    facts = {"gaussians": gaussians.means.shape[1], "image_px": args.size, "poses": args.poses}
    facts |= {"threads": torch.get_num_threads()} | measure(gaussians, K, args.size, args.repeats)
    if args.png:
        _write(args.png, gaussians, K, args.size)
    return facts


def body_scene(size_px: int, poses: int = 1) -> tuple[PosedGaussians, torch.Tensor]:
    """Return one Gaussian per vertex of the body at rest, 3 m away, and K (B, 3, 3) with pixel centres at +0.5.

    Discs in the surface, as wide as the vertex's share of it and half as thick, like an avatar at its start.
    """
    body = load_body()
    vertices = body.pose_one(HumanParams()).vertices * np.float32([1, -1, -1])  # at rest it faces +z, y up
    topology = Topology(body.faces)
    normals = torch.from_numpy(topology.vertex_normals(vertices).astype(np.float32))
    corners = vertices[body.faces]
    areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    share = np.bincount(body.faces.reshape(-1), np.repeat(areas / 3, 3), len(vertices))
    radius = torch.from_numpy(np.sqrt(share / math.pi).clip(*SCALE_LIMITS_M).astype(np.float32))
    axes = radius[:, None, None] ** 2 * (torch.eye(3) - 0.75 * normals[:, :, None] * normals[:, None, :])
    low, high = vertices.min(0), vertices.max(0)
    points = torch.from_numpy(vertices - (low + high) / 2)
    waves = points @ torch.tensor([[9.0, 0, 5], [0, 7, 11], [20, 0, 3]])
    focal = FILLED * size_px * DISTANCE_M / float((high - low)[:2].max())
    K = torch.tensor([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]])
    one = PosedGaussians(
        points + torch.tensor([0, 0, DISTANCE_M]), axes, torch.full(radius.shape, OPACITY), 0.5 + 0.5 * torch.sin(waves)
    )
    batch = (getattr(one, name) for name in INPUTS)
    return PosedGaussians(*(x.expand(poses, *x.shape).contiguous() for x in batch)), K.expand(poses, 3, 3).contiguous()


def measure(gaussians: PosedGaussians, K: torch.Tensor, size_px: int, repeats: int) -> dict[str, Any]:
    """Time forward and backward (gradients to all four inputs) of each renderer that runs here.

    The reference is timed between the others' calls, so that the ratio is of one state of the machine; in one thread
    and in all in turn, because on busy cores one is faster.

    Returns:
        `first_call_s`: compiling or loading what is compiled; by renderer `forward_ms`, `backward_ms`, `total_ms`
        {best, p50}; `speedup` over the reference, of best times; `difference` from the reference in float64: largest of
        colour, alpha and depth [m], relative of the gradients.
    """
    fast = "gsplat" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda" if fast == "gsplat" else "cpu")
    gaussians = PosedGaussians(*(getattr(gaussians, name).to(device) for name in INPUTS))
    K = K.to(device)
    start = time.perf_counter()
    _timed(gaussians, K, size_px, fast)
    facts: dict[str, Any] = {"first_call_s": round(time.perf_counter() - start, 2), "device": str(device)}
    times: dict[str, list] = {fast: [], "torch": []}
    for n in range(repeats):
        times[fast].append(_timed(gaussians, K, size_px, fast)[:2])
        if n % 5 == 0:
            times["torch"].append(_plain(gaussians, K, size_px, threads=1 if n % 10 else torch.get_num_threads()))
    for name, rows in times.items():
        table = np.array(rows) * 1e3
        columns = {"forward_ms": table[:, 0], "backward_ms": table[:, 1], "total_ms": table.sum(1)}
        facts[name] = {
            key: {"best": round(float(values.min()), 2), "p50": round(float(np.median(values)), 2)}
            for key, values in columns.items()
        }
    facts["speedup"] = round(facts["torch"]["total_ms"]["best"] / facts[fast]["total_ms"]["best"], 1)
    exact = PosedGaussians(*(getattr(gaussians, name).double() for name in INPUTS))
    facts["difference"] = _difference(_timed(gaussians, K, size_px, fast), _timed(exact, K.double(), size_px, "torch"))
    return facts


def _timed(gaussians: PosedGaussians, K: torch.Tensor, size_px: int, backend: str) -> tuple:
    """Return seconds forward, seconds backward, the picture and the gradients."""
    inputs = [getattr(gaussians, name).detach().requires_grad_() for name in INPUTS]
    shape = (len(K), size_px, size_px)
    rng = torch.Generator().manual_seed(0)
    up = [torch.randn(s, generator=rng).to(K) for s in ((*shape, 3), shape, shape)]
    start = _now(K)
    drawn = render(PosedGaussians(*inputs), K, (size_px, size_px), backend=backend, max_weight=False)
    middle = _now(K)
    grads = torch.autograd.grad([drawn.color, drawn.alpha, drawn.depth], inputs, up)
    return middle - start, _now(K) - middle, drawn, grads


def _plain(gaussians: PosedGaussians, K: torch.Tensor, size_px: int, threads: int) -> tuple[float, float]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _timed(gaussians, K, size_px, "torch")[:2]
    finally:
        torch.set_num_threads(before)


def _now(K: torch.Tensor) -> float:
    if K.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _difference(ours: tuple, exact: tuple) -> dict[str, float]:
    def largest(pick: Callable[[Rendered], torch.Tensor]) -> float:
        return float((pick(ours[2]).detach().double() - pick(exact[2]).detach()).abs().max())

    values = {"color": largest(lambda r: r.color), "alpha": largest(lambda r: r.alpha)}
    values["depth_m"] = largest(lambda r: torch.where(r.alpha > 0.9, r.depth, 0))
    for name, a, b in zip(INPUTS, ours[3], exact[3], strict=True):
        values[f"d_{name}"] = float((a.double() - b).norm() / b.norm())
    return {name: float(f"{value:.2g}") for name, value in values.items()}


def _write(path: Path, gaussians: PosedGaussians, K: torch.Tensor, size_px: int) -> None:
    import cv2

    drawn = render(gaussians, K, (size_px, size_px), torch.ones(len(K), 3), backend="auto", max_weight=False)
    image = (drawn.color[0].clamp(0, 1) * 255).round().byte().numpy()
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise ConfigError(f"--png {path} cannot be written")
