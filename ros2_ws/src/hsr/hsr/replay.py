"""Play a recording to the real nodes and measure what a robot would see, without `ros2 launch`.

    python -m hsr.replay BAG [--mode paced|stepped] [--rate 1.0] [--repeat 5] [--json]

Starts the perception node and the player in processes of their own, with /clock and use_sim_time. The recording's
stamps are kept; durations are those of this machine's steady clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

from hsr_core.errors import HsrError

from .bag_topics import BagTopics, bag_topics
from .bringup import Bringup, BringupError, parse_arguments
from .processes import NodeProcess, stop_all
from .replay_meter import ProcessUse, ReplayMeter, without_nan

DRAIN_S = 3.0
"""Answers may come this much later than the last image."""
START_LIMIT_S = 60.0
SPREAD = ("answered_hz", "drop_rate", "availability", "longest_gap_s", "interval_jitter_ms")
"""Figures whose spread over the runs is told, besides the latencies."""


class Replay(Bringup):
    """The perception node under a recording instead of a camera.

    Args:
        options: Those of `Bringup` and of this module.
        found: What the recording has.
    """

    def __init__(self, options: argparse.Namespace, found: BagTopics) -> None:
        options.source = f"topic:{found.images}"
        options.set = [*options.set, "use_sim_time:=true"]
        super().__init__(options)
        self._found = found
        self._player: NodeProcess | None = None
        self._codes: dict[str, int | None] = {}
        self._runs: list[dict[str, Any]] = []

    def _start_source(self) -> None:
        """The player comes when the perception node is active."""

    def _inputs(self) -> list[str]:
        return [word for name, topic in self._found.inputs().items() for word in ("-r", f"{name}:={topic}")]

    def _watch(self) -> None:
        for number in range(self._options.repeat):
            if self._stop:
                return
            if number:  # new counters, tracks and stamps
                self._drive("deactivate", 30.0)
                self._drive("activate", 30.0)
            self._play(number)

    def _play(self, number: int) -> None:
        meter = ReplayMeter(self._node, self._found.camera_info)
        use = ProcessUse(self._pids)
        name = f"player{number}"
        arguments = ["--ros-args", *self._player_arguments()]
        self._player = NodeProcess(name, "hsr.play_node", arguments, self._log_dir, os.environ)
        begin_s = time.monotonic()
        while not self._stop and self._player.returncode is None:
            self._turn()
            if meter.started:
                use.sample()
            elif time.monotonic() - begin_s > START_LIMIT_S:
                raise BringupError(f"the player sent nothing within {START_LIMIT_S:.0f} s")
        use.sample(now=True)
        deadline = time.monotonic() + DRAIN_S
        while not self._stop and not meter.complete() and time.monotonic() < deadline:
            self._turn()
        report = self._report_of_player()
        meter.close()
        run = {**meter.result(), "processes": use.result(), "player": report}
        self._runs.append(run)
        print(_line(number, run), flush=True)

    def _turn(self) -> None:
        self._executor.spin_once(timeout_sec=0.05)
        self._check_alive()
        self._show_logs()

    def _player_arguments(self) -> list[str]:
        options = self._options
        values = {
            "path": json.dumps(options.bag),
            "mode": options.mode,
            "rate": float(options.rate),
            "answer_timeout_s": float(options.timeout),
            "image_topic": self._found.images,
            "topics": json.dumps(self._found.camera),
        }
        return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]

    def _report_of_player(self) -> dict[str, Any]:
        player = self._player
        codes = stop_all([player])
        self._player = None
        self._codes |= codes
        tail = player.tail()
        if codes[player.name]:
            raise BringupError(f"the player ended with code {codes[player.name]}; the end of its log:\n{tail}")
        lines = [line for line in tail.splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}

    def _pids(self) -> dict[str, int]:
        pids = {name: process.pid for name, process in self._processes.items()}
        return {**pids, **({"player": self._player.pid} if self._player else {}), "meter": os.getpid()}

    def _summary(self) -> dict[str, Any]:
        return without_nan(
            {
                "bag": self._options.bag,
                "mode": self._options.mode,
                "rate": self._options.rate,
                "image": self._found.images,
                "problems": self._found.problems,
                "spread": spread(self._runs),
                "runs": self._runs,
            }
        )

    def _close(self) -> dict[str, int | None]:
        if self._player:
            self._codes |= stop_all([self._player])
        return super()._close() | self._codes


def spread(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return median, least and largest of the main figures over several runs."""
    rows = [{**{name: run[name] for name in SPREAD}, **_latencies(run)} for run in runs]
    out = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        out[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return out


def _latencies(run: dict[str, Any]) -> dict[str, float]:
    return {f"latency_{name}": value for name, value in run["latency_ms"].items() if name != "count"}


def _line(number: int, run: dict[str, Any]) -> str:
    latency = run["latency_ms"]
    drops = ", ".join(f"{cause} {count}" for cause, count in run["drops"].items()) or "none"
    used = ", ".join(f"{name} {use['cpu_percent']:.0f} %" for name, use in run["processes"].items())
    return (
        f"run {number + 1}  sent {run['sent']} at {run['sent_hz']:.1f} Hz  answered {run['answered']} at "
        f"{run['answered_hz']:.1f} Hz  dropped: {drops}  latency p50 {latency['p50_ms']:.0f} "
        f"p99 {latency['p99_ms']:.0f} max {latency['max_ms']:.0f} ms  longest gap {run['longest_gap_s']:.2f} s  "
        f"cpu: {used}"
    )


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hsr.replay", description=__doc__.splitlines()[0])
    parser.add_argument("bag", metavar="BAG", help="folder of the recording, or its .mcap or .db3 file")
    parser.add_argument("--mode", choices=("paced", "stepped"), default="paced", help="default: paced")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of paced playing (default 1)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs, whose spread is told (default 1)")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="stepped: longest wait for an answer")
    parser.add_argument("--image-topic", default="", metavar="TOPIC", help="where the recording has several cameras")
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    parser.add_argument("--params", default="", help="parameter file for the perception node")
    parser.add_argument("--set", action="append", default=[], metavar="NAME:=VALUE", help="a perception parameter")
    parser.add_argument("--dds-profile", default="auto", help="auto, none, or the path of a Fast DDS profile")
    parser.add_argument("--log-dir", default="", help="where log folders go")
    parser.add_argument("--perception-module", default="hsr.perception_node", help=argparse.SUPPRESS)
    options = parser.parse_args(argv, namespace=parse_arguments(["--no-view"]))
    if options.repeat < 1:
        parser.error(f"--repeat must be at least 1, not {options.repeat}")
    return options


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    try:
        return Replay(options, bag_topics(options.bag, options.image_topic)).run()
    except (HsrError, BringupError, FileNotFoundError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
