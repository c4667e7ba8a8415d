from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_network import HASH, SPEC, make_tiny

from hsr_core.runtime.build import onnx_file
from hsr_core.runtime.engine_cache import EngineCache
from hsr_core.types import Array


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that several tests share, so that the network is exported once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="session")
def tiny_onnx(tiny_cache: Path) -> Path:
    pytest.importorskip("onnxscript", reason='pip install "hsr-core[onnx]"')
    return onnx_file(make_tiny, SPEC, "fp32", HASH, EngineCache(tiny_cache))


def tiny_inputs(batch: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (batch, 32, 32, 3), np.uint8),
        "offset": rng.standard_normal((batch, 2)).astype(np.float32),
    }


@pytest.fixture
def inputs():
    return tiny_inputs
