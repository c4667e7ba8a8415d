"""SAM 2 with memory, through the streaming sessions of `transformers`.

A session keeps every image and output it has seen; what is older than the model ever reads is deleted here, and the
session is opened afresh every `session_frames`, from the last good masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadFile, MissingPackage
from ..geometry.view import BodyView, FrameView
from ..model_files import NetworkPlace
from ..types import Array
from .base import SHARP, SURE, MaskSettings
from .prompts import prompt_for
from .sam2_files import FOLDER
from .sam2_image import sigmoid

INSTALL = 'pip install "transformers>=4.56" torchvision'
KEPT_FRAMES = 16
"""The model reads six memories and sixteen object pointers; older outputs are of no use."""


class Sam2Video:
    """Follows all bodies in one session. New people, lost ones and old age begin another.

    Args:
        model, processor: `Sam2VideoModel` and `Sam2VideoProcessor`, or their like.
        device: Of the model.
        session_frames: Length of a session.

    Attributes:
        sessions: How many have been opened.
    """

    name = "sam2_video"
    traits = SHARP

    def __init__(self, model: Any, processor: Any, device: str, session_frames: int) -> None:
        self._model, self._processor, self._device = model, processor, device
        self._session_frames = session_frames
        self._session: Any = None
        self._ids: tuple[int, ...] = ()
        self._frame = 0
        self._lost: set[int] = set()
        self._view: FrameView | None = None
        self._probs: dict[int, Array] = {}
        self.status = ""
        self.sessions = 0

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        if view is not self._view:
            last, self._probs = self._probs, {}
            self._view = view
            self._probs = self._advance(view, last)
        return self._probs.get(body.track_id)

    def lost(self, track_id: int) -> None:
        """Begin another session, in which this person is prompted by their body."""
        self._lost.add(track_id)

    def reset(self) -> None:
        self._session, self._view, self._probs = None, None, {}
        self._lost.clear()

    def close(self) -> None:
        self.reset()
        self._model = self._processor = None

    def _advance(self, view: FrameView, last: dict[int, Array]) -> dict[int, Array]:
        """Return all bodies' masks in a new image."""
        bodies = {body.track_id: body for body in view.bodies if body.mask.any()}
        if not bodies:
            self._session = None
            self.status = "nobody is in the image"
            return {}
        ids = tuple(sorted(bodies))
        afresh = self._session is None or ids != self._ids or self._frame >= self._session_frames or self._lost
        inputs = self._processor(images=view.rgb, return_tensors="pt")
        size = tuple(int(side) for side in inputs["original_sizes"][0])
        if afresh:
            self._open(bodies, size, {i: m for i, m in last.items() if i not in self._lost})
        pixels = inputs["pixel_values"][0].to(self._device)
        out = self._model(inference_session=self._session, frame=pixels, frame_idx=self._frame)
        self._forget()
        self._frame += 1
        logits = self._processor.post_process_masks([out.pred_masks], original_sizes=[size], binarize=False)[0]
        self.status = ""
        return {int(i): sigmoid(mask[0].float().cpu().numpy()) for i, mask in zip(out.object_ids, logits, strict=True)}

    def _open(self, bodies: dict[int, BodyView], size: Any, last: dict[int, Array]) -> None:
        """Begin a session at this image: by the last mask where it was good, else by box and points."""
        self._session = self._processor.init_video_session(inference_device=self._device)
        self._ids, self._frame = tuple(sorted(bodies)), 0
        self._lost.clear()
        self.sessions += 1
        for track_id in self._ids:
            body = bodies[track_id]
            common = {"inference_session": self._session, "frame_idx": 0, "obj_ids": track_id, "original_size": size}
            mask = last.get(track_id)
            if mask is not None and (mask > SURE).any():
                self._processor.add_inputs_to_inference_session(input_masks=[mask > SURE], **common)
                continue
            prompt = prompt_for(body, [other for other in bodies.values() if other is not body])
            points = {}
            if len(prompt.points):
                points = {
                    "input_points": [[prompt.points.tolist()]],
                    "input_labels": [[prompt.labels.tolist()]],
                }
            self._processor.add_inputs_to_inference_session(
                input_boxes=[[prompt.box_xyxy.tolist()]], **points, **common
            )
        # Each call names only its own object as new; without the others' names they would have nothing to start from.
        self._session.obj_with_new_inputs = list(self._ids)

    def _forget(self) -> None:
        """Delete what the model does not read again: this image, and outputs older than its memory."""
        self._session.processed_frames.pop(self._frame, None)
        for outputs in self._session.output_dict_per_obj.values():
            outputs["non_cond_frame_outputs"].pop(self._frame - KEPT_FRAMES, None)


def load_model(folder: Path, device: str) -> tuple[Any, Any]:
    """Load model and processor from a local folder; nobody is contacted.

    Raises:
        MissingPackage: `transformers` with SAM 2 is not installed.
        BadFile: The folder does not hold the model.
    """
    try:
        from transformers import Sam2VideoModel, Sam2VideoProcessor
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(f"SAM 2 video needs transformers ({error}): {INSTALL}") from error
    try:
        processor, model = (
            load(str(folder), local_files_only=True)
            for load in (Sam2VideoProcessor.from_pretrained, Sam2VideoModel.from_pretrained)
        )
    except Exception as error:  # missing and damaged files have many classes there
        raise BadFile(f"{folder} does not load as SAM 2 video: {type(error).__name__} {error}") from error
    return model.eval().to(device), processor


def create(settings: MaskSettings, *, place: NetworkPlace, **_: object) -> Sam2Video:
    """Factory for the registry.

    Raises:
        MissingFile, MissingPackage, BadFile, DeviceError: See `ModelFiles.require` and `load_model`.
    """
    folder = FOLDER.require(place.folder)[0].parent
    device = place.torch_device()
    return Sam2Video(*load_model(folder, device), device, settings.session_frames)
