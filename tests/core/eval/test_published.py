"""Papers' figures: consistent with themselves, and only where they belong."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

from hsr_core.eval.protocol import METRICS, Protocol
from hsr_core.eval.published import FIGURES, HUMANSPLATHMR, published_for


def neuman(metric, method, *, split=""):
    return {f.sequence: f.value for f in FIGURES
            if (f.dataset, f.metric, f.method, f.split) == ("neuman", metric, method, split)}  # fmt: skip


@pytest.mark.parametrize("method", ["HMR2.0", "GART", HUMANSPLATHMR])
@pytest.mark.parametrize("metric", ["mpjpe_mm", "pa_mpjpe_mm", "pve_mm"])
def test_printed_means_are_the_means_of_their_sequences(method, metric):
    rows = neuman(metric, method)
    mean = rows.pop("")
    assert len(rows) == 6
    assert np.mean(list(rows.values())) == pytest.approx(mean, abs=0.0051)  # two printed decimals


@pytest.mark.parametrize(("split", "mean"), [("uniform80", 27.16), ("views20", 25.89), ("first80", 25.44)])
def test_rendering_agrees_with_its_known_means(split, mean):
    assert np.mean(list(neuman("psnr_db", HUMANSPLATHMR, split=split).values())) == pytest.approx(mean, abs=0.0051)


def test_every_figure_has_a_metric_of_ours_and_a_data_set_of_ours():
    for figure in FIGURES:
        assert figure.metric in METRICS
        conventions = importlib.import_module(
            f"hsr_core.datasets.{figure.dataset.replace('3dpw', 'threedpw')}"
        ).CONVENTIONS
        assert conventions.name == figure.dataset
        # Bodies of NeuMan were scored by papers, on SMPL's own joints; the set's usual protocol is of pictures.
        assert figure.protocol in (*conventions.protocols, "neuman-24")
        assert figure.note
        assert figure.source
    keys = [(f.method, f.paper, f.dataset, f.protocol, f.metric, f.sequence, f.split) for f in FIGURES]
    assert len(set(keys)) == len(keys)


def test_figures_stand_only_beside_their_data_set_protocol_split_and_sequence():
    ours = Protocol("3dpw-14", dataset="3dpw", split="test").of("pa_mpjpe_mm")
    assert {f.value for f in published_for(ours)} == {56.26, 56.27, 55.10, 44.4, 45.7}
    assert {f.value for f in published_for(replace(ours, split="train"))} == {56.26, 56.27, 55.10}  # split not stated
    assert published_for(replace(ours, name="limb-12")) == ()
    assert published_for(replace(ours, dataset="emdb")) == ()
    assert published_for(ours, "downtown_walking_00") == ()
    rendered = Protocol("neuman-image", dataset="neuman", split="uniform80").of("psnr_db")
    assert [f.value for f in published_for(rendered, "lab")] == [23.16, 25.27]
    assert published_for(replace(rendered, split="test"), "lab") == ()
