"""`hsr refine`: refine one person of a clip or of a folder of frames, and show what it did."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..body import load_body
from ..body.ehm import EhmBody
from ..errors import ConfigError, MissingFile
from ..eval.refine_metrics import pose_errors
from ..settings_options import add_camera_options, add_settings_options, settings_of
from .avatar_io import save_avatar, write_ply
from .binding import BINDINGS
from .frames import PARAMETERS, RefineFrame, read_folder
from .offline import OfflineSettings, RefinedClip, refine_clip

DEPTH = ("auto", "off")


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("refine", help="refine one person of a clip by rendering an avatar of them")
    parser.add_argument("input", metavar="INPUT", help="a folder of frames (`hsr synth`), a video, or `clip`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new or empty folder for the results")
    parser.add_argument("--binding", choices=list(BINDINGS), default="camel", help="of Gaussians (default camel)")
    parser.add_argument("--depth", choices=DEPTH, default="auto", help="auto: where frames have it (default)")
    parser.add_argument("--no-pose", action="store_true", help="learn the avatar alone")
    parser.add_argument("--steps", type=int, default=1200, metavar="N", help="default 1200")
    parser.add_argument("--gaussians", type=int, default=5000, metavar="N", help="at the start (default 5000)")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="height of the person (default 256)")
    parser.add_argument("--every", type=int, default=4, metavar="N", help="of a video: each n-th frame (default 4)")
    parser.add_argument("--frames", type=int, default=60, metavar="N", help="of a video: at most (default 60)")
    parser.add_argument("--body-models", default="", metavar="DIR", help="SMPL-X and FLAME files; default: open body")
    add_camera_options(parser)
    add_settings_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Refine and write: people.npz, avatar.npz, avatar.ply, strip.png, curves.json, report.json."""
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"--out wants a new or an empty folder; {args.out} is neither")
    for name in ("steps", "gaussians", "size", "every", "frames"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, not {getattr(args, name)}")
    body = load_body(args.body_models)
    frames, facts = _read(args, body)
    if args.depth == "off":
        frames = [replace(frame, depth_m=None) for frame in frames]
    args.out.mkdir(parents=True, exist_ok=True)  # one that cannot be made is known now, not minutes later
    start = time.perf_counter()
    clip = _refine(args, frames, body)
    facts |= {"refine_s": round(time.perf_counter() - start, 1), "steps": args.steps, "binding": args.binding}
    facts |= {"gaussians": clip.avatar.n_gaussians, "depth": frames[0].depth_m is not None, **asdict(clip.verdict)}
    if all(frame.truth is not None for frame in frames):
        truth = [frame.truth for frame in frames]
        facts["input"], facts["refined"] = (pose_errors(body, p, truth) for p in (clip.incoming, clip.candidate))
    _write(args.out, clip, frames, body, facts)
    return facts | {"out": str(args.out)}


def _read(args: argparse.Namespace, body: EhmBody) -> tuple[list[RefineFrame], dict[str, Any]]:
    path = Path(args.input)
    if path.is_dir() and (path / "frames.json").is_file():
        frames = list(read_folder(path, body_model=body.model_id))
        return frames, {"input": str(path.name), "frames": len(frames)}
    from ..mask.base import MaskSettings
    from ..mask.select import open_masks
    from ..sources import open_source
    from ..sources.calibration import load_camera_if_given
    from ..stream import HumanStream
    from .collect import collect_person

    settings = settings_of(args)
    camera = load_camera_if_given(args.cameras, args.camera)
    masks = open_masks(MaskSettings(), topic=False)
    with open_source(args.input, camera=camera) as source, HumanStream(settings, body) as stream:
        found = collect_person(source, stream, masks, every=args.every, max_frames=args.frames)
    masks.close()
    if not found.frames:
        why = ", ".join(f"{reason} ({count})" for reason, count in found.refused.items()) or "nobody was seen"
        raise MissingFile(f"{args.input} has no frame that can be refined: {why}")
    return found.frames, {
        "input": Path(args.input).name, "frames": len(found.frames), "seen": found.seen, "masks_refused": found.refused,
    }  # fmt: skip


def _refine(args: argparse.Namespace, frames: Sequence[RefineFrame], body: EhmBody) -> RefinedClip:
    from tqdm import tqdm

    base = OfflineSettings()
    settings = replace(
        base,
        max_height_px=args.size,
        avatar=replace(base.avatar, binding=args.binding, start=args.gaussians),
        refine=replace(base.refine, steps=args.steps, pose=not args.no_pose, color_steps=min(100, args.steps // 4)),
    )
    with tqdm(total=args.steps, disable=None, desc="refine") as bar:

        def show(step: int, terms: dict[str, float]) -> None:
            bar.set_postfix(total=f"{terms['total']:.4f}", refresh=False)
            bar.update()

        return refine_clip(frames, body, settings, on_step=show)


def _write(out: Path, clip: RefinedClip, frames: Sequence[RefineFrame], body: EhmBody, facts: dict[str, Any]) -> None:
    from .picture import write_strip

    arrays = {name: np.stack([getattr(person, name) for person in clip.people]) for name in PARAMETERS}
    facts_of = {"stamp_ns": np.array([frame.stamp_ns for frame in frames]), "body_model": np.array(body.model_id)}
    np.savez(out / "people.npz", **facts_of, **arrays)
    save_avatar(clip.avatar, out / "avatar.npz")
    write_ply(clip.avatar, out / "avatar.ply")
    write_strip(out / "strip.png", clip, frames, body)
    (out / "curves.json").write_text(json.dumps({name: np.round(v, 6).tolist() for name, v in clip.curves.items()}))
    (out / "report.json").write_text(json.dumps(facts, indent=1) + "\n")
