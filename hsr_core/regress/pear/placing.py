"""Two ways from crops to people in metres: by steps on the host around the network, or in one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np

from ...config import Settings
from ...geometry.camera import apply_affine, fit_translation, invert_affine, ray_rotation, undistort_points
from ...geometry.rotations import rotmat_to_rotvec
from ...runtime.base import Runtime
from ...types import Array, Camera, Frame, HumanParams
from ..crop import cut_rgb
from .camera import N_FITTED, Crop, pelvis_translation, project_virtual, virtual_translation
from .decode import Decoded
from .network import IMAGE_PX
from .params import ParamsMaker
from .people_graph import MAX_FRAME_BYTES, lens_grid, people_inputs

Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Placed:
    """One person in the camera's frame.

    Attributes:
        params: With `transl` [m].
        uv: (55, 2) [px] the joints' pixels as the network sees them, in the image as it came.
        distance_m: Depth of the pelvis.
        vertices: (V, 3) [m] of `params`, where they were made.
    """

    params: HumanParams
    uv: Array
    distance_m: float
    vertices: Array | None = None


class Placer(Protocol):
    """Runs the network on the crops of a frame, then places people; in two steps: not every answer is a person."""

    runtime: Runtime

    def run(self, frame: Frame, camera: Camera, crops: Sequence[Crop]) -> list[Decoded]:
        """Return the network's answers in one batch, without the batch axis; valid until the next call."""
        ...

    def place(self, index: int, out: Decoded, camera: Camera, crop: Crop) -> Placed:
        """Return the person of a legal answer to the last `run`, the one at `index`."""
        ...

    def configure(self, settings: Settings) -> None:
        """Take live settings."""
        ...


class OnHost:
    """Cut with OpenCV, regress, pose the skeleton and place it in numpy: what suits a CPU.

    Args:
        runtime: Of the parameters graph.
        body: To pose.
        maker: For the body.
        timed: Measures the stages crop, network and lift (to metres).
    """

    def __init__(self, runtime: Runtime, body: Any, maker: ParamsMaker, settings: Settings, timed: Timed) -> None:
        self.runtime, self._body, self._maker, self._settings, self._timed = runtime, body, maker, settings, timed

    def configure(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, frame: Frame, camera: Camera, crops: Sequence[Crop]) -> list[Decoded]:
        with self._timed("crop"):
            pixels = np.stack([cut_rgb(frame, crop.A_crop_img, IMAGE_PX) for crop in crops])
        with self._timed("network"):
            answer = self.runtime({"pixels": pixels})
        return [Decoded(**{name: answer[name][i] for name in Decoded._fields}) for i in range(len(crops))]

    def place(self, index: int, out: Decoded, camera: Camera, crop: Crop) -> Placed:
        with self._timed("lift"):
            return self._place(out, camera, crop)

    def _place(self, out: Decoded, camera: Camera, crop: Crop) -> Placed:
        params = self._maker.make(out)
        joints = self._body.pose_one(params, vertices=False).joints.astype(np.float64)
        t_virtual = virtual_translation(out.camera)
        uv = apply_affine(invert_affine(crop.A_crop_img), project_virtual(joints, t_virtual))
        straight = undistort_points(uv, camera)
        if self._settings.pear.ray_rotation:
            R_ray = ray_rotation(straight[0], camera.K)
            joints = (joints - joints[0]) @ R_ray.T + joints[0]
            turned = rotmat_to_rotvec(R_ray @ out.rotmats[0].astype(np.float64))
            params = replace(params, global_orient=turned.astype(np.float32))
        transl = fit_translation(joints[:N_FITTED], straight[:N_FITTED], camera.K)
        if transl is None or (joints[:N_FITTED] + transl)[:, 2].min() <= 0:
            transl = pelvis_translation(joints[0], straight[0], t_virtual, crop.scale, camera.K)
        return Placed(replace(params, transl=np.float32(transl)), uv, float(joints[0, 2] + transl[2]))


class InGraph:
    """The whole frame goes in, the person's vertices come out: what suits a GPU.

    Args:
        runtime: Of the people graph.
        maker: For the body.
        timed: Measures the stages network (with the crop and the body in it) and lift.
    """

    def __init__(self, runtime: Runtime, maker: ParamsMaker, settings: Settings, timed: Timed) -> None:
        self.runtime, self._maker, self._settings, self._timed = runtime, maker, settings, timed
        self._seen: tuple[Camera | None, tuple[int, int]] = (None, (0, 0))
        self._camera: Camera
        self._rays: Array
        self._answer: Mapping[str, Array] = {}
        self._A_frame_img = _SAME

    def configure(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, frame: Frame, camera: Camera, crops: Sequence[Crop]) -> list[Decoded]:
        with self._timed("network"):
            frame = self._with_room(frame)
            if self._seen != (camera, frame.image_hw):
                self._seen, self._camera = (camera, frame.image_hw), camera.scaled(frame.image_hw)
                self._rays = lens_grid(self._camera)
            A = np.stack([_after(self._A_frame_img, invert_affine(crop.A_crop_img)) for crop in crops])
            turn = self._settings.pear.ray_rotation
            inputs = people_inputs(frame, self._camera, A, self._rays, ray_rotation=turn)
            if self._maker.given_shape:
                inputs |= {"own_betas": self._maker.own_betas, "own_head_betas": self._maker.own_head_betas}
            self._answer = self.runtime(inputs)
        return [Decoded(**{name: self._answer[name][i] for name in Decoded._fields}) for i in range(len(crops))]

    def place(self, index: int, out: Decoded, camera: Camera, crop: Crop) -> Placed:
        with self._timed("lift"):
            answer = {name: self._answer[name][index] for name in ("transl", "uv", "joints", "vertices")}
            params = replace(self._maker.make(out), transl=answer["transl"].copy())
            uv = apply_affine(invert_affine(self._A_frame_img), answer["uv"])
            return Placed(params, uv, float(answer["joints"][0, 2]), answer["vertices"].copy())

    def _with_room(self, frame: Frame) -> Frame:
        """Return the frame, shrunk where the graph has no room for it, and set the affine map to it."""
        self._A_frame_img = _SAME
        if frame.image.nbytes <= MAX_FRAME_BYTES:
            return frame
        shrink = (MAX_FRAME_BYTES / frame.image.nbytes) ** 0.5
        hw = tuple(int(size * shrink) for size in frame.image_hw)
        scale = np.array(hw[::-1]) / frame.image_hw[::-1]
        self._A_frame_img = np.column_stack([np.diag(scale), (scale - 1) / 2])  # edges stay edges
        return replace(frame, image=cv2.resize(frame.image, hw[::-1], interpolation=cv2.INTER_AREA))


_SAME = np.eye(2, 3)


def _after(outer: Array, inner: Array) -> Array:
    """Return the affine map (2, 3) that applies `inner`, then `outer`."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], apply_affine(outer, inner[:, 2])])
