"""Which provider is used, and when it changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from analytic_scenes import ball, camera, view

from hsr_core.config import describe
from hsr_core.depth import DepthFrame, DepthSelector, DepthSettings, open_depth
from hsr_core.depth.base import same_intrinsics
from hsr_core.depth.select import FILES
from hsr_core.errors import ConfigError, MissingFile, ShapeError
from hsr_core.model_files import NetworkPlace, report
from hsr_core.types import MetricSource

from .unidepth_onnx_model import write_onnx

COLOR = camera()
STEP_NS = 100_000_000


class Scripted:
    """Gives depth while `good`; counts how often it is asked."""

    def __init__(self, name: str, good: bool = True, columns: int = 320) -> None:
        self.name, self.good, self.asked, self.columns = name, good, 0, columns
        self.status = ""

    def depth_for(self, view):
        self.asked += 1
        self.status = "" if self.good else "stalled"
        depth_m = np.full(COLOR.image_hw, 2.0, np.float32)
        depth_m[:, self.columns :] = 0
        return (
            DepthFrame(depth_m, COLOR.K, view.stamp_ns, "", MetricSource.DEPTH_CAMERA, 0.02, 0.0) if self.good else None
        )

    def reset(self):
        pass

    def close(self):
        self.name = "closed"


def run(selector: DepthSelector, first: int, last: int) -> list[str]:
    """Ask for frames first..last at 10 Hz; return the provider in use after each."""
    return [(selector.depth_for(view(COLOR, stamp_ns=i * STEP_NS)), selector.name)[1] for i in range(first, last)]


def test_down_after_one_second_and_up_after_two():
    camera_, height = Scripted("topic"), Scripted("body_height")
    selector = DepthSelector([camera_, height])
    assert set(run(selector, 0, 20)) == {"topic"}
    camera_.good = False
    assert run(selector, 20, 30) == ["topic"] * 9 + ["body_height"]
    camera_.good = True
    assert run(selector, 30, 52) == ["body_height"] * 20 + ["topic"] * 2
    assert selector.changes == 2
    assert selector.provider("body_height") is height
    selector.close()
    assert camera_.name == height.name == "closed"


def test_a_flicker_changes_nothing():
    camera_ = Scripted("topic")
    selector = DepthSelector([camera_, Scripted("body_height")])
    for i in range(60):
        camera_.good = i % 5 != 0
        run(selector, i, i + 1)
    assert (selector.name, selector.changes) == ("topic", 0)
    camera_.good = False
    run(selector, 60, 75)
    for i in range(75, 135):
        camera_.good = i % 5 != 0  # never two seconds in a row
        run(selector, i, i + 1)
    assert selector.name == "body_height"


def test_a_source_that_never_starts_is_given_up_and_the_next_frame_has_depth():
    selector = DepthSelector([Scripted("topic", good=False), Scripted("body_height")])
    frames = [selector.depth_for(view(COLOR, stamp_ns=i * STEP_NS)) for i in range(11)]
    assert [frame is None for frame in frames] == [True] * 10 + [False]


@pytest.mark.parametrize(("columns", "counts"), [(175, True), (140, False)])
def test_depth_that_misses_the_person_does_not_count(columns, counts):
    person = ball(COLOR)
    assert person.box_xyxy[[0, 2]] == pytest.approx([113, 243], abs=1)
    provider = Scripted("topic", columns=columns)
    selector = DepthSelector([provider])
    assert (selector.depth_for(view(COLOR, person)) is not None) == counts
    assert ("30%" in selector.status) != counts


def test_a_network_is_asked_for_every_nth_frame():
    network = Scripted("unidepth_v2_onnx")
    selector = DepthSelector([network], every_n=3)
    run(selector, 0, 9)
    assert network.asked == 3


def test_with_nothing_installed_there_is_the_topic_and_the_body(tmp_path):
    place = NetworkPlace(tmp_path)
    assert [p.name for p in open_depth(DepthSettings(), place=place).providers] == ["topic", "body_height"]
    assert [p.name for p in open_depth(DepthSettings(), place=place, topic=False).providers] == ["body_height"]
    assert open_depth(DepthSettings(enabled=False), place=place).depth_for(view(COLOR)) is None


def test_a_network_is_taken_with_files_and_consent_only(tmp_path):
    place = NetworkPlace(tmp_path, device="cpu", engine="onnxruntime")
    write_onnx(tmp_path / "unidepth_v2_s" / "unidepth_v2.onnx")
    accepted = replace(DepthSettings(), accept_noncommercial=True)
    assert [p.name for p in open_depth(DepthSettings(), place=place).providers] == ["topic", "body_height"]
    selector = open_depth(accepted, place=place)
    assert [p.name for p in selector.providers] == ["topic", "unidepth_v2_onnx", "body_height"]
    selector.close()
    (tmp_path / "unidepth_v2_s" / "unidepth_v2.onnx").write_bytes(b"damaged")
    assert [p.name for p in open_depth(accepted, place=place).providers] == ["topic", "body_height"]


def test_a_named_provider_is_opened_or_refused(tmp_path):
    place = NetworkPlace(tmp_path)
    named = replace(DepthSettings(), provider="unidepth_v2_onnx")
    with pytest.raises(ConfigError, match="accept_noncommercial"):
        open_depth(named, place=place)
    with pytest.raises(MissingFile, match=r"unidepth_v2\.onnx"):
        open_depth(replace(named, accept_noncommercial=True), place=place)


def test_what_is_there_is_told_with_files_and_licences(tmp_path):
    write_onnx(tmp_path / "unidepth_v2_b" / "unidepth_v2.onnx")
    lines = report(FILES, tmp_path, accepted=False)
    assert len(lines) == 6
    assert sum("missing" in line for line in lines) == 5
    assert sum("found, licence not accepted" in line for line in lines) == 1
    assert all("CC BY-NC 4.0" in line for line in lines)


def test_settings_have_checks_and_descriptions():
    specs = {spec.name: spec for spec in describe(DepthSettings())}
    assert specs["max_offset_s"].default == 0.015
    with pytest.raises(ConfigError, match="auto, topic"):
        specs["provider"].check("kinect")
    assert all(spec.description for spec in specs.values())


def test_frames_and_intrinsics_are_checked():
    with pytest.raises(ShapeError, match="float32"):
        DepthFrame(np.zeros((4, 4)), COLOR.K, 0, "", MetricSource.DEPTH_CAMERA, 0.01, 0.0)
    frame = DepthFrame(np.array([[0, 1], [np.nan, -1]], np.float32), COLOR.K, 0, "", MetricSource.MONO_DEPTH, 9.0, 0.0)
    np.testing.assert_array_equal(frame.valid, [[False, True], [False, False]])
    assert frame.weight == 0.1
    assert frame.coverage(np.zeros((2, 2), bool)) == 0
    assert same_intrinsics(COLOR.K * 1.0, COLOR.K)
    assert not same_intrinsics(COLOR.K * 1.01, COLOR.K)


def test_importing_depth_brings_no_network_library():
    heavy = "('torch', 'onnx', 'onnxruntime', 'unidepth')"
    code = f"import sys, hsr_core.depth; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
