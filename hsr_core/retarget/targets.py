"""From a person to targets for a robot's frames: by directions, segment by segment.

Arms and legs hang on the robot's own trunk: the target of an elbow or wrist is a vector from the robot's shoulder, made
of the directions of the person's segments and the lengths of the robot's. So the reach depends neither on the person's
proportions nor on flicker of the estimated shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np

from ..types import Array, MetricSource
from .command import Flag
from .frames import heading, orientation
from .ground import FEET, GUESSED, Contacts, Ground, SegmentLengths
from .human import OTHER_SIDE, Human, mirrored, sagittal_plane
from .robot import CHAINS, Robot
from .settings import GroundSettings, MissingSettings


@dataclass(frozen=True, eq=False)
class Goal:
    """What one frame of the robot should reach.

    Attributes:
        value: (3,) vector [m] from the root's frame to this one in world axes, (3,) point, or (3, 3) rotation.
        weight: In [0, 1]; falls when the part is no longer seen.
    """

    value: Array
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """Everything that the solver aims at; the world is the robot's base where that is fixed.

    Attributes:
        relative: Human part -> vector from the root of its chain.
        points: Human part -> point in the world.
        rotations: Human part -> R_world_frame.
        flags: HOLDOVER, JOINT_MISSING, DEPTH_GUESSED.
    """

    relative: dict[str, Goal] = field(default_factory=dict)
    points: dict[str, Goal] = field(default_factory=dict)
    rotations: dict[str, Goal] = field(default_factory=dict)
    flags: Flag = Flag.NONE


WRISTS = ("left_wrist", "right_wrist")
Wrists = Callable[[], Mapping[str, Array]]
"""Where the robot's wrists are: part -> (3,) in its world [m]."""


@dataclass(frozen=True, eq=False)
class Clutch:
    """Where the hands were when they engaged: R_world_heading of the person, their wrists and the robot's, (3,) [m]."""

    heading: Array
    person: dict[str, Array] = field(default_factory=dict)
    robot: dict[str, Array] = field(default_factory=dict)


ROOT_OF = {part: chain[0] for chain in CHAINS for part in chain[1:]}
"""Part -> the point that its vector starts from."""


class TargetMaker:
    """Makes targets from one person's frames, in their order. It has no clock: time is in the stamps.

    Attributes:
        lengths: The person's, frozen after their first frames.
        contacts: Of the feet.
    """

    def __init__(
        self,
        robot: Robot,
        missing: MissingSettings,
        ground: GroundSettings,
        *,
        mirror: bool = False,
        clutched: bool = False,
    ) -> None:
        self.robot, self.mirror, self.clutched = robot, mirror, clutched
        self.lengths, self.ground, self.contacts = SegmentLengths(), Ground(ground), Contacts(ground)
        self._memory = Memory(missing)
        followed = {part for part, link in robot.mapping.links.items() if link.position > 0 and part in ROOT_OF}
        hands = set(WRISTS) if clutched else set()
        self._expected = {("relative", part) for part in followed - hands}
        self._clutched_parts = {("points", part) for part in followed & hands}
        rest = robot.frame_placements(robot.rest)
        hips = [rest[f"{side}_hip"][:3, 3] for side in ("left", "right") if f"{side}_hip" in rest]
        # From the middle of the robot's hips to the frame that follows the pelvis, in that frame at rest.
        self._pelvis_over_hips = (
            rest["pelvis"][:3, 3] - np.mean(hips, axis=0) if hips and "pelvis" in rest else np.zeros(3)
        )
        self.reset()

    def reset(self) -> None:
        """Forget the person: another operator follows."""
        self.lengths.reset()
        self.ground.reset()
        self.contacts.reset()
        self._memory.reset()
        self._anchor: Array | None = None
        self._wrists: Wrists | None = None
        self._clutch: Clutch | None = None
        self._plane: tuple[Array, Array] | None = None
        self._frozen_feet: dict[str, Array] = {}

    def engage(self, wrists: Wrists) -> None:
        """Take the pose of the next frame as the zero of clutched hands; a hand that is not seen then, when it is."""
        self._wrists, self._clutch = wrists, None
        self._memory.reset()  # no target outlives the engagement that it was made for

    def learn(self, person: Human) -> None:
        """Take the person's lengths from one more frame."""
        if self.mirror:
            person = replace(person, points=person.points[OTHER_SIDE], valid=person.valid[OTHER_SIDE])
        self.lengths.update(person)

    def make(self, person: Human) -> Targets | None:
        """Return the targets of one frame; None where nothing can be said: a lying person on a fixed base, or lengths
        that are not known yet where the base floats.

        Raises:
            BadFrame: `mirror` is set and there was no frame so far of an upright person with pelvis and hips.
        """
        finite = np.isfinite(person.points).all(axis=1)
        if not finite.all():  # whoever comes without the gate
            person = replace(person, valid=person.valid & finite)
        if self.mirror:
            self._plane = sagittal_plane(person) if self._plane is None else self._plane
            person = mirrored(person, self._plane)
        self.lengths.update(person)
        R_world_heading = heading(person)
        if R_world_heading is None or (self.robot.floating and not self.lengths.leg_m > 0):
            return None
        R = np.eye(3) if self.robot.floating else R_world_heading.T
        seen = self._relative(person, R) | self._rotations(person, R)
        if self.robot.floating:
            seen |= self._root_and_feet(person)
        if self.clutched:
            self._clutched(person, R_world_heading, seen)
        return self._remembered(person, seen)

    def _relative(self, person: Human, R: Array) -> dict[tuple[str, str], Array]:
        out = {}
        for root, middle, end in CHAINS:
            if end not in self.robot.frames:
                continue
            vector = np.zeros(3)
            for parent, child in ((root, middle), (middle, end)):
                if not person.sees(parent, child):
                    break
                segment = person.at(child) - person.at(parent)
                length = np.linalg.norm(segment)
                if not length > 1e-3:
                    break
                vector = vector + R @ segment * (self.robot.lengths[parent, child] / length)
                out["relative", child] = vector
        return out

    def _rotations(self, person: Human, R: Array) -> dict[tuple[str, str], Array]:
        out = {}
        for part, offset in self.robot.offsets.items():
            if self.robot.mapping.links[part].orientation > 0 and (own := orientation(person, part)) is not None:
                out["rotations", part] = R @ own @ offset
        return out

    def _root_and_feet(self, person: Human) -> dict[tuple[str, str], Array]:
        out: dict[tuple[str, str], Array] = {}
        ground_m = self.ground.update(person)
        on = self.contacts.update(person, ground_m)
        if (
            not person.sees("left_hip", "right_hip")
            or person.metric_source is MetricSource.NONE
            or not np.isfinite(ground_m)
        ):
            return out
        hips = (person.at("left_hip") + person.at("right_hip")) / 2
        if self._anchor is None:
            self._anchor = hips * (1, 1, 0)
        scale = self.robot.leg_m / self.lengths.leg_m
        middle = self._anchor + scale * (hips - (0, 0, ground_m) - self._anchor) + (0, 0, self.robot.mapping.sole_m)
        pelvis = orientation(person, "pelvis")
        turn = np.eye(3) if pelvis is None else pelvis @ self.robot.offsets["pelvis"]
        out["points", "pelvis"] = middle + turn @ self._pelvis_over_hips
        for foot, standing in zip(FEET, on, strict=True):
            if foot not in self.robot.frames:
                continue
            if not standing:
                self._frozen_feet.pop(foot, None)
                continue
            if foot not in self._frozen_feet and person.sees(foot):
                place = self._anchor + scale * (person.at(foot) - self._anchor)
                self._frozen_feet[foot] = np.array([place[0], place[1], self.robot.mapping.sole_m])
            if foot in self._frozen_feet:
                out["points", foot] = self._frozen_feet[foot]
        return out

    def _clutched(self, person: Human, R_world_heading: Array, seen: dict[tuple[str, str], Array]) -> None:
        """Put 1:1 points in the place of the wrists' scaled vectors, and their orientations into the same axes."""
        for part in WRISTS:
            seen.pop(("relative", part), None)
        if self._wrists is None or person.metric_source is MetricSource.NONE:
            return
        self._clutch = clutch = self._clutch or Clutch(R_world_heading)
        for part in WRISTS:
            if part not in self.robot.frames or not person.sees(part):
                continue
            if part not in clutch.person:
                clutch.person[part], clutch.robot[part] = person.at(part).copy(), self._wrists()[part]
            moved = person.at(part) - clutch.person[part]
            seen["points", part] = clutch.robot[part] + (moved if self.robot.floating else clutch.heading.T @ moved)
            if ("rotations", part) in seen and not self.robot.floating:
                seen["rotations", part] = clutch.heading.T @ R_world_heading @ seen["rotations", part]

    def _remembered(self, person: Human, seen: dict[tuple[str, str], Array]) -> Targets:
        goals, flags = self._memory.update(person.stamp_ns, seen)
        hands = self._clutched_parts if self._wrists is not None else set()
        if not self._expected | hands <= self._memory.known():
            flags |= Flag.JOINT_MISSING  # not seen so far
        if person.metric_source in GUESSED:
            flags |= Flag.DEPTH_GUESSED
        out = Targets(flags=flags)
        for (kind, part), goal in goals.items():
            getattr(out, kind)[part] = goal
        return out


class Memory:
    """Targets of parts that are not seen: the last one serves for a moment, then its weight goes to zero.

    A part that comes back gains weight as fast as it lost it.
    """

    def __init__(self, settings: MissingSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        self._last: dict[tuple[str, str], tuple[int, Array]] = {}
        self._weight: dict[tuple[str, str], float] = {}
        self._stamp_ns: int | None = None

    def known(self) -> Set[tuple[str, str]]:
        """Return the parts that were seen at some time."""
        return self._last.keys()

    def update(self, stamp_ns: int, seen: dict[tuple[str, str], Array]) -> tuple[dict[tuple[str, str], Goal], Flag]:
        """Return a goal for every part that is seen or remembered, and HOLDOVER or JOINT_MISSING."""
        settings, flags = self.settings, Flag.NONE
        step = 1.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9 / settings.fade_s
        self._stamp_ns = stamp_ns
        for key, value in seen.items():
            # A new part starts at full weight: its motion is bounded by the solver's limits.
            self._weight[key] = min(1.0, self._weight.get(key, 1.0) + step)
            self._last[key] = (stamp_ns, value)
        for key in list(self._last):
            if key in seen or (key[0] == "points" and key[1] in FEET):
                if key not in seen:  # a foot that has left the ground
                    del self._last[key], self._weight[key]
                continue
            missing_s = (stamp_ns - self._last[key][0]) * 1e-9
            if missing_s <= settings.holdover_s:
                flags |= Flag.HOLDOVER
                continue
            flags |= Flag.JOINT_MISSING
            self._weight[key] = max(0.0, 1 - (missing_s - settings.holdover_s) / settings.fade_s)
        goals = {key: Goal(value, self._weight[key]) for key, (_, value) in self._last.items() if self._weight[key] > 0}
        return goals, flags
