"""A robot's joints in files: the same numbers come back through other readers."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from export_people import BEGIN_NS, STEP_NS, world_pose, write_recording

from hsr_core.body.numbers_pickle import read_pickle
from hsr_core.errors import BadFile, ConfigError
from hsr_core.export import ExportOptions, RobotOptions, export
from hsr_core.export.robot_motion import read_csv

NAMES = ("hip", "knee", "ankle")


@pytest.fixture
def recording(tmp_path, open_body):
    return write_recording(tmp_path / "people.npz", open_body, 12, T_world_cam=world_pose(1))


def joints_csv(path, n=30, step_ns=10_000_000, base=True, gap_at=20):
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(0, 0.01, (n, 3)), axis=0)
    stamps = BEGIN_NS + step_ns * (np.arange(n) + 50 * (np.arange(n) >= gap_at))
    head = ["stamp_ns", "valid", "flags"]
    head += [f"base_{c}" for c in ("x", "y", "z", "qx", "qy", "qz", "qw")] if base else []
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*head, *NAMES])
        for stamp, row in zip(stamps, values, strict=True):
            rows.writerow([stamp, 1, 4, *([0, 0, 1, 0, 0, 0, 1] if base else []), *(repr(float(x)) for x in row)])
    return path, stamps, values


def test_csv_comes_back(recording, tmp_path):
    path, stamps, values = joints_csv(tmp_path / "joints.csv")
    out = tmp_path / "out.csv"
    told = export(str(recording), "csv", out, robot=RobotOptions(joints=str(path)))
    assert told["frames_missing"] == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-3:] == list(NAMES)
    assert [int(row["stamp_ns"]) for row in rows] == stamps.tolist()
    np.testing.assert_allclose([[float(row[name]) for name in NAMES] for row in rows], values, rtol=1e-8)
    again = read_csv(out)
    np.testing.assert_allclose(again.position, values, rtol=1e-8)
    assert again.flags.tolist() == [4] * 30
    assert json.loads((tmp_path / "out.csv.json").read_text())["units"].startswith("stamps ns")


def test_gmr_pickle_is_plain_and_equals_its_twin(recording, tmp_path):
    path, _, values = joints_csv(tmp_path / "joints.csv")
    told = export(str(recording), "gmr", tmp_path / "m.pkl", robot=RobotOptions(joints=str(path)))
    assert told["fps"] == 100
    assert told["frames_in_other_stretches"] == 10
    motion, twin = read_pickle(tmp_path / "m.pkl"), dict(np.load(tmp_path / "m.npz", allow_pickle=False))
    assert motion["local_body_pos"] is None
    assert motion["joint_names"] == list(NAMES)
    for name, shape in (("root_pos", (20, 3)), ("root_rot", (20, 4)), ("dof_pos", (20, 3))):
        assert motion[name].shape == shape
        np.testing.assert_array_equal(motion[name], twin[name])
    np.testing.assert_allclose(motion["dof_pos"], values[:20], atol=1e-9)
    np.testing.assert_allclose(motion["root_rot"], np.tile([0, 0, 0, 1], (20, 1)), atol=1e-12)  # xyzw


def test_a_rate_of_one_s_own_interpolates(recording, tmp_path):
    path, _, values = joints_csv(tmp_path / "joints.csv", base=False, gap_at=99)
    export(
        str(recording), "gmr", tmp_path / "m.pkl", options=ExportOptions(fps=200), robot=RobotOptions(joints=str(path))
    )
    dof = np.load(tmp_path / "m.npz")["dof_pos"]
    assert len(dof) == 59
    np.testing.assert_allclose(dof[1::2], (values[:-1] + values[1:]) / 2, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "must name the columns"),
        ("stamp_ns,j\n5,0.1\n5,0.2\n", "stamps must rise, row 2"),
        ("stamp_ns,j\n5,x\n", r":2: could not convert"),
        ("stamp_ns,j\n5\n", ":2 has 1 cells"),
        ("stamp_ns,j\n", "1 joints and 0 rows"),
        ("stamp_ns,j,k,j\n1,2,3,4\n", "names a column twice: j"),
        ("stamp_ns,j\n1,\xff\n", "is no CSV"),
    ],
)
def test_a_bad_csv_is_named_with_its_line(text, message, tmp_path):
    (tmp_path / "j.csv").write_text(text, encoding="latin-1")
    with pytest.raises(BadFile, match=message):
        read_csv(tmp_path / "j.csv")


def test_a_robot_s_format_without_a_robot_says_how_to_get_one(recording, tmp_path):
    with pytest.raises(ConfigError, match="--robot NAME"):
        export(str(recording), "gmr", tmp_path / "m.pkl")


def test_a_robot_follows_one_person(tmp_path, open_body):
    path = write_recording(tmp_path / "people.npz", open_body, 6, second=range(6))
    with pytest.raises(ConfigError, match="follows one person"):
        export(str(path), "lerobot", tmp_path / "set", person="all", robot=RobotOptions("g1"))
    with pytest.raises(ConfigError, match="one person a file"):
        export(str(path), "bvh", tmp_path / "a.bvh", person="all")


def test_retargeting_fills_the_commanded_joints_within_limits(recording, tmp_path):
    pytest.importorskip("pinocchio")
    pytest.importorskip("pink")
    from hsr_core.errors import MissingFile, MissingPackage
    from hsr_core.retarget import load_robot

    try:
        robot = load_robot("g1", "upper_body")
    except (MissingPackage, MissingFile) as error:
        pytest.skip(str(error))
    told = export(str(recording), "csv", tmp_path / "g1.csv", robot=RobotOptions("g1"))
    assert told["robot"] == "g1"
    motion = read_csv(tmp_path / "g1.csv")
    assert motion.joint_names == tuple(robot.joint_names)
    assert motion.stamps.tolist() == [BEGIN_NS + round(i * STEP_NS * 1e-9 * 1e9) for i in range(12)]
    known = motion.position[motion.valid]
    assert len(known) == 12
    assert (known >= robot.lower - 1e-6).all()
    assert (known <= robot.upper + 1e-6).all()
    assert np.ptp(known, axis=0).max() > 0.01


def test_a_whole_body_is_followed_from_the_first_frame_and_begins_in_its_posture(tmp_path, open_body):
    """The person's lengths take 30 frames and the way from the robot's neutral posture a second: neither is missing."""
    pytest.importorskip("pinocchio")
    pytest.importorskip("pink")
    from hsr_core.errors import MissingFile, MissingPackage
    from hsr_core.retarget import load_robot

    path = write_recording(tmp_path / "people.npz", open_body, 12)
    try:
        told = export(str(path), "csv", tmp_path / "g1.csv", robot=RobotOptions("g1", "whole_body"))
    except (MissingPackage, MissingFile) as error:
        pytest.skip(str(error))
    assert told["frames_missing"] == 0
    motion = read_csv(tmp_path / "g1.csv")
    assert motion.base.shape == (12, 7)
    robot = load_robot("g1", "whole_body")
    away = np.abs(motion.position[0] - robot.neutral[robot.idx_q])[np.array(robot.groups) == "arms"]
    assert away.max() > 5 * 1.5 / 30  # farther than one frame can bring an arm


def test_joint_states_of_a_recording_are_the_measured_robot(tmp_path):
    bags = pytest.importorskip("bags")
    from hsr_core.errors import SourceError
    from hsr_core.export.robot_motion import read_joint_states

    kind = bags.STORE.types["sensor_msgs/msg/JointState"]
    messages = []
    for i in range(6):
        stamp = BEGIN_NS + (i - (i == 4)) * STEP_NS  # one stamp twice
        names = ["a", "b"] if i % 2 == 0 else ["b", "a"]
        position = np.array([i, -i] if i % 2 == 0 else [-i, i], float)
        message = kind(bags.header(stamp), names, position, np.zeros(0), np.zeros(0))
        messages.append(("/joint_states", stamp, message))
        gripper = kind(bags.header(0), ["gripper"], np.zeros(1), np.zeros(0), np.zeros(0))  # its driver sets no stamp
        messages.append(("/joint_states", stamp + 1, gripper))
    bag = bags.write_bag(tmp_path / "bag", messages)
    motion = read_joint_states(str(bag), "/joint_states")
    assert motion.joint_names == ("a", "b")
    np.testing.assert_array_equal(motion.position, [[i, -i] for i in (0, 1, 2, 3, 5)])
    for stamp, what in ((0, "no stamp"), (BEGIN_NS, "one stamp")):
        message = kind(bags.header(stamp), ["a"], np.zeros(1), np.zeros(0), np.zeros(0))
        wrong = bags.write_bag(tmp_path / what, [("/joint_states", BEGIN_NS + i, message) for i in range(3)])
        with pytest.raises(BadFile, match=f"3 messages of /joint_states have {what}"):
            read_joint_states(str(wrong), "/joint_states")
    with pytest.raises(SourceError, match="/joint_states"):
        read_joint_states(str(bag), "/joints")
