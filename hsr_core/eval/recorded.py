"""People as they were published and recorded, to be scored without running anything again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from ..body.ehm import EhmBody
from ..datasets.base import ReferencePerson
from ..errors import SourceError
from ..sources.bag_people import RecordedFrame, RecordedPerson, read_people
from ..sources.bag_reader import BagReader
from ..types import Array, Camera, TrackState
from .recordings import RecordedTruth, Recording, nominal_fps, reference_topic
from .scoring import Prediction

SEEN = (TrackState.NEW, TrackState.TRACKED)
_PEEKED = 12


@dataclass(frozen=True, eq=False)
class RecordedScene:
    """Everybody of one moment, as published and as they were.

    Attributes:
        people: Who was seen. reference: The truth of the moment; empty where none was recorded.
        camera: Intrinsics of the message. T_world_cam: (4, 4) or None.
    """

    stamp_ns: int
    people: list[Prediction]
    reference: tuple[ReferencePerson, ...]
    camera: Camera
    T_world_cam: Array | None


@dataclass(eq=False)
class RecordedRun:
    """Attributes:
    scenes: In order of time. fps: Of the messages. has_reference: Whether there is truth in the bag.
    model_id: Body model of the messages.
    source: Counts what could not be read. without_camera: Messages so far that no image can be told of.
    """

    scenes: Iterator[RecordedScene]
    fps: float
    has_reference: bool
    model_id: str
    source: Any
    without_camera: Counter[str]

    def problems(self) -> dict[str, Any]:
        found = {"skipped_messages": self.source.skipped, "truncated": self.source.truncated, **self.without_camera}
        return {name: value for name, value in found.items() if value}


@contextmanager
def open_recorded(recording: Recording, body: EhmBody) -> Iterator[RecordedRun]:
    """Open the people of a bag.

    Args:
        body: Poses people whose messages are of its model; others have no vertices.

    Raises:
        SourceError: No bag, no such topic, or no message with a camera.
    """
    with ExitStack() as stack:
        source = stack.enter_context(read_people(recording.path, recording.people))
        with BagReader(recording.path) as reader:
            topic = reference_topic(recording, reader.topics)
        truth = stack.enter_context(RecordedTruth(recording.path, topic, None)) if topic else None
        without_camera: Counter[str] = Counter()
        frames = _with_camera(source, without_camera)
        first = list(islice(frames, _PEEKED))
        if not first:
            raise SourceError(f"{recording.path}: no message on {recording.people} has people with a camera")
        steps = np.diff([frame.stamp_ns for frame in first])
        fps = nominal_fps(1e9 / float(np.median(steps[steps > 0]))) if (steps > 0).any() else 30.0
        scenes = (_scene(frame, truth, body) for frame in chain(first, frames))
        yield RecordedRun(scenes, fps, truth is not None, first[0].model_id, source, without_camera)


def _with_camera(frames: Iterable[RecordedFrame], without: Counter[str]) -> Iterator[RecordedFrame]:
    for frame in frames:
        if frame.camera is None:
            without["messages_without_camera"] += 1
        else:
            yield frame


def _scene(frame: RecordedFrame, truth: RecordedTruth | None, body: EhmBody) -> RecordedScene:
    assert frame.camera is not None
    known = body if frame.model_id == body.model_id else None
    people = [_prediction(person, known) for person in frame.people if person.state in SEEN]
    reference, T_world_cam = truth.people(frame.stamp_ns) if truth else ((), None)
    return RecordedScene(frame.stamp_ns, people, reference, frame.camera, T_world_cam)


def _prediction(person: RecordedPerson, body: EhmBody | None) -> Prediction:
    vertices = None if body is None else lambda: body.pose_one(person.params).vertices
    return Prediction(
        person.track_id, person.primary, person.score, person.state.name, person.joints, person.keypoints2d[:, :2],
        vertices,
    )  # fmt: skip
