"""Run the networks of the mediapipe wheel with LiteRT; mediapipe itself is never imported.

Source:
    Models: MediaPipe 0.10.21 (Apache-2.0), BlazePose GHUM (Xu et al. 2020), MediaPipe Hands (Zhang et al. 2020),
    Face Mesh (Kartynnik et al. 2019), Iris (Ablavatski et al. 2020).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import BadFile, MissingFile, MissingPackage
from ..types import Array

INSTALL = "pip install mediapipe==0.10.21 ai-edge-litert"


def model_path(relative: str) -> Path:
    """Return the path of a network inside the mediapipe wheel, e.g. `pose_landmark/pose_landmark_full.tflite`.

    Raises:
        MissingPackage: mediapipe is not installed.
        MissingFile: This version of mediapipe does not hold the file.
    """
    spec = find_spec("mediapipe")
    if spec is None or spec.origin is None:
        raise MissingPackage(f"the landmark networks are in the mediapipe wheel: {INSTALL}")
    path = Path(spec.origin).parent / "modules" / relative
    if not path.is_file():
        raise MissingFile(f"mediapipe's wheel has no {relative}; version 0.10.21 has it: {INSTALL}")
    return path


class LiteRtNetwork:
    """One network with one image input, float32 in and out.

    Attributes:
        side: Height and width of the square input [px].
        input: View of the input tensor, float32 (side, side, 3): write the crop here, then call `run`.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingPackage(f"LiteRT runs the landmark networks: {INSTALL}") from error
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BadFile(f"{path} is not a network LiteRT can run: {error}") from error
        detail = self._interpreter.get_input_details()[0]
        self._input = detail["index"]
        self.side = int(detail["shape"][1])
        self.input = np.zeros((self.side, self.side, 3), np.float32)
        outputs = sorted(self._interpreter.get_output_details(), key=lambda out: out["name"])
        self._outputs = [out["index"] for out in outputs]

    def run(self) -> list[Array]:
        """Return copies of the outputs for `input`, ordered by their name in the file."""
        self._interpreter.set_tensor(self._input, self.input[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]
