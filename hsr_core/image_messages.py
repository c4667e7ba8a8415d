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
_AS_GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""BGR or grey, not turned by what EXIF says: the intrinsics are of the pixels as they are."""
_COLOURS = frozenset(f"{order}{bits}" for order in ("rgb", "bgr", "rgba", "bgra") for bits in (8, 16))


class _Encoding(NamedTuple):
    """How to read one encoding: bytes a pixel, channel order of the result, conversion (None: a view is enough).

    16-bit images are handed to the conversion as uint16.
    """

    pixel_bytes: int
    order: str
    convert: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    rows: float = 1.0  # rows of data per image row
    even: bool = False  # width and height must be even
    note: str = ""
    wide: bool = False  # 16 bits a channel


def _by_opencv(code: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda image: cv2.cvtColor(image, code)


_BT601 = np.array([[1.164, 2.018, 0], [1.164, -0.391, -0.813], [1.164, 0, 1.596]])
_BT601 = np.column_stack([_BT601, _BT601 @ [-16, -128, -128]])
"""Studio-swing Y, U, V and 1 to B, G, R (ITU-R BT.601), as OpenCV takes the other YUV encodings."""


def _from_nv24(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Y, then U and V of every pixel side by side."""
    height, width = planes.shape[0] // 3, planes.shape[1]
    chroma = np.ascontiguousarray(planes[height:]).reshape(height, width, 2)
    return cv2.transform(cv2.merge([planes[:height], *cv2.split(chroma)]), _BT601)


def _to_8_bit(wide: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The full range, as cv_bridge does it."""
    return cv2.convertScaleAbs(wide, alpha=255 / 65535)


def _demosaic_wide(code: int) -> Callable[[NDArray[np.uint16]], NDArray[np.uint8]]:
    return lambda wide: cv2.cvtColor(_scale_16_bit(wide), code)


_BAYER = {
    "rggb": cv2.COLOR_BayerRGGB2BGR,
    "bggr": cv2.COLOR_BayerBGGR2BGR,
    "gbrg": cv2.COLOR_BayerGBRG2BGR,
    "grbg": cv2.COLOR_BayerGRBG2BGR,
}
_OWN_SCALE = "16-bit images are scaled by their own 99.9 percentile"
_UYVY = _Encoding(2, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_UYVY), even=True)
_YUYV = _Encoding(2, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_YUY2), even=True)

_ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(3, "rgb"),
    "bgr8": _Encoding(3, "bgr"),
    "rgba8": _Encoding(4, "rgb"),
    "bgra8": _Encoding(4, "bgr"),
    "mono8": _Encoding(1, "mono"),
    "mono16": _Encoding(2, "mono", lambda wide: _scale_16_bit(wide), note=_OWN_SCALE, wide=True),
    "rgb16": _Encoding(6, "rgb", _to_8_bit, wide=True),
    "bgr16": _Encoding(6, "bgr", _to_8_bit, wide=True),
    "rgba16": _Encoding(8, "rgb", _to_8_bit, wide=True),
    "bgra16": _Encoding(8, "bgr", _to_8_bit, wide=True),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_NV12), rows=1.5, even=True),
    "nv21": _Encoding(1, "bgr", _by_opencv(cv2.COLOR_YUV2BGR_NV21), rows=1.5, even=True),
    "nv24": _Encoding(1, "bgr", _from_nv24, rows=3.0),
    **{f"bayer_{pattern}8": _Encoding(1, "bgr", _by_opencv(code), even=True) for pattern, code in _BAYER.items()},
    **{
        f"bayer_{pattern}16": _Encoding(2, "bgr", _demosaic_wide(code), even=True, note=_OWN_SCALE, wide=True)
        for pattern, code in _BAYER.items()
    },
    "8UC1": _Encoding(1, "mono", note="8UC1 does not say what it holds; taken as mono8"),
    "8UC3": _Encoding(3, "bgr", note="8UC3 does not say its channel order; taken as bgr8"),
    "8UC4": _Encoding(4, "bgr", note="8UC4 does not say its channel order; taken as bgra8"),
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
    image = _wide_pixels(msg, encoding) if encoding.wide else _pixels(msg, encoding)
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
    if name == "nv24" and msg.step != msg.width:
        raise BadFrame(f"nv24 with padded rows is not accepted: step {msg.step}, width {msg.width}")
    size = int(msg.step * msg.height * encoding.rows)
    if len(msg.data) < size:
        raise BadFrame(f"{len(msg.data)} bytes of data, but {msg.height} rows with step {msg.step} take {size}")


def _check_size(width: int, height: int) -> None:
    if not (MIN_SIDE_PX <= width <= MAX_SIDE_PX and MIN_SIDE_PX <= height <= MAX_SIDE_PX):
        raise BadFrame(f"image size {width}x{height} is outside {MIN_SIDE_PX}..{MAX_SIDE_PX} pixels a side")


def _pixels(msg: Any, encoding: _Encoding) -> NDArray[np.uint8]:
    rows, channels = int(msg.height * encoding.rows), encoding.pixel_bytes
    shape = (rows, msg.width, channels) if channels > 1 else (rows, msg.width)
    strides = (msg.step, channels, 1) if channels > 1 else (msg.step, 1)
    return np.ndarray(shape, np.uint8, buffer=msg.data, strides=strides)


def _wide_pixels(msg: Any, encoding: _Encoding) -> NDArray[np.uint16]:
    dtype, channels = np.dtype(">u2" if msg.is_bigendian else "<u2"), encoding.pixel_bytes // 2
    shape = (msg.height, msg.width, channels) if channels > 1 else (msg.height, msg.width)
    strides = (msg.step, 2 * channels, 2) if channels > 1 else (msg.step, 2)
    wide = np.ndarray(shape, dtype, buffer=msg.data, strides=strides)
    return wide.astype(np.uint16)  # OpenCV takes neither another byte order nor an odd step


def _scale_16_bit(wide: NDArray[np.uint16]) -> NDArray[np.uint8]:
    stride = max(1, min(wide.shape[:2]) // 256)  # a sample of large images: sorting them whole takes too long
    white = np.percentile(wide[::stride, ::stride], 99.9)
    return cv2.convertScaleAbs(wide, alpha=255.0 / max(white, 1.0))


def compressed_to_frame(msg: Any, *, frame_id: str = "", camera: Camera | None = None, index: int = 0) -> Frame:
    """Decode a jpeg, png or webp message; 16-bit images are scaled as raw ones are.

    What `format` says beyond the codec is heeded as image_transport does: "rgb8; jpeg compressed bgr8" is a picture
    like any other, "rgb8; jpeg compressed " one whose red and blue were exchanged, "bayer_rggb8; ..." a mosaic.

    Raises:
        BadFrame: The data is not such an image, or depth, or its size is impossible.
    """
    encoding, _, how = (part.strip() for part in msg.format.partition(";"))
    if encoding in ("16UC1", "32FC1") or "compressedDepth" in how:
        raise BadFrame(
            f"a compressed image of format {msg.format!r} is depth: remap it to depth, and image to a picture"
        )
    mosaic = encoding.startswith("bayer_") and encoding in _ENCODINGS and "compressed bgr" not in how
    data = np.frombuffer(msg.data, np.uint8)
    try:
        image = cv2.imdecode(data, _AS_GREY if mosaic else _AS_SENT) if data.size else None
    except cv2.error as error:
        raise BadFrame(f"compressed image of format {msg.format!r} does not decode: {error}") from error
    if image is None:
        raise BadFrame(
            f"compressed image of format {msg.format!r} ({data.size} bytes) does not decode; accepted: jpeg, png, webp"
        )
    _check_size(image.shape[1], image.shape[0])
    if image.dtype == np.uint16:
        image = _scale_16_bit(image)
    if mosaic:
        image = cv2.cvtColor(image, _BAYER[encoding[6:10]])
    exchanged = bool(how) and encoding in _COLOURS and "compressed bgr" not in how
    stamp_ns = stamp_to_ns(msg.header.stamp)
    return Frame(image, stamp_ns, "rgb" if exchanged else "bgr", frame_id or msg.header.frame_id, camera, index=index)
