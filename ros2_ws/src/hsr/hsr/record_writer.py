"""The threads behind the recorder: one writes to the disk, one makes JPEGs; the executor's thread waits for neither."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message

from hsr_core.errors import BadFrame
from hsr_core.image_messages import image_to_frame
from hsr_core.sources.bag_writer import Recording

from .cdr import CdrReader
from .disk_thread import DiskThread
from .images import image_to_compressed_msg

NICE = 5
"""Of the threads that write and make JPEGs: receiving must go on, or the middleware's short histories run over. Nicer
ones hardly run where other processes fill the computer and sessions are not grouped, as in a container."""
_BYTES_AHEAD = 64 << 20
"""Of raw images that wait to be made into JPEGs: 24 of 1280 x 720, most of a second."""
_TO_BGR = {("rgb", 3): cv2.COLOR_RGB2BGR, ("rgb", 4): cv2.COLOR_RGBA2BGR, ("bgr", 4): cv2.COLOR_BGRA2BGR}


class Disk(DiskThread):
    """Writes messages into a recording, in order.

    Args:
        recording: Written and closed by this object's thread.
        flush_s, queue_bytes, on_error: See `DiskThread`.
    """

    def __init__(self, recording: Recording, flush_s: float, queue_bytes: int, on_error: Callable[[], None]) -> None:
        self._recording = recording
        super().__init__(lambda: recording.flush(), lambda: recording.close(), flush_s, queue_bytes, on_error, NICE)

    def put(self, topic: str, kind: str, time_ns: int, data: bytes, qos: list[Any]) -> None:
        """Take a message; returns at once, from any thread."""
        self.submit(topic, len(data), self._recording.write, topic, kind, time_ns, data, qos)


class JpegMaker:
    """Makes JPEG messages of raw ones, of the newest where it cannot follow.

    Args:
        quality: Of the JPEGs, 1 to 100.
        take: Is given each (time of receipt, serialised CompressedImage).

    Attributes:
        dropped: Images for which there was no time.
        refused: Images that are none; `last_error` says why.
    """

    def __init__(self, quality: int, take: Callable[[int, bytes], None]) -> None:
        self._quality, self._take = quality, take
        self.dropped = self.refused = 0
        self.last_error = ""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="jpeg", daemon=True)
        self._thread.start()

    def put(self, time_ns: int, data: bytes) -> None:
        with self._changed:
            self._waiting.append((time_ns, data))
            self._waiting_bytes += len(data)
            while self._waiting_bytes > _BYTES_AHEAD and len(self._waiting) > 1:
                self._next()
                self.dropped += 1
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join(5.0)

    def _run(self) -> None:
        os.nice(NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._running)
                if not self._waiting:
                    return
                time_ns, data = self._next()
            try:
                self._take(time_ns, self._encode(data))
            except (BadFrame, cv2.error) as error:
                self.refused, self.last_error = self.refused + 1, str(error)

    def _next(self) -> tuple[int, bytes]:
        time_ns, data = self._waiting.popleft()
        self._waiting_bytes -= len(data)
        return time_ns, data

    def _encode(self, data: bytes) -> bytes:
        frame = image_to_frame(_view_image(data))
        code = _TO_BGR.get((frame.order, frame.image.shape[2] if frame.image.ndim == 3 else 1))
        pixels = np.ascontiguousarray(frame.image) if code is None else cv2.cvtColor(frame.image, code)
        return serialize_message(image_to_compressed_msg(pixels, frame.stamp_ns, frame.frame_id, self._quality))


def _view_image(data: bytes) -> SimpleNamespace:
    """Return the fields of a serialised sensor_msgs/Image; its pixels are a view.

    Deserialising would copy them, while the interpreter's lock keeps the receiving thread waiting.

    Raises:
        BadFrame: The message is damaged.
    """
    try:
        reader = CdrReader(data)
        (sec,), (nanosec,) = reader.get("i"), reader.get("I")
        frame_id = reader.string()
        height, width = reader.get("I", 2)
        encoding = reader.string()
        (is_bigendian,), (step,) = reader.get("B"), reader.get("I")
        count, start = reader.records(1, 1)
    except ValueError as error:
        raise BadFrame(f"an image message cannot be read: {error}") from error
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)
    return SimpleNamespace(
        header=header, height=height, width=width, encoding=encoding, is_bigendian=is_bigendian, step=step,
        data=memoryview(data)[start : start + count],
    )  # fmt: skip
