"""Corrections compose as they should, and frames that are not in the batch do not move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import J
from hsr_core.refine.pose import LazyAdam, PoseCorrections, joint_rates
from hsr_core.types import HumanParams


def people(n: int = 5) -> list[HumanParams]:
    rng = np.random.default_rng(0)
    return [
        HumanParams(
            global_orient=rng.normal(size=3).astype(np.float32),
            transl=rng.normal(size=3).astype(np.float32),
            body_pose=rng.normal(scale=0.4, size=(21, 3)).astype(np.float32),
            left_hand_pose=rng.normal(scale=0.4, size=(15, 3)).astype(np.float32),
        )
        for _ in range(n)
    ]


def test_without_corrections_the_regressors_pose_comes_back():
    persons = people()
    rotmats, transl = PoseCorrections(persons)(torch.arange(5))
    for person, rotmat, t in zip(persons, rotmats.detach(), transl.detach(), strict=True):
        expected = np.concatenate([person.global_orient[None], person.body_pose])
        np.testing.assert_allclose(rotmat[:22], Rotation.from_rotvec(expected).as_matrix(), atol=2e-6)
        np.testing.assert_allclose(rotmat[22:25], np.broadcast_to(np.eye(3), (3, 3, 3)))
        np.testing.assert_allclose(rotmat[25:40], Rotation.from_rotvec(person.left_hand_pose).as_matrix(), atol=2e-6)
        np.testing.assert_array_equal(t, person.transl)


def test_root_increments_are_in_camera_axes_and_the_others_in_the_joints_own():
    persons = people(2)
    corrections = PoseCorrections(persons)
    rng = np.random.default_rng(1)
    turns = rng.normal(scale=0.3, size=(2, 22, 3))
    corrections.rotvecs.data[:] = torch.as_tensor(turns)
    corrections.shifts.data[1] = torch.tensor([0.1, -0.2, 0.3])
    rotmats, transl = corrections(torch.tensor([1]))
    base = Rotation.from_rotvec(np.concatenate([persons[1].global_orient[None], persons[1].body_pose]))
    turn = Rotation.from_rotvec(turns[1])
    expected = np.concatenate([(turn[0] * base[0]).as_matrix()[None], (base[1:] * turn[1:]).as_matrix()])
    np.testing.assert_allclose(rotmats[0, :22].detach(), expected, atol=3e-6)
    np.testing.assert_allclose(transl[0].detach(), persons[1].transl + np.float32([0.1, -0.2, 0.3]), atol=1e-6)


def test_a_root_near_half_a_turn_moves_by_as_much_as_it_is_told():
    person = HumanParams(global_orient=np.float32([np.radians(179.9), 0, 0]))
    corrections = PoseCorrections([person])
    before = corrections(torch.tensor([0]))[0]
    before.sum().backward()
    assert corrections.rotvecs.grad.isfinite().all()
    corrections.rotvecs.data[0, 0, 0] = 1e-3
    after = corrections(torch.tensor([0]))[0]
    turn = Rotation.from_matrix((after[0, 0] @ before[0, 0].T).detach().numpy())
    assert turn.magnitude() == pytest.approx(1e-3, abs=2e-6)


def test_what_pixels_hardly_show_is_not_refined():
    rates = joint_rates()
    still = {i for i in range(22) if rates[i] == 0}
    assert still == {J["left_foot"], J["right_foot"], J["left_wrist"], J["right_wrist"]}
    assert rates[J["left_collar"]] == pytest.approx(0.3)
    large = joint_rates(large_hands=(True, False))
    assert (large[J["left_wrist"]], large[J["right_wrist"]]) == (1, 0)


def test_frames_outside_the_batch_stay_to_the_bit_and_their_optimiser_too():
    corrections = PoseCorrections(people())
    optimiser = LazyAdam([corrections.rotvecs, corrections.shifts])
    start = [p.detach().clone() for p in (corrections.rotvecs, corrections.shifts)]
    for _ in range(7):
        rotmats, transl = corrections(torch.tensor([2, 4]))
        (rotmats.square().sum() * 0 + (rotmats[:, 3, 0, 1] - 1).square().sum() + transl.square().sum()).backward()
        assert optimiser.step(torch.tensor([2, 4]), [3e-3, 5e-3])
    for p, old in zip((corrections.rotvecs, corrections.shifts), start, strict=True):
        assert torch.equal(p[[0, 1, 3]], old[[0, 1, 3]])
        assert not torch.equal(p[[2, 4]], old[[2, 4]])


def test_a_frame_moves_as_under_torchs_adam_of_its_own():
    """One frame in every third step: the same as an Adam that sees only these steps."""
    values = torch.nn.Parameter(torch.zeros(3, 4))
    alone = torch.nn.Parameter(torch.zeros(4))
    ours = LazyAdam([values])
    theirs = torch.optim.Adam([alone], lr=1e-2, betas=(0.9, 0.99), eps=1e-8)
    rng = torch.Generator().manual_seed(0)
    for step in range(30):
        grad = torch.randn(4, generator=rng)
        values.grad = torch.zeros(3, 4)
        values.grad[step % 3] = grad
        ours.step(torch.tensor([step % 3]), [1e-2])
        if step % 3 == 1:
            alone.grad = grad.clone()
            theirs.step()
    torch.testing.assert_close(values[1], alone, rtol=1e-5, atol=1e-7)


def test_a_gradient_that_is_not_finite_moves_nothing_and_a_huge_one_is_shortened():
    values = torch.nn.Parameter(torch.zeros(2, 3))
    optimiser = LazyAdam([values])
    for bad in (torch.nan, torch.inf):
        values.grad = torch.full((2, 3), bad)
        assert not optimiser.step(torch.tensor([0, 1]), [0.1])
        assert values.grad is None
    assert (values == 0).all()
    for size in [1.0] * 20 + [1e6]:
        values.grad = torch.full((2, 3), size)
        optimiser.step(torch.tensor([0]), [0.1])
    assert float(optimiser._second[0][0].max()) < 3  # as after a gradient of ten, not of a million
