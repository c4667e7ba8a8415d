"""The `hsr` command, run in this process with the fake regressor."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import av
import numpy as np
import pytest

from hsr_core import bench_regressor, cli, registry
from hsr_core.results import PeopleRecorder, load_people
from hsr_core.sources import DEFAULT_CLIP
from hsr_core.stream import HumanStream
from hsr_core.types import Camera

FAKE = ["--regressor", "fake"]
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def hsr(capsys, *args: str) -> tuple[int, str, str]:
    status = cli.main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def cameras(tmp_path):
    path = tmp_path / "cameras.json"
    K = [[700.0, 0, 319.5], [0, 700, 239.5], [0, 0, 1]]
    path.write_text(json.dumps({"cameras": [{"name": "cam01", "K": K}, {"name": "cam02", "K": K}]}))
    return path


def test_run_writes_people_an_overlay_and_one_json_line(capsys, tmp_path, cameras):
    out, overlay = tmp_path / "people.npz", tmp_path / "overlay.mp4"
    status, text, _ = hsr(
        capsys, "run", "synthetic", "--out", out, "--overlay", overlay, "--cameras", cameras, "--camera", "cam02",
        "--height", 1.6, "--max-frames", 20, "--set", "overlay.scale=0.5", "--json", *FAKE,
    )  # fmt: skip
    assert status == 0
    summary = json.loads(text.splitlines()[-1])
    assert summary["frames"] == summary["detected"] == 20
    assert summary["fps"] > 0
    assert summary["latency_ms"].keys() >= {"p50", "p99", "max", "stages"}
    assert summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] <= summary["latency_ms"]["max"]
    assert summary["latency_ms"]["stages"].keys() >= {"decode", "regress", "place", "smooth", "body", "mesh"}
    people = load_people(out)
    assert people["joints"].shape == (20, 1, 55, 3)
    assert people["K"][0, 0] == 700
    np.testing.assert_allclose(np.diff(people["stamp_ns"]), 1e9 / 30, atol=1)
    assert people.metadata["complete"]
    assert people.metadata["settings"]["subject"]["height_m"] == 1.6
    with av.open(str(overlay)) as video:
        pictures = [picture.to_ndarray(format="bgr24") for picture in video.decode(video=0)]
    assert len(pictures) == 20
    assert pictures[0].shape == (240, 320, 3)


def test_people_in_the_file_are_those_of_the_stream(capsys, tmp_path):
    hsr(capsys, "run", "synthetic", "--out", tmp_path / "p.npz", "--max-frames", 5, *FAKE)
    people = load_people(tmp_path / "p.npz")
    from hsr_core.config import Settings
    from hsr_core.sources import open_source

    with open_source("synthetic") as source, HumanStream(Settings(regressor="fake")) as stream:
        for t, frame in zip(range(5), source, strict=False):
            (person,) = stream.process(frame).people
            np.testing.assert_allclose(people["joints"][t, 0], person.joints, atol=1e-6)


def test_without_json_the_summary_is_readable(capsys):
    status, text, _ = hsr(capsys, "run", "synthetic", "--max-frames", 3, *FAKE)
    assert status == 0
    assert "frames: 3" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_processed_before_the_end_is_written(capsys, tmp_path, monkeypatch, error):
    process = HumanStream.process

    def ends_early(self, frame):
        if frame.index == 5:
            raise error
        return process(self, frame)

    monkeypatch.setattr(HumanStream, "process", ends_early)
    out, overlay = tmp_path / "p.npz", tmp_path / "o.mp4"
    command = ["run", "synthetic", "--out", out, "--overlay", overlay, "--json", *FAKE]
    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            hsr(capsys, *command)
    else:
        status, text, _ = hsr(capsys, *command)
        assert status == 130
        assert json.loads(text.splitlines()[-1])["interrupted"]
    people = load_people(out)
    assert len(people["stamp_ns"]) == 5
    assert people.metadata["complete"] is False
    with av.open(str(overlay)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 5


def test_a_truncated_video_is_processed_and_flagged(capsys, tmp_path):
    path = tmp_path / "short.mp4"
    whole = DEFAULT_CLIP.read_bytes()
    path.write_bytes(whole[: len(whole) // 4])
    status, text, _ = hsr(capsys, "run", path, "--out", tmp_path / "p.npz", "--json", *FAKE)
    summary = json.loads(text.splitlines()[-1])
    assert status == 0
    assert summary["truncated"]
    assert summary["frames"] > 10
    assert load_people(tmp_path / "p.npz").metadata["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no/such.mp4"], "no/such.mp4"),
        (["run", "synthetic", "--regressor", "magic"], "landmarks"),
        (["run", "synthetic", "--set", "smoothing.gamma=1"], "smoothing.beta"),
        (["run", "synthetic", "--set", "people.mx=1"], "did you mean 'people.max'?"),
        (["run", "synthetic", "--set", "people.max"], "GROUP.NAME=VALUE"),
        (["run", "synthetic", "--set", "people.max=[1"], "people.max"),
        (["run", "synthetic", "--height", "9"], "0.5..2.5"),
        (["run", "synthetic", "--camera", "cam01"], "--cameras"),
        (["run", "synthetic", "--cameras", "none.json"], "none.json"),
        (["run", "synthetic", "--settings", "none.yaml"], "none.yaml"),
        (["run", "synthetic", "--max-frames", "0", *FAKE], "at least 1"),
        (["run", "synthetic", "--out", "no/folder/p.npz", *FAKE], "no folder"),
        (["run", "clip", "--out", "walk.mp4", *FAKE], "must end in .npz"),
        (["run", "no/such.mp4", "--overlay", "strip.png", *FAKE], "must end in .mp4"),
        (["refine", "clip", "--out", "no/folder", "--camera", "cam01"], "--cameras"),
        (["robot", "check"], "hsr robot list"),
        (["bench", "speed", "--frames", "3"], "at least 40"),
        (["bench", "smoothing", "--rate", "1"], "5..240"),
        (["bench", "people", "--people", "0"], "1..6"),
        (["bench", "people", "--frames", "3"], "more than 20"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(capsys, arguments, message):
    status, text, errors = hsr(capsys, *arguments)
    assert status == 2
    assert text == ""
    assert len([line for line in errors.splitlines() if line.startswith("hsr: ")]) == 1
    assert message in errors
    assert "Traceback" not in errors


def test_the_source_is_never_overwritten(capsys, tmp_path):
    video, link = tmp_path / "walk.mp4", tmp_path / "link.mp4"
    video.write_bytes(DEFAULT_CLIP.read_bytes())
    link.symlink_to(video)
    status, _, errors = hsr(capsys, "run", video, "--overlay", link, *FAKE)
    assert status == 2
    assert "would be overwritten" in errors
    assert video.read_bytes() == DEFAULT_CLIP.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [(["run", "clip", "--hight", "1.6"], "hsr run"), (["bench", "speed", "--framse=9"], "hsr bench speed")],
)
def test_an_unknown_option_shows_its_commands_usage_and_the_nearest(capsys, arguments, usage):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert f"usage: {usage}" in errors
    assert re.search(r"unrecognized arguments: .*; did you mean --(height|frames)\?", errors)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_ends_it_with_what_was_processed(capsys, tmp_path, monkeypatch, number):
    process = HumanStream.process

    def is_ended(self, frame):
        if frame.index == 5:
            os.kill(os.getpid(), number)
        return process(self, frame)

    save = PeopleRecorder.save

    def save_when_told_again(self, **kwargs):
        for again in ENDINGS:
            os.kill(os.getpid(), again)
        save(self, **kwargs)

    monkeypatch.setattr(HumanStream, "process", is_ended)
    monkeypatch.setattr(PeopleRecorder, "save", save_when_told_again)
    out, overlay = tmp_path / "p.npz", tmp_path / "o.mp4"
    had = {each: signal.signal(each, signal.SIG_DFL) for each in ENDINGS}  # the tests may run under nohup
    try:
        with pytest.raises(SystemExit) as end:
            hsr(capsys, "run", "synthetic", "--out", out, "--overlay", overlay, *FAKE)
        assert [signal.getsignal(each) for each in ENDINGS] == [signal.SIG_DFL] * 2
    finally:
        for each, handler in had.items():
            signal.signal(each, handler)
    assert end.value.code == 128 + number
    people = load_people(out)
    assert len(people["stamp_ns"]) == 5
    assert people.metadata["complete"] is False
    with av.open(str(overlay)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 5


@pytest.mark.parametrize("name_folder", ["setting", "environment"])
def test_without_licensed_files_it_says_where_to_get_and_put_them_and_starts_nothing(
    capsys, tmp_path, monkeypatch, name_folder
):
    folder, out = tmp_path / "models", tmp_path / "p.npz"
    folder.mkdir()
    command = ["run", "synthetic", "--out", out, "--overlay", tmp_path / "o.mp4", *FAKE]
    if name_folder == "setting":
        command += ["--set", f"body_model.path={folder}"]
    else:
        monkeypatch.setenv("HSR_BODY_MODELS", str(folder))
    started = []
    monkeypatch.setattr(registry, "create", lambda *args: started.append(args))
    monkeypatch.setattr(HumanStream, "process", lambda *args: started.append(args))
    status, text, errors = hsr(capsys, *command)
    assert status == 2
    assert text == ""
    for name, site in (
        ("SMPLX_NEUTRAL_2020.npz", "smpl-x.is.tue.mpg.de"), ("generic_model.pkl", "flame.is.tue.mpg.de"),
        ("SMPL-X__FLAME_vertex_ids.npy", "smpl-x.is.tue.mpg.de"), ("FLAME_masks.pkl", "flame.is.tue.mpg.de"),
    ):  # fmt: skip
        (line,) = [line for line in errors.splitlines() if f" {name}: " in line]
        assert f"register at https://{site}" in line
        assert f"put it at {folder / name}" in line
    assert "Traceback" not in errors
    assert not started
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert not list(folder.iterdir())


def test_a_wrong_camera_name_lists_those_that_exist(capsys, cameras):
    status, _, errors = hsr(capsys, "run", "synthetic", "--cameras", cameras, "--camera", "cam9", *FAKE)
    assert status == 2
    assert "cam01, cam02" in errors


def test_bench_speed_measures_every_stage(capsys):
    status, text, _ = hsr(capsys, "bench", "speed", "--frames", 40, "--json", *FAKE)
    values = json.loads(text.splitlines()[-1])
    assert status == 0
    assert values["regressor"] == "fake"
    assert values["latency_ms"]["p50"] > 0
    assert values["body_ms"]["p50"] > 0
    assert values["stages"].keys() >= {"regress", "smooth", "body", "total"}
    assert isinstance(values["rss_growth_mb"], float)


@pytest.mark.parametrize("all_runtimes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_bench_regressor_compares_the_runtimes_of_this_machine(capsys, monkeypatch, all_runtimes):
    if not all_runtimes:  # those that need no export
        monkeypatch.setitem(bench_regressor.CASES, "cpu", bench_regressor.CASES["cpu"][:2])
    assert cli.main(["bench", "regressor", "--device", "cpu", "--frames", "5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["parameters"] == 284_716
    for graph in ("parameters", "people"):
        torch_fp32, half = (facts["graphs"][graph]["cases"][f"torch {kind}"] for kind in ("fp32", "bf16"))
        assert torch_fp32["difference"]["rotmats"] < 1e-5 < half["difference"]["rotmats"] < 0.1
        assert 0 < torch_fp32["ms"]["p50"] <= torch_fp32["ms"]["max"]
    assert {"detect", "crop", "network", "lift", "mesh", "total"} <= facts["stages"].keys()
    assert facts["stages"]["total"]["share"] + facts["stages"]["mesh"]["share"] == pytest.approx(1, abs=2e-3)


def test_bench_smoothing_as_json(capsys):
    status, text, _ = hsr(capsys, "bench", "smoothing", "--json")
    assert status == 0
    assert json.loads(text)["body rotations"]["lag_ms"] > 0


def test_weights_are_made_and_checked(capsys, tmp_path):
    path = tmp_path / "tiny.pt"
    assert cli.main(["weights", "make-test", str(path), "--size", "tiny", "--json"]) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert cli.main(["weights", "check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == made
    assert made["size"]["width"] == 64
    path.write_bytes(path.read_bytes()[:5000])
    assert cli.main(["weights", "check", str(path)]) == 2
    assert "download it again" in capsys.readouterr().err
    assert cli.main(["weights", "make-test", str(tmp_path / "no" / "folder.pt")]) == 2


def test_a_module_that_is_missing_breaks_only_its_own_command(capsys, monkeypatch):
    monkeypatch.setitem(cli.LAZY, "doctor", ("hsr_core.no_such_module", "help"))
    status, _, errors = hsr(capsys, "doctor")
    assert status == 2
    assert "hsr doctor" in errors
    status, _, _ = hsr(capsys, "run", "synthetic", "--max-frames", 1, *FAKE)
    assert status == 0


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["bench", "--help"], ["bench", "accuracy", "--help"]]
)
def test_help_of_every_command(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 0


def test_importing_the_command_loads_nothing_heavy():
    code = (
        "import sys, hsr_core.cli as cli; cli._parser([]);"
        "print([name for name in ('torch', 'cv2', 'mediapipe', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_calibration_for_another_picture_is_refused_before_anything_runs(capsys, tmp_path):
    path = tmp_path / "cameras.json"
    camera = Camera.from_hfov(60, (480, 640))
    path.write_text(json.dumps({"cameras": [{"name": "a", "size": [500, 500], "K": camera.K.tolist()}]}))
    status, _, errors = hsr(capsys, "run", "synthetic", "--cameras", path, *FAKE)
    assert status == 2
    assert "not the same picture" in errors or "outside" in errors
