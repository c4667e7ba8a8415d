"""The web view: nothing drawn for nobody, nothing grows, nothing is left behind; and what a browser sees."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip("viser", reason="pip install 'hsr-core[view]'")
import cv2
from chromium import EXECUTABLE, INSTALL, Chromium, wait_until
from scenes import camera, frame, person, result, sphere
from scipy.spatial.transform import Rotation
from web_visitor import Visitor

from hsr_core.body.joints import N_JOINTS, J
from hsr_core.config import SmoothingSettings
from hsr_core.errors import ConfigError
from hsr_core.viz.null import NullView
from hsr_core.viz.snapshot import PersonView, ViewSnapshot, ViewStats, snapshot_of
from hsr_core.viz.web import WebView
from hsr_core.viz.web_scene import T_LEVEL_CAM, _wxyz

LIMIT_S = 60.0


@pytest.fixture
def view():
    with WebView(port=0, max_rate_hz=60) as view:
        yield view


def snapshot(shift: float = 0.0, people: int = 1, image: object = None) -> ViewSnapshot:
    cam = camera(640, 480, 600.0)
    vertices, faces = SPHERE
    joints = np.random.default_rng(0).normal((0.2, 0.1, 4.0), 0.3, (N_JOINTS, 3)).astype(np.float32)
    move = np.float32([shift, 0, 0])
    each = tuple(PersonView(i + 1, joints + move * i, np.ones(N_JOINTS), vertices + move) for i in range(people))
    return ViewSnapshot(cam, each, faces, image)


SPHERE = sphere((0.2, 0.1, 4.0), 0.4)


def nodes(view: WebView) -> set[str]:
    return set(view._server.scene._handle_from_node_name)


def test_nothing_is_drawn_for_nobody(view):
    asked = threading.Event()
    view.show(lambda: asked.set() or snapshot())
    wait_until(lambda: view._waiting is None, LIMIT_S, "the drawing thread to look at it")
    assert not asked.is_set()
    visitor = Visitor(view.address)
    wait_until(lambda: view.clients == 1, LIMIT_S, "connect")
    made = threading.Event()
    view.show(lambda: made.set() or snapshot())
    assert made.wait(LIMIT_S)
    wait_until(lambda: view.drawn == 1, LIMIT_S, "drawing for the visitor")
    visitor.leave()
    wait_until(lambda: view.clients == 0, LIMIT_S, "leave")
    drawn = view.drawn
    for _ in range(20):
        view.show(snapshot())
    wait_until(lambda: view._waiting is None, LIMIT_S, "the drawing thread to look at it")
    assert view.drawn == drawn


def test_fifty_updates_make_no_node_and_no_message_more(view):
    visitor = Visitor(view.address)
    wait_until(lambda: view.clients == 1, LIMIT_S, "connect")
    jpeg = cv2.imencode(".jpg", frame(camera()).image)[1]

    def draw(number: int) -> None:
        before = view.drawn
        view.show(snapshot(0.01 * number, people=2, image=jpeg.tobytes()))
        wait_until(lambda: view.drawn > before, LIMIT_S, "drawing")

    draw(0)
    draw(1)
    before, kept = nodes(view), len(view._server._websock_server._broadcast_buffer.message_from_id)
    for number in range(2, 52):
        draw(number)
    assert nodes(view) == before
    assert len(view._server._websock_server._broadcast_buffer.message_from_id) <= kept + 10
    assert {("/camera/person_0/mesh", "vertices"), ("/camera/image", "_image_data")} <= set(visitor.updates)
    assert visitor.bytes > 20 * 2 * SPHERE[0].nbytes  # and most really went out
    visitor.leave()


def test_a_burst_is_dropped_and_the_newest_is_drawn():
    with WebView(port=0, max_rate_hz=10) as view:
        visitor = Visitor(view.address)
        wait_until(lambda: view.clients == 1, LIMIT_S, "connect")
        drawn: list[int] = []
        start = time.monotonic()
        for number in range(200):
            view.show(lambda number=number: drawn.append(number) or snapshot())
        took = time.monotonic() - start
        wait_until(lambda: drawn and drawn[-1] == 199, LIMIT_S, "the newest")
        assert len(drawn) <= 3 + 10 * (time.monotonic() - start)  # by the rate limit
        assert took < 5  # `show` waits for nothing: 200 drawings alone would take 20 s
        visitor.leave()


def test_close_leaves_no_thread_and_frees_the_port():
    before = set(threading.enumerate())
    view = WebView(port=0)
    port = int(view.address.rpartition(":")[2])
    view.show(snapshot())
    view.close()
    view.close()  # twice does no harm
    wait_until(
        lambda: not [t for t in set(threading.enumerate()) - before if t.name != "asyncio_0"], LIMIT_S, "threads to end"
    )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_taken_port_is_skipped_and_only_this_machine_is_served():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with WebView(port=port) as view:
            assert view.address.startswith("http://127.0.0.1:")
            assert int(view.address.rpartition(":")[2]) > port
            with socket.socket() as probe:  # another address of this machine is still free
                probe.bind(("127.0.0.2", int(view.address.rpartition(":")[2])))


def test_host_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        WebView(host="192.0.2.1", port=8080)


def test_sliders_tell_what_a_visitor_sets_and_not_what_the_program_sets():
    told: list[SmoothingSettings] = []
    with WebView(port=0, on_smoothing=told.append) as view:
        visitor = Visitor(view.address)
        wait_until(lambda: view.clients == 1, LIMIT_S, "connect")
        view.set_smoothing(SmoothingSettings(True, 2.0, 7.0))
        wait_until(lambda: visitor.value("beta") == 7.0, LIMIT_S, "the slider to follow")
        assert not told
        visitor.set("beta", 9.5)
        wait_until(lambda: told, LIMIT_S, "the callback")
        assert told == [SmoothingSettings(True, 2.0, 9.5)]
        visitor.leave()


def test_a_bad_snapshot_does_not_end_the_view(view, caplog):
    visitor = Visitor(view.address)
    wait_until(lambda: view.clients == 1, LIMIT_S, "connect")

    def broken() -> ViewSnapshot:
        raise ValueError("torn message")

    view.show(broken)
    wait_until(lambda: "torn message" in caplog.text, LIMIT_S, "the log")
    nan = snapshot()
    nan.people[0].joints[:] = np.nan
    view.show(nan)
    wait_until(lambda: view.drawn == 1, LIMIT_S, "drawing")
    view.show(snapshot())
    wait_until(lambda: view.drawn == 2, LIMIT_S, "drawing")
    visitor.leave()


def test_camera_looks_along_x_with_z_up():
    R = T_LEVEL_CAM[:3, :3]
    np.testing.assert_allclose(np.linalg.det(R), 1)
    assert (R @ [0, 0, 1]).tolist() == [1, 0, 0]  # optical forward
    assert (R @ [0, 1, 0]).tolist() == [0, 0, -1]  # optical down
    w, x, y, z = _wxyz(R)
    np.testing.assert_allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), R, atol=1e-12)


def test_feet_stand_on_the_ground(view):
    scene = view._scene
    for height in (1.0, 1.0, 1.5, 1.0):  # the feet of 1.5 are one bad frame
        joints = np.zeros((N_JOINTS, 3), np.float32) + np.float32([0, height - 0.5, 3])
        vertices = np.float32([[0, height, 3], [0, -0.7, 3], [0.1, 0, 3]])
        scene.draw(ViewSnapshot(camera(), (PersonView(1, joints, np.ones(N_JOINTS), vertices),), np.int32([[0, 1, 2]])))
    np.testing.assert_allclose(scene._camera.position, [0, 0, 1.0], atol=0.25)


def test_snapshot_of_a_frame_shows_everybody():
    cam = camera()
    joints = np.tile([0.0, 3.0, 4.0], (N_JOINTS, 1))
    shot = snapshot_of(
        frame(cam, order="mono", channels=1), result(cam, person(joints, cam, 5)), lambda _: SPHERE[0], SPHERE[1]
    )
    assert shot.image.shape == (*cam.image_hw, 3)
    assert [(p.track_id, p.assumed) for p in shot.people] == [(5, True)]
    assert shot.people[0].distance_m == pytest.approx(5.0)


def test_height_does_not_depend_on_the_pose():
    rng = np.random.default_rng(0)
    standing = np.zeros((N_JOINTS, 3), np.float32)
    chain = {"pelvis": 0.94, "spine1": 1.05, "spine2": 1.18, "spine3": 1.24, "neck": 1.43, "head": 1.53}
    for name, y in chain.items():
        standing[J[name]] = [0, y, 0]
    for side, x in (("left", 0.09), ("right", -0.09)):
        for name, y in (("hip", 0.88), ("knee", 0.48), ("ankle", 0.08)):
            standing[J[f"{side}_{name}"]] = [x, y, 0]
    sitting = standing.copy()
    for side in ("left", "right"):
        hip, knee = standing[J[f"{side}_hip"]], J[f"{side}_knee"]
        sitting[knee] = hip + np.float32([0, 0, 0.4])
        sitting[J[f"{side}_ankle"]] = sitting[knee] - [0, 0.4, 0]
    turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    heights = [PersonView(0, j, np.ones(N_JOINTS)).height_m for j in (standing, sitting, sitting @ turn.T + 3)]
    np.testing.assert_allclose(heights, heights[0], atol=1e-5)
    assert 1.55 < heights[0] < 1.75


def test_null_view_takes_the_same_calls():
    public = {name for name in dir(WebView) if not name.startswith("_")}
    assert public | {"address"} <= set(dir(NullView))
    with NullView() as view:
        view.show(snapshot())
        view.set_stats(ViewStats())
        assert view.clients == 0


FIRST_CHECKBOX = "[...document.querySelectorAll('input[type=checkbox]')].find(box => box.getBoundingClientRect().width)"


@pytest.mark.skipif(not EXECUTABLE, reason=INSTALL)
def test_a_browser_shows_mesh_picture_and_numbers(tmp_path):
    image = np.zeros((480, 640, 3), np.uint8)
    image[..., 1] = 220  # the live picture is green, the person is blue
    jpeg = cv2.imencode(".jpg", image)[1]
    told: list[SmoothingSettings] = []
    with WebView(port=0, max_rate_hz=15, on_smoothing=told.append) as view, Chromium(tmp_path, (960, 600)) as browser:
        browser.open(view.address)
        wait_until(lambda: view.clients == 1, 60, "the page to connect")
        view.set_stats(ViewStats(18.25, 61.0, 97.0, 1234, 800, 434))

        def shown() -> bool:
            view.show(snapshot(image=jpeg.tobytes()))
            picture = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int)
            blue, green, red = picture[..., 0], picture[..., 1], picture[..., 2]
            is_green = (green > 120) & (green > blue + 60) & (green > red + 60)
            is_mesh = (blue > red + 25) & (blue > green) & (blue > 60)
            text = str(browser.evaluate("document.body.innerText"))
            words = ("18.2 Hz", "61 / 97 ms", "1,234 / 800", "#1", "person")
            return is_green.sum() > 1500 and is_mesh[:, :600].sum() > 500 and all(word in text for word in words)

        wait_until(shown, 90, "mesh, picture and numbers on the page")
        text = str(browser.evaluate("document.body.innerText"))
        assert "Share" not in text  # nothing on the page sends the picture elsewhere
        # A visitor switches smoothing off.
        browser.evaluate(FIRST_CHECKBOX + ".click()")
        wait_until(lambda: told, 30, "the click to arrive")
        assert told[-1].enabled is False
