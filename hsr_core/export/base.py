"""What every export format gets and gives."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..errors import ConfigError
from ..paths import written_whole
from .motion import GAP_S, Motion, Stretch
from .spool import Recorded, Track

if TYPE_CHECKING:
    from .engagement import Engagement
    from .inputs import InputOptions
    from .robot_motion import RobotMotion


@dataclass(frozen=True)
class ExportOptions:
    """How something is exported. What a format does not know of, it does not look at.

    Attributes:
        smoothing: One of `motion.SMOOTHING`; "" = the format's own.
        world: `auto`, `recorded` or `level`; see `Motion`.
        fps: Of formats with a uniform rate; None = the recording's.
        gap_s: Longer gaps split a motion.
        mesh: Of glb: `auto` (the open body's), `off`, or `licensed`, for those whose licence allows it.
        body_models: Folder of licensed files.
        units: Of bvh: `cm` or `m`.
        task: Of lerobot: the sentence that says what is done.
        images: Of lerobot: an input whose pictures go with the people; "" = none.
        append: Of lerobot: add episodes to a data set that is there.
        camera_name: Of lerobot: in observation.images.NAME.
    """

    smoothing: str = ""
    world: str = "auto"
    fps: float | None = None
    gap_s: float = GAP_S
    mesh: str = "auto"
    body_models: str = ""
    units: str = "cm"
    task: str = "a person moves"
    images: str = ""
    append: bool = False
    camera_name: str = "camera"


@dataclass(frozen=True, eq=False)
class Job:
    """One export.

    Attributes:
        recorded: Everybody.
        tracks: Those who are exported.
        out: File or folder to write.
        options: See there.
        folder: For temporary files; gone afterwards.
        source: The input as it was named. input: How its pictures are opened.
        robot: The robot's motion (what is sent to it), where there is one.
        state: What was measured of it, where there is that.
        engagement: The recording of a live session that the input is; None = it is something else.
    """

    recorded: Recorded
    tracks: Sequence[Track]
    out: Path
    options: ExportOptions
    folder: Path
    source: str
    input: InputOptions
    robot: RobotMotion | None = None
    state: RobotMotion | None = None
    engagement: Engagement | None = None
    _motions: dict[tuple[int, str], Motion] = field(default_factory=dict)

    @property
    def track(self) -> Track:
        """The person of a format that holds one.

        Raises:
            ConfigError: Several are asked for.
        """
        if len(self.tracks) > 1:
            raise ConfigError("this format holds one person a file: --person primary or a track id")
        return self.tracks[0]

    def motion(self, default: str, track: Track | None = None) -> Motion:
        """Return a person's motion, smoothed as the options say, else by the format's own default."""
        track = track or self.track
        key = track.track_id, self.options.smoothing or default
        if key not in self._motions:
            self._motions[key] = Motion(track, key[1], self.options.world)
        return self._motions[key]

    @property
    def assumed_world(self) -> str:
        """What was assumed of the world; "" = nothing, or it played no part."""
        return next((motion.world for motion in self._motions.values() if motion.assumes_world), "")

    @property
    def left_out(self) -> dict[str, int]:
        """What of the input is not used, by reason."""
        return self.recorded.counts | (self.engagement.left_out if self.engagement is not None else {})

    def rate(self, motion: Motion) -> float:
        """Return the uniform rate that is wanted [Hz]."""
        return self.options.fps or motion.fps

    def moving(self, motion: Motion) -> list[Stretch]:
        """Return the stretches of two frames and more.

        Raises:
            ConfigError: There is none.
        """
        found = [s for s in motion.stretches(self.options.gap_s) if len(s.frames) > 1]
        if not found:
            raise ConfigError("one frame is no motion: only npz and mcap can hold it")
        return found

    @cached_property
    def settings_sha256(self) -> str:
        """Hash of the settings that the recording was made with; "" = unknown."""
        settings = self.recorded.facts.settings
        return "" if settings is None else hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def header(self, motion: Motion | None = None, **more: Any) -> dict[str, Any]:
        """Return what every file carries: source, versions, body model, licence, and what was done."""
        facts = self.recorded.facts
        header: dict[str, Any] = {
            "generator": f"hsr {__version__}",
            "code_version": __version__,
            "source": facts.source,
            "source_sha256": facts.source_sha256,
            "config_sha256": self.settings_sha256,
            "regressor": facts.regressor,
            "body_model": facts.body_model,
            "body_family": facts.body_family,
            "licence_note": facts.licence_note or "unknown: see the terms of the body model",
            "track_id": [track.track_id for track in self.tracks] if len(self.tracks) != 1 else self.track.track_id,
            "damage": facts.damage,
            "left_out": self.left_out,
        }
        if self.engagement is not None:
            header["engagement"] = self.engagement.header
        if motion is not None:
            header |= {
                "smoothing": motion.smoothing,
                "world": motion.world,
                "frames": len(motion.valid),
                "frames_missing": int((~motion.valid).sum()),
                "mean_distance_from_recorded_joints_mm": round(motion.residual_mm, 3),
            }
        return header | more


class Exporter(Protocol):
    """One format. It may also have `check(out: Path, options: ExportOptions)`, which refuses before the work what would
    fail behind it.

    Attributes:
        title: What it is.
        suffix: Of its files; "" = a folder.
        needs_robot: Whether it holds a robot's joints.
    """

    title: str
    suffix: str
    needs_robot: bool

    def write(self, job: Job) -> dict[str, Any]:
        """Write the export and return what to tell the user; `files` are the names of what was written."""
        ...


@contextmanager
def files_whole(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write files into; they move to their places when all went well."""
    with _scratch(out) as folder:
        yield folder
        for file in sorted(folder.iterdir()):
            with written_whole(out.parent / file.name) as target, file.open("rb") as source:
                shutil.copyfileobj(source, target)


@contextmanager
def folder_whole(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder that becomes `out` when all went well.

    Args:
        out: Must not exist, or be empty.
        overwrite: What is in it goes, once the new folder is in its place.
    """
    with _scratch(out) as folder:
        inner, before = folder / out.name, folder / f".{out.name}"
        yield inner
        if out.is_dir() and not overwrite:
            out.rmdir()
        try:
            if out.is_dir():
                out.rename(before)
            inner.rename(out)
        except BaseException:
            if before.is_dir() and not out.exists():
                before.rename(out)
            raise


@contextmanager
def folder_added_to(out: Path) -> Iterator[Path]:
    """Give a folder whose files move into `out` when all went well: new ones first, those that say so (meta) last."""
    with _scratch(out) as folder:
        yield folder
        files = [path for path in folder.rglob("*") if path.is_file()]
        for file in sorted(files, key=lambda path: (path.name == "info.json", path.relative_to(folder).parts)):
            target = out / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    folder = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def numbered(out: Path, count: int, mark: str = "") -> list[Path]:
    """Return names of `count` files: `walk.npz`, or `walk_000.npz` and so on."""
    if count == 1:
        return [out.with_name(f"{out.stem}{mark}{out.suffix}")]
    return [out.with_name(f"{out.stem}{mark}_{i:03d}{out.suffix}") for i in range(count)]


def as_json(header: Mapping[str, Any]) -> str:
    """Return a header as text."""
    return json.dumps(header, indent=1) + "\n"
