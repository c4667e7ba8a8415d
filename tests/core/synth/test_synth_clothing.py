"""Clothes: where they are, how thick, and that they do not follow the body's weights."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hsr_core.body.joints import J
from hsr_core.errors import ConfigError
from hsr_core.synth.clothing import DressedBody, ramp
from hsr_core.synth.motion import body_pose, relaxed_hand
from hsr_core.synth.texture import Style, Texture
from hsr_core.types import HumanParams


@pytest.fixture(scope="module")
def dressed(body):
    return DressedBody(body, HumanParams())


@pytest.fixture(scope="module")
def walking():
    turn = np.array([2.0, 0.3, -1.0], np.float32)
    hands = relaxed_hand(1.0), relaxed_hand(-1.0)
    return HumanParams(turn, np.array([0.1, -0.2, 3.0]), body_pose(0.7, 0.35), *hands)


def part(body, *names: str) -> np.ndarray:
    """Vertices that follow these joints and hardly any other."""
    return body.layer.full.body.weights.numpy()[:, [J[name] for name in names]].sum(1) > 0.9


def test_without_clothes_it_is_the_body(body, walking):
    """Own skinning against the body model's."""
    bare = DressedBody(body, walking, amount=0.0)
    np.testing.assert_allclose(bare.pose(walking, 1.0), body.pose_one(walking).vertices, atol=1e-5)


def test_faces_with_expression_and_shape_are_followed(body, walking):
    rng = np.random.default_rng(0)
    p = replace(
        walking, jaw_pose=np.array([0.2, 0, 0], np.float32), betas=rng.normal(0, 1, 10).astype(np.float32),
        eyelids=np.ones(2, np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(DressedBody(body, p, 0.0).pose(p, 0.0), body.pose_one(p).vertices, atol=1e-5)


def test_head_hands_and_feet_are_bare(body, dressed):
    for names in (("head", "jaw"), ("left_wrist",), ("left_index2", "right_thumb2"), ("left_foot", "right_foot")):
        chosen = part(body, *names)
        assert chosen.sum() > 20
        assert not dressed.offsets[chosen].any()


def test_thickness_is_as_stated(dressed):
    """15 mm on the trunk, 10 mm on the legs, each times 1 +- 0.35; up to 25 mm more towards the hem."""
    y = dressed.rest[:, 1]
    x = np.abs(dressed.rest[:, 0])
    chest = (y > dressed.cut.waist_y + 0.02) & (y < dressed.joints[J["spine3"], 1]) & (x < 0.15)
    shins = (y < dressed.joints[J["left_knee"], 1] - 0.05) & (y > dressed.cut.cuff_y + 0.05)
    for chosen, thickness in ((chest, 0.015), (shins, 0.010)):
        assert chosen.sum() > 100
        assert dressed.offsets[chosen].min() >= 0.65 * thickness - 1e-6
        assert dressed.offsets[chosen].max() <= 1.35 * thickness + 1e-6
        assert dressed.offsets[chosen].mean() == pytest.approx(thickness, rel=0.1)
    hem = (y > dressed.cut.hem_y) & (y < dressed.cut.hem_y + 0.03) & (x < 0.4)
    assert 0.030 < dressed.offsets[hem].max() <= 1.35 * 0.040 + 1e-6


def test_the_pelvis_takes_sixty_percent_of_the_hips_at_the_hem(body, dressed):
    skin, cloth = body.layer.full.body.weights.numpy(), dressed.weights
    np.testing.assert_allclose(cloth.sum(1), 1, atol=1e-5)
    assert cloth.min() >= 0
    y = dressed.rest[:, 1]
    hips = [J["left_hip"], J["right_hip"]]
    hem = (y > dressed.cut.hem_y) & (y < dressed.cut.hem_y + 0.01) & (np.abs(dressed.rest[:, 0]) < 0.35)
    hem &= skin[:, hips].sum(1) > 0.3
    assert hem.sum() > 10
    share = cloth[hem][:, hips].sum(1) / skin[hem][:, hips].sum(1)
    assert share.mean() == pytest.approx(0.4, abs=0.05)
    elsewhere = (y > dressed.cut.waist_y) | (y < dressed.cut.hem_y - 0.04)
    np.testing.assert_array_equal(cloth[elsewhere], skin[elsewhere])


def test_the_hem_swings_by_a_centimetre_and_nothing_else_moves(dressed, walking):
    swings = np.stack([dressed.pose(walking, phase) for phase in np.linspace(0, 2 * np.pi, 17)])
    reach = np.linalg.norm(swings - swings.mean(0), axis=-1).max(0)
    assert 0.007 < reach.max() <= 0.0106
    np.testing.assert_allclose(swings[0], swings[-1], atol=1e-5)
    above = dressed.rest[:, 1] > dressed.cut.waist_y
    assert reach[above].max() < 1e-5


def test_only_the_open_body_is_dressed():
    with pytest.raises(ConfigError, match="open body, not of EHMS"):
        DressedBody(SimpleNamespace(family="EHMS"), HumanParams())


@pytest.mark.parametrize("amount", [-1, 4, float("nan")])
def test_amounts_out_of_range_are_refused(body, amount):
    with pytest.raises(ConfigError, match="amount of clothing"):
        DressedBody(body, HumanParams(), amount)


def test_a_ramp_goes_either_way():
    np.testing.assert_allclose(ramp(np.array([0, 1, 1.5, 2, 3.0]), 1, 2), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(ramp(np.array([0, 1, 1.5, 2, 3.0]), 2, 1), [1, 1, 0.5, 0, 0])


# --- texture --------------------------------------------------------------------------------------------------


def test_colours_are_colours(dressed):
    colors = Texture(dressed.joints, Style())(dressed.rest)
    assert colors.shape == dressed.rest.shape
    assert colors.min() >= 0
    assert colors.max() <= 1


def test_the_shirt_has_no_detail_finer_than_five_centimetres(dressed):
    """Spectrum down the chest at the front; waves a little flatter than a sine have a weak third harmonic."""
    y = np.linspace(dressed.cut.hem_y + 0.03, dressed.cut.neck[1] - 0.10, 512)
    line = np.stack([np.full_like(y, 0.03), y, np.full_like(y, 0.12)], 1)
    for seed in range(5):
        texture = Texture(dressed.joints, Style.random(np.random.default_rng(seed)))
        values = texture(line).mean(1)
        spectrum = np.abs(np.fft.rfft((values - values.mean()) * np.hanning(len(y)))) ** 2
        frequency = np.fft.rfftfreq(len(y), y[1] - y[0])
        assert spectrum[frequency < 1 / 0.05].sum() > 0.98 * spectrum.sum()


def test_plain_clothes_have_no_pattern(dressed):
    texture = Texture(dressed.joints, Style(contrast=0.0))
    legs = (np.abs(dressed.rest[:, 1] - dressed.joints[J["left_knee"], 1]) < 0.1) & (dressed.rest[:, 0] > 0)
    assert np.ptp(texture(dressed.rest[legs]), axis=0).max() < 1e-6
    assert np.ptp(Texture(dressed.joints, Style())(dressed.rest[legs]), axis=0).max() > 0.2


def test_front_and_back_and_left_and_right_look_different(dressed):
    texture = Texture(dressed.joints, Style())
    chest = np.array([[0.05, 0.0, 0.12], [-0.05, 0.0, 0.12], [0.05, 0.0, -0.12]])
    legs = np.array([[0.11, -0.6, 0.05], [-0.11, -0.6, 0.05]])
    front, _, back = texture(chest)
    left, right = texture(legs)
    assert np.abs(front - back).max() > 0.05
    assert np.abs(left - right).max() > 0.03
