"""From a module to an ONNX file and an engine, through the cache."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..progress import report
from .base import NetworkSpec
from .engine_cache import EngineCache, EngineKey, shapes_text
from .module import HALF, ModuleFactory, build_network
from .onnx_export import OPSET, export_onnx
from .quantize import quantize_int8
from .trt import build_engine, load_api

log = logging.getLogger(__name__)


def onnx_file(
    module_factory: ModuleFactory, spec: NetworkSpec, precision: str, network_hash: str, cache: EngineCache
) -> Path:
    """Return the network's ONNX file, exported if the cache does not have it. tf32 shares the file of fp32."""
    import torch

    graph_precision = precision if precision in (*HALF, "int8") else "fp32"
    exporter = f"{OPSET}-torch{torch.__version__.partition('+')[0]}"
    key = EngineKey(network_hash, graph_precision, shapes_text(spec), "any", "opset", exporter, "onnx")

    def build(path: Path) -> dict[str, Any]:
        log.info("exporting the network to %s", key.file_name)
        report("exporting the network")
        start = time.monotonic()
        if precision == "int8":
            quantize_int8(onnx_file(module_factory, spec, "fp32", network_hash, cache), path, spec)
        else:
            export_onnx(build_network(module_factory, spec, graph_precision), spec, path)
        return {"build_s": round(time.monotonic() - start, 2)}

    return cache.get(key, build)


def engine_file(
    module_factory: ModuleFactory,
    spec: NetworkSpec,
    *,
    engine: str,
    architecture: str,
    precision: str,
    network_hash: str,
    cache: EngineCache,
) -> Path:
    """Return the network's engine for an architecture, built if the cache does not have it (minutes for a large one).

    Args:
        engine: tensorrt, or tensorrt-rtx, which needs no GPU to build.
        architecture: "sm89" and so on; TensorRT builds for the GPU of this machine only, which must be of it.
        network_hash: Hexadecimal; must change whenever the weights or the module's arithmetic do.

    Raises:
        BadFile, ConfigError, DeviceError, MissingPackage: See `build_engine`, `export_onnx` and `EngineCache.get`.
    """
    version = load_api(engine).__version__
    if engine == "tensorrt-rtx" and architecture == "sm75" and precision == "fp16" and spec.turing_half_modules:
        spec = replace(spec, half_modules=spec.turing_half_modules)
    key = EngineKey(network_hash, precision, shapes_text(spec), architecture, engine, version)

    def build(path: Path) -> dict[str, Any]:
        onnx = onnx_file(module_factory, spec, precision, network_hash, cache)
        log.info("building %s", key.file_name)
        start = time.monotonic()
        build_engine(onnx, spec, path, engine=engine, architecture=architecture, precision=precision)
        return {"build_s": round(time.monotonic() - start, 2)}

    return cache.get(key, build)
