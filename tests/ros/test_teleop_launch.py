"""teleop.launch.py: where ROS's launch is installed it is run, elsewhere its text is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hsr.camera_mount import LEVEL, WORLD
from hsr.environment import share_dir
from hsr.retarget_params import DEFAULTS
from hsr.robot_description import robot_description
from launch_files import LaunchFile, needs_launch

from hsr_core.config import describe, flatten
from hsr_core.errors import ConfigError, HsrError

FILE = LaunchFile("teleop")
PATH, constant, load, context_with = FILE.path, FILE.constant, FILE.load, FILE.context_with
DOCS = PATH.parents[1] / "docs" / "launch.md"


def test_forwarded_arguments_are_parameters_of_the_node() -> None:
    assert set(constant("FORWARDED").values()) <= {spec.name for spec in describe(DEFAULTS)}
    assert (share_dir() / "launch" / PATH.name).is_file()
    assert (share_dir() / "config" / "retarget.yaml").is_file()


def test_ros_tools_get_files_for_the_meshes_of_installed_robots() -> None:
    pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget,robots]'")
    for robot in ("talos", "g1", "jvrc1"):
        meshes = re.findall(r'<mesh\s+filename="([^"]+)"', robot_description(robot, "upper_body"))
        assert meshes
        assert all(Path(name.removeprefix("file://")).is_file() for name in meshes), robot


@needs_launch
def test_every_argument_of_its_own_is_documented_as_it_is() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    for name, default, description, choices in load().TELEOP_ARGUMENTS:
        (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:] == [f"`{default}`" if default else "", ", ".join(filter(None, choices or ())), description]


@needs_launch
def test_arguments_of_both_files_are_listed_once() -> None:
    names = [argument.name for argument in load().generate_launch_description().get_launch_arguments()]
    assert len(names) == len(set(names))
    assert {"robot", "sim", "demo", "mount", "deadman", "source", "preset", "world_frame", "refine"} <= set(names)


@needs_launch
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "robot:= is missing.*talos"),
        ({"robot": "taloss", "source": "clip"}, "talos"),
        ({"robot": "talos", "robot_mode": "upper", "source": "clip"}, "upper_body"),
        ({"robot": "talos"}, "where is the camera"),
        ({"robot": "talos", "mount": "0 0 1.4"}, "x y z"),
        ({"robot": "talos", "source": "clip", "demo": "true", "sim": "false"}, "simulated robot"),
        ({"robot": "talos", "source": "/no/such.mp4"}, "no source"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(given, said) -> None:
    with pytest.raises((HsrError, ValueError), match=said):
        load()._check(context_with(**given))


@needs_launch
@pytest.mark.parametrize("name", ["joy", "robot_state_publisher"])
def test_a_package_that_is_not_installed_is_named(name, monkeypatch) -> None:
    module = load()

    def nowhere(package: str) -> str:
        raise module.PackageNotFoundError(package)

    monkeypatch.setattr(module, "get_package_prefix", nowhere)
    with pytest.raises(ConfigError, match=f"apt install ros-.*{name.replace('_', '-')}"):
        module._check(context_with(robot="talos", source="clip", **{name: "true"}))


@needs_launch
def test_the_clip_brings_its_mount_and_follows_one_person_unless_told_otherwise() -> None:
    def checked(**given: str) -> dict:
        context = context_with(robot="talos", **given)
        load()._check(context)
        return context.launch_configurations

    clip = checked(source="clip")
    assert (clip["mount"], clip["world_frame"]) == (LEVEL["clip"], WORLD)
    assert (clip["people"], clip["back_and_forth"]) == ("1", "true")
    told = checked(source="clip", people="3", back_and_forth="false", world_frame="odom")
    assert (told["people"], told["back_and_forth"]) == ("3", "false")
    assert (told["mount"], told["world_frame"]) == ("", "odom")
    other = checked(source="webcam:0", mount="0 0 1.2 0 10 0")
    assert (other["people"], other["back_and_forth"]) == ("", "false")  # as human_perception.launch.py has them


@needs_launch
def test_arguments_become_parameters_of_their_type() -> None:
    from hsr.launching import ParameterFile

    def written(**given: str) -> dict:
        context = context_with(robot="talos", source="clip", **given)
        load()._check(context)
        arguments = {parameter: name for name, parameter in load().FORWARDED.items()}
        path = Path(ParameterFile(arguments, DEFAULTS, "retarget").perform(context))
        values = yaml.safe_load(path.read_text())
        path.unlink()
        return flatten(values["/**/human/retarget"]["ros__parameters"])

    usual = {"robot": "talos", "robot_mode": "upper_body"}
    assert written() == usual
    assert written(mirror="true", deadman_button="4", input="raw", trajectory="/arm/joint_trajectory") == {
        **usual, "mirror": True, "deadman.button": 4, "input": "raw", "publish.trajectory": True,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"deadman\.button"):
        written(deadman_button="-1")
