"""UniDepthV2 as an ONNX file that the user exported: no package of the project, no pickle, TensorRT where there is one.

The export has a fixed size. The variant with camera takes the unit rays of the calibrated camera and is the one to use;
the plain one guesses the camera, so that its depth is scaled to the true focal length and trusted less.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..errors import BadFile, DeviceError
from ..geometry.camera import pixel_rays, resize_intrinsics
from ..geometry.view import FrameView
from ..model_files import NetworkPlace
from ..runtime.base import Runtime
from ..runtime.image_input import resize_rgb, write_normalised
from ..runtime.onnx_file import check_shapes, open_onnx, read_shapes
from ..types import Array
from .base import DepthFrame, DepthSettings
from .files import onnx_files
from .grid import PATCH, lens_problem
from .unidepth import SIGMA_REL, learned_frame

log = logging.getLogger(__name__)
_PLAIN_SIGMA_REL = 0.1
"""Of the variant that guesses the focal length."""
_STRETCH = 1.25
"""An export whose aspect differs more than this from the image's is told about: shapes look unusual to the network."""


class UniDepthOnnx:
    """Resizes to the file's size, normalises, adds the rays, and takes z of the points it returns.

    Args:
        runtime: With inputs `rgbs` and perhaps `rays`, (1, 3, h, w).
    """

    name = "unidepth_v2_onnx"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        shapes = {tensor.name: tensor.shape for tensor in runtime.spec.inputs}
        self._hw: tuple[int, int] = shapes["rgbs"][2:]
        self._with_camera = "rays" in shapes
        self._inputs = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self._rays_of: tuple | None = None
        self.status = ""

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        self.status = lens_problem(view)
        if self.status:
            return None
        image_hw = view.camera.image_hw
        K = resize_intrinsics(view.camera.K, image_hw, self._hw)
        write_normalised(resize_rgb(view.rgb, self._hw), self._inputs["rgbs"][0])
        if self._with_camera:
            self._set_rays(K, image_hw)
        out = self._runtime(self._inputs)
        depth = out["pts_3d"][0, 2]
        sigma_rel = SIGMA_REL
        if not self._with_camera:
            depth = depth * self._focal_ratio(K, out["intrinsics"][0])
            sigma_rel = _PLAIN_SIGMA_REL
        return learned_frame(view, depth, out["confidence"][0, 0], self.name, sigma_rel)

    def reset(self) -> None:
        """Nothing is remembered between images."""

    def close(self) -> None:
        self._runtime.close()

    def _set_rays(self, K: Array, image_hw: tuple[int, int]) -> None:
        key = (K.tobytes(), image_hw)
        if key == self._rays_of:
            return
        self._rays_of = key
        stretch = (image_hw[1] / image_hw[0]) / (self._hw[1] / self._hw[0])
        if not 1 / _STRETCH <= stretch <= _STRETCH:
            height, width = self._hw
            log.warning("the network was exported for %dx%d, an image of %dx%d is squeezed into it: export another",
                        width, height, image_hw[1], image_hw[0])  # fmt: skip
        rays = pixel_rays(K, self._hw)
        self._inputs["rays"][0] = rays / np.linalg.norm(rays, axis=0)

    def _focal_ratio(self, K: Array, guess: Array) -> float:
        """Return true over guessed focal length: depth grows with the one assumed."""
        if not (np.isfinite(guess).all() and guess[0, 0] > 0 and guess[1, 1] > 0):
            raise BadFile("the network's own intrinsics are not usable: export with --with-camera")
        return float(np.sqrt(K[0, 0] * K[1, 1] / (guess[0, 0] * guess[1, 1])))


def open_network(path: Path, place: NetworkPlace) -> Runtime:
    """Check the file's inputs and outputs and return a warm runtime for it.

    Raises:
        BadFile: Another network, open or odd sizes, or outputs of other shapes; the message says what is expected.
        ConfigError, DeviceError, MissingPackage: See `open_onnx`.
    """
    found_in, found_out = read_shapes(path)
    with_camera = "rays" in found_in
    hw = found_in.get("rgbs", ())[2:]
    if len(hw) != 2 or not all(isinstance(side, int) and side % PATCH == 0 for side in hw):
        sizes = found_in.get("rgbs", tuple(found_in))
        raise BadFile(f"{path}: input rgbs must be [?, 3, h, w] with h and w fixed multiples of {PATCH}, not {sizes}")
    inputs = dict.fromkeys(("rgbs", *(["rays"] if with_camera else [])), (1, 3, *hw))
    outputs = {"pts_3d": (1, 3, *hw), "confidence": (1, 1, *hw), "intrinsics": (1, 3, 3)}
    for found, wanted, what in ((found_in, inputs, "inputs"), (found_out, outputs, "outputs")):
        check_shapes(path, found, {name: (None, *shape[1:]) for name, shape in wanted.items()}, what)
    runtime = open_onnx(path, inputs, outputs, engine=place.engine, device=place.device)
    try:
        runtime.warm_up()
    except DeviceError as error:
        runtime.close()
        raise BadFile(f"{path} does not run with inputs of {hw[1]}x{hw[0]}: {error}") from error
    if not with_camera:
        log.warning("%s was exported without camera: export with --with-camera for depth in metres", path.name)
    return runtime


def create(settings: DepthSettings, *, place: NetworkPlace, **_: object) -> UniDepthOnnx:
    """Factory for the registry.

    Raises:
        ConfigError: The licence has not been accepted.
        MissingFile, BadFile, MissingPackage: See `ModelFiles.require` and `open_network`.
    """
    files = onnx_files(settings.unidepth_size)
    files.require_accepted(settings.accept_noncommercial)
    (path,) = files.require(place.folder)
    return UniDepthOnnx(open_network(path, place))
