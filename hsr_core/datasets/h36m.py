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
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, InvalidIntrinsics
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
        self._subjects: dict[int, _Subject] = {}
        self.notes = ("joints only: no vertices, no PVE", "the files hold no lens distortion")

    def sequences(self) -> tuple[str, ...]:
        return tuple(sorted(name for n in self._numbers() for name in self._subject(n).images if self._wanted(n, name)))

    def _numbers(self) -> list[int]:
        paths = (self._root / "annotations").glob("Human36M_subject*_data.json")
        found = sorted(int("".join(filter(str.isdigit, p.name.split("subject")[1]))) for p in paths)
        return [n for n in found if self.split == "all" or n in TEST_SUBJECTS]

    def _wanted(self, subject: int, name: str) -> bool:
        return self.split != "protocol2" or name.endswith(f"_ca_{FRONTAL_CAMERA:02d}")

    def _subject(self, number: int) -> _Subject:
        if number not in self._subjects:
            self._subjects[number] = _Subject(self._root, number)
        return self._subjects[number]

    def open(self, name: str) -> ImageSequence:
        """Open a sequence, as `s_09_act_02_subact_01_ca_04`.

        Raises:
            ConfigError: No such sequence.
            BadFile: The annotations lack a value, or put the person out of the picture.
        """
        check_name(name, self.sequences(), f"Human3.6M's split {self.split}")
        subject = next(s for s in map(self._subject, self._numbers()) if name in s.images)
        return subject.open(name)


class _Subject:
    """The annotations of one subject."""

    def __init__(self, root: Path, number: int) -> None:
        self._root = root
        stem = f"{root}/annotations/Human36M_subject{number}"
        self._paths = {kind: Path(f"{stem}_{kind}.json") for kind in ("data", "camera", "joint_3d")}
        data, self._cameras, self._joints = (read_json(path, LAYOUT) for path in self._paths.values())
        self.images: dict[str, list[dict[str, Any]]] = defaultdict(list)
        try:
            for entry in data["images"]:
                self.images[Path(entry["file_name"]).parent.name].append(entry)
            self._boxes = {entry["image_id"]: entry["bbox"] for entry in data.get("annotations", ())}
            for entries in self.images.values():
                entries.sort(key=lambda entry: entry["frame_idx"])
        except (KeyError, TypeError) as error:
            raise BadFile(f"{self._paths['data']} is not as preprocessed: it lacks {error}") from error

    def open(self, name: str) -> ImageSequence:
        entries = self.images[name]
        joints = np.stack([self._joints_of(entry) for entry in entries])
        camera, T = self._camera(entries[0], joints)

        def sample(i: int, image: NDArray[np.uint8], stamp_ns: int) -> Sample:
            entry = entries[i]
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
                bbox_xyxy=self._box(entry, image.shape[1] / camera.image_hw[1], uv),
                valid=bool(np.isfinite(points).any()),
            )
            stamp_ns = round((entry["frame_idx"] - entries[0]["frame_idx"]) * 1e9 / FPS)
            frame = Frame(image, stamp_ns, "bgr", camera=scaled, index=i)
            return Sample(frame, (person,), inverse(T))

        paths = [self._root / "images" / entry["file_name"] for entry in entries]
        return ImageSequence(name, FPS, paths, sample)

    def _joints_of(self, entry: dict[str, Any]) -> Array:
        path = self._paths["joint_3d"]
        keys = [str(entry.get(key)) for key in ("action_idx", "subaction_idx", "frame_idx")]
        try:
            value = self._joints[keys[0]][keys[1]][keys[2]]
        except (KeyError, TypeError) as error:
            raise BadFile(f"{path} has no joints for action, subaction, frame {', '.join(keys)}") from error
        return as_numbers(value, "joints", (len(H36M_17), 3), path) / 1000

    def _camera(self, entry: dict[str, Any], joints: Array) -> tuple[Camera, Array]:
        path = self._paths["camera"]
        values = self._cameras.get(str(entry.get("cam_idx")))
        if not isinstance(values, dict):
            raise BadFile(f"{path} has no camera {entry.get('cam_idx')!r}; it has {', '.join(self._cameras)}")
        f, c = (numbers(values, name, (2,), path) for name in "fc")
        R, t = numbers(values, "R", (3, 3), path), numbers(values, "t", (3,), path) / 1000
        K = np.array([[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1]])
        camera = camera_from(K, (int(entry["height"]), int(entry["width"])), path)
        poses = []
        for shift in (t, -R @ t):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = R, shift
            poses.append((_share_inside(transformed(joints, T), camera), T))
        share, T = max(poses, key=lambda pose: pose[0])
        if share < 0.5:
            raise BadFile(
                f"{path}: camera {entry['cam_idx']} sees only {100 * share:.0f} % of the joints in {entry['file_name']}"
            )
        return camera, T

    def _box(self, entry: dict[str, Any], scale: float, uv: Array) -> Array | None:
        if entry["id"] not in self._boxes:
            return tight_box(uv)
        x, y, width, height = as_numbers(self._boxes[entry["id"]], "bbox", (4,), self._paths["data"]) * scale
        return np.array([x, y, x + width, y + height])


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
