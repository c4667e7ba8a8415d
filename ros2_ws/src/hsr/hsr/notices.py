"""Warnings that are said once, or once in a while, instead of thirty times a second."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

KEPT = 256
"""Keys that are remembered: some hold what came from outside, which may be new each time."""


class Notices:
    """Logs through a node's logger; a repeat of the same key stays quiet for `every_s` seconds."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._said: dict[Hashable, float] = {}

    def warn(self, key: Hashable, text: str, *, every_s: float = float("inf")) -> None:
        if self._is_due(key, every_s):
            self._logger.warning(text)

    def error(self, key: Hashable, text: str, *, every_s: float = float("inf")) -> None:
        if self._is_due(key, every_s):
            self._logger.error(text)

    def forget(self, *keys: Hashable) -> None:
        """Let these be said again: what they were about has ended."""
        for key in keys:
            self._said.pop(key, None)

    def _is_due(self, key: Hashable, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._said.get(key, -float("inf")) < every_s:
            return False
        while key not in self._said and len(self._said) >= KEPT:
            del self._said[next(iter(self._said))]
        self._said[key] = now
        return True
