"""`hsr imitate`: from a video to a robot's motion and a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import progress
from ..export.inputs import InputOptions
from ..export.motion import GAP_S
from ..settings_options import add_settings_options, add_video_options, parse_values, settings_of
from .report import as_text
from .run import ImitateOptions, imitate, teleop_settings


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    default = ImitateOptions()
    parser = commands.add_parser("imitate", help="a video to a robot's motion, a data set and a side-by-side video")
    parser.add_argument("input", metavar="VIDEO", help="a video, a folder of images, clip, a recording, or people.npz")
    parser.add_argument("--robot", required=True, metavar="NAME", help="g1, talos, jvrc1, or a mapping's YAML file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--mode", default=default.mode, metavar="MODE", help="of the robot: whole_body (default), upper_body"
    )
    parser.add_argument("--person", default=default.person, metavar="WHO", help="primary (default), all, a track id")
    parser.add_argument("--refine", action="store_true", help="correct the poses by an avatar of the person (slow)")
    parser.add_argument("--task", default=default.task, metavar="TEXT", help="what is done, for the data set")
    parser.add_argument("--images", default="", metavar="VIDEO", help="pictures that go with a people.npz")
    parser.add_argument("--camera-name", default=default.camera_name, metavar="NAME", help="in observation.images.NAME")
    parser.add_argument("--fps", type=float, metavar="HZ", help="rate of the data set (default: the recording's)")
    parser.add_argument(
        "--gap", type=float, default=GAP_S, metavar="S", help=f"longer gaps begin an episode (default {GAP_S})"
    )
    parser.add_argument(
        "--least",
        type=float,
        default=default.least_s,
        metavar="S",
        help=f"shortest episode (default {default.least_s})",
    )
    parser.add_argument("--world", default=default.world, metavar="HOW", help="auto (default), recorded or level")
    parser.add_argument("--no-video", action="store_true", help="do not draw the side-by-side video")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote")
    parser.add_argument(
        "--teleop", action="append", default=[], metavar="GROUP.NAME=VALUE", help="a setting of gate or solver; repeat"
    )
    add_video_options(parser)
    add_settings_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Imitate, with a progress bar, and return the report and its table."""
    read = InputOptions(None, settings_of(args), args.cameras, args.camera, max_frames=args.max_frames)
    options = ImitateOptions(
        mode=args.mode, person=args.person, task=args.task, refine=args.refine, images=args.images,
        camera_name=args.camera_name, fps=args.fps, gap_s=args.gap, least_s=args.least, world=args.world,
        video=not args.no_video, overwrite=args.overwrite, input=read,
        teleop=teleop_settings(parse_values(args.teleop, "--teleop")),
    )  # fmt: skip
    with progress.bar():
        report = imitate(args.input, args.robot, args.out, options)
    return report | {"failed": report["limits_violated"] > 0, "text": as_text(report)}
