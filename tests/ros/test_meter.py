"""The figures of a run of the whole stack, which may last for days."""

from __future__ import annotations

import struct
import time
from types import SimpleNamespace

import pytest
from hsr.meter import KEPT, Meter
from hsr_msgs.msg import FrameStats
from visualization_msgs.msg import Marker


def test_latencies_are_of_the_newest_meshes_and_nothing_grows() -> None:
    callbacks = {}

    def subscribe(kind, topic, callback, *_, **__) -> None:
        callbacks[kind] = callback

    meter, old, newest = Meter(SimpleNamespace(create_subscription=subscribe)), KEPT, 100

    def mesh(age_s: int) -> bytes:
        return b"\0\1\0\0" + struct.pack("<iI", int(time.time()) - age_s, 0) + bytes(5000)

    late = mesh(1000)
    for _ in range(old):
        callbacks[Marker](late)
    for _ in range(newest):
        callbacks[Marker](mesh(10))
        callbacks[FrameStats](FrameStats(total_ms=20.0))
    assert (meter.meshes, len(meter.latency_ms)) == (old + newest, KEPT)
    assert meter.latency_ms.percentiles(100, newest=newest)[0] == pytest.approx(10_500, abs=600)
    assert meter.stage_ms()["total"] == 20.0
    callbacks[Marker](b"a deletion")
    assert meter.meshes == old + newest
