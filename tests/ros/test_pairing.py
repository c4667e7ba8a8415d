"""Messages of one moment are put together by stamp, in any order of arrival, within bounds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hsr import pairing
from hsr.image_input import Incoming
from hsr.pairing import Bundle, Pairing
from hsr.stamps import header
from hsr.stats import Counters
from hsr_msgs.msg import Human
from refine_rig import human, people
from sensor_msgs.msg import Image

MS = 1_000_000


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing is waited for: pairs are ripe when they are made."""
    monkeypatch.setattr(pairing, "SETTLE_S", 0.0)


def build(max_images: int = 24, period_ms: float = 0.0) -> tuple[Pairing, Counters]:
    counters = Counters()
    return Pairing(counters, max_images, period_ms * 1e-3, {"depth": 0.015, "mask": 0.015}), counters


def picture(stamp_ns: int, size: int = 3) -> Incoming:
    return Incoming(SimpleNamespace(data=bytes(size)), stamp_ns, 0.0, 0)


def companion(stamp_ns: int) -> Image:
    return Image(header=header(stamp_ns, "camera"))


def put(pairs: Pairing, stamp_ns: int, *humans: Human) -> None:
    pairs.put_image(picture(stamp_ns))
    pairs.put_people(people(stamp_ns, *(humans or (human(),))))


def stamps(pairs: Pairing) -> list[int]:
    """Return the stamps of the images that are taken."""
    return [bundle.image.stamp_ns for bundle in taken(pairs) if bundle.image is not None]


def taken(pairs: Pairing) -> list[Bundle]:
    return list(iter(pairs.take, None))


def test_people_find_their_image_whichever_comes_first():
    pairs, counters = build()
    pairs.put_image(picture(100 * MS))
    pairs.put_image(picture(133 * MS))
    pairs.put_people(people(100 * MS, human()))
    pairs.put_people(people(166 * MS, human()))  # before its image
    assert stamps(pairs) == [100 * MS]
    pairs.put_image(picture(166 * MS))
    assert stamps(pairs) == [166 * MS]
    assert counters["pairs"] == 2


def test_a_stamp_that_differs_by_a_nanosecond_is_another_image():
    pairs, counters = build()
    pairs.put_image(picture(100 * MS))
    pairs.put_people(people(100 * MS + 1, human()))
    assert not pairs.ripe()
    for i in range(pairing.MAX_PEOPLE):
        pairs.put_people(people((200 + i) * MS, human()))
    assert counters["unpaired"] == 1


def test_depth_and_mask_are_the_nearest_and_may_come_before_or_after():
    pairs, _ = build()
    for offset in (-33, -8, 4):
        pairs.put_companion("depth", companion((500 + offset) * MS))
    put(pairs, 500 * MS)
    late = companion(502 * MS)
    pairs.put_companion("depth", late)
    mask = companion(500 * MS)
    pairs.put_companion("mask", mask)
    pairs.put_companion("mask", companion(540 * MS))
    (bundle,) = taken(pairs)
    assert bundle.depth is late
    assert bundle.mask is mask
    put(pairs, 700 * MS)
    (bundle,) = taken(pairs)
    assert bundle.depth is None  # nothing within 15 ms
    assert bundle.mask is None


def test_what_waits_is_bounded_and_the_newest_stays():
    pairs, counters = build(max_images=5)
    for i in range(12):
        put(pairs, (100 + i) * MS)
    assert stamps(pairs) == [(100 + i) * MS for i in range(7, 12)]
    assert counters["dropped_busy"] == 7
    for i in range(200):
        pairs.put_image(picture((1000 + i) * MS))
    assert len(pairs._images) == pairing.MAX_IMAGES
    for i in range(8):
        pairs.put_image(picture((2000 + i) * MS, size=50_000_000))
    assert sum(len(image.msg.data) for image in pairs._images.values()) <= pairing.MAX_IMAGE_BYTES
    pairs.put_people(people(2007 * MS, human()))
    assert stamps(pairs) == [2007 * MS]
    assert not pairs._images  # older ones get no people any more


def test_what_waits_for_the_worker_is_bounded_in_bytes_with_its_depth(monkeypatch):
    monkeypatch.setattr(pairing, "MAX_BUNDLE_BYTES", 100)
    pairs, counters = build()
    for stamp_ns in range(0, 600 * MS, 100 * MS):
        depth = companion(stamp_ns)
        depth.data = bytes(30)
        pairs.put_companion("depth", depth)
        put(pairs, stamp_ns)  # three bytes each
    assert stamps(pairs) == [300 * MS, 400 * MS, 500 * MS]
    assert counters["dropped_busy"] == 3


@pytest.mark.parametrize("hz", [10, 15, 24, 30, 60, 200])
def test_no_more_images_are_kept_than_a_window_needs(hz, monkeypatch):
    """Two seconds of 24 images: 12 a second, or all where there are fewer."""
    pairs, counters = build(max_images=10_000, period_ms=2000 / 24)
    monkeypatch.setattr(pairing, "MAX_BUNDLES", 10_000)
    for i in range(10 * hz):
        put(pairs, 10**12 + round(i * 1e9 / hz))
    kept = len(stamps(pairs))
    # None can come between two images, and each may be a tenth of the period early.
    assert min(hz, 12) * 10 * 0.6 <= kept <= min(hz, 12 / 0.9) * 10 + 1
    assert kept + counters["thinned"] == 10 * hz


def test_people_without_a_need_for_their_image_are_kept_in_order():
    pairs, _ = build(period_ms=100)
    for i in range(7):
        put(pairs, 10**12 + i * 30 * MS)
    found = taken(pairs)
    assert [bundle.stamp_ns for bundle in found] == [10**12 + i * 30 * MS for i in range(7)]
    assert [bundle.image is not None for bundle in found] == [True, False, False, True, False, False, True]


def test_people_that_wait_are_bounded_too():
    pairs, counters = build(period_ms=1e6)
    for i in range(pairing.MAX_BUNDLES + 20):
        put(pairs, 10**12 + i * MS)
    assert len(taken(pairs)) == pairing.MAX_BUNDLES
    assert counters["dropped_busy"] == 1  # the one with an image


def test_time_that_goes_back_is_not_held_up_by_thinning():
    pairs, _ = build(period_ms=100)
    put(pairs, 10**12)
    put(pairs, 10**9)
    assert stamps(pairs) == [10**12, 10**9]


def test_who_has_gone_is_told_once():
    pairs, _ = build()
    put(pairs, 1 * MS, human(1), human(2))
    put(pairs, 2 * MS, human(1), human(2, state=Human.LOST))
    assert pairs.take_gone() == {2}
    assert pairs.take_gone() == set()
    put(pairs, 3 * MS, human(3))  # 1 is not in the message: the tracks were reset
    assert pairs.take_gone() == {1}
    pairs.put_people(people(4 * MS, human(3, state=Human.PREDICTED)))
    assert pairs.take_gone() == set()
    pairs.clear()
    assert pairs.take_gone() == {3}
    assert pairs.take() is None


def test_frames_with_nobody_in_sight_are_not_kept():
    pairs, counters = build()
    pairs.put_people(people(1 * MS))
    put(pairs, 2 * MS, human(state=Human.PREDICTED))
    assert not pairs.ripe()
    assert (counters["pairs"], counters["unpaired"]) == (0, 0)


def test_the_primary_person_is_known():
    pairs, _ = build()
    assert pairs.primary is None
    put(pairs, 1 * MS, human(1, primary=False), human(2))
    assert pairs.primary == 2
