"""Before the optimisation: put people where depth has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..body.ehm import EhmBody
from ..depth.scale import frame_scales, log_ratio, place_by_depth
from ..geometry.raster import Topology
from ..geometry.view import mesh_depth
from ..types import Array, Camera, HumanParams, MetricSource
from .frames import RefineFrame
from .gates import Observation, depth_kind
from .view import CORE_PROBABILITY


def place_people(
    frames: Sequence[RefineFrame], people: Sequence[HumanParams], body: EhmBody, *, smooth: bool = True
) -> list[HumanParams]:
    """Move each person along the viewing ray to the distance that the frame's depth shows.

    People of frames without depth, or where depth and body disagree too much, stay where they are.

    Args:
        frames: In order of time. people: One for each. body: To draw them with.
        smooth: Through neighbouring frames; False: each by itself.
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
        np.array([frame.stamp_ns for frame in frames]) * 1e-9, root=np.stack(roots), smooth=smooth,
    )  # fmt: skip
    return [
        replace(person, transl=transl.astype(np.float32)) if moved else person
        for person, transl, moved in zip(people, placed.transl, placed.moved, strict=True)
    ]


def window_depth(window: Sequence[Observation]) -> tuple[Array, Array]:
    """Return the factor for each frame's depth (T,), and the root's distance by depth (T,) [m], NaN where unknown."""
    factors, targets = no_depth(len(window))
    used = [i for i, o in enumerate(window) if o.has_depth]
    if not used:
        return factors, targets
    roots = np.stack([window[i].root for i in used])
    ratios, counts = np.array([window[i].ratio for i in used]), np.array([window[i].pixels for i in used])
    t_s = np.array([window[i].stamp_ns - window[0].stamp_ns for i in used]) * 1e-9
    placed = place_by_depth(roots, ratios, counts, t_s)
    targets[used] = np.where(placed.moved, placed.transl[:, 2], np.nan)
    if depth_kind(window[used[-1]].entry.depth_source) is MetricSource.MONO_DEPTH:
        scales = frame_scales("auto", MetricSource.MONO_DEPTH, roots[:, 2], ratios, t_s, counts=counts)
        factors[used] = scales.factor
    return factors, targets


def no_depth(frames: int) -> tuple[Array, Array]:
    """Return what `window_depth` does where depth is not used."""
    return np.ones(frames), np.full(frames, np.nan)
