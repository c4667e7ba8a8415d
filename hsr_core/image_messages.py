"""Image messages to frames: views where the encoding allows it, OpenCV where it must be converted.

A message is anything with the fields of sensor_msgs/Image or CompressedImage: ROS's own class, or one made by a library
that reads recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import BadFrame
from .messages import stamp_to_ns
from .types import Camera, Frame

MIN_SIDE_PX, MAX_SIDE_PX = 16, 16384
_AS_SENT = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""BGR, not turned by what EXIF says: the intrinsics are of the pixels as they are."""


class _Encoding(NamedTuple):
    """How to read one encoding: bytes a pixel, channel order of the result, conversion (None: a view is enough)."""

    pixel_bytes: int
    order: str
    convert: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    rows: float = 1.0  # rows of data per image row
    even: bool = False  # width and height must be even
    note: str = ""


def _by_opencv(code: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda image: cv2.cvtColor(image, code)


_UYVY = _Encoding(2, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_UYVY), even=True)
_YUYV = _Encoding(2, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_YUY2), even=True)

_ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(3, "rgb"),
    "bgr8": _Encoding(3, "bgr"),
    "rgba8": _Encoding(4, "rgb"),
    "bgra8": _Encoding(4, "bgr"),
    "mono8": _Encoding(1, "mono"),
    "mono16": _Encoding(2, "mono", note="16-bit images are scaled by their own 99.9 percentile"),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_NV12), rows=1.5, even=True),
    "nv21": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_NV21), rows=1.5, even=True),
    "bayer_rggb8": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_BayerRGGB2BGR), even=True),
    "bayer_bggr8": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_BayerBGGR2BGR), even=True),
    "bayer_gbrg8": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_BayerGBRG2BGR), even=True),
    "bayer_grbg8": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_BayerGRBG2BGR), even=True),
    "8UC1": _Encoding(1, "mono", note="8UC1 does not say what it holds; taken as mono8"),
    "8UC3": _Encoding(3, "bgr", note="8UC3 does not say its channel order; taken as bgr8"),
}

ACCEPTED_ENCODINGS: tuple[str, ...] = tuple(_ENCODINGS)


def conversion_note(encoding: str) -> str:
    """Return what the user should know, once, about images of this encoding; empty for most."""
    known = _ENCODINGS.get(encoding)
    return known.note if known else ""


def image_to_frame(
    msg: Any, *, encoding_override: str = "", frame_id: str = "", camera: Camera | None = None, index: int = 0
) -> Frame:
    """Return an image message as a frame; without a copy for the 8-bit colour and grey encodings.

    Row padding (`step`) is kept as a strided view. 16-bit grey is scaled by its own 99.9 percentile.

    Args:
        msg: The message, or whatever has its fields; its data must not be written to while the frame is used.
        encoding_override: Treat the data as this encoding, for drivers that lie.
        frame_id: Replaces the message's frame, for drivers that name the body-axes frame.
        camera: Intrinsics to attach.
        index: Running number.

    Raises:
        BadFrame: Unknown encoding (the message lists the accepted ones), impossible size, step or data length.
    """
    name = encoding_override or msg.encoding
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise BadFrame(f"image encoding {name!r} is not accepted; accepted: {', '.join(ACCEPTED_ENCODINGS)}")
    _check_layout(msg, name, encoding)
    if name == "mono16":
        image = _scale_16_bit(_wide_pixels(msg))
    else:
        rows, channels = int(msg.height * encoding.rows), encoding.pixel_bytes
        shape = (rows, msg.width, channels) if channels > 1 else (rows, msg.width)
        strides = (msg.step, channels, 1) if channels > 1 else (msg.step, 1)
        image = np.ndarray(shape, np.uint8, buffer=msg.data, strides=strides)
        if encoding.convert is not None:
            image = encoding.convert(image)
    return Frame(
        image=image,
        stamp_ns=stamp_to_ns(msg.header.stamp),
        order=encoding.order,
        frame_id=frame_id or msg.header.frame_id,
        camera=camera,
        index=index,
    )


def _check_layout(msg: Any, name: str, encoding: _Encoding) -> None:
    _check_size(msg.width, msg.height)
    if encoding.even and (msg.width % 2 or msg.height % 2):
        raise BadFrame(f"{name} images have an even width and height, not {msg.width}x{msg.height}")
    least = msg.width * encoding.pixel_bytes
    if msg.step < least:
        raise BadFrame(f"step {msg.step} is too short: {msg.width} pixels of {name} take {least} bytes")
    size = int(msg.step * msg.height * encoding.rows)
    if len(msg.data) < size:
        raise BadFrame(f"{len(msg.data)} bytes of data, but {msg.height} rows with step {msg.step} take {size}")


def _check_size(width: int, height: int) -> None:
    if not (MIN_SIDE_PX <= width <= MAX_SIDE_PX and MIN_SIDE_PX <= height <= MAX_SIDE_PX):
        raise BadFrame(f"image size {width}x{height} is outside {MIN_SIDE_PX}..{MAX_SIDE_PX} pixels a side")


def _wide_pixels(msg: Any) -> NDArray[np.uint16]:
    dtype = ">u2" if msg.is_bigendian else "<u2"
    return np.ndarray((msg.height, msg.width), dtype, buffer=msg.data, strides=(msg.step, 2))


def _scale_16_bit(wide: NDArray[np.uint16]) -> NDArray[np.uint8]:
    stride = max(1, min(wide.shape[:2]) // 256)  # a sample of large images: sorting them whole takes too long
    white = np.percentile(wide[::stride, ::stride], 99.9)
    return cv2.convertScaleAbs(wide.astype(np.uint16), alpha=255.0 / max(white, 1.0))


def compressed_to_frame(msg: Any, *, frame_id: str = "", camera: Camera | None = None, index: int = 0) -> Frame:
    """Decode a jpeg, png or webp message, whatever its `format` says; 16-bit images are scaled as raw ones are.

    Raises:
        BadFrame: The data is not such an image, or its size is impossible.
    """
    data = np.frombuffer(msg.data, np.uint8)
    try:
        image = cv2.imdecode(data, _AS_SENT) if data.size else None
    except cv2.error as error:
        raise BadFrame(f"compressed image of format {msg.format!r} does not decode: {error}") from error
    if image is None:
        raise BadFrame(
            f"compressed image of format {msg.format!r} ({data.size} bytes) does not decode; accepted: jpeg, png, webp"
        )
    _check_size(image.shape[1], image.shape[0])
    if image.dtype == np.uint16:
        image = _scale_16_bit(image)
    stamp_ns = stamp_to_ns(msg.header.stamp)
    return Frame(image, stamp_ns, "bgr", frame_id or msg.header.frame_id, camera, index=index)
