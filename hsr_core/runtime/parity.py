"""Refuse a network whose outputs are not those of torch in float32."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadFile, ParityError
from ..progress import report
from .base import NetworkSpec, Runtime, Tensors
from .engine_cache import EngineCache

if TYPE_CHECKING:
    from .module import ModuleFactory

TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 1e-1, "int8": 1e-1}
"""Largest absolute difference allowed where the caller states none, for outputs of order one: a few hundred units in
the last place of each type's significand (24, 11, 11, 8 and, int8, 7 bits), which is what some hundred layers add up
to."""


@dataclass(frozen=True)
class ParityCheck:
    """Inputs to compare on and the difference allowed.

    Attributes:
        samples: Inputs, each within the spec; real ones, since random images do not look like people to a network.
        tolerance: Largest absolute difference, for all outputs or by output name, in the output's unit; None = the
            precision's `TOLERANCE`.
    """

    samples: tuple[Tensors, ...]
    tolerance: float | Mapping[str, float] | None = None

    def limits(self, spec: NetworkSpec, precision: str) -> dict[str, float]:
        """Return the tolerance of each output."""
        given = self.tolerance
        if isinstance(given, Mapping):
            return {tensor.name: given.get(tensor.name, TOLERANCE[precision]) for tensor in spec.outputs}
        return {tensor.name: TOLERANCE[precision] if given is None else given for tensor in spec.outputs}


@dataclass(frozen=True)
class Parity:
    """What was measured: for each output the largest absolute difference and the tolerance."""

    largest: dict[str, float]
    tolerance: dict[str, float]
    samples: int = field(default=0)

    @property
    def ok(self) -> bool:
        return all(self.largest[name] <= limit for name, limit in self.tolerance.items())  # false for NaN


def measure_parity(runtime: Runtime, reference: Runtime, check: ParityCheck) -> Parity:
    """Run both on the samples and return the largest differences; NaN where one has a NaN."""
    largest = {tensor.name: 0.0 for tensor in reference.spec.outputs}
    for sample in check.samples:
        expected = {name: array.copy() for name, array in reference(sample).items()}
        for name, array in runtime(sample).items():
            difference = np.abs(array.astype(np.float64) - expected[name]).max(initial=0.0)
            largest[name] = float(np.maximum(largest[name], difference))  # keeps NaN
    return Parity(largest, check.limits(reference.spec, runtime.precision), len(check.samples))


def require_parity(runtime: Runtime, reference: Runtime, check: ParityCheck) -> Parity:
    """Return the differences.

    Raises:
        ParityError: One is above its tolerance; the message has the figures of every output.
    """
    parity = measure_parity(runtime, reference, check)
    if parity.ok:
        return parity
    figures = ", ".join(
        f"{name} {parity.largest[name]:.3g} (allowed {limit:.3g})" for name, limit in parity.tolerance.items()
    )
    raise ParityError(
        f"{runtime.name} in {runtime.precision} on {runtime.device} differs from torch fp32 by more than allowed, "
        f"largest absolute difference on {parity.samples} inputs: {figures}; use a higher precision or allow more"
    )


def gate(
    runtime: Runtime,
    module_factory: ModuleFactory,
    device: str,
    check: ParityCheck,
    cache: EngineCache | None = None,
    path: Path | None = None,
) -> Parity | None:
    """Compare with torch fp32 on the same device; None when the cache remembers that this file passed this check.

    Raises:
        ParityError: An output is above its tolerance.
    """
    from .pytorch import TorchRuntime

    digest = _digest(check, runtime)
    if cache is not None and path is not None and cache.check(path).facts.get("parity", {}).get("check") == digest:
        return None
    report("comparing the engine with torch")
    with TorchRuntime(module_factory, runtime.spec, device=device, precision="fp32") as reference:
        parity = require_parity(runtime, reference, check)
    if cache is not None and path is not None:
        with suppress(BadFile):  # a folder that cannot be written: measured again at the next start
            cache.annotate(path, "parity", {"check": digest, **asdict(parity)})
    return parity


def _digest(check: ParityCheck, runtime: Runtime) -> str:
    limits = check.limits(runtime.spec, runtime.precision)
    digest = hashlib.sha256(repr((runtime.name, runtime.device, sorted(limits.items()))).encode())
    for sample in check.samples:
        for name in sorted(sample):
            digest.update(name.encode() + np.ascontiguousarray(sample[name]).tobytes())
    return digest.hexdigest()[:32]
