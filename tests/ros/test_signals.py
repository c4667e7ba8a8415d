"""Every node ends in order, however often it is told to."""

from __future__ import annotations

import signal

import pytest

NODES = {
    "perception": ("scripted_node", (), "/human/perception/get_state"),
    "source": ("hsr.source_node", ("-p", "source:=synthetic"), "/human/source/get_parameters"),
    "view": ("hsr.view_node", ("-p", "port:=0"), "/human/view/get_parameters"),
}


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
