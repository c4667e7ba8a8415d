"""What `hsr synth` writes: clothed synthetic people with exact truth.

    frames.json, images/, masks/, depth/, params.npz, truth.npz, scene.json      one person
    person0/, person1/, ..., scene.json                                          several, in the same images

The folder is one scene, or holds several scenes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..body.base import BodyModel
from ..body.joints import JOINT_NAMES
from ..errors import BadFile, MissingFile
from ..geometry.camera import project
from ..geometry.rigid import inverse
from ..refine.frames import FrameFolder, RefineFrame, read_folder
from ..types import Array, Camera, Frame
from .base import Conventions, ReferencePerson, Sample
from .files import check_name, choose_split, existing_folder, numbers, read_json, tight_box, with_confidence

LAYOUT = "a folder that `hsr synth --out` wrote, or one with several of them"

CONVENTIONS = Conventions(
    name="synthetic",
    title="hsr synth",
    fps=10.0,
    unit="m",
    world_up="-y",
    camera_matrix="world_to_camera",
    pixel_centre="integer",
    body_model="ehm",
    gender="neutral",
    splits=("all",),
    protocols=("synthetic-ehm", "limb-12"),
    reference="exact: the pictures were drawn from it",
    licence="yours: made by this package from the open body (CC0)",
    source="hsr synth --out DIR",
)


class Synthetic:
    """Scenes of `hsr synth`. The frame rate of a scene is that of its stamps; `conventions.fps` is its default."""

    conventions = CONVENTIONS

    def __init__(self, folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> None:
        self.split = choose_split(CONVENTIONS, split)
        root = existing_folder(folder, LAYOUT)
        scenes = [root] if _is_scene(root) else [path for path in sorted(root.iterdir()) if _is_scene(path)]
        if not scenes:
            raise MissingFile(f"{root} holds no scene (no frames.json, no person0/frames.json); wanted: {LAYOUT}")
        self._scenes = {path.resolve().name: path for path in scenes}
        self.notes: tuple[str, ...] = ()

    def sequences(self) -> tuple[str, ...]:
        return tuple(self._scenes)

    def open(self, name: str) -> SyntheticSequence:
        """Open a scene.

        Raises:
            ConfigError: No such scene.
            MissingFile: It has no exact parameters, or an image is missing.
            BadFile: Its files do not fit each other, or it was made with another body than this version's.
        """
        check_name(name, self.sequences(), "this folder")
        return SyntheticSequence(name, self._scenes[name], _body())


@cache
def _body() -> BodyModel:
    from ..synth.benchmark import open_body

    return open_body()


def _is_scene(path: Path) -> bool:
    return (path / "frames.json").is_file() or (path / "person0" / "frames.json").is_file()


class SyntheticSequence:
    """One scene."""

    def __init__(self, name: str, path: Path, body: BodyModel) -> None:
        single = (path / "frames.json").is_file()
        numbered = {int(p.name[6:]): p for p in path.glob("person*") if p.name[6:].isdecimal() and p.is_dir()}
        places = [path] if single else [numbered[number] for number in sorted(numbered)]
        self._people = [read_folder(place, body_model=body.model_id) for place in places]
        first = self._people[0]
        for folder in self._people:
            if not folder.has_truth:
                raise MissingFile(f"no {folder.path / 'truth.npz'}: initial estimates alone are no reference")
            if not np.array_equal(folder.stamp_ns, first.stamp_ns) or not np.array_equal(folder.K, first.K):
                raise BadFile(f"{folder.path} has other stamps or another camera than {first.path}")
        self._body, self._camera = body, Camera(first.K, first.image_hw)
        self._T_cam_world = _poses(path / "scene.json", len(first))
        steps = np.diff(first.stamp_ns)
        self.name, self.frame_count, self.skipped = name, len(first), 0
        self.fps = float(1e9 / np.median(steps)) if len(steps) else CONVENTIONS.fps

    def __iter__(self) -> Iterator[Sample]:
        for i in range(self.frame_count):
            if not self._people:
                return
            yield self._sample(i, [folder[i] for folder in self._people])

    def _sample(self, i: int, seen: list[RefineFrame]) -> Sample:
        first = seen[0]
        image = np.rint(first.image * 255).astype(np.uint8)
        frame = Frame(image, first.stamp_ns, "rgb", camera=self._camera, depth_m=first.depth_m, index=i)
        people = tuple(self._person(p, each) for p, each in enumerate(seen))
        T_world_cam = None if self._T_cam_world is None else inverse(self._T_cam_world[i])
        return Sample(frame, people, T_world_cam, first.mask)

    def _person(self, p: int, seen: RefineFrame) -> ReferencePerson:
        posed = self._body.pose_one(seen.truth)  # type: ignore[arg-type]
        height, width = seen.image_hw
        box = tight_box(project(posed.vertices, self._camera))  # type: ignore[arg-type]
        return ReferencePerson(
            id=p,
            joints=posed.joints,
            joint_names=JOINT_NAMES,
            vertices=posed.vertices,
            topology=f"ehm:{self._body.model_id}",
            params=seen.truth,
            keypoints2d=with_confidence(project(posed.joints, self._camera)),
            bbox_xyxy=None if box is None else np.clip(box, 0, [width, height, width, height]),
            valid=bool((seen.mask > 0.5).any()),
        )

    def close(self) -> None:
        self._people: list[FrameFolder] = []


def _poses(path: Path, count: int) -> Array | None:
    """Return T_cam_stage (T, 4, 4), or None where the folder has no scene.json."""
    return numbers(read_json(path, LAYOUT), "T_cam_stage", (count, 4, 4), path) if path.is_file() else None


def create(folder: str | os.PathLike[str], *, split: str = "", body_models: Any = "") -> Synthetic:
    """See `open_dataset`."""
    return Synthetic(folder, split=split, body_models=body_models)
