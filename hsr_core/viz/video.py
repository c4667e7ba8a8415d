"""Write pictures as an H.264 video with their own time stamps."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError

_TIME_BASE = Fraction(1, 90_000)


class VideoWriter:
    """An MP4 file that is whole after `close`, however early that comes.

    Args:
        path: The file.
        fps: Nominal rate [Hz]; the stamps decide.

    Raises:
        SourceError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        try:  # FFmpeg opens the file at the first picture only
            open(path, "wb").close()
            self._container = av.open(os.fspath(path), "w", format="mp4")
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"cannot write a video to {path}: {error}") from error
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        self._start_ns, self._last_pts = 0, -1

    def write(self, image_bgr: NDArray[np.uint8], stamp_ns: int) -> None:
        """Append a picture, uint8 (H, W, 3); all of one size. One that is not later than the last is left out."""
        height, width = image_bgr.shape[0] // 2 * 2, image_bgr.shape[1] // 2 * 2  # 4:2:0 wants even sizes
        if self._stream is None:
            self._start_ns = stamp_ns
            self._stream = self._open(width, height)
        pts = round((stamp_ns - self._start_ns) * _TIME_BASE.denominator / 1e9)
        if pts <= self._last_pts:
            return
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_bgr[:height, :width]), format="bgr24")
        picture.pts, picture.time_base, self._last_pts = pts, _TIME_BASE, pts
        self._container.mux(self._stream.encode(picture))

    def _open(self, width: int, height: int) -> av.VideoStream:
        codec = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
        options = {"preset": "veryfast", "crf": "23"} if codec == "libx264" else {"qscale": "4"}
        stream = self._container.add_stream(codec, rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        return stream

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()
