"""Run an engine of TensorRT or TensorRT for RTX on a GPU.

Written by the Python API reference of both packages; it has not been executed, for want of a GPU.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..errors import BadFile, DeviceError
from ..types import Array
from .base import NetworkSpec, RuntimeBase, Tensors
from .buffers import Buffers, device_errors
from .trt import load_api, make_logger

log = logging.getLogger(__name__)


class TrtRuntime(RuntimeBase):
    """One stream, device-resident buffers, pinned host memory; the CUDA graph of a batch size is replayed.

    TensorRT for RTX keeps the CUDA graphs itself, and its compiled kernels in `<engine>.jit`, so that only the first
    start on a GPU compiles. With TensorRT the graph is captured here. Not executed yet: see the module.
    """

    def __init__(self, path: Path, spec: NetworkSpec, *, engine: str, precision: str, reason: str = "") -> None:
        super().__init__(spec, torch.cuda.get_device_name(), precision, reason)
        self.name = engine
        self._api = load_api(engine)
        self._logger = make_logger(self._api)
        self._jit = path.with_name(path.name + ".jit")
        self._jit_cache: Any = None
        with device_errors():
            self._stream = torch.cuda.Stream()
            self._runtime = self._api.Runtime(self._logger)
            self._engine = self._load(path)
            self._context: Any = self._make_context()
            self._buffers = Buffers(spec, "cuda")
        self._replays: dict[int, Callable[[], None]] = {}
        self._captured = [self._context]  # kept alive for their graphs
        self._batch = 0

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        batch = self.spec.check_inputs(inputs)
        if self._context is None:
            raise RuntimeError("this runtime is closed")
        with device_errors(), torch.cuda.stream(self._stream):
            self._buffers.upload(inputs)
            if self.name == "tensorrt-rtx":
                self._enqueue(batch)
            else:
                if batch not in self._replays:
                    self._replays[batch] = self._capture(batch)
                self._replays[batch]()
            self._buffers.download(batch)
            self._stream.synchronize()
        return self._buffers.results(batch)

    def warm_up(self) -> None:
        super().warm_up()
        self._save_jit_cache()

    def close(self) -> None:
        self._replays.clear()
        self._captured.clear()
        self._context = self._engine = self._runtime = self._buffers = self._jit_cache = None
        torch.cuda.empty_cache()

    def _load(self, path: Path) -> Any:
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise BadFile(f"{path} was not built for this GPU and {self.name}: {self._logger.errors()}")
        return engine

    def _make_context(self) -> Any:
        if self.name == "tensorrt-rtx":
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._api.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._jit_cache = config.create_runtime_cache()
            if self._jit.is_file() and not self._jit_cache.deserialize(self._jit.read_bytes()):
                log.info("%s is of another GPU, driver or version: the kernels are compiled again", self._jit)
            config.set_runtime_cache(self._jit_cache)
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise DeviceError(f"{self.name} cannot run the engine on {self.device}: {self._logger.errors()}")
        return context

    def _enqueue(self, batch: int) -> None:
        if batch != self._batch:
            for tensor in (*self.spec.inputs, *self.spec.outputs):
                self._context.set_tensor_address(tensor.name, self._buffers.device_view(tensor, batch).data_ptr())
            for tensor in self.spec.inputs:
                self._context.set_input_shape(tensor.name, tensor.at(batch))
            self._batch = batch
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise DeviceError(f"{self.name} failed on {self.device}: {self._logger.errors()}")

    def _capture(self, batch: int) -> Callable[[], None]:
        if self._replays:  # a captured graph uses its context's memory: no other shape may pass through that one
            self._context, self._batch = self._make_context(), 0
            self._captured.append(self._context)
        self._enqueue(batch)  # shapes and lazily made resources must be settled before the capture
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._enqueue(batch)
        return graph.replay

    def _save_jit_cache(self) -> None:
        """Keep the compiled kernels; a cache folder that cannot be written costs time at the next start, no more."""
        if self._jit_cache is None:
            return
        part = self._jit.with_name(f".{self._jit.name}.part-{os.getpid()}")
        try:
            part.write_bytes(self._jit_cache.serialize())
            os.replace(part, self._jit)
        except OSError as error:
            log.warning("the compiled kernels cannot be kept in %s: %s", self._jit.parent, error)
