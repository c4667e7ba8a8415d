"""What `hsr eval` prints for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .protocol import METRICS


def summary_text(summary: Mapping[str, Any], out: str) -> str:
    """Return the figures of a run as a table, with what was wrong on the way."""
    protocol, timing = summary["protocol"], summary["timing"]
    lines = [
        f"{summary['frames']} frames of {len(summary['recordings'])} recordings, protocol {protocol.get('name', '-')}, "
        f"{timing['frames_per_s'] or '-'} frames/s"
    ]
    for name, figure in summary["metrics"].items():
        if figure["value"] is None:
            continue
        low_high = figure.get("interval")
        spread = f"  [{low_high[0]:.4g}, {low_high[1]:.4g}]" if low_high else ""
        coverage = figure.get("coverage")
        share = f"  {100 * coverage:.1f} % of {figure['annotated']}" if coverage is not None else ""
        unit = METRICS[name].unit
        lines.append(f"  {name:<24}{figure['value']:>10.4g} {'' if unit == '1' else unit:<12}{spread}{share}")
    for recording in summary["recordings"]:
        if recording["error"]:
            lines.append(f"  {recording['name']}: {recording['error']}")
        if recording["diagnosis"]:
            found = ", ".join(f"{key} {value}" for key, value in recording["diagnosis"].items())
            lines.append(f"  {recording['name']}: {found}")
    lines += [f"  note: {note}" for note in summary["notes"]]
    return "\n".join([*lines, f"results in {out}"])


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """Return how two runs differ as a table, the worst regression first."""
    frames = comparison["frames"]
    lines = [f"{frames['both']} frames in both runs, intervals over {comparison['interval']['over']}"]
    for name, row in comparison["metrics"].items():
        if row["a"] is None or row["b"] is None:
            continue
        ends = row["interval"]
        spread = f" [{ends[0]:+.4g}, {ends[1]:+.4g}]" if ends else ""
        lines.append(
            f"  {name:<24}{row['a']:>10.4g} -> {row['b']:<10.4g} {row['difference']:+.4g}{spread}  {row['verdict']}"
        )
    lines += [f"  {entry['metric']}: not compared, the records differ in {', '.join(entry['fields'])}"
              for entry in comparison["refused"]]  # fmt: skip
    return "\n".join([*lines, *(f"  note: {note}" for note in comparison["notes"])])
