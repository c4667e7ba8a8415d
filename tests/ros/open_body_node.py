"""The scripted perception node with the open body: joints, rotations and key points that belong together."""

from __future__ import annotations

import dataclasses

import numpy as np
from hsr import perception_node
from scripted_node import ScriptedNode, ScriptedStream

from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.geometry.camera import project
from hsr_core.regress.fake import FakeRegressor
from hsr_core.types import Camera, Frame, HumanEstimate

VELOCITY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
LANDMARKS = np.column_stack([np.linspace(60, 100, 70), np.linspace(20, 50, 70), np.full(70, 0.8)])
"""Of everybody's face: u, v [px] and score."""


class OpenBodyStream(ScriptedStream):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.body = load_body()
        self.regressor = FakeRegressor(settings, self.body, people=10)

    def _people(self, frame: Frame, camera: Camera, *rest) -> tuple[HumanEstimate, ...]:
        people = super()._people(frame, camera, *rest)
        return tuple(
            dataclasses.replace(
                person,
                keypoints2d=np.column_stack([project(person.joints, camera), person.regression.joint_score]),
                root_velocity=np.float32(VELOCITY),
                regression=dataclasses.replace(person.regression, face_landmarks=LANDMARKS),
            )
            for person in people
        )


if __name__ == "__main__":
    perception_node.main(OpenBodyStream, ScriptedNode)
