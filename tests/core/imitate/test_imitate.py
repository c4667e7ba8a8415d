"""`hsr imitate` from a video to its folder, read by pyarrow, av, numpy, csv and an XML parser."""

from __future__ import annotations

import csv
import hashlib
import json
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.signal import savgol_filter

from hsr_core import progress
from hsr_core.body.joints import J
from hsr_core.cli import main
from hsr_core.export.lerobot_files import present
from hsr_core.export.robot_motion import RobotMotion
from hsr_core.imitate import ImitateOptions, imitate
from hsr_core.imitate.follow import limits_of
from hsr_core.results import load_people
from hsr_core.retarget import load_robot

N = 45


def hsr(*args) -> int:
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def made(walk, tmp_path_factory):
    """The fake person, who swings an arm, imitated by G1."""
    folder = tmp_path_factory.mktemp("made")
    options = ImitateOptions(task="swing an arm")
    heard = []
    from dataclasses import replace

    from hsr_core.config import Settings

    options = replace(options, input=replace(options.input, settings=Settings(regressor="fake")))
    with progress.listening(lambda *step: heard.append(step)):
        report = imitate(str(walk), "g1", folder / "episode", options)
    return SimpleNamespace(folder=folder, root=folder / "episode", report=report, heard=heard)


def table_of(root):
    (file,) = (root / "data").glob("*/*.parquet")
    return pq.read_table(file)


def column(root, name):
    return np.array(table_of(root)[name].to_pylist())


def test_the_folder_holds_what_the_manual_says_and_nothing_else_is_left(made):
    names = {path.name for path in made.root.iterdir()}
    assert names == {
        "data", "meta", "videos", "people.npz", "robot.csv", "robot.csv.json", "robot.pkl", "robot.npz",
        "side_by_side.mp4", "report.json", "report.md",
    }  # fmt: skip
    assert [path.name for path in made.folder.iterdir()] == ["episode"]
    assert json.loads((made.root / "report.json").read_text()) == {k: v for k, v in made.report.items() if k != "out"}


def test_every_stage_tells_how_far_it_is(made):
    last = {phase: (done, total) for phase, done, total in made.heard}
    assert last["regressing"] == last["retargeting"] == last["writing pictures"] == last["drawing"] == (N, N)


def test_actions_stay_within_the_urdf_s_limits_and_move_no_faster_than_they_may(made):
    robot = load_robot("g1", "whole_body")
    joints = {joint.get("name"): joint.find("limit") for joint in ElementTree.parse(robot.urdf).iter("joint")}
    info = json.loads((made.root / "meta/info.json").read_text())
    names = info["features"]["action"]["names"]
    action = column(made.root, "action")
    assert action.shape == (N, len(names)) == (N, 29)
    assert np.isfinite(action).all()
    lower, upper, fastest = (np.array([float(joints[n].get(k)) for n in names]) for k in ("lower", "upper", "velocity"))
    assert (action > lower).all()
    assert (action < upper).all()
    speed = np.abs(np.diff(action, axis=0)) * info["fps"]
    assert (speed <= np.minimum(robot.velocity, fastest) * (1 + 1e-4)).all()  # float32 steps of a 30th of a second
    assert speed.max() > 0.5
    assert made.report["limits_violated"] == 0


def test_the_person_is_smoothed_without_delay_and_the_raw_is_beside_it(made):
    """The fake person's left arm turns about one axis: rotations are smoothed as that angle, by scipy."""
    z = 3 * (J["left_shoulder"] - 1) + 2
    smooth, raw = (column(made.root, f"observation.{name}.body_pose")[:, z] for name in ("human", "human_raw"))
    seconds = column(made.root, "observation.stamp_ns") * 1e-9
    np.testing.assert_allclose(raw, 0.6 * np.sin(np.pi * seconds), atol=1e-6)
    np.testing.assert_allclose(smooth, savgol_filter(raw, 7, 2, mode="interp"), atol=2e-6)
    transl = column(made.root, "observation.human.transl")
    np.testing.assert_allclose(transl, np.broadcast_to(transl[0], transl.shape), atol=1e-6)  # constant stays


def test_the_robot_s_files_hold_the_actions_of_the_data_set(made):
    action = column(made.root, "action")
    with (made.root / "robot.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = json.loads((made.root / "meta/info.json").read_text())["features"]["action"]["names"]
    np.testing.assert_allclose([[float(row[name]) for name in names] for row in rows], action, atol=1e-6)
    assert [int(row["stamp_ns"]) for row in rows] == column(made.root, "observation.stamp_ns").tolist()
    base = [[float(row[f"base_{axis}"]) for axis in ("x", "y", "z", "qx", "qy", "qz", "qw")] for row in rows]
    np.testing.assert_allclose(base, column(made.root, "teleop.base"), atol=1e-6)
    motion = np.load(made.root / "robot.npz", allow_pickle=False)
    assert motion["dof_pos"].shape[1] == 29
    assert motion["root_pos"][0, 2] > 0.5  # the pelvis of a robot that stands


def test_the_robot_does_not_start_from_a_posture_of_its_own(made):
    """The right arm is held still, away from where the robot's neutral posture has it: it must not travel there."""
    action = column(made.root, "action")
    names = json.loads((made.root / "meta/info.json").read_text())["features"]["action"]["names"]
    arm = [i for i, name in enumerate(names) if name.startswith(("right_shoulder", "right_elbow"))]
    assert np.ptp(action[:, arm], axis=0).max() < 0.1


def test_the_video_shows_the_picture_and_the_robot(made):
    with av.open(str(made.root / "side_by_side.mp4")) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(pictures) == N
    picture = pictures[20].astype(int)
    assert picture.shape == (540, 1280, 3)
    np.testing.assert_allclose(picture[10:40, 10:60].mean((0, 1)), (40, 160, 40), atol=12)
    np.testing.assert_allclose(picture[10:40, 580:620].mean((0, 1)), (160, 60, 40), atol=12)
    np.testing.assert_allclose(picture[10:40, 650:700].mean((0, 1)), (244, 244, 244), atol=4)
    robot = np.abs(picture[:480, 640:] - 244).max(axis=2) > 60
    rows = np.flatnonzero(robot.any(axis=1))
    assert 250 < np.ptp(rows) < 450  # as tall as the person, two thirds of the panel


def test_the_report_names_source_versions_and_licence(made):
    report = made.report
    walk_sha = hashlib.sha256(next(p for p in made.folder.parent.glob("video*/walk.mp4")).read_bytes()).hexdigest()
    assert report["source_sha256"] == walk_sha
    assert report["versions"]["hsr"]
    assert report["versions"]["pin-pink"]
    assert report["licence_note"]
    (episode,) = report["episodes"]
    assert (episode["frames"], episode["frames_valid"], episode["gated"]) == (N, N, {})
    text = (made.root / "report.md").read_text()
    assert "| position limits violated " in text
    assert "ASSUMED" in text


def test_people_that_were_regressed_once_serve_a_second_robot(made, walk, tmp_path):
    """And the people file is that of the stream: raw and as its filters left it."""
    people = load_people(made.root / "people.npz")
    assert people["raw_body_pose"].shape[0] == N
    out = tmp_path / "second"
    status = hsr("imitate", made.root / "people.npz", "--images", walk, "--robot", "g1", "--mode", "upper_body",
                 "--out", out, "--no-video")  # fmt: skip
    assert status == 0
    assert column(out, "action").shape == (N, 15)
    assert (out / "videos/observation.images.camera/chunk-000/file-000.mp4").is_file()
    np.testing.assert_allclose(
        column(out, "observation.human.body_pose"), column(made.root, "observation.human.body_pose"), atol=1e-6
    )


def test_limits_that_are_left_are_counted(made):
    """A made motion that leaves a limit and jumps: the report must not be able to say 0."""
    robot = load_robot("g1", "whole_body")
    q = np.tile(robot.neutral[robot.idx_q], (4, 1))
    q[2, 0] = robot.upper[0] + 0.1
    stamps = np.arange(4) * 33_333_333
    motion = RobotMotion("g1", "made", robot.joint_names, stamps, q, None, np.zeros(4, np.int64))
    found = limits_of(robot, motion)
    assert found["position_violations"] == 1
    assert found["speed_violations"] >= 1
    assert found["speed_most"] > 1


# People who come and go


def test_everybody_gets_episodes_and_gaps_begin_new_ones(script, walk, tmp_path, capsys):
    def seen(number, people):
        first = people[:1] if not 10 <= number < 20 else []
        return first + (people[1:] if 5 <= number < 15 else [])

    script(seen)
    out = tmp_path / "all"
    status = hsr("imitate", walk, "--robot", "g1", "--out", out, "--regressor", "scripted", "--person", "all",
                 "--least", 0.25, "--max-frames", 30, "--json")  # fmt: skip
    assert status == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = [(e["person"], e["first_frame"], e["frames"]) for e in report["episodes"]]
    assert found == [(1, 0, 10), (1, 20, 10), (2, 5, 10)]
    assert report["side_by_side"] == ["side_by_side_000.mp4", "side_by_side_001.mp4", "side_by_side_002.mp4"]
    assert all((out / name).stat().st_size for name in report["side_by_side"])
    assert present(out).episodes == 3
    tables = [pq.read_table(path) for path in sorted((out / "data").glob("*/*.parquet"))]
    assert [table["index"][0].as_py() for table in tables] == [0, 10, 20]
    for table in tables:
        assert np.isfinite(np.array(table["action"].to_pylist())).all()


def test_only_one_person_is_followed_by_default_and_the_others_are_named(script, walk, tmp_path, capsys):
    script(lambda number, people: people)
    assert hsr("imitate", walk, "--robot", "g1", "--out", tmp_path / "a", "--regressor", "scripted", "--no-video") == 0
    text = capsys.readouterr().out
    assert "also there, not followed: person 2 (45 frames)" in text
    assert "episode 0" in text
    assert "episode 1" not in text


def test_a_short_gap_stays_missing_in_its_episode(script, walk, tmp_path):
    script(lambda number, people: [] if number in (20, 21) else people[:1])
    assert hsr("imitate", walk, "--robot", "g1", "--out", tmp_path / "a", "--regressor", "scripted", "--no-video") == 0
    action, valid = column(tmp_path / "a", "action"), column(tmp_path / "a", "observation.human.valid")
    assert np.flatnonzero(~valid).tolist() == [20, 21]
    assert np.flatnonzero(np.isnan(action).any(axis=1)).tolist() == [20, 21]


# Bad input


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("none.mp4", [], "none.mp4"),
        ("torn.mp4", [], "cannot be opened as a video"),
        ("empty.mp4", [], "empty, truncated or not a video"),
        ("webcam:0", [], "record a video"),
        ("walk", ["--robot", "talso"], "did you mean talos"),
        ("walk", ["--mode", "legs"], "whole_body"),
        ("walk", ["--person", "7"], "1 (45 frames)"),
        ("walk", ["--least", "20"], "1.47 s at most"),
        ("walk", ["--max-frames", "1"], "one frame: no motion"),
        ("walk", ["--gap", "0"], "--gap must lie"),
        ("walk", ["--fps", "0"], "--fps must lie"),
        ("walk", ["--camera-name", "../front"], "--camera-name wants"),
        ("walk", ["--out", "none/a"], "no folder"),
        ("walk", ["--teleop", "limits.arms=3"], "limits.arms_rad_s"),
        ("walk", ["--regressor", "scripted"], "no people in 45 frames"),
    ],
)
def test_what_cannot_be_done_is_named_and_leaves_nothing(
    source, more, message, script, walk, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    script(lambda number, people: [])
    (tmp_path / "torn.mp4").write_bytes(walk.read_bytes()[:300])
    (tmp_path / "empty.mp4").touch()
    before = sorted(tmp_path.iterdir())
    status = hsr("imitate", walk if source == "walk" else source, "--robot", "g1", "--out", "episode",
                 "--regressor", "fake", *more)  # fmt: skip
    assert status == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_is_replaced_only_if_asked_and_only_if_it_is_ours(made, walk, tmp_path, capsys):
    command = ["imitate", walk, "--robot", "g1", "--regressor", "fake", "--no-video", "--max-frames", 32]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("years of work")
    assert hsr(*command, "--out", tmp_path / "thesis") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert hsr(*command, "--out", tmp_path / "thesis", "--overwrite") == 2
    assert "something else" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "text").read_text() == "years of work"
    assert hsr(*command, "--out", tmp_path / "new") == 0
    assert hsr(*command, "--out", tmp_path / "new", "--overwrite", "--mode", "upper_body") == 0
    assert column(tmp_path / "new", "action").shape == (32, 15)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "thesis"]


@pytest.mark.parametrize("phase", ["regressing", "retargeting", "writing pictures", "drawing"])
def test_ctrl_c_leaves_nothing_behind(phase, made, walk, tmp_path):
    def stop(name, done, total):
        if name == phase and done > 3:
            raise KeyboardInterrupt

    with progress.listening(stop):
        status = hsr("imitate", walk, "--robot", "g1", "--out", tmp_path / "episode", "--regressor", "fake")
    assert status == 130
    assert list(tmp_path.iterdir()) == []
