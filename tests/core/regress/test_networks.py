"""Our crops and decoding of the landmark networks against MediaPipe's own graphs on real pictures."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from hsr_core.regress.crop import Roi, crop_rgb, to_image
from hsr_core.regress.face_network import FaceNetwork
from hsr_core.regress.hand_network import HandNetwork
from hsr_core.regress.person_detector import PersonDetector, anchors
from hsr_core.regress.pose_network import L, PoseNetwork
from hsr_core.sources import open_source
from hsr_core.types import Frame

DATA = Path(__file__).parents[2] / "data"
CLIP = Path(__file__).parents[3] / "hsr_core" / "data" / "walking.mp4"

# MediaPipe's Python API takes seconds to import and keeps threads: a process of its own.
ORACLE = """
import sys
import cv2
import numpy as np
import mediapipe as mp

rgb = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB)
height, width = rgb.shape[:2]
size = np.array([width, height])
out = {}
pose = mp.solutions.pose.Pose(static_image_mode=True, model_complexity=1).process(rgb)
if pose.pose_landmarks:
    out["uv"] = np.array([(p.x, p.y) for p in pose.pose_landmarks.landmark]) * size
    out["world"] = np.array([(p.x, p.y, p.z) for p in pose.pose_world_landmarks.landmark])
    out["visibility"] = np.array([p.visibility for p in pose.pose_landmarks.landmark])
face = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=False).process(rgb)
if face.multi_face_landmarks:
    out["face"] = np.array([(p.x, p.y) for p in face.multi_face_landmarks[0].landmark]) * size
hands = mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=0.2).process(rgb)
for i, hand in enumerate(hands.multi_hand_landmarks or []):
    out[f"hand{i}"] = np.array([(p.x, p.y) for p in hand.landmark]) * size
np.savez(sys.argv[2], **out)
"""


def oracle(image, tmp_path):
    """What MediaPipe's own graphs say of a BGR picture."""
    picture, out = tmp_path / "picture.png", tmp_path / "oracle.npz"
    cv2.imwrite(str(picture), image)
    subprocess.run([sys.executable, "-c", ORACLE, str(picture), str(out)], check=True, capture_output=True)
    with np.load(out, allow_pickle=False) as data:
        return dict(data)


@pytest.fixture(scope="module")
def walker():
    """A frame of the walking clip."""
    with open_source(str(CLIP)) as source:
        return next(frame for frame in source if frame.index == 40)


@pytest.fixture(scope="module")
def portrait():
    return Frame(cv2.imread(str(DATA / "portrait.jpg")), 0)


def test_anchors_are_the_grids_of_the_detector():
    grid = anchors()
    assert grid.shape == (2254, 2)
    np.testing.assert_allclose(grid[0], 0.5 / 28)
    np.testing.assert_allclose(grid[2], [1.5 / 28, 0.5 / 28])
    np.testing.assert_allclose(grid[-1], 6.5 / 7)


def test_body_landmarks_agree_with_mediapipe(walker, tmp_path):
    expected = oracle(walker.image, tmp_path)
    found = PersonDetector().detect(walker)
    pose = PoseNetwork().run(walker, found[0].roi)
    height = np.ptp(expected["uv"][:, 1])
    # Both crops come from a coarse detector; one degree of crop rotation moves landmarks by 0.3 % of the height.
    assert np.median(np.linalg.norm(pose.uv - expected["uv"], axis=1)) < 0.01 * height
    assert np.median(np.linalg.norm(pose.world - expected["world"], axis=1)) < 0.03
    np.testing.assert_allclose(pose.visibility, expected["visibility"], atol=0.3)
    assert pose.score > 0.9


def test_face_landmarks_agree_with_mediapipe(portrait, tmp_path):
    expected = oracle(portrait.image, tmp_path)["face"]
    width = np.ptp(expected[:, 0])
    middle = tuple((expected.mean(0) + 0.5).tolist())
    network = FaceNetwork()
    face = network.run(portrait, Roi(middle, 1.6 * width))
    face = network.run(portrait, face.next_roi)
    assert face.score > 0.9
    assert np.median(np.linalg.norm(face.points[:, :2] - expected, axis=1)) < 0.02 * width
    for eye, corners in ((face.left_eye, (263, 362)), (face.right_eye, (33, 133))):
        middle = expected[list(corners)].mean(0)
        assert np.linalg.norm(eye.iris - middle) < 0.5 * np.linalg.norm(expected[corners[0]] - expected[corners[1]])
        assert 0.1 < eye.opening < 0.6


def test_hands_are_where_the_wrists_are(walker):
    pose = PoseNetwork().run(walker, PersonDetector().detect(walker)[0].roi)
    network = HandNetwork()
    seen = 0
    for side in ("left", "right"):
        roi = network.find(walker, pose, side)
        hand = network.run(walker, network.run(walker, roi).next_roi)
        seen += hand.score > 0.5
        assert np.linalg.norm(hand.uv[0] - pose.uv[L[f"{side}_wrist"]]) < roi.size_px / 3
    assert seen >= 1


def test_people_are_found_anywhere_and_largest_first(walker):
    """Two copies of the person, one of half the size beside it."""
    canvas = np.zeros((994, 1768, 3), np.uint8)
    person = walker.image
    box = PoseNetwork().run(walker, PersonDetector().detect(walker)[0].roi).uv
    x0, y0 = np.clip(box.min(0) - 60, 0, None).astype(int)
    x1, y1 = (box.max(0) + 60).astype(int)
    cut = person[y0:y1, x0:x1]
    canvas[100 : 100 + cut.shape[0], 100 : 100 + cut.shape[1]] = cut
    small = cv2.resize(cut, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    canvas[300 : 300 + small.shape[0], 1200 : 1200 + small.shape[1]] = small
    found = PersonDetector().detect(Frame(canvas, 0))
    assert found[0].roi.center[0] < 800
    assert all(a.roi.size_px >= b.roi.size_px for a, b in pairwise(found))


def test_nobody_in_noise():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    assert PersonDetector().detect(Frame(noise, 0)) == []


@pytest.mark.parametrize("order", ["bgr", "rgb", "bgra", "rgba", "mono", "strided"])
def test_crops_are_rgb_whatever_the_frame_is(order):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    grey = rgb[..., 0].copy()
    padded = np.zeros((60, 100, 3), np.uint8)
    padded[:, :80] = rgb
    alpha = np.full((60, 80, 1), 7, np.uint8)
    frame = {
        "bgr": Frame(rgb[..., ::-1].copy(), 0, order="bgr"),
        "rgb": Frame(rgb, 0, order="rgb"),
        "bgra": Frame(np.concatenate([rgb[..., ::-1], alpha], 2), 0, order="bgr"),
        "rgba": Frame(np.concatenate([rgb, alpha], 2), 0, order="rgb"),
        "mono": Frame(grey, 0, order="mono"),
        "strided": Frame(padded[:, :80], 0, order="rgb"),
    }[order]
    out = np.zeros((40, 40, 3), np.float32)
    crop_rgb(frame, Roi((30.0, 25.0), 40.0).transform(40), out, low=-1.0)
    expected = rgb[5:45, 10:50] / 127.5 - 1
    if order == "mono":
        expected = np.repeat(grey[5:45, 10:50, None], 3, 2) / 127.5 - 1
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_outside_the_image_is_black():
    out = np.ones((16, 16, 3), np.float32)
    crop_rgb(Frame(np.full((8, 8, 3), 255, np.uint8), 0), Roi((100.0, 100.0), 16.0).transform(16), out)
    assert not out.any()


def test_crop_points_come_back_to_the_image():
    roi = Roi((33.3, 71.2), 55.0, 0.7)
    uv = np.random.default_rng(0).uniform(0, 100, (20, 2))
    A = roi.transform(128)
    np.testing.assert_allclose(to_image(roi, uv @ A[:, :2].T + A[:, 2], 128), uv, atol=1e-9)
