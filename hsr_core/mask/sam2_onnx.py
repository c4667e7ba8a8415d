"""SAM 2 as two ONNX files that the user exported, image encoder and mask decoder: no torch package of the project.

The files are those of common exporters: inputs and outputs by the names of `ENCODER` and `DECODER`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import BadFile, DeviceError
from ..geometry.view import BodyView, FrameView
from ..model_files import NetworkPlace
from ..runtime.base import Runtime
from ..runtime.image_input import resize_rgb, write_normalised
from ..runtime.onnx_file import check_shapes, open_onnx, output_shapes, read_shapes
from ..types import Array
from .base import SHARP, MaskSettings, StatelessProvider
from .prompts import MAX_POINTS, Prompt, prompt_for
from .sam2_files import ONNX
from .sam2_image import sigmoid

SIDE = 1024
ENCODER_OUTPUTS = {
    "high_res_feats_0": (1, 32, 256, 256),
    "high_res_feats_1": (1, 64, 128, 128),
    "image_embed": (1, 256, 64, 64),
}
POINTS = MAX_POINTS + 2
"""The box goes in as two corners."""
DECODER_INPUTS = {
    "image_embed": (1, 256, 64, 64),
    "high_res_feats_0": (1, 32, 256, 256),
    "high_res_feats_1": (1, 64, 128, 128),
    "point_coords": (1, POINTS, 2),
    "point_labels": (1, POINTS),
    "mask_input": (1, 1, 256, 256),
    "has_mask_input": (1,),
}
_TOP_LEFT, _BOTTOM_RIGHT, _UNUSED = 2, 3, -1
"""Labels of SAM: corners of a box, and no point."""


class Sam2Onnx(StatelessProvider):
    """One encoder pass an image, one decoder pass a person.

    Args:
        encoder, decoder: Runtimes with the inputs and outputs of this module.
    """

    name = "sam2_onnx"
    traits = SHARP

    def __init__(self, encoder: Runtime, decoder: Runtime) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._image = np.zeros((1, 3, SIDE, SIDE), np.float32)
        self._inputs = {name: np.zeros(shape, np.float32) for name, shape in DECODER_INPUTS.items()}
        self._encoded: FrameView | None = None

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        prompt = prompt_for(body, [other for other in view.bodies if other is not body])
        if prompt is None:
            self.status = "the body is outside the image"
            return None
        if view is not self._encoded:
            write_normalised(resize_rgb(view.rgb, (SIDE, SIDE)), self._image[0])
            self._inputs.update(self._encoder({"image": self._image}))
            self._encoded = view
        height, width = view.camera.image_hw
        self._set_prompt(prompt, np.array([SIDE / width, SIDE / height], np.float32))
        out = self._decoder(self._inputs)
        best = int(np.argmax(out["iou_predictions"].reshape(-1)))
        logits = out["masks"].reshape(-1, *out["masks"].shape[-2:])[best]
        self.status = ""
        return sigmoid(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR))

    def reset(self) -> None:
        self._encoded = None

    def close(self) -> None:
        self._encoder.close()
        self._decoder.close()

    def _set_prompt(self, prompt: Prompt, scale: Array) -> None:
        coords, labels = self._inputs["point_coords"][0], self._inputs["point_labels"][0]
        coords[:], labels[:] = 0, _UNUSED
        coords[:2] = prompt.box_xyxy.reshape(2, 2) * scale
        labels[:2] = _TOP_LEFT, _BOTTOM_RIGHT
        count = len(prompt.points)
        coords[2 : 2 + count] = (prompt.points + 0.5) * scale
        labels[2 : 2 + count] = prompt.labels


def open_networks(encoder: Path, decoder: Path, place: NetworkPlace) -> tuple[Runtime, Runtime]:
    """Check both files and return runtimes for them.

    Raises:
        BadFile: Other inputs or outputs; the message says what is expected.
        ConfigError, DeviceError, MissingPackage: See `open_onnx`.
    """
    image = {"image": (1, 3, SIDE, SIDE)}
    found_in, found_out = read_shapes(encoder)
    check_shapes(encoder, found_in, {"image": (None, 3, SIDE, SIDE)}, "inputs")
    check_shapes(encoder, found_out, ENCODER_OUTPUTS, "outputs")
    found_in, found_out = read_shapes(decoder)
    check_shapes(decoder, found_in, {n: (None, *s[1:]) for n, s in DECODER_INPUTS.items()}, "inputs")
    if not {"masks", "iou_predictions"} <= found_out.keys():
        raise BadFile(f"{decoder}: outputs are {', '.join(found_out)}; expected masks and iou_predictions")
    try:
        shapes = output_shapes(decoder, DECODER_INPUTS)
    except DeviceError as error:
        raise BadFile(f"{decoder} does not run with {POINTS} points: {error}") from error
    first = open_onnx(encoder, image, ENCODER_OUTPUTS, engine=place.engine, device=place.device)
    return first, open_onnx(decoder, DECODER_INPUTS, shapes, engine=place.engine, device=place.device)


def create(settings: MaskSettings, *, place: NetworkPlace, **_: object) -> Sam2Onnx:
    """Factory for the registry.

    Raises:
        MissingFile, BadFile, MissingPackage: See `ModelFiles.require` and `open_networks`.
    """
    return Sam2Onnx(*open_networks(*ONNX.require(place.folder), place))
