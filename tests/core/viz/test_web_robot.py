"""A robot on the page: triangles once, then the poses of what moved; buttons tell what was pressed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("viser", reason="pip install 'hsr-core[view]'")
from chromium import wait_until
from scenes import camera, sphere
from web_visitor import Visitor

from hsr_core.body.joints import N_JOINTS, J
from hsr_core.viz.snapshot import PersonView, RobotView, ViewSnapshot
from hsr_core.viz.web import WebView
from hsr_core.viz.web_robot import BESIDE_M, RobotOnPage

LIMIT_S = 60.0
BALL = sphere((0, 0, 0), 0.1)


def robot(told: list[str], sole_m: float = 0.9) -> RobotOnPage:
    parts = [SimpleNamespace(name=f"link{i}", vertices=BALL[0], faces=BALL[1]) for i in range(3)]
    return RobotOnPage("tester", parts, sole_m, (("stop", "brake"), ("arm", "make ready")), told.append)


def posture(*heights: float, label: str = "ready") -> RobotView:
    T = np.tile(np.eye(4), (3, 1, 1))
    T[:, 2, 3] = heights
    return RobotView(T, label, [("state", label), ("why", "because")])


def someone(T_world_cam: np.ndarray | None = None) -> ViewSnapshot:
    """Somebody 4 m ahead who faces the camera, feet 1.2 m below it."""
    joints = np.tile(np.float32([0, 0.2, 4]), (N_JOINTS, 1))
    joints[J["left_hip"], 0], joints[J["right_hip"], 0] = 0.1, -0.1  # seen from the camera their left is on the right
    for foot in ("left_foot", "right_foot"):
        joints[J[foot], 1] = 1.13
    return ViewSnapshot(camera(), (PersonView(1, joints, np.ones(N_JOINTS)),), T_world_cam=T_world_cam)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def view(told):
    with WebView(port=0, max_rate_hz=60, robot=robot(told)) as view:
        yield view


def draw(view: WebView, posture: RobotView) -> None:
    view.show_robot(posture)
    wait_until(lambda: view._waiting_robot is None, LIMIT_S, "the drawing thread")
    wait_until(lambda: view._panel._robot._rows.content and view._scene._robot._text == posture.label, LIMIT_S, "it")


def test_it_stands_on_the_ground_beside_the_first_person_and_faces_as_they_do(view) -> None:
    nodes = view._scene._robot
    view._scene.draw_robot(posture(1, 1, 1))
    assert not nodes._root.visible  # nobody was seen: it has no place yet
    view._scene.draw(someone())
    view._scene.draw_robot(posture(1.0, 1.1, 1.2))
    assert nodes._root.visible
    # A level camera at the origin looks along x; its left is y. The person looks back at it.
    np.testing.assert_allclose(nodes._root.position, [4, BESIDE_M, 0.9], atol=1e-6)
    w, _, _, z = nodes._root.wxyz
    np.testing.assert_allclose([2 * w * z, w * w - z * z], [0, -1], atol=1e-6)
    view._scene.draw(someone())  # it stays where it is
    np.testing.assert_allclose(nodes._root.position, [4, BESIDE_M, 0.9], atol=1e-6)
    # In another world its place is another one.
    T = np.array([[0, 0, 1, 10], [-1, 0, 0, 0], [0, -1, 0, 2], [0, 0, 0, 1.0]])
    view._scene.draw(someone(T))
    view._scene.draw_robot(posture(1.0, 1.1, 1.2))
    np.testing.assert_allclose(nodes._root.position, [14, BESIDE_M, 2 - 1.2 + 0.9], atol=0.01)


def test_only_parts_that_moved_are_sent_and_triangles_but_once(view) -> None:
    visitor = Visitor(view.address)
    wait_until(lambda: view.clients == 1, LIMIT_S, "connect")
    before = view.drawn
    view.show(someone())
    wait_until(lambda: view.drawn > before, LIMIT_S, "drawing")
    draw(view, posture(1.0, 1.1, 1.2, label="a"))
    wait_until(lambda: ("/robot/2_link2", "vertices") in visitor.updates, LIMIT_S, "the robot on the page")
    visitor.moved.clear()
    sent = len([u for u in visitor.updates if u[0].startswith("/robot/")])
    for n in range(50):
        draw(view, posture(1.0, 1.1, 1.3 + 0.01 * n, label=f"b{n}"))
    wait_until(lambda: visitor.moved, LIMIT_S, "a part that moves")
    assert set(visitor.moved) == {"/robot/2_link2"}
    assert len([u for u in visitor.updates if u[0].startswith("/robot/")]) == sent
    visitor.leave()


def test_a_robot_that_is_not_heard_of_is_hidden(view) -> None:
    view._scene.draw(someone())
    view._scene.draw_robot(posture(1, 1, 1))
    view._scene.draw_robot(RobotView(None, "gone"))
    assert not view._scene._robot._root.visible
    assert not view._scene._robot._label.visible
    view._scene.draw_robot(posture(1, 1, 1))
    assert view._scene._robot._root.visible


def test_a_button_tells_its_label(view, told) -> None:
    visitor = Visitor(view.address)
    wait_until(lambda: "stop" in visitor.inputs and "arm" in visitor.inputs, LIMIT_S, "the buttons")
    visitor.set("stop", True)
    wait_until(lambda: told, LIMIT_S, "the press")
    assert told == ["stop"]
    visitor.leave()


def test_a_page_without_a_robot_takes_none() -> None:
    with WebView(port=0) as view:
        view._scene.draw_robot(posture(1, 1, 1))
        view._panel.show_robot([("state", "x")])
        assert not [name for name in view._server.scene._handle_from_node_name if "robot" in name]
