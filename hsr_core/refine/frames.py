"""What refinement reads: one person's frames with mask, depth and initial parameters, in memory and as a folder.

A folder holds

    frames.json        format, stamps [ns], K (pixel centres at integers), image size, id of the body model
    images/000000.png  8-bit RGB
    masks/000000.png   8-bit grey, 255 = this person covers the whole pixel
    depth/000000.png   16-bit grey, z-depth registered to the image [mm], 0 = invalid (optional)
    ignore/000000.png  8-bit grey, not 0 = covered by somebody else (optional)
    params.npz         initial parameters, the fields of `HumanParams` stacked over time
    truth.npz          exact parameters, the same (optional)
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, ConfigError, InvalidIntrinsics, MissingFile, ShapeError
from ..mask.base import Traits
from ..types import Array, Camera, HumanParams

FORMAT = "hsr-refine-frames/1"

PARAMETERS = tuple(entry.name for entry in fields(HumanParams))

_PARTS = ("frames.json", "images", "masks", "depth", "ignore", "params.npz", "truth.npz")

_PNG_END = b"IEND\xaeB`\x82"
"""Last bytes of every whole PNG: OpenCV decodes what there is of a torn one."""


@dataclass(frozen=True, eq=False)
class RefineFrame:
    """One frame of one person. All images have the same height and width.

    Attributes:
        image: float32 (H, W, 3) RGB in [0, 1], sRGB.
        mask: float32 (H, W) in [0, 1], how much of the pixel this person covers.
        depth_m: float32 (H, W) z-depth [m], 0 = invalid; None without depth.
        K: float64 (3, 3) [px], pixel centres at integers; no lens distortion.
        params: Initial estimate.
        stamp_ns: Exposure time [ns].
        ignore: bool (H, W), True where nothing is known of this person (somebody else is in front); or None.
        truth: Exact parameters, or None.
        traits: What the mask is good for; None = it is exact to the edge.

    Raises:
        ShapeError: An image has another shape than `image`.
        InvalidIntrinsics: K does not fit the image.
    """

    image: Array
    mask: Array
    depth_m: Array | None
    K: Array
    params: HumanParams
    stamp_ns: int
    ignore: NDArray[np.bool_] | None = None
    truth: HumanParams | None = None
    traits: Traits | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.image) != 3 or self.image.shape[2] != 3:
            raise ShapeError(f"image must have shape (H, W, 3), not {np.shape(self.image)}")
        for name in ("mask", "depth_m", "ignore"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != self.image_hw:
                raise ShapeError(
                    f"{name} must have the image's height and width {self.image_hw}, not {np.shape(value)}"
                )
        object.__setattr__(self, "K", Camera(self.K, self.image_hw).K)

    @property
    def image_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


class FrameFolder(Sequence[RefineFrame]):
    """Frames of a folder, read when they are asked for.

    Attributes:
        path: The folder.
        body_model: Id of the model that the parameters belong to, "" = not said.
        image_hw: Height and width [px].
        K: float64 (3, 3) [px].
        stamp_ns: (T,) [ns].
        has_depth, has_ignore, has_truth: Which optional parts it holds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        header = _read_header(self.path)
        try:
            self.body_model = str(header["body_model"])
            self.K = Camera(np.array(header["K"], np.float64), tuple(map(int, header["image_hw"]))).K
            self.image_hw: tuple[int, int] = tuple(map(int, header["image_hw"]))  # type: ignore[assignment]
            self.stamp_ns = np.array(header["stamp_ns"], np.int64)
        except (KeyError, TypeError, ValueError, OverflowError, InvalidIntrinsics) as error:
            raise BadFile(f"{self.path / 'frames.json'}: {type(error).__name__}: {error}") from error
        if self.stamp_ns.ndim != 1 or not len(self.stamp_ns) or np.any(np.diff(self.stamp_ns) <= 0):
            raise BadFile(f"{self.path / 'frames.json'}: stamp_ns must be a list of rising times, at least one")
        self.has_depth, self.has_ignore = ((self.path / name).is_dir() for name in ("depth", "ignore"))
        self.has_truth = (self.path / "truth.npz").exists()
        self._check_images()
        self._params = _read_params(self.path / "params.npz", len(self))
        self._truth = _read_params(self.path / "truth.npz", len(self)) if self.has_truth else [None] * len(self)

    def _check_images(self) -> None:
        names = ["images", "masks", *(["depth"] if self.has_depth else []), *(["ignore"] if self.has_ignore else [])]
        for name in names:
            missing = [i for i in range(len(self)) if not _image_path(self.path, name, i).is_file()]
            if missing:
                raise MissingFile(
                    f"{self.path / name}: {len(missing)} of {len(self)} images missing, "
                    f"first {missing[0]:06d}.png; frames.json has one stamp a frame"
                )

    def __len__(self) -> int:
        return len(self.stamp_ns)

    @overload
    def __getitem__(self, index: int) -> RefineFrame: ...
    @overload
    def __getitem__(self, index: slice) -> list[RefineFrame]: ...
    def __getitem__(self, index: int | slice) -> RefineFrame | list[RefineFrame]:
        """Read a frame, or several.

        Raises:
            BadFile: An image is torn, no PNG, or of another size or depth than it should have.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        image = self._read("images", i, np.uint8, 3)[..., ::-1].astype(np.float32) / 255
        mask = self._read("masks", i, np.uint8, 1).astype(np.float32) / 255
        depth_m = self._read("depth", i, np.uint16, 1).astype(np.float32) / 1000 if self.has_depth else None
        ignore = self._read("ignore", i, np.uint8, 1) > 0 if self.has_ignore else None
        return RefineFrame(
            image, mask, depth_m, self.K, self._params[i], int(self.stamp_ns[i]), ignore, self._truth[i]
        )  # fmt: skip

    def _read(self, name: str, index: int, dtype: Any, channels: int) -> NDArray[Any]:
        path = _image_path(self.path, name, index)
        data = path.read_bytes()
        if not data.endswith(_PNG_END):
            raise BadFile(f"{path} is no whole PNG; copy or write it again")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        shape = self.image_hw if channels == 1 else (*self.image_hw, channels)
        if image is None or image.dtype != dtype or image.shape != shape:
            found = "nothing that decodes" if image is None else f"{image.dtype} {image.shape}"
            raise BadFile(f"{path} must hold {np.dtype(dtype)} {shape}, not {found}")
        return image


def read_folder(path: str | os.PathLike[str], *, body_model: str = "") -> FrameFolder:
    """Open a folder of frames. Images are read when a frame is asked for; `list(...)` reads them all.

    Args:
        path: The folder.
        body_model: Id of the model that will pose the parameters; "" = not checked.

    Raises:
        MissingFile: The folder, its header or an image is missing.
        BadFile: A file is torn, of another format, does not fit the others, or holds values that are not finite.
    """
    folder = FrameFolder(path)
    if body_model and folder.body_model and folder.body_model != body_model:
        raise BadFile(
            f"{path} was made with the body model {folder.body_model}, this one is {body_model}: "
            "their coefficients mean different shapes"
        )
    return folder


def write_folder(path: str | os.PathLike[str], frames: Iterable[RefineFrame], *, body_model: str = "") -> None:
    """Write frames as a folder; see `FolderWriter`."""
    writer = FolderWriter(path, body_model=body_model)
    for frame in frames:
        writer.add(frame)
    writer.finish()


class FolderWriter:
    """Writes frames one by one: 8-bit images and masks, depth in whole millimetres.

    The header is written by `finish`: a folder that broke off is refused by `read_folder`.

    Args:
        path: The folder; made when it is not there.
        body_model: Id of the model that the parameters belong to.

    Raises:
        ConfigError: The folder holds frames already.
    """

    def __init__(self, path: str | os.PathLike[str], *, body_model: str = "") -> None:
        self.path, self.body_model = Path(path), body_model
        there = [name for name in _PARTS if (self.path / name).exists()]
        if there:
            raise ConfigError(f"{self.path} holds {', '.join(there)} already; delete it or choose another folder")
        self._first: RefineFrame | None = None
        self._stamps: list[int] = []
        self._params: list[HumanParams] = []
        self._truth: list[HumanParams] = []

    def add(self, frame: RefineFrame) -> None:
        """Write the images of one more frame.

        Raises:
            ShapeError: It differs from the first in size, camera, or in what it holds; its stamp is not later than the
                last one's; or a value is not finite.
        """
        i = len(self._stamps)
        self._first = self._first or frame
        _check_like(frame, self._first, i)
        if i and frame.stamp_ns <= self._stamps[-1]:
            raise ShapeError(f"stamps must rise; frame {i} is not later than frame {i - 1}")
        _write(self.path, "images", i, _bytes(frame.image)[..., ::-1])
        _write(self.path, "masks", i, _bytes(frame.mask))
        if frame.depth_m is not None:
            mm = np.rint(frame.depth_m * 1000.0)
            _write(self.path, "depth", i, np.where((mm > 0) & (mm < 65536), mm, 0).astype(np.uint16))
        if frame.ignore is not None:
            _write(self.path, "ignore", i, frame.ignore.astype(np.uint8) * 255)
        self._stamps.append(int(frame.stamp_ns))
        self._params.append(frame.params)
        if frame.truth is not None:
            self._truth.append(frame.truth)

    def finish(self) -> None:
        """Write parameters and header.

        Raises:
            ShapeError: No frame was added.
        """
        if self._first is None:
            raise ShapeError("a folder needs at least one frame")
        _write_params(self.path / "params.npz", self._params)
        if self._truth:
            _write_params(self.path / "truth.npz", self._truth)
        header = {
            "format": FORMAT,
            "body_model": self.body_model,
            "image_hw": list(self._first.image_hw),
            "K": self._first.K.tolist(),
            "stamp_ns": self._stamps,
        }
        (self.path / "frames.json").write_text(json.dumps(header, indent=1) + "\n")


def _check_like(frame: RefineFrame, first: RefineFrame, i: int) -> None:
    if frame.image_hw != first.image_hw or not np.array_equal(frame.K, first.K):
        raise ShapeError(f"frame {i} has another size or camera than frame 0; write one folder a camera")
    for name in ("depth_m", "ignore", "truth"):
        if (getattr(frame, name) is None) != (getattr(first, name) is None):
            raise ShapeError(f"{name} must be in all frames or in none; frame {i} differs from frame 0")
    for name in ("image", "mask", "depth_m"):
        value = getattr(frame, name)
        if value is not None and not np.isfinite(value).all():
            raise ShapeError(f"{name} of frame {i} has values that are not finite; invalid depth is 0")
    for name in ("params", "truth"):
        value = getattr(frame, name)
        if value is not None and not value.finite():
            raise ShapeError(f"{name} of frame {i} has values that are not finite")


def _bytes(values: Array) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _image_path(folder: Path, name: str, index: int) -> Path:
    return folder / name / f"{index:06d}.png"


def _write(folder: Path, name: str, index: int, image: NDArray[Any]) -> None:
    path = _image_path(folder, name, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())


def _write_params(path: Path, people: Sequence[HumanParams]) -> None:
    arrays = {}
    for name in PARAMETERS:
        rows = [np.asarray(getattr(person, name), np.float32) for person in people]
        if len({row.shape for row in rows}) > 1:
            raise ShapeError(f"{name} must have one length in all frames, not {sorted({row.shape for row in rows})}")
        arrays[name] = np.stack(rows)
    np.savez(path, **arrays)


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / "frames.json"
    if not path.is_file():
        raise MissingFile(f"no {path}; `hsr synth --out {folder}` writes such a folder")
    try:
        header = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} is not JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else type(header).__name__
        raise BadFile(f"{path} has format {found!r}, this version reads {FORMAT!r}")
    return header


def _read_params(path: Path, count: int) -> list[HumanParams]:
    if not path.is_file():
        raise MissingFile(f"no {path}: initial parameters of the {count} frames, one array a field of HumanParams")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name], np.float32) for name in PARAMETERS}
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise BadFile(f"{path} does not hold parameters: {error}") from error
    for name, value in arrays.items():
        if len(value.shape) < 2 or len(value) != count:
            raise BadFile(f"{path}: {name} has shape {value.shape}; its first axis must be the {count} frames")
        if not np.isfinite(value).all():
            raise BadFile(f"{path}: {name} has values that are not finite")
    try:
        return [HumanParams(**{name: value[t] for name, value in arrays.items()}) for t in range(count)]
    except ShapeError as error:
        raise BadFile(f"{path}: {error}") from error
