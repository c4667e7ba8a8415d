"""LPIPS on AlexNet, from files that the user has: a perceptual distance of pictures.

Nothing is downloaded and nothing is made up: without torchvision's AlexNet weights there is no LPIPS, and `open_lpips`
says why. The small linear heads are in the wheels of lpips and of torchmetrics, where one is installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BadFile, MissingFile, ShapeError
from ..runtime.engine_cache import file_sha256
from ..types import Array
from .image_metrics import mask_box

ALEXNET_SHA256 = ("7be5be79", "4df8aa71")
"""First digits of the SHA-256 of torchvision's files alexnet-owt-*.pth, which carry them in their names."""

HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
"""Of the published heads of version 0.1 for AlexNet."""

MIN_SIDE_PX = 35
"""Smaller pictures leave nothing for the last layers."""

# (in, out, kernel, stride, padding, pooled before) of the five convolutions, by their names in torchvision's file.
_CONVOLUTIONS = {
    "features.0": (3, 64, 11, 4, 2, False),
    "features.3": (64, 192, 5, 1, 2, True),
    "features.6": (192, 384, 3, 1, 1, True),
    "features.8": (384, 256, 3, 1, 1, False),
    "features.10": (256, 256, 3, 1, 1, False),
}
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Lpips:
    """LPIPS v0.1 with AlexNet.

    Attributes:
        backbone_sha256, heads_sha256: Of the files, for the protocol record.

    Source:
        Zhang et al. 2018, eq. 1; the input's shift and scale are those of the authors' version 0.1.
    """

    def __init__(self, backbone: Path, heads: Path, *, sha256: tuple[str, ...] = ALEXNET_SHA256) -> None:
        """Read both files.

        Args:
            backbone: A state dict of torchvision's AlexNet.
            heads: A state dict of the five linear heads.
            sha256: What the backbone's digest may start with: an untrained network gives numbers too.

        Raises:
            MissingFile: One is not there.
            BadFile: Not such a state dict, or another file than expected.
        """
        self.backbone_sha256, self.heads_sha256 = _digest(backbone), _digest(heads)
        if not self.backbone_sha256.startswith(tuple(sha256)):
            raise BadFile(f"{backbone} has SHA-256 {self.backbone_sha256[:16]}..., expected {' or '.join(sha256)}...")
        weights, linear = _state(backbone), _state(heads)
        self._layers = []
        for i, (name, (n_in, n_out, kernel, stride, padding, pooled)) in enumerate(_CONVOLUTIONS.items()):
            w = _tensor(weights, f"{name}.weight", (n_out, n_in, kernel, kernel), backbone)
            b = _tensor(weights, f"{name}.bias", (n_out,), backbone)
            head = _tensor(linear, f"lin{i}.model.1.weight", (1, n_out, 1, 1), heads)
            self._layers.append((w, b, stride, padding, pooled, head))

    @torch.inference_mode()
    def __call__(self, predicted: Array, target: Array) -> float:
        """Return the distance of two pictures (H, W, 3) in [0, 1]; they are mapped to [-1, 1] here.

        Raises:
            ShapeError: Their shapes differ, or a side is below `MIN_SIDE_PX`.
        """
        shape = np.shape(target)
        if np.shape(predicted) != shape or len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < MIN_SIDE_PX:
            raise ShapeError(
                f"LPIPS needs two pictures (H, W, 3) from {MIN_SIDE_PX} px a side, not {np.shape(predicted)}, {shape}"
            )
        x = torch.stack([torch.as_tensor(np.ascontiguousarray(p, np.float32)) for p in (predicted, target)])
        x = (2 * x.permute(0, 3, 1, 2) - 1 - x.new_tensor(_SHIFT)[:, None, None]) / x.new_tensor(_SCALE)[:, None, None]
        total = 0.0
        for w, b, stride, padding, pooled, head in self._layers:
            x = nn.functional.max_pool2d(x, 3, 2) if pooled else x
            x = nn.functional.relu(nn.functional.conv2d(x, w, b, stride, padding))
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            total += float((head[0] * (unit[0] - unit[1]).square()).sum(0).mean())
        return total

    def box(self, predicted: Array, target: Array, mask: Array) -> float:
        """Return the distance within the box of the mask (H, W); NaN when that is too small or empty."""
        box = mask_box(mask)
        if box is None or min(part.stop - part.start for part in box) < MIN_SIDE_PX:
            return float("nan")
        return self(predicted[box], target[box])

    def facts(self) -> dict[str, str]:
        """Return what belongs in the record: `Protocol.of("lpips", **facts)`."""
        return {"network": "alexnet", "version": "0.1", "backbone": self.backbone_sha256, "heads": self.heads_sha256}


def open_lpips(backbone: Path | None, heads: Path | None = None) -> tuple[Lpips | None, str]:
    """Return LPIPS, or None and the reason why this report has none.

    Args:
        backbone: torchvision's alexnet-owt-7be5be79.pth; None = the user has not given one.
        heads: None = those of an installed lpips or torchmetrics.

    Raises:
        MissingFile, BadFile: A file was given and cannot be used.
    """
    if backbone is None:
        return None, "no AlexNet weights given (torchvision's alexnet-owt-7be5be79.pth)"
    heads = heads or installed_heads()
    if heads is None:
        return None, "no linear heads: pip install torchmetrics, or give the file alex.pth of version 0.1"
    return Lpips(backbone, heads), ""


def installed_heads() -> Path | None:
    """Return the heads' file in an installed package, without importing it; None when there is none."""
    for package, inside in (("lpips", "weights/v0.1"), ("torchmetrics", "functional/image/lpips_models")):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / inside / "alex.pth"
            if path.is_file() and file_sha256(path) == HEADS_SHA256:
                return path
    return None


def _digest(path: Path) -> str:
    if not path.is_file():
        raise MissingFile(f"no file {path} for LPIPS")
    return file_sha256(path)


def _state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise BadFile(f"{path} is not a state dict that loads without code: {error}") from error
    if not isinstance(state, dict):
        raise BadFile(f"{path} holds a {type(state).__name__}, not a state dict")
    return state


def _tensor(state: dict[str, Tensor], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    tensor = state.get(name)
    if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
        found = "nothing" if tensor is None else getattr(tensor, "shape", type(tensor).__name__)
        raise BadFile(f"{path}: {name} must have shape {shape}, found {found}")
    return tensor.float()
