"""Cameras, people and statistics as messages."""

from __future__ import annotations

import ast
import inspect
import itertools
import logging
import math
from types import SimpleNamespace

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hsr import convert, images, joint_states
from hsr.convert import (
    body_id,
    body_model_to_msg,
    camera_from_info,
    camera_to_info,
    human_params_from_msg,
    joint_poses_to_msg,
    ns_to_stamp,
    people_to_msg,
    refined_people_to_msg,
    stamp_to_ns,
    stats_to_msg,
    track_id_of,
)
from hsr.image_input import shows_rectified
from hsr.marker import skeleton_markers
from hsr_msgs.msg import Human, HumanArray
from hypothesis import given
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import Marker

from hsr_core.body.joints import JOINT_NAMES, PARENTS, J
from hsr_core.errors import InvalidIntrinsics, ShapeError
from hsr_core.geometry.camera import project, undistort_points
from hsr_core.types import (
    Camera,
    EstimateSource,
    FrameResult,
    HumanEstimate,
    HumanParams,
    IntrinsicsSource,
    MetricSource,
    Part,
    Regression,
    TrackState,
)

STAMP_NS = 1_700_000_000_123_456_789
FRAME = "camera_color_optical_frame"
EVERYTHING = Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE


# --- made-up people -------------------------------------------------------------------------------------------


def params(seed: int) -> HumanParams:
    rng = np.random.default_rng(seed)
    shapes = HumanParams.FIXED_SHAPES | dict.fromkeys(convert.FREE_PARAMS, (10,))
    return HumanParams(**{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})


def person(track_id: int = 3, *, parts: Part = Part.BODY, seed: int = 0, **changes) -> HumanEstimate:
    rng = np.random.default_rng(seed)
    regression = Regression(
        params=params(seed + 1),
        bbox_xyxy=np.array([10, 20, 110.5, 220], np.float32),
        score=0.75,
        joint_score=np.linspace(0, 1, 55).astype(np.float32),
        part_score=np.ones(4, np.float32),
        parts=parts,
        metric_source=changes.pop("metric_source", MetricSource.ASSUMED_HEIGHT),
        depth_sigma_m=0.2,
    )
    values = {
        "track_id": track_id,
        "state": TrackState.TRACKED,
        "primary": True,
        "regression": regression,
        "params": params(seed),
        "joints": rng.normal(size=(55, 3)).astype(np.float32),
        "joint_rotmats": Rotation.random(55, random_state=seed).as_matrix().astype(np.float32),
        "keypoints2d": rng.uniform(0, 500, (55, 3)).astype(np.float32),
    }
    return HumanEstimate(**(values | changes))


def frame(*people: HumanEstimate, **changes) -> FrameResult:
    values = {
        "seq": 2**40 + 1,
        "stamp_ns": STAMP_NS,
        "frame_id": FRAME,
        "camera": Camera.from_hfov(60, (480, 640), FRAME),
        "people": people,
        "stage_ms": {"detect": 1.5, "regress": 20.0},
        "source": EstimateSource.SMOOTHED,
    }
    return FrameResult(**(values | changes))


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


# --- ids and stamps -------------------------------------------------------------------------------------------


@given(st.integers(0, 26**5 - 1))
def test_ids_are_five_letters_and_one_to_one(track_id) -> None:
    letters = body_id(track_id)
    assert len(letters) == 5
    assert letters.isalpha()
    assert letters.islower()
    assert track_id_of(letters) == track_id


def test_neighbouring_ids_look_different() -> None:
    ids = [body_id(i) for i in range(1000)]
    assert len(set(ids)) == 1000
    differing = [sum(a != b for a, b in zip(x, y, strict=True)) for x, y in itertools.pairwise(ids)]
    assert min(differing) >= 3


@pytest.mark.parametrize("bad", ["abcd", "abcdef", "ABCDE", "abc1e", ""])
def test_other_ids_are_refused(bad) -> None:
    with pytest.raises(ValueError, match="five lower-case letters"):
        track_id_of(bad)


@given(st.integers(0, (2**31 - 1) * 10**9))
def test_stamps_keep_every_nanosecond(ns) -> None:
    assert stamp_to_ns(ns_to_stamp(ns)) == ns


# --- camera ---------------------------------------------------------------------------------------------------


def info(**changes) -> CameraInfo:
    values = {
        "width": 640, "height": 480, "distortion_model": "plumb_bob", "d": [0.1, -0.2, 1e-3, 2e-3, 0.05],
        "k": [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
    }  # fmt: skip
    msg = CameraInfo()
    for name, value in (values | changes).items():
        setattr(msg, name, np.array(value, np.float64) if name == "k" else value)
    msg.header.frame_id = FRAME
    return msg


def test_camera_info_is_read_and_written_back() -> None:
    camera = camera_from_info(info(), image_hw=(480, 640))
    assert (camera.source, camera.frame_id, camera.model) == (IntrinsicsSource.CAMERA_INFO, FRAME, "plumb_bob")
    back = over_the_wire(camera_to_info(camera, STAMP_NS))
    np.testing.assert_array_equal(back.k, info().k)
    assert list(back.d) == list(info().d)
    assert (back.width, back.height) == (640, 480)
    np.testing.assert_array_equal(camera_from_info(back).K, camera.K)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"k": [0.0] * 9}, "fx=0"),
        ({"k": [math.nan, 0, 320, 0, 500, 240, 0, 0, 1]}, "not finite"),
        ({"k": [-500.0, 0, 320, 0, 500, 240, 0, 0, 1]}, "fx=-500"),
        ({"k": [500.0, 0, 320, 0, 1100, 240, 0, 0, 1]}, "fx/fy"),
        ({"k": [500.0, 0, 700, 0, 500, 240, 0, 0, 1]}, "cx=700"),
        ({"d": [math.inf, 0.0, 0.0, 0.0, 0.0]}, "not finite"),
        ({"width": 0, "height": 0}, "no image size"),
    ],
)
def test_impossible_intrinsics_are_refused_by_value(change, why) -> None:
    with pytest.raises(InvalidIntrinsics, match=why):
        camera_from_info(info(**change))


def test_an_image_of_another_shape_is_refused_a_resized_one_scaled() -> None:
    with pytest.raises(InvalidIntrinsics, match="640x480"):
        camera_from_info(info(), image_hw=(720, 1280))
    half = camera_from_info(info(), image_hw=(240, 320))
    np.testing.assert_allclose(half.K[0, 0], 250)
    assert camera_from_info(info(width=0, height=0), image_hw=(480, 640)).image_hw == (480, 640)


def test_region_of_interest_and_binning_see_the_same_point() -> None:
    msg = info(d=[])
    full = camera_from_info(msg)
    msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height = 100, 60, 400, 300
    msg.binning_x = msg.binning_y = 2
    camera = camera_from_info(msg, image_hw=(150, 200))
    point = np.array([0.1, -0.2, 2.0])
    u, v = project(point, full)
    # Pixel edges: the crop starts at edge 100, and two pixels become one.
    expected = [(u + 0.5 - 100) / 2 - 0.5, (v + 0.5 - 60) / 2 - 0.5]
    np.testing.assert_allclose(project(point, camera), expected, atol=1e-9)


@pytest.mark.parametrize(("model", "count"), [("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)])
def test_distortion_models_keep_their_coefficients(model, count) -> None:
    d = [0.01 * (i + 1) for i in range(count)]
    camera = camera_from_info(info(distortion_model=model, d=d))
    assert camera.model == model
    assert camera.dist.tolist() == d
    assert np.isfinite(project(np.array([0.3, 0.2, 2.0]), camera)).all()


@pytest.mark.parametrize("count", [8, 12, 14])
def test_thin_prism_and_tilted_sensor_are_part_of_rational_polynomial(count) -> None:
    """k1 k2 p1 p2 k3 k4 k5 k6, s1..s4, tx ty; a driver may send zeros for what its lens has not."""
    d = [0.1, -0.05, 1e-3, -2e-3, 0.01, 0.02, -0.01, 5e-3, 0.02, -0.01, 0.015, 5e-3, 0.01, -0.02][:count]
    camera = camera_from_info(info(distortion_model="rational_polynomial", d=d + [0.0] * (14 - count)))
    assert camera.dist.tolist() == d
    points = np.array([[0.3, 0.2, 2.0], [-0.8, 0.5, 2.0]])
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, np.array(d))[0][:, 0]
    np.testing.assert_allclose(project(points, camera), expected, atol=1e-9)
    np.testing.assert_allclose(
        undistort_points(expected, camera), project(points, camera, distort=False), atol=1e-3
    )  # fmt: skip
    back = camera_from_info(over_the_wire(camera_to_info(camera, STAMP_NS)))
    assert back.dist.tolist() == d


def test_rectified_images_are_described_by_p() -> None:
    """image_proc hands on the raw image's info: K and D are of the raw image, P of the rectified one."""
    msg = info(p=np.array([460.0, 0, 311, -27, 0, 470, 244, 0, 0, 0, 1, 0]))
    camera = camera_from_info(msg, image_hw=(480, 640), rectified=True)
    np.testing.assert_array_equal(camera.K, [[460, 0, 311], [0, 470, 244], [0, 0, 1]])
    assert not camera.distorted
    assert camera_from_info(msg).distorted
    without = camera_from_info(info(), rectified=True)  # some drivers leave P out
    np.testing.assert_array_equal(without.K, camera_from_info(info()).K)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/image_rect_color", True),
        ("/camera/image_rect", True),
        ("/zed/zed_node/rgb/color/rect/image", True),
        ("/zed/zed_node/rgb/image_rect_color", True),
        ("/camera/camera/color/image_raw", False),
        ("/director/image_raw", False),
        ("/rect_camera/image_raw", False),
    ],
)
def test_topics_of_rectified_images_are_known_by_name(topic, rectified) -> None:
    assert shows_rectified(topic) is rectified
    assert shows_rectified(topic, "always")
    assert not shows_rectified(topic, "never")


def test_short_and_missing_distortion_is_padded() -> None:
    assert camera_from_info(info(d=[0.1, 0.2, 0.0, 0.0])).dist.tolist() == [0.1, 0.2, 0, 0, 0]
    assert not camera_from_info(info(distortion_model="", d=[])).distorted


def test_an_unknown_distortion_model_is_ignored_with_a_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING, "hsr"):
        assert not camera_from_info(info(distortion_model="mystery", d=[0.5])).distorted
    assert "'mystery' is unknown and ignored; known: plumb_bob" in caplog.text
    caplog.clear()
    assert not camera_from_info(info(distortion_model="other", d=[0.0])).distorted
    assert not caplog.text


# --- people ---------------------------------------------------------------------------------------------------


def test_people_arrive_with_every_number() -> None:
    one, two = person(3, parts=Part.BODY | Part.LEFT_HAND), person(4, parts=EVERYTHING, seed=5, primary=False)
    result = frame(one, two)
    msg = over_the_wire(people_to_msg(result, "open-abc"))
    assert stamp_to_ns(msg.header.stamp) == STAMP_NS
    assert (msg.header.frame_id, msg.seq, msg.model_id) == (FRAME, 2**40 + 1, "open-abc")
    assert (msg.source, msg.intrinsics_source) == (HumanArray.SMOOTHED, HumanArray.ASSUMED_FOV)
    assert (msg.image_width, msg.image_height) == (640, 480)
    np.testing.assert_array_equal(msg.k.reshape(3, 3), result.camera.K)
    assert msg.world_frame == ""
    for human, source in zip(msg.humans, (one, two), strict=True):
        assert (human.track_id, human.id, human.primary) == (source.track_id, body_id(source.track_id), source.primary)
        assert human.confidence == np.float32(0.75)
        assert human.metric_source == Human.METRIC_ASSUMED_HEIGHT
        np.testing.assert_array_equal(human.joints.reshape(55, 3), source.joints)
        np.testing.assert_array_equal(human.keypoints2d.reshape(55, 3), source.keypoints2d)
        np.testing.assert_array_equal(human.bbox_xyxy, source.regression.bbox_xyxy)
        rotmats = Rotation.from_quat(human.joint_quats_xyzw.reshape(55, 4)).as_matrix()  # scipy is xyzw too
        np.testing.assert_allclose(rotmats, source.joint_rotmats, atol=1e-5)
        np.testing.assert_array_equal(human.body_pose.reshape(21, 3), source.params.body_pose)
    assert [len(human.left_hand_pose) for human in msg.humans] == [45, 45]
    assert [len(human.right_hand_pose) for human in msg.humans] == [0, 45]
    assert [len(human.eyelids) for human in msg.humans] == [0, 2]


def test_parameters_come_back() -> None:
    source = person(parts=EVERYTHING)
    back = human_params_from_msg(over_the_wire(people_to_msg(frame(source), "m")).humans[0])
    for name, value in vars(source.params).items():
        np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)
    unseen = human_params_from_msg(over_the_wire(people_to_msg(frame(person()), "m")).humans[0])
    assert not unseen.left_hand_pose.any()


def test_nobody_is_an_empty_list() -> None:
    msg = over_the_wire(people_to_msg(frame(), "m"))
    assert msg.humans == []
    assert msg.seq == 2**40 + 1


def test_the_cameras_pose_in_the_world_goes_with_its_people_also_when_these_are_refined() -> None:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.random(random_state=1).as_matrix(), (1, -2, 3)
    msg = over_the_wire(people_to_msg(frame(person(3), world_frame="odom", T_world_cam=T), "open-abc"))
    for found in (msg, over_the_wire(refined_people_to_msg(msg, []))):
        assert found.world_frame == "odom"
        np.testing.assert_allclose(found.t_world_cam[:3], T[:3, 3])
        np.testing.assert_allclose(Rotation.from_quat(found.t_world_cam[3:]).as_matrix(), T[:3, :3], atol=1e-12)
    unknown = over_the_wire(people_to_msg(frame(person(3)), "open-abc"))
    for found in (unknown, over_the_wire(refined_people_to_msg(unknown, []))):
        assert found.world_frame == ""
        assert not found.t_world_cam.any()  # never an identity


def test_unknown_is_empty_or_infinite_never_zero() -> None:
    human = over_the_wire(people_to_msg(frame(person(metric_source=MetricSource.NONE)), "m")).humans[0]
    assert human.depth_sigma_m == math.inf
    assert len(human.root_velocity) == len(human.foot_contact) == 0
    moving = person(root_velocity=np.arange(6, dtype=np.float32))
    assert list(people_to_msg(frame(moving), "m").humans[0].root_velocity) == [0, 1, 2, 3, 4, 5]


def test_raw_people_hold_the_regressor_s_own_answer() -> None:
    source = person()
    posed = SimpleNamespace(joints=np.full((55, 3), 7.0), joint_rotmats=np.tile(np.eye(3), (55, 1, 1)))
    body = SimpleNamespace(pose_one=lambda given, vertices: posed if given is source.regression.params else None)
    msg = people_to_msg(frame(source), "m", raw_body=body)
    assert msg.source == HumanArray.REGRESSED
    assert set(msg.humans[0].joints) == {7.0}
    np.testing.assert_array_equal(msg.humans[0].transl, source.regression.params.transl)


@pytest.mark.parametrize(
    "change",
    [{"joints": np.zeros((54, 3))}, {"keypoints2d": np.zeros((55, 2))}, {"joint_rotmats": np.zeros((1, 3, 3))}],
)
def test_a_wrong_length_is_an_error_not_garbage(change) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(ShapeError, match="takes"):
        people_to_msg(frame(person(**change)), "m")


def test_column_major_and_strided_arrays_go_out_in_order() -> None:
    joints = np.random.default_rng(0).normal(size=(55, 3)).astype(np.float32)
    for layout in (np.asfortranarray(joints), np.repeat(joints, 2, axis=0)[::2], joints.astype(np.float64)):
        msg = over_the_wire(people_to_msg(frame(person(joints=layout)), "m"))
        np.testing.assert_array_equal(msg.humans[0].joints.reshape(55, 3), joints)


def test_no_numpy_array_is_assigned_to_a_variable_length_field() -> None:
    """rclpy would copy it element by element: each such assignment must come from `_floats` or `as_bytes`."""
    free = {"data", "left_hand_pose", "right_hand_pose", "eyelids", *convert.FREE_PARAMS, "root_velocity", "faces",
            "d", "position", "velocity"}  # fmt: skip
    allowed = {"_floats", "as_bytes", "array"}
    checked = 0
    for module in (convert, images, joint_states):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            targets = []
            if isinstance(node, ast.Assign):
                targets = [(t.attr, node.value) for t in node.targets if isinstance(t, ast.Attribute)]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") not in ("HumanParams", "Pose"):
                targets = [(k.arg, k.value) for k in node.keywords]
                if getattr(node.func, "id", "") == "setattr":
                    assert getattr(node.args[2].func, "id", "") in allowed | {"_fixed"}
            for name, value in targets:
                if name in free and isinstance(value, ast.Call):
                    assert getattr(value.func, "id", "") in allowed, (module.__name__, name)
                    checked += 1
    assert checked >= 5


def test_body_model_describes_the_body_and_hides_licensed_triangles() -> None:
    joints = np.random.default_rng(0).normal(size=(55, 3)).astype(np.float32)
    faces = np.arange(12).reshape(4, 3)
    body = SimpleNamespace(
        n_betas=10, n_expression=12, n_head_betas=8, n_head_expression=9, faces=faces, family="OPEN", model_id="open-1",
        licence_note="CC0", rest=lambda given: (np.zeros((12, 3)), joints) if len(given.expression) == 12 else None,
    )  # fmt: skip
    msg = over_the_wire(body_model_to_msg(body, publish_faces=True))
    assert tuple(msg.joint_names) == JOINT_NAMES
    assert tuple(msg.joint_parents) == PARENTS
    assert (msg.vertex_count, msg.model_id, msg.family, msg.licence_note) == (12, "open-1", "OPEN", "CC0")
    np.testing.assert_array_equal(msg.rest_joints.reshape(55, 3), joints)
    np.testing.assert_array_equal(np.array(msg.faces).reshape(4, 3), faces)
    assert len(body_model_to_msg(body, publish_faces=False).faces) == 0
    body.family = "EHMS"
    assert len(body_model_to_msg(body, publish_faces=True).faces) == 0


def test_joint_poses_have_the_joints_positions_and_rotations() -> None:
    source = person()
    msg = over_the_wire(joint_poses_to_msg(frame(source), source))
    assert len(msg.poses) == 55
    position, q = msg.poses[20].position, msg.poses[20].orientation
    np.testing.assert_allclose((position.x, position.y, position.z), source.joints[20])
    rotmat = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    np.testing.assert_allclose(rotmat, source.joint_rotmats[20], atol=1e-5)


def test_skeleton_draws_what_was_seen() -> None:
    score = np.zeros(55, np.float32)
    for name in ("pelvis", "left_hip", "left_knee", "head"):
        score[J[name]] = 0.8
    source = person(9)
    object.__setattr__(source.regression, "joint_score", score)
    lines, spheres = skeleton_markers(frame(source), lifetime_s=0.5)
    assert (lines.type, spheres.type) == (Marker.LINE_LIST, Marker.SPHERE_LIST)
    assert (lines.id, spheres.id) == (18, 19)
    drawn = {(p.x, p.y, p.z) for p in lines.points}
    assert len(lines.points) == 4  # pelvis-hip and hip-knee; the head's neck was not seen
    assert drawn == {tuple(source.joints[J[name]].tolist()) for name in ("pelvis", "left_hip", "left_knee")}
    assert len(spheres.points) == 4
    object.__setattr__(source.regression, "joint_score", np.where(np.arange(55) == J["head"], score, 0))
    (head,) = skeleton_markers(frame(source))  # no bone: a list without points is an error to RViz
    assert (head.type, len(head.points)) == (Marker.SPHERE_LIST, 1)
    object.__setattr__(source.regression, "joint_score", np.zeros(55, np.float32))
    assert skeleton_markers(frame(source)) == []
    assert skeleton_markers(frame(person(joints=np.full((55, 3), np.nan)))) == []


def test_statistics_carry_what_is_known() -> None:
    msg = over_the_wire(
        stats_to_msg(frame(person()), {"received": 10, "dropped_busy": 2}, {"total": 30.5, "detect": 2.0})
    )
    assert (msg.received, msg.processed, msg.dropped_busy, msg.people) == (10, 0, 2, 1)
    assert (msg.total_ms, msg.detect_ms, msg.regress_ms) == (30.5, 2.0, 20.0)
    assert math.isnan(msg.gpu_ms)
    assert stamp_to_ns(msg.header.stamp) == STAMP_NS
    assert msg.time_source == msg.SYSTEM_TIME
    assert math.isnan(msg.smooth_ms)
