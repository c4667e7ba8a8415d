"""The entry `hands` of a mapping for hands that follow fingertips: what loads, what is refused, in which words."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from hsr_core.errors import ConfigError
from hsr_core.retarget.commands import facts
from hsr_core.retarget.find import package_folder
from hsr_core.retarget.mapping import BUILT_IN, parse
from hsr_core.retarget.recipe import draft
from hsr_core.retarget.robot import load_robot

from .conftest import loaded

PATH = BUILT_IN / "x.yaml"


def tree() -> dict:
    """Allegro's mapping."""
    return yaml.safe_load((BUILT_IN / "allegro.yaml").read_text())


def by(joint: str, **more: float) -> dict:
    return {"follows": joint} | more


def right(changed: dict) -> dict:
    return changed["hands"]["right"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: right(t)["points"].update(thumb4="link_15.0_tip"), r"points: unknown entry 'thumb4'; near.*thumb3"),
        (lambda t: right(t)["points"].pop("wrist"), "points lacks wrist: they span the palm"),
        (lambda t: [right(t)["points"].pop(name) for name in ("middle0", "ring0", "little0")], "little0 or ring0"),
        (lambda t: right(t)["points"].update(index3={"at": [0, 0, 0]}), "points.index3 lacks 'frame'"),
        (lambda t: right(t)["points"].update(index3={"frame": "x", "at": [0, 0]}), "must be .x, y, z. in the axes"),
        (lambda t: right(t)["points"].update(index3={"frame": "x", "radius": -1}), "radius must be 0 to 0.1 m, not -1"),
        (lambda t: right(t).update(scale=0), "hands.right.scale must be positive, not 0"),
        (lambda t: right(t).update(scale=-1.6), "hands.right.scale must be positive, not -1.6"),
        (lambda t: right(t).update(scale="big"), "scale must be a finite number, not 'big'"),
        (lambda t: right(t)["vectors"].append(["wrist", "pinky3"]), r"vectors.7.: unknown entry 'pinky3'; near"),
        (lambda t: right(t)["vectors"].append(["wrist"]), r"vectors.7. must be .from, to. or"),
        (lambda t: right(t)["vectors"].append(["wrist", "wrist"]), "goes from wrist to itself"),
        (lambda t: right(t)["vectors"].append({"from": "wrist", "to": "ring3", "weight": 0}), "weight must be pos"),
        (lambda t: right(t).update(vectors=[]), "must be a list of .from, to."),
        (lambda t: right(t).update(pinch=["thumb3"]), "pinch: unknown entry 'thumb3'; near names"),
        (lambda t: right(t).update(coupling={"joint_1.0": {"multiplier": 1}}), "coupling.joint_1.0 lacks 'follows'"),
        (lambda t: right(t).update(coupling={"joint_1.0": {"follows": "x", "multiplier": 0}}), "must not be 0"),
        (lambda t: right(t).update(fingers={}), "hands.right: unknown entry 'fingers'"),
        (lambda t: t["hands"].update(middle={}), "hands: unknown entry 'middle'"),
    ],
)  # fmt: skip
def test_a_misspelt_hand_is_refused_with_the_place(change, message) -> None:
    changed = tree()
    change(changed)
    with pytest.raises(ConfigError, match=message):
        parse(changed, PATH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: right(t)["points"].update(index3="link_3_tip"), r"index3: .* no frame 'link_3_tip'; near.*link_3"),
        (lambda t: right(t)["points"].update(wrist="link_1.0"), "wrist, index0, little0 lie on a line"),
        (lambda t: right(t).update(coupling={"joint_2": by("joint_1.0")}), r"no joint 'joint_2'; near.*joint_2"),
        (
            lambda t: right(t).update(coupling={"joint_2.0": by("joint_3.0"), "joint_3.0": by("joint_1.0")}),
            "joint_2.0 follows joint_3.0, which follows another joint",
        ),
        (
            lambda t: right(t).update(coupling={"joint_2.0": by("joint_1.0", offset=9)}),
            "its limits leave joint_1.0 no room",
        ),
        (lambda t: no_fingers(t), "none of the commanded joints of the group fingers moves"),
    ],
)  # fmt: skip
def test_a_hand_that_the_robot_has_not_is_refused_by_name(change, message) -> None:
    changed = tree()
    change(changed)
    with pytest.raises(ConfigError, match=message):
        load_robot(parse(changed, PATH))


def no_fingers(changed: dict) -> None:
    """The hand's joints in a group that is no hand's."""
    joints = changed["modes"]["upper_body"]["joints"]
    joints["trunk"] = joints.pop("fingers")


def test_a_coupling_of_the_mapping_joins_two_joints() -> None:
    """The last joint of Allegro's index finger driven by the one before, as on many hands."""
    changed = tree()
    right(changed)["coupling"] = {"joint_3.0": {"follows": "joint_2.0", "multiplier": 0.9, "offset": 0.05}}
    robot = load_robot(parse(changed, PATH))
    hand = robot.hands["right"]
    assert len(hand.names) == 15
    assert "joint_3.0" not in hand.names
    x = hand.neutral
    q = dict(zip(hand.idx_q, hand.C @ x + hand.d, strict=True))
    at = {name: q[robot.model.joints[robot.model.getJointId(name)].idx_q] for name in ("joint_2.0", "joint_3.0")}
    assert at["joint_3.0"] == pytest.approx(0.9 * at["joint_2.0"] + 0.05)


def test_a_driver_keeps_the_limits_of_what_it_drives() -> None:
    """Twice the angle is twice the speed: 3 rad/s at the driven joint are 1.5 at its driver; positions with margin."""
    changed = tree()
    right(changed)["coupling"] = {"joint_3.0": by("joint_2.0", multiplier=2)}
    robot = load_robot(parse(changed, PATH))
    hand, row = robot.hands["right"], robot.joint_names.index("joint_3.0")
    i = hand.names.index("joint_2.0")
    assert 2 * hand.upper[i] <= robot.upper[row] + 1e-9
    assert 2 * hand.lower[i] >= robot.lower[row] - 1e-9
    assert hand.velocity[i] == pytest.approx(1.5)
    assert np.delete(hand.velocity, i) == pytest.approx(3.0)


def test_without_named_vectors_each_tip_is_followed_from_its_base() -> None:
    changed = tree()
    right(changed).pop("vectors")
    right(changed)["points"].pop("ring0")
    hand = parse(changed, PATH).vector_hands["right"]
    assert [(vector.start, vector.end) for vector in hand.vectors] == [
        ("wrist", "thumb3"), ("index0", "index3"), ("middle0", "middle3"), ("wrist", "ring3"),
    ]  # fmt: skip
    assert hand.pinch == ("index3", "middle3", "ring3")


def test_check_says_what_a_hand_can_do() -> None:
    """By the URDF: a straight index finger of Allegro is 54 + 38.4 + 26.7 mm long, 1.45 times a person's 82 mm."""
    found = facts(loaded("allegro", "upper_body"))["hands"]["right"]
    assert found["joints"] == 16
    assert found["longest_m"]["index0 to index3"] == pytest.approx(0.119, abs=0.002)
    assert found["person_m"]["index0 to index3"] == pytest.approx(0.119 / 1.45, abs=0.002)
    assert found["pinch"] == ["index3", "middle3", "ring3"]
    found = facts(loaded("f5d6", "upper_body"))["hands"]["right"]
    assert found["driven"]["R_ff_j2"] == "1.13028 R_ff_j1 - 0.00053"


def test_a_draft_names_what_may_be_fingertips_and_what_is_driven() -> None:
    text = draft(package_folder("dexmate-urdf") / "robots/hands/f5d6_hand/f5d6_right.urdf")
    drafted = yaml.safe_load(text.replace("links:", "links: {}"))
    assert "R_th_j0" in drafted["modes"]["upper_body"]["joints"]["arms"]
    assert "R_ff_j2" not in drafted["modes"]["upper_body"]["joints"]["arms"]
    assert "# R_ff_j2: driven by R_ff_j1" in text
    hint = text.partition("# hands:")[2]
    assert all(f"R_{finger}_tip" in hint for finger in ("th", "ff", "mf", "rf", "lf"))
