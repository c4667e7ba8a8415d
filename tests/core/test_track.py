"""Who is who, and the life of a track."""

from __future__ import annotations

import numpy as np
import pytest
from crossings import crossing, detections, follow, twins

from hsr_core.config import TrackSettings
from hsr_core.track.track import Tracker, box_iou
from hsr_core.types import TrackState

FRAME_NS = 33_333_333
KEEP_S = TrackSettings().keep_s


def box(x: float, size: float = 100.0) -> np.ndarray:
    return np.array([x, 0, x + size / 2, size])


def at(x: float) -> tuple[np.ndarray, np.ndarray]:
    """A person x metres to the right, three metres away, where 1 m is 200 px."""
    return box(200 * x), np.array([x, 0.0, 3.0])


def update(tracker: Tracker, frame: int, *xs: float):
    people = [at(x) for x in xs]
    return tracker.update(frame * FRAME_NS, [p[0] for p in people], [p[1] for p in people])


def test_a_person_is_new_then_tracked_then_predicted_then_lost_once():
    tracker = Tracker(keep_s=0.1)
    states = []
    for frame in range(12):
        update(tracker, frame, *([0.0] if frame < 4 else []))
        states.append([track.state for track in tracker.tracks])
    assert states[0] == [TrackState.NEW]
    assert states[1:4] == [[TrackState.TRACKED]] * 3
    assert states[4:7] == [[TrackState.PREDICTED]] * 3  # seen last at frame 3; 3 frames are 0.1 s
    assert states[7] == [TrackState.LOST]
    assert states[8:] == [[]] * 4


def test_somebody_new_takes_the_place_of_who_is_unseen_for_longest():
    tracker = Tracker(keep_s=1.0, most=2)
    first, second = update(tracker, 0, 0.0, 3.0)
    update(tracker, 1, 3.0)
    (third,) = update(tracker, 2, -3.0)
    assert [track.state for track in (first, second, third)] == [TrackState.LOST, TrackState.PREDICTED, TrackState.NEW]
    update(tracker, 3, 3.0, -3.0)
    assert [track.id for track in tracker.tracks] == [second.id, third.id]


def test_a_person_who_returns_in_time_keeps_the_id_and_later_gets_a_new_one():
    tracker = Tracker(keep_s=0.2)
    first = update(tracker, 0, 0.0)[0].id
    update(tracker, 3)
    assert update(tracker, 5, 0.1)[0].id == first
    update(tracker, 20)
    assert update(tracker, 21, 0.0)[0].id > first


def test_ids_are_never_reused_even_after_a_reset():
    tracker = Tracker(keep_s=0.1)
    seen = []
    for frame in range(5):
        seen.append(update(tracker, frame, 0.0)[0].id)
        tracker.reset()
    assert len(set(seen)) == 5


def test_two_people_who_cross_keep_their_ids():
    tracker = Tracker(keep_s=0.4)
    ids = []
    for frame in range(41):
        x = -1 + 0.05 * frame
        places = [np.array([x, 0, 2.7]), np.array([-x, 0, 3.3])]  # one passes before the other
        boxes = [box(200 * x, 110), box(-200 * x, 90)]
        order = [0, 1] if frame % 2 else [1, 0]
        tracks = tracker.update(frame * FRAME_NS, [boxes[i] for i in order], [places[i] for i in order])
        ids.append({i: track.id for i, track in zip(order, tracks, strict=True)})
    assert all(pair == ids[0] for pair in ids)


def test_order_of_detections_does_not_matter():
    rng = np.random.default_rng(0)
    tracker = Tracker(keep_s=0.4)
    homes = np.arange(10) * 1.5
    ids = {home: track.id for home, track in zip(homes, update(tracker, 0, *homes), strict=True)}
    for frame in range(1, 20):
        order = rng.permutation(10)
        tracks = update(tracker, frame, *(homes[order] + rng.normal(0, 0.02, 10)))
        assert [track.id for track in tracks] == [ids[homes[i]] for i in order]


def test_a_far_jump_is_another_person():
    tracker = Tracker(keep_s=0.4)
    first = update(tracker, 0, 0.0)[0].id
    assert update(tracker, 1, 5.0)[0].id != first
    assert {track.state for track in tracker.tracks} == {TrackState.PREDICTED, TrackState.NEW}


def test_a_wrong_distance_does_not_end_a_track_while_the_box_agrees():
    tracker = Tracker(keep_s=0.4)
    first = update(tracker, 0, 0.0)[0].id
    track = tracker.update(FRAME_NS, [box(0)], [np.array([0.0, 0, 6.0])])[0]
    assert track.id == first


def test_the_primary_is_the_largest_and_equals_do_not_take_turns():
    tracker = Tracker(keep_s=0.1)
    place = np.array([0.0, 0, 3]), np.array([3.0, 0, 3])
    a, b = tracker.update(0, [box(0, 100), box(600, 90)], place)
    assert tracker.primary == a.id
    tracker.update(FRAME_NS, [box(0, 100), box(600, 110)], place)
    assert tracker.primary == a.id
    tracker.update(2 * FRAME_NS, [box(0, 100), box(600, 140)], place)
    assert tracker.primary == b.id


def test_a_locked_primary_is_replaced_by_nobody():
    tracker = Tracker(keep_s=0.1)
    a, b = update(tracker, 0, 0.0, 3.0)
    tracker.set_primary(b.id)
    assert tracker.primary == b.id
    for frame in range(1, 10):
        update(tracker, frame, 0.0)
    assert tracker.primary is None
    tracker.set_primary(None)
    assert tracker.primary == a.id


def test_nobody_at_all():
    tracker = Tracker(keep_s=0.1)
    assert tracker.update(0, [], []) == []
    assert tracker.primary is None


@pytest.mark.parametrize(
    ("other", "iou"),
    [((0, 0, 10, 10), 1.0), ((5, 0, 15, 10), 1 / 3), ((10, 0, 20, 10), 0.0), ((2, 2, 4, 4), 0.04), ((3, 3, 3, 3), 0.0)],
)
def test_overlap_by_hand(other, iou):
    assert box_iou(np.array([[0, 0, 10, 10.0]]), np.array([other], float)).item() == pytest.approx(iou)


def test_many_people_for_a_long_time_leave_nothing_behind():
    tracker = Tracker(keep_s=0.1)
    for frame in range(300):
        update(tracker, frame, *([10.0 * (frame % 7)] if frame % 3 else []))
    assert len(tracker.tracks) < 10


def test_no_id_changes_in_crossings_of_two_to_four_people_with_half_a_second_hidden():
    for seed in range(20):
        scores = follow(crossing(seed, 2 + seed % 3, hidden_s=0.5), Tracker(KEEP_S)).counts().scores()
        assert scores["id_switches"] == 0, seed
        assert scores["hota"] == 1.0, seed


def switches(scenes: range, **how) -> int:
    return sum(
        follow(crossing(seed, 2 + seed % 3, **how), Tracker(KEEP_S)).counts().scores()["id_switches"] for seed in scenes
    )


def test_people_hidden_for_a_second_return_with_their_ids():
    assert switches(range(20), hidden_s=1.0, clothes="different") == 0
    assert switches(range(20), hidden_s=1.0) <= 2  # whose hidden paths meet cannot always be told apart by place


def test_clothes_tell_people_apart_who_meet_unseen():
    """Both turn round while they are hidden, in the same place: geometry alone gives each the other's id."""

    def turning_back(clothes: str) -> int:
        count = 0
        for seed in range(10):
            times = np.arange(0, 4, 1 / 30)
            x = 0.8 * np.abs(times - 2)[:, None] * np.array([1.0, -1.0])
            paths = np.stack([x, np.full_like(x, 0.2), np.full_like(x, 3.5)], -1)
            hidden = np.repeat(np.abs(times - 2)[:, None] < 0.4, 2, axis=1)
            scene = detections(paths, hidden, np.random.default_rng(seed), clothes)
            count += follow(scene, Tracker(KEEP_S)).counts().scores()["id_switches"]
        return count

    assert turning_back("unknown") == 20
    assert turning_back("different") == 0


@pytest.mark.parametrize("clothes", ["unknown", "same"])
def test_twins_side_by_side_stay_apart(clothes):
    for seed in range(5):
        assert follow(twins(seed, 0.5, clothes), Tracker(KEEP_S)).counts().scores()["id_switches"] == 0


def test_somebody_in_other_clothes_far_from_the_expected_place_is_somebody_else():
    red, blue = np.zeros((2, 6, 16))
    red[:, 2], blue[:, 12] = 1, 1
    for look, same in ((red, True), (blue, False)):
        tracker = Tracker(KEEP_S)
        for frame in range(10):
            (first,) = tracker.update(frame * FRAME_NS, [box(0)], [np.array([0.0, 0, 3])], [red])
        (second,) = tracker.update(16 * FRAME_NS, [box(200)], [np.array([0.7, 0, 3])], [look])
        assert (second.id == first.id) == same


def test_colours_that_may_be_another_persons_are_not_learnt():
    red, blue = np.zeros((2, 6, 16))
    red[:, 2], blue[:, 12] = 1, 1
    mixed = (red + blue) / 2
    for apart, learnt in ((3.0, True), (0.1, False)):
        tracker = Tracker(KEEP_S)
        for frame, looks in enumerate(((red, blue), (mixed, mixed))):
            boxes, places = zip(at(0.0), at(apart), strict=True)
            tracks = tracker.update(frame * FRAME_NS, boxes, places, looks)
        assert np.array_equal(tracks[0].appearance, red) != learnt


def test_a_crouch_that_seems_far_away_keeps_the_id_and_hardly_moves_the_track():
    tracker = Tracker(KEEP_S)
    look = np.full((6, 16), 1 / 16)
    for frame in range(10):
        (first,) = tracker.update(frame * FRAME_NS, [box(0)], [np.array([0.0, 0, 4])], [look])
    (second,) = tracker.update(14 * FRAME_NS, [box(0, 50)], [np.array([0.0, 0, 6])], [look])
    assert second.id == first.id
    assert second.motion.place(14 * FRAME_NS)[2] < 5


def test_forty_people_keep_forty_ids():
    rng = np.random.default_rng(0)
    tracker = Tracker(KEEP_S, most=40)
    homes = np.stack([np.linspace(-8, 8, 40), np.zeros(40), rng.uniform(3, 8, 40)], 1)
    for frame in range(60):
        places = list(homes + rng.normal(0, 0.03, homes.shape))
        tracks = tracker.update(frame * FRAME_NS, [box(100 * home[0], 40) for home in homes], places)
    assert [track.id for track in tracks] == list(range(1, 41))
    assert (tracker.born, tracker.died) == (40, 0)


def test_forty_detections_that_come_and_go_are_bounded_by_the_places():
    rng = np.random.default_rng(0)
    tracker = Tracker(KEEP_S, most=4)
    ids: set[int] = set()
    for frame in range(60):
        places = list(rng.uniform([-8, -1, 2], [8, 1, 9], (40 if frame % 7 else 4, 3)))
        boxes = [box(100 * place[0], 40) for place in places]
        looks = [None if n % 3 else rng.dirichlet(np.ones(16), 6) for n in range(len(places))]
        new = {track.id for track in tracker.update(frame * FRAME_NS, boxes[:4], places[:4], looks[:4])}
        assert len([track for track in tracker.tracks if track.state != TrackState.LOST]) <= 4
        assert not {track.id for track in tracker.tracks if track.state == TrackState.NEW} & ids
        ids |= new
    assert tracker.born == max(ids)


def test_every_track_is_lost_once_and_its_id_never_comes_back():
    rng = np.random.default_rng(1)
    tracker = Tracker(0.1, most=3)
    lost: list[int] = []
    for frame in range(400):
        xs = 4.0 * rng.permutation(5)[: rng.integers(0, 4)]
        update(tracker, frame, *xs)
        gone = [track.id for track in tracker.tracks if track.state == TrackState.LOST]
        assert not {track.id for track in tracker.tracks if track.state != TrackState.LOST} & {*lost, *gone}
        lost += gone
    assert len(lost) == len(set(lost)) > 50
    assert len(lost) + sum(track.state != TrackState.LOST for track in tracker.tracks) == tracker.born


def test_births_and_deaths_are_counted():
    tracker = Tracker(keep_s=0.1)
    update(tracker, 0, 0.0, 3.0)
    update(tracker, 10, 3.0)
    assert [track.state for track in tracker.tracks] == [TrackState.LOST, TrackState.TRACKED]
    tracker.reset()
    assert (tracker.born, tracker.died) == (2, 2)


@pytest.mark.parametrize(("rule", "first"), [("largest", 0), ("nearest", 1), ("centre", 2), ("locked", None)])
def test_the_primary_person_by_rule(rule, first):
    boxes = [box(0, 200), box(300, 100), box(600, 100)]
    places = [np.array([2.0, 0, 6]), np.array([-1.0, 0, 2]), np.array([0.1, 0, 5])]
    tracker = Tracker(keep_s=0.1, rule=rule)
    tracks = tracker.update(0, boxes, places)
    assert tracker.primary == (None if first is None else tracks[first].id)
    tracker.set_primary(tracks[2].id)
    assert tracker.primary == tracks[2].id


def test_two_cameras_number_people_from_different_places():
    front, rear = Tracker(keep_s=0.1), Tracker(keep_s=0.1, first_id=1_000_001)
    ids = [[track.id for track in update(tracker, 0, 0.0, 1.0)] for tracker in (front, rear)]
    assert ids == [[1, 2], [1_000_001, 1_000_002]]
