"""What a long run must keep to: stamps that were really sent, memory that does not grow, a quick way back."""

from __future__ import annotations

import bisect
import os
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hsr_msgs.msg import Human, HumanArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import Marker

from . import qos
from .processes import rss_mb
from .stamps import stamp_to_ns
from .stats import Window

_STAMP = struct.Struct("<iI")
_CDR_HEADER_BYTES = 4
_JUDGED_AFTER_S = 1.0
"""A result may overtake the camera info of its image on the way to this process."""
_KEPT_STAMPS = 4000


class StampWatch:
    """Listens to a camera and to a perception node, and judges the stamps of what is published.

    Attributes:
        faults: What was wrong, at most a hundred sentences.
        images: Images that were sent, by their camera infos.
        frames: Messages of people.
        latency_ms: Stamp to receipt of people.
        unknown: Stamps of images that were not heard of here, because their camera was new.
        last_seen_ns, last_image_ns: The newest stamps of somebody who was seen, and of an image.
    """

    def __init__(self, node: Node, namespace: str, camera_info: str, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self.faults: list[str] = []
        self.images = self.frames = self.meshes = self.unknown = 0
        self.latency_ms = Window(200_000)
        self.last_seen_ns = self.last_image_ns = self._last_people_ns = 0
        self._frame_id = ""
        self._sent: deque[int] = deque(maxlen=_KEPT_STAMPS)
        self._waiting: deque[tuple[float, str, int]] = deque()
        node.create_subscription(CameraInfo, camera_info, self._on_info, qos.extra(True, False))
        node.create_subscription(HumanArray, f"{namespace}/people", self._on_people, qos.refined_people())
        # Raw: deserialising a mesh in Python would take longer than making it.
        node.create_subscription(Marker, f"{namespace}/mesh", self._on_mesh, qos.mesh(4), raw=True)

    def judge(self) -> None:
        """Compare the stamps that came a while ago with those that were sent; called now and then.

        The node may know a new camera some images before this process does: only a stamp between two images that were
        heard one after the other can be known to be of no image.
        """
        sent = list(self._sent)
        while self._waiting and time.monotonic() - self._waiting[0][0] > _JUDGED_AFTER_S:
            _, what, stamp_ns = self._waiting.popleft()
            after = bisect.bisect_left(sent, stamp_ns)
            if after < len(sent) and sent[after] == stamp_ns:
                continue
            if 0 < after < len(sent) and sent[after] - sent[after - 1] < 2.5e9 / self._rate_hz:
                self._fault(f"{what} with the stamp {stamp_ns}, which no image had")
            else:
                self.unknown += 1

    def _on_info(self, msg: CameraInfo) -> None:
        self.images += 1
        self.last_image_ns = stamp_to_ns(msg.header.stamp)
        self._sent.append(self.last_image_ns)
        self._frame_id = msg.header.frame_id

    def _on_people(self, msg: HumanArray) -> None:
        stamp_ns = stamp_to_ns(msg.header.stamp)
        age_ms = (time.time_ns() - stamp_ns) * 1e-6
        self.frames += 1
        self.latency_ms.add(age_ms)
        seen = any(human.state in (Human.NEW, Human.TRACKED) for human in msg.humans)
        farewell = bool(msg.humans) and all(human.state == Human.LOST for human in msg.humans)
        if stamp_ns < self._last_people_ns or (stamp_ns == self._last_people_ns and not farewell):
            self._fault(f"people: the stamp {stamp_ns} came after {self._last_people_ns}")
        if age_ms < 0:
            self._fault(f"people: a stamp {-age_ms:.1f} ms in the future")
        if self._frame_id and msg.header.frame_id != self._frame_id:
            self._fault(f"people: frame {msg.header.frame_id!r}, the images have {self._frame_id!r}")
        self._last_people_ns = stamp_ns
        if seen:
            self.last_seen_ns = stamp_ns
        self._waiting.append((time.monotonic(), "people", stamp_ns))

    def _on_mesh(self, data: bytes) -> None:
        if len(data) > 4096:  # shorter ones are deletions, which have the time of the deletion
            sec, nanosec = _STAMP.unpack_from(data, _CDR_HEADER_BYTES)
            self.meshes += 1
            self._waiting.append((time.monotonic(), "a mesh", sec * 1_000_000_000 + nanosec))

    def _fault(self, text: str) -> None:
        if len(self.faults) < 100:
            self.faults.append(text)


@dataclass(frozen=True)
class Footprint:
    """What a process holds. Memory in MB; `private` is what only it has (not files, not shared memory)."""

    at_s: float
    rss: float
    private: float
    threads: int
    handles: int


def footprint(pid: int) -> Footprint | None:
    """Return what a process holds now (Linux); None when it is gone."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        handles = len(os.listdir(f"/proc/{pid}/fd"))
        private = int(status["RssAnon"].split()[0]) * 1024 / 1e6
        return Footprint(time.monotonic(), rss_mb(pid), private, int(status["Threads"]), handles)
    except (OSError, KeyError, ValueError):
        return None


@dataclass
class Growth:
    """Footprints of one process, while it was at work and nothing had happened to it for some seconds."""

    warm_up_s: float
    began_s: float = field(default_factory=time.monotonic)
    kept: list[Footprint] = field(default_factory=list)

    def add(self, sample: Footprint | None) -> None:
        if sample is not None and sample.at_s - self.began_s >= self.warm_up_s:
            self.kept.append(sample)

    def summary(self) -> dict[str, float]:
        """Return what was held in the first and in the last quarter, and the difference; {} without enough samples.

        Of each quarter the upper end (the 90th percentile) counts: memory moves between two levels from one lifecycle
        cycle to the next, and a median would be of either.
        """
        count = max(1, len(self.kept) // 4)
        if len(self.kept) < 3:
            return {}
        out: dict[str, float] = {"seconds": round(self.kept[-1].at_s - self.kept[0].at_s)}
        for name in ("rss", "private", "threads", "handles"):
            values = [getattr(sample, name) for sample in self.kept]
            first, last = (float(np.percentile(part, 90, method="lower")) for part in (values[:count], values[-count:]))
            out |= {f"{name}_first": round(first, 1), f"{name}_last": round(last, 1)}
        out["rss_growth_percent"] = round(100 * (out["rss_last"] / out["rss_first"] - 1), 2)
        out["private_growth_percent"] = round(100 * (out["private_last"] / out["private_first"] - 1), 2)
        return out
