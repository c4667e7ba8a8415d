"""A folder of numbered images."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..types import Frame
from .base import CameraLike, Closing, camera_for

log = logging.getLogger(__name__)

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class ImageFolderSource(Closing):
    """The images of a folder in natural order (2 before 10), BGR, stamped at a nominal rate.

    Files that do not decode are skipped and counted; their time passes all the same. An image of another size than
    the first gets the camera scaled, or is skipped where that is not possible.

    Args:
        path: The folder.
        camera: Intrinsics of the images.
        fps: Frame rate that the numbering stands for [Hz]: images carry no stamps.

    Raises:
        SourceError: No such folder, or no image in it that decodes.
    """

    def __init__(self, path: str | os.PathLike[str], *, camera: CameraLike = None, fps: float = 30.0) -> None:
        folder = Path(path)
        if not folder.is_dir():
            raise SourceError(f"no folder {path}")
        self.name, self.fps = str(path), fps
        self._paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS), key=_natural)
        self.frame_count: int | None = len(self._paths)
        self.skipped, self.truncated = 0, False
        self._camera = camera
        first = next((image for image in map(_read, self._paths) if image is not None), None)
        if first is None:
            raise SourceError(f"{path} holds no image that decodes; wanted: {', '.join(sorted(EXTENSIONS))}")
        self.image_hw = first.shape[:2]
        camera_for(camera, first)  # a wrong calibration is refused at once

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._paths):
            image = _read(path)
            if image is None:
                self.skipped += 1
                log.warning("%s is not an image, skipped", path)
                continue
            yield Frame(image, round(index * 1e9 / self.fps), "bgr", camera=self._camera_of(image), index=index)

    def _camera_of(self, image: NDArray[np.uint8]):
        return camera_for(self._camera, image)

    def close(self) -> None:
        self._paths = []


def _read(path: Path) -> NDArray[np.uint8] | None:
    # IMREAD_COLOR turns the picture upright by its EXIF orientation and brings 16 bit to 8.
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]
