"""What the files of a model hold, read and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .flame_head import HeadPart
from .key_points import KeyPointFiles
from .smplx_body import SkinnedMesh


@dataclass(frozen=True, eq=False)
class EhmFiles:
    """A checked model: its two parts and what is known about them.

    Attributes:
        body, head: The parts.
        faces: (F, 3) int32 of the body.
        family, model_id, licence_note, surface_points: As in `BodyModel`.
        key_points: What `KeyPoints` reads, for licensed models.
    """

    body: SkinnedMesh
    head: HeadPart
    faces: NDArray[np.int32]
    family: str
    model_id: str
    licence_note: str
    surface_points: dict[str, int]
    key_points: KeyPointFiles | None = None

    @property
    def lengths(self) -> tuple[int, int, int, int]:
        """Numbers of coefficients, in the order of `COEFFICIENTS`."""
        parts = self.body.shapedirs, self.body.exprdirs, self.head.mesh.shapedirs, self.head.mesh.exprdirs
        return tuple(part.shape[2] for part in parts)
