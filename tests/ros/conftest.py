"""Fixtures of the node tests: one DDS domain a module; the command behind `make run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from heeding import heed_signals


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    from harness import Rig

    rig = Rig(tmp_path_factory.mktemp("nodes"))
    yield rig
    rig.close()


@pytest.fixture
def bring_up(ros_domain, tmp_path):
    """Return a function that starts `hsr.bringup` with the scripted node; what still runs is ended after the test."""
    from harness import HERE

    started = []

    def start(*arguments: str, perception: str = "scripted_node", view: bool = False) -> subprocess.Popen:
        command = [
            sys.executable, "-m", "hsr.bringup", "--view" if view else "--no-view", "--json",
            "--log-dir", str(tmp_path), "--perception-module", perception, *arguments,
        ]  # fmt: skip
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), os.environ.get("PYTHONPATH", "")))}
        process = subprocess.Popen(
            command,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
