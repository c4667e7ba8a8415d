"""Subscriptions that follow their publishers: which transport is there, and whether it is reliable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, qos_policy_name_from_kind

from . import qos
from .notices import Notices


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
        notices: Told of publishers that do not match and will not be followed.
        on_lost: Told how many messages the middleware has lost.
    """

    def __init__(
        self,
        node: Any,
        sources: Sequence[Source],
        profile: Callable[[bool], QoSProfile],
        reliability: str,
        notices: Notices,
        on_lost: Callable[[int], None] | None = None,
    ) -> None:
        self._node, self._sources, self._profile, self._wanted = node, sources, profile, reliability
        self._notices, self._on_lost = notices, on_lost
        self._chosen = first_published(node, [source.topic for source in sources], 0)
        self._reliable = qos.match_reliability(node, self.topic, reliability)
        self._subscription = self._subscribe()

    @property
    def topic(self) -> str:
        """What is subscribed to."""
        return self._sources[self._chosen].topic

    @property
    def reliable(self) -> bool:
        """Whether reliable delivery is asked for."""
        return self._reliable

    def watch(self) -> bool:
        """Look at the publishers again; called a few times a second. True: another topic is taken from now on."""
        chosen = first_published(self._node, [source.topic for source in self._sources], self._chosen)
        topic = self._sources[chosen].topic
        if not self._node.count_publishers(topic):
            return False
        reliable = qos.match_reliability(self._node, topic, self._wanted)
        moved = chosen != self._chosen
        if moved or reliable != self._reliable:
            self.close()
            self._chosen, self._reliable = chosen, reliable
            self._subscription = self._subscribe()
        return moved

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Any:
        source, on_lost = self._sources[self._chosen], self._on_lost
        events = SubscriptionEventCallbacks(
            incompatible_qos=self._on_incompatible,
            message_lost=on_lost and (lambda event: on_lost(event.total_count_change)),
        )
        return self._node.create_subscription(
            source.kind, source.topic, source.on_msg, self._profile(self._reliable),
            event_callbacks=events, qos_overriding_options=qos.INPUT_OVERRIDES,
        )  # fmt: skip

    def _on_incompatible(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy == "RELIABILITY" and self._wanted == "auto":
            return  # followed at the next look
        setting = "input.reliability"
        if policy != "RELIABILITY":
            setting = f"qos_overrides.{self.topic}.subscription.{policy.lower()}"
        self._notices.warn(
            ("incompatible", self.topic, policy),
            f"a publisher on {self.topic} offers an incompatible {policy}, less than {setting} asks for: "
            f"{qos.describe_publishers(self._node, self.topic)}",
            every_s=30.0,
        )


def first_published(node: Any, topics: Sequence[str], now: int) -> int:
    """Return the index of the first topic with a publisher; `now` when none has one."""
    return next((i for i, topic in enumerate(topics) if node.count_publishers(topic)), now)
