"""Measures what a robot would see of a perception node while a recording is played to it.

    python -m hsr.replay_meter --ros-args -p out:=result.json

Ends by itself when the player has gone, prints a JSON object and writes it to `out`. Times are those of the steady
clock of this machine, from the sending of an image to the receipt of its people; /clock times nothing here.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from hsr_msgs.msg import FrameStats, Human, HumanArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Int64MultiArray

from hsr_core.eval.timing_metrics import StreamTiming

from . import qos
from .meter import STAGES, median_stages
from .play_node import stamp_of
from .processes import cpu_s, rss_mb
from .signals import ros, spin_until

SAMPLE_S = 0.5
LOOK_S = 0.2
QUIET_S = 2.0
"""Nothing comes any more when nothing has come for so long."""
GAP_NS = 500_000_000
CAUSES = {"dropped_busy": "busy", "dropped_stale": "gate", "dropped_bad": "decode"}
"""Counters of FrameStats by the cause of a drop; what is left never reached the node: `queue`."""
BY_PLAYER = "steady clock of this machine, image sent by the player to people received"
BY_CAMERA_INFO = "steady clock of this machine, camera info received to people received"
_SEEN = (Human.NEW, Human.TRACKED)


class ProcessUse:
    """Processor time and memory of processes, sampled while they run.

    Args:
        find: Returns the process ids by name; asked at each sample, so that a respawned one is found.
    """

    def __init__(self, find: Callable[[], Mapping[str, int]]) -> None:
        self._find = find
        self._first: dict[tuple[str, int], tuple[float, float]] = {}
        self._last: dict[tuple[str, int], tuple[float, float]] = {}
        self._rss_mb: dict[str, list[float]] = {}
        self._due_s = 0.0

    def sample(self, *, now: bool = False) -> None:
        """Take a sample, if it is time for one."""
        at_s = time.monotonic()
        if at_s < self._due_s and not now:
            return
        self._due_s = at_s + SAMPLE_S
        for name, pid in self._find().items():
            used = (at_s, cpu_s(pid))
            self._first.setdefault((name, pid), used)
            if used[1] >= self._last.get((name, pid), (0.0, 0.0))[1]:  # a process that is gone has used nothing
                self._last[name, pid] = used
            memory = rss_mb(pid)
            if memory:
                self._rss_mb.setdefault(name, []).append(memory)

    def result(self) -> dict[str, dict[str, float]]:
        """Return for each process its use of one core [%] and its resident memory [MB]."""
        out = {}
        for (name, pid), (begin_s, begin_cpu_s) in self._first.items():
            end_s, end_cpu_s = self._last[name, pid]
            memory = self._rss_mb.get(name, [0.0])
            out[name] = {
                "cpu_percent": round(100 * (end_cpu_s - begin_cpu_s) / max(end_s - begin_s, 1e-3), 1),
                "rss_mb_max": round(max(memory), 1),
                "rss_mb_growth": round(memory[-1] - memory[0], 1),
            }
        return out


class ReplayMeter:
    """Listens to a perception node and to the player.

    Args:
        node: Of this process, in the namespace of the perception node.
        camera_info: Topic that tells when an image was sent, where the player does not say it.

    Attributes:
        sent_ns: Steady time at which the image of each stamp was sent, in order.
        received_ns: Steady time at which its people were received.
        stats: The newest FrameStats, or None.
        newest_s: Monotonic time of the newest message.
    """

    def __init__(self, node: Node, camera_info: str = "camera_info") -> None:
        self._node = node
        self.sent_ns: dict[int, int] = {}
        self.received_ns: dict[int, int] = {}
        self._info_ns: dict[int, int] = {}
        self._locked: set[int] = set()
        self._people = 0
        self.stats: FrameStats | None = None
        self.newest_s = time.monotonic()
        self._stages: list[tuple[float, ...]] = []
        many = qos.extra(True, False)
        self._subscriptions = [
            node.create_subscription(Int64MultiArray, "player/sent", self._on_sent, many),
            # Raw: the time is taken before anything is done with the message.
            node.create_subscription(HumanArray, "people", self._on_people, many, raw=True),
            node.create_subscription(FrameStats, "stats", self._on_stats, many),
            node.create_subscription(CameraInfo, camera_info, self._on_info, qos.extra(False, False), raw=True),
        ]

    @property
    def started(self) -> bool:
        return bool(self.sent_ns or self._info_ns)

    def complete(self) -> bool:
        """True when every image that was sent has been answered."""
        return bool(self.sent_ns) and self.sent_ns.keys() <= self.received_ns.keys()

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def result(self) -> dict[str, Any]:
        """Return the figures of the run so far, with the names of `hsr_core.eval.timing_metrics`."""
        sent, clock = (self.sent_ns, BY_PLAYER) if self.sent_ns else (self._info_ns, BY_CAMERA_INFO)
        answered = [(ns, self.received_ns[stamp], stamp) for stamp, ns in sent.items() if stamp in self.received_ns]
        timing = StreamTiming()
        if sent:
            timing.start(next(iter(sent.values())))
        for sent_ns, received_ns, stamp in sorted(answered, key=lambda entry: entry[1]):
            timing.result(sent_ns, received_ns, locked=stamp in self._locked)
        self._count_drops(timing, len(sent) - len(answered))
        return {
            "sent": len(sent),
            "answered": len(answered),
            "unasked_answers": len(self.received_ns.keys() - sent.keys()),
            "sent_hz": _rate_hz(list(sent.values())),
            "answered_hz": _rate_hz([received_ns for _, received_ns, _ in answered]),
            **timing.summary(),
            "gaps": sum(b - a > GAP_NS for a, b in pairwise(sorted(ns for _, ns, _ in answered))),
            "latency_clock": clock,
            "lost_by_middleware": self.stats.dropped_gap if self.stats else 0,
            "mean_people": round(self._people / max(len(self.received_ns), 1), 3),
            "stage_ms": {name: round(value, 2) for name, value in median_stages(self._stages).items()},
            "timing": timing.to_dict(),
        }

    def _count_drops(self, timing: StreamTiming, missing: int) -> None:
        for counter, cause in CAUSES.items():
            count = min(getattr(self.stats, counter), missing) if self.stats else 0
            missing -= count
            if count:
                timing.dropped(cause, count)
        if missing:
            timing.dropped("queue", missing)

    def _on_sent(self, msg: Int64MultiArray) -> None:
        stamp_ns, steady_ns = msg.data
        self.sent_ns[stamp_ns] = steady_ns
        self.newest_s = time.monotonic()

    def _on_people(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not data:  # now and then a raw take of rclpy gives nothing
            return
        self.newest_s = now_ns * 1e-9
        stamp_ns = stamp_of(data)
        humans = deserialize_message(data, HumanArray).humans
        seen = [human for human in humans if human.state in _SEEN]
        self._people += len(seen)
        if any(human.primary for human in seen):
            self._locked.add(stamp_ns)
        self.received_ns.setdefault(stamp_ns, now_ns)

    def _on_stats(self, msg: FrameStats) -> None:
        self.stats = msg
        self._stages.append(tuple(getattr(msg, f"{stage}_ms") for stage in STAGES))

    def _on_info(self, data: bytes) -> None:
        if data:
            self._info_ns.setdefault(stamp_of(data), time.monotonic_ns())
            self.newest_s = time.monotonic()


def _rate_hz(times_ns: list[int]) -> float:
    span_ns = max(times_ns) - min(times_ns) if len(times_ns) > 1 else 0
    return round((len(times_ns) - 1) * 1e9 / span_ns, 2) if span_ns else 0.0


def node_processes(domain: str) -> dict[str, int]:
    """Return the processes of this stack's nodes in a ROS domain, and a `ros2 bag`, by name."""
    found: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            name = _node_name(words)
            if not name:
                continue
            environ = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        if f"ROS_DOMAIN_ID={domain}" in environ or (domain == "0" and not any("ROS_DOMAIN_ID=" in e for e in environ)):
            found[name] = int(folder.name)
    return found


def _node_name(words: list[str]) -> str:
    """Return the short name of the node that a command line runs; "" when it runs none."""
    if "bag" in words and "play" in words:
        return "ros2 bag play"
    for word in words[:6]:  # interpreter, -u, -m, hsr.child, its parent, the module
        name = word.rpartition("/")[2].rpartition(".")[2]
        if name.endswith("_node"):
            return name.removesuffix("_node")
    return ""


def without_nan(value: Any) -> Any:
    """Return the same for JSON, which has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MeterNode(Node):
    """`/human/replay_meter`. Says `ready` on its standard output when the perception node takes images."""

    def __init__(self, **kwargs) -> None:
        super().__init__("replay_meter", namespace="human", **kwargs)
        text = "File to write the result to; empty: only print it"
        self.declare_parameter("out", "", ParameterDescriptor(description=text, read_only=True))
        self.meter = ReplayMeter(self)
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        self._use = ProcessUse(lambda: {**node_processes(domain), "meter": os.getpid()})
        self._image = self.resolve_topic_name("image")
        self.ready = False
        self._player_seen = False
        self._due_s, self._done = 0.0, False

    def done(self) -> bool:
        """Look around, if it is time for it; True when the player has gone and nothing comes any more."""
        if not self._done and time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + LOOK_S
            self._done = self._look()
        return self._done

    def _look(self) -> bool:
        if not self.ready and any(
            info.node_name == "perception" for info in self.get_subscriptions_info_by_topic(self._image)
        ):
            self.ready = True
            print("ready", flush=True)
        if self.meter.started:
            self._use.sample()
        playing = self.count_publishers("/clock") > 0
        self._player_seen |= playing
        quiet = time.monotonic() - self.meter.newest_s > QUIET_S
        return self._player_seen and not playing and quiet

    def finish(self) -> dict[str, Any]:
        self.meter.close()
        return without_nan({"mode": "paced", **self.meter.result(), "processes": self._use.result()})

    def write(self, result: dict[str, Any]) -> None:
        """Write the result to `out`, if that is set.

        Raises:
            OSError: It cannot be written there.
        """
        out = self.get_parameter("out").value
        if out:
            Path(out).expanduser().write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    with ros():
        node = MeterNode()
        try:
            spin_until(node, node.done)
        finally:
            result = node.finish()
            print(json.dumps(result), flush=True)
        try:
            node.write(result)
        except OSError as error:
            sys.exit(f"replay_meter: the result is only printed above: {error}")
        if not result["answered"]:
            sys.exit("replay_meter: no image was answered")


if __name__ == "__main__":
    main()
