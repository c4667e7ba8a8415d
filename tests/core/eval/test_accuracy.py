"""`hsr bench accuracy` on folders that are not what it needs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hsr_core.config import Settings
from hsr_core.errors import BadFile, MissingFile
from hsr_core.eval import accuracy
from hsr_core.eval.accuracy import evaluate

DATA = Path(__file__).parents[2] / "data" / "balancing"


@pytest.fixture
def folder(tmp_path):
    for name in ("cameras.json", "reference_3d.npz", "cam02.mp4"):
        shutil.copy(DATA / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["cameras.json", "reference_3d.npz", "cam02.mp4"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(MissingFile, match=name.partition(".")[0]):
        evaluate(folder, Settings())


def test_a_reference_without_a_joint_is_refused(folder):
    np.savez(folder / "reference_3d.npz", joints=np.zeros((3, 2, 3)), names=np.array(["LHip", "RHip"]))
    with pytest.raises(BadFile, match="LShoulder"):
        evaluate(folder, Settings())


def test_a_camera_without_a_pose_is_refused(folder):
    cameras = json.loads((folder / "cameras.json").read_text())
    del cameras["cameras"][0]["R_cam_world"]
    (folder / "cameras.json").write_text(json.dumps(cameras))
    with pytest.raises(BadFile, match="R_cam_world"):
        evaluate(folder, Settings())


def test_a_camera_that_sees_nobody_has_no_errors_and_leaves_the_others_alone(folder, monkeypatch):
    """One camera at 80 mm; the other, of an empty room, has no figure but its count: the mean is 80, not a crash."""
    content = json.loads((folder / "cameras.json").read_text())
    content["cameras"] = [{**content["cameras"][0], "name": name} for name in ("cam02", "empty")]
    (folder / "cameras.json").write_text(json.dumps(content))
    shutil.copy(folder / "cam02.mp4", folder / "empty.mp4")
    seen = {"cam02": {"frames": 10, "found": 10, "fit.pa_mpjpe_mm": 80.0}, "empty": {"frames": 10, "found": 0}}
    monkeypatch.setattr(accuracy, "evaluate_camera", lambda sequence, *_: seen[sequence.name])
    assert evaluate(folder, Settings())["mean"] == {"frames": 10, "found": 5, "fit.pa_mpjpe_mm": 80.0}
