"""Every encoding against two libraries that know them all: FFmpeg's converter, and cv_bridge where it is installed."""

from __future__ import annotations

from array import array

import av
import cv2
import numpy as np
import pytest
from hsr.convert import compressed_to_frame, image_to_frame
from sensor_msgs.msg import CompressedImage, Image

from hsr_core.errors import BadFrame

H, W = 64, 96
PATTERNS = ("rggb", "bggr", "gbrg", "grbg")
FFMPEG = {
    "rgb8": "rgb24", "bgr8": "bgr24", "rgba8": "rgba", "bgra8": "bgra", "8UC3": "bgr24", "8UC4": "bgra",
    "mono8": "gray", "8UC1": "gray", "yuv422": "uyvy422", "uyvy": "uyvy422", "yuv422_yuy2": "yuyv422",
    "yuyv": "yuyv422", "nv12": "nv12", "nv21": "nv21", "nv24": "nv24", "rgb16": "rgb48le", "bgr16": "bgr48le",
    "rgba16": "rgba64le", "bgra16": "bgra64le",
}  # fmt: skip
"""Names of one thing in the two worlds. mono16 and bayer_*16 are scaled by their own content here, so not by others."""


def picture() -> np.ndarray:
    """Soft colours and edges, BGR."""
    y, x = np.mgrid[0:H, 0:W]
    image = np.stack([60 + 1.5 * x, 200 - 2 * y, 50 + x + y], axis=-1)
    image[20:40, 30:60] = (200, 60, 40)
    return cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.uint8)


def by_ffmpeg(image: np.ndarray, target: str) -> np.ndarray:
    """Return the bytes of a BGR picture in another pixel format, plane after plane; 96 pixels need no padding."""
    planes = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=target).planes
    return np.concatenate([np.frombuffer(plane, np.uint8) for plane in planes])


def message(data: np.ndarray, encoding: str, **fields) -> Image:
    rows = {"nv12": H * 3 // 2, "nv21": H * 3 // 2, "nv24": 3 * H}.get(encoding, H)
    msg = Image(height=H, width=W, encoding=encoding, step=data.size // rows, **fields)
    msg.data = array("B", data.astype(np.uint8).tobytes())
    return msg


def as_bgr(msg: Image | CompressedImage) -> np.ndarray:
    frame = image_to_frame(msg) if isinstance(msg, Image) else compressed_to_frame(msg)
    if frame.order == "mono":
        return cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR)
    return frame.image[..., :3] if frame.order == "bgr" else frame.image[..., 2::-1]


def mosaic(image: np.ndarray, pattern: str) -> np.ndarray:
    out = np.empty(image.shape[:2], image.dtype)
    for i, letter in enumerate(pattern):
        out[i // 2 :: 2, i % 2 :: 2] = image[i // 2 :: 2, i % 2 :: 2, "bgr".index(letter)]
    return out


def ffmpeg_demosaic(values: np.ndarray, name: str) -> np.ndarray:
    frame = av.VideoFrame(W, H, name)
    frame.planes[0].update(values.tobytes())
    return frame.reformat(format="bgr24").to_ndarray()


@pytest.mark.parametrize("encoding", FFMPEG)
def test_what_ffmpeg_writes_is_read_as_the_same_picture(encoding):
    """Differences: rounding, and chroma of half the resolution at the edges of the patch."""
    expected = picture()
    if FFMPEG[encoding] == "gray":
        expected = cv2.cvtColor(cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        data = np.ascontiguousarray(expected[..., 0]).reshape(-1)
    else:
        data = by_ffmpeg(expected, FFMPEG[encoding])
    error = np.abs(as_bgr(message(data, encoding)).astype(int) - expected)
    subsampled = encoding.startswith(("yu", "uy", "nv1", "nv2")) and encoding != "nv24"
    assert error.mean() < (1.5 if subsampled else 1.0)
    assert error.max() <= (30 if subsampled else 4)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_mosaics_are_read_as_ffmpeg_reads_them(pattern, bits):
    values = mosaic(picture(), pattern)
    if bits == 16:
        values = values.astype("<u2") * 257
    ours = as_bgr(message(values.view(np.uint8), f"bayer_{pattern}{bits}")).astype(float)
    theirs = ffmpeg_demosaic(values, f"bayer_{pattern}{8 if bits == 8 else '16le'}").astype(float)
    if bits == 16:  # by its own brightest pixels
        theirs *= 255 / np.percentile(values // 257, 99.9)
    inside = np.abs(ours - np.minimum(theirs, 255))[4:-4, 4:-4]
    assert inside.mean() < 1.5


def test_16_bit_colour_of_the_other_byte_order_is_the_same():
    wide = by_ffmpeg(picture(), "bgr48le").view("<u2")
    big = message(wide.astype(">u2").view(np.uint8), "bgr16", is_bigendian=1)
    np.testing.assert_array_equal(as_bgr(big), as_bgr(message(wide.view(np.uint8), "bgr16")))


def compressed(image: np.ndarray, format: str, suffix: str = ".png") -> CompressedImage:
    return CompressedImage(format=format, data=array("B", cv2.imencode(suffix, image)[1].tobytes()))


@pytest.mark.parametrize(
    ("format", "suffix", "exchanged"),
    [
        ("jpeg", ".jpg", False),
        ("png", ".png", False),
        ("webp", ".webp", False),
        ("rgb8; jpeg compressed bgr8", ".jpg", False),
        ("bgra8; jpeg compressed bgr8", ".jpg", False),  # Azure Kinect
        ("bgr8; png compressed bgr8", ".png", False),
        ("rgb8; png compressed ", ".png", True),  # the publisher handed its RGB to the encoder
        ("bgr8; jpeg compressed rgb8", ".jpg", True),
        ("mono8; jpeg compressed mono8", ".jpg", False),
        ("bayer_rggb8; jpeg compressed bgr8", ".jpg", False),
    ],
)
def test_formats_of_image_transport(format, suffix, exchanged):
    image = picture()
    stored = image[..., ::-1] if exchanged else image
    error = np.abs(as_bgr(compressed(stored, format, suffix)).astype(int) - image)
    assert error.mean() < (0.1 if suffix == ".png" else 3)


def test_a_compressed_mosaic_is_a_mosaic():
    image = picture()
    values = mosaic(image, "grbg")
    expected = as_bgr(message(values, "bayer_grbg8"))
    np.testing.assert_array_equal(as_bgr(compressed(values, "bayer_grbg8; png compressed ")), expected)


@pytest.mark.parametrize(
    "format", ["16UC1; compressedDepth png", "32FC1; compressedDepth rvl", "16UC1; png compressed "]
)
def test_depth_on_the_image_topic_is_named(format):
    with pytest.raises(BadFrame, match="is depth: remap it to depth"):
        compressed_to_frame(compressed(np.zeros((H, W), np.uint16), format))


# cv_bridge, where it is installed. The nodes do not import it: its compiled part fails beside numpy 2.

KNOWN_TO_CV_BRIDGE = (
    "rgb8", "bgr8", "rgba8", "bgra8", "mono8", "rgb16", "bgr16", "rgba16", "bgra16", "yuv422", "yuv422_yuy2",
    *(f"bayer_{pattern}8" for pattern in PATTERNS),
)  # fmt: skip


@pytest.fixture(scope="module")
def bridge():
    try:
        from cv_bridge import CvBridge
        from cv_bridge.boost import cv_bridge_boost  # noqa: F401 - loaded at the first use otherwise
    except ImportError as error:
        pytest.skip(f"cv_bridge is not there (apt install ros-$ROS_DISTRO-cv-bridge): {error}")
    return CvBridge()


@pytest.mark.parametrize("encoding", KNOWN_TO_CV_BRIDGE)
def test_cv_bridge_gives_the_same(bridge, encoding):
    if encoding.startswith("bayer"):
        data = mosaic(picture(), encoding[6:10]).reshape(-1)
    elif encoding == "mono8":
        data = cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY).reshape(-1)
    else:
        data = by_ffmpeg(picture(), FFMPEG[encoding])
    msg = message(data.view(np.uint8), encoding)
    try:
        theirs = bridge.imgmsg_to_cv2(msg, "bgr8")
    except Exception as error:
        if "Unrecognized image encoding" not in str(error):
            raise
        pytest.skip(f"not known to this version: {error}")
    assert np.abs(as_bgr(msg).astype(int) - theirs).max() <= 1  # rounding


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cv_bridge_decodes_the_same(bridge, suffix):
    msg = compressed(picture(), suffix[1:], suffix)
    np.testing.assert_array_equal(as_bgr(msg), bridge.compressed_imgmsg_to_cv2(msg, "bgr8"))
