"""From the messages of one moment to what the refinement takes: undistorted pixels, masks, depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hsr_msgs.msg import Human, HumanArray
from sensor_msgs.msg import CameraInfo, CompressedImage

from hsr_core.depth import DepthFrame, DepthSelector
from hsr_core.depth.base import same_intrinsics
from hsr_core.depth.compressed import CompressedDepth, depth_from_msg
from hsr_core.depth.decode import RawDepth
from hsr_core.depth.measured import MeasuredDepth
from hsr_core.errors import BadFrame, HsrError, InvalidIntrinsics, ShapeError
from hsr_core.geometry.raster import Topology
from hsr_core.geometry.view import BodyView, FrameView
from hsr_core.mask import MaskFrame, MaskSelector
from hsr_core.mask.base import contested
from hsr_core.mask.topic import RawMask
from hsr_core.refine.frames import RefineFrame
from hsr_core.types import Array, Camera, Frame, HumanParams, IntrinsicsSource, MetricSource

from . import convert
from .cameras import CameraBook
from .notices import Notices
from .pairing import Bundle
from .refine_grid import Grid
from .refine_params import InputSettings
from .stamps import stamp_to_ns
from .stats import Counters

K_TOLERANCE = 0.01
"""People were estimated with the camera's own K when focal length and principal point agree to this share."""
MIN_DEPTH_M, MAX_DEPTH_M = 0.1, 100.0
_SEEN = (Human.NEW, Human.TRACKED)
_Known = tuple[HumanParams, MetricSource]


class NoCameraInfo(BadFrame):
    """People were estimated with a camera info that has not come to this node."""


@dataclass(frozen=True, eq=False)
class PersonFrame:
    """One person in one image, ready for the refinement.

    Attributes:
        frame: Image, mask, depth (None where it is not measured), parameters.
        mask_quality: [0, 1], 0 when the mask was rejected.
        depth_source: Provider of the depth, "none" without. depth_weight: How far it is trusted.
        metric: Something metric is known of the person's distance from the camera.
    """

    track_id: int
    frame: RefineFrame
    mask_quality: float
    depth_source: str
    depth_weight: float
    metric: bool


class FrameMaker:
    """Used by the worker's thread only.

    Args:
        body: Whose parameters the people carry.
        depth, masks: The providers.
        counters: Counts `frames` and, by reason, what could not be used: `bad_people`, `no_mask`, `no_camera_info`,
            `bad_mask`, `no_depth`.
        max_side_px: Longer side of the refined images at most; 0 = as they come.

    Attributes:
        extrinsics: Gives T_color_depth (4, 4) for the frames of the two cameras, where depth is to be registered.
    """

    def __init__(
        self,
        body: Any,
        depth: DepthSelector,
        masks: MaskSelector,
        cameras: CameraBook,
        counters: Counters,
        notices: Notices,
        settings: InputSettings,
        max_side_px: int = 0,
    ) -> None:
        self._body, self._depth, self._masks = body, depth, masks
        self._cameras, self._counters, self._notices, self._settings = cameras, counters, notices, settings
        self._topology = Topology(body.faces)
        self._max_side_px = max_side_px
        self._grid: Grid | None = None
        self._given: tuple[tuple, Camera] | None = None
        self._depth_camera: tuple[CameraInfo, Camera | None] | None = None
        self.extrinsics: Callable[[str, str], Array | None] | None = None

    def make(self, bundle: Bundle, depth_info: CameraInfo | None = None) -> tuple[Camera, list[PersonFrame]]:
        """Return the camera of the image (with its distortion) and the people that can be refined in it.

        Raises:
            BadFrame: Image or people cannot be used.
            InvalidIntrinsics: K of the people's message cannot be used.
        """
        frame, people = self._to_frame(bundle), bundle.people
        self._check_people(people, frame)
        camera = self._camera(people, frame, bundle.image.msg.header.frame_id)
        if self._grid is None or self._grid.source is not camera:
            self._grid = Grid(camera, self._max_side_px)
        grid = self._grid
        frame = dataclasses.replace(frame, image=grid.smooth(frame.image), camera=grid.camera)
        bodies, known = self._bodies(people, grid)
        if not bodies:
            return camera, []
        view = FrameView(frame, grid.camera, tuple(bodies))
        self._feed(bundle, grid, depth_info)
        depth, masks = self._depth.depth_for(view), self._masks.masks_for(view)
        if depth is None and self._depth.status:
            self._counters.add("no_depth")
        return camera, self._people(view, depth, masks, known)

    def estimates(self, people: HumanArray) -> dict[int, HumanParams]:
        """Return the people's parameters by track id, without an image; nobody of another body model."""
        if people.model_id != self._body.model_id:
            return {}
        out = {}
        for human in people.humans:
            if human.state in _SEEN:
                try:
                    out[human.track_id] = self._params(human)
                except (HsrError, ValueError) as error:
                    self._left_out(error)
        return out

    def reset(self) -> None:
        """Forget what providers remember of the time before."""
        self._depth.reset()
        self._masks.reset()

    # The image and its camera

    def _to_frame(self, bundle: Bundle) -> Frame:
        msg, settings = bundle.image.msg, self._settings
        if isinstance(msg, CompressedImage):
            frame = convert.compressed_to_frame(msg, frame_id=settings.frame_id)
        else:
            frame = convert.image_to_frame(
                msg, encoding_override=settings.encoding_override, frame_id=settings.frame_id
            )
        return dataclasses.replace(frame, stamp_ns=bundle.image.stamp_ns)

    def _check_people(self, people: HumanArray, frame: Frame) -> None:
        height, width = frame.image_hw
        if (people.image_height, people.image_width) != (height, width):
            raise BadFrame(
                f"people are of a {people.image_width}x{people.image_height} image, this one is {width}x{height}"
            )
        if people.model_id != self._body.model_id:
            raise BadFrame(
                f"people are parameters of {people.model_id!r}, this node's body is {self._body.model_id!r}: "
                "set body_model.path as in the perception node"
            )
        if people.header.frame_id != frame.frame_id:
            raise BadFrame(
                f"people are in frame {people.header.frame_id!r}, the image in {frame.frame_id!r}: people of the "
                "camera frame are needed, and input.frame_id as in the perception node"
            )

    def _camera(self, people: HumanArray, frame: Frame, original: str) -> Camera:
        """Return the camera that people were estimated with: its info, or K as they say it."""
        k = np.array(people.k, np.float64)
        if people.intrinsics_source != IntrinsicsSource.CAMERA_INFO:
            return self._given_camera(people, k, frame)
        camera = self._cameras.find(original, frame.image_hw, frame.frame_id)
        if camera is None:
            raise NoCameraInfo(f"no camera info for frame {original!r}; {self._cameras.note}".rstrip("; "))
        if not np.abs(camera.K - k.reshape(3, 3))[:2].max() <= K_TOLERANCE * camera.K[0, 0]:  # NaN is no agreement
            raise BadFrame(f"people were estimated with other intrinsics (fx {k[0]:.1f}, not {camera.K[0, 0]:.1f})")
        return camera

    def _given_camera(self, people: HumanArray, k: Array, frame: Frame) -> Camera:
        key = (k.tobytes(), people.intrinsics_source, frame.image_hw, frame.frame_id)
        if self._given is None or self._given[0] != key:
            try:
                source = IntrinsicsSource(people.intrinsics_source)
            except ValueError as error:
                raise BadFrame(f"people with intrinsics_source {people.intrinsics_source}") from error
            camera = Camera(k.reshape(3, 3), frame.image_hw, source=source, frame_id=frame.frame_id)
            self._given = key, camera
        return self._given[1]

    # People

    def _bodies(self, people: HumanArray, grid: Grid) -> tuple[list[BodyView], dict[int, _Known]]:
        bodies, known = [], {}
        for human in people.humans:
            if human.state not in _SEEN:
                continue
            try:
                params = self._params(human)
                source = MetricSource(human.metric_source)
                posed = self._body.pose_one(params)
            except (HsrError, ValueError, RuntimeError) as error:
                self._left_out(error)
                continue
            keypoints = np.array(human.keypoints2d, np.float32).reshape(-1, 3)
            keypoints[:, :2] = grid.points(keypoints[:, :2])
            keypoints[~np.isfinite(keypoints).all(axis=1)] = 0
            bodies.append(
                BodyView(human.track_id, posed.vertices, self._topology, grid.camera, posed.joints, keypoints)
            )
            known[human.track_id] = params, source
        return bodies, known

    def _left_out(self, error: Exception) -> None:
        self._counters.add("bad_people")
        self._notices.warn("bad person", f"a person was left out: {error}", every_s=30.0)

    def _params(self, human: Human) -> HumanParams:
        params, body = convert.human_params_from_msg(human), self._body
        for name in ("betas", "expression", "head_betas", "head_expression"):
            wanted, found = getattr(body, f"n_{name}"), len(getattr(params, name))
            if found not in (0, wanted):
                raise ShapeError(f"{name} has {found} numbers, the body {wanted}")
            if not found and wanted:
                params = dataclasses.replace(params, **{name: np.zeros(wanted, np.float32)})
        if not params.finite():
            raise ShapeError("parameters are not finite")
        if not MIN_DEPTH_M <= params.transl[2] <= MAX_DEPTH_M:
            raise ShapeError(f"the person is at z = {params.transl[2]:g} m")
        return params

    def _people(
        self, view: FrameView, depth: DepthFrame | None, masks: list[MaskFrame], known: dict[int, _Known]
    ) -> list[PersonFrame]:
        measured = depth is not None and depth.measured
        self._counters.add("no_mask", len(known) - len(masks))
        image = np.multiply(view.rgb, np.float32(1 / 255), dtype=np.float32)
        people = []
        for mask in masks:
            params, incoming = known[mask.track_id]
            if mask.reason:
                self._counters.add("bad_mask")
                self._notices.warn(("mask", mask.provider), f"mask rejected: {mask.reason}", every_s=60.0)
            frame = RefineFrame(
                image,
                np.nan_to_num(mask.prob),
                depth.reliable(mask.sure) if measured else None,
                view.camera.K,
                params,
                view.stamp_ns,
                contested(masks),
                traits=mask.traits,
            )
            source, weight = (depth.provider, depth.weight) if measured else ("none", 1.0)
            metric = measured or incoming != MetricSource.NONE
            people.append(PersonFrame(mask.track_id, frame, mask.quality, source, weight, metric))
        self._counters.add("frames", len(people))
        return people

    # Depth and masks of topics

    def _feed(self, bundle: Bundle, grid: Grid, info: CameraInfo | None) -> None:
        depth, mask = self._depth.provider("topic"), self._masks.provider("topic")
        if depth is not None and bundle.depth is not None:
            self._feed_depth(depth, bundle, grid, self._depth_camera_of(info))
        if mask is not None and bundle.mask is not None:
            msg = bundle.mask
            data, hw, step, big = grid.pick_message(msg)
            mask.put(RawMask(data, hw, step, msg.encoding, stamp_to_ns(msg.header.stamp), big))

    def _feed_depth(self, depth: MeasuredDepth, bundle: Bundle, grid: Grid, camera: Camera | None) -> None:
        msg = bundle.depth
        try:
            raw = depth_from_msg(msg)
            if isinstance(raw, CompressedDepth):
                raw = raw.decoded()
        except BadFrame as error:
            self._notices.warn("bad depth", f"depth image dropped: {error}", every_s=30.0)
            return
        # Depth of another camera is registered onto the undistorted image: it has nothing to be straightened of.
        here = None if camera is None else _at_size(camera, grid.source.image_hw)
        own = camera is None or (here is not None and same_intrinsics(here.K, grid.source.K))
        resized = own and camera is not None and raw.hw != grid.source.image_hw
        data, hw, step, big = grid.pick(
            raw.data, raw.hw, raw.step, raw.encoding, raw.big_endian, straighten=own, resized=resized
        )
        if camera is not None:
            depth.set_camera(here.scaled(hw) if own or camera.image_hw == grid.source.image_hw else camera)
        frame_id, color_id = raw.frame_id, bundle.image.msg.header.frame_id
        if frame_id == color_id:
            frame_id = grid.camera.frame_id
        elif self.extrinsics is not None:
            T_color_depth = self.extrinsics(color_id, frame_id)
            if T_color_depth is not None:
                depth.set_extrinsics(T_color_depth)
        depth.put(RawDepth(data, hw, step, raw.encoding, frame_id, raw.stamp_ns, big))

    def _depth_camera_of(self, info: CameraInfo | None) -> Camera | None:
        if info is None:
            return None
        if self._depth_camera is None or self._depth_camera[0] is not info:
            try:
                camera = convert.camera_from_info(info)
            except InvalidIntrinsics as error:
                self._notices.warn(("depth info", str(error)), f"depth camera info refused: {error}", every_s=30.0)
                camera = None
            self._depth_camera = info, camera
        return self._depth_camera[1]


def _at_size(camera: Camera, image_hw: tuple[int, int]) -> Camera | None:
    """Return the camera for the same picture at another size; None when it cannot be the same."""
    try:
        return camera.scaled(image_hw)
    except InvalidIntrinsics:
        return None
