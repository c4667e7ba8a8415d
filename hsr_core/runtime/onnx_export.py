"""Write a torch module as ONNX: opset 18, tensor names of the spec, a dynamic batch called `batch`.

Opset 18 is the one torch's exporter writes without conversion, has LayerNormalization as one node (17) and is read by
TensorRT 10, TensorRT for RTX and ONNX Runtime. Above 2 GB, the limit of one protobuf message, the weights lie in one
file beside the graph: `<name>.onnx.data`.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ..errors import BadFile, MissingPackage
from .base import NetworkSpec
from .module import Network
from .ort import INSTALL

OPSET = 18
INLINE_BYTES = 1_800_000_000
"""Weights above this go into a file of their own; 2 GiB is protobuf's limit for weights and graph together."""


class _CastImages(nn.Module):
    """Gives uint8 inputs to the network as float32: TensorRT can do nothing with them but cast them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network(*(tensor.float() if tensor.dtype == torch.uint8 else tensor for tensor in inputs))


def export_onnx(network: Network, spec: NetworkSpec, path: Path, *, inline_bytes: int = INLINE_BYTES) -> list[Path]:
    """Write `path` (and `path` + ".data" for large weights) and check it with onnx's checker; return the files.

    A killed export leaves nothing under these names. The module sees uint8 inputs as float32 of the same values.

    Raises:
        MissingPackage: onnx or onnxscript is not installed, or torch is older than 2.6.
        BadFile: The written graph is not valid ONNX, or its inputs and outputs are not the spec's.
        OSError: The folder cannot be written.
    """
    program = _trace(network, spec)
    for node in program.model.graph:
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # names of folders on this machine
    weight_bytes = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    external = weight_bytes > inline_bytes
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.part-") as folder:
        part = Path(folder) / path.name
        program.save(str(part), external_data=external)
        _check(part, spec)
        names = [f"{path.name}.data", path.name] if external else [path.name]
        for name in names:  # the graph last: where it is, its weights are too
            os.replace(Path(folder) / name, path.parent / name)
    return [path.parent / name for name in names]


def _trace(network: Network, spec: NetworkSpec) -> torch.onnx.ONNXProgram:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingPackage(f"ONNX export needs onnx and onnxscript: {INSTALL}") from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise MissingPackage(f"ONNX export needs torch 2.6 or newer, this is {torch.__version__}")
    batch = max(2, spec.batch.min) if spec.batch.dynamic else spec.batch.opt  # 1 would be taken for a constant
    inputs = tuple(torch.zeros(tensor.at(batch), dtype=getattr(torch, tensor.dtype)) for tensor in spec.inputs)
    dynamic = None
    if spec.batch.dynamic:
        size = torch.export.Dim("batch", min=spec.batch.min, max=spec.batch.max)
        dynamic = (tuple({0: size} if tensor.batched else None for tensor in spec.inputs),)
    with _quiet_exporter():
        return torch.onnx.export(
            _CastImages(network).eval(),
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            dynamic_shapes=dynamic,
            verbose=False,
        )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide the exporter's notes about what it skips and does not find, and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check(path: Path, spec: NetworkSpec) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise BadFile(f"the exported graph is not valid ONNX: {error}") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    found = [value.name for value in graph.input if value.name not in weights]
    if found != [tensor.name for tensor in spec.inputs]:
        raise BadFile(f"the exported graph's inputs are {found}")
    if [value.name for value in graph.output] != [tensor.name for tensor in spec.outputs]:
        raise BadFile(f"the exported graph's outputs are {[value.name for value in graph.output]}")
    for value, tensor in zip(graph.output, spec.outputs, strict=True):
        shape = tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim)
        expected = tensor.shape if spec.batch.dynamic else tensor.at(spec.batch.opt)
        if shape != expected:
            raise BadFile(f"output {tensor.name} has shape {shape} in the exported graph, the spec says {expected}")
