"""A robot to retarget to: a URDF, a mapping, and every check that can be made before anything moves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, ConfigError
from ..types import Array
from . import mapping as mapping_file
from .collision import Capsules
from .entries import near
from .find import need_libraries, resolve
from .frames import R_REST, ROTATIONS
from .hand_model import HandModel, build_hand
from .mapping import RobotMapping
from .settings import PLACEHOLDER_RAD_S, LimitSettings

CHAINS = tuple((f"{side}_{root}", f"{side}_{middle}", f"{side}_{end}") for side in ("left", "right")
               for root, middle, end in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")))  # fmt: skip
"""Root, middle and end of arms and legs."""

_AT_REST = {
    "left_wrist": np.array([0.0, 1, 0]),
    "right_wrist": np.array([0.0, -1, 0]),
    "left_ankle": np.array([0.0, 0, -1]),
    "right_ankle": np.array([0.0, 0, -1]),
}
"""Where arms and legs point in the body model's zero pose."""
_MAX_SLANT = np.cos(np.radians(35))
"""Arms and legs at rest point there to within this."""


@dataclass(frozen=True, eq=False)
class Robot:
    """A loaded and checked robot.

    Attributes:
        mapping: What the YAML says.
        urdf: Its file.
        model: pinocchio's; with a free-flyer where the base floats.
        joint_names: Commanded joints in the URDF's order, n of them.
        groups: Of each commanded joint.
        idx_q, idx_v: Their places in configuration and velocity, (n,).
        solved: Which of them the solver moves, (n,) bool; the others are fingers, which follow the hand directly.
        lower, upper: Position limits less the margin, (n,) [rad].
        velocity, acceleration: (n,) [rad/s], [rad/s²].
        rest, neutral: Configurations of the whole model.
        frames: Human part -> frame id.
        offsets: Human part -> R_offset (3, 3): R_world_frame = R_world_joint R_offset.
        lengths: (parent, child) of `CHAINS` -> length of the robot's segment [m].
        capsules: For self-collision.
        workspace: Wrist -> corners of the box that its frame stays in, in the base's frame [m].
        hands: Side -> model of a hand that follows by fingertip vectors.
        limits: What it was loaded with.
    """

    mapping: RobotMapping
    urdf: Path
    model: Any
    joint_names: tuple[str, ...]
    groups: tuple[str, ...]
    idx_q: NDArray[np.intp]
    idx_v: NDArray[np.intp]
    solved: NDArray[np.bool_]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    rest: Array
    neutral: Array
    frames: dict[str, int]
    offsets: dict[str, Array]
    lengths: dict[tuple[str, str], float]
    capsules: Capsules
    workspace: dict[str, tuple[Array, Array]]
    hands: dict[str, HandModel]
    limits: LimitSettings

    @property
    def floating(self) -> bool:
        return self.mapping.base == "floating"

    @property
    def moves_legs(self) -> bool:
        return "legs" in self.groups

    @property
    def leg_m(self) -> float:
        """Length of a leg, hip to ankle [m]; 0 without legs."""
        return sum(length for (parent, _), length in self.lengths.items() if parent in ("left_hip", "left_knee"))

    @property
    def fastest_arm_rad_s(self) -> float:
        return max((v for v, group in zip(self.velocity, self.groups, strict=True) if group == "arms"), default=0.0)

    def configuration(self, position: Array, T_world_base: Array | None = None, base: Array | None = None) -> Array:
        """Return a configuration of the whole model with the commanded joints at `position` (n,) [rad].

        Args:
            position: Commanded joints.
            T_world_base: Of a floating base.
            base: The configuration that the other joints are taken from; None: `neutral`.
        """
        q = (self.neutral if base is None else base).copy()
        q[self.idx_q] = position
        if self.floating and T_world_base is not None:
            import pinocchio as pin

            q[:7] = pin.SE3ToXYZQUAT(pin.SE3(np.asarray(T_world_base)))
        return q

    def frame_placements(self, q: Array) -> dict[str, Array]:
        """Return T_world_frame (4, 4) of each human part's frame."""
        import pinocchio as pin

        data = self.model.createData()
        pin.framesForwardKinematics(self.model, data, q)
        return {name: data.oMf[frame].homogeneous for name, frame in self.frames.items()}


def load_robot(robot: str | Path | RobotMapping, mode: str = "", limits: LimitSettings | None = None) -> Robot:
    """Load a robot and check it.

    Args:
        robot: Name of a mapping that comes with the library, a YAML's path, or a parsed mapping.
        mode: One of the mapping's modes, such as `upper_body`; empty: its first.
        limits: Margins and default limits.

    Raises:
        MissingPackage: The libraries or the robot's package are not installed.
        MissingFile: No such mapping or URDF.
        BadFile: The URDF cannot be read.
        ConfigError: A check failed; the message names the joint or frame and near names.
    """
    need_libraries()
    limits = limits or LimitSettings()
    chosen = robot if isinstance(robot, RobotMapping) else mapping_file.load_mapping(robot, mode)
    urdf = resolve(chosen.urdf, chosen.path.parent)
    _check_hash(chosen, urdf)
    model = build_model(urdf, chosen.base == "floating")
    commanded = _commanded(model, chosen)
    names, groups = tuple(name for name, _ in commanded), tuple(group for _, group in commanded)
    joints = [model.joints[model.getJointId(name)] for name in names]
    idx_q, idx_v = (np.array([getattr(joint, key) for joint in joints], np.intp) for key in ("idx_q", "idx_v"))
    lower, upper = _positions(model, names, idx_q, limits)
    velocity, acceleration = _rates(model, chosen, names, groups, idx_v, limits)
    rest, neutral = (_posture(model, chosen, name) for name in ("rest", "neutral"))
    neutral[idx_q] = np.clip(neutral[idx_q], lower, upper)
    frames = {part: _frame(model, f"links.{part}", link.frame) for part, link in chosen.links.items()}
    placed = _placements(model, rest, frames)
    return Robot(
        mapping=chosen,
        urdf=urdf,
        model=model,
        joint_names=names,
        groups=groups,
        idx_q=idx_q,
        idx_v=idx_v,
        solved=np.array([group != "fingers" for group in groups]),
        lower=lower,
        upper=upper,
        velocity=velocity,
        acceleration=acceleration,
        rest=rest,
        neutral=neutral,
        frames=frames,
        offsets={part: R_REST.T @ placed[part][:3, :3] for part in frames if part in ROTATIONS},
        lengths=_lengths(chosen, placed),
        capsules=_capsules(model, chosen, names, neutral),
        workspace=_workspace(model, chosen, neutral, frames),
        hands=_hands(model, chosen, urdf, neutral, (names, groups), (lower, upper, velocity)),
        limits=limits,
    )


def build_model(urdf: Path, floating: bool) -> Any:
    """Return pinocchio's model of a URDF; meshes are not needed.

    Raises:
        BadFile: It cannot be read.
    """
    import pinocchio as pin

    try:
        return (
            pin.buildModelFromUrdf(str(urdf), pin.JointModelFreeFlyer())
            if floating
            else pin.buildModelFromUrdf(str(urdf))
        )
    except Exception as error:  # pinocchio raises what its parser raises
        raise BadFile(f"{urdf} is not a URDF of one tree: {str(error).strip() or type(error).__name__}") from error


def _check_hash(mapping: RobotMapping, urdf: Path) -> None:
    if mapping.urdf_sha256 and mapping.urdf_sha256 != (found := mapping_file.sha256_of(urdf)):
        raise ConfigError(
            f"{urdf} is not the file that {mapping.path.name} was made for (sha256 {found}, expected "
            f"{mapping.urdf_sha256}): check the mapping against it, then change urdf_sha256"
        )


def _commanded(model: Any, mapping: RobotMapping) -> list[tuple[str, str]]:
    """Return (joint, group) in the URDF's order."""
    known = list(model.names)[1:]
    seen: dict[str, str] = {}
    for group, names in mapping.joints.items():
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"modes.{mapping.mode}.joints.{group}: the URDF has no joint {name!r}; {near(name, known)}"
                )
            if name in seen:
                raise ConfigError(f"modes.{mapping.mode}.joints: {name} is named twice")
            if model.joints[model.getJointId(name)].nq != 1:
                raise ConfigError(
                    f"{name} has no limits (a continuous joint) and cannot be commanded: give it some in the URDF"
                )
            seen[name] = group
    if not seen:
        raise ConfigError(f"modes.{mapping.mode}.joints names no joint")
    for side, fingers in mapping.hands.items():
        for name in fingers:
            if name not in known:
                raise ConfigError(f"hands.{side}: the URDF has no joint {name!r}; {near(name, known)}")
    for name in (*mapping.limits, *mapping.rest, *mapping.neutral):
        if name not in known:
            raise ConfigError(f"limits, rest or neutral: the URDF has no joint {name!r}; {near(name, known)}")
    return sorted(seen.items(), key=lambda item: model.joints[model.getJointId(item[0])].idx_v)


def _positions(model: Any, names: tuple[str, ...], idx_q: Array, limits: LimitSettings) -> tuple[Array, Array]:
    lower, upper = model.lowerPositionLimit[idx_q].copy(), model.upperPositionLimit[idx_q].copy()
    for name, low, high in zip(names, lower, upper, strict=True):
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ConfigError(f"{name}: the lower position limit {low:g} must be less than the upper, {high:g}")
    # A joint of little range keeps at least four fifths of it.
    margin = np.maximum(np.radians(limits.margin_deg), limits.margin_part * (upper - lower)).clip(
        None, 0.1 * (upper - lower)
    )
    return lower + margin, upper - margin


def _rates(
    model: Any,
    mapping: RobotMapping,
    names: tuple[str, ...],
    groups: tuple[str, ...],
    idx_v: Array,
    limits: LimitSettings,
) -> tuple[Array, Array]:
    default = {group: getattr(limits, f"{group}_rad_s") for group in mapping_file.GROUPS}
    velocity, acceleration = np.empty(len(names)), np.empty(len(names))
    for i, (name, group) in enumerate(zip(names, groups, strict=True)):
        own, ceiling = mapping.limits.get(name), float(model.velocityLimit[idx_v[i]])
        believable = 0 < ceiling < PLACEHOLDER_RAD_S
        if not believable and (own is None or own.velocity is None):
            why = "zero or missing" if not ceiling > 0 else f"{ceiling:g} rad/s, a placeholder"
            raise ConfigError(
                f"{name}: the URDF's velocity limit is {why}: give limits.{name}.velocity in {mapping.path.name}"
            )
        wanted = own.velocity if own and own.velocity is not None else default[group]
        velocity[i] = limits.velocity_scale * (min(wanted, ceiling) if believable else wanted)
        acceleration[i] = own.acceleration if own and own.acceleration is not None else limits.acceleration_rad_s2
        if acceleration[i] > MAX_ACCELERATION_RAD_S2:
            raise ConfigError(
                f"limits.{name}.acceleration {acceleration[i]:g} is more than {MAX_ACCELERATION_RAD_S2:g} rad/s²"
            )
    return velocity, acceleration


MAX_ACCELERATION_RAD_S2 = 60.0


def _posture(model: Any, mapping: RobotMapping, which: str) -> Array:
    import pinocchio as pin

    q = pin.neutral(model)
    for name, value in getattr(mapping, which).items():
        i = model.joints[model.getJointId(name)].idx_q
        low, high = model.lowerPositionLimit[i], model.upperPositionLimit[i]
        if not low <= value <= high:
            raise ConfigError(f"{which}.{name} is {value:g}, outside the URDF's limits {low:g}..{high:g}")
        q[i] = value
    for joint in model.joints:
        if joint.nq == 1:  # a joint that is not named is 0, or at its nearest limit
            q[joint.idx_q] = np.clip(
                q[joint.idx_q], model.lowerPositionLimit[joint.idx_q], model.upperPositionLimit[joint.idx_q]
            )
    return q


def _frame(model: Any, where: str, name: str) -> int:
    if not model.existFrame(name):
        raise ConfigError(
            f"{where}: the URDF has no frame {name!r}; {near(name, [frame.name for frame in model.frames])}"
        )
    return model.getFrameId(name)


def _placements(model: Any, q: Array, frames: dict[str, int]) -> dict[str, Array]:
    import pinocchio as pin

    data = model.createData()
    pin.framesForwardKinematics(model, data, q)
    return {part: data.oMf[frame].homogeneous for part, frame in frames.items()}


def _lengths(mapping: RobotMapping, placed: dict[str, Array]) -> dict[tuple[str, str], float]:
    """Return the robot's segments, and check that arms and legs are whole and the arms at rest point to the sides."""
    lengths = {}
    for root, middle, end in CHAINS:
        if end not in placed:
            continue
        for name in (root, middle):
            if name not in placed:
                raise ConfigError(
                    f"links.{end} needs links.{name}: give its frame, with no costs where it is not followed"
                )
        for parent, child in ((root, middle), (middle, end)):
            length = float(np.linalg.norm(placed[child][:3, 3] - placed[parent][:3, 3]))
            if length < 0.01:
                raise ConfigError(
                    f"links.{parent} and links.{child} are at the same place: {mapping.links[child].frame}"
                )
            lengths[parent, child] = length
        along = placed[end][:3, 3] - placed[root][:3, 3]
        along = along / np.linalg.norm(along)
        if along @ _AT_REST[end] < _MAX_SLANT:
            raise ConfigError(
                f"in the posture `rest` {root} to {end} points along {np.round(along, 2).tolist()}, not "
                f"{_AT_REST[end].tolist()}: rest is a T-pose, with x to the front and z up"
            )
    return lengths


def _capsules(model: Any, mapping: RobotMapping, commanded: tuple[str, ...], neutral: Array) -> Capsules:
    import pinocchio as pin

    ids = [_frame(model, "collision.capsules", capsule.frame) for capsule in mapping.capsules]
    for name in itertools.chain(*mapping.ignore_pairs):
        _frame(model, "collision.ignore", name)
    parents = [model.frames[i].parent for i in ids]
    moved = {model.getJointId(name) for name in commanded}
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(ids)), 2)
        if mapping.capsules[i].frame != mapping.capsules[j].frame
        and frozenset((mapping.capsules[i].frame, mapping.capsules[j].frame)) not in mapping.ignore_pairs
        and len(between := joints_between(model, parents[i], parents[j])) > 1
        and between & moved
    ]
    capsules = Capsules(mapping.capsules, ids, pairs)
    data = model.createData()
    pin.framesForwardKinematics(model, data, neutral)
    if pairs:
        clearance = capsules.distances(capsules.place(data.oMf))[0]
        worst = int(np.argmin(clearance))
        if clearance[worst] < 0:
            raise ConfigError(
                f"in the posture `neutral` {capsules.name(worst)} overlap by {-1e3 * clearance[worst]:.0f} mm: make "
                "their capsules smaller, change neutral, or name the pair in collision.ignore"
            )
    return capsules


def _workspace(
    model: Any, mapping: RobotMapping, neutral: Array, frames: dict[str, int]
) -> dict[str, tuple[Array, Array]]:
    if mapping.workspace and mapping.base == "floating":
        return {}  # files and simulators: the box belongs to a robot that stands somewhere
    placed = _placements(model, neutral, frames)
    out = {}
    for part, (low, high) in mapping.workspace.items():
        if part not in frames:
            raise ConfigError(f"workspace.{part}: links has no {part}")
        place = placed[part][:3, 3]
        if not (np.all(place > low) and np.all(place < high)):
            raise ConfigError(
                f"workspace.{part}: in the posture `neutral` it is at {np.round(place, 3).tolist()}, outside the box"
            )
        out[part] = np.array(low), np.array(high)
    return out


def _hands(
    model: Any,
    mapping: RobotMapping,
    urdf: Path,
    neutral: Array,
    commanded: tuple[tuple[str, ...], tuple[str, ...]],
    limits: tuple[Array, Array, Array],
) -> dict[str, HandModel]:
    """Cut out the hands that follow by vectors, and put driven joints of `neutral` where their drivers bring them."""
    fingers = [i for i, group in enumerate(commanded[1]) if group == "fingers"]
    movable = [commanded[0][i] for i in fingers]
    lower, upper, velocity = (limit[fingers] for limit in limits)
    out = {}
    for side, entry in mapping.vector_hands.items():
        hand = build_hand(side, entry, urdf, model, neutral, movable, (lower, upper, velocity))
        neutral[hand.idx_q] = hand.C @ hand.neutral + hand.d
        out[side] = hand
    return out


def joints_between(model: Any, a: int, b: int) -> set[int]:
    """Return the joints that lie between two joints' bodies: those that move one against the other."""
    return set(model.supports[a]) ^ set(model.supports[b])
