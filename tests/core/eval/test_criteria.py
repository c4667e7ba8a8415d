"""Criteria that fail a run: grammar, judgement, and what is printed."""

from __future__ import annotations

import json

import pytest
from result_folders import BASE, frame, frames_of, person, write_folder

from hsr_core.errors import BadFile, ConfigError, MissingFile
from hsr_core.eval.compare import compare
from hsr_core.eval.criteria import as_text, check, load_criteria, metric_named, parse_fail_if
from hsr_core.eval.figure import Figure
from hsr_core.eval.protocol import METRICS
from hsr_core.eval.result_folder import ResultFolder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pa_mpjpe > +2%", ("pa_mpjpe_mm", ">", 0.02, "relative", False)),
        ("pa_mpjpe_mm>60", ("pa_mpjpe_mm", ">", 60.0, "value", False)),
        ("pa_mpjpe > 60 mm", ("pa_mpjpe_mm", ">", 60.0, "value", False)),
        ("pa_mpjpe >= +1.5 mm significant", ("pa_mpjpe_mm", ">=", 1.5, "difference", True)),
        ("detection_rate < 95%", ("detection_rate", "<", 0.95, "value", False)),
        ("detection_rate < 0.95", ("detection_rate", "<", 0.95, "value", False)),
        ("detection_rate < -2% significant", ("detection_rate", "<", -0.02, "relative", True)),
        ("detection_rate < -0.02", ("detection_rate", "<", -0.02, "difference", False)),
        ("id_switches > +1", ("id_switches", ">", 1.0, "difference", False)),
        ("rte > +2%", ("rte_percent", ">", 0.02, "relative", False)),
        ("rte > +2 pp", ("rte_percent", ">", 2.0, "difference", False)),
        ("rte > 5%", ("rte_percent", ">", 5.0, "value", False)),
        ("jitter > +3 10 m/s^3", ("jitter_10m_s3", ">", 3.0, "difference", False)),
        ("accel_error > +1 m/s²", ("accel_error_m_s2", ">", 1.0, "difference", False)),
        ("psnr <= -.5dB", ("psnr_db", "<=", -0.5, "difference", False)),
        ("  lve > 1e-5  ", ("lve_m2", ">", 1e-5, "value", False)),
    ],
)
def test_what_may_be_written(text, expected):
    found = parse_fail_if(text)
    assert (found.metric, found.operator, found.threshold, found.kind, found.significant) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected the name of a metric.* position 1, found the end"),
        ("pa_mpjpe", r"expected one of > >= < <= at position 9, found the end"),
        ("pa_mpjpe = 2", r"expected one of > >= < <= at position 10, found '='"),
        ("pa_mpjpe >> 2", r"expected a number.* position 11, found '>'"),
        ("pa_mpjpe > two", r"expected a number.* position 12, found 't'"),
        (
            "pa_mpjpe > +2",
            r"expected % \(relative\) or mm \(difference\) for pa_mpjpe_mm .* with a sign at position 14",
        ),
        ("pa_mpjpe > 2%", r"expected no unit \(value\) or mm \(value\) .* without a sign at position 13, found '%'"),
        ("pa_mpjpe > +2 cm", r"mm \(difference\).* found 'c'"),
        ("pa_mpjpe > +2% really", r"at position 14"),
        ("accel_error > 3", r"accel_error_mm_frame2 or accel_error_m_s2"),
        ("pampjpe > 3", r"no metric 'pampjpe'; there are pa_mpjpe_mm"),
    ],
)
def test_what_is_refused_and_why(text, message):
    with pytest.raises(ConfigError, match=f"(?s)--fail-if: .*{message}"):
        parse_fail_if(text)


def test_the_place_of_a_mistake_is_shown():
    with pytest.raises(ConfigError) as caught:
        parse_fail_if("pa_mpjpe >> 2")
    _, text, caret, _ = str(caught.value).splitlines()
    assert text[caret.index("^")] == ">"
    assert text.index(">") + 1 == caret.index("^")


def test_every_metric_can_be_named_in_full_and_most_without_their_unit():
    assert all(metric_named(name) == name for name in METRICS)
    assert metric_named("pa_mpjpe") == "pa_mpjpe_mm"
    assert metric_named("accel") == "accel_mm_frame2"  # accel_error is another


@pytest.fixture
def runs(tmp_path):
    """Two runs: b is 3 mm above 100 mm, in every frame but for a trend; detection rates are 0.98 and 0.95."""

    def folder(name, shift, rate):
        frames = [row for s in "abcdef" for row in frames_of(s, 40, lambda i: 100.0 + shift * (1 + 0.01 * i) / 1.195)]
        extra = {"detection_rate": Figure.ratio(rate, 100, BASE.of("detection_rate"))}
        return write_folder(tmp_path / name, frames, extra_metrics=extra)

    a, b = folder("a", 0.0, 98), folder("b", 3.0, 95)
    return json.loads((b / "summary.json").read_text()), compare(a, b), ResultFolder(b)


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("pa_mpjpe > +2%", True),
        ("pa_mpjpe > +4%", False),
        ("pa_mpjpe > +2.9 mm", True),
        ("pa_mpjpe > +3.1 mm", False),
        ("pa_mpjpe > 102", True),
        ("pa_mpjpe > 104 mm", False),
        ("pa_mpjpe < 104", True),
        ("pa_mpjpe > +2% significant", True),
        ("pa_mpjpe < -1%", False),
        ("detection_rate < -2%", True),
        ("detection_rate < -4%", False),
        ("detection_rate < -0.02", True),
        ("detection_rate < 90%", False),
        ("detection_rate < -9% significant", True),  # one figure a run has no interval: it cannot be judged
    ],
)
def test_judgement(runs, text, failed):
    summary, comparison, folder = runs
    (outcome,) = check([parse_fail_if(text)], summary, comparison, folder)
    assert outcome.failed is failed


def test_significance_asks_for_the_whole_interval():
    row = {"relative": 0.03, "relative_interval": [0.01, 0.05]}
    comparison = {"metrics": {"pa_mpjpe_mm": row}, "refused": []}
    summary = {"metrics": {"pa_mpjpe_mm": {"value": 1.0, "protocol": {"name": "limb-12"}}}}

    def failed(text):
        return check([parse_fail_if(text)], summary, comparison)[0].failed

    assert failed("pa_mpjpe > +2%")
    assert not failed("pa_mpjpe > +2% significant")
    assert failed("pa_mpjpe > +0.5% significant")
    row["relative_interval"] = None
    assert failed("pa_mpjpe > +9% significant")  # cannot be judged


def test_the_worst_ten_frames_of_a_failure_come_by_time(runs):
    summary, comparison, folder = runs
    relative, value = check(
        [parse_fail_if("pa_mpjpe > +2%"), parse_fail_if("pa_mpjpe > 101")], summary, comparison, folder
    )
    for outcome in (relative, value):
        assert len(outcome.frames) == 10
        keys = [(row["recording"], row["stamp_ns"]) for row in outcome.frames]
        assert keys == sorted(keys)
        assert {row["index"] for row in outcome.frames} <= {38, 39}  # the error grows with the frame's number
    text = as_text([relative, value])
    assert text.startswith("FAILED  pa_mpjpe > +2%: +3.00 % [")
    assert text.count("\n    a  frame 39  stamp 17") == 2


def test_small_values_are_the_worst_where_small_fails(tmp_path):
    rows = [frame("s", i, [person(0, {"pck_005": 0.9 - (i == 7) * 0.5})]) for i in range(30)]
    folder = ResultFolder(write_folder(tmp_path / "run", rows))
    (outcome,) = check([parse_fail_if("pck_005 < 0.95")], folder.summary, folder=folder)
    assert outcome.failed
    assert 7 in [row["index"] for row in outcome.frames]


def test_what_cannot_be_judged_has_failed(runs):
    summary, comparison, _ = runs
    (outcome,) = check([parse_fail_if("lpips > 0.1")], summary)
    assert outcome.failed
    assert outcome.reason.startswith("lpips was not measured; there are")
    refused = {"metrics": {}, "refused": [{"metric": "pa_mpjpe_mm", "fields": {"pelvis": ["x", "y"]}}]}
    (outcome,) = check([parse_fail_if("pa_mpjpe > +2%")], summary, refused)
    assert outcome.failed
    assert "pelvis: 'x' and 'y'" in outcome.reason
    summary["metrics"]["mpjpe_mm"]["value"] = None
    (outcome,) = check([parse_fail_if("mpjpe > 9999")], summary, comparison)
    assert outcome.failed
    assert json.dumps(outcome.to_dict())
    with pytest.raises(ConfigError, match="needs a second run"):
        check([parse_fail_if("pa_mpjpe > +2%")], summary)


LIMITS = """
criteria:
  - {metric: pa_mpjpe_mm, operator: "<=", threshold: 104, protocol: limb-12}
  - {metric: pa_mpjpe, operator: "<", threshold: "+2%", protocol: limb-12, significant: true}
  - {metric: mpjpe, operator: "<=", threshold: 999, protocol: 3dpw-14}
"""


def test_a_file_of_limits_says_what_must_hold(runs, tmp_path):
    summary, comparison, folder = runs
    path = tmp_path / "limits.yaml"
    path.write_text(LIMITS)
    kept, broken, other = check(load_criteria(path), summary, comparison, folder)
    assert not kept.failed
    assert broken.failed
    assert broken.criterion.text == "pa_mpjpe < +2% significant"
    assert len(broken.frames) == 10
    assert other.failed
    assert "under 'limb-12', not under '3dpw-14'" in other.reason


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("criteria: [", BadFile, "not YAML"),
        ("- 1", ConfigError, "one key `criteria`"),
        ("criteria: []", ConfigError, "one key `criteria`"),
        ("criteria: [{metric: mpjpe, operator: <, threshold: 3}]", ConfigError, "criterion 1: needs the keys"),
        ("criteria: [{metric: mpjpe, operator: <, threshold: 3, protocol: x, level: 1}]", ConfigError, "level"),
        ("criteria: [{metric: mpjpe, operator: <, threshold: yes, protocol: x}]", ConfigError, "threshold is a number"),
        (
            "criteria: [{metric: mpjpe, operator: <, threshold: '+2', protocol: x}]",
            ConfigError,
            r"criterion 1: expected %",
        ),
        ("criteria: [{metric: mpjpe, operator: '=', threshold: 2, protocol: x}]", ConfigError, "one of > >= < <="),
        ("criteria: [{metric: mpjpe, operator: <, threshold: 2, protocol: ''}]", ConfigError, "protocol is a name"),
    ],
)
def test_bad_files_of_limits_are_refused(tmp_path, text, error, message):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        load_criteria(path)
    with pytest.raises(MissingFile, match=r"nothing\.yaml"):
        load_criteria(tmp_path / "nothing.yaml")


def test_a_number_in_a_file_is_a_value_whatever_its_sign(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("criteria: [{metric: lag, operator: '>=', threshold: -5, protocol: x}]")
    (criterion,) = load_criteria(path)
    assert (criterion.metric, criterion.threshold, criterion.kind) == ("lag_ms", -5.0, "value")
