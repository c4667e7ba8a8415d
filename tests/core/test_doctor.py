"""`hsr doctor`: honest about what is there, machine-readable, and no ROS in the library's process."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from hsr_core import doctor
from hsr_core.doctor import MISSING, OK, WARN, Finding

GOOD_ROS = {
    "packages": {"rclpy": True, "hsr": True, "hsr_msgs": True},
    "rmw": "rmw_fastrtps_cpp",
    "marker_layout": "",
    "own_shell": {"active": False, "segment_bytes": 524288, "path": "", "note": "no transport profile"},
    "our_nodes": {"active": True, "segment_bytes": 33554432, "path": "/profile.xml", "note": ""},
}


@pytest.fixture
def no_ros(monkeypatch):
    monkeypatch.setattr(doctor, "ask_ros", lambda: {"packages": {"rclpy": False}, "error": "ModuleNotFoundError"})


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    doctor.add_parser(parser.add_subparsers())
    return parser.parse_args(["doctor", *argv])


def test_the_last_line_is_one_json_object(capsys, no_ros) -> None:
    status = doctor.run(parse("--json"))
    out = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(out) == {"runs", "checks"}
    for name in (
        "python",
        "gpu",
        "engines",
        "body",
        "networks",
        "regressors",
        "weights",
        "refinement",
        "view",
        "ros",
        "transport",
        "shared memory",
    ):
        check = out["checks"][name]
        assert check["status"] in (OK, WARN, MISSING)
        assert check["summary"]
    assert out["checks"]["ros"]["status"] == MISSING
    assert "make setup" in out["checks"]["ros"]["advice"]
    assert status == (0 if any(line.startswith("hsr run") for line in out["runs"]) else 1)


def test_without_ros_the_library_still_runs_and_the_nodes_do_not(no_ros) -> None:
    findings = doctor.examine()
    runs = doctor.runs_now(findings)
    assert not any("ROS 2" in line for line in runs)
    assert any(line.startswith("hsr run") for line in runs)


def test_engines_are_what_auto_would_take() -> None:
    from hsr_core.runtime.select import choose, this_machine

    finding = doctor.check_engines()
    machine = this_machine()
    assert finding.facts["auto"] == choose("auto", "auto", "fp16" if machine.gpu else "fp32", machine).engine
    for name, version in machine.packages.items():
        assert (f"{name} {version}" in finding.summary) == bool(version)


def test_files_of_the_users_own_are_found(tmp_path, monkeypatch) -> None:
    from hsr_core.depth.files import onnx_files

    monkeypatch.setattr("hsr_core.paths.model_dir", lambda: tmp_path)
    assert str(tmp_path) in doctor.check_refinement().advice
    (tmp_path / onnx_files("s").folder).mkdir()
    (tmp_path / onnx_files("s").folder / onnx_files("s").choices[0][0]).write_bytes(b"graph")
    assert doctor.check_refinement().facts["networks"] == ["unidepth_v2_onnx"]


def test_missing_parts_take_their_commands_away() -> None:
    found = {name: Finding(name, OK, "") for name in ("gpu", "body", "networks", "ros", "view")}
    assert len(doctor.runs_now(found)) == 4
    found["networks"] = Finding("networks", MISSING, "")
    assert doctor.runs_now(found) == ["the ROS 2 nodes with the fake regressor", "the web view"]


def test_transport_tells_drivers_what_to_export() -> None:
    finding = doctor.check_transport(GOOD_ROS)
    assert finding.status == OK
    assert "32 MiB" in finding.summary
    assert finding.advice.endswith("export FASTRTPS_DEFAULT_PROFILES_FILE=/profile.xml")
    both = GOOD_ROS | {"own_shell": GOOD_ROS["our_nodes"]}
    assert doctor.check_transport(both).advice == ""
    bad = GOOD_ROS | {"our_nodes": {"active": False, "note": "too small", "segment_bytes": 1, "path": "x"}}
    assert (doctor.check_transport(bad).status, doctor.check_transport(bad).summary) == (WARN, "too small")


def test_ros_without_the_built_packages_says_how_to_build_them() -> None:
    finding = doctor.check_ros({"packages": {"rclpy": True}, "error": "ModuleNotFoundError: hsr_msgs"})
    assert finding.status == MISSING
    assert "colcon build" in finding.advice
    assert doctor.check_ros(GOOD_ROS | {"marker_layout": "field ns reads back as 'x'"}).status == WARN
    assert doctor.check_ros(GOOD_ROS).status == OK


def test_shared_memory_owned_by_another_user_is_reported(tmp_path, monkeypatch) -> None:
    (tmp_path / "fastrtps_0123").write_bytes(b"")
    assert doctor.check_shared_memory(tmp_path).status == OK
    monkeypatch.setattr(doctor.os, "getuid", lambda: 123456)
    finding = doctor.check_shared_memory(tmp_path)
    assert finding.status == WARN
    assert "same user" in finding.advice or "as one user" in finding.advice


def test_small_or_missing_shared_memory_is_reported(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "SHM_NEEDED_BYTES", 1 << 62)
    assert "--ipc=host" in doctor.check_shared_memory(tmp_path).advice
    assert doctor.check_shared_memory(tmp_path / "absent").status == MISSING


def test_full_shared_memory_is_reported_with_what_empties_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: (1 << 30, (1 << 30) - (1 << 20), 1 << 20))
    finding = doctor.check_shared_memory(tmp_path)
    assert (finding.status, "1 of 1024 MiB free" in finding.summary) == (WARN, True)
    assert "fastdds shm clean" in finding.advice


def test_weights_are_found_or_it_is_said_how_to_get_them(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("HSR_PEAR_WEIGHTS", raising=False)
    assert doctor.check_weights().status == MISSING
    assert "BestWJH/PEAR_models" in doctor.check_weights().advice
    monkeypatch.setenv("HSR_PEAR_WEIGHTS", str(tmp_path / "pear_model.pt"))
    assert "does not exist" in doctor.check_weights().summary
    (tmp_path / "pear_model.pt").write_bytes(b"")
    assert doctor.check_weights().status == OK


def test_a_folder_without_licensed_files_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HSR_BODY_MODELS", str(tmp_path))
    finding = doctor.check_body()
    assert finding.status == MISSING
    assert str(tmp_path) in finding.summary
    assert "missing" in finding.advice


def test_the_open_body_s_cache_is_found(tmp_path, monkeypatch) -> None:
    pytest.importorskip("anny")
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    monkeypatch.setenv("HSR_CACHE", str(tmp_path))
    assert "built on first use" in doctor.check_body().summary
    (tmp_path / "open_body_v1.npz").write_bytes(b"")
    assert "cached in" in doctor.check_body().summary


def test_a_body_that_cannot_be_kept_takes_its_commands_away(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    monkeypatch.setenv("HSR_CACHE", str(tmp_path / "file" / "hsr"))
    finding = doctor.check_body()
    assert finding.status == MISSING
    assert "HSR_CACHE" in finding.advice


def test_a_failed_transport_test_does_not_end_the_report(monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="no ROS")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: failed)
    assert doctor.try_transport().status == MISSING
    assert "error" in doctor.ask_ros()


def test_the_doctor_does_not_import_ros() -> None:
    code = "import sys, hsr_core.doctor as d; d.check_regressors(); d.check_networks(); print('rclpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
