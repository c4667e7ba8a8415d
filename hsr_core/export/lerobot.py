"""LeRobotDataset v3.0: people, pictures and a robot's joints as episodes for imitation. One person an episode."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import progress
from ..body.joints import JOINT_NAMES, LEFT_HAND, RIGHT_HAND
from ..errors import ConfigError, SourceError
from ..geometry.rotations import rotmat_to_rotvec
from ..geometry.view import rgb_of
from ..types import Array, Frame
from .base import ExportOptions, Job, as_json, folder_added_to, folder_whole
from .engagement import STATES
from .inputs import kind_of, pictures
from .lerobot_files import AUTOMATIC, DataFiles, Feature, Present, Table, VideoFiles, present, pyarrow, write_meta
from .motion import Motion, place
from .pairing import nearest, tick_stamps
from .robot_motion import BASE, FLAG_NAMES, RobotMotion
from .spool import chunks

HUMAN, RAW = "observation.human", "observation.human_raw"
ACTION, STATE, FLAGS = "action", "observation.state", "teleop.flags"
TARGET, TELEOP_STATE, TELEOP_BASE = "teleop.target", "teleop.state", "teleop.base"
_ROTATIONS = {
    "global_orient": slice(0, 1), "body_pose": slice(1, 22), "left_hand_pose": LEFT_HAND, "right_hand_pose": RIGHT_HAND,
}  # fmt: skip


class LeRobotExporter:
    """A folder. Frames in which the person is missing stay, with NaN and `observation.human.valid` false."""

    title = "LeRobotDataset v3.0"
    suffix = ""
    needs_robot = False

    def check(self, out: Path, options: ExportOptions) -> None:
        """Refuse what cannot be written to or added to."""
        pyarrow()
        check_camera_name(options.camera_name)
        _before(out, options)

    def write(self, job: Job) -> dict[str, Any]:
        before = _before(job.out, job.options)
        smoothing = "recorded" if job.engagement else "zero-phase"  # what the robot was made to follow
        motions = [job.motion(smoothing, track) for track in job.tracks]
        fps = max(1, round(job.rate(motions[0])))
        source = _picture_source(job)
        robot = job.robot.robot if job.robot else None
        if before.info and before.info["fps"] != fps:
            raise ConfigError(f"{job.out} has {before.info['fps']} frames a second, this {fps}: --fps")
        camera = job.options.camera_name if source else ""
        features = {name: each.as_info() for name, each in _features(motions[0], job.robot, job.state, camera).items()}
        _check_same(job, before, features, robot)
        tasks = list(dict.fromkeys([*before.tasks, job.options.task]))
        with (folder_added_to if before.info else folder_whole)(job.out) as root:
            data, video = DataFiles(root, before), None
            if source:
                video = VideoFiles(root, f"observation.images.{camera}", fps, _file=before.video_files)
            try:
                task = before.episodes, tasks.index(job.options.task)
                told, episodes, stats = _episodes(job, motions, fps, data, video, source, *task)
            finally:
                data.close()
                if video:
                    video.close()
            if video:
                features[video.key] = video.as_info()
                _check_same(job, before, features, robot)
            write_meta(root, fps=fps, robot_type=robot, features=features, episodes=episodes, stats=stats,
                       tasks=tasks, video=video is not None, before=before)  # fmt: skip
            name = f"hsr_{before.episodes:06d}.json" if before.info else "hsr.json"
            (root / "meta" / name).write_text(as_json(_header(job, motions[0], told)))
        return {"files": [job.out.name], "fps": fps, **told}


def _header(job: Job, motion: Motion, told: dict[str, Any]) -> dict[str, Any]:
    """Return what the columns cannot say."""
    robot = job.robot
    header = job.header(motion, robot=robot and robot.robot, robot_origin=robot and robot.origin, **told)
    if robot is not None:
        header["teleop_flags"] = FLAG_NAMES
        if robot.states is not None:
            header["teleop_states"] = dict(enumerate(STATES))
    return header


def check_camera_name(name: str) -> None:
    """Refuse a name that is no part of a column's, and of a folder's.

    Raises:
        ConfigError: See there.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"--camera-name wants letters, digits and _ . -, not {name!r}")


def sources_of(out: Path) -> frozenset[str]:
    """Return the hashes of what a data set was made of; none where it is not there."""
    headers = [json.loads(path.read_text()) for path in (out / "meta").glob("hsr*.json")]
    return frozenset(header["source_sha256"] for header in headers)


def rate_of(out: Path) -> int | None:
    """Return the frames a second of a data set; None where it is not there."""
    info = out / "meta/info.json"
    return json.loads(info.read_text())["fps"] if info.is_file() else None


def _before(out: Path, options: ExportOptions) -> Present:
    """Return the data set that is added to, an empty one for a new folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return Present()
    if not options.append:
        raise ConfigError(f"--out wants a new or an empty folder, {out} is neither; --append adds to a data set")
    return present(out)


def _check_same(job: Job, before: Present, features: dict[str, Any], robot: str | None) -> None:
    """Refuse to mix what does not belong together. How large a video is is known when it is there."""
    if not before.info:
        return
    had = before.info["features"]
    names = {name for name, feature in had.items() if feature["dtype"] != "video"} | set(features)
    other = sorted(name for name in names if _kind(had.get(name)) != _kind(features.get(name)))
    if other or before.info["robot_type"] != robot:
        what = f"robot {before.info['robot_type']}, not {robot}" if not other else f"others: {', '.join(other[:5])}"
        raise ConfigError(f"{job.out} cannot take this episode, its columns are of {what}")


def _kind(feature: dict[str, Any] | None) -> tuple[Any, ...]:
    return () if feature is None else (feature["dtype"], list(feature["shape"]), feature["names"])


def _episodes(
    job: Job,
    motions: list[Motion],
    fps: int,
    data: DataFiles,
    video: VideoFiles | None,
    source: str,
    first: int,
    task: int,
) -> tuple[dict[str, int], list[dict[str, Any]], list[dict[str, Any]]]:
    missing = ("frames_missing", "pictures_missing", "robot_missing", *(["state_missing"] if job.state else []))
    told = dict.fromkeys(("episodes", "frames", *missing), 0)
    episodes, stats = [], []
    for number, motion in enumerate(motions, start=first):
        ticks = tick_stamps(job.robot.stamps if job.robot and job.engagement else motion.track.stamps, fps)
        pick = nearest(motion.track.stamps, ticks, fps)
        pick[pick >= 0] = np.where(motion.valid[pick[pick >= 0]], pick[pick >= 0], -1)
        features = _features(motion, job.robot, job.state, job.options.camera_name if video else "")
        table = Table(job.folder / f"episode_{number}", features, len(ticks))
        _fill_automatic(table, ticks, fps, number, data.frames, task)
        _fill_human(table, motion, pick)
        if job.robot is not None:
            told["robot_missing"] += _fill_robot(table, job.robot, ticks, fps)
        if job.state is not None:
            told["state_missing"] += _fill_state(table, job.state, ticks, fps)
        facts: dict[str, Any] = {"episode_index": number, "tasks": [job.options.task], "length": len(ticks)}
        found = None
        if video:
            video.begin()
            told["pictures_missing"] += _fill_pictures(table, video, pictures(source, job.input), ticks, fps)
            found = video.end()
        facts |= data.add(table) | (found[0] if found else {})
        episodes.append(facts)
        stats.append(table.statistics() | ({video.key: found[1]} if video and found else {}))
        told["frames"] += len(ticks)
        told["frames_missing"] += int((pick < 0).sum())
    told["episodes"] = len(episodes)
    return told, episodes, stats


def _picture_source(job: Job) -> str:
    """Return the input that has the pictures, "" where there is none."""
    if job.options.images:
        return job.options.images
    source = job.source
    kind = kind_of(source)
    if kind == "source":
        return source
    if kind == "bag":
        from ..sources import open_source

        try:
            open_source(source).close()
        except SourceError:
            return ""
        return source
    return ""


def _features(motion: Motion, robot: RobotMotion | None, state: RobotMotion | None, camera: str) -> dict[str, Feature]:
    track = motion.track
    axes = [f"{name}.{axis}" for name in JOINT_NAMES for axis in "xyz"]
    human = {
        "joints": Feature("float32", (len(JOINT_NAMES), 3)),
        "transl": Feature("float32", (3,), ("x", "y", "z")),
        **{name: _vector(axes, part) for name, part in _ROTATIONS.items()},
        "expression": Feature("float32", track.recorded.rows.dtype["expression"].shape),
    }
    out = {f"{HUMAN}.{name}": feature for name, feature in human.items()}
    if track.has_raw:
        names = ("transl", *_ROTATIONS)
        out |= {f"{RAW}.{name}": human[name] for name in names}
    out |= {f"{HUMAN}.valid": Feature("bool", (1,)), f"{HUMAN}.score": Feature("float32", (1,))}
    out["observation.stamp_ns"] = Feature("int64", (1,))
    if robot is not None:
        out[ACTION] = Feature("float32", (len(robot.joint_names),), robot.joint_names)
        out[FLAGS] = Feature("int64", (1,))
        if robot.states is not None:
            out[TELEOP_STATE] = Feature("int64", (1,))
        if robot.target is not None:
            out[TARGET] = Feature("float32", (len(robot.joint_names),), robot.joint_names)
        if robot.base is not None:
            out[TELEOP_BASE] = Feature("float32", (len(BASE),), BASE)
    if state is not None:
        out[STATE] = Feature("float32", (len(state.joint_names),), state.joint_names)
    if camera:
        out[f"observation.picture_valid.{camera}"] = Feature("bool", (1,))
    return out | {name: Feature(str(kind), (1,)) for name, kind in AUTOMATIC.items()}


def _vector(axes: list[str], part: slice) -> Feature:
    names = axes[3 * part.start : 3 * part.stop]
    return Feature("float32", (len(names),), names)


def _fill_automatic(table: Table, ticks: NDArray[np.int64], fps: int, episode: int, first: int, task: int) -> None:
    frames = np.arange(len(ticks))
    for name, values in (
        ("timestamp", frames / fps), ("frame_index", frames), ("episode_index", episode), ("index", first + frames),
        ("task_index", task),
    ):  # fmt: skip
        table.columns[name][:] = np.broadcast_to(values, len(ticks))[:, None]


def _fill_human(table: Table, motion: Motion, pick: NDArray[np.int64]) -> None:
    raw = Motion(motion.track, "raw", motion.asked_world) if motion.track.has_raw else None
    rest = _rest_pelvis(motion)
    for at in chunks(len(pick)):
        mine = pick[at]
        there = mine >= 0
        columns = {name: values[at] for name, values in table.columns.items()}
        for name, values in columns.items():
            if name.startswith((HUMAN, RAW)) and values.dtype == np.float32:
                values[:] = np.nan
        columns[f"{HUMAN}.valid"][:, 0] = there
        columns["observation.stamp_ns"][:] = -1
        if not there.any():
            continue
        frames = slice(mine[there].min(), mine[there].max() + 1)
        index = mine[there] - frames.start
        _fill_pose(columns, HUMAN, motion, frames, index, there, rest)
        if raw is not None:
            _fill_pose(columns, RAW, raw, frames, index, there, rest)
        track = motion.track
        columns[f"{HUMAN}.expression"][there] = track.read("expression", frames)[index]
        columns[f"{HUMAN}.score"][there, 0] = track.read("confidence", frames)[index]
        columns["observation.stamp_ns"][there, 0] = track.stamps[frames][index]


def _fill_pose(
    columns: dict[str, Array], prefix: str, motion: Motion, frames: slice, index: NDArray[np.int64],
    there: NDArray[np.bool_], rest: Array,
) -> None:  # fmt: skip
    pose = motion.read(frames)
    rotvecs = rotmat_to_rotvec(pose.rotmats[index])
    columns[f"{prefix}.transl"][there] = pose.pelvis[index] - rest
    for name, part in _ROTATIONS.items():
        columns[f"{prefix}.{name}"][there] = rotvecs[:, part].reshape(len(index), -1)
    if f"{prefix}.joints" in columns:
        columns[f"{prefix}.joints"][there] = place(pose, motion.offsets)[0][index]


def _rest_pelvis(motion: Motion) -> Array:
    """Return where the pelvis rests, (3,) [m]: `transl` is what is added to a body whose pelvis rests there."""
    frames = np.flatnonzero(motion.valid)
    at = slice(frames[-1], frames[-1] + 1)
    return (motion.track.read("joints", at)[0, 0] - motion.track.read("transl", at)[0]).astype(np.float64)


def _fill_robot(table: Table, robot: RobotMotion, ticks: NDArray[np.int64], fps: int) -> int:
    """Fill in the nearest command in time with all that belongs to it; return how many frames have none."""
    pick = nearest(robot.stamps, ticks, fps)
    there, index = pick >= 0, np.maximum(pick, 0)
    for name, values in ((ACTION, robot.position), (TARGET, robot.target), (TELEOP_BASE, robot.base)):
        if values is not None:
            table.columns[name][:] = np.where(there[:, None], values[index], np.nan)
    for name, numbers in ((FLAGS, robot.flags), (TELEOP_STATE, robot.states)):
        if numbers is not None:
            table.columns[name][:, 0] = np.where(there, numbers[index], 0)
    return _incomplete(table.columns[ACTION])


def _fill_state(table: Table, state: RobotMotion, ticks: NDArray[np.int64], fps: int) -> int:
    """Fill in the nearest measurement of each joint: they may come from several drivers; return as `_fill_robot`."""
    table.columns[STATE][:] = np.nan
    for j, measured in enumerate(state.position.T):
        known = np.flatnonzero(np.isfinite(measured))
        if len(known):
            pick = nearest(state.stamps[known], ticks, fps)
            table.columns[STATE][:, j] = np.where(pick >= 0, measured[known[pick]], np.nan)
    return _incomplete(table.columns[STATE])


def _incomplete(values: Array) -> int:
    return int((~np.isfinite(values).all(axis=1)).sum())


def _fill_pictures(table: Table, video: VideoFiles, frames: Iterator[Frame], ticks: NDArray[np.int64], fps: int) -> int:
    """Encode the nearest picture of every tick, black where there is none; return how many are missing."""
    valid = table.columns[f"observation.picture_valid.{video.key.removeprefix('observation.images.')}"]
    missing, size = 0, None
    for tick, frame in enumerate(paired(frames, ticks, 0.5e9 / fps)):
        valid[tick] = frame is not None
        missing += frame is None
        if frame is not None:
            image = rgb_of(frame)
            size = size or image.shape
            if image.shape != size:
                raise SourceError(f"pictures change their size from {size[:2]} to {image.shape[:2]}")
        if size is None:
            raise SourceError("no picture belongs to the first frame of the person: other stamps, see --images")
        video.write(image if frame is not None else np.zeros(size, np.uint8))
        progress.report("writing pictures", tick + 1, len(ticks))
    return missing


def paired(frames: Iterator[Frame], ticks: NDArray[np.int64], tolerance_ns: float) -> Iterator[Frame | None]:
    """Yield for each tick the nearest frame in time, or None where none is within the tolerance.

    Two frames are held at a time. Frames whose stamps go back are left out.
    """
    before: Frame | None = None
    after = next(frames, None)
    for tick in ticks:
        while after is not None and after.stamp_ns < tick:
            before = after
            after = next((f for f in frames if f.stamp_ns > before.stamp_ns), None)
        near = [f for f in (before, after) if f is not None and abs(f.stamp_ns - tick) <= tolerance_ns]
        yield min(near, key=lambda frame: abs(frame.stamp_ns - tick), default=None)


def create() -> LeRobotExporter:
    """Return the exporter."""
    return LeRobotExporter()
