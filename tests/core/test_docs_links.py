"""The documents hang together: links lead somewhere, everything is in the README, defaults are the code's."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hsr_core.config import describe

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def text_of(page: Path) -> str:
    """Return a page without its code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has {sorted(anchors(target))}"


def test_the_readme_names_every_page() -> None:
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in README]
    assert not missing


def test_make_targets_and_options_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    options = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.M))
    for page in PAGES:
        for command in re.findall(r"(?:^ {4}|`)make ([^`\n#]*)", page.read_text(), re.M):
            words = command.split()
            for word in words:
                if re.fullmatch(r"[a-z][a-z-]*", word) and word == words[0]:
                    assert word in targets, f"{page.name}: make {command}"
                elif re.match(r"[A-Z_]+=", word):
                    assert word.partition("=")[0] in options, f"{page.name}: make {command}"


def test_defaults_in_the_readme_are_the_code_s() -> None:
    settings = {spec.name: spec for spec in describe()}
    rows = re.findall(r"^\| (`[a-z_.]+`[^|]*) \| ([^|]*) \|[^|]*\|[^|]*\|$", README, re.M)
    shown = [(name, note, cell.strip()) for note, cell in rows for name in re.findall(r"`([\w.]+)`", note)]
    assert len(shown) >= 7
    for name, note, cell in shown:
        value = settings[name].default
        assert cell == (str(value).lower() if isinstance(value, bool) else str(value)), name
        assert ("at start" in note) == (not settings[name].live), name


def test_architecture_has_one_diagram_whose_nodes_are_modules() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert text.count("```mermaid") == 1
    diagram = text.partition("```mermaid")[2].partition("```")[0]
    nodes = set(re.findall(r"\b(\w+_node)\b", diagram))
    assert {"perception_node", "refine_node", "view_node"} <= nodes
    for name in nodes:
        assert (ROOT / "ros2_ws" / "src" / "hsr" / "hsr" / f"{name}.py").is_file(), name


def test_packages_of_the_architecture_are_those_of_the_library() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = {name for row in re.findall(r"^\| (`[^|]+) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)}
    packages = {path.parent.name for path in (ROOT / "hsr_core").glob("*/__init__.py")}
    assert packages <= named, packages - named


def test_nothing_tells_of_other_machines() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git clone")
    for name in tracked.stdout.split():
        assert not re.search(r"/(home|root|work|Users)/(?!hsr\b)\w", (ROOT / name).read_text()), name
