"""Parameter files and command lines with typos: the start is refused, and the nearest name that exists is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rclpy
import yaml
from hsr.environment import share_dir
from hsr.parameter_files import check_file, check_pairs, known_parameters, nearest, refuse_unknown
from rcl_interfaces.msg import ParameterType

from hsr_core.errors import ConfigError

ROOT = Path(__file__).parents[2]


def section(name: str = "/**", **values) -> dict:
    return {name: {"ros__parameters": values}}


@pytest.fixture
def written(tmp_path):
    def write(content) -> Path:
        path = tmp_path / "robot.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


GOOD = [
    section(people={"max": 4, "min_score": 0.5}),
    section(**{"people.max": 4, "use_sim_time": True}),  # flat names are names, too
    section("/human/perception", device="cpu"),
    section("/*/perception", device="cpu"),
    section("/**/perception", device="cpu"),
    {"human": section("perception", device="cpu")},  # a namespace as a branch
    section(window={"seconds": 3.0}, people={"max": 2}),  # one file for several of our nodes
    section(**{"qos_overrides./human/people.publisher.depth": 9}),
    section("/human/recorder", extra_topics=["/human/refined/people"]),
    "/**:\n  ros__parameters: {smoothing: {beta: 1e1}}\n",
    "/human/player:\n  ros__parameters:\n    topics: !!python/tuple\n    - /a\n    - /b\n",  # as launch writes lists
    "",
    # two cameras, one file
    section("/human/perception", device="cpu") | section("/rear/human/perception", device="cuda"),
]


@pytest.mark.parametrize("content", GOOD)
def test_a_file_without_mistakes_is_taken(content, written) -> None:
    check_file(written(content))


def test_the_files_of_this_package_are_taken() -> None:
    for name in ("perception.yaml", "refine.yaml"):
        check_file(share_dir() / "config" / name)


BAD = [
    (section(peopel={"max": 4}), "unknown parameter 'peopel.max'; did you mean 'people.max'?"),
    (section(max=4), "unknown parameter 'max'; did you mean 'people.max'?"),
    (section(people={"maximum": 4}), "did you mean 'people.max'?"),
    (section(people={"max": 4.0}), "people.max must be int, not float"),
    (section(people={"max": 17}), "people.max must lie in 1..16, not 17"),
    (section(smoothing={"beta": 1}), "smoothing.beta takes a number with a decimal point: 1.0"),
    (section(smoothing={"enabled": "maybe"}), "smoothing.enabled must be bool"),
    (section(tf={"mode": "al"}), "tf.mode must be one of none, root, rep155, full, not 'al'"),
    (section("/human/percpetion", device="cpu"), "no such node; did you mean '/human/perception'?"),
    (section("perception", device="cpu"), "this launch has no such node; did you mean '/human/perception'?"),
    (section("/rear/human/perception", device="cpu"), "did you mean '/human/perception'?"),
    (section("/human/perception", window={"seconds": 3.0}), "unknown parameter 'window.seconds'"),
    ({"/**": {"ros_parameters": {"device": "cpu"}}}, "no ros__parameters in it"),
    ({"/**": {"device": "cpu"}}, "no ros__parameters in it"),
    ("- a\n- b\n", "holds list"),
    ("/**: [", "cannot read the parameter file"),
]


@pytest.mark.parametrize(("content", "why"), BAD, ids=[why for _, why in BAD])
def test_a_mistake_is_refused_and_named(content, why, written) -> None:
    with pytest.raises(ConfigError) as caught:
        check_file(written(content))
    assert why in str(caught.value)
    assert "robot.yaml" in str(caught.value)


def test_every_mistake_is_named_at_once(written) -> None:
    with pytest.raises(ConfigError) as caught:
        check_file(written(section(peopel={"max": 4}, people={"max": 0}) | section("/human/veiw", port=1)))
    assert len(str(caught.value).splitlines()) == 4


def test_a_file_for_the_whole_robot_may_speak_of_other_nodes(written) -> None:
    path = written(section("/amcl", alpha1=0.2) | section("/human/perception", device="cpu"))
    check_file(path, ours=False)
    with pytest.raises(ConfigError, match="/amcl: no such node"):
        check_file(path)
    with pytest.raises(ConfigError, match="did you mean '/human/perception'"):
        check_file(written(section("/amcl", alpha1=0.2) | section("/human/percpetion", device="cpu")), ours=False)


@pytest.mark.parametrize(
    "content",
    [
        section("/human/front_perception", device="cpu"),  # renamed by __node:=, or another package's
        section("/human/viewer", zoom=1.0),
        section("/robot/perception", device="lidar"),
        section(robot_radius=0.2, use_sim_time=True),  # for all nodes of the robot
        section("/**", **{"diagnostic_updater.use_fqn": True}),
        "/human/perception:\n  ros__parameters: {smoothing: {enabled: y}}\n",  # true for ROS
    ],
)
def test_what_may_be_meant_for_others_is_no_mistake_in_a_file_for_the_whole_robot(content, written) -> None:
    check_file(written(content), ours=False)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (section(peopel={"max": 4}), "did you mean 'people.max'"),
        (section("/human/perception", robot_radius=0.2), "unknown parameter 'robot_radius'"),
        (section(people={"max": 17}), "must lie in 1..16"),
        ("/**:\n  ros__parameters: {depth: {mode: off}}\n", "put them in quotes"),
    ],
)
def test_what_can_only_be_ours_is_refused_there_too(content, why, written) -> None:
    with pytest.raises(ConfigError, match=why):
        check_file(written(content), ours=False)


def test_what_launch_sets_for_all_nodes_is_warned_of_and_a_typo_is_refused(monkeypatch, written) -> None:
    """launch_ros gives `SetParameter` to every node of a launch as `-p`; node names may stand before a parameter's."""

    def refuse(*pairs: str, name: str = "perception") -> list[str]:
        given = {pair.partition(":=")[0].rpartition(":")[2]: None for pair in pairs}
        monkeypatch.setattr(sys, "argv", ["node", "--ros-args", *(word for pair in pairs for word in ("-p", pair))])
        heard: list[str] = []
        node = SimpleNamespace(
            _parameter_overrides=given, has_parameter=lambda name: name == "people.max", get_name=lambda: name,
            get_namespace=lambda: "/human", get_logger=lambda: SimpleNamespace(warning=heard.append),
        )  # fmt: skip
        refuse_unknown(node)
        return heard

    assert refuse("people.max:=2", "perception:people.max:=2", "use_sim_time:=true") == []
    assert refuse("robot_radius:=0.2") == ["unknown parameter 'robot_radius': not used by this node"]
    for pair in ("peopel.max:=2", "perception:peopel.max:=2"):
        for name in ("perception", "renamed"):
            with pytest.raises(ConfigError, match=r"did you mean 'people\.max'"):
                refuse(pair, name=name)


def test_pairs_and_nearest() -> None:
    check_pairs(["people.max:=2", "use_sim_time:=true"], "perception")
    with pytest.raises(ConfigError, match=r"did you mean 'people\.max'"):
        check_pairs(["peopel.max:=2"], "perception")
    with pytest.raises(ConfigError, match="NAME:=VALUE"):
        check_pairs(["people.max=2"], "perception")
    assert nearest("nothing like it", ["people.max"]) == ""


@pytest.mark.parametrize(
    "pattern", ["/**", "/human/perception", "/*/perception", "/**/perception", "/other/perception"]
)
def test_a_section_is_for_whom_ros_says(pattern, written, ros_domain) -> None:
    """A node that is given the file gets its values exactly where the check takes the section for that node's."""
    path = written(section(pattern, people={"max": 3}))
    rclpy.init(args=["--ros-args", "--params-file", str(path)])
    try:
        node = rclpy.create_node("perception", namespace="human", automatically_declare_parameters_from_overrides=True)
        got = node.has_parameter("people.max")
        node.destroy_node()
    finally:
        rclpy.shutdown()
    if got:
        check_file(path)
    else:
        with pytest.raises(ConfigError, match="no such node"):
            check_file(path)


def test_the_known_parameters_are_those_that_the_nodes_declare(rig) -> None:
    """Of each node that starts without files of its own; each parameter is described for rqt."""
    from rcl_interfaces.srv import DescribeParameters, ListParameters

    modules = {"perception": "hsr.perception_node", "refiner": "hsr.refine_node", "source": "hsr.source_node",
               "view": "hsr.view_node"}  # fmt: skip
    extra = {"view": ("-p", "port:=0")}
    for node, module in modules.items():
        rig.start(node, module, "--ros-args", *extra.get(node, ()))
    standard = ("qos_overrides.", "use_sim_time", "start_type_description_service")
    for node in modules:
        names = rig.call(ListParameters, f"/human/{node}/list_parameters").result.names
        ours = [name for name in names if not name.startswith(standard)]
        assert set(ours) == set(known_parameters()[node])
        described = rig.call(DescribeParameters, f"/human/{node}/describe_parameters", names=ours).descriptors
        for descriptor in described:
            spec = known_parameters()[node][descriptor.name]
            assert len(descriptor.description) >= 5
            assert descriptor.description == spec.description
            assert descriptor.type != ParameterType.PARAMETER_NOT_SET
            assert bool(descriptor.floating_point_range or descriptor.integer_range) is (spec.low is not None)
            assert all(choice in descriptor.additional_constraints for choice in spec.choices)


@pytest.mark.parametrize(
    ("module", "arguments", "why"),
    [
        ("hsr.perception_node", ("-p", "peopel.max:=4"), "unknown parameter 'peopel.max'; did you mean 'people.max'?"),
        ("hsr.perception_node", ("--params-file", "FILE"), "/human/percpetion: no such node; did you mean"),
        ("hsr.source_node", ("-p", "rate:=4.0"), "did you mean 'rate_hz'?"),
    ],
)
def test_a_node_refuses_to_start_with_a_parameter_that_nobody_declares(ros_domain, written, module, arguments, why):
    path = written(section("/human/percpetion", device="cpu"))
    words = [str(path) if word == "FILE" else word for word in arguments]
    done = subprocess.run([sys.executable, "-m", module, "--ros-args", *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr
