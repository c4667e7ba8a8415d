"""Every node ends in order, however often it is told to, and not by a callback that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from heeding import heed_signals
from hsr import signals

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


def test_what_fails_for_ever_does_not_take_a_whole_processor(monkeypatch):
    class Broken:
        def spin_once(self, timeout_sec):
            raise RuntimeError("the wait itself fails")

    class Silent:
        def error(self, *_, **__): ...

    rests = []
    monkeypatch.setattr(signals.rclpy, "ok", lambda: True)
    monkeypatch.setattr(signals.time, "sleep", rests.append)
    for _ in range(3):
        signals.spin_once(Broken(), Silent())
    assert len(rests) == 3
    assert min(rests) > 0


TIDY = """
import rclpy
from hsr.signals import ros, spin_until
with ros():
    node = rclpy.create_node("tidy")
    print("up", flush=True)
    try:
        spin_until(node, lambda: False)
    finally:
        print("tidied up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_node_has_to_do_at_its_end_is_done(rig, tmp_path, number):
    (tmp_path / "tidy_node.py").write_text(TIDY)
    command = [sys.executable, "-m", "hsr.child", str(os.getpid()), "tidy_node"]
    environ = {**rig.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), rig.environ.get("PYTHONPATH", "")))}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=heed_signals)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, "tidied up\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_is_told_to_end_while_it_is_imported_ends_with_zero(tmp_path, number):
    (tmp_path / "slow_node.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "hsr.child", str(os.getpid()), "slow_node"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=heed_signals)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 0


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
