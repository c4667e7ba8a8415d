"""A robot's joints as CSV: a line of names, then a line a frame; what a CSV cannot say is in a JSON file beside it."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from .base import Job, as_json, files_whole
from .robot_motion import BASE, FLAG_NAMES, FLAGS, STAMP, STATE, need_one


class RobotCsvExporter:
    """Columns: stamp_ns, valid, flags, a live session's state, the base where it floats, joints [rad].

    Missing values are empty.
    """

    title = "robot joints, CSV"
    suffix = ".csv"
    needs_robot = True

    def write(self, job: Job) -> dict[str, Any]:
        robot = need_one(job.robot, "csv")
        base = () if robot.base is None else BASE
        state = () if robot.states is None else (STATE,)
        valid = robot.valid
        with files_whole(job.out) as folder:
            with (folder / job.out.name).open("w", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow([STAMP, "valid", FLAGS, *state, *base, *robot.joint_names])
                for i, stamp in enumerate(robot.stamps):
                    numbers = robot.position[i] if robot.base is None else np.r_[robot.base[i], robot.position[i]]
                    cells = ["" if np.isnan(x) else f"{x:.9g}" for x in numbers]
                    states = () if robot.states is None else (int(robot.states[i]),)
                    rows.writerow([int(stamp), int(valid[i]), int(robot.flags[i]), *states, *cells])
            facts = {"robot": robot.robot, "origin": robot.origin, "units": "stamps ns, angles rad, lengths m",
                     "flags": FLAG_NAMES}  # fmt: skip
            (folder / f"{job.out.name}.json").write_text(as_json(job.header(**facts)))
        return {"files": [job.out.name, f"{job.out.name}.json"], "frames": len(robot.stamps),
                "frames_missing": int((~valid).sum()), "robot": robot.robot}  # fmt: skip


def create() -> RobotCsvExporter:
    """Return the exporter."""
    return RobotCsvExporter()
