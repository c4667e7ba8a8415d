"""`hsr bench retarget` and `hsr robot`: what they print, and that the bench's figures mean what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hsr_core import bench_retarget
from hsr_core.cli import main
from hsr_core.retarget.settings import TeleopSettings

from .conftest import loaded
from .people import person, squat


def test_the_bench_measures_step_tick_and_reach(capsys) -> None:
    assert main(["bench", "retarget", "--robot", "talos", "--mode", "upper_body", "--frames", "100", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["reach"]["wrist_error_rms_mm"] < 20
    assert facts["reach"]["step_ms"]["cpu"]["p50"] > 0
    assert facts["governor_us"]["wall"]["p99"] >= facts["governor_us"]["wall"]["p50"]
    assert main(["bench", "retarget", "--frames", "10"]) == 2


def test_the_bench_measures_a_hand_alone(capsys) -> None:
    """Ten seconds and a half: each pose of the made-up hand once."""
    assert main(["bench", "retarget", "--robot", "allegro", "--frames", "316", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "reach" not in facts
    hand = facts["right_hand"]
    assert (hand["joints"], hand["vectors"]) == (16, 7)
    assert hand["step_ms"]["cpu"]["p50"] > 0
    assert set(hand["tips_apart_mm"]) == {"index pinch", "middle pinch", "ring pinch"}
    assert max(hand["tips_apart_mm"].values()) < 5
    assert hand["vector_error_rms_mm"] < 20
    assert hand["position_limit_exceeded_rad"] == 0
    assert hand["speed_over_limit"] <= 1 + 1e-6


def test_a_recording_is_judged_by_limits_and_feet(monkeypatch) -> None:
    """A made-up recording: a person goes down and up on the spot."""

    def people(source: str, most: int):
        for i in range(120):
            legs, place = squat(0.06 + 0.05 * np.sin(i / 12))
            yield person((i + 1) / 30, legs, place=place)

    monkeypatch.setattr(bench_retarget, "recorded_people", people)
    facts = bench_retarget.measure_recording(loaded("g1", "whole_body"), "x", TeleopSettings(), 120)
    assert facts["frames"] == 120
    assert facts["position_limit_exceeded_rad"] == 0
    assert facts["speed_over_limit"] <= 1 + 1e-6
    assert facts["stances"] == 2
    assert facts["slide_max_mm"] < 10


def test_slides_are_measured_from_the_place_of_the_stance() -> None:
    """By hand: a foot that comes down, drifts 3, 4 mm and back, and leaves; the other never stands."""
    feet, standing = np.zeros((20, 2, 3)), np.zeros((20, 2), bool)
    standing[5:15, 0] = True
    feet[:8, 0, 0] = 0.5  # still coming down in the first frames of the stance
    feet[10:12, 0, :2] = (0.003, 0.004)
    facts = bench_retarget.slides(feet, standing)
    assert facts == {"stances": 1, "stance_frames_mean": 10.0, "slide_median_mm": 5.0, "slide_max_mm": 5.0}


def test_robots_are_listed_checked_and_drafted(capsys, tmp_path) -> None:
    assert main(["robot", "list"]) == 0
    assert "g1: upper_body, whole_body" in capsys.readouterr().out
    assert main(["robot", "check", "jvrc1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["upper_body"]["speed_rad_s"]["L_ELBOW_P"] == 1.5
    assert facts["upper_body"]["acceleration_rad_s2"]["L_ELBOW_P"] == 20
    low, high = facts["upper_body"]["position_rad"]["L_ELBOW_P"]
    assert low < high
    assert main(["robot", "check", "tallos"]) == 2
    assert "did you mean talos" in capsys.readouterr().err
    (tmp_path / "x.urdf").write_text("<robot name='x'><link name='a'/></robot>")
    assert main(["robot", "draft", str(tmp_path / "x.urdf")]) == 0
    assert capsys.readouterr().out.startswith("name: x\n")
    assert main(["robot", "draft"]) == 2
    assert "draft wants a URDF" in capsys.readouterr().err


@pytest.mark.slow
def test_feet_hold_on_the_bundled_walk(capsys) -> None:
    assert main(["bench", "retarget", "--source", "clip", "--frames", "200", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])["recording"]
    assert facts["position_limit_exceeded_rad"] == 0
    assert facts["speed_over_limit"] <= 1 + 1e-6
    assert facts["stances"] >= 3
    assert facts["slide_max_mm"] < 30
