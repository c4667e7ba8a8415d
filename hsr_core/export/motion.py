"""One person as a motion in the world: a frozen skeleton, its pelvis, and rotations relative to the parent joint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from ..body.joints import BODY, JAW, LEFT_EYE, LEFT_HAND, N_JOINTS, PARENTS, RIGHT_EYE, RIGHT_HAND
from ..errors import BadFile, ConfigError
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..skeleton.proportions import rest_joints
from ..types import Array, MetricSource
from .spool import Track, chunks
from .zero_phase import MARGIN, smooth_rotations, smooth_vectors

SMOOTHING = ("recorded", "raw", "zero-phase")
"""As the filters of the run left it; as it was regressed; smoothed without delay from the raw where it is known."""

GAP_S = 0.2
"""Longer gaps split a motion; shorter ones are bridged where a uniform rate is wanted."""
LEVEL_CAMERA = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""x_world = T x_camera of a camera that is held level, at the origin of a world with x ahead and z up."""
WORLDS = {
    "recorded": "the recording's own, z up",
    "level": "ASSUMED: the camera's place, x ahead, z up, as if the camera were held level and still",
}
STEADY_S = 1.4
"""Window of the distance where it is guessed: cut-off 0.7 Hz, as the live filter has it along the viewing ray [s]."""
STEADY_M = 0.4
"""A distance that is farther off than this was no noise and stays."""
_MEASURED = (MetricSource.DEPTH_CAMERA, MetricSource.REFINED)
_SHAPE_SAMPLES = 200
_STILL_FACE = [JAW, LEFT_EYE, RIGHT_EYE]
_PARENT = np.array(PARENTS)


@dataclass(frozen=True, eq=False)
class Pose:
    """Some frames of a motion.

    Attributes:
        stamps: (n,) int64 [ns].
        pelvis: (n, 3) [m], world.
        rotmats: (n, 55, 3, 3): the root to the world, the others to their parents, jaw and eyes to the head.
        measured: (n,) bool: not put between two frames.
    """

    stamps: NDArray[np.int64]
    pelvis: Array
    rotmats: Array
    measured: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stretch:
    """Frames of a motion between two gaps.

    Attributes:
        frames: (n,) of the track; all of them valid.
        stamps: (n,) int64 [ns].
    """

    frames: NDArray[np.int64]
    stamps: NDArray[np.int64]

    @property
    def duration_s(self) -> float:
        return float(self.stamps[-1] - self.stamps[0]) * 1e-9


class Motion:
    """One track as a motion. What was not seen is missing.

    Args:
        track: The person.
        smoothing: One of `SMOOTHING`.
        world: `recorded`, `level`, or `auto`: recorded where it is known in any frame.
        steady: Smooth the distance from the camera by itself, with a longer window, where it rests on an assumed height
            or a network: it is several times noisier than what is across. None: with `zero-phase`.

    Attributes:
        smoothing: Of what: `zero-phase of raw` or `of recorded`.
        world: What the world is, in words. assumes_world: The camera's pose in it is not known.
        valid: (T,) bool: seen, and the world known.
        offsets: (55, 3) [m] of each joint from its parent at rest (x left, y up, z forward), one skeleton for all.

    Raises:
        ConfigError: The recording has no raw parameters or no world; or a name is unknown.
        BadFile: The person is seen in no frame.
    """

    def __init__(
        self, track: Track, smoothing: str = "recorded", world: str = "auto", *, steady: bool | None = None
    ) -> None:
        if smoothing == "raw" and not track.has_raw:
            raise ConfigError(f"{track.recorded.facts.source} has no raw parameters; --smooth recorded or zero-phase")
        if world == "recorded" and not track.knows_world:
            raise ConfigError(
                f"{track.recorded.facts.source} does not know the camera's pose; --world level assumes one"
            )
        self.track, self.asked_world = track, world
        self._prefix = "raw_" if track.has_raw and smoothing != "recorded" else ""
        self._zero_phase = smoothing == "zero-phase"
        self._steady = self._zero_phase if steady is None else steady
        of = "raw" if self._prefix else "recorded"
        self.smoothing = f"zero-phase of {of}" if self._zero_phase else smoothing
        self.assumes_world = self._level = world == "level" or (world == "auto" and not track.knows_world)
        self.world = WORLDS["level" if self._level else "recorded"]
        self.valid = track.seen()
        if not self._level:
            self.valid &= np.concatenate([np.isfinite(track.T_world_cam(at)[:, 0, 0]) for at in chunks(len(track))])
        if not self.valid.any():
            raise BadFile(f"{track.recorded.facts.source}: person {track.track_id} is seen in no frame")
        self.offsets = self._skeleton()

    def _skeleton(self) -> Array:
        """Return the median of the bones over frames of the whole track."""
        frames = np.flatnonzero(self.valid)
        some = frames[np.unique(np.linspace(0, len(frames) - 1, _SHAPE_SAMPLES).astype(int))]
        rests = []
        for frame in some:
            at = slice(frame, frame + 1)
            R = Rotation.from_quat(self.track.read("joint_quats_xyzw", at)[0]).as_matrix()
            rest = rest_joints(self.track.read("joints", at)[0], R)
            rests.append(rest - rest[_PARENT])
        offsets = np.median(rests, axis=0)
        offsets[0] = 0
        return offsets

    # Reading

    def read(self, at: slice) -> Pose:
        """Return some frames; those that are not valid are NaN."""
        start, stop, _ = at.indices(len(self.track))
        if not self._zero_phase:
            return self._unsmoothed(slice(start, stop))
        first, last = max(start - MARGIN, 0), min(stop + MARGIN, len(self.track))
        wide = self._unsmoothed(slice(first, last))
        pelvis, rotmats = wide.pelvis[start - first : stop - first], wide.rotmats[start - first : stop - first]
        for begin, end in runs(self.valid[first:last], self._after_gap[first:last]):
            lead, tail = max(start - first - begin, 0), max(end - (stop - first), 0)
            if begin + lead < end - tail:
                here = slice(begin + lead + first - start, end - tail + first - start)
                pelvis[here] = smooth_vectors(wide.pelvis[begin:end], before=lead, after=tail)
                rotmats[here] = smooth_rotations(wide.rotmats[begin:end], before=lead, after=tail)
        return Pose(wide.stamps[start - first : stop - first], pelvis, rotmats, self.valid[start:stop])

    @cached_property
    def _after_gap(self) -> NDArray[np.bool_]:
        """Frames before which others are missing from the recording itself: the smoother wants even steps."""
        steps = np.diff(self.track.stamps, prepend=self.track.stamps[0])
        return steps > 2 * np.median(steps[1:]) if len(steps) > 1 else np.zeros(1, bool)

    def _unsmoothed(self, at: slice) -> Pose:
        track, prefix = self.track, self._prefix
        T = np.broadcast_to(LEVEL_CAMERA, (at.stop - at.start, 4, 4)) if self._level else track.T_world_cam(at)
        pelvis = self._pelvis(at)
        if self._steady:
            pelvis *= self._steadier[at, None]
        rotvecs = np.zeros((len(pelvis), N_JOINTS, 3))
        rotvecs[:, 0] = track.read(f"{prefix}global_orient", at)
        for name, joints in (
            ("body_pose", BODY), ("left_hand_pose", LEFT_HAND), ("right_hand_pose", RIGHT_HAND), ("jaw_pose", JAW),
            ("leye_pose", LEFT_EYE), ("reye_pose", RIGHT_EYE),
        ):  # fmt: skip
            rotvecs[:, joints] = track.read(f"{prefix}{name}", at)
        rotvecs[:, _STILL_FACE] = np.nan_to_num(rotvecs[:, _STILL_FACE])
        rotmats = rotvec_to_rotmat(rotvecs)
        rotmats[:, 0] = T[:, :3, :3] @ rotmats[:, 0]
        pelvis = np.einsum("nab,nb->na", T[:, :3, :3], pelvis) + T[:, :3, 3]
        valid = self.valid[at]
        pelvis[~valid], rotmats[~valid] = np.nan, np.nan
        return Pose(track.stamps[at], pelvis, rotmats, valid)

    def _pelvis(self, at: slice) -> Array:
        """Return the pelvis as it was recorded or regressed (n, 3) [m], camera frame."""
        # Where the pelvis rests depends on the shape, which the recorded joints tell.
        rest = self.track.read("joints", at)[:, 0] - self.track.read("transl", at)
        return (self.track.read(f"{self._prefix}transl", at) + rest).astype(np.float64)

    @cached_property
    def _steadier(self) -> Array:
        """Factor of each frame's distance from the camera (T,); 1 where it is measured."""
        parts = list(chunks(len(self.track)))
        distance = np.concatenate([np.linalg.norm(self._pelvis(at), axis=1) for at in parts])
        guessed = np.concatenate([~np.isin(self.track.read("metric_source", at), _MEASURED) for at in parts])
        factor = np.ones(len(distance))
        frames = np.flatnonzero(self.valid & guessed)
        gaps = np.flatnonzero(np.diff(self.track.stamps[frames]) > GAP_S * 1e9) + 1
        for part in np.split(
            frames, gaps
        ):  # shorter gaps are bridged: a line between two distances is none of a person
            if len(part) < 4:
                continue
            every = np.arange(part[0], part[-1] + 1)
            window = min(round(STEADY_S * self.fps) // 2 * 2 + 1, (len(every) - 1) // 2 * 2 + 1)
            even = savgol_filter(np.interp(every, part, distance[part]), window, 2, mode="interp")
            smooth, was = even[part - part[0]], distance[part]
            factor[part] = np.where(np.abs(smooth - was) <= STEADY_M, smooth / was, 1.0)
        return factor

    # Uniform rate

    @cached_property
    def fps(self) -> float:
        """The nominal rate [Hz]: of the median step, whole where it is nearly."""
        return nominal_rate(self.track.stamps)

    def stretches(self, gap_s: float = GAP_S) -> list[Stretch]:
        """Return the valid frames, split where more than `gap_s` is missing. A stretch may be of one frame."""
        frames = np.flatnonzero(self.valid)
        stamps = self.track.stamps[frames]
        # A gap is what is missing: a step of a whole recording at 4 Hz is none.
        longest = max(gap_s * 1e9, 1.5e9 / self.fps) if len(self.track) > 1 else gap_s * 1e9
        cuts = np.flatnonzero(np.diff(stamps) > longest) + 1
        return [Stretch(f, s) for f, s in zip(np.split(frames, cuts), np.split(stamps, cuts), strict=True)]

    def frames_of(self, stretch: Stretch) -> Iterator[Pose]:
        """Yield the frames of a stretch as they were recorded, in chunks."""
        for part in chunks(len(stretch.frames)):
            yield self._some(stretch.frames[part])

    def resampled(self, stretch: Stretch, fps: float) -> Iterator[Pose]:
        """Yield a stretch at a uniform rate, in chunks: rotations by slerp, the pelvis linearly.

        `measured` is false where more than one and a half nominal steps lie between the two frames around.
        """
        longest = 1.5e9 / self.fps
        for part in chunks(sample_count(stretch, fps)):
            want = stretch.stamps[0] + np.rint(np.arange(part.start, part.stop) * (1e9 / fps)).astype(np.int64)
            after = np.clip(np.searchsorted(stretch.stamps, want, side="right"), 1, len(stretch.stamps) - 1)
            lo = after[0] - 1
            around = self._some(stretch.frames[lo : after[-1] + 1])
            a, b = after - 1 - lo, after - lo
            step = (around.stamps[b] - around.stamps[a]).astype(np.float64)
            u = np.clip((want - around.stamps[a]) / step, 0, 1)
            Ra, Rb = around.rotmats[a], around.rotmats[b]
            turn = rotmat_to_rotvec(np.swapaxes(Ra, -1, -2) @ Rb)
            rotmats = Ra @ rotvec_to_rotmat(u[:, None, None] * turn)
            pelvis = around.pelvis[a] + u[:, None] * (around.pelvis[b] - around.pelvis[a])
            on_frame = np.minimum(u, 1 - u) * step < 0.05e9 / self.fps  # stamps are rounded
            yield Pose(want, pelvis, rotmats, (step <= longest) | on_frame)

    def _some(self, frames: NDArray[np.int64]) -> Pose:
        pose = self.read(slice(frames[0], frames[-1] + 1))
        at = frames - frames[0]
        return Pose(pose.stamps[at], pose.pelvis[at], pose.rotmats[at], pose.measured[at])

    # What the frozen skeleton costs

    def joints_m(self, pose: Pose, offsets: Array | None = None) -> Array:
        """Return the joints (n, 55, 3) [m] of poses, world."""
        return place(pose, self.offsets if offsets is None else offsets)[0]

    def recorded_joints(self, at: slice) -> Array:
        """Return the joints as they were recorded (n, 55, 3) [m], world."""
        joints = self.track.read("joints", at).astype(np.float64)
        T = np.broadcast_to(LEVEL_CAMERA, (len(joints), 4, 4)) if self._level else self.track.T_world_cam(at)
        return np.einsum("nab,njb->nja", T[:, :3, :3], joints) + T[:, None, :3, 3]

    @cached_property
    def residual_mm(self) -> float:
        """Mean distance of the exported joints from the recorded ones [mm]: smoothing and the frozen shape."""
        total, count = 0.0, 0
        for at in chunks(len(self.track)):
            valid = self.valid[at]
            apart = self.joints_m(self.read(at))[valid] - self.recorded_joints(at)[valid]
            total, count = total + float(np.linalg.norm(apart, axis=-1).sum()), count + apart.shape[0] * N_JOINTS
        return 1e3 * total / count


def place(pose: Pose, offsets: Array) -> tuple[Array, Array]:
    """Run forward kinematics: joints (n, 55, 3) [m] and their rotations to the world (n, 55, 3, 3)."""
    joints = np.empty((*pose.rotmats.shape[:2], 3))
    rotations = np.empty_like(pose.rotmats)
    joints[:, 0], rotations[:, 0] = pose.pelvis, pose.rotmats[:, 0]
    for j in range(1, N_JOINTS):
        parent = PARENTS[j]
        joints[:, j] = joints[:, parent] + rotations[:, parent] @ offsets[j]
        rotations[:, j] = rotations[:, parent] @ pose.rotmats[:, j]
    return joints, rotations


def runs(flags: NDArray[np.bool_], starts: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return begin and end of every run of True; a run also ends before a frame that `starts` one."""
    out = []
    for begin, end in np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]]))).reshape(-1, 2):
        cuts = [int(begin), *(int(begin + 1 + i) for i in np.flatnonzero(starts[begin + 1 : end])), int(end)]
        out += list(pairwise(cuts))
    return out


def nominal_rate(stamps: NDArray[np.int64]) -> float:
    """Return the rate that stamps [ns] were meant to have [Hz].

    Raises:
        ConfigError: One frame has no rate.
    """
    if len(stamps) < 2:
        raise ConfigError("one frame is no motion: only npz and mcap can hold it")
    rate = 1e9 / float(np.median(np.diff(stamps)))
    return float(round(rate)) if abs(rate - round(rate)) < 0.015 * rate else round(rate, 3)


def sample_count(stretch: Stretch, fps: float) -> int:
    """Return how many samples at `fps` a stretch has."""
    # The hundredth of a step forgives stamps that were rounded.
    return int(np.floor(stretch.duration_s * fps + 0.01)) + 1
