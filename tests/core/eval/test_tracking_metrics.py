"""Tracking scores of cases worked out by hand; docs/metrics.md has the comparison with the published libraries."""

import itertools
import json

import numpy as np
import pytest

from hsr_core.errors import ShapeError
from hsr_core.eval.operator_metrics import Lock, median_survival_s, operator_locks
from hsr_core.eval.tracking_metrics import ALPHAS, TrackingCounts, TrackingLog, position_similarity


def log_of(frames):
    """Frames of (references, predictions), each {id: place}; places that are equal are alike, others not at all."""
    log = TrackingLog()
    for references, predictions in frames:
        alike = [[float(a == b) for b in references.values()] for a in predictions.values()]
        log.push(list(references), list(predictions), np.array(alike))
    return log


def test_a_perfect_tracker():
    scores = log_of([({1: 0, 2: 5}, {7: 0, 8: 5})] * 10).counts().scores()
    assert scores.pop("id_switches") == scores.pop("fragmentations") == 0
    assert scores == dict.fromkeys(scores, 1.0)


def test_an_id_that_changes_halfway():
    """One person in 4 frames, id a in two and b in two: every match shares 2 of 4 frames with its track.

    DetA 1, AssA 1/2, HOTA sqrt(1/2). One switch: MOTA 3/4. The best single track has 2 frames: IDF1 4/8.
    """
    scores = log_of([({1: 0}, {"a": 0})] * 2 + [({1: 0}, {"b": 0})] * 2).counts().scores()
    assert scores["det_a"] == 1
    assert scores["ass_a"] == pytest.approx(0.5)
    assert scores["hota"] == pytest.approx(np.sqrt(0.5))
    assert (scores["id_switches"], scores["mota"], scores["idf1"]) == (1, 0.75, 0.5)


def test_misses_and_false_alarms():
    """Five frames; found in 1, 2, 4, 5 by one id; a false alarm beside it in 1 and 2.

    TP 4, FN 1, FP 2: DetA 4/7, detection rate 4/5, precision 4/6, MOTA (5 - 1 - 2)/5, one fragmentation. The track of 4
    frames shares 4 of 5: AssA 4/5. IDF1 8/11.
    """
    frames = [({1: 0}, {7: 0, 9: 3})] * 2 + [({1: 0}, {})] + [({1: 0}, {7: 0})] * 2
    scores = log_of(frames).counts().scores()
    expected = {
        "det_a": 4 / 7, "ass_a": 4 / 5, "hota": np.sqrt(4 / 7 * 4 / 5), "mota": 2 / 5, "idf1": 8 / 11, "f1": 8 / 11,
        "detection_rate": 4 / 5, "precision": 4 / 6, "id_switches": 0, "fragmentations": 1,
    }  # fmt: skip
    assert scores == pytest.approx(expected)


def test_localisation_decides_at_which_thresholds_a_match_counts():
    """Similarity 0.6 throughout: matched at 12 of 19 thresholds, 0.05 to 0.6; there HOTA is 1."""
    log = TrackingLog()
    for _ in range(5):
        log.push([1], [2], [[0.6]])
    scores = log.counts().scores()
    assert scores["hota"] == pytest.approx(12 / 19)
    assert scores["mota"] == 1
    assert sum(ALPHAS <= 0.6 + 1e-9) == 12


def test_absence_of_a_person_is_no_fragmentation_and_no_miss():
    frames = [({1: 0}, {7: 0})] * 2 + [({}, {})] * 3 + [({1: 0}, {7: 0})] * 2
    scores = log_of(frames).counts().scores()
    assert (scores["fragmentations"], scores["id_switches"], scores["hota"]) == (0, 0, 1)


def test_two_who_swap_ids_keep_their_matches_until_too_far():
    """Continuity first: both predictions are near enough to both people, and the one of the frame before is kept."""
    log = TrackingLog()
    log.push([1, 2], [7, 8], [[1, 0.6], [0.6, 1]])
    log.push([1, 2], [7, 8], [[0.6, 1], [1, 0.6]])
    assert log.counts().switches == 0
    log.push([1, 2], [7, 8], [[0.4, 1], [1, 0.4]])
    assert log.counts().switches == 2


def test_identity_equals_the_best_of_all_assignments():
    rng = np.random.default_rng(0)
    log, together = TrackingLog(), np.zeros((3, 4))
    for _ in range(40):
        similarity = rng.random((4, 3))
        log.push([0, 1, 2], [0, 1, 2, 3], similarity)
        together += similarity.T >= 0.5
    best = max(sum(together[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(4), 3))
    assert log.counts().id_matched == best


def test_chunks_in_order_give_the_whole():
    rng = np.random.default_rng(1)
    frames = [(list(range(3)), [0, 1, int(rng.integers(2, 5))], rng.random((3, 3))) for _ in range(30)]
    whole, first, second = TrackingLog(), TrackingLog(), TrackingLog()
    for k, frame in enumerate(frames):
        whole.push(*frame)
        (first if k < 12 else second).push(*frame)
    first.extend(second)
    assert first.counts() == whole.counts()


def test_sequences_add_up_and_survive_json():
    """A perfect sequence of 4 frames and one of 4 misses: recall 1/2, HOTA sqrt(1/2 * 1)."""
    counts = log_of([({1: 0}, {7: 0})] * 4).counts() + log_of([({1: 0}, {})] * 4).counts()
    assert TrackingCounts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts
    scores = counts.scores()
    assert scores["detection_rate"] == 0.5
    assert scores["hota"] == pytest.approx(np.sqrt(0.5))
    assert np.isnan(TrackingCounts().scores()["hota"])
    assert TrackingLog().counts() == TrackingCounts()


def test_bad_frames_are_refused():
    log = TrackingLog()
    with pytest.raises(ShapeError, match=r"\(1, 2\), not \(2, 1\)"):
        log.push([1, 2], [7], np.zeros((2, 1)))
    with pytest.raises(ShapeError, match="twice"):
        log.push([1, 1], [7], np.zeros((1, 2)))


def test_positions_are_alike_by_their_distance():
    similarity = position_similarity(np.array([[0, 0, 3.0]]), np.array([[0, 0.25, 3], [0, 0, 5]]))
    assert similarity == pytest.approx(np.array([[0.75, 0]]))


def test_operator_locks_by_hand():
    """10 Hz. Id 5 for 1 s, then 6 takes over for 1 s and disappears for good while the person stays visible.

    The first lock is lost at 1.0 s; the second, from 1.0 s, at 2.5 s: last match 1.9 s, 0.5 s allowed.
    """
    ids = [5] * 10 + [6] * 10 + [None] * 10
    locks = operator_locks(np.arange(30) / 10, [True] * 30, ids)
    assert [lock.lost for lock in locks] == [True, True]
    assert [lock.duration_s for lock in locks] == pytest.approx([1.0, 1.5])


def test_operator_is_not_lost_while_hidden_or_for_a_moment():
    """Hidden for 2 s with nobody matched, and a drop-out of 0.3 s: one lock until the end."""
    ids = [5] * 5 + [None] * 20 + [5] * 5 + [None] * 3 + [5] * 5
    visible = [True] * 5 + [False] * 20 + [True] * 13
    locks = operator_locks(np.arange(38) / 10, visible, ids)
    assert locks == [Lock(pytest.approx(3.7), lost=False)]


def test_survival_counts_locks_that_were_still_held():
    """Lost after 1, 2, 3 and 4 s: 2 s. Two lost after 1 and 5 s, one held for 2 s: of three 2/3, then 0: 5 s."""
    assert median_survival_s([Lock(t, True) for t in (4, 2, 1, 3)]) == 2
    assert median_survival_s([Lock(1, True), Lock(2, False), Lock(5, True)]) == 5
    assert median_survival_s([Lock(9, False), Lock(3, True), Lock(9, False)]) == np.inf
    assert np.isnan(median_survival_s([]))
