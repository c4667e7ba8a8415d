"""Subscriptions that follow their publishers: which transport is there, and whether it is reliable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.qos import QoSProfile

from . import qos


@dataclass(frozen=True)
class Source:
    """One transport of what is wanted.

    Attributes:
        kind: Message type.
        topic: Its full name.
        on_msg: Called in the executor's thread.
    """

    kind: type
    topic: str
    on_msg: Callable[[Any], None]


class Following:
    """A subscription to the first of some topics that is published; the first one while none is.

    Args:
        sources: In the order of preference.
        profile: Quality of service for reliable or best-effort publishers.
        reliability: auto (as the publishers), reliable or best_effort.
    """

    def __init__(
        self, node: Any, sources: Sequence[Source], profile: Callable[[bool], QoSProfile], reliability: str = "auto"
    ) -> None:
        self._node, self._sources, self._profile, self._wanted = node, sources, profile, reliability
        self._chosen = first_published(node, [source.topic for source in sources], 0)
        self._reliable = qos.match_reliability(node, self.topic, reliability)
        self._subscription = self._subscribe()

    @property
    def topic(self) -> str:
        """What is subscribed to."""
        return self._sources[self._chosen].topic

    @property
    def published(self) -> bool:
        return self._node.count_publishers(self.topic) > 0

    def watch(self) -> None:
        """Look at the publishers again; called a few times a second."""
        chosen = first_published(self._node, [source.topic for source in self._sources], self._chosen)
        topic = self._sources[chosen].topic
        if not self._node.count_publishers(topic):
            return
        reliable = qos.match_reliability(self._node, topic, self._wanted)
        if (chosen, reliable) != (self._chosen, self._reliable):
            self.close()
            self._chosen, self._reliable = chosen, reliable
            self._subscription = self._subscribe()

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Any:
        source = self._sources[self._chosen]
        return self._node.create_subscription(
            source.kind, source.topic, source.on_msg, self._profile(self._reliable),
            qos_overriding_options=qos.INPUT_OVERRIDES,
        )  # fmt: skip


def first_published(node: Any, topics: Sequence[str], now: int) -> int:
    """Return the index of the first topic with a publisher; `now` when none has one."""
    return next((i for i, topic in enumerate(topics) if node.count_publishers(topic)), now)
