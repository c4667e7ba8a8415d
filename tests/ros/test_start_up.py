"""A configure that takes minutes: it says how far it is, and a signal ends it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
from harness import Perception, level, values
from hsr.startup import Cancelled, Startup
from scripted_node import FAIL_DIR

from hsr_core import progress


@pytest.fixture
def fail_dir(tmp_path) -> Path:
    return tmp_path


@pytest.fixture
def perception(rig, fail_dir):
    perception = Perception(rig, activate=False, environ={FAIL_DIR: str(fail_dir)})
    yield perception
    rig.stop(perception.process)


def test_a_node_is_there_before_anything_heavy_is_loaded():
    """Networks and the libraries that run them come when configuring, with progress told."""
    nodes = "hsr.perception_node, hsr.refine_node, hsr.source_node, hsr.view_node, hsr.record_node"
    heavy = ("torch", "mediapipe", "numba", "scipy.optimize")
    code = f"import sys, {nodes}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def say(fail_dir: Path, text: str) -> None:
    """Have the scripted start-up report this from now on."""
    (fail_dir / "next").write_text(text)
    os.replace(fail_dir / "next", fail_dir / "start-up")


def test_diagnostics_tell_phase_and_percent_while_the_node_configures(perception, fail_dir):
    say(fail_dir, "building the engine,43,100")
    answer = perception.begin("configure")
    status = perception.wait_status("lifecycle", lambda s: "building" in s.message, "the first phase")
    assert status.message == "building the engine: 43 %"
    assert level(status) == 0
    shown = values(status)
    assert (shown["state"], shown["phase"], shown["percent"]) == ("configuring", "building the engine", "43")

    say(fail_dir, "building the engine,87,100")
    perception.wait_status("lifecycle", lambda s: s.message == "building the engine: 87 %", "the next percent")
    say(fail_dir, "reading weights,0,0")
    status = perception.wait_status("lifecycle", lambda s: s.message == "reading weights", "the second phase")
    assert "percent" not in values(status)
    assert not answer.done()

    messages = len(perception.diagnostics)
    perception.rig.wait(lambda: len(perception.diagnostics) >= messages + 5, "diagnostics that go on")
    messages = len(perception.diagnostics)
    (fail_dir / "start-up").unlink()
    perception.rig.wait(answer.done, "the end of configuring")
    assert answer.result().success
    reports = int(perception.log().partition(" reports")[0].split()[-1])
    assert reports > 100 * messages  # told often, published seldom

    status = perception.wait_status("lifecycle", lambda s: values(s)["state"] == "inactive", "the state afterwards")
    assert status.message == "inactive: no image is taken until the node is active"
    assert values(status) == {"state": "inactive"}
    for phase in ("building the engine", "reading weights"):
        assert perception.log().count(f"start-up: {phase}") == 1
    perception.change("activate")
    perception.works()
    status = perception.wait_status("inference", lambda s: True, "the engine in the diagnostics")
    assert values(status)["engine"] == "auto: scripted"


def test_a_failure_stays_until_configuring_has_succeeded(perception, fail_dir):
    (fail_dir / "open").touch()
    perception.change("configure", expected=False)
    say(fail_dir, "building the engine,1,2")
    answer = perception.begin("configure")
    status = perception.wait_status("lifecycle", lambda s: "building" in s.message, "the second try")
    assert level(status) == 2
    assert status.message.startswith("building the engine: 50 %; configure failed: DeviceError: ")
    (fail_dir / "start-up").unlink()
    perception.rig.wait(answer.done, "the end of configuring")
    status = perception.wait_status("lifecycle", lambda s: values(s)["state"] == "inactive", "the state afterwards")
    assert (level(status), status.message.partition(":")[0]) == (0, "inactive")


@pytest.mark.parametrize(
    ("number", "phase"),
    [(signal.SIGINT, "building the engine"), (signal.SIGINT, "stuck"), (signal.SIGTERM, "stuck")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_ends_a_node_that_configures_even_one_that_is_stuck(perception, fail_dir, number, phase):
    say(fail_dir, f"{phase},0,0")
    perception.begin("configure")
    perception.wait_status("lifecycle", lambda s: s.message == phase, "a start-up that lasts")
    perception.process.signal(number)
    perception.rig.wait(lambda: perception.process.returncode is not None, "the end of the process")
    assert perception.process.returncode == 0, perception.process.tail()
    assert "failed" not in perception.log()
    names = perception.rig.node.get_node_names
    perception.rig.wait(lambda: "perception" not in names(), "the node to leave the graph")


def test_imports_ahead_neither_fail_nor_delay_a_node_nor_keep_it_from_ending(rig):
    perception = Perception(rig, module="ahead_node")
    perception.works()
    assert "importing endlessly" in perception.log()
    perception.process.signal(signal.SIGINT)
    rig.wait(lambda: perception.process.returncode is not None, "the end of the process")
    assert perception.process.returncode == 0, perception.process.tail()


# The thread of a start-up, without a node


def test_what_was_made_and_what_was_reported_come_out():
    def make() -> str:
        progress.report("reading", 3, 4)
        return "a network"

    startup = Startup(make)
    assert startup.wait(10)
    assert startup.step == ("reading", 3, 4)
    assert startup.result() == "a network"


def test_an_exception_comes_out_and_what_it_held_is_freed_with_it():
    """In a node that is a half-made network in the GPU's memory, which the next try needs."""

    class Network: ...

    networks = []

    def make() -> None:
        network = Network()
        networks.append(weakref.ref(network))
        raise ValueError("half made")

    startup = Startup(make)
    assert startup.wait(10)
    gc.disable()  # freed at once, not when a collection happens to come
    try:
        with pytest.raises(ValueError, match="half made") as caught:
            startup.result()
        assert networks[0]() is not None
        del caught
        assert networks[0]() is None
    finally:
        gc.enable()


def test_a_cancelled_start_up_ends_at_its_next_report_past_careless_handlers():
    go_on = threading.Event()

    def make() -> str:
        while True:
            try:
                go_on.wait(10)
                progress.report("building")
            except Exception:
                return "swallowed"

    startup = Startup(make)
    assert not startup.cancel(0)  # no report yet
    go_on.set()
    assert startup.wait(10)
    with pytest.raises(Cancelled):
        startup.result()
