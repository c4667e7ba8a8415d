"""Masks of a topic, of the landmark network, of the body itself, and which is used."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from analytic_scenes import ball, camera, sphere_depth, view

from hsr_core.body.joints import N_JOINTS, J
from hsr_core.errors import ConfigError, MissingFile
from hsr_core.geometry.camera import apply_affine, invert_affine, project
from hsr_core.geometry.regions import iou
from hsr_core.mask import MaskSelector, MaskSettings, open_masks
from hsr_core.mask.landmarks import LandmarkMask, full_frame, person_roi
from hsr_core.mask.mesh import MeshMask
from hsr_core.mask.select import FILES
from hsr_core.mask.topic import RawMask, TopicMask
from hsr_core.model_files import NetworkPlace, report
from hsr_core.regress.crop import Roi

CAM = camera()
PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"
SETTINGS = MaskSettings()
LEFT, RIGHT = (-0.6, 0.0, 2.4), (0.7, 0.0, 2.6)


def two():
    return view(CAM, ball(CAM, LEFT, 0.4, track_id=70001), ball(CAM, RIGHT, 0.4, track_id=3))


def sent(values: np.ndarray, encoding: str, stamp_ns: int = 0) -> RawMask:
    return RawMask(values.tobytes(), values.shape, values.strides[0], encoding, stamp_ns)


def standing(center, height: float = 1.7) -> np.ndarray:
    """55 joints of somebody upright: pelvis in the middle, neck and head above, knees below."""
    joints = np.tile(np.asarray(center, np.float32), (N_JOINTS, 1))
    for name, up in (("neck", 0.35), ("head", 0.42), ("spine3", 0.2), ("left_knee", -0.25), ("right_knee", -0.25)):
        joints[J[name], 1] -= up * height
    return joints


# --- the body's own outline -----------------------------------------------------------------------------------


def test_the_outline_of_a_sphere_is_that_of_a_larger_sphere():
    person = ball(CAM)
    mask = MeshMask(0.02).prob_for(view(CAM, person), person)
    assert iou(mask > 0.5, sphere_depth(CAM, radius=0.5 + 0.04) > 0) > 0.97
    gone = ball(CAM, (9.0, 0, 2))
    assert MeshMask(0.02).prob_for(view(CAM, gone), gone) is None


# --- topic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["mono8", "32FC1"])
def test_a_mask_of_one_person_goes_to_the_body_it_shows(encoding):
    scene = two()
    truth = scene.bodies[1].mask
    values = (truth * 255).astype(np.uint8) if encoding == "mono8" else truth.astype(np.float32)
    provider = TopicMask(SETTINGS)
    provider.put(sent(values, encoding))
    assert provider.prob_for(scene, scene.bodies[0]) is None
    np.testing.assert_array_equal(provider.prob_for(scene, scene.bodies[1]), truth.astype(np.float32))
    assert provider.counts == {"used": 1}


def test_instances_go_to_the_bodies_they_overlap():
    scene = two()
    values = np.zeros(CAM.image_hw, np.uint16)
    values[scene.bodies[0].mask], values[scene.bodies[1].mask], values[:20, :20] = 9, 4, 5
    provider = TopicMask(SETTINGS)
    provider.put(sent(values, "16UC1"))
    for body in scene.bodies:
        np.testing.assert_array_equal(provider.prob_for(scene, body) > 0.5, body.mask)


def test_instances_that_are_our_tracks_go_by_their_number_modulo_65536():
    scene = two()
    values = np.zeros(CAM.image_hw, np.uint16)
    values[:10], values[-10:] = 70001 % 65536, 3
    provider = TopicMask(replace(SETTINGS, ids_are_tracks=True))
    provider.put(sent(values, "16UC1"))
    assert (provider.prob_for(scene, scene.bodies[0]) > 0.5)[:10].all()
    assert (provider.prob_for(scene, scene.bodies[1]) > 0.5)[-10:].all()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (sent(np.zeros(CAM.image_hw, np.uint8), "mono8", 20_000_000), "no mask within 15 ms"),
        (sent(np.zeros(CAM.image_hw, np.uint8), "rgb8"), "accepted: mono8"),
        (sent(np.zeros((10, 10), np.uint8), "mono8"), "publish it in its size"),
        (RawMask(b"", CAM.image_hw, 320, "mono8", 0), "too few"),
    ],
)
def test_masks_that_cannot_be_used_are_told(raw, said):
    scene = view(CAM, ball(CAM))
    provider = TopicMask(SETTINGS)
    provider.put(raw)
    assert provider.prob_for(scene, scene.bodies[0]) is None
    assert said in provider.status


# --- landmark network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("roi", [Roi((150.0, 120.0), 180.0), Roi((40.0, 200.0), 220.0, 0.6)])
def test_a_crops_mask_lands_where_the_crop_was(roi):
    """A disc in the crop's grid is a disc of the image, placed by the crop's own transform."""
    y, x = np.mgrid[:256, :256]
    A = roi.transform(256)
    mask = (np.hypot(x - 100, y - 140) < 50).astype(np.float32)
    image = np.full((*CAM.image_hw, 3), 128, np.uint8)
    out = full_frame(mask, A, view(CAM, image=image))
    rows, columns = np.mgrid[: CAM.image_hw[0], : CAM.image_hw[1]]
    centre, radius = apply_affine(invert_affine(A), np.array([100.0, 140.0])), 50 * roi.size_px / 256
    expected = np.hypot(columns - centre[0], rows - centre[1]) < radius
    assert iou(out > 0.5, expected) > 0.95
    assert out.dtype == np.float32
    assert not out[~(np.hypot(columns - centre[0], rows - centre[1]) < radius + 15)].any()


def test_an_outline_beside_the_edge_of_the_image_is_drawn_to_it():
    """A bright disc on dark, noisy ground; its mask is two pixels aside and blurred."""
    cam = camera(width=256, height=256, fx=300.0, fy=300.0, cx=127.5, cy=127.5)
    y, x = np.mgrid[:256, :256]
    truth = np.hypot(x - 120, y - 130) < 70
    noise = np.random.default_rng(0).normal(0, 12, (256, 256, 3))
    image = np.clip(np.where(truth[..., None], 180, 60) + noise, 0, 255).astype(np.uint8)
    aside = cv2.GaussianBlur(np.roll(truth, 2, axis=1).astype(np.float32), (0, 0), 3)
    out = full_frame(aside, Roi((128, 128), 256).transform(256), view(cam, image=image))
    assert iou(aside > 0.5, truth) < 0.97
    assert iou(out > 0.5, truth) > 0.99


def test_the_crop_is_upright_with_the_body_and_holds_it():
    for angle in (0.0, 1.2, -2.5):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
        centre = np.array([0.1, 0.0, 4.0])
        joints = (standing((0, 0, 0)) @ turn.T + centre).astype(np.float32)
        body = replace(ball(CAM, centre, 0.6), joints=joints)
        roi = person_roi(body)
        A = roi.transform(256)
        pelvis, neck = apply_affine(A, project(joints[[J["pelvis"], J["neck"]]], CAM))
        np.testing.assert_allclose(pelvis, 127.5, atol=0.6)
        assert neck[0] == pytest.approx(127.5, abs=0.6)
        assert neck[1] < pelvis[1]
        uv = project(body.vertices, CAM)
        crop = apply_affine(A, uv)
        assert (crop > 0).all()
        assert (crop < 256).all()
    assert person_roi(ball(CAM, (0, 0, -2.0))) is None


def test_the_real_network_finds_a_real_person_and_not_an_empty_wall():
    from hsr_core.mask.landmarks import create

    provider = create(SETTINGS)
    photo = cv2.imread(str(PORTRAIT))
    height, width = photo.shape[:2]
    cam = camera(width=width, height=height, fx=width, fy=width, cx=width / 2, cy=height / 2)
    person = ball(cam, (0, 0.1, 2.0), 0.5 * min(1.0, height / width))
    image = cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)
    mask = provider.prob_for(view(cam, person, image=image), person)
    assert mask.shape == (height, width)
    assert 0.1 < (mask > 0.5).mean() < 0.9
    assert mask[height // 2, width // 2] > 0.5
    assert mask[5, 5] < 0.5
    assert provider.prob_for(view(cam, person), person) is None
    assert "does not see a person" in provider.status


# --- which is used --------------------------------------------------------------------------------------------


class Scripted:
    """Gives what `answer` says; notes who was lost."""

    def __init__(self, answer, name="scripted"):
        from hsr_core.mask.base import SHARP

        self.name, self.answer, self.traits, self.status, self.lost_ids = name, answer, SHARP, "", []

    def prob_for(self, view, body):
        return self.answer(body)

    def lost(self, track_id):
        self.lost_ids.append(track_id)

    def reset(self):
        self.lost_ids.clear()

    def close(self):
        pass


def masked(body):
    return body.silhouette(0.02).astype(np.float32)


def test_the_next_provider_stands_in_for_one_that_has_nothing_and_not_for_one_that_is_wrong():
    scene = two()
    wrong, right = scene.bodies
    first = Scripted(lambda body: masked(wrong) if body is right else None)
    selector = MaskSelector([first, MeshMask(0.02)], SETTINGS)
    masks = {mask.track_id: mask for mask in selector.masks_for(scene)}
    assert (masks[70001].provider, masks[70001].for_pose, masks[70001].for_mapping) == ("mesh", True, False)
    assert (masks[3].provider, masks[3].for_pose) == ("scripted", False)
    assert "another person (track 70001)" in masks[3].reason
    assert first.lost_ids == [3]


@pytest.mark.parametrize(
    "bad",
    [np.zeros, np.ones, lambda hw, dtype: np.full(hw, np.nan, dtype)],
    ids=["empty", "whole image", "nan"],
)
def test_bad_masks_never_reach_the_optimiser(bad):
    person = ball(CAM)
    provider = Scripted(lambda body: bad(CAM.image_hw, np.float32))
    (mask,) = MaskSelector([provider, MeshMask(0.02)], SETTINGS).masks_for(view(CAM, person))
    assert not mask.for_pose
    assert mask.reason
    assert provider.lost_ids == [1]


def test_a_jump_of_the_area_is_rejected_once_and_watches_end_with_their_track():
    person = ball(CAM)
    scene, size = view(CAM, person), [1.0]
    provider = Scripted(lambda body: sphere_depth(CAM, radius=0.5 * size[0]).astype(np.float32))
    selector = MaskSelector([provider], SETTINGS)
    assert selector.masks_for(scene)[0].for_mapping
    size[0] = 0.7
    (mask,) = selector.masks_for(scene)
    assert not mask.for_pose
    assert "area changed" in mask.reason
    selector.masks_for(view(CAM))
    assert selector.masks_for(scene)[0].reason == ""


def test_with_nothing_added_there_are_topic_landmarks_and_outline(tmp_path):
    selector = open_masks(SETTINGS, place=NetworkPlace(tmp_path))
    assert selector.name == "topic, landmarks, mesh"
    assert selector.provider("topic") is selector.providers[0]
    assert open_masks(SETTINGS, place=NetworkPlace(tmp_path), topic=False).name == "landmarks, mesh"


def test_without_the_landmark_networks_the_outline_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("hsr_core.regress.litert.find_spec", lambda name: None)
    assert open_masks(SETTINGS, place=NetworkPlace(tmp_path), topic=False).name == "mesh"


@pytest.mark.parametrize("name", ["sam2_image", "sam2_video", "sam2_onnx"])
def test_a_named_network_without_files_says_what_to_get_where(tmp_path, name):
    with pytest.raises(MissingFile, match=rf"{name} needs .* in .*sam2.*; get them from .*Apache-2\.0"):
        open_masks(replace(SETTINGS, provider=name), place=NetworkPlace(tmp_path))


def test_files_are_reported_and_unknown_names_refused(tmp_path):
    (tmp_path / "sam2").mkdir()
    (tmp_path / "sam2" / "sam2.1_hiera_small.pt").touch()
    lines = report(FILES, tmp_path, accepted=False)
    assert [line.split(";")[0] for line in lines] == ["sam2_image: found", "sam2_video: missing", "sam2_onnx: missing"]
    with pytest.raises(ConfigError, match="no mask named"):
        open_masks(SimpleNamespace(provider="kinect"), place=NetworkPlace(tmp_path))


def test_importing_masks_brings_no_network_library():
    code = "import sys, hsr_core.mask; print([m for m in ('torch', 'sam2', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_landmark_provider_asks_for_a_crop_of_the_body_it_is_given():
    rois = []

    class Network:
        def run(self, frame, roi):
            rois.append(roi)
            return SimpleNamespace(score=0.9, mask=np.ones((256, 256), np.float32))

    scene = two()
    provider = LandmarkMask(Network())
    for body in scene.bodies:
        provider.prob_for(scene, body)
    assert rois[0].center[0] < 160 < rois[1].center[0]
