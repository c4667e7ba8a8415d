from __future__ import annotations

from pathlib import Path

import pytest
from tiny_network import HASH, SPEC, make_tiny, tiny_inputs

from hsr_core.runtime.build import onnx_file
from hsr_core.runtime.engine_cache import EngineCache


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that several tests share, so that the network is exported once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="session")
def tiny_onnx(tiny_cache: Path) -> Path:
    pytest.importorskip("onnxscript", reason='pip install "hsr-core[onnx]"')
    return onnx_file(make_tiny, SPEC, "fp32", HASH, EngineCache(tiny_cache))


@pytest.fixture
def inputs():
    return tiny_inputs
