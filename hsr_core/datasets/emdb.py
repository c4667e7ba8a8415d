"""EMDB: one person outdoors, from electromagnetic sensors and a moving hand-held camera.

    P0/<sequence>/images/00000.jpg
    P0/<sequence>/P0_<sequence>_data.pkl

The pickle has `smpl` (poses_root, poses_body, trans, betas), `camera` (intrinsics, extrinsics: world to camera, width,
height), `kp2d` (N, 24, 2) of the SMPL joints, `bboxes`, `good_frames_mask`, `gender` and the flags `emdb1`, `emdb2`.

Source:
    Kaufmann et al., EMDB: The Electromagnetic Database of Global 3D Human Pose and Shape in the Wild, ICCV 2023.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..body.numbers_pickle import read_pickle
from ..errors import BadFile, InvalidIntrinsics
from ..geometry.rigid import inverse
from ..types import Frame
from .base import Conventions, ReferencePerson, Sample
from .files import ImageSequence, camera_from, check_name, choose_split, need_folder, numbers, with_confidence
from .joint_sets import SMPL_24
from .smpl_reference import SmplModels, SmplPerson

FPS = 30.0
LAYOUT = "the folder with P0/, P1/, ... of EMDB"

CONVENTIONS = Conventions(
    name="emdb",
    title="EMDB",
    fps=FPS,
    unit="m",
    world_up="",
    camera_matrix="world_to_camera",
    pixel_centre="integer",
    body_model="smpl",
    gender="gendered",
    splits=("emdb1", "emdb2", "all"),
    protocols=("emdb-24", "world-100", "limb-12"),
    reference="SMPL fitted to electromagnetic sensors and video; its authors measured 23 mm against a scanning stage",
    licence="research only, no redistribution",
    source="https://emdb.ait.ethz.ch",
)


class Emdb:
    """EMDB. It ships parameters and projected joints: 3D joints and meshes need the user's SMPL files.

    The person is not valid where `good_frames_mask` says so.
    """

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        self._root = need_folder(folder, ("P*/*/*_data.pkl",), LAYOUT)
        self._models = SmplModels(body_models)
        self.notes = self._models.note(
            ("male", "female"), "rotations and 2D only, no 3D joints, no vertices, no translation in the camera frame"
        )

    def _path(self, name: str) -> Path:
        """Return the pickle of a sequence, which may not exist."""
        return self._root / name / f"{name.replace('/', '_')}_data.pkl"

    def sequences(self) -> tuple[str, ...]:
        """Return the sequences of the split, as `P0/<sequence>`. Its flag is in the pickles, so each is read."""
        found = ("/".join(path.parent.parts[-2:]) for path in sorted(self._root.glob("P*/*/*_data.pkl")))
        names = tuple(name for name in found if self._path(name).is_file())
        return names if self.split == "all" else tuple(n for n in names if read_pickle(self._path(n)).get(self.split))

    def open(self, name: str) -> ImageSequence:
        """Open a sequence.

        Raises:
            ConfigError: No such sequence in the set, or in the split.
            MissingFile: Its images are not there.
            BadFile: Its pickle is torn, holds other things than numbers, or lacks an array.
        """
        path = self._path(name)
        data = read_pickle(path) if path.is_file() else {}
        if not data or (self.split != "all" and not data.get(self.split)):
            check_name(name, self.sequences(), f"EMDB's split {self.split}")
        images = need_folder(path.parent / "images", (), f"the images of {name}")
        truth = _Truth(path, data, self._models)
        return ImageSequence(name, FPS, [images / f"{i:05d}.jpg" for i in range(truth.length)], truth.sample)


class _Truth:
    """What a pickle says, checked."""

    def __init__(self, path: Path, data: dict[str, Any], models: SmplModels) -> None:
        self._path = path
        smpl, camera = (_part(data, name, path) for name in ("smpl", "camera"))
        body = numbers(smpl, "poses_body", (None, 69), path)
        n = self.length = len(body)
        root, transl = numbers(smpl, "poses_root", (n, 3), path), numbers(smpl, "trans", (n, 3), path)
        self._T_cam_world = numbers(camera, "extrinsics", (n, 4, 4), path)
        self._K = numbers(camera, "intrinsics", (3, 3), path)
        self._size_hw = _size_hw(camera, path)
        self._points = numbers(data, "kp2d", (n, 24, 2), path)
        self._good = numbers(data, "good_frames_mask", (n,), path) > 0
        self._boxes = _boxes(data, n, path)
        gender = str(data.get("gender"))
        if gender not in ("female", "male", "neutral"):
            raise BadFile(f"{path}: gender must be female, male or neutral, not {gender!r}")
        betas = numbers(smpl, "betas", None, path).ravel()
        self._smpl = SmplPerson(np.concatenate([root, body], axis=1), betas, transl, models.get(gender))

    def sample(self, i: int, image: NDArray[np.uint8], stamp_ns: int) -> Sample:
        camera = camera_from(self._K, self._size_hw, self._path)
        try:
            camera = camera.scaled(image.shape[:2])  # type: ignore[arg-type]
        except InvalidIntrinsics as error:
            raise BadFile(f"{self._path}: {error}") from error
        T, points, good = self._T_cam_world[i], self._points[i], bool(self._good[i])
        # kp2d belongs to the set's own size.
        scale = np.array([image.shape[1] / self._size_hw[1], image.shape[0] / self._size_hw[0]])
        points = (points + 0.5) * scale - 0.5
        given = self._smpl.fields(i, T)
        person = ReferencePerson(
            id=0,
            joint_names=SMPL_24 if given["joints"] is not None else (),
            keypoints2d=with_confidence(points, float(good)),
            keypoint_names=SMPL_24,
            bbox_xyxy=None if self._boxes is None or not good else self._boxes[i] * np.tile(scale, 2),
            valid=good and given["params"] is not None,
            **given,
        )
        return Sample(Frame(image, stamp_ns, "bgr", camera=camera, index=i), (person,), inverse(T))


def _part(data: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    part = data.get(name)
    if not isinstance(part, dict):
        raise BadFile(f"{path} has no dictionary {name!r}; it holds {', '.join(sorted(map(str, data)))}")
    return part


def _size_hw(camera: dict[str, Any], path: Path) -> tuple[int, int]:
    height, width = (float(numbers(camera, side, (), path)) for side in ("height", "width"))
    if not (0 < height < 1e5 and 0 < width < 1e5):
        raise BadFile(f"{path}: height and width of the images must be pixels, not {height:g} and {width:g}")
    return int(height), int(width)


def _boxes(data: dict[str, Any], n: int, path: Path) -> np.ndarray | None:
    part = data.get("bboxes")
    return numbers(part, "bboxes", (n, 4), path) if isinstance(part, dict) else None


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> Emdb:
    """See `open_dataset`."""
    return Emdb(folder, split=split, body_models=body_models)
