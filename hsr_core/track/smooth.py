"""Smooth one person's parameters, causally and by the true time stamps.

Parameters are filtered, then the body is posed from them: joints filtered on their own would no longer agree with the
rotations. How strongly each group is filtered: docs/smoothing.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..config import SmoothingSettings
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array, HumanParams, Part, Regression
from .one_euro import PointFilter, RayFilter, RotationFilter

RESET_GAP_S = 0.25
"""After a longer silence the next measurement is taken as it is."""
MIN_STEP_S = 0.005
"""Shorter steps are treated as this long: the speed of two nearly simultaneous stamps is noise."""
REST_TAU_S = 0.1
"""Parts that are not seen approach the regressor's rest pose with this time constant: 95 % in 0.3 s."""
SHAPE_FRAMES = 30
"""Good frames after which the shape is frozen: shape flicker must not become motion."""
GOOD_SCORE = 0.5
"""Least part score of a frame that counts for the shape."""
GATE_M, GATE_M_PER_S, GATE_RANGE = 0.3, 2.5, 0.06
"""A pelvis that is farther than this from where it was filtered to has teleported; along the viewing ray at least
this share of the distance is allowed, since the error of a distance grows with it."""
GATE_FRAMES = 5
"""A teleport is believed when so many measurements in a row agree with each other."""

SCALE = {
    "across": (1.0, 1.0),
    "along": (0.7 / 1.5, 1 / 2),
    "body": (2 / 1.5, 3 / 4),
    "fingers": (1 / 1.5, 1 / 4),
    "face": (2 / 1.5, 1.0),
}
"""Factors on (smoothing.min_cutoff_hz, smoothing.beta) per group. With the default settings (1.5 Hz, 4) they give
(0.7, 2) along the viewing ray, (2, 3) for body rotations, (1, 1) for fingers, (2, 4) for jaw, eyes and expression."""

_ROTATIONS = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose")
_ROWS = {"global_orient": 1, "body_pose": 21, "left_hand_pose": 15, "right_hand_pose": 15}
_ENDS = np.cumsum([_ROWS.get(name, 1) for name in _ROTATIONS])
_SLICES = {name: slice(end - _ROWS.get(name, 1), end) for name, end in zip(_ROTATIONS, _ENDS, strict=True)}
_FACE = slice(_SLICES["jaw_pose"].start, _SLICES["reye_pose"].stop)
_COEFFICIENTS = ("eyelids", "expression", "head_expression")
_SHAPES = {"betas": (Part.BODY, 0), "head_betas": (Part.FACE, 3), "head_scale": (Part.FACE, 3)}
"""Shape parameter -> the part that shows it and that part's place in `part_score`."""


@dataclass
class SmoothingCounters:
    """Irregular input, counted over all people."""

    repeated_stamps: int = 0
    clamped_steps: int = 0
    resets: int = 0
    gated: int = 0
    rotation_jumps: int = 0


class PoseSmoother:
    """The filters of one track. Its memory is fixed; `update` takes frames in the order of their stamps.

    A new track, a gap of more than `RESET_GAP_S` and a stamp that goes back start afresh from the measurement. A
    repeated stamp returns the last answer. All three are counted.

    Args:
        settings: Base constants; see `SCALE`.
        rest_pelvis: betas -> pelvis of the shaped rest pose, (3,) [m]. What is filtered is the pelvis in the camera
            frame and not `transl`, which also depends on shape.
        counters: Shared by all tracks.
    """

    def __init__(
        self,
        settings: SmoothingSettings,
        rest_pelvis: Callable[[Array], Array],
        counters: SmoothingCounters | None = None,
    ) -> None:
        self.counters = counters or SmoothingCounters()
        self._rest_pelvis = rest_pelvis
        self._stamp_ns: int | None = None
        self._answer: HumanParams | None = None
        self._shapes: dict[str, _RunningMedian] = {}
        self._shape_locked = False
        self._other_distance = False
        self._settings = settings

    def configure(self, settings: SmoothingSettings) -> None:
        """Change the constants; the state goes on."""
        self._settings = settings
        if self._answer is not None:
            self._tune()

    def forget_shape(self) -> None:
        """Estimate the shape anew, for when the regressor's idea of the person changed."""
        self._shapes.clear()

    def lock_shape(self, locked: bool) -> None:
        """Keep the shape as it is now (after `SHAPE_FRAMES` good frames it is kept anyway); False: estimate it anew."""
        self._shape_locked = locked
        if not locked:
            self.forget_shape()

    def take_distance(self) -> None:
        """Take the next measurement's distance as it is: it is measured in another way, and nobody has moved."""
        self._other_distance = True

    def update(self, regression: Regression, stamp_ns: int) -> HumanParams:
        """Return the smoothed parameters of this frame.

        Args:
            regression: The regressor's answer; parts that it did not see drift to the pose it gives for them.
            stamp_ns: Exposure time [ns].
        """
        params = regression.params
        elapsed_s = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) / 1e9
        if self._answer is not None and elapsed_s == 0:
            self.counters.repeated_stamps += 1
            return self._answer
        shape = self._shape(regression)
        pelvis = params.transl + self._rest_pelvis(params.betas)
        if self._answer is None or not 0 < elapsed_s <= RESET_GAP_S:
            self.counters.resets += self._answer is not None
            self._restart(params, pelvis)
        else:
            dt_s = max(elapsed_s, MIN_STEP_S)
            self.counters.clamped_steps += dt_s != elapsed_s
            self._step(params, regression.parts, pelvis, dt_s)
        self._other_distance = False
        self._stamp_ns = stamp_ns
        self._answer = self._assemble(params, shape)
        return self._answer

    def _restart(self, params: HumanParams, pelvis: Array) -> None:
        self._pelvis = RayFilter(pelvis, (1, 0), (1, 0))
        self._rotations = RotationFilter(rotvec_to_rotmat(_stack_rotations(params)), 1, 0)
        self._numbers = PointFilter(_stack_numbers(params), 1, 0)
        self._gain_rotations = np.empty(len(self._rotations.value))
        self._gain_numbers = np.empty(len(self._numbers.value))
        self._away: list[Array] = []
        self._tune()

    def _tune(self) -> None:
        base = np.array([self._settings.min_cutoff_hz, self._settings.beta])
        group = {name: base * factors for name, factors in SCALE.items()}
        self._pelvis.across, self._pelvis.along = tuple(group["across"]), tuple(group["along"])
        rows = np.tile(group["body"], (len(self._rotations.value), 1))
        rows[_SLICES["left_hand_pose"]] = rows[_SLICES["right_hand_pose"]] = group["fingers"]
        rows[_FACE] = group["face"]
        self._rotations.min_cutoff_hz, self._rotations.beta = rows.T
        self._numbers.min_cutoff_hz, self._numbers.beta = group["face"]

    def _step(self, params: HumanParams, parts: Part, pelvis: Array, dt_s: float) -> None:
        rest = 1 - np.exp(-dt_s / REST_TAU_S)
        rotations, numbers = self._gain_rotations, self._gain_numbers
        rotations.fill(np.nan)
        for part, rows in ((Part.LEFT_HAND, _SLICES["left_hand_pose"]), (Part.RIGHT_HAND, _SLICES["right_hand_pose"])):
            if part not in parts:
                rotations[rows] = rest
        if Part.FACE not in parts:
            rotations[_FACE] = rest
        numbers.fill(np.nan if Part.FACE in parts else rest)
        before = self._rotations.jumps
        self._rotations.step(rotvec_to_rotmat(_stack_rotations(params)), dt_s, rotations)
        self.counters.rotation_jumps += self._rotations.jumps - before
        self._numbers.step(_stack_numbers(params), dt_s, numbers)
        self._step_pelvis(pelvis, dt_s)

    def _step_pelvis(self, pelvis: Array, dt_s: float) -> None:
        if self._other_distance:
            self._pelvis.value *= np.linalg.norm(pelvis) / max(np.linalg.norm(self._pelvis.value), 1e-9)
            self._away.clear()
        held, distance = self._pelvis.value, np.linalg.norm(self._pelvis.value)
        ray = pelvis / max(np.linalg.norm(pelvis), 1e-9)
        along = (pelvis - held) @ ray
        across = np.linalg.norm(pelvis - held - along * ray)
        reach = GATE_M + GATE_M_PER_S * dt_s
        far = abs(along) > max(reach, GATE_RANGE * distance)
        if not far and across <= reach:
            self._away.clear()
            self._pelvis.step(pelvis, dt_s)
            return
        if self._away and np.linalg.norm(pelvis - self._away[-1]) > max(reach, GATE_RANGE * distance):
            self._away.clear()
        self._away.append(pelvis)
        if len(self._away) >= GATE_FRAMES:
            self._away.clear()
            self.counters.resets += 1
            self._pelvis.reset(pelvis)
            return
        self.counters.gated += 1
        if across <= reach:  # only the distance jumped: the direction is still good
            self._pelvis.step(distance * ray, dt_s)

    def _shape(self, regression: Regression) -> dict[str, Array]:
        out = {}
        for name, (part, place) in _SHAPES.items():
            value = getattr(regression.params, name)
            median = self._shapes.get(name)
            if median is None or median.value.shape != value.shape:
                median = self._shapes[name] = _RunningMedian(value)
            seen = part in regression.parts and regression.part_score[place] >= GOOD_SCORE
            if seen and not self._shape_locked:
                median.add(value)
            out[name] = median.value
        return out

    def _assemble(self, params: HumanParams, shape: dict[str, Array]) -> HumanParams:
        rotvecs = rotmat_to_rotvec(self._rotations.value).astype(np.float32)
        changed = {name: rotvecs[rows].reshape(getattr(params, name).shape) for name, rows in _SLICES.items()}
        numbers, start = self._numbers.value[:, 0].astype(np.float32), 0
        for name in _COEFFICIENTS:
            end = start + len(getattr(params, name))
            changed[name], start = numbers[start:end], end
        transl = self._pelvis.value - self._rest_pelvis(shape["betas"])
        return replace(params, transl=transl.astype(np.float32), **changed, **shape)


class _RunningMedian:
    """Component-wise median of the first `SHAPE_FRAMES` values; before the first, the value it started from."""

    def __init__(self, start: Array) -> None:
        self.value = np.array(start)
        self._seen = np.empty((SHAPE_FRAMES, *self.value.shape), self.value.dtype)
        self._count = 0

    def add(self, value: Array) -> None:
        if self._count < SHAPE_FRAMES:
            self._seen[self._count] = value
            self._count += 1
            self.value = np.median(self._seen[: self._count], axis=0).astype(self.value.dtype)


def _stack_rotations(params: HumanParams) -> Array:
    return np.concatenate([np.reshape(getattr(params, name), (-1, 3)) for name in _ROTATIONS]).astype(np.float64)


def _stack_numbers(params: HumanParams) -> Array:
    return np.concatenate([getattr(params, name) for name in _COEFFICIENTS]).astype(np.float64)[:, None]
