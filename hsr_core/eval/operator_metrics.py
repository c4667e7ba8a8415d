"""How long a robot keeps the one person it follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Lock:
    """One time of following one id.

    Attributes:
        duration_s: From the lock to its loss, or to where observation ended.
        lost: False when it had not been lost until then.
    """

    duration_s: float
    lost: bool


def operator_locks(
    stamps_s: Iterable[float], visible: Iterable[bool], matched_ids: Iterable[int | None], *, patience_s: float = 0.5
) -> list[Lock]:
    """Return the locks on one reference person in a sequence.

    A lock starts with the first id that matches the person. It is lost when another id matches the person, or when they
    are visible and the id has not matched for longer than `patience_s`; the next match starts the next lock. While the
    person is not visible time passes without loss.

    Args:
        stamps_s: Of the frames, ascending [s].
        visible: Whether the person is annotated and to be scored.
        matched_ids: The predicted id that matches the person, None = none.
    """
    locks: list[Lock] = []
    locked: int | None = None
    started = last_match = now = 0.0
    for now, seen, found in zip(stamps_s, visible, matched_ids, strict=True):
        if not seen:
            last_match = now
            continue
        if locked is not None and (found not in (None, locked) or (found is None and now - last_match > patience_s)):
            locks.append(Lock(now - started, lost=True))
            locked = None
        if found is not None:
            if locked is None:
                locked, started = found, now
            last_match = now
    if locked is not None:
        locks.append(Lock(now - started, lost=False))
    return locks


def median_survival_s(locks: Iterable[Lock]) -> float:
    """Return the time that half of the locks survive [s]; infinite when fewer than half were seen to be lost.

    Locks that were not lost until the end count as long as they were watched. Locks of several sequences are simply put
    together. NaN without any.

    Source:
        Kaplan and Meier 1958.
    """
    locks = sorted(locks, key=lambda lock: (lock.duration_s, not lock.lost))
    if not locks:
        return float("nan")
    surviving = 1.0
    for index, lock in enumerate(locks):
        if lock.lost:
            surviving *= 1 - 1 / (len(locks) - index)
            if surviving <= 0.5 + 1e-12:
                return lock.duration_s
    return float("inf")
