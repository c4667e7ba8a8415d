"""What messages say, in the library's types: stamps, cameras, parameters of people.

A message is anything with the right fields: ROS's own class, or one made by a library that reads recordings. Images are
in `image_messages.py`.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import numpy as np

from .errors import InvalidIntrinsics
from .types import Array, Camera, HumanParams, IntrinsicsSource

log = logging.getLogger("hsr")
FREE_PARAMS = ("betas", "expression", "head_betas", "head_expression")
"""Parameters whose length the body model chooses."""


def stamp_to_ns(stamp: Any) -> int:
    """Return a stamp as integer nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


_MODELS = {"plumb_bob": (5,), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Numbers of coefficients; rational_polynomial's may be followed by a thin prism's (4) and a tilted sensor's (2)."""
_MODEL_ALIASES = {"": "plumb_bob", "fisheye": "equidistant"}


def camera_from_info(
    msg: Any, *, image_hw: tuple[int, int] | None = None, frame_id: str = "", rectified: bool = False
) -> Camera:
    """Return the camera that an info message describes, for images of size `image_hw`.

    Rectified images are described by P, without distortion. The region of interest and binning are applied, then the
    intrinsics are scaled when the image is the same picture resized. An unknown distortion model is ignored with a
    warning.

    Raises:
        InvalidIntrinsics: Refused values (zero, not finite, impossible) or an image of another shape.
    """
    if msg.height and msg.width:
        full_hw = (msg.height, msg.width)
    elif image_hw is not None:
        full_hw = image_hw  # some drivers leave the size out
    else:
        raise InvalidIntrinsics("camera info has no image size (width and height are 0)")
    roi, bin_x, bin_y = msg.roi, max(msg.binning_x, 1), max(msg.binning_y, 1)
    K = np.array(msg.k, np.float64).reshape(3, 3)
    P = np.array(msg.p, np.float64).reshape(3, 4)
    if rectified and P[0, 0] != 0:  # else nobody has rectified anything: some drivers leave P out
        K = P[:, :3]
    # Binning averages blocks: block edges align, so centres at integers shift by half a pixel.
    K[0] = [K[0, 0] / bin_x, K[0, 1] / bin_x, (K[0, 2] - roi.x_offset + 0.5) / bin_x - 0.5]
    K[1] = [K[1, 0], K[1, 1] / bin_y, (K[1, 2] - roi.y_offset + 0.5) / bin_y - 0.5]
    used_hw = ((roi.height or full_hw[0]) // bin_y, (roi.width or full_hw[1]) // bin_x)
    model, dist = ("plumb_bob", np.zeros(5)) if rectified else _distortion(msg.distortion_model, np.array(msg.d, float))
    camera = Camera(K, used_hw, dist, model, IntrinsicsSource.CAMERA_INFO, frame_id or msg.header.frame_id)
    return camera if image_hw is None else camera.scaled(image_hw)


def _distortion(model: str, dist: Array) -> tuple[str, Array]:
    model = _MODEL_ALIASES.get(model, model)
    if model not in _MODELS:
        if np.any(dist):
            _warn_once(f"distortion model {model!r} is unknown and ignored; known: {', '.join(_MODELS)}")
        return "plumb_bob", np.zeros(5)
    most = _MODELS[model][-1]
    if np.any(dist[most:]):
        _warn_once(f"{model} has at most {most} coefficients, {len(dist)} were given; the rest is ignored")
    used = np.trim_zeros(dist[:most], "b")
    out = np.zeros(next(count for count in _MODELS[model] if count >= len(used)))
    out[: len(used)] = used
    return model, out


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    log.warning(text)


def human_params_from_msg(msg: Any) -> HumanParams:
    """Return a person's parameters; parts that were not seen are at rest."""
    values: dict[str, Array] = {}
    for name, shape in HumanParams.FIXED_SHAPES.items():
        numbers = np.array(getattr(msg, name), np.float32)
        values[name] = numbers.reshape(shape) if numbers.size else np.zeros(shape, np.float32)
    for name in FREE_PARAMS:
        values[name] = np.array(getattr(msg, name), np.float32)
    return HumanParams(**values)
