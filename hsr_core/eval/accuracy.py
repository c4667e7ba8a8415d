"""`hsr bench accuracy`: each camera of a calibrated clip alone, 12 limb joints against a 3D reference.

The folder holds `cameras.json`, one video per camera, and `reference_3d.npz` with `joints` (T, J, 3) [m] in the world
of the cameras, `names` (J,) and `fps`.

Protocol `limb-12`: shoulders, elbows, wrists, hips, knees, ankles by name; hip-aligned by the middle of the hips; mean
over joints, then over all frames with a person; frames without the person lower `found`, and a camera without any
has no figures. Distances and reprojection are
medians; reprojection is a median over joints as a part of the height of the reference's box.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..body.joints import LIMB_12
from ..config import Settings
from ..datasets.clip import Clip, ClipSequence
from ..geometry.camera import project
from ..regress.person_detector import PersonDetector
from ..regress.pose_network import L, PoseNetwork
from ..stream import HumanStream
from ..types import Array, Frame
from .matching import iou_matrix, tight_box
from .metrics import pa_mpjpe_mm, root_mpjpe_mm

_PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_LANDMARKS = [L[f"{side}_{part}"] for part in _PARTS for side in ("left", "right")]
_HIPS = (6, 7)
_MIN_IOU = 0.3


def evaluate_camera(sequence: ClipSequence, limb_columns: Sequence[int], settings: Settings) -> dict[str, Any]:
    """Return the figures of one video; the columns are those of `LIMB_12` in the reference's joints."""
    rows: dict[str, list[float]] = {}
    frames = found = 0
    raw = _RawLandmarks()
    with HumanStream(settings) as stream:
        for sample in sequence:
            frames += 1
            frame, everything = sample.frame, sample.people[0].joints
            limbs = everything[limb_columns]
            result = stream.process(frame)
            seen = raw.see(frame)
            true_uv = project(limbs, result.camera)
            box = tight_box(project(everything, result.camera))
            height_px = box[3] - box[1]
            if seen is not None:
                world, uv = seen
                of_image = {"reprojection": _pixels(uv, true_uv) / height_px}
                _extend(rows, "landmarks", _joint_errors(world, limbs) | of_image)
            ious = iou_matrix([p.regression.bbox_xyxy for p in result.people], box)[:, 0]
            person = next((p for p, iou in zip(result.people, ious, strict=True) if iou > _MIN_IOU), None)
            if person is not None:
                found += 1
                joints = person.joints[list(LIMB_12)].astype(np.float64)
                fit_uv = project(joints, result.camera)
                image = {
                    "distance_error": _distance_error(joints, limbs),
                    "reprojection": _pixels(fit_uv, true_uv) / height_px,
                }
                if seen is not None:
                    image["reprojection_on_landmarks"] = _pixels(fit_uv, uv) / height_px
                _extend(rows, "fit", _joint_errors(joints, limbs) | image)
    average = {name: np.nanmean if name.endswith("_mm") else np.nanmedian for name in rows}
    figures = {name: float(average[name](values)) for name, values in rows.items()}
    return {"frames": frames, "found": found, **figures}


class _RawLandmarks:
    """The body network alone, followed from frame to frame: what the fit has to beat."""

    def __init__(self) -> None:
        self._detector, self._network, self._roi = PersonDetector(), PoseNetwork(), None

    def see(self, frame: Frame) -> tuple[Array, Array] | None:
        """Return the limbs in 3D (12, 3) [m] and in the image (12, 2) [px]; None where nobody is detected."""
        if self._roi is None:
            found = self._detector.detect(frame)
            if not found:
                return None
            self._roi = found[0].roi
        pose = self._network.run(frame, self._roi)
        self._roi = pose.next_roi
        return pose.world[_LANDMARKS], pose.uv[_LANDMARKS]


def _joint_errors(joints: Array, limbs: Array) -> dict[str, float]:
    return {"pa_mpjpe_mm": pa_mpjpe_mm(joints, limbs), "hip_mpjpe_mm": root_mpjpe_mm(joints, limbs, _HIPS)}


def _distance_error(joints: Array, limbs: Array) -> float:
    """Return the relative error of the hips' distance from the camera."""
    hips, true_hips = joints[list(_HIPS)].mean(0), limbs[list(_HIPS)].mean(0)
    return float(abs(np.linalg.norm(hips) / np.linalg.norm(true_hips) - 1))


def _pixels(uv: Array, other: Array) -> float:
    """Return the median distance of corresponding points [px]."""
    return float(np.nanmedian(np.linalg.norm(uv - other, axis=1)))


def _extend(rows: dict[str, list[float]], prefix: str, values: dict[str, float]) -> None:
    for name, value in values.items():
        rows.setdefault(f"{prefix}.{name}", []).append(value)


def evaluate(folder: Path, settings: Settings) -> dict[str, Any]:
    """Return the figures of every camera, and their means over the cameras that have them."""
    clip = Clip(folder)
    limbs = clip.reference.limb_columns()
    cameras = {name: evaluate_camera(clip.open(name), limbs, settings) for name in clip.sequences()}
    keys = dict.fromkeys(key for figures in cameras.values() for key in figures)
    mean = {key: float(np.mean([figures[key] for figures in cameras.values() if key in figures])) for key in keys}
    return {
        "protocol": "limb-12",
        "height_m": settings.subject.height_m,
        "smoothing": settings.smoothing.enabled,
        "cameras": cameras,
        "mean": mean,
    }


def add_parser(subparsers: Any) -> None:
    """Add `accuracy` to the benchmarks."""
    parser = subparsers.add_parser("accuracy", help="joint errors on a calibrated clip with a 3D reference")
    parser.add_argument("--data", type=Path, required=True, help="folder: cameras.json, videos, reference_3d.npz")
    parser.add_argument("--height", type=float, default=1.70, help="height of the subject [m]")
    parser.add_argument("--no-smoothing", action="store_true", help="evaluate the unsmoothed estimate")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate and return the figures."""
    values = {"regressor": "landmarks", "subject.height_m": args.height, "smoothing.enabled": not args.no_smoothing}
    return evaluate(args.data, Settings().with_values(values))
