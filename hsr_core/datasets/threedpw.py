"""3DPW: people in the wild, from IMUs and a hand-held camera.

    imageFiles/<sequence>/image_00000.jpg
    sequenceFiles/<train|validation|test>/<sequence>.pkl      pickles of Python 2

The pickle has one entry a person in `poses` (N, 72), `trans` (N, 3), `betas`, `genders`, `jointPositions` (N, 72),
`poses2d` (N, 3, 18) and `campose_valid` (N,), and for all `cam_intrinsics` (3, 3) and `cam_poses` (N, 4, 4), world to
camera, at the rate of the images.

Source:
    von Marcard et al., Recovering Accurate 3D Human Pose in The Wild Using IMUs and a Moving Camera, ECCV 2018.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..body.numbers_pickle import read_pickle
from ..errors import BadFile
from ..geometry.rigid import inverse, transformed
from ..types import Array, Frame
from .base import Conventions, ReferencePerson, Sample
from .files import ImageSequence, as_numbers, camera_from, check_name, choose_split, need_folder, numbers, tight_box
from .joint_sets import OPENPOSE_18, SMPL_24
from .smpl_reference import SmplModels, SmplPerson

FPS = 30.0
MIN_KEY_POINTS = 6
"""The challenge leaves out people of whom fewer key points were seen."""

LAYOUT = "the folder with imageFiles/ and sequenceFiles/ of 3DPW"
GENDERS = {"m": "male", "f": "female"}

CONVENTIONS = Conventions(
    name="3dpw",
    title="3DPW",
    fps=FPS,
    unit="m",
    world_up="",
    camera_matrix="world_to_camera",
    pixel_centre="integer",
    body_model="smpl",
    gender="gendered",
    splits=("test", "validation", "train"),
    protocols=("3dpw-14", "3dpw-challenge-24", "limb-12"),
    reference="SMPL fitted to IMUs and video; its authors measured 26 mm against optical motion capture",
    licence="research only, no redistribution",
    source="https://virtualhumans.mpi-inf.mpg.de/3DPW",
)


class ThreeDpw:
    """3DPW. Joints are the shipped 24 of SMPL; a mesh needs the user's SMPL files (male and female).

    A person is not valid in frames with `campose_valid` 0 or fewer than 6 key points, as in the challenge.
    """

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        self._root = need_folder(folder, ("imageFiles", f"sequenceFiles/{self.split}/*.pkl"), LAYOUT)
        self._models = SmplModels(body_models)
        self.notes = self._models.note(("male", "female"), "no vertices, so no PVE and no J14 joints")

    def sequences(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in (self._root / "sequenceFiles" / self.split).glob("*.pkl")))

    def open(self, name: str) -> ImageSequence:
        """Open a sequence.

        Raises:
            ConfigError: No such sequence.
            MissingFile: Its images are not there.
            BadFile: Its pickle is torn, holds other things than numbers, or lacks an array.
        """
        check_name(name, self.sequences(), f"3DPW's split {self.split}")
        images = need_folder(self._root / "imageFiles" / name, (), f"the images of {name} (imageFiles.zip)")
        truth = _Truth(self._root / "sequenceFiles" / self.split / f"{name}.pkl", self._models)
        paths = [images / f"image_{i:05d}.jpg" for i in range(truth.length)]
        return ImageSequence(name, FPS, paths, truth.sample)


class _Truth:
    """What a pickle says, checked."""

    def __init__(self, path: Path, models: SmplModels) -> None:
        data = read_pickle(path)
        self._path = path
        self._T_cam_world = numbers(data, "cam_poses", (None, 4, 4), path)
        self.length = len(self._T_cam_world)
        self._K = numbers(data, "cam_intrinsics", (3, 3), path)
        count = len(_people(data, "poses", path))
        per_person = partial(_person_array, data, path, count)
        self._joints, self._points, self._valid, self._smpl = [], [], [], []
        for p in range(count):
            joints = per_person("jointPositions", p, (self.length, 72)).reshape(-1, 24, 3)
            transl = per_person("trans", p, (self.length, 3))
            points = per_person("poses2d", p, (self.length, 3, 18)).transpose(0, 2, 1)
            poses = per_person("poses", p, (self.length, 72))
            seen = (points[..., 2] > 0).sum(1) >= MIN_KEY_POINTS
            gender = GENDERS.get(str(_people(data, "genders", path)[p]))
            if gender is None:
                raise BadFile(f"{path}: genders must be m or f, not {data['genders']!r}")
            self._joints.append(joints)
            self._points.append(points)
            self._valid.append((per_person("campose_valid", p, (self.length,)) > 0) & seen)
            betas = per_person("betas", p, (None,))
            self._smpl.append(SmplPerson(poses, betas, transl, models.get(gender), _rest_pelvis(joints, transl)))

    def sample(self, i: int, image: NDArray[np.uint8], stamp_ns: int) -> Sample:
        camera = camera_from(self._K, image.shape[:2], self._path)  # type: ignore[arg-type]
        T = self._T_cam_world[i]
        people = tuple(self._person(p, i, T) for p in range(len(self._joints)))
        return Sample(Frame(image, stamp_ns, "bgr", camera=camera, index=i), people, inverse(T))

    def _person(self, p: int, i: int, T: Array) -> ReferencePerson:
        joints, points = transformed(self._joints[p][i], T), self._points[p][i]
        given = self._smpl[p].fields(i, T)
        given["joints"] = joints
        seen = np.where(points[:, 2:] > 0, points[:, :2], np.nan)
        return ReferencePerson(
            id=p,
            joint_names=SMPL_24,
            keypoints2d=points,
            keypoint_names=OPENPOSE_18,
            bbox_xyxy=tight_box(seen),
            valid=bool(self._valid[p][i] and np.isfinite(joints).any()),
            **given,
        )


def _rest_pelvis(joints: Array, transl: Array) -> Array:
    """Return SMPL's pelvis at rest: the root turns about it, so it is what is left of the posed one without `trans`."""
    rest = joints[:, 0] - transl
    finite = np.isfinite(rest).all(axis=1)
    return rest[finite.argmax()] if finite.any() else np.full(3, np.nan)


def _people(data: dict[str, Any], name: str, path: Path) -> Any:
    value = data.get(name)
    if not isinstance(value, (list, tuple, np.ndarray)) or not np.iterable(value) or not len(value):
        raise BadFile(f"{path}: {name} must be a list with one entry a person; this is no pickle of 3DPW")
    return value


def _person_array(
    data: dict[str, Any], path: Path, count: int, name: str, p: int, shape: tuple[int | None, ...]
) -> Array:
    value = _people(data, name, path)
    if len(value) != count:
        raise BadFile(f"{path}: {name} has {len(value)} people, poses has {count}")
    return as_numbers(value[p], f"{name}[{p}]", shape, path)


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> ThreeDpw:
    """See `open_dataset`."""
    return ThreeDpw(folder, split=split, body_models=body_models)
