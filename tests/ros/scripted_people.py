"""A perception node's stand-in in a process of its own: one waving person, 30 times a second."""

from __future__ import annotations

import time

from hsr.signals import ros, spin_until
from hsr_msgs.msg import HumanArray
from rclpy.node import Node
from retarget_rig import FRAME_S, LATENCY_NS, human, people


def main() -> None:
    with ros():
        node = Node("perception", namespace="human")
        publisher = node.create_publisher(HumanArray, "people", 5)

        def play() -> None:
            stamp_ns = time.time_ns() - LATENCY_NS
            publisher.publish(people(stamp_ns, [human(stamp_ns)]))

        node.create_timer(FRAME_S, play)
        spin_until(node, lambda: False)


if __name__ == "__main__":
    main()
