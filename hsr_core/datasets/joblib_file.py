"""Uncompressed files of joblib, read by the rules of `hsr_core.body.numbers_pickle`.

They are pickles with arrays between the opcodes: a small record stands where an array belongs, and the array's bytes
follow the opcode that completes the record.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..body.numbers_pickle import admitted
from ..errors import BadFile


class _ArrayRecord:
    """Stands for `joblib.numpy_pickle.NumpyArrayWrapper`."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    numpy_array_alignment_bytes: int | None = None

    def read(self, file: IO[bytes]) -> NDArray[Any]:
        if self.dtype.hasobject:
            raise pickle.UnpicklingError("it holds an array of objects")
        if self.numpy_array_alignment_bytes is not None:
            file.read(int.from_bytes(file.read(1), "little"))
        count = int(np.prod(self.shape, dtype=np.int64))
        data = file.read(count * self.dtype.itemsize)
        flat = np.frombuffer(data, self.dtype, count)  # too few bytes are an error of numpy
        return flat.reshape(self.shape[::-1]).T if self.order == "F" else flat.reshape(self.shape)


class _Numbers(pickle._Unpickler):  # the one in Python: the one in C reads ahead and cannot be interrupted
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return _ArrayRecord
        return admitted(module, name)

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _ArrayRecord):
            self.stack[-1] = self.stack[-1].read(self._file)

    dispatch[pickle.BUILD[0]] = load_build


def read_joblib(path: Path) -> Any:
    """Read what `joblib.dump` wrote without compression, without running anything it names.

    Raises:
        BadFile: Truncated, compressed, or it holds anything but numbers and containers.
    """
    try:
        return _Numbers(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a torn pickle may raise nearly anything
        raise BadFile(f"cannot read {path}: {error}; get it again, uncompressed") from error
