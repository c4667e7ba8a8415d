"""Where PEAR's crop comes from, and where its people are: crops, the virtual camera, metres.

The network sees a crop as through a camera of 3072 px focal length and 256 px width, 4.8 degrees, that looks straight
at the person. Its people are in that camera's optical axes; a real camera's distance follows from its focal length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...types import Array
from .network import IMAGE_PX

FOCAL_PX = 12.0 * IMAGE_PX
"""Focal length of the virtual camera for the whole crop: 24 half widths."""
CENTER_PX = IMAGE_PX / 2
"""Principal point, in integer-centre crop pixels (the training's labels are such pixels divided by 256)."""
BOX_FACTOR = 1.25
N_FITTED = 22
"""Pelvis and the 21 body joints: what the distance is fitted to."""
MIN_SCALE = 0.05
DISTANCE_LIMITS_M = (0.2, 100.0)
HEAD_SCALE_LIMITS = (0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Crop:
    """A square of the image as the network's input.

    Attributes:
        A_crop_img: (2, 3) image to crop pixels, integer centres on both sides.
        scale: Crop pixels per image pixel.
    """

    A_crop_img: Array
    scale: float


def person_crop(bbox_xyxy: Array, image_hw: tuple[int, int], factor: float = BOX_FACTOR) -> Crop | None:
    """Return the square around a box, `factor` times its longer side, or None where there is no box within the image.

    Args:
        bbox_xyxy: (4,) [px]. It is cut at the image first.
        image_hw: (height, width) [px].
        factor: The margin the network was trained with.
    """
    height, width = image_hw
    if not np.isfinite(bbox_xyxy).all():
        return None
    x0, y0, x1, y1 = (float(value) for value in bbox_xyxy)
    if x1 <= 0 or y1 <= 0:
        return None
    left, top = max(0.0, x0), max(0.0, y0)
    right = min(width - 1.0, left + max(0.0, x1 - x0 - 1))
    bottom = min(height - 1.0, top + max(0.0, y1 - y0 - 1))
    if right <= left or bottom <= top:
        return None
    scale = IMAGE_PX / (factor * max(right - left, bottom - top))
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    return Crop(np.column_stack([np.eye(2) * scale, CENTER_PX - scale * middle]), scale)


def letterbox(image_hw: tuple[int, int]) -> Crop:
    """Return the whole image in the crop, black above and below or beside it.

    The network never sees the left and right eighth of its input: of an image wider than high, parts are lost.
    """
    height, width = image_hw
    scale = min(IMAGE_PX / height, IMAGE_PX / width)
    size = np.array([int(width * scale), int(height * scale)])
    offset = (IMAGE_PX - size) // 2
    per_axis = size / np.array([width, height])
    # Resizing aligns edges, hence the half pixels.
    return Crop(np.column_stack([np.diag(per_axis), (per_axis - 1) / 2 + offset]), float(per_axis[0]))


def virtual_translation(camera: Array) -> Array:
    """Return the translation (3,) [m] in the virtual camera's optical axes from (tx, ty, s)."""
    tx, ty, s = (float(value) for value in camera)
    return np.array([-tx, -ty, FOCAL_PX / (CENTER_PX * (s + 1e-9))])


def project_virtual(points: Array, t_virtual: Array) -> Array:
    """Return crop pixels (..., 2) of model points (..., 3) [m]."""
    placed = points + t_virtual
    return CENTER_PX + FOCAL_PX * placed[..., :2] / placed[..., 2:]


def pelvis_translation(pelvis: Array, uv: Array, t_virtual: Array, scale: float, K: Array) -> Array:
    """Return the metric translation (3,) [m] by equal image scale at the pelvis; the pelvis reprojects exactly.

    Args:
        pelvis: (3,) [m], model point.
        uv: (2,) its undistorted pixel in the full image.
        t_virtual: (3,) [m].
        scale: Crop pixels per image pixel.
        K: (3, 3) of the full image.
    """
    distance = scale * K[0, 0] * (pelvis[2] + t_virtual[2]) / FOCAL_PX
    x, y = (uv - K[:2, 2]) / K[[0, 1], [0, 1]]
    return np.array([x, y, 1.0]) * distance - pelvis


def illegal(rotmats: Array, camera: Array, *numbers: Array) -> str:
    """Return why one person's output cannot be used, or "".

    Args:
        rotmats: (52, 3, 3).
        camera: (3,) tx, ty, s.
        numbers: Everything else that must be finite.
    """
    if not all(np.isfinite(values).all() for values in (rotmats, camera, *numbers)):
        return "not finite"
    if camera[2] <= MIN_SCALE:
        return f"camera scale: {camera[2]:.3g}"
    if np.abs(np.linalg.det(rotmats) - 1).max() > 1e-3:
        return "a rotation is none"
    return ""
