"""A torch module as a network: eval mode, tensors by position, parts of it in half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from .base import NetworkSpec

ModuleFactory = Callable[[], nn.Module]
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Network(nn.Module):
    """A module whose `forward` takes the inputs and returns the outputs of a spec, as tuples in its order."""

    def __init__(self, module: nn.Module, spec: NetworkSpec) -> None:
        super().__init__()
        self.module = module
        self._names = [tensor.name for tensor in spec.outputs]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self.module(*inputs)
        if isinstance(result, torch.Tensor):
            result = (result,)
        elif isinstance(result, dict):
            result = tuple(result[name] for name in self._names)
        if len(result) != len(self._names):
            raise ConfigError(f"the module returns {len(result)} tensors, its spec names {len(self._names)}")
        return tuple(result)


def build_network(module_factory: ModuleFactory, spec: NetworkSpec, precision: str) -> Network:
    """Build the module, in eval mode, without gradients, with `spec.half_modules` in half precision if asked for.

    The tensors at the border keep the spec's types.
    """
    module = module_factory().eval().requires_grad_(False)
    dtype = HALF.get(precision)
    for name in spec.half_modules if dtype else ():
        try:
            part = module.get_submodule(name)
        except AttributeError as error:
            raise ConfigError(f"half_modules names {name!r}, which the module does not have") from error
        _run_in(part, dtype)
    return Network(module, spec).eval()


def _run_in(part: nn.Module, dtype: torch.dtype) -> None:
    """Convert `part`; hooks cast what enters and leaves it, so the code around it stays float32."""
    part.to(dtype)
    part.register_forward_pre_hook(lambda _, args, kwargs: _cast((args, kwargs), dtype), with_kwargs=True)
    part.register_forward_hook(lambda _, args, result: _cast(result, torch.float32))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _cast(item, dtype) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_cast(item, dtype) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_cast(item, dtype) for item in value)
    return value
