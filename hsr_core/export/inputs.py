"""What can be exported: a people file, what `hsr refine` wrote, a recording, or pictures, which are regressed first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import progress
from ..config import Settings
from ..errors import BadFile, BadFrame, MissingFile, SourceError
from ..geometry.rotations import rotmat_to_quat_wxyz, wxyz_to_xyzw
from ..results import FORMAT, PARAMETERS, camera_arrays, person_row
from ..types import HumanParams, MetricSource, Part, TrackState
from .npz_stream import RowReader
from .spool import CHUNK, Facts, Recorded, Spool

if TYPE_CHECKING:
    from ..sources.bag_people import RecordedPerson

REFINED_TRACK = 1
"""Track id of the one person whom `hsr refine` refines."""
_CAMERA = ("K", "dist", "image_hw", "distortion_model", "intrinsics_source")


@dataclass(frozen=True)
class InputOptions:
    """How the input is read.

    Attributes:
        topic: Of the people in a recording; None = found by itself.
        settings: For pictures, which are regressed.
        cameras, camera: Calibration file of pictures, and the name in it.
        body_models: Folder of licensed files; "" = the open body.
        max_frames: Stop after so many; None = all.
    """

    topic: str | None = None
    settings: Settings = Settings()
    cameras: Path | None = None
    camera: str = ""
    body_models: str = ""
    max_frames: int | None = None


def read_input(text: str, folder: Path, options: InputOptions | None = None) -> Recorded:
    """Bring everybody of an input onto the disk.

    Args:
        text: People file, folder of `hsr refine`, recording, video, folder of images, `clip`.
        folder: An existing one for temporary files.
        options: See there.

    Raises:
        MissingFile, BadFile, SourceError, ConfigError: It does not exist, is torn, or is none of these.
    """
    options = options or InputOptions()
    spool = Spool(folder)
    try:
        return spool.finish(_reader(text)(text, spool, options))
    finally:
        spool.close()


def kind_of(text: str) -> str:
    """Return `people`, `refined`, `bag` or `source` (pictures).

    Raises:
        MissingFile: No such file.
    """
    from ..sources.bag_reader import is_bag

    path = Path(text)
    if path.is_dir() and (path / "people.npz").is_file() and (path / "report.json").is_file():
        return "refined"
    if path.suffix == ".npz":
        if not path.is_file():
            raise MissingFile(f"no people file {path}; `hsr run SOURCE --out {path}` writes one")
        return "people"
    return "bag" if is_bag(text.partition("#")[0]) else "source"


def _reader(text: str) -> Callable[[str, Spool, InputOptions], Facts]:
    return {"people": _read_npz, "refined": _read_npz, "bag": _read_bag, "source": _read_source}[kind_of(text)]


def sha256_of(text: str) -> str:
    """Return the hash of a file's content, or of all files of a folder with their names; "" where there is none."""
    path = Path(text.partition("#")[0])
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest() if files else ""


# People files


def _read_npz(text: str, spool: Spool, options: InputOptions) -> Facts:
    path = Path(text) / "people.npz" if Path(text).is_dir() else Path(text)
    reader = RowReader(path)
    try:
        if "metadata" not in reader.shapes and {"stamp_ns", *PARAMETERS} <= set(reader.shapes):
            return _read_refined(reader, text, spool, options)
        return _read_people(reader, spool, options)
    finally:
        reader.close()


def _metadata(reader: RowReader) -> dict[str, Any]:
    try:
        metadata = json.loads(str(reader.whole("metadata")))
    except (KeyError, ValueError, BadFile) as error:
        raise BadFile(f"{reader.path} is not a people file; `hsr run SOURCE --out` writes one") from error
    if metadata.get("format") != FORMAT:
        raise BadFile(f"{reader.path} has format {metadata.get('format')!r}, this version reads {FORMAT!r}")
    return metadata


def _read_people(reader: RowReader, spool: Spool, options: InputOptions) -> Facts:
    metadata = _metadata(reader)
    if any(name not in reader.shapes for name in ("stamp_ns", "track_id")):
        raise BadFile(f"{reader.path} has no stamp_ns and track_id")
    per_person = [name for name, shape in reader.shapes.items() if shape[:2] == reader.shapes["track_id"]]
    missing = [name for name in (*PARAMETERS, "joints", "joint_quats_xyzw", "state") if name not in per_person]
    nobody = not any(name in per_person for name in PARAMETERS)
    if missing and not nobody:
        raise BadFile(f"{reader.path} lacks {', '.join(missing)}")
    worlds = ["T_world_cam"] if "T_world_cam" in reader.shapes else []
    names = ["track_id"] if nobody else [name for name in per_person if name not in ("T_world_cam", "K_per_frame")]
    done = 0
    for block in reader.rows(["stamp_ns", *worlds, *names], CHUNK):
        for i, stamp_ns in enumerate(block["stamp_ns"]):
            if done == options.max_frames:
                break
            present = np.flatnonzero(block["track_id"][i] >= 0)
            people = ({name: block[name][i, p] for name in names} for p in present)
            spool.add(int(stamp_ns), block["T_world_cam"][i] if worlds else None, people)
            done += 1
    return Facts(
        source=str(metadata.get("source", reader.path.name)),
        source_sha256=sha256_of(str(reader.path)),
        kind="people",
        body_model=str(metadata.get("body_model", "")),
        body_family=str(metadata.get("body_family", "")),
        licence_note=str(metadata.get("licence_note", "")),
        settings=metadata.get("settings"),
        regressor=str(metadata.get("regressor", "")),
        camera={name: reader.whole(name) for name in _CAMERA if name in reader.shapes},
        damage="" if metadata.get("complete", True) else "the recording broke off",
    )


def _read_refined(reader: RowReader, text: str, spool: Spool, options: InputOptions) -> Facts:
    """Refined parameters of one person: everything was seen, joints are those of the body."""
    from ..body import load_body

    body = load_body(options.body_models)
    made_of = str(reader.whole("body_model")) if "body_model" in reader.shapes else body.model_id
    if made_of != body.model_id:
        raise BadFile(f"{reader.path} was refined with the body {made_of}, not {body.model_id}: see --body-models")
    everything = Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE
    fixed = {
        "track_id": REFINED_TRACK, "state": TrackState.TRACKED, "primary": 1, "confidence": 1.0,
        "metric_source": MetricSource.REFINED, "parts": everything, "joint_score": np.ones(55),
    }  # fmt: skip
    for block in reader.rows(["stamp_ns", *PARAMETERS], CHUNK):
        for i, stamp_ns in enumerate(block["stamp_ns"]):
            params = HumanParams(**{name: block[name][i] for name in PARAMETERS})
            posed = body.pose_one(params, vertices=False)
            quats = wxyz_to_xyzw(rotmat_to_quat_wxyz(posed.joint_rotmats))
            spool.add(
                int(stamp_ns), None, [{**fixed, **vars(params), "joints": posed.joints, "joint_quats_xyzw": quats}]
            )
    return Facts(Path(text).name, sha256_of(str(reader.path)), "refined", body.model_id, body.family, body.licence_note)


# Recordings


def _read_bag(text: str, spool: Spool, options: InputOptions) -> Facts:
    from ..sources.bag_people import read_people
    from ..sources.bag_reader import BagReader

    bag = text.partition("#")[0]
    try:
        people = read_people(bag, options.topic)
    except SourceError as error:
        with BagReader(bag) as reader:
            images = [name for name, entry in reader.topics.items() if "Image" in entry.kind]
        if options.topic is not None or not images or "no recorded people" not in str(error):
            raise
        return _read_source(text, spool, options)  # images alone: regress them
    model_id = frame_id = world_frame = ""
    camera = None
    with people:
        for done, frame in enumerate(people):
            if done == options.max_frames:
                break
            model_id, camera = frame.model_id or model_id, frame.camera or camera
            frame_id, world_frame = frame.frame_id or frame_id, frame.world_frame or world_frame
            spool.add(frame.stamp_ns, frame.T_world_cam, _recorded_rows(frame.people))
            progress.report("reading", done + 1, people.count)
        damage = "; ".join(
            text for text in (
                "the recording is damaged" if people.truncated else "",
                f"{people.skipped} messages could not be read ({people.last_error})" if people.skipped else "",
            ) if text
        )  # fmt: skip
    family = "OPEN" if model_id.startswith("open") else "EHMS" if model_id.startswith("ehms") else ""
    return Facts(
        Path(bag).name, sha256_of(bag), "bag", model_id, family, licence_of(family),
        camera=camera and camera_arrays(camera), frame_id=frame_id, world_frame=world_frame, damage=damage,
    )  # fmt: skip


def licence_of(family: str) -> str:
    """Return what the licence of a body's family asks of those who use its output; "" where it is not known."""
    if family == "EHMS":
        from ..body.licensed import LICENCE_NOTE

        return LICENCE_NOTE
    if family == "OPEN":
        from ..body.open_cache import LICENCE_NOTE as OPEN_NOTE

        return OPEN_NOTE
    return ""


def _recorded_rows(people: Sequence[RecordedPerson]) -> Iterator[dict[str, Any]]:
    return (_recorded_row(person) for person in people if person.state is not TrackState.LOST)


def _recorded_row(person: RecordedPerson) -> dict[str, Any]:
    fields = ("joints", "joint_quats_xyzw", "joint_score", "keypoints2d", "bbox_xyxy", "depth_sigma_m")
    row = {name: getattr(person, name) for name in fields}
    row |= {name: int(getattr(person, name)) for name in ("track_id", "state", "primary", "metric_source", "parts")}
    return row | {"confidence": person.score} | vars(person.params)


# Pictures


def _read_source(text: str, spool: Spool, options: InputOptions) -> Facts:
    from ..sources import open_source
    from ..sources.calibration import load_camera_if_given
    from ..stream import HumanStream

    settings = options.settings
    if options.body_models:
        settings = settings.with_values({"body_model.path": options.body_models})
    camera = load_camera_if_given(options.cameras, options.camera)
    used = None
    with open_source(text, camera=camera) as source, HumanStream(settings) as stream:
        total = min((n for n in (source.frame_count, options.max_frames) if n is not None), default=0)
        for done, frame in enumerate(source):
            if done == options.max_frames:
                break
            try:
                result = stream.process(frame)
            except BadFrame:
                spool.counts["bad_frames"] += 1
                continue
            used = result.camera
            here = [person for person in result.people if person.state is not TrackState.LOST]
            spool.add(result.stamp_ns, result.T_world_cam, map(person_row, here))
            progress.report("regressing", done + 1, total)
        return Facts(
            source=Path(source.name).name,
            source_sha256=sha256_of(source.name if text == "clip" else text),
            kind="source",
            body_model=stream.body.model_id,
            body_family=stream.body.family,
            licence_note=stream.body.licence_note,
            settings=asdict(settings),
            regressor=stream.regressor.name,
            camera=used and camera_arrays(used),
            damage="the source ended early" if source.truncated else "",
        )


def pictures(text: str, options: InputOptions) -> Iterator[Any]:
    """Yield the frames of an input that has pictures, closing it at the end."""
    from ..sources import open_source
    from ..sources.calibration import load_camera_if_given

    camera = load_camera_if_given(options.cameras, options.camera)
    with open_source(text, camera=camera) as source:
        yield from source
