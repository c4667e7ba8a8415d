"""A recorded motion, which is there as a whole: the person is known before it begins, and the robot stands ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from .command import Target
from .ground import CONFIDENT_FRAMES
from .human import Human
from .retargeter import Retargeter
from .solve import Solution

SETTLE_FRAMES = 90
"""Frames at most in which the robot takes the first posture before the motion begins."""
SETTLED_RAD = 1e-3
"""Joints that move less than this in a frame have taken it."""


def follow_recorded(
    retargeter: Retargeter, people: Callable[[], Iterable[Human | None]]
) -> Iterator[tuple[Target, Solution] | None]:
    """Yield what `Retargeter.retarget` makes of each frame; None where the person is missing.

    Nothing measured says where the robot was before: it begins settled in the first posture.

    Args:
        retargeter: New.
        people: Gives the frames from the beginning each time that it is called, in the order of their stamps.
    """
    _learn(retargeter, people)
    settled = False
    for person in people():
        if person is not None and not settled:
            _settle(retargeter, person)
            settled = True
        yield None if person is None else retargeter.retarget(person)


def _learn(retargeter: Retargeter, people: Callable[[], Iterable[Human | None]]) -> None:
    """Take the person's lengths; a short recording is gone through again, until there are frames enough."""
    for _ in range(CONFIDENT_FRAMES):
        for person in people():
            if retargeter.targets.lengths.frozen is not None:
                return
            if person is not None:
                retargeter.learn([person])


def _settle(retargeter: Retargeter, first: Human) -> None:
    """Take the first posture: the same frame again and again, before its time, until the joints rest."""
    step_ns, before = round(1e9 * retargeter.first_dt_s), None
    for k in range(SETTLE_FRAMES, 0, -1):
        answer = retargeter.retarget(replace(first, stamp_ns=first.stamp_ns - k * step_ns))
        if answer is None:
            return
        now = answer[0].position
        if before is not None and np.abs(now - before).max() < SETTLED_RAD:
            return
        before = now
