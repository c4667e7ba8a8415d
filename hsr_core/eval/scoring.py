"""From predicted and reference people to values: who is who, which joints, all metrics of a frame, their figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..body.joints import JOINT_NAMES, LIMB_12
from ..datasets.base import ReferencePerson
from ..geometry.camera import project
from ..types import Array, Camera
from .figure import Figure
from .joint_rules import SMPL_PELVIS, Pelvis, hip_midpoint
from .keypoint_metrics import pck_hits
from .lag_metrics import LagMeter
from .matching import match_boxes, tight_box
from .metrics import annotated, joint_errors, shifted, vertex_errors
from .motion_stream import MotionStream
from .protocol import Protocol, differences
from .tracking_metrics import TrackingCounts, TrackingLog, position_similarity
from .world_metrics import CHUNK, rte_percent, w_mpjpe_mm, wa_mpjpe_mm

MIN_IOU = 0.1
MATCHING = f"greedy by the IoU of the boxes of the protocol's joints, at least {MIN_IOU:g}"
SEEN = "people who were seen in the frame; held and predicted ones do not count"
LIMB_NAMES = tuple(JOINT_NAMES[joint] for joint in LIMB_12)
BODY_NAMES = JOINT_NAMES[:22]
PCK_SHARES = {"pck_005": 0.05, "pck_010": 0.1}
FLUSH_FRAMES = 512
LAG_S = 0.5
"""The longest delay looked for: walking repeats itself after a second."""
MOST_LAG_FRAMES = 120
"""So that stamps that mean nothing, a nanosecond apart, ask for no gigabytes."""
LICENSED = "EHMS"
"""Family of the body models whose 22 body joints are those of SMPL-X."""
OWN_MOTION = ("accel_mm_frame2", "jitter_10m_s3")
"""What can be said of a motion without a reference."""
LAG = "lag_ms"
OF_PLACE = ("abs_mpjpe_mm", "abs_pve_mm", "root_error_mm", "root_ray_error_mm")
OF_MOTION = (*OWN_MOTION, "accel_error_mm_frame2", "accel_error_m_s2")
DECIMALS = 4
_ANEW = 1_000_000
"""Steps of a stamp that goes back: more than any memory."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """One person as any recipe gives them: the stream, a recorded message.

    Attributes:
        track_id, primary, score, state: As published.
        joints: (55, 3) [m], camera frame. keypoints2d: (55, 2) [px] of the image as it came.
        vertices: Skins the person, (V, 3) [m]; None = cannot.
    """

    track_id: int
    primary: bool
    score: float
    state: str
    joints: Array
    keypoints2d: Array
    vertices: Callable[[], Array] | None = None


@dataclass(frozen=True)
class Rule:
    """A protocol's joints.

    Attributes:
        name: Of the protocol. names: Of the joints. predicted: Their places among ours. pelvis: Among `names`.
        same_body: The reference is of the same body model: vertices correspond.
    """

    name: str
    names: tuple[str, ...]
    predicted: tuple[int, ...]
    pelvis: Pelvis
    same_body: bool = False


def rule_for(person: ReferencePerson, body_family: str, topology: str) -> Rule | None:
    """Return the fullest protocol that a reference allows for a body model; None when it has no joints of ours.

    `body-22`: the same body model on both sides. `smpl-22`: SMPL-X predicted, SMPL's or SMPL-X's joints given. Else
    `limb-12`: what every body and every joint detector has; such figures belong in no table of SMPL joints.
    """
    if person.joints is None:
        return None
    known = set(person.joint_names)
    same = bool(person.topology) and person.topology == topology
    smpl = body_family == LICENSED and person.topology in ("smpl", "smplx")
    if (same or smpl) and known.issuperset(BODY_NAMES):
        name = "body-22" if same else "smpl-22"
        return Rule(name, BODY_NAMES, tuple(range(22)), SMPL_PELVIS, same)
    if known.issuperset(LIMB_NAMES):
        return Rule("limb-12", LIMB_NAMES, tuple(LIMB_12), hip_midpoint(LIMB_NAMES), same)
    return None


@dataclass
class Scores:
    """Everything that adds up over parts of a run.

    Attributes:
        figures: By metric. tracking: Counts. lag: Sums of all people's `LagMeter`, of one frame rate.
        mixed: Metrics whose parts were measured under different protocols: they have no common figure.
        notes: What could not be scored, each once.
        frames, bad_frames: Processed and refused.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    tracking: TrackingCounts | None = None
    lag: LagMeter | None = None
    mixed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frames: int = 0
    bad_frames: int = 0

    def add_figure(self, figure: Figure) -> None:
        """Add a figure to that of the same metric, unless it was measured in another way."""
        name = figure.protocol.metric
        if name in self.mixed:
            return
        known = self.figures.get(name)
        if known is None or known.protocol.same_as(figure.protocol):
            self.figures[name] = figure if known is None else known + figure
            return
        del self.figures[name]
        self._mix(name, ", ".join(differences(known.protocol, figure.protocol)))

    def add_lag(self, lag: LagMeter | None) -> None:
        """Add another lag to that of the same frame rate."""
        if lag is None or LAG in self.mixed:
            return
        if self.lag is None or self.lag.fps == lag.fps:
            self.lag = lag if self.lag is None else self.lag.merge(lag)
            return
        self.lag = None
        self._mix(LAG, "fps")

    def _mix(self, metric: str, fields: str) -> None:
        self.mixed.append(metric)
        self.note(f"{metric} has no common figure: its recordings differ in {fields}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def __add__(self, other: Scores) -> Scores:
        out = replace(self, figures=dict(self.figures), mixed=[*self.mixed], notes=[*self.notes])
        for name in other.mixed:
            out.figures.pop(name, None)
            out.mixed += [name] if name not in out.mixed else []
        out.lag = None if LAG in out.mixed else out.lag
        for figure in other.figures.values():
            out.add_figure(figure)
        out.add_lag(other.lag)
        if other.tracking is not None:
            out.tracking = other.tracking if out.tracking is None else out.tracking + other.tracking
        for text in other.notes:
            out.note(text)
        out.frames, out.bad_frames = out.frames + other.frames, out.bad_frames + other.bad_frames
        return out

    def to_dict(self) -> dict[str, Any]:
        return {
            "figures": {name: figure.to_dict() for name, figure in sorted(self.figures.items())},
            "tracking": None if self.tracking is None else self.tracking.to_dict(),
            "lag": None if self.lag is None else [self.lag.fps, self.lag.max_lag, self.lag.sums.tolist()],
            "mixed": self.mixed, "notes": self.notes, "frames": self.frames, "bad_frames": self.bad_frames,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        tracking, lag = values["tracking"], values["lag"]
        return cls(
            {name: Figure.from_dict(figure) for name, figure in values["figures"].items()},
            None if tracking is None else TrackingCounts.from_dict(tracking),
            None if lag is None else LagMeter(lag[0], lag[1], np.array(lag[2])),
            list(values["mixed"]), list(values["notes"]), values["frames"], values["bad_frames"],
        )  # fmt: skip


class FrameScorer:
    """Scores the frames of one part of one recording, in order.

    Args:
        protocol: What all figures share: data set, split, fps, mode. Without a rate nothing is said of motion.
        body_family, topology: Of the predictions' body model.
        reference_vertices: Poses a reference of the same body model, (V, 3) [m].
        metric: The reference's place is in metres; False: its scale is unknown, and nothing that needs it is scored.
        part_s: Usual length of the parts of a recording that was cut; 0 = these are all its frames.
    """

    def __init__(
        self,
        protocol: Protocol,
        body_family: str,
        topology: str,
        reference_vertices: Callable[[ReferencePerson], Array] | None = None,
        *,
        metric: bool = True,
        part_s: float = 0.0,
    ) -> None:
        self._whole = {"trajectory": f"parts of {part_s:g} s"} if part_s else {}
        self._base, self._family, self._topology = protocol, body_family, topology
        self._reference_vertices, self._metric = reference_vertices, metric
        self._rules: dict[tuple[str, ...], Rule | None] = {}
        self._protocol: Protocol | None = None
        self._rule: Rule | None = None
        self._places: dict[tuple[str, ...], list[int]] = {}
        self._values: dict[str, list[float]] = defaultdict(list)
        self._hits: dict[str, list[Array]] = defaultdict(list)
        self._degenerate = 0
        self._detected, self._counted = [0, 0], 0
        self._motion: dict[Any, MotionStream] = {}
        self._lag: dict[Any, LagMeter] = {}
        self._index, self._stamp_ns = -1, None
        self._annotated = 0
        self._tracking = TrackingLog()
        self._world: dict[int, list[tuple[Array, Array]]] = defaultdict(list)
        self.scores = Scores()

    def score(
        self,
        predicted: Sequence[Prediction],
        reference: Sequence[ReferencePerson],
        camera: Camera,
        *,
        stamp_ns: int | None = None,
        scored: bool = True,
        has_reference: bool = True,
        T_world_cam: Array | None = None,
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Return a frame's rows, one for each prediction, and the ids of references that nobody was found for.

        Args:
            predicted: Who was seen.
            reference: Everybody who is known of.
            camera: Of the image.
            stamp_ns: Of the image: motion begins anew where frames are missing. None = it is the next one.
            scored: False in the warm-up: motion takes note of the frame, nothing else.
            has_reference: False: the recording has no truth, and motion is measured by itself.
            T_world_cam: For world metrics, where known.
        """
        self._index += self._steps(stamp_ns)
        if not has_reference:
            return [self._alone(person, scored) for person in predicted], []
        usable = [person for person in reference if self._rule_of(person) is not None]
        self._annotated += len(reference)
        pairs = self._match(predicted, usable, camera) if usable else []
        partner = {row: usable[column] for row, column in pairs}
        found = {column for _, column in pairs}
        rows = []
        for i, person in enumerate(predicted):
            values = self._pair(person, partner[i], scored, T_world_cam) if i in partner else {}
            rows.append(_row(person, partner[i].id if i in partner else None, values))
        missed = [person for column, person in enumerate(usable) if column not in found and self._asked(person)]
        for person in missed:
            self._missed(person, scored, T_world_cam)
        if scored and usable:
            self._count(predicted, usable, pairs)
        return rows, [person.id for person in missed]

    def end_frame(self, *, scored: bool) -> None:
        """Count a frame."""
        self.scores.frames += scored
        if scored and self.scores.frames % FLUSH_FRAMES == 0:
            self._flush()
            self._motion = {who: motion for who, motion in self._motion.items() if motion.index == self._index}

    def finish(self) -> Scores:
        """Return the scores of all frames."""
        self._world_figures()
        self._flush()
        for meter in self._lag.values():
            self.scores.add_lag(meter)
        if self._counted:
            self.scores.tracking = self._tracking.counts()
        return self.scores

    @property
    def annotated(self) -> int:
        """How many people the references had, scored or not."""
        return self._annotated

    # One frame

    def _steps(self, stamp_ns: int | None) -> int:
        """Return how many frames of the nominal rate have gone by since the last one."""
        last, self._stamp_ns = self._stamp_ns, stamp_ns
        if last is None or stamp_ns is None:
            return 1
        return max(1, round((stamp_ns - last) * 1e-9 * self._base.fps)) if stamp_ns > last else _ANEW

    def _rule_of(self, person: ReferencePerson) -> Rule | None:
        key = (person.topology, *person.joint_names) if person.joints is not None else ()
        if key not in self._rules:
            rule = self._rules[key] = rule_for(person, self._family, self._topology)
            if rule is None:
                has = ", ".join(person.joint_names) or "no joints"
                self.scores.note(f"a reference cannot be scored: it lacks limb joints; it has {has}")
            elif self._rule is None:
                self._rule = rule
                self._protocol = replace(
                    self._base, name=rule.name, joints=rule.names, pelvis=rule.pelvis.name,
                    topology=self._topology if rule.same_body else "", matching=MATCHING, frame_filter=SEEN,
                )  # fmt: skip
            elif rule != self._rule:
                self.scores.note(f"references of several kinds: only those of {self._rule.name} are scored")
        rule = self._rules[key]
        return rule if rule is not None and rule == self._rule else None

    def _match(
        self, predicted: Sequence[Prediction], reference: Sequence[ReferencePerson], camera: Camera
    ) -> list[tuple[int, int]]:
        rule = self._rule
        assert rule is not None
        boxes = [tight_box(person.keypoints2d[list(rule.predicted)]) for person in predicted]
        others = [tight_box(project(self._joints(person), camera)) for person in reference]
        return match_boxes(np.reshape(boxes, (-1, 4)), np.reshape(others, (-1, 4)), MIN_IOU)

    def _joints(self, person: ReferencePerson) -> Array:
        assert self._rule is not None
        assert person.joints is not None
        places = self._places.get(person.joint_names)
        if places is None:
            places = [person.joint_names.index(name) for name in self._rule.names]
            self._places[person.joint_names] = places
        return np.asarray(person.joints, np.float64)[places]

    def _pair(
        self, person: Prediction, truth: ReferencePerson, scored: bool, T_world_cam: Array | None
    ) -> dict[str, float]:
        rule = self._rule
        assert rule is not None
        joints, true = person.joints[list(rule.predicted)].astype(np.float64), self._joints(truth)
        root = rule.pelvis.indices
        known = self._asked(truth)
        moved = shifted(joints, root), shifted(true, root) if known else None
        values = self._move(("ref", truth.id), *moved)
        self._follow(truth.id, *moved, scored)
        if not known:
            return {}
        errors = joint_errors(joints, true, root)
        degenerate = bool(errors.pop("degenerate"))
        self._degenerate += scored and degenerate
        values |= {name: float(value) for name, value in errors.items()}
        if rule.same_body and person.vertices is not None:
            values |= self._vertices(person, truth, joints, true, root)
        if scored:
            for name, share in PCK_SHARES.items() if truth.keypoints2d is not None else ():
                self._hits[name].append(self._key_points(person.keypoints2d, truth, share))
            self._place(truth, joints, true, T_world_cam)
        return self._keep(values, scored)

    def _vertices(
        self, person: Prediction, truth: ReferencePerson, joints: Array, true: Array, root: tuple[int, ...]
    ) -> dict[str, float]:
        vertices = truth.vertices
        if vertices is None and truth.params is not None and self._reference_vertices is not None:
            vertices = self._reference_vertices(truth)
        if vertices is None:
            return {}
        assert person.vertices is not None
        pelvis, true_pelvis = (points[list(root)].mean(0) for points in (joints, true))
        return {
            name: float(value)
            for name, value in vertex_errors(person.vertices(), vertices, pelvis, true_pelvis).items()
        }

    def _place(self, truth: ReferencePerson, joints: Array, true: Array, T_world_cam: Array | None) -> None:
        """Take note of where a person is in the world."""
        if T_world_cam is not None and self._metric:
            R, t = T_world_cam[:3, :3], T_world_cam[:3, 3]
            self._world[truth.id].append((joints @ R.T + t, true @ R.T + t))

    def _key_points(self, keypoints2d: Array, truth: ReferencePerson, share: float) -> Array:
        """Hits of the protocol's joints; NaN for those that the reference has no key point of."""
        assert self._rule is not None
        assert truth.keypoints2d is not None
        names = truth.keypoint_names or truth.joint_names
        given = dict(zip(names, truth.keypoints2d, strict=True))
        reference = np.array([given.get(name, np.zeros(3)) for name in self._rule.names], np.float64)
        return pck_hits(keypoints2d[list(self._rule.predicted), :2], reference, share)

    def _asked(self, person: ReferencePerson) -> bool:
        """Return whether somebody should have been found: known to be there, and where."""
        assert self._rule is not None
        return person.valid and bool(annotated(self._joints(person), self._rule.pelvis.indices))

    def _missed(self, truth: ReferencePerson, scored: bool, T_world_cam: Array | None) -> None:
        """A person who was not found has no value, and is asked for all the same."""
        assert self._rule is not None
        true, root = self._joints(truth), self._rule.pelvis.indices
        values = self._move(("ref", truth.id), None, shifted(true, root))
        nothing = joint_errors(np.full_like(true, np.nan), true, root)
        nothing.pop("degenerate")
        self._keep(values | {name: float("nan") for name in nothing}, scored)
        if scored:
            nowhere = np.full((len(JOINT_NAMES), 2), np.nan)
            for name, share in PCK_SHARES.items() if truth.keypoints2d is not None else ():
                self._hits[name].append(self._key_points(nowhere, truth, share))
            self._place(truth, np.full_like(true, np.nan), true, T_world_cam)

    def _alone(self, person: Prediction, scored: bool) -> dict[str, Any]:
        """Measure a motion by itself."""
        if self._protocol is None:
            self._rule = Rule("own-motion", LIMB_NAMES, tuple(LIMB_12), hip_midpoint(LIMB_NAMES))
            self._protocol = replace(
                self._base, name=self._rule.name, joints=LIMB_NAMES, pelvis=self._rule.pelvis.name, frame_filter=SEEN
            )
        assert self._rule is not None
        joints = shifted(person.joints[list(LIMB_12)], self._rule.pelvis.indices)
        values = self._move(("track", person.track_id), joints, joints)
        kept = self._keep({name: value for name, value in values.items() if name in OWN_MOTION}, scored)
        return _row(person, None, kept)

    def _follow(self, person_id: int, predicted: Array, reference: Array | None, scored: bool) -> None:
        """Take note of how late the prediction is."""
        fps = self._base.fps
        if not fps:
            return
        if person_id not in self._lag:
            self._lag[person_id] = LagMeter(fps, min(max(2, round(LAG_S * fps)), MOST_LAG_FRAMES))
        self._lag[person_id].push(predicted, reference, scored=scored, index=self._index)

    def _move(self, who: Any, predicted: Array | None, reference: Array | None) -> dict[str, float]:
        if not self._base.fps:
            return {}
        stream = self._motion.setdefault(who, MotionStream(self._base.fps))
        return stream.push(predicted, reference, index=self._index)

    def _keep(self, values: dict[str, float], scored: bool) -> dict[str, float]:
        """Add values to the figures; return those that exist, rounded for the file."""
        if not scored:
            return {}
        if not self._metric:
            values = {name: value for name, value in values.items() if name not in OF_PLACE}
        for name, value in values.items():
            self._values[name].append(value)
        return {name: round(value, DECIMALS) for name, value in values.items() if np.isfinite(value)}

    def _count(
        self, predicted: Sequence[Prediction], reference: Sequence[ReferencePerson], pairs: Sequence[tuple[int, int]]
    ) -> None:
        """Take note of who was found, and under which id."""
        assert self._rule is not None
        asked = [column for column, person in enumerate(reference) if self._asked(person)]
        matched = sum(column in asked for _, column in pairs)
        excused = {row for row, column in pairs if column not in asked}  # they found somebody who does not count
        predicted = [person for row, person in enumerate(predicted) if row not in excused]
        self._counted += self._metric
        self._detected[0] += matched
        self._detected[1] += len(asked)
        if not self._metric:
            return
        root = list(self._rule.pelvis.indices)
        places = [person.joints[list(self._rule.predicted)][root].mean(0) for person in predicted]
        true = [self._joints(reference[column])[root].mean(0) for column in asked]
        similarity = position_similarity(np.reshape(places, (-1, 3)), np.reshape(true, (-1, 3)))
        ids = [reference[column].id for column in asked]
        tracks = [person.track_id for person in predicted]
        if len(set(ids)) < len(ids) or len(set(tracks)) < len(tracks):
            self.scores.note("an id occurs twice in a frame: such frames are left out of what is said of tracking")
            return
        self._tracking.push(ids, tracks, np.nan_to_num(similarity))

    # Figures

    def _flush(self) -> None:
        """Turn lists of values into sums, so that memory does not grow with the recording."""
        if self._protocol is None:
            return
        for name, values in self._values.items():
            degenerate = self._degenerate if name == "pa_mpjpe_mm" else 0
            self.scores.add_figure(Figure.of(np.array(values), self._protocol_of(name), degenerate=degenerate))
        for name, hits in self._hits.items():
            self.scores.add_figure(Figure.of(np.stack(hits), self._protocol_of(name), components=True))
        if self._detected[1]:
            protocol = self._protocol_of("detection_rate")
            self.scores.add_figure(Figure.ratio(self._detected[0], self._detected[1], protocol))
        self._values.clear()
        self._hits.clear()
        self._degenerate, self._detected = 0, [0, 0]

    def _world_figures(self) -> None:
        if self._protocol is None:
            return
        for pairs in self._world.values():
            predicted, reference = (np.stack(points) for points in zip(*pairs, strict=True))
            root = list(self._rule.pelvis.indices) if self._rule else [0]
            chunks = {"chunk": CHUNK, "tail": "dropped"}
            for name, value, details in (
                ("w_mpjpe_mm", w_mpjpe_mm(predicted, reference), chunks),
                ("wa_mpjpe_mm", wa_mpjpe_mm(predicted, reference), chunks),
                ("rte_percent", rte_percent(predicted[:, root].mean(1), reference[:, root].mean(1)), self._whole),
            ):
                if np.isfinite(value).any():
                    self.scores.add_figure(Figure.of(value, self._protocol_of(name, **details)))
        self._world.clear()

    def _protocol_of(self, metric: str, **details: str | int) -> Protocol:
        """The rate is part of what motion means, and of nothing else."""
        assert self._protocol is not None
        known = self._protocol if metric in OF_MOTION else replace(self._protocol, fps=0.0)
        return known.of(metric, **details)


def _row(person: Prediction, reference: int | None, values: dict[str, float]) -> dict[str, Any]:
    return {
        "track": person.track_id, "ref": reference, "score": round(float(person.score), DECIMALS),
        "primary": person.primary, "state": person.state,
        "pelvis": [round(float(x), 6) if np.isfinite(x) else None for x in person.joints[0]], "values": values,
    }  # fmt: skip
