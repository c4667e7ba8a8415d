"""Run a network with PyTorch: plain on the CPU, as a CUDA graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..types import Array
from .base import NetworkSpec, RuntimeBase, Tensors
from .buffers import Buffers, device_errors
from .module import ModuleFactory, Network, build_network


class TorchRuntime(RuntimeBase):
    """eval mode, inference mode, nothing else between the caller's arrays and the module on the CPU.

    On a GPU the first call of each batch size captures a CUDA graph over fixed buffers; later calls copy the inputs in
    through pinned memory, replay, and copy the outputs out. The GPU path has not been executed by the tests.
    """

    name = "torch"

    def __init__(
        self, module_factory: ModuleFactory, spec: NetworkSpec, *, device: str, precision: str, reason: str = ""
    ) -> None:
        label = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        super().__init__(spec, label, precision, reason)
        self._network: Network | None = build_network(module_factory, spec, precision)
        self._graph: _GraphRunner | None = None
        if device == "cuda":
            with device_errors():
                self._graph = _GraphRunner(self._network.to(device), spec, tf32=precision == "tf32")

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        batch = self.spec.check_inputs(inputs)
        if self._graph is not None:
            with device_errors():
                return self._graph.run(inputs, batch)
        if self._network is None:
            raise RuntimeError("this runtime is closed")
        arrays = (
            np.ascontiguousarray(inputs[tensor.name]) for tensor in self.spec.inputs
        )  # torch refuses flipped views
        with torch.inference_mode():
            outputs = self._network(*map(torch.from_numpy, arrays))
        return {tensor.name: out.numpy() for tensor, out in zip(self.spec.outputs, outputs, strict=True)}

    def close(self) -> None:
        was_on_gpu = self._graph is not None
        self._network = self._graph = None
        if was_on_gpu:
            torch.cuda.empty_cache()


class _GraphRunner:
    """A network's CUDA graphs, one for each batch size seen, over one set of buffers."""

    def __init__(self, network: Network, spec: NetworkSpec, *, tf32: bool) -> None:
        self._network = network
        self._spec = spec
        self._tf32 = tf32
        self._stream = torch.cuda.Stream()
        self._buffers = Buffers(spec, "cuda")
        self._replays: dict[int, Callable[[], None]] = {}

    def run(self, inputs: Tensors, batch: int) -> dict[str, Array]:
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._buffers.upload(inputs)
            if batch not in self._replays:
                self._replays[batch] = self._capture(batch)
            self._replays[batch]()
            self._buffers.download(batch)
        self._stream.synchronize()
        return self._buffers.results(batch)

    def _step(self, batch: int) -> None:
        outputs = self._network(*(self._buffers.device_view(tensor, batch) for tensor in self._spec.inputs))
        for tensor, out in zip(self._spec.outputs, outputs, strict=True):
            self._buffers.device_view(tensor, batch).copy_(out)

    def _capture(self, batch: int) -> Callable[[], None]:
        with _tf32(self._tf32):
            for _ in range(3):  # lazy initialisation and autotuning must not fall into the capture
                self._step(batch)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                self._step(batch)
        return graph.replay


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Set torch's process-wide switches for as long as kernels are chosen."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
