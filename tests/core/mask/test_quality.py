"""Regions, and masks that must not be used: empty, whole image, somebody else's, jumping."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from analytic_scenes import ball, camera

from hsr_core.errors import ShapeError
from hsr_core.geometry.regions import bounds, grow, iou, outline, shrink
from hsr_core.mask.base import LANDMARKS, OWN_OUTLINE, SHARP, MaskFrame, contested, core_and_band
from hsr_core.mask.quality import MaskWatch, judge

CAM = camera()
BODY = ball(CAM)
OTHER = ball(CAM, (-0.9, 0.1, 2.6), 0.4, track_id=7)
CLOTH = 0.02


def soft(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32) * 0.9 + 0.05


def frame(mask: np.ndarray, track_id: int = 1) -> MaskFrame:
    return MaskFrame(soft(mask), track_id, 0, 1.0, False, "test", SHARP)


def disc(radius: float, centre=(160, 120), hw=(240, 320)) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.hypot(x - centre[0], y - centre[1]) <= radius


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_growing_and_shrinking_a_disc_changes_its_radius(radius):
    for changed, expected in ((grow(disc(40), radius), 40 + radius), (shrink(disc(40), radius), 40 - radius)):
        assert np.sqrt(changed.sum() / np.pi) == pytest.approx(expected, abs=0.6)


def test_regions_agree_with_opencv_on_the_whole_image():
    rng = np.random.default_rng(0)
    mask = cv2.GaussianBlur(rng.random((90, 120)).astype(np.float32), (0, 0), 4) > 0.5
    disc_ = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    np.testing.assert_array_equal(grow(mask, 3), cv2.dilate(mask.astype(np.uint8), disc_).astype(bool))
    np.testing.assert_array_equal(shrink(mask, 3), cv2.erode(mask.astype(np.uint8), disc_).astype(bool))
    assert not grow(np.zeros((5, 5), bool), 2).any()
    assert bounds(np.zeros((5, 5), bool)) is None


def test_a_mask_cut_by_the_image_is_not_shrunk_there():
    cut = disc(60, centre=(0, 120))
    assert shrink(cut, 4)[120, 0]
    assert outline(cut)[120, 0]
    assert iou(cut, cut) == 1
    assert iou(~cut & cut, ~cut & cut) == 0


def test_core_and_band_lie_where_depth_and_colour_are_to_be_trusted():
    """Of somebody 120 px tall: one pixel in, two out. The landmark network's outline: three in, six out; half of it
    in a picture of half the size."""
    for traits, scale, inner, outer in ((SHARP, 1.0, 59, 62), (LANDMARKS, 1.0, 57, 66), (LANDMARKS, 0.5, 58, 63)):
        core, band = core_and_band(disc(60), traits, scale)
        assert np.sqrt(core.sum() / np.pi) == pytest.approx(inner, abs=0.6)
        assert np.sqrt((core | band).sum() / np.pi) == pytest.approx(outer, abs=0.6)
        assert not (core & band).any()


def test_pixels_claimed_by_two_people_count_for_neither():
    left, right = frame(disc(50, (120, 120))), frame(disc(50, (180, 120)), track_id=2)
    np.testing.assert_array_equal(contested([left, right]), left.sure & right.sure)
    assert contested([left]) is None
    with pytest.raises(ShapeError):
        contested([left, frame(disc(5, hw=(20, 20)))])


def test_the_right_mask_is_good_by_its_origin():
    mask = soft(BODY.silhouette(CLOTH))
    assert judge(mask, BODY, [OTHER], SHARP, CLOTH).quality == pytest.approx(1)
    assert judge(mask, BODY, [OTHER], LANDMARKS, CLOTH).quality == pytest.approx(0.6)
    assert judge(mask, BODY, [], OWN_OUTLINE, CLOTH).quality == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("prob", "said"),
    [
        (np.zeros(CAM.image_hw, np.float32), "empty"),
        (np.full(CAM.image_hw, np.nan, np.float32), "empty"),
        (np.ones(CAM.image_hw, np.float32), r"100% of the image"),
        (soft(OTHER.mask), r"another person \(track 7\)"),
        (soft(disc(30, (20, 20))), "beside the body"),
        (np.ones((5, 5), np.float32), r"\(5, 5\)"),
    ],
    ids=["empty", "nan", "whole image", "another person", "beside", "another size"],
)
def test_wrong_masks_are_rejected_with_the_reason(prob, said):
    verdict = judge(prob, BODY, [OTHER], SHARP, CLOTH)
    assert verdict.quality == 0
    import re

    assert re.search(said, verdict.reason)


def test_a_person_cut_by_the_image_is_told_and_trusted_less():
    body = ball(CAM, (-1.25, 0.0, 2.4))
    verdict = judge(soft(body.silhouette(CLOTH)), body, [], SHARP, CLOTH)
    assert verdict.touches_border
    assert 0.3 < verdict.quality < 0.9
    gone = ball(CAM, (-5.0, 0.0, 2.4))
    assert judge(soft(BODY.mask), gone, [], SHARP, CLOTH).reason == "the body is outside the image"


def test_an_area_jump_is_rejected_and_believed_when_it_stays():
    watch = MaskWatch()
    assert watch.check(disc(60), BODY, 0.9) == ("", False)
    assert watch.check(disc(65), BODY, 0.9) == ("", False)
    for _ in range(2):
        reason, anew = watch.check(disc(90), BODY, 0.9)
        assert "+92%" in reason
        assert anew
    assert watch.check(disc(90), BODY, 0.9) == ("", False)


def test_a_person_who_comes_nearer_is_no_jump():
    watch = MaskWatch()
    watch.check(BODY.mask, BODY, 0.9)
    near = ball(CAM, (0.2, -0.1, 1.6))
    assert near.mask.sum() > 1.9 * BODY.mask.sum()
    assert watch.check(near.mask, near, 0.9) == ("", False)


def test_three_poor_masks_in_a_row_ask_for_a_new_prompt():
    watch = MaskWatch()
    assert [watch.check(BODY.mask, BODY, overlap)[1] for overlap in (0.5, 0.5, 0.7, 0.5, 0.5, 0.5)] == [False] * 5 + [
        True
    ]
