"""A robot's motion as the pickle that GMR writes and its users read, and the same arrays as npz.

Source:
    Araujo et al., Retargeting Matters (GMR), 2025: keys and quaternion order of its saved motions.
"""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ..errors import ConfigError
from ..types import Array
from .base import Job, files_whole
from .motion import Stretch, nominal_rate, sample_count
from .robot_motion import RobotMotion, need_one


class GmrExporter:
    """A uniform rate; the longest stretch without a gap. The pickle holds numpy arrays, numbers and strings alone."""

    title = "GMR motion (pickle and npz)"
    suffix = ".pkl"
    needs_robot = True

    def write(self, job: Job) -> dict[str, Any]:
        robot = need_one(job.robot, "gmr")
        fps = job.options.fps or nominal_rate(robot.stamps)
        stretch, others = longest(robot, max(job.options.gap_s * 1e9, 1.5e9 / fps))
        arrays = sampled(robot, stretch, fps)
        header = job.header(robot=robot.robot, origin=robot.origin, first_stamp_ns=int(stretch.stamps[0]),
                            frames_in_other_stretches=others)  # fmt: skip
        motion = {"fps": float(fps), **arrays, "local_body_pos": None, "link_body_list": None}
        twin = job.out.with_suffix(".npz").name
        with files_whole(job.out) as folder:
            with (folder / job.out.name).open("wb") as file:
                pickle.dump(motion | {"joint_names": list(robot.joint_names), "hsr_header": header}, file, protocol=4)
            more = {"joint_names": np.array(robot.joint_names), "hsr_header": np.array(json.dumps(header))}
            np.savez_compressed(folder / twin, fps=np.array(float(fps)), **arrays, **more)
        return {"files": [job.out.name, twin], "fps": fps, "frames": len(arrays["dof_pos"]), "robot": robot.robot,
                "frames_missing": int((~robot.valid).sum()), "frames_in_other_stretches": others}  # fmt: skip


def longest(robot: RobotMotion, gap_ns: float) -> tuple[Stretch, int]:
    """Return the longest stretch in which every joint is known, and how many such frames lie outside of it."""
    frames = np.flatnonzero(robot.valid)
    if len(frames) < 2:
        raise ConfigError(f"{len(frames)} frames with every joint of {robot.robot}: no motion")
    cuts = np.flatnonzero(np.diff(robot.stamps[frames]) > gap_ns) + 1
    best = max(np.split(frames, cuts), key=len)
    if len(best) < 2:
        raise ConfigError(f"no two frames of {robot.robot} follow each other within {gap_ns * 1e-9:g} s")
    return Stretch(best, robot.stamps[best]), len(frames) - len(best)


def sampled(robot: RobotMotion, stretch: Stretch, fps: float) -> dict[str, Array]:
    """Return root_pos (N, 3) [m], root_rot (N, 4) xyzw and dof_pos (N, n) [rad]; a fixed base stays at the origin."""
    n = sample_count(stretch, fps)
    have = (stretch.stamps - stretch.stamps[0]) * 1e-9
    want = np.minimum(np.arange(n) / fps, have[-1])
    dof = np.stack([np.interp(want, have, column) for column in robot.position[stretch.frames].T], axis=1)
    place, turn = np.zeros((n, 3)), np.tile([0.0, 0, 0, 1], (n, 1))
    if robot.base is not None:
        base = robot.base[stretch.frames]
        place = np.stack([np.interp(want, have, column) for column in base[:, :3].T], axis=1)
        turn = Slerp(have, Rotation.from_quat(base[:, 3:]))(want).as_quat()
    return {"root_pos": place, "root_rot": turn, "dof_pos": dof}


def create() -> GmrExporter:
    """Return the exporter."""
    return GmrExporter()
