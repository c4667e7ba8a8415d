"""Put the newest people, meshes, picture and numbers together for the web view; decoded only when they are drawn."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from hsr_msgs.msg import BodyModel, FrameStats, HumanArray
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message

from hsr_core.types import Array, Camera, IntrinsicsSource, MetricSource, TrackState
from hsr_core.viz.snapshot import PersonView, ViewSnapshot, ViewStats

from .cdr import CdrReader
from .marker import decode_human_mesh
from .stats import Rate, Window

_KEPT_FRAMES = 6
_KEPT_MESHES = 16


class ViewFeed:
    """Callbacks store serialised messages, which costs nothing; `snapshot` decodes the few that are drawn.

    People and meshes of a frame come as separate messages. The frame that is shown is the newest one whose meshes
    are there, so that mesh and skeleton never belong to different moments.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything: nobody was looking, what is here is old."""
        with self._lock:
            self._people: deque[bytes] = deque(maxlen=_KEPT_FRAMES)
            self._meshes: deque[bytes] = deque(maxlen=_KEPT_MESHES)
            self._image: bytes | NDArray[np.uint8] | None = None
            self._drawn: tuple[int, int] | None = None
            self._images = 0
            self._ages, self._rate = Window(300), Rate()
            self._newest_stats: FrameStats | None = None

    faces: NDArray[np.integer] | None = None
    """Triangles of the body model; None until it is known, or when its licence forbids publishing them."""

    def add_people(self, data: bytes) -> None:
        """Store a serialised HumanArray. A raw take that found nothing (b"") is ignored."""
        if data:
            with self._lock:
                self._people.append(data)

    def add_mesh(self, data: bytes) -> None:
        """Store a serialised HumanMesh."""
        if data:
            with self._lock:
                self._meshes.append(data)

    def add_image(self, image: bytes | NDArray[np.uint8]) -> None:
        with self._lock:
            self._image = image
            self._images += 1

    def set_body_model(self, message: BodyModel) -> None:
        faces = np.array(message.faces, np.uint32).reshape(-1, 3)
        self.faces = faces if len(faces) else None

    def add_stats(self, message: FrameStats) -> None:
        self._rate.tick()
        if np.isfinite(message.image_age_ms):
            self._ages.add(message.image_age_ms)
        self._newest_stats = message

    def stats(self) -> ViewStats:
        """Return the numbers of the last seconds."""
        newest = self._newest_stats
        if newest is None:
            return ViewStats()
        p50, p99 = self._ages.percentiles(50, 99)
        dropped = newest.dropped_busy + newest.dropped_stale + newest.dropped_bad + newest.dropped_gap
        return ViewStats(self._rate.hz(), p50, p99, newest.received, newest.processed, dropped)

    def snapshot(self) -> ViewSnapshot | None:
        """Return the newest complete frame, or None when there is none that was not returned before."""
        with self._lock:
            people, meshes = list(self._people), list(self._meshes)
            image, images = self._image, self._images
        if not people:
            return None
        data, vertices = _newest_whole(people, meshes)
        key = sequence_number(data), images
        if key == self._drawn:
            return None
        message = deserialize_message(data, HumanArray)
        picture = image if self._drawn is None or images != self._drawn[1] else None
        self._drawn = key
        return ViewSnapshot(
            camera=Camera(
                np.array(message.k).reshape(3, 3),
                (message.image_height, message.image_width),
                source=IntrinsicsSource(message.intrinsics_source),
                frame_id=message.header.frame_id,
            ),
            people=tuple(
                PersonView(
                    track_id=human.track_id,
                    joints=np.asarray(human.joints, np.float32).reshape(55, 3),
                    joint_score=np.asarray(human.joint_score),
                    vertices=vertices.get(human.track_id),
                    assumed=human.metric_source == MetricSource.ASSUMED_HEIGHT,
                )
                for human in message.humans
                if human.state != TrackState.LOST
            ),
            faces=self.faces,
            image=picture,
            T_world_cam=_pose(message.t_world_cam) if message.world_frame else None,
        )


def _newest_whole(people: list[bytes], meshes: list[bytes]) -> tuple[bytes, dict[int, Array]]:
    """Return the newest people whose meshes are there, with these; the newest people alone when that is long ago."""
    sequence = [sequence_number(data) for data in people]
    with_mesh = [sequence_number(data) for data in meshes]
    whole = set(sequence) & set(with_mesh)
    if not whole or not _anybody(people[-1]):
        return people[-1], {}
    seq = max(whole)
    views = [decode_human_mesh(data) for data, of in zip(meshes, with_mesh, strict=True) if of == seq]
    return people[sequence.index(seq)], {view.track_id: view.vertices for view in views}


def _anybody(people: bytes) -> bool:
    """False when a serialised HumanArray is too short to hold a person (each takes more than 2 kB)."""
    return len(people) > 2000


def sequence_number(data: bytes) -> int:
    """Return `seq` of a serialised HumanArray or HumanMesh: both begin with a header and it."""
    reader = CdrReader(data)
    reader.get("i")
    reader.get("I")
    reader.string()
    return reader.get("Q")[0]


def _pose(xyz_xyzw: Array) -> Array:
    """Return (4, 4) of a position and a quaternion."""
    from scipy.spatial.transform import Rotation

    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(xyz_xyzw[3:]).as_matrix()
    T[:3, 3] = xyz_xyzw[:3]
    return T
