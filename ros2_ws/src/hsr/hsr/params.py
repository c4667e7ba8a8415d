"""ROS parameters made from `hsr_core.config`, the one place where names, defaults, ranges and descriptions live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

from hsr_core.config import S, Settings, SettingSpec, describe, with_values
from hsr_core.errors import ConfigError

DEFAULTS = Settings()

COMMON = (
    SettingSpec("diagnostic_updater.period", 1.0, "Time between two diagnostics messages [s]", 0.1, 10.0, (), True),
    SettingSpec("service_timeout_s", 5.0, "Longest time until a service answers [s]", 0.1, 60.0, (), True),
)
"""Of the perception node and the refiner, beside their settings."""

_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number with a decimal point", str: "text"}


def descriptor(spec: SettingSpec) -> ParameterDescriptor:
    """Return a setting as a parameter descriptor; one that cannot change while running is read-only."""
    out = ParameterDescriptor(
        name=spec.name,
        type=_TYPES[type(spec.default)],
        description=spec.description,
        read_only=not spec.live,
        additional_constraints=f"one of: {', '.join(spec.choices)}" if spec.choices else "",
    )
    if spec.low is not None and spec.high is not None:
        if isinstance(spec.default, float):
            span = FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high), step=0.0)
            out.floating_point_range.append(span)
        else:
            span = IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)
            out.integer_range.append(span)
    return out


def declare_parameters(node: Any, defaults: S = DEFAULTS) -> S:
    """Declare every setting on the node; return the values that a file or the command line gave.

    Args:
        defaults: The group of settings; the perception node's if not given.

    Raises:
        ConfigError: A given value has the wrong type, lies out of range or is not one of the choices.
    """
    for spec in describe(defaults):
        if not node.has_parameter(spec.name):
            _declare(node, spec)
    return current_settings(node, defaults)


def declare_fixed(node: Any, rows: Iterable[tuple[str, Any, str, tuple | None]]) -> None:
    """Declare parameters that are read once, at the start.

    Args:
        rows: Name, default, description and what is allowed: (least, largest), the words to choose from, or None.

    Raises:
        ConfigError: A given value has the wrong type, lies out of range or is not one of the choices.
    """
    for spec in map(fixed_spec, rows):
        _declare(node, spec)
        spec.check(node.get_parameter(spec.name).value)


def fixed_spec(row: tuple[str, Any, str, tuple | None]) -> SettingSpec:
    """Return a row of `declare_fixed` as a setting that cannot change while running."""
    name, default, text, allowed = row
    choices = allowed if allowed and isinstance(default, str) else ()
    low, high = allowed if allowed and not choices else (None, None)
    return SettingSpec(name, default, text, low, high, choices, live=False)


def declare_common(node: Any) -> None:
    """Declare what the perception node and the refiner have beside their settings."""
    for spec in COMMON:
        _declare(node, spec)


def _declare(node: Any, spec: SettingSpec) -> None:
    try:
        node.declare_parameter(spec.name, spec.default, descriptor(spec))
    except InvalidParameterTypeException as error:
        raise ConfigError(f"parameter {spec.name} takes {_KINDS[type(spec.default)]}: {error}") from error
    except InvalidParameterValueException as error:
        raise ConfigError(f"parameter {spec.name}: {error}") from error


def current_settings(node: Any, defaults: S = DEFAULTS) -> S:
    """Return the node's parameters as settings.

    Raises:
        ConfigError: A value is not one of the choices.
    """
    return with_values(defaults, {spec.name: node.get_parameter(spec.name).value for spec in describe(defaults)})


def watch_parameters(node: Any, on_change: Callable[[S], None], defaults: S = DEFAULTS) -> None:
    """Refuse wrong values with a reason, and hand over the new settings after each change that was accepted.

    Ranges and read-only parameters are refused by rclpy itself, from the descriptors.
    """
    known = {spec.name: spec for spec in describe(defaults)}

    def validate(parameters: list[Any]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in known}
        try:
            settings = with_values(current_settings(node, defaults), changes)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if changes and not after:
            on_change(settings)
        return SetParametersResult(successful=True)

    def apply(parameters: list[Any]) -> None:
        if any(parameter.name in known for parameter in parameters):
            on_change(current_settings(node, defaults))

    # Humble's rclpy has no callback for after the change; there the validation hands the settings over.
    after = hasattr(node, "add_post_set_parameters_callback")
    node.add_on_set_parameters_callback(validate)
    if after:
        node.add_post_set_parameters_callback(apply)


def default_parameters_yaml(defaults: Any = DEFAULTS, node: str = "perception node") -> str:
    """Return the parameter file with every default, for any node name and namespace."""
    lines = [
        f"# Every parameter of the {node} with its default. Copy what you change, and pass the copy by",
        "# params:=FILE to the launch file, or --ros-args --params-file FILE to the node.",
        "/**:",
        "  ros__parameters:",
    ]
    group = ""
    for spec in describe(defaults):
        prefix, _, name = spec.name.rpartition(".")
        if prefix != group:
            group = prefix
            lines += [f"    {group}:"]
        indent = "      " if prefix else "    "
        lines += [f"{indent}{name}: {_yaml(spec.default)}  # {_remark(spec)}"]
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _remark(spec: SettingSpec) -> str:
    limits = ""
    if spec.choices:
        limits = f" ({', '.join(spec.choices)})"
    elif spec.low is not None and spec.high is not None:
        limits = f" ({spec.low:g} to {spec.high:g})"
    return f"{spec.description}{limits}{'; may change while running' if spec.live else ''}"
