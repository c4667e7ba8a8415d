"""Gaussians on a body: where they start, how they move, how their number changes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import roma
import torch
import trimesh
from scipy.special import sph_harm_y

from hsr_core.errors import ConfigError, ShapeError
from hsr_core.geometry.raster import Topology, rasterize
from hsr_core.refine import avatar_init, density
from hsr_core.refine.avatar import AvatarSettings, FreeAvatar, MeshAvatar, build_avatar, snapshot
from hsr_core.refine.avatar_terms import AvatarTerms
from hsr_core.refine.binding import BINDINGS
from hsr_core.refine.density import DensitySettings, ScreenStats
from hsr_core.refine.gaussian_adam import GaussianRates, gaussian_adam, resize
from hsr_core.refine.losses import LossSettings
from hsr_core.refine.sh import rgb_to_sh0, rotate_bands, sh_to_rgb
from hsr_core.refine.skin import CanonicalBody, local_rotmats

FREE = ["camel", "none", "lsw", "camel+lsw", "camel_renorm_lsw"]
SMALL = AvatarSettings(start=400)


def pose_of(person) -> tuple[torch.Tensor, torch.Tensor]:
    return local_rotmats(person)[None], torch.as_tensor(person.transl)[None]


@pytest.fixture
def avatar(canonical) -> FreeAvatar:
    return build_avatar(canonical, SMALL)


# --- start ---


def test_every_vertex_gets_a_gaussian_where_there_are_few(canonical):
    whole = build_avatar(canonical, AvatarSettings(start=100_000))
    assert torch.equal(whole.anchors, torch.arange(canonical.n_vertices))
    assert torch.equal(whole.means.data, canonical.vertices)
    thinnest = whole.log_scales.argmin(dim=1)
    assert (thinnest == 2).all()
    cosine = (whole.rotations()[..., 2] * canonical.normals).sum(1)
    assert cosine.min() > 1 - 1e-5
    spread = (whole.log_scales[:, 0] - whole.log_scales[:, 2]).detach()
    assert torch.allclose(spread, torch.full_like(spread, math.log(3)), atol=1e-5)
    radius = (canonical.areas / math.pi).sqrt().clamp(1e-3, 30e-3)
    assert torch.allclose(whole.log_scales[:, 1].exp(), radius, rtol=1e-4)
    assert torch.allclose(whole.opacity_logits.sigmoid(), torch.tensor(0.9))


def test_chosen_vertices_are_spread_evenly(canonical):
    chosen = avatar_init.farthest_points(canonical.vertices, 300)
    places = canonical.vertices[chosen]
    apart = torch.cdist(places, places).fill_diagonal_(9).min()
    reach = torch.cdist(canonical.vertices, places).min(dim=1).values.max()
    assert len(chosen.unique()) == 300
    assert apart >= reach - 1e-6  # the law of farthest points: nothing is farther from all than two are apart
    shared = avatar_init.share_areas(canonical.vertices, canonical.areas, chosen)
    assert shared.sum().item() == pytest.approx(canonical.areas.sum().item(), rel=1e-5)


PARAMETERS = {
    "free": {"means", "quats_wxyz", "log_scales", "opacity_logits", "sh0", "shN"},
    "faces": {"normal_offsets", "in_plane", "plane_log_scales", "opacity_logits", "sh0", "shN"},
}


@pytest.mark.parametrize(
    ("binding", "parameters", "terms"),
    [
        ("camel", PARAMETERS["free"], {"scale", "p2m", "cov", "flat", "surf", "camel"}),
        ("none", PARAMETERS["free"], {"scale"}),
        ("lsw", PARAMETERS["free"] | {"weight_offsets"}, {"scale", "lsw_norm"}),
        (
            "camel+lsw",
            PARAMETERS["free"] | {"weight_offsets"},
            {"scale", "lsw_norm", "p2m", "cov", "flat", "surf", "camel"},
        ),
        (
            "camel_renorm_lsw",
            PARAMETERS["free"] | {"weight_offsets"},
            {"scale", "lsw_norm", "p2m", "cov", "flat", "surf", "camel"},
        ),
        ("gom", PARAMETERS["faces"], {"scale", "edge"}),
    ],
)
def test_a_binding_is_chosen_by_its_name_alone(binding, parameters, terms, canonical, person):
    avatar = build_avatar(canonical, dataclasses.replace(SMALL, binding=binding))
    assert {name for name, _ in avatar.named_parameters()} == parameters
    groups = gaussian_adam(avatar, GaussianRates()).param_groups
    assert {group["name"] for group in groups} == parameters
    assert avatar.n_gaussians == (len(canonical.faces) if binding == "gom" else 400)
    total, parts = AvatarTerms(avatar, LossSettings())()
    assert set(parts) == terms
    weighted = sum(getattr(LossSettings(), name) * part for name, part in parts.items() if name not in CAMEL_PARTS)
    assert total.item() == pytest.approx(weighted.item(), rel=1e-6)
    gaussians = avatar.pose(*pose_of(person))
    assert gaussians.means.shape == (1, avatar.n_gaussians, 3)
    assert gaussians.covariances.shape == (1, avatar.n_gaussians, 3, 3)
    (total + gaussians.means.square().sum() + gaussians.covariances.square().sum()).backward()
    moved = {name for name, p in avatar.named_parameters() if p.grad is not None and p.grad.isfinite().all()}
    assert moved >= parameters - {"opacity_logits", "sh0", "shN"}


CAMEL_PARTS = {"p2m", "cov", "flat", "surf"}


def test_an_unknown_binding_and_foreign_colours_are_refused(canonical):
    with pytest.raises(ConfigError, match="camel, none, lsw"):
        build_avatar(canonical, AvatarSettings(binding="glue"))
    with pytest.raises(ShapeError, match="one for each vertex"):
        build_avatar(canonical, SMALL, colors=torch.zeros(7, 3))
    assert set(BINDINGS) == {*FREE, "gom"}


# --- posing ---


@pytest.mark.parametrize("which", ["open_body", "synthetic_body"])
@pytest.mark.parametrize("binding", [*FREE, "gom"])
def test_gaussians_on_the_skin_move_exactly_as_the_body_does(which, binding, person, request):
    model = request.getfixturevalue(which)
    body = CanonicalBody.from_body(model, person)
    avatar = build_avatar(body, dataclasses.replace(SMALL, binding=binding))
    skin = torch.as_tensor(model.pose_one(person).vertices)
    want = skin[body.faces].mean(dim=1) if binding == "gom" else skin[avatar.anchors]
    assert (avatar.pose(*pose_of(person)).means[0] - want).abs().max() < 1e-5


@pytest.mark.parametrize("binding", ["camel", "gom"])
def test_turning_the_person_turns_its_gaussians(binding, canonical, person):
    avatar = build_avatar(canonical, dataclasses.replace(SMALL, binding=binding))
    rotmats, transl = pose_of(person)
    turn = roma.rotvec_to_rotmat(torch.tensor([0.3, -1.0, 0.5]))
    turned = rotmats.clone()
    turned[:, 0] = turn @ rotmats[:, 0]
    a, b = avatar.pose(rotmats, transl), avatar.pose(turned, transl)
    pelvis = canonical.joints[0] + transl[0]
    assert torch.allclose(b.means[0], (a.means[0] - pelvis) @ turn.T + pelvis, atol=1e-5)
    assert torch.allclose(b.covariances[0], turn @ a.covariances[0] @ turn.T, atol=1e-8)
    normals = avatar.posed_normals(rotmats)[0]
    cosine = (avatar.posed_normals(turned)[0] * (normals @ turn.T)).sum(1)
    assert cosine.quantile(0.01) > 1 - 1e-5  # faces of a fraction of a millimetre lose digits in float32


def test_a_batch_is_its_poses_one_by_one(avatar, person):
    rotmats, transl = pose_of(person)
    other = torch.eye(3).expand_as(rotmats)
    both = avatar.pose(torch.cat([rotmats, other]), torch.cat([transl, transl + 1]))
    for i, one in enumerate((avatar.pose(rotmats, transl), avatar.pose(other, transl + 1))):
        for field in dataclasses.fields(one):
            assert torch.allclose(getattr(both, field.name)[i], getattr(one, field.name)[0], atol=1e-6)


def test_poses_of_wrong_shape_are_refused(avatar):
    with pytest.raises(ShapeError, match=r"rotmats \(B, 55, 3, 3\)"):
        avatar.pose(torch.eye(3).expand(1, 52, 3, 3), torch.zeros(1, 3))


@pytest.mark.parametrize("binding", [*FREE, "gom"])
def test_gradients_are_those_of_finite_differences(binding, open_body, person):
    torch.manual_seed(0)
    body = CanonicalBody.from_body(open_body, person).double()
    if binding == "gom":
        body.faces = body.faces[::4000]
    avatar = build_avatar(body, AvatarSettings(binding=binding, start=5, sh_degree=1))
    rotmats, transl = (x.double() for x in pose_of(person))
    names = [name for name, _ in avatar.named_parameters()]
    for parameter in avatar.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    if binding == "gom":
        avatar.normal_offsets.data *= 0.01
    values = [p.data.clone().requires_grad_() for p in avatar.parameters()]
    if binding == "gom":  # most vertices move nothing
        values[names.index("normal_offsets")].requires_grad_(False)

    def posed(increment: torch.Tensor, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        turned = rotmats @ roma.rotvec_to_rotmat(increment)
        named = dict(zip(names, parameters, strict=True))
        out = torch.func.functional_call(avatar, named, (turned, transl))
        return out.means, 1e3 * out.covariances, out.opacities, out.colors

    avatar.forward = avatar.pose
    increment = torch.zeros(1, 55, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(posed, (increment, *values), atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("binding", ["lsw", "camel_renorm_lsw"])
def test_learnt_weights_are_no_lever_on_the_translation(binding, canonical, person):
    avatar = build_avatar(canonical, dataclasses.replace(SMALL, binding=binding))
    rotmats, transl = pose_of(person)
    avatar.weight_offsets.data += 0.05 * torch.rand_like(avatar.weight_offsets)
    moved = avatar.pose(rotmats, transl + 1).means - avatar.pose(rotmats, transl).means
    assert torch.allclose(moved, torch.ones_like(moved), atol=1e-5)
    rows = avatar.skinning_weights().sum(dim=1)
    assert torch.allclose(rows, torch.ones_like(rows), atol=1e-5) == (binding == "camel_renorm_lsw")


# --- colour ---


def test_colour_by_direction_is_that_of_real_spherical_harmonics():
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator), dim=1)
    shN = 0.1 * torch.randn(20, 3, 3, generator=generator)
    x, y, z = directions.double().numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    real = [  # the bands y, z, x; 3D Gaussian splatting has -y, z, -x, which the complex ones' phase gives by itself
        math.sqrt(2) * sph_harm_y(1, 1, theta, phi).imag,
        sph_harm_y(1, 0, theta, phi).real,
        math.sqrt(2) * sph_harm_y(1, 1, theta, phi).real,
    ]
    want = 0.5 + sum(basis[:, None] * shN[:, k].numpy() for k, basis in enumerate(real))
    got = sh_to_rgb(rgb_to_sh0(torch.full((20, 1, 3), 0.5))[:, 0][:, None], shN, directions)
    assert np.abs(got.numpy() - want.clip(0)).max() < 1e-5

    turn = roma.random_rotmat(20)
    turned = sh_to_rgb(torch.zeros(20, 1, 3), rotate_bands(shN, turn), (turn @ directions[..., None])[..., 0])
    assert torch.allclose(turned, sh_to_rgb(torch.zeros(20, 1, 3), shN, directions), atol=1e-6)


def test_colour_turns_with_the_body(canonical, person):
    avatar = build_avatar(canonical, dataclasses.replace(SMALL, sh_degree=1))
    avatar.shN.data = 0.2 * torch.randn(avatar.shN.shape, generator=torch.Generator().manual_seed(0))
    rotmats, transl = pose_of(person)
    turn = roma.rotvec_to_rotmat(torch.tensor([0.1, 0.6, -0.2]))
    turned = rotmats.clone()
    turned[:, 0] = turn @ rotmats[:, 0]
    pelvis = canonical.joints[0]
    around = (turn @ (pelvis + transl[0]) - pelvis)[None]  # the same view of the same person, all turned
    a, b = avatar.pose(rotmats, transl), avatar.pose(turned, around)
    assert torch.allclose(a.colors, b.colors, atol=1e-4)
    assert (avatar.pose(turned, transl).colors - a.colors).abs().max() > 0.01


def test_raising_the_degree_changes_no_colour_yet(avatar, person):
    before = avatar.pose(*pose_of(person)).colors
    avatar.raise_sh_degree()
    assert avatar.sh.shape == (400, 4, 3)
    assert torch.equal(avatar.pose(*pose_of(person)).colors, before)


def test_vertices_take_the_colour_of_the_pixels_that_show_them():
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    canonical = np.asarray(sphere.vertices, np.float32)
    truth = 0.5 + canonical  # smooth colours by place, 0..1
    posed = canonical + np.array([0, 0, 3], np.float32)
    K = np.array([[200, 0, 50], [0, 200, 40], [0, 0, 1.0]])
    uv = (posed @ K.T.astype(np.float32))[:, :2] / posed[:, 2:]
    topology = Topology(np.asarray(sphere.faces))
    drawn = rasterize(uv, 1 / posed[:, 2], topology, (80, 100))
    image, mask = np.zeros((80 * 100, 3), np.float32), np.zeros(80 * 100, np.float32)
    mask[drawn.pixel] = 1
    for c in range(3):
        image[drawn.pixel, c] = drawn.interpolate(truth[:, c], topology.faces)
    view = avatar_init.ColorView(posed, image.reshape(80, 100, 3), mask.reshape(80, 100), K)

    colors, seen = avatar_init.vertex_colors(canonical, sphere.faces, [view, view])

    facing = -(canonical * posed).sum(axis=1) / np.linalg.norm(posed, axis=1) / 0.5
    assert seen[facing > 0.3].all()
    assert not seen[facing < 0].any()
    error = np.abs(colors - truth).max(axis=1)
    assert error[facing > 0.3].max() < 0.03  # a pixel is 15 mm, and colour goes by place
    assert error[seen].max() < 0.10  # at the rim a pixel spans more
    apart = np.linalg.norm(canonical[:, None] - canonical[None, seen], axis=2)
    for i in np.flatnonzero(~seen):
        around = apart[i] <= 0.10
        want = colors[seen][around].mean(axis=0) if around.any() else 0.5
        assert np.allclose(colors[i], want, atol=1e-5)


def test_no_view_leaves_the_body_grey(canonical):
    colors, seen = avatar_init.vertex_colors(canonical.vertices.numpy(), canonical.faces.numpy(), [])
    assert not seen.any()
    assert (colors == 0.5).all()


# --- anchors ---


def test_a_gaussian_changes_its_anchor_only_for_a_much_nearer_vertex(avatar):
    body = avatar.canonical
    distance = torch.cdist(body.vertices[avatar.anchors], body.vertices)
    other = (distance - 0.02).abs().argmin(dim=1)  # a vertex about 2 cm away
    own, away = body.vertices[avatar.anchors], body.vertices[other]
    gap = (away - own).norm(dim=1, keepdim=True)
    toward = (away - own) / gap
    before = avatar.anchors.clone()

    avatar.means.data = own + toward * (gap / 2 + 1e-3)  # nearer to the other by 2 mm at most
    nearer = torch.cdist(avatar.means.data, body.vertices).min(dim=1).values
    stays = (avatar.means.data - own).norm(dim=1) - nearer < 3e-3
    avatar.reanchor()
    assert torch.equal(avatar.anchors[stays], before[stays])
    assert stays.any()

    avatar.means.data = away.clone()
    assert avatar.reanchor() > 0
    assert (avatar.means - avatar.anchor_vertices).norm(dim=1).max() <= 3e-3
    assert torch.equal(avatar.anchor_normals, body.normals[avatar.anchors])


def test_another_shape_carries_gaussians_along(open_body, person, avatar):
    generator = torch.Generator().manual_seed(5)
    avatar.means.data += 0.02 * torch.randn(avatar.means.shape, generator=generator)
    optimizer = gaussian_adam(avatar, GaussianRates())
    avatar.means.sum().backward()
    optimizer.step()
    moments = optimizer.state[avatar.means]["exp_avg"].clone()
    distance = ((avatar.means - avatar.anchor_vertices) * avatar.anchor_normals).sum(1).detach()
    thin = (avatar.rotations()[..., 2] * avatar.anchor_normals).sum(1).detach()
    old_areas = avatar.canonical.areas[avatar.anchors]
    scales = avatar.log_scales.detach().clone()
    betas = person.betas.copy()
    betas[:3] += [1.0, -1.0, 1.0]
    other = CanonicalBody.from_body(open_body, dataclasses.replace(person, betas=betas))

    avatar.rebind(other)

    now = ((avatar.means - avatar.anchor_vertices) * avatar.anchor_normals).sum(1).detach()
    assert (other.vertices - CanonicalBody.from_body(open_body, person).vertices).norm(dim=1).max() > 0.01
    assert torch.equal(avatar.anchor_vertices, other.vertices[avatar.anchors])
    assert (now - distance).abs().max() < 1e-4
    assert torch.allclose((avatar.rotations()[..., 2] * avatar.anchor_normals).sum(1), thin, atol=1e-4)
    growth = 0.5 * (other.areas[avatar.anchors] / old_areas).log()
    assert torch.allclose(avatar.log_scales - scales, growth[:, None].expand(-1, 3), atol=1e-5)
    assert torch.equal(optimizer.state[avatar.means]["exp_avg"], moments)


def test_an_avatar_does_not_move_to_another_model(avatar, synthetic_body, person):
    with pytest.raises(ShapeError, match="cannot move"):
        avatar.rebind(CanonicalBody.from_body(synthetic_body, person))


def test_scales_are_kept_in_range(canonical):
    for binding, name in (("camel", "log_scales"), ("gom", "plane_log_scales")):
        avatar = build_avatar(canonical, dataclasses.replace(SMALL, binding=binding))
        getattr(avatar, name).data[:5] = torch.tensor([[-20.0], [20], [0], [-3], [-5]])
        avatar.clamp_()
        scales = getattr(avatar, name).exp()
        assert scales.min().item() == pytest.approx(0.5e-3)
        assert scales.max().item() == pytest.approx(50e-3)


def test_a_snapshot_does_not_follow(avatar, person):
    kept = snapshot(avatar)
    before = kept.pose(*pose_of(person)).means.clone()
    avatar.means.data += 1
    avatar.set_anchors(avatar.anchors.flip(0))
    assert torch.equal(kept.pose(*pose_of(person)).means, before)
    assert kept.canonical is avatar.canonical


# --- adding and pruning ---


def trained(avatar: FreeAvatar, steps: int = 3) -> torch.optim.Adam:
    """Return Adam after some steps on a loss that is different for each Gaussian."""
    optimizer = gaussian_adam(avatar, GaussianRates())
    for _ in range(steps):
        step(avatar, optimizer, torch.arange(avatar.n_gaussians))
    return optimizer


def step(avatar: FreeAvatar, optimizer: torch.optim.Adam, row: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss = sum(((p - 0.01 * row.view(-1, *[1] * (p.dim() - 1))) ** 2).sum() for _, p in avatar.named_parameters())
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("binding", ["camel", "lsw"])
def test_survivors_train_on_as_if_nothing_had_happened(binding, canonical):
    settings = dataclasses.replace(SMALL, binding=binding, start=60)
    changed, control = build_avatar(canonical, settings), build_avatar(canonical, settings)
    optimizer, other = trained(changed), trained(control)
    keep = torch.arange(0, 60, 2)
    source = torch.cat([keep, torch.tensor([4, 8])])
    fresh = torch.tensor([False] * len(keep) + [True] * 2)

    resize(changed, optimizer, source, fresh)
    for state in (optimizer.state[p] for p in changed.parameters() if p.numel()):
        assert (state["exp_avg"][~fresh] != 0).any()
        assert (state["exp_avg"][fresh] == 0).all()
        assert (state["exp_avg_sq"][fresh] == 0).all()
    for _ in range(3):
        step(changed, optimizer, source)
        step(control, other, torch.arange(60))

    for (name, p), (_, q) in zip(changed.named_parameters(), control.named_parameters(), strict=True):
        assert torch.equal(p[: len(keep)], q[keep]), name
    assert torch.equal(changed.anchors, control.anchors[source])
    assert len(optimizer.state) <= len(list(changed.parameters()))
    assert changed.pose(torch.eye(3).expand(1, 55, 3, 3), torch.zeros(1, 3)).means.shape == (1, 32, 3)


def test_a_change_of_wrong_size_is_refused(avatar):
    optimizer = gaussian_adam(avatar, GaussianRates())
    with pytest.raises(ShapeError, match="means"):
        resize(avatar, optimizer, torch.arange(5), torch.zeros(5, dtype=torch.bool), {"means": torch.zeros(4, 3)})


def test_small_gaussians_are_cloned_and_large_ones_split(avatar):
    optimizer = trained(avatar)
    n = avatar.n_gaussians
    avatar.log_scales.data[:] = math.log(4e-3)
    avatar.log_scales.data[7, 1] = math.log(20e-3)
    before = {name: p.detach().clone() for name, p in avatar.named_parameters()}
    gradient = torch.zeros(n)
    gradient[[3, 7]] = 3e-4
    gradient[9] = 1e-4  # too small

    added = density.grow(avatar, optimizer, gradient, DensitySettings(), generator=torch.Generator().manual_seed(0))

    assert added == 2
    assert avatar.n_gaussians == n + 2
    for name, p in avatar.named_parameters():
        assert torch.equal(p[n], before[name][3])  # the clone
        others = [i for i in range(n) if i != 7]
        assert torch.equal(p[others], before[name][others])
    halves = avatar.log_scales[[7, n + 1]]
    assert torch.allclose(halves, before["log_scales"][7] - math.log(1.6))
    offsets = avatar.means[[7, n + 1]] - before["means"][7]
    along = avatar.rotations()[7][:, 1]
    assert (offsets @ along).abs().max() > 3 * (offsets - (offsets @ along)[:, None] * along).norm(dim=1).min()
    state = optimizer.state[avatar.means]["exp_avg"]
    assert (state[[7, n, n + 1]] == 0).all()
    assert (state[3] != 0).any()
    assert avatar.anchors[n] == avatar.anchors[3]


def test_growth_stops_at_the_cap_and_takes_the_most_wanted(avatar):
    optimizer = gaussian_adam(avatar, GaussianRates())
    gradient = torch.linspace(0, 1e-2, 400)
    avatar.sh0.data[:, 0, 0] = torch.arange(400)
    settings = DensitySettings(cap=1000, grow_fraction=0.05)
    assert density.grow(avatar, optimizer, gradient, settings, generator=torch.Generator()) == 20
    assert avatar.sh0[400:, 0, 0].tolist() == list(range(380, 400))
    allowed = torch.zeros(420, dtype=torch.bool)
    settings = DensitySettings(cap=420)
    assert density.grow(avatar, optimizer, torch.ones(420), settings, generator=torch.Generator()) == 0
    settings = DensitySettings()
    assert density.grow(avatar, optimizer, torch.ones(420), settings, generator=torch.Generator(), allowed=allowed) == 0


def test_what_is_faint_far_or_wide_is_pruned_unless_it_alone_covers_a_vertex(canonical):
    avatar = build_avatar(canonical, AvatarSettings(start=3000))
    optimizer = trained(avatar, steps=0)
    n = avatar.n_gaussians
    twins = torch.cat([torch.arange(n), torch.arange(5)])
    resize(avatar, optimizer, twins, torch.arange(n + 5) >= n)
    avatar.opacity_logits.data[[n, n + 1]] = -5  # faint, and not alone
    avatar.means.data[n + 2] += torch.tensor([0, 0, 0.5])  # far
    avatar.log_scales.data[n + 3] = math.log(0.06)  # wide
    alone = int(torch.cdist(avatar.means.data, avatar.means.data).fill_diagonal_(9).min(dim=1).values[:n].argmax())
    avatar.opacity_logits.data[alone] = -5
    assert density.prune(avatar, optimizer, DensitySettings(), delta_m=5e-3) == 4
    assert avatar.n_gaussians == n + 1
    assert avatar.opacity_logits[alone] == -5

    free = build_avatar(canonical, dataclasses.replace(SMALL, binding="none"))
    free.means.data[0] += 0.5
    free.opacity_logits.data[:] = 5
    assert density.prune(free, gaussian_adam(free, GaussianRates()), DensitySettings(), delta_m=0.02) == 0


def test_pruning_everything_leaves_the_body_as_covered_as_it_was(avatar):
    covered = torch.cdist(avatar.canonical.vertices, avatar.means.data).min(dim=1).values <= 0.02
    avatar.opacity_logits.data[:] = -9
    density.prune(avatar, gaussian_adam(avatar, GaussianRates()), DensitySettings(), delta_m=0.02)
    still = torch.cdist(avatar.canonical.vertices, avatar.means.data).min(dim=1).values <= 0.02
    assert torch.equal(covered, still)


def test_vertices_without_cover_get_gaussians(avatar):
    optimizer = trained(avatar)
    began = avatar.anchors.clone()
    avatar.means.data[:50] += 0.3  # Gaussians stand 6 cm apart: no other takes their place
    for _ in range(2):  # a later window asks for the same vertices, wherever the Gaussians have gone
        terms = AvatarTerms(avatar, LossSettings(delta_m=5e-3), refresh_every=2)
        for _ in range(5):
            terms()
        bare = torch.nonzero(terms.uncovered_steps >= 4)[:, 0]
        assert torch.equal(bare, began[:50])
    added = density.reseed(avatar, optimizer, bare, DensitySettings(cap=430))
    assert added == 30
    assert torch.equal(avatar.means[400:].data, avatar.canonical.vertices[bare[:30]])
    assert torch.equal(avatar.anchors[400:], bare[:30])
    assert torch.allclose(avatar.opacity_logits[400:].sigmoid(), torch.tensor(0.5))
    terms.refresh()
    assert (terms.uncovered_steps[bare[:30]] == 0).all()


def test_gaussians_on_faces_keep_their_number(canonical):
    avatar = build_avatar(canonical, AvatarSettings(binding="gom"))
    assert isinstance(avatar, MeshAvatar)
    optimizer = gaussian_adam(avatar, GaussianRates())
    n = avatar.n_gaussians
    assert density.grow(avatar, optimizer, torch.ones(n), DensitySettings(), generator=torch.Generator()) == 0
    assert density.prune(avatar, optimizer, DensitySettings(), 0.02) == 0
    assert density.reseed(avatar, optimizer, torch.arange(5), DensitySettings()) == 0


def test_screen_gradients_are_per_picture_in_device_coordinates():
    stats = ScreenStats(3)
    grad = torch.tensor([[[1.0, 0], [0, 1], [1, 1]], [[1, 0], [0, 0], [1, 1]]])
    radii = torch.tensor([[4, 3, 0], [2, 5, 0]])
    stats.add(grad / 2, radii, (100, 60))  # the loss is a mean over two frames
    assert torch.allclose(stats.mean_gradient(), torch.tensor([30.0, 25.0, 0.0]))
    assert stats.radius.tolist() == [4, 5, 0]
