"""What was changed about each frame, and what follows from it for frames that were not refined themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..types import HumanParams
from .gates import Entry
from .optimise import corrected_people
from .pose import N_REFINED, PoseCorrections

Row = tuple[list[Tensor], float]
"""Where `LazyAdam` stands with a frame."""
_RECENT = 3


@dataclass(eq=False)
class Correction:
    """What was changed about a frame's pose and light, and where its optimisers stand.

    Attributes:
        rotvecs: (22, 3) [rad]. shift: (3,) [m]. exposure: (2, 3), see `Exposure`.
        row, exposure_row: Of the optimisers; None = not refined yet.
    """

    rotvecs: Tensor
    shift: Tensor
    exposure: Tensor = field(default_factory=lambda: torch.zeros(2, 3))
    row: Row | None = None
    exposure_row: Row | None = None


class Corrections:
    """Of the last frames of one person, by stamp.

    Args:
        decay_s: Corrections fade in this time where nothing is refined [s].
        reach_s: Frames between two refined ones are given out when both are this near [s].
        device: Of new corrections.
    """

    def __init__(self, decay_s: float, reach_s: float, device: str) -> None:
        self._decay_s, self._reach_ns, self._device = decay_s, reach_s * 1e9, device
        self._known: dict[int, Correction] = {}

    def clear(self) -> None:
        self._known = {}

    def get(self, stamp_ns: int) -> Correction | None:
        """Return a refined frame's correction."""
        return self._known.get(stamp_ns)

    def remember(self, corrections: dict[int, Correction], since_ns: int) -> None:
        """Take those of a window; forget those before `since_ns`."""
        self._known = {stamp: c for stamp, c in (self._known | corrections).items() if stamp >= since_ns}

    def forget_exposure(self) -> None:
        """Take back all gains and biases."""
        for correction in self._known.values():
            correction.exposure, correction.exposure_row = torch.zeros_like(correction.exposure), None

    def expected(self, stamp_ns: int) -> Correction:
        """Return the faded mean of the last corrections before a frame; nothing where there are none."""
        expected = Correction(*(torch.zeros(*shape, device=self._device) for shape in ((N_REFINED, 3), (3,), (2, 3))))
        before = sorted(stamp for stamp in self._known if stamp < stamp_ns)[-_RECENT:]
        if before:
            fade = float(np.exp((before[-1] - stamp_ns) * 1e-9 / self._decay_s))
            for name in ("rotvecs", "shift", "exposure"):
                mean = torch.stack([getattr(self._known[stamp], name) for stamp in before]).mean(dim=0)
                setattr(expected, name, mean * fade)
        return expected

    def reaching(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Correction]]:
        """Yield those frames that are refined, or lie between refined ones near enough, with their corrections."""
        known = np.array(sorted(self._known))
        for entry in entries:
            at = int(np.searchsorted(known, entry.stamp_ns))
            if not entry.params.finite() or at == len(known):
                continue
            after = self._known[int(known[at])]
            if known[at] == entry.stamp_ns:
                yield entry, after
            elif at and max(entry.stamp_ns - known[at - 1], known[at] - entry.stamp_ns) <= self._reach_ns:
                part = float((entry.stamp_ns - known[at - 1]) / (known[at] - known[at - 1]))
                before = self._known[int(known[at - 1])]
                yield entry, Correction(before.rotvecs.lerp(after.rotvecs, part), before.shift.lerp(after.shift, part))


@torch.no_grad()
def corrected(people: Sequence[HumanParams], corrections: Sequence[Correction]) -> list[HumanParams]:
    """Return the people with their corrections in them."""
    pose = PoseCorrections(people).to(corrections[0].shift.device)
    pose.rotvecs.copy_(torch.stack([c.rotvecs for c in corrections]))
    pose.shifts.copy_(torch.stack([c.shift for c in corrections]))
    return corrected_people(pose, people)
