"""The byte layout of Marker and HumanMesh: buffers that are written in place, and raw readers.

`Publisher.publish` takes serialised bytes. `check_marker_layout` decides at start whether the layout written here is
what this installation's own deserialiser reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsr_core.errors import BadFrame
from hsr_core.types import Array

from .cdr import CdrReader, CdrWriter
from .stamps import NS


class NonFiniteVertices(BadFrame):
    """A mesh holds NaN or infinity; RViz would refuse the marker and keep the old one on screen."""


TRIANGLE_LIST = 11
POINT_BYTES, COLOR_BYTES = 24, 16


def marker_template(
    frame_id: str, ns: str, marker_id: int, n_points: int, n_colors: int
) -> tuple[bytes, dict[str, int]]:
    """Return a TRIANGLE_LIST marker with zero points and colours, and the offsets of what changes.

    Source:
        Fields of visualization_msgs/msg/Marker in order (the same in Humble to rolling), serialised as plain CDR.
    """
    w = CdrWriter()
    at = {"stamp": w.put("i", 0)}
    w.put("I", 0)
    w.string(frame_id)
    w.string(ns)
    w.put("i", marker_id & 0x7FFFFFFF, TRIANGLE_LIST, 0)
    w.put("d", 0, 0, 0, 0, 0, 0, 1)  # pose: position, orientation xyzw
    w.put("d", 1, 1, 1)  # scale
    at["color"] = w.put("f", 1, 1, 1, 1)
    at["lifetime"] = w.put("i", 0)
    w.put("I", 0)
    w.put("B", 0)  # frame_locked
    w.put("I", n_points)
    if n_points:
        w.align(8)
    at["points"] = w.reserve(n_points * POINT_BYTES)
    w.put("I", n_colors)
    at["colors"] = w.reserve(n_colors * COLOR_BYTES)
    w.string("")  # texture_resource
    w.put("i", 0)  # texture: stamp, frame_id, format, data
    w.put("I", 0)
    w.string("")
    w.string("")
    w.put("I", 0)
    w.put("I", 0)  # uv_coordinates
    w.string("")  # text
    w.string("")  # mesh_resource
    w.string("")  # mesh_file: filename, data
    w.put("I", 0)
    w.put("B", 0)  # mesh_use_embedded_materials
    return w.getvalue(), at


def _aligned_buffer(template: bytes, offset: int) -> NDArray[np.uint8]:
    """Return a writable copy of `template` in which byte `offset` lies at a multiple of 8 in memory.

    Messages align from byte 4 on, so the doubles in a plain buffer would be misaligned and slow to write.
    """
    raw = np.empty(len(template) + 8, np.uint8)
    start = -(raw.ctypes.data + offset) % 8
    buffer = raw[start : start + len(template)]
    buffer[:] = np.frombuffer(template, np.uint8)
    return buffer


class MarkerBuffer:
    """One person's marker as bytes, with views on what changes from frame to frame.

    Attributes:
        frame_id: Laid out in the buffer; another one needs another buffer.
        points: (n_points, 3) float64 [m], three per triangle.
        colors: (n_colors, 4) float32, one per triangle, or none.
    """

    def __init__(self, frame_id: str, ns: str, marker_id: int, n_points: int, n_colors: int) -> None:
        template, at = marker_template(frame_id, ns, marker_id, n_points, n_colors)
        self.frame_id = frame_id
        self._bytes = _aligned_buffer(template, at["points"])
        self.points = self._view("<f8", at["points"], n_points * POINT_BYTES).reshape(n_points, 3)
        self.colors = self._view("<f4", at["colors"], n_colors * COLOR_BYTES).reshape(n_colors, 4)
        self._stamp = self._view("<i4", at["stamp"], 8)
        self._lifetime = self._view("<i4", at["lifetime"], 8)
        self._color = self._view("<f4", at["color"], COLOR_BYTES)

    def _view(self, dtype: str, start: int, size: int) -> NDArray[Any]:
        return self._bytes[start : start + size].view(dtype)

    def set_stamp(self, stamp_ns: int) -> None:
        self._stamp[:] = stamp_ns // NS, stamp_ns % NS

    def set_lifetime(self, lifetime_s: float) -> None:
        lifetime_ns = round(lifetime_s * NS)
        self._lifetime[:] = lifetime_ns // NS, lifetime_ns % NS

    def set_color(self, color: tuple[float, float, float]) -> None:
        self._color[:3] = color

    def tobytes(self) -> bytes:
        return self._bytes.tobytes()


@dataclass(frozen=True, eq=False)
class MarkerView:
    """A marker read in place; points and colours are views into the message.

    Attributes:
        points: (N, 3) float64 [m].
        colors: (M, 4) float32.
    """

    stamp_ns: int
    frame_id: str
    ns: str
    id: int
    type: int
    action: int
    lifetime_ns: int
    color: tuple[float, ...]
    points: Array
    colors: Array


def decode_marker(data: bytes) -> MarkerView:
    """Read a serialised Marker without making objects of its points.

    Raises:
        ValueError: The bytes are not such a message.
    """
    r = CdrReader(data)
    sec, nanosec = r.get("i")[0], r.get("I")[0]
    frame_id, ns = r.string(), r.string()
    marker_id, kind, action = r.get("i", 3)
    r.get("d", 10)  # pose, scale
    color = r.get("f", 4)
    life_sec, life_nanosec = r.get("i")[0], r.get("I")[0]
    r.get("B")
    n_points, at_points = r.records(POINT_BYTES, 8)
    n_colors, at_colors = r.records(COLOR_BYTES, 4)
    return MarkerView(
        stamp_ns=sec * NS + nanosec,
        frame_id=frame_id,
        ns=ns,
        id=marker_id,
        type=kind,
        action=action,
        lifetime_ns=life_sec * NS + life_nanosec,
        color=color,
        points=np.frombuffer(data, "<f8", 3 * n_points, at_points).reshape(-1, 3),
        colors=np.frombuffer(data, "<f4", 4 * n_colors, at_colors).reshape(-1, 4),
    )


def check_marker_layout() -> str:
    """Write three triangles as bytes, read them with this installation's deserialiser, compare every field.

    Returns:
        "" when they agree; else what differs.
    """
    from rclpy.serialization import deserialize_message
    from visualization_msgs.msg import Marker

    points = np.arange(27, dtype=np.float64).reshape(9, 3) / 8
    colors = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    buffer = MarkerBuffer("self_test_optical_frame", "mesh", 7, len(points), len(colors))
    buffer.points[:], buffer.colors[:] = points, colors
    buffer.set_stamp(12 * NS + 34)
    buffer.set_lifetime(1.5)
    buffer.set_color((0.25, 0.5, 0.75))
    try:
        marker = deserialize_message(buffer.tobytes(), Marker)
    except Exception as error:  # rclpy raises RuntimeError, MemoryError or its own errors here
        return f"the message does not deserialise: {error}"
    expected = _self_test_marker(points, colors)
    for name in marker.get_fields_and_field_types():
        if getattr(marker, name) != getattr(expected, name, None):
            return f"field {name} reads back as {getattr(marker, name)!r}"
    return ""


def _self_test_marker(points: Array, colors: Array) -> Any:
    from geometry_msgs.msg import Point
    from std_msgs.msg import ColorRGBA
    from visualization_msgs.msg import Marker

    marker = Marker(ns="mesh", id=7, type=Marker.TRIANGLE_LIST, action=Marker.ADD)
    marker.header.frame_id = "self_test_optical_frame"
    marker.header.stamp.sec, marker.header.stamp.nanosec = 12, 34
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    marker.color = ColorRGBA(r=0.25, g=0.5, b=0.75, a=1.0)
    marker.lifetime.sec, marker.lifetime.nanosec = 1, NS // 2
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    marker.colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in colors.tolist()]
    return marker


# --- HumanMesh ------------------------------------------------------------------------------------------------

FLOAT32, UINT16_BBOX = 0, 1
_VERTEX_BYTES = {FLOAT32: 12, UINT16_BBOX: 6}


class CompactMeshWriter:
    """Writes HumanMesh as bytes; keeps the layout of the last person and frame.

    With `uint16` a coordinate is a fraction of the bounding box: 0.015 mm for a person, and an SMPL-X mesh fits into
    one datagram.
    """

    def __init__(self, encoding: str = "uint16", model_id: str = "") -> None:
        self._encoding = {"float32": FLOAT32, "uint16": UINT16_BBOX}[encoding]
        self._model_id = model_id
        self._key: tuple | None = None

    def encode(self, person_id: str, track_id: int, seq: int, vertices: Array, stamp_ns: int, frame_id: str) -> bytes:
        """Return the serialised message.

        Args:
            person_id, track_id: Of the person, as in Human.
            seq: Number of the frame.
            vertices: (V, 3) [m] in `frame_id`.
            stamp_ns, frame_id: Of the image.

        Raises:
            NonFiniteVertices: Count it and publish nothing.
        """
        key = (person_id, frame_id, len(vertices))
        if key != self._key:
            self._lay_out(person_id, frame_id, len(vertices))
            self._key = key
        low = vertices.min(axis=0)
        size = vertices.max(axis=0) - low
        if not np.isfinite(size).all():
            raise NonFiniteVertices("mesh holds NaN or infinity")
        self._stamp[:] = stamp_ns // NS, stamp_ns % NS
        self._seq[0], self._track_id[0] = seq, track_id
        self._box[:3], self._box[3:] = low, size
        if self._encoding == FLOAT32:
            np.copyto(self._data.reshape(-1, 3), vertices)
        else:
            scale = 65535 / np.where(size > 0, size, 1)
            fraction = (vertices - low) * scale.astype(np.float32)
            fraction += 0.5
            np.copyto(self._data.reshape(-1, 3), fraction, casting="unsafe")
        return self._bytes.tobytes()

    def _lay_out(self, person_id: str, frame_id: str, n_vertices: int) -> None:
        w = CdrWriter()
        stamp = w.put("i", 0)
        w.put("I", 0)
        w.string(frame_id)
        seq = w.put("Q", 0)
        w.string(person_id)
        track_id = w.put("I", 0)
        w.string(self._model_id)
        w.put("B", self._encoding)
        box = w.put("f", 0, 0, 0, 0, 0, 0)
        size = n_vertices * _VERTEX_BYTES[self._encoding]
        w.put("I", size)
        data = w.reserve(size)
        w.put("I", 0)  # colors
        self._bytes = np.frombuffer(w.getvalue(), np.uint8).copy()
        self._stamp = self._bytes[stamp : stamp + 8].view("<i4")
        self._seq = self._bytes[seq : seq + 8].view("<u8")
        self._track_id = self._bytes[track_id : track_id + 4].view("<u4")
        self._box = self._bytes[box : box + 24].view("<f4")
        self._data = self._bytes[data : data + size].view("<u2" if self._encoding == UINT16_BBOX else "<f4")


@dataclass(frozen=True, eq=False)
class HumanMeshView:
    """A compact mesh, decoded.

    Attributes:
        vertices: (V, 3) float32 [m].
    """

    stamp_ns: int
    frame_id: str
    seq: int
    id: str
    track_id: int
    model_id: str
    vertices: Array


def decode_human_mesh(data: bytes) -> HumanMeshView:
    """Read a serialised HumanMesh.

    Raises:
        ValueError: The bytes are not such a message, or its encoding is unknown.
    """
    r = CdrReader(data)
    sec, nanosec = r.get("i")[0], r.get("I")[0]
    frame_id = r.string()
    (seq,) = r.get("Q")
    person_id, (track_id,), model_id = r.string(), r.get("I"), r.string()
    (encoding,) = r.get("B")
    box = np.array(r.get("f", 6), np.float32)
    size, at = r.records(1, 1)
    if encoding not in _VERTEX_BYTES or size % _VERTEX_BYTES[encoding]:
        raise ValueError(f"HumanMesh of encoding {encoding} with {size} bytes of data")
    if encoding == UINT16_BBOX:
        fraction = np.frombuffer(data, "<u2", size // 2, at).reshape(-1, 3)
        vertices = box[:3] + fraction * (box[3:] / np.float32(65535))
    else:
        vertices = np.frombuffer(data, "<f4", size // 4, at).reshape(-1, 3)
    return HumanMeshView(sec * NS + nanosec, frame_id, seq, person_id, track_id, model_id, vertices)
