"""A robot's mapping: one YAML beside a URDF. Nothing about a robot lives in code.

The file's groups are described in docs/teleop.md; `parse` checks what can be checked without the URDF.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import BadFile, ConfigError, MissingFile
from ..near_names import did_you_mean
from .entries import as_list, as_mapping, need, number, one_of, only
from .hand_mapping import VectorHand, is_vector_hand, parse_vector_hand
from .human import POINTS

GROUPS = ("arms", "legs", "trunk", "fingers")
"""Of joints; each has its own default velocity limit (`limits`)."""

FOLLOWS = ("pinch", "thumb", "index", "middle", "ring", "little")
"""What a finger joint may follow: the distance of thumb and index tip, or how far a finger is bent."""

BUILT_IN = Path(__file__).parent / "robots"


@dataclass(frozen=True)
class Link:
    """One human part and what follows it.

    Attributes:
        frame: Of the robot.
        position, orientation: Costs, per metre and per radian; 0 = not followed.
    """

    frame: str
    position: float = 0.0
    orientation: float = 0.0


@dataclass(frozen=True)
class Finger:
    """A joint that follows the hand directly: `open` at 0, `closed` at 1 [rad]."""

    follows: str
    open: float
    closed: float


@dataclass(frozen=True)
class Capsule:
    """A segment with a radius, in the axes of a robot's frame [m]; equal ends make a sphere."""

    frame: str
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class JointLimits:
    """What the mapping sets for one joint; None: the default of its group [rad/s], [rad/s²]."""

    velocity: float | None = None
    acceleration: float | None = None


@dataclass(frozen=True)
class RobotMapping:
    """A parsed YAML.

    Attributes:
        name, urdf: As in the file.
        urdf_sha256: Expected hash of the URDF; empty: any.
        base: `fixed` or `floating`.
        mode: Which of the file's modes this is.
        modes: All of them.
        joints: Group -> commanded joints.
        links: Human part -> robot frame and costs.
        rest: Joint values in which the robot stands like the body model's zero pose (T-pose) [rad].
        neutral: The posture that the robot tends to [rad]. Joints that are not named are 0.
        limits: By joint.
        capsules, ignore_pairs: For self-collision; pairs are of capsule frames.
        hands: Side -> joint -> what it follows.
        vector_hands: Side -> the hand that follows by fingertip vectors instead.
        workspace: Wrist -> lower and upper corner of the box that its frame stays in, in the base's frame [m].
        sole_m: Height of the ankle's frame above the ground [m].
        path: Of the file.
    """

    name: str
    urdf: str
    urdf_sha256: str
    base: str
    mode: str
    modes: tuple[str, ...]
    joints: Mapping[str, tuple[str, ...]]
    links: Mapping[str, Link]
    rest: Mapping[str, float]
    neutral: Mapping[str, float]
    limits: Mapping[str, JointLimits]
    capsules: tuple[Capsule, ...]
    ignore_pairs: frozenset[frozenset[str]]
    hands: Mapping[str, Mapping[str, Finger]]
    vector_hands: Mapping[str, VectorHand]
    workspace: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    sole_m: float
    path: Path = field(compare=False)

    def all_joints(self) -> tuple[str, ...]:
        return tuple(joint for group in self.joints.values() for joint in group)


def built_in() -> list[str]:
    """Return the names of the mappings that come with the library."""
    return sorted(file.stem for file in BUILT_IN.glob("*.yaml"))


def load_mapping(robot: str | Path, mode: str = "") -> RobotMapping:
    """Read a mapping.

    Args:
        robot: A name of `built_in()`, or a path of a YAML.
        mode: One of the file's modes; empty: its first.

    Raises:
        MissingFile: No such file; the message lists the names.
        BadFile: Not a YAML mapping.
        ConfigError: A wrong or missing entry, named with its place.
    """
    path = BUILT_IN / f"{robot}.yaml" if str(robot) in built_in() else Path(robot).expanduser()
    if not path.is_file():
        hint = did_you_mean(str(robot), built_in())
        raise MissingFile(f"no robot {str(robot)!r}: there are {', '.join(built_in())}, or give a YAML's path{hint}")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise BadFile(f"{path} must hold a mapping, not {type(tree).__name__}")
    return parse(tree, path, mode)


def parse(tree: Mapping[str, Any], path: Path, mode: str = "") -> RobotMapping:
    """Return the mapping that a YAML's tree describes; `path` is where its files are looked for.

    Raises:
        ConfigError: A wrong or missing entry, named with its place.
    """
    known = (
        "name",
        "urdf",
        "urdf_sha256",
        "modes",
        "links",
        "rest",
        "neutral",
        "limits",
        "collision",
        "hands",
        "workspace",
        "sole_m",
    )
    only(tree, known, path.name)
    modes = as_mapping(need(tree, "modes", path.name), "modes")
    mode = mode or next(iter(modes), "")
    if mode not in modes:
        raise ConfigError(f"{path.name} has no mode {mode!r}; there are: {', '.join(modes)}")
    chosen = as_mapping(modes[mode], f"modes.{mode}")
    only(chosen, ("base", "joints", "links", "neutral"), f"modes.{mode}")
    base = chosen.get("base", "fixed")
    if base not in ("fixed", "floating"):
        raise ConfigError(f"modes.{mode}.base must be fixed or floating, not {base!r}")
    links = {name: _link(name, value) for name, value in as_mapping(need(tree, "links", path.name), "links").items()}
    used = as_list(chosen.get("links", list(links)), f"modes.{mode}.links")
    for name in used:
        one_of(name, tuple(links), f"modes.{mode}.links")
    hands = as_mapping(tree.get("hands", {}), "hands")
    only(hands, ("left", "right"), "hands")
    collision = as_mapping(tree.get("collision", {}), "collision")
    only(collision, ("capsules", "ignore"), "collision")
    return RobotMapping(
        name=str(need(tree, "name", path.name)),
        urdf=str(need(tree, "urdf", path.name)),
        urdf_sha256=str(tree.get("urdf_sha256", "")),
        base=base,
        mode=mode,
        modes=tuple(modes),
        joints=_groups(need(chosen, "joints", f"modes.{mode}"), f"modes.{mode}.joints"),
        links={name: link for name, link in links.items() if name in used},
        rest=_values(need(tree, "rest", path.name), "rest"),
        neutral=_values(tree.get("neutral", {}), "neutral")
        | _values(chosen.get("neutral", {}), f"modes.{mode}.neutral"),
        limits={name: _limits(name, value) for name, value in as_mapping(tree.get("limits", {}), "limits").items()},
        capsules=tuple(
            _capsule(frame, row)
            for frame, rows in as_mapping(collision.get("capsules", {}), "collision.capsules").items()
            for row in (rows if isinstance(rows, list) and rows and isinstance(rows[0], list) else [rows])
        ),
        ignore_pairs=frozenset(_pair(pair) for pair in as_list(collision.get("ignore"), "collision.ignore")),
        hands={
            side: {joint: _finger(f"hands.{side}.{joint}", value) for joint, value in as_mapping(joints, side).items()}
            for side, joints in hands.items()
            if not is_vector_hand(joints)
        },
        vector_hands={
            side: parse_vector_hand(entry, f"hands.{side}") for side, entry in hands.items() if is_vector_hand(entry)
        },
        workspace={
            one_of(part, ("left_wrist", "right_wrist"), "workspace"): _box(f"workspace.{part}", value)
            for part, value in as_mapping(tree.get("workspace", {}), "workspace").items()
        },
        sole_m=number(tree.get("sole_m", 0.0), "sole_m"),
        path=path,
    )


def sha256_of(file: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _link(name: str, value: Any) -> Link:
    one_of(name, POINTS, "links")
    tree = as_mapping(value, f"links.{name}")
    only(tree, ("frame", "position", "orientation"), f"links.{name}")
    costs = {key: number(tree.get(key, 0.0), f"links.{name}.{key}") for key in ("position", "orientation")}
    if min(costs.values()) < 0:
        raise ConfigError(f"links.{name}: costs must not be negative")
    return Link(str(need(tree, "frame", f"links.{name}")), **costs)


def _finger(where: str, value: Any) -> Finger:
    tree = as_mapping(value, where)
    only(tree, ("follows", "open", "closed"), where)
    follows = one_of(str(need(tree, "follows", where)), FOLLOWS, f"{where}.follows")
    return Finger(follows, *(number(need(tree, key, where), f"{where}.{key}") for key in ("open", "closed")))


def _limits(name: str, value: Any) -> JointLimits:
    tree = as_mapping(value, f"limits.{name}")
    only(tree, ("velocity", "acceleration"), f"limits.{name}")
    numbers = {key: number(value, f"limits.{name}.{key}") for key, value in tree.items()}
    for key, found in numbers.items():
        if not found > 0:
            raise ConfigError(f"limits.{name}.{key} must be positive, not {found:g}")
    return JointLimits(**numbers)


def _capsule(frame: str, row: Any) -> Capsule:
    if not isinstance(row, list) or len(row) != 7:
        raise ConfigError(f"collision.capsules.{frame} must be [x0, y0, z0, x1, y1, z1, radius], not {row!r}")
    numbers = [number(value, f"collision.capsules.{frame}") for value in row]
    if not numbers[6] > 0:
        raise ConfigError(f"collision.capsules.{frame}: the radius must be positive, not {numbers[6]:g}")
    return Capsule(frame, tuple(numbers[:3]), tuple(numbers[3:6]), numbers[6])  # type: ignore[arg-type]


def _pair(pair: Any) -> frozenset[str]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ConfigError(f"collision.ignore holds pairs of frames, not {pair!r}")
    return frozenset(str(name) for name in pair)


def _box(where: str, value: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(v, list) and len(v) == 3 for v in value):
        raise ConfigError(f"{where} must be [[x, y, z], [x, y, z]], lower and upper corner, not {value!r}")
    low, high = (tuple(number(x, where) for x in corner) for corner in value)
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ConfigError(f"{where}: the first corner must be lower than the second in x, y and z")
    return low, high


def _groups(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    out = {}
    for group, names in as_mapping(value, where).items():
        one_of(group, GROUPS, where)
        if not isinstance(names, list):
            raise ConfigError(f"{where}.{group} must be a list of joints, not {names!r}")
        out[group] = tuple(str(name) for name in names)
    return out


def _values(value: Any, where: str) -> dict[str, float]:
    return {str(name): number(found, f"{where}.{name}") for name, found in as_mapping(value, where).items()}
