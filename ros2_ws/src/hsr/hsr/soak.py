"""A long run with trouble: camera and node are killed, restarted and cycled, and nothing may stay behind.

    python -m hsr.soak --for 1800 --json soak.json

The true perception node, on a clip that plays as a camera. At random times one of these happens: the camera stops or is
killed and comes back; the node is deactivated, cleaned up, configured and activated; the node is killed and started
again (in the first third only, so that one process lives long enough for its growth to mean something). It measures
how soon people come again, whether each stamp is one that an image had, and what the process holds. The exit code is 0
when all bounds hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from .environment import transport_environment
from .lifecycle import LifecycleClient
from .processes import NodeProcess, stop_all
from .soak_watch import Growth, StampWatch, footprint

NAMESPACE = "/human"
INFO = "/camera/camera_info"
LIMIT_S = 60.0
"""Longest wait for people before the run is given up."""
SETTLED_S = 5.0
SAMPLE_S = 5.0
BOUNDS = {"memory_growth_percent": 1.0, "recovery_s": 3.0}
KINDS = ("camera restart", "camera killed", "lifecycle cycle", "node killed")


class SoakError(Exception):
    """The run cannot go on; the text says what did not happen."""


class Soak:
    """The processes and this process's node, which watches them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._random = random.Random(options.seed)
        self._stop = False
        self._log_dir = Path(options.log_dir or tempfile.mkdtemp(prefix="hsr_soak_"))
        self._log_dir.mkdir(parents=True, exist_ok=True)
        self._starts = 0
        self._bag: list[str] = []
        self._processes: dict[str, NodeProcess] = {}
        self._recoveries: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self._lives: list[dict[str, float]] = []
        self._events: list[dict] = []
        self._began_s = time.monotonic()
        self._calm_since_s = time.monotonic()
        os.environ.update(transport_environment())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def run(self) -> dict:
        """Run to the end; return the summary."""
        failure = ""
        began_s = time.monotonic()
        self._open()
        try:
            self._start_camera()
            self._start_node()
            self._bring_up("start")
            self._trouble(began_s + self._options.seconds)
        except SoakError as error:
            node = self._processes.get("node")
            failure = f"{error}\n{node.tail() if node else ''}"
        finally:
            self._end_life()
            stop_all(self._processes.values())
            self._executor.shutdown()
            self._node.destroy_node()
            rclpy.try_shutdown()
        return self._summary(failure, time.monotonic() - began_s)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop = True

    def _open(self) -> None:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("soak", namespace=NAMESPACE)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._watch = StampWatch(self._node, NAMESPACE, INFO, self._options.rate)
        self._lifecycle = LifecycleClient(self._node, self._executor, f"{NAMESPACE}/perception")

    # What runs

    def _start_camera(self) -> None:
        options = self._options
        arguments = {"source": options.source, "rate_hz": float(options.rate), "hfov_deg": 60.0}
        self._start("camera", "hsr.source_node", arguments)

    def _start_node(self) -> None:
        arguments = dict(pair.split(":=", 1) for pair in self._options.set)
        self._start("node", self._options.perception_module, arguments, "image", "camera_info")
        self._growth = Growth(self._options.warm_up or min(60.0, 0.1 * self._options.seconds))

    def _start(self, name: str, module: str, parameters: dict, *inputs: str) -> None:
        topics = {"image": "/camera/image_raw", "camera_info": INFO}
        arguments = ["--ros-args"]
        for key, value in parameters.items():
            arguments += ["-p", f"{key}:={value}"]
        for key in inputs:
            arguments += ["-r", f"{key}:={topics[key]}"]
        self._starts += 1
        self._processes[name] = NodeProcess(f"{name}{self._starts}", module, arguments, self._log_dir, os.environ)

    def _bring_up(self, why: str) -> None:
        """Configure and activate; a new process is asked again until it answers."""
        self._until(lambda: self._lifecycle.state(timeout_s=0.5) is not None, f"an answer of the node ({why})")
        for transition in ("configure", "activate"):
            if not self._lifecycle.change(transition, LIMIT_S):
                raise SoakError(f"{why}: the node did not {transition}")
        since_ns = time.time_ns()
        self._until(lambda: self._watch.last_seen_ns > since_ns, f"people ({why})")

    # What happens

    def _trouble(self, end_s: float) -> None:
        began_s = time.monotonic()
        kills_until_s = began_s + (end_s - began_s) / 3
        next_s, next_sample_s = began_s + self._pause(), began_s + SAMPLE_S
        while time.monotonic() < end_s and not self._stop:
            self._spin(0.2)
            now = time.monotonic()
            if now >= next_sample_s:
                next_sample_s = now + SAMPLE_S
                self._look(now)
            if now >= next_s:
                self._make(self._draw(kills=now < kills_until_s))
                self._calm_since_s = time.monotonic()
                next_s = self._calm_since_s + self._pause()

    def _draw(self, kills: bool) -> str:
        """Return the next trouble: each kind once, in random order, before any comes again."""
        possible = [kind for kind in self._options.kinds if kills or kind != "node killed"] or list(self._options.kinds)
        self._bag = [kind for kind in self._bag if kind in possible]
        if not self._bag:
            self._bag = possible
            self._random.shuffle(self._bag)
        return self._bag.pop()

    def _pause(self) -> float:
        return self._options.every * self._random.uniform(0.5, 1.5)

    def _look(self, now: float) -> None:
        self._watch.judge()
        for name, process in self._processes.items():
            if process.returncode is not None:
                raise SoakError(f"{name} ended by itself with code {process.returncode}")
        if now - self._calm_since_s > SETTLED_S:
            self._growth.add(footprint(self._processes["node"].pid))

    def _make(self, kind: str) -> None:
        if kind.startswith("camera"):
            seconds = self._restart_camera(kill=kind.endswith("killed"))
        elif kind == "lifecycle cycle":
            seconds = self._cycle()
        else:
            seconds = self._kill_node()
        if self._stop:  # nobody waited for people
            return
        self._recoveries[kind].append(seconds)
        held = footprint(self._processes["node"].pid)
        self._events.append({"at_s": round(time.monotonic() - self._began_s, 1), "kind": kind, "people_after_s":
                             round(seconds, 2), "rss_mb": held and round(held.rss), "private_mb": held and
                             round(held.private)})  # fmt: skip
        print(f"{time.strftime('%H:%M:%S')}  {kind:<16} people again after {seconds:.2f} s  "
              f"{self._events[-1]['private_mb']} MB", flush=True)  # fmt: skip

    def _restart_camera(self, kill: bool) -> float:
        """Return the time from the first image of the new camera to the first people."""
        self._end("camera", signal.SIGKILL if kill else signal.SIGTERM)
        self._spin(self._random.uniform(0.0, 3.0))
        before_ns = time.time_ns()
        self._start_camera()
        self._until(lambda: self._watch.last_image_ns > before_ns, "images of the new camera")
        begin_s = time.monotonic()
        self._until(lambda: self._watch.last_seen_ns > before_ns, "people of the new camera's images")
        return time.monotonic() - begin_s

    def _cycle(self) -> float:
        """Return the time from the request to configure to the first people."""
        for transition in ("deactivate", "cleanup"):
            if not self._lifecycle.change(transition, LIMIT_S):
                raise SoakError(f"the node did not {transition}")
        begin_s = time.monotonic()
        self._bring_up("lifecycle cycle")
        return time.monotonic() - begin_s

    def _kill_node(self) -> float:
        """Return the time from the start of the new process to the first people."""
        self._end_life()
        self._end("node", signal.SIGKILL)
        begin_s = time.monotonic()
        self._start_node()
        self._bring_up("node killed")
        return time.monotonic() - begin_s

    def _end(self, name: str, number: int) -> None:
        process = self._processes[name]
        process.signal(number)
        self._until(lambda: process.returncode is not None, f"the end of {name}")
        del self._processes[name]
        process.close()

    def _end_life(self) -> None:
        summary = self._growth.summary()
        if summary:
            self._lives.append(summary)

    def _spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not self._stop:
            self._executor.spin_once(timeout_sec=left_s)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition() and not self._stop:
            if time.monotonic() > deadline:
                raise SoakError(f"not within {LIMIT_S:g} s: {what}")
            self._executor.spin_once(timeout_sec=0.02)

    # What is said

    def _summary(self, failure: str, seconds: float) -> dict:
        watch = self._watch
        p50, p99 = watch.latency_ms.percentiles(50, 99)
        longest = max(self._lives, key=lambda life: life["seconds"], default={})
        recovery_s = {
            kind: {"times": len(took), "median": round(sorted(took)[len(took) // 2], 2), "max": round(max(took), 2)}
            for kind, took in self._recoveries.items()
            if took
        }
        out = {
            "seconds": round(seconds), "rate_hz": self._options.rate, "seed": self._options.seed, "failure": failure,
            "images": watch.images, "frames": watch.frames, "meshes": watch.meshes,
            "latency_ms": {"p50": round(p50, 1), "p99": round(p99, 1)},
            "recovery_s": recovery_s, "stamp_faults": watch.faults,
            "stamps_of_unheard_images": watch.unknown, "longest_life": longest, "lives": self._lives,
            "events": self._events,
        }  # fmt: skip
        out["broken"] = broken(out)
        return out


def broken(summary: dict) -> list[str]:
    """Return the bounds that a run did not keep to, each as a sentence; none: all is well."""
    life, out = summary["longest_life"], []
    if summary["failure"]:
        out.append(f"it could not go on: {summary['failure'].splitlines()[0]}")
    if not life:
        out.append("no process lived long enough to judge its growth")
    elif life["rss_growth_percent"] >= BOUNDS["memory_growth_percent"]:
        out.append(f"memory grew by {life['rss_growth_percent']:.2f} %")
    for name in ("threads", "handles") if life else ():
        if life[f"{name}_last"] > life[f"{name}_first"]:
            out.append(f"{name} grew from {life[f'{name}_first']:g} to {life[f'{name}_last']:g}")
    for kind, took in summary["recovery_s"].items():
        if took["max"] >= BOUNDS["recovery_s"]:
            out.append(f"{kind}: people came again after {took['max']:.1f} s")
    if summary["stamp_faults"]:
        out.append(f"{len(summary['stamp_faults'])} stamps were wrong, first: {summary['stamp_faults'][0]}")
    return out


def table(summary: dict) -> str:
    """Return the summary as a table in Markdown."""
    life, latency = summary["longest_life"], summary["latency_ms"]
    rows = [
        ("duration, rate of the camera", f"{summary['seconds']} s, {summary['rate_hz']:g} Hz"),
        ("images sent, frames processed, meshes received",
         f"{summary['images']}, {summary['frames']}, {summary['meshes']}"),
        ("latency p50, p99 (over everything)", f"{latency['p50']:.0f}, {latency['p99']:.0f} ms"),
        *((f"people again after: {kind} ({took['times']} times)",
           f"median {took['median']:.2f} s, max {took['max']:.2f} s") for kind, took in summary["recovery_s"].items()),
        ("wrong stamps", str(len(summary["stamp_faults"]))),
    ]  # fmt: skip
    if life:
        rows += [
            (f"memory of the longest life ({life['seconds']:.0f} s)",
             f"{life['rss_first']:.0f} to {life['rss_last']:.0f} MB ({life['rss_growth_percent']:+.2f} %)"),
            ("of it private", f"{life['private_first']:.0f} to {life['private_last']:.0f} MB "
             f"({life['private_growth_percent']:+.2f} %)"),
            ("threads, file handles", f"{life['threads_first']:.0f} to {life['threads_last']:.0f}, "
             f"{life['handles_first']:.0f} to {life['handles_last']:.0f}"),
        ]  # fmt: skip
    return "\n".join(["| what | result |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _kinds(text: str) -> list[str]:
    unknown = sorted(set(text.split(",")) - set(KINDS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no such trouble: {', '.join(unknown)}")
    return text.split(",")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hsr.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--for", dest="seconds", type=float, default=1800.0, help="duration [s]")
    parser.add_argument("--rate", type=float, default=15.0, help="images per second [Hz]")
    parser.add_argument("--every", type=float, default=20.0, help="mean time between two troubles [s]")
    parser.add_argument("--warm-up", type=float, default=0.0, help="of each process, before growth counts [s]; 0 = a "
                        "tenth of the run, at most 60")  # fmt: skip
    parser.add_argument("--kinds", type=_kinds, default=list(KINDS), metavar="A,B",
                        help=f"what happens, of: {', '.join(KINDS)}")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the times and kinds of trouble")
    parser.add_argument("--source", default="clip", help="as for the source node")
    parser.add_argument("--set", action="append", default=[], metavar="NAME:=VALUE", help="a perception parameter")
    parser.add_argument("--json", default="", help="file for the result")
    parser.add_argument("--log-dir", default="", help="where the logs go")
    parser.add_argument("--perception-module", default="hsr.perception_node", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    summary = Soak(options).run()
    if options.json:
        Path(options.json).write_text(json.dumps(summary, indent=1) + "\n")
    print(f"\n{table(summary)}\n")
    for text in summary["broken"]:
        print(f"not kept: {text}", file=sys.stderr)
    return 1 if summary["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
