"""How a node's process takes signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from hsr_core.errors import HsrError


def spin_until(node: Node, ended: Callable[[], bool], look_s: float = 0.1) -> None:
    """Run a node's callbacks until ROS is shut down or `ended`, which is asked at least every `look_s` seconds."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with suppress(ExternalShutdownException):
        while rclpy.ok() and not ended():
            executor.spin_once(timeout_sec=look_s)


def run_node(name: str, make: Callable[[], Node]) -> None:
    """Make a node and run it to its end; what it refuses is said after its name."""
    with ros():
        try:
            node = make()
        except HsrError as error:
            sys.exit(f"{name}: {error}")
        try:
            rclpy.spin(node)
        finally:
            node.destroy_node()


@contextmanager
def ros(args: list[str] | None = None) -> Iterator[None]:
    """Initialise rclpy for a block, which SIGINT and SIGTERM end in order, however many come and whenever.

    From a terminal Ctrl-C reaches a node twice, by itself and through `ros2 launch`: the second one must not interrupt
    the node's end by a KeyboardInterrupt. What fails because ROS was shut down in the middle of it is no failure.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    rclpy.init(args=args)
    try:
        yield
    except Exception:
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the interpreter's own end would bring the deadly default back
