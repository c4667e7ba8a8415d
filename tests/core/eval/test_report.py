"""The page of an evaluation: whole, self-contained, small, and true to the files."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import tracemalloc
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from result_folders import BASE, START_NS, frame, frames_of, person, picture, write_folder

from hsr_core.errors import BadFile, MissingFile
from hsr_core.eval.compare import compare
from hsr_core.eval.criteria import check, parse_fail_if
from hsr_core.eval.curves import MOST_BINS, Curve, chart_of, histogram_chart, nice_ticks
from hsr_core.eval.labels import label_of, number
from hsr_core.eval.protocol import METRICS, Protocol
from hsr_core.eval.report import picture_uri, write_report


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that are not closed in order."""

    EMPTY = ("meta", "br", "img", "line", "rect", "path", "circle", "link", "input", "hr")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert not [tag for tag in self._open if tag not in ("p",)], self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word).replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [has for name, has in self.tags if name == tag and all(has.get(k) == v for k, v in wanted.items())]


def page_of(folder, tmp_path, *more) -> Page:
    html = write_report(folder, tmp_path / "report.html", *more).read_text()
    return Page(html)


def worst_row(index, name="worst/01.jpg", recording="s", value=200.0):
    return {"recording": recording, "index": index, "stamp_ns": START_NS + round(index * 1e9 / 30),
            "metric": "mpjpe_mm", "value": value, "picture": name}  # fmt: skip


def test_nothing_is_fetched_and_every_picture_decodes(tmp_path):
    folder = tmp_path / "run"
    rows = [worst_row(10 * i, f"worst/{i:02d}.jpg", value=300.0 - i) for i in range(10)]
    for i in range(10):
        picture(folder / f"worst/{i:02d}.jpg", str(i), (1920, 1080))
    page = page_of(write_folder(folder, frames_of("s", 200, float), worst=rows), tmp_path)
    assert not page.all("script")
    assert not page.all("link")
    urls = [has[key] for _, has in page.tags for key in ("src", "href", "srcset", "data", "action") if key in has]
    assert len(urls) == 10
    for url in urls:
        assert url.startswith("data:image/jpeg;base64,")
        image = cv2.imdecode(np.frombuffer(base64.b64decode(url.split(",", 1)[1]), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (540, 960, 3)  # made smaller
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", html)


def test_names_and_messages_from_outside_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    frames = [
        *frames_of(evil, 100, float),
        {"kind": "event", "recording": evil, "stamp_ns": 1, "what": evil, "detail": evil},
    ]
    folder = write_folder(
        tmp_path / "run", frames, name=evil, notes=[evil], facts={"input": evil, "settings": {evil: evil}},
        worst=[worst_row(3, recording=evil)],
    )  # fmt: skip
    page = page_of(folder, tmp_path, compare(folder, folder))
    assert not page.all("script")
    assert page.text.count(evil) >= 8


def test_the_figures_of_the_summary_are_in_the_table(tmp_path):
    folder = write_folder(tmp_path / "run", frames_of("walk", 100, lambda i: None if i < 20 else 40.0))
    document = json.loads((folder / "summary.json").read_text())
    document["metrics"]["pa_mpjpe_mm"]["interval"] = [38.25, 42.5]
    document["recordings"][0]["diagnosis"] = {"truncated": True, "duplicate_stamps": 3, "gaps": 0}
    document["recordings"][0]["error"] = "the bag ends early"
    (folder / "summary.json").write_text(json.dumps(document))
    text = page_of(folder, tmp_path).text
    for said in (
        "PA-MPJPE",
        "38.25 … 42.5",
        "80.0 %",
        "walk",
        "truncated",
        "duplicate stamps: 3",
        "the bag ends early",
    ):
        assert said in text
    assert "gaps" not in text


def test_published_figures_stand_beside_ours_of_the_same_protocol_only(tmp_path):
    paper = Protocol("3dpw-14", dataset="3dpw", split="test", fps=30.0)
    ours = write_folder(tmp_path / "ours", frames_of("s", 50, float), protocol=paper)
    assert "HumanSplatHMR 72.63" in page_of(ours, tmp_path).text
    other = write_folder(tmp_path / "other", frames_of("s", 50, float), protocol=BASE)
    assert "HumanSplatHMR" not in page_of(other, tmp_path).text


def test_without_reference_the_page_says_so_and_shows_the_rest(tmp_path):
    rows = [frame("bag", i, [person(None, {"jitter_10m_s3": 40.0})] if i % 4 else []) for i in range(200)]
    page = page_of(write_folder(tmp_path / "run", rows), tmp_path)
    assert "There was no reference." in page.text
    assert "75.0 % of frames with somebody found" in page.text
    assert {"Jitter", "People in the frame", "Frames by processing time"} <= {
        has["aria-label"] for has in page.all("svg")
    }
    with_reference = page_of(write_folder(tmp_path / "ref", frames_of("s", 9, float)), tmp_path)
    assert "There was no reference." not in with_reference.text


def test_a_run_without_any_frame_has_a_page(tmp_path):
    page = page_of(write_folder(tmp_path / "run", [], notes=["empty.mcap: no image"]), tmp_path)
    assert "empty.mcap: no image" in page.text
    assert "No figures" in page.text


def test_worst_frames_are_in_their_order_with_their_time(tmp_path):
    rows = [worst_row(60, "worst/01.jpg", value=210.5), worst_row(30, "worst/02.jpg", value=180.0)]
    folder = write_folder(tmp_path / "run", frames_of("s", 100, float), worst=rows)
    picture(folder / "worst/01.jpg")
    page = page_of(folder, tmp_path)
    assert page.text.index("210.5 mm") < page.text.index("180 mm")
    assert "frame 60, at 2.0 s" in page.text
    assert "picture missing" in page.text  # of the second


def test_pictures_outside_the_folder_or_broken_are_not_taken(tmp_path):
    picture(tmp_path / "secret.jpg")
    folder = tmp_path / "run"
    good = picture(folder / "good.jpg")
    (folder / "broken.jpg").write_bytes(good.read_bytes()[:40])
    assert picture_uri(folder, "good.jpg")
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "broken.jpg", "none.jpg", ""):
        assert picture_uri(folder, name) == ""


def test_comparison_and_criteria_have_sections(tmp_path):
    a = write_folder(tmp_path / "a", frames_of("s", 400, lambda i: 50.0 + i % 5), facts={"regressor": "old"})
    b = write_folder(
        tmp_path / "b", frames_of("s", 400, lambda i: None if i < 7 else 53.0 + i % 5), facts={"regressor": "new"}
    )
    found = compare(a, b)
    outcomes = check([parse_fail_if("pa_mpjpe > +2%")], json.loads((b / "summary.json").read_text()), found)
    text = page_of(b, tmp_path, found, outcomes).text
    for said in (
        "Criteria",
        "fails if pa_mpjpe > +2%",
        "failed",
        "Comparison",
        "blocks of 3 s",
        "worse",
        "−7 found by a only",
    ):
        assert said in text
    refused = {**found, "metrics": {}, "refused": [{"metric": "mpjpe_mm", "fields": {"pelvis": ["x", "y"]}}]}
    assert "Not comparable" in page_of(b, tmp_path, refused).text


def test_a_truncated_result_file_is_shown_and_said(tmp_path):
    folder = write_folder(tmp_path / "run", frames_of("s", 100, float))
    whole = (folder / "result.jsonl").read_bytes()
    (folder / "result.jsonl").write_bytes(whole[:-25])
    assert "breaks off in its last line" in page_of(folder, tmp_path).text


def test_missing_files_are_named_and_optional_ones_not_needed(tmp_path):
    folder = write_folder(tmp_path / "run", frames_of("s", 100, float), timing={})
    (folder / "timing.jsonl").unlink()
    assert "No times were recorded" in page_of(folder, tmp_path).text
    (folder / "result.jsonl").unlink()
    with pytest.raises(MissingFile, match=r"result.jsonl"):
        write_report(folder, tmp_path / "x.html")
    shutil.rmtree(folder)
    with pytest.raises(MissingFile, match="no such path"):
        write_report(folder, tmp_path / "x.html")
    folder = write_folder(tmp_path / "run", frames_of("s", 9, float), worst=[{"recording": "s"}])
    with pytest.raises(BadFile, match=r"summary.json is not whole: .*metric|stamp_ns"):
        write_report(folder, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_the_histogram_is_made_of_the_times_when_the_summary_has_none(tmp_path):
    folder = write_folder(tmp_path / "run", frames_of("s", 300, float), timing={"stages_ms": {}})
    assert "Frames by processing time" in {has["aria-label"] for has in page_of(folder, tmp_path).all("svg")}


def test_an_hour_costs_no_more_memory_or_page_than_minutes(tmp_path):
    def size_and_peak(count):
        folder = write_folder(tmp_path / f"run{count}", frames_of("s", count, lambda i: 40 + 10 * math.sin(i / 50)))
        tracemalloc.start()
        path = write_report(folder, tmp_path / "report.html")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return path.stat().st_size, peak

    write_report(write_folder(tmp_path / "warm", frames_of("s", 9, float)), tmp_path / "report.html")
    short, long = size_and_peak(1500), size_and_peak(9000)
    assert long[0] < 1.3 * short[0]
    assert long[1] < 1.3 * short[1]


def test_a_curve_keeps_every_value_in_few_bins():
    values = np.random.default_rng(0).normal(50, 9, 20_000)
    curve = Curve()
    for i, value in enumerate(values.tolist()):
        curve.add(round(i * 1e9 / 30), [value])
    bins = list(curve.bins.values())
    assert MOST_BINS < len(bins) <= 2 * MOST_BINS
    assert sum(entry.count for entry in bins) == len(values)
    assert sum(entry.total for entry in bins) == pytest.approx(values.sum())
    assert min(entry.low for entry in bins) == values.min()
    assert max(entry.high for entry in bins) == values.max()


@pytest.mark.parametrize("count", [90, 9000])
def test_gaps_break_the_line(count):
    curve = Curve()
    for i in range(count):
        if not count // 3 <= i < count // 2:  # frames missing
            curve.add(
                round(i * 1e9 / 30), [] if 0.7 < i / count < 0.8 else [1.0 + i % 3], missed=int(0.7 < i / count < 0.8)
            )
    chart = chart_of(curve)
    assert chart.line.count("M") == 3
    assert chart.missed
    xs = sorted(float(x) for x in re.findall(r"[ML]([\d.]+) ", chart.line))
    widest = sorted(np.diff(xs))[-2:]
    assert widest == pytest.approx(
        [chart.right * 0.0 + (chart.right - chart.left) / 10, (chart.right - chart.left) / 6], rel=0.15
    )


def test_steady_frames_have_no_breaks_and_lone_ones_are_dots():
    curve = Curve()
    rng = np.random.default_rng(1)
    for i in range(2000):  # stamps that tremble by 30 %
        curve.add(round((i + rng.uniform(-0.3, 0.3)) * 1e9 / 30) + 10**8, [5.0])
    assert chart_of(curve).line.count("M") == 1
    alone = Curve()
    alone.add(0, [5.0])
    assert len(chart_of(alone).dots) == 1
    assert chart_of(alone).line == ""


def test_the_histogram_counts_all_frames_and_a_stall_does_not_flatten_it():
    edges = [*(float(i) for i in range(10, 30)), 900.0]
    counts = [50] * 20 + [1]
    chart, beyond = histogram_chart(edges, counts)
    assert beyond == 1
    full = max(height for *_, height in chart.missed)
    assert sum(height > 0.9 * full for *_, height in chart.missed) == 20
    assert all(tick.at <= chart.right for tick in chart.x)
    assert histogram_chart([0.0, 1.0, 2.0], [3, 4])[1] == 0
    assert histogram_chart([12.0], [7])[1] == 0


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0, 1e-5), (0, 123456), (49.9, 50.1)])
def test_ticks_are_round_and_cover_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_metrics_have_readable_names():
    assert label_of("pa_mpjpe_mm") == "PA-MPJPE"
    assert label_of("hand_pa_pve_mm") == "Hand PA-PVE"
    assert label_of("abs_mpjpe_mm") == "abs-MPJPE"
    assert label_of("accel_error_mm_frame2") == "Acceleration error"
    assert len({(label_of(name), METRICS[name].unit) for name in METRICS}) == len(METRICS)
    assert [number(x) for x in (None, 3, 41.23456, 1e-5, 12345.6, 0.0)] == ["–", "3", "41.23", "1.00e-05", "12346", "0"]


def test_recordings_that_failed_are_named_at_the_top(tmp_path):
    folder = write_folder(tmp_path / "run", [row for i in range(12) for row in frames_of(f"s{i}", 5, float)])
    summary = json.loads((folder / "summary.json").read_text())
    for entry in summary["recordings"][1:]:
        entry["error"] = "it burnt"
    (folder / "summary.json").write_text(json.dumps(summary))
    text = page_of(folder, tmp_path).text
    assert "11 of 12 recordings could not be evaluated to the end:" in text
    assert "s7, s8 and 3 more" in text
    assert text.index("could not be evaluated") < text.index("it burnt")
