"""Plays a clip, a webcam or a drawn figure as a camera: /camera/image_raw and /camera/camera_info.

    python -m hsr.source_node --ros-args -p source:=walk.mp4

A clip that fits into memory is decoded once, before it plays: a camera costs its host no decoding either.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from hsr_core.errors import HsrError, SourceError
from hsr_core.sources import open_source
from hsr_core.types import Camera, Frame

from . import qos
from .convert import camera_to_info, image_to_msg
from .node_parameters import SOURCE
from .parameter_files import refuse_unknown
from .params import declare_fixed
from .signals import ros, spin_until

DECODED_AHEAD = 4
"""Frames that a clip too long for memory is decoded ahead, so that its pace stays even."""


class Clip:
    """Messages of a source, again and again.

    Raises:
        SourceError: The source cannot be opened, or is too long for `back_and_forth`, which is played from memory.
    """

    def __init__(self, text: str, frame_id: str, loop: bool, back_and_forth: bool, cache_mb: float) -> None:
        self._text, self._frame_id, self._loop = text, frame_id, loop
        self._source = open_source(text)
        self.fps = self._source.fps
        self.live = text.startswith("webcam")
        height, width = self._source.image_hw
        frames = self._source.frame_count
        self._fits = not self.live and frames is not None and 3 * height * width * frames <= cache_mb * 1e6
        if back_and_forth and not self._fits:
            self._source.close()
            raise SourceError(
                f"back_and_forth needs a clip of known length that fits into cache_mb={cache_mb:g}; {text!r} does not"
            )
        self._back = back_and_forth

    def __iter__(self) -> Iterator[tuple[Image, Camera | None]]:
        if self.live:
            return self._decode()
        return self._from_memory() if self._fits else _ahead(self._decode_loop())

    def _from_memory(self) -> Iterator[tuple[Image, Camera | None]]:
        decoded = list(self._decode())
        yield from decoded
        again = [*decoded[-2:0:-1], *decoded] if self._back else decoded  # neither end twice in a row
        while self._loop:
            yield from again

    def _decode_loop(self) -> Iterator[tuple[Image, Camera | None]]:
        yield from self._decode()
        while self._loop:
            self._source = open_source(self._text)
            yield from self._decode()

    def _decode(self) -> Iterator[tuple[Image, Camera | None]]:
        try:
            for frame in self._source:
                yield self._to_msg(frame), frame.camera
        finally:
            self._source.close()

    def _to_msg(self, frame: Frame) -> Image:
        encoding = {"bgr": "bgr8", "rgb": "rgb8", "mono": "mono8"}[frame.order]
        return image_to_msg(frame.image, frame.stamp_ns, self._frame_id, encoding)


def _ahead(items: Iterator) -> Iterator:
    """Run an iterator a few items ahead in a thread of its own, which also ends it."""
    ready: queue.Queue = queue.Queue(DECODED_AHEAD)
    stopped = threading.Event()

    def put(entry: tuple) -> None:
        while not stopped.is_set():
            try:
                return ready.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    break
            put((None, StopIteration()))
        except Exception as error:  # raised again where the items are used
            put((None, error))
        finally:
            items.close()

    thread = threading.Thread(target=run, name="decode", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join(5.0)


class SourceNode(Node):
    """`/human/source`. The images are stamped when they are sent, as if exposed then.

    Attributes:
        finished: Set when the source has ended, and `error` says why if that was not its end.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("source", namespace="human", **kwargs)
        declare_fixed(self, SOURCE)
        refuse_unknown(self)
        self.finished = threading.Event()
        self.error = ""
        self._clip = Clip(*map(self._value, ("source", "frame_id", "loop", "back_and_forth", "cache_mb")))
        options = {"qos_overriding_options": qos.OVERRIDES}
        self._image = self.create_publisher(Image, "/camera/image_raw", qos.image_input(reliable=True), **options)
        self._info = self.create_publisher(
            CameraInfo, "/camera/camera_info", qos.camera_info_input(reliable=True), **options
        )
        self._thread = threading.Thread(target=self._play, name="play", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.finished.set()
        self._thread.join(5.0)

    def _value(self, name: str):
        return self.get_parameter(name).value

    def _play(self) -> None:
        try:
            self._publish_all()
        except Exception as error:  # the main thread tells and exits
            if self.context.ok():  # else ROS was shut down while an image was being sent
                self.error = f"{type(error).__name__}: {error}"
        self.finished.set()

    def _publish_all(self) -> None:
        pace = _Pace(0.0 if self._clip.live else self._value("rate_hz") or self._clip.fps)
        with contextlib.closing(iter(self._clip)) as messages:  # closed by the thread that runs it
            for msg, camera in messages:
                if self.finished.is_set() or not pace.wait(self.finished):
                    return
                self._publish(msg, camera or self._assumed_camera(msg))

    def _publish(self, msg: Image, camera: Camera | None) -> None:
        if not self._clip.live:
            msg.header.stamp = self.get_clock().now().to_msg()
        if camera is not None:
            info = camera_to_info(camera, 0)
            info.header = msg.header
            self._info.publish(info)
        self._image.publish(msg)

    def _assumed_camera(self, msg: Image) -> Camera | None:
        hfov_deg = self._value("hfov_deg")
        return Camera.from_hfov(hfov_deg, (msg.height, msg.width)) if hfov_deg > 0 else None


class _Pace:
    """Waits for one deadline after another; a deadline that was missed by a whole period is given up."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz if rate_hz > 0 else 0.0
        self._due_s: float | None = None

    def wait(self, stop: threading.Event) -> bool:
        """Return True at the next deadline, False when stopped before it."""
        now = time.monotonic()
        if self._due_s is None or now - self._due_s > self._period_s:
            self._due_s = now
        stopped = stop.wait(max(0.0, self._due_s - now))
        self._due_s += self._period_s
        return not stopped


def main() -> None:
    logging.basicConfig(level=logging.WARNING)  # the library's own warnings: damaged packets, early end
    with ros():
        try:
            node = SourceNode()
        except HsrError as error:
            sys.exit(f"source: {error}")
        try:
            spin_until(node, node.finished.is_set, look_s=0.5)
        finally:
            node.stop()
            node.destroy_node()
        if node.error:
            sys.exit(f"source: {node.error}")


if __name__ == "__main__":
    main()
