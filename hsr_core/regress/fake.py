"""A regressor without a network: one person who waves and turns, a pure function of the stamp.

For tests of everything around a regressor, and for machines where no network should run.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..body.joints import N_JOINTS, J
from ..config import Settings
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Camera, Frame, HumanParams, MetricSource, Part, Regression

_FACING_CAMERA = np.diag([1.0, -1.0, -1.0])
"""An upright person facing the camera: SMPL axes (y up, z forward) in optical axes."""


class FakeRegressor:
    """See the module. `busy_ms` makes a call take that long, to test overload."""

    name = "fake"

    def __init__(self, settings: Settings, body: Any, *, busy_ms: float = 0.0, people: int = 1) -> None:
        self.stage_ms: dict[str, float] = {}
        self._body, self._busy_ms, self._people = body, busy_ms, people

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        start = time.perf_counter()
        people = [self._person(frame, i) for i in range(self._people)]
        if self._busy_ms:
            time.sleep(self._busy_ms / 1e3)
        self.stage_ms = {"regress": (time.perf_counter() - start) * 1e3}
        return people

    def _person(self, frame: Frame, i: int) -> Regression:
        phase = 2 * np.pi * (frame.stamp_ns % 2_000_000_000) / 2e9
        body_pose = np.zeros((21, 3), np.float32)
        body_pose[J["left_shoulder"] - 1, 2] = 0.6 * np.sin(phase)
        body_pose[J["right_shoulder"] - 1, 2] = 1.0
        turn = rotvec_to_rotmat(np.array([0.0, 0.3 * np.sin(phase), 0.0]))
        params = HumanParams(
            global_orient=rotmat_to_rotvec(_FACING_CAMERA @ turn).astype(np.float32),
            transl=np.array([1.2 * i, 0.0, 4.0], np.float32),
            body_pose=body_pose,
            betas=np.zeros(self._body.n_betas, np.float32),
            expression=np.zeros(self._body.n_expression, np.float32),
            head_betas=np.zeros(self._body.n_head_betas, np.float32),
            head_expression=np.zeros(self._body.n_head_expression, np.float32),
        )
        height, width = frame.image_hw
        return Regression(
            params=params,
            bbox_xyxy=np.array([0.3 * width, 0.1 * height, 0.7 * width, 0.9 * height], np.float32),
            score=0.9,
            joint_score=np.full(N_JOINTS, 0.9, np.float32),
            part_score=np.full(4, 0.9, np.float32),
            parts=Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE,
            metric_source=MetricSource.ASSUMED_HEIGHT,
            depth_sigma_m=0.2,
        )

    def configure(self, settings: Settings) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


def create(settings: Settings, body: Any, **options: Any) -> FakeRegressor:
    """Factory for the registry."""
    return FakeRegressor(settings, body, **options)
