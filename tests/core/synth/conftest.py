"""The open body, and one benchmark sequence, made once."""

from __future__ import annotations

import pytest

from hsr_core.synth import benchmark_sequence
from hsr_core.synth.benchmark import open_body


@pytest.fixture(scope="session")
def body():
    return open_body()


@pytest.fixture(scope="session")
def sequence(body):
    return benchmark_sequence(0, body=body)
