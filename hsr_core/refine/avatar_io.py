"""Avatars in files: npz with all that is needed to go on, and the PLY that viewers of Gaussian splatting open."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..body.ehm import EhmBody
from ..errors import BadFile, ConfigError, HsrError, MissingFile, ShapeError
from ..paths import written_whole
from ..types import Array, HumanParams
from .avatar import Avatar, AvatarSettings, FreeAvatar, build_avatar, rotmat_to_quat
from .binding import Binding, binding_by_name
from .sh import rotate_bands
from .skin import SHAPE_FIELDS, CanonicalBody, canonical_rotmats

FORMAT = 1
"""Version of the npz layout."""

PLY_REST = 45
"""Coefficients above degree 0 in a PLY: degree 3, which some viewers expect without looking."""

ON_BODY_M = 0.10
"""A file half of whose Gaussians are farther from the skin belongs to another body or another frame."""

_HEADER_LIMIT = 64 << 10
_PLY_TYPES = {
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "char": "i1", "int8": "i1", "uchar": "u1",
    "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2", "int": "<i4", "int32": "<i4",
    "uint": "<u4", "uint32": "<u4",
}  # fmt: skip

PathLike = str | os.PathLike[str]


@contextmanager
def _replacing(path: PathLike) -> Iterator[BinaryIO]:
    """Write a file whole, and say which folder is missing."""
    try:
        with written_whole(Path(path)) as file:
            yield file
    except FileNotFoundError as error:
        raise MissingFile(f"the folder of {path} does not exist; make it first") from error


# --- npz ----------------------------------------------------------------------------------------------------------


def save_avatar(avatar: Avatar, path: PathLike) -> None:
    """Write an avatar with its body's id and shape, its anchors and its binding.

    Raises:
        MissingFile: The folder does not exist.
    """
    arrays: dict[str, Any] = {
        "format": np.array(FORMAT),
        "binding": np.array(avatar.binding.name),
        "model_id": np.array(avatar.canonical.model_id),
        "pose_offsets": np.array(avatar.canonical.posedirs is not None),
        **{f"body_{name}": np.asarray(getattr(avatar.canonical.params, name)) for name in SHAPE_FIELDS},
        **{f"p_{name}": value.detach().cpu().numpy() for name, value in avatar.named_parameters()},
    }
    if isinstance(avatar, FreeAvatar):
        arrays |= {"anchors": avatar.anchors.cpu().numpy(), "asked": avatar.asked.cpu().numpy()}
    with _replacing(path) as file:
        np.savez(file, **arrays)


def load_avatar(path: PathLike, body: EhmBody) -> Avatar:
    """Read what `save_avatar` wrote, on the CPU.

    Args:
        body: The model that the avatar was made on.

    Raises:
        MissingFile: No such file.
        BadFile: Damaged, of another format, or of another body model.
    """
    arrays = _read_npz(Path(path))
    try:
        if arrays["format"].item() != FORMAT:
            raise BadFile(f"{path} has avatar format {arrays['format']}, this version reads {FORMAT}")
        model_id = str(arrays["model_id"])
        if model_id != body.model_id:
            raise BadFile(f"{path} is an avatar of body {model_id}, the body in use is {body.model_id}")
        params = replace(HumanParams(), **{name: arrays[f"body_{name}"] for name in SHAPE_FIELDS})
        canonical = CanonicalBody.from_body(body, params, use_pose_offsets=bool(arrays["pose_offsets"]))
        binding = binding_by_name(str(arrays["binding"]))
        sh_degree = _degree(arrays["p_shN"])
        if binding.on_faces:
            avatar: Avatar = build_avatar(canonical, AvatarSettings(binding=binding.name, sh_degree=sh_degree))
        else:
            anchors = _vertex_numbers("anchors", arrays["anchors"], canonical)
            avatar = _free(canonical, binding, anchors, len(arrays["p_means"]), sh_degree)
            avatar.asked = _vertex_numbers("asked", arrays["asked"], canonical)
        _fill(avatar, arrays)
    except KeyError as error:
        raise BadFile(f"{path} is not an avatar: it has no {error.args[0]}") from error
    except BadFile:
        raise
    except (HsrError, ValueError, TypeError, IndexError) as error:
        raise BadFile(f"{path} is not an avatar of this version: {error}") from error
    return avatar


def _vertex_numbers(name: str, value: Array, canonical: CanonicalBody) -> Tensor:
    n = canonical.n_vertices
    if value.ndim != 1 or value.dtype.kind not in "iu" or (value.size and not 0 <= value.min() <= value.max() < n):
        raise ShapeError(f"{name} must be vertex numbers, integers in 0..{n - 1}")
    return torch.as_tensor(value.astype(np.int64))


def _free(canonical: CanonicalBody, binding: Binding, anchors: Tensor, n: int, sh_degree: int) -> FreeAvatar:
    zero = torch.zeros(n, 3)
    return FreeAvatar(
        canonical,
        binding,
        means=zero,
        quats_wxyz=torch.zeros(n, 4),
        log_scales=zero.clone(),
        colors=zero,
        anchors=anchors,
        sh_degree=sh_degree,
    )


def _degree(shN: Array) -> int:
    if shN.ndim != 3 or shN.shape[1] not in (0, 3):
        raise ShapeError(f"shN must be (N, 0 or 3, 3), not {shN.shape}")
    return 1 if shN.shape[1] else 0


@torch.no_grad()
def _fill(avatar: Avatar, arrays: dict[str, Array]) -> None:
    for name, parameter in avatar.named_parameters():
        value = arrays[f"p_{name}"]
        if value.shape != tuple(parameter.shape) or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise ShapeError(f"{name} must be {tuple(parameter.shape)} finite numbers, not {value.dtype} {value.shape}")
        parameter.copy_(torch.as_tensor(value))


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except FileNotFoundError as error:
        raise MissingFile(f"there is no avatar at {path}") from error
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(f"{path} is damaged or not an npz ({error})") from error


# --- PLY ----------------------------------------------------------------------------------------------------------


def write_ply(avatar: Avatar, path: PathLike, posed: tuple[Tensor, Tensor] | None = None) -> None:
    """Write the standard file of 3D Gaussian splatting, binary little endian.

    Args:
        posed: rotmats (J, 3, 3) and transl (3,): write that pose, in the camera frame (x right, y down, z forward).
            None: the canonical pose, in the body's frame (x left, y up, z forward), without learnt weights.

    Raises:
        MissingFile: The folder does not exist.
    """
    with torch.no_grad():
        columns = _canonical_columns(avatar) if posed is None else _posed_columns(avatar, *posed)
    means, normals, sh0, rest, opacity, log_scales, quats = (c.detach().cpu().numpy() for c in columns)
    n = len(means)
    wide = np.zeros((n, 3, PLY_REST // 3), np.float32)
    wide[:, :, : rest.shape[1]] = rest.transpose(0, 2, 1)  # colour by colour
    table = np.concatenate(
        [means, normals, sh0[:, 0], wide.reshape(n, -1), opacity[:, None], log_scales, quats], axis=1
    ).astype("<f4")
    pose = "canonical" if posed is None else "posed"
    header = ["ply", "format binary_little_endian 1.0", f"comment {pose} avatar of {avatar.canonical.model_id}"]
    header += [f"element vertex {n}", *(f"property float {name}" for name in _ply_names()), "end_header", ""]
    with _replacing(path) as file:
        file.write("\n".join(header).encode())
        file.write(table.tobytes())


def _ply_names() -> list[str]:
    names = [
        "x",
        "y",
        "z",
        "nx",
        "ny",
        "nz",
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(PLY_REST)),
    ]
    return [*names, "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]


Columns = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Means, normals, sh0, higher bands in the file's frame, opacity logits, log scales, quaternions wxyz."""


def _canonical_columns(avatar: Avatar) -> Columns:
    if not isinstance(avatar, FreeAvatar):
        return _posed_columns(avatar, canonical_rotmats().to(avatar.sh0), avatar.sh0.new_zeros(3))
    bands = rotate_bands(avatar.shN, avatar.rotations()) if avatar.sh_degree else avatar.shN
    quats = torch.nn.functional.normalize(avatar.quats_wxyz, dim=1)
    return avatar.means, avatar.anchor_normals, avatar.sh0, bands, avatar.opacity_logits, avatar.log_scales, quats


def _posed_columns(avatar: Avatar, rotmats: Tensor, transl: Tensor) -> Columns:
    gaussians = avatar.pose(rotmats[None], transl[None])
    log_scales, quats = principal_axes(gaussians.covariances[0])
    bands = avatar.shN
    if avatar.sh_degree:
        u, _, vh = torch.linalg.svd(avatar.frames(rotmats[None])[0])  # skinning shears a little: nearest rotation
        bands = rotate_bands(bands, u @ vh)
    normals = avatar.posed_normals(rotmats[None])[0]
    return gaussians.means[0], normals, avatar.sh0, bands, avatar.opacity_logits, log_scales, quats


def principal_axes(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Return log scales (N, 3) and quaternions wxyz (N, 4) of covariances (N, 3, 3)."""
    variances, axes = torch.linalg.eigh(covariances)
    axes = torch.cat([axes[..., :2], axes[..., 2:] * torch.linalg.det(axes)[:, None, None].sign()], dim=-1)
    return 0.5 * variances.clamp_min(1e-12).log(), rotmat_to_quat(axes)


def read_ply(path: PathLike, canonical: CanonicalBody, binding: str = "camel") -> FreeAvatar:
    """Read a canonical avatar from a PLY; anchors are the nearest vertices.

    Args:
        canonical: The body that it was made on: the file holds neither shape nor anchors.
        binding: One with free Gaussians.

    Raises:
        MissingFile: No such file.
        BadFile: Damaged, not of Gaussians, posed, of another body, or with colours of a degree above 1.
        ConfigError: The binding has no free Gaussians.
    """
    bound = binding_by_name(binding)
    if bound.on_faces:
        raise ConfigError(f"a PLY holds free Gaussians, binding {binding} has none")
    path = Path(path)
    comments, columns = _read_ply_table(path)
    for comment in comments:
        if comment.endswith(f" of {canonical.model_id}") or " avatar of " not in comment:
            continue
        raise BadFile(f"{path} is a {comment}, the body in use is {canonical.model_id}")
    if any(comment.startswith("posed avatar") for comment in comments):
        raise BadFile(f"{path} holds a posed avatar; only a canonical one can be animated again")
    means = _stack(columns, path, "xyz")
    quats = _stack(columns, path, [f"rot_{i}" for i in range(4)])
    length = quats.norm(dim=1, keepdim=True)
    if len(means) == 0 or length.min() < 1e-6:
        raise BadFile(f"{path} has no Gaussians, or rotations of no length")
    rest = _bands(columns, path)
    avatar = _free(canonical, bound, torch.zeros(len(means), dtype=torch.int64), len(means), 1 if rest.any() else 0)
    with torch.no_grad():
        avatar.means.copy_(means)
        avatar.quats_wxyz.copy_(quats / length)
        avatar.log_scales.copy_(_stack(columns, path, [f"scale_{i}" for i in range(3)]))
        avatar.opacity_logits.copy_(_stack(columns, path, ["opacity"])[:, 0])
        avatar.sh0.copy_(_stack(columns, path, [f"f_dc_{i}" for i in range(3)])[:, None])
        if avatar.sh_degree:
            avatar.shN.copy_(rotate_bands(rest, avatar.rotations().transpose(1, 2)))
    distance, nearest = avatar.vertex_index().nearest(avatar.means)
    if distance.median() > ON_BODY_M:
        raise BadFile(f"{path} does not lie on this body: half of it is over {ON_BODY_M * 100:.0f} cm from the skin")
    avatar.set_anchors(nearest)
    avatar.asked = nearest.unique()
    return avatar


def _stack(columns: dict[str, Array], path: Path, names: Sequence[str]) -> Tensor:
    missing = [name for name in names if name not in columns]
    if missing:
        raise BadFile(f"{path} is a PLY without {', '.join(missing)}: not one of Gaussians")
    out = torch.as_tensor(np.stack([columns[name] for name in names], axis=1).astype(np.float32))
    if not out.isfinite().all():
        raise BadFile(f"{path} has values of {', '.join(names)} that are not finite")
    return out


def _bands(columns: dict[str, Array], path: Path) -> Tensor:
    """Return the bands of degree 1 in the file's frame, (N, 3, 3)."""
    count = sum(name.startswith("f_rest_") for name in columns)
    if count not in (0, 9, 24, PLY_REST):
        raise BadFile(f"{path} has {count} f_rest columns, spherical harmonics have 0, 9, 24 or {PLY_REST}")
    if count == 0:
        return torch.zeros(len(columns["x"]), 3, 3)
    rest = _stack(columns, path, [f"f_rest_{i}" for i in range(count)]).unflatten(1, (3, -1)).transpose(1, 2)
    if rest[:, 3:].any():
        raise BadFile(f"{path} has colours of degree above 1; write it again with degree 1")
    return rest[:, :3].contiguous()


def _read_ply_table(path: Path) -> tuple[list[str], dict[str, Array]]:
    """Return the comments and the columns of the vertices of a binary little-endian PLY."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f"there is no PLY at {path}") from error
    end = data.find(b"end_header\n", 0, _HEADER_LIMIT)
    if not data.startswith(b"ply\n") or end < 0:
        raise BadFile(f"{path} is not a PLY, or its header is cut off")
    lines = data[:end].decode("ascii", "replace").splitlines()[1:]
    words = [line.split() for line in lines if line.split()]
    if ["format", "binary_little_endian", "1.0"] not in words:
        raise BadFile(f"{path} must be a binary little-endian PLY, as Gaussian splatting files are")
    elements = [word for word in words if word[0] == "element"]
    if len(elements) != 1 or elements[0][1:2] != ["vertex"] or not elements[0][-1].isdigit():
        raise BadFile(f"{path} must have one element, vertex: a PLY of Gaussians has no faces")
    count = int(elements[0][-1])
    properties = [word[1:] for word in words if word[0] == "property"]
    if any(len(p) != 2 or p[0] not in _PLY_TYPES for p in properties):
        raise BadFile(f"{path} has properties that are no plain numbers")
    try:
        dtype = np.dtype([(name, _PLY_TYPES[kind]) for kind, name in properties])
    except ValueError as error:
        raise BadFile(f"{path} names a property twice ({error})") from error
    body = data[end + len(b"end_header\n") :]
    if len(body) != count * dtype.itemsize:
        raise BadFile(f"{path} should hold {count} rows of {dtype.itemsize} bytes and has {len(body)} bytes: damaged")
    table = np.frombuffer(body, dtype)
    return [line[len("comment ") :] for line in lines if line.startswith("comment ")], {
        n: table[n] for n in dtype.names
    }
