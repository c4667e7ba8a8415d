"""Old model pickles without running what they name: only numpy, scipy.sparse, plain containers and chumpy's numbers."""

from __future__ import annotations

import codecs
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile

try:
    from numpy._core import multiarray, numeric
except ImportError:  # numpy below 1.26
    from numpy.core import multiarray, numeric


class _Chumpy:
    """Stands for a chumpy object of an old pickle: keeps its state, from which `array_of` takes the numbers."""

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"x": state})


class _Sparse:
    """Stands for a scipy sparse matrix, whose attributes differ between versions: keeps its state."""

    kind = ""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def dense(self) -> NDArray[Any]:
        import scipy.sparse

        state = {str(name).lstrip("_"): array_of(value) for name, value in self.state.items()}
        if self.kind == "coo":
            places = state.get("coords") or (state["row"], state["col"])
            matrix = scipy.sparse.coo_matrix((state["data"], tuple(places)), shape=tuple(state["shape"]))
        else:
            build = scipy.sparse.csc_matrix if self.kind == "csc" else scipy.sparse.csr_matrix
            matrix = build((state["data"], state["indices"], state["indptr"]), shape=tuple(state["shape"]))
            matrix.check_format()  # indices of a torn file may point anywhere
        return matrix.toarray()


_SPARSE = {kind: type(f"_{kind}", (_Sparse,), {"kind": kind}) for kind in ("csc", "csr", "coo")}


def _reconstructor(cls: type, base: type, state: Any) -> Any:
    """`copyreg._reconstructor` for plain objects of the admitted classes only."""
    return cls.__new__(cls)


_NUMPY = {
    "_reconstruct": multiarray._reconstruct,
    "scalar": multiarray.scalar,
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_frombuffer": numeric._frombuffer,  # arrays in pickles of protocol 5
}
_NUMPY_MODULES = (
    "numpy",
    *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in ("multiarray", "numeric")),
)
_PLAIN = {"set": set, "frozenset": frozenset, "slice": slice, "bytearray": bytearray, "complex": complex}


def admitted(module: str, name: str) -> Any:
    """Return what a pickle may name: numpy arrays, scipy's sparse matrices and plain containers.

    Raises:
        pickle.UnpicklingError: Anything else, which could run code; the message names it.
    """
    if module in _NUMPY_MODULES and name in _NUMPY:
        return _NUMPY[name]
    if module.split(".")[:2] == ["scipy", "sparse"] and name[3:] in ("_matrix", "_array") and name[:3] in _SPARSE:
        return _SPARSE[name[:3]]
    if module.split(".")[0] == "chumpy":
        return _Chumpy
    if module in ("builtins", "__builtin__") and (name == "object" or name in _PLAIN):
        return _PLAIN.get(name, object)
    if (module, name) == ("_codecs", "encode"):
        return codecs.encode
    if module in ("copyreg", "copy_reg") and name == "_reconstructor":
        return _reconstructor
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    raise pickle.UnpicklingError(f"it holds {module}.{name}, which is neither numbers nor a container")


class _NumbersOnly(pickle.Unpickler):
    """Admits numbers and containers; nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        return admitted(module, name)


def array_of(value: Any) -> Any:
    """Return the numbers behind a sparse matrix or a chumpy object; anything else unchanged."""
    if isinstance(value, _Sparse):
        return value.dense()
    if not isinstance(value, _Chumpy):
        return value
    state = vars(value)
    if "x" in state:
        return np.asarray(array_of(state["x"]))
    if {"a", "idxs"} <= state.keys():  # chumpy's Select: flat indices into another array
        picked = np.asarray(array_of(state["a"])).ravel()[np.asarray(array_of(state["idxs"]))]
        return picked.reshape(state["preferred_shape"]) if "preferred_shape" in state else picked
    raise pickle.UnpicklingError(f"a chumpy object without its array (it has {', '.join(sorted(state)) or 'nothing'})")


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a model pickle (Python 2, chumpy and scipy inside) without running anything it names.

    Returns:
        Name -> array, sparse matrix or plain value.

    Raises:
        BadFile: Truncated, not a pickle of a dictionary, or it holds anything but numbers and containers.
    """
    return _read(path, lambda tree: {str(name): array_of(value) for name, value in _dictionary(tree).items()})


def read_pickled_array(path: Path) -> NDArray[Any]:
    """Read a pickle that holds one array (dense, sparse or chumpy's) by the same rules.

    Raises:
        BadFile: Truncated, or it holds anything but one array.
    """
    return _read(path, _array)


def _read(path: Path, unwrap: Callable[[Any], Any]) -> Any:
    try:
        return unwrap(_NumbersOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load())
    except Exception as error:  # a torn pickle may raise nearly anything
        raise BadFile(f"cannot read {path}: {error}; download it again") from error


def _dictionary(tree: Any) -> dict[Any, Any]:
    if not isinstance(tree, dict):
        raise pickle.UnpicklingError(f"it holds a {type(tree).__name__}, not a dictionary")
    return tree


def _array(tree: Any) -> NDArray[Any]:
    array = array_of(tree)
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f"it holds a {type(tree).__name__}, not an array")
    return array


def read_object_array(file: IO[bytes]) -> Any:
    """Read the single object in an npy stream of dtype object, by the same rules.

    Raises:
        ValueError: It holds several objects, or anything but numbers and containers.
    """
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(file)
    try:
        array = _NumbersOnly(file, encoding="latin1").load()
    except Exception as error:
        raise ValueError(str(error)) from error
    return array_of(array.item())
