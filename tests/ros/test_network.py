"""Who on the network can reach the system: nobody, unless somebody says otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from harness import LIMIT_S, children_of, until_frames
from hsr import network
from hsr.environment import PROFILE_VARIABLES, large_message_profile, profile_status
from sockets import bound

from hsr_core.errors import ConfigError

MULTICAST = "239.255.0.1"
"""Group of DDS discovery. A socket bound to it is joined on the interfaces that are allowed."""
LOCAL = {"127.0.0.1", MULTICAST}
PLAIN = {"HOME": "/nowhere"}


def whitelist(path: str | Path) -> list[str]:
    root = ET.parse(path).getroot()
    return [node.text for node in root.iter() if node.tag.endswith("}address")]


@pytest.fixture
def nothing_set(monkeypatch):
    for name in (network.RANGE, network.PEERS, network.SERVER, *PROFILE_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def check_with_default_transport(folder: Path, *arguments: str) -> str:
    """Return what a program finds that was started without any of our settings, such as `ros2 topic echo`."""
    untouched = folder / "untouched.xml"
    untouched.write_text("<profiles/>")  # keeps our profile from being set
    clean = {name: value for name, value in os.environ.items() if name != network.RANGE}
    clean |= dict.fromkeys(PROFILE_VARIABLES, str(untouched))
    command = [sys.executable, "-m", "hsr.health", "--limit", f"{LIMIT_S:g}", *arguments]
    return subprocess.run(command, env=clean, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def test_by_default_nothing_of_the_system_can_be_reached_from_another_machine(bring_up, nothing_set, tmp_path):
    pytest.importorskip("viser", reason="the web view needs viser: make setup")
    process = bring_up("--source", "synthetic", "--hfov", "60", "--port", "0", view=True)
    text = until_frames(process)
    nodes = children_of(process.pid)
    assert set(nodes) == {"scripted_node", "hsr.source_node", "hsr.view_node"}
    for pids in ([process.pid], *([pid] for pid in nodes.values())):
        sockets = bound(pids)
        assert sockets["udp"], "a node without UDP is no node"
        assert sockets["udp"] <= LOCAL
        assert sockets["tcp"] <= {"127.0.0.1"}
    assert bound([nodes["hsr.view_node"]])["tcp"] == {"127.0.0.1"}, "the page"
    assert re.search(r"view: http://127\.0\.0\.1:\d+", text)
    # A program of this machine sees and hears it, and is heard.
    found = check_with_default_transport(tmp_path, "--node", "/human/perception", "--topic", "/diagnostics")
    assert found == "ok"


def test_an_interface_that_is_not_there_ends_the_start_with_those_that_are(bring_up, nothing_set):
    process = bring_up("--interface", "eth99")
    _, err = process.communicate()
    assert process.returncode == 2
    assert "no interface 'eth99'" in err
    assert "lo (127.0.0.1)" in err
    assert "Traceback" not in err


def test_a_page_for_the_network_must_be_asked_for(rig):
    pytest.importorskip("viser", reason="the web view needs viser: make setup")
    process = rig.start("view", "hsr.view_node", "--ros-args", "-p", "port:=0", "-p", "host:=0.0.0.0")
    rig.wait(lambda: "view: http" in process.tail(100), "the page's address")
    assert bound([process.pid])["tcp"] == {"0.0.0.0"}
    rig.stop(process)


def test_the_profile_keeps_shared_memory_and_names_the_addresses(tmp_path):
    out = network.network_environment("auto", "", tmp_path, PLAIN)
    assert {out[name] for name in PROFILE_VARIABLES} == {str(tmp_path / "fastdds.xml")}
    assert whitelist(tmp_path / "fastdds.xml") == ["127.0.0.1"]
    ours, plain = (
        profile_status({PROFILE_VARIABLES[0]: str(p)}) for p in (tmp_path / "fastdds.xml", large_message_profile())
    )
    assert ours.active
    assert ours.segment_bytes == plain.segment_bytes
    assert whitelist(large_message_profile()) == []


def test_an_interface_is_used_beside_the_loopback(tmp_path, monkeypatch):
    monkeypatch.setattr(network.socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0"), (3, "can0")])
    monkeypatch.setattr(network, "_address_of", {"lo": "127.0.0.1", "eth0": "10.1.2.3", "can0": ""}.get)
    for name in ("eth0", "10.1.2.3"):
        network.network_environment("auto", name, tmp_path, PLAIN)
        assert whitelist(tmp_path / "fastdds.xml") == ["127.0.0.1", "10.1.2.3"]
    for name in ("can0", "10.1.2.4", "no such"):
        with pytest.raises(ConfigError, match=r"there are: lo \(127\.0\.0\.1\), eth0 \(10\.1\.2\.3\); or all"):
            network.addresses(name)


@pytest.mark.parametrize(
    ("interface", "opened"),
    [
        ("all", {}),
        ("", {network.RANGE: "SUBNET"}),
        ("", {network.RANGE: "SYSTEM_DEFAULT"}),
        ("", {network.PEERS: "10.0.0.7"}),
        ("", {network.SERVER: "10.0.0.7:11811"}),
    ],
)
def test_the_network_is_opened_by_the_option_and_by_ros_own_variables(tmp_path, interface, opened):
    out = network.network_environment("auto", interface, tmp_path, PLAIN | opened)
    assert out[PROFILE_VARIABLES[0]] == str(large_message_profile())
    assert network.RANGE not in out


def test_a_profile_of_the_users_and_another_middleware_are_left_alone(tmp_path):
    mine = {PROFILE_VARIABLES[1]: "/mine.xml"}
    assert not {network.RANGE, *PROFILE_VARIABLES} & set(
        network.network_environment("auto", "", tmp_path, PLAIN | mine)
    )
    zenoh = PLAIN | {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}
    assert network.network_environment("auto", "", tmp_path, zenoh)[network.RANGE] == "LOCALHOST"
    for given, reason in ((PLAIN | mine, "profile"), (zenoh, "middleware")):
        with pytest.raises(ConfigError, match=reason):
            network.network_environment("auto", "eth0", tmp_path, given)
    assert list(tmp_path.iterdir()) == []


def test_nodes_on_the_loopback_hear_a_node_with_the_default_transport(tmp_path, rig):
    """A camera driver that was started by itself, without any profile of ours."""
    untouched = tmp_path / "untouched.xml"
    untouched.write_text("<profiles/>")
    environ = {network.RANGE: "", **dict.fromkeys(PROFILE_VARIABLES, str(untouched))}
    process = rig.start("camera", "hsr.source_node", "--ros-args", "-p", "source:=synthetic", environ=environ)
    limited = network.network_environment("auto", "", tmp_path, PLAIN)
    command = [sys.executable, "-m", "hsr.health", "--topic", "/camera/image_raw", "--limit", f"{LIMIT_S:g}"]
    clean = {name: value for name, value in rig.environ.items() if name not in (*PROFILE_VARIABLES, network.RANGE)}
    done = subprocess.run(command, env=clean | limited, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "0.0.0.0" in bound([process.pid])["udp"], "the default transport listens to everybody"
    rig.stop(process)
