"""Several people: each followed on their own, told apart when they cross, and hands and faces by turns."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from hsr_core.bench_people import crowd
from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.regress.follow import FollowedPeople, is_among
from hsr_core.regress.landmarks import LandmarkRegressor
from hsr_core.stream import HumanStream
from hsr_core.track.track import box_iou
from hsr_core.types import Camera, Part

FOUR = Settings().with_values({"people.max": 4})


@pytest.fixture(scope="module")
def body():
    return load_body("")


@pytest.fixture(scope="module")
def beside():
    """Four walkers beside each other."""
    return list(crowd(4, 24))


def regressor_of(body, **values):
    return LandmarkRegressor(FOUR.with_values(values), body)


def test_four_people_are_found_at_once_and_followed_each_in_their_place(body, beside):
    regressor = regressor_of(body)
    for n, picture in enumerate(beside):
        people = regressor.regress(picture.frame, Camera.from_hfov(60, picture.frame.image_hw))
        if n == 0:
            continue  # the first frame finds somebody, the second everybody else
        assert len(people) == 4
        boxes = np.array([person.bbox_xyxy for person in people])
        overlap = box_iou(boxes, picture.boxes)
        assert sorted(overlap.argmax(1)) == [0, 1, 2, 3]
        assert overlap.max(1).min() > 0.6
        assert all(person.params.finite() for person in people)
        # 0.95 and 0.9 times as tall in turn, so their distances must differ by that; 420 px tall at about 3.5 m
        assert np.ptp([person.params.transl[2] for person in people]) < 1.5
    regressor.close()


def test_the_attended_person_has_hands_in_every_frame_and_the_others_by_turns(body, beside):
    regressor = regressor_of(body)
    detailed = []
    observe = regressor._observer.observe

    def watch(*args):
        seen = observe(*args)
        detailed.append({each.key for each in seen if each.detailed})
        return seen

    regressor._observer.observe = watch
    for n, picture in enumerate(beside[:22]):
        people = regressor.regress(picture.frame, Camera.from_hfov(60, picture.frame.image_hw))
        if n == 1:
            attended = regressor._key_of(people[-1])
        if n >= 1:
            regressor.attend(next(person for person in people if regressor._key_of(person) == attended))
    for person in people:
        if not person.parts & (Part.LEFT_HAND | Part.RIGHT_HAND):
            assert person.part_score[1:3].max() == 0
    regressor.close()
    later = detailed[-18:]
    assert all(attended in keys and len(keys) <= 2 for keys in later)
    others = [next(iter(keys - {attended})) for keys in later if len(keys) == 2]
    assert len(others) == 6  # every third frame
    assert len(set(others[:3])) == 3
    assert others[:3] == others[3:]


def test_no_more_people_than_wanted(body, beside):
    regressor = regressor_of(body, **{"people.max": 2})
    counts = [len(regressor.regress(p.frame, Camera.from_hfov(60, p.frame.image_hw))) for p in beside[:6]]
    regressor.close()
    assert counts[1:] == [2] * 5


def test_each_person_has_a_height_of_their_own(body, beside):
    regressor = regressor_of(body)
    camera = Camera.from_hfov(60, beside[0].frame.image_hw)
    for picture in beside[:3]:
        people = regressor.regress(picture.frame, camera)
    before = {regressor._key_of(person): person.params.transl[2] for person in people}
    child = regressor._key_of(people[0])
    regressor.set_height(people[0], 1.2)
    people = regressor.regress(beside[3].frame, camera)
    ratio = {
        regressor._key_of(person): person.params.transl[2] / before[regressor._key_of(person)] for person in people
    }
    regressor.close()
    assert ratio.pop(child) == pytest.approx(1.2 / 1.7, rel=0.15)  # a child's proportions differ
    assert np.allclose(list(ratio.values()), 1, atol=0.1)


def test_two_people_who_cross_keep_their_ids(body):
    """The farther one is hidden for most of a second."""
    settings = Settings().with_values({"people.max": 4})
    first = last = None
    with HumanStream(settings, body) as stream:
        for n, picture in enumerate(islice(crowd(2, 90, crossing=True), 90)):
            people = [person for person in stream.process(picture.frame).people if person.regression.score > 0]
            if len(people) == 2 and (n < 20 or n > 80):
                overlap = box_iou(np.array([person.regression.bbox_xyxy for person in people]), picture.boxes)
                who = {int(row.argmax()): person.track_id for row, person in zip(overlap, people, strict=True)}
                first, last = first or who, who
    assert len(first) == 2
    assert first == last


def fake_pose(x: float, size: float = 300.0):
    """A body 200 px tall at x, whose landmarks stand one above the other."""
    uv = np.stack([np.full(33, x), np.linspace(100, 300, 33)], 1)
    from hsr_core.regress.crop import Roi

    return SimpleNamespace(uv=uv, next_roi=Roi((x, 200.0), size), roi=Roi((x, 200.0), size))


def test_two_regions_on_one_body_leave_the_one_that_was_there():
    people = FollowedPeople()
    left, right = people.add(fake_pose(100), 0), people.add(fake_pose(300), 0)
    seen = {left: fake_pose(295), right: fake_pose(298)}  # the left region slid over
    assert set(people.without_doubles(seen, 33_000_000)) == {right}
    assert len(people) == 2  # who is hidden is waited for
    people.forget_lost(1_100_000_000)
    assert len(people) == 2  # a second behind somebody else
    people.forget_lost(1_300_000_000)
    assert len(people) == 0


@pytest.mark.parametrize(("apart", "same"), [(0, True), (10, True), (60, False)])
def test_bodies_a_shoulder_width_apart_are_two(apart, same):
    assert is_among(fake_pose(100 + apart), [fake_pose(100)]) == same
