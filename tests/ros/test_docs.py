"""The tables in docs/ros.md are the code's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hsr.node_parameters import SOURCE
from hsr.refine_params import DEFAULTS as REFINER_DEFAULTS
from hsr.retarget_params import DEFAULTS as RETARGET_DEFAULTS

from hsr_core.config import describe

TEXT = (Path(__file__).parents[2] / "docs" / "ros.md").read_text()
REFINER = TEXT.partition("### Parameters of the refiner")[2].partition("\n## ")[0]
RETARGET = TEXT.partition("### Parameters of the retargeting node")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


ROWS, REFINER_ROWS, RETARGET_ROWS = rows(TEXT.replace(REFINER, "").replace(RETARGET, "")), rows(REFINER), rows(RETARGET)


def row(name: str, among: list[list[str]] = ROWS) -> list[str]:
    found = [cells for cells in among if cells[0] == name]
    assert len(found) == 1, f"{name} has {len(found)} rows"
    return found[0]


def shown(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("spec", list(describe()), ids=lambda spec: spec.name)
def test_a_setting_is_documented_as_it_is(spec):
    check(spec, row(spec.name))


@pytest.mark.parametrize("spec", list(describe(REFINER_DEFAULTS)), ids=lambda spec: spec.name)
def test_a_setting_of_the_refiner_is_documented_as_it_is(spec):
    check(spec, row(spec.name, REFINER_ROWS))


@pytest.mark.parametrize("spec", list(describe(RETARGET_DEFAULTS)), ids=lambda spec: spec.name)
def test_a_setting_of_the_retargeting_node_is_documented_as_it_is(spec):
    check(spec, row(spec.name, RETARGET_ROWS))


def check(spec, cells):
    allowed = ", ".join(spec.choices)
    if spec.low is not None:
        allowed = f"{spec.low:g} to {spec.high:g}"
    _, _, limits, default, live, description = cells
    assert (limits, default, live) == (allowed, shown(spec.default), "yes" if spec.live else "")
    assert description == spec.description


@pytest.mark.parametrize("parameter", SOURCE, ids=lambda parameter: parameter[0])
def test_a_parameter_of_the_source_is_documented_as_it_is(parameter):
    name, default, description, span = parameter
    _, _, limits, shown_default, text = row(name)
    assert limits == (f"{span[0]:g} to {span[1]:g}" if span else "")
    assert (shown_default, text) == (shown(default), description)
