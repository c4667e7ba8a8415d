"""What every network runtime offers: named numpy arrays in, named numpy arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np

from ..errors import ConfigError, ShapeError
from ..types import Array

ENGINES = ("tensorrt", "tensorrt-rtx", "onnxruntime", "torch")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
DTYPES = ("float32", "uint8", "int32", "int64", "bool")

Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output.

    Attributes:
        name: Also the ONNX graph's and the engine's name.
        shape: `None` in front stands for the batch; a tensor without it is the same for every item of a batch.
        dtype: numpy's name; float32 also when the network runs in half precision. A uint8 input reaches an exported
            module as float32 of the same values.
        prefix: For an input of one axis: fewer values may be given, the module does not read beyond them. An image of
            changing size goes in so.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    prefix: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"a tensor's name must be an identifier, not {self.name!r}")
        if None in self.shape[1:] or any(size is not None and size < 1 for size in self.shape):
            raise ConfigError(f"{self.name}: shape {self.shape}: sizes are positive, None (the batch) comes first only")
        if self.dtype not in DTYPES:
            raise ConfigError(f"{self.name}: dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.prefix and (len(self.shape) != 1 or self.batched):
            raise ConfigError(f"{self.name}: only an input of one axis that is not the batch can be a prefix")

    @property
    def batched(self) -> bool:
        return self.shape[:1] == (None,)

    def at(self, batch: int) -> tuple[int, ...]:
        """Return the shape for a batch size."""
        return (batch, *self.shape[1:]) if self.batched else self.shape


@dataclass(frozen=True)
class Batch:
    """Batch sizes a network is run with; TensorRT tunes for `opt`. All equal = a fixed batch."""

    min: int = 1
    opt: int = 1
    max: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ConfigError(f"batch sizes must be 1 <= min <= opt <= max, not {self.min}, {self.opt}, {self.max}")

    @property
    def dynamic(self) -> bool:
        return self.min != self.max


@dataclass(frozen=True)
class NetworkSpec:
    """What goes into a network and comes out.

    The module's `forward` takes the inputs by position in this order. It returns a tensor, a tuple in the order of
    `outputs`, or a dictionary with their names.

    Attributes:
        half_modules: Dotted names of the submodules that run in fp16, bf16 or int8 when that is asked for; the others,
            and what lies between them, stay float32. "" = the whole module. Geometry in pixels and metres does not
            fit into 11 bits, so a network that has some names its backbone here.
        turing_half_modules: The same for TensorRT for RTX on sm75, which multiplies matrices in fp16 only: all the
            submodules that do. () = `half_modules`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: Batch = Batch()
    half_modules: tuple[str, ...] = ("",)
    turing_half_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if not self.inputs or not self.outputs:
            raise ConfigError("a network has at least one input and one output")
        if len(set(names)) != len(names):
            raise ConfigError(f"tensor names must differ: {', '.join(names)}")

    def check_inputs(self, inputs: Tensors) -> int:
        """Return the batch size of `inputs`.

        Raises:
            ShapeError: A name, shape or dtype differs, or the batch lies outside min..max.
        """
        if inputs.keys() != {tensor.name for tensor in self.inputs}:
            expected = ", ".join(tensor.name for tensor in self.inputs)
            raise ShapeError(f"the network's inputs are {expected}, not {', '.join(inputs) or 'none'}")
        sizes = [inputs[t.name].shape[0] for t in self.inputs if t.batched and inputs[t.name].ndim]
        batch = sizes[0] if sizes else self.batch.min
        for tensor in self.inputs:
            array = inputs[tensor.name]
            shape = tensor.at(batch)
            if tensor.prefix and array.ndim == 1:
                shape = (min(len(array), *shape),)
            if array.shape != shape or array.dtype != tensor.dtype:
                raise ShapeError(
                    f"input {tensor.name} must be {tensor.dtype} {_text(tensor)}, not {array.dtype} {array.shape}"
                    + (f" in a batch of {batch}" if tensor.batched else "")
                )
        if not self.batch.min <= batch <= self.batch.max:
            raise ShapeError(f"a batch must have {self.batch.min} to {self.batch.max} items, not {batch}")
        return batch

    def zeros(self, batch: int) -> dict[str, Array]:
        """Return inputs of the right shape, for warming up."""
        return {tensor.name: np.zeros(tensor.at(batch), tensor.dtype) for tensor in self.inputs}


def _text(tensor: TensorSpec) -> str:
    return str(tensor.shape).replace("None", "batch") + (" or shorter" if tensor.prefix else "")


class Runtime(Protocol):
    """A network that is ready to run. Not for several threads at once.

    Attributes:
        name: One of `ENGINES`.
        device: "cpu", or the GPU's name.
        precision: One of `PRECISIONS`.
        spec: Inputs and outputs.
        reason: Why this engine, device and precision; one line for a log.
    """

    name: str
    device: str
    precision: str
    spec: NetworkSpec
    reason: str

    def warm_up(self) -> None:
        """Run once with zeros at the smallest, tuned and largest batch, so that no later call is slow."""

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        """Run the network. The returned arrays belong to the runtime: the next call overwrites them.

        Raises:
            ShapeError: The inputs do not fit `spec`.
            DeviceError: The GPU ran out of memory or was lost; close this runtime and open another.
        """

    def close(self) -> None:
        """Give back memory and device. Closing twice is allowed."""

    def __enter__(self) -> Runtime: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class RuntimeBase:
    """What the runtimes share: facts, warm-up, context manager."""

    name = ""

    def __init__(self, spec: NetworkSpec, device: str, precision: str, reason: str = "") -> None:
        self.spec = spec
        self.device = device
        self.precision = precision
        self.reason = reason

    def warm_up(self) -> None:
        batch = self.spec.batch
        for size in sorted({batch.min, batch.opt, batch.max}):
            self(self.spec.zeros(size))

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
