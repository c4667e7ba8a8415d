"""Meshes and skeletons as messages.

A mesh marker is written as serialised bytes: building it from Python `Point` objects takes hundreds of times longer.
Everything that does not change between frames is laid out once per person; per frame the stamp, the points and, if
wanted, the colours are written into that buffer through numpy views.

Rules that RViz sets (a violation hides the marker or makes it flicker): always ADD with the same namespace, id and
point count; no NaN; scale 1 and a unit quaternion; alpha 1; colours, if any, one per triangle.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from hsr_core.body.joints import N_JOINTS, PARENTS
from hsr_core.types import Array, FrameResult
from hsr_core.viz.colors import person_rgb

from .stamps import NS, header
from .wire import (
    CompactMeshWriter,
    HumanMeshView,
    MarkerBuffer,
    MarkerView,
    NonFiniteVertices,
    check_marker_layout,
    decode_human_mesh,
    decode_marker,
)

__all__ = [
    "ByteMeshWriter",
    "CompactMeshWriter",
    "HumanMeshView",
    "MarkerView",
    "MeshWriter",
    "NonFiniteVertices",
    "ObjectMeshWriter",
    "build_mesh_writer",
    "cluster_faces",
    "decode_human_mesh",
    "decode_marker",
    "delete_all_marker",
    "delete_marker",
    "person_color",
    "shade_triangles",
    "skeleton_markers",
]
log = logging.getLogger("hsr")

FALLBACK_RATE_HZ = 2.0
FALLBACK_CELL_M = 0.06
ColorOf = Callable[[int], tuple[float, float, float]]


class MeshWriter(Protocol):
    """Vertices of one person to something that the marker publisher takes.

    Attributes:
        is_fallback: The byte layout did not hold here, so markers are decimated and slow.
        note: Why; "" when it holds.
    """

    is_fallback: bool
    note: str

    def encode(self, track_id: int, vertices: Array, stamp_ns: int, frame_id: str) -> bytes | Marker | None:
        """Return what to publish, or None when nothing is due.

        Args:
            track_id: The marker's id, and its colour.
            vertices: (V, 3) [m] in `frame_id`.
            stamp_ns: Of the image.
            frame_id: Optical frame of the camera.

        Raises:
            NonFiniteVertices: Count it and publish nothing.
        """
        ...

    def configure(self, *, color_mode: str | None = None, lifetime_s: float | None = None) -> None:
        """Change how markers look from the next one on."""
        ...


def build_mesh_writer(
    faces: NDArray[np.integer],
    *,
    slots: int,
    color_mode: str = "uniform",
    lifetime_s: float = 0.5,
    ns: str = "mesh",
    color_of: ColorOf | None = None,
) -> MeshWriter:
    """Return the byte writer when the layout holds on this installation, else the slow one.

    Args:
        faces: Vertex indices, (F, 3).
        slots: Most people whose buffers are kept.
        color_mode: `uniform` (RViz lights it) or `shaded` (one baked colour per triangle).
        lifetime_s: Of the marker; 0 = for ever [s].
        ns: Namespace of the marker.
        color_of: Red, green, blue in 0..1 by track_id; `person_color` if not given.
    """
    color_of = color_of or person_color
    problem = check_marker_layout()
    if not problem:
        return ByteMeshWriter(
            faces, slots=slots, color_mode=color_mode, lifetime_s=lifetime_s, ns=ns, color_of=color_of
        )
    note = f"mesh markers cannot be written as bytes here ({problem}): decimated, at most {FALLBACK_RATE_HZ:g} Hz"
    log.warning(note)
    return ObjectMeshWriter(faces, lifetime_s=lifetime_s, ns=ns, note=note, color_of=color_of)


class ByteMeshWriter:
    """See MeshWriter. Keeps one buffer per person, least recently used first out."""

    is_fallback = False
    note = ""

    def __init__(
        self, faces: NDArray[np.integer], *, slots: int, color_mode: str = "uniform", lifetime_s: float = 0.5,
        ns: str = "mesh", color_of: ColorOf | None = None,
    ) -> None:  # fmt: skip
        self._faces = np.ascontiguousarray(faces, np.intp)
        self._color_of = color_of or person_color
        self._slots, self._ns = slots, ns
        self._color_mode, self._lifetime_s = color_mode, lifetime_s
        self._buffers: OrderedDict[int, MarkerBuffer] = OrderedDict()
        self._vertices64 = np.empty((0, 3))

    def configure(self, *, color_mode: str | None = None, lifetime_s: float | None = None) -> None:
        if color_mode is not None and color_mode != self._color_mode:
            self._color_mode = color_mode
            self._buffers.clear()
        if lifetime_s is not None:
            self._lifetime_s = lifetime_s
            for buffer in self._buffers.values():
                buffer.set_lifetime(lifetime_s)

    def encode(self, track_id: int, vertices: Array, stamp_ns: int, frame_id: str) -> bytes:
        if not np.isfinite(vertices).all():
            raise NonFiniteVertices("mesh holds NaN or infinity")
        buffer = self._buffer(track_id, frame_id)
        buffer.set_stamp(stamp_ns)
        if self._vertices64.shape != vertices.shape:
            self._vertices64 = np.empty(vertices.shape)
        np.copyto(self._vertices64, vertices)
        # mode="clip" writes straight into `out`; the default mode goes through a temporary.
        np.take(self._vertices64, self._faces.reshape(-1), axis=0, out=buffer.points, mode="clip")
        if self._color_mode == "shaded":
            shade_triangles(vertices, self._faces, self._color_of(track_id), out=buffer.colors)
        return buffer.tobytes()

    def _buffer(self, track_id: int, frame_id: str) -> MarkerBuffer:
        buffer = self._buffers.get(track_id)
        if buffer is None or buffer.frame_id != frame_id:
            n_colors = len(self._faces) if self._color_mode == "shaded" else 0
            buffer = MarkerBuffer(frame_id, self._ns, track_id, 3 * len(self._faces), n_colors)
            buffer.set_color(self._color_of(track_id))
            buffer.set_lifetime(self._lifetime_s)
            self._buffers[track_id] = buffer
        self._buffers.move_to_end(track_id)
        while len(self._buffers) > self._slots:
            self._buffers.popitem(last=False)
        return buffer


class ObjectMeshWriter:
    """See MeshWriter. A coarse mesh from message objects, at most twice a second and person."""

    is_fallback = True

    def __init__(
        self, faces: NDArray[np.integer], *, lifetime_s: float = 0.5, ns: str = "mesh", note: str = "",
        color_of: ColorOf | None = None,
    ) -> None:  # fmt: skip
        self.note = note
        self._color_of = color_of or person_color
        self._faces, self._ns = np.asarray(faces), ns
        self._lifetime_s = lifetime_s
        self._coarse: NDArray[np.integer] | None = None
        self._last_s: dict[int, float] = {}

    def configure(self, *, color_mode: str | None = None, lifetime_s: float | None = None) -> None:
        if lifetime_s is not None:
            self._lifetime_s = lifetime_s

    def encode(self, track_id: int, vertices: Array, stamp_ns: int, frame_id: str) -> Marker | None:
        if not np.isfinite(vertices).all():
            raise NonFiniteVertices("mesh holds NaN or infinity")
        now = time.monotonic()
        if now - self._last_s.get(track_id, -np.inf) < 1 / FALLBACK_RATE_HZ:
            return None
        self._last_s = {key: at for key, at in self._last_s.items() if now - at < 10} | {track_id: now}
        if self._coarse is None:
            self._coarse = cluster_faces(vertices, self._faces, FALLBACK_CELL_M)
        # A marker outlives the longest wait for the next one.
        lifetime_s = max(self._lifetime_s, 2 / FALLBACK_RATE_HZ) if self._lifetime_s else 0.0
        marker = _marker(Marker.TRIANGLE_LIST, self._ns, track_id, stamp_ns, frame_id, lifetime_s)
        marker.color = _rgba(self._color_of(track_id))
        marker.points = _points(vertices[self._coarse.reshape(-1)])
        return marker


def cluster_faces(vertices: Array, faces: NDArray[np.integer], cell_m: float) -> NDArray[np.integer]:
    """Return the triangles that remain when the vertices of each cubic cell become one of them. Shape (F', 3).

    Source:
        Vertex clustering (Rossignac and Borrel 1993), with the cell's first vertex as its representative.
    """
    cells = np.floor(vertices / cell_m).astype(np.int64)
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    coarse = first[cell.reshape(-1)][faces]
    distinct = (coarse[:, 0] != coarse[:, 1]) & (coarse[:, 1] != coarse[:, 2]) & (coarse[:, 2] != coarse[:, 0])
    return coarse[distinct]


def person_color(track_id: int) -> tuple[float, float, float]:
    """Return red, green, blue in 0..1, the same for a track on every output."""
    r, g, b = person_rgb(track_id)
    return r / 255, g / 255, b / 255


def shade_triangles(vertices: Array, faces: NDArray[np.integer], color: tuple[float, float, float], out: Array) -> None:
    """Write one colour per triangle, lit from the camera: (F, 4) red, green, blue, alpha in 0..1."""
    a, b, c = (np.take(vertices, column, axis=0) for column in faces.T)
    b -= a
    c -= a
    nx = b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1]
    ny = b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2]
    nz = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    lambert = np.abs(nz) / np.maximum(length, 1e-12)
    shade = 0.35 + 0.65 * lambert
    for channel, value in enumerate(color):
        np.multiply(shade, value, out=out[:, channel])
    out[:, 3] = 1.0


# --- small markers --------------------------------------------------------------------------------------------


def _marker(kind: int, ns: str, marker_id: int, stamp_ns: int, frame_id: str, lifetime_s: float) -> Marker:
    lifetime_ns = round(lifetime_s * NS)
    marker = Marker(header=header(stamp_ns, frame_id), ns=ns, id=_int32(marker_id), type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    marker.color = _rgba(person_color(marker_id))
    marker.lifetime = Duration(sec=lifetime_ns // NS, nanosec=lifetime_ns % NS)
    return marker


def _int32(value: int) -> int:
    return value & 0x7FFFFFFF  # a marker id is signed, a track id is not


def _rgba(color: tuple[float, float, float]) -> ColorRGBA:
    return ColorRGBA(r=color[0], g=color[1], b=color[2], a=1.0)


def _points(points: Array) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in np.asarray(points, np.float64).tolist()]


def delete_marker(track_id: int, stamp_ns: int, frame_id: str, ns: str = "mesh") -> Marker:
    """Return the message that removes one marker."""
    return Marker(header=header(stamp_ns, frame_id), ns=ns, id=_int32(track_id), action=Marker.DELETE)


def delete_all_marker(stamp_ns: int, frame_id: str, ns: str = "mesh") -> Marker:
    """Return the message that removes every marker of the topic."""
    return Marker(header=header(stamp_ns, frame_id), ns=ns, action=Marker.DELETEALL)


_CHILDREN = np.arange(1, N_JOINTS)
_PARENT = np.array(PARENTS[1:])


def skeleton_markers(result: FrameResult, *, lifetime_s: float = 0.5) -> list[Marker]:
    """Return two markers per person: observed bones (LINE_LIST) and observed joints (SPHERE_LIST).

    Joints with score 0 were not seen and are not drawn; RViz takes a marker without points for an error, so there is
    none. The ids are 2 track_id and 2 track_id + 1.
    """
    markers = []
    for person in result.people:
        if not np.isfinite(person.joints).all():
            continue
        seen = np.asarray(person.regression.joint_score) > 0
        bones = seen[_CHILDREN] & seen[_PARENT]
        ends = np.stack([_PARENT[bones], _CHILDREN[bones]], axis=1).reshape(-1)
        points = _points(person.joints)  # each is a part of several bones, and made once
        for offset, kind, size_m, index in (
            (0, Marker.LINE_LIST, 0.015, ends),
            (1, Marker.SPHERE_LIST, 0.03, np.flatnonzero(seen)),
        ):
            if not index.size:
                continue
            marker_id = 2 * person.track_id + offset
            marker = _marker(kind, "skeleton", marker_id, result.stamp_ns, result.frame_id, lifetime_s)
            marker.scale.x = marker.scale.y = marker.scale.z = size_m
            marker.color = _rgba(person_color(person.track_id))
            marker.points = [points[i] for i in index.tolist()]
            markers.append(marker)
    return markers
