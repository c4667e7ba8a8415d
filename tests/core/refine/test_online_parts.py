"""The parts of the online refinement, each against what follows from its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from online_helpers import FakeClock

from hsr_core.body.joints import J
from hsr_core.geometry.raster import Topology
from hsr_core.refine.avatar import AvatarSettings, build_avatar
from hsr_core.refine.avatar_terms import AvatarTerms
from hsr_core.refine.corrections import Correction
from hsr_core.refine.density import DensitySettings, grow
from hsr_core.refine.gates import (
    Entry,
    Observation,
    camera_azimuth,
    chi2,
    depth_kind,
    histogram,
    limb_rotmats,
    observe,
    padded,
    vertex_owners,
)
from hsr_core.refine.gaussian_adam import GaussianRates, gaussian_adam
from hsr_core.refine.keyframes import KeyFrames, apart_deg, turned_deg
from hsr_core.refine.losses import LossSettings
from hsr_core.refine.online_settings import GateSettings, KeyframeSettings
from hsr_core.refine.optimise import Carried, Pairs, Refinement, RefineSettings
from hsr_core.refine.person import evenly_sharp
from hsr_core.refine.pose import joint_rates
from hsr_core.refine.schedule import Budget, Convergence
from hsr_core.refine.skin import CanonicalBody
from hsr_core.refine.snapshot import AvatarSnapshot
from hsr_core.refine.stage_zero import WindowDepth
from hsr_core.refine.view import prepare_view
from hsr_core.types import HumanParams, MetricSource

GATE = GateSettings(min_iou=0.3, min_height_px=40)


@pytest.fixture(scope="module")
def look(open_body):
    """Observe an entry as it came."""
    topology, owners = Topology(open_body.faces), vertex_owners(open_body)
    return lambda entry, gate=GATE: observe(
        entry, entry.params, open_body, topology, gate, height_px=160, owners=owners
    )


@pytest.fixture(scope="module")
def observed(look, sequence):
    """Every fifth frame as observed."""
    frames = enumerate(sequence.frames)
    return [look(Entry(i, f.stamp_ns, f.params, f, 1.0, "topic")) for i, f in frames if i % 5 == 0]


# --- gates --------------------------------------------------------------------------------------------------------


def test_good_frames_pass_and_say_where_the_camera_is(observed):
    assert not any(o.problem for o in observed)
    assert all(o.has_depth for o in observed)
    azimuths = np.unwrap([o.azimuth for o in observed])
    assert np.ptp(azimuths) == pytest.approx(2 * np.pi * 35 / 40, rel=0.15)  # one full turn in forty frames
    assert all(0.3 < o.seen.mean() < 0.7 for o in observed)  # about half of a body faces a camera


def test_azimuth_by_hand():
    """A person who faces the camera has it at 0; turned to their right by 90 degrees, the camera is at their left."""
    facing = replace(HumanParams(), global_orient=np.array([np.pi, 0, 0], np.float32))  # y up, z to the camera
    pelvis = np.array([0, 0, 3.0])
    assert camera_azimuth(facing, pelvis) == pytest.approx(0, abs=1e-6)
    to_camera_left = replace(HumanParams(), global_orient=np.array([0, 0, np.pi], np.float32))
    assert abs(camera_azimuth(to_camera_left, pelvis)) == pytest.approx(np.pi, abs=1e-5)  # seen from behind


BAD = {
    "the mask is empty": lambda f: replace(f, mask=np.zeros_like(f.mask)),
    "overlap": lambda f: replace(f, mask=np.roll(f.mask, 45, axis=1)),
    "not finite": lambda f: replace(f, image=np.where(f.mask[..., None] > 0.5, np.nan, f.image)),
    "pose is not finite": lambda f: replace(f, params=replace(f.params, transl=np.full(3, np.nan, np.float32))),
    "outside the image": lambda f: replace(f, params=replace(f.params, transl=f.params.transl + np.float32([2, 0, 0]))),
    "the body is outside": lambda f: replace(f, params=replace(f.params, transl=np.float32([0, 0, -3]))),
    "px tall": lambda f: replace(f, params=replace(f.params, transl=f.params.transl * np.float32(5))),
}


@pytest.mark.parametrize("words", list(BAD))
def test_a_bad_frame_is_refused_and_says_why(look, sequence, words):
    frame = BAD[words](sequence.frames[0])
    found = look(Entry(0, 0, frame.params, frame))
    assert words.removeprefix("the body is ") in found.problem


def test_poor_masks_and_unknown_distance_are_refused(look, sequence):
    frame = sequence.frames[0]
    entry = Entry(0, 0, frame.params, frame, mask_quality=0.1)
    assert "mask is poor" in look(entry).problem
    entry = Entry(0, 0, frame.params, frame, mask_quality=float("nan"))
    assert "mask is poor" in look(entry).problem
    entry = Entry(0, 0, frame.params, frame, metric=False)
    assert "distance" in look(entry).problem
    only_pose = look(Entry(0, 0, frame.params, frame, 0.3))
    assert not only_pose.problem and not only_pose.for_mapping  # noqa: PT018


@pytest.mark.parametrize("factor", [0.0, 1000.0, 0.001, np.nan, np.inf, 1.5])
def test_depth_that_contradicts_the_body_is_left_out(look, sequence, factor):
    frame = sequence.frames[0]
    with np.errstate(invalid="ignore"):
        frame = replace(frame, depth_m=(frame.depth_m * np.float32(factor)).astype(np.float32))
    entry = Entry(0, 0, frame.params, frame, 1.0, "topic")
    found = look(entry)
    assert not found.problem
    assert not found.has_depth
    assert float(found.view(held_out=0.1, device="cpu").depth_m.abs().max()) == 0


def test_the_bodys_own_depth_is_not_compared_with_it():
    assert depth_kind("body_height") is depth_kind("none") is MetricSource.NONE
    assert depth_kind("topic") is MetricSource.DEPTH_CAMERA
    assert depth_kind("unidepth_v2_onnx") is MetricSource.MONO_DEPTH


def test_joints_outside_the_image_or_behind_others_are_left_alone(look, open_body, sequence):
    """Cut at the knees the shanks are not shown; with the left half ignored, nothing that lies there is."""
    frame, owners = sequence.frames[0], vertex_owners(open_body)
    posed = open_body.pose_one(frame.params)
    v = (posed.joints @ frame.K.T)[:, 1] / posed.joints[:, 2]
    cut = int(max(v[J["left_knee"]], v[J["right_knee"]])) - 2
    any_view = replace(GATE, min_iou=0, max_outside=1)
    seen = lambda f: look(Entry(0, 0, f.params, f), any_view)  # noqa: E731
    moving = joint_rates() > 0
    assert (seen(frame).joints.rates()[moving] > 0).all()
    short = seen(replace(frame, image=frame.image[:cut], mask=frame.mask[:cut], depth_m=frame.depth_m[:cut]))
    names = {name for name, joint in J.items() if joint < 22 and short.joints.shown[joint] < 0.1}
    assert not short.joints.rates()[[J[name] for name in names]].any()
    assert names >= {"left_ankle", "right_ankle", "left_foot", "right_foot"}
    assert not names & {"pelvis", "spine1", "left_shoulder", "right_elbow", "head", "left_hip"}
    ignore = np.zeros(frame.image_hw, bool)
    edge = int((posed.joints @ frame.K.T)[0, 0] / posed.joints[0, 2])
    ignore[:, :edge] = True
    covered = seen(replace(frame, ignore=ignore)).joints
    u = (posed.vertices @ frame.K.T)[:, 0] / posed.vertices[:, 2]
    hidden = [j for j in range(1, 22) if u[owners == j].max() < edge - 1]
    clear = [j for j in range(1, 22) if u[owners == j].min() > edge]
    assert len(hidden) > 2
    assert len(clear) > 2
    assert not covered.rates()[hidden].any()
    assert (covered.priors()[sorted({*hidden} & {*moving.nonzero()[:, 0].tolist()})] == 3).all()  # held all the same
    assert (covered.shown[clear] > 0.99).all()
    assert covered.shown[J["pelvis"]] == 1


def test_histograms_by_hand():
    black, white = np.zeros((10, 3)), np.ones((30, 3))
    assert chi2(histogram(black), histogram(black)) == 0
    assert chi2(histogram(black), histogram(white)) == 1
    half = histogram(np.concatenate([black, white[:10]]))  # (1 - 1/2)^2 / (3/2) + (1/2)^2 / (1/2), halved
    assert chi2(histogram(black), half) == pytest.approx(1 / 3)
    assert np.isfinite(histogram(np.array([[np.nan, np.inf, -5]]))).all()


# --- key frames ---------------------------------------------------------------------------------------------------


def observation(index: int, azimuth_deg: float, *, bend_deg: float = 0, sharp: float = 1.0, seen: int = 10, **more):
    body_pose = np.zeros((21, 3), np.float32)
    body_pose[:, 0] = np.radians(bend_deg)
    params = replace(HumanParams(), body_pose=body_pose)
    entry = Entry(index, index * 100_000_000, params)
    entry.__dict__["sharpness"] = sharp
    return Observation(
        entry, params, azimuth=np.radians(azimuth_deg), limbs=limb_rotmats(params), seen=np.arange(100) < seen,
        colors=np.zeros(512), **more,
    )  # fmt: skip


def admit(keys: KeyFrames, *observations: Observation) -> None:
    for o in observations:
        keys.admit(o, None, Correction(torch.zeros(22, 3), torch.zeros(3)))


def test_angles_between_views_and_poses():
    assert turned_deg(np.radians(350), np.radians(10)) == pytest.approx(20)
    a, b = observation(0, 0), observation(1, 0, bend_deg=25)
    assert apart_deg(a.limbs, b.limbs) == pytest.approx(25)


def test_a_frame_becomes_a_key_frame_when_it_shows_something_new():
    keys = KeyFrames(KeyframeSettings())
    assert keys.wanted(observation(0, 0))
    admit(keys, observation(0, 0))
    assert not keys.wanted(observation(5, 10))
    assert keys.wanted(observation(5, 16)), "another side"
    assert not keys.wanted(observation(2, 16)), "too soon"
    assert not keys.wanted(observation(5, 0, bend_deg=15))
    assert keys.wanted(observation(5, 0, bend_deg=25)), "another pose"
    assert not keys.wanted(observation(5, 0, seen=14))
    assert keys.wanted(observation(5, 0, seen=15)), "new skin"
    assert not keys.wanted(observation(99, 0))
    assert keys.wanted(observation(102, 0)), "the newest is old"
    assert not keys.wanted(observation(102, 90, problem="x"))
    assert not keys.wanted(observation(102, 90, for_mapping=False))


def test_blurred_frames_do_not_become_key_frames():
    keys = KeyFrames(KeyframeSettings())
    keys.watch([observation(i, 0, sharp=1.0) for i in range(5)])
    assert not keys.wanted(observation(0, 0, sharp=0.4))
    assert keys.wanted(observation(0, 0, sharp=0.6))


def test_when_full_the_frame_most_like_another_goes_but_none_of_the_newest_nor_the_only_one_of_a_side():
    keys = KeyFrames(KeyframeSettings(max=4))
    admit(keys, observation(0, 5), observation(5, 9), observation(10, 100), observation(15, 11), observation(20, 12))
    assert [k.index for k in keys.frames] == [0, 10, 15, 20]  # 5 is nearest to another; 15 and 20 are the newest
    admit(keys, observation(25, 200))
    assert 10 in [k.index for k in keys.frames]  # alone of its side
    assert len(keys) == 4


def test_a_window_gets_the_two_oldest_key_frames_and_the_newest():
    keys = KeyFrames(KeyframeSettings())
    admit(keys, *(observation(10 * i, 20 * i) for i in range(6)))
    assert [k.index for k in keys.for_window(4, set())] == [0, 10, 40, 50]
    assert [k.index for k in keys.for_window(2, {0})] == [10, 20]
    assert [k.index for k in keys.for_window(9, {0})] == [10, 20, 30, 40, 50]
    assert keys.for_window(0, set()) == []


def test_frames_of_a_window_are_spread_evenly_and_sharp_and_hold_the_newest():
    entries = [observation(i, 0, sharp=float(i % 5 == 1)).entry for i in range(41)]
    chosen = [e.index for e in evenly_sharp(entries, 5)]
    assert chosen == [1, 11, 21, 31, 40]  # evenly 0 10 20 30 40; one after each is sharp
    assert [e.index for e in evenly_sharp(entries[:3], 5)] == [0, 1, 2]
    assert [e.index for e in evenly_sharp(entries[:1], 5)] == [0]
    assert len(evenly_sharp(entries[:9], 8)) == 8


# --- schedule -----------------------------------------------------------------------------------------------------


def test_no_step_begins_that_would_not_end_in_time():
    clock, steps = FakeClock(), 0
    budget = Budget(clock, 1.0, lambda: False)
    budget.begin()
    while budget.another(reserve=0.2):
        clock.now += 0.15
        steps += 1
    assert steps == 5  # after five 0.75 s are gone: a sixth of 0.15 s would leave less than 0.2 s
    assert budget.used == pytest.approx(0.75)


def test_a_stop_ends_the_work_and_is_remembered():
    asked = iter([False, True, False])
    budget = Budget(FakeClock(), 10.0, lambda: next(asked))
    assert budget.another()
    assert not budget.another()
    assert budget.stopped
    assert not budget.another()


def test_convergence_compares_rounds_not_steps():
    still = torch.zeros(2, 22, 3), torch.zeros(2, 3)
    moving = lambda i: (torch.full((2, 22, 3), 0.01 * i), torch.zeros(2, 3))  # noqa: E731
    watch = Convergence([0, 1])
    # Two frames, of which one is harder: losses alternate, the mean over a round falls by a tenth each.
    ends = [watch.add([i % 2], (1 + 9 * (i % 2)) * 0.9 ** (i // 2), *moving(i)) for i in range(30)]
    assert not any(ends)
    watch = Convergence([0, 1])
    ends = [watch.add([i % 2], 1.0 + 9 * (i % 2), *moving(i)) for i in range(14)]
    assert ends.index(True) == 11  # the sixth round
    watch = Convergence([0, 1])
    assert [watch.add([0, 1], 1.0, *still) for _ in range(2)] == [False, True]  # nothing moves any more


# --- avatar and optimiser, carried on -----------------------------------------------------------------------------


@pytest.fixture
def small(open_body, sequence):
    """Three frames, whole pictures, and a small avatar."""
    frames = sequence.frames[:3]
    canonical = CanonicalBody.from_body(open_body, frames[0].params)
    avatar = build_avatar(canonical, AvatarSettings(start=150))
    return avatar, [prepare_view(f) for f in frames], [f.params for f in frames]


def state(refinement: Refinement) -> list[torch.Tensor]:
    values = [*refinement.avatar.parameters(), refinement.corrections.rotvecs, refinement.corrections.shifts]
    return [value.detach().clone() for value in values]


def test_a_refinement_that_goes_on_equals_one_that_never_stopped(small, open_body):
    avatar, views, people = small
    settings = RefineSettings(steps=10**6, color_steps=0)  # rates do not fall
    order = [[0], [1], [2], [0], [2], [1]]
    whole = Refinement(avatar, views, people, settings)
    first_avatar = build_avatar(avatar.canonical, AvatarSettings(start=150))
    for frames in order:
        whole.step(frames)

    optimiser, terms = gaussian_adam(first_avatar, settings.rates), AvatarTerms(first_avatar, settings.losses)
    carried = Carried(optimiser, terms)
    first = Refinement(first_avatar, views, people, settings, carried=carried)
    for frames in order[:3]:
        first.step(frames)
    second = Refinement(first_avatar, views, people, settings, carried=carried)
    second._random, second.steps_done = first._random, 3
    second.pose_optimiser._usual = first.pose_optimiser._usual
    with torch.no_grad():
        for i in range(3):
            second.corrections.rotvecs[i] = first.corrections.rotvecs[i]
            second.corrections.shifts[i] = first.corrections.shifts[i]
            second.pose_optimiser.set_row(i, first.pose_optimiser.row(i))
    for frames in order[3:]:
        second.step(frames)
    assert all(torch.equal(a, b) for a, b in zip(state(whole), state(second), strict=True))


def test_poses_alone_leave_the_avatar_to_the_bit_and_frames_of_rate_zero_stay(small):
    avatar, views, people = small
    rates = torch.tensor([1.0, 0.3, 0.0])
    refinement = Refinement(
        avatar, views, people, RefineSettings(color_steps=0), carried=Carried(frame_rates=rates)
    )  # fmt: skip
    before = [p.detach().clone() for p in avatar.parameters()]
    refinement.step([0, 1, 2], learn=False)
    assert all(torch.equal(a, b) for a, b in zip(before, avatar.parameters(), strict=True))
    shifts = refinement.corrections.shifts.detach().abs().amax(dim=1)
    assert shifts[2] == 0
    # Adam's first step is the rate itself, whatever the gradient.
    assert shifts[0] == pytest.approx(5e-3, rel=1e-3)
    assert shifts[1] == pytest.approx(0.3 * 5e-3, rel=1e-3)


def test_joints_of_rate_zero_stay(small):
    avatar, views, people = small
    rates = torch.ones(3, 22)
    rates[1, J["left_knee"]] = 0
    refinement = Refinement(avatar, views, people, RefineSettings(color_steps=0), carried=Carried(joint_rates=rates))
    refinement.step([0, 1])
    turned = refinement.corrections.rotvecs.detach().abs().amax(dim=2)
    assert turned[1, J["left_knee"]] == 0
    assert turned[0, J["left_knee"]] > 0
    assert turned[1, J["right_knee"]] > 0


def test_corrections_of_neighbours_are_drawn_together(small):
    avatar, views, people = small
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))
    nothing = LossSettings(ssim=0, depth=0, camel=0, alpha=0, scale=0, reg=0, tmp=1e4)
    settings = RefineSettings(color_steps=0, losses=nothing, depth=False)
    refinement = Refinement(avatar, views, people, settings, carried=Carried(pairs=pairs))
    with torch.no_grad():
        refinement.corrections.shifts[0] = 0.1
    for _ in range(5):
        refinement.step([1])
    shifts = refinement.corrections.shifts.detach()
    assert torch.all(shifts[0] == 0.1)  # outside the batch
    assert torch.all(shifts[1] > 0.015)  # moves towards its neighbour
    assert torch.all(shifts[2] == 0)


def test_a_snapshot_brings_back_avatar_and_optimiser_whatever_was_added(small):
    avatar, views, people = small
    rates = GaussianRates()
    optimiser = gaussian_adam(avatar, rates)
    settings = RefineSettings(color_steps=0)
    refinement = Refinement(avatar, views, people, settings, carried=Carried(optimiser))
    refinement.step([0])
    before = AvatarSnapshot.take(avatar, optimiser, 0)
    kept = [p.detach().clone() for p in avatar.parameters()]
    moments = optimiser.state_dict()["state"][0]["exp_avg"].clone()
    assert before.finite()

    grow(avatar, optimiser, torch.ones(avatar.n_gaussians), DensitySettings(), generator=torch.Generator())
    assert avatar.n_gaussians == 300
    avatar.means.data[3] = float("nan")
    assert not AvatarSnapshot.take(avatar, optimiser, 0).finite()
    restored = before.restore(avatar, rates)
    assert all(torch.equal(a, b) for a, b in zip(kept, avatar.parameters(), strict=True))
    assert len(avatar.anchors) == 150
    assert torch.equal(restored.state_dict()["state"][0]["exp_avg"], moments)
    Refinement(avatar, views, people, settings, carried=Carried(restored)).step([0])  # and it goes on
    assert all(bool(p.isfinite().all()) for p in avatar.parameters())


def test_the_scale_mode_decides_what_a_windows_depth_becomes(observed):
    """A network whose depth is 5 % too large, and 10 % more in the fourth of eight frames."""
    jitter = np.where(np.arange(8) == 3, 1.1, 1.0)
    window = [
        replace(o, entry=replace(o.entry, depth_source="unidepth_v2"), root=np.array([0, 0, 3.0]),
                ratio=float(np.log(1.05 * j)), pixels=4000)
        for o, j in zip(observed, jitter, strict=True)
    ]  # fmt: skip
    found = {mode: WindowDepth(mode)(window) for mode in ("raw", "auto", "window", "track", "relative")}
    np.testing.assert_array_equal(found["raw"][0], 1)
    np.testing.assert_allclose(found["window"][0], 1 / jitter, rtol=2e-3)
    np.testing.assert_array_equal(found["auto"][0], found["window"][0])
    np.testing.assert_allclose(found["track"][0] * 1.05 * jitter, 1, rtol=2e-3)  # the bias is told by the body's height
    np.testing.assert_allclose(found["relative"][0] * 1.05 * jitter, 1)
    assert np.isnan(found["relative"][1]).all()
    np.testing.assert_allclose(found["track"][1], 3.0 + 0.01, atol=5e-3)  # half of the cloth before the skin
    np.testing.assert_allclose(found["window"][1], 1.05 * 3.0 + 0.01, atol=5e-3)


def test_padding_adds_nothing_that_counts(small):
    _, views, _ = small
    wide = padded(views[0], (200, 150))
    assert wide.image_hw == (200, 150)
    assert wide.valid.sum() == views[0].valid.sum()
    assert (wide.mask > 0).sum() == (views[0].mask > 0).sum()
    assert torch.equal(wide.depth_m[:160, :112], views[0].depth_m)
    assert not wide.valid[160:].any() and not wide.valid[:, 112:].any()  # noqa: PT018
    assert padded(wide, (200, 150)) is wide
