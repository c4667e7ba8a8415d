"""From people to figures, on people placed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hsr_core.body.joints import JOINT_NAMES, LIMB_12, J
from hsr_core.datasets.base import ReferencePerson
from hsr_core.eval.protocol import Protocol
from hsr_core.eval.scoring import FrameScorer, Prediction, Scores, rule_for
from hsr_core.geometry.camera import project
from hsr_core.types import Camera

BODY = "ehm:test"
CAMERA = Camera(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), (480, 640))
BASE = Protocol("", dataset="test", fps=10.0)


def skeleton(x: float = 0.0, z: float = 3.0, seed: int = 0) -> np.ndarray:
    """Return 55 joints of a person about 1.6 m tall."""
    joints = np.random.default_rng(seed).uniform([-0.3, -0.8, -0.1], [0.3, 0.8, 0.1], (55, 3))
    return joints + np.array([x, 0, z])


def predicted(joints, track_id=7, vertices=None) -> Prediction:
    return Prediction(track_id, True, 0.9, "TRACKED", joints, project(joints, CAMERA), vertices)


def truth(joints, person_id=0, **fields) -> ReferencePerson:
    uv = project(joints, CAMERA)
    keypoints = np.concatenate([uv, np.ones((len(uv), 1))], axis=1)
    values = {"topology": BODY, "keypoints2d": keypoints} | fields
    return ReferencePerson(person_id, joints=joints, joint_names=JOINT_NAMES, **values)


def scorer() -> FrameScorer:
    return FrameScorer(BASE, "ehm", BODY)


def frame(score: FrameScorer, people, reference, **options):
    answer = score.score(people, reference, CAMERA, **options)
    score.end_frame(scored=options.get("scored", True))
    return answer


def test_a_person_10_cm_too_far_with_a_hand_3_cm_aside_by_hand():
    """MPJPE is blind to the 10 cm: 30 mm at one of 22 joints. abs-MPJPE: 100 mm at 21, sqrt(100^2 + 30^2) at one."""
    score, joints = scorer(), skeleton()
    wrong = joints + np.array([0, 0, 0.1])
    wrong[J["left_wrist"], 0] += 0.03
    rows, missed = frame(score, [predicted(wrong)], [truth(joints)])
    values = rows[0]["values"]
    assert missed == []
    assert rows[0]["ref"] == 0
    assert values["mpjpe_mm"] == pytest.approx(30 / 22, abs=1e-4)
    assert values["abs_mpjpe_mm"] == pytest.approx((21 * 100 + np.hypot(100, 30)) / 22, abs=1e-4)
    assert values["root_error_mm"] == pytest.approx(100, abs=1e-4)
    figures = score.finish().figures
    assert figures["mpjpe_mm"].value == pytest.approx(30 / 22)
    assert figures["mpjpe_mm"].protocol.name == "body-22"
    assert figures["mpjpe_mm"].protocol.joints == JOINT_NAMES[:22]
    assert figures["detection_rate"].value == 1
    assert figures["pck_010"].value == 1


def test_people_are_matched_by_place_and_ids_that_swap_are_counted():
    """Two people, 30 frames; their track ids are exchanged after 20 frames: one switch each."""
    score, left, right = scorer(), skeleton(-0.8), skeleton(0.8, seed=1)
    for t in range(30):
        ids = (1, 2) if t < 20 else (2, 1)
        people = [predicted(right, ids[1]), predicted(left, ids[0])]
        rows, _ = frame(score, people, [truth(left, 10), truth(right, 11)])
        assert [row["ref"] for row in rows] == [11, 10]
    scores = score.finish()
    assert scores.tracking.scores()["id_switches"] == 2
    assert scores.tracking.scores()["mota"] == pytest.approx(1 - 2 / 60)
    assert scores.figures["mpjpe_mm"].value == pytest.approx(0, abs=1e-9)


def test_who_is_missed_has_no_error_but_lowers_coverage_and_pck():
    score, joints = scorer(), skeleton()
    for t in range(4):
        _, missed = frame(score, [predicted(joints)] if t else [], [truth(joints)])
        assert missed == ([] if t else [0])
    figures = score.finish().figures
    assert figures["mpjpe_mm"].value == pytest.approx(0, abs=1e-9)
    assert figures["mpjpe_mm"].coverage == pytest.approx(3 / 4)
    assert figures["detection_rate"].value == pytest.approx(3 / 4)
    assert figures["pck_010"].value == pytest.approx(3 / 4)


def test_people_nobody_asked_for_are_false_alarms_and_invalid_ones_are_not_scored():
    score, joints = scorer(), skeleton()
    stranger = skeleton(1.0, seed=2)
    rows, missed = frame(score, [predicted(joints), predicted(stranger, 8)], [truth(joints)])
    assert rows[1]["ref"] is None
    assert rows[1]["values"] == {}
    rows, missed = frame(score, [predicted(joints)], [truth(joints, valid=False)])
    assert rows[0]["ref"] == 0
    assert rows[0]["values"] == {}
    _, missed = frame(score, [], [truth(joints, valid=False)])
    assert missed == []
    scores = score.finish()
    assert scores.figures["mpjpe_mm"].annotated == 1
    assert scores.tracking.scores()["precision"] < 1


def test_a_nan_prediction_counts_as_missing_and_a_nan_reference_is_left_out():
    score, joints = scorer(), skeleton()
    bad = joints.copy()
    bad[J["head"]] = np.nan
    rows, _ = frame(score, [predicted(bad)], [truth(joints)])
    assert "mpjpe_mm" not in rows[0]["values"]
    partly = joints.copy()
    partly[J["head"]] = np.nan
    wrong = joints.copy()
    wrong[J["left_knee"], 1] += 0.021
    rows, _ = frame(score, [predicted(wrong)], [truth(partly)])
    assert rows[0]["values"]["mpjpe_mm"] == pytest.approx(1.0)  # 21 mm at one of 21 joints
    figure = score.finish().figures["mpjpe_mm"]
    assert (figure.count, figure.annotated) == (1, 2)


def test_the_warm_up_counts_nowhere_but_in_motion():
    """Three frames of warm-up: the first scored frame has an acceleration and a jitter already, as in one run."""
    positions = [skeleton(x, seed=3) for x in (0, 0.01, 0.03, 0.06, 0.1)]
    whole, late = scorer(), scorer()
    whole_rows = [frame(whole, [predicted(p)], [truth(p)])[0] for p in positions]
    for t, p in enumerate(positions):
        rows, _ = frame(late, [predicted(p)], [truth(p)], scored=t >= 3)
        assert rows[0]["values"] == (whole_rows[t][0]["values"] if t >= 3 else {})
    scores = late.finish()
    assert scores.frames == 2
    assert scores.figures["mpjpe_mm"].count == 2
    assert scores.figures["jitter_10m_s3"].count == 2


def test_without_a_reference_motion_alone_is_measured():
    """x = 0, 1, 4, 9 mm.. along one axis for all joints but the hips is not seen: aligned by the hips it rests."""
    score = scorer()
    for t in range(6):
        joints = skeleton(seed=4)
        joints[J["left_wrist"], 0] += 1e-3 * t**2  # second difference 2 mm, third 0
        rows, _ = frame(score, [predicted(joints)], [], has_reference=False)
    assert rows[0]["ref"] is None
    assert set(rows[0]["values"]) == {"accel_mm_frame2", "jitter_10m_s3"}
    figures = score.finish().figures
    assert figures["accel_mm_frame2"].value == pytest.approx(2 / 12)
    assert figures["jitter_10m_s3"].value == pytest.approx(0, abs=1e-6)
    assert figures["accel_mm_frame2"].protocol.name == "own-motion"


def test_vertices_are_scored_where_both_have_the_same_body():
    score, joints = scorer(), skeleton()
    mesh = np.random.default_rng(5).normal((0, 0, 3), 0.3, (100, 3))
    shifted = mesh + np.array([0, 0, 0.02])
    person = predicted(joints, vertices=lambda: shifted)
    rows, _ = frame(score, [person], [truth(joints, vertices=mesh)])
    assert rows[0]["values"]["pve_mm"] == pytest.approx(20, abs=1e-4)
    assert rows[0]["values"]["pa_pve_mm"] == pytest.approx(0, abs=1e-4)
    other = scorer()
    rows, _ = frame(other, [person], [truth(joints, vertices=mesh, topology="smpl")])
    assert "pve_mm" not in rows[0]["values"]


def test_the_protocol_follows_what_both_sides_are(synthetic_body):
    joints = skeleton()
    limbs = tuple(JOINT_NAMES[j] for j in LIMB_12)
    assert rule_for(truth(joints), "ehm", BODY).name == "body-22"
    licensed = synthetic_body.family  # of a body made of SMPL-X files
    assert rule_for(truth(joints, topology="smpl"), licensed, "ehm:licensed").name == "smpl-22"
    assert rule_for(truth(joints, topology="smplx"), licensed, "ehm:licensed").name == "smpl-22"
    assert rule_for(truth(joints, topology="smpl"), "ehm", BODY).name == "limb-12"  # other joints than SMPL's
    twelve = ReferencePerson(0, joints=joints[list(LIMB_12)], joint_names=limbs)
    assert rule_for(twelve, licensed, BODY).name == "limb-12"
    assert rule_for(ReferencePerson(0, joints=joints[:3], joint_names=JOINT_NAMES[:3]), "ehm", BODY) is None
    assert rule_for(ReferencePerson(0), "ehm", BODY) is None


def test_a_reference_without_limbs_is_said_and_not_scored():
    score, joints = scorer(), skeleton()
    few = ReferencePerson(0, joints=joints[:3], joint_names=JOINT_NAMES[:3])
    rows, missed = frame(score, [predicted(joints)], [few])
    assert rows[0]["values"] == {}
    assert missed == []
    assert "lacks limb joints" in score.finish().notes[0]


def test_world_errors_come_from_the_camera_s_pose():
    """The camera moves sideways by 1 cm a frame over a person who rests, seen exactly: no error in the world."""
    score = scorer()
    for t in range(120):
        T_world_cam = np.eye(4)
        T_world_cam[0, 3] = 0.01 * t
        joints = skeleton(seed=6) - np.array([0.01 * t, 0, 0])
        joints[:, 1] += 0.1 * np.sin(0.1 * t)
        frame(score, [predicted(joints)], [truth(joints)], T_world_cam=T_world_cam)
    figures = score.finish().figures
    assert figures["w_mpjpe_mm"].value == pytest.approx(0, abs=1e-6)
    assert figures["w_mpjpe_mm"].count == 100  # the tail of 20 frames is dropped
    assert dict(figures["w_mpjpe_mm"].protocol.details)["tail"] == "dropped"
    assert figures["rte_percent"].value == pytest.approx(0, abs=1e-6)


def test_scores_of_parts_add_up_to_those_of_the_whole_and_survive_a_file():
    rng = np.random.default_rng(7)
    pairs = [(p, p + rng.normal(0, 0.02, p.shape)) for p in (skeleton(seed=s) for s in range(20))]
    whole, first, second = scorer(), scorer(), scorer()
    for i, (true, found) in enumerate(pairs):
        for score in (whole, first if i < 10 else second):
            frame(score, [predicted(found)], [truth(true)])
    total = first.finish() + Scores.from_dict(second.finish().to_dict())
    expected = whole.finish()
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "root_error_mm", "pck_005"):
        assert total.figures[name] == expected.figures[name]
    assert total.frames == expected.frames == 20


def test_long_recordings_do_not_grow_memory():
    score, joints = scorer(), skeleton()
    for _ in range(1100):
        frame(score, [predicted(joints)], [truth(joints)])
    assert max(len(values) for values in score._values.values()) < 600
    assert score.finish().figures["mpjpe_mm"].count == 1100


def test_references_of_another_kind_than_the_first_are_said():
    score, joints = scorer(), skeleton()
    frame(score, [predicted(joints)], [truth(joints)])
    rows, _ = frame(score, [predicted(joints)], [truth(joints, topology="smpl")])
    assert rows[0]["values"] == {}
    assert "several kinds" in score.finish().notes[0]


def test_without_metres_nothing_is_said_of_places():
    score, joints = FrameScorer(BASE, "ehm", BODY, metric=False), skeleton()
    rows, _ = frame(score, [predicted(joints * 1.1)], [truth(joints)], T_world_cam=np.eye(4))
    assert not {"abs_mpjpe_mm", "root_error_mm", "root_ray_error_mm"} & set(rows[0]["values"])
    assert rows[0]["values"]["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3)
    scores = score.finish()
    assert scores.tracking is None
    assert scores.figures["detection_rate"].value == 1


def test_recordings_of_different_protocols_have_no_common_figure():
    """Two rates: accelerations do not add up, joint errors do."""
    joints, parts = skeleton(), []
    for fps in (10.0, 30.0):
        score = FrameScorer(Protocol("", fps=fps), "ehm", BODY)
        for _ in range(5):
            frame(score, [predicted(joints)], [truth(joints)])
        parts.append(score.finish())
    total = parts[0] + parts[1]
    assert total.figures["mpjpe_mm"].count == 10
    assert "accel_error_m_s2" not in total.figures
    assert "accel_error_m_s2 has no common figure: its recordings differ in fps" in total.notes
    assert "accel_error_m_s2" not in (total + parts[0]).figures
    assert "accel_error_m_s2" not in (parts[0] + Scores.from_dict(total.to_dict())).figures


def test_a_prediction_three_frames_late_has_that_lag():
    """Arms that swing in no simple rhythm, shown 0.1 s late at 30 Hz."""
    rng = np.random.default_rng(8)
    swing = np.cumsum(np.convolve(rng.normal(0, 0.02, 400), np.ones(9) / 9))
    poses = [skeleton(seed=9) + np.outer(np.arange(55) == J["left_wrist"], [x, 0, 0]) for x in swing]
    score = FrameScorer(Protocol("", fps=30.0), "ehm", BODY)
    for t in range(3, len(poses)):
        frame(score, [predicted(poses[t - 3])], [truth(poses[t])])
    assert score.finish().lag.lag_ms == pytest.approx(100, abs=10)


def test_motion_begins_anew_where_frames_are_missing():
    """x = 0, 1, 4, 9, .. mm at 10 Hz; after frame 5 one is missing: twice the step, but no acceleration of 6 mm."""
    score = scorer()
    rows = {}
    for t in (0, 1, 2, 3, 4, 5, 7, 8, 9):
        joints = skeleton(seed=4)
        joints[J["left_wrist"], 0] += 1e-3 * t**2
        rows[t], _ = frame(score, [predicted(joints)], [], has_reference=False, stamp_ns=t * 100_000_000 + 7_000_000)
    values = {t: row[0]["values"] for t, row in rows.items()}
    assert values[7] == values[8] == {}
    assert values[9]["accel_mm_frame2"] == pytest.approx(2 / 12, abs=1e-4)
    assert score.finish().figures["accel_mm_frame2"].value == pytest.approx(2 / 12)


def test_images_that_are_no_sequence_have_no_motion():
    score, joints = FrameScorer(Protocol("", fps=0.0), "ehm", BODY), skeleton()
    for t in range(6):
        frame(score, [predicted(joints)], [truth(joints)], stamp_ns=t * 10**10)
    scores = score.finish()
    assert scores.lag is None
    assert not [name for name in scores.figures if "accel" in name or "jitter" in name]
    assert scores.figures["mpjpe_mm"].count == 6


def test_who_is_nowhere_was_not_asked_for():
    """A reference of NaN says that somebody is there and not where: nobody can be missed."""
    score, joints = scorer(), skeleton()
    _, missed = frame(score, [predicted(joints)], [truth(np.full_like(joints, np.nan)), truth(joints, 1)])
    assert missed == []
    scores = score.finish()
    assert scores.figures["detection_rate"].value == 1
    assert scores.figures["mpjpe_mm"].coverage == 1
    assert scores.tracking.scores()["detection_rate"] == 1


def test_ids_that_occur_twice_cost_tracking_alone():
    score, joints = scorer(), skeleton()
    frame(score, [predicted(joints), predicted(skeleton(1.0))], [truth(joints), truth(skeleton(1.0))])
    scores = score.finish()
    assert scores.figures["mpjpe_mm"].count == 2
    assert "twice" in scores.notes[0]


def test_lags_of_two_rates_have_no_common_figure():
    joints, parts = skeleton(), []
    for fps in (10.0, 30.0):
        score = FrameScorer(Protocol("", fps=fps), "ehm", BODY)
        for _ in range(5):
            frame(score, [predicted(joints)], [truth(joints)])
        parts.append(score.finish())
    for total in (parts[0] + parts[1], parts[0] + parts[1] + parts[0], parts[1] + (parts[0] + parts[1])):
        assert total.lag is None
        assert "lag_ms has no common figure: its recordings differ in fps" in total.notes


def test_people_who_come_and_go_do_not_grow_memory():
    score = scorer()
    for track in range(1500):
        frame(score, [predicted(skeleton(), track)], [], has_reference=False)
    assert len(score._motion) < 1000


def test_nan_joints_leave_valid_json():
    score, joints = scorer(), np.full((55, 3), np.nan)
    rows, _ = frame(score, [predicted(joints)], [], has_reference=False)
    json.loads(json.dumps(rows), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
