"""Before the optimisation: put people where depth has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..body.ehm import EhmBody
from ..depth.scale import TrackBias, frame_scales, log_ratio, place_by_depth
from ..geometry.raster import Topology
from ..geometry.view import mesh_depth
from ..types import Array, Camera, HumanParams
from .frames import RefineFrame
from .gates import Observation, depth_kind
from .view import CORE_PROBABILITY


def place_people(frames: Sequence[RefineFrame], people: Sequence[HumanParams], body: EhmBody) -> list[HumanParams]:
    """Move each person along the viewing ray to the distance that the frame's depth shows.

    People of frames without depth, or where depth and body disagree too much, stay where they are.

    Args:
        frames: In order of time. people: One for each. body: To draw them with.
    """
    topology = Topology(body.faces)
    ratios, counts, roots = [], [], []
    for frame, person in zip(frames, people, strict=True):
        posed = body.pose_one(person)
        roots.append(posed.joints[0])
        ratio, count = np.nan, 0
        if frame.depth_m is not None:
            drawn = mesh_depth(posed.vertices, topology, Camera(frame.K, frame.image_hw))
            ratio, count = log_ratio(frame.depth_m, drawn, frame.mask > CORE_PROBABILITY)
        ratios.append(ratio)
        counts.append(count)
    placed = place_by_depth(
        np.stack([person.transl for person in people]), np.array(ratios), np.array(counts),
        np.array([frame.stamp_ns for frame in frames]) * 1e-9, root=np.stack(roots),
    )  # fmt: skip
    return [
        replace(person, transl=transl.astype(np.float32)) if moved else person
        for person, transl, moved in zip(people, placed.transl, placed.moved, strict=True)
    ]


class WindowDepth:
    """What depth says of one person's windows, and a source's persistent bias, which many windows tell.

    Args:
        mode: One of `depth.base.SCALE_MODES`.
    """

    def __init__(self, mode: str) -> None:
        self._mode, self._bias, self._newest_ns = mode, TrackBias(), 0

    def __call__(self, window: Sequence[Observation]) -> tuple[Array, Array]:
        """Return the factor for each frame's depth (T,), and the root's distance by depth (T,) [m], NaN if unknown."""
        factors, targets = no_depth(len(window))
        used = [i for i, o in enumerate(window) if o.has_depth]
        if not used:
            return factors, targets
        roots = np.stack([window[i].root for i in used])
        ratios, counts = np.array([window[i].ratio for i in used]), np.array([window[i].pixels for i in used])
        stamps = np.array([window[i].stamp_ns for i in used])
        t_s, source = (stamps - stamps[0]) * 1e-9, depth_kind(window[used[-1]].entry.depth_source)
        scales, bias = frame_scales(self._mode, source, roots[:, 2], ratios, t_s, counts=counts), 1.0
        if self._mode == "track":
            for at in np.flatnonzero(stamps > self._newest_ns):
                self._bias.add(float(roots[at, 2]), float(scales.root_z[at]))
            self._newest_ns, bias = stamps[-1], self._bias.value
            scales = frame_scales(self._mode, source, roots[:, 2], ratios, t_s, counts=counts, bias=bias)
        factors[used] = scales.factor
        if self._mode != "relative":
            placed = place_by_depth(roots, ratios + np.log(bias), counts, t_s)
            targets[used] = np.where(placed.moved, placed.transl[:, 2], np.nan)
        return factors, targets


def no_depth(frames: int) -> tuple[Array, Array]:
    """Return what `WindowDepth` does where depth is not used."""
    return np.ones(frames), np.full(frames, np.nan)
