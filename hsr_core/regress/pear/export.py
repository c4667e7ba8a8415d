"""PEAR as graphs with named inputs and outputs, for any runtime: what there is to export, and what to compare it on."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from ...body import EhmBody, load_body
from ...geometry.camera import invert_affine
from ...runtime.base import NetworkSpec
from ...runtime.exported import Exported
from ...sources import clip_camera, open_source
from ...types import Array, Frame
from ..crop import cut_rgb
from .camera import Crop, person_crop
from .checkpoint import load_network, network_hash
from .network import IMAGE_PX, PearNetwork
from .parameters_graph import ParametersGraph, parameters_spec
from .people_graph import PeopleGraph, lens_grid, people_inputs, people_spec

GRAPH_VERSION = 2
"""Goes up when the graphs around the network change: engines of another one are built anew."""
PARITY_TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 1e-1}
"""Largest absolute difference from torch fp32 that an engine may have, in any output (matrices, radians, metres)."""
PIXELS = 200
"""The same in pixels: what the tolerance of an output in metres is multiplied by (a person of 2 m over 400 px)."""
_SAMPLES = (
    (7, (1120, 477, 1337, 975)),
    (20, (927, 518, 1166, 944)),
    (57, (539, 513, 807, 944)),
    (80, (330, 513, 604, 973)),
    (100, (116, 524, 386, 968)),
)
"""Frame and box of the person in the bundled clip."""


class Networks:
    """A checkpoint's network, anew at each call; the first is the one that `hash` was taken of, so that a large file is
    neither read twice nor held twice where one will do.

    Attributes:
        hash: Of the weights, hexadecimal.

    Raises:
        MissingFile, BadFile: The checkpoint cannot be used.
    """

    def __init__(self, weights: str | Path, *, heads: int = 0, allow_extra: bool = False) -> None:
        self._load = partial(load_network, weights, heads=heads, allow_extra=allow_extra)
        self._first: PearNetwork | None = self._load()
        self.hash = network_hash(self._first)

    def __call__(self) -> PearNetwork:
        network, self._first = self._first or self._load(), None
        return network


def parameters_graph(networks: Networks, *, max_people: int = 1) -> Exported:
    """Crops in, parameters out."""
    spec = parameters_spec(max_people)
    name = f"{networks.hash[:32]}{GRAPH_VERSION:02x}"
    return Exported(lambda: ParametersGraph(networks()), spec, name, crop_samples, _tolerances(spec))


def people_graph(networks: Networks, body: EhmBody, *, max_people: int = 1) -> Exported:
    """A frame and places in it in, people in metres out, with vertices.

    Args:
        networks: The checkpoint.
        body: The open body gets its shape as an input, a licensed one takes the network's.
        max_people: Crops of one frame at once.
    """
    given_shape = body.family != "EHMS"
    betas = body.betas_for_height(1.7) if given_shape else None
    shape = {"own_betas": betas, "own_head_betas": body.head_betas_for(betas)} if given_shape else {}
    spec = people_spec(body.layer, given_shape=given_shape, max_people=max_people)
    return Exported(
        lambda: PeopleGraph(ParametersGraph(networks()), copy.deepcopy(body.layer), given_shape=given_shape),
        spec,
        hashlib.sha256(f"{networks.hash} {body.model_id} {GRAPH_VERSION}".encode()).hexdigest()[:34],
        lambda: tuple({**sample, **shape} for sample in frame_samples()),
        _tolerances(spec),
    )


def load_for_export(
    weights: str | Path, graph: str = "parameters", *, body_models: str = "", max_people: int = 1
) -> Exported:
    """Return a graph of a checkpoint, by its name in `config.GRAPHS`.

    Raises:
        MissingFile, BadFile: The checkpoint or the body models cannot be used.
    """
    if graph == "parameters":
        return parameters_graph(Networks(weights), max_people=max_people)
    return people_graph(Networks(weights), load_body(body_models), max_people=max_people)


def _tolerances(spec: NetworkSpec) -> dict[str, dict[str, float]]:
    return {
        precision: {tensor.name: limit * (PIXELS if tensor.name == "uv" else 1) for tensor in spec.outputs}
        for precision, limit in PARITY_TOLERANCE.items()
    }


@cache
def crop_samples() -> tuple[dict[str, Array], ...]:
    """Return real person crops: inputs of the parameters graph."""
    return tuple({"pixels": cut_rgb(frame, crop.A_crop_img, IMAGE_PX)[None]} for frame, crop in _sample_frames())


@cache
def frame_samples() -> tuple[dict[str, Array], ...]:
    """Return real frames with a person's place: inputs of the people graph, without a shape."""
    return tuple(
        people_inputs(frame, frame.camera, invert_affine(crop.A_crop_img)[None], lens_grid(frame.camera))
        for frame, crop in _sample_frames()
    )


def _sample_frames() -> list[tuple[Frame, Crop]]:
    boxes, samples = dict(_SAMPLES), []
    with open_source("clip", camera=clip_camera()) as frames:
        for frame in frames:
            if frame.index in boxes:
                kept = replace(frame, image=frame.image.copy())
                samples.append((kept, person_crop(np.array(boxes[frame.index], float), frame.image_hw)))
            if len(samples) == len(boxes):
                break
    return samples
