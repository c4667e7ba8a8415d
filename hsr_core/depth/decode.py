"""Depth images as drivers send them to metres.

Source:
    REP 118: 16UC1 holds millimetres, 0 = invalid; 32FC1 holds metres, not finite = invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadFrame
from ..types import Array

UNITS = {"16UC1": 0.001, "32FC1": 1.0}
"""Encodings, and metres per unit."""
_DTYPES = {"16UC1": "u2", "32FC1": "f4"}
_ALIASES = {"mono16": "16UC1"}
"""What a driver calls its depth (ZED in its OpenNI mode)."""
MEDIAN_M = (0.2, 20.0)
"""Where the median of a depth image lies, with people in it; outside the unit is wrong."""


@dataclass(frozen=True, eq=False)
class RawDepth:
    """A depth image as it came; the fields of sensor_msgs/Image.

    Attributes:
        data: Buffer of at least `step * hw[0]` bytes; must not be written to while this record lives.
        hw: Height and width [px].
        step: Bytes from one row to the next.
        encoding: 16UC1 or 32FC1.
        frame_id: Optical frame.
        stamp_ns: Exposure time.
        big_endian: Byte order of the data.
    """

    data: Any
    hw: tuple[int, int]
    step: int
    encoding: str
    frame_id: str
    stamp_ns: int
    big_endian: bool = False


def to_metres(raw: RawDepth, unit_scale: float = 0.0) -> Array:
    """Return z-depth float32 (H, W) [m]; 0 where it is zero, negative or not finite.

    Args:
        raw: The image.
        unit_scale: Metres per unit; 0 = by encoding.

    Raises:
        BadFrame: Another encoding, or data too short for the size.
    """
    encoding = _ALIASES.get(raw.encoding, raw.encoding)
    if encoding not in UNITS:
        raise BadFrame(f"depth encoding {raw.encoding!r} is not accepted; accepted: 16UC1 (mm), 32FC1 (m)")
    dtype = np.dtype((">" if raw.big_endian else "<") + _DTYPES[encoding])
    (height, width), step = raw.hw, raw.step
    if step < width * dtype.itemsize:
        raise BadFrame(f"depth step {step} is too short: {width} pixels take {width * dtype.itemsize} bytes")
    if len(raw.data) < step * height:
        raise BadFrame(f"{len(raw.data)} bytes of depth, but {height} rows with step {step} take {step * height}")
    values = np.ndarray((height, width), dtype, buffer=raw.data, strides=(step, dtype.itemsize))
    depth_m = np.multiply(values, np.float32(unit_scale or UNITS[encoding]), dtype=np.float32)
    if dtype.kind == "f":
        depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = 0
    return depth_m


def check_plausible(depth_m: Array) -> None:
    """Refuse an image without depth or in another unit, by the median of every fourth row and column.

    Raises:
        BadFrame: Nothing is valid, or the median is outside `MEDIAN_M`; the message says which unit would fit.
    """
    sample = depth_m[::4, ::4]
    sample = sample[sample > 0]
    if not len(sample):
        raise BadFrame("the depth image holds no depth: every pixel is zero or not finite")
    median, (low, high) = float(np.median(sample)), MEDIAN_M
    if low <= median <= high:
        return
    fits = [f"{name} (a factor of {factor:g})" for name, factor in _UNIT_MISTAKES if low <= median * factor <= high]
    hint = f"; it fits if the unit is {' or '.join(fits)}: set depth.unit_scale" if fits else ""
    raise BadFrame(f"median depth {median:.4g} m is outside {low:g} to {high:g} m{hint}")


_UNIT_MISTAKES = (
    ("millimetres taken as metres", 0.001),
    ("0.1 mm taken as mm", 0.1),
    ("metres taken as millimetres", 1000.0),
)
