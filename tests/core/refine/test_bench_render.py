"""`hsr bench render`."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from hsr_core.cli import main


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures gsplat where there is a GPU")
def test_the_bench_compares_with_the_reference_and_draws_the_body(tmp_path, capsys) -> None:
    picture = tmp_path / "body.png"
    assert main(["bench", "render", "--size", "64", "--repeats", "1", "--png", str(picture), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["gaussians"] > 10_000
    assert facts["cpu"]["total_ms"]["best"] > 0
    assert facts["torch"]["total_ms"]["best"] > 0
    # Among so many pairs a few lie on the border of 1/255 and are drawn in one precision only.
    assert max(facts["difference"][name] for name in ("color", "alpha")) < 1 / 255
    assert max(value for name, value in facts["difference"].items() if name.startswith("d_")) < 1e-2
    image = cv2.imread(str(picture)).astype(np.float32)
    body = (image < 250).any(-1)
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    assert rows[0] < rows[-1]
    assert max(np.ptp(rows), np.ptp(columns)) == pytest.approx(0.95 * 64, abs=4)
    assert columns.mean() == pytest.approx(32, abs=2)
    head, feet = body[rows[2]].sum(), body[rows[-3]].sum()  # upright: one head above, two feet below
    assert 0 < head < 20
    assert feet > 0


def test_a_size_of_zero_is_refused(capsys) -> None:
    assert main(["bench", "render", "--size", "0", "--json"]) == 2
    assert "--size must be at least 1" in capsys.readouterr().err
