"""The record that every figure carries: what was measured, on what, and how.

Published figures of one model on one data set differ by up to a quarter with the joints, the pelvis and the alignment.
Two figures are comparable when their records are equal, and only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..errors import ConfigError

METRICS_VERSION = "1"
"""Goes up when the definition of any metric changes. Models and library have their own versions, in the run's facts."""


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        unit: Of its values.
        alignment: What is done to the prediction before.
        aggregation: From single values to the figure.
        better: `lower`, `higher`, or `none` for what is described, not judged.
    """

    unit: str
    alignment: str = "none"
    aggregation: str = "mean over points per frame, then over all frames pooled"
    better: str = "lower"


_POOLED = "mean over all frames pooled"
_HANDS = "mean over points, then over valid hands per frame, then over all frames pooled"
_COUNTS = "ratio of counts summed over all frames"
_ONCE = "one value per stream"

METRICS: dict[str, Metric] = {
    "mpjpe_mm": Metric("mm", "pelvis"),
    "pa_mpjpe_mm": Metric("mm", "similarity per frame"),
    "abs_mpjpe_mm": Metric("mm"),
    "root_error_mm": Metric("mm", aggregation=_POOLED),
    "root_ray_error_mm": Metric("mm", aggregation=_POOLED, better="none"),
    "pve_mm": Metric("mm", "pelvis of joints"),
    "pa_pve_mm": Metric("mm", "similarity per frame"),
    "abs_pve_mm": Metric("mm"),
    "mpjae_deg": Metric("deg"),
    "pa_mpjae_deg": Metric("deg", "rotation of the similarity of joints per frame"),
    "pck3d_50": Metric("1", "pelvis", better="higher"),
    "auc3d": Metric("1", "pelvis", better="higher"),
    "hand_pve_mm": Metric("mm", "wrist", _HANDS),
    "hand_pa_pve_mm": Metric("mm", "similarity per hand and frame", _HANDS),
    "face_pve_mm": Metric("mm", "neck"),
    "mle_m": Metric("m", "stated in details"),
    "lve_m2": Metric("m^2", "none", "largest squared distance over lip vertices per frame, then mean over frames"),
    "nmve_mm": Metric("mm", "pelvis of joints", "MVE divided by F1"),
    "nmje_mm": Metric("mm", "pelvis", "MPJPE divided by F1"),
    "pck_005": Metric("1", "none", "share of frames per key point, then mean over key points", "higher"),
    "pck_010": Metric("1", "none", "share of frames per key point, then mean over key points", "higher"),
    "accel_error_mm_frame2": Metric("mm/frame^2", "pelvis"),
    "accel_error_m_s2": Metric("m/s^2", "pelvis"),
    "accel_mm_frame2": Metric("mm/frame^2", "pelvis", better="none"),
    "jitter_10m_s3": Metric("10 m/s^3", "pelvis"),
    "angular_accel_rad_s2": Metric("rad/s^2", better="none"),
    "lag_ms": Metric("ms", "pelvis", "parabola through the largest correlation of joint speeds", "none"),
    "error_now_mm": Metric("mm", "stated in details"),
    "w_mpjpe_mm": Metric("mm", "similarity of the first two frames of each chunk"),
    "wa_mpjpe_mm": Metric("mm", "similarity of each chunk"),
    "rte_percent": Metric("%", "rigid, of the whole sequence", "mean over frames, over the reference's path length"),
    "foot_sliding_mm": Metric("mm", "none", "mean over all foot vertices and frames in contact"),
    "psnr_db": Metric("dB", "none", _POOLED, "higher"),
    "psnr_box_db": Metric("dB", "none", _POOLED, "higher"),
    "psnr_mask_db": Metric("dB", "none", _POOLED, "higher"),
    "ssim": Metric("1", "none", _POOLED, "higher"),
    "ssim_box": Metric("1", "none", _POOLED, "higher"),
    "ssim_mask": Metric("1", "none", _POOLED, "higher"),
    "lpips": Metric("1", "none", _POOLED),
    "lpips_box": Metric("1", "none", _POOLED),
    "detection_rate": Metric("1", "none", _COUNTS, "higher"),
    "precision": Metric("1", "none", _COUNTS, "higher"),
    "f1": Metric("1", "none", _COUNTS, "higher"),
    "hota": Metric("1", "none", "mean over 19 thresholds; counts summed over sequences", "higher"),
    "det_a": Metric("1", "none", "mean over 19 thresholds; counts summed over sequences", "higher"),
    "ass_a": Metric("1", "none", "mean over 19 thresholds; weighted by matches over sequences", "higher"),
    "idf1": Metric("1", "none", _COUNTS, "higher"),
    "mota": Metric("1", "none", _COUNTS, "higher"),
    "id_switches": Metric("count", "none", "sum"),
    "fragmentations": Metric("count", "none", "sum"),
    "operator_survival_s": Metric("s", "none", "Kaplan-Meier median over locks", "higher"),
    "latency_ms": Metric("ms", "none", "p50, p95, p99 and largest of all messages"),
    "drop_rate": Metric("1", "none", _COUNTS),
    "interval_jitter_ms": Metric("ms", "none", "standard deviation of publish intervals"),
    "availability": Metric("1", "none", _COUNTS, "higher"),
    "longest_gap_s": Metric("s", "none", "largest publish interval"),
    "first_result_s": Metric("s", "none", _ONCE),
    "flag_precision": Metric("1", "none", _COUNTS, "higher"),
    "flag_recall": Metric("1", "none", _COUNTS, "higher"),
    "sparsification_auc": Metric("1", "none", "area between the curves of score and oracle, over all frames pooled"),
}


@dataclass(frozen=True)
class Protocol:
    """How one figure was made. Empty text = does not apply.

    Attributes:
        name: Of the protocol, as in tables: `3dpw-14`, `limb-12`, `emdb-24`.
        metric: A name of `METRICS`.
        dataset, split: What was measured on; a recording's own name where there is no data set.
        frame_filter: Which frames were left out, and why.
        matching: How predictions were given to references.
        joints: Names, in order. regressor_sha256: Of the joint regressor's file.
        pelvis: Name of the rule, `joint_rules.Pelvis.name`.
        alignment, aggregation, unit: As of `METRICS`.
        topology: Of vertices, or what a prediction was carried to.
        reference_gender: `gendered`, `neutral`.
        fps: Of the reference; 0 = not a sequence.
        mask: Where a picture's mask is from, and what lies outside it.
        test_time_pose: `none`, or `optimised` when the pose was fitted to the test picture.
        mode: `offline`, `recorded` (people as they were published), `stepped` or `paced`.
        details: What only some metrics need, sorted: chunk and tail, landmark set, network and its sha256.
        code_version: `METRICS_VERSION`.
    """

    name: str
    metric: str = ""
    dataset: str = ""
    split: str = ""
    frame_filter: str = ""
    matching: str = ""
    joints: tuple[str, ...] = ()
    regressor_sha256: str = ""
    pelvis: str = ""
    alignment: str = ""
    topology: str = ""
    reference_gender: str = ""
    aggregation: str = ""
    unit: str = ""
    fps: float = 0.0
    mask: str = ""
    test_time_pose: str = "none"
    mode: str = "offline"
    details: tuple[tuple[str, str], ...] = ()
    code_version: str = METRICS_VERSION

    def __post_init__(self) -> None:
        pairs = self.details.items() if isinstance(self.details, Mapping) else self.details
        object.__setattr__(self, "details", tuple(sorted((str(key), str(value)) for key, value in pairs)))
        object.__setattr__(self, "joints", tuple(self.joints))
        if self.test_time_pose not in ("none", "optimised"):
            raise ConfigError(f"test_time_pose is `none` or `optimised`, not {self.test_time_pose!r}")

    def of(self, metric: str, **details: Any) -> Protocol:
        """Return this record for one metric: its unit, alignment and aggregation filled in, details added.

        Raises:
            ConfigError: No such metric.
        """
        if metric not in METRICS:
            raise ConfigError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
        known = METRICS[metric]
        return replace(
            self,
            metric=metric,
            unit=known.unit,
            alignment=known.alignment,
            aggregation=known.aggregation,
            details={**dict(self.details), **details},
        )

    def same_as(self, other: Protocol) -> bool:
        """Return whether figures under the two records may be compared."""
        return self == other

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without what does not apply."""
        values = {key: value for key, value in asdict(self).items() if value not in ("", (), 0.0)}
        for key, convert in (("joints", list), ("details", dict)):
            if key in values:
                values[key] = convert(values[key])
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """Return the record of `to_dict`.

        Raises:
            ConfigError: A field is unknown or the name is missing.
        """
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown or "name" not in values:
            raise ConfigError(f"not a protocol record: {'unknown ' + ', '.join(unknown) if unknown else 'no name'}")
        return cls(**values)


def differences(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two records differ, each with both values; empty = comparable."""
    pairs = {entry.name: (getattr(a, entry.name), getattr(b, entry.name)) for entry in fields(Protocol)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def require_same(a: Protocol, b: Protocol) -> None:
    """Refuse two figures that were not measured alike.

    Raises:
        ConfigError: The message lists each field that differs with both values.
    """
    found = differences(a, b)
    if found:
        listed = "; ".join(f"{name}: {one!r} and {other!r}" for name, (one, other) in found.items())
        raise ConfigError(f"{a.metric or a.name}: not comparable, the protocol records differ in {listed}")
