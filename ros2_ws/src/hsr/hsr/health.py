"""Says whether a part of the running system works, for health checks of containers and supervisors.

    python -m hsr.health --node /human/perception         its lifecycle state is active
    python -m hsr.health --topic /camera/image_raw        a message arrives
    python -m hsr.health --url http://127.0.0.1:8080      a page answers

Ends with 0 when everything that was asked for holds within the limit, else with 1 and the reason.
"""

from __future__ import annotations

import argparse
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from . import qos
from .environment import prepare_process
from .lifecycle import LifecycleClient
from .message_types import message_class
from .signals import ros

Check = Callable[[], str]
"""Returns what is wrong; "" = nothing."""


class Probe:
    """A node that asks other nodes.

    Args:
        limit_s: Longest time for one question.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        # No parameters and no log topic: a check comes every few seconds, and is gone again.
        self._node = Node("health", namespace="human", enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def node(self, name: str, wanted: str = "active") -> str:
        """Check that a lifecycle node answers and is in a state."""
        state = LifecycleClient(self._node, self._executor, name).state(self._limit_s)
        if state is None:
            return f"{name} does not answer within {self._limit_s:g} s"
        return "" if state == wanted else f"{name} is {state}, not {wanted}"

    def topic(self, name: str) -> str:
        """Check that a message arrives on a topic."""
        deadline = time.monotonic() + self._limit_s
        if not self._spin(lambda: self._node.count_publishers(name), deadline):
            return f"nobody publishes {name}"
        kind = dict(self._node.get_topic_names_and_types())[name][0]
        message = message_class(kind)
        if message is None:
            return f"{name}: {kind} is not installed here"
        heard: list[bytes] = []
        profile = qos.extra(qos.match_reliability(self._node, name), False)
        subscription = self._node.create_subscription(message, name, heard.append, profile, raw=True)
        try:
            return "" if self._spin(lambda: any(heard), deadline) else f"no message on {name} in {self._limit_s:g} s"
        finally:
            self._node.destroy_subscription(subscription)

    def _spin(self, condition: Callable[[], Any], deadline: float) -> bool:
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()


def page(url: str, limit_s: float) -> str:
    """Check that a page answers."""
    try:
        with urllib.request.urlopen(url, timeout=limit_s) as answer:
            return "" if answer.status == 200 else f"{url} answers {answer.status}"
    except (OSError, ValueError) as error:
        return f"{url} does not answer: {error}"


def examine(options: argparse.Namespace) -> list[str]:
    """Return what is wrong."""
    found = [page(url, options.limit_s) for url in options.url]
    if options.node or options.topic:
        prepare_process()
        with ros([]):
            probe = Probe(options.limit_s)
            try:
                found += [probe.node(name, options.state) for name in options.node]
                found += [probe.topic(name) for name in options.topic]
            finally:
                probe.close()
    return [text for text in found if text]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hsr.health", description=__doc__.splitlines()[0])
    parser.add_argument("--node", action="append", default=[], help="full name of a lifecycle node")
    parser.add_argument("--state", default="active", help="the state that it must be in")
    parser.add_argument("--topic", action="append", default=[], help="full name of a topic")
    parser.add_argument("--url", action="append", default=[], help="address of a page")
    parser.add_argument("--limit", dest="limit_s", type=float, default=5.0, help="longest time for each of them [s]")
    options = parser.parse_args(argv)
    if not (options.node or options.topic or options.url):
        parser.error("nothing to check: give --node, --topic or --url")
    wrong = examine(options)
    with suppress(BrokenPipeError):
        print("\n".join(wrong) or "ok", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
