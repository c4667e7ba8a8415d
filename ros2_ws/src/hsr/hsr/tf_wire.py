"""TFMessage as bytes: written in place, read without objects. 57 TransformStamped objects cost ten times as much."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from hsr_core.types import Array

from .cdr import HEADER, CdrWriter
from .stamps import NS

_STAMP = struct.Struct("<iI")
_LENGTH = struct.Struct("<I")
_POSE = struct.Struct("<7d")
_START = len(HEADER)
"""Alignment counts from here."""


class TransformsBuffer:
    """One message's transforms; names are laid out once, stamps and poses are written for each frame.

    Args:
        names: Parent and child of each transform.

    Source:
        Fields of tf2_msgs/msg/TFMessage in order (the same in Humble to rolling), serialised as plain CDR.
    """

    def __init__(self, names: Sequence[tuple[str, str]]) -> None:
        w = CdrWriter()
        w.put("I", len(names))
        stamps, poses = [], []
        for parent, child in names:
            stamps.append(w.put("i", 0))
            w.put("I", 0)
            w.string(parent)
            w.string(child)
            poses.append(w.put("d", 0, 0, 0, 0, 0, 0, 1))  # translation, rotation xyzw
        message = w.getvalue()
        self._size = len(message) - _START
        self._doubles = np.zeros(-(-self._size // 8))
        self._doubles.view(np.uint8)[: self._size] = np.frombuffer(message, np.uint8, offset=_START)
        self._ints = self._doubles.view("<i4")
        self._stamps = (np.array(stamps, np.intp)[:, None] - _START) // 4 + np.arange(2)
        self._poses = (np.array(poses, np.intp)[:, None] - _START) // 8 + np.arange(7)

    def encode(self, stamp_ns: int, poses: Array) -> bytes:
        """Return the message.

        Args:
            poses: x, y, z, qx, qy, qz, qw of each transform, (N, 7).
        """
        self._ints[self._stamps] = stamp_ns // NS, stamp_ns % NS
        self._doubles[self._poses] = poses
        return HEADER + self._doubles.tobytes()[: self._size]


def decode_transforms(data: bytes) -> Iterator[tuple[str, str, int, tuple[float, ...]]]:
    """Yield parent, child, stamp [ns] and x, y, z, qx, qy, qz, qw of a serialised TFMessage.

    Raises:
        ValueError: The bytes are not such a message.
    """
    if data[:_START] != HEADER:
        raise ValueError(f"not plain little-endian CDR: header {data[:_START].hex()}")
    try:
        (count,) = _LENGTH.unpack_from(data, _START)
        at = _START + 4
        for _ in range(count):
            at += -at % 4
            sec, nanosec = _STAMP.unpack_from(data, at)
            parent, at = _string(data, at + 8)
            child, at = _string(data, at)
            at += -(at - _START) % 8
            yield parent, child, sec * NS + nanosec, _POSE.unpack_from(data, at)
            at += _POSE.size
    except struct.error as error:
        raise ValueError(f"a TF message of {len(data)} bytes ends too early") from error


def is_of_people(data: bytes) -> bool:
    """Whether a serialised TFMessage is one of `TfOutput`: it begins with a body and something of that id on it."""
    try:
        children = [child for _, child, _, _ in islice(decode_transforms(data), 2)]
    except ValueError:
        return False
    return len(children) == 2 and re.fullmatch(r"body_([a-z]{5}) [a-z_]+_\1", " ".join(children)) is not None


def _string(data: bytes, at: int) -> tuple[str, int]:
    at += -at % 4
    end = at + 4 + _LENGTH.unpack_from(data, at)[0]
    return data[at + 4 : end - 1].decode(), end


def check_layout() -> str:
    """Write and read two transforms, compare them with what this installation's own serialiser makes.

    Returns:
        "" when they agree; else what differs.
    """
    from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
    from rclpy.serialization import deserialize_message, serialize_message
    from tf2_msgs.msg import TFMessage

    from .stamps import header

    names = [("self_test_optical_frame", "body_abcde"), ("body_abcde", "head_abcde")]
    stamp_ns, poses = 12 * NS + 34, np.arange(14).reshape(2, 7) / 8.0
    expected = TFMessage()
    for (parent, child), (*xyz, x, y, z, w) in zip(names, poses.tolist(), strict=True):
        transform = Transform(translation=Vector3(**dict(zip("xyz", xyz, strict=True))))
        transform.rotation = Quaternion(x=x, y=y, z=z, w=w)
        expected.transforms.append(
            TransformStamped(header=header(stamp_ns, parent), child_frame_id=child, transform=transform)
        )
    try:
        if deserialize_message(TransformsBuffer(names).encode(stamp_ns, poses), TFMessage) != expected:
            return "a transform reads back as another one"
        read = list(decode_transforms(bytes(serialize_message(expected))))
    except Exception as error:  # rclpy raises RuntimeError, MemoryError or its own errors here
        return f"the message is not understood: {error}"
    if read != [(*pair, stamp_ns, tuple(pose)) for pair, pose in zip(names, poses.tolist(), strict=True)]:
        return "a transform is read as another one"
    return ""
