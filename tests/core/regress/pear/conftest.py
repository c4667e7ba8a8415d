from __future__ import annotations

import pytest
import synthetic_models

from hsr_core.body import EhmBody, load_body


@pytest.fixture(scope="session")
def licensed_body(tmp_path_factory: pytest.TempPathFactory) -> EhmBody:
    """EHM-s from generated files of the true shapes."""
    folder = tmp_path_factory.mktemp("models")
    synthetic_models.write_models(folder)
    return load_body(folder)
