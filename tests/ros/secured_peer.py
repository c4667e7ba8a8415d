"""A node of somebody else's under SROS 2: it hears a topic, or configures and activates the perception node.

ROS_SECURITY_ENCLAVE_OVERRIDE=/human/reader python -m secured_peer people|image|activate
"""

from __future__ import annotations

import sys

import rclpy
from hsr.lifecycle import LifecycleClient
from hsr_msgs.msg import HumanArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

LIMIT_S = 60.0
TOPICS = {"people": (HumanArray, "/human/people"), "image": (Image, "/camera/image_raw")}


def main(role: str) -> None:
    rclpy.init()
    node = rclpy.create_node("supervisor" if role == "activate" else "reader", namespace="/human")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if role == "activate":
        client = LifecycleClient(node, executor, "/human/perception")
        done = [name for name in ("configure", "activate") if client.change(name, LIMIT_S)]
        print("did", *done, flush=True)
        return
    heard = []
    try:
        node.create_subscription(*TOPICS[role], heard.append, qos_profile_sensor_data)
    except Exception as error:
        print(f"refused: {error}", flush=True)
        return
    while len(heard) < 10:
        executor.spin_once()
    print("heard 10", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
