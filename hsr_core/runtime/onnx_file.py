"""Run a network that the user has as an ONNX file: what goes in and out is read from it and checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..errors import BadFile, DeviceError, MissingFile, MissingPackage
from .base import NetworkSpec, Runtime, TensorSpec
from .engine_cache import EngineCache, EngineKey, file_sha256, shapes_text
from .ort import INSTALL
from .select import PACKAGES, choose, this_machine

log = logging.getLogger(__name__)
Shape = tuple[int | str | None, ...]
_LARGE = 1_500_000_000
"""Protobuf's own limit is 2 GB for a file; larger ones keep their weights beside it."""


def read_shapes(path: Path) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shapes of an ONNX file's inputs and outputs by name; None or a name where a size is open.

    Raises:
        MissingFile, BadFile: It is not there, or is not a network with float32 inputs.
        MissingPackage: onnx is not installed.
    """
    if not path.is_file():
        raise MissingFile(f"there is no {path}")
    try:
        import onnx
    except ImportError as error:
        raise MissingPackage(f"reading {path.name} needs onnx: {INSTALL}") from error
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own class, which is not part of onnx
        raise BadFile(f"{path} is not an ONNX file: {error}") from error
    if not graph.output:
        raise BadFile(f"{path} is not an ONNX network: it has no outputs")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for value in (*inputs, *graph.output):
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise BadFile(f"{path}: {value.name} is not float32; export with float32 inputs and outputs")
    return ({value.name: _shape(value) for value in inputs}, {value.name: _shape(value) for value in graph.output})


def check_shapes(path: Path, found: Mapping[str, Shape], wanted: Mapping[str, Shape], what: str) -> None:
    """Refuse tensors of other names or sizes; None in `wanted` allows any size.

    Raises:
        BadFile: The message lists what was found and what is expected.
    """
    fits = found.keys() == wanted.keys() and all(_fits(found[name], wanted[name]) for name in wanted)
    if not fits:
        raise BadFile(f"{path}: {what} are {_text(found)}; expected {_text(wanted)}")


def open_onnx(
    path: Path,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    *,
    engine: str = "auto",
    device: str = "auto",
    cache: Path | None = None,
) -> Runtime:
    """Return a runtime for the file at fixed shapes; TensorRT's engine is built once and cached.

    Args:
        path: The ONNX file.
        inputs, outputs: Shapes by name, float32.
        engine, device: As the settings of the same names; auto on a GPU takes an installed TensorRT, else
            ONNX Runtime on the GPU, else ONNX Runtime on the CPU, and says so.
        cache: Folder of the engines; None = the user's cache folder.

    Raises:
        ConfigError, DeviceError, MissingPackage: It cannot run here; the message says what would.
        BadFile: A library refuses the file.
    """
    spec = NetworkSpec(
        tuple(TensorSpec(name, shape) for name, shape in inputs.items()),
        tuple(TensorSpec(name, shape) for name, shape in outputs.items()),
    )
    machine = this_machine()
    choice = choose(engine, device, "fp32", machine)
    if choice.engine == "torch":
        if engine == "torch":
            raise DeviceError(f"{path.name} is an ONNX file: engine torch cannot run it, onnxruntime can")
        choice = choose("onnxruntime", _ort_device(choice.device), "fp32", machine)
    if choice.engine in PACKAGES:
        from .trt_run import TrtRuntime

        plan = _engine(path, spec, choice.engine, machine.architecture, EngineCache(cache))
        runtime: Runtime = TrtRuntime(plan, spec, engine=choice.engine, precision="tf32", reason=choice.reason)
    else:
        from .ort import OrtRuntime

        precision = "tf32" if choice.device == "cuda" else "fp32"
        runtime = OrtRuntime(path, spec, device=choice.device, precision=precision, reason=choice.reason)
    log.info("%s: %s in %s on %s", path.name, runtime.name, runtime.precision, runtime.device)
    return runtime


def _ort_device(device: str) -> str:
    if device == "cpu":
        return device
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackage(f"onnxruntime is not installed: {INSTALL}") from error
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return "cuda"
    log.warning("neither TensorRT nor onnxruntime-gpu is installed: the network runs on the CPU")
    return "cpu"


def _engine(path: Path, spec: NetworkSpec, engine: str, architecture: str, cache: EngineCache) -> Path:
    from .trt import build_engine, load_api

    key = EngineKey(
        file_sha256(path)[:32], "tf32", shapes_text(spec), architecture, engine, load_api(engine).__version__
    )

    def build(target: Path) -> None:
        log.info("building an engine of %s; this takes minutes, once", path.name)
        with TemporaryDirectory(prefix="hsr-") as folder:
            fixed = Path(folder) / path.name
            fix_shapes(path, spec, fixed)
            build_engine(fixed, spec, target, engine=engine, architecture=architecture, precision="tf32")

    return cache.get(key, build)


def output_shapes(path: Path, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a network's outputs have for inputs of these shapes, by running it once on the CPU.

    Raises:
        BadFile: onnxruntime refuses the file.
        DeviceError: It does not run with these shapes.
        MissingPackage: onnxruntime is not installed.
    """
    from .ort import open_session

    session = open_session(path, "cpu", "fp32", 0)
    names = [value.name for value in session.get_outputs()]
    try:
        values = session.run(names, {name: np.zeros(shape, np.float32) for name, shape in inputs.items()})
    except Exception as error:  # onnxruntime's own exceptions have no common public class
        raise DeviceError(f"{path}: {error}") from error
    return {name: value.shape for name, value in zip(names, values, strict=True)}


def fix_shapes(path: Path, spec: NetworkSpec, target: Path) -> None:
    """Write the ONNX file with the sizes of `spec` in place of open ones: an engine then needs no profile."""
    import onnx

    model = onnx.load(path)
    shapes = {tensor.name: tensor.at(1) for tensor in spec.inputs}
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    onnx.save(model, target, save_as_external_data=model.ByteSize() > _LARGE)


def _shape(value) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in dims)


def _fits(found: Shape, wanted: Shape) -> bool:
    if not found and wanted:
        return True  # the exporter left the shape open; it shows when the network runs
    return len(found) == len(wanted) and all(
        w is None or not isinstance(f, int) or f == w for f, w in zip(found, wanted, strict=True)
    )


def _text(shapes: Mapping[str, Shape]) -> str:
    sizes = {name: ", ".join("?" if size is None else str(size) for size in shape) for name, shape in shapes.items()}
    return ", ".join(f"{name} [{text}]" for name, text in sizes.items())
