"""UniDepthV2 through its own package, offline. Non-commercial licence: never chosen without the user's consent.

Source:
    Piccinelli et al., "UniDepthV2: Universal Monocular Metric Depth Estimation Made Simpler", 2025.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFile, MissingPackage
from ..geometry.camera import resize_intrinsics
from ..geometry.view import FrameView
from ..model_files import NetworkPlace
from ..runtime.image_input import resize_rgb
from ..types import MetricSource
from .base import DepthFrame, DepthSettings
from .files import package_files
from .grid import PIXELS, depth_to_image, lens_problem, to_image, working_size

log = logging.getLogger(__name__)
INSTALL = "install the project's code from https://github.com/lpiccinelli-eth/UniDepth (CC BY-NC 4.0)"
SIGMA_REL, SIGMA_M = 0.05, 0.015


class UniDepth:
    """One inference an image, at a size whose sides are multiples of 14, with the calibrated K.

    Args:
        network: With `infer(rgb, camera, normalize)`, in evaluation mode.
        device: Of the network.
        level: Working resolution, 0..9.
    """

    name = "unidepth_v2"

    def __init__(self, network: Any, device: str, level: int) -> None:
        self._network, self._device, self._level = network, device, level
        network.resolution_level = level
        bounds = getattr(network, "shape_constraints", {})
        self._pixels = (bounds.get("pixels_min", PIXELS[0]), bounds.get("pixels_max", PIXELS[1]))
        self.status = ""

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        self.status = lens_problem(view)
        if self.status:
            return None
        import torch

        image_hw = view.camera.image_hw
        hw = working_size(image_hw, self._level, self._pixels)
        rgb = torch.from_numpy(resize_rgb(view.rgb, hw)).permute(2, 0, 1)
        K = resize_intrinsics(view.camera.K, image_hw, hw)
        K[:2, 2] += 0.5  # the network counts pixel centres at +0.5
        # A new tensor for every call: the network writes into the camera it is given.
        camera = torch.from_numpy(K.astype(np.float32))
        with torch.inference_mode():
            out = self._network.infer(rgb.to(self._device), camera.to(self._device), normalize=True)
            depth, unsure = (out[key][0, 0].float().cpu().numpy() for key in ("depth", "confidence"))
        if depth.shape != hw:
            raise BadFile(f"unidepth returned {depth.shape} for an image of {hw}: another version of the package?")
        return learned_frame(view, depth, unsure, self.name, SIGMA_REL)

    def reset(self) -> None:
        """Nothing is remembered between images."""

    def close(self) -> None:
        self._network = None


def learned_frame(view: FrameView, depth: Any, unsure: Any, name: str, sigma_rel: float) -> DepthFrame:
    """Return a network's maps as a depth frame of the image. What it calls confidence grows with its error."""
    image_hw = view.camera.image_hw
    return DepthFrame(
        depth_to_image(depth, image_hw),
        view.camera.K,
        view.stamp_ns,
        view.frame.frame_id,
        MetricSource.MONO_DEPTH,
        sigma_rel,
        SIGMA_M,
        rank_unc=to_image(unsure, image_hw),
        provider=name,
    )


def load_network(config_file: Path, weights_file: Path, device: str) -> Any:
    """Build UniDepthV2 from local files; nobody is contacted.

    Raises:
        MissingPackage: `unidepth` (or `safetensors`) is not installed.
        BadFile: The configuration would download its backbone, or the weights do not fill the network.
    """
    try:
        from unidepth.models import UniDepthV2
    except ImportError as error:
        raise MissingPackage(f"unidepth cannot be imported ({error}): {INSTALL}") from error
    config = _read_config(config_file)
    network = UniDepthV2(config)
    state = _read_weights(weights_file)
    state = state.get("model", state)
    state = {name.removeprefix("module."): value for name, value in state.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    if missing:
        raise BadFile(
            f"{weights_file} lacks {len(missing)} of the network's tensors ({', '.join(list(missing)[:3])}, ...): "
            "config.json and weights must be of the same size and version"
        )
    if unexpected:
        log.info("%s has %d tensors that the network does not use", weights_file.name, len(unexpected))
    return network.eval().to(device)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
        encoder = config["model"]["pixel_encoder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{path} is not UniDepthV2's configuration: {type(error).__name__} {error}") from error
    if encoder.get("pretrained") is not None:
        raise BadFile(f"{path}: model.pixel_encoder.pretrained must be null, else the package downloads the backbone")
    return config


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise MissingPackage("reading .safetensors needs: pip install safetensors") from error
    except Exception as error:  # truncated file, pickle with code, not a zip: each library has its own class
        raise BadFile(f"{path} cannot be read as weights: {error}") from error


def create(settings: DepthSettings, *, place: NetworkPlace, **_: object) -> UniDepth:
    """Factory for the registry.

    Raises:
        ConfigError: The licence has not been accepted.
        MissingFile, MissingPackage, BadFile, DeviceError: See `ModelFiles.require` and `load_network`.
    """
    files = package_files(settings.unidepth_size)
    files.require_accepted(settings.accept_noncommercial)
    config_file, weights_file = files.require(place.folder)
    device = place.torch_device()
    if device == "cpu":
        log.warning("unidepth_v2 runs on the CPU: seconds for every image")
    return UniDepth(load_network(config_file, weights_file, device), device, settings.unidepth_level)
