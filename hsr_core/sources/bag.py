"""Frames out of a rosbag2 recording, chosen as the perception node chooses them, without ROS."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..depth.compressed import CompressedDepth, depth_from_msg
from ..depth.decode import UNITS, to_metres
from ..errors import BadFile, BadFrame, InvalidIntrinsics, SourceError
from ..image_messages import compressed_to_frame, image_to_frame
from ..input_rules import OneCamera, StampRules, Verdict
from ..messages import camera_from_info, stamp_to_ns
from ..pairing import StampRing
from ..types import Array, Camera, Frame
from .bag_reader import BagReader
from .base import CameraLike, Closing, camera_for

log = logging.getLogger(__name__)

RAW, COMPRESSED, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
WAIT_FOR_INFO_NS = 2_000_000_000
"""The first images of a camera wait so long for its intrinsics, as they do in the node."""
WAIT_FOR_DEPTH_NS = 200_000_000
"""A depth image may have been received so much later than its image."""
MAX_WAITING = 128
"""Images held at once, whatever they wait for."""
PEEKED = 12
"""Images whose stamps give the frame rate."""
FEW_INFOS = 64
"""So many camera infos in a recording or fewer: each of them counts until the next one."""
NEWEST_INFO_BYTES = 12
"""Encapsulation header and stamp: what differs between two messages of the same camera."""


@dataclass
class BagDiagnosis:
    """What was found while the frames of a recording were read; all counts are of images unless said.

    Attributes:
        image_topic, camera_info_topic, depth_topic: What was read; "" = there is none.
        unindexed: The recording has no usable index or metadata and was read from end to end.
        truncated: The recording is damaged; everything before the damage was read.
        damage: What is wrong with it, in words.
        raw_and_compressed: The same camera was recorded both ways; only one of them is read.
        frames: Frames given.
        encodings: How many images of each encoding (raw) or format (compressed).
        undecodable: Skipped: unknown encoding, impossible size, data that is too short or no picture.
        duplicate_stamps: Skipped: the stamp of the frame before.
        stamps_back: Skipped: older than the frame before.
        jumps: Stamps went back for good (a recording that was played in a loop); frames go on from there.
        gaps: Pauses of more than half a second in the stamps.
        zero_stamps: Images without a stamp; they have the time of receipt.
        other_cameras: Skipped: another frame_id or size than that of the camera in use.
        no_camera: Frames without intrinsics.
        camera_infos_refused: Camera infos with impossible values.
        depth_unpaired: Frames for which there is no depth image near enough in time.
        depth_refused: Depth images of another size or frame than their image, of another encoding or too short.
        last_error: Of what was undecodable or refused, in words.
    """

    image_topic: str = ""
    camera_info_topic: str = ""
    depth_topic: str = ""
    unindexed: bool = False
    truncated: bool = False
    damage: str = ""
    raw_and_compressed: bool = False
    frames: int = 0
    encodings: Counter[str] = field(default_factory=Counter)
    undecodable: int = 0
    duplicate_stamps: int = 0
    stamps_back: int = 0
    jumps: int = 0
    gaps: int = 0
    zero_stamps: int = 0
    other_cameras: int = 0
    no_camera: int = 0
    camera_infos_refused: int = 0
    depth_unpaired: int = 0
    depth_refused: int = 0
    last_error: str = ""

    @property
    def skipped(self) -> int:
        """Images that gave no frame."""
        return self.undecodable + self.duplicate_stamps + self.stamps_back + self.other_cameras

    @property
    def mixed_encodings(self) -> bool:
        return len(self.encodings) > 1

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "encodings": dict(self.encodings), "mixed_encodings": self.mixed_encodings}

    def problems(self) -> dict[str, Any]:
        """Return what is not as it should be, by name; empty for a sound recording."""
        fine = {"image_topic", "camera_info_topic", "depth_topic", "frames", "encodings"}
        return {name: value for name, value in self.as_dict().items() if name not in fine and value}


class BagSource(Closing):
    """The images of one camera of a recording, with their intrinsics and, where there is one, their depth image.

    Images are taken by the rules of the perception node: one camera, stamps that rise, intrinsics by frame_id. Nothing
    is held but what waits for its depth or for the first camera info.

    Args:
        path: Folder of the bag, or a single .mcap or .db3 file.
        camera: Intrinsics to use instead of the recorded ones.
        image_topic: Raw or compressed images; None = the only image topic with a camera info beside it, else the only
            image topic.
        camera_info_topic: None = `camera_info` beside the image topic, if recorded; "" = none.
        depth_topic: 16UC1 [mm] or 32FC1 [m], raw or compressedDepth, registered to the image; None = the only one with
            a camera info beside it, if any; "" = none.
        start_ns, stop_ns: Part of the recording, by time of receipt. A camera info from before it counts in it.
        max_depth_offset_s: Most time between an image and its depth image [s].

    Attributes:
        diagnosis: What was found so far.
        reader: The recording itself.
        start_ns, stop_ns: As given.
        received_ns: When the image of the frame that was given last was received.

    Raises:
        MissingPackage: `rosbags` is not installed.
        SourceError: No bag, no usable images in it, or several topics to choose from; the message lists what there is.
        InvalidIntrinsics: `camera` is for another picture.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        camera: CameraLike = None,
        image_topic: str | None = None,
        camera_info_topic: str | None = None,
        depth_topic: str | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
        max_depth_offset_s: float = 0.015,
    ) -> None:
        self.name = str(path)
        self.reader = BagReader(path)
        try:
            found = self.diagnosis = BagDiagnosis(unindexed=self.reader.unindexed)
            topics = _Topics(self.reader)
            found.image_topic = topics.image(image_topic)
            found.camera_info_topic = topics.info(found.image_topic, camera_info_topic)
            found.depth_topic = topics.depth(depth_topic)
            found.raw_and_compressed = topics.both_ways(found.image_topic)
            self._given, self._max_offset_s = camera, max_depth_offset_s
            self.start_ns, self.stop_ns = start_ns, stop_ns
            self.received_ns = 0
            self._peek()
        except BaseException:
            self.reader.close()
            raise

    @property
    def skipped(self) -> int:
        return self.diagnosis.skipped

    @property
    def truncated(self) -> bool:
        return self.reader.truncated

    def __iter__(self) -> Iterator[Frame]:
        found = self.diagnosis
        assembly = _Assembly(self.reader, found, self._given, self._max_offset_s)
        wanted = [topic for topic in (found.image_topic, found.camera_info_topic, found.depth_topic) if topic]
        for data in self._earlier_infos():
            assembly.put_info(data)
        for topic, receive_ns, data in self.reader.messages(wanted, self.start_ns, self.stop_ns):
            for self.received_ns, frame in assembly.put(topic, receive_ns, data):
                yield frame
        for self.received_ns, frame in assembly.flush():
            yield frame
        found.truncated, found.damage = self.reader.truncated, self.reader.damage
        if problems := found.problems():
            log.warning("%s: %s", self.name, ", ".join(f"{name} {value}" for name, value in problems.items()))

    def close(self) -> None:
        self.reader.close()

    def _earlier_infos(self) -> Iterator[bytes]:
        """Yield camera infos from before the part: drivers that latch them send one, at the start."""
        topic = self.diagnosis.camera_info_topic
        if self.start_ns is None or not topic:
            return
        few = self.reader.topics[topic].count <= FEW_INFOS
        for _, _, data in self.reader.messages([topic], None, self.start_ns):
            yield data
            if not few:  # then the next one is near
                return

    def _peek(self) -> None:
        """Learn size and rate from the first images, which also refuses a recording without a usable one."""
        topic = self.diagnosis.image_topic
        stamps: list[int] = []
        error = "there is none in this part of the recording"
        for _, receive_ns, data in self.reader.messages([topic], self.start_ns, self.stop_ns):
            try:
                frame = _decode(self.reader, topic, self.reader.decode(topic, data), receive_ns)
            except (BadFile, BadFrame) as reason:
                error = str(reason)
                continue
            if not stamps:
                self.image_hw = frame.image_hw
                camera_for(self._given, frame.image)  # a wrong calibration is refused at once
            stamps.append(frame.stamp_ns)
            if len(stamps) == PEEKED:
                break
        if not stamps:
            raise SourceError(f"{self.name}: no image on {topic} can be read: {error}")
        steps = np.diff(stamps)
        steps = steps[steps > 0]
        self.fps = float(1e9 / np.median(steps)) if len(steps) else 30.0
        whole = self.start_ns is None and self.stop_ns is None
        self.frame_count: int | None = self.reader.topics[topic].count if whole else None


class _Topics:
    """Which topics of a recording are a camera's."""

    def __init__(self, reader: BagReader) -> None:
        self._reader, self._topics = reader, reader.topics
        if not any(topic.count for topic in self._topics.values()):
            why = reader.damage or f"its topics: {reader.describe_topics()}"
            raise SourceError(f"{reader.name} holds no message ({why})")
        self._encodings = {
            t.name: self._encoding(t.name) for t in self._topics.values() if t.kind in (RAW, COMPRESSED) and t.count
        }

    def image(self, wanted: str | None) -> str:
        if wanted is not None:
            return self._named(wanted, RAW, COMPRESSED)
        images = [name for name, encoding in self._encodings.items() if not _is_depth(encoding)]
        beside = [name for name in images if info_beside(name) in self._topics]
        candidates = {_base(name): name for name in sorted(beside or images, reverse=True)}  # raw before compressed
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if candidates:
            choices = ", ".join(sorted(candidates.values()))
            raise SourceError(
                f"{self._reader.name} holds images on several topics, choose one (image_topic): {choices}"
            )
        raise SourceError(f"{self._reader.name} holds no images; its topics: {self._reader.describe_topics()}")

    def info(self, image: str, wanted: str | None) -> str:
        if wanted:
            return self._named(wanted, INFO)
        beside = info_beside(image)
        known = wanted is None and beside in self._topics and self._topics[beside].kind == INFO
        return beside if known else ""

    def depth(self, wanted: str | None) -> str:
        if wanted:
            return self._named(wanted, RAW, COMPRESSED)
        if wanted == "":
            return ""
        depth = [n for n, encoding in self._encodings.items() if _is_depth(encoding) and info_beside(n) in self._topics]
        found = {_base(name): name for name in sorted(depth, reverse=True)}  # raw before compressed
        if len(found) > 1:
            log.warning("%s: depth images on several topics, none is used: %s", self._reader.name, ", ".join(found))
        return next(iter(found.values())) if len(found) == 1 else ""

    def both_ways(self, image: str) -> bool:
        return (
            sum(_base(name) == _base(image) and not _is_depth(encoding) for name, encoding in self._encodings.items())
            > 1
        )

    def _named(self, name: str, *kinds: str) -> str:
        topic = self._topics.get(name)
        if topic is None:
            raise SourceError(f"{self._reader.name} has no topic {name}; it has: {self._reader.describe_topics()}")
        if topic.kind not in kinds:
            others = self._reader.describe_topics(*kinds)
            raise SourceError(f"{name} is of type {topic.kind}, not {' or '.join(kinds)}; of that type: {others}")
        if not topic.count:
            raise SourceError(
                f"{self._reader.name} holds no message on {name}; it has: {self._reader.describe_topics()}"
            )
        return name

    def _encoding(self, name: str) -> str:
        """Return the encoding or format of a topic's first message; "" when it cannot be read."""
        try:
            return next((_encoding_of(self._reader.decode(name, data)) for _, data in self._reader.first(name)), "")
        except BadFile as error:
            log.warning("%s: %s", self._reader.name, error)
            return ""


def _base(image: str) -> str:
    return image.removesuffix("/compressed").removesuffix("/compressedDepth")


def info_beside(image: str) -> str:
    """Return the camera info topic that belongs to an image topic: image_transport's rule."""
    return f"{_base(image).rpartition('/')[0]}/camera_info"


def _is_depth(encoding: str) -> bool:
    """True for depth, also where image_transport compressed it: "16UC1; png compressed ", "32FC1; compressedDepth"."""
    return encoding.partition(";")[0].strip() in UNITS or "compressedDepth" in encoding


def _encoding_of(msg: Any) -> str:
    return msg.encoding if hasattr(msg, "encoding") else msg.format


def _decode(reader: BagReader, topic: str, msg: Any, stamp_ns: int, camera: Camera | None = None) -> Frame:
    """Return a message as a frame; `stamp_ns` counts where it has none.

    Raises:
        BadFrame: It is no picture.
    """
    to_frame = compressed_to_frame if reader.topics[topic].kind == COMPRESSED else image_to_frame
    frame = to_frame(msg, camera=camera)
    return frame if frame.stamp_ns else replace(frame, stamp_ns=stamp_ns)


@dataclass(eq=False)
class _Waiting:
    msg: Any
    stamp_ns: int
    receive_ns: int
    depth: tuple[int, Any] | None = None


class _Assembly:
    """Puts images, intrinsics and depth together in the order in which they were received."""

    def __init__(self, reader: BagReader, found: BagDiagnosis, camera: CameraLike, max_offset_s: float) -> None:
        self._reader, self._found, self._given = reader, found, camera
        self._max_offset_ns = int(max_offset_s * 1e9)
        self._rules, self._one_camera = StampRules(), OneCamera()
        self._infos = _Infos(reader, found)
        self._depths: StampRing[Any] = StampRing()
        self._newest_depth_ns = -1
        self._last_ns: int | None = None
        self._waiting: deque[_Waiting] = deque()

    def put_info(self, data: bytes) -> None:
        self._infos.put(data)

    def put(self, topic: str, receive_ns: int, data: bytes) -> Iterator[tuple[int, Frame]]:
        """Take a message; yield the frames that are complete by it, each with the time of receipt of its image."""
        found = self._found
        if topic == found.camera_info_topic:
            self.put_info(data)
        else:
            try:
                msg = self._reader.decode(topic, data)
                self._put_depth(msg) if topic == found.depth_topic else self._put_image(msg, receive_ns)
            except BadFile as error:
                found.last_error = str(error)
                if topic == found.depth_topic:
                    found.depth_refused += 1
                else:
                    found.undecodable += 1
        while self._waiting and (len(self._waiting) > MAX_WAITING or self._complete(self._waiting[0], receive_ns)):
            yield from self._frame(self._waiting.popleft())

    def flush(self) -> Iterator[tuple[int, Frame]]:
        while self._waiting:
            yield from self._frame(self._waiting.popleft())

    def _put_image(self, msg: Any, receive_ns: int) -> None:
        found, last_ns = self._found, self._last_ns
        found.encodings[_encoding_of(msg)] += 1
        frame_id = msg.header.frame_id
        key = (frame_id, msg.height, msg.width) if hasattr(msg, "encoding") else (frame_id,)
        if not self._one_camera.takes(key, receive_ns * 1e-9):
            found.other_cameras += 1
            return
        verdict, stamp_ns = self._rules.judge(stamp_to_ns(msg.header.stamp), receive_ns)
        found.zero_stamps += self._rules.no_stamps
        found.gaps = self._rules.gaps
        if verdict is Verdict.STALE:
            if stamp_ns == last_ns:
                found.duplicate_stamps += 1
            else:
                found.stamps_back += 1
            return
        if verdict is Verdict.JUMP:
            found.jumps += 1
            self._depths.clear()
            self._newest_depth_ns = -1
        self._last_ns = stamp_ns
        item = _Waiting(msg, stamp_ns, receive_ns)
        item.depth = self._depths.nearest(stamp_ns, self._max_offset_ns * 1e-9)
        self._waiting.append(item)

    def _put_depth(self, msg: Any) -> None:
        stamp_ns = stamp_to_ns(msg.header.stamp)
        self._depths.put(stamp_ns, msg)
        self._newest_depth_ns = max(self._newest_depth_ns, stamp_ns)
        for item in self._waiting:
            offset_ns = abs(stamp_ns - item.stamp_ns)
            if offset_ns <= self._max_offset_ns and (
                item.depth is None or offset_ns < abs(item.depth[0] - item.stamp_ns)
            ):
                item.depth = (stamp_ns, msg)

    def _complete(self, item: _Waiting, now_ns: int) -> bool:
        waited_ns = now_ns - item.receive_ns
        if self._given is None and self._infos.awaited(item.msg.header.frame_id, waited_ns):
            return False
        no_more = not self._found.depth_topic or self._newest_depth_ns >= item.stamp_ns
        return no_more or waited_ns > WAIT_FOR_DEPTH_NS

    def _frame(self, item: _Waiting) -> Iterator[tuple[int, Frame]]:
        found = self._found
        try:
            frame = _decode(self._reader, found.image_topic, item.msg, item.stamp_ns)
        except BadFrame as error:
            found.undecodable, found.last_error = found.undecodable + 1, str(error)
            return
        try:
            given = camera_for(self._given, frame.image)
        except InvalidIntrinsics as error:  # the first image fitted
            found.other_cameras, found.last_error = found.other_cameras + 1, str(error)
            return
        camera = given or self._infos.camera(frame.frame_id, frame.image_hw)
        found.no_camera += camera is None
        depth_m = self._depth(item, frame) if found.depth_topic else None
        yield item.receive_ns, replace(frame, camera=camera, depth_m=depth_m, index=found.frames)
        found.frames += 1

    def _depth(self, item: _Waiting, frame: Frame) -> Array | None:
        found = self._found
        if item.depth is None:
            found.depth_unpaired += 1
            return None
        msg = item.depth[1]
        try:
            raw = depth_from_msg(msg)
            if isinstance(raw, CompressedDepth):
                raw = raw.decoded()
            if raw.hw != frame.image_hw:
                raise BadFrame(
                    f"depth of {raw.hw[1]}x{raw.hw[0]} for an image of {frame.image_hw[1]}x{frame.image_hw[0]}"
                )
            if raw.frame_id != item.msg.header.frame_id:
                raise BadFrame(f"depth in frame {raw.frame_id!r} for an image in {item.msg.header.frame_id!r}")
            return to_metres(raw)
        except BadFrame as error:
            found.depth_refused, found.last_error = found.depth_refused + 1, str(error)
            return None


class _Infos:
    """The newest intrinsics of each frame_id."""

    def __init__(self, reader: BagReader, found: BagDiagnosis) -> None:
        self._reader, self._found = reader, found
        self._newest = b""
        self._infos: dict[str, Any] = {}
        self._given_up: set[str] = set()
        self._cameras: dict[tuple[str, tuple[int, int]], tuple[Any, Camera | None]] = {}

    def put(self, data: bytes) -> None:
        content = bytes(data[NEWEST_INFO_BYTES:])
        if content == self._newest:
            return
        self._newest = content
        try:
            info = self._reader.decode(self._found.camera_info_topic, data)
        except BadFile as error:
            self._found.camera_infos_refused, self._found.last_error = self._found.camera_infos_refused + 1, str(error)
            return
        self._infos[info.header.frame_id] = info

    def awaited(self, frame_id: str, waited_ns: int) -> bool:
        """True while intrinsics of this frame may still come for the first time."""
        if not self._found.camera_info_topic or frame_id in self._infos or frame_id in self._given_up:
            return False
        if waited_ns > WAIT_FOR_INFO_NS:
            self._given_up.add(frame_id)
            return False
        return True

    def camera(self, frame_id: str, image_hw: tuple[int, int]) -> Camera | None:
        info, key = self._infos.get(frame_id), (frame_id, image_hw)
        if info is None:
            return None
        known, camera = self._cameras.get(key, (None, None))
        if known is not info:
            try:
                camera = camera_from_info(info, image_hw=image_hw)
            except InvalidIntrinsics as error:
                camera = None
                found = self._found
                found.camera_infos_refused, found.last_error = found.camera_infos_refused + 1, str(error)
            self._cameras[key] = (info, camera)
        return camera
