"""`hsr eval` from recordings to result files: the same bytes again, on any number of workers, and after a kill."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from bags import camera, write_bag
from heeding import heed_signals

from hsr_core.body import load_body
from hsr_core.cli import main
from hsr_core.config import Settings
from hsr_core.errors import ConfigError, MissingFile
from hsr_core.eval import jobs as jobs_module
from hsr_core.eval.command import evaluate
from hsr_core.eval.jobs import TRIES, NoSpace, run_units
from hsr_core.eval.plan import plan_units
from hsr_core.eval.recordings import Recording, dataset_recordings, find_recordings
from hsr_core.eval.refine_metrics import pose_errors
from hsr_core.eval.unit import UnitResult
from hsr_core.refine.frames import read_folder

FRAMES = 24


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """A synthetic person who turns once, 2.4 s at 10 fps, as a folder and as a bag."""
    folder = tmp_path_factory.mktemp("synth") / "scene"
    arguments = ["--seed", "3", "--frames", str(FRAMES), "--size", "320x240", "--background", "plain", "--bag"]
    assert main(["synth", "--out", str(folder), *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def bag(scene) -> str:
    return str(scene / "bag")


def run(recordings, out: Path, **options):
    values = {"name": "test", "chunk_s": 1.2, "overlap_s": 0.6} | options
    return evaluate(recordings, Settings().with_values({"regressor": "landmarks"}), out, **values)


def frames_of(out: Path) -> list[dict]:
    records = [json.loads(line) for line in (out / "result.jsonl").read_text().splitlines()]
    assert records[0]["kind"] == "run"
    return [record for record in records if record["kind"] == "frame"]


@pytest.fixture(scope="module")
def first(bag, tmp_path_factory):
    """A run in two parts."""
    out = tmp_path_factory.mktemp("first")
    return out, run(find_recordings([bag]), out)


def without_timing(summary: dict) -> dict:
    return {key: value for key, value in summary.items() if key != "timing"}


def test_every_frame_is_scored_once_across_the_border(first):
    out, summary = first
    frames = frames_of(out)
    stamps = [frame["stamp_ns"] for frame in frames]
    assert len(stamps) == FRAMES
    assert (np.diff(stamps) > 0).all()
    assert [frame["index"] for frame in frames] == list(range(FRAMES))
    assert summary["frames"] == FRAMES
    assert summary["metrics"]["detection_rate"]["annotated"] == FRAMES
    assert summary["metrics"]["mpjpe_mm"]["protocol"]["name"] == "body-22"
    assert 20 < summary["metrics"]["mpjpe_mm"]["value"] < 200
    values = [frame["people"][0]["values"]["mpjpe_mm"] for frame in frames if frame["people"]]
    assert summary["metrics"]["mpjpe_mm"]["value"] == pytest.approx(np.mean(values), abs=1e-3)


def test_the_same_input_gives_the_same_bytes_again(first, bag, tmp_path):
    out, summary = first
    again = run(find_recordings([bag]), tmp_path)
    assert (out / "result.jsonl").read_bytes() == (tmp_path / "result.jsonl").read_bytes()
    assert without_timing(again) == without_timing(summary)


def test_two_processes_give_the_same_results(first, bag, tmp_path):
    out, summary = first
    assert without_timing(run(find_recordings([bag]), tmp_path, jobs=2)) == without_timing(summary)
    assert (out / "result.jsonl").read_bytes() == (tmp_path / "result.jsonl").read_bytes()


@pytest.mark.slow
def test_ray_gives_the_same_results(first, bag, tmp_path):
    pytest.importorskip("ray", reason="pip install 'hsr-core[ray]'")
    out, summary = first
    assert without_timing(run(find_recordings([bag]), tmp_path, ray="local")) == without_timing(summary)
    assert (out / "result.jsonl").read_bytes() == (tmp_path / "result.jsonl").read_bytes()


def test_parts_with_overlap_are_near_one_run(first, bag, tmp_path):
    """Tracker and filters have forgotten their start after the overlap, but for the shape, a median of first frames."""
    out, _ = first
    run(find_recordings([bag]), tmp_path, chunk_s=0.0)
    pairs = list(zip(frames_of(out), frames_of(tmp_path), strict=True))
    assert [a["stamp_ns"] for a, _ in pairs] == [b["stamp_ns"] for _, b in pairs]
    half = [a["people"] == b["people"] for a, b in pairs[: FRAMES // 2]]
    assert all(half)  # up to the border nothing differs
    differences = [
        np.linalg.norm(np.subtract(a["people"][0]["pelvis"], b["people"][0]["pelvis"]))
        for a, b in pairs
        if a["people"] and b["people"]
    ]
    assert len(differences) > FRAMES // 2
    assert np.median(differences) < 0.05
    assert max(differences) < 0.2


def test_a_bag_and_its_folder_give_the_same_figures(scene, bag, tmp_path):
    """The folder's images are PNG of the same pictures, its truth the same parameters."""
    whole = run(find_recordings([bag]), tmp_path / "a", chunk_s=0.0)
    folder = run(dataset_recordings("synthetic", str(scene), []), tmp_path / "b")
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pck_005", "accel_error_mm_frame2"):
        assert folder["metrics"][name]["value"] == pytest.approx(whole["metrics"][name]["value"], rel=1e-3)


def test_the_worst_frames_are_drawn(first):
    out, summary = first
    values = [entry["value"] for entry in summary["worst"]]
    assert values == sorted(values, reverse=True)
    everything = [p["values"].get("mpjpe_mm", 0) for frame in frames_of(out) for p in frame["people"]]
    assert values[0] == max(everything)
    for entry in summary["worst"]:
        assert cv2.imread(str(out / entry["picture"])) is not None


def test_a_run_that_was_killed_goes_on_where_it_stopped(first, bag, tmp_path, monkeypatch):
    """The second of two parts is lost before it is whole: the first is not done again."""
    out, summary = first
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    units = plan_units(find_recordings([bag]), Settings().with_values({"regressor": "landmarks"}), chunk_s=1.2,
                       overlap_s=0.6)  # fmt: skip
    done = copy / ".units" / units[1].key
    (done / "unit.json").unlink()
    (done / "rows.jsonl").write_bytes((done / "rows.jsonl").read_bytes()[:100])
    (copy / "summary.json").unlink()
    worked = []
    inner = jobs_module.run_unit
    monkeypatch.setattr(
        jobs_module,
        "run_unit",
        lambda unit, folder: worked.append((folder / "unit.json").is_file()) or inner(unit, folder),
    )
    assert without_timing(run(find_recordings([bag]), copy)) == without_timing(summary)
    assert worked == [False]  # the first was there


def test_a_folder_of_many_sequences_is_looked_through_once(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr("hsr_core.eval.plan.fingerprint", lambda path: looked.append(path) or [path, 0])
    sequences = [Recording(name, "dataset", str(tmp_path), dataset="set", sequence=name) for name in "abc"]
    assert len({unit.key for unit in plan_units(sequences, Settings())}) == 3
    assert looked == [str(tmp_path)]


def test_another_setting_is_another_run(first, bag):
    plans = [
        plan_units(find_recordings([bag]), Settings().with_values(values))[0].key
        for values in ({"regressor": "landmarks"}, {"regressor": "landmarks", "smoothing.enabled": False})
    ]
    assert plans[0] != plans[1]


def test_what_fails_by_chance_is_tried_again_and_what_always_fails_is_named(bag, tmp_path, monkeypatch):
    units = plan_units(find_recordings([bag]), Settings(), chunk_s=0)
    calls = []

    def fails(times):
        def work(unit, folder):
            calls.append(unit.index)
            if len(calls) <= times:
                raise RuntimeError("out of luck")
            return "result"

        return work

    monkeypatch.setattr(jobs_module, "run_unit", fails(TRIES - 1))
    assert run_units(units, tmp_path) == ["result"]
    assert len(calls) == TRIES
    calls.clear()
    monkeypatch.setattr(jobs_module, "run_unit", fails(TRIES))
    (result,) = run_units(units, tmp_path)
    assert result.error == "failed 3 times, the last time with RuntimeError: out of luck"


def bad_settings(unit, folder):
    raise ConfigError("no such thing")


def full_disk(unit, folder):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("work", "error", "jobs"), [(bad_settings, ConfigError, 1), (full_disk, NoSpace, 1), (full_disk, NoSpace, 2)]
)
def test_what_no_other_try_can_mend_ends_the_run(bag, tmp_path, monkeypatch, work, error, jobs):
    monkeypatch.setattr(jobs_module, "run_unit", work)
    units = plan_units(find_recordings([bag]), Settings(), chunk_s=1.2)
    with pytest.raises(error):
        run_units(units, tmp_path, jobs=jobs)


def kills_itself_once(unit, folder):
    """Unit 1 kills its process, always; the others are done."""
    if unit.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return UnitResult.failed(f"done {unit.index}")


def test_a_killed_process_costs_its_own_unit_alone(bag, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_module, "run_unit", kills_itself_once)
    units = plan_units(find_recordings([bag]), Settings(), chunk_s=0.5)
    results = run_units(units, tmp_path, jobs=2)
    assert len(results) > 3
    assert "killed" in results[1].error
    assert [r.error for r in results[:1] + results[2:]] == [f"done {u.index}" for u in units if u.index != 1]


def test_a_part_that_fails_costs_itself_alone_and_the_exit_status_says_so(bag, tmp_path, monkeypatch, capsys):
    inner = jobs_module.run_unit

    def second_fails(unit, folder):
        if unit.index == 1:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "rows.jsonl").write_text('{"kind":"frame"')
            raise MemoryError
        return inner(unit, folder)

    monkeypatch.setattr(jobs_module, "run_unit", second_fails)
    arguments = ["eval", bag, "--out", str(tmp_path), "--regressor", "landmarks", "--chunk", "1.2", "--json"]
    assert main(arguments) == 1
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["errors"] == {"bag": "part 1 failed 3 times, the last time with MemoryError"}
    assert answer["frames"] == len(frames_of(tmp_path)) == FRAMES // 2
    monkeypatch.setattr(jobs_module, "run_unit", inner)
    assert main(arguments) == 0  # what failed is tried again
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == FRAMES


def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(bag, tmp_path):
    """As a terminal does it: the signal goes to all processes of the group. Then the run goes on."""
    arguments = [sys.executable, "-m", "hsr_core.cli", "eval", bag, "--out", str(tmp_path), "--regressor", "fake"]
    arguments += ["--jobs", "2", "--chunk", "0.2", "--json"]
    process = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_signals,
    )  # fmt: skip
    try:
        while not (finished := list(tmp_path.glob(".units/*/unit.json"))):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert all(path.is_file() for path in finished)
    await_end_of_group(process.pid)


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed(bag, tmp_path):
    arguments = [sys.executable, "-m", "hsr_core.cli", "eval", bag, "--out", str(tmp_path), "--regressor", "fake"]
    process = subprocess.Popen(
        [*arguments, "--jobs", "2", "--chunk", "0.2"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(tmp_path.glob(".units/*")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    await_end_of_group(process.pid)


def await_end_of_group(group: int) -> None:
    deadline = time.monotonic() + 60
    while left := group_members(group):
        assert time.monotonic() < deadline, f"processes {left} go on without their parent"
        time.sleep(0.05)


def group_members(group: int) -> list[str]:
    """Processes of a group that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(path.parent.name)
    return found


def test_a_bad_recording_among_good_ones_costs_itself_alone(bag, tmp_path):
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    recordings = find_recordings([bag, str(broken)])
    summary = run(recordings, tmp_path / "out", chunk_s=0.0)
    good, bad = summary["recordings"]
    assert good["frames"] == FRAMES
    assert not good["error"]
    assert bad["frames"] == 0
    assert "broken.mcap" in bad["error"]


def test_a_truncated_bag_is_scored_up_to_the_damage(bag, tmp_path):
    copy = tmp_path / "cut"
    shutil.copytree(bag, copy)
    file = next(copy.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    summary = run(find_recordings([str(copy)]), tmp_path / "out")
    recording = summary["recordings"][0]
    assert 5 < recording["frames"] < FRAMES
    assert recording["diagnosis"]["truncated"]
    assert summary["metrics"]["mpjpe_mm"]["count"] > 0


def test_a_bag_without_truth_or_people_gives_what_there_is(tmp_path):
    path = write_bag(tmp_path / "empty", camera(20))
    summary = run(find_recordings([str(path)]), tmp_path / "out")
    assert summary["frames"] == 20
    assert "mpjpe_mm" not in summary["metrics"]
    assert summary["recordings"][0]["error"] == ""
    assert summary["timing"]["stages_ms"]["total"]["count"] == 20


def test_people_are_scored_as_they_were_recorded(scene, bag, tmp_path):
    """The initial estimates of the scene, by another path: the folder's files and the refinement's own errors."""
    summary = run(find_recordings([bag], people="/synth/initial"), tmp_path)
    body = load_body()
    frames = list(read_folder(scene, body_model=body.model_id))
    expected = pose_errors(body, [frame.params for frame in frames], [frame.truth for frame in frames])
    metrics = summary["metrics"]
    assert summary["mode"] == metrics["mpjpe_mm"]["protocol"]["mode"] == "recorded"
    for name, same in (("mpjpe_mm", "mpjpe_mm"), ("pa_mpjpe_mm", "pa_mpjpe_mm"), ("pve_mm", "v2v_mm"),
                       ("root_error_mm", "root_error_mm")):  # fmt: skip
        assert metrics[name]["value"] == pytest.approx(expected[same], abs=0.02)
    exact = run(find_recordings([bag], people="/synth/truth"), tmp_path / "truth")
    assert exact["metrics"]["mpjpe_mm"]["value"] == pytest.approx(0, abs=1e-3)
    missing = run(find_recordings([bag], people="/human/people"), tmp_path / "missing")
    assert "no topic /human/people; it has: /synth/initial" in missing["recordings"][0]["error"]


def test_folders_and_lists_are_expanded_with_names_of_their_own(bag, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(bag, tmp_path / "set" / name / "take")
    (tmp_path / "list.txt").write_text("# two takes\nset/a\nset/b\n")
    names = [recording.name for recording in find_recordings([str(tmp_path / "list.txt")])]
    assert names == ["a/take", "b/take"]
    assert [recording.kind for recording in find_recordings([str(tmp_path / "set" / "a")])] == ["bag"]
    with pytest.raises(MissingFile, match="no recording"):
        find_recordings([str(tmp_path / "nothing")])


def test_the_command_tells_what_it_measured(scene, tmp_path, capsys):
    arguments = ["eval", "--dataset", "synthetic", str(scene), "--out", str(tmp_path / "out"), "--json"]
    assert main([*arguments, "--regressor", "landmarks"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) >= {"metrics", "protocol", "timing"}
    assert answer["protocol"]["dataset"] == "synthetic"
    assert answer["metrics"]["detection_rate"] > 0.5


def test_two_settings_are_run_and_compared_and_a_condition_sets_the_exit_code(bag, tmp_path, capsys):
    report = tmp_path / "report.html"
    arguments = ["eval", bag, "--out", str(tmp_path / "out"), "--regressor", "landmarks", "--json"]
    arguments += ["--versus", "smoothing.enabled=false", "--report", str(report)]
    assert main([*arguments, "--fail-if", "jitter < +0%"]) == 0
    comparison = json.loads(capsys.readouterr().out.splitlines()[-1])["comparison"]
    assert comparison["changed"] == {"settings.smoothing.enabled": [True, False]}
    assert comparison["metrics"]["jitter_10m_s3"]["difference"] > 0  # what smoothing is for
    assert "jitter &lt; +0%" in report.read_text()
    assert main([*arguments, "--fail-if", "jitter > +1%"]) == 1
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["failed"]
    assert answer["criteria"][0]["failed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a recording"),
        (["/no/such/bag"], "no recording /no/such/bag"),
        (["--dataset", "synthetic", "/no/such/folder"], "no folder"),
        (["clip", "--jobs", "0"], "--jobs"),
        (["--compare", "/no/a", "/no/b"], "/no/a"),
    ],
)
def test_wrong_arguments_are_said(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_reference_topic_lists_what_there_is(bag, tmp_path):
    summary = run(find_recordings([bag], reference="/truth"), tmp_path)
    assert "no reference topic /truth; it has" in summary["recordings"][0]["error"]
    with pytest.raises(ConfigError, match="--jobs"):
        run(find_recordings([bag]), tmp_path, jobs=0)
