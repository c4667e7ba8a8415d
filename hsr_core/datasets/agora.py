"""AGORA's validation images: rendered scenes with five to fifteen scanned people, SMPL or SMPL-X fitted to the scans.

    <any folder>/<name>.png or <name>_1280x720.png     the images, 3840x2160 or 1280x720
    *.parquet                                          the Camera data frames "with joints and vertices", converted

The set ships pickled data frames, which cannot be read without running code. docs/datasets.md has the few lines that
convert them outside, once. A row is an image: `imgPath`, and lists with one entry a person: `occlusion` [%], `kid`,
optionally `isValid`, and arrays `gt_joints_2d` [px of 3840x2160], `gt_joints_3d` [m] and optionally `gt_verts` [m], the
last two in camera axes.

Source:
    Patel et al., AGORA: Avatars in Geography Optimized for Regression Analysis, CVPR 2021.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..body.joints import JOINT_NAMES
from ..errors import BadFile, MissingFile, MissingPackage
from ..types import Array, Frame
from .base import Conventions, ReferencePerson, Sample
from .files import (
    SINGLE_IMAGE_FPS,
    as_numbers,
    camera_from,
    check_name,
    choose_split,
    existing_folder,
    read_image,
    with_confidence,
)
from .joint_sets import SMPL_24

log = logging.getLogger(__name__)

FULL_WIDTH = 3840
SENSOR_WIDTH_MM = 36.0
MAX_OCCLUSION = 90.0
"""People who are hidden by more than this [%] are not scored."""

LAYOUT = "a folder with AGORA's validation images (.png) and its Camera data frames converted to .parquet"
NEEDED = ("imgPath", "occlusion", "gt_joints_2d", "gt_joints_3d")
OPTIONAL = ("isValid", "gt_verts")

TOPOLOGIES: dict[int, str] = {10475: "smplx", 6890: "smpl"}
JOINTS: dict[str, tuple[str, ...]] = {"smplx": JOINT_NAMES, "smpl": SMPL_24}
"""Names of the first joints; those after them are points on the skin and not given on."""

CONVENTIONS = Conventions(
    name="agora",
    title="AGORA",
    fps=0.0,
    unit="m",
    world_up="",
    camera_matrix="none",
    pixel_centre="half",
    body_model="smplx",
    gender="gendered, children by the kid template",
    splits=("validation",),
    protocols=("agora-smplx", "agora-smpl", "limb-12"),
    reference="SMPL or SMPL-X fitted to scans, rendered: exact cameras, fits good to millimetres",
    licence="research only, no redistribution; its evaluation code is non-commercial too",
    source="https://agora.is.tue.mpg.de",
)


def focal_mm(image_name: str) -> float:
    """Return the focal length of an image by its name, as the set's authors give it."""
    if "hdri" in image_name:
        return 50.0
    return 18.0 if any(f"cam0{i}" in image_name for i in range(4)) else 28.0


class Agora:
    """AGORA validation. A person is not valid when more than 90 % is occluded, or when `isValid` says so."""

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        root = existing_folder(folder, LAYOUT)
        found = _files(root)
        if found[".pkl"] and not found[".parquet"]:
            raise MissingFile(
                f"{root} holds AGORA's data frames as pickles, which are not read, for they can run code: convert them "
                "to .parquet once (docs/datasets.md)"
            )
        if missing := [kind for kind in (".parquet", ".png") if not found[kind]]:
            raise MissingFile(f"{root} has no {' and no '.join(missing)} at any depth; wanted: {LAYOUT}")
        self._tables = {str(path.relative_to(root).with_suffix("")): path for path in found[".parquet"]}
        self._images = {path.name: path for path in found[".png"]}
        self.notes: tuple[str, ...] = ()

    def sequences(self) -> tuple[str, ...]:
        """Return the tables; the images of one have nothing to do with each other in time."""
        return tuple(self._tables)

    def open(self, name: str) -> AgoraTable:
        """Open a table.

        Raises:
            ConfigError: No such table.
            MissingPackage: pyarrow is not installed.
            BadFile: It is torn, or lacks a column.
        """
        check_name(name, self.sequences(), "AGORA")
        return AgoraTable(name, self._tables[name], self._images)


def _files(root: Path) -> dict[str, list[Path]]:
    """Return tables, images and pickles at any depth; linked folders are looked into, each folder once."""
    found: dict[str, list[Path]] = {".parquet": [], ".png": [], ".pkl": []}
    seen: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in sorted(folders) if os.path.realpath(os.path.join(place, name)) not in seen]
        seen.update(os.path.realpath(os.path.join(place, name)) for name in folders)
        for name in names:
            found.get(os.path.splitext(name)[1], []).append(Path(place, name))
    return {kind: sorted(paths) for kind, paths in found.items()}


class AgoraTable:
    """The images of one table, read row by row: vertices of all people would not fit into memory."""

    def __init__(self, name: str, path: Path, images: dict[str, Path]) -> None:
        self.name, self.fps, self.skipped = name, SINGLE_IMAGE_FPS, 0
        self._path, self._images = path, images
        self._file = _open_parquet(path)
        self.frame_count: int | None = self._file.metadata.num_rows
        there = set(self._file.schema_arrow.names)
        if missing := [column for column in NEEDED if column not in there]:
            raise BadFile(f"{path} has no column {', '.join(missing)}; it has {', '.join(sorted(there))}")
        self._columns = [column for column in (*NEEDED, *OPTIONAL) if column in there]

    def __iter__(self) -> Iterator[Sample]:
        self.skipped = 0
        if self._file is None:
            return
        rows = self._file.iter_batches(batch_size=1, columns=self._columns)
        for i in range(self.frame_count or 0):
            sample = self._sample(i, _next_row(rows, self._path))
            if sample is None:
                self.skipped += 1
                continue
            yield sample
            if self._file is None:
                return

    def _sample(self, i: int, row: dict[str, Any]) -> Sample | None:
        name = Path(str(row["imgPath"])).name
        small = f"{Path(name).stem}_1280x720.png"
        path = self._images.get(name) or self._images.get(small)
        image = None if path is None else read_image(path)
        if image is None:
            log.warning("%s: row %d skipped: neither %s nor %s is there and decodes", self._path, i, name, small)
            return None
        height, width = image.shape[:2]
        f = focal_mm(name) / SENSOR_WIDTH_MM * width
        # Rendered: the principal point is the middle of the picture, between pixels.
        K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
        camera = camera_from(K, (height, width), self._path)
        occlusion = as_numbers(row["occlusion"], "occlusion", (None,), self._path)
        valid = (occlusion >= 0) & (occlusion <= MAX_OCCLUSION)
        if "isValid" in row:
            valid &= as_numbers(row["isValid"], "isValid", valid.shape, self._path) > 0
        people = tuple(self._person(p, row, width / FULL_WIDTH, bool(seen)) for p, seen in enumerate(valid))
        return Sample(Frame(image, round(i * 1e9 / self.fps), "bgr", camera=camera, index=i), people)

    def _person(self, p: int, row: dict[str, Any], scale: float, valid: bool) -> ReferencePerson:
        joints = _points(row["gt_joints_3d"], p, 3, "gt_joints_3d", self._path)
        uv = _points(row["gt_joints_2d"], p, 2, "gt_joints_2d", self._path)
        vertices = _points(row["gt_verts"], p, 3, "gt_verts", self._path) if "gt_verts" in row else None
        topology = _topology(len(joints), vertices, self._path)
        names = JOINTS[topology]
        if len(uv) != len(joints) or len(joints) < len(names):
            raise BadFile(f"{self._path}: {len(uv)} joints in 2D and {len(joints)} in 3D; {topology} has {len(names)}")
        uv = uv[: len(names)] * scale - 0.5
        body = uv[: len(SMPL_24)]
        return ReferencePerson(
            id=p,
            joints=joints[: len(names)],
            joint_names=names,
            vertices=None if vertices is None else vertices.astype(np.float32),
            topology="" if vertices is None else topology,
            keypoints2d=with_confidence(uv),
            bbox_xyxy=np.concatenate([body.min(0), body.max(0)]) if np.isfinite(body).all() else None,
            valid=bool(valid and np.isfinite(joints).any()),
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _open_parquet(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingPackage("AGORA's tables need pyarrow: pip install 'hsr-core[agora]'") from error
    try:
        return ParquetFile(path)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} is torn or no parquet: {error}; convert it again (docs/datasets.md)") from error


def _next_row(rows: Iterator[Any], path: Path) -> dict[str, Any]:
    try:
        batch = next(rows)
        return {name: _cell(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    except (OSError, ValueError, StopIteration, NotImplementedError) as error:
        raise BadFile(f"{path} is torn: {error!r}; convert it again (docs/datasets.md)") from error


def _cell(column: Any) -> Any:
    """Return the single cell of a batch: a string, or (people, values) flat for each person."""
    import pyarrow as pa

    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        return column[0].as_py()
    people = column.flatten()
    values, count = people, len(people)
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = values.flatten()
    flat = values.to_numpy(zero_copy_only=False)
    return flat if values is people else flat.reshape(count, -1) if count and len(flat) % count == 0 else flat


def _points(cell: Any, p: int, dims: int, name: str, path: Path) -> Array:
    """Return the points (K, dims) of person p."""
    if np.ndim(cell) != 2 or p >= len(cell) or cell.shape[1] % dims or not cell.shape[1]:
        raise BadFile(
            f"{path}: {name} must hold one array (points, {dims}) a person, all of one length; "
            f"it holds {np.shape(cell)} numbers"
        )
    return as_numbers(cell[p], name, (None,), path).reshape(-1, dims)


def _topology(n_joints: int, vertices: Array | None, path: Path) -> str:
    if vertices is None:
        return "smplx" if n_joints >= len(JOINT_NAMES) else "smpl"
    if len(vertices) not in TOPOLOGIES:
        raise BadFile(f"{path}: gt_verts has {len(vertices)} vertices; SMPL-X has 10475, SMPL 6890")
    return TOPOLOGIES[len(vertices)]


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> Agora:
    """See `open_dataset`."""
    return Agora(folder, split=split, body_models=body_models)
