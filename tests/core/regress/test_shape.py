"""Proportions recovered from projections of bodies of known shape."""

import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.regress.fit_body import BodyFitter
from hsr_core.regress.shape import SOLVE_AT, ShapeEstimator
from hsr_core.types import HumanParams

from .test_fit_body import observe, random_pose


@pytest.fixture(scope="module")
def body():
    return load_body("")


def rest(body, betas):
    betas = np.asarray(betas, np.float32)
    vertices, joints = body.rest(HumanParams(betas=betas, head_betas=betas))
    return joints.astype(float), {name: vertices[i].astype(float) for name, i in body.surface_points.items()}


def fitter_of(body, betas):
    out = BodyFitter()
    out.set_body(*rest(body, betas))
    joints, surface = rest(body, np.zeros(body.n_betas))
    moved = [rest(body, unit) for unit in np.eye(body.n_betas)]
    out.set_shape_basis(
        np.stack([m[0] - joints for m in moved], -1),
        {name: np.stack([m[1][name] - place for m in moved], -1) for name, place in surface.items()},
    )
    return out


@pytest.mark.parametrize("component", [1, 2, 3])
def test_proportions_come_nearer_to_the_truth(body, component):
    truth = np.zeros(body.n_betas)
    truth[component] = 1.5
    truth = body.betas_for_height(1.7, truth)
    person, rng = fitter_of(body, truth), np.random.default_rng(component)
    betas, estimator = np.asarray(body.betas_for_height(1.7), float), ShapeEstimator(body.n_betas)
    fitter = fitter_of(body, betas)
    while not estimator.done:
        pose = random_pose(rng)
        seen, _ = observe(person, *pose)
        fit = fitter.fit(seen, *fitter.start(seen), steps=20)
        new = estimator.add(fitter.shape_system(seen, fit), betas)
        if new is not None:
            betas = np.asarray(body.betas_for_height(1.7, new), float)
            fitter = fitter_of(body, betas)
    places = [np.concatenate([rest(body, b)[0], *(p[None] for p in rest(body, b)[1].values())]) for b in (truth, betas)]
    average = rest(body, body.betas_for_height(1.7))
    average = np.concatenate([average[0], *(p[None] for p in average[1].values())])
    before, after = (np.linalg.norm(p - places[0], axis=1).mean() for p in (average, places[1]))
    assert after < before


def test_shape_is_solved_at_set_frames_and_then_held(body):
    estimator = ShapeEstimator(3)
    system = (np.eye(3), np.array([0.1, 0.0, 0.0]))
    solved = [i + 1 for i in range(SOLVE_AT[-1]) if estimator.add(system, np.zeros(3)) is not None]
    assert tuple(solved) == SOLVE_AT
    assert estimator.done
    estimator.reset()
    assert not estimator.done


def test_without_evidence_the_average_stays(body):
    estimator = ShapeEstimator(4)
    for _ in range(SOLVE_AT[0]):
        out = estimator.add((np.zeros((4, 4)), np.zeros(4)), np.full(4, 0.7))
    np.testing.assert_allclose(out, 0.0, atol=1e-12)
