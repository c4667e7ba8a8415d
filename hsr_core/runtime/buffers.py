"""Fixed buffers of a network on a device, with their twins in host memory, made once for the largest batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..errors import DeviceError
from ..types import Array
from .base import NetworkSpec, Tensors, TensorSpec


class Buffers:
    """Inputs go pinned host -> device, outputs device -> pinned host, on torch's current stream, without waiting.

    Host twins are pinned when the device is a GPU, so that the copies run beside the CPU.
    """

    def __init__(self, spec: NetworkSpec, device: str) -> None:
        self._spec = spec
        tensors = {tensor.name: tensor for tensor in (*spec.inputs, *spec.outputs)}
        make = {name: (tensor.at(spec.batch.max), getattr(torch, tensor.dtype)) for name, tensor in tensors.items()}
        pin = device != "cpu"
        self._host = {name: torch.zeros(shape, dtype=dtype, pin_memory=pin) for name, (shape, dtype) in make.items()}
        self._numpy = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._device = {name: torch.zeros(shape, dtype=dtype, device=device) for name, (shape, dtype) in make.items()}

    def device_view(self, tensor: TensorSpec, batch: int) -> torch.Tensor:
        whole = self._device[tensor.name]
        return whole[:batch] if tensor.batched else whole

    def upload(self, inputs: Tensors) -> None:
        """Copy the inputs to the device. The previous download must have been waited for."""
        for name, array in inputs.items():
            rows = slice(array.shape[0]) if array.ndim else ...
            np.copyto(self._numpy[name][rows], array)
            self._device[name][rows].copy_(self._host[name][rows], non_blocking=True)

    def download(self, batch: int) -> None:
        """Start copying the outputs to the host; wait for the stream before `results`."""
        for tensor in self._spec.outputs:
            host = self._host[tensor.name]
            (host[:batch] if tensor.batched else host).copy_(self.device_view(tensor, batch), non_blocking=True)

    def results(self, batch: int) -> dict[str, Array]:
        """Return views of the host outputs."""
        return {
            tensor.name: self._numpy[tensor.name][:batch] if tensor.batched else self._numpy[tensor.name]
            for tensor in self._spec.outputs
        }


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn what torch raises for a full or lost GPU into `DeviceError`."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceError(f"the GPU's memory is full: use a smaller batch or half precision: {error}") from error
    except RuntimeError as error:  # AcceleratorError since torch 2.8, which is one too
        if "CUDA" not in str(error):
            raise
        raise DeviceError(f"the GPU failed; configure again, and check nvidia-smi and dmesg: {error}") from error
