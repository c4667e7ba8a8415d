"""The synthetic bag is written without ROS; here its bytes are read by ROS's own serialisers and by this package."""

from __future__ import annotations

import numpy as np
import pytest
from hsr import convert
from hsr_msgs.msg import HumanArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image

from hsr_core.refine.frames import read_folder
from hsr_core.synth.bag import BEGIN_NS
from hsr_core.synth.command import write_scene
from hsr_core.synth.scene import SceneOptions

rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="pip install 'hsr-core[bag]'")

KINDS = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "hsr_msgs/msg/HumanArray": HumanArray,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "clip"
    write_scene(SceneOptions(frames=2, image_hw=(72, 96)), out, bag=True)
    topics = {}
    with rosbag2.Reader(out / "bag") as reader:
        for connection, _, data in reader.messages():
            message = deserialize_message(bytes(data), KINDS[connection.msgtype])
            topics.setdefault(connection.topic, []).append(message)
    return read_folder(out), topics


def test_images_and_camera_come_back(scene):
    frames, topics = scene
    for frame, image, info in zip(
        frames, topics["/camera/image_raw"], topics["/camera/camera_info"], strict=True
    ):  # fmt: skip
        got = convert.image_to_frame(image)
        assert got.stamp_ns == frame.stamp_ns + BEGIN_NS
        rgb = got.image if got.order == "rgb" else got.image[..., ::-1]
        np.testing.assert_array_equal(rgb, np.rint(frame.image * 255).astype(np.uint8))
        camera = convert.camera_from_info(info)
        np.testing.assert_array_equal(camera.K, frame.K)
        assert camera.image_hw == frame.image_hw
        assert not camera.distorted


def test_people_come_back_as_parameters(scene):
    frames, topics = scene
    for topic, name in (("/synth/truth", "truth"), ("/synth/initial", "params")):
        for frame, message in zip(frames, topics[topic], strict=True):
            params = convert.human_params_from_msg(message.humans[0])
            for field, value in vars(getattr(frame, name)).items():
                np.testing.assert_array_equal(getattr(params, field), value, err_msg=field)
