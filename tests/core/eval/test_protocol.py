"""Records that differ are told apart, named, and refused."""

import json
from dataclasses import fields

import pytest

from hsr_core.errors import ConfigError
from hsr_core.eval.protocol import METRICS, Protocol, differences, require_same

FULL = Protocol(
    "3dpw-14", dataset="3dpw", split="test", frame_filter="campose_valid", matching="id", joints=("a", "b"),
    regressor_sha256="00ff", pelvis="midpoint-of-hips", topology="smpl", reference_gender="gendered", fps=30.0,
    mask="m", details={"tail": "dropped", "chunk": 100},
)  # fmt: skip


def test_json_brings_the_same_record_back():
    for record in (FULL, Protocol("limb-12"), FULL.of("w_mpjpe_mm", whose="odometry")):
        assert Protocol.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_each_field_makes_a_difference():
    values = {"joints": ("a",), "fps": 25.0, "test_time_pose": "optimised", "details": {"tail": "kept", "chunk": 100}}
    for entry in fields(Protocol):
        other = Protocol(**{**vars(FULL), entry.name: values.get(entry.name, "other")})
        assert set(differences(FULL, other)) == {entry.name}
        assert not FULL.same_as(other)
        with pytest.raises(ConfigError, match=f"differ in {entry.name}"):
            require_same(FULL, other)
    require_same(FULL, Protocol(**vars(FULL)))


def test_a_metric_fills_in_what_it_is():
    record = FULL.of("pa_mpjpe_mm", network="none")
    assert (record.unit, record.alignment) == ("mm", "similarity per frame")
    assert dict(record.details) == {"tail": "dropped", "chunk": "100", "network": "none"}
    with pytest.raises(ConfigError, match="there are mpjpe_mm, "):
        FULL.of("mpjpe")


def test_what_is_no_record_is_refused():
    with pytest.raises(ConfigError, match="unknown colour"):
        Protocol.from_dict({"name": "x", "colour": "red"})
    with pytest.raises(ConfigError, match="no name"):
        Protocol.from_dict({"fps": 30})
    with pytest.raises(ConfigError, match="test_time_pose"):
        Protocol("x", test_time_pose="maybe")


def test_every_metric_says_which_way_is_better():
    assert {metric.better for metric in METRICS.values()} == {"lower", "higher", "none"}
    assert all(metric.unit for metric in METRICS.values())
