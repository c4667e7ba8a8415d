"""Names in messages: those that may have been meant instead of one that does not exist, and a few of many."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable


def near_names(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known names most like a name, the nearest first.

    Args:
        name: One that does not exist.
        known: Those that do.
        most: Of the answer.
        cutoff: Least likeness, from 0 (nothing in common) to 1 (the same).
    """
    return difflib.get_close_matches(name, list(known), most, cutoff)


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6, show: Callable[[str], str] = str) -> str:
    """Return `; did you mean X?`, the end of a message, or "" where no name is near.

    Args:
        name, known, cutoff: As in `near_names`.
        show: Makes the text of a name: `repr` for one in quotes.
    """
    found = near_names(name, known, 1, cutoff)
    return f"; did you mean {show(found[0])}?" if found else ""


def some_of(names: Collection[str], most: int = 4) -> str:
    """Return names in a row; of more than `most` the first ones, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more
