"""Where recordings are cut: each image is scored once whatever the stamps say, and as in one run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from bags import BEGIN_NS, STEP_NS, image, info, picture, write_bag

from hsr_core.config import Settings
from hsr_core.eval.command import evaluate
from hsr_core.eval.plan import plan_units
from hsr_core.eval.recordings import find_recordings, nominal_fps

FAKE = Settings().with_values({"regressor": "fake"})


def images(stamps, receipts=None, *, infos: str = "all"):
    """Yield images with these stamps and times of receipt [frames], with a camera info beside each or the first."""
    for i, stamp in enumerate(stamps):
        stamp_ns = BEGIN_NS + round(stamp * STEP_NS)
        received_ns = BEGIN_NS + round((i if receipts is None else receipts[i]) * STEP_NS) + 2_000_000
        if infos == "all" or i == 0:
            yield "/camera/camera_info", received_ns, info(stamp_ns)
        yield "/camera/image_raw", received_ns, image(picture(i % 100), stamp_ns)


def stamps_of(out: Path) -> list[int]:
    lines = [json.loads(line) for line in (out / "result.jsonl").read_text().splitlines()]
    return [line["stamp_ns"] for line in lines if line["kind"] == "frame"]


def cut_and_whole(bag: Path, tmp_path: Path, *, chunk_s: float = 1.0, overlap_s: float = 0.7):
    """Return (stamps, summary) of a run in parts and of one without cuts."""
    found = []
    for name, length in (("cut", chunk_s), ("whole", 0.0)):
        summary = evaluate(
            find_recordings([str(bag)]), FAKE, tmp_path / name, name=name, chunk_s=length, overlap_s=overlap_s
        )
        found.append((stamps_of(tmp_path / name), summary))
    return found


RNG = np.random.default_rng(0)
CLOCKS = {
    "as they are": (range(120), None),
    "played in a loop, longer than a part": ([*range(70), *range(70)], None),
    "played in loops, shorter than a part": ([*range(25)] * 5, None),
    "a simulated clock, four times as fast": ([4 * i for i in range(120)], None),
    "a simulated clock, ten times as slow": ([0.1 * i for i in range(120)], None),
    "of another epoch": ([i - 10_000_000 for i in range(120)], None),
    "received late, by up to ten frames": (range(120), np.sort(np.arange(120) + RNG.uniform(0, 10, 120))),
    "stamps in disorder": ([i + 3 * (i % 7 == 0) for i in range(120)], None),
    "silent for a part": ([*range(40), *range(110, 150)], [*range(40), *range(110, 150)]),
    "late to begin": (range(90, 180), range(90, 180)),
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_each_image_is_scored_once_and_in_order(clock, tmp_path):
    stamps, receipts = CLOCKS[clock]
    messages = list(images(stamps, receipts))
    if clock == "late to begin":  # something else was recorded before
        messages.insert(0, ("/other", BEGIN_NS, info(BEGIN_NS)))
    bag = write_bag(tmp_path / "bag", messages)
    (cut, summary), (whole, expected) = cut_and_whole(bag, tmp_path)
    assert len(plan_units(find_recordings([str(bag)]), FAKE, chunk_s=1.0)) > 1
    assert cut == whole
    assert Counter(cut).most_common(1)[0][1] == (5 if "shorter" in clock else 2 if "longer" in clock else 1)
    assert summary["frames"] == expected["frames"] == len(whole)
    (recording,), (same,) = summary["recordings"], expected["recordings"]
    assert recording["error"] == same["error"] == ""
    for problem in ("stamps_back", "duplicate_stamps", "undecodable"):  # of the overlap they are not counted twice
        assert recording["diagnosis"].get(problem) == same["diagnosis"].get(problem)


@pytest.mark.parametrize(("chunk_s", "overlap_s"), [(0.5, 3.0), (0.5, 0.0), (1.0, 1e5), (1e5, 3.0)])
def test_any_parts_and_overlaps_do(chunk_s, overlap_s, tmp_path):
    bag = write_bag(tmp_path / "bag", images(range(90)))
    (cut, _), (whole, _) = cut_and_whole(bag, tmp_path, chunk_s=chunk_s, overlap_s=overlap_s)
    assert cut == whole
    assert len(cut) == 90


def test_one_camera_info_at_the_start_holds_in_every_part(tmp_path):
    """As drivers latch it: without it later parts would assume a field of view, and put people elsewhere."""
    bag = write_bag(tmp_path / "bag", images(range(120), infos="first"))
    (_, summary), (_, whole) = cut_and_whole(bag, tmp_path)
    assert "no_camera" not in summary["recordings"][0]["diagnosis"]
    assert summary["recordings"][0]["diagnosis"] == whole["recordings"][0]["diagnosis"]


def test_images_that_cannot_be_used_are_events_once(tmp_path):
    """Frames 20 to 40 have no pixels: damage around the cut at 30 is counted in one part alone."""
    messages = list(images(range(90)))
    for _, _, message in messages:
        number = (message.header.stamp.sec * 10**9 + message.header.stamp.nanosec - BEGIN_NS) // STEP_NS
        if hasattr(message, "encoding") and 20 <= number < 40:
            message.data = message.data[:10]
    (cut, summary), (whole, expected) = cut_and_whole(write_bag(tmp_path / "bag", messages), tmp_path)
    assert cut == whole
    assert len(cut) == 70
    counts = [s["recordings"][0]["diagnosis"].get("undecodable", 0) + s["bad_frames"] for s in (summary, expected)]
    assert counts == [20, 20]


def test_one_image_and_images_that_are_all_bad(tmp_path):
    one = write_bag(tmp_path / "one", images(range(1)))
    bad = list(images(range(40)))
    for _, _, message in bad:
        if hasattr(message, "encoding"):
            message.data = message.data[:10]
    damaged = write_bag(tmp_path / "bad", bad)
    (cut, summary), (whole, _) = cut_and_whole(one, tmp_path / "1")
    assert len(cut) == len(whole) == 1
    assert summary["recordings"][0]["duration_s"] == 0
    (cut, summary), _ = cut_and_whole(damaged, tmp_path / "2")
    assert cut == []
    assert "can be read" in summary["recordings"][0]["error"]


def test_the_nominal_rate_forgives_jitter_and_keeps_slow_rates():
    assert [nominal_fps(x) for x in (29.97, 30.2, 7.5, 0.1, 0.0123, 0.0)] == [30, 30, 7.5, 0.1, 0.0123, 0]
