"""Message classes by the names that the graph gives them."""

from __future__ import annotations

import importlib


def message_class(kind: str) -> type | None:
    """Return the class of a type such as `std_msgs/msg/String`; None when its package is not installed."""
    package, _, name = kind.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        return None
