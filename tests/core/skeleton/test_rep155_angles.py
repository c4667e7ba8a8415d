"""REP-155's 20 angles: what the words in the convention mean, and pinocchio's kinematics of the URDF."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from poses import local_rotations, posed, random_pose, rest
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import J
from hsr_core.skeleton.proportions import bone_lengths, differ, proportions, rest_joints
from hsr_core.skeleton.rep155 import AXES, JOINTS, Rep155Angles, body_frame
from hsr_core.skeleton.rep155_urdf import rep155_urdf

pinocchio = pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget]'")

ID = "abcde"
BODY = proportions(rest())


class Chain:
    """The URDF's kinematics by pinocchio."""

    def __init__(self, body=BODY) -> None:
        self.model = pinocchio.buildModelFromXML(rep155_urdf(body, ID))
        self.data = self.model.createData()
        self.at = [self.model.joints[self.model.getJointId(f"{name}_{ID}")].idx_q for name in JOINTS]

    def place(self, angles: np.ndarray):
        q = np.zeros(self.model.nq)
        q[self.at] = angles
        pinocchio.framesForwardKinematics(self.model, self.data, q)
        return lambda link: self.data.oMf[self.model.getFrameId(f"{link}_{ID}", pinocchio.FrameType.BODY)]


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


def named(angles: np.ndarray) -> dict[str, float]:
    return dict(zip(JOINTS, angles, strict=True))


def angles_of(turns: dict[str, tuple[str, float]]) -> dict[str, float]:
    """Angles of the rest pose with some joints turned: an axis letter of SMPL's and degrees."""
    local = np.tile(np.eye(3), (55, 1, 1))
    for name, (axis, degrees) in turns.items():
        local[J[name]] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return named(Rep155Angles()(*posed(rest(), local)))


def directions(joints: np.ndarray, frame) -> dict[str, np.ndarray]:
    """Unit vectors of the limbs in the body's axes, from the joints themselves."""
    out = {}
    for letter, side in (("l", "left"), ("r", "right")):
        for link, a, b in (
            ("shoulder", "shoulder", "elbow"),
            ("elbow", "elbow", "wrist"),
            ("hip", "hip", "knee"),
            ("knee", "knee", "ankle"),
        ):
            bone = (joints[J[f"{side}_{b}"]] - joints[J[f"{side}_{a}"]]) @ frame.rotmat
            out[f"{letter}_{link}"] = bone / np.linalg.norm(bone)
    return out


def bend_deg(way: dict[str, np.ndarray], upper: str, lower: str) -> float:
    return float(np.degrees(np.arccos(np.clip(way[upper] @ way[lower], -1, 1))))


def test_link_directions_and_the_head_are_the_poses_own(chain) -> None:
    checked = 0
    for seed in range(1000):
        joints, rotmats = random_pose(seed)
        frame = body_frame(joints, rotmats)
        place = chain.place(Rep155Angles()(joints, rotmats))
        way = directions(joints, frame)
        for link, expected in way.items():
            upper = {"elbow": "shoulder", "knee": "hip"}.get(link[2:])
            if upper and bend_deg(way, f"{link[0]}_{upper}", link) < 5:
                continue
            checked += 1
            np.testing.assert_allclose(-place(link).rotation[:, 2], expected, atol=1e-6)
        head = frame.rotmat.T @ rotmats[J["head"]] @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
        np.testing.assert_allclose(place("head").rotation, head, atol=1e-6)
    assert checked > 7500


def test_wrists_and_ankles_lie_where_the_lengths_put_them(chain) -> None:
    """Legs end where they do; arms have their shape, on shoulders that a trunk without a spine can only guess."""
    joints, rotmats = random_pose(3)
    frame = body_frame(joints, rotmats)
    place = chain.place(Rep155Angles()(joints, rotmats))
    for letter, side in (("l", "left"), ("r", "right")):
        ankle = (joints[J[f"{side}_ankle"]] - frame.origin) @ frame.rotmat
        np.testing.assert_allclose(place(f"{letter}_ankle").translation, ankle, atol=1e-6)
        arm = place(f"{letter}_wrist").translation - place(f"{letter}_shoulder").translation
        expected = (joints[J[f"{side}_wrist"]] - joints[J[f"{side}_shoulder"]]) @ frame.rotmat
        np.testing.assert_allclose(arm, expected, atol=1e-6)


def test_the_rest_pose_is_rebuilt_as_a_whole(chain) -> None:
    joints, rotmats = posed(rest(), np.tile(np.eye(3), (55, 1, 1)))
    frame = body_frame(joints, rotmats)
    place = chain.place(Rep155Angles()(joints, rotmats))
    eyes = 0.5 * (joints[J["left_eye_smplhf"]] + joints[J["right_eye_smplhf"]])
    wanted = {"l_shoulder": joints[J["left_shoulder"]], "r_wrist": joints[J["right_wrist"]], "head": eyes,
              "l_ankle": joints[J["left_ankle"]]}  # fmt: skip
    for link, expected in wanted.items():
        np.testing.assert_allclose(place(link).translation, (expected - frame.origin) @ frame.rotmat, atol=1e-6)


def test_words_of_the_convention() -> None:
    """SMPL's axes: x left, y up, z forward; at rest the arms are level to the sides and everything is straight."""
    still = angles_of({})
    assert still["l_p_shoulder"] == pytest.approx(still["r_p_shoulder"]) == pytest.approx(np.pi / 2, abs=0.2)
    hanging = angles_of({"left_shoulder": ("z", -75), "right_shoulder": ("z", 75)})
    assert max(hanging["l_p_shoulder"], hanging["r_p_shoulder"]) < 0.4
    forward = angles_of({"left_shoulder": ("y", -60), "right_shoulder": ("y", 60)})
    assert min(forward["l_y_shoulder"], forward["r_y_shoulder"]) > 0.8
    bent = angles_of({"left_elbow": ("y", -90), "right_elbow": ("y", 90)})
    assert (
        bent["l_elbow"] == pytest.approx(bent["r_elbow"]) == pytest.approx(np.pi / 2, abs=0.2)
    )  # at rest it is bent already
    sitting = angles_of({f"{side}_{part}": ("x", d) for side in ("left", "right") for part, d in
                         (("hip", -90), ("knee", 90))})  # fmt: skip
    for side in "lr":
        assert sitting[f"{side}_r_hip"] == pytest.approx(np.pi / 2, abs=0.15)
        assert sitting[f"{side}_knee"] == pytest.approx(-np.pi / 2, abs=0.15)
    spread = angles_of({"left_hip": ("z", 30), "right_hip": ("z", -30)})
    assert spread["l_p_hip"] == pytest.approx(spread["r_p_hip"])
    assert spread["l_p_hip"] > 0.2
    bow = angles_of({"spine1": ("x", 40)})
    assert bow["waist"] - still["waist"] > 0.4
    assert angles_of({"head": ("y", 40)})["y_head"] == pytest.approx(
        np.radians(40), abs=2e-3
    )  # the trunk leans a little at rest
    down = angles_of({"head": ("x", 30)})  # chin to the chest
    assert down["p_head"] < still["p_head"] - 0.4
    aside = angles_of({"head": ("z", 20)})
    assert abs(aside["r_head"]) == pytest.approx(np.radians(20), abs=2e-3)


def test_arms_near_hanging_keep_their_y_and_stay_within_5_degrees(chain) -> None:
    angles = Rep155Angles()
    body = rest()
    bone = body[J["left_elbow"]] - body[J["left_shoulder"]]
    local = np.tile(np.eye(3), (55, 1, 1))
    trunk = 0.5 * (body[J["left_shoulder"]] + body[J["right_shoulder"]] - body[J["left_hip"]] - body[J["right_hip"]])

    def step(degrees: float, azimuth: float):
        """The upper arm so far from the trunk's line downwards, to that side of it."""
        to_side = Rotation.from_euler("zy", [degrees, azimuth], degrees=True).apply((0, -1, 0))
        upright = Rotation.align_vectors([trunk], [(0, 1, 0)])[0]
        local[J["left_shoulder"]] = Rotation.align_vectors([upright.apply(to_side)], [bone])[0].as_matrix()
        return posed(body, local)

    before = named(angles(*step(12, -40)))
    joints, rotmats = step(1.0, -170)  # a tremble about the vertical turns the plane of the arm anyhow
    after = angles(joints, rotmats)
    assert named(after)["l_y_shoulder"] == pytest.approx(before["l_y_shoulder"])
    assert abs(named(Rep155Angles()(joints, rotmats))["l_y_shoulder"] - before["l_y_shoulder"]) > 1
    way = directions(joints, body_frame(joints, rotmats))
    for link in ("l_shoulder", "l_elbow"):
        cos = -chain.place(after)(link).rotation[:, 2] @ way[link]
        assert np.degrees(np.arccos(min(cos, 1))) < 5


def test_nearly_straight_limbs_stay_calm(chain) -> None:
    """A knee that is straight to a degree says nothing about the hip's turn, whatever side the shin sways to."""
    turns = []
    for sway in np.linspace(0, 2 * np.pi, 12):
        local = np.tile(np.eye(3), (55, 1, 1))
        local[J["left_knee"]] = Rotation.from_euler("xz", [np.cos(sway), np.sin(sway)], degrees=True).as_matrix()
        straight = rest()
        straight[J["left_ankle"]] = straight[J["left_knee"]] + (straight[J["left_knee"]] - straight[J["left_hip"]])
        joints, rotmats = posed(straight, local)
        found = Rep155Angles()(joints, rotmats)
        turns.append(named(found)["l_y_hip"])
        way = directions(joints, body_frame(joints, rotmats))
        cos = -chain.place(found)("l_knee").rotation[:, 2] @ way["l_knee"]
        assert np.degrees(np.arccos(min(cos, 1))) < 1.5
    assert np.ptp(turns) < np.radians(40)


def test_an_overstretched_limb_has_the_other_sign_and_does_not_turn_round(chain) -> None:
    straight = rest()
    for side in ("left", "right"):
        for a, b, c in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
            a, b, c = (J[f"{side}_{part}"] for part in (a, b, c))
            straight[c] = straight[b] + (straight[b] - straight[a])
    for degrees in (-12, -6, -3, 3, 6, 12):
        local = np.tile(np.eye(3), (55, 1, 1))
        local[J["left_knee"]] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
        local[J["right_elbow"]] = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
        joints, rotmats = posed(straight, local)
        found = Rep155Angles()(joints, rotmats)
        assert named(found)["l_knee"] == pytest.approx(-np.radians(degrees), abs=np.radians(1.5))
        assert named(found)["r_elbow"] == pytest.approx(np.radians(degrees), abs=np.radians(1.5))
        assert abs(named(found)["l_y_hip"]) < np.radians(30)
        way = directions(joints, body_frame(joints, rotmats))
        if abs(degrees) > 5:
            for link in ("l_knee", "r_elbow"):
                np.testing.assert_allclose(-chain.place(found)(link).rotation[:, 2], way[link], atol=1e-6)


def test_angles_do_not_depend_on_where_the_camera_is() -> None:
    joints, rotmats = random_pose(11)
    turned = Rotation.random(random_state=4).as_matrix()
    a = Rep155Angles()(joints, rotmats)
    b = Rep155Angles()(joints @ turned.T + 3, turned @ rotmats)
    np.testing.assert_allclose(a, b, atol=1e-9)
    float32 = Rep155Angles()(joints.astype(np.float32), rotmats.astype(np.float32))
    np.testing.assert_allclose(a, float32, atol=1e-4)


def test_names_and_axes_are_human_descriptions() -> None:
    """The joints of its xacro, by hand."""
    robot = ET.fromstring(rep155_urdf(BODY, ID))
    revolute = {j.get("name"): j for j in robot.findall("joint") if j.get("type") == "revolute"}
    assert list(revolute) == [f"{name}_{ID}" for name in JOINTS]
    axes = {name: tuple(map(float, j.find("axis").get("xyz").split())) for name, j in revolute.items()}
    for name, expected in {
        "waist": (0, 1, 0), "r_head": (1, 0, 0), "y_head": (0, 0, 1), "p_head": (0, -1, 0),
        "l_y_shoulder": (0, 0, -1), "r_y_shoulder": (0, 0, 1), "l_p_shoulder": (1, 0, 0), "r_p_shoulder": (-1, 0, 0),
        "l_r_shoulder": (0, 0, 1), "r_r_shoulder": (0, 0, -1), "l_elbow": (0, -1, 0), "r_elbow": (0, -1, 0),
        "l_y_hip": (0, 0, -1), "r_y_hip": (0, 0, -1), "l_p_hip": (1, 0, 0), "r_p_hip": (-1, 0, 0),
        "l_r_hip": (0, -1, 0), "r_r_hip": (0, -1, 0), "l_knee": (0, -1, 0), "r_knee": (0, -1, 0),
    }.items():  # fmt: skip
        assert axes[f"{name}_{ID}"] == expected == AXES[JOINTS.index(name)]
    links = {link.get("name") for link in robot.findall("link")}
    assert {f"{name}_{ID}" for name in ("body", "waist", "torso", "head", "l_shoulder", "r_elbow", "l_wrist", "r_hip",
                                        "l_knee", "r_ankle")} <= links  # fmt: skip
    assert all(name.endswith(f"_{ID}") for name in links)


@pytest.mark.parametrize(("height", "width"), [(0.55, 0.6), (1.0, 1.0), (1.2, 0.9), (0.95, 1.6)])
def test_people_of_several_shapes_have_well_formed_urdfs(height, width) -> None:
    body = proportions(rest(height, width))
    robot = ET.fromstring(rep155_urdf(body, ID))
    links = [link.get("name") for link in robot.findall("link")]
    joints = robot.findall("joint")
    assert len(set(links)) == len(links) == len(joints) + 1
    children = [joint.find("child").get("link") for joint in joints]
    assert len(set(children)) == len(children)
    assert set(links) - set(children) == {f"body_{ID}"}
    for joint in joints:
        assert joint.find("parent").get("link") in links
    sizes = [float(g.get("radius")) for g in robot.iter() if g.tag in ("cylinder", "sphere")]
    assert min(sizes) > 0
    chain = Chain(body)
    joints_of, rotmats = posed(rest(height, width), local_rotations(np.random.default_rng(0)))
    frame = body_frame(joints_of, rotmats)
    ankle = chain.place(Rep155Angles()(joints_of, rotmats))("r_ankle").translation
    np.testing.assert_allclose(ankle, (joints_of[J["right_ankle"]] - frame.origin) @ frame.rotmat, atol=1e-6)


def test_any_pose_tells_the_rest_pose_and_the_lengths() -> None:
    joints, rotmats = random_pose(5)
    np.testing.assert_allclose(rest_joints(joints, rotmats), rest(), atol=1e-9)
    lengths = bone_lengths(joints)
    np.testing.assert_allclose(lengths, bone_lengths(rest()), atol=1e-9)
    assert not differ(lengths, lengths * 1.02)
    longer = lengths.copy()
    longer[J["left_knee"]] *= 1.04
    assert differ(longer, lengths)


def test_the_closed_form_is_cheap() -> None:
    """Reported, not judged: no limit on time in a test."""
    poses = [random_pose(seed) for seed in range(20)]
    angles = Rep155Angles()
    start = time.perf_counter()
    for joints, rotmats in poses:
        angles(joints, rotmats)
    print(f"{(time.perf_counter() - start) / len(poses) * 1e6:.0f} us a person")
