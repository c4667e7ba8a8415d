"""`hsr bench refine`: the ablation of HumanSplatHMR's table 4 on synthetic truth."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .body.ehm import EhmBody
from .errors import ConfigError
from .eval.image_metrics import on_background, prediction_on_white, psnr_db, ssim
from .eval.refine_metrics import pose_errors
from .refine.avatar import Avatar, AvatarSettings, FreeAvatar, build_avatar
from .refine.avatar_init import farthest_points
from .refine.binding import binding_by_name
from .refine.frames import RefineFrame
from .refine.losses import LossSettings
from .refine.neighbours import PointIndex
from .refine.offline import first_colors
from .refine.optimise import Refinement, RefineSettings
from .refine.render import render
from .refine.skin import CanonicalBody
from .refine.stage_zero import place_people
from .refine.test_time import TestTimeSettings, fit_pose
from .refine.view import prepare_view
from .synth.benchmark import BenchmarkSequence, benchmark_sequence, open_body
from .synth.noise import DepthNoise, PoseNoise
from .types import HumanParams

STEPS, GAUSSIANS, TEST_STEPS = 1200, 1500, 50
CLIP_STEPS = 400
COLOR_FRAMES = slice(0, 24, 8)
"""Frames that give the vertices their first colours."""
PAPER_LOSSES = LossSettings(alpha=0, reg=0, tmp=0)


@dataclass(frozen=True)
class Mode:
    """One row: what is switched, and the data it runs on.

    Attributes:
        settings: Of the refinement. binding: Of the avatar.
        data: Name of the variant, see `DATA`.
        stage_zero: Place the people by depth first.
    """

    settings: RefineSettings
    binding: str = "camel"
    data: str = "standard"
    stage_zero: bool = False


_FULL = RefineSettings(steps=STEPS, color_steps=0, losses=PAPER_LOSSES)
MODES: Mapping[str, Mode] = {
    "no_pose_opt": Mode(replace(_FULL, pose=False)),
    "no_depth": Mode(replace(_FULL, depth=False)),
    "none": Mode(_FULL, "none"),
    "lsw": Mode(_FULL, "lsw"),
    "gom": Mode(_FULL, "gom"),
    "camel": Mode(_FULL),
    "camel+lsw": Mode(_FULL, "camel+lsw"),
    "stage_zero": Mode(_FULL, stage_zero=True),
    "exact_depth": Mode(_FULL, data="exact_depth"),
    "priors": Mode(replace(_FULL, losses=replace(PAPER_LOSSES, reg=0.3, tmp=0.3))),
    "biased": Mode(_FULL, data="biased"),
    "biased_no_depth": Mode(replace(_FULL, depth=False), data="biased"),
}
DATA: Mapping[str, dict[str, Any]] = {
    "standard": {},
    "exact_depth": {"depth_noise": DepthNoise(0.0, 0.0, 0.0)},
    "biased": {"pose_noise": PoseNoise(depth_bias_m=0.15), "depth_noise": DepthNoise(scale_sigma=0.005)},
}


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("refine", help="refinement and its ablations on synthetic truth")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a real, calibrated clip with a 3D reference in place of all this"
    )
    parser.add_argument("--height", type=float, default=1.70, metavar="M", help="of the clip's subject [m]")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of the noise (default 3)")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES), metavar="MODE")
    parser.add_argument("--steps", type=int, metavar="N", help=f"of each run (default {STEPS}, of a clip {CLIP_STEPS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: cores)")
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run every mode on every seed; return means, each seed's figures, and which checks hold."""
    steps = args.steps or (CLIP_STEPS if args.data else STEPS)
    if args.seeds < 1 or steps < 1 or args.jobs < 1:
        raise ConfigError("--seeds, --steps and --jobs must be at least 1")
    if args.data:
        from .bench_refine_clip import evaluate

        return evaluate(args.data, height_m=args.height, steps=steps)
    seeds, todo = range(args.seeds), list(args.modes)
    inputs = {f"input {data}": data for data in sorted({MODES[mode].data for mode in todo})}
    runs: dict[str, dict[int, dict[str, float]]] = {name: {} for name in (*inputs, *todo)}
    with _processes(args.jobs) as pool:
        waiting = {
            (name, seed): pool.submit(measure_input, inputs[name], seed)
            if name in inputs
            else pool.submit(measure, name, seed, steps)
            for name in runs
            for seed in seeds
        }
        for (name, seed), future in waiting.items():
            runs[name][seed] = future.result()
            print(f"{name} {seed}: {json.dumps(runs[name][seed])}", file=sys.stderr, flush=True)
    runs["input"] = runs.pop("input standard", {})
    means = {name: _mean(list(by_seed.values())) for name, by_seed in runs.items() if by_seed}
    return {"steps": steps, **means, "seeds": runs, "checks": checks(runs)}


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for a block; what ends the block early ends them, too: nobody waits for what is left to do."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_one_thread) as pool:
        try:
            yield pool
        except BaseException:
            for process in active_children():
                process.terminate()
            raise


def _one_thread() -> None:
    torch.set_num_threads(1)


def measure_input(data: str, seed: int) -> dict[str, float]:
    """Return the errors of the perturbed input."""
    body = open_body()
    sequence = benchmark_sequence(seed, body=body, **DATA[data])
    frames = sequence.train_frames
    return pose_errors(body, [frame.params for frame in frames], [frame.truth for frame in frames])


def measure(name: str, seed: int, steps: int = STEPS) -> dict[str, float]:
    """Refine the sequence of a seed in one mode; return its errors on the training frames, and the pictures' quality on
    the withheld ones after test-time optimisation."""
    mode = MODES[name]
    body = open_body()
    sequence = benchmark_sequence(seed, body=body, **DATA[mode.data])
    frames = sequence.train_frames
    people = [frame.params for frame in frames]
    if mode.stage_zero:
        people = place_people(frames, people, body)
    avatar = first_avatar(body, frames, people, mode.binding)
    settings = replace(mode.settings, steps=steps)
    refinement = Refinement(avatar, [prepare_view(frame) for frame in frames], people, settings)
    for _ in range(steps):
        refinement.step()
    refined = refinement.people()
    test_settings = TestTimeSettings(steps=TEST_STEPS if mode.settings.pose else 0)
    return {
        **pose_errors(body, refined, [frame.truth for frame in frames]),
        **picture_errors(avatar, sequence, test_settings),
        **({"anchor_p95_mm": _anchor_p95_mm(avatar)} if isinstance(avatar, FreeAvatar) else {}),
        "unchanged": float(all(a is b for a, b in zip(refined, people, strict=True))),
    }


def first_avatar(body: EhmBody, frames: Sequence[RefineFrame], people: Sequence[HumanParams], binding: str) -> Avatar:
    """Return an avatar with colours from a few frames."""
    canonical = CanonicalBody.from_body(body, people[0])
    colors = first_colors(canonical, frames[COLOR_FRAMES], people[COLOR_FRAMES], body)
    settings = AvatarSettings(binding=binding, start=GAUSSIANS)
    if binding_by_name(binding).on_faces:
        canonical, chosen = decimated(canonical, body, GAUSSIANS)
        colors = colors[chosen]
    return build_avatar(canonical, settings, colors=colors)


def decimated(canonical: CanonicalBody, body: EhmBody, count: int) -> tuple[CanonicalBody, torch.Tensor]:
    """Return the body with `count` of its vertices, evenly spread, and which they are.

    A Gaussian on each face of the whole body would be many times smaller than a pixel, and many times more of them than
    the other bindings have. Each vertex goes to the nearest of those that stay; faces between three of them stay.
    """
    chosen = farthest_points(canonical.vertices, count)
    cluster = PointIndex(canonical.vertices[chosen]).nearest(canonical.vertices)[1]
    faces = cluster[canonical.faces]
    a, b, c = faces.unbind(1)
    faces = faces[(a != b) & (b != c) & (c != a)]
    first = faces.argmin(dim=1, keepdim=True)
    faces = faces.gather(1, (first + torch.arange(3)) % 3).unique(dim=0)  # turned, not mirrored: outward stays outward
    rest, joints = body.rest(canonical.params)
    small = CanonicalBody(
        torch.as_tensor(rest)[chosen], torch.as_tensor(joints), canonical.weights[chosen], faces, canonical.parents,
        canonical.ancestors, None, canonical.params, canonical.model_id,
    )  # fmt: skip
    return small, chosen


def picture_errors(avatar: Avatar, sequence: BenchmarkSequence, settings: TestTimeSettings) -> dict[str, float]:
    """Return PSNR and SSIM of the withheld frames on white."""
    values = []
    for frame in sequence.test_frames:
        view = prepare_view(frame)
        person, _ = fit_pose(avatar, view, frame.params, PAPER_LOSSES, settings)
        white = torch.ones(1, 3)
        with torch.no_grad():
            drawn = render(avatar.pose_person(person), view.K[None], view.image_hw, white, max_weight=False)
        predicted = prediction_on_white(drawn.color[0].numpy(), drawn.alpha[0].numpy())
        target = on_background(frame.image, frame.mask)
        values.append((psnr_db(predicted, target), ssim(predicted, target)))
    psnr, similarity = np.mean(values, axis=0)
    return {"psnr_db": round(float(psnr), 2), "ssim": round(float(similarity), 4)}


def _anchor_p95_mm(avatar: FreeAvatar) -> float:
    avatar.reanchor()
    distance = (avatar.means.detach() - avatar.anchor_vertices).norm(dim=1)
    return round(1e3 * float(distance.quantile(0.95)), 1)


def _mean(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    names = [name for name in figures[0] if name != "unchanged"]
    return {name: round(float(np.mean([f[name] for f in figures])), 3) for name in names}


class _Figures:
    """Figures of all runs: of a mode and seed, and a mode's mean over the seeds."""

    def __init__(self, runs: Mapping[str, Mapping[int, Mapping[str, float]]]) -> None:
        self.runs, self.seeds = runs, sorted(runs.get("camel", {}))
        self.means = {name: _mean(list(by_seed.values())) for name, by_seed in runs.items() if by_seed}

    def mpjpe(self, mode: str) -> float:
        return self.means[mode]["mpjpe_mm"]

    def v2v(self, mode: str) -> float:
        return self.means[mode]["v2v_mm"]

    def root(self, mode: str) -> float:
        return self.means[mode]["root_error_mm"]

    def psnr(self, mode: str) -> float:
        return self.means[mode]["psnr_db"]

    def far(self, mode: str) -> float:
        return self.means[mode]["anchor_p95_mm"]


CHECKS: Mapping[str, tuple[tuple[str, ...], Callable[[_Figures], bool]]] = {
    "1 no pose optimisation: poses the same to the bit, PSNR 5 dB lower": (
        ("no_pose_opt", "camel"),
        lambda f: (
            all(each["unchanged"] for each in f.runs["no_pose_opt"].values())
            and f.psnr("no_pose_opt") <= f.psnr("camel") - 5
        ),
    ),
    "2 camel: MPJPE and V2V at most 0.65 of the input": (
        ("camel", "input"),
        lambda f: f.mpjpe("camel") <= 0.65 * f.mpjpe("input") and f.v2v("camel") <= 0.65 * f.v2v("input"),
    ),
    "3 gom: MPJPE at most camel + 1 mm, PSNR at most camel - 0.3 dB": (
        ("gom", "camel"),
        lambda f: f.mpjpe("gom") <= f.mpjpe("camel") + 1 and f.psnr("gom") <= f.psnr("camel") - 0.3,
    ),
    "4 lsw: MPJPE at least 1.05 of camel, 1.03 in every seed; PSNR at most camel + 0.3 dB": (
        ("lsw", "camel"),
        lambda f: (
            all(f.runs["lsw"][s]["mpjpe_mm"] >= 1.03 * f.runs["camel"][s]["mpjpe_mm"] for s in f.seeds)
            and f.mpjpe("lsw") >= 1.05 * f.mpjpe("camel")
            and f.psnr("lsw") <= f.psnr("camel") + 0.3
        ),
    ),
    "5 camel + lsw: MPJPE at least 1.03 of camel": (
        ("camel+lsw", "camel"),
        lambda f: f.mpjpe("camel+lsw") >= 1.03 * f.mpjpe("camel"),
    ),
    "6 none: MPJPE at least camel - 0.3 mm, Gaussians 1.25 times as far from the skin": (
        ("none", "camel"),
        lambda f: f.mpjpe("none") >= f.mpjpe("camel") - 0.3 and f.far("none") >= 1.25 * f.far("camel"),
    ),
    "7a depth halves a root error of 15 cm; MPJPE within 15 %": (
        ("biased", "biased_no_depth", "input biased"),
        lambda f: (
            f.root("biased") <= 0.5 * f.root("input biased")
            and f.root("biased") <= 0.6 * f.root("biased_no_depth")
            and abs(f.mpjpe("biased") / f.mpjpe("biased_no_depth") - 1) <= 0.15
        ),
    ),
    "7b depth with 2 % noise: root error at most 0.6 of the run without, where the input's is 85 mm": (
        ("camel", "no_depth", "input"),
        lambda f: all(
            f.runs["camel"][s]["root_error_mm"] <= 0.6 * f.runs["no_depth"][s]["root_error_mm"]
            for s in f.seeds
            if f.runs["input"][s]["root_error_mm"] >= 85
        ),
    ),
    "8 placing by depth first: MPJPE not worse": (
        ("stage_zero", "camel"),
        lambda f: f.mpjpe("stage_zero") <= f.mpjpe("camel"),
    ),
    "9 exact depth: mean depth error of the root within 50 mm": (
        ("exact_depth",),
        lambda f: abs(f.means["exact_depth"]["root_depth_bias_mm"]) <= 50,
    ),
    "10 priors: MPJPE within 1 mm": (
        ("priors", "camel"),
        lambda f: abs(f.mpjpe("priors") - f.mpjpe("camel")) <= 1,
    ),
}
"""What a right implementation meets: the runs that tell, and the condition on their means, unless it says otherwise."""


def checks(runs: Mapping[str, Mapping[int, Mapping[str, float]]]) -> dict[str, bool]:
    """Return which of `CHECKS` hold; those without their runs are left out."""
    f = _Figures(runs)
    return {name: bool(holds(f)) for name, (needed, holds) in CHECKS.items() if all(mode in f.means for mode in needed)}
