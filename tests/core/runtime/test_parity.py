from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from tiny_network import HASH, SPEC, make_tiny, tiny_inputs

from hsr_core.errors import ParityError
from hsr_core.runtime import open_runtime, parity
from hsr_core.runtime.engine_cache import EngineCache
from hsr_core.runtime.parity import ParityCheck, gate, measure_parity
from hsr_core.runtime.pytorch import TorchRuntime

PUSH = 0.25
SAMPLES = (tiny_inputs(4), tiny_inputs(4, seed=1))


def pushed() -> torch.nn.Module:
    """The tiny network with one output off by a known amount."""
    module = make_tiny()
    with torch.no_grad():
        module.head.bias[3] += PUSH
    return module


def torch_runtime(factory) -> TorchRuntime:
    return TorchRuntime(factory, SPEC, device="cpu", precision="fp32")


def test_the_largest_difference_of_each_output_is_measured() -> None:
    measured = measure_parity(torch_runtime(pushed), torch_runtime(make_tiny), ParityCheck(SAMPLES))
    assert measured.largest["pose"] == pytest.approx(PUSH, abs=1e-6)
    assert measured.largest["tokens"] == 0.0
    assert measured.samples == 2


def test_a_perturbed_network_is_refused_with_the_figures() -> None:
    with pytest.raises(ParityError) as error:
        gate(torch_runtime(pushed), make_tiny, "cpu", ParityCheck(SAMPLES, tolerance=1e-4))
    assert "pose 0.25 (allowed 0.0001), tokens 0 (allowed 0.0001)" in str(error.value)
    assert re.search(r"torch in fp32 on cpu differs from torch fp32 .* on 2 inputs", str(error.value))


def test_a_tolerance_may_be_stated_for_one_output() -> None:
    check = ParityCheck(SAMPLES, tolerance={"pose": 0.3})
    result = gate(torch_runtime(pushed), make_tiny, "cpu", check)
    assert result is not None
    assert result.tolerance == {"pose": 0.3, "tokens": parity.TOLERANCE["fp32"]}


def test_nan_is_never_within_tolerance() -> None:
    def broken() -> torch.nn.Module:
        module = make_tiny()
        with torch.no_grad():
            module.head.bias[0] = np.nan
        return module

    with pytest.raises(ParityError, match="pose nan"):
        gate(torch_runtime(broken), make_tiny, "cpu", ParityCheck(SAMPLES, tolerance=1e9))


def test_an_exported_network_passes_and_that_is_remembered(tiny_cache, tiny_onnx, inputs) -> None:
    options = {"network_hash": HASH, "engine": "onnxruntime", "device": "cpu", "cache": tiny_cache}
    check = ParityCheck((inputs(1), inputs(3)), tolerance=1e-4)
    made = []

    def counted() -> torch.nn.Module:
        made.append(1)
        return make_tiny()

    for _ in range(2):
        open_runtime(counted, SPEC, parity=check, **options).close()
    assert len(made) == 1  # the reference, once
    recorded = EngineCache(tiny_cache).check(tiny_onnx).facts["parity"]
    assert 0 < recorded["largest"]["pose"] < 1e-4
    with pytest.raises(ParityError):  # another tolerance is another check
        open_runtime(counted, SPEC, parity=ParityCheck(check.samples, tolerance=0.0), **options)
