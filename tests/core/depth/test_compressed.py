"""compressedDepth: what the encoders of image_transport write is read back, and what is cut off or odd is refused."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest

from hsr_core.depth.compressed import CompressedDepth, decode_rvl
from hsr_core.depth.decode import to_metres
from hsr_core.errors import BadFrame

RNG = np.random.default_rng(3)


def depth_mm(hw=(48, 64), holes: float = 0.2) -> np.ndarray:
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    values = (2000 + 9 * columns - 11 * rows + RNG.normal(0, 8, hw)).astype(np.uint16)
    values[RNG.random(hw) < holes] = 0
    return values


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def rvl(values: np.ndarray) -> bytes:
    """Wilson's encoder, number by number as in the paper."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            low, number = number & 7, number >> 3
            nibbles.append(low | 8 if number else low)
            if not number:
                return

    flat, at, before = [int(v) for v in values.reshape(-1)], 0, 0
    while at < len(flat):
        start = at
        while at < len(flat) and not flat[at]:
            at += 1
        put(at - start)
        start = at
        while at < len(flat) and flat[at]:
            at += 1
        put(at - start)
        for value in flat[start:at]:
            difference = value - before
            put(2 * difference if difference >= 0 else -2 * difference - 1)
            before = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return np.array(values.shape[::-1], "<u4").tobytes() + np.array(words, "<u4").tobytes()


def message(data: bytes, format: str, a: float = 0.0, b: float = 0.0) -> CompressedDepth:
    return CompressedDepth(np.int32(0).tobytes() + np.array([a, b], "<f4").tobytes() + data, format, "color", 5)


@pytest.mark.parametrize(
    ("format", "encode"),
    [
        ("16UC1; compressedDepth png", png),
        ("16UC1; compressedDepth", png),  # Humble
        ("16UC1; compressedDepth ", png),
        ("16UC1", png),  # before there was a choice
        ("16UC1; compressedDepth rvl", rvl),
    ],
)
def test_millimetres_come_back_as_they_were(format, encode):
    values = depth_mm()
    raw = message(encode(values), format).decoded()
    assert (raw.hw, raw.encoding, raw.frame_id, raw.stamp_ns) == ((48, 64), "16UC1", "color", 5)
    np.testing.assert_allclose(to_metres(raw), values * 0.001, rtol=1e-6)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_metres_come_back_within_the_quantisation(codec):
    """The encoder's rule: a = q (q + 1), b = 1 - a / max, v = floor(a / z + b); a step of v is z^2 / a metres."""
    q, largest = 100.0, 10.0
    a = q * (q + 1)
    b = 1 - a / largest
    z = depth_mm().astype(np.float32) * np.float32(0.001)
    z[0, :3] = 0, np.nan, 12.0
    with np.errstate(divide="ignore"):
        stored = np.where((z > 0) & (z < largest), np.floor(a / z + b), 0).astype(np.uint16)
    raw = message((png if codec == "png" else rvl)(stored), f"32FC1; compressedDepth {codec}", a, b).decoded()
    got = to_metres(raw)
    seen = (z > 0) & (z < largest)
    assert np.array_equal(got > 0, seen)
    assert (np.abs(got - z)[seen] <= z[seen] ** 2 / a * 1.1 + 1e-5).all()


def test_a_plain_png_of_the_compressed_transport_is_read_too():
    values = depth_mm()
    raw = CompressedDepth(png(values), "16UC1; png compressed ", "color", 0).decoded()
    np.testing.assert_allclose(to_metres(raw), values * 0.001, rtol=1e-6)


@pytest.mark.parametrize("kind", ["all zero", "no zero", "any value", "one pixel"])
def test_rvl_of_any_content(kind):
    values = {
        "all zero": np.zeros((5, 7), np.uint16),
        "no zero": np.full((5, 7), 65535, np.uint16),
        "any value": RNG.integers(0, 65536, (31, 17)).astype(np.uint16),
        "one pixel": np.array([[1]], np.uint16),
    }[kind]
    assert np.array_equal(decode_rvl(np.frombuffer(rvl(values), np.uint8)), values)


def test_rvl_worked_by_hand():
    """0, 0, 9, 8: two zeros, two others, +9 (zigzag 18 = 2, then 2), -1 (zigzag 1): nibbles 2 2 a 2 1 0 0 0."""
    data = np.array([4, 1, 0x22A21000], "<u4").view(np.uint8)
    assert decode_rvl(data).tolist() == [[0, 0, 9, 8]]


@pytest.mark.parametrize(
    ("compressed", "said"),
    [
        (message(png(depth_mm()), "rgb8; compressedDepth png"), "accepted: 16UC1, 32FC1"),
        (message(png(depth_mm()), "16UC1; compressedDepth h264"), "accepted: png, rvl"),
        (CompressedDepth(b"123", "16UC1; compressedDepth png", "", 0), "3 bytes"),
        (message(b"", "16UC1; compressedDepth png"), "header"),
        (message(png(depth_mm())[:40], "16UC1; compressedDepth png"), "does not decode"),
        (message(png(np.zeros((8, 8), np.uint8)), "16UC1; compressedDepth png"), "not 16 bits"),
        (message(png(np.zeros((8, 8), np.uint16)), "16UC1; jpeg compressed bgr8"), "does not decode"),
        (message(rvl(depth_mm())[:-400], "16UC1; compressedDepth rvl"), "cut off"),
        (message(rvl(depth_mm())[:5], "16UC1; compressedDepth rvl"), "cut off"),
        (message(np.array([9, 0], "<u4").tobytes(), "16UC1; compressedDepth rvl"), "9x0 pixels"),
        (message(np.array([2**31, 2**31], "<u4").tobytes(), "16UC1; compressedDepth rvl"), "pixels"),
        (message(np.array([8, 8, 0xFFFFFFFF], "<u4").tobytes(), "16UC1; compressedDepth rvl"), "cut off"),
        (message(np.array([8, 8, 0, 0], "<u4").tobytes(), "16UC1; compressedDepth rvl"), "damaged"),
        (message(np.array([2, 2, 0x71700000], "<u4").tobytes(), "16UC1; compressedDepth rvl"), "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(compressed, said):
    with pytest.raises(BadFrame, match=said):
        compressed.decoded()


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused_or_read_and_never_crash(seed):
    rng = np.random.default_rng(seed)
    body = np.array([20, 10], "<u4").tobytes() + rng.bytes(int(rng.integers(0, 200)))
    with contextlib.suppress(BadFrame):
        assert message(body, "16UC1; compressedDepth rvl").decoded().hw == (10, 20)
