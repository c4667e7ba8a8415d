"""Boxes are matched greedily."""

import numpy as np
import pytest

from hsr_core.errors import ShapeError
from hsr_core.eval.matching import greedy_match, iou_matrix, match_boxes, tight_box


def test_iou_by_hand():
    """Two 10 x 10 boxes that share 5 x 10: 50 / 150. An empty box shares nothing; a broken one neither."""
    boxes = np.array([[0, 0, 10, 10], [3, 3, 3, 3], [np.nan] * 4])
    ious = iou_matrix(boxes, np.array([[5, 0, 15, 10], [20, 20, 30, 30]]))
    np.testing.assert_allclose(ious, [[1 / 3, 0], [0, 0], [0, 0]])
    assert iou_matrix(np.empty((0, 4)), boxes).shape == (0, 3)


def test_the_most_similar_pair_goes_first():
    """Greedy, not optimal: 0.9 is taken although 0.8 + 0.8 would be more together; what is left is too far."""
    assert greedy_match(np.array([[0.9, 0.8], [0.8, 0.05]]), 0.1) == [(0, 0)]
    assert greedy_match(np.array([[0.9, 0.8], [0.8, 0.1]]), 0.1) == [(0, 0), (1, 1)]
    assert greedy_match(np.full((2, 2), 0.5), 0.1) == [(0, 0), (1, 1)]
    assert greedy_match(np.empty((0, 3)), 0.1) == []
    with pytest.raises(ShapeError):
        greedy_match(np.zeros(3), 0.1)


def test_boxes_at_the_limit_match():
    """10 x 10 boxes that share 20 of 180 px: 0.111; 15 of 185: 0.081."""
    reference = np.array([[0, 0, 10, 10.0]])
    assert match_boxes(np.array([[8, 0, 18, 10.0]]), reference) == [(0, 0)]
    assert match_boxes(np.array([[8.5, 0, 18.5, 10.0]]), reference) == []


def test_a_tight_box_holds_the_known_points_only():
    points = np.array([[1, 5, 0.9], [4, 2, 0.9], [99, 99, 0.1], [np.nan, 0, 0.9]])
    assert tight_box(points, points[:, 2] > 0.5).tolist() == [1, 2, 4, 5]
    assert np.isnan(tight_box(points, np.zeros(4, bool))).all()
