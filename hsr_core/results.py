"""People of a whole recording as one npz file: written frame by frame, read back without pickle."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import __version__
from .body.joints import JOINT_NAMES
from .config import Settings
from .errors import BadFile, MissingFile
from .geometry.rotations import rotmat_to_quat_wxyz, wxyz_to_xyzw
from .paths import written_whole
from .types import Array, Camera, FrameResult, HumanEstimate, HumanParams, MetricSource, Part, TrackState

FORMAT = "hsr-people/1"


def _codes(kind: type[IntEnum | IntFlag]) -> str:
    return ", ".join(f"{int(one)} {one.name.lower()}" for one in kind if one)


CONVENTIONS = {
    "frame": "camera optical: x right, y down, z forward",
    "units": "metres, radians, pixels, nanoseconds",
    "rotations": "rotation vectors; global_orient and joint_quats_xyzw joint to camera, the others to their parent",
    "transl": "added after skinning; rotation is about the pelvis joint",
    "keypoints2d": "u, v, score in the image as it came, lens distortion included; pixel centres at integers",
    "layout": "(T, P, ...): frame, slot; a slot holds one person from first to last sighting; absent: track_id -1, NaN",
    "raw_*": "the regressor's parameters before smoothing",
    "valid": "seen in this frame, not carried on; where false, values of a person who is there are a prediction",
    "T_world_cam": "x_world = T x_camera, world z up; NaN where unknown; absent where always unknown",
    "state": _codes(TrackState),
    "metric_source": f"of the distance: {_codes(MetricSource)}; 0 none",
    "parts": f"that were seen, a sum of: {_codes(Part)}",
}

PARAMETERS = tuple(entry.name for entry in fields(HumanParams))
INTEGERS = {"track_id": -1, "state": 0, "primary": 0, "metric_source": 0, "parts": 0}
"""Fields that cannot hold NaN, and what stands for an absent person."""
SEEN = (TrackState.NEW, TrackState.TRACKED)
"""States of a person who was seen in the frame."""


class _Row(NamedTuple):
    """A frame: who is in which slot, and the camera."""

    stamp_ns: int
    people: dict[int, dict[str, Any]]
    camera: Camera
    T_world_cam: Array | None


class PeopleRecorder:
    """Collects frames in memory (about 8 kB per person and frame) and writes them at once.

    Args:
        path: The npz file; a folder above it must exist.
        settings: Kept in the metadata.
        metadata: Further JSON-able facts: source, regressor, body model.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Settings, metadata: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._metadata = {
            "format": FORMAT,
            "version": __version__,
            "settings": asdict(settings),
            "conventions": CONVENTIONS,
            **metadata,
        }
        self._frames: list[_Row] = []
        self._slots: dict[int, int] = {}

    def add(self, result: FrameResult) -> None:
        """Append a frame. A person who was declared LOST is absent from it."""
        present = {p.track_id: p for p in result.people if p.state is not TrackState.LOST}
        self._slots = {track: slot for track, slot in self._slots.items() if track in present}
        for track in present:
            if track not in self._slots:
                taken = set(self._slots.values())
                self._slots[track] = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        people = {self._slots[track]: person_row(person) for track, person in present.items()}
        # As one: Ctrl-C or a signal may come anywhere, and what there is is saved then.
        self._frames.append(_Row(result.stamp_ns, people, result.camera, result.T_world_cam))

    def __len__(self) -> int:
        return len(self._frames)

    def save(self, *, complete: bool) -> None:
        """Write the file in one step: it is either the old one or whole.

        Args:
            complete: False marks what was saved as part of a recording that broke off.
        """
        arrays = self._arrays()
        arrays["metadata"] = np.array(json.dumps({**self._metadata, "complete": complete}))
        with written_whole(self.path) as file:
            np.savez_compressed(file, **arrays)

    def _arrays(self) -> dict[str, Array]:
        slots = 1 + max((slot for frame in self._frames for slot in frame.people), default=0)
        arrays: dict[str, Array] = {
            "stamp_ns": np.array([frame.stamp_ns for frame in self._frames], np.int64),
            "joint_names": np.array(JOINT_NAMES),
            "track_id": np.full((len(self._frames), slots), -1, np.int64),
        }
        template = next((row for frame in self._frames for row in frame.people.values()), {})
        for name, value in template.items():
            arrays[name] = _empty(name, (len(self._frames), slots), np.asarray(value))
        for t, frame in enumerate(self._frames):
            for slot, row in frame.people.items():
                for name, value in row.items():
                    if value is not None:
                        arrays[name][t, slot] = value
        arrays["valid"] = np.isin(arrays.get("state", np.zeros_like(arrays["track_id"])), SEEN)
        worlds = [frame.T_world_cam for frame in self._frames]
        if any(T is not None for T in worlds):
            arrays["T_world_cam"] = np.stack([np.full((4, 4), np.nan) if T is None else T for T in worlds])
        arrays |= self._camera_arrays()
        return arrays

    def _camera_arrays(self) -> dict[str, Array]:
        if not self._frames:
            return {}
        cameras = [frame.camera for frame in self._frames]
        first = cameras[0]
        arrays = camera_arrays(first)
        if any(camera is not first and not np.array_equal(camera.K, first.K) for camera in cameras):
            arrays["K_per_frame"] = np.stack([camera.K for camera in cameras])
        return arrays


def camera_arrays(camera: Camera) -> dict[str, Array]:
    """Return a camera under the names of the file."""
    return {
        "K": camera.K,
        "dist": camera.dist,
        "image_hw": np.array(camera.image_hw),
        "distortion_model": np.array(camera.model),
        "intrinsics_source": np.array(int(camera.source)),
    }


def _empty(name: str, shape: tuple[int, int], value: Array) -> Array:
    if name in INTEGERS:
        return np.full(shape, INTEGERS[name], np.int64 if name == "track_id" else np.uint8)
    return np.full((*shape, *value.shape), np.nan, np.float32)


def person_row(person: HumanEstimate) -> dict[str, Any]:
    """Return one person's values under the names of the file."""
    seen = person.regression
    row: dict[str, Any] = {
        "track_id": person.track_id,
        "state": int(person.state),
        "primary": int(person.primary),
        "confidence": seen.score,
        "bbox_xyxy": seen.bbox_xyxy,
        "metric_source": int(seen.metric_source),
        "depth_sigma_m": seen.depth_sigma_m,
        "parts": int(seen.parts),
        "part_score": seen.part_score,
        "joints": person.joints,
        "joint_quats_xyzw": wxyz_to_xyzw(rotmat_to_quat_wxyz(person.joint_rotmats)),
        "joint_score": seen.joint_score,
        "keypoints2d": person.keypoints2d,
        "root_velocity": np.full(6, np.nan) if person.root_velocity is None else person.root_velocity,
    }
    row |= {name: getattr(person.params, name) for name in PARAMETERS}
    row |= {f"raw_{name}": getattr(seen.params, name) for name in PARAMETERS}
    return row


@dataclass(frozen=True, eq=False)
class PeopleRecording:
    """A people file in memory.

    Attributes:
        arrays: Everything in it by name; layout as `CONVENTIONS` says.
        metadata: Versions, settings, conventions, `complete`.
    """

    arrays: dict[str, Array]
    metadata: dict[str, Any]

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    @property
    def present(self) -> Array:
        """Who is there, (T, P) bool."""
        return self.arrays["track_id"] >= 0

    def params(self, t: int, slot: int, *, raw: bool = False) -> HumanParams:
        """Return the parameters of one person in one frame, as smoothed, or as regressed."""
        prefix = "raw_" if raw else ""
        return HumanParams(**{name: self.arrays[prefix + name][t, slot] for name in PARAMETERS})


def load_people(path: str | os.PathLike[str]) -> PeopleRecording:
    """Read a people file.

    Raises:
        MissingFile: No such file.
        BadFile: It is torn, holds pickled objects, or is of another kind.
    """
    if not Path(path).is_file():
        raise MissingFile(f"no people file {path}; `hsr run SOURCE --out {path}` writes one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        metadata = json.loads(str(arrays.pop("metadata")))
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise BadFile(f"{path} is not a people file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise BadFile(f"{path} has format {metadata.get('format')!r}, this version reads {FORMAT!r}")
    return PeopleRecording(arrays, metadata)
