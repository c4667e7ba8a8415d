"""Each equation against a plain float64 formula, finite differences, and a case worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import roma
import torch
from torch.autograd import gradcheck

from hsr_core.body.joints import J
from hsr_core.errors import ShapeError
from hsr_core.refine import losses
from hsr_core.refine.losses import LossSettings
from hsr_core.refine.neighbours import PointIndex
from hsr_core.refine.ssim import ssim

N = 50
WEIGHTS = LossSettings()


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(*values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def cloud(rng):
    """Gaussians near random vertices: means, anchor vertices, anchor normals, log scales, rotations."""
    vertices = torch.as_tensor(rng.normal(size=(N, 3)))
    normals = torch.nn.functional.normalize(torch.as_tensor(rng.normal(size=(N, 3))), dim=1)
    means = vertices + torch.as_tensor(rng.normal(size=(N, 3)) * 0.03)
    log_scales = torch.as_tensor(rng.normal(size=(N, 3)) - 4)
    rotations = roma.random_rotmat(N, dtype=torch.float64)
    return means, vertices, normals, log_scales, rotations


# --- eq. (6), (7) ---


def test_point_to_mesh_is_its_formula(cloud):
    means, vertices, normals, *_ = cloud
    want = np.mean([max(abs(np.dot(m - v, n)) - 0.02, 0) for m, v, n in zip(*map(np.asarray, cloud[:3]), strict=True)])
    assert losses.point_to_mesh(means, vertices, normals, 0.02).item() == pytest.approx(want, rel=1e-12)
    assert gradcheck(lambda m: losses.point_to_mesh(m, vertices, normals, 0.02), means.requires_grad_())


def test_point_to_mesh_is_flat_inside_the_band_and_pulls_by_one_over_n_outside():
    # Signed distances +10, -19, +50, -30 mm with delta 20 mm: (0 + 0 + 30 + 10) / 4 = 10 mm.
    means = rows((9, 9, 0.010), (0, 0, -0.019), (0, 5, 0.050), (1, 0, -0.030)).requires_grad_()
    up = rows((0, 0, 1)).expand(4, 3)
    loss = losses.point_to_mesh(means, torch.zeros(4, 3), up, 0.02)
    loss.backward()
    assert loss.item() == pytest.approx(0.010)
    assert torch.equal(means.grad, rows((0, 0, 0), (0, 0, 0), (0, 0, 0.25), (0, 0, -0.25)))


def test_each_gaussian_may_have_its_own_band(cloud):
    means, vertices, normals, *_ = cloud
    bands = torch.linspace(0, 0.05, N, dtype=torch.float64)
    signed = ((means - vertices) * normals).sum(1).abs()
    assert losses.point_to_mesh(means, vertices, normals, signed) == 0
    want = np.maximum(signed.numpy() - bands.numpy(), 0).mean()
    assert losses.point_to_mesh(means, vertices, normals, bands).item() == pytest.approx(want)


# --- eq. (8) ---


def test_coverage_is_its_formula(cloud, rng):
    means = cloud[0]
    mesh = torch.as_tensor(rng.normal(size=(80, 3)))
    want = np.mean([max(min(np.linalg.norm(v - m) for m in means.numpy()) - 0.02, 0) for v in mesh.numpy()])
    nearest = PointIndex(means).nearest(mesh)[1]
    assert losses.coverage(mesh, means[nearest], 0.02).item() == pytest.approx(want, abs=1e-9)
    assert gradcheck(lambda m: losses.coverage(mesh, m[nearest], 0.02), means.requires_grad_())


def test_coverage_by_hand():
    # One Gaussian; vertices at 3 cm, 1 cm and on it: (1 cm + 0 + 0) / 3. Its pull is 1 / V towards the first.
    mean = rows((0, 0, 0)).requires_grad_()
    mesh = rows((0.03, 0, 0), (0, 0.01, 0), (0, 0, 0))
    loss = losses.coverage(mesh, mean[[0, 0, 0]], 0.02)
    loss.backward()
    assert loss.item() == pytest.approx(0.01 / 3, abs=1e-9)
    assert torch.allclose(mean.grad, rows((-1 / 3, 0, 0)))


# --- eq. (9) ---


def test_flatness_is_its_formula_in_any_order_of_axes(cloud):
    log_scales = cloud[3]
    total = 0.0
    for row in log_scales.numpy():
        low, middle, high = sorted(np.exp(row))
        total += abs(math.log(middle / low / 3)) + abs(math.log(high / low / 3))
    assert losses.flatness(log_scales, 3.0).item() == pytest.approx(total / N, rel=1e-12)
    for order in ([1, 2, 0], [2, 1, 0]):
        assert losses.flatness(log_scales[:, order], 3.0).item() == pytest.approx(total / N, rel=1e-12)
    assert gradcheck(lambda s: losses.flatness(s, 3.0), log_scales.requires_grad_())


@pytest.mark.parametrize(
    ("ratios", "want"),
    [((1, 3, 3), 0), ((3, 1, 3), 0), ((1, 1, 3), math.log(3)), ((1, 3, 6), math.log(2)), ((1, 1, 1), 2 * math.log(3))],
)
def test_flatness_is_zero_only_where_both_ratios_are_tau(ratios, want):
    log_scales = (rows(ratios) * 0.004).log()
    assert losses.flatness(log_scales, 3.0).item() == pytest.approx(want, abs=1e-12)


def test_the_hinged_flatness_lets_thin_gaussians_be():
    assert losses.flatness((rows((1, 3, 6)) * 0.01).log(), 3.0, hinge=True).item() == pytest.approx(0, abs=1e-12)
    assert losses.flatness((rows((1, 1, 6)) * 0.01).log(), 3.0, hinge=True).item() == pytest.approx(math.log(3))


# --- eq. (10), (11) ---


def test_surface_alignment_is_its_formula_and_blind_to_the_normals_sign(cloud):
    _, _, normals, log_scales, rotations = cloud
    want = np.mean(
        [
            1 - abs(r[:, s.argmin()] @ n)
            for r, s, n in zip(*map(np.asarray, (rotations, log_scales, normals)), strict=True)
        ]
    )
    assert losses.surface_alignment(rotations, log_scales, normals).item() == pytest.approx(want, rel=1e-12)
    assert losses.surface_alignment(rotations, log_scales, -normals).item() == pytest.approx(want, rel=1e-12)
    quats = torch.randn(N, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def by_quats(q: torch.Tensor) -> torch.Tensor:
        return losses.surface_alignment(
            roma.unitquat_to_rotmat(torch.nn.functional.normalize(q, dim=1)), log_scales, normals
        )

    assert gradcheck(by_quats, quats)


def test_surface_alignment_by_hand():
    # The thin axis is z; normals along z, at 60 degrees to it, and across it: (0 + 0.5 + 1) / 3.
    normals = rows((0, 0, -1), (0, math.sin(math.pi / 3), 0.5), (1, 0, 0))
    thin_z = rows((0, 0, -1)).expand(3, 3)
    eye = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    assert losses.surface_alignment(eye, thin_z, normals).item() == pytest.approx(0.5)


def test_camel_and_total_are_weighted_sums():
    weights = LossSettings(p2m=2, cov=3, flat=5, surf=7, depth=11, camel=13)
    one = tensor(1.0)[0]
    assert losses.camel(one, 10 * one, 100 * one, 1000 * one, weights).item() == 2 + 30 + 500 + 7000
    assert losses.depth(one, 2 * one).item() == 3
    assert (WEIGHTS.p2m, WEIGHTS.cov, WEIGHTS.flat, WEIGHTS.surf, WEIGHTS.delta_m, WEIGHTS.tau) == (
        1,
        1,
        0.01,
        0.1,
        0.02,
        3,
    )


# --- eq. (12) ---


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Pixel by pixel, window by window, zeros outside; (H, W, C)."""
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for c in range(a.shape[2]):
        pa, pb = np.pad(a[..., c], 5), np.pad(b[..., c], 5)
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                wa, wb = pa[i : i + 11, j : j + 11], pb[i : i + 11, j : j + 11]
                ma, mb = (window * wa).sum(), (window * wb).sum()
                va, vb = (window * wa**2).sum() - ma**2, (window * wb**2).sum() - mb**2
                cov = (window * wa * wb).sum() - ma * mb
                values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return float(np.mean(values))


def test_ssim_is_its_definition(rng):
    a = rng.random((2, 20, 15, 3))
    b = np.clip(a + rng.normal(size=a.shape) * 0.1, 0, 1)
    want = np.mean([slow_ssim(x, y) for x, y in zip(a, b, strict=True)])
    assert ssim(torch.as_tensor(a), torch.as_tensor(b)).item() == pytest.approx(want, rel=1e-9)
    assert ssim(torch.as_tensor(a).float(), torch.as_tensor(b).float()).item() == pytest.approx(want, rel=1e-4)
    assert ssim(torch.as_tensor(a), torch.as_tensor(a)).item() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(6, 5, 1), (1, 9, 14, 2), (2, 1, 1, 3)])
def test_ssim_has_the_gradient_of_finite_differences(shape, rng):
    a = torch.as_tensor(rng.random(shape)).requires_grad_()
    b = torch.as_tensor(rng.random(shape))
    assert gradcheck(lambda x: ssim(x, b), a)


def test_ssim_refuses_pictures_of_two_sizes():
    with pytest.raises(ShapeError, match=r"\(4, 4, 3\)"):
        ssim(torch.zeros(4, 4, 3), torch.zeros(4, 5, 3))


def test_color_is_the_absolute_difference_and_a_tenth_of_ssim(rng):
    a, b = (torch.as_tensor(rng.random((2, 12, 12, 3))) for _ in range(2))
    want = np.abs(a.numpy() - b.numpy()).mean() + 0.1 * (1 - ssim(a, b).item())
    assert losses.color(a, b, WEIGHTS).item() == pytest.approx(want)
    assert losses.color(a, b, WEIGHTS, torch.ones(2, 12, 12, dtype=torch.bool)).item() == pytest.approx(want)


def test_color_by_hand():
    # Equal but for a constant 0.25 in half of the picture, SSIM off.
    target = torch.zeros(1, 4, 4, 3)
    render = target.clone()
    render[:, :2] = 0.25
    assert losses.color(render, target, LossSettings(ssim=0)).item() == pytest.approx(0.125)


def test_pixels_that_are_not_valid_count_for_nothing(rng):
    render = torch.as_tensor(rng.random((1, 24, 24, 3))).requires_grad_()
    target = torch.as_tensor(rng.random((1, 24, 24, 3)))
    valid = torch.zeros(1, 24, 24, dtype=torch.bool)
    valid[:, :, :10] = True
    other = torch.where(valid[..., None], target, 1 - target)
    loss = losses.color(render, target, WEIGHTS, valid)
    assert loss.item() == losses.color(render, other, WEIGHTS, valid).item()
    loss.backward()
    assert render.grad[:, :, 20:].abs().max() < 1e-15  # windows that see the valid part reach 10 pixels from it
    assert losses.color(render, target, WEIGHTS, torch.zeros_like(valid)).item() == pytest.approx(0, abs=1e-9)


def test_compositing_puts_person_and_background_together():
    image, mask = torch.full((1, 1, 3, 3), 0.8), torch.tensor([[[1.0, 0.5, 0.0]]])
    out = losses.composite(image, mask, torch.tensor([[0.2, 0.0, 1.0]]))
    assert torch.allclose(out[0, 0], torch.tensor([[0.8, 0.8, 0.8], [0.5, 0.4, 0.9], [0.2, 0.0, 1.0]]))


# --- eq. (13) ---


def test_rendered_depth_is_its_formula(rng):
    shape = (3, 16, 16)
    depth, sensor, alpha = 3 + rng.normal(size=shape), 3 + rng.normal(size=shape), rng.random(shape)
    sensor[rng.random(shape) < 0.2] = 0
    core = rng.random(shape) < 0.9
    core[2, 2:] = False  # under 64 pixels: counts as zero
    frames = []
    for f in range(3):
        chosen = [
            (i, j)
            for i in range(16)
            for j in range(16)
            if core[f, i, j] and sensor[f, i, j] > 0 and alpha[f, i, j] > 0.5
        ]
        mean = np.mean([abs(depth[f, i, j] - sensor[f, i, j]) for i, j in chosen])
        frames.append(mean if len(chosen) >= 64 else 0)
    given = [torch.as_tensor(x) for x in (depth, alpha, sensor, core)]
    assert losses.rendered_depth(*given).item() == pytest.approx(np.mean(frames), rel=1e-12)
    assert frames[0] > 0
    assert frames[2] == 0
    assert gradcheck(lambda d: losses.rendered_depth(d, *given[1:]), given[0].requires_grad_())


def test_rendered_depth_by_hand_and_without_any_depth():
    depth = torch.full((1, 10, 10), 3.1, requires_grad=True)
    core, alpha = torch.ones(1, 10, 10, dtype=torch.bool), torch.ones(1, 10, 10)
    loss = losses.rendered_depth(depth, alpha, torch.full((1, 10, 10), 3.0), core)
    loss.backward()
    assert loss.item() == pytest.approx(0.1, rel=1e-5)
    assert torch.allclose(depth.grad, torch.full((1, 10, 10), 0.01))
    assert losses.rendered_depth(depth, alpha, torch.zeros(1, 10, 10), core).item() == 0


# --- eq. (14) ---


def test_centers_to_cloud_is_its_formula(cloud, rng):
    points = torch.as_tensor(rng.normal(size=(200, 3)))
    means = torch.stack([cloud[0], cloud[0] + 0.1])
    visible = torch.as_tensor(rng.random((2, N)) < 0.6)
    want = np.mean(
        [
            sum(
                math.sqrt(min(((g - p) ** 2).sum() for p in points.numpy()) + 0.05**2) - 0.05
                for g, seen in zip(means[f].numpy(), visible[f], strict=True)
                if seen
            )
            / (2 * visible[f].sum().item())
            for f in range(2)
        ]
    )
    nearest = points[PointIndex(points).nearest(means.flatten(0, 1))[1]].view(2, N, 3)
    assert losses.centers_to_cloud(means, visible, nearest, 0.05).item() == pytest.approx(want, rel=1e-9)
    assert gradcheck(lambda m: losses.centers_to_cloud(m, visible, nearest, 0.05), means.requires_grad_())


@pytest.mark.parametrize(("distance", "want"), [(1e-3, 1e-6 / (4 * 0.05)), (10.0, 10 / 2)])
def test_centers_to_cloud_is_square_near_and_linear_far(distance, want):
    means = rows((0, 0, 3), (0, 0, 5))[None].requires_grad_()
    points = rows((distance, 0, 3), (0, 0, 4))[None]
    loss = losses.centers_to_cloud(means, torch.tensor([[True, False]]), points, 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(want, rel=0.01)
    assert means.grad[0, 1].abs().max() == 0  # the hidden one


def test_centers_to_cloud_has_no_pull_at_the_point_and_none_without_visible_gaussians():
    means = rows((0, 0, 3))[None].requires_grad_()
    losses.centers_to_cloud(means, torch.tensor([[True]]), means.detach(), 0.05).backward()
    assert means.grad.abs().max() == 0
    assert losses.centers_to_cloud(means, torch.tensor([[False]]), means.detach() + 1, 0.05).item() == 0


def test_the_visible_set_is_the_front_layer_inside_the_mask():
    core = torch.zeros(1, 4, 6, dtype=torch.bool)
    core[:, :, :3] = True
    depth = torch.full((1, 4, 6), 3.0)
    cases = [  # z, pixel, radius
        (3.04, (1.5, 1.5), 2, True),
        (3.06, (1.5, 1.5), 2, False),  # behind the front layer
        (2.50, (2.99, 0.0), 1, True),
        (3.00, (3.01, 0.0), 1, False),  # outside the mask
        (3.00, (-0.2, 1.0), 3, False),  # centre outside the picture
        (3.00, (1.5, 1.5), 0, False),  # not drawn
        (3.00, (math.nan, 1.0), 0, False),
    ]
    means = torch.tensor([[[0, 0, z] for z, *_ in cases]])
    means2d = torch.tensor([[pixel for _, pixel, *_ in cases]])
    radii = torch.tensor([[radius for _, _, radius, _ in cases]], dtype=torch.int32)
    assert losses.visible_set(means, means2d, radii, depth, core)[0].tolist() == [want for *_, want in cases]


def test_what_faces_away_is_not_in_front():
    means = torch.tensor([[[0.0, 0, 3], [0, 0, 3], [0, 0, 3]]])
    normals = torch.tensor([[[0.0, 0, -1], [0, 0, 1], [0.995, 0, 0.0995]]])
    assert losses.front_facing(means, normals)[0].tolist() == [True, False, True]


def test_back_projection_undoes_projection(rng):
    K = torch.tensor([[240.0, 0, 56.5], [0, 240, 80.5], [0, 0, 1]])
    depth = torch.as_tensor(rng.uniform(1, 4, (160, 112)), dtype=torch.float32)
    core = torch.zeros(160, 112, dtype=torch.bool)
    core[20:120, 10:90] = True
    depth[30] = 0
    points = losses.back_project(depth, core, K, max_points=500)
    pixels = points @ K.T
    u, v = (pixels[:, :2] / pixels[:, 2:]).unbind(1)
    assert 400 < len(points) <= 500
    assert torch.allclose(depth[v.long(), u.long()], points[:, 2])
    assert torch.allclose(u % 1, torch.full_like(u, 0.5), atol=1e-3)
    assert core[v.long(), u.long()].all()
    assert losses.back_project(depth, torch.zeros_like(core), K).shape == (0, 3)


# --- terms of our own ---


def test_the_mask_term_is_a_mean_difference(rng):
    alpha, mask = (torch.as_tensor(rng.random((2, 5, 5))) for _ in range(2))
    assert losses.mask_difference(alpha, mask).item() == pytest.approx(np.abs(alpha.numpy() - mask.numpy()).mean())


def test_wide_scales_count_above_two_centimetres():
    log_scales = rows((0.01, 0.05, 0.02), (0.01, 0.01, 0.02), (0.03, 0.001, 0.001)).log().requires_grad_()
    assert losses.wide_scales(log_scales).item() == pytest.approx((0.03 + 0 + 0.01) / 3)
    assert gradcheck(losses.wide_scales, log_scales.detach()[[0, 2]].requires_grad_())


def test_the_spread_among_neighbours_is_a_standard_deviation(rng):
    values = torch.as_tensor(rng.normal(size=(N, 4)))
    neighbours = torch.as_tensor(rng.integers(N, size=(N, 3)))
    want = np.mean([values.numpy()[row].std(axis=0) for row in neighbours.numpy()])
    assert losses.neighbour_spread(values, neighbours).item() == pytest.approx(want, abs=1e-6)


def test_learnt_weights_start_without_a_pull():
    offsets = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    losses.learnt_weights_size(offsets).backward()
    assert torch.equal(offsets.grad, torch.zeros(3, 4))
    assert losses.learnt_weights_size(rows((3, 4), (0, 0))).item() == 2.5


def test_edges_hold_normal_offsets_together():
    edges = torch.tensor([[0, 1], [1, 2]])
    assert losses.edge_smoothness(tensor(0.0, 0.1, 0.3), edges).item() == pytest.approx((0.01 + 0.04) / 2)


def test_the_prior_by_hand():
    # One joint of two turned by 0.2 rad, 5 cm aside and 15 cm in depth: 0.04 / 2 + 0.01 * (1 + 1).
    increments, transl = rows((0.2, 0, 0), (0, 0, 0))[None], rows((0.05, 0, -0.15))
    assert losses.pose_prior(increments, transl, torch.ones(2)).item() == pytest.approx(0.02 + 0.02)
    assert losses.pose_prior(increments, transl, tensor(3, 1)).item() == pytest.approx(0.06 + 0.02)


def test_the_temporal_term_smooths_corrections_and_halves_a_gap_of_two():
    increments, transl = torch.zeros(2, 2, 3), torch.zeros(2, 3)
    later = increments.clone()
    later[:, 0, 1] = 0.2
    moved = transl + torch.tensor([0, 0, 0.1])
    weights = torch.tensor([1.0, 0.0])
    value = losses.correction_smoothness(increments, transl, later, moved, torch.tensor([1, 2]), weights)
    assert value.item() == pytest.approx((0.03 + 0.03 / 2) / 2)
    assert losses.correction_smoothness(later, moved, later, moved, torch.tensor([1, 2]), weights).item() == 0


def test_hinges_bend_one_way(open_body):
    from hsr_core.types import HumanParams

    names, axes = list(losses.HINGES), torch.tensor(list(losses.HINGES.values())).float()
    assert losses.hinge_limits(0.5 * axes, axes).item() == 0
    assert losses.hinge_limits(-0.5 * axes, axes).item() == pytest.approx(0.5)
    pose = np.zeros((21, 3), np.float32)
    for name, axis in zip(names, axes.numpy(), strict=True):
        pose[J[name] - 1] = axis
    joints = open_body.pose_one(HumanParams(body_pose=pose), vertices=False).joints
    for side in ("left", "right"):
        assert joints[J[f"{side}_ankle"], 2] < joints[J[f"{side}_knee"], 2]  # heels go back, hands come forward
        assert joints[J[f"{side}_wrist"], 2] > joints[J[f"{side}_elbow"], 2]


def test_chunked_distances_find_what_the_tree_finds(rng, monkeypatch):
    from hsr_core.refine import neighbours

    points = torch.as_tensor(rng.normal(size=(300, 3)), dtype=torch.float32)
    queries = torch.as_tensor(rng.normal(size=(100, 3)), dtype=torch.float32)
    tree = PointIndex(points)
    chunked = PointIndex(points)
    chunked._tree = None  # as on a GPU
    monkeypatch.setattr(neighbours, "CHUNK", 300 * 7)
    for k in (1, 3):
        for a, b in zip(tree.nearest(queries, k), chunked.nearest(queries, k), strict=True):
            assert a.shape == b.shape == ((100,) if k == 1 else (100, 3))
            assert torch.allclose(a.double(), b.double(), atol=1e-6)
