"""A tree of moving coordinate frames: who hangs on whom, where, and when. What tf2's buffer does, without ROS.

tree = TransformTree()
tree.put("odom", "base_link", stamp_ns, (x, y, z, qx, qy, qz, qw))
T_odom_camera = tree.lookup("odom", "camera", stamp_ns, timeout_s=0.03)
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Container
from itertools import islice

import numpy as np

from ..errors import (
    BadTransform,
    ExtrapolationFuture,
    ExtrapolationPast,
    NotConnected,
    TransformError,
    TransformLoop,
    UnknownFrame,
)
from ..types import Array

Pose = tuple[float, float, float, float, float, float, float]
"""x, y, z [m], qx, qy, qz, qw of T_parent_child."""

HISTORY_S = 10.0
MAX_SAMPLES = 20_000
"""Per frame, whatever the history: 2 kHz for ten seconds."""
FORGET_S = 60.0
"""A moving frame that was not heard of for so long is forgotten when another one appears: ids of people never end."""
UNIT_TOLERANCE = 0.01
"""Of the squared length of a quaternion, as in tf2."""
_NAMED = 20
_IDENTITY: Pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class TransformTree:
    """Transforms by time, interpolated. Any thread may put and look up.

    A frame has one parent at a time; who changes it changes it from the stamp on. A static transform holds at any
    time. Between two samples the translation is interpolated linearly and the rotation along the shortest arc; outside
    of them nothing is known: there is no extrapolation and no newest value in place of the right one.

    Args:
        history_s: How long samples are kept, by their stamps, from the newest of their frame back.

    Attributes:
        ignored: Samples that were too old to be kept, or had the stamp of another one.
    """

    def __init__(self, history_s: float = HISTORY_S) -> None:
        self.ignored = 0
        self._history_ns = int(history_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._changed = threading.Condition()
        self._waiting = 0

    def put(self, parent: str, child: str, stamp_ns: int, pose: Pose, *, static: bool = False) -> None:
        """Store T_parent_child.

        Args:
            parent, child: Names; one leading slash is dropped.
            stamp_ns: Time at which it holds; not used if static [ns].
            pose: x, y, z [m], qx, qy, qz, qw.
            static: Holds at any time, and survives `clear`.

        Raises:
            BadTransform: A name is missing, the two are the same, or the numbers are no pose.
        """
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        pose = _checked(parent, child, pose)
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or edge.static != static:
                self._forget()
                edge = self._edges[child] = _Edge(static)
            self.ignored += not edge.put(stamp_ns, parent, pose, self._history_ns)
            if self._waiting:
                self._changed.notify_all()

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> Array:
        """Return T_target_source, float64 (4, 4): the pose of `source` in `target` at a time.

        Waits only for a transform that is late; a frame that nobody publishes is an error at once.

        Args:
            stamp_ns: Time of the transform [ns].
            timeout_s: How long to wait for transforms newer than `stamp_ns` [s].

        Raises:
            UnknownFrame, NotConnected, TransformLoop, ExtrapolationPast: It is not known and will not be.
            ExtrapolationFuture: It was not known in time.
        """
        target, source = target.removeprefix("/"), source.removeprefix("/")
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    try:
                        return _to_matrix(self._find(target, source, stamp_ns))
                    except ExtrapolationFuture:
                        left_s = deadline - time.monotonic()
                        if left_s <= 0 or not self._changed.wait(left_s):
                            raise
            finally:
                self._waiting -= 1

    def clear(self) -> None:
        """Forget everything that moves: time went back. What is static stays."""
        with self._changed:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}
            self._changed.notify_all()

    def frames(self) -> set[str]:
        """Return the names of all frames."""
        with self._changed:
            return self._names()

    def _names(self) -> set[str]:
        return self._edges.keys() | {edge.parent for edge in self._edges.values()}

    def _forget(self) -> None:
        oldest_s = time.monotonic() - FORGET_S
        for child in [child for child, edge in self._edges.items() if not edge.static and edge.heard_s < oldest_s]:
            del self._edges[child]

    def _find(self, target: str, source: str, stamp_ns: int) -> Pose:
        up, source_error = self._ancestors(source, stamp_ns, {target})
        down, target_error = self._ancestors(target, stamp_ns, up)
        meet = next(reversed(down))
        if meet in up and (target != source or target in self._names()):
            return _compose(_inverse(down[meet]), up[meet])
        names = self._names()
        for frame in (target, source):
            if frame not in names:
                shown = ", ".join(islice(sorted(names), _NAMED)) + (", ..." if len(names) > _NAMED else "")
                raise UnknownFrame(f"frame {frame!r} is not in TF; known: {shown or 'none'}")
        error = source_error or target_error
        if error is not None:
            raise error
        raise NotConnected(
            f"{target!r} and {source!r} are not in one tree: the root of {target!r} is {meet!r}, "
            f"that of {source!r} is {next(reversed(up))!r}"
        )

    def _ancestors(
        self, frame: str, stamp_ns: int, until: Container[str]
    ) -> tuple[dict[str, Pose], TransformError | None]:
        """Return T_ancestor_frame of the frame and those above it, up to one in `until`, and why it ended early."""
        found = {frame: _IDENTITY}
        while frame not in until:
            edge = self._edges.get(frame)
            if edge is None:
                break
            try:
                parent, pose = edge.at(stamp_ns, frame)
            except TransformError as error:
                return found, error
            if parent in found:
                circle = [*found][[*found].index(parent) :]
                raise TransformLoop(f"frames hang on each other in a circle: {' -> '.join([*circle, parent])}")
            found[parent] = _compose(pose, found[frame])
            frame = parent
        return found, None


class _Edge:
    """How one frame hung on its parents."""

    __slots__ = ("_samples", "_stamps", "heard_s", "static")

    def __init__(self, static: bool) -> None:
        self.static = static
        self.heard_s = 0.0
        self._stamps: list[int] = []
        self._samples: list[tuple[str, Pose]] = []

    @property
    def parent(self) -> str:
        return self._samples[-1][0]

    def put(self, stamp_ns: int, parent: str, pose: Pose, history_ns: int) -> bool:
        """Store a sample; return False when it is of no use."""
        self.heard_s = time.monotonic()
        stamps, samples = self._stamps, self._samples
        if self.static:
            stamps[:], samples[:] = [stamp_ns], [(parent, pose)]
            return True
        place = bisect_left(stamps, stamp_ns)
        if stamps and (stamps[-1] - history_ns > stamp_ns or (place < len(stamps) and stamps[place] == stamp_ns)):
            return False
        stamps.insert(place, stamp_ns)
        samples.insert(place, (parent, pose))
        gone = max(bisect_left(stamps, stamps[-1] - history_ns), len(stamps) - MAX_SAMPLES)
        if gone > 0:
            del stamps[:gone], samples[:gone]
        return True

    def at(self, stamp_ns: int, child: str) -> tuple[str, Pose]:
        """Return parent and pose at a time. Where the parent changes, the earlier one holds up to the change."""
        stamps, samples = self._stamps, self._samples
        if self.static:
            return samples[0]
        after = bisect_left(stamps, stamp_ns)
        if after < len(stamps) and stamps[after] == stamp_ns:
            return samples[after]
        if after == len(stamps):
            late_s = (stamp_ns - stamps[-1]) * 1e-9
            raise ExtrapolationFuture(f"the newest transform {self.parent!r} -> {child!r} is {late_s:.3f} s too old")
        if after == 0:
            early_s = (stamps[0] - stamp_ns) * 1e-9
            raise ExtrapolationPast(f"the oldest transform {samples[0][0]!r} -> {child!r} is {early_s:.3f} s too new")
        (parent, a), (next_parent, b) = samples[after - 1], samples[after]
        if parent != next_parent:
            return parent, a
        share = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return parent, _interpolate(a, b, share)


def _checked(parent: str, child: str, pose: Pose) -> Pose:
    """Return the pose with a quaternion of exactly unit length."""
    if not parent or not child:
        raise BadTransform(f"a transform needs two frames, not {parent!r} -> {child!r}")
    if parent == child:
        raise BadTransform(f"frame {child!r} cannot be its own parent")
    if not all(map(math.isfinite, pose)):
        raise BadTransform(f"{parent!r} -> {child!r} is not finite: {pose}")
    length2 = sum(value * value for value in pose[3:])
    if abs(length2 - 1) > UNIT_TOLERANCE:
        raise BadTransform(f"{parent!r} -> {child!r} has no unit quaternion: squared length {length2:g}")
    unit = 1 / math.sqrt(length2)
    return (*pose[:3], *(value * unit for value in pose[3:]))  # type: ignore[return-value]


# In plain Python: numpy takes longer over four numbers than over four hundred.


def _rotate(q: tuple[float, ...], x: float, y: float, z: float) -> tuple[float, float, float]:
    """Turn a vector by a unit quaternion xyzw: v + 2w (u x v) + 2 u x (u x v)."""
    a, b, c, w = q
    tx, ty, tz = 2 * (b * z - c * y), 2 * (c * x - a * z), 2 * (a * y - b * x)
    return x + w * tx + b * tz - c * ty, y + w * ty + c * tx - a * tz, z + w * tz + a * ty - b * tx


def _compose(T_a_b: Pose, T_b_c: Pose) -> Pose:
    x, y, z = _rotate(T_a_b[3:], *T_b_c[:3])
    a, b, c, w = T_a_b[3:]
    d, e, f, v = T_b_c[3:]
    return (
        T_a_b[0] + x, T_a_b[1] + y, T_a_b[2] + z,
        w * d + a * v + b * f - c * e, w * e - a * f + b * v + c * d, w * f + a * e - b * d + c * v,
        w * v - a * d - b * e - c * f,
    )  # fmt: skip


def _inverse(T: Pose) -> Pose:
    q = (-T[3], -T[4], -T[5], T[6])
    x, y, z = _rotate(q, *T[:3])
    return (-x, -y, -z, *q)


def _interpolate(a: Pose, b: Pose, share: float) -> Pose:
    """Translation linear, rotation spherically linear (Shoemake 1985) along the shortest arc."""
    dot = sum(p * q for p, q in zip(a[3:], b[3:], strict=True))
    sign = -1.0 if dot < 0 else 1.0
    angle = math.acos(min(1.0, dot * sign))
    if angle < 1e-4:  # the arc is a line, and its sine has no digits left
        weights = 1 - share, sign * share
    else:
        weights = math.sin((1 - share) * angle) / math.sin(angle), sign * math.sin(share * angle) / math.sin(angle)
    xyz = (p + share * (q - p) for p, q in zip(a[:3], b[:3], strict=True))
    turn = (weights[0] * p + weights[1] * q for p, q in zip(a[3:], b[3:], strict=True))
    return (*xyz, *turn)  # type: ignore[return-value]


def _to_matrix(pose: Pose) -> Array:
    x, y, z, a, b, c, w = pose
    return np.array([
        [1 - 2 * (b * b + c * c), 2 * (a * b - c * w), 2 * (a * c + b * w), x],
        [2 * (a * b + c * w), 1 - 2 * (a * a + c * c), 2 * (b * c - a * w), y],
        [2 * (a * c - b * w), 2 * (b * c + a * w), 1 - 2 * (a * a + b * b), z],
        [0.0, 0.0, 0.0, 1.0],
    ])  # fmt: skip
