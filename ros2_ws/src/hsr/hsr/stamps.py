"""Time stamps and headers."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from hsr_core.messages import stamp_to_ns

__all__ = ["NS", "header", "ns_to_stamp", "stamp_to_ns"]
NS = 1_000_000_000


def ns_to_stamp(ns: int) -> Time:
    """Return integer nanoseconds as a stamp."""
    return Time(sec=ns // NS, nanosec=ns % NS)


def header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)
