"""Whether a frame is fit for the refinement, and what is measured of it on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..body.base import PosedBody
from ..body.ehm import EhmBody
from ..body.joints import LEFT_HAND, LIMB_12, RIGHT_HAND, J
from ..depth.scale import CLOTH_M, MAX_LOG_RATIO, MIN_PIXELS, log_ratio
from ..geometry.camera import project
from ..geometry.raster import NEAR_M, Topology, image_points
from ..geometry.regions import Mask, bounds, grow, iou
from ..geometry.rotations import rotvec_to_rotmat
from ..geometry.view import mesh_depth
from ..types import Array, Camera, HumanParams, MetricSource
from .frames import RefineFrame
from .online_settings import GateSettings
from .pose import N_REFINED, joint_rates
from .view import CORE_PROBABILITY, View, Window, person_window, prepare_view

MIN_MASK_PIXELS = 64
SEEN_WITHIN_M = 0.02
"""A vertex this far behind the surface drawn at its pixel is still in sight: pixels are coarse."""
MIN_SHOWN = 0.1
"""A joint less of whose skin is in the image and not behind others is left alone."""
HALF_SHOWN, HALF_SHOWN_PRIOR = 0.3, 3.0
"""One less of whose skin is shown is held more strongly to the regressor's."""
MIN_HAND_PX = 24.0
"""Of a hand in the picture as optimised; wrists of smaller ones are left alone."""
_BINS = 8
_HISTOGRAM_PIXELS = 20_000
_NOT_MEASURED = ("", "none", "body_height", "assumed_height", "mesh")


@dataclass(frozen=True, eq=False)
class Entry:
    """One frame of a person as it came in.

    Attributes:
        index: Running number of the person's frames. stamp_ns: Of the frame. params: Initial estimate.
        frame: None = only the estimate was kept.
        mask_quality, depth_source, depth_weight, metric: As given to `OnlineRefiner.add`.
    """

    index: int
    stamp_ns: int
    params: HumanParams
    frame: RefineFrame | None = None
    mask_quality: float = 1.0
    depth_source: str = "none"
    depth_weight: float = 1.0
    metric: bool = True

    @cached_property
    def colors(self) -> Array:
        """Histogram of the whole image, see `histogram`."""
        assert self.frame is not None
        return histogram(self.frame.image.reshape(-1, 3))

    @cached_property
    def sharpness(self) -> float:
        """Variance of the Laplacian inside the mask, 0 for an empty mask."""
        assert self.frame is not None
        inside = self.frame.mask > 0.5
        box = bounds(inside)
        if box is None:
            return 0.0
        part = np.s_[box[1] : box[3], box[0] : box[2]]
        grey = cv2.cvtColor(np.ascontiguousarray(self.frame.image[part], np.float32), cv2.COLOR_RGB2GRAY)
        value = float(cv2.Laplacian(grey, cv2.CV_32F)[inside[part]].var())
        return value if np.isfinite(value) else 0.0


@dataclass(frozen=True, eq=False)
class JointsSeen:
    """How much a frame says of each joint.

    Attributes:
        shown: (22,) part of the joint's skin that is in the image and not behind others; 1 for the root.
        large_hands: Of left and right hand: larger than MIN_HAND_PX.
    """

    shown: Array
    large_hands: tuple[bool, bool] = (False, False)

    def rates(self) -> torch.Tensor:
        """Return factors of the learning rates (22,)."""
        rates = joint_rates(large_hands=self.large_hands)
        rates[torch.as_tensor(self.shown < MIN_SHOWN)] = 0
        return rates

    def priors(self) -> torch.Tensor:
        """Return weights of the prior towards the regressor (22,): also of joints that are left alone."""
        weights = (joint_rates(large_hands=self.large_hands) > 0).float()
        weights[torch.as_tensor(self.shown < HALF_SHOWN)] *= HALF_SHOWN_PRIOR
        return weights


@dataclass(frozen=True, eq=False)
class Observation:
    """What a frame shows of its person.

    Attributes:
        entry: The frame. params: Initial estimate with the person's one shape.
        problem: Why it cannot be used; "" when it can. The rest is not given where it cannot.
        for_mapping: The mask is good enough to change the avatar.
        overlap: IoU of the body's outline and the mask.
        window: Around the person.
        azimuth: Of the camera about the person [rad]; 0 in front, positive to the person's left.
        limbs: (12, 3, 3) rotations of arms and legs relative to their parents.
        seen: (V,) vertices in sight.
        colors: Histogram inside the mask.
        joints: How well each joint can be seen.
        root: (3,) [m] pelvis of `params`. ratio, pixels: Depth over the body's, see `depth.scale.log_ratio`.
    """

    entry: Entry
    params: HumanParams
    problem: str = ""
    for_mapping: bool = True
    overlap: float = 0.0
    window: Window | None = None
    azimuth: float = 0.0
    limbs: Array | None = None
    seen: NDArray[np.bool_] | None = None
    colors: Array | None = None
    joints: JointsSeen | None = None
    root: Array | None = None
    ratio: float = float("nan")
    pixels: int = 0

    @property
    def stamp_ns(self) -> int:
        return self.entry.stamp_ns

    @property
    def has_depth(self) -> bool:
        """The frame has depth that agrees with the body; wrong units do not."""
        return self.pixels >= MIN_PIXELS and abs(self.ratio) <= MAX_LOG_RATIO

    def view(self, *, held_out: float, device: str, depth_factor: float = 1.0) -> View:
        """Return it as the optimiser sees it. Depth that is no use is all 0: every view of a stack has one."""
        frame = self.entry.frame
        assert frame is not None
        if self.has_depth:
            depth = frame.depth_m if depth_factor == 1 else (frame.depth_m * depth_factor).astype(np.float32)
        else:
            depth = np.zeros(frame.image_hw, np.float32)
        return prepare_view(replace(frame, depth_m=depth), self.window, held_out=held_out, device=device)


def depth_kind(source: str) -> MetricSource:
    """Return what a depth source's name says about its scale; NONE for the body's own depth."""
    if source in _NOT_MEASURED:
        return MetricSource.NONE
    return MetricSource.MONO_DEPTH if source.startswith(("unidepth", "mono")) else MetricSource.DEPTH_CAMERA


def observe(
    entry: Entry,
    params: HumanParams,
    body: EhmBody,
    topology: Topology,
    gate: GateSettings,
    *,
    height_px: int,
    owners: NDArray[np.integer],
) -> Observation:
    """Measure a frame and say whether it can be used.

    Args:
        params: The initial estimate with the person's one shape.
        height_px: The person will be shrunk to this height.
        owners: (V,) the joint that moves each vertex most, see `vertex_owners`.
    """
    try:
        return _observed(entry, params, body, topology, gate, height_px, owners)
    except _Unfit as problem:
        return Observation(entry, params, str(problem))


class _Unfit(Exception):
    """Why a frame cannot be used."""


def _observed(
    entry: Entry,
    params: HumanParams,
    body: EhmBody,
    topology: Topology,
    gate: GateSettings,
    height_px: int,
    owners: NDArray[np.integer],
) -> Observation:
    frame = entry.frame
    assert frame is not None
    _check_given(entry, params, gate)
    inside = _own_pixels(frame)
    posed, camera = body.pose_one(params), Camera(frame.K, frame.image_hw)
    uv, shown = _in_picture(posed, camera, gate)
    drawn = mesh_depth(posed.vertices, topology, camera)
    outline = grow(drawn > 0, frame.K[0, 0] * CLOTH_M / posed.joints[0, 2])
    overlap = iou(inside, outline if frame.ignore is None else outline & ~frame.ignore)
    if overlap < gate.min_iou:
        raise _Unfit(f"body and mask overlap by {overlap:.2f}")
    window = person_window(frame.mask, uv[shown], max_height_px=height_px)
    part = np.s_[window.y0 : window.y1, window.x0 : window.x1]
    if not (np.isfinite(frame.image[part]).all() and np.isfinite(frame.mask[part]).all()):
        raise _Unfit("image or mask have values that are not finite")
    ratio, count = float("nan"), 0
    if frame.depth_m is not None and depth_kind(entry.depth_source) is not MetricSource.NONE:
        ratio, count = log_ratio(frame.depth_m, drawn, frame.mask > CORE_PROBABILITY)
    hands = large_hands(posed.joints, camera, window.scale)
    return Observation(
        entry=entry,
        params=params,
        for_mapping=entry.mask_quality >= gate.min_mapping_quality,
        overlap=overlap,
        window=window,
        azimuth=camera_azimuth(params, posed.joints[0]),
        limbs=limb_rotmats(params),
        seen=in_sight(uv, posed.vertices, drawn),
        colors=histogram(frame.image[inside]),
        joints=JointsSeen(joints_shown(uv, shown, frame.ignore, owners), hands),
        root=posed.joints[0].astype(np.float64),
        ratio=ratio,
        pixels=count,
    )


def _check_given(entry: Entry, params: HumanParams, gate: GateSettings) -> None:
    if not params.finite():
        raise _Unfit("the initial pose is not finite")
    if not entry.metric:
        raise _Unfit("the distance of the person is not known")
    if not entry.mask_quality >= gate.min_mask_quality:
        raise _Unfit(f"the mask is poor: {entry.mask_quality:.2f}")


def _own_pixels(frame: RefineFrame) -> Mask:
    """Return where the mask has this person and nobody is in front (H, W)."""
    inside = frame.mask > 0.5
    if frame.ignore is not None:
        inside = inside & ~frame.ignore
    if np.count_nonzero(inside) < MIN_MASK_PIXELS:
        raise _Unfit("the mask is empty")
    return inside


def _in_picture(posed: PosedBody, camera: Camera, gate: GateSettings) -> tuple[Array, NDArray[np.bool_]]:
    """Return the vertices' pixels (V, 2), and which of them are in the image (V,)."""
    uv, inv_depth = image_points(posed.vertices, camera)
    height, width = camera.image_hw
    with np.errstate(invalid="ignore"):
        shown = (inv_depth > 0) & (uv >= 0).all(axis=1) & (uv[:, 0] < width) & (uv[:, 1] < height)
    outside = 1 - float(shown.mean())
    if not shown.any() or outside > gate.max_outside or posed.joints[0, 2] < NEAR_M:
        raise _Unfit(f"{outside:.0%} of the body is outside the image")
    tall = float(np.ptp(uv[shown, 1]))
    if tall < gate.min_height_px:
        raise _Unfit(f"the person is {tall:.0f} px tall")
    return uv, shown


def camera_azimuth(params: HumanParams, pelvis: Array) -> float:
    """Return the direction from the pelvis to the camera in the pelvis' frame, about its vertical [rad]."""
    x, _, z = rotvec_to_rotmat(np.asarray(params.global_orient, np.float64)).T @ -np.asarray(pelvis, np.float64)
    return float(np.arctan2(x, z))


def limb_rotmats(params: HumanParams) -> Array:
    """Return the rotations of the twelve joints of arms and legs, (12, 3, 3)."""
    return rotvec_to_rotmat(np.asarray(params.body_pose, np.float64)[[joint - 1 for joint in LIMB_12]])


def in_sight(uv: Array, vertices: Array, drawn: Array) -> NDArray[np.bool_]:
    """Return which vertices (V,) are the first surface at their pixel; `drawn` is the body's own z-buffer (H, W)."""
    height, width = drawn.shape
    column, row = np.rint(np.nan_to_num(uv, nan=-1, posinf=-1, neginf=-1)).clip(-1, 1e6).astype(np.int64).T
    at = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    surface = np.zeros(len(uv), np.float32)
    surface[at] = drawn[row[at], column[at]]
    return (surface > 0) & (vertices[:, 2] <= surface + SEEN_WITHIN_M)


def vertex_owners(body: EhmBody) -> NDArray[np.integer]:
    """Return the joint that moves each vertex most, (V,)."""
    return body.layer.full.body.weights.argmax(dim=1).cpu().numpy()


def joints_shown(uv: Array, inside_image: Mask, ignore: Mask | None, owners: NDArray[np.integer]) -> Array:
    """Return which part of the 22 joints' vertices is in the image and not behind others; 1 for the root."""
    shown = inside_image.copy()
    if ignore is not None:
        column, row = np.floor(uv[shown] + 0.5).astype(np.int64).T
        height, width = ignore.shape
        shown[shown] = ~ignore[row.clip(0, height - 1), column.clip(0, width - 1)]
    total = np.bincount(owners, minlength=N_REFINED)[:N_REFINED]
    seen = np.bincount(owners[shown], minlength=N_REFINED)[:N_REFINED]
    out = np.where(total > 0, seen / np.maximum(total, 1), 1.0)
    out[0] = 1.0
    return out


def large_hands(joints: Array, camera: Camera, scale: float) -> tuple[bool, bool]:
    """Return whether left and right hand are large in a picture that is shrunk by `scale`; joints (55, 3) [m]."""
    uv = project(joints, camera)
    sizes = [np.ptp(uv[[J[wrist], *range(hand.start, hand.stop)]], axis=0).max() * scale
             for wrist, hand in (("left_wrist", LEFT_HAND), ("right_wrist", RIGHT_HAND))]  # fmt: skip
    return sizes[0] > MIN_HAND_PX, sizes[1] > MIN_HAND_PX


def histogram(pixels: Array) -> Array:
    """Return the shares of colours (P, 3) in 0..1 in 8 x 8 x 8 bins, (512,); some of many pixels are enough."""
    pixels = pixels[:: max(1, len(pixels) // _HISTOGRAM_PIXELS)]
    bins = (np.nan_to_num(pixels).clip(0, 1) * _BINS).astype(np.int64).clip(0, _BINS - 1)
    counts = np.bincount(bins @ np.array([_BINS * _BINS, _BINS, 1]), minlength=_BINS**3)
    return counts / max(len(pixels), 1)


def chi2(a: Array, b: Array) -> float:
    """Return the distance of two histograms: 0 = equal, 1 = nothing in common."""
    total = a + b
    return float(0.5 * np.sum((a - b) ** 2 / np.where(total > 0, total, 1)))


def padded(view: View, image_hw: tuple[int, int]) -> View:
    """Return the view with invalid pixels at its right and lower side: views of one stack have one size."""
    height, width = (want - have for want, have in zip(image_hw, view.image_hw, strict=True))
    if height == width == 0:
        return view
    grown = {
        name: torch.nn.functional.pad(getattr(view, name), (0, width, 0, height))
        for name in ("mask", "valid", "core", "held_out", "depth_m", "held_out_depth_m")
        if getattr(view, name) is not None
    }
    return replace(view, image=torch.nn.functional.pad(view.image, (0, 0, 0, width, 0, height)), **grown)
