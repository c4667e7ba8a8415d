"""`make setup`: finds a Python, patches the wheels' CMake files, skips what is done, recovers from interruptions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (
    'INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp311-cp311/include/python3.11;'
    '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"\n'
)


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The module, working in an empty project."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "ros2_ws" / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, path in {"ROOT": "", "WS": "ros2_ws", "VENV": ".venv", "PYTHON": ".venv/bin/python",
                       "STAMPS": ".venv/stamps.json", "LOG": "log/setup.log"}.items():  # fmt: skip
        monkeypatch.setattr(module, name, tmp_path / path)
    (tmp_path / ".venv").mkdir()
    return module


def fake_python(folder: Path, name: str, version: str, *, venv: bool = True, headers: bool = True) -> Path:
    path = folder / name
    numbers = [int(number) for number in version.split(",")]
    answer = json.dumps({"version": numbers, "executable": str(path), "venv": venv, "headers": headers})
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A search path with nothing on it but made-up Pythons."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_cmake_targets_point_at_the_venv_and_stay_there(bootstrap, tmp_path) -> None:
    file = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    file.write_text("# kept\n" + TARGETS)
    (file.parent / "other.cmake").write_text("nothing to do\n")
    assert bootstrap.patch_cmake_targets(tmp_path / "share", "/inc", "/np/include") == 1
    assert file.read_text() == '# kept\nINTERFACE_INCLUDE_DIRECTORIES "/inc;/np/include"\n'
    assert bootstrap.patch_cmake_targets(tmp_path / "share", "/inc", "/np/include") == 0


@pytest.mark.parametrize("path", ["/opt/python/cp311-cp311/lib/libpython3.11.so", "/opt/python/pp310-pypy/include"])
def test_another_path_of_a_later_wheel_is_named(bootstrap, tmp_path, path) -> None:
    (tmp_path / "new.cmake").write_text(f'set(x "{path}")\n')
    with pytest.raises(bootstrap.SetupError, match=path):
        bootstrap.patch_cmake_targets(tmp_path, "/inc", "/np")


def test_the_best_complete_python_is_taken(bootstrap, only) -> None:
    fake_python(only, "python3", "3, 13")
    fake_python(only, "python3.12", "3, 12")
    fake_python(only, "python3.11", "3, 11", headers=False)
    fake_python(only, "python3.10", "3, 10")
    assert bootstrap.find_python()["executable"].endswith("python3.12")
    assert bootstrap.find_python(str(only / "python3.10"))["version"] == [3, 10]


def test_what_a_python_lacks_is_said_with_the_package(bootstrap, only) -> None:
    fake_python(only, "python3.11", "3, 11", venv=False, headers=False)
    with pytest.raises(bootstrap.SetupError, match=r"apt install python3.11-venv python3.11-dev"):
        bootstrap.find_python()
    fake_python(only, "python3", "3, 9")
    with pytest.raises(bootstrap.SetupError, match=r"is 3.9: 3.10, 3.11 or 3.12 is needed"):
        bootstrap.find_python("python3")


def test_no_python_and_a_wrong_name_are_said(bootstrap, only) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"no Python 3\.10, 3\.11 or 3\.12 found"):
        bootstrap.find_python()
    with pytest.raises(bootstrap.SetupError, match="/no/such/python does not start"):
        bootstrap.find_python("/no/such/python")
    broken = only / "python3.11"  # as a version manager's stub for a version that is not installed
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(bootstrap.SetupError, match="make setup PYTHON="):
        bootstrap.find_python()


def test_this_python_answers_the_probe(bootstrap) -> None:
    info = bootstrap.probe(sys.executable)
    assert tuple(info["version"]) == sys.version_info[:2]


def test_a_done_step_is_skipped_and_a_changed_one_runs(bootstrap) -> None:
    ran = []
    assert bootstrap.step("a", "1", [lambda: ran.append(1)])
    assert not bootstrap.step("a", "1", [lambda: ran.append(2)])
    assert bootstrap.step("a", "2", [lambda: ran.append(3)])
    assert ran == [1, 3]


def test_an_interrupted_step_runs_again_even_when_nothing_changed(bootstrap) -> None:
    bootstrap.step("a", "1", [])

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap.step("a", "2", [interrupted])
    assert bootstrap.step("a", "1", [])  # its result may be half overwritten


def test_torn_stamps_count_as_none(bootstrap) -> None:
    bootstrap.STAMPS.write_text('{"a": "1"')
    assert bootstrap.read_stamps() == {}


def test_fingerprints_see_content_names_and_new_files(bootstrap, tmp_path) -> None:
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "a.msg").write_text("int32 x\n")
    first = bootstrap.fingerprint("1", folder)
    (folder / "a.pyc").write_text("ignored")
    assert bootstrap.fingerprint("1", folder) == first
    (folder / "a.msg").write_text("int32 y\n")
    second = bootstrap.fingerprint("1", folder)
    (folder / "b.msg").write_text("")
    assert len({first, second, bootstrap.fingerprint("1", folder), bootstrap.fingerprint("2", folder)}) == 4


def test_a_failing_command_shows_the_end_of_its_output(bootstrap) -> None:
    code = "print('\\n'.join(f'line {i}' for i in range(100))); raise SystemExit(3)"
    with pytest.raises(bootstrap.SetupError, match=r"line 99\nthe title: failed \(exit 3\)") as caught:
        bootstrap.run([sys.executable, "-c", code], "the title")
    assert "line 5\n" not in str(caught.value)
    assert "line 5\n" in bootstrap.LOG.read_text()


def test_a_sourced_ros_does_not_reach_the_build(bootstrap, monkeypatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/jazzy/lib/python3.12/site-packages")
    assert not {"AMENT_PREFIX_PATH", "PYTHONPATH"} & set(bootstrap.clean_environ())


def test_the_path_file_runs_before_the_wheels_own_and_sets_the_library_path(bootstrap, tmp_path) -> None:
    site = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    bootstrap.write_pth()
    assert sorted(["hsr_overlay.pth", "ros_wheels_bootstrapper.pth"])[0] == "hsr_overlay.pth"
    lines = (site / "hsr_overlay.pth").read_text().splitlines()
    assert lines[-1] == "import hsr_overlay"
    assert str(tmp_path / "ros2_ws" / "install" / "lib" / "python3.11" / "site-packages") in lines
    code = (
        "import hsr_overlay, os; print(os.environ['LD_LIBRARY_PATH'], '_ROS_WHEELS_BOOTSTRAP_COMPLETE' in os.environ)"
    )
    guard = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    ws = f"{tmp_path}/ros2_ws/install"
    for before, restart in (("/other", True), (f"{ws}/lib:{tmp_path}/.venv/lib:{ws}/stand_ins/lib", False)):
        environ = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": before, "PYTHONPATH": str(site), **guard}
        # -S: without this environment's own path files
        out = subprocess.run(
            [sys.executable, "-S", "-c", code], env=environ, capture_output=True, text=True, check=True
        )
        path, guarded = out.stdout.split()
        assert path.split(":")[0] == f"{ws}/lib"
        assert path.split(":")[-1] == f"{ws}/stand_ins/lib"  # after a sourced ROS, too
        assert (guarded == "False") is restart


@pytest.fixture
def stand_in(bootstrap, tmp_path, monkeypatch):
    """A package `x_msgs` with a message; returns what was built."""
    folder = tmp_path / "ros2_ws" / "stand_ins" / "x_msgs"
    (folder / "msg").mkdir(parents=True)
    (folder / "msg" / "A.msg").write_text(
        "# a b/Comment\nstd_msgs/Header header\ngeometry_msgs/Pose[] poses\nB other\n"
    )
    (folder / "msg" / "B.msg").write_text("std_msgs/Header header\nx_msgs/C c\n")
    built = []
    monkeypatch.setattr(bootstrap, "build_package", lambda name, *options, base: built.append((name, options, base)))
    monkeypatch.setattr(bootstrap, "run", lambda *args, **options: None)
    return built


def test_a_missing_package_gets_a_stand_in_that_needs_what_its_fields_need(bootstrap, stand_in) -> None:
    bootstrap.build_stand_ins()
    [(name, options, base)] = stand_in
    assert (name, options) == ("x_msgs", ("--install-base", "install/stand_ins"))
    cmake = (Path(base) / "CMakeLists.txt").read_text()
    assert '"msg/A.msg" "msg/B.msg" DEPENDENCIES geometry_msgs std_msgs)' in cmake
    manifest = ElementTree.parse(Path(base) / "package.xml")
    assert [entry.text for entry in manifest.iter("depend")] == ["geometry_msgs", "std_msgs"]


@pytest.mark.parametrize("place", ["share/x_msgs", "lib/python3.11/site-packages/x_msgs"])
def test_a_real_package_has_no_stand_in_and_an_old_one_goes(bootstrap, stand_in, tmp_path, place) -> None:
    old = tmp_path / "ros2_ws" / "install" / "stand_ins" / "lib"
    old.mkdir(parents=True)
    (tmp_path / ".venv" / place).mkdir(parents=True)
    bootstrap.build_stand_ins()
    assert not stand_in
    assert not old.exists()


def test_stand_ins_are_not_seen_by_colcon_in_a_workspace() -> None:
    assert not list((ROOT / "ros2_ws" / "stand_ins").rglob("package.xml"))


def test_the_stand_in_of_tf2_msgs_is_the_real_message() -> None:
    """By the type hash that ROS compares: of `rosbags`, which has it from the real definition."""
    typesys = pytest.importorskip("rosbags.typesys")
    text = (ROOT / "ros2_ws" / "stand_ins" / "tf2_msgs" / "msg" / "TFMessage.msg").read_text()
    real = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    ours = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    ours.fielddefs.pop("tf2_msgs/msg/TFMessage")
    ours.register(typesys.get_types_from_msg(text, "tf2_msgs/msg/TFMessage"))
    assert ours.hash_rihs01("tf2_msgs/msg/TFMessage") == real.hash_rihs01("tf2_msgs/msg/TFMessage")


def test_constraints_pin_each_package_once_per_python() -> None:
    seen = set()
    for line in (ROOT / "requirements" / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("==")
            assert rest, line
            _, _, marker = rest.partition(";")
            assert (name, marker) not in seen
            seen.add((name, marker))
    assert ("torch", "") in seen


def test_the_wanted_ros_packages_are_pinned() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "requirements" / "constraints.txt").read_text().splitlines()}
    wanted = [line for line in (ROOT / "requirements" / "ros.txt").read_text().splitlines() if line[:1].isalpha()]
    assert set(wanted) <= pinned
