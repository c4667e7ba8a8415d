"""Depth images as image_transport's `compressedDepth` sends them.

Layout: 12 bytes (a word that is not used, then float32 a and b, little endian), then the image: a 16-bit PNG, or RVL.
16UC1 is stored as it is. 32FC1 is stored as v = a / z + b, rounded down, v = 0 for no depth; so z = a / (v - b): fine
near the camera, coarse far from it.

Source:
    Package compressed_depth_image_transport (ROS 2), codec; RVL: A. Wilson, "Fast Lossless Depth Image Compression",
    ISS 2017, sec. 3: runs of zeros and of others in turn, differences of neighbours zigzag coded, three bits a nibble
    with the fourth for "more follows", nibbles from the high end of 32-bit words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import BadFrame
from ..messages import stamp_to_ns
from .decode import UNITS, RawDepth

_HEADER_BYTES, _SIZE_BYTES = 12, 8
_MAX_PIXELS = 2**25
_MAX_NIBBLES = 12
"""Of one number: 36 bits, more than any length of a run."""
_SHIFTS = np.arange(28, -4, -4, dtype=np.uint32)


@dataclass(frozen=True, eq=False)
class CompressedDepth:
    """A compressed depth image as it came; the fields of sensor_msgs/CompressedImage.

    Attributes:
        data: Bytes; must not be written to while this record lives.
        format: As "16UC1; compressedDepth png".
        frame_id: Optical frame.
        stamp_ns: Exposure time.
    """

    data: Any
    format: str
    frame_id: str
    stamp_ns: int

    def decoded(self) -> RawDepth:
        """Return the image that was compressed.

        Raises:
            BadFrame: Another format, truncated or damaged data.
        """
        encoding, _, how = (part.strip() for part in self.format.partition(";"))
        if encoding not in UNITS:
            raise BadFrame(f"compressed depth of format {self.format!r} is not accepted; accepted: 16UC1, 32FC1")
        data = np.frombuffer(self.data, np.uint8)
        if how and not how.startswith("compressedDepth"):  # a plain 16-bit PNG of the transport `compressed`
            values = _png(data, self.format)
            if encoding != "16UC1":
                raise BadFrame(f"compressed depth of format {self.format!r}: 32FC1 needs compressedDepth")
            return self._raw(values, encoding)
        if len(data) <= _HEADER_BYTES:
            raise BadFrame(f"compressed depth of {len(data)} bytes: its header alone takes {_HEADER_BYTES}")
        codec = how.removeprefix("compressedDepth").strip() or "png"
        if codec not in ("png", "rvl"):
            raise BadFrame(f"compressed depth of format {self.format!r} is not accepted; accepted: png, rvl")
        image = data[_HEADER_BYTES:]
        values = _png(image, self.format) if codec == "png" else decode_rvl(image)
        if encoding == "16UC1":
            return self._raw(values, encoding)
        a, b = np.frombuffer(data[4:_HEADER_BYTES], "<f4")
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(values > 0, a / (values - b), np.float32(np.nan))
        return self._raw(depth.astype(np.float32), encoding)

    def _raw(self, values: NDArray, encoding: str) -> RawDepth:
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        height, width = values.shape
        return RawDepth(
            values.data.cast("B"), (height, width), width * values.itemsize, encoding, self.frame_id, self.stamp_ns
        )


def depth_from_msg(msg: Any) -> RawDepth | CompressedDepth:
    """Return a sensor_msgs/Image or CompressedImage, or whatever has its fields, as depth, without a copy."""
    frame_id, stamp_ns = msg.header.frame_id, stamp_to_ns(msg.header.stamp)
    if hasattr(msg, "format"):
        return CompressedDepth(msg.data, msg.format, frame_id, stamp_ns)
    hw, big_endian = (msg.height, msg.width), bool(msg.is_bigendian)
    return RawDepth(msg.data, hw, msg.step, msg.encoding, frame_id, stamp_ns, big_endian)


def decode_rvl(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the image (H, W) of width, height (uint32) and an RVL stream.

    Raises:
        BadFrame: Truncated or damaged.
    """
    if len(data) < _SIZE_BYTES:
        raise BadFrame("compressed depth (rvl) is cut off: no size")
    width, height = (int(side) for side in data[:_SIZE_BYTES].view("<u4"))
    if not 0 < width * height <= _MAX_PIXELS:
        raise BadFrame(f"compressed depth (rvl) of {width}x{height} pixels")
    stream = data[_SIZE_BYTES:]
    numbers = _numbers(stream[: len(stream) // 4 * 4].view("<u4"))
    heads, lengths = _runs(numbers, width * height)
    codes = np.delete(numbers[: heads[-1] + 2 + lengths[-1]], np.concatenate([heads, heads + 1]))
    differences = (codes >> 1) ^ -(codes & 1)
    out = np.zeros(width * height, np.uint16)
    out[np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)] = np.cumsum(differences) & 0xFFFF
    return out.reshape(height, width)


def _numbers(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the numbers of a stream of nibbles; what is left over at its end is dropped."""
    nibbles = ((words[:, None] >> _SHIFTS) & 0xF).astype(np.int64).reshape(-1)
    ends = np.flatnonzero(nibbles < 8)
    if not len(ends):
        raise BadFrame("compressed depth (rvl) is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    used = ends - starts + 1
    if used.max() > _MAX_NIBBLES:
        raise BadFrame("compressed depth (rvl) is damaged")
    place = np.arange(ends[-1] + 1) - np.repeat(starts, used)
    return np.add.reduceat((nibbles[: ends[-1] + 1] & 7) << (3 * place), starts)


def _runs(numbers: NDArray[np.int64], pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each pair of lengths stands among the numbers, and the lengths: zeros, others, zeros, ..."""
    heads, lengths = [], []
    at = done = 0
    while done < pixels:
        if at + 1 >= len(numbers):
            raise BadFrame(f"compressed depth (rvl) is cut off after {done} of {pixels} pixels")
        zeros, others = int(numbers[at]), int(numbers[at + 1])
        heads.append(at)
        lengths += [zeros, others]
        done += zeros + others
        at += 2 + others
        if not zeros + others:
            raise BadFrame("compressed depth (rvl) is damaged")
    if done > pixels or at > len(numbers):
        raise BadFrame(f"compressed depth (rvl) is damaged or cut off: {done} of {pixels} pixels")
    return np.array(heads), np.array(lengths)


def _png(data: NDArray[np.uint8], name: str) -> NDArray[np.uint16]:
    try:
        values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error as error:
        raise BadFrame(f"compressed depth of format {name!r} does not decode: {error}") from error
    if values is None or values.dtype != np.uint16 or values.ndim != 2:
        what = "does not decode" if values is None else f"holds {values.dtype} {values.shape}, not 16 bits a pixel"
        raise BadFrame(f"compressed depth of format {name!r} ({data.size} bytes) {what}")
    return values
