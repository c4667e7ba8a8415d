"""A frame cut and shrunk for the renderer still shows the same rays, depths and people."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hsr_core.errors import ShapeError
from hsr_core.mask.base import LANDMARKS, OWN_OUTLINE
from hsr_core.refine.frames import RefineFrame
from hsr_core.refine.view import HELD_OUT_BLOCK_PX, PADDING_PX, Window, common_windows, person_window, prepare_view
from hsr_core.types import HumanParams

HW = (120, 160)
K = np.array([[150.0, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])


def disc(radius: float = 30.0) -> np.ndarray:
    v, u = np.mgrid[: HW[0], : HW[1]]
    return (np.hypot(u - 80, v - 60) < radius).astype(np.float32)


def slanted_plane() -> np.ndarray:
    """z-depth of the plane z = 2 + 0.3 x + 0.2 y [m], by pixel centres at integers."""
    v, u = np.mgrid[: HW[0], : HW[1]]
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    return (2 / (1 - 0.3 * x - 0.2 * y)).astype(np.float32)


def frame(**changes) -> RefineFrame:
    rng = np.random.default_rng(0)
    values = {
        "image": rng.random((*HW, 3)).astype(np.float32), "mask": disc(), "depth_m": slanted_plane(), "K": K,
        "params": HumanParams(), "stamp_ns": 123,
    }  # fmt: skip
    return RefineFrame(**{**values, **changes})


def test_the_whole_image_keeps_its_pixels_and_shifts_the_principal_point_by_half():
    view = prepare_view(frame())
    np.testing.assert_array_equal(view.image, frame().image)
    np.testing.assert_allclose(view.K - K, np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    assert view.image_hw == HW
    assert view.valid.all()


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
def test_points_lie_on_the_measured_surface_whatever_the_window(scale):
    view = prepare_view(frame(), Window(33, 21, 140, 111, scale))
    points = view.points.double().numpy()
    error = points[:, 2] - (2 + 0.3 * points[:, 0] + 0.2 * points[:, 1])
    # Shrinking picks the nearest pixel: its depth then stands at a place up to half a picked pixel off.
    assert np.abs(error).max() < (1e-5 if scale == 1 else 0.5 / 150 / scale * 0.5 * 2)
    assert np.abs(error).mean() < (1e-5 if scale == 1 else 2e-3)


def test_a_ray_is_the_same_before_and_after():
    """The ray through an edge of the window is that through the edge of the shrunk picture."""
    window = Window(30, 20, 130, 100, 0.5)
    view = prepare_view(frame(), window)
    assert view.image_hw == (40, 50)
    inverse = np.linalg.inv(view.K.double().numpy())
    for edge, (u, v) in {(0, 0): (30, 20), (50, 40): (130, 100)}.items():
        expected = np.array([(u - 0.5 - K[0, 2]) / K[0, 0], (v - 0.5 - K[1, 2]) / K[1, 1], 1])
        np.testing.assert_allclose(inverse @ [*edge, 1], expected, atol=1e-6)


def test_the_window_holds_mask_and_body_and_margin_and_stays_in_the_image():
    uv = np.array([[70.0, 5], [90, 50], [np.nan, 3], [500, 500]])
    window = person_window(disc(), uv, max_height_px=1000)
    assert (window.x0, window.y0, window.x1, window.y1) == (51 - PADDING_PX, 0, 110 + PADDING_PX, 90 + PADDING_PX)
    assert window.scale == 1.0
    assert person_window(disc(), uv, max_height_px=43).scale == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ShapeError, match="nothing of the person"):
        person_window(np.zeros(HW), np.full((3, 2), np.nan), max_height_px=100)


def test_windows_of_several_frames_get_one_size_and_stay_in_the_image():
    windows = [Window(0, 0, 50, 100, 0.5), Window(100, 20, 160, 60, 0.8), Window(40, 30, 50, 120)]
    common = common_windows(windows, HW)
    assert {(w.x1 - w.x0, w.y1 - w.y0, w.scale) for w in common} == {(60, 100, 0.5)}
    for window, part in zip(common, windows, strict=True):
        assert 0 <= window.x0 <= part.x0 < part.x1 <= window.x1 <= HW[1]
        assert 0 <= window.y0 <= part.y0 < part.y1 <= window.y1 <= HW[0]


def test_a_single_pixel_of_a_person_is_a_window():
    mask = np.zeros(HW, np.float32)
    mask[0, 159] = 1
    view = prepare_view(frame(mask=mask), person_window(mask, np.zeros((0, 2)), max_height_px=384))
    assert view.mask.sum() == 1
    assert view.points is not None


def test_what_belongs_to_others_counts_nowhere():
    ignore = np.zeros(HW, bool)
    ignore[:, :80] = True
    view = prepare_view(frame(ignore=ignore))
    assert not view.valid[:, :80].any()
    assert not view.core[:, :80].any()
    assert (view.depth_m[:, :80] == 0).all()
    assert view.valid[:, 80:].all()


def test_a_mask_that_is_not_exact_counts_half_around_its_outline():
    """A disc of 60 px: the landmark network's outline is unsure from 3 px inside to 6 px outside, half of it at half
    the size. The body's own outline says nothing of what lies outside."""
    for scale, inner, outer in ((1.0, 27, 36), (0.5, 13, 18)):
        view = prepare_view(frame(traits=LANDMARKS), Window(0, 0, HW[1], HW[0], scale))
        assert view.mask_weight == 0.05
        assert view.valid.unique().tolist() == [0.5, 1.0]
        assert np.sqrt(float(view.core.sum()) / np.pi) == pytest.approx(inner, abs=0.7)
        assert np.sqrt(float((view.core | (view.valid < 1)).sum()) / np.pi) == pytest.approx(outer, abs=0.7)
    view = prepare_view(frame(traits=OWN_OUTLINE))
    assert view.mask_weight == 0
    assert torch.equal(view.valid > 0, view.core)


def test_invalid_depth_is_no_point():
    depth = slanted_plane()
    depth[50:60], depth[60:65], depth[65:70] = 0, np.nan, np.inf
    view = prepare_view(frame(depth_m=depth))
    assert (view.depth_m[50:70] == 0).all()
    assert view.points.isfinite().all()
    assert prepare_view(frame(depth_m=None)).points is None
    assert len(prepare_view(frame(depth_m=np.zeros(HW, np.float32))).points) == 0


def test_held_out_blocks_are_the_same_each_time_and_count_nowhere():
    views = [prepare_view(frame(), held_out=0.2) for _ in range(2)]
    assert torch.equal(views[0].held_out, views[1].held_out)
    held = views[0].held_out
    inside = torch.as_tensor(disc() > 0.5)
    assert 0.05 < held.sum() / inside.sum() < 0.4
    assert not (held & ~inside).any()
    assert not (held & ((views[0].valid > 0) | views[0].core)).any()
    assert (views[0].depth_m[held] == 0).all()
    rows, columns = np.nonzero(held.numpy())
    block = np.zeros(HW, bool)
    r, c = rows[0] // HELD_OUT_BLOCK_PX * HELD_OUT_BLOCK_PX, columns[0] // HELD_OUT_BLOCK_PX * HELD_OUT_BLOCK_PX
    block[r : r + HELD_OUT_BLOCK_PX, c : c + HELD_OUT_BLOCK_PX] = True
    assert torch.equal(held & torch.as_tensor(block), inside & torch.as_tensor(block))  # whole blocks
    other = prepare_view(frame(stamp_ns=124), held_out=0.2).held_out
    assert not torch.equal(other, held)
