"""The colour of a person: the same in pictures, the web view and markers."""

from __future__ import annotations

import numpy as np

PERSON_RGB = np.array(
    [
        (104, 190, 186), (126, 168, 214), (220, 172, 66), (132, 190, 120),
        (214, 118, 138), (164, 138, 206), (158, 168, 180), (206, 196, 120),
    ],
    np.uint8,
)  # fmt: skip
"""Eight muted colours, none of them like skin: a bare body in skin colour looks undressed. (8, 3)."""


def person_rgb(track_id: int) -> tuple[int, int, int]:
    """Return the colour of a track: r, g, b in 0..255."""
    r, g, b = PERSON_RGB[track_id % len(PERSON_RGB)]
    return int(r), int(g), int(b)
