"""Subscriptions that are read now and then: what comes between stays in the middleware, unread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup


class Throttled(MutuallyExclusiveCallbackGroup):
    """Lets its callbacks run at most `hz` times a second; one group for each subscription."""

    def __init__(self, hz: float) -> None:
        super().__init__()
        self._period_s, self._due_s = 1.0 / hz, 0.0

    def can_execute(self, entity: Any) -> bool:
        return time.monotonic() >= self._due_s and super().can_execute(entity)

    def beginning_execution(self, entity: Any) -> bool:
        started = super().beginning_execution(entity)
        if started:
            self._due_s = time.monotonic() + self._period_s
        return started


def unread(subscription: Any) -> Iterator[bytes]:
    """Yield what has come on a raw subscription and was not read; called in its callback."""
    with subscription.handle:
        while taken := subscription.handle.take_message(subscription.msg_type, subscription.raw):
            yield taken[0]
