"""The command behind `make run`: it starts, measures and stops everything, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import LIMIT_S, children_of, until_frames
from hsr import bringup
from hsr.bringup import BringupError, Camera
from scripted_node import FAIL_DIR, TinyBody
from scripted_refiner import LOG, MODEL

from hsr_core.regress.pear.checkpoint import make_test


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(condition, what: str):
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {LIMIT_S:g} s: {what}"
        time.sleep(0.02)
    return found


def interrupted(process: subprocess.Popen, until: Callable[[subprocess.Popen], str]) -> tuple[str, dict]:
    """Press Ctrl-C once `until` has returned; return what was printed and the summary of a good end."""
    seen = until(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return seen + out, json.loads(out.splitlines()[-1])


def running(process: subprocess.Popen) -> dict[str, int]:
    """Wait until frames are processed; return the node processes."""
    until_frames(process)
    return children_of(process.pid)


def test_a_timed_run_ends_by_itself_with_a_summary(bring_up):
    process = bring_up("--source", "synthetic", "--hfov", "60", "--for", "5")
    out, err = process.communicate()
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["ok"]
    frames = summary["frames"]
    assert frames["processed"] > 0
    assert frames["in"] >= frames["processed"] + sum(frames["dropped"].values()) - frames["dropped"]["lost"] - 1
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] <= summary["latency_ms"]["max"]
    assert summary["latency_ms"]["meshes"] > 0
    assert summary["people"] == 1
    assert summary["perception_rss_mb"] > 10
    assert summary["returncodes"] == {"source": 0, "perception": 0}
    assert "/human/mesh" in out
    assert not children_of(process.pid)


def test_the_library_and_the_view_run_behind_the_same_command(bring_up):
    """The true node with the open body and the regressor that needs no network; the page is reachable."""
    pytest.importorskip("viser", reason="the web view needs viser: make setup")
    process = bring_up(
        "--source", "clip", "--port", "0", "--set", "regressor:=fake", perception="hsr.perception_node", view=True
    )
    out, summary = interrupted(process, lambda process: until_frames(process, 20))
    assert summary["people"] == 1
    assert summary["latency_ms"]["meshes"] > 0
    assert summary["returncodes"] == {"source": 0, "view": 0, "perception": 0}
    assert "view: http://127.0.0.1:" in out


def test_pear_runs_in_the_node_on_a_checkpoint_of_its_format(bring_up, tmp_path):
    weights = tmp_path / "tiny.pt"
    make_test(weights)
    process = bring_up(
        "--source", "clip", "--set", "regressor:=pear", "--set", f"pear.weights:={weights}", "--set", "engine:=torch",
        perception="hsr.perception_node",
    )  # fmt: skip
    _, summary = interrupted(process, lambda process: until_frames(process, 20))
    assert summary["latency_ms"]["meshes"] > 0


def test_the_refiner_runs_behind_the_same_command_and_says_a_line_for_each_window(bring_up, tmp_path, monkeypatch):
    monkeypatch.setenv(LOG, str(tmp_path / "told.jsonl"))
    monkeypatch.setenv(MODEL, TinyBody.model_id)
    process = bring_up(
        "--source", "synthetic", "--hfov", "60", "--refine", "--refine-module", "scripted_refiner",
        "--refine-set", "nice:=3", "--refine-set", "window.max_age_s:=0.0", "--set", f"data_dir:={tmp_path}",
    )  # fmt: skip

    def refined(process: subprocess.Popen) -> str:
        seen = until_frames(process, 40)
        for line in () if "        window  " in seen else process.stdout:
            seen += line
            if "        window  " in line:
                break
        return seen

    out, summary = interrupted(process, refined)
    assert summary["returncodes"] == {"source": 0, "perception": 0, "refiner": 0}
    assert summary["windows"]["accepted"] >= 1
    assert summary["windows"]["all"] == out.count("        window  ")
    assert "3 frames  30 steps" in out
    assert "/human/refined/people" in out
    assert summary["latency_ms"]["meshes"] > 0


def test_a_terminal_that_is_closed_stops_everything_well(bring_up):
    process = bring_up("--source", "synthetic", "--hfov", "60")
    nodes = running(process)
    assert len(nodes) == 2
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["returncodes"] == {"source": 0, "perception": 0}
    assert not any(alive(pid) for pid in nodes.values())


def test_nothing_outlives_a_bringup_that_is_killed(bring_up):
    process = bring_up("--source", "synthetic", "--hfov", "60")
    nodes = running(process)
    process.kill()
    wait(lambda: not any(alive(pid) for pid in nodes.values()), "the nodes to end with their parent")


@pytest.mark.parametrize("victim", ["scripted_node", "hsr.source_node"])
def test_a_node_that_dies_is_named_and_ends_the_run(bring_up, victim):
    process = bring_up("--source", "synthetic", "--hfov", "60")
    nodes = running(process)
    os.kill(nodes[victim], signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 1
    assert f"the {'source' if 'source' in victim else 'perception'} node ended with code -9" in err
    assert not json.loads(out.splitlines()[-1])["ok"]
    assert not any(alive(pid) for pid in nodes.values())


def test_a_slow_start_is_shown_and_a_gpu_that_is_lost_later_ends_the_run_with_the_reason(
    bring_up, tmp_path, monkeypatch
):
    monkeypatch.setenv(FAIL_DIR, str(tmp_path))
    (tmp_path / "start-up").write_text("building the engine,43,100")
    process = bring_up("--source", "synthetic", "--hfov", "60")
    assert "start-up  building the engine: 43 %\n" in iter(process.stdout.readline, "")
    (tmp_path / "start-up").unlink()
    running(process)
    (tmp_path / "lost").touch()
    out, err = process.communicate()
    assert process.returncode == 1
    assert "the perception node gave up" in err
    assert "DeviceError: the GPU was told to be lost" in err
    summary = json.loads(out.splitlines()[-1])
    assert not summary["ok"]
    assert summary["returncodes"] == {"source": 0, "perception": 0}


def test_ctrl_c_during_a_slow_start_stops_everything_well(bring_up, tmp_path, monkeypatch):
    monkeypatch.setenv(FAIL_DIR, str(tmp_path))
    (tmp_path / "start-up").write_text("stuck,0,0")
    process = bring_up("--source", "synthetic", "--hfov", "60")
    assert "start-up  stuck\n" in iter(process.stdout.readline, "")
    nodes = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    codes = json.loads(out.splitlines()[-1])["returncodes"]
    assert codes["perception"] == 0
    assert codes["source"] in (0, -signal.SIGINT)  # of which not a line may have run
    assert not any(alive(pid) for pid in nodes.values())


def test_a_second_system_in_the_same_domain_is_refused_and_the_first_goes_on(bring_up):
    first = bring_up("--source", "synthetic", "--hfov", "60")
    nodes = running(first)
    second = bring_up("--source", "synthetic", "--hfov", "60")
    _, err = second.communicate()
    assert second.returncode == 1
    assert "another /human/perception" in err
    before = int(first.stdout.readline().split("processed")[1].split()[0])
    assert int(first.stdout.readline().split("processed")[1].split()[0]) > before
    _, summary = interrupted(first, lambda process: "")
    assert summary["returncodes"] == {"source": 0, "perception": 0}
    assert not any(alive(pid) for pid in nodes.values())


def test_a_source_that_is_not_there_is_said_with_the_reason(bring_up):
    process = bring_up("--source", "webcam:99")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "the source node ended" in err
    assert "camera 99 cannot be read" in err
    assert not children_of(process.pid)


def test_where_images_come_from_is_read_from_the_option():
    assert Camera.parse("") == Camera("/camera/image_raw", "/camera/camera_info", "clip")
    assert Camera.parse("webcam:0").source == "webcam:0"
    assert Camera.parse("topic:/my/camera/image_raw") == Camera("/my/camera/image_raw", "/my/camera/camera_info", "")
    assert Camera.parse("topic:/cam/image/compressed") == Camera("/cam/image", "/cam/camera_info", "", compressed=True)
    with pytest.raises(BringupError, match="in full"):
        Camera.parse("topic:image")
    with pytest.raises(BringupError, match=r"no source '/no/such\.mp4'; it can be topic:"):
        Camera.parse("/no/such.mp4")


def test_a_typo_refuses_the_start_and_names_the_nearest_parameter(bring_up, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters: {peopel: {max: 4}}\n")
    for arguments in (("--params", str(path)), ("--set", "peopel.max:=4")):
        process = bring_up(*arguments)
        _, err = process.communicate()
        assert process.returncode == 2
        assert "did you mean 'people.max'?" in err
        assert "Traceback" not in err


def test_what_is_set_by_hand_comes_after_the_parameter_file(tmp_path, monkeypatch):
    """ROS takes the last of several values."""
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters: {people: {max: 2}}\n")
    monkeypatch.setattr(bringup, "network_environment", lambda *_: {})
    monkeypatch.setattr(bringup.signal, "signal", lambda *_: None)
    options = ["--params", str(file), "--set", "people.max:=3", "--log-dir", str(tmp_path), "--no-view"]
    system, started = bringup.Bringup(bringup.parse_arguments(options)), {}
    monkeypatch.setattr(system, "_start", lambda name, module, arguments: started.update({name: arguments}))
    system._start_perception()
    arguments = started["perception"]
    assert arguments.index("--params-file") < arguments.index("people.max:=3")


def test_under_nohup_the_end_of_the_terminal_is_not_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(bringup, "network_environment", lambda *_: {})
    endings = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    had = {number: signal.signal(number, signal.SIG_IGN) for number in endings}
    try:
        bringup.Bringup(bringup.parse_arguments(["--log-dir", str(tmp_path), "--no-view"]))
        assert {number for number in endings if signal.getsignal(number) == signal.SIG_IGN} == {signal.SIGHUP}
    finally:
        for number, handler in had.items():
            signal.signal(number, handler)


def test_another_systems_node_that_is_seen_late_is_named_and_left_running(tmp_path, monkeypatch):
    """It answers for ours, which is still starting up, on a busy computer."""
    monkeypatch.setattr(bringup, "network_environment", lambda *_: {})
    monkeypatch.setattr(bringup, "stop_all", lambda _: {})
    monkeypatch.setattr(bringup.signal, "signal", lambda *_: None)
    monkeypatch.setattr(bringup, "DISCOVERY_S", 0.0)
    system = bringup.Bringup(bringup.parse_arguments(["--log-dir", str(tmp_path), "--no-view"]))
    asked, looks = [], iter([True, True, False, False])
    system._processes["perception"] = SimpleNamespace(returncode=None, tail=lambda: "")
    system._lifecycles["perception"] = SimpleNamespace(change=lambda name, *_, **__: asked.append(name))
    system._lifecycle = system._lifecycles["perception"]
    for name in ("_show_logs", "_check_alive"):
        monkeypatch.setattr(system, name, lambda: None)
    monkeypatch.setattr(system, "_alone", lambda: next(looks))
    with pytest.raises(BringupError, match="another /human/perception"):
        system._drive("configure", 1.0)
    monkeypatch.setattr(system, "_alone", lambda: True)  # it went out of sight
    system._close()
    assert asked == ["configure"]
