"""Two runs side by side: pairing, counting, intervals, refusals."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from result_folders import BASE, START_NS, frame, frames_of, person, write_folder
from scipy.stats import bootstrap

from hsr_core.errors import BadFile, ConfigError, MissingFile
from hsr_core.eval import compare as module
from hsr_core.eval.compare import compare, joined
from hsr_core.eval.figure import Figure


def two(tmp_path, frames_a, frames_b, **options):
    return write_folder(tmp_path / "a", frames_a), write_folder(tmp_path / "b", frames_b, **options)


def noisy(seed, shift=0.0, names=("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"), count=40):
    """Recordings of different difficulty; the second run differs by a recording's own amount and `shift`."""
    rng = np.random.default_rng(seed)
    a, b, differences = [], [], []
    for name in names:
        values = rng.uniform(30, 90) + rng.normal(0, 4, count)
        difference = shift + rng.normal(0, 1.0) + rng.normal(0, 0.5, count)
        differences.append(difference)
        a += frames_of(name, count, values.tolist().__getitem__)
        b += frames_of(name, count, (values + difference).tolist().__getitem__)
    return a, b, differences


def test_the_paired_difference_and_its_interval_agree_with_scipy(tmp_path):
    a, b, differences = noisy(3, shift=1.0)
    row = compare(*two(tmp_path, a, b), draws=4000)["metrics"]["pa_mpjpe_mm"]
    means = np.array([values.mean() for values in differences])  # equal lengths: their mean is the pooled one
    assert row["difference"] == pytest.approx(np.concatenate(differences).mean(), abs=1e-9)
    theirs = bootstrap((means,), np.mean, n_resamples=4000, method="percentile", random_state=1).confidence_interval
    assert row["interval"] == pytest.approx([theirs.low, theirs.high], abs=0.06)  # Monte Carlo error of 4000 draws
    assert row["relative"] == pytest.approx(row["difference"] / row["a"])
    assert row["units"] == 8
    assert row["pairs"] == 320


def test_many_recordings_are_drawn_and_few_are_cut_into_blocks_and_the_result_says_which(tmp_path):
    a, b, _ = noisy(0)
    assert compare(*two(tmp_path / "many", a, b))["interval"]["over"] == "recordings"
    a, b, _ = noisy(0, names=("only",), count=900)
    few = compare(*two(tmp_path / "few", a, b))
    assert few["interval"]["over"] == "blocks of 3 s"
    assert few["metrics"]["pa_mpjpe_mm"]["units"] == 10  # 900 frames at 30 Hz are 30 s
    assert any("speak about these recordings" in note for note in few["notes"])


def test_long_recordings_have_longer_blocks_so_that_memory_stays_small(tmp_path):
    frames = [
        frame("s", i, [person(0, {"pa_mpjpe_mm": 1.0 + i % 7})], stamp_ns=START_NS + i * 10**10) for i in range(900)
    ]
    result = compare(*two(tmp_path, frames, frames))
    assert result["interval"]["over"] == "blocks of 36 s"  # 8990 s / 256, up to the whole second
    assert result["metrics"]["pa_mpjpe_mm"]["units"] <= 257


def test_one_block_has_no_interval(tmp_path):
    frames, others = frames_of("s", 30, float), frames_of("s", 30, lambda i: i + 1.0)
    result = compare(*two(tmp_path, frames, others))
    assert any("too little for intervals" in note for note in result["notes"])
    row = result["metrics"]["pa_mpjpe_mm"]
    assert row["interval"] is None
    assert row["verdict"] == "no interval"


def test_the_same_call_gives_the_same_bytes(tmp_path):
    a, b, _ = noisy(5)
    folders = two(tmp_path, a, b)
    assert json.dumps(compare(*folders), allow_nan=False) == json.dumps(compare(*folders), allow_nan=False)


def test_people_found_by_one_run_only_are_counted_and_do_not_move_the_difference(tmp_path):
    a = frames_of("s", 300, lambda i: None if i < 20 else 50.0)
    b = frames_of("s", 300, lambda i: None if 10 <= i < 25 else 51.0)
    result = compare(*two(tmp_path, a, b))
    assert result["people"] == {
        "both": 275, "gained": 10, "lost": 5, "missed_by_both": 10, "unmatched_a": 0, "unmatched_b": 0,
    }  # fmt: skip
    row = result["metrics"]["pa_mpjpe_mm"]
    assert (row["pairs"], row["only_a"], row["only_b"]) == (275, 5, 10)
    assert row["difference"] == pytest.approx(1.0)
    assert any("5 people were found by a and missed by b" in note for note in result["notes"])


def test_a_value_that_only_one_run_has_is_counted_for_its_metric(tmp_path):
    a = [frame("s", i, [person(0, {"pa_mpjpe_mm": 5.0, "mpjpe_mm": 7.0})]) for i in range(200)]
    b = [frame("s", i, [person(0, {"pa_mpjpe_mm": 5.0} | ({"mpjpe_mm": 8.0} if i % 2 else {}))]) for i in range(200)]
    result = compare(*two(tmp_path, a, b))
    assert (result["metrics"]["mpjpe_mm"]["pairs"], result["metrics"]["mpjpe_mm"]["only_a"]) == (100, 100)
    assert result["people"]["lost"] == 0


def test_people_pair_by_reference_not_by_track_or_order(tmp_path):
    a = [
        frame("s", i, [person(0, {"mpjpe_mm": 10.0}, track=1), person(4, {"mpjpe_mm": 90.0}, track=2)])
        for i in range(99)
    ]
    b = [
        frame("s", i, [person(4, {"mpjpe_mm": 92.0}, track=1), person(0, {"mpjpe_mm": 12.0}, track=7)])
        for i in range(99)
    ]
    row = compare(*two(tmp_path, a, b))["metrics"]["mpjpe_mm"]
    assert row["difference"] == pytest.approx(2.0)
    assert row["pairs"] == 198


def test_frames_and_recordings_of_one_run_only_are_counted(tmp_path):
    a = frames_of("s", 300, float) + frames_of("gone", 7, float)
    b = frames_of("new", 5, float) + frames_of("s", 300, float)[::2]
    result = compare(*two(tmp_path, a, b))
    assert result["frames"] == {"both": 150, "only_a": 157, "only_b": 5}
    assert result["recordings"] == {"both": ["s"], "only_a": ["gone"], "only_b": ["new"]}
    assert result["metrics"]["pa_mpjpe_mm"]["pairs"] == 150


def test_the_order_of_recordings_in_the_files_does_not_matter(tmp_path):
    a, b, _ = noisy(1)
    straight = compare(*two(tmp_path / "x", a, b))
    turned = sorted(b, key=lambda row: (-int(row["recording"][1:]), row["index"]))
    other = compare(*two(tmp_path / "y", a, turned))
    assert straight["metrics"] == other["metrics"]


def test_stamps_that_jump_back_or_repeat_still_pair():
    stamps = [10, 20, 20, 30, 5, 15, 40]
    a = [frame("s", i, [], stamp_ns=stamp) for i, stamp in enumerate(stamps)]
    b = [row for row in a if row["index"] not in (3, 5)]
    pairs = list(joined(iter(a), iter(b)))
    both = [(one["index"], other["index"]) for one, other in pairs if one and other]
    assert sorted(both) == [(i, i) for i in (0, 1, 2, 4, 6)]
    assert sorted(one["index"] for one, other in pairs if other is None) == [3, 5]


def test_frames_that_wait_for_a_partner_are_few(monkeypatch):
    monkeypatch.setattr(module, "_WINDOW", 8)
    a = (frame("s", i, [], stamp_ns=2 * i) for i in range(1000))
    b = (frame("s", i, [], stamp_ns=2 * i + (i % 2)) for i in range(1000))
    pairs = list(joined(a, b))
    assert sum(1 for one, other in pairs if one and other) == 500
    assert len(pairs) == 1500


def test_metrics_of_other_protocols_are_refused_with_the_fields(tmp_path):
    frames = frames_of("s", 200, float)
    a = write_folder(tmp_path / "a", frames)
    b = write_folder(tmp_path / "b", frames, protocol=replace(BASE, pelvis="smpl-joint-0"))
    result = compare(a, b)
    assert result["metrics"] == {}
    assert {"metric": "mpjpe_mm", "fields": {"pelvis": ["midpoint-of-hips", "smpl-joint-0"]}} in result["refused"]


def test_figures_without_values_per_frame_are_set_side_by_side(tmp_path):
    frames = frames_of("s", 200, float)
    hota = [{"hota": Figure.ratio(part, 100, BASE.of("hota"))} for part in (60, 57)]
    a = write_folder(tmp_path / "a", frames, extra_metrics=hota[0])
    b = write_folder(tmp_path / "b", frames, extra_metrics=hota[1])
    row = compare(a, b)["metrics"]["hota"]
    assert row["kind"] == "figure"
    assert row["interval"] is None
    assert row["difference"] == pytest.approx(-0.03)
    assert row["relative"] == pytest.approx(-0.05)


def test_regressions_come_first_and_their_worst_frames_with_them(tmp_path):
    a, b = [], []
    for s in range(6):
        a += [
            frame(f"s{s}", i, [person(0, {"mpjpe_mm": 50.0, "pck_005": 0.9, "pa_mpjpe_mm": 40.0})]) for i in range(20)
        ]
        b += [
            frame(
                f"s{s}",
                i,
                [person(0, {"mpjpe_mm": 49.0 - s / 9, "pck_005": 0.7 - 0.001 * i * s, "pa_mpjpe_mm": 42.0 + s})],
            )
            for i in range(20)
        ]
    result = compare(*two(tmp_path, a, b))
    assert list(result["metrics"]) == ["pck_005", "pa_mpjpe_mm", "mpjpe_mm"]  # 23 % and 11 % worse, 2 % better
    assert [row["verdict"] for row in result["metrics"].values()] == ["worse", "worse", "better"]
    worst = result["metrics"]["pck_005"]["worst"]
    assert len(worst) == 10
    assert (worst[0]["recording"], worst[0]["index"]) == ("s5", 19)
    assert all(one["difference"] <= other["difference"] for one, other in itertools.pairwise(worst))
    assert result["metrics"]["mpjpe_mm"]["worst"] == []


def test_without_reference_the_primary_people_are_compared(tmp_path):
    def run(value):
        people = [person(None, {"jitter_10m_s3": value}), person(None, {"jitter_10m_s3": 99.0}, track=2, primary=False)]
        return [frame("s", i, people) for i in range(200)]

    result = compare(*two(tmp_path, run(4.0), run(3.0)))
    assert result["metrics"]["jitter_10m_s3"]["difference"] == -1.0
    assert any("no reference" in note for note in result["notes"])


def test_what_changed_between_the_runs_is_listed(tmp_path):
    frames = frames_of("s", 100, float)
    a = write_folder(tmp_path / "a", frames, facts={"settings": {"smooth": {"beta": 3}}, "regressor": "x", "date": "1"})
    b = write_folder(tmp_path / "b", frames, facts={"settings": {"smooth": {"beta": 8}}, "regressor": "x", "date": "2"})
    result = compare(a, b / "summary.json")
    assert result["changed"] == {"settings.smooth.beta": [3, 8]}
    assert not any("last digit" in note for note in result["notes"])  # the first lines differ
    assert "both runs gave the same results to the last digit" in compare(a, a)["notes"]


def test_a_truncated_last_line_is_left_out_and_said(tmp_path):
    a, b = two(tmp_path, frames_of("s", 200, float), frames_of("s", 200, float))
    text = (b / "result.jsonl").read_bytes()
    (b / "result.jsonl").write_bytes(text[:-30])
    result = compare(a, b)
    assert result["frames"] == {"both": 199, "only_a": 1, "only_b": 0}
    assert any(note.startswith("b: ") and "breaks off" in note for note in result["notes"])


def test_broken_lines_and_values_that_are_no_numbers_are_left_out(tmp_path):
    rows = frames_of("s", 200, float)
    rows[3]["people"][0]["values"] = {"pa_mpjpe_mm": None, "mpjpe_mm": "x"}
    a, b = two(tmp_path, frames_of("s", 200, float), frames_of("s", 200, float))
    lines = (b / "result.jsonl").read_text().splitlines(keepends=True)
    lines[4] = json.dumps(rows[3]) + "\n"
    lines[9] = lines[9][:70] + "\n"
    lines[20] = lines[20].replace('"pa_mpjpe_mm":19.0', '"pa_mpjpe_mm":NaN')
    (b / "result.jsonl").write_text("".join(lines))
    result = compare(a, b)
    assert result["metrics"]["pa_mpjpe_mm"]["pairs"] == 197
    assert any("1 lines" in note for note in result["notes"])
    assert math.isfinite(result["metrics"]["pa_mpjpe_mm"]["difference"])


def test_what_is_missing_or_foreign_is_named(tmp_path):
    good = write_folder(tmp_path / "good", frames_of("s", 9, float))
    with pytest.raises(MissingFile, match="no such path"):
        compare(good, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile, match=r"summary.json is missing .*goes on where it stopped"):
        compare(tmp_path / "empty", good)
    alone = write_folder(tmp_path / "alone", frames_of("s", 9, float))
    (alone / "result.jsonl").unlink()
    with pytest.raises(MissingFile, match=r"no result.jsonl beside it"):
        compare(good, alone / "summary.json")
    (alone / "result.jsonl").write_text('{"kind":"run","format":"other/3"}\n')
    with pytest.raises(BadFile, match="hsr-eval/1"):
        compare(good, alone)
    (alone / "summary.json").write_text('{"format": "x"}')
    with pytest.raises(BadFile, match="'x'"):
        compare(alone, good)
    other = write_folder(tmp_path / "other", frames_of("t", 9, float))
    with pytest.raises(ConfigError, match=r"no frame is in both.* s, .* t$"):
        compare(good, other)


@pytest.mark.parametrize("count", [1, 30, 400])
def test_a_run_against_itself_is_the_same_however_short(tmp_path, count):
    run = two(tmp_path, frames_of("s", count, float), [])[0]
    result = compare(run, run)
    for row in result["metrics"].values():
        assert (row["difference"], row["verdict"]) == (0, "same")
