"""Metrics and numbers as people read them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .protocol import METRICS

_WHOLE = {
    "auc3d": "AUC 3D",
    "pck_005": "PCK@0.05",
    "pck_010": "PCK@0.1",
    "pck3d_50": "PCK 3D 50 mm",
    "det_a": "DetA",
    "ass_a": "AssA",
}
_ALIGNMENTS = {"pa": "PA", "abs": "abs", "w": "W", "wa": "WA"}
_SHORT = (
    "mpjpe", "mpjae", "pve", "lve", "mle", "nmve", "nmje", "rte", "psnr", "ssim", "lpips", "hota", "mota", "idf1", "f1",
    "auc", "id",
)  # fmt: skip
_SUFFIXES = ("mm_frame2", "10m_s3", "rad_s2", "m_s2", "percent", "mm", "deg", "db", "m2", "ms", "m", "s")
_UNITS = {
    "1": "", "m^2": "m²", "mm/frame^2": "mm/frame²", "m/s^2": "m/s²", "10 m/s^3": "10 m/s³", "rad/s^2": "rad/s²",
}  # fmt: skip


def label_of(metric: str) -> str:
    """Return a metric's name for people, without its unit: `pa_mpjpe_mm` is PA-MPJPE."""
    if metric in _WHOLE:
        return _WHOLE[metric]
    stem = next((metric[: -len(suffix) - 1] for suffix in _SUFFIXES if metric.endswith(f"_{suffix}")), metric)
    words = [word.upper() if word in _SHORT else {"accel": "acceleration"}.get(word, word) for word in stem.split("_")]
    joined = [f"{_ALIGNMENTS[word]}-" if word in _ALIGNMENTS else f"{word} " for word in words]
    text = "".join(joined).strip(" -")
    return text if text.startswith("abs-") else text[:1].upper() + text[1:]


def unit_of(metric: str) -> str:
    """Return a metric's unit as people write it; nothing for a share."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return _UNITS.get(unit, unit)


def number(value: Any) -> str:
    """Four digits; a dash for what is not there."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


def signed(value: float | None) -> str:
    """Three digits with a sign."""
    if value is None:
        return "–"
    return "±0" if value == 0 else f"{value:+.3g}".replace("-", "−")


def share(value: float | None) -> str:
    """Of one, in percent."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def duration(seconds: float | None) -> str:
    """Seconds; hours and minutes of more than two minutes."""
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))
