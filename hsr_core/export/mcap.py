"""A rosbag2 (mcap) with the people messages of the chosen people; definitions are embedded, ROS is not needed.

Images and everything else of a run: `hsr record`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import ConfigError, MissingPackage
from ..results import PARAMETERS
from ..sources.bag_people import DEFAULT_TOPIC, PEOPLE
from ..types import Array, EstimateSource, MetricSource, Part
from .base import ExportOptions, Job, folder_whole
from .native import within
from .spool import chunks

FACTS_TOPIC = "/human/export"
FRAME_ID, WORLD = "camera_color_optical_frame", "world"
"""Names of the frames where the recording has none."""
_UNSEEN = {"left_hand_pose": Part.LEFT_HAND, "right_hand_pose": Part.RIGHT_HAND, "eyelids": Part.FACE}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FLUSH = 256


class McapExporter:
    """hsr_msgs/HumanArray on /human/people: a message a frame, empty where nobody of the chosen is there."""

    title = "rosbag2 (mcap) of hsr_msgs/HumanArray"
    suffix = ""
    needs_robot = False

    def check(self, out: Path, options: ExportOptions) -> None:
        """Refuse a folder that is in use."""
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"--out wants a folder that does not exist; {out} does")

    def write(self, job: Job) -> dict[str, Any]:
        first = min(track.first for track in job.tracks)
        stop = max(track.first + len(track) for track in job.tracks)
        with folder_whole(job.out) as folder:
            bag = _Bag(folder, job)
            try:
                for at in chunks(stop - first, _FLUSH):
                    bag.add(slice(at.start + first, at.stop + first))
            finally:
                bag.close()
        return {"files": [job.out.name], "frames": stop - first, "people": len(job.tracks), "topic": DEFAULT_TOPIC}


class _Bag:
    def __init__(self, path: Any, job: Job) -> None:
        try:
            from rosbags.typesys import Stores, get_typestore

            from ..sources.bag_reader import register_hsr_messages
            from ..sources.bag_writer import Recording
        except ImportError as error:
            raise MissingPackage("writing a bag needs rosbags: pip install 'hsr-core[bag]'") from error
        self._store = get_typestore(Stores.ROS2_JAZZY)
        register_hsr_messages(self._store)
        self._job = job
        self._recording = Recording(path)
        self._camera = dict(job.recorded.facts.camera or {})
        self._source = EstimateSource.REFINED if job.recorded.facts.kind == "refined" else EstimateSource.SMOOTHED
        stamp = int(job.recorded.stamps[min(track.first for track in job.tracks)])
        facts = self._make("std_msgs/msg/String", data=json.dumps(job.header()))
        self._write(FACTS_TOPIC, stamp, facts)

    def close(self) -> None:
        self._recording.close()

    def add(self, frames: slice) -> None:
        recorded = self._job.recorded
        people: list[list[Any]] = [[] for _ in range(frames.stop - frames.start)]
        for track in self._job.tracks:
            found = within(track, frames)
            if found is None:
                continue
            mine, here = found
            columns = {name: track.read(name, mine) for name in track.names if not name.startswith("raw_")}
            for i in np.flatnonzero(track.row_of[mine] >= 0):
                people[here.start + i].append(self._human({name: values[i] for name, values in columns.items()}))
        worlds = recorded.T_world_cam(frames)
        for i, humans in enumerate(people):
            stamp = int(recorded.stamps[frames.start + i])
            self._write(DEFAULT_TOPIC, stamp, self._message(stamp, frames.start + i, worlds[i], humans))
        self._recording.flush()

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        kind = message.__msgtype__
        self._recording.write(topic, kind, stamp_ns, bytes(self._store.serialize_cdr(message, kind)))

    def _message(self, stamp_ns: int, seq: int, T: Array, humans: list[Any]) -> Any:
        time = self._make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        facts, known = self._job.recorded.facts, bool(np.isfinite(T).all())
        pose = np.r_[T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_quat()] if known else np.zeros(7)
        height, width = (int(n) for n in self._camera.get("image_hw", (0, 0)))
        return self._make(
            PEOPLE,
            header=self._make("std_msgs/msg/Header", stamp=time, frame_id=facts.frame_id or FRAME_ID),
            seq=seq,
            source=int(self._source),
            image_width=width,
            image_height=height,
            k=np.asarray(self._camera.get("K", np.zeros((3, 3))), np.float64).reshape(9),
            intrinsics_source=int(self._camera.get("intrinsics_source", 0)),
            world_frame=(facts.world_frame or WORLD) if known else "",
            t_world_cam=pose,
            model_id=facts.body_model,
            humans=humans,
        )

    def _human(self, row: dict[str, Array]) -> Any:
        parts = Part(int(row["parts"]))
        params = {name: _flat(row[name]) for name in PARAMETERS}
        params |= {name: np.zeros(0, np.float32) for name, part in _UNSEEN.items() if part not in parts}
        metric = int(row["metric_source"])
        sigma = float(row["depth_sigma_m"])
        return self._make(
            "hsr_msgs/msg/Human",
            id=_letters(int(row["track_id"])),
            track_id=int(row["track_id"]),
            state=int(row["state"]),
            primary=bool(row["primary"]),
            confidence=float(np.nan_to_num(row["confidence"])),
            bbox_xyxy=_flat(np.nan_to_num(row["bbox_xyxy"])),
            metric_source=metric,
            depth_sigma_m=sigma if np.isfinite(sigma) else (np.inf if metric == MetricSource.NONE else 0.0),
            joints=_flat(row["joints"]),
            joint_quats_xyzw=_flat(row["joint_quats_xyzw"]),
            joint_score=_flat(np.nan_to_num(row["joint_score"])),
            keypoints2d=_flat(np.nan_to_num(row["keypoints2d"])),
            root_velocity=_flat(row["root_velocity"][np.isfinite(row["root_velocity"])]),
            foot_contact=np.zeros(0, np.float32),
            parts=int(parts),
            **params,
        )


def _letters(track_id: int) -> str:
    """Return a name of five letters; the one that a run would have given is not in a people file."""
    out = ""
    for _ in range(5):
        track_id, digit = divmod(track_id, len(_LETTERS))
        out = _LETTERS[digit] + out
    return out


def _flat(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32).reshape(-1)


def create() -> McapExporter:
    """Return the exporter."""
    return McapExporter()
