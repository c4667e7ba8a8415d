"""`hsr bench accuracy` on folders that are not what it needs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hsr_core.config import Settings
from hsr_core.errors import BadFile, MissingFile
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
