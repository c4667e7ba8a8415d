"""Start the whole system: a camera, the perception node, the web view, if wanted the refiner and a robot that follows;
say how it goes; stop it without leftovers.

python -m hsr.bringup [--source SOURCE] [--for SECONDS] [--no-view] [--refine] [--teleop ROBOT] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from hsr_msgs.msg import WindowQuality
from lifecycle_msgs.msg import TransitionEvent
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from hsr_core.config import describe
from hsr_core.errors import HsrError
from hsr_core.sources import HELP as SOURCES
from hsr_core.sources import source_exists

from . import bringup_teleop, qos
from .bringup_teleop import RETARGET, Teleop
from .lifecycle import LifecycleClient
from .meter import KEPT, Meter
from .network import network_environment
from .parameter_files import check_file, check_pairs
from .processes import NodeProcess, cpu_s, stop_all, worth_showing
from .refine_params import DEFAULTS as REFINER_DEFAULTS

PERCEPTION, REFINER = "/human/perception", "/human/refiner"
_LIFECYCLES = ("perception: lifecycle", "refiner: lifecycle", "retarget: lifecycle")
LOAD_BODY = """
import sys
from hsr_core.body import load_body
from hsr_core.errors import HsrError
try:
    load_body(sys.argv[1])
except HsrError as error:
    sys.exit(str(error))
"""
CONFIGURE_LIMIT_S = 3600.0
"""An engine for a large network on a small GPU takes long; what it is doing is shown meanwhile."""
FIRST_FRAME_LIMIT_S = 30.0
DISCOVERY_S = 3.0
"""Within this nodes of other processes are seen. With the transport profile they announce themselves twice a second."""
SILENT_S = 20.0
"""A node of ours that said nothing may take so long to be seen on a busy computer."""
KEPT_LOG_FOLDERS = 10
TOPICS = (
    ("/human/people", "everybody of each frame: parameters, 55 joints"),
    ("/human/mesh", "the mesh, for RViz"),
    ("/human/skeleton", "the joints, for RViz"),
    ("/human/joint_states", "165 joint angles of the primary person"),
    ("/human/overlay", "the image with the people drawn over it"),
    ("/human/stats", "what each frame cost"),
)
REFINED_TOPICS = (
    ("/human/refined/people", "people of finished windows, with the stamps of their images"),
    ("/human/refined/mesh", "the newest refined mesh, for RViz"),
    ("/human/refined/quality", "how each window went"),
    ("/human/refined/gaussians", "the avatar as coloured points, for RViz"),
    ("/human/refined/render", "the avatar drawn as the camera would see it"),
)


class BringupError(Exception):
    """The system did not come up, or did not stay up; the text says which part and why."""


@dataclass(frozen=True)
class Camera:
    """Where images come from.

    Attributes:
        topic: Image topic, without `/compressed`.
        info: Camera info topic.
        source: For the source node; "" = somebody else publishes.
        compressed: Subscribe to JPEG images.
    """

    topic: str
    info: str
    source: str
    compressed: bool = False

    @classmethod
    def parse(cls, text: str) -> Camera:
        kind, _, topic = text.partition(":")
        if kind != "topic":
            source = text or "clip"
            if not source_exists(source):
                raise BringupError(f"no source {source!r}; it can be topic:/my/camera/image_raw, {SOURCES}")
            return cls("/camera/image_raw", "/camera/camera_info", source)
        if not topic.startswith("/"):
            raise BringupError(f"{text!r}: a topic is given in full, as in topic:/my/camera/image_raw")
        compressed = topic.endswith("/compressed")
        base = topic.removesuffix("/compressed")
        return cls(base, f"{base.rpartition('/')[0]}/camera_info", "", compressed)


class Bringup:
    """The processes, and this process's own node that drives and measures them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._camera = Camera.parse(options.source)
        if options.params:
            check_file(options.params)
        check_pairs(options.set, "perception")
        check_pairs(options.refine_set, "refiner")
        self._stop = False
        self._gave_up = False
        self._activated = False
        self._start_up = ""
        self._windows, self._rejected = 0, Counter[str]()
        self._window_s: deque[float] = deque(maxlen=KEPT)
        self._lifecycles: dict[str, LifecycleClient] = {}
        self._teleop = Teleop(options, self._camera.source) if options.teleop else None
        self._processes: dict[str, NodeProcess] = {}
        self._log_dir = _new_log_dir(options.log_dir)
        os.environ.update(network_environment(options.dds_profile, options.interface, self._log_dir))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self._on_signal)

    def run(self) -> int:
        """Run until told to stop; return the exit code."""
        failure, codes = "", {}
        try:
            self._open_node()
            self._start_perception()
            self._prepare_body()
            self._check_alone(self._opened_s + DISCOVERY_S)
            self._start_source()
            self._drive("configure", CONFIGURE_LIMIT_S)
            self._drive("activate", 30.0)
            self._check_alone(0.0)  # on a busy computer another system is seen late
            self._start_refiner()
            self._start_teleop()
            self._greet()
            self._watch()
        except BringupError as error:
            failure = str(error)
        except BrokenPipeError:  # the terminal went away
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            summary = self._summary() if hasattr(self, "_meter") else {}
            codes = self._close()
            if summary and self._options.refine:  # one may be told while perception is deactivated
                summary["windows"] = self._windows_summary()
        if failure:
            print(f"\nfailed: {failure}\nlogs: {self._log_dir}", file=sys.stderr, flush=True)
        if self._options.json:
            print(json.dumps({"ok": not failure, "error": failure, **summary, "returncodes": codes}), flush=True)
        return 1 if failure else 0

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop = True

    # Up

    def _start_perception(self) -> None:
        camera, options = self._camera, self._options
        if options.view:
            words = ["-r", f"image:={camera.topic}", *_set("port", options.port)]
            self._start("view", "hsr.view_node", words + (self._teleop.view_arguments() if self._teleop else []))
        arguments = [*self._inputs(), *self._file()]
        if camera.compressed:
            arguments += _set("input.transport", "compressed")
        if options.refine and camera.source == "clip":
            # On a CPU a window takes as long as it lasts: the clip's passers-by would take each second turn.
            arguments += _set("people.max", 1)
        if self._teleop:
            arguments += self._teleop.perception_arguments()
        for pair in options.set:
            arguments += ["-p", pair]
        self._start("perception", options.perception_module, arguments)

    def _start_refiner(self) -> None:
        """Start the refiner last: it makes itself nice, and what it loads must not hold up the people."""
        options, camera = self._options, self._camera
        if not options.refine or self._stop:
            return
        arguments = [*self._inputs(), *self._file()]
        if camera.compressed:
            arguments += _set("input.transport", "compressed")
        shared = {spec.name for spec in describe(REFINER_DEFAULTS)}
        for pair in options.set:
            if pair.partition(":=")[0] in shared:  # what both have, such as body_model.path, is the same for both
                arguments += ["-p", pair]
        for pair in options.refine_set:
            arguments += ["-p", pair]
        self._node.create_subscription(WindowQuality, "/human/refined/quality", self._on_window, qos.quality())
        self._start("refiner", options.refine_module, arguments)
        self._bring_up("refiner", REFINER)

    def _start_teleop(self) -> None:
        """Start what commands the robot, and the robot if it is simulated."""
        if not self._teleop or self._stop:
            return
        self._start("retarget", self._options.retarget_module, [*self._file(), *self._teleop.retarget_arguments()])
        if (arguments := self._teleop.sim_arguments()) is not None:
            self._start("robot_sim", "hsr.robot_sim_node", arguments)
        self._bring_up("retarget", RETARGET)

    def _bring_up(self, name: str, node: str) -> None:
        self._lifecycles[name] = LifecycleClient(self._node, self._executor, node)
        for transition, limit_s in (("configure", CONFIGURE_LIMIT_S), ("activate", 30.0)):
            self._drive(transition, limit_s, name)

    def _inputs(self) -> list[str]:
        """Return the arguments that give the nodes their camera."""
        return ["-r", f"image:={self._camera.topic}", "-r", f"camera_info:={self._camera.info}"]

    def _file(self) -> list[str]:
        """Return the argument of the parameter file: before those by `-p`, for ROS takes what comes last."""
        return ["--params-file", self._options.params] if self._options.params else []

    def _on_window(self, quality: WindowQuality) -> None:
        """Say how a window of the refiner went."""
        self._windows += 1
        if not quality.accepted:
            self._rejected[quality.reason] += 1
        self._window_s.append(quality.time_ms / 1e3)
        verdict = "accepted" if quality.accepted else f"rejected: {quality.reason}"
        print(
            f"        window  {quality.id} {quality.status}  {quality.frames} frames  {quality.iterations} steps  "
            f"{quality.time_ms / 1e3:.1f} s  objective {quality.objective_before:.4f} -> {quality.objective_after:.4f}"
            f"  {quality.psnr_db:.1f} dB  IoU {quality.mask_iou:.2f}  {quality.gaussians} Gaussians  {verdict}",
            flush=True,
        )

    def _start_source(self) -> None:
        if self._camera.source:
            arguments = [*_set("source", self._camera.source), *_set("hfov_deg", self._options.hfov)]
            if (self._options.refine or self._teleop) and self._camera.source == "clip":
                # One person over many seconds for an avatar and a robot; a cut each 3.8 s would make them somebody new.
                arguments += _set("back_and_forth", "true")
            self._start("source", "hsr.source_node", arguments)

    def _start(self, name: str, module: str, arguments: list[str]) -> None:
        ros_arguments = ["--ros-args", *arguments]
        self._processes[name] = NodeProcess(name, module, ros_arguments, self._log_dir, os.environ)

    def _prepare_body(self) -> None:
        """Build the open body once, where its progress can be seen."""
        if self._options.perception_module != "hsr.perception_node":
            return
        path = next((pair.partition(":=")[2] for pair in self._options.set if pair.startswith("body_model.path:=")), "")
        child = subprocess.Popen([sys.executable, "-c", LOAD_BODY, path])
        while child.poll() is None:
            if self._stop:
                child.terminate()
                child.wait()
                return
            self._check_alive()
            time.sleep(0.05)
        if child.returncode:
            raise BringupError("the body model could not be loaded; see above")

    def _open_node(self) -> None:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)  # --set is not a remapping
        self._node = rclpy.create_node("bringup", namespace="human")
        self._opened_s = time.monotonic()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._meter = Meter(self._node)
        self._lifecycle = self._lifecycles["perception"] = LifecycleClient(self._node, self._executor, PERCEPTION)
        if self._teleop:
            self._teleop.begin(self._node)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._node.create_subscription(TransitionEvent, f"{PERCEPTION}/transition_event", self._on_transition, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """Show what a slow configure is doing, whenever that is news."""
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if status.name in _LIFECYCLES and "phase" in values and status.message != self._start_up:
                self._start_up = status.message
                print(f"start-up  {status.message}", flush=True)

    def _on_transition(self, event: TransitionEvent) -> None:
        self._gave_up |= event.goal_state.label == "errorprocessing"

    def _check_alone(self, deadline: float) -> None:
        """Refuse to run beside another perception node: it would answer for ours, and publish on the same topics.

        Args:
            deadline: Look until then, on the monotonic clock [s].
        """
        while not self._stop and time.monotonic() < deadline and self._alone():
            self._check_alive()
            time.sleep(0.05)
        if not self._alone():
            raise BringupError(
                f"another {PERCEPTION} runs in ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}: "
                "stop it, or choose another domain by ROS_DOMAIN_ID"
            )

    def _alone(self) -> bool:
        nodes = [f"{space.rstrip('/')}/{name}" for name, space in self._node.get_node_names_and_namespaces()]
        return nodes.count(PERCEPTION) <= ("perception" in self._processes)

    def _drive(self, transition: str, limit_s: float, name: str = "perception") -> None:
        if self._stop:
            return
        client = self._lifecycles[name]
        done = client.change(transition, limit_s, alive=self._still_up)
        self._show_logs()
        if not done and not self._stop:
            self._check_alive()
            process = self._processes[name]
            # On a busy computer another system's node answers before ours is up, and has said a word.
            self._check_alone(time.monotonic() + (DISCOVERY_S if process.tail() else SILENT_S))
            raise BringupError(f"the {name} node did not {transition}; the end of its log:\n{process.tail()}")
        self._activated |= done and transition == "activate" and name == "perception"

    def _greet(self) -> None:
        if self._stop:
            return
        camera = self._camera
        topic = f"{camera.topic}/compressed" if camera.compressed else camera.topic
        print(f"camera  {topic} ({camera.source or 'not started here'})")
        teleop = bringup_teleop.TOPICS if self._teleop else ()
        for topic, text in (*TOPICS, *(REFINED_TOPICS if self._options.refine else ()), *teleop):
            print(f"topic   {topic:<22} {text}")
        for line in self._teleop.greeting() if self._teleop else ():
            print(line)
        print(f"logs    {self._log_dir}", flush=True)

    # Running

    def _watch(self) -> None:
        started = time.monotonic()
        self._cpu_start = self._cpu()
        report_s, seen, ended = started + 1.0, (0, 0), False
        while not self._stop and not ended:
            self._executor.spin_once(timeout_sec=0.1)
            now = time.monotonic()
            if now < report_s:
                continue
            report_s += 1.0
            self._check_alive()
            self._show_logs()
            seen = self._report(now - started, seen)
            if self._meter.stats is None and self._camera.source and now - started > FIRST_FRAME_LIMIT_S:
                raise BringupError(f"no frame was processed within {FIRST_FRAME_LIMIT_S:.0f} s")
            ended = self._options.seconds > 0 and now - started >= self._options.seconds

    def _report(self, elapsed_s: float, seen: tuple[int, int]) -> tuple[int, int]:
        """Print the line of this second; return what the next one starts from."""
        stats, meter = self._meter.stats, self._meter
        if stats is None:
            print(f"{elapsed_s:5.0f} s  no frame processed yet", flush=True)
            return seen
        received, meshes = seen
        p50, p99 = meter.latency_ms.percentiles(50, 99, newest=meter.meshes - meshes)
        latency = f"p50 {p50:.0f} p99 {p99:.0f} ms" if meter.meshes > meshes else "-"
        print(
            f"{elapsed_s:5.0f} s  in {stats.received:5d} (+{stats.received - received})  processed {stats.processed:5d}"
            f"  dropped: busy {stats.dropped_busy} stale {stats.dropped_stale} bad {stats.dropped_bad} "
            f"lost {stats.dropped_gap}  latency {latency}  people {stats.people}",
            flush=True,
        )
        if self._teleop:
            print(f"        {self._teleop.meter.line()}", flush=True)
        return stats.received, meter.meshes

    def _still_up(self) -> bool:
        return not self._stop and all(process.returncode is None for process in self._processes.values())

    def _check_alive(self) -> None:
        if self._gave_up and not self._stop:
            tail = self._processes["perception"].tail()
            raise BringupError(f"the perception node gave up; the end of its log:\n{tail}")
        for name, process in self._processes.items():
            if process.returncode is not None and not self._stop:
                raise BringupError(
                    f"the {name} node ended with code {process.returncode}; the end of its log:\n{process.tail()}"
                )

    def _show_logs(self) -> None:
        for name, process in self._processes.items():
            for line in process.new_lines():
                if name == "view" and line.startswith("view: "):
                    print(f"\n{line}\n", flush=True)
                elif worth_showing(line):
                    print(f"[{name}] {line}", file=sys.stderr, flush=True)

    def _cpu(self) -> tuple[float, dict[str, float]]:
        used = {name: process.cpu_s() for name, process in self._processes.items()}
        return time.monotonic(), {**used, "bringup": cpu_s(os.getpid())}

    # Down

    def _summary(self) -> dict:
        stats, meter = self._meter.stats, self._meter
        perception = self._processes.get("perception")
        p50, p99, largest = (_number(value) for value in meter.latency_ms.percentiles(50, 99, 100))
        summary = {
            "source": self._camera.source or self._camera.topic,
            "seconds": _number(time.monotonic() - self._cpu_start[0]) if hasattr(self, "_cpu_start") else 0.0,
            "frames": {"in": 0, "processed": 0, "dropped": {"busy": 0, "stale": 0, "bad": 0, "lost": 0}},
            "fps_processed": _number(meter.processed_hz()),
            "latency_ms": {"p50": p50, "p99": p99, "max": largest, "meshes": meter.meshes},
            "stage_ms": {name: _number(value) for name, value in meter.stage_ms().items()},
            "people": stats.people if stats else 0,
            "perception_rss_mb": _number(perception.rss_mb()) if perception else None,
            "cpu_percent": self._cpu_percent(),
        }
        if self._teleop:
            summary["teleop"] = self._teleop.meter.summary()
        if stats:
            summary["frames"] = {
                "in": stats.received,
                "processed": stats.processed,
                "dropped": {
                    "busy": stats.dropped_busy,
                    "stale": stats.dropped_stale,
                    "bad": stats.dropped_bad,
                    "lost": stats.dropped_gap,
                },
            }
        return summary

    def _windows_summary(self) -> dict:
        return {
            "all": self._windows,
            "accepted": self._windows - self._rejected.total(),
            "rejected": dict(self._rejected),
            "seconds": [_number(seconds) for seconds in self._window_s],
        }

    def _cpu_percent(self) -> dict[str, float | None]:
        if not hasattr(self, "_cpu_start"):
            return {}
        (begin, used), (end, now_used) = self._cpu_start, self._cpu()
        return {name: _number(100 * (now_used[name] - used[name]) / max(end - begin, 1e-3)) for name in used}

    def _close(self) -> dict[str, int | None]:
        """Clear the displays, stop the processes; return their exit codes."""
        try:
            # Only what was activated here: another system's node of this name must not be stopped for ours.
            if self._activated and self._processes["perception"].returncode is None and self._alone():
                self._lifecycle.change("deactivate", 2.0)
        finally:
            codes = stop_all(self._processes.values())
            if hasattr(self, "_node"):
                self._executor.shutdown()
                self._node.destroy_node()
                rclpy.try_shutdown()
        return codes


def _set(name: str, value: object) -> list[str]:
    """Return arguments that set a parameter; none for an empty value."""
    return ["-p", f"{name}:={value}"] if value not in ("", None) else []


def _number(value: float) -> float | None:
    """Round for JSON, which has no NaN."""
    return None if value != value else round(value, 2)


def _new_log_dir(folder: str) -> Path:
    """Make a log folder named by the time; the oldest ones go."""
    base = Path(folder or os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hsr" / "log"
    path = base / time.strftime("%Y%m%d-%H%M%S")
    path = path.with_name(f"{path.name}-{os.getpid()}")
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise BringupError(f"no log folder {path} ({error.strerror}); name another by --log-dir") from error
    for old in sorted(base.iterdir())[:-KEPT_LOG_FOLDERS]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hsr.bringup", description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="", help="path.mp4, webcam:0, synthetic, topic:/my/camera/image_raw; "
                        "empty: the bundled clip")  # fmt: skip
    parser.add_argument("--for", dest="seconds", type=float, default=0.0, help="stop after so many seconds; 0 = never")
    parser.add_argument("--view", action=argparse.BooleanOptionalAction, default=True, help="start the web view")
    parser.add_argument("--port", type=int, default=8080, help="port of the web view")
    parser.add_argument("--json", action="store_true", help="print a summary as the last line")
    parser.add_argument("--hfov", type=float, default=None, help="field of view of an uncalibrated source [deg]")
    parser.add_argument("--params", default="", help="parameter file for the perception node")
    parser.add_argument("--set", action="append", default=[], metavar="NAME:=VALUE", help="a perception parameter")
    parser.add_argument("--dds-profile", default="auto", help="auto, none, or the path of a Fast DDS profile")
    parser.add_argument("--interface", default="", help="network interface (name or address) for DDS beside the "
                        "loopback; all; empty: the loopback alone")  # fmt: skip
    parser.add_argument("--log-dir", default="", help="where log folders go")
    parser.add_argument("--refine", action="store_true", help="start the refiner")
    parser.add_argument("--refine-set", action="append", default=[], metavar="NAME:=VALUE", help="a refiner parameter")
    bringup_teleop.add_arguments(parser)
    parser.add_argument("--retarget-module", default="hsr.retarget_node", help=argparse.SUPPRESS)
    parser.add_argument("--refine-module", default="hsr.refine_node", help=argparse.SUPPRESS)
    parser.add_argument("--perception-module", default="hsr.perception_node", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    try:
        return Bringup(parse_arguments(argv)).run()
    except (BringupError, HsrError, FileNotFoundError) as error:
        print(f"bringup: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
