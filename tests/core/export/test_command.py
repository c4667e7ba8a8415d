"""`hsr export` from the command line: what it says, what it refuses, what it leaves behind when it fails."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from export_people import with_arrays, write_recording

from hsr_core import registry
from hsr_core.cli import main
from hsr_core.export import bvh, export, formats, lerobot_files, run
from hsr_core.export.base import folder_whole


@pytest.fixture
def recording(tmp_path, open_body):
    return write_recording(tmp_path / "people.npz", open_body, 10)


def test_every_format_says_what_it_is():
    assert set(formats()) == {"npz", "amass", "gmr", "lerobot", "mcap", "bvh", "glb", "csv", "pose_stream"}
    assert all(formats().values())


def test_the_command_writes_and_tells(recording, tmp_path, capsys):
    out = tmp_path / "walk.bvh"
    assert main(["export", str(recording), "--format", "bvh", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["files"] == ["walk_cm.bvh", "walk_cm.bvh.json"]
    assert told["world"].startswith("ASSUMED")
    assert (tmp_path / "walk_cm.bvh").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "bvv", "--out", "a.bvh"], "did you mean bvh"),
        (["--format", "bvh", "--out", "a.npz"], "writes .bvh files"),
        (["--format", "bvh", "--out", "none/a.bvh"], "no folder"),
        (["--format", "npz", "--out", "people.npz"], "would be overwritten"),
        (["--format", "bvh", "--out", "a.bvh", "--person", "9"], "1 (10 frames)"),
        (["--format", "bvh", "--out", "a.bvh", "--person", "all"], None),
        (["--format", "bvh", "--out", "a.bvh", "--units", "mm"], "--units"),
        (["--format", "bvh", "--out", "a.bvh", "--smooth", "much"], "zero-phase"),
        (["--format", "bvh", "--out", "a.bvh", "--fps", "0"], "--fps"),
        (["--format", "glb", "--out", "a.glb", "--mesh", "yes"], "--mesh"),
        (["--format", "lerobot", "--out", "set", "--camera-name", "front/left"], "--camera-name"),
        (["--format", "bvh", "--out", "a.bvh", "--world", "recorded"], "--world level"),
    ],
)
def test_wrong_words_are_named(arguments, message, recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status = main(["export", str(recording), *arguments])
    if message is None:  # one person: all is one
        assert status == 0
        return
    assert status == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["people.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "bvh", "--out", "a.bvh", "--units", "mm"], "--units"),
        (["--format", "glb", "--out", "a.glb", "--mesh", "yes"], "--mesh"),
        (["--format", "mcap", "--out", "full"], "does not exist"),
        (["--format", "lerobot", "--out", "full"], "--append"),
        (["--format", "amass", "--out", "a.npz"], "--body-models"),
        (["--format", "amass", "--out", "a.npz", "--body-models", "nowhere"], "no folder nowhere"),
        (["--format", "csv", "--out", "a.csv", "--robot", "tallos"], "did you mean talos"),
        (["--format", "csv", "--out", "a.csv", "--robot", "g1", "--robot-mode", "legs"], "no mode 'legs'"),
        (["--format", "csv", "--out", "a.csv", "--robot-joints", "gone.csv"], "no file gone.csv"),
        (["--format", "csv", "--out", "a.csv", "--robot-joints", "/gone.csv"], "no file /gone.csv"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_before_the_work(arguments, message, tmp_path, monkeypatch, capsys):
    """A video takes minutes to regress: here reading anything is an error of its own."""
    pytest.importorskip("pinocchio")
    pytest.importorskip("pink")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    monkeypatch.setattr(run, "read_input", lambda *args: 1 / 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    assert main(["export", "clip", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_permission_is_refused_before_the_work(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert main(["export", str(recording), "--format", "bvh", "--out", str(tmp_path / "a.bvh")]) == 2
    assert "permission denied" in capsys.readouterr().err


def test_one_frame_and_no_duration_have_a_message(tmp_path, open_body, capsys):
    path = write_recording(tmp_path / "p.npz", open_body, 3)
    with_arrays(path, stamp_ns=np.full(3, 5, np.int64))
    for fmt in ("bvh", "glb"):
        assert main(["export", str(path), "--format", fmt, "--out", str(tmp_path / f"a.{fmt}")]) == 2
        assert "one frame is no motion" in capsys.readouterr().err
    assert main(["export", str(path), "--format", "npz", "--out", str(tmp_path / "a.npz")]) == 0


@pytest.mark.parametrize("fmt", ["npz", "bvh", "glb", "mcap", "lerobot"])
def test_what_is_stopped_half_way_leaves_what_was_there(fmt, recording, tmp_path, monkeypatch):
    out = tmp_path / (f"a.{fmt}" if fmt in ("npz", "bvh", "glb") else "a")
    if fmt in ("npz", "bvh", "glb"):
        out.write_text("before")
    stop = KeyboardInterrupt

    def fail(*args, **more):
        raise stop

    targets = {
        "npz": "hsr_core.export.npz_stream.Columns._write",
        "bvh": "hsr_core.export.bvh.as_json",
        "glb": "hsr_core.export.gltf._add_animation",
        "mcap": "hsr_core.export.mcap._letters",
        "lerobot": "hsr_core.export.lerobot.write_meta",
    }
    monkeypatch.setattr(targets[fmt], fail)
    with pytest.raises(stop):
        export(str(recording), fmt, out)
    left = {path.name for path in tmp_path.iterdir()} - {"people.npz"}
    assert left == ({out.name} if out.suffix else set())
    if out.suffix:
        assert out.read_text() == "before"


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    out, rename = tmp_path / "set", Path.rename
    out.mkdir()
    (out / "old").touch()

    def replace(name):
        with folder_whole(out, overwrite=True) as folder:
            folder.mkdir()
            (folder / name).touch()

    def stopped_at_the_newer_one(self, target):
        if (self / "newer").exists():
            raise KeyboardInterrupt
        return rename(self, target)

    replace("new")
    monkeypatch.setattr(Path, "rename", stopped_at_the_newer_one)
    with pytest.raises(KeyboardInterrupt):
        replace("newer")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"set", "set/new"}


def test_formats_are_loaded_when_they_are_chosen():
    assert registry.BUILT_IN["exporter"]["bvh"].startswith(bvh.__name__)
    assert lerobot_files.VERSION == "v3.0"


def test_who_is_told_to_end_leaves_nothing_behind(recording, tmp_path, monkeypatch):
    """SIGTERM in the middle of writing, as `kill`, a supervisor or `docker stop` send it."""
    had = signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def write(self, job):
        (job.folder / "half").touch()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # would end the tests
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(bvh.BvhExporter, "write", write)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["export", str(recording), "--format", "bvh", "--out", str(tmp_path / "walk.bvh")])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, had)
    assert ended.value.code == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == ["people.npz"]
