"""Video files, decoded by FFmpeg (PyAV) with the container's own time stamps."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..errors import SourceError
from ..types import Frame
from .base import CameraLike, Closing, camera_for

log = logging.getLogger(__name__)

_ROTATE = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, -180: cv2.ROTATE_180, -90: cv2.ROTATE_90_CLOCKWISE}
"""FFmpeg's display rotation (degrees, counter-clockwise) to OpenCV's."""


class VideoSource(Closing):
    """Frames of a video file, BGR, turned upright by the file's rotation metadata.

    Packets that do not decode are skipped and counted; a file that ends early gives what it has and says so.

    Raises:
        SourceError: The file is missing, is not a video, or holds no frame that decodes.
    """

    def __init__(self, path: str | os.PathLike[str], *, camera: CameraLike = None) -> None:
        self.name = str(path)
        if not Path(path).is_file():
            raise SourceError(f"no video file {path}")
        try:
            self._container = av.open(self.name)
        except (av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{path} cannot be opened as a video (empty, truncated or not a video): {error}"
            ) from error
        try:
            self._open(camera)
        except BaseException:
            self._container.close()
            raise

    def _open(self, camera: CameraLike) -> None:
        if not self._container.streams.video:
            raise SourceError(f"{self.name} holds no video stream")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._stream, self._reformatter = stream, VideoReformatter()
        self.fps = float(stream.average_rate or stream.guessed_rate or 30)
        self.frame_count = stream.frames or None
        self.skipped, self.truncated = 0, False
        self._pictures = self._decode()
        # The first picture is decoded now: only it knows the rotation, and a file without one is refused at once.
        self._first = next(self._pictures, None)
        if self._first is None:
            raise SourceError(f"{self.name} holds no frame that decodes ({self.skipped} damaged packets)")
        self.image_hw = self._first[0].shape[:2]
        self._camera = camera_for(camera, self._first[0])

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self._first is not None:
            image, stamp_ns = self._first
            yield Frame(image, stamp_ns, "bgr", camera=self._camera, index=index)
            index += 1
            self._first = next(self._pictures, None)
        self._report(index)

    def _decode(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        time_base = self._stream.time_base or Fraction(1, 90_000)
        step_ns, last_ns = round(1e9 / self.fps), -1
        for picture in self._raw_frames():
            # Stamps may be missing in raw streams: then the nominal rate stands in.
            stamp_ns = last_ns + step_ns if picture.pts is None else int(picture.pts * time_base * 1_000_000_000)
            self._last_ns = last_ns = stamp_ns
            yield self._to_bgr(picture), stamp_ns

    def _raw_frames(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                log.warning("%s: reading stopped: %s", self.name, error)
                self.truncated = True
                packet = None  # drains the frames that the decoder still holds
            try:
                yield from self._stream.decode(packet)
            except av.EOFError:
                return
            except av.FFmpegError:
                self.skipped += 1
            if packet is None:
                return

    def _to_bgr(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        bgr = self._reformatter.reformat(picture, format="bgr24")
        plane = bgr.planes[0]
        # A view of the decoder's picture: rows are padded, and it lives as long as the view.
        rows = np.frombuffer(plane, np.uint8).reshape(bgr.height, plane.line_size)
        image = rows[:, : 3 * bgr.width].reshape(bgr.height, bgr.width, 3)
        rotation = getattr(picture, "rotation", 0)
        return cv2.rotate(image, _ROTATE[rotation]) if rotation in _ROTATE else image

    def _report(self, decoded: int) -> None:
        # By time and not by count: an edit list may rightly leave announced frames out.
        stream = self._stream
        if stream.duration and stream.time_base:
            end_ns = ((stream.start_time or 0) + stream.duration) * stream.time_base * 1_000_000_000
            self.truncated = self.truncated or self._last_ns + 2.5e9 / self.fps < end_ns
        if self.truncated or self.skipped:
            ended = "ends before its announced end; " if self.truncated else ""
            log.warning(
                "%s %s%d of %s frames decoded, %d damaged packets skipped",
                self.name, ended, decoded, self.frame_count or "?", self.skipped,
            )  # fmt: skip

    def rewind(self) -> None:
        """Start again from the first frame; what was skipped so far stays counted."""
        self._pictures.close()
        self._container.seek(0)
        self.truncated = False
        self._pictures = self._decode()
        self._first = next(self._pictures, None)

    def close(self) -> None:
        self._first = None
        self._pictures.close()
        self._container.close()
