"""Images to messages. The way back is the library's, `hsr_core.image_messages`."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from .stamps import header


def image_to_msg(image: NDArray[np.uint8], stamp_ns: int, frame_id: str, encoding: str = "bgr8") -> Image:
    """Return a uint8 image (H, W, C) or (H, W) as a message."""
    return Image(
        header=header(stamp_ns, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        step=image.shape[1] * (image.shape[2] if image.ndim == 3 else 1),
        data=as_bytes(image),
    )


def image_to_compressed_msg(
    image_bgr: NDArray[np.uint8], stamp_ns: int, frame_id: str, quality: int = 80
) -> CompressedImage:
    """Return an image as a jpeg message."""
    _, jpeg = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return CompressedImage(header=header(stamp_ns, frame_id), format="jpeg", data=as_bytes(jpeg))


def as_bytes(values: NDArray[np.uint8]) -> array:
    """Return bytes as the type that a uint8[] field takes without a loop over its elements."""
    out = array("B")
    out.frombytes(np.ascontiguousarray(values).reshape(-1).data)
    return out
