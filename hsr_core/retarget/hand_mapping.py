"""The entry `hands.<side>` of a mapping for a hand that follows by fingertip vectors.

The other kind of entry, joints that follow how far a finger is bent, is in `mapping.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .entries import as_mapping, need, number, one_of, only
from .human import HAND_POINTS

KEYS = ("points", "vectors", "scale", "pinch", "coupling")
TIPS = tuple(name for name in HAND_POINTS if name.endswith("3"))
FAR_KNUCKLES = ("little0", "ring0", "middle0")
"""Which of them spans the palm, with `wrist` and `index0`: the first that the robot has."""


@dataclass(frozen=True)
class HandPoint:
    """Where a point of the human hand is on the robot's.

    Attributes:
        frame: Of the robot.
        at: In the axes of that frame [m].
        radius: Of the tip about this point: two tips meet when they are as far apart as their radii [m].
    """

    frame: str
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: float = 0.0


@dataclass(frozen=True)
class HandVector:
    """A vector that the robot's hand copies.

    Attributes:
        start, end: Points of `VectorHand.points`.
        scale: The robot's vector over that of a grown person's hand.
        weight: Against the other vectors.
    """

    start: str
    end: str
    scale: float
    weight: float = 1.0


@dataclass(frozen=True)
class Coupling:
    """A joint that another one drives: q = multiplier * q_follows + offset [rad]."""

    follows: str
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class VectorHand:
    """How one hand of a robot follows.

    Attributes:
        points: Human point -> place on the robot. `wrist`, `index0` and one of `FAR_KNUCKLES` span the palm.
        vectors: What is copied.
        pinch: Finger tips that meet the thumb's when the person's do.
        coupling: Driven joint -> its driver, beside the URDF's `mimic`.
    """

    points: Mapping[str, HandPoint]
    vectors: tuple[HandVector, ...]
    pinch: tuple[str, ...]
    coupling: Mapping[str, Coupling]

    @property
    def palm(self) -> tuple[str, str, str]:
        """The three points that span the palm."""
        return "wrist", "index0", next(name for name in FAR_KNUCKLES if name in self.points)


def is_vector_hand(tree: Any) -> bool:
    """True when an entry is meant as one of this kind."""
    return isinstance(tree, Mapping) and any(key in tree for key in KEYS)


def parse_vector_hand(tree: Mapping[str, Any], where: str) -> VectorHand:
    """Return the entry that a YAML's tree describes.

    Args:
        tree: The entry.
        where: Its place in the file, for messages.

    Raises:
        ConfigError: A wrong or missing entry, named with its place.
    """
    only(tree, KEYS, where)
    places = as_mapping(need(tree, "points", where), f"{where}.points")
    only(places, HAND_POINTS, f"{where}.points")
    points = {name: _point(value, f"{where}.points.{name}") for name, value in places.items()}
    for names in (("wrist",), ("index0",), FAR_KNUCKLES):
        if not any(name in points for name in names):
            raise ConfigError(f"{where}.points lacks {' or '.join(names)}: they span the palm")
    scale = _positive(tree.get("scale", 1.0), f"{where}.scale")
    tips = tuple(name for name in TIPS if name in points)
    bases = {tip: f"{tip[:-1]}0" for tip in tips}
    listed = tree.get("vectors", [[bases[tip] if bases[tip] in points else "wrist", tip] for tip in tips])
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{where}.vectors must be a list of [from, to]: points lacks tips ({', '.join(TIPS)})")
    pinch = tree.get("pinch", [tip for tip in tips if tip != "thumb3"] if "thumb3" in points else [])
    if not isinstance(pinch, list) or (pinch and "thumb3" not in points):
        raise ConfigError(f"{where}.pinch must be a list of finger tips, and points must have thumb3, not {pinch!r}")
    for name in pinch:
        one_of(name, tuple(tip for tip in tips if tip != "thumb3"), f"{where}.pinch")
    couplings = as_mapping(tree.get("coupling", {}), f"{where}.coupling")
    return VectorHand(
        points=points,
        vectors=tuple(_vector(row, f"{where}.vectors[{i}]", tuple(points), scale) for i, row in enumerate(listed)),
        pinch=tuple(pinch),
        coupling={str(name): _coupling(value, f"{where}.coupling.{name}") for name, value in couplings.items()},
    )


def _point(value: Any, where: str) -> HandPoint:
    tree = {"frame": value} if isinstance(value, str) else as_mapping(value, where)
    only(tree, ("frame", "at", "radius"), where)
    at = tree.get("at", [0, 0, 0])
    if not isinstance(at, list) or len(at) != 3:
        raise ConfigError(f"{where}.at must be [x, y, z] in the axes of the frame [m], not {at!r}")
    radius = number(tree.get("radius", 0.0), f"{where}.radius")
    if not 0 <= radius <= 0.1:
        raise ConfigError(f"{where}.radius must be 0 to 0.1 m, not {radius:g}")
    x, y, z = (number(value, f"{where}.at") for value in at)
    return HandPoint(str(need(tree, "frame", where)), (x, y, z), radius)


def _vector(row: Any, where: str, points: tuple[str, ...], scale: float) -> HandVector:
    tree = {"from": row[0], "to": row[1]} if isinstance(row, list) and len(row) == 2 else row
    if not isinstance(tree, Mapping) or not {"from", "to"} <= set(tree):
        raise ConfigError(f"{where} must be [from, to] or {{from: , to: , scale: , weight: }}, not {row!r}")
    only(tree, ("from", "to", "scale", "weight"), where)
    start, end = (str(one_of(tree[key], points, where)) for key in ("from", "to"))
    if start == end:
        raise ConfigError(f"{where} goes from {start} to itself")
    return HandVector(
        start,
        end,
        _positive(tree.get("scale", scale), f"{where}.scale"),
        _positive(tree.get("weight", 1.0), f"{where}.weight"),
    )


def _coupling(value: Any, where: str) -> Coupling:
    tree = as_mapping(value, where)
    only(tree, ("follows", "multiplier", "offset"), where)
    multiplier, offset = (
        number(tree.get(key, 1 - i), f"{where}.{key}") for i, key in enumerate(("multiplier", "offset"))
    )
    if multiplier == 0:
        raise ConfigError(f"{where}.multiplier must not be 0")
    return Coupling(str(need(tree, "follows", where)), multiplier, offset)


def _positive(value: Any, where: str) -> float:
    out = number(value, where)
    if not out > 0:
        raise ConfigError(f"{where} must be positive, not {out:g}")
    return out
