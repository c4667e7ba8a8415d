"""What a viewer is given: frozen, CPU-only records. A newer one replaces an older one that was not drawn yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..body.joints import J
from ..types import Array, Camera, Frame, FrameResult, HumanEstimate, MetricSource

_LEG, _TRUNK = ("ankle", "knee", "hip"), ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
_STATURE = 0.286, 1.213, 0.616
"""Standing height = a + b leg + c trunk [m]: least squares over 60 random shapes of the open body, worst error 3 cm."""


@dataclass(frozen=True, eq=False)
class PersonView:
    """One person to draw.

    Attributes:
        track_id: Chooses the colour.
        joints: (55, 3) [m], camera frame.
        joint_score: (55,) 0 = not observed: drawn grey.
        vertices: (V, 3) [m], camera frame, or None for a skeleton alone.
        assumed: The distance rests on an assumed height.
    """

    track_id: int
    joints: Array
    joint_score: Array
    vertices: Array | None = None
    assumed: bool = False

    @property
    def distance_m(self) -> float:
        """Distance of the pelvis from the camera [m]."""
        return float(np.linalg.norm(self.joints[0]))

    @property
    def height_m(self) -> float:
        """Approximate standing height [m]: the bones' lengths do not depend on the pose."""
        leg = np.mean([self._length([f"{side}_{name}" for name in _LEG]) for side in ("left", "right")])
        return float(np.dot(_STATURE, (1.0, leg, self._length(_TRUNK))))

    def _length(self, names: Sequence[str]) -> float:
        chain = self.joints[[J[name] for name in names]]
        return float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())


@dataclass(frozen=True, eq=False)
class ViewSnapshot:
    """One moment to draw.

    Attributes:
        camera: The camera that saw it.
        people: Everybody seen.
        faces: (F, 3) triangles of the people's vertices, or None when they are unknown.
        image: What the camera saw: encoded JPEG or PNG, BGR uint8 (H, W, 3), or None to keep the last one.
        T_world_cam: (4, 4) pose of the optical frame in a world with z up, or None: the camera is taken as level
            and as high as the feet are below it.
    """

    camera: Camera
    people: tuple[PersonView, ...]
    faces: NDArray[np.integer] | None = None
    image: bytes | NDArray[np.uint8] | None = None
    T_world_cam: Array | None = None


@dataclass(frozen=True, eq=False)
class RobotView:
    """A robot's posture to draw.

    Attributes:
        T_root_part: (n, 4, 4) of its parts in the axes of its root, in the order in which the page was given them;
            None: it is not known now.
        label: What it is doing, for the line over its head.
        rows: A table for the panel; the first row is its head.
    """

    T_root_part: Array | None
    label: str = ""
    rows: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class ViewStats:
    """Numbers for the panel; NaN or -1 = unknown."""

    rate_hz: float = float("nan")
    latency_p50_ms: float = float("nan")
    latency_p99_ms: float = float("nan")
    received: int = -1
    processed: int = -1
    dropped: int = -1


def snapshot_of(
    frame: Frame,
    result: FrameResult,
    mesh_of: Callable[[HumanEstimate], Array | None] | None,
    faces: NDArray[np.integer] | None,
) -> ViewSnapshot:
    """Return the snapshot of a processed frame. Colour images only; `mesh_of` as in `draw_overlay`."""
    image = frame.image
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    image = image[..., 2::-1] if frame.order == "rgb" else image[..., :3]
    people = tuple(
        PersonView(
            track_id=person.track_id,
            joints=person.joints,
            joint_score=person.regression.joint_score,
            vertices=mesh_of(person) if mesh_of else None,
            assumed=person.regression.metric_source == MetricSource.ASSUMED_HEIGHT,
        )
        for person in result.people
    )
    return ViewSnapshot(result.camera, people, faces, image)
