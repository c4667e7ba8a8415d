"""What docs/troubleshooting.md quotes is what the code says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
OF_OTHERS = {
    "This Fast DDS version doesn't have the security libraries",
    "ModuleNotFoundError: No module named 'hsr_core'",
    "RTPS_TRANSPORT_SHM Error] Failed to create segment ...",
}
FILLED_IN = r"\.\.\.|;|[()]|\b\d+\b|\S*/\S+|\w+Error:|MissingFile|^configure|RELIABILITY"
"""Dots, numbers, names of topics, nodes and types, classes of errors: what the code puts into its sentences."""
FEWEST_WORDS = 3
"""Fewer between backquotes are a name or a command."""


def quotes() -> list[str]:
    """Return the sentences in the first column of the tables."""
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| ")]
    found = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [text for text in found if len(text.split()) >= FEWEST_WORDS and text not in OF_OTHERS]


@cache
def said() -> str:
    """Return all texts of the code, a filled-in value as a star."""
    texts = []
    for folder in (ROOT / "hsr_core", ROOT / "ros2_ws" / "src" / "hsr" / "hsr"):
        for path in folder.rglob("*.py"):
            texts += [_text(node) for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(filter(None, texts))


def _text(node: ast.AST) -> str:
    """Return a constant or formatted text; "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "*" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return ""


@pytest.mark.parametrize("quote", quotes())
def test_a_quoted_sentence_is_in_the_code(quote) -> None:
    parts = [part.strip() for part in re.split(FILLED_IN, quote)]
    assert [part for part in parts if part not in said()] == []


def test_there_are_quotes() -> None:
    assert len(quotes()) > 20
