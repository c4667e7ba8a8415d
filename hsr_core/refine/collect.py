"""From a recording to frames of one person: the regressor's estimate, a mask, and pixels without lens distortion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from ..errors import BadFrame
from ..geometry.camera import straightening
from ..geometry.raster import Topology
from ..geometry.view import BodyView, FrameView
from ..mask.select import MaskSelector
from ..sources.base import Source
from ..stream import HumanStream
from ..types import Array, Camera, Frame, HumanEstimate, TrackState
from .frames import RefineFrame


@dataclass
class Collected:
    """What a recording held of one person.

    Attributes:
        frames: Those that can be refined, in order of time. indices: Their places in the recording.
        track_id: Of the person. seen: Frames in which anybody was. refused: Masks that were rejected, by reason.
    """

    frames: list[RefineFrame] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    track_id: int | None = None
    seen: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def collect_person(
    source: Source,
    stream: HumanStream,
    masks: MaskSelector,
    *,
    every: int = 1,
    max_frames: int | None = None,
) -> Collected:
    """Follow the first primary person of a recording; frames without a usable mask are counted and left out.

    Args:
        source, stream, masks: Opened; the caller closes them.
        every: Keep each n-th frame; the stream sees all of them.
        max_frames: Kept at most.
    """
    out = Collected()
    topology = Topology(stream.body.faces)
    straighten = Straightener()
    for number, frame in enumerate(source):
        try:
            result = stream.process(frame)
        except BadFrame:
            continue
        person = _followed(result.people, out)
        if person is None:
            continue
        out.seen += 1
        if number % every:
            continue
        straight, camera = straighten(frame, result.camera)
        body = BodyView(
            person.track_id, stream.mesh(person), topology, camera, person.joints, person.keypoints2d,
            stream.settings.subject.height_m,
        )  # fmt: skip
        view = FrameView(straight, camera, (body,))
        found = masks.masks_for(view)
        if not found or not found[0].for_pose:
            reason = found[0].reason or "low quality" if found else "no mask"
            out.refused[reason] = out.refused.get(reason, 0) + 1
            continue
        image = view.rgb.astype(np.float32) / 255
        out.frames.append(
            RefineFrame(
                image, found[0].prob, straight.depth_m, camera.K, person.params, frame.stamp_ns, traits=found[0].traits
            )
        )
        out.indices.append(number)
        if len(out.frames) == max_frames:
            break
    return out


def _followed(people: tuple[HumanEstimate, ...], out: Collected) -> HumanEstimate | None:
    seen = [person for person in people if person.state in (TrackState.NEW, TrackState.TRACKED)]
    if out.track_id is None:
        first = next((person for person in seen if person.primary), None)
        out.track_id = None if first is None else first.track_id
    return next((person for person in seen if person.track_id == out.track_id), None)


class Straightener:
    """Removes lens distortion from frames, under the same K; the maps are made once for each camera."""

    def __init__(self) -> None:
        self._camera: Camera | None = None
        self._straight: Camera
        self._maps: tuple[Array, Array]

    def __call__(self, frame: Frame, camera: Camera) -> tuple[Frame, Camera]:
        """Return the frame and its camera without distortion; depth is picked, not averaged."""
        if not camera.distorted:
            return frame, camera
        if camera is not self._camera:
            self._camera = camera
            self._straight, self._maps = straightening(camera)
        image = cv2.remap(frame.image, *self._maps, cv2.INTER_LINEAR)
        depth = frame.depth_m
        if depth is not None:
            depth = cv2.remap(depth, *self._maps, cv2.INTER_NEAREST)
        return replace(frame, image=image, depth_m=depth, camera=self._straight), self._straight
