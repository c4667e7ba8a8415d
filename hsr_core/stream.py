"""The per-frame recipe: regress, place in metres, track, smooth, pose. Everything that shows people goes through here.

from hsr_core.stream import HumanStream
with HumanStream() as stream:
    result = stream.process(frame)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from . import registry
from .config import Settings
from .errors import InvalidIntrinsics
from .geometry.camera import project
from .geometry.rotations import rotmat_to_rotvec
from .place import LEARNT_PRIOR, PRIOR, DepthPlace, TrunkSurface, measure_depth
from .regress.pear import weights_path
from .threads import use_one_blas_thread
from .track.one_euro import low_pass_gain
from .track.smooth import PoseSmoother, SmoothingCounters
from .track.track import Track, Tracker
from .track.unseen import unseen
from .types import (
    Array,
    Camera,
    EstimateSource,
    Frame,
    FrameResult,
    HumanEstimate,
    HumanParams,
    IntrinsicsSource,
    MetricSource,
    Regression,
    TrackState,
)

log = logging.getLogger(__name__)

VELOCITY_CUTOFF_HZ = 4.0
"""Cut-off of the published root velocity: the difference of two smoothed poses is still noisy."""
VELOCITY_GAP_S = 0.25
"""A difference over a longer gap is no velocity."""
HEIGHT_FRAMES = 10
"""Depth measurements of a person after which their height is believed, and between two corrections of it."""
HEIGHT_CHANGE = 0.02
"""Relative change of the measured height that the regressor is told of."""
HOLD_S = 0.15
"""A gap in depth no longer than this is bridged with the last measurement."""
HOLD_SIGMA = 0.3
"""What a held measurement loses [m/s]."""
ZOOM = 0.01
"""Relative change of the focal length that changes distances which rest on somebody's height."""
DepthOf = Callable[[Frame, Camera], Array | None]
"""Gives the z-depth (h, w) [m] of an image, registered to it, of any resolution; None = there is none."""


def regressor_name(settings: Settings) -> str:
    """Return the registry name behind `settings.regressor`; "auto" is pear if its weights are set, else landmarks."""
    if settings.regressor != "auto":
        return settings.regressor
    return "pear" if weights_path(settings) else "landmarks"


@dataclass
class StreamCounters:
    """What was irregular since the start. None of it stops the stream."""

    dropped_people: int = 0
    below_min_score: int = 0
    below_min_height: int = 0
    clock_jumps: int = 0
    placed_by_depth: int = 0
    depth_without_person: int = 0
    smoothing: SmoothingCounters = field(default_factory=SmoothingCounters)


@dataclass
class _Memory:
    """What belongs to one track. Fixed size."""

    smoother: PoseSmoother
    estimate: HumanEstimate | None = None
    stamp_ns: int = 0
    velocity: Array | None = None
    surface: TrunkSurface | None = None
    placed: DepthPlace | None = None
    placed_ns: int = 0
    heights: list[float] = field(default_factory=list)
    height_m: float | None = None
    height_known: bool = False
    rests_on: tuple[MetricSource, float, float] | None = None
    nobody_moved: bool = False


class HumanStream:
    """Frames in, everybody in them out, in metres, tracked and smoothed. Use it from one thread.

    BLAS works in one thread from then on, in the whole process (see `threads`).

    Args:
        settings: All settings; defaults need no file.
        body: A loaded `EhmBody`; default: the one that the settings name.
        regressor: An object of the regressor protocol; default: the registry's, by `settings.regressor`.

    Attributes:
        settings, body, regressor: In use. A regressor given by the caller is closed by the caller.
        counters: Irregular input so far.
    """

    def __init__(self, settings: Settings | None = None, body: Any = None, regressor: Any = None) -> None:
        self.settings = settings or Settings()
        if body is None:
            from .body import load_body

            body = load_body(self.settings.body_model.path)
        self.body = body
        self._owns_regressor = regressor is None
        self.regressor = regressor or registry.create("regressor", regressor_name(self.settings), self.settings, body)
        self.counters = StreamCounters()
        self._rest_pelvis = _rest_pelvis_map(body)
        use_one_blas_thread()
        track = self.settings.track
        self._tracker = Tracker(
            track.keep_s, self.settings.people.max, self.settings.primary.mode, first_id=track.first_id
        )
        self._attend = getattr(self.regressor, "attend", lambda person: None)
        self._set_height = getattr(self.regressor, "set_height", None)
        self._subject_height_m = self.settings.subject.height_m
        self._cameras = _CameraChoice()
        self._meshes: WeakKeyDictionary[HumanEstimate, Array] = WeakKeyDictionary()
        self._seq = 0
        self._last_ns: int | None = None
        self._stage_ms: dict[str, float] = {}

    def process(self, frame: Frame, depth_of: DepthOf | None = None) -> FrameResult:
        """Find the people of one frame.

        A stamp that goes back is a clock that jumped: everybody is forgotten first, and gets a new id.

        Args:
            frame: The image.
            depth_of: Asked for the depth of a frame that comes without, once people have been found in it: by then a
                depth image has mostly come that is sent a little later than its colour image.

        Raises:
            BadFrame: The image cannot be used; the stream goes on with the next one.
        """
        start = time.perf_counter()
        self._stage_ms = {}
        self._check_clock(frame.stamp_ns)
        camera = self._cameras.of(frame, self.settings)
        with self._timed("regress"):
            found = [person for person in self.regressor.regress(frame, camera) if self._usable(person)]
        self._stage_ms |= self.regressor.stage_ms
        with self._timed("place"):
            found = found[: self.settings.people.max]
            pelvises = [person.params.transl + self._rest_pelvis(person.params.betas) for person in found]
            boxes, looks = [person.bbox_xyxy for person in found], [person.appearance for person in found]
            tracks = self._tracker.update(frame.stamp_ns, boxes, pelvises, looks)
            memories = [self._memory(track) for track in tracks]
            self._tell_of_people(found, tracks)
            if found and camera.source is not IntrinsicsSource.ASSUMED_FOV:
                depth_m = frame.depth_m
                if depth_m is None and depth_of is not None:
                    depth_m = depth_of(frame, camera)
                pairs = zip(found, memories, strict=True)
                found = [self._place(*pair, depth_m, camera, frame.stamp_ns) for pair in pairs]
            for person, memory in zip(found, memories, strict=True):
                self._note_source(person, memory, camera)
        with self._timed("smooth"):
            params = [self._smooth(*pair, frame.stamp_ns) for pair in zip(found, memories, strict=True)]
        with self._timed("body"):
            for track, person, smoothed in zip(tracks, found, params, strict=True):
                self._estimate(track, person, smoothed, camera, frame.stamp_ns)
        people = tuple(self._published(track) for track in self._tracker.tracks)
        self._seq += 1
        self._stage_ms["total"] = (time.perf_counter() - start) * 1e3
        source = EstimateSource.SMOOTHED if self.settings.smoothing.enabled else EstimateSource.REGRESSED
        return FrameResult(self._seq, frame.stamp_ns, frame.frame_id, camera, people, self._stage_ms, source)

    def mesh(self, estimate: HumanEstimate) -> Array:
        """Return a person's vertices (V, 3) [m], camera frame; skinned at the first call for this estimate."""
        if estimate.regression.vertices is not None and estimate.params is estimate.regression.params:
            return estimate.regression.vertices
        vertices = self._meshes.get(estimate)
        if vertices is None:
            vertices = self._meshes[estimate] = self.body.pose_one(estimate.params).vertices
        return vertices

    @property
    def primary(self) -> int | None:
        """Track id of the person that was locked, else by `primary.mode`."""
        return self._tracker.primary

    def set_primary(self, track_id: int | None) -> None:
        """Lock the primary person by track id; None: by `primary.mode` again."""
        self._tracker.set_primary(track_id)

    def lock_shape(self, track_id: int, locked: bool) -> None:
        """Keep a person's shape as it is now; False: estimate it anew. Without smoothing shapes are never kept."""
        for track in self._tracker.tracks:
            if track.id == track_id and track.memory is not None:
                track.memory.smoother.lock_shape(locked)

    def configure(self, settings: Settings) -> None:
        """Take changed live settings between two frames."""
        old, self.settings = self.settings, settings
        self._tracker.keep_s, self._tracker.rule = settings.track.keep_s, settings.primary.mode
        if settings.subject.height_m != old.subject.height_m:
            self._subject_height_m = settings.subject.height_m
        for track in self._tracker.tracks:
            track.memory.smoother.configure(settings.smoothing)
            if settings.subject.height_m != old.subject.height_m:
                track.memory.smoother.forget_shape()
                track.memory.heights.clear()
                track.memory.height_m, track.memory.height_known = None, False
            if settings.smoothing.enabled and not old.smoothing.enabled:
                track.memory.smoother = self._new_smoother()
        self._tell_regressor()

    def reset(self) -> None:
        """Forget everybody and everything measured on them. Ids and sequence numbers go on."""
        self._tracker.reset()
        self.regressor.reset()
        self._last_ns = None
        if self._subject_height_m != self.settings.subject.height_m:
            self._subject_height_m = self.settings.subject.height_m
            self._tell_regressor()

    def close(self) -> None:
        """Release the regressor. The object cannot be used afterwards."""
        if self._owns_regressor:
            self.regressor.close()

    def __enter__(self) -> HumanStream:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()

    # One frame

    def _check_clock(self, stamp_ns: int) -> None:
        if self._last_ns is not None and stamp_ns < self._last_ns:
            self.counters.clock_jumps += 1
            self.reset()
        self._last_ns = stamp_ns

    def _usable(self, person: Regression) -> bool:
        people = self.settings.people
        if not (person.params.finite() and np.isfinite(person.bbox_xyxy).all()):
            self.counters.dropped_people += 1
            return False
        # The longer side: someone who lies or is cut by the image is wide.
        size = max(person.bbox_xyxy[2] - person.bbox_xyxy[0], person.bbox_xyxy[3] - person.bbox_xyxy[1])
        unsure, small = person.score < people.min_score, size < people.min_height_px
        self.counters.below_min_score += int(unsure)  # a numpy bool would make it a numpy integer
        self.counters.below_min_height += int(small and not unsure)
        return not (unsure or small)

    def _place(
        self, person: Regression, memory: _Memory, depth_m: Array | None, camera: Camera, stamp_ns: int
    ) -> Regression:
        """Move a person along the viewing ray to where the depth image has them, or had them a moment ago."""
        age_s = (stamp_ns - memory.placed_ns) * 1e-9
        held = memory.placed if age_s <= HOLD_S else None
        if depth_m is None and held is None:
            return person
        posed = self.body.pose_one(person.params, vertices=False)
        measured = self._measure(person, memory, depth_m, camera, posed) if depth_m is not None else None
        if measured is not None:
            self.counters.placed_by_depth += 1
            memory.placed, memory.placed_ns = measured, stamp_ns
            self._learn_height(person, memory, measured.ratio)
        elif held is not None:
            measured = replace(held, sigma_m=float(np.hypot(held.sigma_m, HOLD_SIGMA * age_s)))
        else:
            return person
        params = replace(person.params, transl=person.params.transl + np.float32(measured.ratio - 1) * posed.joints[0])
        return replace(person, params=params, metric_source=MetricSource.DEPTH_CAMERA, depth_sigma_m=measured.sigma_m)

    def _measure(
        self, person: Regression, memory: _Memory, depth_m: Array, camera: Camera, posed: Any
    ) -> DepthPlace | None:
        if memory.surface is None:
            memory.surface = TrunkSurface(self.body, person.params)
        measured = measure_depth(
            depth_m, camera, posed.joints, posed.joint_rotmats, memory.surface,
            person=person, prior=LEARNT_PRIOR if memory.height_known else PRIOR,
        )  # fmt: skip
        self.counters.depth_without_person += measured is None
        return measured

    def _learn_height(self, person: Regression, memory: _Memory, ratio: float) -> None:
        """At the wrong distance the person has the wrong size: correct the height that the regressor assumes."""
        assumed = memory.height_m or self._subject_height_m
        memory.heights.append(ratio * assumed)
        if len(memory.heights) < HEIGHT_FRAMES:
            return
        height = float(np.clip(np.median(memory.heights), 0.5, 2.5))
        memory.heights.clear()
        memory.height_known = True
        if abs(height / assumed - 1) <= HEIGHT_CHANGE:
            return
        memory.surface = memory.placed = None  # both are of the old height
        memory.smoother.forget_shape()
        if self._set_height is not None:
            memory.height_m = height
            self._set_height(person, height)  # now: the next answer is already of this height
        else:
            self._subject_height_m = height
            self._tell_regressor()

    def _note_source(self, person: Regression, memory: _Memory, camera: Camera) -> None:
        """Where a distance comes to rest on something else it jumps, and nobody has moved."""
        source, focal = person.metric_source, float(camera.K[0, 0])
        assumed = 0.0 if source is MetricSource.DEPTH_CAMERA else memory.height_m or self._subject_height_m
        before = memory.rests_on
        zoomed = before is not None and abs(focal / before[2] - 1) > ZOOM
        memory.nobody_moved = before is not None and (
            (source, assumed) != before[:2] or (zoomed and source is not MetricSource.DEPTH_CAMERA)
        )
        if memory.nobody_moved:
            memory.smoother.take_distance()
        if before is None or zoomed or memory.nobody_moved:
            memory.rests_on = (source, assumed, focal)

    def _tell_of_people(self, found: list[Regression], tracks: list[Track]) -> None:
        """Tell the regressor which person of its answer is primary, and everybody's measured height."""
        primary = self._tracker.primary
        self._attend(next((person for person, track in zip(found, tracks, strict=True) if track.id == primary), None))
        for person, track in zip(found, tracks, strict=True):
            if track.memory.height_m is not None:
                self._set_height(person, track.memory.height_m)

    def _smooth(self, person: Regression, memory: _Memory, stamp_ns: int) -> HumanParams:
        return memory.smoother.update(person, stamp_ns) if self.settings.smoothing.enabled else person.params

    def _estimate(self, track: Track, person: Regression, params: HumanParams, camera: Camera, stamp_ns: int) -> None:
        posed = self.body.pose_one(params, vertices=False)
        memory = track.memory
        velocity = _velocity(memory, posed.joints[0], posed.joint_rotmats[0], stamp_ns)
        keypoints2d = np.empty((len(posed.joints), 3), np.float32)
        keypoints2d[:, :2] = project(posed.joints, camera)
        keypoints2d[:, 2] = np.where(np.isnan(keypoints2d[:, 0]), 0, person.joint_score)
        memory.estimate = HumanEstimate(
            track.id, track.state, False, person, params, posed.joints, posed.joint_rotmats, keypoints2d, velocity
        )
        memory.stamp_ns, memory.velocity = stamp_ns, velocity

    def _published(self, track: Track) -> HumanEstimate:
        memory, primary = track.memory, track.id == self._tracker.primary
        last = memory.estimate
        if track.state in (TrackState.PREDICTED, TrackState.LOST) and last.state is not track.state:
            last = unseen(last, track.state)
        if last.primary != primary:
            last = replace(last, primary=primary)
        memory.estimate = last
        return last

    # Around it

    def _memory(self, track: Track) -> _Memory:
        if track.memory is None:
            track.memory = _Memory(self._new_smoother())
        return track.memory

    def _new_smoother(self) -> PoseSmoother:
        return PoseSmoother(self.settings.smoothing, self._rest_pelvis, self.counters.smoothing)

    def _tell_regressor(self) -> None:
        subject = replace(self.settings.subject, height_m=self._subject_height_m)
        self.regressor.configure(replace(self.settings, subject=subject))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._stage_ms[stage] = (time.perf_counter() - start) * 1e3


class _CameraChoice:
    """Which camera a frame is seen with. Says once what it had to assume; keeps its last answer."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._given: Camera | None = None
        self._answer: Camera | None = None
        self._said: set[str] = set()

    def of(self, frame: Frame, settings: Settings) -> Camera:
        key = (frame.image_hw, frame.frame_id, settings.camera)
        if self._answer is None or key != self._key or frame.camera is not self._given:
            self._answer = self._choose(frame, settings)
            self._key, self._given = key, frame.camera
        return self._answer

    def _choose(self, frame: Frame, settings: Settings) -> Camera:
        if frame.camera is not None:
            try:
                camera = frame.camera.scaled(frame.image_hw)
                return camera if settings.camera.rectify else replace(camera, dist=np.zeros(5), model="plumb_bob")
            except InvalidIntrinsics as error:
                self._say(f"camera intrinsics are not used: {error}")
        hfov = settings.camera.assumed_hfov_deg
        self._say(
            f"no usable camera intrinsics: a horizontal field of view of {hfov:g} degrees is assumed "
            "(camera.assumed_hfov_deg), so distances are a guess"
        )
        return Camera.from_hfov(hfov, frame.image_hw, frame.frame_id)

    def _say(self, text: str) -> None:
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            log.warning(text)


def _velocity(memory: _Memory, pelvis: Array, rotmat: Array, stamp_ns: int) -> Array | None:
    """Return the root's velocity (6,) [m/s, rad/s], camera frame; None before the second sighting or after a gap."""
    before = memory.estimate
    dt = (stamp_ns - memory.stamp_ns) / 1e9
    if before is None or dt > VELOCITY_GAP_S:
        return None
    if dt <= 0:
        return memory.velocity
    place = before.joints[0]
    if memory.nobody_moved:
        place = place * (np.linalg.norm(pelvis) / max(np.linalg.norm(place), 1e-9))
    turn = rotmat_to_rotvec((rotmat @ before.joint_rotmats[0].T).astype(np.float64))
    now = np.concatenate([pelvis - place, turn]) / dt
    if memory.velocity is not None:
        now = memory.velocity + low_pass_gain(VELOCITY_CUTOFF_HZ, dt) * (now - memory.velocity)
    return now.astype(np.float32)


def _rest_pelvis_map(body: Any):
    """Return the function betas -> pelvis of the shaped template, (3,) [m]: it is linear, so n + 1 shapes tell it."""
    n = body.n_betas
    zero = {
        "expression": np.zeros(body.n_expression, np.float32),
        "head_betas": np.zeros(body.n_head_betas, np.float32),
        "head_expression": np.zeros(body.n_head_expression, np.float32),
    }
    shapes = [HumanParams(betas=row, **zero) for row in np.eye(n + 1, n, -1, dtype=np.float32)]
    pelvis = np.stack([body.rest(shape)[1][0] for shape in shapes])
    offset, slopes = pelvis[0], pelvis[1:] - pelvis[0]
    return lambda betas: offset + betas @ slopes[: len(betas)]
