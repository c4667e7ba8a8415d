"""Gain and bias of a frame: exact where the light is known, and learnt where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hsr_core.body.joints import J
from hsr_core.refine.avatar import AvatarSettings
from hsr_core.refine.exposure import Exposure, exposed
from hsr_core.refine.judge import judge
from hsr_core.refine.losses import LossSettings
from hsr_core.refine.offline import first_avatar
from hsr_core.refine.optimise import Refinement, RefineSettings
from hsr_core.refine.render import render
from hsr_core.refine.view import prepare_view

GAIN, BIAS = (1.2, 1.0, 0.9), (0.02, -0.03, 0.0)


def test_a_half_covered_pixel_is_lit_where_the_person_is_by_hand():
    """Person 0.4 at alpha 0.5 on a background of 0.8: 0.5 * (0.4 * 1.2 + 0.02) + 0.5 * 0.8 = 0.65."""
    values = torch.tensor([[[0.2] * 3, [0.02] * 3]])
    color = torch.full((1, 1, 1, 3), 0.5 * 0.4 + 0.5 * 0.8)
    lit = exposed(values, color, torch.full((1, 1, 1), 0.5), torch.full((1, 3), 0.8))
    assert lit.flatten().tolist() == pytest.approx([0.65] * 3)


def test_nothing_is_changed_at_the_start():
    color, alpha = torch.rand(2, 4, 5, 3), torch.rand(2, 4, 5)
    background = torch.rand(2, 3)
    lit = Exposure(3)(torch.tensor([0, 2]), color, alpha, background)
    torch.testing.assert_close(lit, color, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def lit(sequence, open_body):
    """The avatar's own picture of one frame, and the same picture in another light; the mask is the avatar's."""
    frame = sequence.train_frames[0]
    avatar = first_avatar([frame], [frame.truth], open_body, AvatarSettings(start=600))
    view = prepare_view(frame, held_out=0.1)
    with torch.no_grad():
        gaussians = avatar.pose_person(frame.truth)
        drawn = render(gaussians, view.K[None], view.image_hw, torch.ones(1, 3), backend="cpu")
    alpha = drawn.alpha[0]
    clear = (alpha > 0.99) | (alpha < 0.01)  # at the rim the picture is person and background at once
    own = replace(view, image=drawn.color[0], mask=(alpha > 0.99).float(), valid=clear)
    gain, bias = torch.tensor(GAIN), torch.tensor(BIAS)
    return avatar, own, replace(own, image=own.image * gain + bias), frame.truth


def test_the_light_of_a_frame_is_found_while_avatar_and_pose_stay(lit):
    avatar, own, other, person = lit
    settings = RefineSettings(pose=False, depth=False, exposure=True, color_steps=0, losses=LossSettings(camel=0))
    refinement = Refinement(avatar, [own, other], [person] * 2, settings)
    for _ in range(150):
        refinement.step([0, 1], learn=False)
    same, changed = refinement.exposure.values.detach()
    # Gain and bias may stand in for each other; what they make of a colour may not.
    for color in (0.3, 0.5, 0.7):
        np.testing.assert_allclose((1 + same[0]) * color + same[1], [color] * 3, atol=0.03)
        np.testing.assert_allclose((1 + changed[0]) * color + changed[1], np.array(GAIN) * color + BIAS, atol=0.03)
    # What it explains is judged with it.
    before = judge(avatar, [other], [person], [person], backend="cpu")
    after = judge(avatar, [other], [person], [person], exposure=changed[None], backend="cpu")
    assert after.after < before.after
    assert after.psnr_db > before.psnr_db + 20


def test_the_prior_keeps_light_that_nothing_asks_for_at_zero():
    exposure = Exposure(1)
    exposure.values.data[:] = 0.1
    loss = exposure.prior(torch.tensor([0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.01)
    assert (exposure.values.grad > 0).all()


def test_a_knee_that_bends_forward_is_bent_back(lit):
    """Of the objective only the limit of hinges is left: a knee hyperextended by 20 degrees is stretched."""
    avatar, own, _, person = lit
    pose = person.body_pose.copy()
    pose[J["left_knee"] - 1] = np.float32([np.radians(-20), 0, 0])
    pose[J["right_knee"] - 1] = np.float32([np.radians(20), 0, 0])
    nothing = LossSettings(ssim=0, depth=0, camel=0, alpha=0, scale=0, reg=0, tmp=0, limit=1e3)
    refinement = Refinement(
        avatar, [own], [replace(person, body_pose=pose)], RefineSettings(color_steps=0, depth=False, losses=nothing)
    )
    first = refinement.step()
    assert first["limit"] == pytest.approx(np.radians(20) / 4, rel=0.5)  # elbows may add to it
    for _ in range(120):
        last = refinement.step()
    knee = refinement.people()[0].body_pose[J["left_knee"] - 1]
    assert knee[0] > np.radians(-2)
    assert last["limit"] < 0.2 * first["limit"]
