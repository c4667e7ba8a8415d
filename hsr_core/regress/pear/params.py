"""From the network's numbers to `HumanParams` of the body in use."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...config import Settings
from ...geometry.rotations import rotmat_to_rotvec
from ...types import Array, HumanParams
from .camera import HEAD_SCALE_LIMITS
from .decode import Decoded


class ParamsMaker:
    """Knows the body: with a licensed SMPL-X every coefficient of the network is used.

    The open body has other shape and expression components: it takes rotations, jaw, eyes and lids from the network
    and its stature from `subject.height_m`.

    Attributes:
        given_shape: True when the network's coefficients are not the body's.
        own_betas, own_head_betas: In their place then: the shape of `subject.height_m`.
    """

    def __init__(self, body: Any, settings: Settings) -> None:
        self._body, self._settings = body, settings
        self.given_shape = body.family != "EHMS"
        if self.given_shape:
            self._set_height()

    def configure(self, settings: Settings) -> None:
        """Take live settings."""
        changed = settings.subject.height_m != self._settings.subject.height_m
        self._settings = settings
        if changed and self.given_shape:
            self._set_height()

    @property
    def networks_stature(self) -> bool:
        """True when people are as tall as the network says, false when they are `subject.height_m` tall."""
        return self._settings.pear.stature and not self.given_shape

    def make(self, out: Decoded) -> HumanParams:
        """Return the person in the axes that `out` is in, with `transl` zero. `out` without the batch axis."""
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
        if self.given_shape:
            return HumanParams(
                **pose,
                betas=self.own_betas,
                expression=np.zeros(body.n_expression, np.float32),
                head_betas=self.own_head_betas,
                head_expression=np.zeros(body.n_head_expression, np.float32),
            )
        low, high = HEAD_SCALE_LIMITS
        betas = _fit_length(out.betas, body.n_betas)
        if not self.networks_stature:
            betas = body.betas_for_height(self._settings.subject.height_m, betas)
        return HumanParams(
            **pose,
            betas=betas,
            expression=_fit_length(out.expression, body.n_expression),
            head_betas=_fit_length(out.head_betas, body.n_head_betas),
            head_expression=_fit_length(out.head_expression, body.n_head_expression),
            head_scale=np.where((out.head_scale > low) & (out.head_scale < high), out.head_scale, 1).astype(np.float32),
        )

    def _set_height(self) -> None:
        self.own_betas = self._body.betas_for_height(self._settings.subject.height_m)
        self.own_head_betas = self._body.head_betas_for(self.own_betas)


def _fit_length(values: Array, n: int) -> Array:
    """Return the first n coefficients, filled up with zeros: components are in order of importance."""
    out = np.zeros(n, np.float32)
    out[: min(n, len(values))] = values[:n]
    return out
