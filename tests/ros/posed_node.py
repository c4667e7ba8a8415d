"""The perception node with the real open body and tracker, and two people who move as their stamps say."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from hsr import perception_node

from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from hsr_core.regress.fake import FakeRegressor
from hsr_core.stream import HumanStream

SWING_RAD = 0.7
_FACING_CAMERA = np.diag([1.0, -1.0, -1.0])


class Movers(FakeRegressor):
    """Every joint swings about an axis of its own, and the person turns and walks."""

    def _person(self, frame, i):
        found = super()._person(frame, i)
        rng = np.random.default_rng(i)
        phase = 2 * np.pi * (frame.stamp_ns % 4_000_000_000) / 4e9 + i
        params = found.params

        def swing(shape, limit=SWING_RAD):
            return (rng.uniform(-limit, limit, shape) * np.sin(phase + rng.uniform(0, 6, shape))).astype(np.float32)

        turn = rotvec_to_rotmat(np.array([0.2 * np.sin(phase), phase, 0.1 * np.cos(phase)]))
        params = replace(
            params,
            global_orient=rotmat_to_rotvec(_FACING_CAMERA @ turn).astype(np.float32),
            transl=np.float32([1.6 * i - 0.8 + 0.2 * np.sin(phase), 0.1, 4.0 + 0.3 * np.cos(phase)]),
            body_pose=swing((21, 3)),
            left_hand_pose=swing((15, 3)),
            right_hand_pose=swing((15, 3)),
            jaw_pose=swing(3, 0.2),
            betas=rng.uniform(-1, 1, params.betas.shape).astype(np.float32),
        )
        height, width = frame.image_hw
        box = np.float32([(0.1 + 0.5 * i) * width, 0.1 * height, (0.4 + 0.5 * i) * width, 0.9 * height])
        return replace(found, params=params, bbox_xyxy=box)


def open_stream(settings: Settings) -> HumanStream:
    os.environ.pop("HSR_BODY_MODELS", None)
    body = load_body()
    return HumanStream(settings, body, Movers(settings, body, people=2))


if __name__ == "__main__":
    perception_node.main(open_stream)
