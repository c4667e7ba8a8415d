"""The table of crossings in docs/landmarks.md: ids of our tracker, scored by trackeval, which knows nothing of ours.

.venv/bin/python tests/core/tracking_table.py write ids.json
pip install trackeval                                           # in an environment of its own: it needs numpy 2
python tests/core/tracking_table.py score ids.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HIDDEN_S = (0.0, 0.25, 0.5, 1.0, 1.5)
SCENES = 40
KINDS = {
    "other clothes": {"clothes": "different"},
    "clothes unknown": {},
    "the same clothes": {"clothes": "same"},
    "three people, the same clothes": {"people": 3, "clothes": "same"},
    "slow (0.3 to 0.5 m/s), other clothes": {"speed": (0.3, 0.5), "clothes": "different"},
    "moving camera, other clothes": {"clothes": "different", "moving_camera": True},
    "moving camera, the same clothes": {"clothes": "same", "moving_camera": True},
}


def write(path: Path) -> None:
    """Track every scene and write who was detected under which id, frame by frame."""
    from crossings import crossing

    from hsr_core.config import TrackSettings
    from hsr_core.track.track import Tracker

    table: dict[str, dict[str, list]] = {}
    for kind, how in KINDS.items():
        options = dict(how)
        people = options.pop("people", None)
        for hidden_s in HIDDEN_S:
            scenes = []
            for seed in range(SCENES):
                tracker = Tracker(TrackSettings().keep_s)
                moments = crossing(seed, people or 2 + seed % 3, hidden_s=hidden_s, **options)
                frames = []
                for moment in moments:
                    tracks = tracker.update(moment.stamp_ns, moment.boxes, moment.places, moment.looks)
                    frames.append((moment.who, [track.id for track in tracks]))
                scenes.append(frames)
            table.setdefault(kind, {})[str(hidden_s)] = scenes
    path.write_text(json.dumps(table))


def score(path: Path) -> None:
    """Print the table in Markdown: id switches, IDF1 and HOTA over all scenes of a kind."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    quiet = {"PRINT_CONFIG": False}
    metrics = {"clear": CLEAR(quiet), "id": Identity(quiet), "hota": HOTA()}
    print("| hidden for | " + " | ".join(f"{hidden} s" for hidden in HIDDEN_S) + " |")
    print("|---|" + "---|" * len(HIDDEN_S))
    for kind, columns in json.loads(path.read_text()).items():
        cells = []
        for scenes in columns.values():
            data = [_data(frames) for frames in scenes]
            total = {
                name: metric.combine_sequences({str(i): metric.eval_sequence(one) for i, one in enumerate(data)})
                for name, metric in metrics.items()
            }
            cells.append(
                f"{int(total['clear']['IDSW'])}, {total['id']['IDF1']:.3f}, {total['hota']['HOTA'].mean():.3f}"
            )
        print(f"| {kind} | " + " | ".join(cells) + " |")


def _data(frames: list) -> dict:
    """Return a scene as trackeval takes it: ids from 0, everybody detected where they are."""
    import numpy as np

    people = {one: i for i, one in enumerate(sorted({one for who, _ in frames for one in who}))}
    tracks = {one: i for i, one in enumerate(sorted({one for _, ids in frames for one in ids}))}
    seen = sum(len(who) for who, _ in frames)
    return {
        "num_timesteps": len(frames), "num_gt_dets": seen, "num_tracker_dets": seen,
        "num_gt_ids": len(people), "num_tracker_ids": len(tracks),
        "gt_ids": [np.array([people[one] for one in who], int) for who, _ in frames],
        "tracker_ids": [np.array([tracks[one] for one in ids], int) for _, ids in frames],
        "similarity_scores": [np.eye(len(who)) for who, _ in frames],
    }  # fmt: skip


if __name__ == "__main__":
    {"write": write, "score": score}[sys.argv[1]](Path(sys.argv[2]))
