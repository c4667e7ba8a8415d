"""Human3.6M as it is commonly preprocessed: frames as images, joints and cameras as JSON, one set of files a subject.

    images/s_09_act_02_subact_01_ca_04/s_09_act_02_subact_01_ca_04_000001.jpg
    annotations/Human36M_subject9_data.json        images[]: file_name, width, height, action_idx, subaction_idx,
                                                   cam_idx, frame_idx; annotations[]: image_id, bbox
    annotations/Human36M_subject9_camera.json      {cam_idx: {R, t, f, c}}, R world to camera
    annotations/Human36M_subject9_joint_3d.json    {action: {subaction: {frame: (17, 3)}}} [mm], world

`t` is in use both as the translation (x_cam = R x + t) and as the camera's place (x_cam = R (x - t)); the meaning that
puts the person before the camera and into the picture is taken. Lens distortion is not in these files.

Source:
    Ionescu et al., Human3.6M: Large Scale Datasets and Predictive Methods for 3D Human Sensing in Natural
    Environments, PAMI 2014.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, InvalidIntrinsics, MissingFile
from ..geometry.camera import project
from ..geometry.rigid import inverse, transformed
from ..types import Array, Camera, Frame
from .base import Conventions, ReferencePerson, Sample
from .files import (
    ImageSequence,
    as_numbers,
    camera_from,
    check_name,
    choose_split,
    need_folder,
    numbers,
    read_json,
    tight_box,
    with_confidence,
)
from .joint_sets import H36M_17

FPS = 50.0
TEST_SUBJECTS = (9, 11)
FRONTAL_CAMERA = 4
KINDS = ("data", "camera", "joint_3d")
"""Files of a subject."""
_NAME = re.compile(r"s_(\d+)_act_(\d+)_subact_(\d+)_ca_(\d+)")
LAYOUT = "the folder with images/ and annotations/ of the preprocessed Human3.6M"

CONVENTIONS = Conventions(
    name="h36m",
    title="Human3.6M",
    fps=FPS,
    unit="m",
    world_up="+z",
    camera_matrix="world_to_camera",
    pixel_centre="integer",
    body_model="",
    gender="",
    splits=("protocol2", "protocol1", "all"),
    protocols=("h36m-p2-14", "h36m-p1-14", "limb-12"),
    reference="optical motion capture with markers: 17 joints, good to some millimetres up to their definition",
    licence="registered users only, no redistribution",
    source="http://vision.imar.ro/human3.6m",
)
"""Splits: protocol 2 is subjects 9 and 11 seen by the frontal camera, protocol 1 the same subjects by all four."""


class H36m:
    """Human3.6M, 17 joints, one person. The annotations of a subject are read when one of its sequences is opened."""

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        self._root = need_folder(folder, ("images", "annotations/Human36M_subject*_data.json"), LAYOUT)
        self.notes = ("joints only: no vertices, no PVE", "the files hold no lens distortion")

    def sequences(self) -> tuple[str, ...]:
        """Return the folders of images that belong to the split."""
        return tuple(sorted(path.name for path in (self._root / "images").iterdir() if self._wanted(path.name)))

    def _wanted(self, name: str) -> bool:
        parts = _NAME.fullmatch(name)
        if parts is None:
            return False
        subject, camera = int(parts[1]), int(parts[4])
        return self.split == "all" or (
            subject in TEST_SUBJECTS and (self.split == "protocol1" or camera == FRONTAL_CAMERA)
        )

    def open(self, name: str) -> ImageSequence:
        """Open a sequence, as `s_09_act_02_subact_01_ca_04`.

        Raises:
            ConfigError: No such sequence.
            MissingFile: A file of the subject's annotations is not there.
            BadFile: The annotations lack a value, or put the person out of the picture.
        """
        check_name(name, self.sequences(), f"Human3.6M's split {self.split}")
        number = int(name.split("_")[1])
        paths = {kind: self._root / f"annotations/Human36M_subject{number}_{kind}.json" for kind in KINDS}
        for path in paths.values():
            if not path.is_file():
                raise MissingFile(f"no {path}; wanted: {LAYOUT}")
        written = tuple(path.stat().st_mtime_ns for path in paths.values())
        return _subject(self._root, tuple(paths.values()), written).open(name)


@lru_cache(maxsize=2)
def _subject(root: Path, paths: tuple[Path, ...], written: tuple[int, ...]) -> _Subject:
    """Return a subject's annotations: hundreds of megabytes of JSON, so they are kept for the next sequence.

    `written`, when the files were: those that have changed are read again.
    """
    return _Subject(root, dict(zip(KINDS, paths, strict=True)))


@dataclass(frozen=True, eq=False)
class _Listed:
    """The images of one sequence: names below images/, numbers of the frames, boxes (x, y, width, height) or None."""

    files: list[str]
    frames: list[int]
    boxes: list[Any]
    image_hw: tuple[int, int]
    action: str
    subaction: str
    camera: str


class _Subject:
    """The annotations of one subject, without what is not needed."""

    def __init__(self, root: Path, paths: dict[str, Path]) -> None:
        self._root, self._paths = root, paths
        data, self._cameras, self._joints = (read_json(paths[kind], LAYOUT) for kind in KINDS)
        for kind, content in zip(KINDS, (data, self._cameras, self._joints), strict=True):
            if not isinstance(content, dict):
                raise BadFile(f"{paths[kind]} must hold an object, not a {type(content).__name__}")
        self._images = _list_images(data, paths["data"])

    def open(self, name: str) -> ImageSequence:
        listed = self._images.get(name)
        if listed is None:
            raise BadFile(f"{self._paths['data']} has no images of {name}")
        joints = self._joints_of(listed)
        camera, T = self._camera(listed, joints)

        def sample(i: int, image: NDArray[np.uint8], _: int) -> Sample:
            try:
                scaled = camera.scaled(image.shape[:2])  # type: ignore[arg-type]
            except InvalidIntrinsics as error:
                raise BadFile(f"{self._paths['camera']}: {error}") from error
            points = transformed(joints[i], T)
            uv = project(points, scaled)
            person = ReferencePerson(
                id=0,
                joints=points,
                joint_names=H36M_17,
                keypoints2d=with_confidence(uv),
                bbox_xyxy=self._box(listed.boxes[i], image.shape[1] / camera.image_hw[1], uv),
                valid=bool(np.isfinite(points).any()),
            )
            stamp_ns = round((listed.frames[i] - listed.frames[0]) * 1e9 / FPS)
            frame = Frame(image, stamp_ns, "bgr", camera=scaled, index=i)
            return Sample(frame, (person,), inverse(T))

        paths = [self._root / "images" / file for file in listed.files]
        return ImageSequence(name, _rate(listed.frames), paths, sample)

    def _joints_of(self, listed: _Listed) -> Array:
        path = self._paths["joint_3d"]
        out = []
        for frame in listed.frames:
            try:
                value = self._joints[listed.action][listed.subaction][str(frame)]
            except (KeyError, TypeError) as error:
                keys = f"{listed.action}, {listed.subaction}, {frame}"
                raise BadFile(f"{path} has no joints for action, subaction, frame {keys}") from error
            out.append(as_numbers(value, "joints", (len(H36M_17), 3), path) / 1000)
        return np.stack(out)

    def _camera(self, listed: _Listed, joints: Array) -> tuple[Camera, Array]:
        path = self._paths["camera"]
        values = self._cameras.get(listed.camera)
        if not isinstance(values, dict):
            raise BadFile(f"{path} has no camera {listed.camera}; it has {', '.join(self._cameras)}")
        f, c = (numbers(values, name, (2,), path) for name in "fc")
        R, t = numbers(values, "R", (3, 3), path), numbers(values, "t", (3,), path) / 1000
        K = np.array([[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1]])
        camera = camera_from(K, listed.image_hw, path)
        poses = []
        for shift in (t, -R @ t):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = R, shift
            poses.append((_share_inside(transformed(joints, T), camera), T))
        share, T = max(poses, key=lambda pose: pose[0])
        if share < 0.5:
            raise BadFile(f"{path}: camera {listed.camera} sees only {100 * share:.0f} % of the joints")
        return camera, T

    def _box(self, box: Any, scale: float, uv: Array) -> Array | None:
        if box is None:
            return tight_box(uv)
        x, y, width, height = as_numbers(box, "bbox", (4,), self._paths["data"]) * scale
        return np.array([x, y, x + width, y + height])


def _list_images(data: Any, path: Path) -> dict[str, _Listed]:
    """Return the images of each sequence in the order of their frames."""
    found: dict[str, _Listed] = {}
    try:
        boxes = {entry["image_id"]: entry["bbox"] for entry in data.get("annotations", ())}
        for entry in sorted(data["images"], key=lambda entry: entry["frame_idx"]):
            name = Path(entry["file_name"]).parent.name
            if name not in found:
                size = int(entry["height"]), int(entry["width"])
                keys = (str(entry[key]) for key in ("action_idx", "subaction_idx", "cam_idx"))
                found[name] = _Listed([], [], [], size, *keys)
            found[name].files.append(entry["file_name"])
            found[name].frames.append(int(entry["frame_idx"]))
            found[name].boxes.append(boxes.get(entry["id"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadFile(f"{path} is not as preprocessed: it lacks {error}") from error
    return found


def _rate(frames: list[int]) -> float:
    """Return the rate of the listed frames [Hz]: many copies of the set keep every fifth, or every 64th, of 50 Hz."""
    step = float(np.median(np.diff(frames))) if len(frames) > 1 else 1.0
    return FPS / max(step, 1.0)


def _share_inside(points: Array, camera: Camera) -> float:
    """Return which share of the finite points has a pixel in the picture."""
    points = points[np.isfinite(points).all(axis=-1)]
    uv = project(points, camera)
    height, width = camera.image_hw
    inside = (uv >= 0).all(axis=-1) & (uv < [width, height]).all(axis=-1)  # NaN behind the camera is not
    return float(inside.mean()) if len(points) else 1.0


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> H36m:
    """See `open_dataset`."""
    return H36m(folder, split=split, body_models=body_models)
