"""A short video and people with a script. Without `retarget`, `robots` and `lerobot` this folder is left out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import scripted_people
from scripted_people import STEP_NS, Script

from hsr_core import registry
from hsr_core.viz.video import VideoWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))  # export_people

MISSING = [name for name in ("pinocchio", "pink", "daqp", "pyarrow") if find_spec(name) is None]
try:
    version("example-robot-data")
except PackageNotFoundError:
    MISSING.append("example-robot-data")
collect_ignore_glob = ["test_*.py"] if MISSING else []

HW = 120, 160


def pytest_report_header() -> list[str]:
    if not MISSING:
        return []
    return [
        f"tests/core/imitate left out, {', '.join(MISSING)} missing: pip install 'hsr-core[retarget,robots,lerobot]'"
    ]


@pytest.fixture
def script(monkeypatch) -> Callable[[Script], None]:
    """Choose whom `--regressor scripted` sees."""
    monkeypatch.setitem(registry.BUILT_IN["regressor"], "scripted", "scripted_people:create")
    return lambda chosen: monkeypatch.setattr(scripted_people, "script", chosen)


@pytest.fixture(scope="session")
def walk(tmp_path_factory) -> Path:
    """A video of 45 frames at 30 Hz; its left half is green, its right half blue."""
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    image = np.zeros((*HW, 3), np.uint8)
    image[:, : HW[1] // 2], image[:, HW[1] // 2 :] = (40, 160, 40), (160, 60, 40)
    with VideoWriter(path, 30) as video:
        for i in range(45):
            video.write(image, i * STEP_NS)
    return path
