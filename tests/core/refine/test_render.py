"""The renderers: worked out by hand, against finite differences, and against each other."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from gaussian_scenes import NAMES, camera, relative, scene, weights, with_gradients

from hsr_core.errors import ConfigError, InvalidIntrinsics, MissingPackage, ShapeError
from hsr_core.refine.render import render
from hsr_core.refine.scene import PosedGaussians, Rendered
from hsr_core.refine.splatting import ALPHA_MAX, ALPHA_MIN, BLUR_PX2

BOTH = pytest.mark.parametrize("backend", ["torch", "cpu"])
HW = (37, 50)
"""Not a multiple of any tile."""


def balls(*rows: tuple[float, ...], sigma: float = 0.02) -> PosedGaussians:
    """Round Gaussians: x, y, z, opacity, red, green, blue each."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 7)
    covariances = (sigma**2 * torch.eye(3)).expand(1, table.shape[1], 3, 3)
    return PosedGaussians(table[..., :3], covariances, table[..., 3], table[..., 4:])


def pinhole(f: float, cx: float, cy: float) -> torch.Tensor:
    return torch.tensor([[[f, 0, cx], [0, f, cy], [0, 0, 1.0]]])


# by hand


@BOTH
def test_one_gaussian_on_the_axis_worked_out_by_hand(backend: str) -> None:
    """f = 100, z = 2, sigma = 0.02: 1 px on the screen, variance 1 + 0.3, in the middle of pixel (2, 3)."""
    ball = balls((0, 0, 2, 0.8, 1.0, 0.5, 0.25))
    drawn = render(ball, pinhole(100, 3.5, 2.5), (6, 8), torch.tensor([[0.0, 0.0, 1.0]]), backend=backend)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (-2, 1), (2, 2)):
        alpha = 0.8 * math.exp(-(dx * dx + dy * dy) / (2 * (1 + BLUR_PX2)))
        pixel = (0, 2 + dy, 3 + dx)
        assert drawn.alpha[pixel].item() == pytest.approx(alpha, abs=1e-6)
        color = [alpha, 0.5 * alpha, 0.25 * alpha + (1 - alpha)]
        assert drawn.color[pixel].tolist() == pytest.approx(color, abs=1e-6)
        assert drawn.depth[pixel].item() == pytest.approx(2.0, abs=1e-5)
    assert drawn.means2d.tolist() == [[[3.5, 2.5]]]
    assert drawn.max_weight.item() == pytest.approx(0.8, abs=1e-6)
    reach = math.sqrt(2 * math.log(0.8 / ALPHA_MIN)) * math.sqrt(1.3)
    assert drawn.radii.item() == math.ceil(reach)


@BOTH
def test_a_pixels_centre_is_half_a_pixel_in(backend: str) -> None:
    """A point that a message's K puts on pixel 3 (centres at integers) must come out brightest and symmetric there."""
    message_cx, u = 3.0, 3
    drawn = render(balls((0, 0, 2, 0.9, 1, 1, 1)), pinhole(100, message_cx + 0.5, 2.5), (5, 7), backend=backend)
    row = drawn.alpha[0, 2]
    assert int(row.argmax()) == u
    torch.testing.assert_close(row, row.flip(0), atol=1e-6, rtol=0)


@BOTH
def test_depth_is_z_and_not_the_length_of_the_ray(backend: str) -> None:
    slanted = balls((1.5, 0, 2, 0.9, 1, 1, 1))  # its ray is 2.5 m long
    drawn = render(slanted, pinhole(10, 1.5, 2.5), (5, 12), backend=backend)
    u = int(1.5 + 10 * 1.5 / 2)
    assert drawn.depth[0, 2, u].item() == pytest.approx(2.0, abs=1e-5)


@BOTH
def test_nearer_gaussians_cover_farther_ones_whatever_their_order(backend: str) -> None:
    near, far = (0, 0, 2, 0.6, 1.0, 0.0, 0.0), (0, 0, 3, 0.7, 0.0, 1.0, 0.0)
    for rows in ((near, far), (far, near)):
        drawn = render(balls(*rows), pinhole(100, 2.5, 2.5), (5, 5), backend=backend)
        assert drawn.color[0, 2, 2].tolist() == pytest.approx([0.6, 0.4 * 0.7, 0], abs=1e-6)
        alpha = 1 - 0.4 * 0.3
        assert drawn.alpha[0, 2, 2].item() == pytest.approx(alpha, abs=1e-6)
        assert drawn.depth[0, 2, 2].item() == pytest.approx((0.6 * 2 + 0.28 * 3) / alpha, abs=1e-5)
        by_row = dict(zip(rows, drawn.max_weight[0].tolist(), strict=True))
        assert by_row[near] == pytest.approx(0.6, abs=1e-6)
        assert by_row[far] >= 0.28 - 1e-6  # beside the axis the nearer one lets more through


@BOTH
def test_alpha_is_capped_and_gives_no_gradient_where_it_is(backend: str) -> None:
    ball = with_gradients(balls((0, 0, 2, 1.0, 1, 1, 1)))
    drawn = render(ball, pinhole(100, 2.5, 2.5), (5, 5), backend=backend)
    assert drawn.alpha[0, 2, 2].item() == pytest.approx(ALPHA_MAX, abs=1e-6)
    drawn.alpha[0, 2, 2].backward()
    assert all(float(getattr(ball, name).grad.abs().max()) == 0 for name in ("means", "opacities", "covariances"))
    beside = with_gradients(balls((0, 0, 2, 1.0, 1, 1, 1)))
    render(beside, pinhole(100, 2.5, 2.5), (5, 5), backend=backend).alpha[0, 2, 3].backward()
    assert beside.opacities.grad.item() == pytest.approx(math.exp(-1 / 2.6), rel=1e-5)


@BOTH
def test_alpha_below_one_in_255_is_not_drawn(backend: str) -> None:
    for opacity, expected in ((1.001 / 255, 1.001 / 255), (0.999 / 255, 0.0)):
        drawn = render(balls((0, 0, 2, opacity, 1, 1, 1)), pinhole(100, 2.5, 2.5), (5, 5), backend=backend)
        assert drawn.alpha[0, 2, 2].item() == pytest.approx(expected, abs=1e-7)
        assert (drawn.radii.item() > 0) == (expected > 0)


@BOTH
def test_nothing_is_drawn_behind_the_last_light(backend: str) -> None:
    """0.91 each leaves 0.09, 0.0081, 0.000729, then too little: the fourth and all behind it are left out."""
    stack = balls(*((0, 0, 2 + 0.1 * i, 0.91, 1, 1, 1) for i in range(8)))
    drawn = render(stack, pinhole(1000, 20.5, 20.5), (41, 41), backend=backend)
    assert drawn.alpha[0, 20, 20].item() == pytest.approx(1 - 0.09**3, abs=1e-6)
    behind = with_gradients(stack)
    render(behind, pinhole(1000, 20.5, 20.5), (41, 41), backend=backend).color[0, 20, 20].sum().backward()
    assert (behind.colors.grad[0, :3] > 0).all()
    assert (behind.colors.grad[0, 3:] == 0).all()


# against finite differences, and each other


@pytest.fixture
def one_thread():
    """Thousands of tiny operations: OpenMP's threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", range(3))
def test_the_references_gradients_are_those_of_finite_differences(seed: int) -> None:
    g = with_gradients(scene(count=5, seed=seed, size_m=0.3), torch.float64)
    g.opacities.data.clamp_(max=0.9)  # off the cap, where alpha has a kink
    K, background = camera(1, (6, 7), 8.0).double(), torch.rand(1, 3, dtype=torch.float64)

    def pictures(means, root, opacities, colors):
        posed = PosedGaussians(means, root @ root.transpose(-1, -2), opacities, colors)
        drawn = render(posed, K, (6, 7), background, backend="torch")
        return drawn.color, drawn.alpha, drawn.alpha * drawn.depth

    root = torch.linalg.cholesky(g.covariances.detach()).requires_grad_()
    assert torch.autograd.gradcheck(pictures, (g.means, root, g.opacities, g.colors), eps=1e-7, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("seed", "count", "size_m", "image_hw"), [
    (0, 60, 0.12, HW), (1, 400, 0.05, (64, 48)), (2, 30, 0.8, HW), (3, 3, 0.02, (1, 1)), (4, 300, 0.004, (16, 160)),
])  # fmt: skip
def test_the_cpu_draws_what_the_reference_draws(seed: int, count: int, size_m: float, image_hw) -> None:
    gaussians, K = scene(2, count, seed, size_m), camera(2, image_hw)
    background = torch.tensor([[0.2, 0.5, 0.9], [1.0, 1.0, 1.0]])
    slow = render(with_gradients(gaussians, torch.float64), K.double(), image_hw, background.double(), backend="torch")
    fast = render(with_gradients(gaussians), K, image_hw, background, backend="cpu")
    for name in ("color", "alpha", "max_weight"):
        torch.testing.assert_close(getattr(fast, name).double(), getattr(slow, name), atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.depth.double(), slow.depth, atol=1e-4, rtol=0)
    assert (fast.radii == slow.radii).float().mean() > 0.99  # ceil of a number that is an integer but for rounding
    shown = slow.radii > 0
    torch.testing.assert_close(fast.means2d[shown].double(), slow.means2d[shown], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("seed", "count", "size_m"), [(0, 60, 0.12), (1, 400, 0.05), (2, 30, 0.8), (5, 200, 0.004)])
def test_the_cpus_gradients_are_the_references(seed: int, count: int, size_m: float) -> None:
    background = torch.tensor([[0.2, 0.5, 0.9], [1.0, 1.0, 1.0]])
    results = {}
    for backend, dtype in (("torch", torch.float64), ("cpu", torch.float32)):
        g = with_gradients(scene(2, count, seed, size_m), dtype)
        drawn = render(g, camera(2, HW).to(dtype), HW, background.to(dtype), backend=backend)
        drawn.means2d.retain_grad()
        weights(drawn).backward()
        results[backend] = {name: getattr(g, name).grad for name in NAMES} | {"means2d": drawn.means2d.grad}
    for name, slow in results["torch"].items():
        assert slow.norm() > 0
        # float32: the remaining light is a product of up to hundreds of factors
        assert relative(results["cpu"][name], slow) < 1e-3, name


def test_each_output_alone_has_the_references_gradients() -> None:
    for pick in ("color", "alpha", "depth"):
        results = []
        for backend in ("torch", "cpu"):
            g = with_gradients(scene(1, 80, 7))
            getattr(render(g, camera(1, HW), HW, backend=backend), pick).square().sum().backward()
            results.append([torch.zeros(1) if (d := getattr(g, name).grad) is None else d for name in NAMES])
        for name, slow, fast in zip(NAMES, *results, strict=True):
            assert relative(fast, slow) < 1e-3 or float(slow.norm()) == float(fast.norm()) == 0, (pick, name)


def test_gradients_of_covariances_are_symmetric_and_asymmetric_ones_mean_their_symmetric_part() -> None:
    gaussians = scene(1, 40, 3)
    skew = 1e-3 * torch.randn(1, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    skewed = PosedGaussians(
        gaussians.means, gaussians.covariances + skew - skew.mT, gaussians.opacities, gaussians.colors
    )
    for backend in ("torch", "cpu"):
        g = with_gradients(skewed)
        drawn = render(g, camera(1, HW), HW, backend=backend)
        plain = render(gaussians, camera(1, HW), HW, backend=backend)
        torch.testing.assert_close(drawn.color, plain.color, atol=1e-5, rtol=0)
        weights(drawn).backward()
        torch.testing.assert_close(g.covariances.grad, g.covariances.grad.mT)


@BOTH
def test_a_batch_is_its_pictures_one_by_one(backend: str) -> None:
    gaussians, K = scene(3, 70, 4), camera(3, HW) * torch.tensor([[[1.0]], [[1.2]], [[0.7]]])
    background = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    together = with_gradients(gaussians)
    drawn = render(together, K, HW, background, backend=backend)

    def loss(pictures, i):
        return (i + 1) * (pictures.color.square().sum() + pictures.alpha.sum() + pictures.depth.square().sum())

    sum(loss(Rendered(*(getattr(drawn, f.name)[i] for f in fields(Rendered))), i) for i in range(3)).backward()
    for i in range(3):
        part = with_gradients(PosedGaussians(*(getattr(gaussians, name)[i : i + 1] for name in NAMES)))
        alone = render(part, K[i : i + 1], HW, background[i : i + 1], backend=backend)
        for name in ("color", "alpha", "depth", "radii", "max_weight"):
            assert torch.equal(getattr(drawn, name)[i], getattr(alone, name)[0]), name
        loss(alone, i).backward()
        for name in NAMES:
            assert torch.equal(getattr(together, name).grad[i], getattr(part, name).grad[0]), name


def test_expanded_tensors_share_their_gradient() -> None:
    """One set of opacities and colours for all poses, as the avatar has."""
    gaussians = scene(2, 50, 6)
    opacities, colors = gaussians.opacities[0].clone().requires_grad_(), gaussians.colors[0].clone().requires_grad_()
    posed = PosedGaussians(gaussians.means, gaussians.covariances, opacities.expand(2, -1), colors.expand(2, -1, -1))
    weights(render(posed, camera(2, HW), HW, backend="cpu")).backward()
    apart = with_gradients(
        PosedGaussians(gaussians.means, gaussians.covariances, opacities.expand(2, -1), colors.expand(2, -1, -1))
    )
    weights(render(apart, camera(2, HW), HW, backend="cpu")).backward()
    torch.testing.assert_close(opacities.grad, apart.opacities.grad.sum(0))
    torch.testing.assert_close(colors.grad, apart.colors.grad.sum(0))


# determinism and memory


def everything(seed: int = 8) -> list[torch.Tensor]:
    g = with_gradients(scene(2, 3000, seed, 0.04))
    drawn = render(g, camera(2, (90, 120), 100.0), (90, 120), backend="cpu")
    weights(drawn).backward()
    pictures = [getattr(drawn, name).detach() for name in ("color", "alpha", "depth", "radii", "means2d", "max_weight")]
    return pictures + [getattr(g, name).grad for name in NAMES]


def test_results_are_the_same_to_the_bit_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3, 5, 1):
            torch.set_num_threads(threads)
            runs.append(everything())
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


def test_pictures_do_not_share_memory_when_backward_comes_later() -> None:
    """Two forwards before the first backward, and a backward twice: no workspace is used by two graphs at once."""
    expected = {seed: everything(seed) for seed in (8, 9)}
    graphs = []
    for seed in (8, 9):
        g = with_gradients(scene(2, 3000, seed, 0.04))
        graphs.append((seed, g, render(g, camera(2, (90, 120), 100.0), (90, 120), backend="cpu")))
    for seed, g, drawn in graphs:
        weights(drawn).backward(retain_graph=True)
        assert torch.equal(drawn.color.detach(), expected[seed][0])
        first = g.means.grad.clone()
        assert torch.equal(first, expected[seed][6])
        g.means.grad = None
        weights(drawn).backward()
        assert torch.equal(g.means.grad, first)


def test_threads_of_the_caller_may_render_at_the_same_time() -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = everything()
    with ThreadPoolExecutor(3) as pool:
        for result in pool.map(lambda _: everything(), range(6)):
            assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


# what cannot be drawn


@BOTH
def test_scenes_without_anything_to_draw_are_background(backend: str) -> None:
    background = torch.tensor([[0.1, 0.2, 0.3]])
    behind = balls((0, 0, -2, 0.9, 1, 1, 1), (0, 0, 0.005, 0.9, 1, 1, 1))
    aside = balls((50, 0, 2, 0.9, 1, 1, 1))
    nothing = balls()
    for gaussians in (behind, aside, nothing):
        g = with_gradients(gaussians)
        drawn = render(g, pinhole(100, 8.5, 4.5), (9, 17), background, backend=backend)
        assert torch.equal(drawn.color, background[:, None, None].expand(1, 9, 17, 3))
        assert not any(picture.any() for picture in (drawn.alpha, drawn.depth, drawn.max_weight))
        assert not drawn.radii.any()
        weights(drawn).backward()
        assert all(float(getattr(g, name).grad.abs().sum()) == 0 for name in NAMES)


@BOTH
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", NAMES)
def test_a_gaussian_that_is_not_finite_is_left_out_and_spoils_nothing(backend: str, name: str, bad: float) -> None:
    gaussians = scene(1, 40, 11)
    spoiled = with_gradients(gaussians)
    getattr(spoiled, name).data[0, 7] = bad
    without = with_gradients(
        PosedGaussians(*(getattr(gaussians, n)[:, [i for i in range(40) if i != 7]] for n in NAMES))
    )
    results = []
    for g in (spoiled, without):
        drawn = render(g, camera(1, HW), HW, backend=backend)
        weights(drawn).backward()
        results.append(drawn)
    assert torch.equal(results[0].color, results[1].color)
    assert results[0].radii[0, 7] == 0
    for n in NAMES:
        grad = getattr(spoiled, n).grad
        assert float(grad[0, 7].abs().sum()) == 0
        torch.testing.assert_close(grad[0, [i for i in range(40) if i != 7]], getattr(without, n).grad[0])


@BOTH
def test_flat_and_empty_covariances_are_a_blurred_point(backend: str) -> None:
    for scale in ((0.0, 0.0, 0.0), (0.05, 0.0, 0.0), (5.0, 1e-6, 1e-6)):
        ball = balls((0, 0, 2, 0.9, 1, 1, 1))
        flat = PosedGaussians(ball.means, torch.diag(torch.tensor(scale) ** 2)[None, None], ball.opacities, ball.colors)
        g = with_gradients(flat)
        drawn = render(g, pinhole(100, 10.5, 10.5), (21, 21), backend=backend)
        width = 100 * scale[0] / 2
        for dx, dy in ((0, 0), (2, 0), (0, 1)):
            expected = 0.9 * math.exp(-0.5 * (dx**2 / (width**2 + BLUR_PX2) + dy**2 / BLUR_PX2))
            expected = expected if expected >= ALPHA_MIN else 0.0
            assert drawn.alpha[0, 10 + dy, 10 + dx].item() == pytest.approx(expected, abs=1e-4)
        weights(drawn).backward()
        assert all(bool(torch.isfinite(getattr(g, name).grad).all()) for name in NAMES)


@BOTH
def test_a_gaussian_close_to_the_camera_has_a_bounded_footprint(backend: str) -> None:
    """Far to the side at 2 cm: its linearisation is held at 1.3 times the half field of view, gradients stay finite."""
    close = balls((0.5, 0.1, 0.02, 0.9, 1, 1, 1), (0.0, 0.0, 0.02, 0.9, 1, 1, 1), sigma=0.05)
    g = with_gradients(close)
    weights(render(g, pinhole(100, 10.5, 10.5), (21, 21), backend=backend)).backward()
    assert all(bool(torch.isfinite(getattr(g, name).grad).all()) for name in NAMES)


def test_the_near_plane_can_be_moved() -> None:
    ball = balls((0, 0, 0.5, 0.9, 1, 1, 1))
    assert render(ball, pinhole(100, 2.5, 2.5), (5, 5), near=0.4).radii.item() > 0
    assert render(ball, pinhole(100, 2.5, 2.5), (5, 5), near=0.6).radii.item() == 0


def test_the_background_and_the_camera_get_no_gradient() -> None:
    for backend in ("torch", "cpu"):
        background, K = torch.zeros(1, 3, requires_grad=True), camera(1, HW)
        drawn = render(with_gradients(scene()), K, HW, background, backend=backend)
        weights(drawn).backward()
        assert background.grad is None


# the front


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"K": torch.eye(3)}, ShapeError, r"K must have shape \(1, 3, 3\)"),
    ({"K": torch.zeros(1, 3, 3)}, InvalidIntrinsics, "focal lengths must be positive"),
    ({"background": torch.zeros(3)}, ShapeError, r"background must have shape \(1, 3\)"),
    ({"image_hw": (0, 5)}, ShapeError, "two positive integers"),
    ({"image_hw": (4.0, 5.0)}, ShapeError, "two positive integers"),
    ({"near": 0.0}, ConfigError, "near must be positive"),
    ({"backend": "opengl"}, ConfigError, "there are auto, gsplat, cpu, torch"),
    ({"backend": "gsplat"}, ConfigError, "needs tensors on cuda"),
])  # fmt: skip
def test_wrong_arguments_are_told_with_what_was_expected(change: dict, error: type, message: str) -> None:
    arguments = {"K": camera(1, HW), "image_hw": HW} | change
    with pytest.raises(error, match=message):
        render(scene(), **arguments)


def test_wrong_gaussians_are_told_by_name() -> None:
    g = scene()
    with pytest.raises(ShapeError, match=r"opacities must have shape \(1, 60\), not \(1, 59\)"):
        render(PosedGaussians(g.means, g.covariances, g.opacities[:, 1:], g.colors), camera(1, HW), HW)
    with pytest.raises(ShapeError, match=r"colors must be torch\.float32"):
        render(PosedGaussians(g.means, g.covariances, g.opacities, g.colors.double()), camera(1, HW), HW)
    with pytest.raises(ShapeError, match='backend="torch" takes any'):
        render(with_gradients(g, torch.float64), camera(1, HW).double(), HW)


def test_a_missing_numba_is_told_with_the_command(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "hsr_core.refine.render_cpu", None)
    with pytest.raises(MissingPackage, match="pip install"):
        render(scene(), camera(1, HW), HW)


def test_the_package_is_light_and_the_front_loads_no_numba() -> None:
    code = "import sys, hsr_core.refine; assert 'torch' not in sys.modules; "
    code += "import hsr_core.refine.render; assert not {'numba', 'gsplat'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
