"""The tree of moving frames: composition, interpolation, time, and what it refuses."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from hsr_core.errors import (
    BadTransform,
    ExtrapolationFuture,
    ExtrapolationPast,
    NotConnected,
    TransformLoop,
    UnknownFrame,
)
from hsr_core.geometry import transform_tree
from hsr_core.geometry.rigid import inverse
from hsr_core.geometry.transform_tree import TransformTree

S = 1_000_000_000
NOWHERE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def random_pose(rng) -> tuple[float, ...]:
    return (*rng.normal(size=3), *Rotation.random(random_state=rng).as_quat())


def matrix(pose) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
    return T


def moved(x: float) -> tuple[float, ...]:
    return (x, *NOWHERE[1:])


def test_any_two_frames_of_a_tree_are_connected_through_their_common_ancestor() -> None:
    """Against matrices multiplied from the root down."""
    rng = np.random.default_rng(0)
    tree, from_root = TransformTree(), {"f0": np.eye(4)}
    for i in range(1, 12):
        parent, pose = f"f{rng.integers(0, i)}", random_pose(rng)
        tree.put(parent, f"f{i}", 5, pose, static=bool(i % 2))
        from_root[f"f{i}"] = from_root[parent] @ matrix(pose)
    for a in from_root:
        for b in from_root:
            expected = inverse(from_root[a]) @ from_root[b]
            np.testing.assert_allclose(tree.lookup(a, b, 5), expected, atol=1e-12)


def test_between_two_samples_place_is_linear_and_rotation_takes_the_shortest_arc() -> None:
    """Against scipy's Slerp; both signs of a quaternion are the same rotation."""
    rng = np.random.default_rng(1)
    tree = TransformTree()
    stamps = np.array([0, 100, 400, 1000]) * 1_000_000 + 10**18
    poses = [random_pose(rng) for _ in stamps]
    for i, (stamp, pose) in enumerate(zip(stamps.tolist(), poses, strict=True)):
        tree.put("odom", "camera", stamp, (*pose[:3], *((-1) ** i * np.array(pose[3:]))))
    rotations = Slerp((stamps - 10**18) / S, Rotation.from_quat([pose[3:] for pose in poses]))
    for t_s in [0, 0.03, 0.1, 0.25, 0.9999, 1.0]:
        T = tree.lookup("odom", "camera", 10**18 + round(t_s * S))
        np.testing.assert_allclose(T[:3, :3], rotations(t_s).as_matrix(), atol=1e-9)
        expected = [np.interp(t_s, (stamps - 10**18) / S, axis) for axis in np.array(poses)[:, :3].T]
        np.testing.assert_allclose(T[:3, 3], expected, atol=1e-9)


def test_rotations_that_hardly_differ_are_interpolated_too() -> None:
    tree = TransformTree()
    for stamp, angle in ((0, 0.0), (S, 1e-5), (2 * S, 1e-5)):
        tree.put("a", "b", stamp, (0, 0, 0, *Rotation.from_rotvec([0, angle, 0]).as_quat()))
    for stamp, angle in ((S // 2, 5e-6), (S * 3 // 2, 1e-5)):
        T = tree.lookup("a", "b", stamp)
        np.testing.assert_allclose(Rotation.from_matrix(T[:3, :3]).as_rotvec(), [0, angle, 0], atol=1e-12)


def test_outside_of_the_samples_nothing_is_known_and_it_is_said_by_how_much() -> None:
    tree = TransformTree()
    tree.put("odom", "camera", 5 * S, NOWHERE)
    assert tree.lookup("odom", "camera", 5 * S)[0, 3] == 0
    with pytest.raises(ExtrapolationFuture, match=r"'odom' -> 'camera' is 0\.250 s too old"):
        tree.lookup("odom", "camera", 5 * S + S // 4)
    with pytest.raises(ExtrapolationPast, match=r"'odom' -> 'camera' is 1\.000 s too new"):
        tree.lookup("camera", "odom", 4 * S)


def test_a_static_transform_holds_at_any_time_and_survives_clearing() -> None:
    tree = TransformTree()
    tree.put("base", "camera", 7 * S, moved(1), static=True)
    tree.put("odom", "base", 7 * S, moved(2))
    assert tree.lookup("odom", "camera", 7 * S)[0, 3] == 3
    tree.clear()
    assert tree.lookup("base", "camera", 0)[0, 3] == 1
    with pytest.raises(UnknownFrame, match="'odom' is not in TF; known: base, camera"):
        tree.lookup("odom", "camera", 7 * S)
    tree.put("odom", "base", 1 * S, moved(4))  # an earlier time than before the jump
    assert tree.lookup("odom", "camera", 1 * S)[0, 3] == 5


def test_unknown_and_unconnected_frames_are_named() -> None:
    tree = TransformTree()
    with pytest.raises(UnknownFrame, match="known: none"):
        tree.lookup("odom", "odom", 0)
    tree.put("odom", "base", 0, NOWHERE)
    tree.put("rig", "camera", 0, NOWHERE, static=True)
    assert tree.frames() == {"odom", "base", "rig", "camera"}
    np.testing.assert_array_equal(tree.lookup("odom", "odom", 0), np.eye(4))
    with pytest.raises(UnknownFrame, match="'map' is not in TF"):
        tree.lookup("map", "camera", 0)
    with pytest.raises(NotConnected, match="the root of 'odom' is 'odom', that of 'camera' is 'rig'"):
        tree.lookup("odom", "camera", 0)


def test_what_lies_above_both_frames_is_not_needed() -> None:
    """map -> odom is old; between odom and the camera this does not matter."""
    tree = TransformTree()
    tree.put("map", "odom", 0, NOWHERE)
    for child, x in (("base", 1), ("door", 5)):
        tree.put("odom", child, 3 * S, moved(x))
    assert tree.lookup("odom", "base", 3 * S)[0, 3] == 1
    assert tree.lookup("base", "odom", 3 * S)[0, 3] == -1
    assert tree.lookup("base", "door", 3 * S)[0, 3] == 4
    with pytest.raises(ExtrapolationFuture, match="'map' -> 'odom'"):
        tree.lookup("map", "base", 3 * S)


def test_a_frame_that_changes_its_parent_hangs_on_the_one_of_that_time() -> None:
    """A cup on a table, then in the gripper. Between the last sample of the one and the first of the other: the one."""
    tree = TransformTree()
    tree.put("world", "table", 0, moved(1), static=True)
    tree.put("world", "gripper", 0, moved(10), static=True)
    tree.put("table", "cup", 1 * S, moved(0.25))
    tree.put("table", "cup", 2 * S, moved(0.5))
    tree.put("gripper", "cup", 3 * S, moved(0))
    tree.put("gripper", "cup", 4 * S, moved(0))
    for t, x in ((1.5, 1.375), (2, 1.5), (2.9, 1.5), (3, 10), (4, 10)):
        assert tree.lookup("world", "cup", int(t * S))[0, 3] == pytest.approx(x), t


def test_a_circle_is_named_and_does_not_hang() -> None:
    tree = TransformTree()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        tree.put(parent, child, 0, NOWHERE)
    tree.put("c", "camera", 0, NOWHERE)
    with pytest.raises(TransformLoop, match="c -> b -> a -> c"):
        tree.lookup("odom", "camera", 0)
    tree.put("odom", "a", S, NOWHERE)  # mended from here on
    for child, parent in (("b", "a"), ("c", "b"), ("camera", "c")):
        tree.put(parent, child, S, NOWHERE)
    np.testing.assert_array_equal(tree.lookup("odom", "camera", S), np.eye(4))


def test_static_becomes_moving_and_back() -> None:
    tree = TransformTree()
    tree.put("a", "b", 0, moved(1), static=True)
    tree.put("a", "b", S, moved(2))
    with pytest.raises(ExtrapolationPast):
        tree.lookup("a", "b", 0)
    tree.put("a", "b", 0, moved(3), static=True)
    assert tree.lookup("a", "b", 0)[0, 3] == 3


@pytest.mark.parametrize(
    ("parent", "child", "pose", "text"),
    [
        ("", "b", NOWHERE, "two frames"),
        ("a", "/", NOWHERE, "two frames"),
        ("a", "/a", NOWHERE, "its own parent"),
        ("a", "b", (np.nan, *NOWHERE[1:]), "not finite"),
        ("a", "b", (0, 0, 0, 0, 0, 0, 0), "no unit quaternion"),
        ("a", "b", (0, 0, 0, 0, 0, 0, 1.1), "no unit quaternion"),
    ],
)
def test_what_is_no_transform_is_refused(parent, child, pose, text) -> None:
    tree = TransformTree()
    with pytest.raises(BadTransform, match=text):
        tree.put(parent, child, 0, pose)
    assert not tree.frames()


def test_a_quaternion_of_almost_unit_length_turns_without_scaling() -> None:
    tree = TransformTree()
    tree.put("/a", "b", 0, (0, 0, 0, 0, 0, 0, 1.004))
    tree.put("b", "/c", 0, moved(1000))
    np.testing.assert_allclose(tree.lookup("a", "c", 0), matrix(moved(1000)), atol=1e-9)


def test_samples_may_come_in_any_order_and_old_or_repeated_ones_are_ignored() -> None:
    tree = TransformTree(history_s=10)
    for t in (5, 3, 4, 14, 13):
        tree.put("a", "b", t * S, moved(t))
    assert tree.lookup("a", "b", int(4.5 * S))[0, 3] == pytest.approx(4.5)
    tree.put("a", "b", 5 * S, moved(99))
    tree.put("a", "b", 3 * S, moved(99))
    assert tree.ignored == 2
    assert tree.lookup("a", "b", 5 * S)[0, 3] == 5
    with pytest.raises(ExtrapolationPast):  # 3 s went when 14 s came
        tree.lookup("a", "b", int(3.5 * S))


def test_the_buffer_stays_small(monkeypatch) -> None:
    monkeypatch.setattr(transform_tree, "MAX_SAMPLES", 100)
    tree = TransformTree(history_s=1)
    for i in range(1000):
        tree.put("a", "b", i * S // 1000, moved(i))
        tree.put("a", "slow", i * S, moved(i))
    assert sorted(len(edge._stamps) for edge in tree._edges.values()) == [2, 100]


def test_frames_that_nobody_tells_of_any_more_are_forgotten(monkeypatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(transform_tree.time, "monotonic", lambda: now_s)
    tree = TransformTree()
    tree.put("a", "fixed", 0, NOWHERE, static=True)
    for i in range(500):  # people come and go for ever
        now_s += 1
        tree.put("camera", f"body_{i}", i * S, NOWHERE)
    assert 50 < len(tree.frames()) < 70
    assert "fixed" in tree.frames()


def in_background(call, wait_for):
    """Start `call`, return once it waits; the result comes from the returned function."""
    out = []

    def run():
        try:
            out.append(call())
        except Exception as error:
            out.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    limit = time.monotonic() + 60
    while not wait_for() and time.monotonic() < limit:
        time.sleep(0.001)

    def result():
        thread.join()
        return out[0]

    return result


def test_a_late_transform_is_waited_for() -> None:
    tree = TransformTree()
    tree.put("odom", "camera", 0, moved(0))
    result = in_background(lambda: tree.lookup("odom", "camera", S, timeout_s=60), lambda: tree._waiting)
    tree.put("odom", "other", 2 * S, NOWHERE)  # not the one
    tree.put("odom", "camera", 2 * S, moved(2))
    assert result()[0, 3] == pytest.approx(1)


def test_waiting_ends_with_the_limit_with_a_jump_and_at_once_where_it_is_useless() -> None:
    tree = TransformTree()
    tree.put("odom", "camera", 5 * S, moved(0))
    begin = time.monotonic()
    with pytest.raises(ExtrapolationFuture):
        tree.lookup("odom", "camera", 6 * S, timeout_s=0.02)
    assert time.monotonic() - begin >= 0.02
    for stamp, target in ((S, "odom"), (6 * S, "map")):  # too old; unknown: with this limit the test would hang
        with pytest.raises((ExtrapolationPast, UnknownFrame)):
            tree.lookup(target, "camera", stamp, timeout_s=1e6)
    result = in_background(lambda: tree.lookup("odom", "camera", 6 * S, timeout_s=1e4), lambda: tree._waiting)
    tree.clear()
    assert isinstance(result(), UnknownFrame)
