"""The command behind `make run TELEOP=`: a robot follows, and the summary says how."""

from __future__ import annotations

import json
import signal

import pytest
from hsr import bringup

pytest.importorskip("pink", reason="pip install 'hsr-core[retarget,robots]'")
pytest.importorskip("daqp", reason="pip install 'hsr-core[retarget,robots]'")
PATIENT = [
    word for pair in ("limits.velocity_scale:=0.25", "freshness.hold_s:=1.3", "freshness.stop_s:=5.0")
    for word in ("--retarget-set", pair)
]  # fmt: skip
"""For a busy machine: a slow robot may be blind for longer."""


def test_the_robot_comes_to_follow_and_the_summary_has_its_figures(bring_up):
    """The true nodes; the regressor that needs no network waves. It takes as long as it takes: it is stopped then."""
    process = bring_up(
        "--teleop", "talos", "--source", "clip", "--set", "regressor:=fake", "--set", "mesh.enabled:=false",
        *PATIENT, perception="hsr.perception_node",
    )  # fmt: skip
    seen, tracking = [], 0
    for line in process.stdout:
        seen.append(line)
        tracking += "robot   tracking" in line
        if tracking > 1 or len(seen) > 400:  # the first may be the very moment that it begins
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "robot   tracking" in seen[-1], "".join(seen[-6:]) + err
    assert any("SIMULATED" in line for line in seen)
    assert any("/human/retarget/joint_command" in line for line in seen)
    summary = json.loads(out.splitlines()[-1])
    assert summary["returncodes"] == dict.fromkeys(("source", "perception", "retarget", "robot_sim"), 0)
    teleop = summary["teleop"]
    assert teleop["state_seconds"]["engaging"] > 1  # the slow start takes 2 s
    assert teleop["state_seconds"]["tracking"] > 0
    assert teleop["engagements"] >= 1
    assert teleop["commands_checked"] > 50
    assert teleop["command_hz"] > 20  # of 100, on however slow a computer
    assert teleop["limits_exceeded"] == {"position": 0, "velocity": 0}
    assert 0 < teleop["age_ms"]["p50"] <= teleop["age_ms"]["p99"]
    assert teleop["counts"]["frames: ok"] > 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--teleop", "taloss"), "talos"),
        (("--teleop", "talos", "--source", "webcam:0"), "where is the camera"),
        (("--teleop", "talos", "--mount", "0 0 up"), "x y z"),
        (("--teleop", "talos", "--retarget-set", "limits.velocity:=1.0"), "limits.velocity"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(capsys, monkeypatch, tmp_path, options, said):
    monkeypatch.setattr(bringup, "NodeProcess", None)
    assert bringup.main(["--no-view", "--log-dir", str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err
