"""Writes SMPL-X and FLAME files of the true shapes and formats, filled with random numbers of plausible size."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.sparse

from hsr_core.body.joints import PARENTS

V, N = 10475, 5023
N_FACES = 20908
FLAME_PARENTS = (-1, 0, 1, 1, 1)


class Python2Pickler(pickle._Pickler):
    """Protocol 2 with byte strings as Python 2 wrote them: plain `str`, which Python 3 reads as latin1."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2_dumps(value: object) -> bytes:
    out = io.BytesIO()
    Python2Pickler(out, protocol=2).dump(value)
    return out.getvalue()


class chumpy_module:
    """A stand-in `chumpy.ch` for as long as something is pickled."""

    def __enter__(self) -> type:
        Ch = type("Ch", (), {"__module__": "chumpy.ch"})
        package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
        module.Ch = Ch
        sys.modules |= {"chumpy": package, "chumpy.ch": module}
        return Ch

    def __exit__(self, *_: object) -> None:
        for name in ("chumpy", "chumpy.ch"):
            del sys.modules[name]


def rows_summing_to_one(rng: np.random.Generator, rows: int, columns: int, entries: int) -> np.ndarray:
    out = np.zeros((rows, columns))
    for i in range(rows):
        out[i, rng.choice(columns, entries, replace=False)] = rng.uniform(0.1, 1, entries)
    return out / out.sum(axis=1, keepdims=True)


def skinning_weights(rng: np.random.Generator, n: int, joints: int) -> np.ndarray:
    out = np.zeros((n, joints))
    for k in range(4):
        out[np.arange(n), rng.integers(joints, size=n)] += rng.uniform(0.1, 1, n) / (k + 1)
    return out / out.sum(axis=1, keepdims=True)


def smplx_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    kintree = np.array([PARENTS, range(55)], dtype=np.int64)
    kintree[0, 0] = 2**32 - 1
    return {
        "v_template": rng.uniform(-0.9, 0.9, (V, 3)),
        "f": rng.permuted(np.tile(np.arange(V), (3, 2)), axis=1).T[:N_FACES].astype(np.uint32),
        "shapedirs": (rng.normal(size=(V, 3, 400)) * 1e-3).astype(np.float32),
        "posedirs": (rng.normal(size=(V, 3, 486)) * 1e-4).astype(np.float32),
        "J_regressor": rows_summing_to_one(rng, 55, V, 30),
        "kintree_table": kintree,
        "weights": skinning_weights(rng, V, 55),
        "joint2num": np.array({"Pelvis": 0}, dtype=object),
        **landmark_arrays(np.random.default_rng(1)),
    }


def landmark_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The tables of 51 face landmarks and of 17 contour points for each of 79 angles, typed as published."""
    out: dict[str, np.ndarray] = {}
    for prefix, shape in (("lmk", (51,)), ("dynamic_lmk", (79, 17))):
        out[f"{prefix}_faces_idx"] = rng.integers(N_FACES, size=shape).astype(np.uint32)
        out[f"{prefix}_bary_coords"] = rng.dirichlet(np.ones(3), size=shape)
    return out


def j14_array(rng: np.random.Generator) -> np.ndarray:
    """A regressor of 14 joints from the skin, (14, V)."""
    return rows_summing_to_one(rng, 14, V, 25)


def flame_arrays(rng: np.random.Generator) -> dict[str, object]:
    kintree = np.array([FLAME_PARENTS, range(5)], dtype=np.int64)
    kintree[0, 0] = 2**32 - 1
    return {
        "v_template": rng.uniform(-0.2, 0.2, (N, 3)),
        "f": rng.integers(N, size=(9976, 3)).astype(np.uint32),
        "shapedirs": rng.normal(size=(N, 3, 400)) * 1e-3,
        "posedirs": rng.normal(size=(N, 3, 36)) * 1e-4,
        "J_regressor": rows_summing_to_one(rng, 5, N, 20),
        "kintree_table": kintree,
        "weights": skinning_weights(rng, N, 5),
        "bs_style": "lbs",
    }


def flame_pickle(arrays: dict[str, object]) -> bytes:
    """Wrap arrays as the published file does: chumpy objects, and a sparse regressor."""
    with chumpy_module() as Ch:
        wrapped = dict(arrays)
        for name in ("v_template", "shapedirs", "posedirs", "weights"):
            wrapped[name] = Ch()
            wrapped[name].__dict__.update(x=arrays[name], dterms=("x",))
        wrapped["J_regressor"] = scipy.sparse.csc_matrix(arrays["J_regressor"])
        return python2_dumps(wrapped)


def write_models(folder: Path, *, nested: bool = False, seed: int = 0) -> dict[str, object]:
    """Write all six files, flat or in the published subfolders. Returns what is in them."""
    rng = np.random.default_rng(seed)
    smplx_folder = folder / "SMPLX" if nested else folder
    flame_folder = folder / "FLAME" / "FLAME2020" if nested else folder
    masks_folder = folder / "FLAME" if nested else folder
    for place in (smplx_folder, flame_folder, masks_folder):
        place.mkdir(parents=True, exist_ok=True)
    smplx, flame = smplx_arrays(rng), flame_arrays(rng)
    ids = rng.permutation(V)[:N].astype(np.int64)
    neck, boundary = np.sort(rng.permutation(N)[:253]), None
    outside = np.setdiff1d(np.arange(N), neck)
    boundary = np.sort(np.concatenate([neck[:52], rng.permutation(outside)[:62]]))
    lids = rng.normal(size=(2, N, 3)) * 1e-3
    np.savez(smplx_folder / "SMPLX_NEUTRAL_2020.npz", **smplx)
    (flame_folder / "generic_model.pkl").write_bytes(flame_pickle(flame))
    np.save(smplx_folder / "SMPL-X__FLAME_vertex_ids.npy", ids)
    (masks_folder / "FLAME_masks.pkl").write_bytes(python2_dumps({"neck": neck, "boundary": boundary, "face": neck}))
    np.save(masks_folder / "l_eyelid.npy", lids[0])
    np.save(masks_folder / "r_eyelid.npy", lids[1])
    kept = np.union1d(neck, boundary)
    return {"smplx": smplx, "flame": flame, "ids": ids, "kept": kept, "lids": lids}
