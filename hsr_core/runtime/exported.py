"""A network with all that is needed to run it, build engines of it, and trust them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .base import NetworkSpec, Tensors
from .module import ModuleFactory
from .parity import ParityCheck


@dataclass(frozen=True, eq=False)
class Exported:
    """See the module.

    Attributes:
        make: Returns a new module, with its weights.
        spec: Its tensors.
        hash: Name of weights and arithmetic, hexadecimal.
        samples: Returns real inputs to compare engines on.
        tolerance: By precision, the largest absolute difference from torch fp32 of each output.
    """

    make: ModuleFactory
    spec: NetworkSpec
    hash: str
    samples: Callable[[], tuple[Tensors, ...]]
    tolerance: Mapping[str, Mapping[str, float]]

    def parity(self, precision: str, tolerance: float | None = None) -> ParityCheck:
        """Return the comparison that an engine of this precision has to pass; `tolerance`: one number in its place."""
        return ParityCheck(self.samples(), self.tolerance[precision] if tolerance is None else tolerance)
