"""Bodies that tests of several parts share: loaded once a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic_models

from hsr_core.body import EhmBody, load_body


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
    """EHM-s from generated files of the true shapes, with pose blend shapes."""
    return load_body(model_folder[0])
