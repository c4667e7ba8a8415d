"""Shared by all tests: where things are, and ROS domains that no other test uses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"

MISSING_ROS = [name for name in ("rclpy", "hsr_msgs", "hsr") if find_spec(name) is None]
collect_ignore_glob = ["ros/*"] if MISSING_ROS else []

# Discovery stays on this machine; domains up to 101 have their ports below Linux' ephemeral ones. Workers of one run
# (pytest-xdist) share the domains among them: worker k of n takes k, k + n, ...
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_run = os.getppid() if _workers > 1 else os.getpid()
_domains = (1 + (_run * 7 + i) % (100 // _workers) * _workers + _worker for i in itertools.count())
os.environ["ROS_DOMAIN_ID"] = str(next(_domains))


def pytest_report_header() -> list[str]:
    if not MISSING_ROS:
        return []
    return [f"tests/ros left out, {', '.join(MISSING_ROS)} missing: run make setup, or source a ROS 2 workspace"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "ros"):
            item.add_marker(pytest.mark.ros)


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS domain for one test and the processes it starts."""
    domain = next(_domains)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    return domain


@pytest.fixture
def rclpy_context(ros_domain: int) -> Iterator[int]:
    """rclpy, initialised for one test in a domain of its own."""
    import rclpy

    rclpy.init()
    yield ros_domain
    rclpy.try_shutdown()
