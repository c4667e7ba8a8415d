"""What can be evaluated, and how it is opened: a spec is plain values, so that any process can open the same."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..body.joints import JOINT_NAMES
from ..datasets.base import ReferencePerson, Sample
from ..errors import BadFile, ConfigError, MissingFile
from ..sources import open_source
from ..sources.bag_reader import METADATA, SUFFIXES, is_bag
from ..types import Array, Frame

if TYPE_CHECKING:
    from ..sources.bag import BagSource

TRUTH_TOPIC = "/synth/truth"
CLOSE_NS = 1_000_000
"""A reference belongs to the image whose stamp it has, as far as clocks have digits."""
ANEW_NS = 1_000_000_000
"""Stamps that go back so far are a new beginning; less is a message that was late."""
EARLIER_NS = 1_000_000_000
"""A reference may have been received so much earlier than its image."""


@dataclass(frozen=True)
class Recording:
    """One sequence to evaluate.

    Attributes:
        name: In the results; no two of a run are the same.
        kind: `dataset`, `bag` or `source`.
        path: Of the folder or file, or what `open_source` takes.
        dataset, split, sequence: Of a data set. body_models: The user's SMPL files for it.
        image, reference: Topics of a bag; "" = found by itself, `none` = no reference.
        people: Topic of a bag whose people are scored as they were recorded; "" = the images are processed.
        cameras, camera: Calibration file and the name in it, of a source or a bag.
    """

    name: str
    kind: str
    path: str
    dataset: str = ""
    split: str = ""
    sequence: str = ""
    body_models: str = ""
    image: str = ""
    reference: str = ""
    people: str = ""
    cameras: str = ""
    camera: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Part:
    """A stretch of a recording; everything where all are None.

    All by time of receipt, which puts an image into one part and no other whatever its stamp says: stamps repeat, go
    back, and begin anew in a recording that was played in a loop.

    Attributes:
        start_ns, stop_ns: What is read.
        first_ns, end_ns: Images that are scored: from the first on, before the end. What is read before tells tracker
            and filters of the person, what is read behind completes the last images.
    """

    start_ns: int | None = None
    stop_ns: int | None = None
    first_ns: int | None = None
    end_ns: int | None = None


@dataclass(eq=False)
class Opened:
    """A recording that is open.

    Attributes:
        fps: Nominal; 0 = the frames are no sequence, and there is no motion.
        scored: Whether the sample that was given last is to be scored; else it belongs to the part before.
        has_reference: Whether there is any truth to score against.
        gender, dataset, split: Of the reference, for the protocol record.
        metric: Places of the reference are in metres. notes: What cannot be scored, and why.
        diagnosis: What is wrong with the recording, as far as it was read.
    """

    samples: Iterator[Sample]
    fps: float
    has_reference: bool
    scored: Callable[[], bool] = lambda: True
    gender: str = ""
    dataset: str = ""
    split: str = ""
    metric: bool = True
    notes: tuple[str, ...] = ()
    diagnosis: Any = field(default_factory=dict)

    def problems(self) -> dict[str, Any]:
        """Return what was found wrong with the recording so far."""
        problems = getattr(self.diagnosis, "problems", None)
        return problems() if problems else {name: value for name, value in self.diagnosis.items() if value}


def nominal_fps(measured: float) -> float:
    """Return the rate that was meant: stamps jitter, and two parts of a recording must not differ by it."""
    whole = round(measured)
    return float(whole) if abs(measured - whole) < 0.015 * measured else float(f"{measured:.3g}")


@contextmanager
def open_recording(recording: Recording, part: Part) -> Iterator[Opened]:
    """Open a part of a recording.

    Raises:
        HsrError: As the sources and data sets do.
    """
    with ExitStack() as stack:
        yield {"dataset": _open_dataset, "bag": _open_bag, "source": _open_source}[recording.kind](
            recording, part, stack
        )


def _open_dataset(recording: Recording, part: Part, stack: ExitStack) -> Opened:
    from ..datasets import open_dataset

    dataset = open_dataset(recording.dataset, recording.path, split=recording.split, body_models=recording.body_models)
    sequence = dataset.open(recording.sequence)
    stack.callback(sequence.close)
    facts = dataset.conventions
    return Opened(
        iter(sequence), sequence.fps if facts.fps else 0.0, True, gender=facts.gender, dataset=recording.dataset,
        split=dataset.split, metric=facts.unit == "m", notes=dataset.notes, diagnosis=_Skipped(sequence),
    )  # fmt: skip


class _Skipped:
    """What a source without a diagnosis of its own says."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def problems(self) -> dict[str, Any]:
        return {name: value for name in ("skipped", "truncated") if (value := getattr(self._source, name, 0))}


def _open_source(recording: Recording, part: Part, stack: ExitStack) -> Opened:
    source = stack.enter_context(open_source(recording.path, camera=_camera(recording)))
    samples = (Sample(frame, ()) for frame in source)
    return Opened(samples, source.fps, False, diagnosis=_Skipped(source))


def _camera(recording: Recording) -> Any:
    from ..sources.calibration import load_camera

    return load_camera(Path(recording.cameras), recording.camera) if recording.cameras else None


def _open_bag(recording: Recording, part: Part, stack: ExitStack) -> Opened:
    from ..sources.bag import BagSource

    source = stack.enter_context(
        BagSource(
            recording.path, camera=_camera(recording), image_topic=recording.image or None, start_ns=part.start_ns,
            stop_ns=part.stop_ns,
        )
    )  # fmt: skip
    topic = reference_topic(recording, source.reader.topics)
    samples: Iterator[Sample]
    if topic:
        truth = stack.enter_context(RecordedTruth(recording.path, topic, part.start_ns))
        samples = (truth.sample(frame) for frame in _until_end(source, part))
    else:
        samples = (Sample(frame, ()) for frame in _until_end(source, part))

    def scored() -> bool:
        return part.first_ns is None or source.received_ns >= part.first_ns

    return Opened(samples, source.fps, bool(topic), scored, diagnosis=source.diagnosis)


def _until_end(source: BagSource, part: Part) -> Iterator[Frame]:
    for frame in source:
        if part.end_ns is not None and source.received_ns >= part.end_ns:
            return
        yield frame


def reference_topic(recording: Recording, topics: Any) -> str:
    """Return which topic of a bag is the truth; "" = none.

    Raises:
        ConfigError: The one that was asked for is not there.
    """
    if recording.reference == "none":
        return ""
    if recording.reference and recording.reference not in topics:
        raise ConfigError(f"{recording.path} has no reference topic {recording.reference}; it has {', '.join(topics)}")
    return recording.reference or (TRUTH_TOPIC if TRUTH_TOPIC in topics else "")


class RecordedTruth:
    """People messages of a bag as the reference of its images, paired by stamp; both streams are read as they come.

    Args:
        start_ns: Time of receipt of the first image; None = the recording's first.
    """

    def __init__(self, path: str, topic: str, start_ns: int | None) -> None:
        from ..sources.bag_people import read_people

        self._people = read_people(path, topic, start_ns=None if start_ns is None else start_ns - EARLIER_NS)
        self._frames = iter(self._people)
        self._waiting: Any = None
        self._asked_ns: int | None = None

    def __enter__(self) -> RecordedTruth:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._people.close()

    def sample(self, frame: Frame) -> Sample:
        """Return an image with the truth of its moment; nobody where none was recorded."""
        people, T_world_cam = self.people(frame.stamp_ns)
        return Sample(frame, people, T_world_cam)

    def people(self, stamp_ns: int) -> tuple[tuple[ReferencePerson, ...], Array | None]:
        """Return the truth of a moment, and the pose of the camera where known.

        Moments come in order. Where one goes back, the recording has begun anew, and its truth with it.
        """
        found = self._at(stamp_ns)
        if found is None:
            return (), None
        people = tuple(
            ReferencePerson(
                id=person.track_id, joints=person.joints, joint_names=JOINT_NAMES, params=person.params,
                topology=f"ehm:{found.model_id}", keypoints2d=person.keypoints2d, bbox_xyxy=person.bbox_xyxy,
            )
            for person in found.people
        )  # fmt: skip
        return people, found.T_world_cam

    def _at(self, stamp_ns: int) -> Any:
        back = self._asked_ns is not None and stamp_ns < self._asked_ns - ANEW_NS
        self._asked_ns = stamp_ns
        while back and self._waiting is not None and self._waiting.stamp_ns > stamp_ns + CLOSE_NS:
            self._waiting = next(self._frames, None)
        while self._waiting is None or self._waiting.stamp_ns < stamp_ns - CLOSE_NS:
            self._waiting = next(self._frames, None)
            if self._waiting is None:
                return None
        return self._waiting if abs(self._waiting.stamp_ns - stamp_ns) <= CLOSE_NS else None


def find_recordings(inputs: list[str], **options: str) -> list[Recording]:
    """Return the recordings that the inputs name: bags, videos, folders of them, or lists (.txt, one a line).

    Args:
        options: Fields of `Recording` that all of them have.

    Raises:
        MissingFile: An input does not exist, or a folder holds no recording.
    """
    found = [path for text in inputs for path in _expand(text)]
    if options.get("cameras"):
        options["cameras"] = os.path.abspath(options["cameras"])
    return _named([(path, Recording("", "bag" if is_bag(path) else "source", path, **options)) for path in found])


def dataset_recordings(name: str, folder: str, sequences: list[str], **options: str) -> list[Recording]:
    """Return the sequences of a data set, all or those named.

    Raises:
        HsrError: As `open_dataset`; ConfigError: no such sequence.
    """
    from ..datasets import open_dataset

    dataset = open_dataset(name, folder, split=options.get("split", ""), body_models=options.get("body_models", ""))
    known = dataset.sequences()
    unknown = [sequence for sequence in sequences if sequence not in known]
    if unknown:
        raise ConfigError(f"no sequence {', '.join(unknown)} in {folder}; it has {', '.join(known)}")
    folder = os.path.abspath(folder)
    if options.get("body_models"):
        options["body_models"] = os.path.abspath(options["body_models"])
    return [
        Recording(sequence, "dataset", folder, dataset=name, sequence=sequence, **options)
        for sequence in (sequences or known)
    ]


VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm")


def _expand(text: str, *, listed: bool = False) -> list[str]:
    if text in ("clip", "synthetic"):
        return [text]
    path = Path(os.path.abspath(text))  # a name of its own also in the working folder of another process
    if path.suffix == ".txt" and path.is_file() and not listed:
        return [p for line in _lines(path) for p in _expand(str(path.parent / line), listed=True)]
    if path.is_file() or (is_bag(path) and not _loose_files(path)):
        return [str(path)]
    if not path.is_dir():
        raise MissingFile(f"no recording {text}; give a bag, a video, a folder of them, or a .txt with one path a line")
    return [str(child) for child in _inside(path)] or [str(path)]  # a folder of images is one recording


def _inside(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if is_bag(child) or child.suffix.lower() in VIDEOS]


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is no list of recordings, one path a line: {error}") from error
    return [line for line in lines if line and not line.startswith("#")]


def _loose_files(folder: Path) -> bool:
    """Return whether a folder's bag files are recordings of their own, not the numbered files of a single one."""
    if not folder.is_dir() or (folder / METADATA).is_file():
        return False
    inside = _inside(folder)
    files = [child for child in inside if child.suffix in SUFFIXES]
    return len(inside) > len(files) or len({re.sub(r"_\d+$", "", file.stem) for file in files}) > 1


def _named(found: list[tuple[str, Recording]]) -> list[Recording]:
    """Give each recording a name of its own: the last parts of its path that tell it from the others."""
    parts = [Path(path).parts for path, _ in found]
    depth = 1
    while depth < 8 and len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    names = [os.fsencode("/".join(part[-depth:])).decode(errors="replace") for part in parts]
    return [
        replace(recording, name=name if names.count(name) == 1 else f"{name}#{names[:i].count(name) + 1}")
        for i, (name, (_, recording)) in enumerate(zip(names, found, strict=True))
    ]
