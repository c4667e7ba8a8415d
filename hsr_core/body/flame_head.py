"""The head part: FLAME's files, or the open body's own, and the stored masks that say where it is grafted."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile
from ..types import Array
from .smplx_body import SkinnedMesh, skinned_mesh, take

JAW, LEFT_EYE, RIGHT_EYE = 2, 3, 4
N_HEAD_JOINTS = 5


@dataclass(frozen=True, eq=False)
class HeadPart:
    """A head that is shaped and posed by itself, then put into the body's template.

    Attributes:
        mesh: N vertices, 5 joints: root, neck, jaw, left eye, right eye.
        vertex_ids: (N,) the body vertex that each head vertex stands for.
        kept: (K,) head vertices that are not grafted: the neck and its rim keep the body's places.
        lids: (2, N, 3) displacement of the closed left and right lid [m].
        from_actions: (E, A) map from strengths of named facial actions to expression coefficients, or None.
        action_names: The A names.
    """

    mesh: SkinnedMesh
    vertex_ids: NDArray[np.int64]
    kept: NDArray[np.int64]
    lids: Array
    from_actions: Array | None = None
    action_names: tuple[str, ...] = ()

    @property
    def grafted(self) -> NDArray[np.int64]:
        """Head vertices that replace the body's, in rising order."""
        return np.setdiff1d(np.arange(len(self.vertex_ids)), self.kept)


def head_part(
    data: Mapping[str, Any], where: Path, *, n_body_vertices: int, shape: slice, expression: slice, columns: int
) -> HeadPart:
    """Check the arrays of a head file (with ids, masks and lids already in `data`) and put them together.

    Raises:
        BadFile: An array is missing, has another shape, or names vertices that do not exist.
    """
    n = len(data["v_template"])
    ids = _vertex_set(data, "vertex_ids", n_body_vertices, where)
    if len(ids) != n:
        raise BadFile(f"{where}: vertex_ids must name one body vertex for each of {n} head vertices, not {len(ids)}")
    kept = np.union1d(_vertex_set(data, "neck", n, where), _vertex_set(data, "boundary", n, where))
    mesh = skinned_mesh(
        data, where, n_vertices=n, n_joints=N_HEAD_JOINTS, shape=shape, expression=expression, columns=columns
    )
    if mesh.parents != (-1, 0, 1, 1, 1):
        raise BadFile(f"{where}: the head's tree must be root, neck, jaw, left eye, right eye; it is {mesh.parents}")
    lids = np.stack([take(data, name, (n, 3), where) for name in ("l_eyelid", "r_eyelid")])
    matrix = take(data, "expression_from_actions", (None, None), where) if "expression_from_actions" in data else None
    names = tuple(str(name) for name in data.get("action_names", ()))
    return HeadPart(mesh, ids, kept, lids, matrix, names)


def _vertex_set(data: Mapping[str, Any], name: str, n: int, where: Path) -> NDArray[np.int64]:
    """Return distinct vertex ids in 0..n-1, in the order of the file."""
    ids = take(data, name, (None,), where, kind=np.int64)
    if ids.size == 0 or ids.min() < 0 or ids.max() >= n or len(np.unique(ids)) != len(ids):
        raise BadFile(f"{where}: {name} must hold different vertex ids in 0..{n - 1}")
    return ids


# --- FLAME's pickles --------------------------------------------------------------------------------------------


class _Chumpy:
    """Stands for a chumpy object of an old pickle: keeps its state, from which `array_of` takes the numbers."""

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"x": state})


def _reconstructor(cls: type, base: type, state: Any) -> Any:
    """`copyreg._reconstructor` for plain objects of the admitted classes only."""
    return cls.__new__(cls)


_NUMPY = {
    ("multiarray", "_reconstruct"): np.core.multiarray._reconstruct,
    ("multiarray", "scalar"): np.core.multiarray.scalar,
    ("", "ndarray"): np.ndarray,
    ("", "dtype"): np.dtype,
}
_SPARSE = ("csc_matrix", "csr_matrix", "coo_matrix")
_PLAIN = {"set": set, "frozenset": frozenset, "slice": slice, "bytearray": bytearray, "complex": complex}


class _NumbersOnly(pickle.Unpickler):
    """Admits numpy arrays, scipy's sparse matrices and plain containers; nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        tail = module.removeprefix("numpy").removeprefix(".core").removeprefix("._core").removeprefix(".")
        if module.split(".")[0] == "numpy" and (tail, name) in _NUMPY:
            return _NUMPY[tail, name]
        if module.split(".")[:2] == ["scipy", "sparse"] and name in _SPARSE:
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if module.split(".")[0] == "chumpy":
            return _Chumpy
        if module in ("builtins", "__builtin__") and (name == "object" or name in _PLAIN):
            return _PLAIN.get(name, object)
        if (module, name) == ("_codecs", "encode"):
            import _codecs

            return _codecs.encode
        if module in ("copyreg", "copy_reg") and name == "_reconstructor":
            return _reconstructor
        if (module, name) == ("collections", "OrderedDict"):
            from collections import OrderedDict

            return OrderedDict
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is neither numbers nor a container")


def array_of(value: Any) -> Any:
    """Return the numbers behind a chumpy object (its `x`, or a selection of another's), anything else unchanged."""
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
    try:
        tree = _NumbersOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(tree, dict):
            raise pickle.UnpicklingError(f"it holds a {type(tree).__name__}, not a dictionary")
        return {str(name): array_of(value) for name, value in tree.items()}
    except Exception as error:  # a torn pickle may raise nearly anything
        raise BadFile(f"cannot read {path}: {error}; download it again") from error
