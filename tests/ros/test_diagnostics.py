"""Why there is no mesh: each cause is provoked, and must be named by /diagnostics."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from types import SimpleNamespace

import pytest
from harness import FRAME_ID, Perception, Rig, best_effort, camera_info, image, level, values
from hsr import diagnostics
from hsr.diagnostics import CameraView, MeshView, camera_status, drops_text, mesh_status, node_label, people_status
from hsr.gpu_watch import GpuReading, GpuWatch, read_gpu
from hsr_msgs.msg import HumanArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool
from visualization_msgs.msg import Marker

WARN, ERROR = 1, 2


@pytest.fixture(scope="module")
def perception(rig):
    return Perception(rig, activate=False)


def says(perception: Perception, part: str, *texts: str, least: int = WARN) -> None:
    """Wait until a status has these texts."""
    perception.wait_status(
        part, lambda s: all(text in s.message for text in texts) and level(s) >= least, f"{part}: {texts}"
    )


def test_an_inactive_node_says_so(perception):
    says(perception, "lifecycle", "unconfigured: no image is taken until the node is active", least=0)
    perception.change("configure")
    says(perception, "lifecycle", "inactive: no image is taken", least=0)
    perception.change("activate")
    perception.works()
    status = perception.wait_status("lifecycle", lambda s: s.message == "ok", "all is well")
    assert values(status)["state"] == "active"


def test_every_status_and_key_is_there_while_it_works(perception):
    perception.works()
    wanted = {
        "camera": {"topic", "rate_hz", "size", "encoding", "reliability", "dropped_bad", "intrinsics_source",
                   "publishers", "last_image_age [s]", "received", "processed", "dropped_busy", "dropped_stale",
                   "dropped_gap", "camera_info", "paused", "clock_jumps"},
        "inference": {"regressor", "device", "engine", "rate_hz", "errors", "nan_people", "total p50/p99 [ms]"},
        "latency": {"p50 [ms]", "p99 [ms]", "max [ms]", "clock_offset [s]"},
        "people": {"count", "ids", "primary", "new_tracks_per_min", "people.min_score", "people.min_height_px"},
        "mesh": {"mesh.enabled", "markers", "bad_meshes", "frame_id", "listeners mesh"},
        "transport": {"middleware", "segment", "lost"},
        "graph": {"node", "image", "camera_info", "depth", "mesh"},
        "gpu": {"name"},
        "optional parts": {"hri_msgs", "tf2_msgs", "cv_bridge"},
        "lifecycle": {"state"},
    }  # fmt: skip
    for part, keys in wanted.items():
        perception.feed(lambda part=part: perception.status(part), part)
        assert keys <= set(values(perception.status(part))), part
    assert values(perception.status("graph"))["image"] == "/camera/image_raw"  # where `image` was remapped to
    assert values(perception.status("gpu"))["name"] == "none"


def test_a_wrong_topic_names_the_image_topics_that_there_are(rig, perception):
    rig.node.destroy_publisher(perception.images)
    says(perception, "camera", "no image for", "nobody publishes images")
    other = rig.node.create_publisher(Image, "/camera/color/image_raw", 1)
    says(perception, "camera", "nobody publishes it", "/camera/color/image_raw: remap image")
    rig.node.destroy_publisher(other)
    wrong = rig.node.create_publisher(CompressedImage, "/camera/image_raw/compressed", 1)
    set_(rig, "mesh.every_n", 1)  # the node goes on meanwhile
    rig.wait(lambda: "compressed" in values(perception.status("camera"))["topic"], "the other transport")
    rig.node.destroy_publisher(wrong)
    perception.images = rig.node.create_publisher(Image, "/camera/image_raw", 1)
    perception.works()


def test_a_topic_of_another_type_is_named(rig, perception):
    rig.node.destroy_publisher(perception.images)
    wrong = rig.node.create_publisher(CameraInfo, "/camera/image_raw", 1)
    says(perception, "camera", "/camera/image_raw carries sensor_msgs/msg/CameraInfo, not sensor_msgs/msg/Image")
    rig.node.destroy_publisher(wrong)
    perception.images = rig.node.create_publisher(Image, "/camera/image_raw", 1)
    perception.works()


def test_no_camera_info_and_a_refused_one_are_told_apart(rig, perception):
    perception.works()
    begin = len(perception.people)

    def alone():
        perception.images.publish(image(frame_id="lonely_optical_frame"))
        return len(perception.people) > begin + 2

    rig.wait(lambda: alone() or None, "people without camera info")
    says(perception, "camera", "no camera info for frame 'lonely_optical_frame' (received: ")
    perception.works()

    def broken(msg):
        info = camera_info()
        info.k[0] = 0.0
        return info

    perception.feed(
        lambda: perception.people[-1].header.frame_id == FRAME_ID
        and perception.people[-1].intrinsics_source == HumanArray.ASSUMED_FOV,
        "a refused K", info=broken,
    )  # fmt: skip
    says(perception, "camera", "camera info refused")
    perception.works()


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"encoding": "strange8"}, ("images are dropped", "strange8", "none of", "bad:")),
        ({"stamp_ns": 1_000_000_000}, ("none of", "stale")),
    ],
)
def test_drops_are_told_with_their_reason(perception, fields, texts):
    perception.works()

    def told() -> bool:
        status = perception.status("camera")
        return status is not None and all(text in status.message for text in texts)

    perception.feed(told, f"{texts}", make=lambda: image(**fields), info=lambda msg: camera_info())
    perception.works()


def test_stamps_of_another_clock_are_told(tmp_path):
    other = Rig(tmp_path)
    try:
        late = Perception(other)
        late.feed(
            # People come all the same: nothing is dropped for its age.
            lambda: late.people and (s := late.status("latency")) and "off this clock" in s.message, "the other clock",
            make=lambda: image(stamp_ns=time.time_ns() - 3600 * 10**9),
        )  # fmt: skip
        # Without /clock ROS time stands still: that must be said, and by a timer that goes on.
        set_(other, "use_sim_time", True)
        says(late, "graph", "use_sim_time is true and nobody publishes /clock")
        clock = other.node.create_publisher(Clock, "/clock", 1)
        late.wait_status("graph", lambda s: level(s) == 0, "a clock")
        other.node.destroy_publisher(clock)
    finally:
        other.close()


def test_settings_that_take_the_mesh_away_are_named(rig, perception):
    perception.works()
    set_(rig, "mesh.enabled", False)
    says(perception, "mesh", "mesh.enabled is false")
    set_(rig, "mesh.enabled", True)
    perception.wait_status("mesh", lambda s: "nobody listens to mesh" in s.message, "that nobody listens")
    markers = rig.listen(Marker, "/human/mesh", 10, raw=True)
    perception.feed(lambda: len(markers) > 2, "markers")
    status = perception.wait_status("mesh", lambda s: int(values(s)["markers"]) > 0, "the count of markers")
    assert level(status) == 0
    assert "RViz needs a fixed frame that is tied to 'camera_optical_frame'" in status.message


def test_a_pause_is_told(rig, perception):
    perception.works()
    assert rig.call(SetBool, "/human/perception/pause", data=True).success
    says(perception, "camera", "paused by the service", least=0)
    assert rig.call(SetBool, "/human/perception/pause", data=False).success
    perception.works()


def test_endpoints_that_do_not_match_are_named_with_topic_and_node(rig, perception):
    perception.works()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    reader = rig.node.create_subscription(HumanArray, "/human/people", lambda msg: None, latched)
    says(perception, "graph", "/human/people: /tester receives nothing", "transient local")
    rig.node.destroy_subscription(reader)
    perception.wait_status("graph", lambda s: level(s) == 0, "all is well again")


def test_who_publishes_on_its_topics_too_is_told_but_everybody_publishes_on_tf(rig, perception):
    frames = pytest.importorskip("tf2_msgs.msg").TFMessage
    perception.works()
    others = [rig.node.create_publisher(frames, "/tf", 10), rig.node.create_publisher(HumanArray, "/human/people", 10)]
    rig.wait(lambda: rig.node.count_publishers("/tf") == 2, "the node's own frames")
    status = perception.wait_status(
        "graph", lambda s: "/human/people has 2 publishers" in s.message, "another's people"
    )
    assert "/tf" not in status.message
    for other in others:
        rig.node.destroy_publisher(other)
    perception.wait_status("graph", lambda s: level(s) == 0, "all is well again")


def test_inputs_that_are_not_as_reliable_as_asked_for_are_named_by_topic(tmp_path):
    other = Rig(tmp_path)
    try:
        strict = Perception(other, "input.reliability:=reliable")
        for publisher in (strict.images, strict.infos):
            other.node.destroy_publisher(publisher)
        topics = {"/camera/image_raw": Image, "/camera/camera_info": CameraInfo, "/human/depth": Image}
        publishers = [other.node.create_publisher(kind, topic, best_effort()) for topic, kind in topics.items()]
        strict.images, strict.infos, _ = publishers
        lines = [f"{topic}: /tester does not match this node's subscription (best effort" for topic in topics]
        says(strict, "graph", *lines)
        said = [f"a publisher on {topic} offers an incompatible RELIABILITY" for topic in topics]
        other.wait(lambda: all(text in strict.log() for text in said), "the same in the log")
        # The same node once more: requests and topics would be shared.
        twin = Perception(other, activate=False)
        says(strict, "graph", "2 nodes are called /human/perception")
        other.stop(twin.process)
    finally:
        other.close()


def test_without_any_optional_package_it_works_and_names_what_is_off(tmp_path):
    other = Rig(tmp_path)
    try:
        bare = Perception(other, module="bare_node")
        assert bare.works().humans
        says(bare, "optional parts", "hri_msgs is not installed", "tf2_msgs is not installed")
        shown = values(bare.status("optional parts"))
        assert {shown[name] for name in diagnostics.OPTIONAL_PARTS} == {"off"}
    finally:
        other.close()


def set_(rig, name: str, value) -> None:
    answer = rig.call(
        SetParameters, "/human/perception/set_parameters", parameters=[Parameter(name, value=value).to_parameter_msg()]
    )
    assert answer.results[0].successful


# Without ROS


def view(**changes) -> CameraView:
    good = CameraView("/c", 30.0, 0.1, "640x480", "bgr8", True, False, False, 0, "CAMERA_INFO", "", "/driver")
    return dataclasses.replace(good, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 0), ({"rate_hz": 3.0}, 1), ({"silent_s": 2.0}, 1), ({"silent_s": 6.0, "hint": "remap image"}, 2),
     ({"no_stamps": True}, 1), ({"mixed": True}, 1), ({"camera_note": "x"}, 1), ({"last_bad": "x"}, 1)],
)  # fmt: skip
def test_levels_of_the_camera(changes, expected):
    status = camera_status(view(**changes))
    assert status.level == expected
    assert ("remap image" in "".join(status.texts)) == ("hint" in changes)


def test_statuses_of_two_cameras_have_different_names():
    names = [node_label("perception", space) for space in ("/human", "/front/human", "/")]
    assert names == ["perception", "front/human/perception", "perception"]


def test_levels_of_the_latency():
    levels = [diagnostics.latency_status(10.0, p99, 500.0, 0.0, False).level for p99 in (100.0, 200.0, 500.0)]
    assert levels == [0, 1, 2]
    assert diagnostics.latency_status(math.nan, math.nan, math.nan, 0.0, False).level == 0
    assert diagnostics.latency_status(10.0, 10.0, 10.0, 99.0, True).level == 1


def test_people_kept_out_are_told_with_the_setting():
    limits = {"people.min_score": 0.4, "people.min_height_px": 64}
    status = people_status(0, [], "", 0, 4, limits, {"people.min_score": 7, "people.min_height_px": 0})
    assert (status.level, "7 times somebody below people.min_score (0.4)" in status.texts) == (1, True)
    assert people_status(1, ["abcde"], "abcde", 0, 4, limits, {"people.min_score": 7}).level == 0
    assert "nobody is seen" in people_status(0, [], "", 0, 4, limits, {}).texts
    assert people_status(4, ["a"], "", 0, 4, limits, {}).level == 1


def test_why_none_of_the_images_was_processed():
    before = {"received": 10, "processed": 4, "dropped_stale": 6}
    assert drops_text(before, {"received": 20, "processed": 4, "dropped_stale": 16}, 0.5).startswith(
        "none of 10 images was processed: 10 stale: older than input.max_age_s (0.5 s)"
    )
    assert drops_text(before, {"received": 20, "processed": 5, "dropped_stale": 15}, 0.5) == ""
    assert drops_text(before, before, 0.5) == ""


def test_mesh_without_listeners_is_no_fault():
    quiet = MeshView(True, 1, 30.0, "", {"mesh": 0, "mesh_compact": 0}, 0, 0)
    assert mesh_status(quiet).level == 0


def gpu(**changes) -> GpuReading:
    return dataclasses.replace(GpuReading("G", 1000.0, 8000.0, 500.0, 60.0, 100.0, 0.95, 90.0), **changes)


def test_the_sensors_are_those_of_the_gpu_in_use(monkeypatch):
    """By its UUID: CUDA's first GPU may be any of the machine's."""
    looked = []
    library = SimpleNamespace(
        NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=looked.append,
        nvmlDeviceGetMaxClockInfo=lambda *_: 2000, nvmlDeviceGetTemperature=lambda *_: 61,
        nvmlDeviceGetPowerUsage=lambda *_: 90_000, nvmlDeviceGetClockInfo=lambda *_: 1000,
        nvmlDeviceGetUtilizationRates=lambda *_: SimpleNamespace(gpu=70),
    )  # fmt: skip
    cuda = SimpleNamespace(
        is_initialized=lambda: True, mem_get_info=lambda: (1e9, 8e9), get_device_name=lambda: "G",
        memory_reserved=lambda: 5e8, current_device=lambda: 0,
        get_device_properties=lambda device: SimpleNamespace(uuid="8a1b"),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert read_gpu() == GpuReading("G", 7000.0, 8000.0, 500.0, 61.0, 90.0, 0.5, 70.0)
    assert looked == ["GPU-8a1b"]
    cuda.get_device_properties = lambda device: SimpleNamespace()  # a torch that does not know it
    assert math.isnan(read_gpu().temperature_c)


def test_a_gpu_that_is_full_slow_or_gone():
    assert read_gpu() is None  # CUDA was not started here, and looking does not start it
    assert GpuWatch(lambda: None).status().level == 0
    status = GpuWatch(gpu).status()
    assert (status.level, status.values["name"], status.values["power [W]"]) == (0, "G", 100.0)
    assert "temperature [C]" not in GpuWatch(lambda: gpu(temperature_c=math.nan)).status().values
    assert "95 % of its memory" in GpuWatch(lambda: gpu(used_mb=7600.0)).status().texts[0]
    slow = GpuWatch(lambda: gpu(clock_share=0.5))
    assert [slow.status(t).level for t in (100.0, 105.0, 111.0)] == [0, 0, 1]
    idle = GpuWatch(lambda: gpu(clock_share=0.1, busy_percent=0.0))  # saves power, and is not throttled
    assert [idle.status(t).level for t in (100.0, 111.0)] == [0, 0]

    def lost():
        raise RuntimeError("CUDA error: device lost")

    status = GpuWatch(lost).status()
    assert (status.level, "device lost" in status.texts[0]) == (2, True)
