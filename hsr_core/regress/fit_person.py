"""Fit the body model to one person's landmarks: pose, hands, face and proportions, remembered from frame to frame."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..body.joints import LEFT_HAND, N_JOINTS, RIGHT_HAND, J
from ..config import Settings
from ..geometry.camera import ray_rotation, undistort_points
from ..geometry.rotations import rotmat_to_rotvec
from ..types import Array, Camera, Frame, HumanParams, MetricSource, Part, Regression
from .face_landmarks import face_landmarks
from .face_network import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, FaceLandmarks, FaceNetwork
from .fit_body import LANDMARKS, BodyFit, BodyFitter, BodyObservation
from .fit_face import FaceFit, FaceFitter
from .fit_hand import HandFitter
from .follow import SIDES
from .hand_network import HandLandmarks
from .kinematics import forward
from .observe import Observation, person_box
from .pose_network import NAMES, L, PoseLandmarks
from .shape import ShapeEstimator

_TURN_S = 0.2
"""Within this time nobody turns by more than 90 degrees: the landmarks have left and right confused."""
_DOUBT_S = (0.5, 1.5)
"""When the landmarks insist for as long as they agreed before, within these bounds, the fit starts afresh."""
_HEIGHT_SIGMA = 0.05
"""Relative deviation of the distance when the height is assumed: that of adults' statures."""
_REFIT_ERROR = 2.5
"""Median landmark error, in deviations, over which the warm start is given up."""

_OTHER_SIDE = {"left": "right", "right": "left"}
_MIRROR = np.array([NAMES.index("_".join(_OTHER_SIDE.get(word, word) for word in name.split("_"))) for name in NAMES])
"""For each landmark the one on the other side."""
_TORSO = np.array([L["left_shoulder"], L["right_shoulder"], L["left_hip"], L["right_hip"]])
_LIMBS = np.array([L[f"{s}_{n}"] for s in SIDES for n in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")])
_FACE_POINTS = {"nose": [1], "left_eye": list(LEFT_EYE_CORNERS), "right_eye": list(RIGHT_EYE_CORNERS)}
"""Body landmarks that the face network places better, and its points for them."""


@dataclass
class _Pose:
    """The last pose; `local` is None when there is none to start from."""

    local: Array | None = None
    transl: Array | None = None
    stamp_ns: int = 0
    agreed_s: float = 0.0
    flipped_s: float = 0.0


class PersonFitters:
    """What the fits of all people share, made once: the body, how its skeleton changes, where the face's points are."""

    def __init__(self, body: Any, face_network: FaceNetwork) -> None:
        self.body = body
        self.face = FaceFitter(body, face_network)
        self.bones = BodyFitter()
        joints, surface = self.rest(np.zeros(body.n_betas, np.float32))
        moved = [self.rest(unit) for unit in np.eye(body.n_betas, dtype=np.float32)]
        self.bones.set_shape_basis(  # exactly linear
            np.stack([m[0] - joints for m in moved], -1),
            {name: np.stack([m[1][name] - place for m in moved], -1) for name, place in surface.items()},
        )

    def rest(self, betas: Array) -> tuple[Array, dict[str, Array]]:
        """Return rest joints (55, 3) and surface points by name for a shape, float64 [m]."""
        body = self.body
        shaped = HumanParams(
            betas=betas,
            head_betas=body.head_betas_for(betas),
            expression=np.zeros(body.n_expression, np.float32),
            head_expression=np.zeros(body.n_head_expression, np.float32),
        )
        vertices, joints = body.rest(shaped)
        return joints.astype(np.float64), {n: vertices[i].astype(np.float64) for n, i in body.surface_points.items()}


class PersonFit:
    """One person's pose, face and shape.

    Args:
        shared: Of all people.
        settings: For the height and the camera.

    Attributes:
        local: Joint rotations of the last frame (55, 3, 3) relative to their parents, or None.
    """

    def __init__(self, shared: PersonFitters, settings: Settings) -> None:
        self._shared, self._body, self._settings = shared, shared.body, settings
        self._fit_body, self._fit_face = copy.copy(shared.bones), copy.copy(shared.face)
        self._fit_face.reset()
        self._fit_hand = {side: HandFitter(side) for side in SIDES}
        self._shape = ShapeEstimator(shared.body.n_betas)
        self._pose = _Pose()
        self._fingers = {side: np.zeros((15, 3)) for side in SIDES}
        self._face: FaceFit | None = None
        self._set_shape(settings.subject.height_m)

    @property
    def local(self) -> Array | None:
        return self._pose.local

    def configure(self, settings: Settings) -> None:
        """Take live settings; another height keeps the person's proportions."""
        height_m, self._settings = self._settings.subject.height_m, settings
        if settings.subject.height_m != height_m:
            self.set_height(settings.subject.height_m)

    def set_height(self, height_m: float) -> None:
        """Take another stature [m] for this person."""
        if height_m != self._height_m:
            self._set_shape(height_m, self._betas.astype(np.float64))

    def lose(self) -> None:
        """The person was not seen: the next fit starts afresh."""
        self._pose.local = None

    def fit(self, frame: Frame, camera: Camera, parts: Observation) -> Regression:
        """Return the person of this frame."""
        seen = self._straightened(parts, camera)
        uv = seen.pose.uv.copy()
        R_ray = ray_rotation(uv[_TORSO].mean(0), camera.K)
        world, weight = seen.pose.world @ R_ray.T, _weights(parts.pose, frame.image_hw)
        dt = (frame.stamp_ns - self._pose.stamp_ns) / 1e9
        if self._flipped(world, dt):
            uv, world, weight = uv[_MIRROR], world[_MIRROR], weight[_MIRROR]
            seen = replace(seen, hands={"left": seen.hands["right"], "right": seen.hands["left"]})
        if not seen.detailed:
            self._hold_wrists(weight)
        hands = {}
        for side, hand in seen.hands.items():
            if hand is not None:
                hands[side] = hand.world @ ray_rotation(hand.uv[0], camera.K).T
                _place_hand(uv, world, weight, hand, hands[side], side)
        face = None
        if seen.face is not None:
            face = self._fit_face.fit(seen.face, ray_rotation(seen.face.points[1, :2], camera.K))
        if face is not None:
            _place_face(uv, weight, seen.face)
        head = None if face is None else face.head_rotation
        wanted = BodyObservation(uv, world, weight, _size(uv, weight), camera.K, head_rotation=head)
        fit = self._solve(wanted, dt)
        last = self._pose
        last.local, last.transl, last.stamp_ns = fit.local, fit.transl, frame.stamp_ns
        self._learn_shape(wanted, fit)
        return self._regression(frame, parts, seen, fit, hands, face, weight)

    def _straightened(self, parts: Observation, camera: Camera) -> Observation:
        """Return the landmarks where they would lie without the lens' distortion, under the same K."""
        if not (camera.distorted and self._settings.camera.rectify):
            return parts
        pose, hands, face = parts.pose, parts.hands, parts.face
        pose = replace(pose, uv=undistort_points(pose.uv, camera))
        hands = {side: hand and replace(hand, uv=undistort_points(hand.uv, camera)) for side, hand in hands.items()}
        if face is not None:
            points = np.column_stack([undistort_points(face.points[:, :2], camera), face.points[:, 2]])
            left, right = (replace(e, iris=undistort_points(e.iris, camera)) for e in (face.left_eye, face.right_eye))
            face = replace(face, points=points, left_eye=left, right_eye=right)
        return replace(parts, pose=pose, hands=hands, face=face)

    def _flipped(self, world: Array, dt: float) -> bool:
        """True when left and right are confused: the body faces the other way within one frame."""
        last = self._pose
        if last.local is None or dt > _TURN_S:
            return False
        if _facing(world) @ last.local[0][:, 2] > 0:
            last.flipped_s = max(0.0, last.flipped_s - 2 * dt)
            last.agreed_s += dt
            return False
        last.flipped_s += dt
        if last.flipped_s > np.clip(last.agreed_s, *_DOUBT_S):
            self._pose = _Pose(stamp_ns=last.stamp_ns)
            return False
        return True

    def _hold_wrists(self, weight: Array) -> None:
        """Let hands that are seen only now and then not be turned by the body's coarse points between, in place."""
        for side in SIDES:
            if self._fingers[side].any():
                weight[[L[f"{side}_{name}"] for name in ("index", "pinky", "thumb")]] = 0

    def _solve(self, seen: BodyObservation, dt: float) -> BodyFit:
        """Fit from the last pose; afresh on the first frame or when the last pose does not explain what is seen."""
        last = self._pose
        if last.local is not None:
            fit = self._fit_body.fit(seen, last.local, last.transl, last=last.local, dt_s=dt)
            used = seen.weight[LANDMARKS] > 0.3
            if not used.any() or np.median(fit.reprojection[used]) < _REFIT_ERROR:
                return fit
        fresh = self._fit_body.fit(seen, *self._fit_body.start(seen), steps=30)
        return fresh if last.local is None or fresh.cost < fit.cost else fit

    def _regression(
        self,
        frame: Frame,
        as_came: Observation,
        parts: Observation,
        fit: BodyFit,
        hands: dict[str, Array],
        face: FaceFit | None,
        weight: Array,
    ) -> Regression:
        """Return the answer; `parts` are straightened."""
        pose = as_came.pose
        rotations, _ = forward(fit.local, self._rest_joints, fit.transl)
        if parts.detailed:
            self._face = face
            self._fingers = {
                side: self._fit_hand[side].fingers(hands[side], rotations[J[f"{side}_wrist"]])
                if side in hands
                else np.zeros((15, 3))
                for side in SIDES
            }
        fingers, shown, body = self._fingers, self._face, self._body
        params = HumanParams(
            global_orient=rotmat_to_rotvec(fit.local[0]).astype(np.float32),
            transl=fit.transl.astype(np.float32),
            body_pose=rotmat_to_rotvec(fit.local[1:22]).astype(np.float32),
            left_hand_pose=fingers["left"].astype(np.float32),
            right_hand_pose=fingers["right"].astype(np.float32),
            betas=self._betas,
            expression=np.zeros(body.n_expression, np.float32),
            head_betas=body.head_betas_for(self._betas),
            head_expression=np.zeros(body.n_head_expression, np.float32),
        )
        if shown is not None:
            params = replace(
                params,
                jaw_pose=shown.jaw_pose.astype(np.float32),
                leye_pose=shown.leye_pose.astype(np.float32),
                reye_pose=shown.reye_pose.astype(np.float32),
                eyelids=shown.eyelids.astype(np.float32),
                head_expression=shown.expression.astype(np.float32),
            )
        hand_score = {side: 0.0 if hand is None else hand.score for side, hand in parts.hands.items()}
        face_score = 0.0 if face is None else parts.face.score
        return Regression(
            params=params,
            bbox_xyxy=person_box(pose, frame.image_hw),
            score=pose.score,
            joint_score=_joint_score(weight, hand_score, face_score),
            part_score=np.array([pose.score, hand_score["left"], hand_score["right"], face_score], np.float32),
            parts=_parts_seen(weight, parts, face),
            metric_source=MetricSource.ASSUMED_HEIGHT,
            depth_sigma_m=_HEIGHT_SIGMA * float(fit.transl[2]),
            mask=pose.mask,
            mask_A_crop_img=pose.roi.transform(pose.mask.shape[0]),
            appearance=pose.appearance,
            face_landmarks=None if face is None else face_landmarks(as_came.face),
        )

    def _learn_shape(self, seen: BodyObservation, fit: BodyFit) -> None:
        """Use the first frames that show the whole body for its proportions; they count from the next frame on."""
        if self._shape.done or (seen.weight[_LIMBS] < 0.5).any():
            return
        betas = self._shape.add(self._fit_body.shape_system(seen, fit), self._betas.astype(np.float64))
        if betas is not None:
            self._set_shape(self._height_m, betas)

    def _set_shape(self, height_m: float, betas: Array | None = None) -> None:
        """Take a stature [m] and proportions: betas, rest joints and surface points for all fits."""
        self._height_m = height_m
        self._betas = np.asarray(self._body.betas_for_height(height_m, betas), np.float32)
        self._rest_joints, surface = self._shared.rest(self._betas)
        for fitter in (self._fit_body, *self._fit_hand.values()):
            fitter.set_body(self._rest_joints, surface)


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


def _place_hand(uv: Array, world: Array, weight: Array, hand: HandLandmarks, turned: Array, side: str) -> None:
    """Let the hand network's palm replace the body network's coarse hand points, in place."""
    for name, index in (("index", 5), ("pinky", 17), ("thumb", 2)):
        i = L[f"{side}_{name}"]
        uv[i] = hand.uv[index]
        world[i] = world[L[f"{side}_wrist"]] + turned[index] - turned[0]
        weight[i] = hand.score


def _place_face(uv: Array, weight: Array, face: FaceLandmarks) -> None:
    """Let the face network's nose and eyes replace the body network's, in place."""
    for name, indices in _FACE_POINTS.items():
        uv[L[name]] = face.points[indices, :2].mean(0)
        weight[L[name]] = face.score


def _size(uv: Array, weight: Array) -> float:
    """Return the size of what is seen of the person [px]."""
    seen = uv[weight > 0]
    return float(np.ptp(seen, axis=0).max()) if len(seen) > 1 else 1.0


_BODY_SOURCES: dict[str, tuple[str, ...]] = {
    "pelvis": ("left_hip", "right_hip"),
    "spine1": ("left_hip", "right_hip"),
    "spine2": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "spine3": ("left_shoulder", "right_shoulder"),
    "neck": ("left_shoulder", "right_shoulder"),
    "head": ("nose", "left_ear", "right_ear"),
    **{f"{s}_collar": (f"{s}_shoulder",) for s in SIDES},
    **{f"{s}_foot": (f"{s}_foot_index",) for s in SIDES},
    **{f"{s}_{j}": (f"{s}_{j}",) for s in SIDES for j in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")},
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


def _parts_seen(weight: Array, parts: Observation, face: FaceFit | None) -> Part:
    seen = Part.BODY if (weight > 0.3).sum() >= 4 else Part.NONE
    for side, part in (("left", Part.LEFT_HAND), ("right", Part.RIGHT_HAND)):
        if parts.hands[side] is not None:
            seen |= part
    return seen | Part.FACE if face is not None else seen
