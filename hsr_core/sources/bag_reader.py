"""Messages out of rosbag2 recordings, mcap or sqlite3, whole or damaged, without ROS.

A recording with its index is read by `rosbags`, in the order of time. One whose index is missing, because the recorder
was killed or the disk was full, is read from its beginning to the damage in the order in which it was written.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..errors import BadFile, MissingFile, MissingPackage, SourceError
from .base import Closing

log = logging.getLogger(__name__)

SUFFIXES = (".mcap", ".db3")
METADATA = "metadata.yaml"
_LARGEST_RECORD_BYTES = 2**30
"""A longer record is a damaged length, not a message."""
_FOREVER_NS = 2**63 - 1


@dataclass(frozen=True)
class BagTopic:
    """A topic of a recording.

    Attributes:
        kind: Its type, as in `sensor_msgs/msg/Image`.
        count: How many messages it has.
        latched: Its publishers kept messages for late joiners (transient local).
    """

    name: str
    kind: str
    count: int
    latched: bool = False


def is_bag(path: str | os.PathLike[str]) -> bool:
    """True for a .mcap or .db3 file, and for a folder with such files or with a metadata.yaml."""
    path = Path(path)
    if path.is_dir():
        return (path / METADATA).is_file() or bool(_storage_files(path))
    return path.suffix in SUFFIXES and path.is_file()


def _storage_files(folder: Path) -> list[Path]:
    """Return a folder's storage files in the order of their numbers."""
    found = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
    return sorted(found, key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)])


class BagReader(Closing):
    """A recording: a folder, or a single .mcap or .db3 file.

    Args:
        path: Of the folder or file.

    Attributes:
        name: As given.
        topics: By name.
        unindexed: The index or the folder's metadata is missing or unusable; the files were read from end to end.
        truncated: A part of the recording cannot be read: what lies before it is given, what lies behind is lost.
        damage: What is wrong with it, in words; "" = nothing.

    Raises:
        MissingPackage: `rosbags` is not installed.
        SourceError: There is no recording, or nothing of it can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if find_spec("rosbags") is None or find_spec("mcap") is None:
            raise MissingPackage("reading a bag needs rosbags and mcap: pip install 'hsr-core[bag]'")
        self.name = str(path)
        self.unindexed = self.truncated = False
        self.damage = ""
        self._parts = self._open(Path(path))
        kinds: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for part in self._parts:
            kinds = part.kinds | kinds
            counts.update(part.counts)
        latched = set().union(*(part.latched for part in self._parts))
        # Damage may be readable: SQLite gives numbers and nothing where names were.
        names = sorted(name for name, kind in kinds.items() if isinstance(name, str) and isinstance(kind, str))
        self.topics = {name: BagTopic(name, kinds[name], counts[name], name in latched) for name in names}
        self._store: Any = None

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, time of receipt [ns], serialised message); ends at the damage of a damaged recording.

        Args:
            topics: Names of the topics wanted.
            start_ns, stop_ns: First, and first no longer wanted, time of receipt.
        """
        for part in self._parts:
            try:
                yield from part.messages(
                    set(topics), 0 if start_ns is None else start_ns, _FOREVER_NS if stop_ns is None else stop_ns
                )
            except Exception as error:  # each library has errors of its own for damage
                if not part.damage:
                    self._note_damage(f"{part.path.name} is damaged: {_why(error)}")

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last time of receipt; None where there is no index that knows them."""
        spans = [part.span_ns for part in self._parts if isinstance(part, _Indexed)]
        return (min(s[0] for s in spans), max(s[1] for s in spans)) if len(spans) == len(self._parts) > 0 else None

    def first(self, topic: str, limit: int = 1) -> list[tuple[int, bytes]]:
        """Return the first messages of a topic with their times of receipt."""
        found: list[tuple[int, bytes]] = []
        if limit:
            for _, receive_ns, data in self.messages([topic]):
                found.append((receive_ns, data))
                if len(found) == limit:
                    break
        return found

    def decode(self, topic: str, data: bytes) -> Any:
        """Return a message as an object with the fields of its type.

        Raises:
            BadFile: The bytes are no such message, or its definition is neither in the recording nor known.
        """
        if self._store is None:
            self._store = self._make_store()
        kind = self.topics[topic].kind
        try:
            return self._store.deserialize_cdr(data, kind)
        except Exception as error:
            raise BadFile(f"a message on {topic} cannot be read as {kind}: {type(error).__name__}: {error}") from error

    def describe_topics(self, *kinds: str) -> str:
        """Return the topics with their types and counts, or those of some types, for an error message."""
        lines = [f"{t.name} ({t.kind}, {t.count})" for t in self.topics.values() if not kinds or t.kind in kinds]
        return ", ".join(lines) or "none"

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []

    # Opening

    def _open(self, path: Path) -> list[_Part]:
        if not path.exists():
            raise SourceError(f"no bag {path}")
        files = _storage_files(path) if path.is_dir() else [path]
        for file in files:
            self._look_for_log(file)
        if path.is_dir() and not (path / METADATA).is_file():
            if not files:
                raise SourceError(f"{path} is no bag: it holds neither {METADATA} nor an .mcap or .db3 file")
            self._note_damage(f"{path.name} has no {METADATA}: its recorder was killed", truncated=False)
        else:
            try:
                return [_Indexed(path)]
            except Exception as error:
                self._note_damage(f"{path.name} has no usable index: {_why(error)}", truncated=False)
        self.unindexed = True
        parts = [part for part in map(self._open_file, files) if part is not None]
        if not parts:
            raise SourceError(f"{path} cannot be read as a bag: {self.damage}")
        return parts

    def _look_for_log(self, file: Path) -> None:
        """Tell of messages that SQLite would have moved into the file when it was closed."""
        wal = file.with_name(f"{file.name}-wal")
        if file.suffix == ".db3" and wal.is_file() and wal.stat().st_size:
            command = f"sqlite3 {file.name} 'PRAGMA wal_checkpoint(TRUNCATE)'"
            self._note_damage(f"what is in {wal.name} is not read; to merge it: {command}")

    def _open_file(self, path: Path) -> _Part | None:
        if path.is_file() and not path.stat().st_size:
            self._note_damage(f"{path.name} is empty")
            return None
        try:
            return _Indexed(path)
        except Exception:
            pass
        try:
            part: _LinearMcap | _LinearSqlite = _LinearMcap(path) if path.suffix == ".mcap" else _LinearSqlite(path)
        except Exception as error:
            self._note_damage(f"{path.name} cannot be read: {_why(error)}")
            return None
        if part.damage:
            self._note_damage(f"{path.name} ends early: {part.damage}")
        return part

    def _note_damage(self, text: str, *, truncated: bool = True) -> None:
        if text not in self.damage:
            log.warning("%s: %s", self.name, text)
            self.damage = "; ".join(filter(None, (self.damage, text)))
        self.truncated |= truncated

    def _make_store(self) -> Any:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        store = get_typestore(Stores.ROS2_JAZZY)
        for kind, text in {kind: text for part in self._parts for kind, text in part.definitions.items()}.items():
            try:
                types = get_types_from_msg(text, kind)
            except Exception as error:  # decoding will say so where it is needed
                log.debug("%s: definition of %s: %s", self.name, kind, error)
                continue
            store.register({name: fields for name, fields in types.items() if name not in store.types})
        wanted = any(topic.kind.startswith("hsr_msgs/") for topic in self.topics.values())
        if wanted and "hsr_msgs/msg/HumanArray" not in store.types:
            register_hsr_messages(store)
        return store


def _why(error: Exception) -> str:
    return ": ".join(filter(None, (type(error).__name__, str(error))))


class _Part(Protocol):
    """One file, or a whole folder with its metadata; of a topic that changes its type, the first type counts."""

    path: Path
    damage: str
    kinds: dict[str, str]
    counts: dict[str, int]
    definitions: dict[str, str]
    latched: set[str]

    def messages(self, topics: set[str], start_ns: int, stop_ns: int) -> Iterator[tuple[str, int, bytes]]: ...

    def close(self) -> None: ...


class _Indexed:
    def __init__(self, path: Path) -> None:
        from rosbags.interfaces import MessageDefinitionFormat, QosDurability
        from rosbags.rosbag2 import Reader

        self.path, self.damage, self._reader = path, "", Reader(path)
        self._reader.open()
        self.span_ns = self._reader.start_time, self._reader.end_time
        self.kinds: dict[str, str] = {}
        self.counts: dict[str, int] = Counter()
        self.definitions: dict[str, str] = {}
        self.latched: set[str] = set()
        for connection in self._reader.connections:
            self.kinds.setdefault(connection.topic, connection.msgtype)
            self.counts[connection.topic] += connection.msgcount
            if any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in connection.ext.offered_qos_profiles):
                self.latched.add(connection.topic)
            if connection.msgdef.format == MessageDefinitionFormat.MSG:
                self.definitions[connection.msgtype] = connection.msgdef.data

    def messages(self, topics: set[str], start_ns: int, stop_ns: int) -> Iterator[tuple[str, int, bytes]]:
        wanted = [connection for connection in self._reader.connections if connection.topic in topics]
        if wanted:  # none would mean all
            for connection, time_ns, data in self._reader.messages(wanted, start_ns, stop_ns):
                yield connection.topic, time_ns, data

    def close(self) -> None:
        self._reader.close()


class _LinearMcap:
    """An mcap file without its index, read through once to learn what is in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.damage = path, ""
        self.kinds: dict[str, str] = {}
        self.counts: dict[str, int] = Counter()
        self.definitions: dict[str, str] = {}
        self.latched: set[str] = set()
        try:
            for topic, _, _ in self.messages(None, 0, _FOREVER_NS):
                self.counts[topic] += 1
        except Exception as error:
            if not self.kinds:
                raise
            self.damage = _why(error)

    def messages(self, topics: set[str] | None, start_ns: int, stop_ns: int) -> Iterator[tuple[str, int, bytes]]:
        from mcap.records import Channel, Message, Schema
        from mcap.stream_reader import StreamReader

        schemas: dict[int, Schema] = {}
        names: dict[int, str] = {}
        with self.path.open("rb") as file:
            for record in StreamReader(file, record_size_limit=_LARGEST_RECORD_BYTES).records:
                if isinstance(record, Message):
                    name = names[record.channel_id]
                    if (topics is None or name in topics) and start_ns <= record.log_time < stop_ns:
                        yield name, record.log_time, record.data
                elif isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    names[record.id] = record.topic
                    self._learn(record.topic, schemas.get(record.schema_id), record.metadata)

    def _learn(self, topic: str, schema: Any, metadata: dict[str, str]) -> None:
        from rosbags.interfaces import QosDurability
        from rosbags.rosbag2.metadata import parse_qos

        try:
            profiles = parse_qos(metadata.get("offered_qos_profiles", ""))
        except Exception as error:  # how it was sent is no reason not to read it
            log.debug("%s: quality of service of %s: %s", self.path, topic, error)
            profiles = []
        if any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in profiles):
            self.latched.add(topic)
        self.kinds.setdefault(topic, schema.name if schema else "unknown")
        if schema and schema.encoding == "ros2msg":
            self.definitions[schema.name] = schema.data.decode(errors="replace")

    def close(self) -> None: ...


class _LinearSqlite:
    """An sqlite3 file that is cut short: rows are read in the order in which they were written, to the damage."""

    def __init__(self, path: Path) -> None:
        self.path, self.damage = path, ""
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        # Without this SQLite refuses a file that is shorter than its header says, before the first page is read.
        self._database.execute("PRAGMA writable_schema=ON")
        rows = self._database.execute("SELECT id, name, type FROM topics").fetchall()
        self.latched: set[str] = set()
        self._names = {number: name for number, name, _ in rows}
        self.kinds: dict[str, str] = {name: kind for _, name, kind in rows}
        self.counts: dict[str, int] = Counter()
        self.definitions = self._read_definitions()
        try:
            for topic, _, _ in self.messages(set(self.kinds), 0, _FOREVER_NS):
                self.counts[topic] += 1
        except Exception as error:
            self.damage = _why(error)

    def _read_definitions(self) -> dict[str, str]:
        query = "SELECT topic_type, encoded_message_definition FROM message_definitions WHERE encoding = 'ros2msg'"
        try:
            return dict(self._database.execute(query).fetchall())
        except sqlite3.DatabaseError:  # recordings before Iron have no such table
            return {}

    def messages(self, topics: set[str], start_ns: int, stop_ns: int) -> Iterator[tuple[str, int, bytes]]:
        for number, time_ns, data in self._database.execute("SELECT topic_id, timestamp, data FROM messages"):
            name = self._names.get(number)
            if name in topics and start_ns <= time_ns < stop_ns:
                yield name, time_ns, data

    def close(self) -> None:
        self._database.close()


def register_hsr_messages(store: Any) -> None:
    """Teach a typestore of rosbags our messages.

    Raises:
        MissingFile: Their definitions are neither installed nor beside the library.
    """
    from rosbags.typesys import get_types_from_msg

    folder = message_folder()
    types: dict[str, Any] = {}
    for path in sorted(folder.glob("*.msg")):
        types |= get_types_from_msg(path.read_text(), f"hsr_msgs/msg/{path.stem}")
    store.register(types)


def message_folder() -> Path:
    """Find the message definitions: of the installed package, else of this source tree. Imports no ROS.

    Raises:
        MissingFile: There are none.
    """
    spec = find_spec("hsr_msgs")
    above = list(Path(spec.origin).parents) if spec is not None and spec.origin else []
    folders = [parent / "share" / "hsr_msgs" / "msg" for parent in above]
    folders.append(Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "hsr_msgs" / "msg")
    for folder in folders:
        if (folder / "HumanArray.msg").is_file():
            return folder
    raise MissingFile("the definitions of hsr_msgs are not installed; run `make setup`, or source the ROS workspace")
