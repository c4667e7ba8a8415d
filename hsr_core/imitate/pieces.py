"""Which frames of a recorded person are imitated, and in which pieces: one piece is one episode.

The gate of a live session (`hsr_core.retarget.gate`) judges the raw estimate, before anything is smoothed: a smoother
would spread a jump over its window. A dropped frame is missing from there on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..export.motion import Motion
from ..export.robot_motion import people_of
from ..export.spool import Track, chunks
from ..retarget.gate import InputGate, Reason
from ..retarget.settings import GateSettings


@dataclass(frozen=True, eq=False)
class Piece:
    """A person from the first to the last frame that is used, with no long gap in between.

    Attributes:
        track: The frames; those that the gate dropped are not there.
        reasons: Of each frame; None = the person was not seen.
    """

    track: Track
    reasons: tuple[Reason | None, ...]

    @property
    def gated(self) -> dict[str, int]:
        """Return why frames were dropped, and how often."""
        return gated(self.reasons)

    @property
    def duration_s(self) -> float:
        return float(self.track.stamps[-1] - self.track.stamps[0]) * 1e-9


@dataclass(frozen=True, eq=False)
class Judged:
    """A person with the gate's verdicts.

    Attributes:
        track: As recorded.
        reasons: Of each frame; None = not seen, or the camera's pose is not known.
        begins: (T,) bool: the gate was closed and took this frame as a new beginning.
    """

    track: Track
    reasons: tuple[Reason | None, ...]
    begins: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        return np.array([reason is Reason.OK for reason in self.reasons], bool)


def judge(track: Track, world: str, settings: GateSettings, gap_s: float) -> Judged:
    """Judge every frame of a person in order.

    Live, a closed gate needs somebody who looks; here a frame after so many dropped ones in a row begins a new motion
    if it stands for itself, and so does one after a gap: the robot is led there from rest, not by a jump.

    Args:
        world: As `Motion`.
        settings: Of the gate.
        gap_s: A longer time without the person begins anew [s].
    """
    # A guessed distance is noise that no gate should take for a jump.
    motion = Motion(track, "raw" if track.has_raw else "recorded", world, steady=True)
    gate, reasons, begins = InputGate(settings), [], np.zeros(len(track), bool)
    last_ns: int | None = None
    for at in chunks(len(track)):
        for person in people_of(motion, at):
            if person is None:
                reasons.append(None)
                continue
            if last_ns is not None and person.stamp_ns - last_ns > gap_s * 1e9:
                gate.reset()
            last_ns = person.stamp_ns
            reason = gate.judge(person)
            if gate.closed:
                gate.reset()
                reason = gate.judge(person)
                begins[len(reasons)] = reason is Reason.OK
            reasons.append(reason)
    return Judged(track, tuple(reasons), begins)


def pieces_of(judged: Judged, gap_s: float) -> Iterator[Piece]:
    """Yield the pieces of a person, cut where more than `gap_s` is missing and where the gate began anew."""
    used = np.flatnonzero(judged.usable)
    if not len(used):
        return
    steps = np.diff(judged.track.stamps)
    # A gap is what is missing: a step of a whole recording at 4 Hz is none.
    longest = max(gap_s * 1e9, 1.5 * float(np.median(steps)) if len(steps) else 0.0)
    cuts = (np.diff(judged.track.stamps[used]) > longest) | judged.begins[used[1:]]
    row_of = np.where(judged.usable, judged.track.row_of, -1)
    for frames in np.split(used, np.flatnonzero(cuts) + 1):
        at = slice(int(frames[0]), int(frames[-1]) + 1)
        track = replace(
            judged.track, first=judged.track.first + at.start, stamps=judged.track.stamps[at], row_of=row_of[at]
        )
        yield Piece(track, judged.reasons[at])


def gated(reasons: tuple[Reason | None, ...]) -> dict[str, int]:
    """Return reason -> dropped frames."""
    return dict(Counter(reason.value for reason in reasons if reason not in (None, Reason.OK)))
