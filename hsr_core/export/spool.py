"""Everybody of a recording on the disk, row by row, so that memory does not grow with its length."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..body.joints import N_JOINTS
from ..errors import BadFile, ConfigError
from ..results import INTEGERS, PARAMETERS, SEEN
from ..types import Array, HumanParams

CHUNK = 512
"""Frames that are read at a time."""
_COEFFICIENTS = ("betas", "expression", "head_betas", "head_expression")
_MEASURED = {
    "confidence": (), "bbox_xyxy": (4,), "depth_sigma_m": (), "part_score": (4,), "joints": (N_JOINTS, 3),
    "joint_quats_xyzw": (N_JOINTS, 4), "joint_score": (N_JOINTS,), "keypoints2d": (N_JOINTS, 3), "root_velocity": (6,),
}  # fmt: skip
_NEEDED = ("global_orient", "transl", "body_pose", "left_hand_pose", "right_hand_pose", "joints", "joint_quats_xyzw")
"""Without these a person is missing."""


@dataclass(frozen=True)
class Facts:
    """What is known of a recording.

    Attributes:
        source: Its name. source_sha256: Of its content.
        body_model, body_family, licence_note: Of the body that the parameters belong to; "" = unknown.
        settings: Of the run; None = unknown.
        regressor: Its name; "" = unknown.
        camera: K, dist, image_hw, distortion_model, intrinsics_source as arrays, where known.
        kind: `people`, `refined`, `bag` or `source`.
        frame_id, world_frame: Names of the camera's frame and of the world; "" = unknown.
        damage: What was wrong with the input; "" = nothing.
    """

    source: str
    source_sha256: str
    kind: str
    body_model: str = ""
    body_family: str = ""
    licence_note: str = ""
    settings: Mapping[str, Any] | None = None
    regressor: str = ""
    camera: Mapping[str, Any] | None = None
    frame_id: str = ""
    world_frame: str = ""
    damage: str = ""


def row_type(lengths: Mapping[str, int], *, raw: bool) -> np.dtype:
    """Return the type of a row: one person of one frame under the names of the people file.

    Args:
        lengths: Numbers of betas, expression, head_betas and head_expression.
        raw: Whether the regressor's own parameters are there, too.
    """
    shapes = {name: HumanParams.FIXED_SHAPES.get(name) or (lengths[name],) for name in PARAMETERS}
    columns = {**_MEASURED, **shapes, **({f"raw_{name}": shape for name, shape in shapes.items()} if raw else {})}
    integers = [(name, np.int64 if name == "track_id" else np.uint8) for name in INTEGERS]
    return np.dtype([*integers, *((name, np.float32, shape) for name, shape in columns.items())])


class Spool:
    """Takes frames in the order of their stamps; a stamp that repeats or goes back is counted and left out.

    Args:
        folder: For its one file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "rows.bin"
        self._file = self._path.open("wb")
        self._type: np.dtype | None = None
        self._stamps, self._frame_of, self._track_of = array("q"), array("q"), array("q")
        self._worlds: list[tuple[int, int, Array]] = []
        self._primary: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, stamp_ns: int, T_world_cam: Array | None, people: Iterable[Mapping[str, Any]]) -> None:
        """Append a frame.

        Args:
            stamp_ns: Exposure.
            T_world_cam: (4, 4), or None when unknown.
            people: Values under the names of the people file; what is left out is NaN.

        Raises:
            BadFile: The body model changed on the way.
        """
        if self._stamps and stamp_ns <= self._stamps[-1]:
            self.counts["out_of_order"] += 1
            return
        frame = len(self._stamps)
        self._stamps.append(stamp_ns)
        if T_world_cam is not None:
            self._remember_world(frame, np.asarray(T_world_cam, np.float64))
        for person in people:
            row = self._row(person)
            if not all(np.isfinite(row[name]).all() for name in _NEEDED):
                self.counts["not_finite"] += 1
                continue
            self._file.write(row.tobytes())
            track = int(row["track_id"])
            self._frame_of.append(frame)
            self._track_of.append(track)
            self._primary[track] += bool(row["primary"])

    def _remember_world(self, frame: int, T: Array) -> None:
        """Keep a pose only where it is another than the last: most cameras stand still."""
        if not np.isfinite(T).all():
            return
        if self._worlds and self._worlds[-1][1] == frame - 1 and np.array_equal(self._worlds[-1][2], T):
            self._worlds[-1] = (self._worlds[-1][0], frame, T)
        else:
            self._worlds.append((frame, frame, T))

    def _row(self, person: Mapping[str, Any]) -> np.ndarray:
        if self._type is None:
            lengths = {name: len(person[name]) for name in _COEFFICIENTS}
            self._type = row_type(lengths, raw="raw_transl" in person)
        row = np.zeros((), self._type)
        for name in self._type.names:
            value = person.get(name)
            if value is None:
                row[name] = INTEGERS.get(name, np.nan)
                continue
            if np.shape(value) != self._type[name].shape:
                raise BadFile(
                    f"{name} has shape {np.shape(value)} after {self._type[name].shape}: the body model changed"
                )
            row[name] = value
        return row

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def finish(self, facts: Facts) -> Recorded:
        """End the writing and return what there is."""
        self._file.close()
        rows = None
        if self._type is not None and len(self._frame_of):
            rows = np.memmap(self._path, self._type, "r")
        stamps, frames, tracks = (np.array(a, np.int64) for a in (self._stamps, self._frame_of, self._track_of))
        return Recorded(facts, stamps, rows, frames, tracks, self._worlds, dict(self._primary), dict(self.counts))


@dataclass(frozen=True, eq=False)
class Recorded:
    """Everybody of a recording.

    Attributes:
        facts: See `Facts`.
        stamps: (T,) int64, rising.
        rows: (N,) structured, on the disk; None = nobody.
        frame_of, track_of: (N,) of each row.
        worlds: First frame, last frame, T_world_cam (4, 4) of them.
        primary: Track id -> frames in which it was the primary person.
        counts: What was left out.
    """

    facts: Facts
    stamps: NDArray[np.int64]
    rows: np.memmap | None
    frame_of: NDArray[np.int64]
    track_of: NDArray[np.int64]
    worlds: list[tuple[int, int, Array]]
    primary: dict[int, int]
    counts: dict[str, int]

    def T_world_cam(self, frames: slice) -> Array:
        """Return the camera's poses in the world, (n, 4, 4) float64, NaN where unknown."""
        out = np.full((frames.stop - frames.start, 4, 4), np.nan)
        for begin, end, T in self.worlds[bisect_right(self.worlds, frames.start, key=lambda span: span[1] + 1) :]:
            if begin >= frames.stop:
                break
            out[max(begin - frames.start, 0) : end + 1 - frames.start] = T
        return out

    def people(self) -> dict[int, int]:
        """Return track id -> number of frames, in the order of the ids."""
        ids, counts = np.unique(self.track_of, return_counts=True)
        return {int(i): int(n) for i, n in zip(ids, counts, strict=True)}

    def chosen(self, person: str) -> list[Track]:
        """Return the tracks that `person` means: `primary`, `all`, or a track id.

        The primary person of a recording is who was it in most frames; where nobody was, who is there longest.

        Raises:
            BadFile: Nobody is in the recording.
            ConfigError: No such track; the message lists those that there are.
        """
        people = self.people()
        if not people:
            left_out = f" ({self.counts['not_finite']} are not finite)" if self.counts.get("not_finite") else ""
            raise BadFile(f"{self.facts.source}: no people in {len(self.stamps)} frames{left_out}")
        if person == "all":
            return [self.track(track) for track in people]
        if person == "primary":
            return [self.track(max(people, key=lambda track: (self.primary.get(track, 0), people[track], -track)))]
        known = ", ".join(f"{track} ({count} frames)" for track, count in list(people.items())[:20])
        if not person.isdigit() or int(person) not in people:
            raise ConfigError(
                f"--person wants primary, all or a track id of {self.facts.source}, not {person}: {known}"
            )
        return [self.track(int(person))]

    def track(self, track_id: int) -> Track:
        """Return one person, from the first to the last frame in which they are there."""
        mine = np.flatnonzero(self.track_of == track_id)
        frames = self.frame_of[mine]
        first, last = int(frames[0]), int(frames[-1])
        row_of = np.full(last - first + 1, -1, np.int64)
        row_of[frames - first] = mine
        return Track(self, track_id, first, self.stamps[first : last + 1], row_of)


@dataclass(frozen=True, eq=False)
class Track:
    """One person over a stretch of frames.

    Attributes:
        recorded: Where it comes from.
        track_id: Never reused within a run.
        first: Number of the first frame in the recording.
        stamps: (T,) int64 [ns], rising.
        row_of: (T,) row of each frame, -1 = the person is not there.
    """

    recorded: Recorded
    track_id: int
    first: int
    stamps: NDArray[np.int64]
    row_of: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def has_raw(self) -> bool:
        return "raw_transl" in self.recorded.rows.dtype.names

    @property
    def names(self) -> tuple[str, ...]:
        """What `read` knows."""
        return self.recorded.rows.dtype.names

    def read(self, name: str, at: slice) -> Array:
        """Return one column of some frames, (n, ...); where the person is not there NaN, or the integer for nobody."""
        rows = self.row_of[at]
        values = self.recorded.rows[name][np.maximum(rows, 0)]
        values[rows < 0] = INTEGERS.get(name, np.nan)
        return values

    def seen(self, at: slice = slice(None)) -> NDArray[np.bool_]:
        """Return whether the person was seen (and not only carried on) in some frames, (n,)."""
        return np.concatenate([np.isin(self.read("state", part), SEEN) for part in parts_of(self, at)])

    def T_world_cam(self, at: slice) -> Array:
        """Return the camera's poses in the world at some frames: see `Recorded.T_world_cam`."""
        start, stop, _ = at.indices(len(self))
        return self.recorded.T_world_cam(slice(self.first + start, self.first + stop))

    @property
    def knows_world(self) -> bool:
        return bool(self.recorded.worlds)


def chunks(count: int, size: int = CHUNK, start: int = 0) -> Iterator[slice]:
    """Yield slices that cover `start` to `count`."""
    for begin in range(start, count, size):
        yield slice(begin, min(begin + size, count))


def parts_of(track: Track, at: slice) -> Iterator[slice]:
    """Yield a slice of a track in chunks; one at least."""
    start, stop, _ = at.indices(len(track))
    yield from chunks(stop, start=start) if stop > start else [slice(start, start)]
