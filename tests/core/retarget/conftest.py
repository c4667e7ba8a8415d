"""The libraries of the extra `retarget`, and robots loaded once."""

from __future__ import annotations

from functools import cache

import pytest

pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget,robots]'")
pytest.importorskip("pink", reason="pip install 'hsr-core[retarget,robots]'")

from hsr_core.retarget.robot import Robot, load_robot


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
