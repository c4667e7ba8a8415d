"""One export from beginning to end: check, read, choose, write."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import BadFile, ConfigError, MissingFile, SourceError
from ..near_names import did_you_mean
from ..paths import is_same_file
from .base import Exporter, ExportOptions, Job, folder_whole
from .engagement import is_being_written, is_measured, read_engagement, recordings_of
from .inputs import InputOptions, kind_of, read_input, sha256_of
from .motion import SMOOTHING
from .robot_motion import RobotMotion, read_csv, read_joint_states, retargeted

_WORLDS = ("auto", "recorded", "level")


@dataclass(frozen=True)
class RobotOptions:
    """Where a robot's joints come from.

    Attributes:
        robot: To retarget to: a shipped mapping's name, or a YAML file; "" = none.
        mode: `upper_body` or `whole_body`.
        joints: A CSV file, or a JointState topic of the input (begins with /); "" = none. Beside `robot` (lerobot): the
            robot's measured state.
    """

    robot: str = ""
    mode: str = "upper_body"
    joints: str = ""


def formats() -> dict[str, str]:
    """Return the formats: name -> what it is."""
    return {name: registry.create("exporter", name).title for name in registry.names("exporter")}


def export(
    source: str,
    fmt: str,
    out: str | os.PathLike[str],
    *,
    person: str = "primary",
    options: ExportOptions | None = None,
    input_options: InputOptions | None = None,
    robot: RobotOptions | None = None,
) -> dict[str, Any]:
    """Export people of an input.

    The output is either whole or not there; an existing file is replaced at the end.

    Args:
        source: A people file, a folder of `hsr refine`, a recording, or anything that `open_source` opens. Of the
            recording of an engagement the robot's joints are those that were sent, and the primary person is the
            operator; of a folder with several (lerobot) each is an episode.
        fmt: One of `formats()`.
        out: File or folder.
        person: `primary`, `all` (npz, mcap, lerobot) or a track id.
        options, input_options, robot: See there.

    Returns:
        What to tell the user, JSON-able: files, frames, what was left out.

    Raises:
        HsrError: Something is missing, torn or impossible; the message says what would have worked.
    """
    options, robot = options or ExportOptions(), robot or RobotOptions()
    exporter, path = _exporter(fmt), Path(out).expanduser()
    recordings = recordings_of(source)
    _check(exporter, fmt, path, options, robot, live=bool(recordings))
    if is_same_file(path, str(source)):
        raise ConfigError(f"{path} is the input: it would be overwritten")
    kind_of(source)
    input_options = replace(input_options or InputOptions(), **_body(options))
    adds = fmt == "lerobot" and options.append and Path(source).is_dir()  # more may be there the next time
    if len(recordings) > 1 or (recordings and adds):
        return _export_all(recordings, fmt, path, person, options, input_options, robot)
    engagement = read_engagement(recordings[0]) if recordings else None
    if engagement is not None:
        source = str(recordings[0])
        person = engagement.operator if person == "primary" else person
        input_options = replace(input_options, topic=input_options.topic or engagement.people_topic)
    # Beside the output: there is room for it, while /tmp is often memory.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as name:
        folder = Path(name)
        recorded = read_input(source, folder, input_options)
        if engagement is not None and person.isdigit() and int(person) not in recorded.people():
            raise BadFile(f"{source}: person {person}, whom the robot followed, is in none of its people")
        tracks = recorded.chosen(person)
        job = Job(recorded, tracks, path, options, folder, source, input_options, engagement=engagement)
        job = replace(job, **_robot(job, robot))
        told = exporter.write(job)
        left_out = {name: count for name, count in job.left_out.items() if count}
        facts: dict[str, Any] = {"format": fmt, "out": str(path), "track_id": [track.track_id for track in tracks]}
        told = facts | told | ({"left_out": left_out} if left_out else {})
        if recorded.facts.damage:
            told["damage"] = recorded.facts.damage
        if job.assumed_world:
            told["world"] = job.assumed_world
        return told


def _export_all(
    recordings: list[Path],
    fmt: str,
    out: Path,
    person: str,
    options: ExportOptions,
    input_options: InputOptions,
    robot: RobotOptions,
) -> dict[str, Any]:
    """Export engagements as episodes of one data set, with rate and columns of the first; others are skipped and told.

    A robot is measured in all of them or in none: where some have joint states, those without are skipped. With
    `append` each episode is there as soon as it is whole, and what is in the data set already is passed over: an export
    that was stopped goes on where it was.
    """
    if fmt != "lerobot":
        names = ", ".join(path.name for path in recordings[:5])
        raise ConfigError(f"{len(recordings)} engagements: {fmt} takes one of them ({names}, ...), lerobot takes all")
    from .lerobot import rate_of, sources_of

    every: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    there = sources_of(out) if options.append else frozenset()

    def add_to(folder: Path) -> None:
        for path in sorted(recordings, key=is_measured, reverse=True):
            if there and sha256_of(str(path)) in there:
                skipped[path.name] = "in the data set already"
                continue
            if is_being_written(path):  # whole, it would be another episode
                skipped[path.name] = "it is being written"
                continue
            one = replace(options, append=True, fps=options.fps or rate_of(folder))
            try:
                told = export(str(path), fmt, folder, person=person, options=one, input_options=input_options,
                              robot=robot)  # fmt: skip
            except (BadFile, ConfigError, SourceError) as error:
                skipped[path.name] = str(error).replace(str(folder), out.name)
            else:
                every.append(told | {"name": path.name})
        if not every and not there:
            raise BadFile(f"none of {len(recordings)} engagements can be exported: {'; '.join(skipped.values())}")

    if options.append:
        add_to(out)
    else:
        with folder_whole(out) as folder:
            add_to(folder)
    told = {"format": fmt, "out": str(out), "files": [out.name], "episodes": 0, "frames": 0}
    return told | _together(every) | ({"skipped": skipped} if skipped else {})


def _together(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is told of several exports: counts are added."""
    told: dict[str, Any] = {}
    for one in every:
        told |= {name: told.get(name, 0) + count for name, count in one.items() if isinstance(count, int)}
    left_out = sum((Counter(one.get("left_out", {})) for one in every), Counter())
    damage = "; ".join(f"{one['name']}: {one['damage']}" for one in every if "damage" in one)
    more = {"fps": every and every[0]["fps"], "left_out": dict(left_out), "damage": damage}
    return told | {name: value for name, value in more.items() if value}


def _body(options: ExportOptions) -> dict[str, str]:
    return {"body_models": options.body_models} if options.body_models else {}


def _exporter(fmt: str) -> Exporter:
    known = registry.names("exporter")
    if fmt not in known:
        raise ConfigError(f"no export format {fmt!r}{did_you_mean(fmt, known, 0.5)}; there are: {', '.join(known)}")
    return registry.create("exporter", fmt)


def _check(exporter: Exporter, fmt: str, out: Path, options: ExportOptions, robot: RobotOptions, *, live: bool) -> None:
    """Refuse before the work what would fail behind it."""
    if exporter.suffix and out.suffix != exporter.suffix:
        raise ConfigError(f"{fmt} writes {exporter.suffix} files, not {out.name}")
    if exporter.suffix and out.is_dir():
        raise ConfigError(f"{out} is a folder, {fmt} writes a file")
    if not out.parent.is_dir():
        raise MissingFile(f"no folder {out.parent} to write {out.name} to")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write into {out.parent}: permission denied")
    if options.smoothing and options.smoothing not in SMOOTHING:
        raise ConfigError(f"--smooth wants {', '.join(SMOOTHING)}, not {options.smoothing}")
    if options.world not in _WORLDS:
        raise ConfigError(f"--world wants {', '.join(_WORLDS)}, not {options.world}")
    if options.fps is not None and not 1 <= options.fps <= 1000:
        raise ConfigError(f"--fps must lie in 1..1000 Hz, not {options.fps:g}")
    if not 0 < options.gap_s <= 10:
        raise ConfigError(f"--gap must lie in 0..10 s, not {options.gap_s:g}")
    if robot.robot and robot.joints and fmt != "lerobot":
        raise ConfigError(
            "--robot retargets, --robot-joints reads: lerobot takes both, as action and state, others one"
        )
    if exporter.needs_robot and not (robot.robot or robot.joints or live):
        raise ConfigError(f"{fmt} holds a robot's joints: give --robot NAME or --robot-joints FILE.csv")
    _check_robot(robot)
    if hasattr(exporter, "check"):
        exporter.check(out, options)


def _check_robot(robot: RobotOptions) -> None:
    if robot.robot:
        from ..retarget.find import need_libraries
        from ..retarget.mapping import load_mapping

        need_libraries()
        load_mapping(robot.robot, robot.mode)
    path = Path(robot.joints)
    if robot.joints and (path.suffix or not robot.joints.startswith("/")) and not path.is_file():
        raise MissingFile(f"no file {path} with a robot's joints")


def _robot(job: Job, asked: RobotOptions) -> dict[str, RobotMotion | None]:
    """Return the robot's motion and its measured state: a JointState topic beside a retargeted motion is the latter.

    Of an engagement they are what was sent and what was measured, unless something else is asked for.
    """
    read = made = None
    if job.engagement is not None and asked == RobotOptions(mode=asked.mode):
        return {"robot": job.engagement.sent, "state": job.engagement.measured}
    if asked.joints.startswith("/") and not Path(asked.joints).is_file():
        read = read_joint_states(job.source.partition("#")[0], asked.joints)
    elif asked.joints:
        read = read_csv(Path(asked.joints))
    if asked.robot and len(job.tracks) > 1:
        raise ConfigError("a robot follows one person: --person primary or a track id")
    if asked.robot:
        made = retargeted(job.motion("recorded", job.tracks[0]), asked.robot, asked.mode)
    if made is None:
        return {"robot": read}
    return {"robot": made, "state": read and read.in_order_of(made.joint_names)}
