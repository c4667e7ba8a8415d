"""A recording that is one MCAP file with a header of its own, written while something runs.

The mcap library writes it and not rosbags (`bag_writer.py`): it takes a single file, metadata that is there before the
first message, and it checks every chunk by a CRC. What is written is read by `ros2 bag`, too.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import MissingPackage
from .bag_reader import register_hsr_messages
from .cdr_length import Trimmer

CHUNK_BYTES = 64 << 10
"""A whole chunk survives whatever ends the process: at 300 kB/s this is the last quarter of a second."""


def definitions() -> Any:
    """Return the typestore of all message types that can be recorded.

    Raises:
        MissingPackage: `rosbags` or `mcap` is not installed.
    """
    try:
        import mcap.writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingPackage("recording needs rosbags and mcap: pip install 'hsr-core[bag]'") from error
    assert mcap.writer
    store = get_typestore(Stores.ROS2_JAZZY)
    register_hsr_messages(store)
    return store


class McapFile:
    """Writes serialised messages into a new file.

    Args:
        path: Must not exist.
        store: Of `definitions()`.
        name: Of the metadata record at the beginning.
        facts: What it says.

    Attributes:
        counts: Messages by topic.
        pending: Those of them that are in no whole chunk yet.
        kept_bytes: Size of the file up to its last whole chunk.

    Raises:
        OSError: The file exists or cannot be made.
    """

    def __init__(self, path: Path, store: Any, name: str, facts: Mapping[str, str]) -> None:
        from mcap.writer import CompressionType, Writer

        self.path, self._store, self._trimmer = path, store, Trimmer(store)
        self.counts: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        self.kept_bytes = 0
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._file: BinaryIO = path.open("xb")
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        with self._guarded():
            self._writer.start("ros2", "hsr")
            self._writer.add_metadata(name, dict(facts))
        self.flush()

    def write(self, topic: str, kind: str, time_ns: int, data: bytes) -> None:
        """Add a message.

        Args:
            topic: Full name.
            kind: Its type, as in `sensor_msgs/msg/JointState`.
            time_ns: When it was sent or received.
            data: Serialised.

        Raises:
            OSError: The disk is full or gone; the file is closed and ends with its last whole chunk.
            KeyError: The type is not known.
        """
        data = self._trimmer.trimmed(kind, data)
        with self._guarded():
            if topic not in self._channels:
                self._channels[topic] = self._writer.register_channel(topic, "cdr", self._schema(kind))
            self.counts[topic] += 1
            self.pending[topic] += 1
            self._writer.add_message(self._channels[topic], time_ns, data, time_ns)
            if self._file.tell() != self.kept_bytes:  # a chunk is whole
                self._file.flush()
                self.kept_bytes = self._file.tell()
                self.pending.clear()

    def _schema(self, kind: str) -> int:
        if kind not in self._schemas:
            text, _ = self._store.generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", text.encode())
        return self._schemas[kind]

    def flush(self) -> None:
        """Have the whole chunks on the disk: they survive the machine, too.

        Raises:
            OSError: As `write`.
        """
        with self._guarded():
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self.kept_bytes = self._file.tell()

    def close(self) -> None:
        """Write the last chunk and the index.

        Raises:
            OSError: As `write`.
        """
        if self._file.closed:
            return
        with self._guarded():
            self._writer.finish()
        self.flush()
        self._file.close()

    @contextlib.contextmanager
    def _guarded(self):
        try:
            yield
        except OSError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Leave the file with its whole chunks, or none."""
        with contextlib.suppress(OSError):
            self._file.close()  # tries to write once more what did not fit
        with contextlib.suppress(OSError):
            if self.kept_bytes:
                os.truncate(self.path, self.kept_bytes)
            else:
                self.path.unlink()
