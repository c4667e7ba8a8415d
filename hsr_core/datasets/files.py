"""What the adapters share: finding a set's folder, checking its arrays, and walking over its images."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, ConfigError, InvalidIntrinsics, MissingFile
from ..types import Array, Camera
from .base import Conventions, Sample

log = logging.getLogger(__name__)

SINGLE_IMAGE_FPS = 0.1
"""Rate of the stamps of unrelated images [Hz]: far enough apart that no filter or track reaches over."""


def existing_folder(folder: str | os.PathLike[str], layout: str) -> Path:
    """Return the folder as a path, `~` expanded.

    Raises:
        MissingFile: There is none, or it cannot be looked into; the message says what it should be.
    """
    path = Path(os.path.expanduser(folder))
    if not os.path.isdir(path):  # where Path.is_dir raises for names that cannot be, this says no
        raise MissingFile(f"no folder {path}; wanted: {layout}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise MissingFile(f"folder {path} may not be read by this user; wanted: {layout}")
    return path


def need_folder(folder: str | os.PathLike[str], wanted: Sequence[str], layout: str) -> Path:
    """Return the folder after checking that it is the set's root.

    Args:
        folder: What the user gave.
        wanted: Patterns below the root; each must match something.
        layout: What the root should hold, for the message.

    Raises:
        MissingFile: It is not; the message says which folder it seems to be where that is near.
    """
    root = existing_folder(folder, layout)
    missing = [pattern for pattern in wanted if not _matches(root, pattern)]
    if not missing:
        return root
    for kind, places in (("high", _below(root)), ("low", root.resolve().parents[:2])):
        for place in places:
            if all(_matches(place, pattern) for pattern in wanted):
                raise MissingFile(f"{root} is a level too {kind}: the set seems to be in {place}")
    state = f"has no {' and no '.join(missing)}" if any(root.iterdir()) else "is empty"
    raise MissingFile(f"{root} {state}; wanted: {layout}")


def _matches(root: Path, pattern: str) -> bool:
    return next(iter(root.glob(pattern)), None) is not None


def _below(root: Path) -> list[Path]:
    children = sorted(p for p in root.iterdir() if p.is_dir())
    return children + [p for child in children for p in sorted(child.iterdir()) if p.is_dir()]


def choose_split(conventions: Conventions, split: str) -> str:
    """Return the split, the default for an empty name.

    Raises:
        ConfigError: No such split; the message lists them.
    """
    if split and split not in conventions.splits:
        raise ConfigError(f"{conventions.name} has no split {split!r}; there are: {', '.join(conventions.splits)}")
    return split or conventions.splits[0]


def check_name(name: str, names: Sequence[str], what: str) -> None:
    """Raise ConfigError unless `name` is one of `names`."""
    if name not in names:
        shown = ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
        raise ConfigError(f"{what} has no sequence {name!r}; there are: {shown or 'none'}")


def numbers(data: Mapping[str, Any], name: str, shape: tuple[int | None, ...] | None, where: Path) -> Array:
    """Return one array of a file as float64 after checking its shape; None in `shape` means any length.

    None as `shape`: any shape.

    Values may be NaN: what that means is the caller's business.

    Raises:
        BadFile: It is missing, holds no numbers, or has another shape.
    """
    if name not in data:
        raise BadFile(f"{where} has no {name!r}; it holds {', '.join(sorted(map(str, data)))}")
    return as_numbers(data[name], name, shape, where)


def as_numbers(value: Any, name: str, shape: tuple[int | None, ...] | None, where: Path) -> Array:
    """Return `value` as float64 after checking its shape, as `numbers` does."""
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "biufO":
            raise TypeError(f"it is of the type {given.dtype}")
        out = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadFile(f"{where}: {name} must hold numbers ({error})") from error
    if shape is None:
        return out
    if out.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, out.shape, strict=False)):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise BadFile(f"{where}: {name} must have shape {wanted}, not {out.shape}")
    return out


def read_json(path: Path, layout: str) -> Any:
    """Read a JSON file.

    Raises:
        MissingFile: No such file.
        BadFile: It is no JSON.
    """
    if not path.is_file():
        raise MissingFile(f"no {path}; wanted: {layout}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not JSON: {error}") from error


def camera_from(K: Array, image_hw: tuple[int, int], where: Path, dist: Array | None = None) -> Camera:
    """Return a camera; what is wrong with it is said with the file that it comes from.

    Raises:
        BadFile: The intrinsics cannot be used for an image of this size.
    """
    try:
        return Camera(K, image_hw, np.zeros(5) if dist is None else dist)
    except InvalidIntrinsics as error:
        raise BadFile(f"{where}: {error}; the images must be those of the set, at their own size") from error


def tight_box(uv: Array) -> Array | None:
    """Return the box around the finite points among (K, 2) [px], or None without any."""
    finite = uv[np.isfinite(uv).all(axis=1)]
    return np.concatenate([finite.min(0), finite.max(0)]) if len(finite) else None


def with_confidence(uv: Array, confidence: Array | float = 1.0) -> Array:
    """Return (K, 3) of points (K, 2) [px]; points that are not finite get 0, 0, 0."""
    out = np.zeros((len(uv), 3))
    finite = np.isfinite(uv).all(axis=1)
    out[finite, :2] = uv[finite]
    out[finite, 2] = np.broadcast_to(confidence, len(uv))[finite]
    return out


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8] | None:
    """Return the picture as it is stored, or None where there is none that decodes.

    (H, W, 3) BGR, or (H, W) with the flag `cv2.IMREAD_GRAYSCALE`.
    """
    if not os.path.isfile(path):
        return None
    try:
        # Cameras belong to the stored pixels, so the EXIF orientation is left alone.
        return cv2.imread(str(path), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # a header that announces more pixels than OpenCV takes
        return None


class ImageSequence:
    """Image files whose truth is in memory, read one at a time.

    Attributes:
        name, fps, frame_count, skipped: As in `Sequence`.

    Args:
        paths: One image a frame, in the order of time.
        sample: Makes the sample of frame i from its image and stamp [ns]. A frame that it gives None for is skipped.
    """

    def __init__(
        self,
        name: str,
        fps: float,
        paths: Sequence[Path],
        sample: Callable[[int, NDArray[np.uint8], int], Sample | None],
    ) -> None:
        self.name, self.fps, self.frame_count, self.skipped = name, fps, len(paths), 0
        self._paths, self._sample, self._open = paths, sample, True

    def __iter__(self) -> Iterator[Sample]:
        self.skipped = 0
        for i, path in enumerate(self._paths):
            if not self._open:
                return
            image = read_image(path)
            made = None if image is None else self._sample(i, image, round(i * 1e9 / self.fps))
            if made is None:
                self.skipped += 1
                log.warning("%s: frame %d skipped: no image in %s", self.name, i, path)
                continue
            yield made

    def close(self) -> None:
        self._open = False
