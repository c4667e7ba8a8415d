"""docs/datasets.md says what the adapters say, and its AGORA script is Python."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from hsr_core.datasets import DATASETS
from hsr_core.registry import BUILT_IN

TEXT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name", DATASETS)
def test_the_table_of_sets_has_each_ones_conventions(name):
    conventions = import_module(BUILT_IN["dataset"][name].partition(":")[0]).CONVENTIONS
    title, splits, _, protocols, centre = next(row for row in ROWS if row[0] == f"`{name}`")[1:]
    assert conventions.title.split(" ")[-1].lower() in title.lower()
    assert splits == ", ".join(conventions.splits)
    assert protocols == ", ".join(f"`{protocol}`" for protocol in conventions.protocols)
    assert centre == conventions.pixel_centre


@pytest.mark.parametrize("name", DATASETS)
def test_every_set_has_a_layout_and_says_what_needs_licensed_files(name):
    among = [row for row in ROWS if f"`{name}`" in row[0]]
    assert len(among) == 3


def test_the_script_for_agora_parses():
    script = TEXT.partition("```python\n")[2].partition("```")[0]
    assert "read_pickle" in {node.attr for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Attribute)}
