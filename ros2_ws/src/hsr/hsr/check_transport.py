"""Send large best-effort images between two processes and count what arrives, with our transport profile and without.

python -m hsr.check_transport [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from .environment import PROFILE_VARIABLES, transport_environment

SENT = 60
RATE_HZ = 30.0
WIDTH, HEIGHT = 640, 521
"""640 x 521 x 3 bytes: 1 MB, twice the default shared-memory segment."""


def deliver(environ: Mapping[str, str]) -> int:
    """Return how many of SENT images another process received."""
    topic = f"/check_transport_{os.getpid()}"
    command = [sys.executable, "-m", __spec__.name if __name__ == "__main__" else __name__]
    receiver = subprocess.Popen([*command, "--receive", topic], env=environ, text=True, stdout=subprocess.PIPE)
    try:
        if receiver.stdout is None or receiver.stdout.readline().strip() != "ready":
            raise RuntimeError("the receiving process did not start")
        subprocess.run([*command, "--send", topic], env=environ, check=True, timeout=60)
        return int(receiver.communicate(timeout=30)[0])
    finally:
        receiver.kill()
        receiver.wait()


def receive(topic: str) -> None:
    import rclpy
    from sensor_msgs.msg import Image

    from . import qos

    rclpy.init()
    node = rclpy.create_node("check_transport_receiver")
    received: list[float] = []
    node.create_subscription(
        Image, topic, lambda data: received.append(time.monotonic()), qos.image_input(reliable=False), raw=True
    )
    print("ready", flush=True)
    started = time.monotonic()
    # Done when all are here, or when none came for a while after the sender had its time.
    while len(received) < SENT and time.monotonic() < max(received[-1:], default=started + 20.0) + 2.0:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(len(received), flush=True)
    rclpy.shutdown()


def send(topic: str) -> None:
    import numpy as np
    import rclpy
    from sensor_msgs.msg import Image

    from . import qos
    from .convert import image_to_msg

    rclpy.init()
    node = rclpy.create_node("check_transport_sender")
    publisher = node.create_publisher(Image, topic, qos.image_input(reliable=False))
    deadline = time.monotonic() + 15.0
    while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # the other side has to see this one too
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    due = time.monotonic()
    for i in range(SENT):
        publisher.publish(image_to_msg(image, i, "check_transport"))
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(0.5)  # the last ones leave before the participant does
    rclpy.shutdown()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hsr.check_transport", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--receive", metavar="TOPIC", help=argparse.SUPPRESS)
    parser.add_argument("--send", metavar="TOPIC", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.receive:
        receive(args.receive)
    elif args.send:
        send(args.send)
    else:
        plain = dict(os.environ)
        bare = {name: value for name, value in plain.items() if name not in PROFILE_VARIABLES}
        counts = {
            "sent": SENT,
            "delivered_with_profile": deliver(bare | transport_environment("auto", bare)),
            "delivered_as_is": deliver(plain),
        }
        print(
            "of {sent} images of 1 MB: {delivered_with_profile} with our profile, {delivered_as_is} as it is".format(
                **counts
            )
        )
        if args.json:
            print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
