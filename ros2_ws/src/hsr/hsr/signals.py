"""How a node's process runs: its callbacks, one of which may fail, and the signals that end it."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from hsr_core.errors import HsrError

from .notices import Notices

REST_S = 0.01
"""After a failure: one that comes again and again, such as of the wait itself, must not take a whole processor."""


def spin_until(node: Node, ended: Callable[[], bool], look_s: float = 0.1) -> None:
    """Run a node's callbacks until ROS is shut down or `ended`, which is asked at least every `look_s` seconds."""
    executor, notices = SingleThreadedExecutor(), Notices(node.get_logger())
    executor.add_node(node)
    with suppress(ExternalShutdownException):
        while rclpy.ok() and not ended():
            spin_once(executor, notices, look_s)


def spin_once(executor: SingleThreadedExecutor, notices: Notices, timeout_s: float | None = None) -> None:
    """Run a callback; one that fails is told, and the node goes on.

    Raises:
        ExternalShutdownException: ROS was shut down.
    """
    try:
        executor.spin_once(timeout_sec=timeout_s)
    except ExternalShutdownException:
        raise
    except Exception as error:  # one bad message or a race in the graph must not end the node
        if not rclpy.ok():
            raise ExternalShutdownException() from error
        notices.error("callback", f"a callback failed:\n{traceback.format_exc()}", every_s=10.0)
        time.sleep(REST_S)


def run_node(name: str, make: Callable[[], Node]) -> None:
    """Make a node and run it to its end; what it refuses is said after its name."""
    with ros():
        try:
            node = make()
        except HsrError as error:
            sys.exit(f"{name}: {error}")
        try:
            spin_until(node, lambda: False)
        finally:
            node.destroy_node()


@contextmanager
def ros(args: list[str] | None = None) -> Iterator[None]:
    """Initialise rclpy for a block, which SIGINT and SIGTERM end in order, however many come and whenever.

    From a terminal Ctrl-C reaches a node twice, by itself and through `ros2 launch`: the second one must not interrupt
    the node's end by a KeyboardInterrupt. What fails because ROS was shut down in the middle of it is no failure.
    """
    told: list[int] = []
    for ending in (signal.SIGINT, signal.SIGTERM):  # rclpy's own handlers call these, too
        signal.signal(ending, lambda number, frame: told.append(number))
    rclpy.init(args=args)
    if told:  # before rclpy could hear of it
        rclpy.try_shutdown()
    try:
        yield
    except Exception:
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the interpreter's own end would bring the deadly default back
