"""EHF: 100 images of one person with SMPL-X meshes aligned to scans.

    01_img.png (or .jpg)   01_align.ply (10,475 vertices [m])   01_2Djnt.json (OpenPose)
    EHF_camera.txt         one camera for all: focal length, principal point; rotation and translation, world to camera

Source:
    Pavlakos et al., Expressive Body Capture: 3D Hands, Face, and Body from a Single Image, CVPR 2019.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..body.licensed import joint_regressor_14
from ..errors import BadFile, MissingFile
from ..geometry.camera import project
from ..geometry.rigid import inverse, transformed
from ..geometry.rotations import rotvec_to_rotmat
from ..types import Array, Frame
from .base import Conventions, ReferencePerson, Sample
from .files import (
    SINGLE_IMAGE_FPS,
    ImageSequence,
    as_numbers,
    camera_from,
    check_name,
    choose_split,
    need_folder,
    read_json,
    tight_box,
)
from .joint_sets import J14, OPENPOSE_25
from .ply import read_vertices

N_VERTICES = 10475
SEQUENCE = "EHF"
LAYOUT = "the folder with 01_img.png, 01_align.ply, ... and EHF_camera.txt of EHF"

CONVENTIONS = Conventions(
    name="ehf",
    title="EHF",
    fps=0.0,
    unit="m",
    world_up="+y",
    camera_matrix="world_to_camera",
    pixel_centre="integer",
    body_model="smplx",
    gender="",
    splits=("test",),
    protocols=("ehf-pve", "ehf-j14"),
    reference="SMPL-X aligned to 4D scans and curated by hand",
    licence="SMPL-X model licence: research only, no redistribution",
    source="https://smpl-x.is.tue.mpg.de",
)

_HEADINGS = {"focal": (1, 2), "principal": (2,), "rotation": (3, 9), "translation": (3,)}
"""Sections of the camera file and how many numbers each may hold."""


class Ehf:
    """EHF. Vertices come with the set; the 14 joints need `SMPLX_to_J14.pkl` among the user's body models."""

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        self._root = need_folder(folder, ("*_align.ply", "EHF_camera.txt"), LAYOUT)
        models = os.fspath(body_models) or os.environ.get("HSR_BODY_MODELS", "")
        self._regressor = joint_regressor_14(models) if models else None
        self.notes = () if self._regressor is not None else ("no joints: no SMPLX_to_J14.pkl among the body models",)

    def sequences(self) -> tuple[str, ...]:
        return (SEQUENCE,)

    def open(self, name: str) -> ImageSequence:
        """Open the images as one sequence; they have nothing to do with each other in time.

        Raises:
            ConfigError: No such sequence.
            MissingFile: A mesh without its image.
            BadFile: The camera file is of another form.
        """
        check_name(name, self.sequences(), "EHF")
        meshes = sorted(self._root.glob("*_align.ply"))
        images = [_image_of(mesh) for mesh in meshes]
        K, T = read_camera(self._root / "EHF_camera.txt")

        def sample(i: int, image: NDArray[np.uint8], stamp_ns: int) -> Sample:
            camera = camera_from(K, image.shape[:2], self._root / "EHF_camera.txt")  # type: ignore[arg-type]
            vertices = read_vertices(meshes[i])
            if len(vertices) != N_VERTICES:
                raise BadFile(f"{meshes[i]} has {len(vertices)} vertices, SMPL-X has {N_VERTICES}")
            vertices = transformed(vertices, T)
            person = ReferencePerson(
                id=0,
                joints=None if self._regressor is None else self._regressor @ vertices,
                joint_names=() if self._regressor is None else J14,
                vertices=vertices.astype(np.float32),
                topology="smplx",
                keypoints2d=_key_points(meshes[i]),
                keypoint_names=OPENPOSE_25,
                bbox_xyxy=tight_box(project(vertices, camera)),
                valid=bool(np.isfinite(vertices).all()),
            )
            return Sample(Frame(image, stamp_ns, "bgr", camera=camera, index=i), (person,), inverse(T))

        return ImageSequence(name, SINGLE_IMAGE_FPS, images, sample)


def _image_of(mesh: Path) -> Path:
    stem = mesh.name.removesuffix("_align.ply")
    found = next((p for p in (mesh.with_name(f"{stem}_img.{kind}") for kind in ("png", "jpg")) if p.is_file()), None)
    if found is None:
        raise MissingFile(f"no {stem}_img.png beside {mesh}; wanted: {LAYOUT}")
    return found


def _key_points(mesh: Path) -> Array | None:
    path = mesh.with_name(mesh.name.replace("_align.ply", "_2Djnt.json"))
    if not path.is_file():
        return None
    found = read_json(path, LAYOUT)
    try:
        people = found["people"]
        flat = people[0]["pose_keypoints_2d"] if people else None
    except (KeyError, TypeError) as error:
        raise BadFile(f"{path} is no output of OpenPose: it lacks {error}") from error
    if flat is None:
        return None
    return as_numbers(flat, "pose_keypoints_2d", (3 * len(OPENPOSE_25),), path).reshape(-1, 3)


def read_camera(path: Path) -> tuple[Array, Array]:
    """Return K (3, 3) and T_cam_world (4, 4) of EHF's camera file.

    It is prose with headings; under each the numbers follow, all of them with a decimal point.

    Raises:
        MissingFile: No such file.
        BadFile: A heading is missing or has another number of numbers.
    """
    if not path.is_file():
        raise MissingFile(f"no {path}; wanted: {LAYOUT}")
    text = path.read_text(errors="replace")
    starts = {name: match.start() for name in _HEADINGS if (match := re.search(name, text, re.IGNORECASE))}
    if missing := [name for name in _HEADINGS if name not in starts]:
        raise BadFile(f"{path} has no heading {' and no '.join(missing)}; take the file as downloaded")
    ends = sorted([*starts.values(), *(m.start() for m in re.finditer("distortion", text, re.IGNORECASE)), len(text)])
    found = {}
    for name, counts in _HEADINGS.items():
        section = text[starts[name] : next(end for end in ends if end > starts[name])]
        values = [float(word) for word in re.findall(r"[-+]?\d+\.\d*(?:[eE][-+]?\d+)?", section)]
        if len(values) not in counts:
            wanted = " or ".join(map(str, counts))
            raise BadFile(f"{path}: under the heading {name!r} there must be {wanted} numbers, not {len(values)}")
        found[name] = np.array(values)
    focal = np.broadcast_to(found["focal"], 2)
    K = np.array([[focal[0], 0, found["principal"][0]], [0, focal[1], found["principal"][1]], [0, 0, 1]])
    T = np.eye(4)
    rotation = found["rotation"]
    T[:3, :3] = rotvec_to_rotmat(rotation) if len(rotation) == 3 else rotation.reshape(3, 3)
    T[:3, 3] = found["translation"]
    return K, T


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> Ehf:
    """See `open_dataset`."""
    return Ehf(folder, split=split, body_models=body_models)
