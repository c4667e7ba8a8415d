"""Messages of one moment put together by their stamps, bounded in number and in bytes, without waiting."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from hsr_msgs.msg import Human, HumanArray
from sensor_msgs.msg import Image

from hsr_core.pairing import StampRing

from .image_input import Incoming
from .stamps import stamp_to_ns
from .stats import Counters

MAX_IMAGES, MAX_IMAGE_BYTES = 32, 128 * 1024 * 1024
"""Images that wait for their people."""
MAX_BUNDLES = 512
"""People that wait for the worker, with and without images."""
MAX_BUNDLE_BYTES = 512 * 1024 * 1024
"""Images, depth and masks that wait with them: a window of 24 of 1080p is 340 MB."""
MAX_PEOPLE = 8
"""People that wait for their image; they come from another process, over another topic."""
SETTLE_S = 0.1
"""Depth and masks may come this much later than people."""
TOLERANCE = 0.9
"""Of the least time between images: a camera's clock jitters."""
_SEEN = (Human.NEW, Human.TRACKED)


@dataclass
class Bundle:
    """What there is of one moment, as it came.

    Attributes:
        people: Everybody, as estimated by the perception node.
        epoch: Of the image.
        received_s: Monotonic time at which image and people were there.
        image: Of the same stamp; None = only the estimates are of use, images come more often than they are needed.
        depth, mask: Nearest in time, or None.
    """

    people: HumanArray
    epoch: int
    received_s: float
    image: Incoming | None = None
    depth: Image | None = None
    mask: Image | None = None

    @property
    def image_bytes(self) -> int:
        parts = (self.image and self.image.msg, self.depth, self.mask)
        return sum(len(msg.data) for msg in parts if msg is not None)

    @property
    def stamp_ns(self) -> int:
        return stamp_to_ns(self.people.header.stamp)


class Pairing:
    """Fed by the executor's thread, which only stores references, and emptied by the worker's.

    Args:
        counters: Counts `pairs`, `thinned` (image not needed), `dropped_busy` (too many images waited), `unpaired`
            (people without their image).
        max_images: Images with people that wait; the oldest is dropped for a newer one.
        period_s: Least time from one image to the next [s].
        max_offset_s: Of depth and mask from the image [s], by name.
    """

    def __init__(self, counters: Counters, max_images: int, period_s: float, max_offset_s: dict[str, float]) -> None:
        self._counters, self._period_ns = counters, int(period_s * 1e9)
        self._max_images = max_images
        self._max_offset_s = max_offset_s
        self._lock = threading.Lock()
        self._bundles: deque[Bundle] = deque()
        self._rings: dict[str, StampRing[Image]] = {name: StampRing() for name in max_offset_s}
        self._images: OrderedDict[int, Incoming] = OrderedDict()
        self._people: OrderedDict[int, HumanArray] = OrderedDict()
        self._known: set[int] = set()
        self._gone: set[int] = set()
        self._last_ns: int | None = None
        self.primary: int | None = None

    def put_image(self, image: Incoming) -> bool:
        """Store an image until its people come; False: nothing was replaced."""
        with self._lock:
            people = self._people.pop(image.stamp_ns, None)
            if people is not None:
                self._join(image, people)
                return False
            self._images[image.stamp_ns] = image
            while len(self._images) > 1 and (
                len(self._images) > MAX_IMAGES
                or sum(len(waiting.msg.data) for waiting in self._images.values()) > MAX_IMAGE_BYTES
            ):
                self._images.popitem(last=False)
        return False

    def put_people(self, people: HumanArray) -> None:
        stamp_ns = stamp_to_ns(people.header.stamp)
        with self._lock:
            self._note(people)
            image = self._images.pop(stamp_ns, None)
            # The perception node goes forward in time: older images get no people any more.
            for older in [stamp for stamp in self._images if stamp < stamp_ns]:
                del self._images[older]
            if not any(human.state in _SEEN for human in people.humans):
                return
            if image is not None:
                self._join(image, people)
                return
            self._people[stamp_ns] = people
            while len(self._people) > MAX_PEOPLE:
                self._people.popitem(last=False)
                self._counters.add("unpaired")

    def put_companion(self, name: str, msg: Image) -> None:
        """Store a depth image or a mask, and give it to the pairs that it belongs to."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        with self._lock:
            self._rings[name].put(stamp_ns, msg)
            for bundle in self._bundles:
                if bundle.image is not None:
                    self._accompany(bundle, name)

    def ripe(self) -> bool:
        """True when there is a pair to be taken, or somebody has gone."""
        with self._lock:
            return bool(self._gone) or bool(self._bundles and self._settled(self._bundles[0]))

    def take(self) -> Bundle | None:
        """Return the oldest pair, once no depth or mask is expected for it any more; None when there is none."""
        with self._lock:
            return self._bundles.popleft() if self._bundles and self._settled(self._bundles[0]) else None

    def take_gone(self) -> set[int]:
        """Return the tracks that have ended since the last call."""
        with self._lock:
            gone, self._gone = self._gone, set()
        return gone

    def clear(self) -> None:
        """Forget everything that waits: time jumped or the node was deactivated."""
        with self._lock:
            for store in (self._bundles, self._images, self._people, *self._rings.values()):
                store.clear()
            self._gone |= self._known
            self._known, self._last_ns, self.primary = set(), None, None

    @staticmethod
    def _settled(bundle: Bundle) -> bool:
        return time.monotonic() - bundle.received_s >= SETTLE_S

    def _note(self, people: HumanArray) -> None:
        tracks = {human.track_id for human in people.humans if human.state != Human.LOST}
        self._gone |= self._known - tracks
        self._gone -= tracks
        self._known = tracks
        self.primary = next((human.track_id for human in people.humans if human.primary), self.primary)

    def _join(self, image: Incoming, people: HumanArray) -> None:
        bundle = Bundle(people, image.epoch, time.monotonic())
        if self._is_due(image.stamp_ns):
            bundle.image = image
            for name in self._rings:
                self._accompany(bundle, name)
        self._bundles.append(bundle)
        self._counters.add("thinned" if bundle.image is None else "pairs")
        while len(self._bundles) > 1 and self._too_much_waits():
            dropped = self._bundles.popleft()
            self._counters.add("dropped_busy", int(dropped.image is not None))

    def _too_much_waits(self) -> bool:
        sizes = [bundle.image_bytes for bundle in self._bundles if bundle.image is not None]
        return len(sizes) > self._max_images or len(self._bundles) > MAX_BUNDLES or sum(sizes) > MAX_BUNDLE_BYTES

    def _is_due(self, stamp_ns: int) -> bool:
        """Thin out images that come too close, as the refinement would; after a jump back in time none does."""
        last = self._last_ns
        if last is not None and 0 <= stamp_ns - last < TOLERANCE * self._period_ns:
            return False
        self._last_ns = stamp_ns
        return True

    def _accompany(self, bundle: Bundle, name: str) -> None:
        found: Any = self._rings[name].nearest(bundle.stamp_ns, self._max_offset_s[name])
        if found is not None:
            setattr(bundle, name, found[1])
