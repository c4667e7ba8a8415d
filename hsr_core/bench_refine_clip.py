"""`hsr bench refine --data DIR`: does refinement help on a real clip? Each camera alone, against a 3D reference."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .body.joints import LIMB_12
from .config import Settings
from .datasets.clip import ClipReference, read_clip_cameras, read_reference
from .errors import MissingFile
from .eval.metrics import pa_mpjpe_mm, root_mpjpe_mm
from .mask.base import MaskSettings
from .mask.select import open_masks
from .refine.collect import Collected, collect_person
from .refine.offline import OfflineSettings, refine_clip
from .sources import open_source
from .sources.calibration import CalibratedCamera
from .stream import HumanStream
from .types import Array, HumanParams

EVERY, GAUSSIANS, HEIGHT_PX = 4, 3000, 256
_HIPS = (6, 7)


def evaluate(folder: Path, *, height_m: float, steps: int) -> dict[str, Any]:
    """Return PA-MPJPE and hip-aligned MPJPE of the 12 limb joints before and after, for each camera and their mean.

    Estimates and masks of the open default, no depth. Scored are the frames that were refined; `refined` is what the
    optimisation found, `published` what the verdict leaves of it.

    Raises:
        MissingFile, BadFile: The folder is no calibrated clip, or nobody can be refined in a video.
    """
    reference = read_reference(folder / "reference_3d.npz")
    cameras = read_clip_cameras(folder)
    figures = {}
    for name, camera in cameras.items():
        figures[name] = _one_camera(folder / f"{name}.mp4", camera, reference, height_m, steps)
        print(f"{name}: {json.dumps(figures[name])}", file=sys.stderr, flush=True)
    mean = {
        state: {key: round(float(np.mean([f[state][key] for f in figures.values()])), 2) for key in values}
        for state, values in next(iter(figures.values())).items()
        if isinstance(values, dict)
    }
    return {"protocol": "limb-12", "steps": steps, "every": EVERY, "cameras": figures, "mean": mean}


def _one_camera(
    video: Path, camera: CalibratedCamera, reference: ClipReference, height_m: float, steps: int
) -> dict[str, Any]:
    settings = Settings().with_values({"regressor": "landmarks", "subject.height_m": height_m})
    masks = open_masks(MaskSettings(provider="landmarks"), topic=False)
    with open_source(str(video), camera=camera) as source, HumanStream(settings) as stream:
        found = collect_person(source, stream, masks, every=EVERY)
        body = stream.body
    masks.close()
    if not found.frames:
        raise MissingFile(f"{video} has no frame that can be refined: {found.refused or 'nobody was seen'}")
    truth = _in_camera(reference.limbs()[found.indices], camera)
    base = OfflineSettings()
    clip = refine_clip(
        found.frames, body,
        replace(
            base, max_height_px=HEIGHT_PX, avatar=replace(base.avatar, start=GAUSSIANS),
            refine=replace(base.refine, steps=steps, color_steps=min(100, steps // 4)),
        ),
    )  # fmt: skip

    def errors(people: Sequence[HumanParams]) -> dict[str, float]:
        joints = np.stack([body.pose_one(person, vertices=False).joints[list(LIMB_12)] for person in people])
        values = {"pa_mpjpe_mm": pa_mpjpe_mm(joints, truth), "hip_mpjpe_mm": root_mpjpe_mm(joints, truth, _HIPS)}
        return {name: round(float(np.nanmean(value)), 2) for name, value in values.items()}

    states = {"input": _estimates(found), "refined": clip.candidate, "published": clip.people}
    verdict = clip.verdict
    return {
        "frames": len(found.frames), "accepted": verdict.accepted, "reason": verdict.reason,
        "iou_before": round(verdict.iou_before, 3), "iou_after": round(verdict.iou_after, 3),
        **{state: errors(people) for state, people in states.items()},
    }  # fmt: skip


def _estimates(found: Collected) -> list[HumanParams]:
    return [frame.params for frame in found.frames]


def _in_camera(points: Array, camera: CalibratedCamera) -> Array:
    return points @ camera.R_cam_world.T + camera.t_cam_world
