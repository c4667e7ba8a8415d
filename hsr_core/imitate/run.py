"""The recipe: clip -> regress -> gate -> smooth -> (refine) -> retarget -> data set, robot files, video, report."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..body import load_body
from ..body.ehm import EhmBody
from ..config import with_values
from ..errors import BadFile, ConfigError, HsrError, MissingFile
from ..export.base import ExportOptions, Job, folder_whole, numbered
from ..export.gmr import GmrExporter
from ..export.inputs import InputOptions, kind_of, pictures, read_input
from ..export.lerobot import LeRobotExporter, check_camera_name
from ..export.lerobot_files import pyarrow
from ..export.motion import GAP_S, Motion, nominal_rate
from ..export.native import NativeExporter
from ..export.robot_csv import RobotCsvExporter
from ..export.spool import Recorded, Track
from ..retarget.robot import Robot, load_robot
from ..retarget.settings import TeleopSettings
from ..threads import use_one_blas_thread
from ..types import Camera, IntrinsicsSource
from .follow import Followed, follow
from .pieces import Judged, Piece, gated, judge, pieces_of
from .report import FORMAT, REPORT, episode_facts, head_facts, verdict, write_report

SMOOTHING = "zero-phase"
CHANGED = {"ground.guessed": 2.0}
"""Settings whose default is another than live: a guessed distance is steadied first, so that a standing foot stands."""


def teleop_settings(values: Mapping[str, Any] | None = None) -> TeleopSettings:
    """Return the settings of gate and solver for imitation, with flat names (`limits.arms_rad_s`) replaced."""
    return with_values(TeleopSettings(), CHANGED | dict(values or {}))


@dataclass(frozen=True)
class ImitateOptions:
    """How a video is imitated.

    Attributes:
        mode: Of the robot's mapping: `whole_body` or `upper_body`.
        person: `primary`, `all` or a track id.
        task: The sentence that says what is done.
        refine: Correct the poses by an avatar of the person first (slow).
        images: An input whose pictures go with the people; "" = those of the source itself.
        camera_name: In observation.images.NAME.
        fps: Uniform rate of the data set; None = the recording's.
        gap_s: Where more is missing a new episode begins.
        least_s: Shorter episodes are left out.
        world: `auto`, `recorded` or `level`, as in exports.
        video: Draw the person and the robot side by side.
        overwrite: Replace what an earlier call wrote.
        input: How the source is read and regressed.
        teleop: Settings of gate and solver.
    """

    mode: str = "whole_body"
    person: str = "primary"
    task: str = "a person moves"
    refine: bool = False
    images: str = ""
    camera_name: str = "camera"
    fps: float | None = None
    gap_s: float = GAP_S
    least_s: float = 1.0
    world: str = "auto"
    video: bool = True
    overwrite: bool = False
    input: InputOptions = field(default_factory=InputOptions)
    teleop: TeleopSettings = field(default_factory=teleop_settings)


@dataclass(frozen=True, eq=False)
class Episode:
    """One piece of one person, followed by the robot."""

    piece: Piece
    motion: Motion
    job: Job
    followed: Followed
    refined: dict[str, Any]


def imitate(source: str, robot: str, out: Path | str, options: ImitateOptions | None = None) -> dict[str, Any]:
    """Make a folder with what a robot does as the people of a video do.

    The folder is either whole or not there. Pictures are regressed once; those of the data set and of the video are
    decoded again.

    Args:
        source: A video, a folder of images, `clip`, a recording, or a people file (with `images`).
        robot: A shipped mapping's name, or a YAML file.
        out: Folder; new, empty, or with `overwrite` one that an earlier call wrote.
        options: See there.

    Returns:
        What `report.json` holds.

    Raises:
        HsrError: Something is missing, torn or impossible; the message says what would have worked.
    """
    options, path, clock = options or ImitateOptions(), Path(out).expanduser(), _Clock()
    check(source, path, options)
    pyarrow()
    use_one_blas_thread()
    loaded = load_robot(robot, options.mode, options.teleop.limits)
    kind_of(source)
    with folder_whole(path, overwrite=options.overwrite) as root, _work_folder(root) as work:
        with clock("regress"):
            recorded = read_input(source, work, options.input)
        tracks = recorded.chosen(options.person)
        if len(recorded.stamps) < 2:
            raise BadFile(f"{recorded.facts.source} has one frame: no motion")
        fps = max(1, round(options.fps or nominal_rate(recorded.stamps)))
        maker = _Maker(recorded, loaded, source, root, work, fps, options, clock)
        episodes, left_out = maker.episodes(tracks)
        maker.write_data_set(episodes)
        maker.write_files(episodes)
        videos = maker.write_videos(episodes)
        report = head_facts(recorded, loaded, tracks, fps, options.refine) | {
            "episodes": [
                episode_facts(i, e.piece, e.motion, e.followed.figures, e.refined) for i, e in enumerate(episodes)
            ],
            "left_out": left_out,
            "side_by_side": videos,
            "seconds": clock.seconds,
        }
        report |= verdict(report["episodes"])
        write_report(root, report)
    return report | {"out": str(path)}


def check(source: str, out: Path, options: ImitateOptions) -> None:
    """Refuse before the work what would fail behind it.

    Raises:
        ConfigError, MissingFile: A live camera; the folder is taken or cannot be made; a number is out of its range.
    """
    if "webcam" in (source.partition(":")[0], options.images.partition(":")[0]):
        raise ConfigError("a camera's pictures are gone when they are needed again: record a video of it first")
    if not out.parent.is_dir():
        raise MissingFile(f"no folder {out.parent} to write {out.name} to")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out wants a folder, {out} is a file")
    if out.is_dir() and any(out.iterdir()):
        if not options.overwrite:
            raise ConfigError(f"{out} is not empty: choose another folder, or --overwrite to replace it")
        if not _is_ours(out):
            raise ConfigError(f"--overwrite replaces what `hsr imitate` wrote; {out} holds something else")
    check_camera_name(options.camera_name)
    if options.world not in ("auto", "recorded", "level"):
        raise ConfigError(f"--world wants auto, recorded or level, not {options.world}")
    if not 0 < options.gap_s <= 10:
        raise ConfigError(f"--gap must lie in 0..10 s, not {options.gap_s:g}")
    if not 0.1 <= options.least_s <= 3600:
        raise ConfigError(f"--least must lie in 0.1..3600 s, not {options.least_s:g}")
    if options.fps is not None and not 1 <= options.fps <= 1000:
        raise ConfigError(f"--fps must lie in 1..1000 Hz, not {options.fps:g}")


def _is_ours(folder: Path) -> bool:
    try:
        return str(json.loads((folder / REPORT).read_text())["format"]) == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _work_folder(root: Path) -> Iterator[Path]:
    """Give a folder for temporary files beside the one that is being made, where there is room."""
    with tempfile.TemporaryDirectory(dir=root.parent) as name:
        yield Path(name)


class _Clock:
    """Time of each stage [s]."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - start, 2)


@dataclass(frozen=True, eq=False)
class _Maker:
    """Everything that the steps behind the regressor share."""

    recorded: Recorded
    robot: Robot
    source: str
    root: Path
    work: Path
    fps: int
    options: ImitateOptions
    clock: _Clock

    def episodes(self, tracks: Sequence[Track]) -> tuple[list[Episode], list[dict[str, Any]]]:
        """Return the episodes of the chosen people, and what was too short.

        Raises:
            BadFile: Nobody is left.
        """
        episodes, left_out = [], []
        gate = self.options.teleop.gate
        for track in tracks:
            with self.clock("gate"):
                judged = judge(track, self.options.world, gate, self.options.gap_s)
                pieces = list(pieces_of(judged, self.options.gap_s))
            short = [piece for piece in pieces if piece.duration_s < self.options.least_s]
            if short or not pieces:
                left_out.append(_short(judged, short))
            episodes += [self._episode(piece) for piece in pieces if piece.duration_s >= self.options.least_s]
        if not episodes:
            raise BadFile(
                f"{self.recorded.facts.source}: nobody is there long enough to imitate ({_why(left_out)}); --least "
                f"{self.options.least_s:g} is the shortest episode [s]"
            )
        return episodes, left_out

    def _episode(self, piece: Piece) -> Episode:
        refined: dict[str, Any] = {}
        if self.options.refine:
            with self.clock("refine"):
                piece, refined = self._refined(piece)
        job = self.job(self.root, [piece.track], smoothing=SMOOTHING)
        with self.clock("retarget"):
            motion = job.motion(SMOOTHING)
            followed = follow(motion, self.robot, self.options.teleop)
        return Episode(piece, motion, replace(job, robot=followed.motion), followed, refined)

    def _refined(self, piece: Piece) -> tuple[Piece, dict[str, Any]]:
        from .refined import refined_track

        camera, body, source = self.camera, self.body, self._pictures_of
        if camera is None or body is None or not source:
            raise ConfigError("--refine needs pictures, their camera, and the body that the people were made with")
        motion = Motion(piece.track, SMOOTHING, self.options.world)
        height_m = self.options.input.settings.subject.height_m
        frames = pictures(source, self.options.input)
        track, facts = refined_track(motion, body, camera, frames, self.work, height_m)
        return replace(piece, track=track), facts

    def job(self, out: Path, tracks: Sequence[Track], **more: Any) -> Job:
        """Return an export of some people, with the settings of all of them."""
        options = ExportOptions(
            world=self.options.world, fps=self.fps, gap_s=self.options.gap_s, task=self.options.task,
            images=self.options.images, append=True, camera_name=self.options.camera_name, **more,
        )  # fmt: skip
        return Job(tracks[0].recorded, tracks, out, options, self.work, self.source, self.options.input)

    def write_data_set(self, episodes: Sequence[Episode]) -> None:
        """Write the LeRobot data set; first, because it wants the folder for itself."""
        with self.clock("data set"):
            for episode in episodes:
                with tempfile.TemporaryDirectory(dir=self.work) as folder:
                    LeRobotExporter().write(replace(episode.job, folder=Path(folder)))

    def write_files(self, episodes: Sequence[Episode]) -> None:
        """Write the robot's motions and everybody who was seen."""
        with self.clock("files"):
            tables, motions = (numbered(self.root / name, len(episodes)) for name in ("robot.csv", "robot.pkl"))
            for episode, table, motion in zip(episodes, tables, motions, strict=True):
                RobotCsvExporter().write(replace(episode.job, out=table))
                GmrExporter().write(replace(episode.job, out=motion))
            everybody = self.job(self.root / "people.npz", self.recorded.chosen("all"), smoothing="recorded")
            NativeExporter().write(everybody)

    def write_videos(self, episodes: Sequence[Episode]) -> list[str]:
        """Draw each episode; return the files' names, none where no picture or camera is known."""
        camera, source = self.camera, self._pictures_of
        if not self.options.video or camera is None or not source:
            return []
        from .scene import RobotScene
        from .side_by_side import Shown, write_side_by_side

        with self.clock("video"):
            scene, body = RobotScene(self.robot), self.body
            paths = numbered(self.root / "side_by_side.mp4", len(episodes))
            for episode, path in zip(episodes, paths, strict=True):
                motion, followed = episode.motion, episode.followed
                shown = Shown(episode.piece, motion, followed, self.robot, scene, camera, body, motion.fps)
                write_side_by_side(path, shown, pictures(source, self.options.input))
        return [path.name for path in paths]

    @property
    def _pictures_of(self) -> str:
        """The input that has the pictures, "" where there is none."""
        source = self.options.images or self.source
        return "" if kind_of(source) in ("people", "refined") else source

    @property
    def camera(self) -> Camera | None:
        """The camera of the pictures."""
        facts = self.recorded.facts.camera
        if not facts:
            return None
        hw = tuple(int(n) for n in facts["image_hw"])
        source = IntrinsicsSource(int(facts["intrinsics_source"]))
        return Camera(np.array(facts["K"]), hw, np.array(facts["dist"]), str(facts["distortion_model"]), source)

    @property
    def body(self) -> EhmBody | None:
        """The body that the parameters belong to; None where it is not at hand: no mesh is drawn then."""
        try:
            body = load_body(self.options.input.body_models or self.options.input.settings.body_model.path)
        except HsrError:
            return None
        return body if body.model_id == self.recorded.facts.body_model else None


def _short(judged: Judged, short: Sequence[Piece]) -> dict[str, Any]:
    return {
        "person": judged.track.track_id,
        "pieces_s": [round(piece.duration_s, 2) for piece in short],
        "frames": sum(len(piece.track) for piece in short),
        "gated": gated(judged.reasons),
    }


def _why(left_out: Sequence[dict[str, Any]]) -> str:
    texts = []
    for person in left_out:
        longest = max(person["pieces_s"], default=0.0)
        dropped = Counter(person["gated"])
        told = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common())
        texts.append(f"person {person['person']}: {longest:g} s at most{f', frames dropped: {told}' if told else ''}")
    return "; ".join(texts)
