"""Every node ends in order, however often it is told to, and not by a callback that fails."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

NODES = {
    "perception": ("scripted_node", (), "/human/perception/get_state"),
    "source": ("hsr.source_node", ("-p", "source:=synthetic"), "/human/source/get_parameters"),
    "view": ("hsr.view_node", ("-p", "port:=0"), "/human/view/get_parameters"),
}


FAILING = """
import rclpy
from hsr.signals import ros, spin_until
calls = []
def fail():
    calls.append(1)
    raise ValueError("a bad message")
with ros():
    node = rclpy.create_node("failing")
    node.create_timer(0.01, fail)
    spin_until(node, lambda: len(calls) >= 3)
print(len(calls))
"""


def test_a_callback_that_fails_is_told_and_does_not_end_the_node(rig):
    done = subprocess.run([sys.executable, "-c", FAILING], env=rig.environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert done.stderr.count("ValueError: a bad message") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", NODES)
def test_a_node_that_is_told_again_and_again_ends_with_zero(rig, name, number):
    module, parameters, service = NODES[name]
    if name == "view":
        pytest.importorskip("viser", reason="the web view needs viser: make setup")
    process = rig.start(name, module, "--ros-args", *parameters)
    rig.wait(lambda: service in dict(rig.node.get_service_names_and_types()), f"{name} in the graph")

    def told() -> bool:
        process.signal(number)
        return process.returncode is not None

    rig.wait(told, f"the end of {name}")
    assert rig.stop(process) == 0, process.tail()
