"""Which frames of a person are fit to move a robot: checked one by one, before anything is filtered."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..types import Array
from .frames import heading
from .ground import SegmentLengths, segment_lengths
from .human import OTHER_SIDE, Human, P
from .settings import GateSettings

ROOTS = ("pelvis", "left_hip", "right_hip")
SHOULDERS = ("left_shoulder", "right_shoulder")
PART = 90.0
"""Percentile of the joints' speed: a wrist may be fast, a whole body is not."""
WALK_M_S = 2.0
"""No way leads on faster: what seems to is noise."""
LED_S = 0.5
"""Nor for longer: who stood before a gap, with a little noise, would be nowhere near it ever after."""


class Reason(Enum):
    """Why a frame is not used."""

    OK = "ok"
    NOT_FINITE = "not finite"
    SCORE = "low score"
    REPROJECTION = "reprojection error"
    ROOT_MISSING = "hips or both shoulders not seen"
    ORDER = "stamp not later than the last"
    JUMP = "jump"
    LENGTHS = "segment lengths"
    FACING = "facing flips"
    SWAP = "left and right swapped"


SOMEBODY_ELSE = (Reason.JUMP, Reason.LENGTHS)
"""What a tracker that changed over to another person looks like."""


class InputGate:
    """Judges the frames of one person, in order. The last good frame is what the next is compared with.

    It stays closed after a jump until the person is back where they were, or until `reset`: time alone opens nothing,
    or a robot would follow whoever took over the id.

    Attributes:
        lengths: The person's, frozen after their first good frames.
        bad: Frames dropped in a row.
        last_reason: Of the last frame.
    """

    def __init__(self, settings: GateSettings | None = None) -> None:
        self.settings = settings or GateSettings()
        self.lengths = SegmentLengths()
        self.reset()

    def reset(self) -> None:
        """Another person, or the same anew."""
        self.lengths.reset()
        self.bad, self.last_reason = 0, Reason.OK
        self._good: Human | None = None
        self._walk_m_s = np.zeros(3)

    @property
    def closed(self) -> bool:
        """True after so many dropped frames in a row that the robot must hold."""
        return self.bad >= self.settings.in_a_row

    def judge(self, person: Human) -> Reason:
        """Return OK and remember the frame, or why it is dropped."""
        reason = self.last_reason = self._reason(person)
        if reason is not Reason.OK:
            self.bad += 1
            return reason
        if self._good is not None:
            self._walk_m_s = _walk(self._good, person)
        self.bad, self._good = 0, person
        self.lengths.update(person)
        return reason

    def _reason(self, person: Human) -> Reason:
        settings = self.settings
        rotations = person.rotations
        seen = person.points[person.valid]
        if not (np.isfinite(seen).all() and (rotations is None or np.isfinite(rotations[person.valid]).all())):
            return Reason.NOT_FINITE
        if not person.score >= settings.score:
            return Reason.SCORE
        if person.reprojection_px is not None and not person.reprojection_px <= settings.reprojection_px:
            return Reason.REPROJECTION
        if not person.sees(*ROOTS) or not any(person.sees(name) for name in SHOULDERS):
            return Reason.ROOT_MISSING
        if self.lengths.frozen is not None:
            off = np.abs(segment_lengths(person) / self.lengths.frozen - 1)
            if np.nanmax(off, initial=0.0) > settings.length_part:
                return Reason.LENGTHS
        return Reason.OK if self._good is None else self._compared(person, self._good)

    def _compared(self, person: Human, last: Human) -> Reason:
        settings = self.settings
        dt_s = (person.stamp_ns - last.stamp_ns) * 1e-9
        if dt_s <= 0:
            return Reason.ORDER
        both = person.valid & last.valid
        moved = _distance(person.points, last.points, both)
        other = _distance(person.points[OTHER_SIDE], last.points, person.valid[OTHER_SIDE] & last.valid)
        if _mean(other) < (1 - settings.swap_part) * _mean(moved):
            return Reason.SWAP
        now, before = heading(person), heading(last)
        if (
            now is not None
            and before is not None
            and now[:, 0] @ before[:, 0] < np.cos(np.radians(settings.facing_deg))
        ):
            return Reason.FACING
        if np.percentile(moved, PART) > settings.speed_m_s * dt_s or self._elsewhere(person, last, both, dt_s):
            return Reason.JUMP
        return Reason.OK

    def _elsewhere(self, person: Human, last: Human, both: NDArray[np.bool_], dt_s: float) -> bool:
        """True for a body that is not near where it was, or not near where its way led.

        The time that has passed makes neither place larger: somebody else may have come into it.
        """
        for led in (np.zeros(3), self._walk_m_s * min(dt_s, LED_S)):
            away = np.linalg.norm(person.points - last.points - led, axis=1)
            if max(away[P["pelvis"]], np.median(away[both])) > self.settings.jump_m:
                return True
        return False


def _walk(before: Human, person: Human) -> Array:
    """Return the velocity of the pelvis, no faster than somebody walks, (3,) [m/s]."""
    way = (person.at("pelvis") - before.at("pelvis")) / ((person.stamp_ns - before.stamp_ns) * 1e-9)
    return way * min(1.0, WALK_M_S / max(float(np.linalg.norm(way)), 1e-9))


def _distance(a: Array, b: Array, valid: Array) -> Array:
    return np.linalg.norm(a[valid] - b[valid], axis=1)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0
