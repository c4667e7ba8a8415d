"""What was really sent in an engagement, as data sets: read by pyarrow, numpy and csv."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from export_people import BEGIN_NS, STEP_NS, world_pose, write_recording

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from hsr_core.engagement import METADATA_NAME, as_metadata
from hsr_core.errors import BadFile, ConfigError
from hsr_core.export import ExportOptions, export
from hsr_core.export.engagement import read_engagement
from hsr_core.results import load_people
from hsr_core.sources.bag_reader import BagReader
from hsr_core.sources.mcap_file import McapFile, definitions

pq = pytest.importorskip("pyarrow.parquet")
PEOPLE, STATUS = "/human/people", "/human/retarget/status"
COMMAND, JOINT_STATES = "/human/retarget/joint_command", "/joint_states"
N, TICK_NS = 30, 10_000_000
ENGAGING, TRACKING, HOLD = 3, 4, 5
FIRST_NS = BEGIN_NS + 100_000_000
"""Of the commands: people are seen from before them."""


def sent_at(i: int) -> np.ndarray:
    return np.array([0.01 * i, -0.005 * i])


def state_at(i: int) -> int:
    return ENGAGING if i < 20 else TRACKING if i < 60 else HOLD


class Writer:
    """One engagement: 80 ticks at 100 Hz; joint states of two drivers at 50 Hz, of the arm 1 ms late, of the leg 4."""

    def __init__(self, path: Path, people: Path, *, operator: int = 1, end: bool = True, **changes) -> None:
        self.store = definitions()
        header = {
            "format": "hsr-engagement/1", "robot": "g1", "joint_names": ["elbow", "wrist"], "operator": operator,
            "settings": {"rate_hz": 100.0}, "begin_ns": FIRST_NS, "topics": {
                "people": PEOPLE, "status": STATUS, "command": COMMAND, "joint_states": JOINT_STATES},
        }  # fmt: skip
        self.file = McapFile(path, self.store, METADATA_NAME, as_metadata(header))
        rows = list(self.people(people)) + list(self.robot(operator, **changes))
        for stamp_ns, topic, kind, data in sorted(rows, key=lambda row: row[0]):
            self.file.write(topic, kind, stamp_ns, data)
        if end:
            self.file.close()
        else:
            self.file.flush()

    def people(self, bag: Path):
        with BagReader(bag) as reader:
            for topic, time_ns, data in reader.messages([PEOPLE]):
                yield time_ns + 60_000_000, topic, "hsr_msgs/msg/HumanArray", bytes(data)

    def robot(
        self, operator: int, *, without_states: range = range(0), without_ticks: range = range(0), other: int = 0
    ):
        for i in range(-5, 80):
            now = FIRST_NS + i * TICK_NS
            if i not in without_ticks:
                who = other if other and i >= 70 else operator
                yield now, STATUS, *self.status(now, who, state_at(i) if i >= 0 else 2, sent_at(i), i >= 0)
            if i % 2 == 0 and i not in without_states:
                # more joints than are commanded, in an order of their own
                yield now, JOINT_STATES, *self.joint_state(now + 4_000_000, ["knee"], np.array([7.0 + i]))
                yield now, JOINT_STATES, *self.joint_state(now + 1_000_000, ["wrist", "elbow"], sent_at(i)[::-1].copy())

    def joint_state(self, stamp_ns: int, names: list[str], position: np.ndarray):
        none = np.zeros(0)
        fields = {"header": self.stamp(stamp_ns), "name": names, "position": position}
        return self.serialised(self.make("sensor_msgs/msg/JointState", **fields, velocity=none, effort=none))

    def status(self, now: int, operator: int, state: int, position: np.ndarray, commanding: bool):
        sent = position if commanding else np.zeros(0)
        base = np.array([position[0], 0, 0.8, 0, 0, 0, 1]) if commanding else np.zeros(0)
        msg = self.make(
            "hsr_msgs/msg/RetargetStatus", header=self.stamp(now), robot="g1", state=state, reason="", problem="",
            operator_id="", operator_track_id=operator, checks=[], checks_passed=np.zeros(0, bool),
            commanding=commanding, exposure_stamp=self.time(now - 50_000_000), age_ms=50.0, engagement=1, seq=0,
            flags=1 if state == TRACKING else 0, hand_mode="scaled", joint_names=["elbow", "wrist"], position=sent,
            velocity=sent, target=sent + 1 if commanding else sent, t_world_base=base, tasks=[],
            task_error_m=np.zeros(0, np.float32), task_error_rad=np.zeros(0, np.float32), counter_names=[],
            counter_values=np.zeros(0, np.uint64),
        )  # fmt: skip
        return self.serialised(msg)

    def make(self, kind: str, **fields):
        return self.store.types[kind](**fields)

    def time(self, ns: int):
        return self.make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)

    def stamp(self, ns: int):
        return self.make("std_msgs/msg/Header", stamp=self.time(ns), frame_id="")

    def serialised(self, msg):
        return msg.__msgtype__, bytes(self.store.serialize_cdr(msg, msg.__msgtype__))


@pytest.fixture(scope="module")
def people(tmp_path_factory, open_body):
    """A people file, and the same as a bag; the second person is the primary one in no frame."""
    folder = tmp_path_factory.mktemp("people")
    path = write_recording(folder / "people.npz", open_body, N, second=range(N), missing=(12,),
                           T_world_cam=world_pose(3))  # fmt: skip
    export(str(path), "mcap", folder / "bag", person="all")
    return path, folder / "bag"


@pytest.fixture(scope="module")
def engagements(tmp_path_factory, people):
    """Two in a folder: the first's operator is person 1, the second's person 2."""
    folder = tmp_path_factory.mktemp("teleop")
    Writer(folder / "20200101T000000.000Z_operator-1.mcap", people[1], without_states=range(30, 50))
    Writer(folder / "20200101T000100.000Z_operator-2.mcap", people[1], operator=2, without_ticks=range(40, 50))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory, engagements):
    out = tmp_path_factory.mktemp("set") / "set"
    told = export(str(engagements[0]), "lerobot", out, options=ExportOptions(task="wave", smoothing="recorded"))
    return out, told, pq.read_table(out / "data/chunk-000/file-000.parquet")


def column(table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist())


def test_actions_are_what_was_sent_at_each_frame_and_targets_what_was_wished(written):
    out, told, table = written
    ticks = 100.0 / 30 * np.arange(len(table))  # frames of 30 Hz in commands of 100 Hz
    assert len(table) == round(0.79 * 30) + 1
    nearest = np.minimum(np.rint(ticks), 79)
    action, target = column(table, "action"), column(table, "teleop.target")
    np.testing.assert_allclose(action[:, 0], 0.01 * nearest, atol=1e-6)
    np.testing.assert_allclose(target, action + 1, atol=1e-6)
    names = json.loads((out / "meta/info.json").read_text())["features"]
    assert names["action"]["names"] == names["teleop.target"]["names"] == ["elbow", "wrist"]
    assert told["robot_missing"] == 0
    base = column(table, "teleop.base")
    np.testing.assert_allclose(base[:, 0], action[:, 0])
    np.testing.assert_allclose(base[:, 1:], np.tile([0, 0.8, 0, 0, 0, 1], (len(table), 1)), atol=1e-6)


def test_states_and_flags_are_those_of_the_same_tick_and_held_frames_stay(written):
    out, _, table = written
    index = np.minimum(np.rint(100.0 / 30 * np.arange(len(table))), 79).astype(int)
    states = column(table, "teleop.state")
    assert states.tolist() == [state_at(i) for i in index]
    assert (states == HOLD).sum() >= 5
    np.testing.assert_array_equal(column(table, "teleop.flags"), states == TRACKING)
    header = json.loads((out / "meta/hsr.json").read_text())
    assert [header["teleop_states"][str(n)] for n in (ENGAGING, TRACKING, HOLD)] == ["engaging", "tracking", "hold"]
    assert header["teleop_flags"]["1"] == "limited_velocity"
    assert header["engagement"]["settings"] == {"rate_hz": 100.0}


def test_the_state_is_what_was_measured_and_its_lack_is_counted(written):
    out, told, table = written
    state, times = column(table, "observation.state"), 1000.0 / 30 * np.arange(len(table))
    names = json.loads((out / "meta/info.json").read_text())["features"]["observation.state"]["names"]
    assert names == ["elbow", "wrist", "knee"]  # as the action, then the others
    for joint, late_ms, at in ((0, 1, lambda ms: 0.001 * ms), (2, 4, lambda ms: 7 + 0.1 * ms)):
        ticks = [i for i in range(-4, 80, 2) if i not in range(30, 50)]
        stamps = np.array([i * 10 + late_ms for i in ticks])  # ms after the first command
        apart = np.abs(stamps[None] - times[:, None])
        known = apart.min(axis=1) <= 500 / 30
        np.testing.assert_array_equal(np.isfinite(state[:, joint]), known)
        best = stamps[apart.argmin(axis=1)][known]
        np.testing.assert_allclose(state[known, joint], at(best - late_ms), atol=1e-5)
    assert told["state_missing"] == (~np.isfinite(state).all(axis=1)).sum() > 3


def test_the_operator_is_who_is_exported_at_the_frames_of_the_engagement(written, people):
    _, told, table = written
    assert told["track_id"] == [1]
    recorded = load_people(people[0])
    stamps, valid = column(table, "observation.stamp_ns"), column(table, "observation.human.valid")
    ticks = FIRST_NS + np.arange(len(table)) * 1e9 / 30
    assert np.abs(stamps - ticks)[valid].max() <= 0.5e9 / 30
    assert told["frames_missing"] == (~valid).sum() == 1
    joints, T = column(table, "observation.human.joints"), world_pose(3)
    for i in np.flatnonzero(valid)[[0, 5, -1]]:
        k = np.flatnonzero(recorded["stamp_ns"] == stamps[i])[0]
        np.testing.assert_allclose(joints[i], recorded["joints"][k, 0] @ T[:3, :3].T + T[:3, 3], atol=1e-4)


def test_pictures_of_another_recording_are_paired_by_their_exposure(engagements, tmp_path):
    av = pytest.importorskip("av")
    from bags import image, info, picture, write_bag

    def messages():
        for i in range(15):  # from before the first command to the middle
            stamp = BEGIN_NS + i * STEP_NS + 4_000_000
            yield "/camera/camera_info", stamp, info(stamp)
            yield "/camera/image_raw", stamp, image(picture(10 * i), stamp)

    images = str(write_bag(tmp_path / "images", messages()))
    told = export(str(engagements[0]), "lerobot", tmp_path / "set", options=ExportOptions(images=images))
    with av.open(str(tmp_path / "set/videos/observation.images.camera/chunk-000/file-000.mp4")) as container:
        frames = [frame.to_ndarray(format="bgr24").mean() for frame in container.decode(video=0)]
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    valid = column(table, "observation.picture_valid.camera")
    assert len(frames) == len(table) == 25
    assert told["pictures_missing"] == (~valid).sum() == 13
    assert valid[:12].all()
    wanted = [picture(10 * i).mean() for i in range(3, 15)]  # 100 ms after the first one
    np.testing.assert_allclose(frames[:12], wanted, atol=3)


def test_a_folder_of_engagements_is_a_data_set_of_as_many_episodes(engagements, tmp_path):
    out = tmp_path / "set"
    told = export(str(engagements[0].parent), "lerobot", out)
    info = json.loads((out / "meta/info.json").read_text())
    assert (told["episodes"], info["total_episodes"], info["robot_type"]) == (2, 2, "g1")
    assert told["frames"] == info["total_frames"] == 50
    assert told["robot_missing"] > 0  # ticks are missing in the second
    tables = [pq.read_table(path) for path in sorted((out / "data").glob("*/*.parquet"))]
    second = tables[1]
    assert column(second, "episode_index").tolist() == [1] * 25
    gone = np.isnan(column(second, "action")).any(axis=1)
    assert gone.sum() == told["robot_missing"]
    assert (column(second, "teleop.state")[gone] == 0).all()
    headers = [json.loads(path.read_text()) for path in sorted((out / "meta").glob("hsr*.json"))]
    assert [header["track_id"] for header in headers] == [1, 2]
    with pytest.raises(ConfigError, match="2 engagements: gmr takes one"):
        export(str(engagements[0].parent), "gmr", tmp_path / "a.pkl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_an_engagement_that_is_of_no_use_is_skipped_and_told(people, tmp_path):
    folder = tmp_path / "teleop"
    folder.mkdir()
    Writer(folder / "20200101T000000.000Z_operator-1.mcap", people[1], without_ticks=range(0, 80))
    Writer(folder / "20200101T000100.000Z_operator-9.mcap", people[1], operator=9)
    with pytest.raises(
        BadFile, match=r"none of 2 engagements .* nothing was sent .* person 9, whom the robot followed"
    ):
        export(str(folder), "lerobot", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["teleop"]
    Writer(folder / "20200101T000200.000Z_operator-1.mcap", people[1])
    told = export(str(folder), "lerobot", tmp_path / "set")
    assert told["episodes"] == 1
    assert sorted(name.partition("Z_")[2] for name in told["skipped"]) == ["operator-1.mcap", "operator-9.mcap"]


def test_recordings_without_joint_states_are_skipped_where_others_have_them(people, tmp_path):
    folder = tmp_path / "teleop"
    folder.mkdir()
    names = [f"20200101T00000{i}.000Z_operator-1.mcap" for i in range(3)]
    for name, without in zip(names, (range(-5, 80), range(0), range(-5, 80)), strict=True):
        Writer(folder / name, people[1], without_states=without)
    told = export(str(folder), "lerobot", tmp_path / "set")
    assert told["episodes"] == 1
    assert list(told["skipped"]) == [names[0], names[2]]
    assert all(why.endswith("its columns are of others: observation.state") for why in told["skipped"].values())
    (folder / names[1]).unlink()
    assert export(str(folder), "lerobot", tmp_path / "without")["episodes"] == 2


def test_an_export_of_many_engagements_goes_on_where_it_was_stopped(engagements, tmp_path, monkeypatch):
    folder, out, more = str(engagements[0].parent), tmp_path / "set", ExportOptions(append=True)
    done = []

    def stopped_in_the_second(path):
        done.append(path)
        if len(done) == 2:
            raise KeyboardInterrupt
        return read_engagement(path)

    with monkeypatch.context() as patch:
        patch.setattr("hsr_core.export.run.read_engagement", stopped_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            export(folder, "lerobot", out, options=more)
    told = export(folder, "lerobot", out, options=more)
    assert (told["episodes"], list(told["skipped"])) == (1, [engagements[0].name])
    assert export(folder, "lerobot", out, options=more)["episodes"] == 0
    assert json.loads((out / "meta/info.json").read_text())["total_episodes"] == 2


def test_what_is_recorded_later_is_added_once_at_the_rate_that_is_there(people, tmp_path, monkeypatch):
    folder, out, more = tmp_path / "teleop", tmp_path / "set", ExportOptions(append=True)
    folder.mkdir()
    Writer(folder / "20200101T000000.000Z_operator-1.mcap", people[1])
    for episodes in (1, 0):  # a folder of one, too, is passed over the second time
        assert export(str(folder), "lerobot", out, options=more)["episodes"] == episodes
    later = folder / "20200101T000100.000Z_operator-2.partial.mcap"
    Writer(later, people[1], operator=2, end=False)
    told = export(str(folder), "lerobot", out, options=more)
    assert (told["episodes"], told["skipped"][later.name]) == (0, "it is being written")
    os.utime(later, (0, 0))  # cut off long ago
    monkeypatch.setattr("hsr_core.export.motion.nominal_rate", lambda stamps: 29.0)  # a little slower today
    told = export(str(folder), "lerobot", out, options=more)
    assert (told["episodes"], told["fps"], list(told["skipped"])) == (1, 30, ["20200101T000000.000Z_operator-1.mcap"])


def test_robot_formats_hold_what_was_sent_without_being_told_a_robot(engagements, tmp_path):
    export(str(engagements[0]), "csv", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["stamp_ns"]) for row in rows] == [FIRST_NS + i * TICK_NS for i in range(80)]
    assert [int(row["teleop_state"]) for row in rows] == [state_at(i) for i in range(80)]
    np.testing.assert_allclose([float(row["wrist"]) for row in rows], [sent_at(i)[1] for i in range(80)])
    export(str(engagements[0]), "gmr", tmp_path / "a.pkl")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as motion:
        assert float(motion["fps"]) == 100
        np.testing.assert_allclose(motion["dof_pos"], [sent_at(i) for i in range(80)], atol=1e-9)
        assert json.loads(str(motion["hsr_header"]))["engagement"]["robot"] == "g1"
    export(str(engagements[1]), "npz", tmp_path / "a_people.npz")
    assert set(np.unique(load_people(tmp_path / "a_people.npz")["track_id"])) == {2}


def test_a_recording_that_was_cut_off_is_exported_as_far_as_it_goes(people, tmp_path):
    path = tmp_path / "20200101T000000.000Z_operator-1.partial.mcap"
    writer = Writer(path, people[1], end=False)
    told = export(str(path), "csv", tmp_path / "a.csv")
    assert told["damage"] == "the recording is damaged"
    assert 0 < told["frames"] <= 80
    assert json.loads((tmp_path / "a.csv.json").read_text())["damage"] == told["damage"]
    writer.file.close()


def test_commands_of_another_operator_are_left_out_and_counted(people, tmp_path):
    path = tmp_path / "20200101T000000.000Z_operator-1.mcap"
    Writer(path, people[1], other=2)
    told = export(str(path), "csv", tmp_path / "a.csv")
    assert told["left_out"]["command_of_another_operator"] == 10
    assert told["frames"] == 70


def test_a_recording_in_which_nothing_was_sent_is_refused(people, tmp_path):
    path = tmp_path / "20200101T000000.000Z_operator-1.mcap"
    Writer(path, people[1], without_ticks=range(0, 80))
    with pytest.raises(BadFile, match="nothing was sent"):
        export(str(path), "csv", tmp_path / "a.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_pose_stream_has_the_frames_in_which_the_robot_followed(engagements, tmp_path):
    export(str(engagements[0]), "pose_stream", tmp_path / "stream.npz")
    with np.load(tmp_path / "stream.npz", allow_pickle=False) as file:
        stamps, header = file["stamp_ns"], json.loads(str(file["hsr_header"]))
    first, last = FIRST_NS + 20 * TICK_NS, FIRST_NS + 59 * TICK_NS  # TRACKING
    assert first - TICK_NS < stamps[0] < first + 33_333_334
    assert last - 33_333_334 < stamps[-1] < last + TICK_NS
    assert header["governor"] == "TRACKING"
