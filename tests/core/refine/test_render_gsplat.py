"""The gsplat backend. Its kernels need a GPU; here plain torch stands in for them behind gsplat's own signatures.

What this shows: gsplat accepts the arguments, shapes and layouts are what its functions take and give, its own torch
projection agrees with ours, and gradients reach every input and the projected centres.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from gaussian_scenes import NAMES, camera, relative, scene, weights, with_gradients

from hsr_core.errors import MissingPackage
from hsr_core.refine import render_gsplat
from hsr_core.refine.render import render
from hsr_core.refine.render_cpu import _Project
from hsr_core.refine.render_torch import project
from hsr_core.refine.splatting import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

gsplat = pytest.importorskip("gsplat", reason='pip install "hsr-core[gsplat]"')
from gsplat.cuda import _torch_impl  # noqa: E402

HW = (37, 50)


# gsplat's torch projection as a second opinion


def gsplat_projection(gaussians, K, near=0.01):
    eye = torch.eye(4, dtype=K.dtype).expand(len(K), 1, 4, 4)
    radii, means2d, depths, conics, _ = _torch_impl._fully_fused_projection(
        gaussians.means, gaussians.covariances, eye, K[:, None], HW[1], HW[0], near_plane=near
    )
    return radii[:, 0], means2d[:, 0], depths[:, 0], conics[:, 0]


@pytest.mark.parametrize("seed", range(4))
def test_projection_is_gsplats(seed: int) -> None:
    """Wide scenes: a third of the centres is outside the image, some beyond the limit of the linearisation."""
    gaussians, K = scene(2, 300, seed, 0.1), camera(2, HW, 20.0 + 40 * seed)
    _, means2d, depths, conics = gsplat_projection(gaussians, K)
    ours = project(gaussians, K, HW, near=0.01)
    shown = ours.half_size[..., 0] > 0
    assert shown.sum() > 50
    torch.testing.assert_close(ours.means2d[shown], means2d[shown])
    torch.testing.assert_close(ours.depths[shown], depths[shown])
    torch.testing.assert_close(ours.conics[shown], conics[shown], atol=1e-5, rtol=1e-4)


def test_the_cpus_projection_has_the_gradients_of_gsplats() -> None:
    K = camera(2, HW, 30.0)
    rng = torch.Generator().manual_seed(0)
    up = [torch.randn(2, 300, size, generator=rng) for size in (2, 3, 1)]
    results = []
    for kind in ("gsplat", "cpu"):
        g = with_gradients(scene(2, 300, 5, 0.1))
        if kind == "gsplat":
            _, means2d, depths, conics = gsplat_projection(g, K)
        else:
            fixed = (g.opacities.detach(), g.colors.detach())
            means2d, conics, depths, radii = _Project.apply(g.means, g.covariances, *fixed, K, HW, 0.01)
        results.append((g, (means2d * up[0]).sum(-1) + (conics * up[1]).sum(-1) + depths * up[2][..., 0]))
    shown = radii > 0
    for _, values in results:
        values[shown].sum().backward()
    (theirs, _), (ours, _) = results
    assert relative(ours.means.grad, theirs.means.grad) < 1e-5
    assert relative(ours.covariances.grad, theirs.covariances.grad) < 1e-5


# the adapter, over stand-ins for the CUDA kernels


def standins() -> SimpleNamespace:
    """gsplat's functions that the adapter calls, on the CPU; each first binds its arguments to gsplat's signature."""

    def checked(function: Callable) -> Callable:
        signature = inspect.signature(getattr(gsplat, function.__name__))

        def call(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return function(SimpleNamespace(**bound.arguments))

        return call

    def fully_fused_projection(a):
        assert (a.quats, a.scales, a.packed, a.camera_model) == (None, None, False, "pinhole")
        rows = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
        assert a.covars.shape == (*a.means.shape[:2], 6)
        assert a.opacities.shape == a.means.shape[:2]
        return _torch_impl._fully_fused_projection(
            a.means, a.covars[..., rows], a.viewmats, a.Ks, a.width, a.height, a.eps2d, a.near_plane, a.far_plane
        )

    def isect_tiles(a):
        assert not a.packed
        return _torch_impl._isect_tiles(
            a.means2d, a.radii, a.depths, a.tile_size, a.tile_width, a.tile_height, sort=a.sort
        )

    def isect_offset_encode(a):
        return _torch_impl._isect_offset_encode(a.isect_ids, a.n_images, a.tile_width, a.tile_height)

    def pairs(a):
        """Yield picture, pixel and the Gaussians listed for its tile, nearest first."""
        count = a.means2d.shape[-2]
        ends = [*a.isect_offsets.flatten().tolist()[1:], len(a.flatten_ids)]
        tiles_y, tiles_x = a.isect_offsets.shape[-2:]
        for tile, (begin, end) in enumerate(zip(a.isect_offsets.flatten().tolist(), ends, strict=True)):
            picture, (ty, tx) = tile // (tiles_x * tiles_y), divmod(tile % (tiles_x * tiles_y), tiles_x)
            for y in range(ty * a.tile_size, min((ty + 1) * a.tile_size, a.image_height)):
                for x in range(tx * a.tile_size, min((tx + 1) * a.tile_size, a.image_width)):
                    yield picture, y, x, a.flatten_ids[begin:end] - picture * count

    def alphas(a, picture, y, x, ids):
        dx, dy = (torch.tensor([x + 0.5, y + 0.5]) - a.means2d[picture, 0, ids]).unbind(-1)
        xx, xy, yy = a.conics[picture, 0, ids].unbind(-1)
        sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
        alpha = (a.opacities[picture, 0, ids] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
        kept, left = [], 1.0
        for i, value in enumerate(alpha.tolist()):
            if value < ALPHA_MIN or sigma[i] < 0:
                continue
            if left * (1 - value) <= TRANSMITTANCE_MIN:
                break
            left *= 1 - value
            kept.append(i)
        return alpha[kept], ids[kept]

    def rasterize_to_pixels(a):
        assert a.means2d.ndim == a.conics.ndim == a.colors.ndim == 4
        assert a.backgrounds.shape == (len(a.means2d), 1, a.colors.shape[-1])
        color, opaque = [], []
        for picture, y, x, ids in sorted(pairs(a), key=lambda p: p[:3]):
            alpha, drawn = alphas(a, picture, y, x, ids)
            before = torch.cat([torch.ones(1), torch.cumprod(1 - alpha, 0)])
            color.append((alpha * before[:-1]) @ a.colors[picture, 0, drawn] + before[-1] * a.backgrounds[picture, 0])
            opaque.append(1 - before[-1])
        shape = (len(a.means2d), 1, a.image_height, a.image_width, -1)
        return torch.stack(color).reshape(shape), torch.stack(opaque).reshape(shape)

    def rasterize_to_indices_in_range(a):
        assert a.transmittances.shape == (len(a.means2d), 1, a.image_height, a.image_width)
        found = [(alphas(a, p, y, x, ids)[1], y * a.image_width + x, p) for p, y, x, ids in pairs(a)]
        gaussian = torch.cat([ids for ids, _, _ in found])
        sizes = torch.tensor([len(ids) for ids, _, _ in found])
        return gaussian, *(torch.tensor([f[i] for f in found]).repeat_interleave(sizes) for i in (1, 2))

    functions = (
        fully_fused_projection, isect_tiles, isect_offset_encode, rasterize_to_pixels, rasterize_to_indices_in_range,
    )  # fmt: skip
    return SimpleNamespace(**{f.__name__: checked(f) for f in functions})


def draw(gaussians, K, background, monkeypatch, **options):
    monkeypatch.setattr(render_gsplat, "_import", standins)
    return render_gsplat.render_gsplat(gaussians, K, HW, background, near=0.01, **{"max_weight": True} | options)


def test_the_adapter_gives_the_references_pictures_and_gradients(monkeypatch) -> None:
    background = torch.tensor([[0.2, 0.5, 0.9], [1.0, 1.0, 1.0]])
    K = camera(2, HW)
    results = []
    for backend in ("gsplat", "torch"):
        g = with_gradients(scene(2, 40, 1, 0.1))
        if backend == "gsplat":
            drawn = draw(g, K, background, monkeypatch)
        else:
            drawn = render(g, K, HW, background, backend="torch")
        drawn.means2d.retain_grad()
        weights(drawn).backward()
        results.append((drawn, {name: getattr(g, name).grad for name in NAMES} | {"means2d": drawn.means2d.grad}))
    (ours, grads), (reference, expected) = results
    for name in ("color", "alpha", "depth", "max_weight"):
        torch.testing.assert_close(getattr(ours, name), getattr(reference, name), atol=1e-4, rtol=0)
    assert ours.radii.shape == reference.radii.shape
    assert ours.radii.dtype == reference.radii.dtype
    for name, value in expected.items():
        assert grads[name].shape == value.shape
        assert relative(grads[name], value) < 1e-3, name


def test_the_largest_weights_are_left_out_when_nobody_asks(monkeypatch) -> None:
    gaussians = scene(1, 10)
    assert draw(gaussians, camera(1, HW), torch.zeros(1, 3), monkeypatch, max_weight=False).max_weight is None


def test_a_gaussian_that_is_not_finite_is_left_out(monkeypatch) -> None:
    for name in NAMES:
        spoiled = with_gradients(scene(1, 20, 2))
        getattr(spoiled, name).data[0, 3] = float("nan")
        drawn = draw(spoiled, camera(1, HW), torch.zeros(1, 3), monkeypatch)
        assert drawn.radii[0, 3].item() == 0
        assert torch.isfinite(drawn.color).all()


def test_a_machine_without_a_gpu_is_told_what_to_do() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingPackage, match=r"CUDA device.*hsr-core\[gsplat\]"):
        render_gsplat._import()
