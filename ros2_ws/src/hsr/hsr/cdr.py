"""Plain CDR, little endian: the byte layout of serialised ROS messages.

Alignment counts from the byte after the 4-byte encapsulation header. A string is its length with the closing NUL,
the bytes and the NUL; a sequence is its count and its elements.
"""

from __future__ import annotations

import struct

HEADER = b"\x00\x01\x00\x00"
"""Encapsulation: plain CDR, little endian."""


class CdrWriter:
    """Appends fields to a message; `offset()` is where the next one will start in the whole message."""

    def __init__(self) -> None:
        self._body = bytearray()

    def align(self, size: int) -> None:
        self._body.extend(bytes(-len(self._body) % size))

    def offset(self) -> int:
        return len(HEADER) + len(self._body)

    def put(self, code: str, *values: float) -> int:
        """Append numbers of one struct code, each aligned to its own size; return the offset of the first."""
        self.align(struct.calcsize(code))
        start = self.offset()
        self._body.extend(struct.pack(f"<{len(values)}{code}", *values))
        return start

    def string(self, text: str) -> None:
        data = text.encode() + b"\0"
        self.put("I", len(data))
        self._body.extend(data)

    def reserve(self, size: int) -> int:
        """Append zero bytes to be filled in later; return their offset."""
        start = self.offset()
        self._body.extend(bytes(size))
        return start

    def getvalue(self) -> bytes:
        return HEADER + bytes(self._body)


class CdrReader:
    """Reads fields in order from a serialised message.

    Raises:
        ValueError: The message has another encapsulation, or ends too early.
    """

    def __init__(self, data: bytes) -> None:
        if bytes(data[:4]) != HEADER:
            raise ValueError(f"not plain little-endian CDR: header {bytes(data[:4]).hex()}")
        self._data = data
        self._at = len(HEADER)

    def align(self, size: int) -> None:
        self._at += -(self._at - len(HEADER)) % size

    def get(self, code: str, count: int = 1) -> tuple:
        size = struct.calcsize(code)
        self.align(size)
        start = self._advance(size * count)
        return struct.unpack_from(f"<{count}{code}", self._data, start)

    def string(self) -> str:
        (length,) = self.get("I")
        start = self._advance(length)
        return bytes(self._data[start : start + length - 1]).decode()

    def records(self, record_size: int, align: int) -> tuple[int, int]:
        """Skip a sequence of fixed-size records; return their count and the offset of the first."""
        (count,) = self.get("I")
        if count:
            self.align(align)
        return count, self._advance(count * record_size)

    def _advance(self, size: int) -> int:
        start = self._at
        self._at += size
        if self._at > len(self._data):
            raise ValueError(f"message of {len(self._data)} bytes ends inside a field that reaches to {self._at}")
        return start
