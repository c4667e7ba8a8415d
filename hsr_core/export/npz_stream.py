"""npz files larger than memory: columns grow on the disk and are zipped in turn; members are read row by row."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from ..errors import BadFile
from ..types import Array

_BLOCK = 1 << 20
ERRORS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What reading a file that is no npz raises."""


class Columns:
    """Arrays that grow along their first axis, each in a file of its own.

    Args:
        folder: Holds the files; it is the caller's to remove.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self.rows: dict[str, int] = {}

    def append(self, name: str, values: Array) -> None:
        """Add rows (n, ...); their type and shape are those of the first."""
        values = np.ascontiguousarray(values)
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.column").open("w+b")
            self._kinds[name], self.rows[name] = (values.dtype, values.shape[1:]), 0
        assert (values.dtype, values.shape[1:]) == self._kinds[name], name
        self._files[name].write(values.tobytes())
        self.rows[name] += len(values)

    def save(self, file: BinaryIO, more: Mapping[str, Any]) -> None:
        """Write the npz: `more` (small arrays), then the columns. Ends the columns."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            for name, value in more.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array(member, np.asanyarray(value), allow_pickle=False)
            for name, column in self._files.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    self._write(name, column, member)
        self.close()

    def _write(self, name: str, column: BinaryIO, member: Any) -> None:
        kind, shape = self._kinds[name]
        shape = (self.rows[name], *shape)
        npy.write_array_header_1_0(member, {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape})
        column.seek(0)
        while block := column.read(_BLOCK):
            member.write(block)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class RowReader:
    """Reads arrays of an npz in step, some rows at a time.

    Args:
        path: The npz.

    Attributes:
        shapes: Name -> shape of everything in it.

    Raises:
        BadFile: No npz, or it holds pickled objects.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        try:
            self._archive = self._stack.enter_context(zipfile.ZipFile(path))
            self._kinds = {name.removesuffix(".npy"): self._header(name) for name in self._archive.namelist()}
        except ERRORS as error:
            self._stack.close()
            raise BadFile(f"{path} is torn or no npz: {error}") from error
        self.shapes = {name: shape for name, (shape, _) in self._kinds.items()}

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        with self._archive.open(name) as member:
            shape, fortran, kind = _read_header(member)
        if fortran or kind.hasobject:
            raise ValueError(f"{name} holds {'pickled objects' if kind.hasobject else 'columns first'}")
        return shape, kind

    def whole(self, name: str) -> Array:
        """Return a (small) array."""
        with self._guarded(), self._archive.open(f"{name}.npy") as member:
            return npy.read_array(member, allow_pickle=False)

    def rows(self, names: Sequence[str], size: int) -> Iterator[dict[str, Array]]:
        """Yield the arrays' next rows, `size` at a time; all have as many rows as the first.

        Raises:
            BadFile: One has another number of rows, or the file is torn.
        """
        count = self.shapes[names[0]][0]
        wrong = [name for name in names if not self.shapes[name] or self.shapes[name][0] != count]
        if wrong:
            raise BadFile(f"{self.path}: {wrong[0]} has shape {self.shapes[wrong[0]]}, the others {count} rows")
        with ExitStack() as stack, self._guarded():
            members = {name: stack.enter_context(self._archive.open(f"{name}.npy")) for name in names}
            for member in members.values():
                _read_header(member)
            for start in range(0, count, size):
                n = min(size, count - start)
                yield {name: self._read(members[name], name, n) for name in names}

    def _read(self, member: Any, name: str, n: int) -> Array:
        shape, kind = self._kinds[name]
        wanted = n * int(np.prod(shape[1:], dtype=np.int64)) * kind.itemsize
        data = member.read(wanted)
        if len(data) != wanted:
            raise EOFError(f"{name} ends early")
        return np.frombuffer(data, kind).reshape(n, *shape[1:])

    def _guarded(self) -> _Guard:
        return _Guard(self.path)

    def close(self) -> None:
        self._stack.close()


class _Guard:
    """Names the file in what reading it raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ERRORS) and not isinstance(error, FileNotFoundError):
            raise BadFile(f"{self._path} is torn: {error}") from error


def _read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(member)
    return npy.read_array_header_1_0(member) if version == (1, 0) else npy.read_array_header_2_0(member)
