"""What every data set offers: frames with what is known of the people in them.

Whatever a set has on its disk, an adapter gives it in this library's terms: camera frame (x right, y down, z forward),
pixel centres at integers, rotation vectors, images as they are. `Conventions` says what the disk had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import ShapeError
from ..types import Array, Frame, HumanParams


@dataclass(frozen=True)
class Conventions:
    """The closed facts of a set: what its figures mean and how its files are written.

    Attributes:
        name: Name in the registry. title: Its published name.
        fps: Frame rate of the reference [Hz]; 0 = single images, or not published: no figures of motion.
        unit: Of positions as the adapter gives them: `m`, or `m_by_body` where the scene's scale is not known and the
            size of the fitted body stands in: no figures of distance.
        world_up: Axis of the world that points up (`+y`, `-y`, `+z`), or `` where there is no world or none is defined.
        camera_matrix: Direction of camera poses on disk: `world_to_camera`, `camera_to_world` or `none`.
        pixel_centre: Of intrinsics and key points on disk: `integer` or `half` (first pixel's centre at 0.5).
        body_model: Of the reference: `smpl`, `smplx`, `ehm`, or `` for joints only.
        gender: Of the reference's body: `gendered`, `neutral`, or ``.
        splits: Names for `open_dataset`; the first is the default.
        protocols: Names of the evaluation protocols that apply to it, the first is the usual one.
        reference: Where the reference comes from, and how good it is, in a few words.
        licence: Of the set, in a few words. source: Where the user gets it.
    """

    name: str
    title: str
    fps: float
    unit: str
    world_up: str
    camera_matrix: str
    pixel_centre: str
    body_model: str
    gender: str
    splits: tuple[str, ...]
    protocols: tuple[str, ...]
    reference: str
    licence: str
    source: str


@dataclass(frozen=True, eq=False)
class ReferencePerson:
    """What is known of one person in one frame; None = not known.

    Attributes:
        id: The same over the sequence.
        joints: (J, 3) [m] camera frame; NaN rows = this joint is not annotated.
        joint_names: Names of `joints`; those of `hsr_core.body.joints` where they mean the same.
        vertices: (V, 3) [m] camera frame.
        topology: Of `vertices` and of the coefficients in `params`: `smpl`, `smplx`, `ehm:<model id>`, `` without both.
        params: Camera frame. Of SMPL the first 21 body joints, the hands are zero. A field that is not known is NaN.
        keypoints2d: (K, 3) u, v [px] and confidence [0, 1], of `keypoint_names`.
        keypoint_names: Names of `keypoints2d`; empty = those of `joints`.
        bbox_xyxy: (4,) [px], half open.
        valid: False: not to be scored (invalid camera, too few key points, occlusion, or another rule of the set).

    Raises:
        ShapeError: An array does not fit its names.
    """

    id: int
    joints: Array | None = None
    joint_names: tuple[str, ...] = ()
    vertices: Array | None = None
    topology: str = ""
    params: HumanParams | None = None
    keypoints2d: Array | None = None
    keypoint_names: tuple[str, ...] = ()
    bbox_xyxy: Array | None = None
    valid: bool = True

    def __post_init__(self) -> None:
        names = self.keypoint_names or self.joint_names
        for name, value, rows in (
            ("joints", self.joints, len(self.joint_names)),
            ("keypoints2d", self.keypoints2d, len(names)),
            ("vertices", self.vertices, None),
        ):
            if value is None:
                continue
            wanted = (value.shape[0] if rows is None and value.ndim else rows, 3)
            if value.shape != wanted:
                raise ShapeError(f"{name} must have shape {wanted}, not {value.shape}")
        if self.bbox_xyxy is not None and self.bbox_xyxy.shape != (4,):
            raise ShapeError(f"bbox_xyxy must have shape (4,), not {self.bbox_xyxy.shape}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame with its truth.

    Attributes:
        frame: Image, camera and stamp.
        people: Everybody of whom something is known, in the order of their ids.
        T_world_cam: (4, 4) pose of the camera, or None where it is not known.
        mask: float32 (H, W) in [0, 1], how much of a pixel is person (of `people[0]` where there is one), or None.
    """

    frame: Frame
    people: tuple[ReferencePerson, ...]
    T_world_cam: Array | None = None
    mask: Array | None = None


class Sequence(Protocol):
    """Frames in the order of time. Every iteration starts at the first frame and gives the same.

    Attributes:
        name: As in `Dataset.sequences`.
        fps: Frame rate of the samples [Hz]; of single images the rate that their stamps stand for.
        frame_count: Number of frames, or None where it is not known before the end.
        skipped: Frames left out by the last iteration so far, because an image was missing or did not decode.
    """

    name: str
    fps: float
    frame_count: int | None
    skipped: int

    def __iter__(self) -> Iterator[Sample]: ...

    def close(self) -> None: ...


class Dataset(Protocol):
    """A folder of sequences.

    Attributes:
        conventions: The set's closed facts.
        split: Which part of it this is, one of `conventions.splits`.
        notes: What cannot be scored with the files that are there, and why; for the report.
    """

    conventions: Conventions
    split: str
    notes: tuple[str, ...]

    def sequences(self) -> tuple[str, ...]: ...

    def open(self, name: str) -> Sequence: ...
