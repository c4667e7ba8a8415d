"""SAM 2 with a box and points for each image, through the package `sam2`: no memory, hence no drift and no growth.

Source:
    Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFile, MissingPackage
from ..geometry.view import BodyView, FrameView
from ..model_files import NetworkPlace
from ..types import Array
from .base import SHARP, MaskSettings, StatelessProvider
from .prompts import prompt_for
from .sam2_files import CHECKPOINT, CONFIGS

log = logging.getLogger(__name__)
INSTALL = "pip install sam2 (without its CUDA extension: SAM2_BUILD_CUDA=0)"


class Sam2Image(StatelessProvider):
    """One encoder pass an image, one decoder pass a person.

    Args:
        predictor: `SAM2ImagePredictor` or its like.
        device: Of the network.
    """

    name = "sam2_image"
    traits = SHARP

    def __init__(self, predictor: Any, device: str) -> None:
        self._predictor, self._device = predictor, device
        self._encoded: FrameView | None = None

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        others = [other for other in view.bodies if other is not body]
        prompt = prompt_for(body, others)
        if prompt is None:
            self.status = "the body is outside the image"
            return None
        with _precision(self._device):
            if view is not self._encoded:
                self._predictor.set_image(view.rgb)
                self._encoded = view
            logits, _, _ = self._predictor.predict(
                point_coords=prompt.points if len(prompt.points) else None,
                point_labels=prompt.labels if len(prompt.points) else None,
                box=prompt.box_xyxy,
                multimask_output=False,
                return_logits=True,
            )
        self.status = ""
        return sigmoid(logits[0])

    def reset(self) -> None:
        self._encoded = None

    def close(self) -> None:
        self._predictor = self._encoded = None


def sigmoid(logits: Array) -> Array:
    """Return probabilities, float32."""
    return (1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float32), -30, 30)))).astype(np.float32)


def _precision(device: str) -> Any:
    if not device.startswith("cuda"):
        return nullcontext()
    import torch

    return torch.autocast("cuda", dtype=torch.bfloat16)


def load_predictor(checkpoint: Path, device: str) -> Any:
    """Build the image predictor of a checkpoint; nobody is contacted.

    Raises:
        MissingPackage: `sam2` is not installed.
        BadFile: The checkpoint is damaged or of another version.
    """
    try:
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor
    except (ImportError, RuntimeError) as error:  # sam2 raises RuntimeError beside a clone of its repository
        raise MissingPackage(f"sam2 cannot be imported ({error}): {INSTALL}") from error
    try:
        model = build_sam2(CONFIGS[checkpoint.name], str(checkpoint), device=device)
    except Exception as error:  # torch, pickle, zip and hydra have their own classes
        raise BadFile(f"{checkpoint} cannot be loaded: {type(error).__name__} {error}") from error
    return SAM2ImagePredictor(model)


def create(settings: MaskSettings, *, place: NetworkPlace, **_: object) -> Sam2Image:
    """Factory for the registry.

    Raises:
        MissingFile, MissingPackage, BadFile, DeviceError: See `ModelFiles.require` and `load_predictor`.
    """
    (checkpoint,) = CHECKPOINT.require(place.folder)
    device = place.torch_device()
    if device == "cpu":
        log.warning("SAM 2 runs on the CPU: seconds for every image")
    return Sam2Image(load_predictor(checkpoint, device), device)
