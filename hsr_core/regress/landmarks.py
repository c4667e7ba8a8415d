"""The open regressor: MediaPipe's landmark networks, then a fast fit of the body model.

Per frame, for one person: find or follow the person, body landmarks, hand and face landmarks on crops that the body
gives, then rotations by `fit_body`, `fit_hand` and `fit_face`. Parts that are not seen stay at rest and are marked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..body.joints import LEFT_HAND, N_JOINTS, RIGHT_HAND, J
from ..config import Settings
from ..geometry.camera import undistort_points
from ..geometry.rotations import rotation_between, rotmat_to_rotvec
from ..types import Array, Camera, Frame, HumanParams, MetricSource, Part, Regression
from .crop import Roi
from .face_network import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, FaceLandmarks, FaceNetwork
from .face_network import roi_from_pose as face_roi_from_pose
from .fit_body import LANDMARKS, BodyFitter, BodyObservation
from .fit_face import FaceFit, FaceFitter
from .fit_hand import HandFitter
from .hand_network import HandLandmarks, HandNetwork
from .kinematics import forward
from .person_detector import PersonDetector
from .pose_network import NAMES, L, PoseLandmarks, PoseNetwork

_HAND_MIN, _FACE_MIN = 0.5, 0.5
"""Scores under which a hand or a face counts as not seen."""
_FACE_MIN_PX = 28
"""Narrower faces hold no expression."""
_REDETECT_S = 0.5
_LARGER = 1.5
"""A person who is this much larger than the one followed takes over."""
_TURN_S = 0.2
"""Within this time nobody turns by more than 90 degrees: the landmarks have left and right confused."""
_FLIP_BELIEVED_S = 1.5
"""When the landmarks insist for so long, the fit was wrong and starts afresh."""
_GAP_S = 0.5
_HEIGHT_SIGMA = 0.05
"""Relative deviation of the distance when the height is assumed: that of adults' statures."""
_REFIT_ERROR = 2.5
"""Median landmark error, in deviations, over which the warm start is given up."""

_MIRROR = np.array(
    [
        NAMES.index(
            name.replace("left", "right")
            if "left" in name
            else name.replace("right", "left")
            if "right" in name
            else name
        )
        for name in NAMES
    ]
)
_TORSO = np.array([L["left_shoulder"], L["right_shoulder"], L["left_hip"], L["right_hip"]])
_SIDES = ("left", "right")
_FACE_POINTS = {"nose": [1], "left_eye": list(LEFT_EYE_CORNERS), "right_eye": list(RIGHT_EYE_CORNERS)}
"""Body landmarks that the face network places better, and its points for them."""


@dataclass
class _Person:
    """What is remembered of the person followed."""

    roi: Roi
    stamp_ns: int
    detected_ns: int
    local: Array | None = None
    transl: Array | None = None
    flipped_s: float = 0.0
    hands: dict[str, Roi | None] = field(default_factory=lambda: {"left": None, "right": None})
    face: Roi | None = None


@dataclass(frozen=True, eq=False)
class _Parts:
    """Networks' answers for one frame; None = not seen."""

    pose: PoseLandmarks
    hands: dict[str, HandLandmarks | None]
    face: FaceLandmarks | None


class LandmarkRegressor:
    """See the module. One person: the largest."""

    name = "landmarks"

    def __init__(self, settings: Settings, body: Any) -> None:
        self.stage_ms: dict[str, float] = {}
        self._settings, self._body = settings, body
        self._detector, self._pose = PersonDetector(), PoseNetwork()
        self._hands = {side: HandNetwork(threads=1) for side in _SIDES}
        self._face = FaceNetwork(threads=1)
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="landmarks")
        self._fit_body = BodyFitter()
        self._fit_hand = {side: HandFitter(side) for side in _SIDES}
        self._fit_face = FaceFitter(body, self._face)
        self._person: _Person | None = None
        self._set_shape(settings.subject.height_m)

    def configure(self, settings: Settings) -> None:
        if settings.subject.height_m != self._settings.subject.height_m:
            self._set_shape(settings.subject.height_m)
        self._settings = settings

    def reset(self) -> None:
        self._person = None
        self._fit_face.reset()

    def close(self) -> None:
        self._workers.shutdown(wait=True)

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        self.stage_ms = {}
        parts = self._observe(frame)
        if parts is None:
            self._person = None
            return []
        with self._timed("fit"):
            return [self._fit(frame, camera, parts)]

    # Seeing

    def _observe(self, frame: Frame) -> _Parts | None:
        """Follow or find the person and run all networks; None when there is nobody."""
        with self._timed("detect"):
            self._follow(frame)
        with self._timed("pose"):
            pose = self._run_pose(frame)
            if pose is None and self._person is not None:  # lost: look again in this same frame
                self._person = None
                self._follow(frame)
                pose = self._run_pose(frame)
        if pose is None:
            return None
        self._person.roi = pose.next_roi
        with self._timed("hands_face"):
            right = self._workers.submit(self._run_hand, frame, pose, "right")
            left, face = self._run_hand(frame, pose, "left"), self._run_face(frame, pose)
            return _Parts(pose, {"left": left, "right": right.result()}, face)

    def _follow(self, frame: Frame) -> None:
        """Set `_person`: whoever is followed, or the largest person found."""
        person = self._person
        if person is not None and not -1 < frame.stamp_ns - person.stamp_ns < _GAP_S * 1e9:
            person = None
        if person is not None and frame.stamp_ns - person.detected_ns < _REDETECT_S * 1e9:
            return
        found = self._detector.detect(frame)
        if person is not None:
            person.detected_ns = frame.stamp_ns
            if not found or not _replaces(found[0].roi, person.roi):
                return
        if person is not self._person or found:
            self._fit_face.reset()
        self._person = _Person(found[0].roi, frame.stamp_ns, frame.stamp_ns) if found else None

    def _run_pose(self, frame: Frame) -> PoseLandmarks | None:
        if self._person is None or not self._person.roi.usable(frame.image_hw):
            return None
        pose = self._pose.run(frame, self._person.roi)
        if pose.score < max(self._settings.people.min_score, 0.05):
            return None
        x0, y0, x1, y1 = _box(pose, frame.image_hw)
        return pose if max(y1 - y0, x1 - x0) >= self._settings.people.min_height_px else None

    def _run_hand(self, frame: Frame, pose: PoseLandmarks, side: str) -> HandLandmarks | None:
        network, rois = self._hands[side], self._person.hands
        wrist = L[f"{side}_wrist"]
        roi, rois[side] = rois[side], None
        if pose.presence[wrist] < 0.5:
            return None
        if roi is None or not _near(roi, pose.uv[wrist]):
            roi = network.find(frame, pose, side)
        if roi is None or not roi.usable(frame.image_hw):
            return None
        hand = network.run(frame, roi)
        if hand.score < _HAND_MIN or not _near(hand.next_roi, pose.uv[wrist]):
            return None
        rois[side] = hand.next_roi
        return hand

    def _run_face(self, frame: Frame, pose: PoseLandmarks) -> FaceLandmarks | None:
        roi, self._person.face = self._person.face, None
        if pose.presence[L["nose"]] < 0.5:
            return None
        if roi is None or not _near(roi, pose.uv[L["nose"]]):
            roi = face_roi_from_pose(pose)
        if not roi.usable(frame.image_hw):
            return None
        face = self._face.run(frame, roi)
        width = np.ptp(face.points[:, 0])
        if face.score < _FACE_MIN or width < _FACE_MIN_PX or not _near(face.next_roi, pose.uv[L["nose"]]):
            return None
        self._person.face = face.next_roi
        return face

    # Fitting

    def _fit(self, frame: Frame, camera: Camera, parts: _Parts) -> Regression:
        person, pose = self._person, parts.pose
        uv = self._rectify(pose.uv, camera)
        R_ray = _ray_rotation(uv[_TORSO].mean(0), camera.K)
        uv, world, weight = uv.copy(), pose.world @ R_ray.T, _weights(pose, frame.image_hw)
        dt = (frame.stamp_ns - person.stamp_ns) / 1e9
        if self._flipped(world, dt):
            uv, world, weight = uv[_MIRROR], world[_MIRROR], weight[_MIRROR]
            parts = replace(parts, hands={"left": parts.hands["right"], "right": parts.hands["left"]})
        hands = {}
        for side, hand in parts.hands.items():
            if hand is not None:
                hands[side] = hand.world @ _ray_rotation(hand.uv[0], camera.K).T
                self._place_hand(uv, world, weight, hand, hands[side], side, camera)
        face = self._face_fit(parts.face, camera)
        if face is not None:
            self._place_face(uv, weight, parts.face, camera)
        head = None if face is None else face.head_rotation
        seen = BodyObservation(uv, world, weight, _size(uv, weight), camera.K, head_rotation=head)
        fit = self._solve(seen, dt)
        person.local, person.transl, person.stamp_ns = fit.local, fit.transl, frame.stamp_ns
        return self._regression(frame, parts, fit, hands, face, weight)

    def _flipped(self, world: Array, dt: float) -> bool:
        """True when left and right are confused: the body faces the other way within one frame."""
        person = self._person
        if person.local is None or dt > _TURN_S:
            return False
        if _facing(world) @ person.local[0][:, 2] > 0:
            person.flipped_s = max(0.0, person.flipped_s - 2 * dt)
            return False
        person.flipped_s += dt
        if person.flipped_s > _FLIP_BELIEVED_S:
            person.local, person.flipped_s = None, 0.0
            return False
        return True

    def _place_hand(
        self, uv: Array, world: Array, weight: Array, hand: HandLandmarks, turned: Array, side: str, camera: Camera
    ) -> None:
        """Let the hand network's palm replace the body network's coarse hand points, in place."""
        points = self._rectify(hand.uv, camera)
        for name, index in (("index", 5), ("pinky", 17), ("thumb", 2)):
            i = L[f"{side}_{name}"]
            uv[i] = points[index]
            world[i] = world[L[f"{side}_wrist"]] + turned[index] - turned[0]
            weight[i] = hand.score

    def _place_face(self, uv: Array, weight: Array, face: FaceLandmarks, camera: Camera) -> None:
        """Let the face network's nose and eyes replace the body network's, in place."""
        points = self._rectify(face.points[:, :2], camera)
        for name, indices in _FACE_POINTS.items():
            uv[L[name]] = points[indices].mean(0)
            weight[L[name]] = face.score

    def _rectify(self, uv: Array, camera: Camera) -> Array:
        return undistort_points(uv, camera) if self._settings.camera.rectify else uv

    def _face_fit(self, face: FaceLandmarks | None, camera: Camera) -> FaceFit | None:
        if face is None:
            return None
        return self._fit_face.fit(face, _ray_rotation(face.points[1, :2], camera.K))

    def _solve(self, seen: BodyObservation, dt: float):
        """Fit from the last pose; afresh on the first frame or when the last pose does not explain what is seen."""
        person = self._person
        if person.local is not None:
            fit = self._fit_body.fit(seen, person.local, person.transl, last=person.local, dt_s=dt)
            used = seen.weight[LANDMARKS] > 0.3
            if not used.any() or np.median(fit.reprojection[used]) < _REFIT_ERROR:
                return fit
        fresh = self._fit_body.fit(seen, *self._fit_body.start(seen), steps=30)
        return fresh if person.local is None or fresh.cost < fit.cost else fit

    def _regression(self, frame, parts, fit, hands, face, weight) -> Regression:
        rotations, _ = forward(fit.local, self._rest_joints, fit.transl)
        fingers = {
            side: self._fit_hand[side].fingers(hands[side], rotations[J[f"{side}_wrist"]])
            if side in hands
            else np.zeros((15, 3))
            for side in _SIDES
        }
        body = self._body
        params = HumanParams(
            global_orient=rotmat_to_rotvec(fit.local[0]).astype(np.float32),
            transl=fit.transl.astype(np.float32),
            body_pose=rotmat_to_rotvec(fit.local[1:22]).astype(np.float32),
            left_hand_pose=fingers["left"].astype(np.float32),
            right_hand_pose=fingers["right"].astype(np.float32),
            betas=self._betas,
            expression=np.zeros(body.n_expression, np.float32),
            head_betas=self._head_betas,
            head_expression=np.zeros(body.n_head_expression, np.float32),
        )
        if face is not None:
            params = replace(
                params,
                jaw_pose=face.jaw_pose.astype(np.float32),
                leye_pose=face.leye_pose.astype(np.float32),
                reye_pose=face.reye_pose.astype(np.float32),
                eyelids=face.eyelids.astype(np.float32),
                head_expression=face.expression.astype(np.float32),
            )
        hand_score = {side: 0.0 if hand is None else hand.score for side, hand in parts.hands.items()}
        face_score = 0.0 if face is None else parts.face.score
        pose = parts.pose
        return Regression(
            params=params,
            bbox_xyxy=_box(pose, frame.image_hw),
            score=pose.score,
            joint_score=_joint_score(weight, hand_score, face_score),
            part_score=np.array([pose.score, hand_score["left"], hand_score["right"], face_score], np.float32),
            parts=_parts_seen(weight, parts, face),
            metric_source=MetricSource.ASSUMED_HEIGHT,
            depth_sigma_m=_HEIGHT_SIGMA * float(fit.transl[2]),
            mask=pose.mask,
            mask_A_crop_img=pose.roi.transform(pose.mask.shape[0]),
        )

    def _set_shape(self, height_m: float) -> None:
        """Take the person's height: betas, rest joints and surface points for all fits."""
        body = self._body
        self._betas = np.asarray(body.betas_for_height(height_m), np.float32)
        self._head_betas = np.zeros(body.n_head_betas, np.float32)
        n = min(len(self._betas), body.n_head_betas)
        if body.family == "OPEN":  # the open head's components are the body's own
            self._head_betas[:n] = self._betas[:n]
        shaped = HumanParams(
            betas=self._betas,
            head_betas=self._head_betas,
            expression=np.zeros(body.n_expression, np.float32),
            head_expression=np.zeros(body.n_head_expression, np.float32),
        )
        vertices, joints = body.rest(shaped)
        surface = {name: vertices[i] for name, i in body.surface_points.items()}
        self._rest_joints = joints.astype(np.float64)
        for fitter in (self._fit_body, *self._fit_hand.values()):
            fitter.set_body(joints, surface)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_ms[stage] = (time.perf_counter() - start) * 1e3


def create(settings: Settings, body: Any) -> LandmarkRegressor:
    """Factory for the registry."""
    return LandmarkRegressor(settings, body)


def _ray_rotation(uv: Array, K: Array) -> Array:
    """Return the smallest rotation from the optical axis to the ray through a pixel.

    The networks see a crop as if it lay in the middle of the picture, so their directions are relative to its ray.
    """
    y = (uv[1] - K[1, 2]) / K[1, 1]
    x = (uv[0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return rotation_between(np.array([0.0, 0, 1]), np.array([x, y, 1.0]))


def _facing(world: Array) -> Array:
    """Return the direction the trunk faces, from hips and shoulders."""
    ls, rs, lh, rh = world[_TORSO]
    forward_ = np.cross(ls - rs + lh - rh, ls + rs - lh - rh)
    return forward_ / max(np.linalg.norm(forward_), 1e-9)


def _weights(pose: PoseLandmarks, image_hw: tuple[int, int]) -> Array:
    """Return how much each landmark counts, (33,) in [0, 1]: seen, in the crop, and inside the image."""
    height, width = image_hw
    inside = (pose.uv >= 0).all(1) & (pose.uv[:, 0] < width) & (pose.uv[:, 1] < height)
    return np.where(inside & (pose.presence > 0.5), np.clip(pose.visibility, 0.05, 1.0), 0.0)


def _size(uv: Array, weight: Array) -> float:
    """Return the size of what is seen of the person [px]."""
    seen = uv[weight > 0]
    return float(np.ptp(seen, axis=0).max()) if len(seen) > 1 else 1.0


def _box(pose: PoseLandmarks, image_hw: tuple[int, int]) -> Array:
    """Return the person's box (4,) [px], cut at the image: the landmarks' box and a margin for head top and skin."""
    height, width = image_hw
    seen = pose.uv[pose.presence > 0.5] if (pose.presence > 0.5).sum() > 3 else pose.uv
    low, high = seen.min(0), seen.max(0)
    margin = 0.06 * (high - low).max()
    box = [low[0] - margin, low[1] - 1.5 * margin, high[0] + margin, high[1] + margin]
    return np.clip(box, 0, [width, height, width, height]).astype(np.float32)


def _near(roi: Roi, uv: Array) -> bool:
    """True when the point lies within the square's circle."""
    return bool(np.hypot(uv[0] - roi.center[0], uv[1] - roi.center[1]) < 0.75 * roi.size_px)


def _replaces(new: Roi, old: Roi) -> bool:
    """True when a detection is another, clearly larger person than the one followed."""
    apart = np.hypot(new.center[0] - old.center[0], new.center[1] - old.center[1])
    return apart > 0.5 * old.size_px and new.size_px > _LARGER * old.size_px


_BODY_SOURCES: dict[str, tuple[str, ...]] = {
    "pelvis": ("left_hip", "right_hip"),
    "spine1": ("left_hip", "right_hip"),
    "spine2": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "spine3": ("left_shoulder", "right_shoulder"),
    "neck": ("left_shoulder", "right_shoulder"),
    "head": ("nose", "left_ear", "right_ear"),
    **{f"{s}_collar": (f"{s}_shoulder",) for s in _SIDES},
    **{f"{s}_foot": (f"{s}_foot_index",) for s in _SIDES},
    **{f"{s}_{j}": (f"{s}_{j}",) for s in _SIDES for j in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")},
}
_BODY_SOURCE_INDEX = {J[name]: [L[source] for source in sources] for name, sources in _BODY_SOURCES.items()}


def _joint_score(weight: Array, hand_score: dict[str, float], face_score: float) -> Array:
    """Return (55,) scores: a joint is observed as well as the landmarks it comes from."""
    score = np.zeros(N_JOINTS, np.float32)
    for joint, sources in _BODY_SOURCE_INDEX.items():
        score[joint] = weight[sources].mean()
    score[22:25] = face_score
    score[LEFT_HAND], score[RIGHT_HAND] = hand_score["left"], hand_score["right"]
    return score


def _parts_seen(weight: Array, parts: _Parts, face: FaceFit | None) -> Part:
    seen = Part.BODY if (weight > 0.3).sum() >= 4 else Part.NONE
    for side, part in (("left", Part.LEFT_HAND), ("right", Part.RIGHT_HAND)):
        if parts.hands[side] is not None:
            seen |= part
    return seen | Part.FACE if face is not None else seen
