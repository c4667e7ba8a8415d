"""Recorded people: what a run published, or the truth of a synthetic recording."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..body.joints import N_JOINTS
from ..errors import BadFile, InvalidIntrinsics, SourceError
from ..messages import human_params_from_msg, stamp_to_ns
from ..types import (
    Array,
    Camera,
    EstimateSource,
    HumanParams,
    IntrinsicsSource,
    MetricSource,
    Part,
    TrackState,
)
from .bag_reader import BagReader
from .base import Closing

PEOPLE = "hsr_msgs/msg/HumanArray"
DEFAULT_TOPIC = "/human/people"


@dataclass(frozen=True, eq=False)
class RecordedPerson:
    """One person of one recorded message; lengths in metres, in the message's frame.

    Attributes:
        track_id, letters, state, primary, score, metric_source, depth_sigma_m, parts: As published.
        params: Parts that were not seen are at rest.
        joints: (55, 3) [m], names in `hsr_core.body.joints.JOINT_NAMES`.
        joint_quats_xyzw: (55, 4), joint to the message's frame.
        joint_score: (55,).
        keypoints2d: (55, 3) u, v [px], score.
        bbox_xyxy: (4,) [px].
    """

    track_id: int
    letters: str
    state: TrackState
    primary: bool
    score: float
    metric_source: MetricSource
    depth_sigma_m: float
    parts: Part
    params: HumanParams
    joints: Array
    joint_quats_xyzw: Array
    joint_score: Array
    keypoints2d: Array
    bbox_xyxy: Array


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """Everybody of one recorded message.

    Attributes:
        stamp_ns: Of the image. receive_ns: When the recorder got the message.
        frame_id: Frame of `people`.
        seq: Number of the processed frame.
        source: What kind of estimate.
        camera: Intrinsics that were used, without distortion; None when the message has none.
        model_id: Key of the body model.
        world_frame: The world of `T_world_cam` (4, 4); "" and None when the pose in the world is unknown.
        people: Empty = nobody was there.
    """

    stamp_ns: int
    receive_ns: int
    frame_id: str
    seq: int
    source: EstimateSource
    camera: Camera | None
    model_id: str
    world_frame: str
    T_world_cam: Array | None
    people: tuple[RecordedPerson, ...]


class RecordedPeople(Closing):
    """The people messages of a recording, in the order in which they were received, read as they are asked for.

    Attributes:
        topic: The topic that is read.
        count: How many messages it has.
        skipped: Messages so far that could not be read; `last_error` says why.
        truncated: The recording is damaged; everything before the damage is given.

    Raises:
        SourceError: No bag, no such topic, or several to choose from; the message lists them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        topic: str | None = None,
        *,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> None:
        self._reader = BagReader(path)
        self._span = start_ns, stop_ns
        self.skipped, self.last_error = 0, ""
        try:
            self.topic = self._choose(topic)
        except BaseException:
            self._reader.close()
            raise
        self.count = self._reader.topics[self.topic].count

    @property
    def truncated(self) -> bool:
        return self._reader.truncated

    def __iter__(self) -> Iterator[RecordedFrame]:
        for _, receive_ns, data in self._reader.messages([self.topic], *self._span):
            try:
                yield _frame(self._reader.decode(self.topic, data), receive_ns)
            except (BadFile, ValueError, AttributeError) as error:  # damaged, or of another version of the message
                self.skipped, self.last_error = self.skipped + 1, str(error)

    def close(self) -> None:
        self._reader.close()

    def _choose(self, topic: str | None) -> str:
        reader = self._reader
        found = [name for name, entry in reader.topics.items() if entry.kind == PEOPLE]
        if topic is None and DEFAULT_TOPIC in found:
            return DEFAULT_TOPIC
        if topic is None and len(found) == 1:
            return found[0]
        if topic is not None and topic in found:
            return topic
        if topic is not None:
            kind = reader.topics[topic].kind if topic in reader.topics else ""
            wrong = f"{topic} is of type {kind}, not {PEOPLE}" if kind else f"no topic {topic}"
        else:
            wrong = "choose a topic" if found else "no recorded people"
        raise SourceError(f"{reader.name}: {wrong}; it has: {reader.describe_topics(*([PEOPLE] if found else []))}")


def read_people(
    path: str | os.PathLike[str],
    topic: str | None = None,
    *,
    start_ns: int | None = None,
    stop_ns: int | None = None,
) -> RecordedPeople:
    """Open the recorded people of a bag: iterate over them, and close it.

    Args:
        path: Folder of the bag, or a single .mcap or .db3 file.
        topic: Such as /human/refined/people or /synth/truth; None = /human/people, else the only one of its type.
        start_ns, stop_ns: Part of the recording, by time of receipt.

    Raises:
        MissingPackage: `rosbags` is not installed.
        SourceError: No bag, no such topic, or several to choose from; the message lists them.
    """
    return RecordedPeople(path, topic, start_ns=start_ns, stop_ns=stop_ns)


def _frame(msg: Any, receive_ns: int) -> RecordedFrame:
    return RecordedFrame(
        stamp_ns=stamp_to_ns(msg.header.stamp),
        receive_ns=receive_ns,
        frame_id=msg.header.frame_id,
        seq=msg.seq,
        source=EstimateSource(msg.source),
        camera=_camera(msg),
        model_id=msg.model_id,
        world_frame=msg.world_frame,
        T_world_cam=_pose(msg.t_world_cam) if msg.world_frame else None,
        people=tuple(map(_person, msg.humans)),
    )


def _camera(msg: Any) -> Camera | None:
    try:
        source = IntrinsicsSource(msg.intrinsics_source)
        return Camera(
            np.array(msg.k, np.float64).reshape(3, 3),
            (msg.image_height, msg.image_width),
            source=source,
            frame_id=msg.header.frame_id,
        )
    except (InvalidIntrinsics, ValueError):
        return None


def _pose(t_world_cam: Array) -> Array:
    """Return x y z qx qy qz qw as a matrix."""
    values = np.array(t_world_cam, np.float64)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(values[3:]).as_matrix(), values[:3]
    return T


def _person(msg: Any) -> RecordedPerson:
    return RecordedPerson(
        track_id=msg.track_id,
        letters=msg.id,
        state=TrackState(msg.state),
        primary=bool(msg.primary),
        score=float(msg.confidence),
        metric_source=MetricSource(msg.metric_source),
        depth_sigma_m=float(msg.depth_sigma_m),
        parts=Part(msg.parts),
        params=human_params_from_msg(msg),
        joints=np.array(msg.joints, np.float32).reshape(N_JOINTS, 3),
        joint_quats_xyzw=np.array(msg.joint_quats_xyzw, np.float32).reshape(N_JOINTS, 4),
        joint_score=np.array(msg.joint_score, np.float32),
        keypoints2d=np.array(msg.keypoints2d, np.float32).reshape(N_JOINTS, 3),
        bbox_xyxy=np.array(msg.bbox_xyxy, np.float32),
    )
