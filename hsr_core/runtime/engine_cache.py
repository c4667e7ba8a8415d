"""Files that take long to build, built once: engines, and the ONNX files they are made from.

An entry is the file, files that go with it, and `<file>.json` with the facts it was built from and its SHA-256. The
sidecar is written last: a file without one is what a killed builder left, and is removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BadFile, ConfigError
from ..paths import cache_dir
from .base import NetworkSpec

log = logging.getLogger(__name__)

FORMAT = 1
SIDECAR = ".json"
LOCK = ".lock"
PART = ".part-"


@dataclass(frozen=True)
class EngineKey:
    """What decides the content of an engine; two engines with the same key are the same.

    Attributes:
        network_hash: Of the weights and the graph, hexadecimal.
        precision: One of `base.PRECISIONS`.
        shapes: `shapes_text` of the network's spec.
        architecture: "sm89"; "any" for a file that runs everywhere.
        runtime, version: Of what builds and reads it.
        suffix: "engine" or "onnx".
    """

    network_hash: str
    precision: str
    shapes: str
    architecture: str
    runtime: str
    version: str
    suffix: str = "engine"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,128}", self.network_hash):
            raise ConfigError(f"the network hash must be hexadecimal, 8 digits or more, not {self.network_hash!r}")

    @property
    def file_name(self) -> str:
        """Readable parts first; the shapes, too long to show, as a hash."""
        shapes = hashlib.sha256(self.shapes.encode()).hexdigest()[:8]
        runtime = f"{self.runtime}{self.version}"
        return f"{self.network_hash[:16]}-{runtime}-{self.architecture}-{self.precision}-{shapes}.{self.suffix}"


def shapes_text(spec: NetworkSpec) -> str:
    """Return names, types, shapes and batch sizes as one line; it tells two specs apart."""
    tensors = " ".join(
        f"{side}:{tensor.name}:{tensor.dtype}:{'x'.join('b' if size is None else str(size) for size in tensor.shape)}"
        for side, group in (("in", spec.inputs), ("out", spec.outputs))
        for tensor in group
    )
    half = ",".join(spec.half_modules)
    return f"{tensors} b={spec.batch.min}-{spec.batch.opt}-{spec.batch.max} half={half}"


@dataclass(frozen=True)
class Entry:
    """One file of the cache as it was found.

    Attributes:
        path: Of the engine or ONNX file.
        facts: The sidecar; {} when it cannot be read.
        problem: Why it cannot be used, "" when it can.
    """

    path: Path
    facts: dict[str, Any]
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"file": self.path.name, "bytes": _size(self.path), "problem": self.problem, **self.facts}


class EngineCache:
    """A folder of entries, by default `engines` in the user's cache. Several processes may use it at once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder.expanduser() if folder else cache_dir() / "engines"

    def get(self, key: EngineKey, build: Callable[[Path], dict[str, Any] | None]) -> Path:
        """Return the key's file; build it first where there is none that can be used.

        A second process that asks for the same key meanwhile waits and uses what the first has built.

        Args:
            build: Writes the file to the given path, whose folder is a fresh one: whatever it writes there goes into
                the cache. May return more facts for the sidecar.

        Raises:
            BadFile: The folder cannot be written, or the disk is full; the message says which.
        """
        path = self.folder / key.file_name
        if not self.check(path, key).problem:
            return path
        with _write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(path):
                if not self.check(path, key).problem:  # another process was quicker
                    return path
                self._clean(path)
                self._build(path, key, build)
        return path

    def check(self, path: Path, key: EngineKey | None = None) -> Entry:
        """Compare a file with its sidecar, and the sidecar with a key; nothing is changed."""
        sidecar = path.with_name(path.name + SIDECAR)
        if not path.is_file():
            return Entry(path, {}, "missing")
        try:
            facts = json.loads(sidecar.read_text())
            recorded, files = facts["key"], facts["files"]
            known = EngineKey(**recorded)
            name = known.file_name
            sums = {str(file): (int(of["bytes"]), str(of["sha256"])) for file, of in files.items()}
        except FileNotFoundError:
            return Entry(path, {}, "no sidecar: its builder was stopped")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            return Entry(path, {}, f"the sidecar cannot be read: {type(error).__name__} {error}")
        problem = _difference(asdict(known), asdict(key)) if key else ""
        if not problem and name != path.name:
            problem = "the sidecar belongs to another file"
        return Entry(path, facts, problem or self._compare_files(path, sums))

    def annotate(self, path: Path, name: str, value: Any) -> None:
        """Add a fact to an entry's sidecar.

        Raises:
            BadFile: The folder cannot be written.
        """
        with _write_errors(self.folder), self._locked(path):
            entry = self.check(path)
            if not entry.problem:
                self._write_sidecar(path, {**entry.facts, name: value})

    def entries(self) -> list[Entry]:
        """Return every engine and ONNX file with its state."""
        if not self.folder.is_dir():
            return []
        return [self.check(path) for path in sorted(self.folder.iterdir()) if path.suffix in (".engine", ".onnx")]

    def prune(self, unwanted: Callable[[Entry], bool] = lambda entry: bool(entry.problem)) -> list[Path]:
        """Delete unwanted entries, by default the unusable ones, and what killed builders left; return the files.

        An entry that is being built is left alone.
        """
        removed = []
        with _write_errors(self.folder):
            for entry in self.entries():
                with self._locked(entry.path, wait=False) as locked:
                    if locked and unwanted(self.check(entry.path)):
                        removed += self._clean(entry.path)
            for part in self.folder.glob(f".*{PART}*") if self.folder.is_dir() else ():
                path = self.folder / part.name[1:].partition(PART)[0]
                with self._locked(path, wait=False) as locked:
                    if locked and part.exists():
                        removed += _remove(part)
        return removed

    def _compare_files(self, path: Path, recorded: dict[str, tuple[int, str]]) -> str:
        if path.name not in recorded:
            return "the sidecar does not name the file"
        for name, (size, digest) in recorded.items():
            file = path.with_name(Path(name).name)
            if _size(file) != size:
                return f"{name} has {_size(file)} bytes, {size} were written"
            if file_sha256(file) != digest:
                return f"{name} is not the file that was written: its SHA-256 differs"
        return ""

    def _build(self, path: Path, key: EngineKey, build: Callable[[Path], dict[str, Any] | None]) -> None:
        part = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{path.name}{PART}"))
        try:
            more = build(part / path.name) or {}
            files = sorted(part.iterdir(), key=lambda file: file.name == path.name)  # the main file last
            sums = {file.name: {"bytes": _size(file), "sha256": file_sha256(file)} for file in files}
            facts = {"format": FORMAT, "key": asdict(key), "files": sums, **more}
            for file in files:
                _flush(file)
                os.replace(file, self.folder / file.name)
            self._write_sidecar(path, facts)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _write_sidecar(self, path: Path, facts: dict[str, Any]) -> None:
        part = self.folder / f".{path.name}{PART}json"
        part.write_text(json.dumps(facts, indent=1))
        _flush(part)
        os.replace(part, path.with_name(path.name + SIDECAR))

    def _clean(self, path: Path) -> list[Path]:
        """Remove an entry and what a stopped builder left of it. The caller has its lock."""
        sidecar = path.with_name(path.name + SIDECAR)
        parts = self.folder.glob(f".{path.name}{PART}*")
        others = (path.with_name(path.name + end) for end in (".data", ".jit"))
        return [gone for file in (sidecar, path, *others, *parts) for gone in _remove(file)]

    @contextmanager
    def _locked(self, path: Path, *, wait: bool = True) -> Iterator[bool]:
        """Hold the entry's lock file; it stays, since removing it would let two processes in. Yield False if busy."""
        with open(self.folder / f".{path.name}{LOCK}", "w") as lock:
            busy = False
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = True
            if busy and wait:
                log.info("waiting for another process that builds %s", path.name)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield wait or not busy


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> list[Path]:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    else:
        return []
    return [path]


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    other = [f"{name} is {found[name]}, not {value}" for name, value in wanted.items() if found[name] != value]
    return f"built for something else: {'; '.join(other)}" if other else ""


FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Say what to do when the cache cannot be written; other errors of a builder pass through."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            advice = "free some space (`hsr engine prune` removes what cannot be used), or name another folder"
        elif error.errno in FORBIDDEN:
            advice = "name a folder this user may write, or build beforehand with `hsr engine build`"
        elif str(error.filename or "").startswith(str(folder)):
            advice = "name another folder"
        else:
            raise
        raise BadFile(f"the engine cache {folder} cannot be written: {error.strerror}; {advice}") from error
