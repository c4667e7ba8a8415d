"""The tables in docs/recording.md are the code's."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")

from hsr.node_parameters import PLAYER, RECORDER

from hsr_core.sources.bag import BagDiagnosis

TEXT = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()


def row(name: str) -> list[str]:
    lines = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("parameter", [*RECORDER, *PLAYER], ids=lambda p: p[0])
def test_a_parameter_is_documented_as_it_is(parameter):
    name, default, text = parameter[:3]
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    assert [f"`{name}`", shown, text] in row(name)


def test_every_diagnosis_has_its_row():
    table = TEXT.partition("## Bad recordings")[2]
    said_elsewhere = {"image_topic", "camera_info_topic", "depth_topic", "frames"}
    for field in fields(BagDiagnosis):
        assert field.name in said_elsewhere or f"`{field.name}`" in table, field.name
