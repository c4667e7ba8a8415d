"""Where a serialised message ends.

A middleware that serialises into memory (`rclpy.serialization.serialize_message`) may leave bytes behind the message,
which it reserved for alignment. ROS ignores them; strict readers of recordings refuse the message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

_SIZES = {
    "bool": 1, "byte": 1, "char": 1, "octet": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4,
    "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip
_HEADER_BYTES, _LITTLE_ENDIAN = 4, b"\0\1"
_PADDING = 3
"""So much behind a message is usual: payloads end at multiples of four."""

Skip = Callable[[memoryview, int], int]
"""Takes a message without its header and where a field may begin; returns where it ends."""


class Trimmer:
    """Cuts off what lies behind messages.

    Args:
        store: Typestore of rosbags with the messages' types.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._fields: dict[str, list[Skip]] = {}

    def trimmed(self, kind: str, data: bytes) -> bytes:
        """Return a message of type `kind` without what lies behind it; one that is damaged as it is.

        Raises:
            KeyError: The type is not known.
        """
        if bytes(data[:2]) != _LITTLE_ENDIAN:
            return data
        body = memoryview(data)[_HEADER_BYTES:]
        try:
            end = self._message(kind, body, 0)
        except struct.error:
            return data
        return data if end + _PADDING >= len(body) else data[: _HEADER_BYTES + end]

    def _message(self, kind: str, body: memoryview, at: int) -> int:
        if kind not in self._fields:
            self._fields[kind] = [self._skip(field) for _, field in self._store.fielddefs[kind][1]]
        for skip in self._fields[kind]:
            at = skip(body, at)
        return at

    def _skip(self, field: Any) -> Skip:
        """Return what skips a field: (node type of rosbags, what it is made of)."""
        node, what = field
        if node.name == "NAME":
            return partial(self._message, what)
        if node.name == "BASE":
            return _skip_string if what[0] == "string" else partial(_skip_numbers, _SIZES[what[0]], 1)
        (inner, kind), count = what
        if inner.name == "BASE" and kind[0] != "string":
            size = _SIZES[kind[0]]
            return partial(_skip_numbers, size, count) if node.name == "ARRAY" else partial(_skip_sequence, size)
        skip = self._skip((inner, kind))
        return partial(_skip_each, skip, count if node.name == "ARRAY" else None)


def _aligned(at: int, size: int) -> int:
    return at + -at % size


def _skip_numbers(size: int, count: int, body: memoryview, at: int) -> int:
    return _aligned(at, size) + count * size


def _count(body: memoryview, at: int) -> tuple[int, int]:
    at = _aligned(at, 4)
    return struct.unpack_from("<I", body, at)[0], at + 4


def _skip_string(body: memoryview, at: int) -> int:
    count, at = _count(body, at)
    return at + count


def _skip_sequence(size: int, body: memoryview, at: int) -> int:
    count, at = _count(body, at)
    return _skip_numbers(size, count, body, at) if count else at


def _skip_each(skip: Skip, count: int | None, body: memoryview, at: int) -> int:
    if count is None:
        count, at = _count(body, at)
    for _ in range(count):
        at = skip(body, at)
        if at > len(body):
            raise struct.error("the message ends inside a sequence")
    return at
