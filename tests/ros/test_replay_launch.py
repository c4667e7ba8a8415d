"""replay_eval.launch.py: where ROS's launch is installed it is run, elsewhere its text is read."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")

import bags
from launch_files import LaunchFile, needs_launch

FILE, PERCEPTION = LaunchFile("replay_eval"), LaunchFile("human_perception")
PATH, load = FILE.path, FILE.load


def arguments(file: LaunchFile = FILE) -> dict[str, tuple[str, str]]:
    """Return default and choices of each declared argument as source text, by name."""
    rows = [row.elts for row in file.assigned("ARGUMENTS").elts]
    return {ast.literal_eval(row[0]): (ast.unparse(row[1]), ast.unparse(row[3])) for row in rows}


def test_what_is_passed_on_is_declared_in_both_files_with_the_same_default_and_choices():
    ours, theirs = arguments(), arguments(PERCEPTION)
    for name in FILE.constant("PASSED_ON"):
        assert ours[name] == theirs[name], name


def test_every_argument_is_used():
    tree = ast.parse(PATH.read_text())
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for name in arguments():
        assert words.count(name) >= 2, name


@needs_launch
def test_every_argument_is_listed_and_described():
    found = {a.name: a for a in load().generate_launch_description().get_launch_arguments()}
    assert set(found) == set(arguments())
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
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"\[player-\d+\]: process started", done.stdout + done.stderr)) == 1
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["sent"] == 60 == result["answered"] + sum(result["drops"].values())
    assert result["answered"] > 30, "on a busy computer some are replaced by newer ones"
    assert {"perception", "play", "record", "meter"} <= set(result["processes"])
    from hsr_core.sources.bag_reader import BagReader

    with BagReader(tmp_path / "again") as reader:
        assert reader.topics["/one/human/people"].count >= result["answered"] - 1
