"""`hsr export`: people and robots in the files of other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import progress, registry
from ..settings_options import add_settings_options, add_video_options, settings_of
from .base import ExportOptions
from .inputs import InputOptions
from .motion import GAP_S
from .run import RobotOptions, export


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("export", help="people and robots in the files of other programs")
    parser.add_argument(
        "input", metavar="INPUT", help="people.npz of `hsr run --out`, a folder of `hsr refine`, a recording, a video"
    )
    parser.add_argument("--format", required=True, metavar="NAME", help=", ".join(registry.names("exporter")))
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="file, or folder of lerobot and mcap")
    parser.add_argument("--person", default="primary", metavar="WHO", help="primary (default), all, or a track id")
    parser.add_argument("--smooth", default="", metavar="HOW", help="recorded, raw or zero-phase; default by format")
    parser.add_argument("--world", default="auto", metavar="HOW", help="auto (default), recorded or level")
    parser.add_argument("--fps", type=float, metavar="HZ", help="uniform rate (default: the recording's)")
    parser.add_argument("--gap", type=float, default=GAP_S, metavar="S", help=f"longer gaps split (default {GAP_S})")
    parser.add_argument("--topic", metavar="TOPIC", help="people of a recording (default: found by itself)")
    parser.add_argument("--body-models", default="", metavar="DIR", help="SMPL-X files, for amass")
    parser.add_argument("--mesh", default="auto", metavar="HOW", help="of glb: auto (default), off or licensed")
    parser.add_argument("--units", default="cm", metavar="UNIT", help="of bvh: cm (default) or m")
    parser.add_argument("--robot", default="", metavar="NAME", help="retarget to g1, talos, jvrc1 or a YAML file")
    parser.add_argument("--robot-mode", default="upper_body", metavar="MODE", help="upper_body (default) or whole_body")
    parser.add_argument("--robot-joints", default="", metavar="FROM", help="a CSV, or a JointState topic of INPUT")
    parser.add_argument("--task", default="a person moves", metavar="TEXT", help="of lerobot: what is done")
    parser.add_argument("--images", default="", metavar="INPUT", help="of lerobot: pictures that go with the people")
    parser.add_argument("--append", action="store_true", help="of lerobot: add episodes to a data set")
    parser.add_argument("--camera-name", default="camera", metavar="NAME", help="of lerobot (default camera)")
    add_video_options(parser)
    add_settings_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Export, with a progress bar while pictures are regressed or a recording is read."""
    options = ExportOptions(
        smoothing=args.smooth, world=args.world, fps=args.fps, gap_s=args.gap, mesh=args.mesh,
        body_models=args.body_models, units=args.units, task=args.task, images=args.images,
        camera_name=args.camera_name, append=args.append,
    )  # fmt: skip
    read = InputOptions(args.topic, settings_of(args), args.cameras, args.camera, max_frames=args.max_frames)
    with progress.bar():
        return export(
            args.input, args.format, args.out, person=args.person, options=options, input_options=read,
            robot=RobotOptions(args.robot, args.robot_mode, args.robot_joints),
        )  # fmt: skip
