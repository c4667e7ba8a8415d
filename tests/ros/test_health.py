"""The health check of containers, asked of real nodes over DDS."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness import LIMIT_S, Perception


@pytest.fixture(scope="module")
def perception(rig):
    return Perception(rig, activate=False)


def ask(rig, *arguments: str) -> tuple[int, str]:
    """Run the check as a container does; return its code and what it says. The test's own nodes live meanwhile."""
    command = [sys.executable, "-m", "hsr.health", *arguments]
    process = subprocess.Popen(command, env=rig.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    rig.wait(lambda: process.poll() is not None, "the check's end", 2 * LIMIT_S)
    return process.returncode, process.stdout.read().strip()


def test_a_node_is_well_when_it_is_active(rig, perception):
    asked = ("--node", "/human/perception", "--limit", f"{LIMIT_S:g}")
    assert ask(rig, *asked) == (1, "/human/perception is unconfigured, not active")
    perception.change("configure")
    perception.change("activate")
    assert ask(rig, *asked) == (0, "ok")


def test_a_topic_is_well_when_messages_arrive(rig, perception):
    image = ("--topic", "/camera/image_raw")
    for limit_s in (1, 3, 9):  # a busy computer is slow to discover who publishes
        found = ask(rig, *image, "--limit", str(limit_s))
        if found != (1, "nobody publishes /camera/image_raw"):
            break
    assert found == (1, f"no message on /camera/image_raw in {limit_s} s")
    timer = rig.node.create_timer(0.05, perception.send)
    assert ask(rig, *image, "--limit", f"{LIMIT_S:g}") == (0, "ok")
    rig.node.destroy_timer(timer)


def test_everything_that_is_wrong_is_named(rig):
    code, text = ask(
        rig, "--node", "/human/nobody", "--topic", "/nothing", "--url", "http://127.0.0.1:9", "--limit", "0.5"
    )
    assert code == 1
    assert "/human/nobody does not answer" in text
    assert "nobody publishes /nothing" in text
    assert "http://127.0.0.1:9 does not answer" in text
    assert "Traceback" not in text


def test_a_page_that_answers_is_well(rig, tmp_path):
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert ask(rig, "--url", address) == (0, "ok")
    code, text = ask(rig, "--url", f"{address}/absent")
    assert (code, "404" in text) == (1, True)
    server.shutdown()
    server.server_close()


def test_a_check_of_nothing_is_refused(rig):
    assert ask(rig)[0] == 2
