"""`hsr bench retarget`: time of one retargeting step and of one tick of the governor, tracking, limits and feet."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from tqdm import tqdm

from .bench_clock import Stopwatch
from .bench_hands import measure_hand
from .config import with_values
from .errors import ConfigError
from .export.motion import LEVEL_CAMERA
from .retarget.command import Target
from .retarget.frames import R_REST
from .retarget.governor import Governor
from .retarget.human import POINTS, Human, P, from_estimate
from .retarget.mapping import load_mapping
from .retarget.retargeter import Retargeter
from .retarget.robot import Robot, load_robot
from .retarget.settings import TeleopSettings
from .types import Array, TrackState

RATE_HZ = 30.0
WARM_UP_FRAMES = 45
"""Frames that are not counted: lengths are learnt, caches fill, the robot leaves its neutral posture."""
SETTLE_FRAMES = 3
"""Of a stance: a foot takes so long to come down on its place."""

_TRUNK = {"pelvis": (0, 0, 0.96), "chest": (0, 0, 1.27), "neck": (0, 0, 1.44), "head": (0, 0, 1.54)}
_LIMBS = {"hip": (0.09, 0.92), "shoulder": (0.19, 1.38)}
_LENGTHS = {"elbow": 0.29, "wrist": 0.26, "knee": 0.42, "ankle": 0.41}
_CHAINS = (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
_DOWN = np.array([0.0, 0, -1])


def person_like(robot: Robot, q: Array, stamp_ns: int, track_id: int = 1) -> Human:
    """Return a grown person who stands as the robot does in configuration `q`: every target is within its reach.

    Trunk and legs are upright where the robot has none; the lengths are a person's.
    """
    placed = robot.frame_placements(q)
    points = np.zeros((len(POINTS), 3))
    for name, place in _TRUNK.items():
        points[P[name]] = place
    for side, y in (("left", 1.0), ("right", -1.0)):
        for chain in _CHAINS:
            points[P[f"{side}_{chain[0]}"]] = (0, y * _LIMBS[chain[0]][0], _LIMBS[chain[0]][1])
            for parent, child in pairwise(chain):
                a, b = (placed.get(f"{side}_{part}") for part in (parent, child))
                along = _DOWN if a is None or b is None else b[:3, 3] - a[:3, 3]
                step = _LENGTHS[child] * along / np.linalg.norm(along)
                points[P[f"{side}_{child}"]] = points[P[f"{side}_{parent}"]] + step
        points[P[f"{side}_toe"]] = points[P[f"{side}_ankle"]] + (0.13, 0, -0.06)
    rotations = np.broadcast_to(R_REST, (len(POINTS), 3, 3)).copy()
    for part, offset in robot.offsets.items():
        rotations[P[part]] = placed[part][:3, :3] @ offset.T
    return Human(stamp_ns, track_id, points, np.ones(len(POINTS), bool), rotations)


def swaying(robot: Robot, t_s: float) -> Array:
    """Return a configuration of a smooth motion of all commanded joints about the neutral posture, inside the limits.

    Legs and base stay: no person floats.
    """
    q = robot.neutral.copy()
    centre = np.clip(q[robot.idx_q], robot.lower + 0.25, robot.upper - 0.25)
    size = np.where([group == "legs" for group in robot.groups], 0.0, 0.2) * (robot.upper - robot.lower > 0.6)
    q[robot.idx_q] = np.where(size > 0, centre, q[robot.idx_q])
    q[robot.idx_q] += size * np.sin(2 * np.pi * 0.25 * t_s + np.arange(len(centre)))
    return q


def measure_tracking(robot: Robot, frames: int, settings: TeleopSettings) -> dict[str, Any]:
    """Follow the robot's own motion given as a person's; return times and the wrists' error against that motion."""
    retargeter, watch, errors = Retargeter(robot, settings), Stopwatch(1e-3), []
    for n in tqdm(range(frames), unit="frame", disable=None):
        q = swaying(robot, n / RATE_HZ)
        person = person_like(robot, q, round((n + 1) * 1e9 / RATE_HZ))
        answer = watch.time(retargeter.retarget, person)
        if n < WARM_UP_FRAMES or answer is None:
            watch.drop()
            continue
        want, got = robot.frame_placements(q), robot.frame_placements(answer[1].q)
        errors.append([np.linalg.norm(_arm(want, side) - _arm(got, side)) for side in ("left", "right")])
    return {
        "step_ms": watch.percentiles(),
        "wrist_error_rms_mm": round(1e3 * float(np.sqrt(np.mean(np.square(errors)))), 2),
        "fallbacks": dict(retargeter.solver.counts),
    }


def measure_recording(robot: Robot, source: str, settings: TeleopSettings, max_frames: int) -> dict[str, Any]:
    """Follow the first person of a recording; return times, limits and feet."""
    retargeter, people = Retargeter(robot, settings), list(recorded_people(source, max_frames))
    retargeter.learn(people)
    watch = Stopwatch(1e-3)
    positions, stamps, feet, standing, errors = [], [], [], [], []
    for person in people:
        answer = watch.time(retargeter.retarget, person)
        if answer is None:
            watch.drop()
            continue
        target, solution = answer
        positions.append(target.position)
        stamps.append(target.stamp_ns)
        placed = robot.frame_placements(solution.q)
        feet.append([placed[f"{side}_ankle"][:3, 3] for side in ("left", "right") if f"{side}_ankle" in placed])
        standing.append(list(retargeter.targets.contacts.on))
        errors.append([target.task_error_m.get(f"{side}_wrist", np.nan) for side in ("left", "right")])
    if len(positions) < 2:
        raise ConfigError(f"{source} shows nobody for long enough")
    q, dt_s = np.array(positions), np.diff(stamps) * 1e-9
    own = robot.solved
    speed = np.abs(np.diff(q, axis=0)) / dt_s[:, None]
    outside = np.maximum(robot.lower - q, q - robot.upper)[:, own]
    return {
        "frames": len(q),
        "step_ms": watch.percentiles(),
        "wrist_error_rms_mm": round(1e3 * float(np.sqrt(np.nanmean(np.square(errors)))), 1),
        "position_limit_exceeded_rad": round(float(max(outside.max(), 0)), 9),
        "speed_over_limit": round(float((speed / robot.velocity)[:, own].max()), 4),
        "fallbacks": dict(retargeter.solver.counts),
    } | (slides(np.array(feet), np.array(standing)) if robot.floating else {})


def recorded_people(source: str, max_frames: int) -> Iterator[Human]:
    """Yield the first person of a recording, seen by a level camera; the first of those who stay when they leave."""
    from .config import Settings
    from .sources import open_source
    from .stream import HumanStream

    who = None
    with open_source(source) as video, HumanStream(Settings().with_values({"mesh.enabled": False})) as stream:
        for n, frame in enumerate(tqdm(video, unit="frame", disable=None)):
            if n >= max_frames:
                return
            people = [one for one in stream.process(frame).people if one.state in (TrackState.NEW, TrackState.TRACKED)]
            if who not in [one.track_id for one in people]:
                who = people[0].track_id if people else None
            for one in people:
                if one.track_id == who:
                    yield replace(from_estimate(one, frame.stamp_ns, LEVEL_CAMERA), track_id=1)


def slides(feet: Array, standing: Array) -> dict[str, Any]:
    """Return how far the robot's feet move while they are held, over all stances.

    Args:
        feet: (t, 2, 3) [m].
        standing: (t, 2) bool.
    """
    slid, length = [], []
    for side in range(2):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], standing[:, side], [False]]).astype(int)))
        for start, end in edges.reshape(-1, 2):
            held = feet[start + SETTLE_FRAMES : end, side, :2]
            if len(held) >= 2:
                slid.append(float(np.linalg.norm(held - held[0], axis=1).max()))
                length.append(end - start)
    return {
        "stances": len(slid),
        "stance_frames_mean": round(float(np.mean(length)), 1) if length else 0,
        "slide_median_mm": round(1e3 * float(np.median(slid)), 1) if slid else None,
        "slide_max_mm": round(1e3 * max(slid), 1) if slid else None,
    }


def measure_governor(robot: Robot, ticks: int = 5000) -> dict[str, Any]:
    """Time ticks that follow targets at 30 Hz; percentiles in microseconds."""
    now = 1_700_000_000_000_000_000
    governor = Governor(robot, with_values(TeleopSettings(), {"allow_legs_and_base_on_hardware": True}), lambda: now)
    middle, watch = robot.neutral[robot.idx_q], Stopwatch(1e-6)
    command = None
    for n in range(ticks):
        now += 10_000_000
        governor.set_joint_state(middle if command is None else command.position, now)
        governor.set_deadman(n > 20, now)
        if n % 3 == 0:
            governor.set_target(Target(now - 50_000_000, 1, middle + 0.2 * np.sin(0.02 * n)))
        if n == 10:
            governor.arm()
            governor.lock(1)
        elif n == 15:
            governor.engage()
        command = watch.time(governor.tick)
        if command is None:
            watch.drop()
    return watch.percentiles()


def _arm(placed: dict[str, Array], side: str) -> Array:
    """The wrist from the shoulder, (3,) [m]."""
    return placed[f"{side}_wrist"][:3, 3] - placed[f"{side}_shoulder"][:3, 3]


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("retarget", help="a robot that follows a person: time, tracking, limits, feet")
    parser.add_argument(
        "--robot", default="g1", metavar="NAME", help="a shipped robot or a mapping's path; default: g1"
    )
    parser.add_argument("--mode", default="", metavar="MODE", help="of the mapping; default: the last, whole_body")
    parser.add_argument("--frames", type=int, default=600, metavar="N", help="frames (default 600)")
    parser.add_argument("--source", metavar="VIDEO", help="follow the person of a recording too, such as clip")
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return what there is to show.

    Raises:
        ConfigError: Too few frames, or a recording without a person.
    """
    if args.frames <= 2 * WARM_UP_FRAMES:
        raise ConfigError(f"--frames must be more than {2 * WARM_UP_FRAMES}, not {args.frames}")
    robot, settings = load_robot(args.robot, args.mode or load_mapping(args.robot).modes[-1]), TeleopSettings()
    facts: dict[str, Any] = {"robot": robot.mapping.name, "mode": robot.mapping.mode, "joints": len(robot.joint_names)}
    if robot.frames:
        facts["reach"] = measure_tracking(robot, args.frames, settings)
    for side in robot.hands:
        facts[f"{side}_hand"] = measure_hand(robot, side, args.frames, settings)
    facts["governor_us"] = measure_governor(robot)
    if args.source:
        facts["recording"] = measure_recording(robot, args.source, settings, args.frames)
    return facts | {"cpus": len(os.sched_getaffinity(0))}
