"""When an evaluation fails: `pa_mpjpe > +2%` on a command line, or a file of limits to be kept.

    METRIC OPERATOR NUMBER [UNIT|%] [significant]

    pa_mpjpe > +2%                  more than 2 % above run a           (sign and %: share of a)
    pa_mpjpe > +1.5 mm              more than 1.5 mm above run a        (sign and unit: difference to a)
    detection_rate < 0.95           below 0.95                          (no sign: the value itself)
    pa_mpjpe > +2% significant      the whole interval lies above +2 %

A metric's unit suffix may be left out where one metric is meant. A criterion that cannot be judged (the metric was not
measured, or under another protocol) has failed: a gate that measured nothing must not open.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import BadFile, ConfigError, MissingFile
from ..near_names import near_names
from .protocol import METRICS
from .result_folder import ResultFolder, worst_frames

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}

_TOKENS = {
    "metric": re.compile(r"[A-Za-z][A-Za-z0-9_]*"),
    "operator": re.compile(r">=|<=|>|<"),
    "number": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"),
}
_EXPECTED = {
    "metric": "the name of a metric, as pa_mpjpe",
    "operator": "one of > >= < <=",
    "number": "a number, as 60 or +2",
}
_SUFFIXES = ("mm", "mm_frame2", "m_s2", "10m_s3", "deg", "rad_s2", "db", "m", "m2", "ms", "s", "percent")
_UNIT_ALIASES = {
    "²": "^2", "³": "^3", "°": "deg", "db": "dB", "mm/frame2": "mm/frame^2", "m/s2": "m/s^2", "rad/s2": "rad/s^2",
    "m2": "m^2", "10m/s^3": "10 m/s^3",
}  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """One condition on one metric.

    Attributes:
        text: As it was given.
        metric: A name of `METRICS`. operator: One of `OPERATORS`.
        threshold: In the metric's unit, or a share of run a (0.02 = 2 %) where `kind` is `relative`.
        kind: `value` of the run, `difference` to run a, or `relative` difference.
        significant: The whole interval must meet the condition, not only the figure.
        protocol: Name of the protocol that the figure must have; empty = any.
        fails_when: The result of the condition that is a failure: True of `--fail-if`, False of limits to be kept.
    """

    text: str
    metric: str
    operator: str
    threshold: float
    kind: Literal["value", "difference", "relative"] = "value"
    significant: bool = False
    protocol: str = ""
    fails_when: bool = True

    @property
    def wants_large(self) -> bool:
        """Whether the frames to look at after a failure are those with large values."""
        return (self.operator in (">", ">=")) == self.fails_when


@dataclass(frozen=True)
class Outcome:
    """What became of a criterion.

    Attributes:
        failed: The command must not exit with 0.
        value: What was compared with the threshold, in its unit; None where there was none.
        interval: Of `value`, where there is one.
        reason: A sentence for people.
        frames: The worst ten frames by time, when it failed: `recording`, `index`, `stamp_ns`, and `value`, or `a`,
            `b` and `difference`.
    """

    criterion: Criterion
    failed: bool
    value: float | None
    interval: tuple[float, float] | None
    reason: str
    frames: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "criterion": self.criterion.text,
            "metric": self.criterion.metric,
            "failed": self.failed,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "reason": self.reason,
            "frames": [dict(frame) for frame in self.frames],
        }


def parse_fail_if(text: str) -> Criterion:
    """Return the criterion of one `--fail-if`.

    Raises:
        ConfigError: The grammar; the message shows the place and what is allowed there.
    """
    return _parse(text, "--fail-if")


def load_criteria(path: str | os.PathLike[str]) -> tuple[Criterion, ...]:
    """Return the limits of a YAML file: a list under `criteria`, each `metric`, `operator`, `threshold`, `protocol`.

    `threshold` is a number or a text as in `--fail-if` (`"+2%"`); `significant: true` may be added. They say what has
    to hold: `pa_mpjpe_mm <= 60`.

    Raises:
        MissingFile: No such file.
        BadFile: Not YAML.
        ConfigError: A key is unknown or missing, or a value is wrong; the message names the entry.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"no file of criteria {path}")
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not YAML: {error}") from error
    entries = document.get("criteria") if isinstance(document, dict) and set(document) == {"criteria"} else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} must hold one key `criteria` with a list of limits")
    return tuple(_entry(entry, f"{path}, criterion {number}") for number, entry in enumerate(entries, 1))


def check(
    criteria: Iterable[Criterion],
    summary: Mapping[str, Any],
    comparison: Mapping[str, Any] | None = None,
    folder: ResultFolder | None = None,
) -> list[Outcome]:
    """Judge a run, and how it differs from another.

    Args:
        summary: Of the run that is judged: with a comparison, run b's.
        comparison: Result of `compare`, for criteria relative to run a.
        folder: Where the judged run's frames lie, to name the worst ones of a failed value.

    Raises:
        ConfigError: A criterion is relative and there is no comparison.
    """
    return [_judge(criterion, summary, comparison, folder) for criterion in criteria]


def require_none_relative(criteria: Iterable[Criterion]) -> None:
    """Refuse criteria that need a second run, where there is none.

    Raises:
        ConfigError: One asks for a change.
    """
    for criterion in criteria:
        if criterion.kind != "value":
            raise ConfigError(
                f"{criterion.text!r} asks for a change, so it needs a second run: --compare A B, --against or --versus"
            )


def as_text(outcomes: Sequence[Outcome]) -> str:
    """Return what a command prints: one line a criterion, and the worst frames by time of those that failed."""
    lines = []
    for outcome in outcomes:
        lines.append(f"{'FAILED' if outcome.failed else 'passed'}  {outcome.criterion.text}: {outcome.reason}")
        for frame in outcome.frames:
            if "difference" in frame:
                figures = f"{frame['a']:.4g} -> {frame['b']:.4g} ({frame['difference']:+.4g})"
            else:
                figures = f"{frame['value']:.4g}"
            lines.append(f"    {frame['recording']}  frame {frame['index']}  stamp {frame['stamp_ns']}  {figures}")
    return "\n".join(lines)


def metric_named(name: str, unit: str = "") -> str:
    """Return the metric that is meant by a name, with or without its unit's suffix.

    Raises:
        ConfigError: None or several are meant; the message lists them.
    """
    if name in METRICS:
        return name
    meant = [metric for metric in METRICS if metric.startswith(f"{name}_") and metric[len(name) + 1 :] in _SUFFIXES]
    if len(meant) > 1:
        meant = [metric for metric in meant if METRICS[metric].unit == unit] or meant
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ConfigError(f"{name!r} may be {' or '.join(meant)}: write it in full")
    near = near_names(name, METRICS, 4, 0.5)
    raise ConfigError(f"no metric {name!r}; there are {', '.join(near or METRICS)}")


def _parse(text: str, where: str) -> Criterion:
    at = 0
    found: dict[str, str] = {}
    for kind, pattern in _TOKENS.items():
        at = _skip(text, at)
        match = pattern.match(text, at)
        if match is None:
            raise _refusal(text, where, at, _EXPECTED[kind])
        found[kind], at = match.group(), match.end()
    at = _skip(text, at)
    rest = re.fullmatch(r"(.*?)\s*(\bsignificant)?", text[at:].rstrip())
    unit = _plain_unit(rest[1])
    try:
        metric = metric_named(found["metric"], unit)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    signed = found["number"][0] in "+-"
    allowed = _units(METRICS[metric].unit, signed)
    if unit not in allowed:
        listed = " or ".join(f"{name or 'no unit'} ({meant})" for name, (meant, _) in allowed.items())
        raise _refusal(text, where, at, f"{listed} for {metric} and a number with{'' if signed else 'out'} a sign")
    kind, parts = allowed[unit]
    return Criterion(text.strip(), metric, found["operator"], float(found["number"]) / parts, kind, bool(rest[2]))


def _units(own: str, signed: bool) -> dict[str, tuple[Literal["value", "difference", "relative"], float]]:
    """Return what may follow a number: unit -> what the number then is, and what it is divided by."""
    plain = "" if own in ("1", "count") else own
    if not signed:
        return {"": ("value", 1.0), plain: ("value", 1.0)} | ({"%": ("value", 100.0)} if own == "1" else {})
    # Of a metric in %, a difference is in percentage points: % alone is a share of run a.
    return {"%": ("relative", 100.0), "pp" if own == "%" else plain: ("difference", 1.0)}


def _skip(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip())


def _refusal(text: str, where: str, at: int, expected: str) -> ConfigError:
    found = f"{text[at]!r}" if at < len(text) else "the end"
    return ConfigError(
        f"{where}: expected {expected} at position {at + 1}, found {found}\n    {text}\n    {' ' * at}^\n"
        'write METRIC OPERATOR NUMBER [UNIT|%] [significant], as in "pa_mpjpe > +2%"'
    )


def _plain_unit(unit: str) -> str:
    for written, plain in _UNIT_ALIASES.items():
        if written in ("²", "³") or unit == written:
            unit = unit.replace(written, plain)
    return unit


def _entry(entry: Any, where: str) -> Criterion:
    needed, allowed = {"metric", "operator", "threshold", "protocol"}, {"significant"}
    if not isinstance(entry, dict) or not needed <= set(entry) or set(entry) - needed - allowed:
        keys = ", ".join(map(str, entry)) if isinstance(entry, dict) else repr(entry)
        raise ConfigError(
            f"{where}: needs the keys {', '.join(sorted(needed))} and may have significant; it has {keys}"
        )
    significant = entry.get("significant", False)
    if not isinstance(significant, bool) or not isinstance(entry["protocol"], str) or not entry["protocol"]:
        raise ConfigError(f"{where}: significant is true or false, protocol is a name")
    threshold = entry["threshold"]
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, str)):
        raise ConfigError(f'{where}: threshold is a number or a text as "+2%", not {threshold!r}')
    text = f"{entry['metric']} {entry['operator']} {threshold}{' significant' if significant else ''}"
    if isinstance(threshold, str):
        criterion = _parse(text, where)
    else:  # a value, even a negative one: only texts are changes
        without_sign = f"{entry['metric']} {entry['operator']} 0{' significant' if significant else ''}"
        criterion = replace(_parse(without_sign, where), text=text, threshold=float(threshold))
    return replace(criterion, protocol=entry["protocol"], fails_when=False)


def _judge(
    criterion: Criterion,
    summary: Mapping[str, Any],
    comparison: Mapping[str, Any] | None,
    folder: ResultFolder | None,
) -> Outcome:
    if comparison is None:
        require_none_relative([criterion])
    row = _row(criterion, summary, comparison)
    if isinstance(row, str):
        return Outcome(criterion, True, None, None, row)
    value, interval = row
    failed, reason = _verdict(criterion, value, interval)
    return Outcome(criterion, failed, value, interval, reason, _frames(criterion, comparison, folder) if failed else ())


def _row(
    criterion: Criterion, summary: Mapping[str, Any], comparison: Mapping[str, Any] | None
) -> tuple[float, tuple[float, float] | None] | str:
    """Return the figure with its interval, or why there is none."""
    metric = criterion.metric
    figure = summary["metrics"].get(metric)
    if figure is None:
        return f"{metric} was not measured; there are {', '.join(summary['metrics']) or 'no metrics'}"
    name = figure.get("protocol", {}).get("name", "")
    if criterion.protocol and name != criterion.protocol:
        return f"{metric} was measured under {name!r}, not under {criterion.protocol!r}"
    if criterion.kind == "value":
        value, interval = figure.get("value"), figure.get("interval")
    else:
        row = comparison["metrics"].get(metric)
        if row is None:
            return _why_not_compared(metric, comparison)
        keys = ("relative", "relative_interval") if criterion.kind == "relative" else ("difference", "interval")
        value, interval = (row.get(key) for key in keys)
    if value is None or not math.isfinite(value):
        return f"{metric} has no value"
    return value, None if interval is None else (interval[0], interval[1])


def _why_not_compared(metric: str, comparison: Mapping[str, Any]) -> str:
    for entry in comparison["refused"]:
        if entry["metric"] == metric:
            fields = "; ".join(f"{key}: {a!r} and {b!r}" for key, (a, b) in entry["fields"].items())
            return f"not comparable, the protocol records differ in {fields}"
    return f"{metric} was not measured in both runs"


def _verdict(criterion: Criterion, value: float, interval: tuple[float, float] | None) -> tuple[bool, str]:
    meets = OPERATORS[criterion.operator]
    shown = _shown(criterion, value)
    if interval is not None:
        shown += f" [{_shown(criterion, interval[0])}, {_shown(criterion, interval[1])}]"
    if not criterion.significant:
        return meets(value, criterion.threshold) == criterion.fails_when, shown
    if interval is None:
        return True, f"{shown}: no interval, so what is significant cannot be judged"
    holds = all(meets(end, criterion.threshold) for end in interval)
    return holds == criterion.fails_when, shown + ("" if holds else ", not significantly beyond the threshold")


def _shown(criterion: Criterion, value: float) -> str:
    if criterion.kind == "relative":
        return f"{100 * value:+.2f} %"
    unit = METRICS[criterion.metric].unit
    number = f"{value:+.4g}" if criterion.kind == "difference" else f"{value:.4g}"
    return number if unit == "1" else f"{number} {unit}"


def _frames(
    criterion: Criterion, comparison: Mapping[str, Any] | None, folder: ResultFolder | None
) -> tuple[Mapping[str, Any], ...]:
    if criterion.kind == "value":
        return tuple(worst_frames(folder, criterion.metric, largest=criterion.wants_large)) if folder else ()
    rows = comparison["metrics"][criterion.metric].get("worst", [])
    wanted = [row for row in rows if (row["difference"] > 0) == criterion.wants_large]
    return tuple(sorted(wanted, key=lambda row: (row["recording"], row["stamp_ns"], row["index"])))
