"""One hand of a robot as a model of its own: everything else is locked, driven joints follow their drivers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..types import Array
from .entries import near
from .hand_mapping import Coupling, VectorHand
from .palm import palm_axes
from .settings import PLACEHOLDER_RAD_S


@dataclass(frozen=True, eq=False)
class HandModel:
    """What the solver of one hand works on; m joints of its own, k with those that they drive.

    Attributes:
        side: left or right.
        names: Joints that move freely, (m,).
        driven: Driven joint -> its driver.
        idx_q: Places of the k joints in the whole robot's configuration.
        idx_own: Places of the m joints in it.
        model: pinocchio's, of the k joints.
        C, d: q = C x + d, (k, m) and (k,) [rad]: all joints from those that move freely.
        lower, upper, velocity, neutral: (m,) [rad], [rad/s]; within the limits of the driven joints, too.
        points: Frame of each point of the mapping.
        start, end: (n,) indices in `points` of each vector.
        scales, weights: (n,) of each vector.
        thumb, fingers: Index of the thumb's tip, (p,) indices of the tips that meet it.
        touch: (p,) distance of the two points where the tips touch [m].
        R_root_hand: (3, 3) axes of the hand in those of the model.
    """

    side: str
    mapping: VectorHand
    names: tuple[str, ...]
    driven: Mapping[str, Coupling]
    idx_q: NDArray[np.intp]
    idx_own: NDArray[np.intp]
    model: Any
    C: Array
    d: Array
    lower: Array
    upper: Array
    velocity: Array
    neutral: Array
    points: tuple[int, ...]
    start: NDArray[np.intp]
    end: NDArray[np.intp]
    scales: Array
    weights: Array
    thumb: int
    fingers: NDArray[np.intp]
    touch: Array
    R_root_hand: Array

    def place(self, x: Array) -> Array:
        """Return the points of the hand (len(points), 3) [m] in the model's axes, for joints `x` (m,)."""
        return _place(self.model, self.points, self.C @ x + self.d)


def build_hand(
    side: str,
    mapping: VectorHand,
    urdf: Path,
    model: Any,
    neutral: Array,
    movable: Sequence[str],
    limits: tuple[Array, Array, Array],
) -> HandModel:
    """Cut one hand out of a robot.

    Args:
        side: left or right.
        mapping: Its entry `hands.<side>`.
        urdf: For its `mimic` joints.
        model: pinocchio's, of the robot.
        neutral: Configuration of the robot, (nq,).
        movable: Commanded joints that may be fingers.
        limits: Lower and upper position limit and velocity of them, (len(movable),) each.

    Raises:
        ConfigError: A frame or joint that the robot lacks, with near names; no joint that moves the tips; three points
            of the palm on a line; limits that leave a joint no room.
    """
    where = f"hands.{side}"
    joints = list(model.names)[1:]
    frames = {name: _joint_of(model, point.frame, f"{where}.points.{name}") for name, point in mapping.points.items()}
    couplings = _couplings(urdf, mapping, joints, where)
    moved = _moved(model, mapping, frames)
    driven = {name: one for name, one in couplings.items() if name in moved and one.follows in movable}
    drivers = moved | {one.follows for one in driven.values()}
    own = [name for name in movable if name in drivers and name not in couplings]
    if not own:
        raise ConfigError(f"{where}: none of the commanded joints of the group fingers moves a point of its vectors")
    together = sorted([*own, *driven], key=lambda name: model.joints[model.getJointId(name)].idx_v)
    small, points = _reduced(model, neutral, together, mapping)
    C, d = _coupled(together, own, driven)
    by_name = dict(zip(movable, zip(*limits, strict=True), strict=True))
    lower, upper, velocity = _limits(model, own, driven, by_name, where)
    idx_q, idx_own = (
        np.array([model.joints[model.getJointId(name)].idx_q for name in names], np.intp) for names in (together, own)
    )
    x = np.clip(neutral[idx_own], lower, upper)
    names = list(mapping.points)
    palm = _place(small, points, C @ x + d)[[names.index(name) for name in mapping.palm]]
    R_root_hand = palm_axes(palm, side)
    if R_root_hand is None:
        raise ConfigError(f"{where}.points: {', '.join(mapping.palm)} lie on a line: they must span the palm")
    return HandModel(
        side=side,
        mapping=mapping,
        names=tuple(own),
        driven=driven,
        idx_q=idx_q,
        idx_own=idx_own,
        model=small,
        C=C,
        d=d,
        lower=lower,
        upper=upper,
        velocity=velocity,
        neutral=x,
        points=points,
        start=np.array([names.index(vector.start) for vector in mapping.vectors], np.intp),
        end=np.array([names.index(vector.end) for vector in mapping.vectors], np.intp),
        scales=np.array([vector.scale for vector in mapping.vectors]),
        weights=np.array([vector.weight for vector in mapping.vectors]),
        thumb=names.index("thumb3") if mapping.pinch else 0,
        fingers=np.array([names.index(tip) for tip in mapping.pinch], np.intp),
        touch=np.array([mapping.points["thumb3"].radius + mapping.points[tip].radius for tip in mapping.pinch]),
        R_root_hand=R_root_hand,
    )


def mimic_joints(urdf: Path) -> dict[str, Coupling]:
    """Return the couplings that a URDF declares."""
    out = {}
    for joint in ElementTree.parse(urdf).getroot().iter("joint"):
        mimic = joint.find("mimic")
        if mimic is not None:
            out[joint.get("name", "")] = Coupling(
                mimic.get("joint", ""), float(mimic.get("multiplier", 1)), float(mimic.get("offset", 0))
            )
    return out


def _couplings(urdf: Path, mapping: VectorHand, joints: list[str], where: str) -> dict[str, Coupling]:
    for name, one in mapping.coupling.items():
        for joint in (name, one.follows):
            if joint not in joints:
                raise ConfigError(f"{where}.coupling.{name}: the URDF has no joint {joint!r}; {near(joint, joints)}")
    out = mimic_joints(urdf) | dict(mapping.coupling)
    for name, one in out.items():
        if one.follows in out:
            raise ConfigError(f"{where}.coupling: {name} follows {one.follows}, which follows another joint itself")
    return out


def _joint_of(model: Any, frame: str, where: str) -> int:
    if not model.existFrame(frame):
        raise ConfigError(
            f"{where}: the URDF has no frame {frame!r}; {near(frame, [one.name for one in model.frames])}"
        )
    return int(model.frames[model.getFrameId(frame)].parent)


def _moved(model: Any, mapping: VectorHand, frames: dict[str, int]) -> set[str]:
    """Return the joints that change a vector: those above one of its ends and not above the other."""
    pairs = [(vector.start, vector.end) for vector in mapping.vectors] + [("thumb3", tip) for tip in mapping.pinch]
    ids = set().union(*(set(model.supports[frames[a]]) ^ set(model.supports[frames[b]]) for a, b in pairs))
    return {model.names[i] for i in ids}


def _reduced(model: Any, neutral: Array, free: list[str], mapping: VectorHand) -> tuple[Any, tuple[int, ...]]:
    """Return the model with all but the free joints locked, and the frames of the mapping's points in it."""
    import pinocchio as pin

    locked = [i for i in range(1, model.njoints) if model.names[i] not in free]
    small = pin.buildReducedModel(model, locked, neutral)
    points = []
    for name, point in mapping.points.items():
        frame = small.frames[small.getFrameId(point.frame)]
        placement = frame.placement * pin.SE3(np.eye(3), np.array(point.at))
        own = pin.Frame(f"hand point {name}", frame.parent, small.getFrameId(point.frame), placement, pin.OP_FRAME)
        points.append(small.addFrame(own))
    return small, tuple(points)


def _coupled(names: list[str], own: list[str], driven: dict[str, Coupling]) -> tuple[Array, Array]:
    C, d = np.zeros((len(names), len(own))), np.zeros(len(names))
    for row, name in enumerate(names):
        one = driven.get(name, Coupling(name))
        C[row, own.index(one.follows)], d[row] = one.multiplier, one.offset
    return C, d


def _limits(
    model: Any, own: list[str], driven: dict[str, Coupling], limits: dict[str, tuple[float, ...]], where: str
) -> tuple[Array, Array, Array]:
    """Return the limits of the free joints within which the driven ones keep theirs."""
    lower, upper, velocity = (np.array(column) for column in zip(*(limits[name] for name in own), strict=True))
    for name, one in driven.items():
        i, joint = own.index(one.follows), model.joints[model.getJointId(name)]
        urdf = (float(limit[joint.idx_q]) for limit in (model.lowerPositionLimit, model.upperPositionLimit))
        ends = [(end - one.offset) / one.multiplier for end in (limits[name][:2] if name in limits else urdf)]
        lower[i], upper[i] = max(lower[i], min(ends)), min(upper[i], max(ends))
        own_speed = float(model.velocityLimit[joint.idx_v])
        speeds = [limits[name][2]] if name in limits else [own_speed] if 0 < own_speed < PLACEHOLDER_RAD_S else []
        velocity[i] = min(velocity[i], *(speed / abs(one.multiplier) for speed in speeds), np.inf)
        if not lower[i] < upper[i]:
            raise ConfigError(f"{where}.coupling.{name}: its limits leave {one.follows} no room")
    return lower, upper, velocity


def _place(model: Any, points: tuple[int, ...], q: Array) -> Array:
    import pinocchio as pin

    data = model.createData()
    pin.framesForwardKinematics(model, data, q)
    return np.array([data.oMf[frame].translation for frame in points])
