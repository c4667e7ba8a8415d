"""The `hsr` command. The only place in the library that prints.

A command's function takes the parsed arguments and returns what to show, a dictionary, or an exit status.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import __version__
from .endings import ends_in_order
from .errors import ConfigError, HsrError, MissingPackage
from .near_names import did_you_mean
from .settings_options import add_settings_options, add_video_options, settings_of

LAZY = {
    "doctor": ("hsr_core.doctor", "what this machine has, what runs, and what to do to get more"),
    "weights": ("hsr_core.regress.pear.commands", "look into PEAR's checkpoint, or write a random one"),
    "regressor": ("hsr_core.bench_regressor", "PEAR's network on every runtime of this machine"),
    "engine": ("hsr_core.runtime.commands", "build, list, check and delete the engines that run the networks"),
    "synth": ("hsr_core.synth.command", "clothed synthetic people with exact truth, as folders and as a bag"),
    "bench refine": ("hsr_core.bench_refine", "refinement and its ablations on synthetic truth"),
    "refine": ("hsr_core.refine.command", "refine one person of a clip by rendering an avatar of them"),
    "export": ("hsr_core.export.command", "people and robots in the files of other programs"),
    "imitate": ("hsr_core.imitate.command", "a video to a robot's motion, a data set and a side-by-side video"),
    "eval": ("hsr_core.eval.command", "score recordings and data sets, compare results, write a report"),
    "render": ("hsr_core.bench_render", "Gaussians of a whole body on every renderer, forward and backward"),
    "people": ("hsr_core.bench_people", "speed and ids with several people in 1280x720 pictures"),
    "robot": ("hsr_core.retarget.commands", "robots for retargeting: list, check a mapping, draft one for a URDF"),
    "retarget": ("hsr_core.bench_retarget", "a robot that follows a person: time, tracking, limits, feet"),
    "accuracy": ("hsr_core.eval.accuracy", "joint errors against a reference recording"),
}
"""Commands whose module has `add_parser(subparsers)` and `run(args)`: imported only when they are called. The last
word is the command's name."""


SHORT = 100
"""Longest group of values that is shown on one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 done, 1 a condition failed or a part of the work could not be done, 2 wrong input, 130 stopped by Ctrl-C; ended by
    a signal, 128 and its number.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    logging.basicConfig(level=logging.WARNING, format="hsr: %(message)s", stream=sys.stderr)
    try:
        args = _parser(argv).parse_args(argv)
        with ends_in_order():
            answer = args.run(args)
    except HsrError as error:
        print(f"hsr: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `hsr ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"hsr: {error}", file=sys.stderr)
        return 2
    if isinstance(answer, int):
        return answer
    _show(answer, args.json)
    return 130 if answer.get("interrupted") else int(answer.get("failed", False))


class _Parser(argparse.ArgumentParser):
    """Refuses an unknown option by the usage of the command that it was given to, and names the nearest."""

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return namespace, unknown


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="hsr", description="Expressive 3D humans from one camera.")
    parser.add_argument("--version", action="version", version=f"hsr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    bench = commands.add_parser("bench", help="measure speed, accuracy, or the mesh message")
    benches = bench.add_subparsers(required=True, metavar="WHAT")
    _add_speed(benches)
    _add_smoothing(benches)
    _add_lazy(benches, "people", argv)
    _add_lazy(benches, "accuracy", argv)
    _add_lazy(benches, "regressor", argv)
    _add_lazy(benches, "render", argv)
    _add_lazy(benches, "bench refine", argv)
    _add_lazy(benches, "retarget", argv)
    _add_marker(benches)
    _add_lazy(commands, "weights", argv)
    _add_lazy(commands, "engine", argv)
    _add_lazy(commands, "synth", argv)
    _add_lazy(commands, "refine", argv)
    _add_lazy(commands, "export", argv)
    _add_lazy(commands, "imitate", argv)
    _add_lazy(commands, "eval", argv)
    _add_record(commands)
    _add_lazy(commands, "robot", argv)
    _add_lazy(commands, "doctor", argv)
    return parser


def _add_lazy(commands: Any, path: str, argv: Sequence[str]) -> None:
    module_name, text = LAZY[path]
    name = path.split()[-1]
    if name not in argv:
        commands.add_parser(name, help=text)
        return
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise MissingPackage(f"`hsr {name}` cannot start: {error}; run `make setup`") from error
    module.add_parser(commands)
    commands.choices[name].set_defaults(run=module.run)


# hsr run


def _add_run(commands: Any) -> None:
    from .sources import HELP

    run = commands.add_parser("run", help="process a recording or a camera without ROS")
    run.add_argument("source", metavar="SOURCE", help=HELP)
    run.add_argument("--out", type=Path, metavar="PEOPLE.npz", help="write everybody's parameters and joints")
    run.add_argument("--overlay", type=Path, metavar="OVERLAY.mp4", help="write a video with the people drawn over it")
    add_video_options(run)
    add_settings_options(run)
    run.add_argument("--json", action="store_true", help="print a JSON object as the last line")
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from .run import check_outputs, run
    from .sources import open_source
    from .sources.calibration import load_camera_if_given
    from .stream import HumanStream

    if args.max_frames is not None and args.max_frames < 1:
        raise ConfigError(f"--max-frames must be at least 1, not {args.max_frames}")
    settings = settings_of(args)
    camera = load_camera_if_given(args.cameras, args.camera)
    check_outputs(args.source, out=args.out, overlay=args.overlay)
    with open_source(args.source, camera=camera) as source, HumanStream(settings) as stream:
        limits = [n for n in (source.frame_count, args.max_frames) if n is not None]
        with logging_redirect_tqdm(), tqdm(total=min(limits, default=None), unit="frame", disable=None) as bar:
            summary = run(
                source,
                stream,
                out=args.out,
                overlay=args.overlay,
                max_frames=args.max_frames,
                on_frame=lambda frame, result: bar.update(),
            )
        facts = {"source": args.source, "regressor": stream.regressor.name, "body_model": stream.body.model_id}
    return summary.as_dict() | facts | _written(args)


def _written(args: argparse.Namespace) -> dict[str, str]:
    return {name: str(path) for name in ("out", "overlay") if (path := getattr(args, name)) is not None}


def _show(values: dict[str, Any], as_json: bool) -> None:
    """Print an answer: as JSON, as its own `text`, or name by name."""
    text = values.pop("text", None)
    if not as_json and text is not None:
        print(text)
        return
    if as_json:
        print(json.dumps(values), flush=True)
        return
    _show_nested(values, "")


def _show_nested(values: dict[str, Any], indent: str) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            line = ", ".join(f"{key} {inner}" for key, inner in value.items())
            if len(line) > SHORT or any(isinstance(inner, dict) for inner in value.values()):
                print(f"{indent}{name}:")
                _show_nested(value, f"{indent}  ")
                continue
            value = line
        print(f"{indent}{name}: {value}")


# hsr bench


def _add_speed(benches: Any) -> None:
    speed = benches.add_parser("speed", help="time per stage, body model, memory growth on a clip played in a loop")
    speed.add_argument("--source", default="clip", help="a video file; default: the bundled clip")
    speed.add_argument("--frames", type=int, default=300, help="frames to process (default 300)")
    add_settings_options(speed)
    speed.add_argument("--json", action="store_true", help="print a JSON object as the last line")
    speed.set_defaults(run=_speed)


def _speed(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from .bench import measure_speed

    with tqdm(total=args.frames, unit="frame", disable=None) as bar:
        return measure_speed(settings_of(args), args.source, args.frames, on_frame=bar.update)


def _add_smoothing(benches: Any) -> None:
    smoothing = benches.add_parser("smoothing", help="delay and jitter of the smoothing on a known motion with noise")
    smoothing.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="frame rate (default 30)")
    add_settings_options(smoothing)
    smoothing.add_argument("--json", action="store_true", help="print a JSON object as the last line")
    smoothing.set_defaults(run=_smoothing)


def _smoothing(args: argparse.Namespace) -> dict[str, Any]:
    from .bench_smoothing import measure_smoothing

    if not 5 <= args.rate <= 240:
        raise ConfigError(f"--rate must lie in 5..240 Hz, not {args.rate:g}")
    return measure_smoothing(settings_of(args).smoothing, args.rate)


def _add_marker(benches: Any) -> None:
    marker = benches.add_parser("marker", help="building and publishing the mesh message (needs ROS 2)")
    marker.add_argument("--json", action="store_true", help="print a JSON object as the last line")
    marker.set_defaults(run=_marker)


def _marker(args: argparse.Namespace) -> int:
    if find_spec("hsr") is None:
        raise MissingPackage(
            "`hsr bench marker` needs the ROS package `hsr`: run `make setup`, or source the workspace"
        )
    command = [sys.executable, "-m", "hsr.bench_marker", *(["--json"] if args.json else [])]
    return subprocess.run(command, check=False).returncode


# hsr record


def _add_record(commands: Any) -> None:
    record = commands.add_parser("record", help="record a run's images, people and statistics as a bag (needs ROS 2)")
    record.add_argument("path", metavar="BAG", help="folder of the bag; must not exist")
    record.add_argument("--image", default="/camera/image_raw", metavar="TOPIC", help="default: /camera/image_raw")
    record.add_argument("--camera-info", metavar="TOPIC", help="default: camera_info beside the image")
    record.add_argument("--namespace", default="/human", metavar="NAME", help="of the nodes; default: /human")
    record.add_argument("--topic", action="append", default=[], metavar="TOPIC", help="one more topic; may be repeated")
    record.add_argument("--for", dest="seconds", type=float, default=0.0, metavar="S", help="stop after S seconds")
    record.add_argument("--json", action="store_true", help="print a JSON object as the last line")
    record.set_defaults(run=_record)


def _record(args: argparse.Namespace) -> int:
    if find_spec("hsr") is None:
        raise MissingPackage("`hsr record` needs the ROS package `hsr`: run `make setup`, or source the workspace")
    image = args.image.removesuffix("/compressed")
    info = args.camera_info or f"{image.rpartition('/')[0]}/camera_info"
    arguments = ["-r", f"__ns:={args.namespace}", "-r", f"image:={image}", "-r", f"camera_info:={info}"]
    values = {"path": json.dumps(args.path), "seconds": float(args.seconds), "print_summary": str(args.json).lower()}
    if args.topic:
        values["extra_topics"] = json.dumps(args.topic)
    for name, value in values.items():
        arguments += ["-p", f"{name}:={value}"]
    command = [sys.executable, "-m", "hsr.child", str(os.getpid()), "hsr.record_node", "--ros-args", *arguments]
    # A session of its own, which can be nice as a whole. What ends this process ends the recorder in order.
    process = subprocess.Popen(command, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, frame: process.terminate())
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
