"""`hsr robot`: the robots that can be followed, checks of a mapping, a first mapping for one's own URDF."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..types import Array
from .hand_model import HandModel
from .mapping import built_in, load_mapping
from .recipe import draft
from .robot import Robot, load_robot


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("robot", help="robots for retargeting: list, check a mapping, draft one for a URDF")
    parser.add_argument("action", choices=("list", "check", "draft"), help="what to do")
    parser.add_argument(
        "robot", nargs="?", default="", metavar="ROBOT", help="a name or a mapping's path; for draft: a URDF"
    )
    parser.add_argument("--mode", default="", metavar="MODE", help="check this mode only; default: each")
    parser.add_argument(
        "--meshes",
        action="append",
        default=[],
        metavar="FOLDER",
        help="for draft: where package:// names start; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """List, check or draft.

    Raises:
        HsrError: A check failed; the message names the joint or frame.
    """
    if args.action == "list":
        names = built_in()
        return {"robots": names, "text": "\n".join(f"{name}: {', '.join(load_mapping(name).modes)}" for name in names)}
    if args.action == "draft":
        if not args.robot:
            raise ConfigError("draft wants a URDF: hsr robot draft FILE.urdf")
        yaml = draft(args.robot, tuple(args.meshes))
        return {"yaml": yaml, "text": yaml.rstrip()}
    if not args.robot:
        raise ConfigError(
            "check wants a robot: hsr robot check NAME, or a mapping's path; `hsr robot list` has the names"
        )
    modes = [args.mode] if args.mode else load_mapping(args.robot).modes
    return {mode: facts(load_robot(args.robot, mode)) for mode in modes}


def facts(robot: Robot) -> dict[str, Any]:
    """Return what a person checks about a loaded robot."""
    return {
        "base": robot.mapping.base,
        "joints": len(robot.joint_names),
        "position_rad": {
            name: [round(float(low), 3), round(float(high), 3)]
            for name, low, high in zip(robot.joint_names, robot.lower, robot.upper, strict=True)
        },
        "speed_rad_s": _by_joint(robot, robot.velocity),
        "acceleration_rad_s2": _by_joint(robot, robot.acceleration),
        "segments_m": {f"{a} to {b}": round(length, 3) for (a, b), length in robot.lengths.items()},
        "capsules": len(robot.mapping.capsules),
        "pairs": len(robot.capsules),
    } | ({"hands": {side: hand_facts(hand) for side, hand in robot.hands.items()}} if robot.hands else {})


def hand_facts(hand: HandModel) -> dict[str, Any]:
    """Return what a person checks about a hand that follows fingertips; `person_m` should be a person's lengths."""
    straight = np.clip(np.zeros(len(hand.names)), hand.lower, hand.upper)
    postures = [hand.place(x) for x in (straight, hand.neutral, hand.lower, hand.upper)]
    longest = np.max([np.linalg.norm(points[hand.end] - points[hand.start], axis=1) for points in postures], axis=0)
    names = [f"{vector.start} to {vector.end}" for vector in hand.mapping.vectors]
    return {
        "joints": len(hand.names),
        "driven": {
            name: f"{one.multiplier:g} {one.follows} {'-' if one.offset < 0 else '+'} {abs(one.offset):g}"
            for name, one in hand.driven.items()
        },
        "longest_m": dict(zip(names, longest.round(3).tolist(), strict=True)),
        "person_m": dict(zip(names, (longest / hand.scales).round(3).tolist(), strict=True)),
        "pinch": list(hand.mapping.pinch),
    }


def _by_joint(robot: Robot, values: Array) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in zip(robot.joint_names, values, strict=True)}
