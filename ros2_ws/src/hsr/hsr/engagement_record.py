"""Records every engagement of an operator with a robot as one MCAP file; the control loop waits for nothing of it.

recorder = EngagementRecorder("~/teleop", engagement_header(robot, settings, topics))
recorder.begin(stamp_ns, operator=3)
recorder.write("/human/retarget/status", "hsr_msgs/msg/RetargetStatus", serialised, stamp_ns)
recorder.end()
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hsr_core.engagement import METADATA_NAME, PARTIAL_SUFFIX, SUFFIX, as_metadata
from hsr_core.sources.mcap_file import McapFile, definitions

from .disk_thread import DiskThread

FLUSH_S = 0.5
QUEUE_BYTES = 16_000_000
"""Half a minute and more of a disk that does not answer."""
_MESSAGE_BYTES = 200
"""What a message holds beside its content."""


class EngagementRecorder:
    """Writes files named by time and operator; while one is written, and when it was cut off, it ends in .partial.mcap.

    No method but `close` waits, and none raises for what a disk does: what is lost is counted. Any thread may call.

    Args:
        folder: For the files; made where it is not there. `~` is the home folder.
        header: See `engagement_header`; becomes the file's metadata.
        flush_s: Longest time that whole chunks are only in memory.
        queue_bytes: Messages that wait for a slow disk; beyond that they are dropped and counted.

    Raises:
        MissingPackage: `rosbags` or `mcap` is not installed.
        TypeError: The header is not JSON-able.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        header: Mapping[str, Any],
        *,
        flush_s: float = FLUSH_S,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._folder, self._facts, self._store = Path(folder).expanduser(), as_metadata(header), definitions()
        self._recording = False
        self._file: McapFile | None = None
        self._final = self._folder
        self._lost: Counter[str] = Counter()
        self._files = self._failed = 0
        self._error = self._problem_of_folder()
        self._thread = DiskThread(self._flush, self._finish, flush_s, queue_bytes)

    def begin(self, stamp_ns: int, *, operator: int | None = None, model_id: str = "") -> None:
        """Begin a file; one that is open is ended.

        Args:
            stamp_ns: Of the moment, in the clock of all messages.
            operator: Track id of the person who commands.
            model_id: Of the body that the people's parameters belong to; "" = unknown.
        """
        facts = self._facts | as_metadata({"begin_ns": stamp_ns, "operator": operator, "model_id": model_id})
        self._recording = self._thread.submit("begin", 0, self._open, stamp_ns, operator, facts)

    def write(self, topic: str, type_name: str, cdr: bytes, stamp_ns: int) -> None:
        """Add a message to the open file; does nothing where none is open.

        Args:
            topic: Full name.
            type_name: As in `sensor_msgs/msg/JointState`.
            cdr: Serialised.
            stamp_ns: When it was sent or received, in the clock of `begin`.
        """
        if self._recording:
            self._thread.submit(topic, len(cdr) + _MESSAGE_BYTES, self._write, topic, type_name, cdr, stamp_ns)

    def end(self) -> None:
        """End the file; does nothing where none is open."""
        if self._recording:
            self._recording = False
            self._thread.submit("end", 0, self._finish)

    def status(self) -> dict[str, Any]:
        """Return how it goes, for diagnostics.

        `recording` and `file` (its path, "" = none); `files` that were ended whole, `failed` ones that were not;
        `messages` of the open file; `dropped` for a disk that is too slow and `lost` for one that is full or gone, all
        in all; `queued_bytes`; `error`: what is wrong now, "" = nothing.
        """
        file, thread = self._file, self._thread
        return {
            "recording": self._recording,
            "file": str(file.path) if file else "",
            "files": self._files,
            "failed": self._failed,
            "messages": sum(file.counts.copy().values()) if file else 0,
            "dropped": sum(thread.dropped.copy().values()),
            "lost": sum(self._lost.copy().values()),
            "queued_bytes": thread.queued_bytes,
            "error": self._error or thread.error,
        }

    def close(self, patience_s: float = 5.0) -> None:
        """End the open file and the thread; waits for the disk, but not for ever."""
        self._recording = False
        self._thread.close(patience_s)

    # In the constructor, and then in the disk's thread

    def _problem_of_folder(self) -> str:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"cannot record into {self._folder}: {error.strerror or error}"
        return "" if os.access(self._folder, os.W_OK | os.X_OK) else f"cannot record into {self._folder}: not writable"

    def _open(self, stamp_ns: int, operator: int | None, facts: dict[str, str]) -> None:
        self._finish()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._final, partial = self._free_names(_name(stamp_ns, operator))
            self._file = McapFile(partial, self._store, METADATA_NAME, facts)
            self._error = ""
        except OSError as error:
            self._give_up(error)

    def _free_names(self, name: str) -> tuple[Path, Path]:
        number = 1
        while True:
            stem = name if number == 1 else f"{name}_{number}"
            final, partial = (self._folder / f"{stem}{suffix}" for suffix in (SUFFIX, PARTIAL_SUFFIX))
            if not final.exists() and not partial.exists():
                return final, partial
            number += 1

    def _write(self, topic: str, type_name: str, cdr: bytes, stamp_ns: int) -> None:
        if self._file is None:
            self._lost[topic] += 1
            return
        try:
            self._file.write(topic, type_name, stamp_ns, cdr)
        except OSError as error:
            self._give_up(error)
        except Exception as error:  # of this topic alone: a type that is not known
            self._lost[topic] += 1
            self._error = f"{topic} is not recorded: {type(error).__name__}: {error}"

    def _flush(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def _finish(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
                self._file.path.rename(self._final)
                self._files, self._file = self._files + 1, None
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Record no more of this engagement; the next one tries again."""
        what = self._file.path if self._file else self._folder
        self._lost.update(self._file.pending if self._file else ())
        self._file, self._failed = None, self._failed + 1
        self._error = f"recording into {what} has stopped: {error.strerror or error}"


def _name(stamp_ns: int, operator: int | None) -> str:
    """Return such as 20261122T041005.250Z_operator-3."""
    moment = datetime.fromtimestamp(stamp_ns // 1_000_000_000, timezone.utc)
    who = "" if operator is None else f"_operator-{operator}"
    return f"{moment:%Y%m%dT%H%M%S}.{stamp_ns // 1_000_000 % 1000:03d}Z{who}"
