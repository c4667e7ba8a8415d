"""PEAR checkpoint files: load them strictly, say what is in them, write random ones of the same format.

A file is a `torch.save` zip with two flat state dicts, `backbone` and `head`. It is only ever read in the way that
cannot run code.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import BadFile, MissingFile
from ...runtime.engine_cache import file_sha256
from . import PUBLISHED
from .network import N_MEAN_POSE, READ_OUTS, SIZES, NetworkSize, PearNetwork

PARTS = ("backbone", "head")
UNUSED = ("head.smplx_joint_decoder.", "head.init_betas", "head.init_cam", "head.init_expression")
"""Keys that the forward pass never reads: a file may lack them."""
MEAN_POSE_SUM = 39.7195
"""Sum of the first 132 numbers of `init_body_pose` in the published file."""
_HEADS = {1280: 16, 1024: 16, 768: 12, 384: 6}
"""Attention heads by backbone width: they leave no trace in a file."""
_SHOWN = 5


def load_network(path: str | Path, *, heads: int = 0, allow_extra: bool = False) -> PearNetwork:
    """Return the network of a checkpoint, float32 on the CPU, in eval mode.

    Args:
        path: Checkpoint file.
        heads: Attention heads of the backbone; 0 = by its width.
        allow_extra: Take a file that has keys this network does not know.

    Raises:
        MissingFile: No such file.
        BadFile: Not a checkpoint, truncated, holding code, of another architecture, incomplete or not finite.
    """
    path = Path(path)
    tensors = _tensors(_read(path), path)
    size = infer_size(tensors, path, heads=heads)
    with torch.device("meta"):
        network = PearNetwork(size)
    expected = network.state_dict()
    _check_keys(tensors, expected, path, allow_extra)
    state = {key: tensors[key] if key in tensors else torch.zeros(value.shape) for key, value in expected.items()}
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise BadFile(f"{path}: {key} holds NaN or infinity; download the file again")
    network.load_state_dict({k: v.to(torch.float32, copy=True) for k, v in state.items()}, assign=True)
    return network.requires_grad_(False)


def infer_size(tensors: Mapping[str, Tensor], path: Path, *, heads: int = 0) -> NetworkSize:
    """Return the sizes that the tensors' shapes tell.

    Raises:
        BadFile: A tensor that tells a size is missing, or the sizes do not fit together.
    """

    def shape(key: str) -> torch.Size:
        if key not in tensors:
            raise BadFile(f"{path}: no {key}: this is not a PEAR checkpoint, or one of another architecture")
        return tensors[key].shape

    position = shape("backbone.pos_embed")
    if len(position) != 3 or position[1] != 193:
        raise BadFile(f"{path}: backbone.pos_embed is {tuple(position)}, not (1, 193, width): another input size")
    width = position[2]
    heads = heads or _HEADS.get(width, width // 64)
    if heads < 1 or width % heads:
        raise BadFile(f"{path}: a width of {width} cannot be shared by {heads} attention heads; set pear.heads")
    layer = "head.transformer.transformer.layers.0"
    return NetworkSize(
        width=width,
        depth=_count(tensors, r"backbone\.blocks\.(\d+)\."),
        heads=heads,
        mlp_width=shape("backbone.blocks.0.mlp.fc1.weight")[0],
        decoder_width=shape("head.transformer.pos_embedding")[-1],
        decoder_depth=_count(tensors, r"head\.transformer\.transformer\.layers\.(\d+)\."),
        decoder_inner=shape(f"{layer}.1.fn.to_q.weight")[0],
        decoder_mlp_width=shape(f"{layer}.2.fn.net.0.weight")[0],
    )


def network_hash(network: PearNetwork) -> str:
    """Return a SHA-256 over names, sizes and values: equal hashes give equal outputs."""
    digest = hashlib.sha256(repr(network.size).encode())
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def check(path: str | Path, *, heads: int = 0) -> dict[str, Any]:
    """Return what a checkpoint holds: hash, top-level keys, dtypes, sizes, and what is unusual about it.

    Raises:
        MissingFile, BadFile: As `load_network`.
    """
    path = Path(path)
    content = _read(path)
    tensors = _tensors(content, path)
    network = load_network(path, heads=heads, allow_extra=True)
    expected = network.state_dict()
    mean = tensors["head.init_body_pose"][0].double()
    dtypes: dict[str, int] = {}
    for value in tensors.values():
        dtypes[str(value.dtype).removeprefix("torch.")] = dtypes.get(str(value.dtype).removeprefix("torch."), 0) + 1
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "top_level": {key: type(value).__name__ for key, value in content.items()},
        "tensors": {part: sum(key.startswith(f"{part}.") for key in tensors) for part in PARTS},
        "values": {part: sum(v.numel() for k, v in tensors.items() if k.startswith(f"{part}.")) for part in PARTS},
        "dtypes": dtypes,
        "size": asdict(network.size),
        "published_size": network.size == SIZES["vith"],
        "unused_missing": sorted(key for key in expected if key not in tensors),
        "unknown": sorted(key for key in tensors if key not in expected),
        "mean_pose_sum": round(float(mean[:N_MEAN_POSE].sum()), 4),
        "mean_pose_published": bool(abs(float(mean[:N_MEAN_POSE].sum()) - MEAN_POSE_SUM) < 1e-3),
        "network_hash": network_hash(network),
    }


def make_test(path: str | Path, size: str = "tiny", *, seed: int = 0) -> None:
    """Write a random checkpoint of the published format, for tests and benchmarks; its people are random too.

    The pose read-out stays near the rest pose and the camera near a whole body in the crop, so that what follows the
    network is exercised with legal numbers.

    Args:
        path: File to write.
        size: `tiny`, `vitb` or `vith` (2.7 GB).
        seed: Of the random numbers.
    """
    torch.manual_seed(seed)
    network = PearNetwork(SIZES[size])
    for name, parameter in network.named_parameters():
        if "pos_emb" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    head = network.head
    for name in READ_OUTS:
        torch.nn.init.normal_(getattr(head, name).weight, std=0.2 / math.sqrt(network.size.decoder_width))
        torch.nn.init.zeros_(getattr(head, name).bias)
    identity = torch.tensor([1.0, 0, 0, 0, 1, 0])
    root = torch.tensor([1.0, 0, 0, 0, -1, 0])  # upright, facing the camera
    head.init_body_pose.copy_(torch.cat([root, identity.repeat(52)])[None])
    with torch.no_grad():
        head.smplx_poses_decoder.bias[N_MEAN_POSE:] = identity.repeat(30)
        head.smplx_scale_decoder.bias[:] = 1.0
        head.cam_decoder.bias[1:] = torch.tensor([-0.35, -0.5])
    state = network.state_dict()
    content: dict[str, Any] = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in PARTS
    }
    torch.save({**content, "global_iter": 0}, path)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFile(f"{path}: no such file; PEAR's weights are {PUBLISHED}")
    if not zipfile.is_zipfile(path):
        raise BadFile(
            f"{path} is not a PyTorch checkpoint, or is cut off ({path.stat().st_size} bytes); download it again"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise BadFile(f"{path} holds more than tensors and is not opened: {_first_line(error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadFile(f"{path} cannot be read: {_first_line(error)}; download it again") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), Mapping) for part in PARTS):
        keys = list(content)[:_SHOWN] if isinstance(content, Mapping) else type(content).__name__
        raise BadFile(f"{path} has no state dicts `backbone` and `head` (it holds {keys}): not a PEAR checkpoint")
    return content


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the state dicts as one, keys prefixed by their part."""
    tensors = {f"{part}.{key}": value for part in PARTS for key, value in content[part].items()}
    wrong = [key for key, value in tensors.items() if not isinstance(value, Tensor) or not value.is_floating_point()]
    if wrong:
        raise BadFile(f"{path}: {wrong[0]} is not a tensor of real numbers: not a PEAR checkpoint")
    return tensors


def _check_keys(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, allow_extra: bool) -> None:
    missing = [key for key in expected if key not in tensors and not key.startswith(UNUSED)]
    if missing:
        raise BadFile(f"{path}: {_some(missing)} missing: the file is incomplete or of another architecture")
    extra = [key for key in tensors if key not in expected]
    if extra and not allow_extra:
        raise BadFile(f"{path}: unknown {_some(extra)}; pear.allow_extra takes the file all the same")
    for key, value in expected.items():
        if key in tensors and tensors[key].shape != value.shape:
            raise BadFile(f"{path}: {key} is {tuple(tensors[key].shape)}, expected {tuple(value.shape)}")


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(found[1]) for found in map(re.compile(pattern).match, tensors) if found), default=-1)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
