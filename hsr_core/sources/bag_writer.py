"""A recording that is written while something runs: what was flushed survives whatever ends the process.

rosbags and not the mcap library writes it: it also writes the metadata.yaml that `ros2 bag` wants, with the quality of
service of each topic, knows the definitions and hashes of all message types, and lets a chunk be closed at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, HsrError, MissingPackage
from .bag_reader import register_hsr_messages
from .cdr_length import Trimmer

METADATA_VERSION = 8
"""The newest that ROS 2 Humble reads, too: 9 writes quality of service in another way."""


class RecordingStopped(HsrError):
    """The disk is full or gone; what was flushed before is kept."""


class Recording:
    """Writes serialised messages into a new bag: mcap, chunks compressed by zstd.

    Args:
        path: Folder of the bag; must not exist.

    Attributes:
        counts: Messages by topic.
        kept_bytes: Size of the file up to the last flush.

    Raises:
        MissingPackage: `rosbags` is not installed.
        ConfigError: The folder exists or cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise MissingPackage("recording needs rosbags: pip install 'hsr-core[bag]'") from error
        self.path = Path(path).expanduser()
        self.counts: Counter[str] = Counter()
        self.kept_bytes = 0
        self._store = get_typestore(Stores.ROS2_JAZZY)
        register_hsr_messages(self._store)
        self._trimmer = Trimmer(self._store)
        self._connections: dict[str, Any] = {}
        self._pending = 0
        try:
            self._writer = Writer(self.path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
            self._writer.storage.bio.flush()
            self.kept_bytes = self._writer.storage.bio.tell()
        except (WriterError, OSError) as error:
            raise ConfigError(f"cannot record into {path}: {error}; choose a folder that does not exist") from error
        self._file = self._writer.storage.path

    def knows(self, kind: str) -> bool:
        """True when messages of this type, as in `sensor_msgs/msg/Image`, can be recorded."""
        return kind in self._store.types

    def write(self, topic: str, kind: str, time_ns: int, data: bytes, qos: Sequence[Any] = ()) -> None:
        """Add a message.

        Args:
            topic: Full name.
            kind: Its type.
            time_ns: Time of receipt.
            data: Serialised, as it came.
            qos: Quality of service of the publishers (`rosbags.interfaces.Qos`); counts for the first message.

        Raises:
            RecordingStopped: The disk is full or gone.
        """
        with self._guarded():
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=self._store, offered_qos_profiles=qos
                )
            self._writer.write(self._connections[topic], time_ns, self._trimmer.trimmed(kind, data))
        self.counts[topic] += 1
        self._pending += 1

    def flush(self) -> None:
        """Close the chunk and have it on the disk: from now on it survives the process and the machine.

        Raises:
            RecordingStopped: The disk is full or gone.
        """
        if not self._pending:
            return
        with self._guarded():
            storage = self._writer.storage
            storage.close_chunk()
            storage.bio.flush()
            os.fdatasync(storage.bio.fileno())
            self.kept_bytes = storage.bio.tell()
        self._pending = 0

    def close(self) -> None:
        """Flush, and write index and metadata.

        Raises:
            RecordingStopped: The disk is full or gone.
        """
        if self._writer.storage is None:
            return
        self.flush()
        with self._guarded():
            self._writer.close()

    @contextlib.contextmanager
    def _guarded(self):
        try:
            yield
        except OSError as error:
            self._give_up()
            raise RecordingStopped(
                f"{error.strerror or error}: recording into {self.path} has stopped, its first "
                f"{self.kept_bytes / 1e6:.1f} MB are kept; they have no index, which `hsr` reads all the same and "
                "`ros2 bag reindex` writes anew"
            ) from error

    def _give_up(self) -> None:
        """Leave the file as it was after the last flush: it ends with a whole chunk."""
        storage, self._writer.storage = self._writer.storage, None
        with contextlib.suppress(OSError):
            storage.bio.close()  # tries to write once more what did not fit
        with contextlib.suppress(OSError):
            os.truncate(self._file, self.kept_bytes)
