"""Shared by all tests: where things are, and ROS domains that no other test uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from ros_domains import next_domain

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"

MISSING_ROS = [name for name in ("rclpy", "hsr_msgs", "hsr") if find_spec(name) is None]
collect_ignore_glob = ["ros/*"] if MISSING_ROS else []

# The same examples in each run, however slow the computer is.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # discovery stays on this machine
os.environ["ROS_DOMAIN_ID"] = str(next_domain())


def pytest_report_header() -> list[str]:
    if not MISSING_ROS:
        return []
    return [f"tests/ros left out, {', '.join(MISSING_ROS)} missing: run make setup, or source a ROS 2 workspace"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "ros"):
            item.add_marker(pytest.mark.ros)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the shared memory of nodes that tests have killed: 35 MB each. Fast DDS' tool knows who is alive."""
    tool = Path(sys.executable).with_name("fastdds")
    if tool.exists() and not hasattr(session.config, "workerinput"):  # once, when all workers have ended
        subprocess.run([tool, "shm", "clean"], stdout=subprocess.DEVNULL, check=False)


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS domain for one test and the processes it starts."""
    domain = next_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    return domain


@pytest.fixture
def rclpy_context(ros_domain: int) -> Iterator[int]:
    """rclpy, initialised for one test in a domain of its own."""
    import rclpy

    rclpy.init()
    yield ros_domain
    rclpy.try_shutdown()
