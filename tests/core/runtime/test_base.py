from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tiny_network import SPEC

from hsr_core.errors import ConfigError, ShapeError
from hsr_core.runtime import Batch, NetworkSpec, TensorSpec


def test_importing_the_runtimes_loads_no_library() -> None:
    code = "import sys, hsr_core.runtime; print([m for m in ('torch', 'onnx', 'tensorrt_rtx') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_inputs_that_fit_give_their_batch_size(inputs) -> None:
    assert [SPEC.check_inputs(inputs(n)) for n in (1, 2, 4)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((2, 32, 31, 3), np.uint8)}, "(batch, 32, 32, 3), not uint8 (2, 32, 31, 3)"),
        ({"image": np.zeros((2, 32, 32, 3))}, "must be uint8 (batch, 32, 32, 3), not float64"),
        ({"offset": np.zeros((3, 2), np.float32)}, "in a batch of 2"),
        ({"extra": np.zeros(1)}, "inputs are image, offset, not image, offset, extra"),
        (
            {"image": np.zeros((5, 32, 32, 3), np.uint8), "offset": np.zeros((5, 2), np.float32)},
            "1 to 4 items, not 5",
        ),
        ({"image": np.zeros((0, 32, 32, 3), np.uint8), "offset": np.zeros((0, 2), np.float32)}, "items, not 0"),
        ({"image": np.zeros((), np.float32)}, "not float32 ()"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, change, message) -> None:
    with pytest.raises(ShapeError) as error:
        SPEC.check_inputs({**inputs(2), **change})
    assert message in str(error.value)


def test_a_prefix_may_be_shorter_and_not_longer() -> None:
    spec = NetworkSpec((TensorSpec("bytes", (4,), "uint8", prefix=True),), (TensorSpec("y", (3,)),))
    for n in (0, 1, 4):
        spec.check_inputs({"bytes": np.zeros(n, np.uint8)})
    for wrong in (np.zeros(5, np.uint8), np.zeros(3), np.zeros((2, 2), np.uint8)):
        with pytest.raises(ShapeError, match=r"bytes must be uint8 \(4,\) or shorter"):
            spec.check_inputs({"bytes": wrong})
    with pytest.raises(ConfigError, match="one axis"):
        TensorSpec("x", (None, 3), prefix=True)


def test_specs_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match="comes first only"):
        TensorSpec("x", (3, None))
    with pytest.raises(ConfigError, match="float16"):
        TensorSpec("x", (3,), "float16")
    with pytest.raises(ConfigError, match="min <= opt <= max"):
        Batch(2, 1, 4)
    with pytest.raises(ConfigError, match="must differ"):
        NetworkSpec((TensorSpec("x", (3,)),), (TensorSpec("x", (3,)),))
