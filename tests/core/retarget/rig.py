"""A governor on a clock of its own with a robot that does as told (or not): no hardware, no waiting."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from hsr_core.retarget.command import Command, Target
from hsr_core.retarget.governor import Governor
from hsr_core.retarget.settings import TeleopSettings

N = 29
DT_NS = 10_000_000
START_NS = 1_700_000_000_000_000_000


def joints(n: int = N, speed: float = 1.5, acceleration: float = 20.0, reach: float = 2.0) -> SimpleNamespace:
    """What a governor needs of a robot."""
    return SimpleNamespace(
        joint_names=tuple(f"j{i}" for i in range(n)),
        lower=-reach * np.ones(n),
        upper=reach * np.ones(n),
        velocity=speed * np.ones(n),
        acceleration=acceleration * np.ones(n),
        floating=False,
        moves_legs=False,
        fastest_arm_rad_s=speed,
    )


class Rig:
    """A governor with everything that feeds it.

    Attributes:
        now: The clock [ns].
        commands: Every command, in order, None where nothing was sent.
        follows: The robot's joints go where they are told.
    """

    def __init__(self, robot: SimpleNamespace | None = None, settings: TeleopSettings | None = None) -> None:
        self.now = START_NS
        self.robot = robot or joints()
        self.governor = Governor(self.robot, settings, lambda: self.now)
        self.measured = np.zeros(len(self.robot.joint_names))
        self.commands: list[Command | None] = []
        self.pressed: bool | None = False
        self.follows = self.joints_alive = True
        self.goal: np.ndarray | None = np.zeros_like(self.measured)
        self.frame_every_ns, self._next_frame_ns = 33_333_333, self.now
        self.track_id, self.latency_ns = 1, 40_000_000

    def tick(self, dt_ns: int = DT_NS) -> Command | None:
        """Let time pass, feed all inputs, tick once."""
        self.now += dt_ns
        if self.joints_alive:
            self.governor.set_joint_state(self.measured, self.now)
        if self.pressed is not None:
            self.governor.set_deadman(self.pressed, self.now)
        if self.goal is not None and self.now >= self._next_frame_ns:
            self.frame(self.goal)
            self._next_frame_ns = self.now + self.frame_every_ns
        command = self.governor.tick()
        self.commands.append(command)
        if command is not None and self.follows:
            self.measured = command.position.copy()
        return command

    def frame(self, position: np.ndarray, **changes) -> bool:
        target = Target(self.now - self.latency_ns, self.track_id, np.asarray(position, float))
        return self.governor.set_target(Target(**{**vars(target), **changes}))

    def run(self, seconds: float) -> list[Command | None]:
        first = len(self.commands)
        for _ in range(round(seconds * 1e9 / DT_NS)):
            self.tick()
        return self.commands[first:]

    def engage(self, *, track_id: int = 1) -> None:
        """From DISARMED to ENGAGING, as a person would."""
        self.pressed = False
        self.run(0.1)
        assert self.governor.arm() == ""
        self.governor.lock(track_id)
        self.run(0.1)
        assert self.governor.engage() == ""
        self.pressed = True
        self.run(0.02)

    def track(self) -> None:
        """To TRACKING, at the goal."""
        self.engage()
        self.run(2.2)


def speeds(commands: list[Command | None]) -> np.ndarray:
    """Speed between successive commands of one engagement, (t, n) [rad/s]; NaN where there is none."""
    out = []
    for a, b in pairwise(commands):
        if a is None or b is None or b.seq == 0:
            out.append(None)
            continue
        dt = (b.command_stamp_ns - a.command_stamp_ns) * 1e-9
        out.append((b.position - a.position) / dt)
    n = next(len(s) for s in out if s is not None)
    return np.array([np.full(n, np.nan) if s is None else s for s in out])
