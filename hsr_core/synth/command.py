"""`hsr synth`: write a synthetic scene as folders of frames, and as a bag."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .scene import BACKGROUNDS, MAX_PEOPLE, NOISE, ORBITS, Scene, SceneOptions


def add_parser(commands: Any) -> None:
    synth = commands.add_parser("synth", help="write clothed synthetic people with exact truth")
    synth.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; made when missing")
    synth.add_argument("--seed", type=int, default=0, metavar="N", help="draws people, room and noise (default 0)")
    synth.add_argument("--frames", type=int, default=40, metavar="T", help="length of the clip, one turn (default 40)")
    synth.add_argument("--size", default="640x480", metavar="WxH", help="of the pictures [px] (default 640x480)")
    synth.add_argument("--people", type=int, default=1, metavar="P", help=f"1 to {MAX_PEOPLE} (default 1)")
    synth.add_argument("--clothing", default="on", metavar="on|off|AMOUNT", help="factor on its thickness (default on)")
    synth.add_argument("--noise", default="regressor", choices=NOISE, help="errors of the initial estimates and depth")
    synth.add_argument("--background", default="room", choices=BACKGROUNDS, help="none: cut out (default room)")
    synth.add_argument("--orbit", default="person", choices=ORBITS, help="who turns (default person)")
    synth.add_argument("--fps", type=float, default=10.0, metavar="HZ", help="frame rate of the stamps (default 10)")
    synth.add_argument("--bag", action="store_true", help="also write DIR/bag, a rosbag2 in mcap")
    synth.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    options = SceneOptions(
        frames=args.frames,
        image_hw=_size(args.size),
        people=args.people,
        clothing=_amount(args.clothing),
        noise=args.noise,
        background=args.background,
        orbit=args.orbit,
        fps=args.fps,
        seed=args.seed,
    )
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"--out wants a new or an empty folder; {args.out} is neither")
    started = time.perf_counter()
    folders = write_scene(options, args.out, bag=args.bag)
    return {
        "folders": [str(folder) for folder in folders],
        "bag": str(args.out / "bag") if args.bag else "",
        "frames": options.frames,
        "seconds": round(time.perf_counter() - started, 2),
    }


def write_scene(options: SceneOptions, out: Path, *, bag: bool = False) -> list[Path]:
    """Write a scene; show a progress bar on a terminal.

    One person's frames lie in `out` itself, those of several in `out/person0`, ... `scene.json` holds the options and
    the camera's pose in each frame.

    Returns:
        The folders, for `read_folder`.

    Raises:
        ConfigError: Frames or a bag are there already.
        MissingPackage: A bag is wanted and rosbags is not installed.
    """
    from tqdm import tqdm

    from ..refine.frames import FolderWriter
    from .bag import BagWriter
    from .benchmark import open_body

    body = open_body()
    scene = Scene(options, body)
    folders = [out] if options.people == 1 else [out / f"person{i}" for i in range(options.people)]
    with ExitStack() as stack:
        bag_writer = stack.enter_context(BagWriter(out / "bag", scene.camera, body)) if bag else None
        writers = [FolderWriter(folder, body_model=body.model_id) for folder in folders]
        for frame in tqdm(scene, unit="frame", disable=None):
            for writer, person in zip(writers, frame.people, strict=True):
                writer.add(person)
            if bag_writer is not None:
                bag_writer.add(frame.people)
        for writer in writers:
            writer.finish()
    (out / "scene.json").write_text(json.dumps(scene.facts(), indent=1) + "\n")
    return folders


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size wants WIDTHxHEIGHT, as in 640x480, not {text!r}")
    return int(height), int(width)


def _amount(text: str) -> float:
    try:
        return {"on": 1.0, "off": 0.0}[text] if text in ("on", "off") else float(text)
    except ValueError as error:
        raise ConfigError(f"--clothing wants on, off or a number, not {text!r}") from error
