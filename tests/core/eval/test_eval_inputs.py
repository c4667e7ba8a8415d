"""`hsr eval` on every data set's layout, and on recordings that nobody would wish for."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

import dataset_layouts
from bags import camera, write_bag

from hsr_core.cli import main
from hsr_core.config import Settings
from hsr_core.errors import BadFile, MissingPackage
from hsr_core.eval.plan import plan_units
from hsr_core.eval.protocol import Protocol
from hsr_core.eval.recordings import RecordedTruth, find_recordings
from hsr_core.eval.report import write_report
from hsr_core.eval.scoring import FrameScorer
from hsr_core.eval.unit import run_unit
from hsr_core.sources.bag_people import RecordedPeople

FAKE = Settings().with_values({"regressor": "fake"})


def run(capsys, *arguments: str) -> tuple[int, dict]:
    status = main(["eval", *arguments, "--regressor", "fake", "--json"])
    return status, json.loads(capsys.readouterr().out.splitlines()[-1])


SCORED = {"3dpw", "h36m", "synthetic", "clip", "agora"}
"""Layouts whose generated files hold joints; the others need the user's body files, or hold vertices alone."""


@pytest.mark.parametrize("name", dataset_layouts.MAKERS)
def test_every_layout_is_evaluated_or_says_why_not(name, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    if name == "agora":
        pytest.importorskip("pyarrow", reason="pip install 'hsr-core[agora]'")
    made = dataset_layouts.make(name, tmp_path / name)
    status, answer = run(capsys, "--dataset", name, str(made.root), "--out", str(tmp_path / "out"))
    assert status == 0
    assert "errors" not in answer
    assert answer["frames"] > 0
    if name in SCORED:
        assert "detection_rate" in answer["metrics"]
    else:
        assert not {"mpjpe_mm", "detection_rate"} & set(answer["metrics"])
        assert answer["notes"]
    text = (tmp_path / "out" / "result.jsonl").read_text()
    for line in text.splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    if name in ("agora", "ehf"):  # single images
        assert not [metric for metric in answer["metrics"] if "accel" in metric or metric in ("hota", "id_switches")]
    write_report(tmp_path / "out", tmp_path / "report.html")


def test_recordings_of_one_name_and_of_any_name(tmp_path, capsys):
    for folder in ("a", "b", "ä ö/日本", "back\\slash", os.fsdecode(b"not\xffutf8")):
        write_bag(tmp_path / folder / "take", camera(3))
    recordings = find_recordings([str(path) for path in sorted(tmp_path.rglob("take"))])
    names = [recording.name for recording in recordings]
    assert {"a/take", "b/take", "日本/take", "back\\slash/take", "not\ufffdutf8/take"} == set(names)
    status, answer = run(capsys, *(recording.path for recording in recordings), "--out", str(tmp_path / "out"))
    assert (status, answer["frames"]) == (0, 15)
    write_report(tmp_path / "out", tmp_path / "deep" / "folder" / "report.html")
    twice = find_recordings([recordings[0].path] * 2)
    assert twice[0].name != twice[1].name


def test_units_are_named_alike_from_everywhere_and_by_all_that_they_read(tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", camera(3))
    cameras = tmp_path / "cameras.json"
    cameras.write_text("{}")

    def key(path, calibration=str(cameras)):
        return plan_units(find_recordings([str(path)], cameras=calibration), FAKE)[0].key

    before = key(bag)
    monkeypatch.chdir(tmp_path)
    assert key("bag", "cameras.json") == before
    cameras.write_text("{ }")
    other = key(bag)
    assert other != before
    shutil.copy(cameras, bag / "more.txt")
    assert key(bag) != other  # in the same process


def test_files_in_a_folder_are_recordings_unless_they_are_numbered(tmp_path):
    for name in ("morning", "evening"):
        bag = write_bag(tmp_path / name, camera(3))
        (tmp_path / "loose").mkdir(exist_ok=True)
        shutil.copy(next(bag.glob("*.mcap")), tmp_path / "loose" / f"{name}.mcap")
        (tmp_path / "split").mkdir(exist_ok=True)
        shutil.copy(next(bag.glob("*.mcap")), tmp_path / "split" / f"run_{int(name == 'evening')}.mcap")
    assert [r.name for r in find_recordings([str(tmp_path / "loose")])] == ["evening.mcap", "morning.mcap"]
    assert [r.name for r in find_recordings([str(tmp_path / "split")])] == ["split"]
    shutil.copy(tmp_path / "loose" / "morning.mcap", tmp_path / "noon.mcap")  # beside folders of bags
    names = [r.name for r in find_recordings([str(tmp_path)])]
    assert names == ["evening", "loose", "morning", "noon.mcap", "split"]


def test_lists_that_are_none(tmp_path):
    itself = tmp_path / "list.txt"
    itself.write_text("list.txt\n")
    assert [recording.kind for recording in find_recordings([str(itself)])] == ["source"]  # and refused when opened
    itself.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="no list of recordings"):
        find_recordings([str(itself)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["BAG", "--chunk", "nan"], "--chunk"),
        (["BAG", "--overlap", "inf"], "--overlap"),
        (["BAG", "--fail-if", "mpjpe > +2%"], "needs a second run"),
        (["BAG", "--fail-if", "mpjpe ~ 2"], "expected one of"),
        (["BAG", "--against", "/no/run"], "/no/run"),
        (["BAG", "--split", "test"], "--split"),
        (["BAG", "--camera", "left"], "--camera"),
        (["BAG", "--set", "regressor=nonsense"], "nonsense"),
        (["--dataset", "clip", "DIR", "--people", "/people"], "--people"),
        (["BAG", "--compare", "a", "b"], "INPUT"),
        (["BAG", "--out", "/proc/no/folder"], "/proc"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bag = str(write_bag(tmp_path / "bag", camera(3)))
    assert main(["eval", *(bag if word == "BAG" else word for word in arguments)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.rglob("unit.json"))


def test_only_what_is_wrong_with_a_recording_is_kept(tmp_path, monkeypatch):
    """A package that is missing today is not missing for ever."""
    unit = plan_units(find_recordings([str(write_bag(tmp_path / "bag", camera(3)))]), FAKE)[0]

    def missing(*args, **options):
        raise MissingPackage("pip install it")

    with monkeypatch.context() as patch:
        patch.setattr("hsr_core.sources.bag.BagSource.__init__", missing)
        with pytest.raises(MissingPackage):
            run_unit(unit, tmp_path / "unit")
    assert run_unit(unit, tmp_path / "unit").scores.frames == 3


def test_a_run_that_was_there_has_no_speed(tmp_path, capsys):
    bag = str(write_bag(tmp_path / "bag", camera(9)))
    first, second = (run(capsys, bag, "--out", str(tmp_path / "out"))[1] for _ in range(2))
    assert first["timing"]["frames_per_s"] > 0
    assert (second["timing"]["frames_per_s"], second["timing"]["parts_reused"]) == (None, 1)
    assert first["sha256"] == second["sha256"]


def test_an_evaluation_without_one_recording_fails(tmp_path, capsys):
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    status, answer = run(capsys, str(broken), "--out", str(tmp_path / "out"))
    assert status == 1
    assert list(answer["errors"]) == ["broken.mcap"]
    assert answer["metrics"] == {}
    write_report(tmp_path / "out", tmp_path / "report.html")


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "scene"
    arguments = ["--seed", "3", "--frames", "6", "--size", "160x120", "--background", "plain", "--bag"]
    assert main(["synth", "--out", str(folder), *arguments]) == 0
    return folder


def test_people_of_another_body_model_are_scored_by_their_limbs(scene, tmp_path, capsys, monkeypatch):
    """The messages say another model than the truth: no vertices, and no protocol of one body."""
    inner = RecordedPeople.__iter__

    def renamed(self):
        model = {"model_id": "somebody-else's"} if self.topic == "/synth/initial" else {}
        return (replace(frame, **model) for frame in inner(self))

    monkeypatch.setattr(RecordedPeople, "__iter__", renamed)
    status, answer = run(capsys, str(scene / "bag"), "--people", "/synth/initial", "--out", str(tmp_path))
    assert status == 0
    assert answer["protocol"]["name"] == "limb-12"
    assert "pve_mm" not in answer["metrics"]
    assert any("somebody-else's" in note for note in answer["notes"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["facts"]["body_model"] == "somebody-else's"


def test_the_truth_of_a_recording_that_was_played_again(monkeypatch):
    """Stamps 0, 1, .. 9 s, twice; images from 0.5 s of the second time on, every second, and one without truth."""

    class Truth:
        def __init__(self, stamp_ns):
            self.stamp_ns, self.people, self.T_world_cam, self.model_id = stamp_ns, (), np.eye(4) * stamp_ns, ""

    class People:
        def __iter__(self):
            return iter([Truth(s * 10**9) for s in [*range(10), *range(10)]])

    monkeypatch.setattr("hsr_core.sources.bag_people.read_people", lambda *args, **options: People())
    truth = RecordedTruth("bag", "/truth", None)
    asked = [0, 1, 2, 8, 9, 1, 2, 2.5, 3, 9]
    found = [truth.people(round(s * 1e9))[1] for s in asked]
    assert [None if T is None else T[0, 0] * 1e-9 for T in found] == [0, 1, 2, 8, 9, 1, 2, None, 3, 9]


def test_stamps_that_mean_nothing_ask_for_no_gigabytes():
    from test_scoring import CAMERA, predicted, skeleton, truth

    score, joints = FrameScorer(Protocol("", fps=1e9), "ehm", "ehm:test"), skeleton()
    for t in range(3):
        score.score([predicted(joints)], [truth(joints)], CAMERA, stamp_ns=t)
    assert score.finish().lag.sums.size < 10_000


def test_a_licensed_body_is_scored_by_the_joints_of_smpl(model_folder, tmp_path, capsys):
    """3DPW has SMPL's 24 joints; a body of SMPL-X files has 22 of them."""
    made = dataset_layouts.make("3dpw", tmp_path / "3dpw")
    body = f"body_model.path={model_folder[0]}"
    status, answer = run(capsys, "--dataset", "3dpw", str(made.root), "--out", str(tmp_path / "out"), "--set", body)
    assert status == 0
    assert answer["protocol"]["name"] == "smpl-22"
