"""Time the mesh marker as bytes against the same marker from Python objects, in one run.

    python -m hsr.bench_marker [--json]

Both are published to a subscriber in another process, as RViz would be one, under the transport profile and the
allocator's thresholds of the nodes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Point
from visualization_msgs.msg import Marker

from . import qos
from .environment import transport_environment
from .marker import build_mesh_writer
from .stamps import header

MESHES = {"smplx": (10_475, 20_908), "open": (13_718, 27_420)}
"""Vertices and triangles of the SMPL-X mesh and of the open body's."""

_SUBSCRIBER = """
import sys, rclpy
from visualization_msgs.msg import Marker
from hsr import qos
rclpy.init()
node = rclpy.create_node("bench_subscriber")
node.create_subscription(Marker, sys.argv[1], lambda data: None, qos.mesh(1), raw=True)
print("ready", flush=True)
rclpy.spin(node)
"""


def measure(repeats: int = 3, bytes_repeats: int = 60) -> dict[str, Any]:
    """Return medians of building and publishing, both ways [ms], and their ratio.

    Args:
        repeats: Object markers per mesh (each takes about half a second).
        bytes_repeats: Byte markers per mesh.
    """
    rclpy.init()
    topic = "/bench_marker"
    subscriber = subprocess.Popen([sys.executable, "-c", _SUBSCRIBER, topic], stdout=subprocess.PIPE, text=True)
    try:
        node = rclpy.create_node("bench_marker")
        publisher = node.create_publisher(Marker, topic, qos.mesh(1))
        _wait_for_subscriber(subscriber, publisher)
        meshes = {name: _measure_mesh(publisher, *size, repeats, bytes_repeats) for name, size in MESHES.items()}
        return {"command": "bench marker", "meshes": meshes}
    finally:
        subscriber.kill()
        subscriber.wait()
        rclpy.try_shutdown()


def _wait_for_subscriber(process: subprocess.Popen, publisher: Any, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while publisher.get_subscription_count() == 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the subscriber of the measurement did not appear")
        time.sleep(0.02)


def _measure_mesh(publisher: Any, n_vertices: int, n_faces: int, repeats: int, bytes_repeats: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(n_vertices, 3)).astype(np.float32)
    faces = rng.integers(0, n_vertices, (n_faces, 3))
    writer = build_mesh_writer(faces, slots=1)

    def from_bytes(i: int) -> Any:
        return writer.encode(1, vertices, i, "camera_color_optical_frame")

    def from_objects(i: int) -> Marker:
        return _marker_of_objects(vertices, faces, i)

    fast = _time(publisher, from_bytes, bytes_repeats, pause_s=1 / 30)
    slow = _time(publisher, from_objects, repeats, pause_s=0.0)
    total_fast, total_slow = sum(fast), sum(slow)
    return {
        "triangles": n_faces,
        "bytes_build_ms": round(fast[0], 3),
        "bytes_publish_ms": round(fast[1], 3),
        "bytes_total_ms": round(total_fast, 3),
        "objects_build_ms": round(slow[0], 1),
        "objects_publish_ms": round(slow[1], 1),
        "objects_total_ms": round(total_slow, 1),
        "ratio": round(total_slow / total_fast, 1),
    }


def _marker_of_objects(vertices: np.ndarray, faces: np.ndarray, stamp_ns: int) -> Marker:
    marker = Marker(header=header(stamp_ns, "camera_color_optical_frame"), ns="mesh", id=1, type=Marker.TRIANGLE_LIST)
    marker.pose.orientation.w = marker.scale.x = marker.scale.y = marker.scale.z = marker.color.a = 1.0
    corners = vertices[faces.reshape(-1)].astype(np.float64)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in corners.tolist()]
    return marker


def _time(publisher: Any, build: Callable[[int], Any], repeats: int, pause_s: float) -> tuple[float, float]:
    """Return the median times to build and to publish [ms]; the first call is not counted."""
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        message = build(i)
        built = time.perf_counter()
        publisher.publish(message)
        times.append(((built - start) * 1e3, (time.perf_counter() - built) * 1e3))
        time.sleep(pause_s)
    build_ms, publish_ms = np.median(times[1:], axis=0)
    return float(build_ms), float(publish_ms)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hsr bench marker", description="Time the mesh marker both ways.")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=3, help="markers built from objects")
    arguments = parser.parse_args(argv)
    missing = transport_environment()
    if missing:  # measure under what the nodes run under; the allocator reads it at start only
        given = sys.argv[1:] if argv is None else argv
        os.execve(sys.executable, [sys.executable, "-m", "hsr.bench_marker", *given], os.environ | missing)
    result = measure(arguments.repeats)
    for name, mesh in result["meshes"].items():
        print(
            f"{name}: {mesh['triangles']} triangles  bytes {mesh['bytes_build_ms']} + {mesh['bytes_publish_ms']} ms  "
            f"objects {mesh['objects_build_ms']} + {mesh['objects_publish_ms']} ms  {mesh['ratio']} times"
        )
    if arguments.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
