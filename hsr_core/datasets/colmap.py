"""COLMAP's text models: cameras and poses of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import BadFile, MissingFile
from ..types import Array

_MODELS: dict[str, tuple[int, tuple[int, ...]]] = {
    "SIMPLE_PINHOLE": (1, ()), "PINHOLE": (2, ()), "SIMPLE_RADIAL": (1, (0,)), "RADIAL": (1, (0, 1)),
    "OPENCV": (2, (0, 1, 2, 3)),
}  # fmt: skip
"""Number of focal lengths, and the places of the further parameters among k1 k2 p1 p2 k3."""


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """One image of a model.

    Attributes:
        name: Its file name.
        K: (3, 3) [px], pixel centres at integers. dist: (5,), k1 k2 p1 p2 k3. image_hw: Its size.
        T_cam_world: (4, 4), in the model's unit.
    """

    name: str
    K: Array
    dist: Array
    image_hw: tuple[int, int]
    T_cam_world: Array


def read_model(folder: Path) -> list[ColmapImage]:
    """Read cameras.txt and images.txt; images in the order of their names.

    Raises:
        MissingFile: A file is not there.
        BadFile: A line cannot be read, a camera is missing, or its model is not one of a normal lens.
    """
    cameras = dict(_parsed(folder / "cameras.txt", _camera))
    images = []
    # Two lines an image, the second its points, which may be empty.
    for number, pose in _parsed(folder / "images.txt", _image, every=2):
        name, camera_id, T = pose
        if camera_id not in cameras:
            raise BadFile(f"{folder / 'images.txt'}: image {number} has camera {camera_id}, which cameras.txt lacks")
        images.append(ColmapImage(name, *cameras[camera_id], T))
    return sorted(images, key=lambda image: image.name)


def _parsed(path: Path, parse, every: int = 1) -> Iterator[tuple[int, tuple]]:
    if not path.is_file():
        raise MissingFile(f"no {path}: the model must be in COLMAP's text form (colmap model_converter)")
    lines = [line for line in path.read_text(errors="replace").splitlines() if not line.startswith("#")]
    if every == 1:
        lines = [line for line in lines if line.strip()]
    for line in lines[::every]:
        if not line.strip():
            continue
        try:
            yield parse(line.split())
        except (ValueError, IndexError, KeyError) as error:
            raise BadFile(f"{path}: {line[:60]!r} cannot be read: {error}") from error


def _camera(words: list[str]) -> tuple[int, tuple[Array, Array, tuple[int, int]]]:
    if words[1] not in _MODELS:
        raise ValueError(f"camera model {words[1]} is not among {', '.join(_MODELS)}")
    n_focal, places = _MODELS[words[1]]
    values = [float(word) for word in words[4:]]
    if len(values) != n_focal + 2 + len(places):
        raise ValueError(f"{words[1]} has {n_focal + 2 + len(places)} parameters")
    # COLMAP's first pixel has its centre at 0.5.
    cx, cy = values[n_focal] - 0.5, values[n_focal + 1] - 0.5
    K = np.array([[values[0], 0, cx], [0, values[n_focal - 1], cy], [0, 0, 1]])
    dist = np.zeros(5)
    dist[list(places)] = values[n_focal + 2 :]
    return int(words[0]), (K, dist, (int(words[3]), int(words[2])))


def _image(words: list[str]) -> tuple[int, tuple[str, int, Array]]:
    w, x, y, z, *t = (float(word) for word in words[1:8])
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
    T[:3, 3] = t
    return int(words[0]), (words[9], int(words[8]), T)
