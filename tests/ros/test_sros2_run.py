"""The nodes under SROS 2 with our policy: who has the right keys works, who has others or none hears nothing.

Needs the tools of SROS 2 and a Fast DDS with its security plug-ins, as ROS has by apt; the wheels have neither.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness import Rig
from hsr.environment import share_dir
from hsr_msgs.msg import HumanArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

pytest.importorskip("sros2", reason="the tools of SROS 2 are not installed (ros-jazzy-sros2)")
CAMERA = ("--ros-args", "-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")


def has_security() -> bool:
    """True when the Fast DDS of this process knows the DDS Security plug-ins."""
    files = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libfast" in line}
    return any(b"builtin.PKI-DH" in Path(file).read_bytes() for file in files)


class Secured:
    """A keystore from our policy, and processes that must use it."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        from sros2 import keystore

        self.rig = rig
        keys, policy = folder / "keys", share_dir() / "config" / "sros2_policy.xml"
        keystore.create_keystore(keys)
        for node in ("perception", "source", "health", "supervisor", "reader"):
            keystore.create_enclave(keys, f"/human/{node}")
            keystore.create_permission(keys, f"/human/{node}", policy)
        self._environ = {
            "ROS_SECURITY_KEYSTORE": str(keys),
            "ROS_SECURITY_ENABLE": "true",
            "ROS_SECURITY_STRATEGY": "Enforce",
        }

    def start(self, enclave: str, module: str, *arguments: str):
        environ = {**self._environ, "ROS_SECURITY_ENCLAVE_OVERRIDE": f"/human/{enclave}"}
        return self.rig.start(enclave, module, *arguments, environ=environ)

    def end(self, process) -> str:
        """Wait for the end of a process; return what it printed."""
        self.rig.wait(lambda: process.returncode is not None, f"the end of {process.name}")
        return process.tail(100)


@pytest.fixture(scope="module")
def secured(rig, tmp_path_factory):
    if not has_security():
        pytest.skip("this Fast DDS is built without its security plug-ins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ROS_DOMAIN_ID", str(rig.domain))  # permissions are for a domain
        secured = Secured(rig, tmp_path_factory.mktemp("keys"))
    secured.start("source", "hsr.source_node", "--ros-args", "-p", "source:=clip", "-p", "rate_hz:=3.0")
    secured.start("perception", "hsr.perception_node", *CAMERA)
    assert "did configure activate" in secured.end(secured.start("supervisor", "secured_peer", "activate"))
    return secured


def test_people_are_heard_with_keys_and_not_without(secured):
    rig = secured.rig
    people = rig.listen(HumanArray, "/human/people", qos_profile_sensor_data)
    images = rig.listen(Image, "/camera/image_raw", qos_profile_sensor_data)
    assert "heard 10" in secured.end(secured.start("reader", "secured_peer", "people"))
    assert not people
    assert not images
    assert "perception" not in rig.node.get_node_names()


def test_a_health_check_may_ask_and_look(secured):
    for question in (("--node", "/human/perception"), ("--topic", "/camera/image_raw")):
        process = secured.start("health", "hsr.health", *question)
        assert secured.end(process).endswith("ok")
        assert process.returncode == 0


def test_what_an_enclave_does_not_allow_is_refused(secured):
    assert "refused: " in secured.end(secured.start("reader", "secured_peer", "image"))
    process = secured.start("reader", "hsr.health", "--node", "/human/perception", "--limit", "3")
    secured.end(process)
    assert process.returncode != 0


def test_a_node_whose_enclave_has_no_keys_does_not_start(secured):
    process = secured.start("recorder", "hsr.perception_node", *CAMERA)
    secured.end(process)
    assert process.returncode != 0
