"""LeRobotDataset v3.0, read by pyarrow and av as its reader would. (The library itself: docs/export.md.)"""

from __future__ import annotations

import json

import numpy as np
import pytest
from export_people import BEGIN_NS, STEP_NS, world_pose, write_recording

from hsr_core.errors import BadFile, ConfigError
from hsr_core.export import ExportOptions, RobotOptions, export
from hsr_core.export.lerobot import nearest, tick_stamps
from hsr_core.export.lerobot_files import merged, statistics
from hsr_core.results import load_people

pq = pytest.importorskip("pyarrow.parquet")
N = 20


@pytest.fixture(scope="module")
def written(tmp_path_factory, open_body):
    """Two people, pictures for a part of the time, a robot."""
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("lerobot")
    path = write_recording(
        folder / "people.npz",
        open_body,
        N,
        missing=(7,),
        predicted=(9,),
        second=range(4, 14),
        T_world_cam=world_pose(2),
    )
    from hsr_core.viz.video import VideoWriter

    writer = VideoWriter(folder / "clip.mp4", 30)
    for i in range(N):
        writer.write(np.full((48, 64, 3), (10 * i, 120, 255 - 10 * i), np.uint8), i * STEP_NS)
    writer.close()
    with (folder / "joints.csv").open("w") as file:
        file.write("stamp_ns,flags,a,b\n")
        for i in range(N - 5):
            file.write(f"{BEGIN_NS + i * STEP_NS + 2_000_000},{i % 2},{i},{-i}\n")
    # The clip's stamps begin at 0, the people's a second later: shift the people.
    with np.load(path) as file:
        arrays = dict(file)
    arrays["stamp_ns"] = arrays["stamp_ns"] - BEGIN_NS
    np.savez(folder / "early.npz", **arrays)
    lines = (folder / "joints.csv").read_text().splitlines()
    shifted = [lines[0], *(f"{int(r.split(',')[0]) - BEGIN_NS},{r.split(',', 1)[1]}" for r in lines[1:])]
    (folder / "joints.csv").write_text("\n".join(shifted) + "\n")
    options = ExportOptions(smoothing="recorded", task="wave", images=str(folder / "clip.mp4"), camera_name="front")
    told = export(
        str(folder / "early.npz"), "lerobot", folder / "set", person="all", options=options,
        robot=RobotOptions(joints=str(folder / "joints.csv")),
    )  # fmt: skip
    assert cv2
    return folder, told


def table_of(folder):
    return pq.read_table(folder / "set/data/chunk-000/file-000.parquet")


def test_every_person_is_an_episode_and_the_indices_fit(written):
    folder, told = written
    info = json.loads((folder / "set/meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["fps"], info["total_episodes"], info["total_frames"]) == (30, 2, N + 10)
    assert told["frames_missing"] == 2
    table = table_of(folder).to_pydict()
    assert set(table) == {name for name, feature in info["features"].items() if feature["dtype"] != "video"}
    assert table["index"] == list(range(N + 10))
    assert table["episode_index"] == [0] * N + [1] * 10
    assert table["frame_index"] == [*range(N), *range(10)]
    np.testing.assert_array_equal(table["timestamp"], np.float32(np.array(table["frame_index"]) / 30))
    episodes = pq.read_table(folder / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["length"]) for e in episodes] == [
        (0, N, N),
        (N, N + 10, 10),
    ]
    assert episodes[1]["tasks"] == ["wave"]
    assert episodes[1]["videos/observation.images.front/from_timestamp"] == pytest.approx(N / 30)
    tasks = pq.read_table(folder / "set/meta/tasks.parquet").to_pydict()
    assert tasks == {"task_index": [0], "__index_level_0__": ["wave"]}


def test_people_are_those_of_the_recording_and_missing_ones_stay_missing(written):
    folder, _ = written
    table, people = table_of(folder), load_people(folder / "early.npz")
    valid = np.array(table["observation.human.valid"])[:N]
    assert np.flatnonzero(~valid).tolist() == [7, 9]
    joints = np.array(table["observation.human.joints"].to_pylist())
    assert joints.shape == (N + 10, 55, 3)
    assert np.isnan(joints[[7, 9]]).all()
    T = world_pose(2)
    np.testing.assert_allclose(joints[3], people["joints"][3, 0] @ T[:3, :3].T + T[:3, 3], atol=1e-4)
    pose = np.array(table["observation.human.body_pose"].to_pylist())
    np.testing.assert_allclose(pose[3], people["body_pose"][3, 0].reshape(-1), atol=1e-5)
    np.testing.assert_allclose(pose[N + 2], people["body_pose"][6, 1].reshape(-1), atol=1e-5)
    stamps = np.array(table["observation.stamp_ns"])
    assert stamps[7] == -1
    assert stamps[3] == people["stamp_ns"][3]


def test_the_robot_is_paired_by_time_and_its_lack_counted(written):
    folder, told = written
    action = np.array(table_of(folder)["action"].to_pylist())
    np.testing.assert_array_equal(action[: N - 5, 0], np.arange(N - 5))
    assert np.isnan(action[N - 5 : N]).all()
    assert told["robot_missing"] == 5
    info = json.loads((folder / "set/meta/info.json").read_text())
    assert info["features"]["action"]["names"] == ["a", "b"]


def test_pictures_are_those_of_the_frames(written):
    av = pytest.importorskip("av")
    folder, told = written
    with av.open(str(folder / "set/videos/observation.images.front/chunk-000/file-000.mp4")) as container:
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="bgr24")) for f in container.decode(video=0)]
    assert len(frames) == N + 10
    np.testing.assert_allclose([t for t, _ in frames], np.arange(N + 10) / 30, atol=1e-4)
    for i, source in ((3, 3), (15, 15), (N + 2, 6)):
        np.testing.assert_allclose(frames[i][1].mean((0, 1)), (10 * source, 120, 255 - 10 * source), atol=12)
    assert told["pictures_missing"] == 0


def test_statistics_leave_out_what_is_missing():
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    x[10:20] = np.nan
    stats = statistics(x)
    np.testing.assert_allclose(stats["q90"], np.nanquantile(x.astype(float), 0.9, axis=0))
    both = merged([statistics(x[20:60]), statistics(x[60:])])
    np.testing.assert_allclose(both["mean"], x[20:].mean(0), atol=1e-6)
    np.testing.assert_allclose(both["std"], x[20:].std(0), atol=1e-6)


def test_ticks_take_the_nearest_frame_within_half_a_step():
    stamps = np.array([0, 33, 68, 200, 233]) * 10**6
    ticks = tick_stamps(stamps, 30)
    assert len(ticks) == 8
    assert nearest(stamps, ticks, 30).tolist() == [0, 1, 2, -1, -1, -1, 3, 4]


def test_episodes_are_added_to_a_data_set_and_others_are_refused(written, tmp_path):
    folder, _ = written
    path, out = str(folder / "early.npz"), tmp_path / "set"
    export(path, "lerobot", out, options=ExportOptions(task="wave"))
    one = json.loads((out / "meta/stats.json").read_text())
    export(path, "lerobot", out, person="2", options=ExportOptions(task="walk", append=True))
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, N + 10, 2)
    tables = [pq.read_table(p).to_pydict() for p in sorted((out / "data").glob("*/*.parquet"))]
    assert [t["index"][0] for t in tables] == [0, N]
    assert [t["task_index"][0] for t in tables] == [0, 1]
    rows = [r for p in sorted((out / "meta/episodes").glob("*/*.parquet")) for r in pq.read_table(p).to_pylist()]
    assert [(r["episode_index"], r["data/file_index"], r["dataset_to_index"]) for r in rows] == [
        (0, 0, N),
        (1, 1, N + 10),
    ]
    both = json.loads((out / "meta/stats.json").read_text())
    score = "observation.human.score"
    assert (one[score]["count"], both[score]["count"]) == ([N], [N + 10])
    robot = RobotOptions(joints=str(folder / "joints.csv"))
    with pytest.raises(ConfigError, match="columns are of"):
        export(path, "lerobot", out, options=ExportOptions(append=True), robot=robot)
    with pytest.raises(ConfigError, match="has 30 frames a second, this 15"):
        export(path, "lerobot", out, options=ExportOptions(append=True, fps=15))
    next((out / "data").glob("*/file-001.parquet")).unlink()
    with pytest.raises(BadFile, match="20 rows for 30 frames"):
        export(path, "lerobot", out, options=ExportOptions(append=True))


def test_a_folder_that_holds_something_is_not_touched(written):
    folder, _ = written
    before = sorted(p.name for p in (folder / "set").rglob("*"))
    with pytest.raises(ConfigError, match="new or an empty folder"):
        export(str(folder / "people.npz"), "lerobot", folder / "set")
    assert sorted(p.name for p in (folder / "set").rglob("*")) == before
