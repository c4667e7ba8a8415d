"""Joint tables and pelvis rules."""

import numpy as np
import pytest

from hsr_core.body.joints import JOINT_NAMES
from hsr_core.datasets.joint_sets import J14
from hsr_core.errors import BadFile, ConfigError, MissingFile, ShapeError
from hsr_core.eval.joint_rules import (
    EMDB_PELVIS,
    SMPL_PELVIS,
    JointRegressor,
    h36m_14,
    hip_midpoint,
    regressor_row,
)
from hsr_core.eval.metrics import root_mpjpe_mm
from hsr_core.eval.protocol import Protocol, differences


def test_the_14_joints_come_out_in_their_published_order(tmp_path):
    """Row r of this regressor picks vertex r, which lies at x = r: the order of the rows is read off."""
    matrix = np.zeros((17, 20))
    matrix[np.arange(17), np.arange(17)] = 1
    np.save(tmp_path / "h36m.npy", matrix)
    vertices = np.stack([np.arange(20.0), np.zeros(20), np.zeros(20)], 1)
    joints = h36m_14(JointRegressor.load(tmp_path / "h36m.npy"), np.stack([vertices, vertices + 1]))
    assert joints.shape == (2, 14, 3)
    assert joints[0, :, 0].tolist() == [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
    assert J14[2:4] == ("right_hip", "left_hip")
    assert hip_midpoint(J14).indices == (3, 2)


def test_three_pelvis_rules_give_three_figures_that_the_record_tells_apart():
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 0.3, (50, 55, 3))
    predicted = reference + rng.normal(0, 0.04, reference.shape)
    rules = (SMPL_PELVIS, EMDB_PELVIS, regressor_row(9))
    errors = [root_mpjpe_mm(predicted, reference, rule.indices).mean() for rule in rules]
    assert min(abs(np.diff(sorted(errors)))) > 0.1
    records = [Protocol("test", pelvis=rule.name) for rule in rules]
    assert set(differences(records[0], records[1])) == {"pelvis"}
    assert len({record.pelvis for record in records}) == 3


def test_hips_are_found_by_name_or_refused_with_the_names_there_are():
    assert hip_midpoint(JOINT_NAMES).indices == (1, 2)
    with pytest.raises(ConfigError, match=r"no left_hip and right_hip .* among nose, chin"):
        hip_midpoint(("nose", "chin"))


def test_bad_regressors_are_refused(tmp_path):
    with pytest.raises(MissingFile):
        JointRegressor.load(tmp_path / "none.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(BadFile, match="pickled"):
        JointRegressor.load(tmp_path / "pickled.npy")
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(BadFile, match="matrix"):
        JointRegressor.load(tmp_path / "flat.npy")
    np.save(tmp_path / "small.npy", np.zeros((14, 5)))
    small = JointRegressor.load(tmp_path / "small.npy")
    with pytest.raises(ShapeError, match="17-row"):
        h36m_14(small, np.zeros((5, 3)))
    with pytest.raises(ShapeError, match=r"\(..., 5, 3\)"):
        small.joints(np.zeros((6, 3)))
