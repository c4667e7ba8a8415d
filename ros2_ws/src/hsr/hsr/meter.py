"""What a user of the stack sees: a subscriber in another process that measures rate, latency and drops."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from hsr_msgs.msg import FrameStats
from rclpy.node import Node
from visualization_msgs.msg import Marker

from . import qos
from .stats import Window

_STAMP = struct.Struct("<iI")
_CDR_HEADER_BYTES = 4
STAGES = ("receive", "decode", "detect", "regress", "body", "place", "smooth", "publish", "total", "image_age")
KEPT = 36_000
"""Meshes and frames that figures are of: 20 minutes at 30 Hz. A run may last for days."""
_LEAST_MESH_BYTES = 4096
"""Shorter markers are deletions."""


class Meter:
    """Listens to `mesh` and `stats` of a perception node.

    Attributes:
        stats: The newest FrameStats, or None.
        meshes: How many came.
        latency_ms: Camera stamp to receipt of the mesh message, one for each of the newest meshes [ms].
    """

    def __init__(self, node: Node, namespace: str = "/human") -> None:
        self.stats: FrameStats | None = None
        self.first: tuple[float, FrameStats] | None = None
        self.last_s = 0.0
        self.meshes, self.latency_ms = 0, Window(KEPT)
        self._stages: deque[tuple[float, ...]] = deque(maxlen=KEPT)
        # Raw: deserialising a mesh in Python would take longer than making it.
        node.create_subscription(Marker, f"{namespace}/mesh", self._on_mesh, qos.mesh(1), raw=True)
        node.create_subscription(FrameStats, f"{namespace}/stats", self._on_stats, qos.stats())

    def processed_hz(self) -> float:
        """Return frames processed per second, from the first to the last one seen."""
        if self.first is None or self.last_s <= self.first[0]:
            return 0.0
        return (self.stats.processed - self.first[1].processed) / (self.last_s - self.first[0])

    def stage_ms(self) -> dict[str, float]:
        """Return the median duration of each stage of a frame [ms], as the perception node measured it."""
        return median_stages(self._stages)

    def _on_mesh(self, data: bytes) -> None:
        now_ns = time.time_ns()
        if len(data) < _LEAST_MESH_BYTES:
            return
        sec, nanosec = _STAMP.unpack_from(data, _CDR_HEADER_BYTES)
        self.meshes += 1
        self.latency_ms.add((now_ns - sec * 1_000_000_000 - nanosec) * 1e-6)

    def _on_stats(self, msg: FrameStats) -> None:
        self.stats, self.last_s = msg, time.monotonic()
        self._stages.append(tuple(getattr(msg, f"{stage}_ms") for stage in STAGES))
        if self.first is None:
            self.first = (self.last_s, msg)


def median_stages(frames: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """Return the median of each stage that ran [ms]; `frames` has the durations in the order of `STAGES`."""
    if not frames:
        return {}
    return {
        stage: float(np.nanmedian(column))
        for stage, column in zip(STAGES, np.array(frames).T, strict=True)
        if not np.isnan(column).all()
    }
