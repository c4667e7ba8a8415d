"""Parameters that nobody would read: typos are refused before a node starts, with the nearest name that exists.

ROS ignores a parameter file's sections for nodes that do not exist, and parameters that no node declares. Here a file
is held against what the nodes of this package declare: names, types, ranges, choices.
"""

from __future__ import annotations

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
from hsr_core.near_names import did_you_mean, near_names

from .node_parameters import MOUNT, PLAYER, RECORDER, ROBOT_SIM, SOURCE, VIEW
from .params import COMMON, DEFAULTS, fixed_spec
from .refine_params import DEFAULTS as REFINER_DEFAULTS
from .retarget_params import DEFAULTS as RETARGET_DEFAULTS

Specs = Mapping[str, SettingSpec]
SECTION = "ros__parameters"
_LISTS = {"recorder": "extra_topics", "player": "topics"}
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")
_FREE = ("qos_overrides.",)
_NEAR = 0.6
_TYPO = 0.8
"""A name in a file for several packages is taken for one of ours, misspelt, when it is as near as this."""


def nearest(name: str, known: Iterable[str], cutoff: float = _NEAR) -> str:
    """Return `; did you mean ...?` with the known name that is nearest; "" when none is near."""
    known = list(known)
    leaf = name.rpartition(".")[2]  # the group was left out, or another one was written: max, persons.max
    same_leaf = [other for other in known if other.rpartition(".")[2] == leaf]
    return did_you_mean(name, known, cutoff, repr) or did_you_mean(name, same_leaf[:1], 0.0, repr)


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
    simple = {
        "source": SOURCE, "view": VIEW, "recorder": RECORDER, "player": PLAYER, "robot_sim": ROBOT_SIM,
        "camera_mount": MOUNT,
    }  # fmt: skip
    return {
        "perception": {spec.name: spec for spec in describe(DEFAULTS)} | common,
        "refiner": {spec.name: spec for spec in describe(REFINER_DEFAULTS)} | common,
        "retarget": {spec.name: spec for spec in describe(RETARGET_DEFAULTS)} | common,
        **{node: {spec.name: spec for spec in map(fixed_spec, rows)} for node, rows in simple.items()},
    }


def check_file(path: str | Path, namespace: str = "human", *, ours: bool = True) -> None:
    """Refuse a parameter file in which something is wrong for the nodes in a namespace.

    Args:
        path: YAML file as for `--params-file`.
        namespace: Of the nodes; sections for the same nodes in other namespaces are left alone.
        ours: The file is for this package only: sections for other nodes are typos, and so are names that none of our
            nodes has in sections with wildcards. False: only those that are nearly the name of one of ours.

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
    """Refuse typos in what files and the command line set on a node that has declared its parameters.

    What is for other nodes is no typo: files may serve a whole robot, and launch gives what `SetParameter` says to all
    nodes alike, by `-p`.

    Raises:
        ConfigError: A name that is nearly one that exists; or a file has a section for a node whose name is misspelt.
    """
    for path in _given(sys.argv, "--params-file"):
        check_file(path, node.get_namespace(), ours=False)
    # rclpy has no public way to what was given and not declared (yet).
    given = [name for name in getattr(node, "_parameter_overrides", {}) if not node.has_parameter(name)]
    known = known_parameters()
    pairs = {pair.partition(":=")[0].rpartition(":")[2] for pair in _given(sys.argv, "-p", "--param")}
    own = {node.get_name(): known[node.get_name()]} if node.get_name() in known else known
    wrong = []
    for name in given:
        if name not in pairs:
            wrong.append(_unknown(name, known, ours=False))
        elif nearest(name, _names(own)):
            wrong.append(_unknown(name, own))
        elif text := _unknown(name, own):
            node.get_logger().warning(f"{text}: not used by this node")
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
            if ours or _is_typo(name, own):
                yield f"{name}: no {SECTION} in it"
            continue
        nodes = [node for full, node in own.items() if _matches(name, full)]
        matched |= bool(nodes)
        if nodes:
            yield from _wrong_values(name, content, nodes, ours or "*" not in name)
        elif name.rpartition("/")[2] in known_parameters():
            elsewhere.append(name)
        else:
            if ours or _is_typo(name, own):
                yield f"{name}: no such node{nearest(name, own) or '; there are: ' + ', '.join(own)}"
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
    return key != SECTION and bool(near_names(str(key), [SECTION], 1, 0.85))


def _matches(pattern: str, full_name: str) -> bool:
    """Return whether a section is for a node, by the wildcards of ROS: * one word, ** any number of them."""
    words = re.escape(pattern).replace(r"/\*\*", r"(/\w+)*").replace(r"\*", r"\w+")
    return re.fullmatch(words, full_name) is not None


def _is_typo(name: str, known: Iterable[str]) -> bool:
    """Return whether a name that may be somebody else's is one of ours misspelt; front_perception is not."""
    near = near_names(name, known, 1, _TYPO)
    return bool(near) and near[0].rpartition("/")[2] not in name.rpartition("/")[2]


def _wrong_values(section: str, content: Mapping, nodes: Sequence[str], ours: bool) -> Iterator[str]:
    known = known_parameters()
    for name, value in flatten(content).items():
        text = _unknown(name, {node: known[node] for node in nodes}, ours)
        if text:
            yield f"{section}: {text}"
        for node in nodes:
            spec = known[node].get(name)
            if spec is not None and (text := _wrong_value(spec, value)):
                yield f"{section}: {text}"
                break


def _unknown(name: str, nodes: Mapping[str, Specs], ours: bool = True) -> str:
    """Return what is wrong with a name; "" when one of the nodes has it, or may have it.

    Args:
        ours: It is for these nodes only; False: what is not nearly one of their names is somebody else's.
    """
    if name in _OF_EVERY_NODE or name.startswith(_FREE):
        return ""
    if any(name in specs or name == _LISTS.get(node) for node, specs in nodes.items()):
        return ""
    names = _names(nodes)
    return f"unknown parameter {name!r}{nearest(name, names)}" if ours or _is_typo(name, names) else ""


def _names(nodes: Mapping[str, Specs]) -> list[str]:
    return list(dict.fromkeys(name for specs in nodes.values() for name in specs))


def _wrong_value(spec: SettingSpec, value: Any) -> str:
    if isinstance(spec.default, float):
        if type(value) is int:
            return f"{spec.name} takes a number with a decimal point: {value}.0"
        if isinstance(value, str):  # 1e3 is a number in ROS' YAML, and text in Python's
            with suppress(ValueError):
                value = float(value)
    if isinstance(spec.default, str) and isinstance(value, bool):
        return f"{spec.name} takes text: YAML reads off, on, yes and no as true or false, put them in quotes"
    if isinstance(spec.default, bool) and value in ("y", "Y", "n", "N"):  # true or false in ROS' YAML only
        return ""
    try:
        spec.check(value)
    except ConfigError as error:
        return str(error)
    return ""
