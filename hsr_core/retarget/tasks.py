"""The tasks of the inverse kinematics, made of pink's."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from pink import Configuration
from pink.tasks import FrameTask, Task

from ..types import Array


class VectorTask(Task):
    """Keep the vector from one frame's origin to another's, in world axes.

    The error is v* - (p_end - p_root) and its derivative the difference of the two frames' Jacobians: moving the trunk
    changes nothing, so the waist is never used to reach.
    """

    def __init__(self, root: int, end: int, cost: float, lm_damping: float) -> None:
        super().__init__(cost=cost * np.ones(3), lm_damping=lm_damping)
        self.root, self.end = root, end
        self.target = np.zeros(3)

    def compute_error(self, configuration: Configuration) -> Array:
        """Return (p_end - p_root) - v*, (3,) [m]; pink steps against it."""
        frames = configuration.data.oMf
        return self.target - (frames[self.end].translation - frames[self.root].translation)

    def compute_jacobian(self, configuration: Configuration) -> Array:
        """Return d error / dq, (3, nv)."""
        model, data, axes = configuration.model, configuration.data, pin.LOCAL_WORLD_ALIGNED
        root, end = (pin.getFrameJacobian(model, data, frame, axes)[:3] for frame in (self.root, self.end))
        return root - end

    def __repr__(self) -> str:
        return f"VectorTask(root={self.root}, end={self.end}, cost={self.cost})"


class PointTask(FrameTask):
    """Bring a frame's origin to a point, whatever its orientation."""

    def __init__(self, frame: str, cost: float, lm_damping: float) -> None:
        super().__init__(frame, float(cost), 0.0, lm_damping=lm_damping)

    def aim(self, configuration: Configuration, point: Array) -> None:
        """Set the target; with the frame's own rotation the error is the plain difference of the points."""
        self.transform_target_to_world = pin.SE3(configuration.get_transform_frame_to_world(self.frame).rotation, point)


class RotationTask(FrameTask):
    """Turn a frame to an orientation, wherever it is."""

    def __init__(self, frame: str, cost: float, lm_damping: float) -> None:
        super().__init__(frame, 0.0, float(cost), lm_damping=lm_damping)

    def aim(self, configuration: Configuration, rotation: Array) -> None:
        """Set the target, (3, 3)."""
        self.transform_target_to_world = pin.SE3(
            rotation, configuration.get_transform_frame_to_world(self.frame).translation
        )
