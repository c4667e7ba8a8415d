"""Robots, loaded once. Without the extras `retarget` and `robots` the tests of this folder are left out."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import pytest

from hsr_core.errors import MissingPackage
from hsr_core.retarget.find import package_folder
from hsr_core.retarget.robot import Robot, load_robot


def _installed(package: str) -> bool:
    try:
        return package_folder(package).is_dir()
    except MissingPackage:
        return False


MISSING = [name for name in ("pinocchio", "pink", "daqp") if find_spec(name) is None]
MISSING += [name for name in ("example-robot-data", "jvrc-description", "dexmate-urdf") if not _installed(name)]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> list[str]:
    if not MISSING:
        return []
    return [f"tests/core/retarget left out, {', '.join(MISSING)} missing: pip install 'hsr-core[retarget,robots]'"]


@cache
def loaded(name: str, mode: str) -> Robot:
    return load_robot(name, mode)


@pytest.fixture(params=["g1", "talos", "jvrc1"])
def upper(request) -> Robot:
    """Each shipped robot, arms and head, base fixed."""
    return loaded(request.param, "upper_body")


@pytest.fixture(params=["g1", "talos", "jvrc1"])
def whole(request) -> Robot:
    """Each shipped robot, base floating."""
    return loaded(request.param, "whole_body")


@pytest.fixture
def g1() -> Robot:
    return loaded("g1", "upper_body")


@pytest.fixture
def g1_whole() -> Robot:
    return loaded("g1", "whole_body")
