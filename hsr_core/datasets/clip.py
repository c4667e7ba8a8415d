"""A calibrated clip: one video a camera, and 3D joints of the subject in the world of the cameras.

cameras.json          K, dist, R_cam_world, t_cam_world by name (hsr_core.sources.calibration)
<name>.mp4            one video a camera, all in step
reference_3d.npz      `joints` (T, J, 3) [m] in that world, `names` (J,), `fps`
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..body.joints import JOINT_NAMES, LIMB_12
from ..body.smplx_body import read_npz
from ..errors import BadFile, MissingFile
from ..geometry.camera import project
from ..geometry.rigid import inverse, transformed
from ..sources import open_source
from ..sources.calibration import CalibratedCamera, load_cameras
from ..types import Array, Frame
from .base import Conventions, ReferencePerson, Sample
from .files import check_name, choose_split, need_folder, numbers, tight_box, with_confidence

LAYOUT = "the folder needs cameras.json, videos and reference_3d.npz"

CONVENTIONS = Conventions(
    name="clip",
    title="calibrated clip",
    fps=0.0,
    unit="m",
    world_up="+z",
    camera_matrix="world_to_camera",
    pixel_centre="integer",
    body_model="",
    gender="",
    splits=("all",),
    protocols=("limb-12",),
    reference="as its maker says; triangulated key points are good to 2 to 4 cm",
    licence="as its maker says",
    source="your own recording, or Pose2Sim's balancing trial (BSD-3-Clause)",
)
"""Of clips in general; `Clip.conventions` has the frame rate of this one."""


@dataclass(frozen=True, eq=False)
class ClipReference:
    """The joints of a clip.

    Attributes:
        joints: (T, J, 3) [m], world.
        names: (J,) as in the file. joint_names: The same as ours, and `<name>_reference` where none of ours is meant.
        fps: Frame rate [Hz].
    """

    path: Path
    joints: Array
    names: tuple[str, ...]
    fps: float

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(map(our_name, self.names))

    def limbs(self) -> Array:
        """Return (T, 12, 3) [m], in the order of `LIMB_12`.

        Raises:
            BadFile: One is not among the joints.
        """
        return self.joints[:, self.limb_columns()]

    def limb_columns(self) -> list[int]:
        """Return where the joints of `LIMB_12` are among `joints`; raises as `limbs`."""
        by_name = {our_name(name): i for i, name in enumerate(self.names)}
        wanted = [JOINT_NAMES[j] for j in LIMB_12]
        if missing := [name for name in wanted if name not in by_name]:
            raise BadFile(f"{self.path} has no {', '.join(map(_file_name, missing))}; it has {', '.join(self.names)}")
        return [by_name[name] for name in wanted]


def our_name(name: str) -> str:
    """Return our name of a joint of the file: LBigToe is left_big_toe, Neck is neck_reference."""
    side, rest = {"L": "left", "R": "right"}.get(name[:1], ""), name[1:]
    if side and rest[:1].isupper():
        return side + re.sub("([A-Z])", r"_\1", rest).lower()
    return "nose" if name == "Nose" else f"{name.lower()}_reference"


def _file_name(name: str) -> str:
    side, *words = name.split("_")
    return side[0].upper() + "".join(map(str.capitalize, words))


def read_reference(path: Path) -> ClipReference:
    """Read `reference_3d.npz`.

    Raises:
        MissingFile: No such file.
        BadFile: It is torn, or an array is missing or of another shape.
    """
    if not path.is_file():
        raise MissingFile(f"no 3D reference {path}; {LAYOUT}")
    data = read_npz(path)
    if np.ndim(data.get("names")) != 1:
        raise BadFile(f"{path} is not a 3D reference: it has no list `names`; it holds {', '.join(data) or 'nothing'}")
    names = tuple(map(str, data["names"]))
    fps = float(numbers(data, "fps", (), path)) if "fps" in data else 0.0
    if not 0 <= fps < 1e5:
        raise BadFile(f"{path}: fps must be a frame rate, not {fps:g}")
    return ClipReference(path, numbers(data, "joints", (None, len(names), 3), path), names, fps)


def read_clip_cameras(folder: Path) -> dict[str, CalibratedCamera]:
    """Return the cameras; those without a size are taken to be calibrated for the largest of the videos.

    Raises:
        MissingFile: No cameras.json, or no video of a camera.
        BadFile: A camera without a pose.
    """
    cameras = load_cameras(folder / "cameras.json")
    sizes = []
    for name, camera in cameras.items():
        video = folder / f"{name}.mp4"
        if camera.R_cam_world is None or camera.t_cam_world is None:
            raise BadFile(f"camera {name} of {folder} has no R_cam_world and t_cam_world")
        if not video.is_file():
            raise MissingFile(f"no video {video} for camera {name}")
        with open_source(str(video)) as source:
            sizes.append(source.image_hw)
    return {name: replace(camera, size_hw=camera.size_hw or max(sizes)) for name, camera in cameras.items()}


class Clip:
    """A calibrated clip; each camera is a sequence.

    Attributes:
        reference: What is known of the subject.
    """

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        self._root = need_folder(folder, ("cameras.json", "reference_3d.npz"), LAYOUT)
        self.reference = read_reference(self._root / "reference_3d.npz")
        self._cameras = read_clip_cameras(self._root)
        self.conventions = replace(CONVENTIONS, fps=self.reference.fps)
        self.notes = ("joints only: no vertices, no PVE",)

    def sequences(self) -> tuple[str, ...]:
        return tuple(self._cameras)

    def open(self, name: str) -> ClipSequence:
        """Open the view of a camera.

        Raises:
            ConfigError: No such camera.
            SourceError: Its video cannot be read.
        """
        check_name(name, self.sequences(), "this clip")
        return ClipSequence(name, self._root / f"{name}.mp4", self._cameras[name], self.reference)


class ClipSequence:
    """One camera's view: as many frames as both the video and the reference have."""

    def __init__(self, name: str, video: Path, camera: CalibratedCamera, reference: ClipReference) -> None:
        self.name, self._video, self._camera, self._reference = name, video, camera, reference
        self._T_cam_world = np.eye(4)
        self._T_cam_world[:3, :3], self._T_cam_world[:3, 3] = camera.R_cam_world, camera.t_cam_world  # type: ignore[assignment]
        with open_source(str(video), camera=camera) as source:
            self.fps = source.fps
            counts = [len(reference.joints), *([source.frame_count] if source.frame_count else [])]
        self.frame_count, self.skipped, self._open = min(counts), 0, True

    def __iter__(self) -> Iterator[Sample]:
        T_world_cam = inverse(self._T_cam_world)
        self.skipped, start_ns = 0, None
        with open_source(str(self._video), camera=self._camera) as source:
            for frame in source:
                start_ns = frame.stamp_ns if start_ns is None else start_ns
                # By time once a frame was lost, or all that follow would be a frame behind their reference.
                row = round((frame.stamp_ns - start_ns) * self.fps / 1e9) if source.skipped else frame.index
                if not self._open or row >= len(self._reference.joints):
                    return
                joints = transformed(self._reference.joints[row], self._T_cam_world)
                yield Sample(frame, (self._person(frame, joints),), T_world_cam)
                self.skipped = source.skipped

    def _person(self, frame: Frame, joints: Array) -> ReferencePerson:
        uv = project(joints, frame.camera)  # type: ignore[arg-type]
        return ReferencePerson(
            id=0,
            joints=joints,
            joint_names=self._reference.joint_names,
            keypoints2d=with_confidence(uv),
            bbox_xyxy=tight_box(uv),
            valid=bool(np.isfinite(joints).any()),
        )

    def close(self) -> None:
        self._open = False


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> Clip:
    """See `open_dataset`."""
    return Clip(folder, split=split, body_models=body_models)
