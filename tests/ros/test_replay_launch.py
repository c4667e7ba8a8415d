"""replay_eval.launch.py: where ROS's launch is installed it is run, elsewhere its text is read."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")

import bags

FOLDER = Path(__file__).resolve().parents[2] / "launch"
PATH = FOLDER / "replay_eval.launch.py"
_spec = importlib.util.find_spec("launch")
HAS_LAUNCH = _spec is not None and _spec.origin is not None and importlib.util.find_spec("launch_ros") is not None
needs_launch = pytest.mark.skipif(
    not HAS_LAUNCH, reason="launch and launch_ros are missing: part of a ROS 2 installation"
)


def assigned(path: Path, name: str) -> ast.expr:
    """Return what a launch file assigns to a name, without importing it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return node.value
    raise AssertionError(f"{path.name} has no {name}")


def arguments(path: Path) -> dict[str, tuple[str, str]]:
    """Return default and choices of each declared argument as source text, by name."""
    rows = [row.elts for row in assigned(path, "ARGUMENTS").elts]
    return {ast.literal_eval(row[0]): (ast.unparse(row[1]), ast.unparse(row[3])) for row in rows}


def test_what_is_passed_on_is_declared_in_both_files_with_the_same_default_and_choices():
    ours, theirs = arguments(PATH), arguments(FOLDER / "human_perception.launch.py")
    for name in ast.literal_eval(assigned(PATH, "PASSED_ON")):
        assert ours[name] == theirs[name], name


def test_every_argument_is_used():
    tree = ast.parse(PATH.read_text())
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for name in arguments(PATH):
        assert words.count(name) >= 2, name


def load():
    spec = importlib.util.spec_from_file_location("replay_eval_launch", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_launch
def test_every_argument_is_listed_and_described():
    found = {a.name: a for a in load().generate_launch_description().get_launch_arguments()}
    assert set(found) == set(arguments(PATH))
    assert all(len(argument.description) > 10 for argument in found.values())
    assert found["bag"].default_value is None


@needs_launch
@pytest.mark.slow
def test_a_recording_is_replayed_recorded_again_and_measured(ros_domain, tmp_path):
    def messages():
        for i in range(60):
            stamp_ns = bags.BEGIN_NS + i * bags.STEP_NS
            yield "/camera/camera_info", stamp_ns, bags.info(stamp_ns)
            yield "/camera/image_raw", stamp_ns, bags.image(np.zeros((*bags.HW, 3), np.uint8), stamp_ns)

    bag = bags.write_bag(tmp_path / "run", messages())
    given = {
        "bag": str(bag), "player": "hsr", "regressor": "fake", "out": str(tmp_path / "out.json"),
        "record": str(tmp_path / "again"), "namespace": "one/human",
    }  # fmt: skip
    script = f"""
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
service = LaunchService(argv=[])
included = IncludeLaunchDescription({str(PATH)!r}, launch_arguments={given!r}.items())
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"\[player-\d+\]: process started", done.stdout + done.stderr)) == 1
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["sent"] == 60 == result["answered"] + sum(result["drops"].values())
    assert result["answered"] > 30, "on a busy computer some are replaced by newer ones"
    assert {"perception", "play", "record", "meter"} <= set(result["processes"])
    from hsr_core.sources.bag_reader import BagReader

    with BagReader(tmp_path / "again") as reader:
        assert reader.topics["/one/human/people"].count >= result["answered"] - 1
