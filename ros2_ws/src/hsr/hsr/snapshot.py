"""Write one frame with its people into a folder: image, parameters, mesh."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from hsr_core.errors import ConfigError
from hsr_core.types import Array, Frame, FrameResult

from .data_folder import place_in


def snapshot_folder(data_dir: str, name: str, stamp_ns: int) -> Path:
    """Return the folder for a snapshot; `name` "" is replaced by the stamp.

    Raises:
        ConfigError: The name is not a plain file name, or there is one of that name.
    """
    folder = place_in(data_dir, "snapshots", name or f"{stamp_ns}")
    if folder.exists():
        raise ConfigError(f"there is a snapshot {folder.name!r} already: {folder}; choose another name")
    return folder


def save_snapshot(
    folder: Path, frame: Frame, result: FrameResult, meshes: Mapping[int, Array], faces: np.ndarray
) -> Path:
    """Write `image.png`, `people.npz` (no pickle) and `mesh_<track_id>.ply` for each mesh; return the folder.

    Args:
        folder: Is made. In a new folder no file can be a link that leads elsewhere.
        meshes: Vertices by track_id. Shape (V, 3), [m], camera frame.
        faces: Triangles of every mesh. Shape (F, 3), int.
    """
    folder.mkdir(parents=True)
    image = frame.image[..., :3]
    cv2.imwrite(str(folder / "image.png"), image[..., ::-1] if frame.order == "rgb" else image)
    arrays: dict[str, np.ndarray] = {
        "stamp_ns": np.int64(result.stamp_ns),
        "K": result.camera.K,
        "dist": result.camera.dist,
        "track_id": np.array([person.track_id for person in result.people], np.int64),
    }
    for person in result.people:
        values = {**vars(person.params), "joints": person.joints, "keypoints2d": person.keypoints2d}
        arrays |= {f"{person.track_id}/{key}": np.asarray(value) for key, value in values.items()}
    np.savez(folder / "people.npz", **arrays)
    for track_id, vertices in meshes.items():
        _write_ply(folder / f"mesh_{track_id}.ply", vertices, faces)
    return folder


def _write_ply(path: Path, vertices: Array, faces: np.ndarray) -> None:
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    triangles = np.empty(len(faces), np.dtype([("n", "u1"), ("v", "<i4", 3)]))
    triangles["n"], triangles["v"] = 3, faces
    path.write_bytes(header.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + triangles.tobytes())
