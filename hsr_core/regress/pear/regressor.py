"""`regressor: pear`: a box, one pass of the network, and the person in metres."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...body.joints import LEFT_HAND, N_JOINTS, RIGHT_HAND, J
from ...config import Settings
from ...errors import MissingFile
from ...geometry.camera import apply_affine, invert_affine, ray_rotation, undistort_points
from ...geometry.rotations import rotmat_to_rotvec
from ...runtime.base import Runtime
from ...runtime.parity import ParityCheck
from ...runtime.select import open_runtime, this_machine
from ...types import Array, Camera, Frame, HumanParams, MetricSource, Part, Regression
from ..crop import cut_rgb
from . import PUBLISHED, WEIGHTS_VARIABLE, weights_path
from .boxes import BoxFinder, FollowedPerson, PersonBox, WholeFrame
from .camera import (
    DISTANCE_LIMITS_M,
    HEAD_SCALE_LIMITS,
    Crop,
    fit_translation,
    illegal,
    letterbox,
    pelvis_translation,
    person_crop,
    project_virtual,
    virtual_translation,
)
from .checkpoint import load_network
from .decode import Decoded
from .export import PARITY_TOLERANCE, SPEC, PearGraph, graph_hash, sample_crops
from .network import IMAGE_PX, SEEN_COLUMNS

N_BODY = 22
"""Pelvis and the 21 body joints: what the distance is fitted to."""
_SIGMA = {True: 0.06, False: 0.05}
"""Relative deviation of the distance: with the network's stature, with a given one (adults' own)."""

log = logging.getLogger("hsr")


class PearRegressor:
    """One person by PEAR. The protocol is `regress.base.Regressor`.

    With a licensed SMPL-X body every output of the network is used. The open body has other shape and expression
    components: it takes rotations, jaw, eyes and lids from the network and its stature from `subject.height_m`.

    Attributes:
        name, stage_ms: As the protocol says; stages: detect, crop, network, place.
    """

    name = "pear"

    def __init__(self, settings: Settings, body: Any) -> None:
        self.stage_ms: dict[str, float] = {}
        self._settings, self._body = settings, body
        self._runtime = _open_runtime(settings)
        self._runtime.warm_up()
        self._boxes: BoxFinder = WholeFrame() if settings.pear.boxes == "whole_frame" else FollowedPerson()
        self._own_betas = body.betas_for_height(settings.subject.height_m)
        self._said: set[str] = set()

    def configure(self, settings: Settings) -> None:
        """Take live settings."""
        if settings.subject.height_m != self._settings.subject.height_m:
            self._own_betas = self._body.betas_for_height(settings.subject.height_m)
        self._settings = settings

    def reset(self) -> None:
        """Forget where the person was; nothing else is remembered."""
        self._boxes.reset()

    def close(self) -> None:
        """Release the network's memory."""
        self._runtime.close()

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        """Return the person in the frame, or nobody."""
        self.stage_ms = {}
        with self._timed("detect"):
            box = self._boxes.find(frame, self._settings.people)
        crop = None if box is None else self._crop(box, frame.image_hw)
        if crop is None:
            return []
        with self._timed("crop"):
            pixels = cut_rgb(frame, crop.A_crop_img, IMAGE_PX)
        with self._timed("network"):
            decoded = self._run(pixels)
        reason = illegal(decoded.rotmats, decoded.camera, *decoded[1:-1])
        if reason:
            return self._nobody(reason)
        with self._timed("place"):
            return self._person(frame, camera, box, crop, decoded)

    def _crop(self, box: PersonBox, image_hw: tuple[int, int]) -> Crop | None:
        return letterbox(image_hw) if isinstance(self._boxes, WholeFrame) else person_crop(box.bbox_xyxy, image_hw)

    def _run(self, pixels: NDArray[np.uint8]) -> Decoded:
        """Return the network's answer for a crop (256, 256, 3), without the batch axis; valid until the next call."""
        answer = self._runtime({"pixels": pixels[None]})
        return Decoded(**{name: value[0] for name, value in answer.items()})

    def _person(self, frame: Frame, camera: Camera, box: PersonBox, crop: Crop, out: Decoded) -> list[Regression]:
        params = self._params(out)
        joints = self._body.pose_one(params, vertices=False).joints.astype(np.float64)
        t_virtual = virtual_translation(out.camera)
        uv_crop = project_virtual(joints, t_virtual)
        uv = apply_affine(invert_affine(crop.A_crop_img), uv_crop)
        straight = undistort_points(uv, camera) if self._settings.camera.rectify else uv
        rotmat = out.rotmats[0].astype(np.float64)
        if self._settings.pear.ray_rotation:
            R_ray = ray_rotation(straight[0], camera.K)
            joints = (joints - joints[0]) @ R_ray.T + joints[0]
            rotmat = R_ray @ rotmat
        transl = fit_translation(joints[:N_BODY], straight[:N_BODY], camera.K)
        if transl is None or (joints[:N_BODY] + transl)[:, 2].min() <= 0:
            transl = pelvis_translation(joints[0], straight[0], t_virtual, crop.scale, camera.K)
        distance = joints[0, 2] + transl[2]
        if not DISTANCE_LIMITS_M[0] <= distance <= DISTANCE_LIMITS_M[1]:
            return self._nobody(f"distance: {distance:.3g} m")
        placed = replace(params, global_orient=rotmat_to_rotvec(rotmat).astype(np.float32), transl=np.float32(transl))
        self._boxes.seen(uv, frame)
        score = self._joint_score(uv, uv_crop, frame.image_hw, box.score)
        return [
            Regression(
                params=placed,
                bbox_xyxy=box.bbox_xyxy,
                score=box.score,
                joint_score=score,
                part_score=np.array([score[part].mean() for part in _PARTS.values()], np.float32),
                parts=_parts(score),
                metric_source=MetricSource.ASSUMED_HEIGHT,
                depth_sigma_m=float(_SIGMA[self._own_stature] * distance),
            )
        ]

    @property
    def _own_stature(self) -> bool:
        return self._settings.pear.stature and self._body.family == "EHMS"

    def _params(self, out: Decoded) -> HumanParams:
        """Return the person in the virtual camera's axes, with `transl` zero."""
        body, rotvecs = self._body, rotmat_to_rotvec(out.rotmats.astype(np.float64)).astype(np.float32)
        pose = {
            "global_orient": rotvecs[0],
            "body_pose": rotvecs[1:22],
            "left_hand_pose": rotvecs[22:37],
            "right_hand_pose": rotvecs[37:52],
            "jaw_pose": out.jaw_pose.copy(),
            "leye_pose": out.eye_pose[0].copy(),
            "reye_pose": out.eye_pose[1].copy(),
            "eyelids": np.clip(out.eyelids, 0, 1),
        }
        if body.family != "EHMS":
            return HumanParams(
                **pose,
                betas=self._own_betas,
                expression=np.zeros(body.n_expression, np.float32),
                head_betas=body.head_betas_for(self._own_betas),
                head_expression=np.zeros(body.n_head_expression, np.float32),
            )
        low, high = HEAD_SCALE_LIMITS
        betas = _fit_length(out.betas, body.n_betas)
        if not self._own_stature:
            betas = body.betas_for_height(self._settings.subject.height_m, betas)
        return HumanParams(
            **pose,
            betas=betas,
            expression=_fit_length(out.expression, body.n_expression),
            head_betas=_fit_length(out.head_betas, body.n_head_betas),
            head_expression=_fit_length(out.head_expression, body.n_head_expression),
            head_scale=np.where((out.head_scale > low) & (out.head_scale < high), out.head_scale, 1).astype(np.float32),
        )

    @staticmethod
    def _joint_score(uv: Array, uv_crop: Array, image_hw: tuple[int, int], score: float) -> Array:
        """Return (55,): the person's score for joints in pixels that the network saw, else 0. PEAR has none itself."""
        height, width = image_hw
        inside = (uv >= -0.5).all(1) & (uv[:, 0] < width - 0.5) & (uv[:, 1] < height - 0.5)
        seen = (uv_crop[:, 0] >= SEEN_COLUMNS.start) & (uv_crop[:, 0] < SEEN_COLUMNS.stop)
        seen &= (uv_crop[:, 1] >= 0) & (uv_crop[:, 1] < IMAGE_PX)
        return np.where(inside & seen, score, 0.0).astype(np.float32)

    def _nobody(self, reason: str) -> list[Regression]:
        self._boxes.reset()
        kind = reason.partition(":")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("PEAR's answer is no person (%s); such frames count as empty", reason)
        return []

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_ms[stage] = (time.perf_counter() - start) * 1e3


_PARTS: dict[Part, Any] = {
    Part.BODY: slice(0, N_BODY),
    Part.LEFT_HAND: LEFT_HAND,
    Part.RIGHT_HAND: RIGHT_HAND,
    Part.FACE: [J["head"], J["jaw"], J["jaw"] + 1, J["jaw"] + 2],
}


def _parts(joint_score: Array) -> Part:
    """Return the parts of which at least half of the joints were in view."""
    assert len(joint_score) == N_JOINTS
    found = Part.NONE
    for part, joints in _PARTS.items():
        if (joint_score[joints] > 0).mean() >= 0.5:
            found |= part
    return found


def _fit_length(values: Array, n: int) -> Array:
    """Return the first n coefficients, filled up with zeros: components are in order of importance."""
    out = np.zeros(n, np.float32)
    out[: min(n, len(values))] = values[:n]
    return out


def _given_weights(settings: Settings) -> str:
    path = weights_path(settings)
    if not path:
        raise MissingFile(
            f"the regressor `pear` needs its weights: set pear.weights or {WEIGHTS_VARIABLE} to {PUBLISHED}"
        )
    return path


def _open_runtime(settings: Settings) -> Runtime:
    """Open the network as the settings say; the choice and its reason are logged."""
    pear, precision = settings.pear, settings.precision
    network = load_network(_given_weights(settings), heads=pear.heads, allow_extra=pear.allow_extra)
    if precision == "auto":
        precision = "fp16" if settings.device != "cpu" and this_machine().gpu else "fp32"
    return open_runtime(
        lambda: PearGraph(copy.deepcopy(network)),
        SPEC,
        network_hash=graph_hash(network),
        engine=settings.engine,
        device=settings.device,
        precision=precision,
        parity=ParityCheck(sample_crops(), PARITY_TOLERANCE[precision]),
        log=log,
    )


def create(settings: Settings, body: Any) -> PearRegressor:
    """Factory for the registry."""
    return PearRegressor(settings, body)
