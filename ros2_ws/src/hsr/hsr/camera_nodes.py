"""Several perception nodes in one process, one for each camera: one copy of the libraries in memory.

    python -m hsr.camera_nodes cameras.yaml

    - namespace: /front/human                     # cameras.yaml: a list with an entry for each camera
      remap: {image: /front/image_raw, camera_info: /front/camera_info}
      params: [front.yaml]                        # parameter files, checked
      set: {people.max: 2, track.first_id: 1}     # parameters
    - namespace: /rear/human
      remap: {image: /rear/image_raw, camera_info: /rear/camera_info}
      set: {track.first_id: 1000001}

Each node has an executor, a worker and networks of its own. They configure one after the other, and activate.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the perception node, before numpy is imported

import rclpy
import yaml
from rclpy.executors import ExternalShutdownException
from rclpy.utilities import remove_ros_args

from hsr_core.config import Settings
from hsr_core.errors import ConfigError, HsrError
from hsr_core.threads import shared_by

from .guarded_node import GuardedNode, spin
from .parameter_files import check_file, check_pairs, nearest
from .perception_node import PerceptionNode, open_stream
from .pipeline import Stream
from .signals import ros

KINDS = {
    "namespace": (str, "/front/human"),
    "remap": (dict, "{image: /front/image_raw}"),
    "params": (list, "[front.yaml]"),
    "set": (dict, "{people.max: 2}"),
}
"""What an entry of the file holds, by key, with an example."""


@dataclass(frozen=True)
class CameraNode:
    """One node: where it is, what it listens to, its parameters."""

    namespace: str
    remap: Mapping[str, str] = field(default_factory=dict)
    params: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, entry: Any) -> CameraNode:
        """Return an entry of the file, checked.

        Raises:
            ConfigError: A key or a parameter that does not exist, a file with mistakes.
        """
        if not isinstance(entry, Mapping) or "namespace" not in entry:
            raise ConfigError(f"each camera is a mapping with a namespace, not {entry!r}")
        for key in entry:
            if key not in KINDS:
                raise ConfigError(f"camera {entry['namespace']}: unknown key {key!r}{nearest(key, KINDS)}")
        for key, (kind, example) in KINDS.items():
            if key in entry and not isinstance(entry[key], kind):
                raise ConfigError(f"camera {entry['namespace']}: {key} is {entry[key]!r}, not like {example}")
        node = cls(**{**entry, "params": tuple(entry.get("params", ()))})
        for path in node.params:
            check_file(path, node.namespace)
        check_pairs([f"{name}:={value}" for name, value in node.set.items()], "perception")
        return node

    def arguments(self) -> list[str]:
        """Return the node's command line."""
        words = ["--ros-args", "-r", f"__ns:={self.namespace}"]
        for name, topic in self.remap.items():
            words += ["-r", f"{name}:={topic}"]
        for path in self.params:
            words += ["--params-file", str(Path(path).expanduser())]
        for name, value in self.set.items():
            words += ["-p", f"{name}:={_one_line(value)}"]
        return words


def _one_line(value: Any) -> str:
    """Return a value as YAML in one line, however long it is."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).splitlines()[0]


def read_cameras(path: str) -> list[CameraNode]:
    """Return the nodes of a file.

    Raises:
        ConfigError: The file cannot be read, or something in it is wrong; two nodes in one namespace.
    """
    try:
        entries = yaml.safe_load(Path(path).expanduser().read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the cameras in {path}: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} must hold a list of cameras")
    nodes = [CameraNode.parse(entry) for entry in entries]
    spaces = [node.namespace.strip("/") for node in nodes]
    if len(set(spaces)) < len(spaces):
        raise ConfigError(f"{path}: each camera needs a namespace of its own, not {', '.join(spaces)}")
    return nodes


class _OneAfterTheOther:
    """Opens streams one at a time: two would compete for the same cores and files."""

    def __init__(self, open_one: Callable[[Settings], Stream]) -> None:
        self._open, self._lock = open_one, threading.Lock()

    def __call__(self, settings: Settings) -> Stream:
        with self._lock:
            return self._open(settings)


def run_node(node: GuardedNode, autostart: bool, broken: list[str]) -> None:
    """Configure, activate, and spin to the end.

    Args:
        broken: Gets the node's namespace if it ends by an error. All nodes then end, so that launch starts them again.
    """
    try:
        if autostart:
            node.trigger_configure()
            if node.state_label == "inactive":
                node.trigger_activate()
        spin(node)
    except ExternalShutdownException:
        pass
    except Exception:
        if rclpy.ok():
            broken.append(node.get_namespace())
            traceback.print_exc()
            rclpy.try_shutdown()


def main(open_stream: Callable[[Settings], Stream] = open_stream, node: type[PerceptionNode] = PerceptionNode) -> None:
    parser = argparse.ArgumentParser(prog="python -m hsr.camera_nodes", description=__doc__.splitlines()[0])
    parser.add_argument("cameras", help="file with a list of cameras")
    parser.add_argument("--no-autostart", dest="autostart", action="store_false", help="leave the nodes unconfigured")
    options = parser.parse_args(remove_ros_args(sys.argv)[1:])
    with ros():
        try:
            open_one, cameras = _OneAfterTheOther(open_stream), read_cameras(options.cameras)
            os.environ.update(shared_by(len(cameras)))  # before any network is opened
            nodes = [node(open_one, cli_args=camera.arguments()) for camera in cameras]
        except HsrError as error:
            sys.exit(f"camera_nodes: {error}")
        broken: list[str] = []
        threads = [
            threading.Thread(target=run_node, args=(one, options.autostart, broken), name=one.get_namespace())
            for one in nodes
        ]
        for thread in threads:
            thread.start()
        del nodes  # each belongs to its thread, and leaves the graph with it
        for thread in threads:
            thread.join()
        rclpy.try_shutdown()
    if broken:
        sys.exit(f"camera_nodes: ended by an error of {', '.join(broken)}")


if __name__ == "__main__":
    main()
