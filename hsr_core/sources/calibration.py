"""Camera files: JSON with K and pose per camera, and the TOML of Sports2D, Pose2Sim and aniposelib."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, ConfigError, InvalidIntrinsics, MissingFile
from ..types import Array, Camera, IntrinsicsSource

log = logging.getLogger(__name__)

MAX_CROPPED_PX = 16
"""Encoders work in blocks of 16 px: a picture that lost fewer columns or rows than that was not simply resized."""
DARK = 24
"""Mean brightness of a row below which it is a bar and no picture."""


@dataclass(frozen=True, eq=False)
class CalibratedCamera:
    """A camera as its file gives it.

    Attributes:
        name: Name in the file.
        K, dist, model: As in `Camera`.
        size_hw: Image size that K belongs to, or None where the file does not say.
        R_cam_world, t_cam_world: Pose, (3, 3) and (3,) [m], or None; x_cam = R x_world + t.
        source: CAMERA_INFO for a calibration, PARAMETER for a file that says its K is not measured.
    """

    name: str
    K: Array
    dist: Array
    model: str = "plumb_bob"
    size_hw: tuple[int, int] | None = None
    R_cam_world: Array | None = None
    t_cam_world: Array | None = None
    source: IntrinsicsSource = IntrinsicsSource.CAMERA_INFO

    def camera(self, image_hw: tuple[int, int], image: NDArray[np.uint8] | None = None) -> Camera:
        """Return the intrinsics for images of this size.

        A uniform change of size scales K. Where the image lacks a few columns or rows (an encoder wants whole blocks),
        `image` tells which of two things happened: dark bars of the right width say that the picture was shrunk to fit
        and padded; without them it was cut at its right and lower edge. A file without a size is taken to be for
        images as they come.

        Args:
            image_hw: (height, width) [px].
            image: One of the images, (H, W, ...) uint8, to look for bars in.

        Raises:
            InvalidIntrinsics: K is unusable, or the image is not the calibrated picture resized.
        """
        size = self.size_hw or image_hw
        lost = (size[0] - image_hw[0], size[1] - image_hw[1])
        whole = Camera(self.K, size, self.dist, self.model, self.source)
        if min(lost) != 0 or not 0 < max(lost) < MAX_CROPPED_PX:
            return whole.scaled(image_hw)
        fitted = image is not None and _has_bars(image, size)
        how = "shrunk to fit between dark bars" if fitted else "cut at its right and lower edge"
        log.warning(
            "camera %s is calibrated for %dx%d, the image is %dx%d: taken as %s",
            self.name, size[1], size[0], image_hw[1], image_hw[0], how,
        )  # fmt: skip
        K = _shrunk(self.K, size, image_hw) if fitted else self.K
        return Camera(K, image_hw, self.dist, self.model, self.source)


def _shrunk(K: Array, size: tuple[int, int], image_hw: tuple[int, int]) -> Array:
    """Return K for a picture of `size` shrunk uniformly into `image_hw` and centred there."""
    scale = min(image_hw[0] / size[0], image_hw[1] / size[1])
    out = K.copy()
    out[:2] *= scale
    for axis, (full, fitted) in enumerate(zip(size[::-1], image_hw[::-1], strict=True)):
        # Edges at -0.5: pixel centres are at integers.
        out[axis, 2] = (K[axis, 2] + 0.5) * scale - 0.5 + (fitted - full * scale) / 2
    return out


def _has_bars(image: NDArray[np.uint8], size: tuple[int, int]) -> bool:
    """True when the image is dark where a picture of `size` shrunk into it would leave bars, and not beyond."""
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    bars = ((height - size[0] * scale) / 2, (width - size[1] * scale) / 2)
    axis = int(np.argmax(bars))
    brightness = image.reshape(height, width, -1).max(axis=2).mean(axis=1 - axis)
    bar = int(bars[axis])  # whole rows; the next one mixes bar and picture
    beyond = brightness[bar + 2 : -bar - 2]
    return bar >= 2 and max(brightness[: bar - 1].max(), brightness[1 - bar :].max()) < DARK < beyond.mean()


def load_cameras(path: str | os.PathLike[str]) -> dict[str, CalibratedCamera]:
    """Return the cameras of a `.json` or `.toml` calibration file by name.

    JSON: `{"cameras": [{"name", "K", "dist", optional "size" [width, height], "model", "R_cam_world", "t_cam_world",
    "source"}]}`. TOML: one table per camera with `matrix`, `distortions`, `size` [width, height], `rotation`
    (rotation vector), `translation`, `fisheye`.

    Raises:
        MissingFile: No such file.
        BadFile: It cannot be parsed or lacks a value; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"no camera file {path}; give a .json or .toml calibration")
    try:
        if path.suffix.lower() == ".toml":
            found = [_from_toml(name, table) for name, table in _read_toml(path).items() if "matrix" in table]
        else:
            found = [_from_json(entry) for entry in json.loads(path.read_text())["cameras"]]
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"cannot read cameras from {path}: {type(error).__name__}: {error}") from error
    if not found:
        raise BadFile(f"{path} holds no camera")
    return {camera.name: camera for camera in found}


def load_camera_if_given(path: str | os.PathLike[str] | None, name: str = "") -> CalibratedCamera | None:
    """Return `load_camera`, or None without a path: what the options --cameras and --camera say together.

    Raises:
        ConfigError: A name without a path.
    """
    if path:
        return load_camera(path, name)
    if name:
        raise ConfigError("--camera names a camera of the file given by --cameras")
    return None


def load_camera(path: str | os.PathLike[str], name: str = "") -> CalibratedCamera:
    """Return one camera of a calibration file; `name` may be left out where the file has only one.

    Raises:
        InvalidIntrinsics: No such name, or several and none chosen; the message lists the names.
    """
    cameras = load_cameras(path)
    if name in cameras:
        return cameras[name]
    if not name and len(cameras) == 1:
        return next(iter(cameras.values()))
    wrong = f"no camera {name!r}" if name else "choose a camera (--camera)"
    raise InvalidIntrinsics(f"{wrong} in {path}; it has: {', '.join(cameras)}")


def _from_json(entry: dict[str, Any]) -> CalibratedCamera:
    size = entry.get("size")
    return CalibratedCamera(
        name=str(entry["name"]),
        K=_array(entry["K"], (3, 3)),
        dist=np.asarray(entry.get("dist", [0.0] * 5), np.float64),
        model=entry.get("model", "plumb_bob"),
        size_hw=(int(size[1]), int(size[0])) if size else None,
        R_cam_world=_array(entry["R_cam_world"], (3, 3)) if "R_cam_world" in entry else None,
        t_cam_world=_array(entry["t_cam_world"], (3,)) if "t_cam_world" in entry else None,
        source=IntrinsicsSource[entry.get("source", "CAMERA_INFO")],
    )


def _from_toml(name: str, table: dict[str, Any]) -> CalibratedCamera:
    from scipy.spatial.transform import Rotation

    width, height = table["size"]
    return CalibratedCamera(
        name=str(table.get("name", name)),
        K=_array(table["matrix"], (3, 3)),
        dist=np.asarray(table.get("distortions", [0.0] * 4), np.float64),
        model="equidistant" if table.get("fisheye") else "plumb_bob",
        size_hw=(int(height), int(width)),
        R_cam_world=Rotation.from_rotvec(table["rotation"]).as_matrix() if "rotation" in table else None,
        t_cam_world=_array(table["translation"], (3,)) if "translation" in table else None,
    )


def _array(values: Any, shape: tuple[int, ...]) -> Array:
    out = np.asarray(values, np.float64)
    if out.shape != shape:
        raise ValueError(f"expected shape {shape}, found {out.shape}")
    return out


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads(path.read_text())
