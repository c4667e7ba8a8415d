"""What an evaluation left on the disk, read back: the summary at once, the frames one by one.

A run that was killed leaves a last line without its end: that line is left out, and said. Frames are never loaded
whole: an hour of video is some hundred megabytes of lines.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadFile, MissingFile

FORMAT = "hsr-eval/1"
SUMMARY, FRAMES, TIMING = "summary.json", "result.jsonl", "timing.jsonl"

_FRAME_FIELDS = {"recording": str, "index": int, "stamp_ns": int, "people": list}


@dataclass
class Section:
    """Where one recording lies in the file of frames.

    Attributes:
        spans: First and last byte (exclusive) of each run of its lines. first_ns, last_ns: Of its frames in file order.
    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0

    @property
    def duration_s(self) -> float:
        return (self.last_ns - self.first_ns) * 1e-9


class ResultFolder:
    """A folder written by `hsr eval`.

    Args:
        where: The folder, or its summary.json.

    Attributes:
        path: The folder. summary: The contents of summary.json.

    Raises:
        MissingFile: The folder, the summary or the frames are not there.
        BadFile: The summary is not JSON, or of another format.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        given = Path(where)
        file = given / SUMMARY if given.is_dir() else given
        if not file.is_file():
            hint = "run the same `hsr eval` again: it goes on where it stopped" if given.is_dir() else "no such path"
            raise MissingFile(f"no results in {given}: {file.name} is missing ({hint})")
        self.path = file.parent
        self.summary = _read_summary(file)
        self.frames_path = self.path / FRAMES
        if not self.frames_path.is_file():
            raise MissingFile(f"{file} has no {FRAMES} beside it; give the folder that `hsr eval --out` wrote")
        self.truncated = False
        self.broken = 0

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield frames and events in file order.

        Afterwards `truncated` says whether the last line had no end, `broken` how many other lines were left out.

        Raises:
            BadFile: The file is of another format.
        """
        self.truncated, self.broken = False, 0
        with self.frames_path.open("rb") as file:
            _check_first_line(file.readline(), self.frames_path)
            for line in file:
                record = _parse(line)
                if record is not None:
                    yield record
                elif line.strip():
                    self._leave_out(line)

    def sections(self) -> dict[str, Section]:
        """Return where each recording's frames lie, in the order of the file. One pass that hardly parses.

        Raises:
            BadFile: The file is of another format.
        """
        self.truncated, self.broken = False, 0
        found: dict[str, Section] = {}
        with self.frames_path.open("rb") as file:
            end = len(_check_first_line(file.readline(), self.frames_path))
            name, same, last = "", b"", b""
            for line in file:
                start, end = end, end + len(line)
                prefix = line[: line.find(b'"index"')]
                if prefix == same and line.endswith(b"\n"):  # the same recording as the line before
                    found[name].spans[-1] = (found[name].spans[-1][0], end)
                    last = line
                    continue
                record = _parse(line)
                if record is None or record["kind"] != "frame":
                    if record is None and line.strip():
                        self._leave_out(line)
                    continue
                _close(found, name, last)
                name, same, last = record["recording"], prefix, line
                section = found.setdefault(name, Section(first_ns=record["stamp_ns"], last_ns=record["stamp_ns"]))
                section.spans.append((start, end))
            _close(found, name, last)
        return found

    def frames(self, section: Section, name: str) -> Iterator[dict[str, Any]]:
        """Yield one recording's frames in file order."""
        with self.frames_path.open("rb") as file:
            for start, stop in section.spans:
                file.seek(start)
                while file.tell() < stop:
                    line = file.readline()
                    record = _parse(line)
                    if record is None and line.strip():
                        self._leave_out(line)
                    elif record is not None and record["kind"] == "frame" and record["recording"] == name:
                        yield record

    def timing(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of timing.jsonl that can be read; none without the file."""
        path = self.path / TIMING
        if path.is_file():
            with path.open("rb") as file:
                for line in file:
                    record = _load(line)
                    if isinstance(record, dict) and isinstance(record.get("stage_ms"), dict):
                        yield record

    def notes(self) -> list[str]:
        """Return what the last pass over the frames left out, for people to read."""
        said = []
        if self.truncated:
            said.append(f"{FRAMES} breaks off in its last line, as after a kill; that line is left out")
        if self.broken:
            said.append(f"{FRAMES}: {self.broken} lines that are no frame or event were left out")
        return said

    def _leave_out(self, line: bytes) -> None:
        if line.endswith(b"\n"):
            self.broken += 1
        else:
            self.truncated = True


def values_of(person: dict[str, Any]) -> dict[str, float]:
    """Return a person's finite values by metric."""
    values = person.get("values")
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if type(value) in (int, float) and math.isfinite(value)}


def worst_frames(folder: ResultFolder, metric: str, *, largest: bool = True, count: int = 10) -> list[dict[str, Any]]:
    """Return the frames with the largest (or smallest) values of one metric, in the order of time.

    Returns:
        list: `recording`, `index`, `stamp_ns`, `metric`, `value` of each.
    """
    sign = 1.0 if largest else -1.0
    rows = Worst(count)
    for record in folder.records():
        if record["kind"] == "frame":
            found = [sign * values[metric] for person in record["people"] if metric in (values := values_of(person))]
            if found:
                rows.add(max(found), record, metric=metric, value=sign * max(found))
    return rows.by_time()


class Worst:
    """The few frames with the largest scores; of equal ones the first."""

    def __init__(self, count: int) -> None:
        self._count, self._seen, self._rows = count, 0, []

    def add(self, score: float, frame: dict[str, Any], **facts: Any) -> None:
        if len(self._rows) == self._count and score <= self._rows[0][0]:
            return
        row = {"recording": frame["recording"], "index": frame["index"], "stamp_ns": frame["stamp_ns"], **facts}
        self._seen += 1
        self._rows = sorted([*self._rows, (score, -self._seen, row)], key=lambda r: r[:2])[-self._count :]

    def by_score(self) -> list[dict[str, Any]]:
        """Return them, the worst first."""
        return [row for *_, row in reversed(self._rows)]

    def by_time(self) -> list[dict[str, Any]]:
        return sorted(self.by_score(), key=lambda row: (row["recording"], row["stamp_ns"], row["index"]))


def _read_summary(file: Path) -> dict[str, Any]:
    try:
        summary = json.loads(file.read_bytes())
    except ValueError as error:
        raise BadFile(f"{file} is not JSON: {error}") from error
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        found = summary.get("format") if isinstance(summary, dict) else type(summary).__name__
        raise BadFile(f"{file} is not the summary of an evaluation: its format is {found!r}, not {FORMAT!r}")
    if not isinstance(summary.get("metrics"), dict):
        raise BadFile(f"{file} has no metrics")
    return summary


def _check_first_line(line: bytes, path: Path) -> bytes:
    first = _load(line)
    if not isinstance(first, dict) or first.get("kind") != "run" or first.get("format") != FORMAT:
        raise BadFile(f"{path} does not begin with the line of a run of format {FORMAT!r}")
    return line


def _close(found: dict[str, Section], name: str, last: bytes) -> None:
    """Note the stamp of a recording's last line."""
    record = _parse(last) if last else None
    if record is not None:
        found[name].last_ns = record["stamp_ns"]


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a frame or event, or None when the line is neither."""
    record = _load(line)
    if not isinstance(record, dict):
        return None
    if record.get("kind") == "frame":
        whole = all(isinstance(record.get(name), wanted) for name, wanted in _FRAME_FIELDS.items())
        return record if whole and all(isinstance(person, dict) for person in record["people"]) else None
    return record if record.get("kind") == "event" and isinstance(record.get("recording"), str) else None


def _load(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
