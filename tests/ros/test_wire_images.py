"""Image messages against OpenCV's own converters and against pixels worked out by hand."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest
from hsr.convert import (
    ACCEPTED_ENCODINGS,
    compressed_to_frame,
    conversion_note,
    image_to_compressed_msg,
    image_to_frame,
    image_to_msg,
)
from sensor_msgs.msg import CompressedImage, Image

from hsr_core.errors import BadFrame
from hsr_core.types import Camera, Frame

H, W = 48, 64
STAMP_NS = 12_000_000_034


def message(data: np.ndarray, encoding: str, *, height: int = H, width: int = W, pad: int = 0, **fields) -> Image:
    """Rows of bytes as a message, each followed by `pad` bytes of garbage."""
    rows = np.ascontiguousarray(data).reshape(data.shape[0], -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=0xAB)
    msg = Image(height=height, width=width, encoding=encoding, step=padded.shape[1], **fields)
    msg.data = array("B", padded.tobytes())
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(STAMP_NS, 10**9)
    msg.header.frame_id = "cam_optical_frame"
    return msg


def smooth_bgr() -> np.ndarray:
    """A picture without fine detail, so that chroma subsampling hardly changes it."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([40 + 3 * x, 220 - 3 * y, 60 + x + y], axis=-1).astype(np.uint8)


def bgr(frame: Frame) -> np.ndarray:
    if frame.order == "mono":
        return frame.image
    return frame.image[..., :3] if frame.order == "bgr" else frame.image[..., 2::-1]


@pytest.mark.parametrize("pad", [0, 7])
@pytest.mark.parametrize(
    ("encoding", "code"),
    [("bgr8", None), ("rgb8", cv2.COLOR_BGR2RGB), ("bgra8", cv2.COLOR_BGR2BGRA), ("rgba8", cv2.COLOR_BGR2RGBA),
     ("8UC3", None), ("8UC4", cv2.COLOR_BGR2BGRA)],
)  # fmt: skip
def test_colour_images_are_views_of_the_message(encoding, code, pad) -> None:
    image = smooth_bgr()
    msg = message(image if code is None else cv2.cvtColor(image, code), encoding, pad=pad)
    frame = image_to_frame(msg)
    np.testing.assert_array_equal(bgr(frame), image)
    assert (frame.stamp_ns, frame.frame_id) == (STAMP_NS, "cam_optical_frame")
    msg.data[0] ^= 0xFF  # no copy was made
    assert bgr(frame)[0, 0].tolist() != image[0, 0].tolist()


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_images_are_views(encoding, pad) -> None:
    image = smooth_bgr()[..., 0]
    frame = image_to_frame(message(image, encoding, pad=pad))
    assert frame.order == "mono"
    np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize("big", [0, 1])
def test_16_bit_grey_is_scaled_by_its_bright_end(big) -> None:
    ramp = np.linspace(0, 4000, H * W).reshape(H, W).astype(">u2" if big else "<u2")
    frame = image_to_frame(message(ramp, "mono16", is_bigendian=big, pad=4))
    expected = np.minimum(ramp.astype(float) * 255 / np.percentile(ramp, 99.9), 255)
    assert np.abs(frame.image - expected).max() <= 1.5  # rounding, and the percentile of a sample
    assert conversion_note("mono16")
    assert image_to_frame(message(np.zeros((H, W), "<u2"), "mono16")).image.max() == 0


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv_images_come_back_as_they_were(encoding, pad) -> None:
    image = smooth_bgr()
    # Forward by the BT.601 studio-swing definition, which these encodings carry.
    b, g, r = (image[..., i].astype(float) for i in range(3))
    luma = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    if encoding.startswith("nv"):
        half = [c.reshape(H // 2, 2, W // 2, 2).mean(axis=(1, 3)) for c in ((u, v) if encoding == "nv12" else (v, u))]
        data = np.concatenate([luma, np.stack(half, axis=-1).reshape(H // 2, W)])
    else:
        u2, v2 = (c.reshape(H, W // 2, 2).mean(axis=2) for c in (u, v))
        y0, y1 = luma[:, 0::2], luma[:, 1::2]
        order = (u2, y0, v2, y1) if encoding in ("yuv422", "uyvy") else (y0, u2, y1, v2)
        data = np.stack(order, axis=-1).reshape(H, 2 * W)
    frame = image_to_frame(message(np.rint(data).astype(np.uint8), encoding, pad=pad))
    assert np.abs(bgr(frame).astype(int) - image).max() <= 8


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_images_are_demosaiced(pattern) -> None:
    colour = {"b": 30, "g": 120, "r": 210}
    mosaic = np.empty((H, W), np.uint8)
    for i, letter in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = colour[letter]
    image = bgr(image_to_frame(message(mosaic, f"bayer_{pattern}8", pad=3)))
    np.testing.assert_array_equal(image[4:-4, 4:-4].reshape(-1, 3).mean(axis=0), [30, 120, 210])


def test_every_accepted_encoding_is_tried_here() -> None:
    tried = {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12",
             "nv21", "8UC1", "8UC3", "8UC4", *(f"bayer_{p}8" for p in ("rggb", "bggr", "gbrg", "grbg")),
             # in test_encodings.py
             "nv24", "rgb16", "bgr16", "rgba16", "bgra16",
             *(f"bayer_{p}16" for p in ("rggb", "bggr", "gbrg", "grbg"))}  # fmt: skip
    assert set(ACCEPTED_ENCODINGS) == tried


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"encoding": "32FC1"}, "accepted: rgb8"),
        ({"encoding": ""}, "accepted: rgb8"),
        ({"width": 0, "height": 0}, "size 0x0"),
        ({"width": 15}, "size 15x48"),
        ({"height": 20000}, "16384"),
        ({"step": 3 * W - 1}, "step 191 is too short"),
        ({"step": 3 * W + 1}, "bytes of data"),
        ({"data": array("B")}, "0 bytes of data"),
        ({"encoding": "nv12", "height": 47}, "even width and height"),
        ({"encoding": "nv24"}, "nv24 with padded rows"),
    ],
)
def test_unusable_images_say_why(change, why) -> None:
    msg = message(smooth_bgr(), "bgr8")
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(BadFrame, match=why):
        image_to_frame(msg)
    assert image_to_frame(message(smooth_bgr(), "bgr8")).image_hw == (H, W)


def test_overrides_for_drivers_that_lie() -> None:
    camera = Camera.from_hfov(60, (H, W))
    frame = image_to_frame(
        message(smooth_bgr(), "weird"), encoding_override="rgb8", frame_id="other", camera=camera, index=4
    )
    assert (frame.order, frame.frame_id, frame.camera, frame.index) == ("rgb", "other", camera, 4)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".jpg", 12), (".png", 0), (".webp", 12)])
def test_compressed_images_decode(suffix, tolerance) -> None:
    image = smooth_bgr()
    msg = CompressedImage(format=suffix[1:], data=array("B", cv2.imencode(suffix, image)[1].tobytes()))
    frame = compressed_to_frame(msg)
    assert frame.order == "bgr"
    assert np.abs(frame.image.astype(int) - image).max() <= tolerance


@pytest.mark.parametrize(
    "data", [b"", b"not an image", cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()]
)
def test_compressed_rubbish_is_refused(data) -> None:
    with pytest.raises(BadFrame, match=r"jpeg, png, webp|size 8x8"):
        compressed_to_frame(CompressedImage(format="jpeg", data=array("B", data)))


def test_images_out_and_in_again() -> None:
    image = smooth_bgr()
    strided = np.pad(image, ((0, 0), (0, 5), (0, 0)))[:, :W]
    frame = image_to_frame(image_to_msg(strided, STAMP_NS, "cam"))
    np.testing.assert_array_equal(frame.image, image)
    assert (frame.stamp_ns, frame.frame_id) == (STAMP_NS, "cam")
    grey = image_to_frame(image_to_msg(image[..., 0], STAMP_NS, "cam", "mono8"))
    np.testing.assert_array_equal(grey.image, image[..., 0])
    jpeg = compressed_to_frame(image_to_compressed_msg(image, STAMP_NS, "cam"))
    assert jpeg.stamp_ns == STAMP_NS
    assert np.abs(jpeg.image.astype(int) - image).max() <= 12
