"""Parameters that nobody would read: typos are refused before a node starts, with the nearest name that exists.

ROS ignores a parameter file's sections for nodes that do not exist, and parameters that no node declares. Here a file
is held against what the nodes of this package declare: names, types, ranges, choices.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from hsr_core.config import SettingSpec, describe, flatten
from hsr_core.errors import ConfigError

from .node_parameters import PLAYER, RECORDER, SOURCE, VIEW
from .params import COMMON, DEFAULTS, fixed_spec
from .refine_params import DEFAULTS as REFINER_DEFAULTS

Specs = Mapping[str, SettingSpec]
SECTION = "ros__parameters"
_LISTS = {"recorder": "extra_topics", "player": "topics"}
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")
_FREE = ("qos_overrides.",)
_NEAR = 0.6
_TYPO = 0.8
"""A section of a file for several packages is taken for ours when its name is as near as this."""


def nearest(name: str, known: Iterable[str], cutoff: float = _NEAR) -> str:
    """Return `; did you mean ...?` with the known name that is nearest; "" when none is near."""
    known = list(known)
    found = difflib.get_close_matches(name, known, 1, cutoff)
    if not found:  # the group was left out, or another one was written: max, persons.max
        leaf = name.rpartition(".")[2]
        found = [other for other in known if other.rpartition(".")[2] == leaf]
    return f"; did you mean {found[0]!r}?" if found else ""


class _Loader(yaml.SafeLoader):
    """Reads YAML as ROS does, which knows no tags: launch writes lists of parameters as `!!python/tuple`."""


def _without_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_scalar(node)


for _prefix in ("tag:", "!"):
    _Loader.add_multi_constructor(_prefix, _without_tag)


@lru_cache(maxsize=1)
def known_parameters() -> dict[str, Specs]:
    """Return what each node of this package declares, by node name."""
    common = {spec.name: spec for spec in COMMON}
    simple = {"source": SOURCE, "view": VIEW, "recorder": RECORDER, "player": PLAYER}
    return {
        "perception": {spec.name: spec for spec in describe(DEFAULTS)} | common,
        "refiner": {spec.name: spec for spec in describe(REFINER_DEFAULTS)} | common,
        **{node: {spec.name: spec for spec in map(fixed_spec, rows)} for node, rows in simple.items()},
    }


def check_file(path: str | Path, namespace: str = "human", *, ours: bool = True) -> None:
    """Refuse a parameter file in which something is wrong for the nodes in a namespace.

    Args:
        path: YAML file as for `--params-file`.
        namespace: Of the nodes; sections for the same nodes in other namespaces are left alone.
        ours: The file is for this package only: sections for other nodes are typos. False: only those that nearly
            have the name of one of our nodes.

    Raises:
        ConfigError: Every mistake in a line of its own, each with the nearest valid name.
    """
    try:
        tree = yaml.load(Path(path).expanduser().read_text(), _Loader)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the parameter file {path}: {error}") from error
    if tree is None:
        return
    wrong = list(_problems(tree, namespace.strip("/"), ours))
    if wrong:
        raise ConfigError("\n  ".join([f"parameter file {path}:", *wrong]))


def check_pairs(pairs: Iterable[str], node: str) -> None:
    """Refuse `NAME:=VALUE` pairs for a node whose name it does not have.

    Raises:
        ConfigError: An unknown name, with the nearest one that exists.
    """
    for pair in pairs:
        name, sign, _ = pair.partition(":=")
        if not sign:
            raise ConfigError(f"{pair!r}: a parameter is set by NAME:=VALUE")
        text = _unknown(name, {node: known_parameters()[node]})
        if text:
            raise ConfigError(text)


def refuse_unknown(node: Any) -> None:
    """Refuse what a file or the command line sets on a node that has declared its parameters, and that none declares.

    One file may serve all nodes of this package (`/**`): there, what another of them has is no mistake.

    Raises:
        ConfigError: An unknown name, with the nearest one that exists; or a file has a section for a node whose name is
            misspelt.
    """
    for path in _given(sys.argv, "--params-file"):
        check_file(path, node.get_namespace(), ours=False)
    # rclpy has no public way to what was given and not declared (yet).
    given = [name for name in getattr(node, "_parameter_overrides", {}) if not node.has_parameter(name)]
    known = known_parameters()
    pairs = {pair.partition(":=")[0] for pair in _given(sys.argv, "-p", "--param")}
    own = {node.get_name(): known[node.get_name()]} if node.get_name() in known else known
    wrong = [_unknown(name, own if name in pairs else known) for name in given]
    if any(wrong):
        raise ConfigError("\n  ".join(filter(None, wrong)))


def _given(argv: Sequence[str], *options: str) -> list[str]:
    """Return what a command line gives to an option."""
    return [value for word, value in pairwise(argv) if word in options]


def _problems(tree: Any, namespace: str, ours: bool) -> Iterator[str]:
    if not isinstance(tree, Mapping):
        yield f"holds {type(tree).__name__}, not sections such as /**: {{{SECTION}: ...}}"
        return
    own = {f"/{namespace}/{node}" if namespace else f"/{node}": node for node in known_parameters()}
    sections, matched, elsewhere = list(_sections(tree, "")), False, []
    for name, content in sections:
        if content is None:
            if ours or nearest(name, own, _TYPO):
                yield f"{name}: no {SECTION} in it"
            continue
        nodes = [node for full, node in own.items() if _matches(name, full)]
        matched |= bool(nodes)
        if nodes:
            yield from _wrong_values(name, content, nodes)
        elif name.rpartition("/")[2] in known_parameters():
            elsewhere.append(name)
        else:
            near = nearest(name, own, _NEAR if ours else _TYPO)
            if ours or near:
                yield f"{name}: no such node{near or '; there are: ' + ', '.join(own)}"
    if ours and elsewhere and not matched:
        yield f"{', '.join(elsewhere)}: this launch has no such node{nearest(elsewhere[0], own, 0.3)}"


def _sections(tree: Mapping, prefix: str) -> Iterator[tuple[str, Mapping | None]]:
    """Yield node names in full with their parameters; None where a branch ends without any."""
    for key, value in tree.items():
        name = str(key) if str(key).startswith("/") and not prefix else f"{prefix}/{key}"
        if key == SECTION:
            yield prefix or "/", value if isinstance(value, Mapping) else {}
        elif isinstance(value, Mapping) and not _is_misspelt_section(key):
            yield from _sections(value, name)
        else:
            yield name, None


def _is_misspelt_section(key: Any) -> bool:
    return key != SECTION and bool(difflib.get_close_matches(str(key), [SECTION], 1, 0.85))


def _matches(pattern: str, full_name: str) -> bool:
    """Return whether a section is for a node, by the wildcards of ROS: * one word, ** any number of them."""
    words = re.escape(pattern).replace(r"/\*\*", r"(/\w+)*").replace(r"\*", r"\w+")
    return re.fullmatch(words, full_name) is not None


def _wrong_values(section: str, content: Mapping, nodes: Sequence[str]) -> Iterator[str]:
    known = known_parameters()
    for name, value in flatten(content).items():
        text = _unknown(name, {node: known[node] for node in nodes})
        if text:
            yield f"{section}: {text}"
        for node in nodes:
            spec = known[node].get(name)
            if spec is not None and (text := _wrong_value(spec, value)):
                yield f"{section}: {text}"
                break


def _unknown(name: str, nodes: Mapping[str, Specs]) -> str:
    """Return what is wrong with a name; "" when one of the nodes has it, or may have it."""
    if name in _OF_EVERY_NODE or name.startswith(_FREE):
        return ""
    if any(name in specs or name == _LISTS.get(node) for node, specs in nodes.items()):
        return ""
    names = dict.fromkeys(name for specs in nodes.values() for name in specs)
    return f"unknown parameter {name!r}{nearest(name, names)}"


def _wrong_value(spec: SettingSpec, value: Any) -> str:
    if isinstance(spec.default, float):
        if type(value) is int:
            return f"{spec.name} takes a number with a decimal point: {value}.0"
        if isinstance(value, str):  # 1e3 is a number in ROS' YAML, and text in Python's
            with suppress(ValueError):
                value = float(value)
    try:
        spec.check(value)
    except ConfigError as error:
        return str(error)
    return ""
