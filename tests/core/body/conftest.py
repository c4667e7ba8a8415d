from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import synthetic_models

from hsr_core.body import EhmBody, load_body
from hsr_core.types import HumanParams


@pytest.fixture(scope="session")
def open_body() -> EhmBody:
    """The open body from the user's cache (built on the first run)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HSR_BODY_MODELS", raising=False)
        return load_body()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("models")
    return folder, synthetic_models.write_models(folder)


@pytest.fixture(scope="session")
def synthetic_body(model_folder: tuple[Path, dict[str, object]]) -> EhmBody:
    """EHM-s from generated files of the true shapes."""
    return load_body(model_folder[0])


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
