"""The axes of a hand, a person's or a robot's, from three points of its palm.

x out of the palm, z from the wrist to the knuckles, y = z x x: to the thumb's side on a right hand, away from it on a
left one.
"""

from __future__ import annotations

import numpy as np

from ..types import Array
from .frames import MIN_SINE


def palm_axes(points: Array, side: str) -> Array | None:
    """Return the axes of a hand as columns, (3, 3); None where its three points lie nearly on a line.

    Args:
        points: (3, 3) [m]: wrist, the index finger's base, the base of a finger on the other side.
        side: left or right.
    """
    wrist, index, far = points
    along = (index + far) / 2 - wrist
    out = np.cross(index - far, along)
    along_m, out_m = float(np.linalg.norm(along)), float(np.linalg.norm(out))
    if not along_m > 1e-6 or not out_m >= MIN_SINE * along_m * float(np.linalg.norm(index - far)) or not out_m > 1e-9:
        return None
    x, z = (out if side == "right" else -out) / out_m, along / along_m
    return np.stack([x, np.cross(z, x), z], axis=1)
