"""Mappings and URDFs: what loads, what is refused, and with which words."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from hsr_core.errors import BadFile, ConfigError, MissingFile, MissingPackage
from hsr_core.retarget import find
from hsr_core.retarget.frames import R_REST
from hsr_core.retarget.mapping import BUILT_IN, built_in, load_mapping, parse
from hsr_core.retarget.recipe import draft, fit
from hsr_core.retarget.robot import load_robot
from hsr_core.retarget.settings import LimitSettings

from .urdf_walk import walk

DATA = "package://example-robot-data/robots/"
PATH = BUILT_IN / "x.yaml"


def tree(name: str = "g1") -> dict:
    return yaml.safe_load((BUILT_IN / f"{name}.yaml").read_text())


def arms(changed: dict) -> list:
    return changed["modes"]["upper_body"]["joints"]["arms"]


def load(changed: dict, mode: str = "upper_body"):
    return load_robot(parse(changed, PATH, mode))


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name in built_in() for mode in load_mapping(name).modes])
def test_shipped_robots_pass_every_check(name, mode) -> None:
    robot = load_robot(name, mode)
    assert robot.floating == (mode == "whole_body") == robot.moves_legs
    assert (robot.lower < robot.upper).all()
    assert (robot.velocity > 0).all()
    assert (np.diff(robot.idx_v) > 0).all()  # the URDF's order
    assert len(robot.capsules) > 20 or not robot.frames  # a hand alone has none
    assert robot.hands or name not in ("allegro", "allegro_left", "f5d6", "f5d6_left", "g1_hands")


def test_forward_kinematics_agree_with_a_walk_over_the_urdf(whole) -> None:
    """To a micrometre, in random postures with the base anywhere."""
    import pinocchio as pin

    rng = np.random.default_rng(0)
    for _ in range(3):
        position = rng.uniform(whole.lower, whole.upper)
        T = pin.SE3.Random().homogeneous
        q = whole.configuration(position, T)
        joints = {
            name: q[whole.model.joints[whole.model.getJointId(name)].idx_q] for name in list(whole.model.names)[2:]
        }
        links = walk(whole.urdf, joints, T)
        for part, placed in whole.frame_placements(q).items():
            np.testing.assert_allclose(placed, links[whole.mapping.links[part].frame], atol=1e-6)


def test_margins_and_rates_follow_the_rules(g1) -> None:
    """2 degrees or 2 % of the range; 1.5 rad/s for arms, 1.0 for the waist, the URDF's values are only a ceiling."""
    elbow, waist = g1.joint_names.index("left_elbow_joint"), g1.joint_names.index("waist_yaw_joint")
    low, high = -1.0472, 2.0944
    margin = max(np.radians(2), 0.02 * (high - low))
    assert g1.lower[elbow] == pytest.approx(low + margin, abs=1e-4)
    assert g1.upper[elbow] == pytest.approx(high - margin, abs=1e-4)
    assert (g1.velocity[elbow], g1.velocity[waist]) == (1.5, 1.0)
    assert load_robot("talos", "upper_body", LimitSettings(arms_rad_s=9.0)).velocity.max() == pytest.approx(4.58)


def test_offsets_bring_the_rest_postures_together(whole) -> None:
    """R_robot = R_world_joint R_offset: a person at rest, facing x, gives the robot's T-pose."""
    placed = whole.frame_placements(whole.rest)
    for part, offset in whole.offsets.items():
        np.testing.assert_allclose(R_REST @ offset, placed[part][:3, :3], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["links"]["left_wrist"].update(frame="left_wrist_jaw"), r"near names.*left_wrist_yaw_link"),
        (lambda t: arms(t).append("left_elbo_joint"), r"left_elbo_joint.*left_elbow_joint"),
        (lambda t: arms(t).append("left_elbow_joint"), "named twice"),
        (lambda t: t["rest"].update(left_elbow_joint=3.0), r"rest.left_elbow_joint is 3, outside"),
        (lambda t: t["rest"].update(left_elbow=1.0), r"no joint 'left_elbow'.*left_elbow_joint"),
        (lambda t: t["rest"].update(left_shoulder_roll_joint=0.0), "rest is a T-pose"),
        (lambda t: t["neutral"].update(left_shoulder_roll_joint=-1.0, left_elbow_joint=0.0), "overlap by"),
        (lambda t: t["collision"]["capsules"].update(nowhere=[0, 0, 0, 0, 0, 0, 0.1]), "no frame 'nowhere'"),
        (lambda t: t.update(urdf_sha256="00"), "is not the file that x.yaml was made for"),
        (lambda t: t["limits"].update(left_elbow_joint={"acceleration": 61}), "more than 60"),
        (lambda t: t["modes"]["upper_body"]["links"].remove("left_shoulder"), "left_wrist needs links.left_shoulder"),
        (lambda t: t["modes"]["upper_body"].update(joints={}), "names no joint"),
        (lambda t: t.update(workspace={"left_wrist": [[5, 5, 5], [6, 6, 6]]}), "at .*, outside the box"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_by_name(change, message) -> None:
    changed = tree() | {"limits": {}}
    change(changed)
    with pytest.raises(ConfigError, match=message):
        load(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(linkz={}), "unknown entry 'linkz'; near names: links"),
        (lambda t: t["links"].update(left_hand={"frame": "x"}), "unknown entry 'left_hand'"),
        (lambda t: t["links"]["left_wrist"].update(position="much"), "left_wrist.position must be a finite number"),
        (lambda t: t["links"]["left_wrist"].update(position=-1), "must not be negative"),
        (lambda t: t["links"]["left_wrist"].pop("frame"), "links.left_wrist lacks 'frame'"),
        (lambda t: t["collision"]["capsules"].update(torso_link=[0, 1]), "must be .x0, y0, z0"),
        (lambda t: t["collision"]["capsules"].update(torso_link=5), "must be .x0, y0, z0"),
        (lambda t: t["collision"]["ignore"].append(["a"]), "pairs of frames"),
        (lambda t: t["collision"].update(ignore="torso_link"), "collision.ignore must be a list"),
        (lambda t: t["modes"]["upper_body"].update(links="chest"), "upper_body.links must be a list"),
        (lambda t: t["modes"]["upper_body"].update(base="wheels"), "fixed or floating"),
        (lambda t: t["modes"]["upper_body"]["joints"].update(wings=[]), "unknown entry 'wings'"),
        (lambda t: t.update(hands={"left": {"x": {"follows": "tail", "open": 0, "closed": 1}}}), "entry 'tail'"),
        (lambda t: t.update(rest=[1]), "rest must be a mapping"),
        (lambda t: t.pop("rest"), "lacks 'rest'"),
        (lambda t: t.update(workspace={"left_wrist": [[0, 0, 0]]}), "lower and upper corner"),
        (lambda t: t.update(workspace={"left_wrist": [[0, 0, 0], [1, 1, -1]]}), "lower than the second"),
        (lambda t: t.update(workspace={"head": [[0, 0, 0], [1, 1, 1]]}), "unknown entry 'head'"),
        (lambda t: t.update(limits={"left_elbow_joint": {"velocity": 0}}), "must be positive"),
    ],
)  # fmt: skip
def test_a_misspelt_file_is_refused_with_the_place(change, message) -> None:
    changed = copy.deepcopy(tree())
    change(changed)
    with pytest.raises(ConfigError, match=message):
        parse(changed, PATH, "upper_body")


def test_unknown_robots_modes_and_files_are_said(tmp_path) -> None:
    with pytest.raises(MissingFile, match="did you mean talos"):
        load_mapping("tallos")
    with pytest.raises(ConfigError, match=r"no mode 'legs'; there are: upper_body, whole_body"):
        load_mapping("g1", "legs")
    (tmp_path / "bad.yaml").write_text("{")
    with pytest.raises(BadFile, match="is not YAML"):
        load_mapping(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- 1")
    with pytest.raises(BadFile, match="must hold a mapping, not list"):
        load_mapping(tmp_path / "bad.yaml")


def _own(tmp_path: Path, urdf: str) -> dict:
    (tmp_path / "own.urdf").write_text(urdf)
    return tree() | {"urdf": str(tmp_path / "own.urdf"), "urdf_sha256": ""}


@pytest.mark.parametrize(
    "urdf",
    [
        "not xml",
        "<robot name='x'/>",
        "<robot name='x'><link name='a'/><link name='b'/>"
        "<joint name='j' type='fixed'><parent link='a'/><child link='b'/></joint>"
        "<joint name='k' type='fixed'><parent link='b'/><child link='a'/></joint></robot>",  # a circle
    ],
)
def test_a_broken_or_circular_urdf_is_refused(tmp_path, urdf) -> None:
    with pytest.raises(BadFile, match=r"own\.urdf is not a URDF of one tree"):
        load(_own(tmp_path, urdf))


def test_a_missing_urdf_is_said(tmp_path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.urdf"):
        load(tree() | {"urdf": str(tmp_path / "gone.urdf")})


ONE = (
    "<robot name='x'><link name='a'/><link name='b'><inertial><mass value='1'/>"
    "<inertia ixx='1' iyy='1' izz='1' ixy='0' ixz='0' iyz='0'/></inertial></link>"
    "<joint name='j' type='{kind}'><parent link='a'/><child link='b'/><axis xyz='0 0 1'/>{limit}</joint></robot>"
)
LIMIT = "<limit lower='{}' upper='{}' effort='1' velocity='{}'/>"


@pytest.mark.parametrize(
    ("kind", "limit", "message"),
    [
        ("revolute", LIMIT.format(1, -1, 1), "j: the lower position limit 1 must be less"),
        ("revolute", LIMIT.format(0.5, 0.5, 1), "j: the lower position limit"),
        ("revolute", LIMIT.format(-1, 1, 0), "j: the URDF's velocity limit is zero or missing"),
        ("revolute", LIMIT.format(-1, 1, 100), "j: the URDF's velocity limit is 100 rad/s, a placeholder"),
        ("continuous", "", "j has no limits"),
    ],
)
def test_useless_limits_are_refused_with_the_joints_name(tmp_path, kind, limit, message) -> None:
    changed = _own(tmp_path, ONE.format(kind=kind, limit=limit))
    changed |= {
        "links": {},
        "rest": {},
        "neutral": {},
        "collision": {},
        "modes": {"upper_body": {"joints": {"arms": ["j"]}}},
    }
    with pytest.raises(ConfigError, match=message):
        load(changed)


def test_a_velocity_in_the_mapping_replaces_a_placeholder(tmp_path) -> None:
    changed = _own(tmp_path, ONE.format(kind="revolute", limit=LIMIT.format(-1, 1, 100)))
    changed |= {
        "links": {},
        "rest": {},
        "neutral": {},
        "collision": {},
        "modes": {"upper_body": {"joints": {"arms": ["j"]}}},
    }
    assert load(changed | {"limits": {"j": {"velocity": 0.7}}}).velocity == [0.7]


@pytest.mark.parametrize(
    ("urdf", "joint"),
    [("romeo_description/urdf/romeo.urdf", "LHand"), ("icub_description/robots/icub.urdf", "l_hip_pitch")],
)
def test_romeo_and_icub_are_refused_with_the_joints_name(urdf, joint) -> None:
    """24 of Romeo's joints declare no velocity, 22 of them driven fingers; all of iCub's declare 100 rad/s."""
    file = find.package_folder("example-robot-data") / f"robots/{urdf}"
    drafted = yaml.safe_load(draft(file).replace("links:", "links: {}").replace("rest: {}", "rest: {}"))
    drafted["collision"] = {}
    with pytest.raises(ConfigError, match=f"{joint}: the URDF's velocity limit is"):
        load(drafted)


def test_a_missing_package_names_the_pip_line(monkeypatch) -> None:
    def nothing(name: str):
        raise find.PackageNotFoundError(name)

    monkeypatch.setattr(find, "files", nothing)
    with pytest.raises(MissingPackage, match="pip install example-robot-data"):
        load_robot("g1")
    monkeypatch.setattr(find, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'hsr-core\[retarget\]'"):
        load_robot("g1")


def test_a_draft_holds_the_joints_and_a_missing_mesh_is_named(tmp_path) -> None:
    file = find.package_folder("jvrc-description") / "urdf/jvrc1.urdf"
    text = draft(file)
    drafted = yaml.safe_load(text.replace("links:", "links: {}"))
    assert "L_ELBOW_P" in drafted["modes"]["upper_body"]["joints"]["arms"]
    assert len(drafted["collision"]["capsules"]["WAIST_R_S"]) == 7
    assert ["L_ELBOW_Y_S", "L_WRIST_Y_S"] in drafted["collision"]["ignore"]
    (tmp_path / "own.urdf").write_text(
        "<robot name='x'><link name='a'><collision><geometry><mesh filename='package://nowhere/a.stl'/></geometry>"
        "</collision></link></robot>"
    )
    with pytest.raises(MissingFile, match=r"nowhere/a\.stl"):
        draft(tmp_path / "own.urdf")


def test_a_draft_of_a_robot_without_shapes_can_be_read(tmp_path) -> None:
    """Its lists of links, capsules and pairs are empty: a person has yet to write into them."""
    (tmp_path / "own.urdf").write_text(ONE.format(kind="revolute", limit=LIMIT.format(-1, 1, 2)))
    (tmp_path / "own.yaml").write_text(draft(tmp_path / "own.urdf"))
    mapping = load_mapping(tmp_path / "own.yaml")
    assert mapping.joints == {"arms": ("j",)}
    assert (mapping.links, mapping.capsules, mapping.ignore_pairs) == ({}, (), frozenset())


def test_a_capsule_is_found_again_from_its_points() -> None:
    rng = np.random.default_rng(0)
    axis, up = np.array([0.6, 0, 0.8]), rng.normal(size=(4000, 3))
    points = up / np.linalg.norm(up, axis=1, keepdims=True) * 0.05 + rng.uniform(-0.2, 0.2, (4000, 1)) * axis
    a, b, radius = fit(points)
    assert radius == pytest.approx(0.05, abs=0.004)
    assert np.linalg.norm(a - b) == pytest.approx(0.4, abs=0.02)
    assert abs((a - b) @ axis) == pytest.approx(np.linalg.norm(a - b), rel=0.01)


def test_the_package_stays_light() -> None:
    """In an interpreter of its own, the names that need no kinematics bring none."""
    import subprocess

    heavy = ("pinocchio", "pink", "daqp", "torch", "scipy")
    code = f"import sys, hsr_core.retarget; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
