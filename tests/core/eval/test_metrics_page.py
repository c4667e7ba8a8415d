"""The page of metrics and the table in the code name the same ones."""

import re
from pathlib import Path

from hsr_core.eval.protocol import METRICS

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_page_has_a_row_for_every_metric_and_no_other():
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(METRICS)
