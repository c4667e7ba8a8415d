"""The body fit on projections of known poses, and its gradient against finite differences."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.body.joints import J
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.regress import fit_body
from hsr_core.regress.fit_body import CARRIERS, LANDMARKS, SOLVED, BodyFitter, BodyObservation
from hsr_core.regress.kinematics import forward
from hsr_core.regress.pose_network import L
from hsr_core.types import HumanParams

K = np.array([[1200.0, 0, 640], [0, 1200, 480], [0, 0, 1]])


@pytest.fixture(scope="module")
def fitter():
    body = load_body("")
    vertices, joints = body.rest(HumanParams())
    fitter = BodyFitter()
    fitter.set_body(joints, {name: vertices[i] for name, i in body.surface_points.items()})
    return fitter


def observe(fitter, local, transl, *, rng=None, noise_px=0.0):
    """What a perfect landmark network would see of a pose."""
    rotations, joints = forward(local, fitter._rest, transl)
    points = joints[CARRIERS] + np.einsum("nab,nb->na", rotations[CARRIERS], fitter._offsets)
    uv, world, weight = np.zeros((33, 2)), np.zeros((33, 3)), np.zeros(33)
    pixels = points @ K.T
    uv[LANDMARKS] = pixels[:, :2] / pixels[:, 2:]
    if rng is not None:
        uv += rng.normal(0, noise_px, uv.shape)
    world[LANDMARKS] = points
    weight[LANDMARKS] = 1.0
    return BodyObservation(uv, world, weight, 500.0, K), joints


def random_pose(rng):
    local = np.broadcast_to(np.eye(3), (55, 3, 3)).copy()
    low, high = np.maximum(fit_body._LOW, -0.9), np.minimum(fit_body._HIGH, 0.9)
    local[SOLVED] = rotvec_to_rotmat(0.6 * rng.uniform(low, high))
    local[0] = np.diag([1.0, -1, -1]) @ rotvec_to_rotmat(np.array([0, rng.uniform(-3, 3), 0]))
    return local, np.array([rng.uniform(-0.5, 0.5), rng.uniform(0, 0.6), rng.uniform(3, 5)])


LIMBS = [J[f"{s}_{n}"] for s in ("left", "right") for n in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]


def weighted(fitter, **weights):
    """The same fitter with other weights."""
    out = BodyFitter(dataclasses.replace(fitter.weights, **weights))
    out.__dict__.update({k: v for k, v in fitter.__dict__.items() if k != "weights"})
    return out


def limb_error(fitter, fit, truth):
    _, joints = forward(fit.local, fitter._rest, fit.transl)
    return np.linalg.norm(joints[LIMBS] - truth[LIMBS], axis=1).mean()


@pytest.mark.parametrize("seed", range(6))
def test_a_known_pose_is_recovered_from_its_projection(fitter, seed):
    seen, truth = observe(fitter, *random_pose(np.random.default_rng(seed)))
    weak = weighted(fitter, pose=100.0)  # with the prior at full weight rare poses are pulled towards rest, by design
    assert limb_error(weak, weak.fit(seen, *weak.start(seen), steps=60), truth) < 0.01


@pytest.mark.parametrize("seed", range(6))
def test_the_first_guess_leads_to_the_optimum_that_the_truth_leads_to(fitter, seed):
    pose = random_pose(np.random.default_rng(seed))
    seen, _ = observe(fitter, *pose)
    from_guess = fitter.fit(seen, *fitter.start(seen), steps=60).cost
    assert from_guess == pytest.approx(fitter.fit(seen, *pose, steps=60).cost, rel=0.01)


def test_every_step_of_a_far_start_lowers_the_cost(fitter):
    rng = np.random.default_rng(3)
    seen, _ = observe(fitter, *random_pose(rng))
    local, transl = fitter.start(seen)
    local[J["left_shoulder"]] = rotvec_to_rotmat(np.array([0.5, 0.8, 1.0]))
    costs = [fitter.fit(seen, local, transl, steps=n).cost for n in (1, 2, 4, 8, 16)]
    assert all(b <= a for a, b in pairwise(costs))
    assert costs[-1] < 0.2 * costs[0]


def test_gradient_agrees_with_finite_differences(fitter):
    rng = np.random.default_rng(1)
    local, transl = random_pose(rng)
    seen, _ = observe(fitter, local, transl, rng=rng, noise_px=20.0)
    seen = dataclasses.replace(seen, head_rotation=rotvec_to_rotmat(rng.normal(0, 0.5, 3)))
    local[SOLVED] = rotvec_to_rotmat(rng.normal(0, 0.3, (len(SOLVED), 3))) @ local[SOLVED]
    last = rotvec_to_rotmat(rng.normal(0, 0.4, (55, 3)))
    plain = weighted(fitter, robust=1e6)  # the robust weight is not part of the gradient
    at = (last, 3.0)
    gradient = plain._linearise(seen, local, transl, *at).gradient
    step = 1e-5
    numeric = np.empty_like(gradient)
    for i in range(len(gradient)):
        e = np.eye(len(gradient))[i] * step
        up = plain._linearise(seen, *fit_body._retract(local, transl, e), *at).cost
        down = plain._linearise(seen, *fit_body._retract(local, transl, -e), *at).cost
        numeric[i] = (up - down) / (2 * step)
    np.testing.assert_allclose(2 * gradient, numeric, atol=1e-5 * np.abs(numeric).max())


def test_one_wild_landmark_hardly_moves_the_body(fitter):
    seen, _ = observe(fitter, *random_pose(np.random.default_rng(5)))
    uv = seen.uv.copy()
    uv[L["left_ankle"]] += [250.0, -200.0]
    clean = fitter.fit(seen, *fitter.start(seen), steps=40)
    wild = fitter.fit(dataclasses.replace(seen, uv=uv), *fitter.start(seen), steps=40)
    assert limb_error(fitter, wild, forward(clean.local, fitter._rest, clean.transl)[1]) < 0.03


def test_unseen_legs_and_arms_stay_at_rest(fitter):
    """Only the head and the shoulders are seen: everything below hangs straight down."""
    local = np.broadcast_to(np.eye(3), (55, 3, 3)).copy()
    local[SOLVED] = rotvec_to_rotmat(fit_body._REST)
    local[0] = np.diag([1.0, -1, -1])
    seen, _ = observe(fitter, local, np.array([0.0, 0.3, 2.0]))
    weight = seen.weight.copy()
    for name, i in L.items():
        if any(part in name for part in ("elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel")):
            weight[i] = 0
    seen = dataclasses.replace(seen, weight=weight)
    fit = fitter.fit(seen, *fitter.start(seen), steps=30)
    for side in ("left", "right"):
        for name in ("elbow", "hip", "knee", "wrist"):
            joint = fit.local[J[f"{side}_{name}"]]
            assert np.degrees(np.arccos(np.clip((np.trace(joint) - 1) / 2, -1, 1))) < 12, (side, name)


def test_distance_grows_with_the_body(fitter):
    """The same picture of a body of half the size is at half the distance."""
    rng = np.random.default_rng(2)
    seen, _ = observe(fitter, *random_pose(rng))
    big = fitter.fit(seen, *fitter.start(seen), steps=30)
    half = BodyFitter()
    half.__dict__.update(fitter.__dict__)
    half._rest, half._offsets, half._bone_length = fitter._rest / 2, fitter._offsets / 2, fitter._bone_length / 2
    small = half.fit(seen, *half.start(seen), steps=30)
    hips = [J["left_hip"], J["right_hip"]]
    z_big = forward(big.local, fitter._rest, big.transl)[1][hips, 2].mean()
    z_small = forward(small.local, half._rest, small.transl)[1][hips, 2].mean()
    assert z_small / z_big == pytest.approx(0.5, rel=0.01)
