"""Reading the entries of a mapping's YAML: every mistake is named with its place, and with near names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..near_names import near_names


def near(name: str, known: Any) -> str:
    """Return a sentence with the names nearest to one that does not exist."""
    matches = near_names(name, known, 4, 0.3)
    return f"near names: {', '.join(matches)}" if matches else f"there are: {', '.join(sorted(known)[:40])}"


def number(value: Any, where: str) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise ConfigError(f"{where} must be a finite number, not {value!r}")
    return float(value)


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """Return an entry that has entries of its own; one under which nothing is written has none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {value!r}")
    return dict(value)


def as_list(value: Any, where: str) -> list[Any]:
    """Return an entry that is a list; one under which nothing is written is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list, not {value!r}")
    return value


def need(tree: Mapping[str, Any], key: str, where: str) -> Any:
    """Return an entry that must be there."""
    if key not in tree:
        raise ConfigError(f"{where} lacks {key!r}")
    return tree[key]


def only(tree: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse entries that are not known."""
    for key in tree:
        one_of(key, known, where)


def one_of(name: Any, known: tuple[str, ...], where: str) -> Any:
    """Return a name that must be one of those that are known."""
    if name not in known:
        raise ConfigError(f"{where}: unknown entry {name!r}; {near(str(name), known)}")
    return name
