"""Weights in 8 bits: the matrix products of an ONNX file's large modules for processors that multiply bytes quickly.

Activations are scaled by their range in each call (dynamic quantisation), so no calibration is needed.
"""

from __future__ import annotations

import ast
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import BadFile, MissingPackage
from .base import NetworkSpec
from .ort import INSTALL

_SCOPES = "pkg.torch.onnx.name_scopes"


def quantize_int8(source: Path, target: Path, spec: NetworkSpec) -> None:
    """Write `source` with the weights of the products within `spec.half_modules` in int8, one scale for each column.

    Args:
        source: From `export_onnx` in fp32.
        target: ".onnx"; a killed call leaves nothing under this name.
        spec: Names the modules; the others keep float32.

    Raises:
        MissingPackage: onnxruntime is not installed.
        BadFile: The file has no product in these modules.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingPackage(f"int8 needs onnx and onnxruntime: {INSTALL}") from error
    model = onnx.load(str(source))
    names = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and _within(node, spec)]
    if not names:
        raise BadFile(f"{source} has no matrix product in {', '.join(spec.half_modules)}; delete it to export it again")
    del model.graph.value_info[:]  # shapes from before the exporter's own rewriting
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.part-") as folder:
        part = Path(folder) / target.name
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends a step whose work the exporter has done
        try:
            quantize_dynamic(
                model, str(part), nodes_to_quantize=names, per_channel=True, weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm"],
            )  # fmt: skip
        finally:
            root.setLevel(level)
        os.replace(part, target)


def _within(node: Any, spec: NetworkSpec) -> bool:
    scopes = next((ast.literal_eval(entry.value) for entry in node.metadata_props if entry.key == _SCOPES), [])
    return any(f"network.module.{name}".rstrip(".") in scopes for name in spec.half_modules)
