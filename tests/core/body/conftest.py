from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from hsr_core.body import EhmBody
from hsr_core.types import HumanParams


def random_params(body: EhmBody, rng: np.random.Generator, size: float = 0.3) -> HumanParams:
    """Return a person with every parameter away from zero."""
    values = {}
    for entry in dataclasses.fields(HumanParams):
        shape = HumanParams.FIXED_SHAPES.get(entry.name) or (getattr(body, f"n_{entry.name}"),)
        values[entry.name] = (rng.normal(size=shape) * size).astype(np.float32)
    values["eyelids"] = np.abs(values["eyelids"])
    values["head_scale"] = 1 + 0.3 * values["head_scale"]
    values["jaw_pose"] *= 0.5
    return HumanParams(**values)


@pytest.fixture(scope="session")
def make_params() -> Callable[..., HumanParams]:
    return random_params
