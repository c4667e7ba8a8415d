"""NeuMan, with its own body fits or those of HUGS: one person and a moving phone, for refined renders.

    <sequence>/images/00000.png
    <sequence>/sparse/cameras.txt, images.txt                          COLMAP
    <sequence>/segmentations/00000.png                                 255 = background
    <sequence>/train_split.txt, val_split.txt, test_split.txt          image names
    <sequence>/4d_humans/smpl_optimized_aligned_scale.npz              HUGS: SMPL's parameters and scale
    <sequence>/4d_humans/sam_segmentations/mask_0000.png               HUGS: 255 = person; used without segmentations/

    <sequence>/smpl_output_optimized.pkl, alignments.npy               NeuMan's own fits; used without those of HUGS

A vertex V of HUGS's fit lies at `scale * V + transl` in COLMAP's unit, one of NeuMan's at `A V + b` with the (3, 4)
transpose of the image's alignment. Here everything is divided by that scale, so that the body has its own size and
parameters mean what they say; distances are as good as the fitted body's size.

Source:
    Jiang et al., NeuMan: Neural Human Radiance Field from a Single Video, ECCV 2022; Kocabas et al., HUGS: Human
    Gaussian Splats, CVPR 2024.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..body.numbers_pickle import read_object_array
from ..body.smplx_body import read_npz
from ..errors import BadFile, InvalidIntrinsics, MissingFile
from ..geometry.camera import project
from ..geometry.rigid import inverse
from ..types import Array, Camera, Frame
from .base import Conventions, ReferencePerson, Sample
from .colmap import ColmapImage, read_model
from .files import (
    ImageSequence,
    as_numbers,
    camera_from,
    check_name,
    choose_split,
    need_folder,
    numbers,
    read_image,
    with_confidence,
)
from .joblib_file import read_joblib
from .joint_sets import SMPL_24
from .smpl_reference import SmplModels, SmplPerson

NOMINAL_FPS = 10.0
"""Rate of the stamps [Hz]: the frames were drawn from videos at a rate that is not published."""

LAYOUT = "the folder with bike/, citron/, jogging/, lab/, parkinglot/, seattle/ of NeuMan"
HUGS_FITS = "4d_humans/smpl_optimized_aligned_scale.npz"
OWN_FITS = ("smpl_output_optimized.pkl", "alignments.npy")

CONVENTIONS = Conventions(
    name="neuman",
    title="NeuMan",
    fps=0.0,
    unit="m_by_body",
    world_up="",
    camera_matrix="world_to_camera",
    pixel_centre="half",
    body_model="smpl",
    gender="neutral",
    splits=("all", "test", "val", "train"),
    protocols=("neuman-image", "limb-12"),
    reference="SMPL fitted to the pictures by HUGS or NeuMan: a fit, no measurement; it is for images and masks",
    licence="Apple's terms in its repository",
    source="https://github.com/apple/ml-neuman and https://github.com/apple/ml-hugs",
)


class NeuMan:
    """NeuMan. Splits are NeuMan's own files; the val of HUGS is the test of NeuMan."""

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        self._root = need_folder(folder, ("*/images", "*/sparse/images.txt"), LAYOUT)
        self._models = SmplModels(body_models)
        without = [name for name in self.sequences() if not _has_fits(self._root / name)]
        files = f"{HUGS_FITS} and no {' with '.join(OWN_FITS)}"
        notes = [f"{', '.join(without)}: no {files}, so no people: images and masks only"] if without else []
        self.notes = (*notes, *self._models.note(("neutral",), "rotations only, no joints, vertices or translation"))

    def sequences(self) -> tuple[str, ...]:
        return tuple(sorted(path.parent.parent.name for path in self._root.glob("*/sparse/images.txt")))

    def open(self, name: str) -> ImageSequence:
        """Open a sequence.

        Raises:
            ConfigError: No such sequence.
            MissingFile: The model, the images or the file of the split is not there.
            BadFile: The model or the fits cannot be read, or do not belong together.
        """
        check_name(name, self.sequences(), "NeuMan")
        truth = _Truth(self._root / name, self._models)
        chosen = truth.rows_of(self.split)
        paths = [self._root / name / "images" / truth.images[row].name for row in chosen]
        return ImageSequence(
            name, NOMINAL_FPS, paths, lambda i, image, _: truth.sample(i, chosen[i], image)
        )  # fmt: skip


def _has_fits(folder: Path) -> bool:
    return (folder / HUGS_FITS).is_file() or all((folder / name).is_file() for name in OWN_FITS)


@dataclass(frozen=True, eq=False)
class _Fits:
    """Where the body is in each image.

    Attributes:
        smpl: The body, in metres of its own size.
        scale: (N,) COLMAP's unit per metre. T_world_body: (N, 4, 4), in metres too.
    """

    smpl: SmplPerson
    scale: Array
    T_world_body: Array


class _Truth:
    """One sequence."""

    def __init__(self, folder: Path, models: SmplModels) -> None:
        self._folder = folder
        self.images = read_model(folder / "sparse")
        if not self.images:
            raise BadFile(f"{folder / 'sparse' / 'images.txt'} names no image")
        self._fits: _Fits | None = None
        if (folder / HUGS_FITS).is_file():
            self._fits = _hugs_fits(folder / HUGS_FITS, len(self.images), models)
        elif _has_fits(folder):
            self._fits = _own_fits(folder, [image.name for image in self.images], models)
        masks = sorted((folder / "4d_humans" / "sam_segmentations").glob("*.png"))
        self._sam_masks = masks if len(masks) == len(self.images) else []

    def rows_of(self, split: str) -> list[int]:
        """Return the images of a split, by number."""
        if split == "all":
            return list(range(len(self.images)))
        path = self._folder / f"{split}_split.txt"
        if not path.is_file():
            raise MissingFile(f"no {path}, which names the images of the split; the split all needs none")
        wanted = set(path.read_text(errors="replace").split())
        if unknown := wanted - {image.name for image in self.images}:
            raise BadFile(f"{path} names {min(unknown)}, which sparse/images.txt lacks")
        return [i for i, image in enumerate(self.images) if image.name in wanted]

    def sample(self, i: int, row: int, image: NDArray[np.uint8]) -> Sample:
        entry, where = self.images[row], self._folder / "sparse" / "cameras.txt"
        try:
            camera = camera_from(entry.K, entry.image_hw, where, entry.dist).scaled(image.shape[:2])  # type: ignore[arg-type]
        except InvalidIntrinsics as error:
            raise BadFile(f"{where}: {error}") from error
        mask = self._mask(row, image.shape[:2])  # type: ignore[arg-type]
        people = () if self._fits is None else (self._person(self._fits, row, entry, camera, mask),)
        # The stamps of a split keep the gaps of what was left out.
        stamp_ns = round(row * 1e9 / NOMINAL_FPS)
        T_world_cam = inverse(entry.T_cam_world)
        T_world_cam[:3, 3] /= 1.0 if self._fits is None else np.median(self._fits.scale)
        return Sample(Frame(image, stamp_ns, "bgr", camera=camera, index=i), people, T_world_cam, mask)

    def _person(self, fits: _Fits, row: int, entry: ColmapImage, camera: Camera, mask: Array | None) -> ReferencePerson:
        T = entry.T_cam_world.copy()
        T[:3, 3] /= fits.scale[row]
        given = fits.smpl.fields(row, T @ fits.T_world_body[row])
        joints = given["joints"]
        return ReferencePerson(
            id=0,
            joint_names=() if joints is None else SMPL_24,
            keypoints2d=None if joints is None else with_confidence(project(joints, camera)),
            bbox_xyxy=_box_of(mask),
            valid=given["params"] is not None,
            **given,
        )

    def _mask(self, row: int, image_hw: tuple[int, int]) -> Array | None:
        """Return the person's mask, 1 = person; NeuMan's files mark the background."""
        path = self._folder / "segmentations" / self.images[row].name
        background = path.is_file()
        if not background and not self._sam_masks:
            return None
        path = path if background else self._sam_masks[row]
        mask = read_image(path, cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != image_hw:
            raise BadFile(f"{path} must be a mask of {image_hw}, not {None if mask is None else mask.shape}")
        share = mask.astype(np.float32) / 255
        return 1 - share if background else share


def _hugs_fits(path: Path, n: int, models: SmplModels) -> _Fits:
    data = read_npz(path)
    scale = as_numbers(np.reshape(data.get("scale", ()), -1), "scale", (n,), path)
    if not (scale > 0).all():
        raise BadFile(f"{path}: scale must be positive, it goes down to {scale.min():g}")
    pose = [numbers(data, "global_orient", (n, 3), path), numbers(data, "body_pose", (n, 69), path)]
    betas, transl = numbers(data, "betas", (n, None), path), numbers(data, "transl", (n, 3), path)
    smpl = SmplPerson(np.concatenate(pose, axis=1), betas[0], transl / scale[:, None], models.get("neutral"))
    return _Fits(smpl, scale, np.tile(np.eye(4), (n, 1, 1)))


def _own_fits(folder: Path, names: list[str], models: SmplModels) -> _Fits:
    path, placed = (folder / name for name in OWN_FITS)
    people = read_joblib(path)
    person = next(iter(people.values()), None) if isinstance(people, dict) and len(people) == 1 else None
    if not isinstance(person, dict):
        raise BadFile(f"{path} must hold one person, a dictionary of arrays")
    poses, betas = numbers(person, "pose", (None, 72), path), numbers(person, "betas", (None, None), path)
    try:
        rows = [int(Path(name).stem) for name in names]
    except ValueError as error:
        raise BadFile(f"sparse/images.txt of {folder} names an image without a number: {error}") from error
    if max(rows) >= len(poses):
        raise BadFile(f"{path} has {len(poses)} poses, and there is an image {names[-1]}")
    with placed.open("rb") as file:
        try:
            alignments = read_object_array(file)
        except Exception as error:  # a torn pickle may raise nearly anything
            raise BadFile(f"cannot read {placed}: {error}; get it again") from error
    if not isinstance(alignments, dict):
        raise BadFile(f"{placed} must hold a dictionary, image name -> (4, 3)")
    moves = np.stack([numbers(alignments, name, (4, 3), placed).T for name in names])
    scale = np.cbrt(np.linalg.det(moves[:, :, :3]))
    if not (scale > 0).all():
        raise BadFile(f"{placed} must hold similarities, one has the scale {scale.min():g}")
    T = np.tile(np.eye(4), (len(names), 1, 1))
    T[:, :3] = moves / scale[:, None, None]
    smpl = SmplPerson(poses[rows], betas[rows[0]], np.zeros((len(rows), 3)), models.get("neutral"))
    return _Fits(smpl, scale, T)


def _box_of(mask: Array | None) -> Array | None:
    if mask is None or not (mask > 0.5).any():
        return None
    rows, columns = (np.flatnonzero((mask > 0.5).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> NeuMan:
    """See `open_dataset`."""
    return NeuMan(folder, split=split, body_models=body_models)
