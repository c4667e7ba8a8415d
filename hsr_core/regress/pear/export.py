"""PEAR as a network with named inputs and outputs, for any runtime.

| tensor | shape | what |
|---|---|---|
| in `pixels` | uint8 (B, 256, 256, 3) | RGB person crops |
| out, by the names of `decode.Decoded` | float32 | rotation matrices, coefficients, camera |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.base import Batch, NetworkSpec, TensorSpec
from ...sources import open_source
from ..crop import cut_rgb
from .camera import person_crop
from .checkpoint import load_network, network_hash
from .decode import N_ROTATIONS, Decoded, decode
from .network import IMAGE_PX, PearNetwork

MAX_PEOPLE = 1
"""Crops at once: one person is followed."""
GRAPH_VERSION = 1
"""Goes up when the graph around the network changes: engines of another one are built anew."""
SPEC = NetworkSpec(
    inputs=(TensorSpec("pixels", (None, IMAGE_PX, IMAGE_PX, 3), "uint8"),),
    outputs=(
        TensorSpec("rotmats", (None, N_ROTATIONS, 3, 3)),
        TensorSpec("head_scale", (None, 3)),
        TensorSpec("betas", (None, 200)),
        TensorSpec("expression", (None, 50)),
        TensorSpec("head_betas", (None, 300)),
        TensorSpec("head_expression", (None, 50)),
        TensorSpec("jaw_pose", (None, 3)),
        TensorSpec("eye_pose", (None, 2, 3)),
        TensorSpec("eyelids", (None, 2)),
        TensorSpec("camera", (None, 3)),
    ),
    batch=Batch(1, 1, MAX_PEOPLE),
    half_modules=("network.backbone",),  # rotations, shapes and the camera need float32, and cost nothing
    turing_half_modules=("network",),  # TensorRT for RTX has no float32 matrix product there
)


PARITY_TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 2e-2, "bf16": 1e-1}
"""Largest absolute difference from torch fp32 that an engine may have, in any output (matrices, radians, metres)."""
_SAMPLES = ((20, (927, 518, 1166, 944)), (57, (539, 513, 807, 944)), (100, (116, 524, 386, 968)))
"""Frame and box of the person in the bundled clip."""


class PearGraph(nn.Module):
    """uint8 crops (B, 256, 256, 3) to `Decoded`: what is exported."""

    def __init__(self, network: PearNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Decoded:
        return decode(self.network(pixels.permute(0, 3, 1, 2).float() / 255))


def graph_hash(network: PearNetwork) -> str:
    """Return a name for the graph with these weights, in hexadecimal."""
    return f"{network_hash(network)[:32]}{GRAPH_VERSION:02x}"


def sample_crops() -> tuple[dict[str, NDArray[np.uint8]], ...]:
    """Return real person crops as inputs to compare engines on."""
    boxes, samples = dict(_SAMPLES), []
    with open_source("clip") as frames:
        for frame in frames:
            if frame.index in boxes:
                crop = person_crop(np.array(boxes[frame.index], float), frame.image_hw)
                samples.append({"pixels": cut_rgb(frame, crop.A_crop_img, IMAGE_PX)[None]})
    return tuple(samples)


def load_for_export(weights: str | Path) -> tuple[PearGraph, NetworkSpec, str]:
    """Return the graph of a checkpoint, its tensors, and its hash.

    Raises:
        MissingFile, BadFile: The checkpoint cannot be used.
    """
    network = load_network(weights)
    return PearGraph(network), SPEC, graph_hash(network)
