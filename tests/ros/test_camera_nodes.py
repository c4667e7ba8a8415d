"""Several cameras: perception nodes side by side in one process, and the launch file that starts them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from harness import camera_info, image
from hsr import camera_nodes
from hsr.camera_nodes import read_cameras
from hsr_msgs.msg import HumanArray
from launch_files import LaunchFile, needs_launch
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CameraInfo, Image

from hsr_core.config import flatten
from hsr_core.errors import ConfigError

load = LaunchFile("cameras").load


def written(folder: Path, entries) -> str:
    path = folder / "cameras.yaml"
    path.write_text(yaml.safe_dump(entries))
    return str(path)


def entry(name: str, **parameters) -> dict:
    topics = {"image": f"/{name}/image_raw", "camera_info": f"/{name}/camera_info"}
    return {"namespace": f"/{name}/human", "remap": topics, "set": parameters}


def test_two_nodes_in_one_process_see_their_own_cameras(rig, tmp_path):
    path = written(tmp_path, [entry("front", **{"input.frame_id": "front_optical_frame"}),
                              entry("rear", **{"input.frame_id": "rear_optical_frame"})])  # fmt: skip
    process = rig.start("cameras", "scripted_cameras", path)
    heard = {name: rig.listen(HumanArray, f"/{name}/human/people") for name in ("front", "rear")}
    senders = {
        name: (rig.node.create_publisher(Image, f"/{name}/image_raw", 1),
               rig.node.create_publisher(CameraInfo, f"/{name}/camera_info", 1))
        for name in heard
    }  # fmt: skip
    sent = {name: set() for name in heard}

    def stamp(msg) -> tuple[int, int]:
        return msg.header.stamp.sec, msg.header.stamp.nanosec

    def play(*names: str) -> None:
        for name in names:
            picture = image(size=(64, 48) if name == "front" else (80, 60))
            info = camera_info((picture.width, picture.height))
            info.header.stamp = picture.header.stamp
            sent[name].add(stamp(picture))
            senders[name][1].publish(info)
            senders[name][0].publish(picture)

    rig.wait(lambda: play("front", "rear") or all(len(msgs) > 3 for msgs in heard.values()), "people of both cameras")
    assert {msg.header.frame_id for msg in heard["front"]} == {"front_optical_frame"}
    assert {(msg.header.frame_id, msg.image_width) for msg in heard["rear"]} == {("rear_optical_frame", 80)}
    begin = len(heard["rear"])
    rig.wait(lambda: play("rear") or len(heard["rear"]) > begin + 5, "people of the rear camera alone")
    for name, msgs in heard.items():
        assert {stamp(msg) for msg in msgs} <= sent[name]
    assert not sent["front"] & sent["rear"]
    assert rig.stop(process) == 0
    assert "Traceback" not in process.log_path.read_text()


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("front", **{"peopel.max": 2})], "did you mean 'people.max'"),
        ([{"namespace": "/a", "remaps": {}}], "unknown key 'remaps'; did you mean 'remap'"),
        ([entry("front"), entry("front")], "a namespace of its own"),
        ([{"remap": {}}], "a mapping with a namespace"),
        ({"front": {}}, "must hold a list"),
        ([{"namespace": "/a", "params": "a.yaml"}], "params is 'a.yaml', not like"),
        ([{"namespace": "/a", "set": None}], "set is None, not like"),
        ([entry("front"), {"namespace": "front/human"}], "a namespace of its own"),
    ],
)
def test_a_list_of_cameras_with_a_mistake_is_refused(entries, why, tmp_path):
    with pytest.raises(ConfigError, match=why):
        read_cameras(written(tmp_path, entries))


def test_a_long_value_reaches_the_node_whole(tmp_path):
    path = "/models of people/" + "a long name " * 20 + "end"
    (node,) = read_cameras(written(tmp_path, [entry("front", **{"body_model.path": path})]))
    (word,) = [word for word in node.arguments() if word.startswith("body_model.path:=")]
    assert yaml.safe_load(word.partition(":=")[2]) == path


def test_an_error_of_one_node_ends_all_and_a_shutdown_is_none(monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(camera_nodes.rclpy, "ok", lambda: not ended)
    monkeypatch.setattr(camera_nodes.rclpy, "try_shutdown", lambda: ended.append(True))

    def run(error: Exception) -> list[str]:
        def configure() -> None:
            raise error

        broken: list[str] = []
        node = SimpleNamespace(trigger_configure=configure, get_namespace=lambda: "/front/human")
        camera_nodes.run_node(node, True, broken)
        return broken

    assert run(ExternalShutdownException()) == []
    assert ended == []
    assert run(RuntimeError("a wire is loose")) == ["/front/human"]
    assert ended == [True]
    assert "a wire is loose" in capfd.readouterr().err
    assert run(RuntimeError("of the end itself")) == []


@needs_launch
def test_bases_of_topics_or_a_file_give_each_camera_its_own_names_and_ids(tmp_path):
    cameras = load()._cameras
    front, rear = cameras("/front, /rear")
    assert (front["camera"], front["namespace"], front["humans"]) == ("/front", "front/human", "/front/humans")
    assert (rear["camera"], rear["namespace"], rear["humans"]) == ("/rear", "rear/human", "/rear/humans")
    assert (front["first_id"], rear["first_id"]) == ("1", "1000001")
    entries = [{"namespace": "a/human", "preset": "zed", "view": True}, {"namespace": "b", "image": "/b/picture"}]
    a, b = cameras(written(tmp_path, entries))
    assert (a["preset"], a["view"], a["humans"]) == ("zed", "true", "/a/humans")
    assert (b["image"], b["humans"]) == ("/b/picture", "/b/humans")
    (c,) = cameras(written(tmp_path, [{"camera": "/c", "preset": None}]))
    assert c["preset"] == ""
    with pytest.raises(ConfigError, match="a list of cameras, each with arguments"):
        cameras(written(tmp_path, ["/front", "/rear"]))
    for text, why in (("", "none"), ("/a,/a", "a name of its own"),
                      (written(tmp_path, [{"presett": "zed"}]), "did you mean 'preset'")):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            cameras(text)


@needs_launch
def test_arguments_are_listed_and_one_process_gets_what_the_nodes_would(tmp_path):
    module = load()
    arguments = {a.name: a for a in module.generate_launch_description().get_launch_arguments()}
    assert {"cameras", "one_process", *module.SHARED} == set(arguments)
    assert all(len(argument.description) > 10 for argument in arguments.values())
    (camera,) = module._cameras("/front")
    made = module._entry({**camera, "preset": "realsense", "camera": "/front/camera", "people": "3"})
    assert made["remap"]["depth"] == "/front/camera/aligned_depth_to_color/image_raw"
    assert made["set"] == {"use_sim_time": False}
    arguments = yaml.safe_load(Path(made["params"][-1]).read_text())["/**/front/human/perception"]["ros__parameters"]
    assert flatten(arguments) == {"people.max": 3, "track.first_id": 1, "rep155.root": "/front/humans"}
    (node,) = read_cameras(written(tmp_path, [made]))
    assert "__ns:=/front/human" in node.arguments()
    assert node.arguments().count("--params-file") == 2


def context_of(module, cameras):
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update({name: default for name, default, *_ in module.ARGUMENTS[1:]})
    context.launch_configurations["cameras"] = cameras
    return context


@needs_launch
@pytest.mark.parametrize(("cores", "variables"), [(2, ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"]), (4, [])])
def test_cameras_that_share_cores_work_in_one_thread_each(cores, variables, monkeypatch):
    from launch.actions import SetEnvironmentVariable

    module = load()
    context = context_of(module, "/front,/rear")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    made = [action for action in module._start(context) if isinstance(action, SetEnvironmentVariable)]
    assert [context.perform_substitution(action.name[0]) for action in made] == variables


@needs_launch
def test_a_mistake_in_the_last_camera_starts_none(tmp_path):
    module = load()
    context = context_of(module, written(tmp_path, [{"camera": "/a"}, {"camera": "/b", "people": 99}]))
    with pytest.raises(ConfigError, match=r"people\.max must lie in 1\.\.16, not 99"):
        module._start(context)
