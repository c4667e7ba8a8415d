"""`hsr refine` and `hsr bench refine` from the command line, small."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from hsr_core import bench_refine, cli
from hsr_core.refine.avatar_io import load_avatar
from hsr_core.refine.frames import write_folder
from hsr_core.synth.benchmark import benchmark_sequence, open_body


@pytest.fixture(scope="module")
def body():
    return open_body()


@pytest.fixture(scope="module")
def folder(body, tmp_path_factory):
    path = tmp_path_factory.mktemp("refine") / "frames"
    sequence = benchmark_sequence(0, body=body)
    write_folder(path, sequence.train_frames[:5], body_model=body.model_id)
    return path


def test_a_folder_is_refined_and_everything_is_written(folder, body, tmp_path, capsys):
    out = tmp_path / "out"
    status = cli.main(
        ["refine", str(folder), "--out", str(out), "--steps", "8", "--gaussians", "400", "--size", "100", "--json"]
    )
    assert status == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["frames"] == 5
    assert facts["refined"]["mpjpe_mm"] > 0
    assert json.loads((out / "report.json").read_text())["reason"] == facts["reason"]
    with np.load(out / "people.npz", allow_pickle=False) as people:
        assert people["body_pose"].shape == (5, 21, 3)
        assert len(people["stamp_ns"]) == 5
    assert len(json.loads((out / "curves.json").read_text())["total"]) == 8
    assert load_avatar(out / "avatar.npz", body).n_gaussians == facts["gaussians"] == 400
    assert len(trimesh.load(out / "avatar.ply").vertices) == 400
    assert (out / "strip.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--gaussians", "-3"], "--gaussians must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(folder, tmp_path, capsys, arguments, message):
    assert cli.main(["refine", str(folder), "--out", str(tmp_path / "o"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_results_are_not_written_over(folder, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert cli.main(["refine", str(folder), "--out", str(tmp_path)]) == 2
    assert "new or an empty folder" in capsys.readouterr().err


def test_a_recording_without_anybody_says_so(tmp_path, capsys):
    import cv2

    (tmp_path / "grey").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "grey" / f"{i}.png"), np.full((240, 320, 3), 90, np.uint8))
    assert cli.main(["refine", str(tmp_path / "grey"), "--out", str(tmp_path / "o"), "--every", "1"]) == 2
    assert "nobody was seen" in capsys.readouterr().err


# --- the benchmark's checks


def figures(mpjpe: float, psnr: float = 23.0, **more: float) -> dict[int, dict[str, float]]:
    base = {"mpjpe_mm": mpjpe, "v2v_mm": mpjpe * 1.5, "root_error_mm": 40.0, "psnr_db": psnr, "anchor_p95_mm": 20.0}
    return {seed: {**base, "unchanged": 0.0, **more} for seed in range(3)}


def test_checks_hold_for_the_published_order_and_fail_for_its_reverse():
    right = {
        "input": figures(60, root_error_mm=100.0),
        "no_pose_opt": figures(60, 16.0, unchanged=1.0),
        "camel": figures(36),
        "gom": figures(35.5, 22.5),
        "lsw": figures(39.5),
        "camel+lsw": figures(39),
        "none": figures(36.5, anchor_p95_mm=30.0),
        "no_depth": figures(37, root_error_mm=100.0),
        "stage_zero": figures(33),
        "priors": figures(36.2),
    }
    held = bench_refine.checks(right)
    assert len(held) == 9
    assert all(held.values())
    wrong = {**right, "camel": figures(45, 20.0, root_error_mm=90.0), "no_pose_opt": figures(60, 16.0)}
    wrong["stage_zero"] = figures(50)
    assert not any(bench_refine.checks(wrong).values())
    assert bench_refine.checks({"camel": figures(36)}) == {}


def test_what_ends_the_ablation_ends_its_processes_and_what_they_have_not_begun():
    submitted = []

    def is_ended() -> None:
        with bench_refine._processes(1) as pool:
            submitted.extend([pool.submit(os.getpid), *(pool.submit(time.sleep, 600) for _ in range(3))])
            submitted[0].result()
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        is_ended()
    assert not Path(f"/proc/{submitted[0].result()}").exists()
    assert all(future.done() for future in submitted)


def test_the_coarse_body_of_faces_keeps_its_sides(body):
    """Fewer vertices, the same surface: nearly the same area, and every face looks outward."""
    canonical = bench_refine.CanonicalBody.from_body(body, bench_refine.HumanParams())
    small, chosen = bench_refine.decimated(canonical, body, 1500)
    assert len(chosen) == small.n_vertices == 1500
    whole = trimesh.Trimesh(canonical.vertices.numpy(), canonical.faces.numpy(), process=False)
    mesh = trimesh.Trimesh(small.vertices.numpy(), small.faces.numpy(), process=False)
    assert mesh.area == pytest.approx(whole.area, rel=0.2)
    assert mesh.volume == pytest.approx(whole.volume, rel=0.1)
    cosine = (small.normals.numpy() * canonical.normals[chosen].numpy()).sum(1)
    assert (cosine > 0).mean() > 0.97


@pytest.mark.slow
def test_one_mode_of_the_ablation_runs():
    before, after = bench_refine.measure_input("standard", 0), bench_refine.measure("camel", 0)
    assert after["mpjpe_mm"] < 0.65 * before["mpjpe_mm"]
    assert after["v2v_mm"] < 0.65 * before["v2v_mm"]
    assert after["psnr_db"] > 20
