"""The colour of a person: the same in pictures, the web view and markers."""

from __future__ import annotations

import numpy as np

PERSON_RGB = np.array(
    [
        (126, 168, 214), (232, 152, 94), (132, 190, 120), (214, 118, 138),
        (164, 138, 206), (206, 184, 96), (104, 190, 186), (176, 150, 132),
    ],
    np.uint8,
)  # fmt: skip
"""Eight muted colours, told apart by people with red-green blindness by their lightness. (8, 3)."""


def person_rgb(track_id: int) -> tuple[int, int, int]:
    """Return the colour of a track: r, g, b in 0..255."""
    r, g, b = PERSON_RGB[track_id % len(PERSON_RGB)]
    return int(r), int(g), int(b)
