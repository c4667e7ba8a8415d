"""`regressor: pear` with random weights, and with the answers that a perfect network would give."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from pear_answers import perfect_answer, person_at
from scipy.spatial.transform import Rotation

from hsr_core.bench_people import crowd
from hsr_core.body import load_body
from hsr_core.body.joints import J
from hsr_core.config import Settings
from hsr_core.errors import DeviceError, MissingFile
from hsr_core.geometry.camera import apply_affine, project
from hsr_core.regress.pear.boxes import FollowedBoxes, PersonBox
from hsr_core.regress.pear.camera import person_crop
from hsr_core.regress.pear.checkpoint import make_test
from hsr_core.regress.pear.decode import Decoded
from hsr_core.regress.pear.regressor import PearRegressor
from hsr_core.sources import clip_camera, open_source
from hsr_core.stream import HumanStream
from hsr_core.track.track import box_iou
from hsr_core.types import Camera, Frame, Part, TrackState


@pytest.fixture(scope="module")
def body():
    return load_body("")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("pear") / "tiny.pt"
    make_test(path, "tiny")
    return Settings().with_values({"regressor": "pear", "pear.weights": str(path), "device": "cpu", "engine": "torch"})


@pytest.fixture
def regressor(settings, body):
    out = PearRegressor(settings, body)
    yield out
    out.close()


@pytest.fixture(scope="module")
def clip():
    with open_source("clip", camera=clip_camera()) as source:
        return [replace(frame, image=frame.image.copy()) for frame, _ in zip(source, range(25), strict=False)]


def told(regressor, monkeypatch, answer: Decoded, box: PersonBox) -> None:
    monkeypatch.setattr(regressor._placer, "run", lambda frame, camera, crops: [answer])
    look_at(regressor, monkeypatch, box)


def look_at(regressor, monkeypatch, *boxes: PersonBox) -> None:
    def find(frame, people):
        regressor._boxes._boxes = list(boxes)
        return list(boxes)

    monkeypatch.setattr(regressor._boxes, "find", find)


@pytest.mark.parametrize("transl", [(0.0, 0.2, 5.0), (1.8, 0.3, 4.0), (-2.5, 0.6, 6.0)])
def test_a_perfect_answer_becomes_the_true_person(regressor, body, monkeypatch, transl):
    """Orientation exactly, place within what one weak-perspective scale can say of a person some metres away."""
    camera = Camera.from_hfov(70, (720, 1280))
    truth = person_at(body, transl)
    told(regressor, monkeypatch, *perfect_answer(truth, body, camera))
    (found,) = regressor.regress(Frame(np.zeros((720, 1280, 3), np.uint8), 10**9), camera)
    error = Rotation.from_rotvec(found.params.global_orient).inv() * Rotation.from_rotvec(truth.global_orient)
    assert error.magnitude() < 1e-3
    np.testing.assert_allclose(found.params.body_pose, truth.body_pose, atol=1e-4)
    joints, expected = body.pose_one(found.params).joints, body.pose_one(truth).joints
    assert abs(joints[0, 2] / expected[0, 2] - 1) < 0.02
    miss = np.linalg.norm(project(joints, camera) - project(expected, camera), axis=1)
    assert miss[:22].max() < 0.02 * (found.bbox_xyxy[3] - found.bbox_xyxy[1])
    np.testing.assert_allclose(found.params.jaw_pose, (0.2, 0, 0), atol=1e-6)
    np.testing.assert_allclose(found.params.eyelids, (0.1, 1.0), atol=1e-6)
    assert found.parts == Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE


def test_without_the_ray_rotation_the_person_is_turned_by_the_ray(regressor, settings, body, monkeypatch):
    camera = Camera.from_hfov(70, (720, 1280))
    truth = person_at(body, (1.8, 0.3, 4.0))
    told(regressor, monkeypatch, *perfect_answer(truth, body, camera))
    regressor.configure(settings.with_values({"pear.ray_rotation": False}))
    (found,) = regressor.regress(Frame(np.zeros((720, 1280, 3), np.uint8), 10**9), camera)
    error = Rotation.from_rotvec(found.params.global_orient).inv() * Rotation.from_rotvec(truth.global_orient)
    pelvis = body.pose_one(truth).joints[0]
    assert error.magnitude() == pytest.approx(np.arccos(pelvis[2] / np.linalg.norm(pelvis)), abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"camera": np.array([0, 0, 0.01], np.float32)},
        {"camera": np.array([0, np.nan, 1], np.float32)},
        {"rotmats": np.zeros((52, 3, 3), np.float32)},
        {"head_betas": np.full(300, np.inf, np.float32)},
    ],
)
def test_an_answer_that_is_no_person_is_dropped_and_the_next_one_is_taken(regressor, body, monkeypatch, change, caplog):
    camera = Camera.from_hfov(70, (720, 1280))
    answer, box = perfect_answer(person_at(body, (0, 0.2, 5)), body, camera)
    frame = Frame(np.zeros((720, 1280, 3), np.uint8), 10**9)
    told(regressor, monkeypatch, answer._replace(**change), box)
    assert regressor.regress(frame, camera) == []
    assert regressor.regress(frame, camera) == []
    assert len(caplog.records) == 1
    told(regressor, monkeypatch, answer, box)
    assert len(regressor.regress(frame, camera)) == 1


def test_joints_outside_the_picture_are_not_seen(regressor, body, monkeypatch):
    camera = Camera.from_hfov(70, (720, 1280))
    truth = person_at(body, (0.0, 1.1, 3.0))  # the legs hang out of the picture
    told(regressor, monkeypatch, *perfect_answer(truth, body, camera))
    (found,) = regressor.regress(Frame(np.zeros((720, 1280, 3), np.uint8), 10**9), camera)
    assert found.joint_score[J["left_ankle"]] == found.joint_score[J["right_foot"]] == 0
    assert found.joint_score[J["head"]] == pytest.approx(0.9)


def test_random_weights_flow_through_the_stream_and_repeat(settings, body, clip):
    """With random weights the person is random, but complete; the search runs when it is needed, not in every frame."""
    settings = settings.with_values({"people.max": 1})  # random places: each would be another person of several
    runs = []
    for _ in range(2):
        with HumanStream(settings, body) as stream:
            searches = []
            search = stream.regressor._boxes._search.search
            stream.regressor._boxes._search.search = lambda *a, s=search, n=searches, **k: n.append(1) or s(*a, **k)
            results = [stream.process(frame) for frame in clip]
        present = [[person for person in result.people if person.state != TrackState.LOST] for result in results]
        assert all(len(people) == 1 for people in present)
        assert 1 <= len(searches) < len(clip) / 2
        assert {"detect", "crop", "network", "lift"} <= set(results[-1].stage_ms)
        runs.append([people[0] for people in present])
    for a, b in zip(*runs, strict=True):
        assert a.params.finite()
        assert torch.equal(torch.from_numpy(a.joints), torch.from_numpy(b.joints))
        R = a.joint_rotmats.astype(np.float64)
        np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("part", "person"),
    [((480, 480, 860, 730), (572, 511, 808, 730)), ((600, 490, 760, 610), (670, 510, 730, 578))],
    ids=["upper body", "head"],
)
def test_upper_bodies_and_heads_are_looked_at_whole(settings, body, part, person):
    """Enlarged parts of the clip's frame 57; where the person, or the head alone, lies in it was measured by eye."""
    with open_source("clip") as source:
        image = next(frame.image.copy() for frame in source if frame.index == 57)
    x0, y0, x1, y1 = part
    frame = Frame(cv2.resize(image[y0:y1, x0:x1], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), 10**9)
    box = FollowedBoxes().find(frame, settings.people)[0]
    crop = person_crop(box.bbox_xyxy, frame.image_hw)
    corners = 3 * (np.array(person, float).reshape(2, 2) - (x0, y0))
    uv = apply_affine(crop.A_crop_img, corners)
    assert (uv > 0).all()
    assert (uv < 256).all()
    assert (uv[1] - uv[0]).max() > 128  # and not lost in the surroundings
    regressor = PearRegressor(settings, body)
    assert len(regressor.regress(frame, Camera.from_hfov(60, frame.image_hw))) == 1


CLIP_BOXES = [(1086, 527, 1359, 943), (561, 90, 705, 482), (900, 500, 1100, 940)]
"""In the clip's third frame: the walker, the man on the roof, and a piece of the lawn."""


@pytest.mark.parametrize("graph", ["parameters", "people"])
def test_a_batch_of_people_is_each_as_alone(settings, body, clip, monkeypatch, graph):
    boxes = [PersonBox(np.array(box, np.float32), 0.9) for box in CLIP_BOXES]
    regressor = PearRegressor(settings.with_values({"people.max": 3, "pear.graph": graph}), body)
    runtime, batches = regressor._placer.runtime, []
    frame = clip[3]

    def run(inputs):
        batches.append(len(inputs["pixels" if graph == "parameters" else "A_img_crop"]))
        return runtime(inputs)

    monkeypatch.setattr(regressor._placer, "runtime", run)
    look_at(regressor, monkeypatch, *boxes)
    together = regressor.regress(frame, frame.camera)
    alone = []
    for box in boxes:
        look_at(regressor, monkeypatch, box)
        alone += regressor.regress(frame, frame.camera)
    assert batches == [3, 1, 1, 1]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.bbox_xyxy, other.bbox_xyxy)
        for name in ("global_orient", "body_pose", "left_hand_pose", "transl", "jaw_pose"):
            # float32 products of other sizes are summed in another order; rotations near half a turn may change sign
            np.testing.assert_allclose(getattr(one.params, name), getattr(other.params, name), rtol=1e-4, atol=2e-4)
    assert not np.allclose(together[0].params.transl, together[1].params.transl)
    runtime.close()


def test_one_of_several_who_is_no_person_is_left_out_and_the_others_are_followed(regressor, body, monkeypatch):
    camera = Camera.from_hfov(70, (720, 1280))
    answers, boxes = zip(
        *(perfect_answer(person_at(body, (x, 0.2, 5.0)), body, camera) for x in (-1.5, 0.0, 1.5)), strict=True
    )
    answers = [answers[0], answers[1]._replace(rotmats=np.zeros((52, 3, 3), np.float32)), answers[2]]
    monkeypatch.setattr(regressor._placer, "run", lambda frame, camera, crops: answers)
    look_at(regressor, monkeypatch, *boxes)
    found = regressor.regress(Frame(np.zeros((720, 1280, 3), np.uint8), 10**9), camera)
    assert [person.params.transl[0] for person in found] == pytest.approx([-1.5, 1.5], abs=0.05)
    assert len(regressor._boxes._boxes) == 2


def test_everybody_in_a_crowd_gets_a_box_and_two_boxes_on_one_person_become_one(settings):
    picture = next(crowd(3, 1))
    finder = FollowedBoxes()
    boxes = finder.find(picture.frame, settings.with_values({"people.max": 4}).people)
    overlap = box_iou(np.array([box.bbox_xyxy for box in boxes]), picture.boxes)
    assert sorted(overlap.argmax(1)) == [0, 1, 2]
    assert overlap.max(1).min() > 0.6
    joints = [np.array([box.bbox_xyxy[:2], box.bbox_xyxy[2:]]) for box in boxes]
    finder.seen([joints[0], joints[0] + 3, joints[2]], picture.frame)
    assert len(finder._boxes) == 2
    again = finder.find(replace(picture.frame, stamp_ns=picture.frame.stamp_ns + 6 * 10**8), settings.people)
    assert len(again) == 3  # who was given up is found again by the next look


def test_nobody_is_found_where_nobody_is(regressor):
    frame = Frame(np.full((480, 640, 3), 90, np.uint8), 10**9)
    assert regressor.regress(frame, Camera.from_hfov(60, (480, 640))) == []


def test_one_person_in_the_whole_frame_needs_no_search(settings, body, clip, monkeypatch):
    monkeypatch.setattr(FollowedBoxes, "find", lambda *_: pytest.fail("searched"))
    regressor = PearRegressor(settings.with_values({"pear.boxes": "whole_frame"}), body)
    (found,) = regressor.regress(clip[0], clip[0].camera)
    np.testing.assert_array_equal(found.bbox_xyxy, (0, 0, 1768, 994))


def test_missing_weights_and_a_missing_gpu_are_said(settings, body, monkeypatch):
    monkeypatch.delenv("HSR_PEAR_WEIGHTS", raising=False)
    with pytest.raises(MissingFile, match="HSR_PEAR_WEIGHTS"):
        PearRegressor(Settings(), body)
    if not torch.cuda.is_available():
        for values in ({"device": "cuda", "engine": "auto"}, {"device": "auto", "engine": "tensorrt"}):
            with pytest.raises(DeviceError, match="nvidia-smi"):
                PearRegressor(settings.with_values(values), body)
