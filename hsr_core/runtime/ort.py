"""Run an ONNX file with ONNX Runtime on the CPU or, with its GPU package, on CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFile, ConfigError, DeviceError, MissingPackage
from ..types import Array
from .base import NetworkSpec, RuntimeBase, Tensors

INSTALL = 'pip install "hsr-core[onnx]"'
INSTALL_CUDA = "pip install onnxruntime-gpu (in place of onnxruntime)"


class OrtRuntime(RuntimeBase):
    """Inputs are read where they lie; outputs are written into arrays made once for the largest batch.

    The CUDA provider copies inputs and outputs itself. That path has not been executed by the tests.
    """

    name = "onnxruntime"

    def __init__(
        self, path: Path, spec: NetworkSpec, *, device: str, precision: str, threads: int = 0, reason: str = ""
    ) -> None:
        super().__init__(spec, device, precision, reason)
        check_precision(device, precision)
        self._session = open_session(path, device, precision, threads)
        self._binding = self._session.io_binding()
        self._whole = {t.name: np.zeros(t.shape, t.dtype) for t in spec.inputs if t.prefix}
        self._outputs = {t.name: np.zeros(t.at(spec.batch.max), t.dtype) for t in spec.outputs}
        self._bound_batch = 0
        self._views: dict[str, Array] = {}

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        batch = self.spec.check_inputs(inputs)
        if self._session is None:
            raise RuntimeError("this runtime is closed")
        # The binding keeps addresses, not arrays: these must live until the run is over.
        arrays = {name: np.ascontiguousarray(self._full(name, array)) for name, array in inputs.items()}
        for name, array in arrays.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, _address(array))
        if batch != self._bound_batch:
            self._bind_outputs(batch)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's own exceptions have no common public class
            raise DeviceError(f"onnxruntime failed on {self.device}: {error}") from error
        return dict(self._views)

    def _full(self, name: str, array: Array) -> Array:
        """Return the array, in front of what was there before where it is a shorter prefix."""
        whole = self._whole.get(name)
        if whole is None or whole.shape == array.shape:
            return array
        whole[: len(array)] = array
        return whole

    def _bind_outputs(self, batch: int) -> None:
        self._binding.clear_binding_outputs()
        for tensor in self.spec.outputs:
            whole = self._outputs[tensor.name]
            view = whole[:batch] if tensor.batched else whole
            self._binding.bind_output(tensor.name, "cpu", 0, view.dtype.type, view.shape, _address(view))
            self._views[tensor.name] = view
        self._bound_batch = batch

    def close(self) -> None:
        self._binding = self._session = None


def _address(array: Array) -> int:
    return array.__array_interface__["data"][0]  # `array.ctypes` makes reference cycles


def check_precision(device: str, precision: str) -> None:
    """Raise ConfigError for a precision the provider has no kernels for."""
    allowed = ("fp32", "fp16", "int8") if device == "cpu" else ("fp32", "tf32", "fp16")
    if precision not in allowed:
        raise ConfigError(f"onnxruntime on {device} runs {', '.join(allowed)}, not {precision}; engine torch does")


def open_session(path: Path, device: str, precision: str, threads: int) -> Any:
    """Return onnxruntime's session for a file.

    Raises:
        BadFile, MissingPackage: onnxruntime refuses the file, or it or its provider is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackage(f"onnxruntime is not installed: {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads  # 0: one for each core
    # Waiting threads sleep: a robot's other processes need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise MissingPackage(f"this onnxruntime has no CUDA provider: {INSTALL_CUDA}")
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")  # no silent stand-in
        providers = [("CUDAExecutionProvider", {"use_tf32": "1" if precision == "tf32" else "0"})]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BadFile(f"onnxruntime cannot run {path}: {error}") from error
