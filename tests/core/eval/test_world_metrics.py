"""World metrics against analytic trajectories."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.errors import ConfigError, ShapeError
from hsr_core.eval.world_metrics import chunks, foot_sliding_mm, rte_percent, w_mpjpe_mm, wa_mpjpe_mm


def walk(length_m, frames=100):
    """Fourteen joints, 0.3 m spread, carried along x. (T, 14, 3)."""
    body = np.random.default_rng(0).normal(0, 0.3, (14, 3))
    return body + length_m * np.linspace(0, 1, frames)[:, None, None] * np.array([1, 0, 0])


def test_a_walk_that_is_too_long_by_a_fifth():
    """5 m walked, 6 m predicted: half of the 1 m after fitting the first two frames, far less after fitting all."""
    first, whole = w_mpjpe_mm(walk(6), walk(5)), wa_mpjpe_mm(walk(6), walk(5))
    assert first.mean() == pytest.approx(490, rel=0.03)
    assert 40 < whole.mean() < 90


def test_one_similarity_per_chunk_is_undone():
    """Two chunks, each moved by a similarity of its own."""
    reference = walk(5, 200)
    reference += np.random.default_rng(1).normal(0, 0.02, reference.shape)
    predicted = reference.copy()
    for part, s in ((slice(0, 100), 0.5), (slice(100, 200), 2)):
        R = Rotation.random(random_state=part.start).as_matrix()
        predicted[part] = s * reference[part] @ R.T + part.start
    for metric in (w_mpjpe_mm, wa_mpjpe_mm):
        assert metric(predicted, reference) == pytest.approx(np.zeros(200), abs=1e-6)


def test_chunks_end_where_validity_ends_and_tails_are_dropped_or_kept():
    """250 frames with a hole at 120: runs of 120 and 129 frames; one whole chunk each, tails of 20 and 29."""
    valid = np.arange(250) != 120
    dropped = [(c.start, c.stop) for c in chunks(valid)]
    kept = [(c.start, c.stop) for c in chunks(valid, tail="kept")]
    assert dropped == [(0, 100), (121, 221)]
    assert kept == [(0, 100), (100, 120), (121, 221), (221, 250)]
    assert list(chunks(np.array([1, 0, 1, 0]), tail="kept")) == []  # a frame alone fits anything
    with pytest.raises(ConfigError, match="dropped or kept"):
        list(chunks(valid, tail="padded"))


def test_frames_in_no_chunk_have_no_value():
    reference = walk(5, 130)
    reference[110] = np.nan
    errors = wa_mpjpe_mm(walk(6, 130), reference)
    assert np.flatnonzero(np.isfinite(errors)).tolist() == list(range(100))
    assert np.isfinite(wa_mpjpe_mm(walk(6, 130), reference, tail="kept")).sum() == 129


def test_a_straight_path_predicted_a_tenth_too_long():
    """10 m and 11 m: after the fit errors run from 0.5 m at both ends to 0: 0.25 m of 10 m."""
    t = np.linspace(0, 1, 5001)[:, None] * np.array([10, 0, 0])
    R = Rotation.random(random_state=2).as_matrix()
    assert rte_percent(1.1 * t @ R.T + 3, t).mean() == pytest.approx(2.5, abs=1e-3)


def test_root_error_needs_a_path_and_leaves_invalid_frames_out():
    path = np.random.default_rng(3).normal(0, 1, (30, 3)).cumsum(0)
    moved = path @ Rotation.random(random_state=3).as_matrix().T + 7
    moved[4] = np.nan
    errors = rte_percent(moved, path)
    assert np.isnan(errors[4])
    assert np.delete(errors, 4) == pytest.approx(np.zeros(29), abs=1e-9)
    assert np.isnan(rte_percent(path, np.ones((30, 3)))).all()
    assert np.isnan(rte_percent(path[:1], path[:1])).all()


def test_feet_slide_where_the_reference_stands():
    """Foot 0 stands while the prediction moves 4 mm per frame; foot 1 moves 20 mm per frame and is not in contact."""
    reference = np.zeros((6, 2, 3))
    reference[:, 1, 0] = 0.02 * np.arange(6)
    predicted = reference.copy()
    predicted[:, 0, 2] = 0.004 * np.arange(6)
    sliding = foot_sliding_mm(predicted, reference)
    assert sliding[:, 0] == pytest.approx(np.full(5, 4))
    assert np.isnan(sliding[:, 1]).all()
    touched = foot_sliding_mm(predicted, reference, np.arange(6) != 2)
    assert np.flatnonzero(np.isfinite(touched[:, 0])).tolist() == [0, 3, 4]
    with pytest.raises(ShapeError):
        foot_sliding_mm(predicted, reference[:, :1])
