"""One unit of an evaluation: a part of a recording through the per-frame recipe, into a folder of its own.

rows.jsonl     frames and events, as they are scored
timing.jsonl   what each frame cost
worst/*.jpg    the worst frames, with the people drawn over them
unit.json      scores and facts; written last: with it the unit is done
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..body import load_body
from ..body.ehm import EhmBody
from ..config import Settings
from ..datasets.base import ReferencePerson, Sample
from ..errors import BadFrame, DeviceError, HsrError, MissingPackage
from ..paths import written_whole
from ..regress.pear import weights_path
from ..stream import HumanStream
from ..types import Array, HumanEstimate
from .protocol import METRICS_VERSION, Protocol
from .recorded import SEEN, RecordedRun, RecordedScene, open_recorded
from .recordings import Opened, Part, Recording, nominal_fps, open_recording
from .scoring import FrameScorer, Prediction, Scores
from .worst import WorstFrames

DONE = "unit.json"
LIBRARIES = ("numpy", "torch", "opencv-contrib-python", "mediapipe", "ai-edge-litert", "onnxruntime", "anny")


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: plain values, so that any process can do it.

    Attributes:
        index: Place in the merged results. recording, part: What is read.
        settings: Values by dotted name. worst: How many of the worst frames are drawn.
        fps: Nominal rate of the recording; 0 = as it opens. part_s: Usual length of its parts; 0 = there is one.
        files: Fingerprint of everything that is read, so that another file is another unit.
    """

    index: int
    recording: Recording
    part: Part
    settings: dict[str, Any]
    worst: int = 10
    fps: float = 0.0
    part_s: float = 0.0
    files: str = ""

    @cached_property
    def key(self) -> str:
        """Name of the results: they are the same as long as this is."""
        identity = {
            "recording": self.recording.to_dict(), "part": asdict(self.part), "settings": self.settings,
            "files": self.files, "versions": [library_versions(), METRICS_VERSION, _code()], "worst": self.worst,
            "fps": self.fps, "part_s": self.part_s,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class UnitResult:
    """Attributes:
    scores: Of the part. error: Why it could not be evaluated (to its end); "" = it could.
    facts: Regressor and body. problems: Found in the recording.
    first_ns, last_ns: Stamps, or None. indices: Numbers of the first and the last scored frame read by the unit.
    seconds: Spent on decoding, processing, scoring and writing.
    worst: Metric, value, frame and picture of the worst frames.
    """

    scores: Scores
    error: str
    facts: dict[str, Any]
    problems: dict[str, Any]
    first_ns: int | None
    last_ns: int | None
    indices: tuple[int, int]
    seconds: dict[str, float]
    worst: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "scores": self.scores.to_dict()}

    @classmethod
    def failed(cls, error: str) -> UnitResult:
        """Return what there is of a unit that gave nothing."""
        return cls(Scores(), error, {}, {}, None, None, (0, -1), {}, [])

    @classmethod
    def load(cls, folder: Path) -> UnitResult | None:
        """Return the result of a finished unit, None of one that is not."""
        try:
            values = json.loads((folder / DONE).read_text())
            return cls(**{**values, "scores": Scores.from_dict(values["scores"]), "indices": tuple(values["indices"])})
        except (OSError, ValueError, KeyError, TypeError, HsrError):
            return None


def run_unit(unit: Unit, folder: Path) -> UnitResult:
    """Do a unit, unless the folder holds its result.

    What is wrong with the recording is part of the result. Anything else is raised and not kept: settings, a package
    that is missing, the device.
    """
    done = UnitResult.load(folder)
    if done is not None:
        return done
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = _Run(unit, folder).result()
    with written_whole(folder / DONE) as file:
        file.write(json.dumps(result.to_dict()).encode())
    return result


class _Run:
    def __init__(self, unit: Unit, folder: Path) -> None:
        self._unit, self._folder = unit, folder
        self._settings = Settings().with_values(unit.settings)
        self._body = _body(self._settings.body_model.path)
        self._seconds = dict.fromkeys(("decode", "process", "score", "write"), 0.0)
        self._worst = WorstFrames(unit.worst)
        self._scores = Scores()
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._indices = (0, -1)
        self._facts: dict[str, Any] = {"body_model": self._body.model_id, "licence_note": self._body.licence_note}
        self._problems: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None
        self._worst_facts: list[dict[str, Any]] = []

    def result(self) -> UnitResult:
        error = self._recorded() if self._unit.recording.people else self._processed()
        return UnitResult(
            self._scores, error, self._facts, self._problems, self._first_ns, self._last_ns, self._indices,
            {name: round(value, 4) for name, value in self._seconds.items()}, self._worst_facts,
        )  # fmt: skip

    # Images through the recipe

    def _processed(self) -> str:
        """Return what is wrong with the recording; what is wrong with the settings is raised before it is opened."""
        with HumanStream(self._settings, self._body) as stream:
            self._facts["regressor"] = stream.regressor.name
            try:
                with open_recording(self._unit.recording, self._unit.part) as opened:
                    self._read(opened, stream)
            except (MissingPackage, DeviceError):
                raise
            except HsrError as reason:
                return str(reason)
        return ""

    def _read(self, opened: Opened, stream: HumanStream) -> None:
        scorer = self._scorer(opened.dataset, opened.split, opened.gender, opened.fps, metric=opened.metric)
        scorer.scores.notes += opened.notes
        with open(self._folder / "rows.jsonl", "w") as rows, open(self._folder / "timing.jsonl", "w") as timing:
            try:
                for index, sample in enumerate(self._timed(opened.samples)):
                    self._frame(index, sample, opened, stream, scorer, rows, timing)
            finally:
                self._finish(scorer, opened.has_reference)
                begin = time.perf_counter()
                self._worst_facts = self._worst.write(self._folder, stream)
                self._seconds["write"] += time.perf_counter() - begin
                self._problems = _since(self._before, opened.problems())

    def _timed(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        """Yield samples; what it takes to get them is decoding."""
        while True:
            begin = time.perf_counter()
            sample = next(samples, None)
            self._decode_s = time.perf_counter() - begin
            self._seconds["decode"] += self._decode_s
            if sample is None:
                return
            yield sample

    def _frame(
        self, index: int, sample: Sample, opened: Opened, stream: HumanStream, scorer: FrameScorer,
        rows: IO[str], timing: IO[str],
    ) -> None:  # fmt: skip
        frame, name = sample.frame, self._unit.recording.name
        begin = time.perf_counter()
        scored = opened.scored()
        if scored:
            self._note(index, frame.stamp_ns)
            if self._before is None:
                self._before = opened.problems() if index else {}
        try:
            result = stream.process(frame)
        except BadFrame as reason:
            if scored:
                scorer.scores.bad_frames += 1
                _line(rows, kind="event", recording=name, stamp_ns=frame.stamp_ns, what="bad_frame", detail=str(reason))
            return
        self._seconds["process"] += time.perf_counter() - begin
        people = [self._prediction(person, stream) for person in result.people if person.state in SEEN]
        scene = RecordedScene(frame.stamp_ns, people, sample.people, result.camera, sample.T_world_cam)
        found = self._score(index, scene, opened.has_reference, scorer, rows, scored=scored)
        if not scored:
            return
        begin = time.perf_counter()
        stages = {stage: round(ms, 3) for stage, ms in result.stage_ms.items()}
        _line(timing, recording=name, index=index, stage_ms=stages, decode_ms=round(1e3 * self._decode_s, 3))
        self._worst.offer(name, index, frame, result, found)
        self._seconds["write"] += time.perf_counter() - begin

    # People as they were recorded

    def _recorded(self) -> str:
        """Return what is wrong with the recording."""
        self._facts["recorded"] = self._unit.recording.people
        try:
            with open_recorded(self._unit.recording, self._body) as run:
                self._read_recorded(run)
        except MissingPackage:
            raise
        except HsrError as reason:
            return str(reason)
        return ""

    def _read_recorded(self, run: RecordedRun) -> None:
        self._facts["body_model"] = run.model_id
        scorer = self._scorer("", "", "", run.fps, model_id=run.model_id)
        if run.model_id != self._body.model_id:
            self._facts["licence_note"] = ""
            scorer.scores.note(f"people of the body model {run.model_id}, which is not loaded: no vertices are scored")
        with open(self._folder / "rows.jsonl", "w") as rows:
            try:
                for index, scene in enumerate(run.scenes):
                    self._note(index, scene.stamp_ns)
                    self._score(index, scene, run.has_reference, scorer, rows, scored=True)
            finally:
                self._finish(scorer, run.has_reference)
                self._problems = run.problems()

    # Both

    def _note(self, index: int, stamp_ns: int) -> None:
        """Take note of which frames were scored."""
        if self._first_ns is None:
            self._first_ns, self._indices = stamp_ns, (index, index)
        self._indices, self._last_ns = (self._indices[0], index), stamp_ns

    def _scorer(
        self, dataset: str, split: str, gender: str, fps: float, *, metric: bool = True, model_id: str = ""
    ) -> FrameScorer:
        """Return the scorer of predictions by the loaded body, or by the one with `model_id`."""
        protocol = Protocol(
            "", dataset=dataset or self._unit.recording.kind, split=split, reference_gender=gender,
            fps=self._unit.fps or nominal_fps(fps), mode="recorded" if self._unit.recording.people else "offline",
        )  # fmt: skip
        family = self._body.family if model_id in ("", self._body.model_id) else ""
        topology = f"ehm:{model_id or self._body.model_id}"
        return FrameScorer(protocol, family, topology, self._pose, metric=metric, part_s=self._unit.part_s)

    def _score(
        self, index: int, scene: RecordedScene, has_reference: bool, scorer: FrameScorer, rows: IO[str], *, scored: bool
    ) -> list[dict[str, Any]]:
        """Score one moment and write its line."""
        begin = time.perf_counter()
        found, missed = scorer.score(
            scene.people, scene.reference, scene.camera, stamp_ns=scene.stamp_ns, scored=scored,
            has_reference=has_reference, T_world_cam=scene.T_world_cam,
        )  # fmt: skip
        scorer.end_frame(scored=scored)
        if scored:
            _line(
                rows, kind="frame", recording=self._unit.recording.name, index=index, stamp_ns=scene.stamp_ns,
                people=found, missed=missed,
            )  # fmt: skip
        self._seconds["score"] += time.perf_counter() - begin
        return found

    def _finish(self, scorer: FrameScorer, has_reference: bool) -> None:
        begin = time.perf_counter()
        self._scores = scorer.finish()
        if has_reference and self._scores.frames and not scorer.annotated:
            self._scores.note(f"the reference has nobody in any frame of {self._unit.recording.name}")
        self._seconds["score"] += time.perf_counter() - begin

    def _prediction(self, person: HumanEstimate, stream: HumanStream) -> Prediction:
        return Prediction(
            person.track_id, person.primary, person.regression.score, person.state.name, person.joints,
            person.keypoints2d[:, :2], lambda: stream.mesh(person),
        )  # fmt: skip

    def _pose(self, person: ReferencePerson) -> Array:
        return self._body.pose_one(person.params).vertices


def _line(file: IO[str], **values: Any) -> None:
    file.write(json.dumps(values, separators=(",", ":")) + "\n")


@lru_cache(maxsize=1)
def _body(path: str) -> EhmBody:
    return load_body(path)


def fingerprint(path: str) -> list[Any]:
    """Return names, sizes and times of the files of a path, whose content is not read for it."""
    root = Path(path).expanduser()
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    found = [[str(file.relative_to(root)), *_stat(file)] for file in files if file.is_file()]
    return [hashlib.sha256(json.dumps(found).encode()).hexdigest(), len(found)]


def model_files(settings: Settings) -> tuple[str, ...]:
    """Return the files and folders outside this library that the settings take networks and bodies from."""
    found = weights_path(settings), settings.body_model.path or os.environ.get("HSR_BODY_MODELS", "")
    return tuple(path for path in found if path)


def _stat(file: Path) -> list[int]:
    facts = file.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _since(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """Return what was found wrong since `before`: counts are of the part alone, what is said holds for it too."""
    found = {}
    for name, value in now.items():
        counts = isinstance(value, int) and not isinstance(value, bool)
        found[name] = value - (before or {}).get(name, 0) if counts else value
    return {name: value for name, value in found.items() if value}


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Return the versions of what the results depend on."""
    versions = {"hsr-core": __version__}
    for library in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return versions


@lru_cache(maxsize=1)
def _code() -> str:
    """Return a hash of the library's own source."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()[:16]
